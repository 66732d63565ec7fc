"""convolve and correlate, with a dense kernel or along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from separable.factorize import as_kernel
from separable.filtering import filter_with
from separable.masked import Missing, blank
from separable.ndimage.missing_input import filtered_valid, missing_in
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    Target,
    WeightsError,
    check_axes,
    check_axis,
    check_cval,
    check_origins,
    filter_axes,
    image_of,
    per_axis,
    target_of,
    weights_of,
)
from separable.request import FilterAxes

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]

# How SciPy says what an origin must be.
DENSE_ORIGIN = (
    "Invalid origin; origin must satisfy -(weights.shape[k] // 2) <= origin[k] <= "
    "(weights.shape[k]-1) // 2"
)
LINE_ORIGIN = (
    "Invalid origin; origin must satisfy -(len(weights) // 2) <= origin <= (len(weights)-1) // 2"
)

Missings: TypeAlias = "tuple[ArrayLike | None, str, complex]"  # mask, nan, fill


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
) -> Array:
    """Correlate an image with a kernel; it runs as passes where the kernel separates.

    Parameters
    ----------
    input : array_like
        Bool, integers, float16 .. float64 or complex.
    weights : array_like
        One axis for each filtered one, in the image's order of axes. Complex weights are
        conjugated, as in SciPy.
    output : dtype or ndarray, optional
        The type of the result, or the array to put it into, which may be the image itself.
    mode : str or sequence of str
        What lies outside: reflect, mirror, nearest, wrap, constant (or their grid- names).
        SciPy takes no sequence here.
    cval : number
        What lies outside where the mode is constant.
    origin : int or sequence of int
        Shifts the kernel; one for each of `axes`, in their order.
    axes : int or sequence of int, optional
        The axes to filter; all of them if not given.
    mask, nan, fill
        Which samples are missing, as for `separable.convolve`: `mask` is **nonzero where the image
        is valid**. SciPy has no such keywords.

    Returns
    -------
    ndarray
        Of the image's shape; whole numbers are rounded half to even and saturated.

    Raises
    ------
    WeightsError
        (KernelError, RuntimeError) If the weights are empty or have another number of axes.
    KernelError
        If the weights are not finite.
    ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
        If another argument is wrong.

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
    return _dense(input, weights, output, mode, cval, origin, axes, "correlate", (mask, nan, fill))


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
) -> Array:
    """Convolve an image with a kernel; it runs as passes where the kernel separates.

    Parameters, results and errors are those of `correlate`; the kernel is flipped, and complex
    weights are taken as they are.

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
    return _dense(input, weights, output, mode, cval, origin, axes, "convolve", (mask, nan, fill))


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
) -> Array:
    """Correlate an image with a vector along one axis.

    Parameters
    ----------
    input, output, mode, cval, origin, mask, nan, fill
        As for `correlate`.
    weights : array_like
        One axis. Complex weights are conjugated, as in SciPy.
    axis : int
        The axis to filter; the last one if not given.

    Returns
    -------
    ndarray

    Raises
    ------
    SeparableError
        Its subclasses, as for `correlate`; AxisError (ValueError, IndexError) for the axis.

    Examples
    --------
    >>> correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])

    The slope along the first axis:

    >>> correlate1d([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]], [-0.5, 0, 0.5], axis=0)[1]
    array([1., 0.])
    """
    return _line(input, weights, axis, output, mode, cval, origin, "correlate", (mask, nan, fill))


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
) -> Array:
    """Convolve an image with a vector along one axis.

    Parameters, results and errors are those of `correlate1d`; the vector is flipped, and complex
    weights are taken as they are.

    Examples
    --------
    >>> convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    >>> convolve1d([0, 0, 1, 0, 0], [1, 2, 3], mode="constant")
    array([0, 1, 2, 3, 0])
    """
    return _line(input, weights, axis, output, mode, cval, origin, "convolve", (mask, nan, fill))


def _dense(
    input: ArrayLike,
    weights: ArrayLike,
    output: Output,
    mode: str | Sequence[str],
    cval: complex,
    origin: int | Sequence[int],
    axes: int | Sequence[int] | None,
    operation: str,
    missing: Missings,
) -> Array:
    (image, given), kernel = image_of(input), weights_of(weights)
    filtered = check_axes(axes, image.ndim)
    origins = per_axis("origin", origin, len(filtered))
    modes = per_axis("mode", mode, len(filtered))
    if kernel.ndim != len(filtered) or kernel.size == 0:
        raise WeightsError(
            f"{_wrong_shape(kernel, len(filtered))}: `weights` must have at least one element and "
            f"one axis for each of the {len(filtered)} filtered ones; got shape {kernel.shape}"
        )
    target = target_of(output, image, is_complex=_is_complex(image, kernel))
    found = missing_in(given, image, filtered, target, *missing, cval)
    order = np.argsort(filtered)  # the weights have the image's order of axes
    where = filter_axes(
        [filtered[k] for k in order],
        [modes[k] for k in order],
        check_cval(cval, image),
        check_origins([origins[k] for k in order], kernel.shape, DENSE_ORIGIN),
    )
    return _filtered(image, kernel, where, target, operation, found)


def _line(
    input: ArrayLike,
    weights: ArrayLike,
    axis: int,
    output: Output,
    mode: str,
    cval: complex,
    origin: int,
    operation: str,
    missing: Missings,
) -> Array:
    (image, given), kernel = image_of(input), weights_of(weights)
    if kernel.ndim != 1 or kernel.size == 0:
        raise WeightsError(
            "no filter weights given: `weights` must have one axis and at least one element; "
            f"got shape {kernel.shape}"
        )
    along = check_axis(axis, image.ndim)
    target = target_of(output, image, is_complex=_is_complex(image, kernel))
    found = missing_in(given, image, (along,), target, *missing, cval)
    origins = check_origins((origin,), kernel.shape, LINE_ORIGIN)
    where = filter_axes((along,), (mode,), check_cval(cval, image), origins)
    return _filtered(image, kernel, where, target, operation, found)


def _wrong_shape(kernel: Array, count: int) -> str:
    """What SciPy says, up to 1.14 and since, or of an empty kernel."""
    if kernel.size == 0 and kernel.ndim == count:
        return "filter weights array has incorrect shape"
    return (
        "filter weights array has incorrect shape, "
        f"weights.ndim ({kernel.ndim}) must match len(axes) ({count})"
    )


def _is_complex(image: Array, kernel: Array) -> bool:
    return image.dtype.kind == "c" or kernel.dtype.kind == "c"


def _filtered(
    image: Array,
    kernel: Array,
    where: FilterAxes,
    target: Target,
    operation: str,
    missing: Missing | None,
) -> Array:
    if kernel.dtype.kind == "c" and operation == "correlate":
        kernel = kernel.conj()
    if not where.axes:
        return blank(_times(image, kernel, target), missing)
    if missing is not None:
        return filtered_valid(image, as_kernel(kernel), where, target, missing, operation)
    return filter_with(
        image, kernel, target, operation=operation, axes=where.axes, mode=where.modes,
        cval=where.cval, origin=where.origins,
    )  # fmt: skip


def _times(image: Array, weight: Array, target: Target) -> Array:
    """A kernel of no axes: one number."""
    out = target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    filter_with(
        np.atleast_1d(image), weight.reshape(1), np.atleast_1d(out), operation="correlate", axes=0
    )
    return out
