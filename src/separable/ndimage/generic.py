"""Sums over the axes of what a user's function computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.errors import ArgumentTypeError, OutputError
from separable.ndimage.apply import SumOfSquares, copied, finished
from separable.ndimage.arguments import (
    Array,
    Output,
    Target,
    check_axes,
    image_of,
    per_axis,
    target_dtype,
    target_of,
)

__all__ = ["generic_gradient_magnitude", "generic_laplace"]

Derivative = Callable[..., Any]


def generic_laplace(
    input: ArrayLike,
    derivative2: Derivative,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """Add up second derivatives that a function computes.

    Parameters
    ----------
    input, output, mode, cval, axes
        As for `laplace`.
    derivative2 : callable
        ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``.
        `output` is an array of float64 (complex128 for a complex image); what the function returns
        counts, or this array if it returns None.
    extra_arguments : sequence
    extra_keywords : dict

    Returns
    -------
    ndarray
        Whole numbers are rounded and saturated once, after the sum.

    Raises
    ------
    ArgumentTypeError
        If `derivative2` cannot be called.
    SeparableError
        Its other subclasses, for the other arguments.

    Examples
    --------
    >>> from separable import ndimage
    >>> def second(input, axis, output, mode, cval):
    ...     slope = ndimage.correlate1d(input, [-1, 0, 1], axis, float, mode, cval)
    ...     return ndimage.correlate1d(slope, [-1, 0, 1], axis, output, mode, cval)
    >>> generic_laplace(np.arange(8.0) ** 2, second)[2:-2]
    array([8., 8., 8., 8.])
    """
    image = image_of(input)
    target = target_of(output, image)
    total: Array | None = None
    parts = _user_parts(
        image, derivative2, "derivative2", mode, cval, extra_arguments, extra_keywords, axes
    )
    for part in parts:
        if total is None:
            total = part.astype(np.result_type(part, np.float64))
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                total = total + part
    return copied(image, target) if total is None else _finished(total, target)


def generic_gradient_magnitude(
    input: ArrayLike,
    derivative: Derivative,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """Take the length of the gradient whose components a function computes.

    Parameters
    ----------
    input, output, mode, cval, axes
        As for `laplace`.
    derivative : callable
        ``derivative(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``, as for
        `generic_laplace`.
    extra_arguments : sequence
    extra_keywords : dict

    Returns
    -------
    ndarray
        Whole numbers are rounded and saturated once, after the root.

    Raises
    ------
    ArgumentTypeError
        If `derivative` cannot be called.
    SeparableError
        Its other subclasses, for the other arguments.

    Examples
    --------
    >>> from separable.ndimage import sobel
    >>> ramp = np.add.outer(3 * np.arange(5), 4 * np.arange(5))
    >>> generic_gradient_magnitude(ramp, sobel)[2, 2]
    np.int64(40)
    """
    image = image_of(input)
    target = target_of(output, image)
    squares: SumOfSquares | None = None
    parts = _user_parts(
        image, derivative, "derivative", mode, cval, extra_arguments, extra_keywords, axes
    )
    for part in parts:
        squares = squares or SumOfSquares(image.shape)
        squares.add(part)
    return copied(image, target) if squares is None else _finished(squares.root(), target)


def _user_parts(
    image: Array,
    function: Derivative,
    name: str,
    mode: Any,
    cval: Any,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None,
    axes: Any,
) -> Iterator[Array]:
    """Yield what the user's function returns for each axis."""
    if not callable(function):
        raise ArgumentTypeError(f"`{name}` must be a function; got {function!r}")
    filtered = check_axes(axes, image.ndim)
    kind = np.complex128 if image.dtype.kind == "c" else np.float64
    for axis, own in zip(filtered, per_axis("mode", mode, len(filtered)), strict=True):
        buffer = np.zeros(image.shape, kind)
        result = function(image, axis, buffer, own, cval, *arguments, **(keywords or {}))
        yield buffer if result is None else np.asarray(result)


def _finished(values: Array, target: Target) -> Array:
    if values.dtype.kind == "c" and target_dtype(target).kind != "c":
        raise OutputError(
            f"output must have complex dtype: the result is complex; got {target_dtype(target)}"
        )
    return finished(values, target)
