"""Gaussian and uniform filters."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.errors import ArgumentError
from separable.kernels import box1d, gaussian1d
from separable.kernels.kernel_arguments import whole_samples
from separable.masked import MissingOptions
from separable.ndimage.apply import Kernel, correlation, kernel_of, unfiltered
from separable.ndimage.missing_input import FilterInput
from separable.ndimage.parameter_docs import documented
from separable.ndimage.region_arguments import OutputRegion
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    SizeError,
    check_axes,
    check_axis,
    check_cval,
    check_filter_axes,
    check_origins,
    check_taps,
    finite,
    index,
    number,
    per_axis,
    steps_of,
)
from separable.repeated_calls import PlannedCall, repeated
from separable.request import shown

__all__ = [
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_taps",
    "uniform_filter",
    "uniform_filter1d",
]

NO_WIDTH = 1e-15  # as in SciPy, an axis with a sigma up to this is not filtered
BOX_ORIGIN = "invalid origin"  # SciPy's words
DEFAULT_TRUNCATE = 4.0
MOST_ORDER = 1000  # Hermite polynomials of higher orders overflow
CATALOGUED = 4  # highest derivative in the catalogue of kernels

PerAxis = float | Sequence[float]
WholePerAxis = int | Sequence[int]


@documented
@repeated
def gaussian_filter(
    input: ArrayLike,
    sigma: PerAxis,
    order: WholePerAxis = 0,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: WholePerAxis | None = None,
    axes: int | Sequence[int] | None = None,
    spacing: PerAxis | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Smooth an image with a Gaussian, or take a derivative of the smoothed image.

    Parameters
    ----------
    %(input)s
    %(sigma)s
    %(order)s
    %(output)s
    %(mode)s
    %(cval)s
    %(truncate)s
    %(radius)s
    %(axes)s
    %(spacing)s
    %(missing)s
    %(region)s

    Returns
    -------
    %(returns_gaussian)s

    Raises
    ------
    ArgumentError
        If a sigma or an order is negative, a spacing is not > 0, or a radius is not an integer
        >= 0.
    SequenceError
        (ArgumentError, RuntimeError) If a sequence does not have one value for each filtered axis.
    ArgumentTypeError, ModeError, OutputError, DTypeError
        If another argument is out of its range, or of a wrong type.

    Examples
    --------
    >>> gaussian_filter(np.full((2, 3), 7, np.uint8), sigma=1)
    array([[7, 7, 7],
           [7, 7, 7]], dtype=uint8)

    A stack of pictures, smoothed one by one, and the slope of its rows:

    >>> stack = np.arange(24.0).reshape(2, 3, 4)
    >>> gaussian_filter(stack, sigma=1, axes=(1, 2)).shape
    (2, 3, 4)
    >>> gaussian_filter(stack, 1, order=(0, 1), axes=(1, 2), mode="nearest")[0, 1].round(2)
    array([0.5 , 0.85, 0.85, 0.5 ])

    A volume with slices 3 mm apart and pixels of 1 mm, smoothed by 2 mm:

    >>> gaussian_filter(np.zeros((9, 32, 32), np.float32), 2, spacing=(3, 1, 1)).shape
    (9, 32, 32)

    A hole is not smeared over its neighbours:

    >>> gaussian_filter([5.0, 5.0, np.nan, 5.0], 1, nan="ignore")
    array([5., 5., 5., 5.])
    """
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output))
    image, target = source.image, source.target
    filtered = check_axes(axes, image.ndim)
    missing = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    count = len(filtered)
    modes = per_axis("mode", mode, count)
    sigmas = per_axis("sigma", sigma, count)
    steps = steps_of(spacing, count)
    radii = gaussian_radii(sigmas, truncate, per_axis("radius", radius, count), steps)
    orders = tuple(_order(n) for n in per_axis("order", order, count))
    used = [k for k in range(count) if radii[k] >= 0]
    if not used:
        return unfiltered(image, target, missing)
    kernel = _gaussian_kernel(
        tuple((float(sigmas[k]) / steps[k], orders[k], radii[k], steps[k]) for k in used)
    )
    filter_axes = check_filter_axes(
        [filtered[k] for k in used], [modes[k] for k in used], check_cval(cval, image)
    )
    if not region.is_all:
        return region.run(source, output, kernel, filter_axes, MissingOptions(mask, nan, fill))
    return correlation(image, kernel, filter_axes, target, missing)


