"""Laplacian and gradient magnitude from derivatives that a user's function computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.arrays import array_of
from separable.errors import ArgumentError, ArgumentTypeError, OutputError
from separable.masked import Missing, MissingOptions
from separable.ndimage.apply import finished, unfiltered
from separable.ndimage.missing_input import FilterInput, keywords_for
from separable.ndimage.parameter_docs import documented
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    Target,
    check_axes,
    is_lazy,
    per_axis,
    target_dtype,
)
from separable.ndimage.sums_of_squares import SumOfSquares
from separable.request import check_dtype

__all__ = ["generic_gradient_magnitude", "generic_laplace"]

Derivative = Callable[..., Any]


@documented
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
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array:
    """Add up second derivatives that a function computes.

    Parameters
    ----------
    %(input)s
    derivative2 : callable
        ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``.
        `output` is an array of float64 (complex128 for a complex image). The function returns an
        array, or None after it has written to `output`.
    %(after_derivative)s

    Examples
    --------
    >>> from separable import ndimage
    >>> def second(input, axis, output, mode, cval):
    ...     slope = ndimage.correlate1d(input, [-1, 0, 1], axis, float, mode, cval)
    ...     return ndimage.correlate1d(slope, [-1, 0, 1], axis, output, mode, cval)
    >>> generic_laplace(np.arange(8.0) ** 2, second)[2:-2]
    array([8., 8., 8., 8.])
    """
    source = FilterInput.of(input, output, as_given=True)
    image, target = source.image, source.target
    _check_in_memory(image, "generic_laplace", "laplace or gaussian_laplace")
    filtered = check_axes(axes, image.ndim)
    missing: Any = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    total: Array | None = None
    mask_keywords = keywords_for(derivative2, "derivative2", missing, nan, image.shape)
    _check_extra(extra_arguments, extra_keywords)
    keywords = {**mask_keywords, **(extra_keywords or {})}
    parts = _user_parts(image, derivative2, mode, cval, extra_arguments, keywords, filtered)
    for part in parts:
        if total is None:
            total = part.astype(np.result_type(part, np.float64))
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                total = total + part
    if total is None:
        return unfiltered(image, target, missing)
    return _finished(total, target, missing)


@documented
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
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array:
    """Take the length of the gradient whose components a function computes.

    Parameters
    ----------
    %(input)s
    derivative : callable
        ``derivative(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``.
        `output` is an array of float64 (complex128 for a complex image). The function returns an
        array, or None after it has written to `output`.
    %(after_derivative)s

    Examples
    --------
    >>> from separable.ndimage import sobel
    >>> ramp = np.add.outer(3 * np.arange(5), 4 * np.arange(5))
    >>> int(generic_gradient_magnitude(ramp, sobel)[2, 2])
    40
    """
    source = FilterInput.of(input, output, as_given=True)
    image, target = source.image, source.target
    _check_in_memory(image, "generic_gradient_magnitude", "gaussian_gradient_magnitude")
    filtered = check_axes(axes, image.ndim)
    missing: Any = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    squares: SumOfSquares | None = None
    mask_keywords = keywords_for(derivative, "derivative", missing, nan, image.shape)
    _check_extra(extra_arguments, extra_keywords)
    keywords = {**mask_keywords, **(extra_keywords or {})}
    parts = _user_parts(image, derivative, mode, cval, extra_arguments, keywords, filtered)
    for part in parts:
        squares = squares or SumOfSquares(image.shape)
        squares.add(part)
    if squares is None:
        return unfiltered(image, target, missing)
    return _finished(squares.root(), target, missing)


def _check_in_memory(image: Array, name: str, others: str) -> None:
    """Refuse a Dask array: a user's function reads and writes whole arrays."""
    if is_lazy(image):
        raise ArgumentTypeError(
            f"`{name}` takes no Dask array, because it is not known how far the function "
            f"reaches. Use {others}, or dask.array.map_overlap with the depth that it needs"
        )


def _user_parts(
    image: Array,
    function: Derivative,
    mode: Any,
    cval: Any,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
    axes: tuple[int, ...],
) -> Iterator[Array]:
    """Yield the derivative along each axis that the user's function returns."""
    dtype = np.complex128 if image.dtype.kind == "c" else np.float64
    for axis, own in zip(axes, per_axis("mode", mode, len(axes)), strict=True):
        buffer = np.zeros(image.shape, dtype)
        result = function(image, axis, buffer, own, cval, *arguments, **keywords)
        yield buffer if result is None else _part(result, image.shape)


def _part(result: Any, shape: tuple[int, ...]) -> Array:
    """Return the function's result as an array of the image's shape."""
    part = np.asarray(array_of(result, "result"))
    check_dtype(part.dtype, "result")
    try:
        return np.broadcast_to(part, shape)
    except ValueError:
        raise ArgumentError(
            "operands could not be broadcast together: the function must return an array of the "
            f"image's shape {shape}, or None after it has written to `output`; got shape "
            f"{part.shape}"
        ) from None


def _check_extra(arguments: Any, keywords: Any) -> None:
    """Refuse arguments that a function cannot be called with."""
    if not isinstance(arguments, Iterable):
        raise ArgumentTypeError(
            f"`extra_arguments` must be a sequence of arguments; got {arguments!r}"
        )
    if keywords is not None and not isinstance(keywords, Mapping):
        raise ArgumentTypeError(
            f"`extra_keywords` must be a dict of arguments by name; got {keywords!r}"
        )


def _finished(values: Array, target: Target, missing: Missing | None) -> Array:
    if values.dtype.kind == "c" and target_dtype(target).kind != "c":
        raise OutputError(
            f"output must have complex dtype: the result is complex; got {target_dtype(target)}"
        )
    nothing = None if missing is None else np.isnan(values)
    result = finished(values, target)
    if missing is not None and nothing is not None:
        np.copyto(result, missing.fill, where=nothing, casting="unsafe")
    return result
