"""Filters that differentiate: Sobel, Prewitt, Laplace, gradient magnitudes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.engine import work_dtype
from separable.errors import ArgumentTypeError, OutputError
from separable.ndimage.apply import (
    Border,
    Kernel,
    SumOfSquares,
    copied,
    correlated,
    delta,
    finished,
    kernel_of,
)
from separable.ndimage.arguments import (
    Array,
    Output,
    Target,
    check_axes,
    check_axis,
    check_cval,
    image_of,
    per_axis,
    target_of,
)
from separable.ndimage.smoothing import gaussian_taps, half_lengths

__all__ = [
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "laplace",
    "prewitt",
    "sobel",
]

CENTRAL = np.array([-1, 0, 1])
SECOND = np.array([1, -2, 1])

Derivative = Callable[..., Any]


def sobel(
    input: ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
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
    """
    return _mask(input, axis, output, mode, cval, (1, 2, 1))


def prewitt(
    input: ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
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
    return _mask(input, axis, output, mode, cval, (1, 1, 1))


def laplace(
    input: ArrayLike,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """Add up the second differences ``[1, -2, 1]`` along the axes: one pass an axis.

    Parameters
    ----------
    input, output, cval
        As for `sobel`.
    mode : str or sequence of str
        What lies outside, for all filtered axes or for each.
    axes : int or sequence of int, optional
        The axes to filter; all of them if not given.

    Returns
    -------
    ndarray
        Whole numbers are rounded and saturated once, after the sum.

    Raises
    ------
    SeparableError
        Its subclasses, for the arguments.

    Examples
    --------
    >>> laplace([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    >>> laplace(np.arange(5.0) ** 2)[1:-1]
    array([2., 2., 2.])
    """
    image = image_of(input)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    filtered = check_axes(axes, image.ndim)
    if not filtered:
        return copied(image, target)
    border = Border.of(filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image))
    return correlated(image, _laplace_kernel(len(filtered)), border, target)


def gaussian_laplace(
    input: ArrayLike,
    sigma: float | Sequence[float],
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Array:
    """Add up the second derivatives of a Gaussian along the axes (Laplacian of Gaussian).

    Parameters
    ----------
    input, output, mode, cval, axes
        As for `laplace`.
    sigma : float or sequence of float
        Standard deviation in pixels, for all filtered axes or for each.
    **kwargs
        `truncate` and `radius`, as for `gaussian_filter`.

    Returns
    -------
    ndarray
        Whole numbers are rounded and saturated once, after the sum.

    Raises
    ------
    SeparableError
        Its subclasses, as for `gaussian_filter`.

    Examples
    --------
    >>> spot = np.zeros((5, 5))
    >>> spot[2, 2] = 1
    >>> gaussian_laplace(spot, sigma=1, radius=1)[1:4, 1:4].round(2)
    array([[ 0.  , -0.12,  0.  ],
           [-0.12, -0.41, -0.12],
           [ 0.  , -0.12,  0.  ]])
    >>> gaussian_laplace(spot, sigma=1.5).sum().round(6)
    np.float64(-0.003...)
    """
    image = image_of(input)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    filtered = check_axes(axes, image.ndim)
    if not filtered:
        return copied(image, target)
    shapes = _gaussian_shapes(sigma, filtered, image.ndim, **kwargs)
    border = Border.of(filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image))
    return correlated(image, _derivatives_kernel(shapes, 2), border, target)


def gaussian_gradient_magnitude(
    input: ArrayLike,
    sigma: float | Sequence[float],
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Array:
    """Take the length of the gradient of an image smoothed with a Gaussian.

    Parameters
    ----------
    input, output, mode, cval, axes
        As for `laplace`.
    sigma : float or sequence of float
        Standard deviation in pixels, for all filtered axes or for each.
    **kwargs
        `truncate` and `radius`, as for `gaussian_filter`.

    Returns
    -------
    ndarray
        The squares are added in double precision; whole numbers are rounded and saturated once,
        after the root.

    Raises
    ------
    SeparableError
        Its subclasses, as for `gaussian_filter`.

    Examples
    --------
    >>> ramp = np.arange(20.0) * 3 + np.zeros((20, 1))
    >>> gaussian_gradient_magnitude(ramp, sigma=1)[10, 10].round(2)
    np.float64(3.0)
    >>> gaussian_gradient_magnitude(ramp.astype(np.uint8), sigma=1)[10, 10]
    np.uint8(3)
    """
    image = image_of(input)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    filtered = check_axes(axes, image.ndim)
    if not filtered:
        return copied(image, target)
    shapes = _gaussian_shapes(sigma, filtered, image.ndim, **kwargs)
    border = Border.of(filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image))
    work = work_dtype(image.dtype, target_dtype(target), np.ones(1))
    squares = SumOfSquares(image.shape)
    for along in range(len(filtered)):
        squares.add(correlated(image, _derivatives_kernel(shapes, 1, along), border, work))
    return finished(squares.root(), target)


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
    >>> def second(input, axis, output, mode, cval):
    ...     return sobel(sobel(input, axis, float, mode, cval), axis, output, mode, cval)
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
        total = (
            np.asarray(part, np.result_type(part, np.float64)) if total is None else total + part
        )
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


def _mask(
    input: ArrayLike,
    axis: int,
    output: Output,
    mode: str | Sequence[str],
    cval: complex,
    smoothing: tuple[int, int, int],
) -> Array:
    image = image_of(input)
    along = check_axis(axis, image.ndim)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    modes = per_axis("mode", mode, image.ndim)
    border = Border.of(range(image.ndim), modes, check_cval(cval, image))
    return correlated(image, _mask_kernel(smoothing, along, image.ndim), border, target)


@lru_cache(maxsize=64)
def _mask_kernel(smoothing: tuple[int, int, int], along: int, ndim: int) -> Kernel:
    smooth = np.array(smoothing)
    return kernel_of((tuple(CENTRAL if k == along else smooth for k in range(ndim)),))


@lru_cache(maxsize=16)
def _laplace_kernel(ndim: int) -> Kernel:
    unit = np.array([0, 1, 0])
    return kernel_of(
        tuple(tuple(SECOND if k == along else unit for k in range(ndim)) for along in range(ndim))
    )


@lru_cache(maxsize=64)
def _derivatives_kernel(
    shapes: tuple[tuple[float, int], ...], order: int, only: int | None = None
) -> Kernel:
    """The sum over all axes (or `only` one) of the Gaussian's derivative along it.

    `shapes` holds (sigma, radius) for each axis. An axis of no width stays as it is, whatever its
    order, as in SciPy.
    """
    terms = []
    for along in range(len(shapes)) if only is None else (only,):
        terms.append(
            tuple(
                delta(1) if radius < 0 else gaussian_taps(sigma, order * (k == along), radius)
                for k, (sigma, radius) in enumerate(shapes)
            )
        )
    return kernel_of(tuple(terms))


def _gaussian_shapes(
    sigma: Any, axes: tuple[int, ...], ndim: int, **kwargs: Any
) -> tuple[tuple[float, int], ...]:
    """(sigma, radius) for each filtered axis."""
    unknown = sorted(set(kwargs) - {"truncate", "radius"})
    if unknown:
        raise ArgumentTypeError(
            f"unexpected keyword argument {', '.join(f'`{k}`' for k in unknown)}: "
            "only `truncate` and `radius` go to gaussian_filter"
        )
    radius = kwargs.get("radius")
    if np.iterable(radius) and len(radius) == ndim != len(axes):
        radius = [radius[a] for a in axes]  # SciPy's gaussian_laplace wants one for every axis
    sigmas = per_axis("sigma", sigma, len(axes))
    radii = half_lengths(sigmas, kwargs.get("truncate", 4.0), per_axis("radius", radius, len(axes)))
    return tuple((float(s), r) for s, r in zip(sigmas, radii, strict=True))


def _user_parts(
    image: Array,
    function: Derivative,
    name: str,
    mode: Any,
    cval: Any,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None,
    axes: Any,
) -> Any:
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


def target_dtype(target: Target) -> np.dtype[Any]:
    """Return the type of the result."""
    return target.dtype if isinstance(target, np.ndarray) else target