@documented
@repeated
def gaussian_filter1d(
    input: ArrayLike,
    sigma: float,
    axis: int = -1,
    order: int = 0,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
    spacing: float | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Smooth an image with a Gaussian along one axis, or take a derivative along it.

    %(gaussian_1d)s

    Examples
    --------
    >>> gaussian_filter1d([0.0, 0.0, 1.0, 0.0, 0.0], 1, radius=1).round(4)
    array([0.    , 0.2741, 0.4519, 0.2741, 0.    ])
    >>> gaussian_filter1d([0.0, 1.0, 2.0, 3.0, 4.0], 1, order=1, radius=1).round(4)[1:-1]
    array([0.5481, 0.5481, 0.5481])
    """
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output))
    image, target = source.image, source.target
    along = check_axis(axis, image.ndim)
    (step,) = steps_of(spacing, 1)
    (half,) = gaussian_radii((sigma,), truncate, (radius,), (step,))
    width = float(sigma) / step
    if width == 0:
        raise ArgumentError(f"`sigma` must be > 0; got {sigma!r}")
    kernel = _gaussian_kernel(((width, _order(order), max(half, 0), step),))
    missing = source.missing((along,), MissingOptions(mask, nan, fill), cval)
    filter_axes = check_filter_axes((along,), (mode,), check_cval(cval, image))
    if not region.is_all:
        return region.run(source, output, kernel, filter_axes, MissingOptions(mask, nan, fill))
    return correlation(image, kernel, filter_axes, target, missing)


@documented
@repeated
def uniform_filter(
    input: ArrayLike,
    size: PerAxis = 3,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
    spacing: PerAxis | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Take the mean over a box around every sample.

    Parameters
    ----------
    %(input)s
    size : int or sequence of int
        Length of the box, for all filtered axes or for each. An axis with 1 or less is not
        filtered. With `spacing` it is a length in those units, and must be a whole number of
        samples.
    %(output)s
    %(mode)s
    %(cval)s
    %(origin)s
    %(axes)s
    %(spacing_of_size)s
    %(missing)s
    %(region)s

    Returns
    -------
    ndarray
        An array of the image's shape. Integers are rounded once, half to even.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> uniform_filter([[0, 0, 0], [0, 9, 0], [0, 0, 0]])
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]])
    >>> uniform_filter(np.arange(12.0).reshape(3, 4), size=(1, 3))[0].round(2)
    array([0.33, 1.  , 2.  , 2.67])
    """
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output))
    image, target = source.image, source.target
    filtered = check_axes(axes, image.ndim)
    missing = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    count = len(filtered)
    sizes = _sizes(per_axis("size", size, count), spacing)
    modes, origins = per_axis("mode", mode, count), per_axis("origin", origin, count)
    used = [k for k in range(count) if sizes[k] > 1]
    if not used:
        return unfiltered(image, target, missing)
    filter_axes = check_filter_axes(
        [filtered[k] for k in used],
        [modes[k] for k in used],
        check_cval(cval, image),
        check_origins([origins[k] for k in used], [sizes[k] for k in used], BOX_ORIGIN),
    )
    kernel = _box_kernel(tuple(sizes[k] for k in used))
    if not region.is_all:
        return region.run(source, output, kernel, filter_axes, MissingOptions(mask, nan, fill))
    return correlation(image, kernel, filter_axes, target, missing)


