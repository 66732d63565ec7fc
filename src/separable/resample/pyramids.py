"""`downsample` and `pyramid`: images at half, a quarter ... of their resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.borders import Border, Modes, canonical_modes
from separable.errors import ArgumentError
from separable.masked import MissingOptions
from separable.request import shown, whole_in_range, whole_per_axis
from separable.resample.axis_grids import Grid, band_of, check_antialias
from separable.resample.band_matrix import Band, extended_band
from separable.resample.interpolations import Interpolation, interpolation_of
from separable.resample.resampled_arrays import BandRequest, image_and_axes, run_request
from separable.resample.resampling_docs import documented

__all__ = ["binomial_taps", "downsample", "mean_band", "pyramid"]

Array = NDArray[Any]
LARGEST_FACTOR = 1 << 16
MOST_LEVELS = 64


@documented
def downsample(
    image: ArrayLike,
    factor: int | Sequence[int] = 2,
    *,
    axes: int | Sequence[int] | None = None,
    method: str | int = "area",
    mode: Modes = "mirror",
    cval: complex = 0.0,
    output: DTypeLike | Array | None = None,
    threads: int | None = None,
) -> Array:
    """Return an image with one sample for every `factor` samples along its axes.

    Parameters
    ----------
    %(image)s
    factor : int or sequence of int
        Samples for each sample of the result, along each axis; 1 leaves an axis as it is.
    %(axes)s
    method : str or int
        "area": means of blocks; where the last block is not complete, of what it has. "gaussian": every
        `factor`-th sample after a binomial filter, for factor 2 the weights 1 4 6 4 1 of OpenCV's
        `pyrDown`. "majority": the most frequent label of each block. Another interpolation, such as
        "nearest": its values at every `factor`-th sample, after a Gaussian.
    %(mode)s
        The default is that of OpenCV.
    %(cval)s
    %(output)s
    %(threads)s

    Returns
    -------
    ndarray
        An array with ``ceil(n / factor)`` samples along each axis.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> downsample([1.0, 3.0, 5.0, 7.0, 10.0])
    array([ 2.,  6., 10.])
    >>> downsample([0.0, 0.0, 16.0, 0.0, 0.0], method="gaussian")
    array([2., 6., 2.])
    """
    given, along = image_and_axes(image, axes)
    factors = whole_per_axis("factor", factor, len(along), 1, LARGEST_FACTOR)
    borders = canonical_modes(mode, len(along))
    bands: dict[int, Band] = {}
    grids: dict[int, Grid] = {}
    votes = False
    for axis, one, border in zip(along, factors, borders, strict=True):
        length = int(given.shape[axis])
        if length < 1:
            raise ArgumentError(f"`image` must not be empty along a resampled axis; axis {axis} is")
        if one > 1:
            bands[axis] = _band(length, one, method, border)
            middle = (
                (one - 1) / 2 if method != "gaussian" and interpolation_of(method).averages else 0
            )
            grids[axis] = Grid(length, bands[axis].size, float(one), float(middle))
    if method != "gaussian":
        votes = interpolation_of(method).votes
    title = f"Downsample by {shown(factor)}, {method}"
    request = BandRequest(bands, cval, MissingOptions(), threads, votes, title, grids)
    found: Array = run_request(given, request, output)
    return found


@documented
def pyramid(
    image: ArrayLike,
    levels: int,
    *,
    factor: int | Sequence[int] = 2,
    axes: int | Sequence[int] | None = None,
    method: str | int = "area",
    mode: Modes = "mirror",
    cval: complex = 0.0,
    threads: int | None = None,
) -> tuple[Array, ...]:
    """Return an image and its coarser levels, each computed from the one before.

    Parameters
    ----------
    %(image)s
    levels : int
        Number of levels, of which the image itself is the first.
    factor : int or sequence of int
        Factor between neighbouring levels along each axis. An axis of one sample stays as it is.
    %(axes)s
    method : str or int
        As for `downsample`.
    %(mode)s
    %(cval)s
    %(threads)s

    Returns
    -------
    tuple of ndarray
        The levels, the finest first.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> [level.shape for level in pyramid(np.zeros((40, 50), np.float32), 3)]
    [(40, 50), (20, 25), (10, 13)]
    """
    given, along = image_and_axes(image, axes)
    count = whole_in_range("levels", levels, 1, MOST_LEVELS)
    factors = whole_per_axis("factor", factor, len(along), 1, LARGEST_FACTOR)
    names = [given.dims[a] for a in along] if hasattr(given, "dims") else along
    found: list[Any] = [getattr(given, "dataset", given)]
    for number in range(1, count):
        fine = found[-1]
        level, axes_of_level = image_and_axes(fine, names)
        sizes = [level.shape[a] for a in axes_of_level]
        own = [f if n > 1 else 1 for n, f in zip(sizes, factors, strict=True)]
        if all(f == 1 for f in own):
            raise ArgumentError(
                f"`levels` must be at most {number} for an image of shape {shown(tuple(given.shape))} and "
                f"`factor` {shown(factor)}; got {levels}"
            )
        found.append(
            downsample(fine, own, axes=names, method=method, mode=mode, cval=cval, threads=threads)
        )
    return tuple(found)


@lru_cache(maxsize=128)
def _band(length: int, factor: int, method: str | int, border: Border) -> Band:
    """Return the band of a method for one axis."""
    if isinstance(method, str) and method == "gaussian":
        taps = binomial_taps(factor)
        firsts = np.arange(0, length, factor) - len(taps) // 2
        found = extended_band(firsts, np.tile(taps, (len(firsts), 1)), length, border)
        return replace(found, growth=1 / factor)
    kind: Interpolation = interpolation_of(method)
    if kind.averages:
        return mean_band(length, factor)
    grid = Grid(length, -(-length // factor), float(factor), 0.0)
    return band_of(grid, kind, check_antialias(True), border, np.dtype(np.float64))


def mean_band(length: int, factor: int) -> Band:
    """Return the band of the means of blocks; the last one may have fewer samples.

    Examples
    --------
    >>> mean_band(3, 2).dense().tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    firsts = np.arange(0, length, factor)
    inside = np.minimum(length - firsts, factor)
    weights = np.where(np.arange(factor) < inside[:, None], 1.0 / inside[:, None], 0.0)
    if factor == 2:  # a single last sample counts twice, so that all outputs have the same weights
        weights[:] = 0.5
    positions = np.minimum(np.arange(int(firsts[-1]) + factor), length - 1)
    return Band(firsts, weights, positions, length, 1 / factor)


def binomial_taps(factor: int) -> Array:
    """Return the taps of four means over `factor` samples, one after the other; their sum is 1.

    Examples
    --------
    >>> (binomial_taps(2) * 16).tolist()
    [1.0, 4.0, 6.0, 4.0, 1.0]
    """
    taps, box = np.ones(1), np.full(factor, 1.0 / factor)
    for _ in range(4):
        taps = np.convolve(taps, box)
    return taps
