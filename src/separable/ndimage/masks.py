"""The masks that differentiate: Sobel and Prewitt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from separable.ndimage.apply import Kernel, correlated, kernel_of
from separable.ndimage.missing_input import missing_in
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    check_axis,
    check_cval,
    filter_axes,
    image_of,
    per_axis,
    steps_of,
    target_of,
)

__all__ = ["prewitt", "sobel"]

CENTRAL = np.array([-1, 0, 1])


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
) -> Array:
    """Filter with Sobel's mask: ``[-1, 0, 1]`` along `axis`, ``[1, 2, 1]`` along all others.

    Parameters
    ----------
    input : array_like
        Bool, integers, float16 .. float64 or complex.
    axis : int
        The axis differentiated; the last one if not given.
    output : dtype or ndarray, optional
        The type of the result, or the array to put it into, which may be the image itself.
    mode : str or sequence of str
        What lies outside, for all axes of the image or for each.
    cval : number
        What lies outside where the mode is constant.
    spacing : float or sequence of float, optional
        The distance between the centres of neighbours, for all axes of the image or for each. The
        result is divided by that of `axis`: a slope per unit of length. SciPy has no such keyword.
    mask, nan, fill
        Which samples are missing, as for `gaussian_filter`. The local mean of the valid ones stands
        for them, so that a constant image with holes has no slope.

    Returns
    -------
    ndarray
        Of the image's shape and type, hence negative slopes of an unsigned image are 0: give
        ``output=float`` to see them.

    Raises
    ------
    AxisError
        (ValueError, IndexError) If `axis` lies outside the image.
    SeparableError
        Its other subclasses, for the other arguments.

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
    return _mask(input, axis, output, mode, cval, (1, 2, 1), spacing, (mask, nan, fill))


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
) -> Array:
    """Filter with Prewitt's mask: ``[-1, 0, 1]`` along `axis`, ``[1, 1, 1]`` along all others.

    Parameters, results and errors are those of `sobel`.

    Examples
    --------
    >>> prewitt([[0, 0, 9], [0, 0, 9], [0, 0, 9]])
    array([[ 0, 27, 27],
           [ 0, 27, 27],
           [ 0, 27, 27]])
    >>> prewitt([[0, 0, 9], [0, 0, 9], [0, 0, 9]], axis=0).any()
    np.False_
    """
    return _mask(input, axis, output, mode, cval, (1, 1, 1), spacing, (mask, nan, fill))


def _mask(
    input: ArrayLike,
    axis: int,
    output: Output,
    mode: str | Sequence[str],
    cval: complex,
    smoothing: tuple[int, int, int],
    spacing: float | Sequence[float] | None,
    missing: tuple[ArrayLike | None, str, complex],
) -> Array:
    image, given = image_of(input)
    along = check_axis(axis, image.ndim)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    modes = per_axis("mode", mode, image.ndim)
    where = filter_axes(range(image.ndim), modes, check_cval(cval, image))
    step = 1.0 if spacing is None else steps_of(spacing, image.ndim)[along]
    found = missing_in(given, image, where.axes, target, *missing, cval)
    kernel = _mask_kernel(smoothing, along, image.ndim, step)
    return correlated(image, kernel, where, target, found)


@lru_cache(maxsize=64)
def _mask_kernel(
    smoothing: tuple[int, int, int], along: int, ndim: int, step: float = 1.0
) -> Kernel:
    smooth, slope = np.array(smoothing), CENTRAL if step == 1 else CENTRAL / step
    return kernel_of((tuple(slope if k == along else smooth for k in range(ndim)),))