@documented
@repeated
def uniform_filter1d(
    input: ArrayLike,
    size: float,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
    *,
    spacing: float | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Take the mean of `size` samples along one axis.

    Parameters
    ----------
    %(input)s
    size : int
        Number of samples; >= 1. With `spacing` it is a length in those units, and must be a
        whole number of samples.
    %(axis)s
    %(output)s
    %(mode_1d)s
    %(cval)s
    %(origin_1d)s
    %(spacing_of_size_1d)s
    %(missing)s
    %(region)s

    Returns
    -------
    ndarray
        An array of the image's shape. Integers are rounded once, half to even.

    Raises
    ------
    SizeError
        (ArgumentError, RuntimeError) If `size` is below 1.
    %(raises_axis)s

    Examples
    --------
    >>> uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 2, 5, 6, 6, 3])
    """
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output))
    image, target = source.image, source.target
    along = check_axis(axis, image.ndim)
    length = index("size", size) if spacing is None else _sizes((size,), spacing)[0]
    check_taps(f"`size` {shown(size)}", length)
    if length < 1:
        raise SizeError(f"incorrect filter size: `size` must be >= 1; got {size!r}")
    origins = check_origins((origin,), (length,), BOX_ORIGIN)
    filter_axes = check_filter_axes((along,), (mode,), check_cval(cval, image), origins)
    missing = source.missing((along,), MissingOptions(mask, nan, fill), cval)
    kernel = _box_kernel((length,))
    if not region.is_all:
        return region.run(source, output, kernel, filter_axes, MissingOptions(mask, nan, fill))
    return correlation(image, kernel, filter_axes, target, missing)


def gaussian_radii(
    sigmas: Sequence[Any],
    truncate: Any,
    radii: Sequence[int | None],
    steps: Sequence[float] | None = None,
) -> tuple[int, ...]:
    """Return the radius of each Gaussian, or -1 for an axis that is not filtered.

    Examples
    --------
    >>> gaussian_radii((2.0, 0, 1.0), 4.0, (None, None, 7))
    (8, -1, 7)
    """
    widths = [number("sigma", s) for s in sigmas]
    if not all(0 <= s < math.inf for s in widths):
        raise ArgumentError(f"`sigma` must be finite and >= 0 for every axis; got {_shown(sigmas)}")
    if steps is not None:
        widths = [s / step for s, step in zip(widths, steps, strict=True)]
    cut = finite("truncate", truncate)
    found = []
    for width, sigma, radius in zip(widths, sigmas, radii, strict=True):
        if radius is None:
            _check_reach(sigma, truncate, cut, width)
        half: Any = int(cut * width + 0.5) if radius is None else radius
        if not isinstance(half, numbers.Integral) or half < 0:
            name = "truncate" if radius is None else "radius"
            value = truncate if radius is None else radius
            raise ArgumentError(
                "Radius must be a nonnegative integer: "
                f"`{name}` must make a nonnegative whole radius; got {value!r}"
            )
        check_taps(f"`radius` {shown(radius)}", 2 * int(half) + 1)
        found.append(int(half) if width > NO_WIDTH else -1)
    return tuple(found)


def _check_reach(sigma: Any, truncate: Any, cut: float, width: float) -> None:
    """Refuse a Gaussian with too many taps; the message names the given arguments."""
    given = f"`sigma` {shown(sigma)}"
    if cut != DEFAULT_TRUNCATE:
        given += f" and `truncate` {shown(truncate)}"
    check_taps(f"{given}, {width:.4g} samples. Give a smaller one, or `radius`", 2 * cut * width)


@lru_cache(maxsize=256)
def gaussian_taps(sigma: float, order: int, radius: int, step: float = 1.0) -> Array:
    """Return a sampled Gaussian or its derivative per unit of length, for correlation.

    `sigma` is in samples. Derivatives that are not in the catalogue are the Gaussian times a Hermite
    polynomial.
    """
    if order <= CATALOGUED:
        return gaussian1d(sigma, order=order, radius=radius) / np.float64(step) ** order
    from numpy.polynomial.hermite_e import hermeval  # start-up: rarely needed

    x = np.arange(-radius, radius + 1) / sigma
    polynomial = hermeval(x, np.append(np.zeros(order), 1.0)) / (sigma * step) ** order
    return np.asarray(polynomial * gaussian1d(sigma, radius=radius))


@lru_cache(maxsize=64)
def _gaussian_kernel(axes: tuple[Any, ...]) -> Kernel:
    """Return the kernel of (sigma, order, radius, step) per axis."""
    return kernel_of((tuple(gaussian_taps(*axis) for axis in axes),))


@lru_cache(maxsize=64)
def _box_kernel(sizes: tuple[int, ...]) -> Kernel:
    return kernel_of((tuple(box1d(n) for n in sizes),))


def _sizes(sizes: tuple[Any, ...], spacing: Any) -> tuple[int, ...]:
    if spacing is None:
        lengths = tuple(int(finite("size", n)) for n in sizes)
        for size, length in zip(sizes, lengths, strict=True):
            check_taps(f"`size` {shown(size)}", length)
        return lengths
    steps = steps_of(spacing, len(sizes))
    return tuple(whole_samples("size", n, step) for n, step in zip(sizes, steps, strict=True))


def _order(order: Any) -> int:
    value = index("order", order)
    if value < 0:
        raise ArgumentError(
            f"order must be non-negative: `order` must be an integer >= 0; got {order!r}"
        )
    if value > MOST_ORDER:
        raise ArgumentError(f"`order` must be at most {MOST_ORDER}; got {shown(order)}")
    return value


def _shown(values: Sequence[Any]) -> str:
    return shown(values[0] if len(set(values)) == 1 else tuple(values))
