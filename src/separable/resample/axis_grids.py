"""Grids of outputs along one axis, and the bands that compute values there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border
from separable.errors import ArgumentError
from separable.request import shown
from separable.resample.band_matrix import Band, composed, extended_band, trimmed
from separable.resample.interpolations import Interpolation
from separable.resample.spline_prefilter import prefilter_taps, prefilter_tolerance

__all__ = [
    "ALIGNMENTS",
    "ANTIALIAS",
    "Grid",
    "band_of",
    "check_align",
    "check_antialias",
    "grid_of_shape",
]

Array = NDArray[Any]

ALIGNMENTS = ("edges", "centres")
ANTIALIAS = ("gaussian", "stretch", "none")
TRUNCATE = 4.0  # a Gaussian ends at so many sigma, as in SciPy and scikit-image
LEAST_SIGMA = 1e-3  # below, a Gaussian has no tap but its own sample
MOST_TAPS = 1 << 22


@dataclass(frozen=True)
class Grid:
    """Places of the outputs along one axis: output ``i`` lies at ``first + i * step``.

    Attributes
    ----------
    length : int
        Number of samples of the axis; sample ``k`` lies at ``k``.
    size : int
        Number of outputs.
    step : float
        Distance between outputs, in samples.
    first : float
        Place of the first output.

    Examples
    --------
    >>> Grid(4, 2, 2.0, 0.5).places.tolist()
    [0.5, 2.5]
    """

    length: int
    size: int
    step: float
    first: float

    @property
    def places(self) -> Array:
        """Coordinates of all outputs."""
        # (i + 1/2) step - 1/2 where the edges agree: exact for the steps that users choose, such as 1/3.
        if self.first == (self.step - 1) / 2:
            return (np.arange(self.size) + 0.5) * self.step - 0.5
        return self.first + np.arange(self.size) * self.step

    @property
    def is_identity(self) -> bool:
        """True if every output lies on its sample."""
        return self.size == self.length and self.step == 1.0 and self.first == 0.0


def grid_of_shape(length: int, size: int, align: str) -> Grid:
    """Return the grid that fits `size` outputs to an axis of `length` samples.

    Examples
    --------
    >>> grid_of_shape(4, 2, "edges"), grid_of_shape(4, 2, "centres").places.tolist()
    (Grid(length=4, size=2, step=2.0, first=0.5), [0.0, 3.0])
    """
    if align == "edges":
        step = length / size
        return Grid(length, size, step, (step - 1) / 2)
    step = (length - 1) / (size - 1) if size > 1 and length > 1 else 1.0
    return Grid(length, size, step, 0.0)


def check_align(align: Any) -> str:
    """Return what of the first and last samples agrees: "edges" or "centres".

    Raises
    ------
    ArgumentError
    """
    if isinstance(align, str) and align in ALIGNMENTS:
        return align
    raise ArgumentError(
        f'`align` must be "edges" (samples are squares whose outer edges stay) or "centres" (the centres '
        f"of the first samples stay); got {shown(align)}"
    )


def check_antialias(antialias: Any) -> str:
    """Return the filter against aliasing by its name: True is "gaussian", False is "none".

    Raises
    ------
    ArgumentError
    """
    if isinstance(antialias, (bool, np.bool_)):
        return "gaussian" if antialias else "none"
    if isinstance(antialias, str) and antialias in ANTIALIAS:
        return antialias
    raise ArgumentError(
        f"`antialias` must be one of {', '.join(ANTIALIAS)}, True (gaussian) or False (none); "
        f"got {shown(antialias)}"
    )


def band_of(
    grid: Grid,
    interpolation: Interpolation,
    antialias: str,
    border: Border,
    work: np.dtype[Any],
) -> Band:
    """Return the band that interpolates one axis at the places of a grid.

    Parameters
    ----------
    grid : Grid
    interpolation : Interpolation
    antialias : str
        "gaussian" smooths with sigma ``(step - 1) / 2`` first, "stretch" stretches the weights by the
        step, where the step is more than 1; "none" does neither.
    border : Border
        The samples outside the axis.
    work : dtype
        float32 or float64; weights that do not count in its arithmetic are left out.

    Raises
    ------
    ArgumentError
        If an output would have more than 4,194,304 weights.

    Examples
    --------
    >>> from separable.borders import REFLECT
    >>> from separable.resample.interpolations import AREA, LINEAR
    >>> grid = grid_of_shape(4, 2, "edges")
    >>> band_of(grid, AREA, "gaussian", REFLECT, np.dtype(float)).dense().tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    shrinks = grid.step > 1 and interpolation.smooth and not interpolation.averages
    reach = max(interpolation.radius, 1.0) * max(1.0, 2 * grid.step)
    if reach > MOST_TAPS / 4:
        raise ArgumentError(
            f"an output must be a sum of at most {MOST_TAPS} samples along each axis; a step of "
            f"{grid.step:g} samples needs more. Downsample in several steps"
        )
    if interpolation.averages:
        firsts, weights = _means(grid)
    elif shrinks and antialias == "stretch" and not interpolation.poles:
        firsts, weights = interpolation.at(grid.places, grid.step)
    else:
        firsts, weights = interpolation.at(grid.places)
        tolerance = prefilter_tolerance(work)
        taps = prefilter_taps(interpolation.poles, tolerance)
        firsts, weights = composed(firsts, weights, taps, len(taps) // 2)
        sigma = (grid.step - 1) / 2 if shrinks and antialias != "none" else 0.0
        if sigma > LEAST_SIGMA:
            smooth = gaussian_taps(sigma)
            firsts, weights = composed(firsts, weights, smooth, len(smooth) // 2)
        firsts, weights = trimmed(firsts, weights, tolerance / 16)
    return extended_band(firsts, weights, grid.length, border)


def gaussian_taps(sigma: float) -> Array:
    """Return a sampled Gaussian of sum 1, as `scipy.ndimage.gaussian_filter` has it."""
    radius = int(TRUNCATE * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def _means(grid: Grid) -> tuple[NDArray[np.int64], Array]:
    """Return first samples and weights of means: the share of each output's length that a sample covers."""
    # Output i stands for the line from places[i] - step / 2 on, sample k for the one from k - 1/2 on.
    low = grid.places - grid.step / 2 + 0.5
    low = np.where(np.abs(low - np.rint(low)) < 1e-9, np.rint(low), low)
    high = low + grid.step
    high = np.where(np.abs(high - np.rint(high)) < 1e-9, np.rint(high), high)
    firsts = np.floor(low).astype(np.int64)
    count = max(1, int((np.ceil(high) - firsts).max()))
    edges = firsts[:, None] + np.arange(count)
    weights = np.minimum(high[:, None], edges + 1) - np.maximum(low[:, None], edges)
    weights = np.maximum(weights, 0.0)
    return firsts, weights / weights.sum(axis=1, keepdims=True)


def rounded_size(length: float) -> int:
    """Return the number of outputs for a length in units of their distance; at least one, halves rounded to even."""
    return max(1, int(np.rint(length)))


def is_close_to_whole(value: float) -> bool:
    """Return whether a number is whole up to rounding errors."""
    return math.isclose(value, round(value), rel_tol=1e-9, abs_tol=1e-9)
