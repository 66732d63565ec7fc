"""Convolution and correlation with a dense kernel or along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from separable.factorize import as_kernel
from separable.filtering import filter_with, planned
from separable.masked import MissingOptions, blank
from separable.ndimage.missing_input import (
    AnyMissing,
    FilterInput,
    LazyMissing,
    filtered_valid,
)
from separable.ndimage.parameter_docs import documented
from separable.ndimage.region_arguments import OutputRegion
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    Target,
    WeightsError,
    check_axes,
    check_axis,
    check_cval,
    check_filter_axes,
    check_origins,
    per_axis,
    weights_of,
)
from separable.repeated_calls import PlannedCall, repeated
from separable.request import FilterAxes

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]

# SciPy's words for a wrong origin.
DENSE_ORIGIN = (
    "Invalid origin; origin must satisfy -(weights.shape[k] // 2) <= origin[k] <= "
    "(weights.shape[k]-1) // 2"
)
LINE_ORIGIN = (
    "Invalid origin; origin must satisfy -(len(weights) // 2) <= origin <= (len(weights)-1) // 2"
)


@documented
@repeated
def correlate(
    input: ArrayLike,
    weights: ArrayLike,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Correlate an image with a kernel.

    A kernel that separates runs as one pass per axis, however it was made. Complex weights are
    conjugated, as in SciPy.

    %(correlation)s

    See Also
    --------
    separable.correlate : with a tolerance, a choice of method, a kernel in factors.

    Examples
    --------
    >>> correlate([[1, 2, 3], [4, 5, 6]], [[0, 0], [0, 1]])
    array([[1, 2, 3],
           [4, 5, 6]])

    A kernel that separates costs two passes, however it was made:

    >>> smooth = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    >>> correlate(np.eye(5, dtype=np.float32), smooth, mode="wrap").dtype
    dtype('float32')
    """
    kernel = weights_of(weights)
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output), kernel)
    filter_axes = _dense_axes(source.image, kernel, axes, mode, cval, origin)
    options = MissingOptions(mask, nan, fill)
    if not region.is_all:
        return region.run(source, output, kernel.conj(), filter_axes, options, "correlate")
    missing = source.missing(filter_axes.axes, options, cval)
    return _filtered(source, kernel, filter_axes, "correlate", missing)


