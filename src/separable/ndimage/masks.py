"""Sobel and Prewitt filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from separable.masked import MissingOptions
from separable.ndimage.apply import Kernel, correlation, kernel_of
from separable.ndimage.missing_input import AnyMissing, FilterInput
from separable.ndimage.parameter_docs import documented
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    check_axis,
    check_cval,
    check_filter_axes,
    per_axis,
    steps_of,
)
from separable.repeated_calls import PlannedCall, repeated
from separable.request import FilterAxes

__all__ = ["prewitt", "sobel"]

CENTRAL = np.array([-1, 0, 1])


@documented
@repeated
def sobel(
    input: ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    spacing: float | Sequence[float] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array | PlannedCall:
    """Filter with the Sobel mask: ``[-1, 0, 1]`` along `axis`, ``[1, 2, 1]`` along all others.

    %(slope)s

    Examples
    --------
    >>> sobel([0, 0, 5, 5])
    array([0, 5, 5, 0])
    >>> step = np.array([[0, 0, 9], [0, 0, 9], [0, 0, 9]], np.uint8)
    >>> sobel(step, output=np.int16)
    array([[ 0, 36, 36],
           [ 0, 36, 36],
           [ 0, 36, 36]], dtype=int16)
    >>> sobel(step, output=float, spacing=(1, 0.5))[0]
    array([ 0., 72., 72.])
    """
    source = FilterInput.of(input, output)
    filter_axes = _all_axes(source.image, mode, cval)
    missing = source.missing(filter_axes.axes, MissingOptions(mask, nan, fill), cval)
    return _mask(source, axis, (1, 2, 1), spacing, filter_axes, missing)


@documented
@repeated
def prewitt(
    input: ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    spacing: float | Sequence[float] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array | PlannedCall:
    """Filter with the Prewitt mask: ``[-1, 0, 1]`` along `axis`, ``[1, 1, 1]`` along all others.

    %(slope)s

    Examples
    --------
    >>> prewitt([[0, 0, 9], [0, 0, 9], [0, 0, 9]])
    array([[ 0, 27, 27],
           [ 0, 27, 27],
           [ 0, 27, 27]])
    >>> bool(prewitt([[0, 0, 9], [0, 0, 9], [0, 0, 9]], axis=0).any())
    False
    """
    source = FilterInput.of(input, output)
    filter_axes = _all_axes(source.image, mode, cval)
    missing = source.missing(filter_axes.axes, MissingOptions(mask, nan, fill), cval)
    return _mask(source, axis, (1, 1, 1), spacing, filter_axes, missing)


def _all_axes(image: Array, mode: str | Sequence[str], cval: complex) -> FilterAxes:
    modes = per_axis("mode", mode, image.ndim)
    return check_filter_axes(range(image.ndim), modes, check_cval(cval, image))


def _mask(
    source: FilterInput,
    axis: int,
    smoothing: tuple[int, int, int],
    spacing: float | Sequence[float] | None,
    filter_axes: FilterAxes,
    missing: AnyMissing | None,
) -> Array | PlannedCall:
    ndim = source.image.ndim
    along = check_axis(axis, ndim)
    step = 1.0 if spacing is None else steps_of(spacing, ndim)[along]
    kernel = _mask_kernel(smoothing, along, ndim, step)
    return correlation(source.image, kernel, filter_axes, source.target, missing)


@lru_cache(maxsize=64)
def _mask_kernel(
    smoothing: tuple[int, int, int], along: int, ndim: int, step: float = 1.0
) -> Kernel:
    smooth, slope = np.array(smoothing), CENTRAL if step == 1 else CENTRAL / step
    return kernel_of((tuple(slope if k == along else smooth for k in range(ndim)),))
