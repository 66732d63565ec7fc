"""`zoom`, `shift`, `spline_filter` and `spline_filter1d`: spline interpolation on grids along the axes.

SciPy filters the image recursively and then sums ``(order + 1) ** ndim`` coefficients per output. Here filter and
interpolation are one banded matrix per axis (`separable.resample`), so an output takes one short sum per axis.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.borders import OUTSIDE
from separable.errors import ArgumentError
from separable.masked import MissingOptions
from separable.ndimage.parameter_docs import documented
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    Target,
    check_axis,
    check_cval,
    image_of,
    index,
    is_lazy,
    number,
    per_axis,
    target_dtype,
    target_of,
)
from separable.ndimage.spline_borders import SplineBorder, spline_border
from separable.request import shown
from separable.resample.band_matrix import Band, composed, extended_band, trimmed
from separable.resample.band_passes import resampling_work
from separable.resample.interpolations import interpolation_of
from separable.resample.resampled_arrays import BandRequest, run_request
from separable.resample.spline_prefilter import prefilter_taps, prefilter_tolerance

__all__ = ["OrderError", "shift", "spline_filter", "spline_filter1d", "zoom"]

PerAxis = float | Sequence[float]


class OrderError(ArgumentError, RuntimeError):
    """The order of a spline is not 0 .. 5, or 2 .. 5 (SciPy raises `RuntimeError`)."""


class NoAxisError(ArgumentError, RuntimeError):
    """The image has no axis (SciPy raises `RuntimeError`)."""


@documented
def zoom(
    input: ArrayLike,
    zoom: PerAxis,
    output: Output = None,
    order: int = 3,
    mode: str = "constant",
    cval: complex = 0.0,
    prefilter: bool = True,
    *,
    grid_mode: bool = False,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array:
    """Enlarge or reduce an image by spline interpolation.

    It does not smooth before it reduces, as SciPy's does not; `separable.resample.resize` does.

    Parameters
    ----------
    %(input)s
    zoom : float or sequence of float
        Factor of the number of samples, for all axes or for each.
    output : dtype or ndarray, optional
        Type of the result, or the array to write it into. Default is the type of the image.
    order : int
        Order of the spline, 0 .. 5.
    mode : str
        Border mode: reflect, mirror, nearest, wrap, constant, grid-mirror, grid-wrap or grid-constant,
        with SciPy's meanings: "constant" does not interpolate beyond the edge, "wrap" has a period of
        one sample less than the image.
    %(cval)s
    prefilter : bool
        Whether the samples are converted to spline coefficients first; False if they are coefficients.
    grid_mode : bool
        False keeps the centres of the first and last samples in place, True the outer edges.
    %(missing)s

    Returns
    -------
    ndarray
        An array of the new shape. Integers are rounded half to even and saturated, once.

    Raises
    ------
    OrderError
        (ArgumentError, RuntimeError) If the order is not 0 .. 5.
    ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
        If another argument is out of its range, or of a wrong type.

    Examples
    --------
    >>> zoom([0.0, 1.0, 2.0], 5 / 3, order=1)
    array([0. , 0.5, 1. , 1.5, 2. ])
    >>> zoom(np.zeros((10, 20, 3), np.uint8), (2, 2, 1)).shape
    (20, 40, 3)
    """
    image, given = image_of(input)
    spline_order = _checked(image, order, 0)
    factors = [_factor(f, zoom) for f in per_axis("zoom", zoom, image.ndim)]
    shape = tuple(round(n * f) for n, f in zip(image.shape, factors, strict=True))
    target = _target(image, output, shape)
    border = spline_border(mode)
    if all(f == 1 for f in factors) and prefilter:
        bands = {}
    else:
        if grid_mode and border.better:
            warnings.warn(
                f"It is recommended to use mode = {border.better} instead of {mode} when grid_mode is True.",
                stacklevel=2,
            )
        make = _maker(image, target, spline_order, border, prefilter)
        bands = {
            axis: make(n, _zoomed(n, m, grid_mode))
            for axis, (n, m) in enumerate(zip(image.shape, shape, strict=True))
            if n and m
        }
    return _run(given, bands, target, check_cval(cval, image), MissingOptions(mask, nan, fill))


@documented
def shift(
    input: ArrayLike,
    shift: PerAxis,
    output: Output = None,
    order: int = 3,
    mode: str = "constant",
    cval: complex = 0.0,
    prefilter: bool = True,
    *,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array:
    """Shift an image by spline interpolation.

    Parameters
    ----------
    %(input)s
    shift : float or sequence of float
        Number of samples by which the image moves along all axes, or along each.
    output : dtype or ndarray, optional
        Type of the result, or the array to write it into. Default is the type of the image.
    order : int
        Order of the spline, 0 .. 5.
    mode : str
        Border mode, as for `zoom`.
    %(cval)s
    prefilter : bool
        Whether the samples are converted to spline coefficients first; False if they are coefficients.
    %(missing)s

    Returns
    -------
    ndarray
        An array of the image's shape. Integers are rounded half to even and saturated, once.

    Raises
    ------
    OrderError
        (ArgumentError, RuntimeError) If the order is not 0 .. 5.
    ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
        If another argument is out of its range, or of a wrong type.

    Examples
    --------
    >>> shift([1.0, 2.0, 4.0, 8.0], 0.5, order=1, mode="nearest")
    array([1. , 1.5, 3. , 6. ])
    >>> shift(np.eye(3, dtype=int), (0, 1), order=0)
    array([[0, 1, 0],
           [0, 0, 1],
           [0, 0, 0]])
    """
    image, given = image_of(input)
    spline_order = _checked(image, order, 0)
    steps = [number("shift", s) for s in per_axis("shift", shift, image.ndim)]
    if not all(map(math.isfinite, steps)):
        raise ArgumentError(f"`shift` must be finite; got {shown(shift)}")
    target = _target(image, output, image.shape)
    border = spline_border(mode)
    make = _maker(image, target, spline_order, border, prefilter)
    bands = {
        axis: make(n, np.arange(n, dtype=float) - s)
        for axis, (n, s) in enumerate(zip(image.shape, steps, strict=True))
        if n
    }
    return _run(given, bands, target, check_cval(cval, image), MissingOptions(mask, nan, fill))


def spline_filter1d(
    input: ArrayLike,
    order: int = 3,
    axis: int = -1,
    output: DTypeLike | Array = np.float64,
    mode: str = "mirror",
) -> Array:
    """Compute spline coefficients of an image along one axis.

    Parameters
    ----------
    input : array_like
        Image or volume of any number of axes: bool, integers, float16 .. float64 or complex.
    order : int
        Order of the spline, 0 .. 5. Coefficients of the orders 0 and 1 are the samples.
    axis : int
        Axis to filter. Default is the last one.
    output : dtype or ndarray
        Type of the result, or the array to write it into.
    mode : str
        Border mode, as for `zoom`: "reflect", "grid-mirror" and "nearest" reflect with the sample at the
        edge twice, "grid-wrap" is periodic, all others reflect with the sample at the edge once.

    Returns
    -------
    ndarray
        An array of the image's shape.

    Raises
    ------
    OrderError
        (ArgumentError, RuntimeError) If the order is not 0 .. 5.
    ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
        If another argument is out of its range, or of a wrong type.

    Examples
    --------
    >>> spline_filter1d([0.0, 1.0, 0.0]).round(6)
    array([-1.,  2., -1.])
    """
    image, given = image_of(input)
    if not 0 <= index("order", order) <= 5:
        raise _wrong_order(order, 0)
    return _filtered(
        given, image, int(order), lambda: (check_axis(axis, image.ndim),), output, mode
    )


def spline_filter(
    input: ArrayLike,
    order: int = 3,
    output: DTypeLike | Array = np.float64,
    mode: str = "mirror",
) -> Array:
    """Compute spline coefficients of an image along all axes.

    Parameters
    ----------
    input : array_like
        Image or volume of any number of axes: bool, integers, float16 .. float64 or complex.
    order : int
        Order of the spline, 2 .. 5.
    output : dtype or ndarray
        Type of the result, or the array to write it into.
    mode : str
        Border mode, as for `spline_filter1d`.

    Returns
    -------
    ndarray
        An array of the image's shape. Integers are rounded once, after the last axis.

    Raises
    ------
    OrderError
        (ArgumentError, RuntimeError) If the order is not 2 .. 5.
    ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
        If another argument is out of its range, or of a wrong type.

    Examples
    --------
    Coefficients serve for several calls without the filter:

    >>> coefficients = spline_filter(np.eye(8))
    >>> shifted = shift(coefficients, 0.25, prefilter=False, mode="mirror")
    >>> np.allclose(shifted, shift(np.eye(8), 0.25, mode="mirror"))
    True
    """
    image, given = image_of(input)
    if not 2 <= index("order", order) <= 5:
        raise _wrong_order(order, 2)
    return _filtered(given, image, int(order), lambda: range(image.ndim), output, mode)


def _filtered(
    given: Any,
    image: Array,
    order: int,
    axes: Callable[[], Sequence[int]],
    output: DTypeLike | Array,
    mode: str,
) -> Array:
    """Convert samples to coefficients along some axes."""
    target = _target(image, output, image.shape)
    border = spline_border(mode).coefficients
    bands = {}
    for axis in axes() if order > 1 else ():
        length = image.shape[axis]
        if length > 1:
            taps = _taps(image, target, order)
            weights = np.tile(taps, (length, 1))
            bands[axis] = extended_band(np.arange(length) - len(taps) // 2, weights, length, border)
    return _run(given, bands, target, 0.0, MissingOptions())


# Bands


def _maker(
    image: Array, target: Target, order: int, border: SplineBorder, prefilter: bool
) -> Callable[[int, NDArray[np.float64]], Band]:
    """Return the function that makes the band of one axis, from its length and the places of its outputs."""
    taps = _taps(image, target, order) if prefilter and order > 1 else np.ones(1)

    def make(length: int, places: NDArray[np.float64]) -> Band:
        padding = border.padding(len(taps) > 1)
        places, outside = border.mapped(places, length, padding)
        if order == 0:
            firsts, weights = np.floor(places + 0.5).astype(np.int64), np.ones((len(places), 1))
        else:
            firsts, weights = interpolation_of(order).at(places)
        firsts, weights = composed(firsts, weights, taps, len(taps) // 2)
        firsts, weights = trimmed(firsts, weights, 0.0)
        band = extended_band(firsts, weights, length, border.samples(length, padding))
        return _with_constant(band, outside) if outside.any() else band

    return make


def _with_constant(band: Band, outside: NDArray[np.bool_]) -> Band:
    """Return a band some of whose outputs are the constant outside."""
    samples = np.concatenate((np.full(band.taps, OUTSIDE), band.samples))
    starts = np.where(outside, 0, band.starts + band.taps)
    weights = band.weights.copy()
    weights[outside] = 0.0
    weights[outside, 0] = 1.0
    return Band(starts, weights, samples, band.length)


def _taps(image: Array, target: Target, order: int) -> NDArray[np.float64]:
    work = resampling_work(image.dtype, target_dtype(target))
    return prefilter_taps(interpolation_of(order).poles, prefilter_tolerance(work))


def _zoomed(length: int, size: int, grid_mode: bool) -> NDArray[np.float64]:
    """Return the places of the outputs, with SciPy's rounding errors."""
    outputs = np.arange(size, dtype=float)
    if grid_mode:
        return (outputs + 0.5) * (length / size) - 0.5
    return outputs * ((length - 1) / (size - 1) if size > 1 else 1.0)