@documented
@repeated
def convolve(
    input: ArrayLike,
    weights: ArrayLike,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Convolve an image with a kernel.

    This is `correlate` with the kernel flipped and with complex weights as they are. A kernel that
    separates runs as one pass per axis, however it was made.

    %(correlation)s

    Examples
    --------
    >>> convolve([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    array([[1, 2, 3],
           [4, 5, 6],
           [7, 8, 9]])

    The same along two axes of a stack:

    >>> stack = np.zeros((2, 3, 3), int)
    >>> stack[:, 1, 1] = 1
    >>> convolve(stack, [[1, 2, 1], [2, 4, 2], [1, 2, 1]], axes=(1, 2))[1]
    array([[1, 2, 1],
           [2, 4, 2],
           [1, 2, 1]])
    """
    kernel = weights_of(weights)
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output), kernel)
    filter_axes = _dense_axes(source.image, kernel, axes, mode, cval, origin)
    options = MissingOptions(mask, nan, fill)
    if not region.is_all:
        return region.run(source, output, kernel, filter_axes, options, "convolve")
    missing = source.missing(filter_axes.axes, options, cval)
    return _filtered(source, kernel, filter_axes, "convolve", missing)


@documented
@repeated
def correlate1d(
    input: ArrayLike,
    weights: ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
    *,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Correlate an image with a vector along one axis.

    Complex weights are conjugated, as in SciPy.

    %(correlation_1d)s

    Examples
    --------
    >>> correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])

    The slope along the first axis:

    >>> correlate1d([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]], [-0.5, 0, 0.5], axis=0)[1]
    array([1., 0.])
    """
    kernel = weights_of(weights)
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output), kernel)
    filter_axes = _line_axes(source.image, kernel, axis, mode, cval, origin)
    options = MissingOptions(mask, nan, fill)
    if not region.is_all:
        return region.run(source, output, kernel.conj(), filter_axes, options, "correlate")
    missing = source.missing(filter_axes.axes, options, cval)
    return _filtered(source, kernel, filter_axes, "correlate", missing)


@documented
@repeated
def convolve1d(
    input: ArrayLike,
    weights: ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
    *,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
) -> Array | PlannedCall:
    """Convolve an image with a vector along one axis.

    This is `correlate1d` with the vector flipped, and with complex weights as they are.

    %(correlation_1d)s

    Examples
    --------
    >>> convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    >>> convolve1d([0, 0, 1, 0, 0], [1, 2, 3], mode="constant")
    array([0, 1, 2, 3, 0])
    """
    kernel = weights_of(weights)
    region = OutputRegion(output_region, stride)
    source = FilterInput.of(input, region.target(output), kernel)
    filter_axes = _line_axes(source.image, kernel, axis, mode, cval, origin)
    options = MissingOptions(mask, nan, fill)
    if not region.is_all:
        return region.run(source, output, kernel, filter_axes, options, "convolve")
    missing = source.missing(filter_axes.axes, options, cval)
    return _filtered(source, kernel, filter_axes, "convolve", missing)


def _dense_axes(
    image: Array,
    kernel: Array,
    axes: int | Sequence[int] | None,
    mode: str | Sequence[str],
    cval: complex,
    origin: int | Sequence[int],
) -> FilterAxes:
    """Return the filtered axes in the order of the image, which is that of the weights."""
    filtered = check_axes(axes, image.ndim)
    count = len(filtered)
    origins, modes = per_axis("origin", origin, count), per_axis("mode", mode, count)
    if kernel.ndim != count or kernel.size == 0:
        raise WeightsError(
            f"{_wrong_shape(kernel, count)}: `weights` must have at least one element and "
            f"one axis for each of the {count} filtered ones; got shape {kernel.shape}"
        )
    order = np.argsort(filtered)
    return check_filter_axes(
        [filtered[k] for k in order],
        [modes[k] for k in order],
        check_cval(cval, image),
        check_origins([origins[k] for k in order], kernel.shape, DENSE_ORIGIN),
    )


def _wrong_shape(kernel: Array, count: int) -> str:
    """Return SciPy's words, up to 1.14 and since, or those for an empty kernel."""
    if kernel.size == 0 and kernel.ndim == count:
        return "filter weights array has incorrect shape"
    return (
        "filter weights array has incorrect shape, "
        f"weights.ndim ({kernel.ndim}) must match len(axes) ({count})"
    )


def _line_axes(
    image: Array, kernel: Array, axis: int, mode: str, cval: complex, origin: int
) -> FilterAxes:
    """Return the filtered axis of a kernel that is a vector."""
    if kernel.ndim != 1 or kernel.size == 0:
        raise WeightsError(
            "no filter weights given: `weights` must have one axis and at least one element; "
            f"got shape {kernel.shape}"
        )
    along = check_axis(axis, image.ndim)
    origins = check_origins((origin,), kernel.shape, LINE_ORIGIN)
    return check_filter_axes((along,), (mode,), check_cval(cval, image), origins)


def _filtered(
    source: FilterInput,
    kernel: Array,
    filter_axes: FilterAxes,
    operation: str,
    missing: AnyMissing | None,
) -> Array | PlannedCall:
    image, target = source.image, source.target
    if kernel.dtype.kind == "c" and operation == "correlate":
        kernel = kernel.conj()
    if not filter_axes.axes:
        assert not isinstance(missing, LazyMissing)  # a Dask array has axes
        return blank(_times(image, kernel, target), missing)
    if missing is not None:
        return filtered_valid(image, as_kernel(kernel), filter_axes, target, missing, operation)
    return planned(image, kernel, target, operation=operation, **filter_axes.options)


def _times(image: Array, weight: Array, target: Target) -> Array:
    """Multiply by a kernel without axes, which is one number."""
    out = target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    filter_with(
        np.atleast_1d(image), weight.reshape(1), np.atleast_1d(out), operation="correlate", axes=0
    )
    return out