# Arguments


def _checked(image: Array, order: Any, least: int) -> int:
    """Return the order of a spline for an image with axes."""
    if not least <= index("order", order) <= 5:
        raise _wrong_order(order, least)
    if image.ndim < 1:
        raise NoAxisError(
            "input and output rank must be > 0: the image must have an axis; got a single number"
        )
    return int(order)


def _wrong_order(order: Any, least: int) -> OrderError:
    return OrderError(f"spline order not supported: `order` must be {least} .. 5; got {order}")


def _factor(value: Any, zoom: Any) -> float:
    factor = number("zoom", value)
    if not 0 <= factor < math.inf:
        raise ArgumentError(f"`zoom` must be >= 0 and finite for every axis; got {shown(zoom)}")
    return factor


def _target(image: Any, output: Any, shape: tuple[int, ...]) -> Target:
    """Return the array to write a result of this shape into, or its type."""
    is_complex = image.dtype.kind == "c"
    if is_lazy(image):
        return target_of(output, image, is_complex=is_complex)
    like = np.broadcast_to(np.zeros((), image.dtype), shape)
    return target_of(output, like, is_complex=is_complex)


def _run(
    given: Any, bands: dict[int, Band], target: Target, cval: Any, missing: MissingOptions
) -> Array:
    found: Array = run_request(given, BandRequest(bands, cval, missing), target)
    return found
