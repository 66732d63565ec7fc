"""Laplacians and gradient magnitudes: sums over the axes, rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.engine import work_dtype
from separable.errors import ArgumentTypeError
from separable.masked import blank
from separable.ndimage.apply import (
    Kernel,
    copied,
    correlated,
    finished,
    kernel_of,
)
from separable.ndimage.missing_input import missing_in
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    check_axes,
    check_cval,
    filter_axes,
    image_of,
    per_axis,
    steps_of,
    target_dtype,
    target_of,
)
from separable.ndimage.smoothing_filters import gaussian_taps, half_lengths
from separable.ndimage.sums_of_squares import squares_of

__all__ = ["gaussian_gradient_magnitude", "gaussian_laplace", "laplace"]

SECOND = np.array([1, -2, 1])


def laplace(
    input: ArrayLike,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
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
    spacing : float or sequence of float, optional
        The distance between the centres of neighbours, for all filtered axes or for each; > 0.
        Each second difference is divided by the square of its own. SciPy has no such keyword.
    mask, nan, fill
        Which samples are missing, as for `gaussian_filter`. The derivative along each axis is a
        filter of its own, in which the local mean stands for what is missing; where one of them has
        nothing valid below it the result is `fill`.

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
    >>> laplace(np.arange(0, 1, 0.25) ** 2, spacing=0.25)[1:-1]
    array([2., 2.])
    """
    image, given = image_of(input)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    filtered = check_axes(axes, image.ndim)
    missing = missing_in(given, image, filtered, target, mask, nan, fill, cval)
    if not filtered:
        return blank(copied(image, target), missing)
    where = filter_axes(filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image))
    steps = None if spacing is None else steps_of(spacing, len(filtered))
    return correlated(image, _laplace_kernel(len(filtered), steps), where, target, missing)


def gaussian_laplace(
    input: ArrayLike,
    sigma: float | Sequence[float],
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    **kwargs: Any,
) -> Array:
    """Add up the second derivatives of a Gaussian along the axes (Laplacian of Gaussian).

    Parameters
    ----------
    input, output, mode, cval, axes, mask, nan, fill
        As for `laplace`.
    sigma : float or sequence of float
        Standard deviation, for all filtered axes or for each, in pixels or in the units of
        `spacing`.
    spacing : float or sequence of float, optional
        The distance between the centres of neighbours, for all filtered axes or for each; > 0.
        Derivatives are per unit of it, as in ITK. SciPy has no such keyword.
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
    >>> gaussian_laplace(spot, sigma=1, radius=1)[2, 1:4].round(2)
    array([-0.12, -0.41, -0.12])

    The sharpest response to a blob of radius 4 is at ``sigma = 4 / sqrt(2)``:

    >>> blob = np.hypot(*np.mgrid[-20:21, -20:21]) <= 4
    >>> [round(float(s**2 * gaussian_laplace(blob, s, float)[20, 20]), 2) for s in (2, 4 / 2**0.5, 4)]
    [-0.56, -0.73, -0.6]
    """
    image, given = image_of(input)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    filtered = check_axes(axes, image.ndim)
    missing = missing_in(given, image, filtered, target, mask, nan, fill, cval)
    if not filtered:
        return blank(copied(image, target), missing)
    steps = steps_of(spacing, len(filtered))
    shapes = _gaussian_shapes(sigma, filtered, image.ndim, steps, **kwargs)
    where = filter_axes(filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image))
    return correlated(image, _derivatives_kernel(shapes, 2, None, steps), where, target, missing)


def gaussian_gradient_magnitude(
    input: ArrayLike,
    sigma: float | Sequence[float],
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    **kwargs: Any,
) -> Array:
    """Take the length of the gradient of an image smoothed with a Gaussian.

    Parameters
    ----------
    input, output, mode, cval, axes, mask, nan, fill
        As for `laplace`.
    sigma : float or sequence of float
        Standard deviation, for all filtered axes or for each, in pixels or in the units of
        `spacing`.
    spacing : float or sequence of float, optional
        The distance between the centres of neighbours, for all filtered axes or for each; > 0.
        Derivatives are per unit of it, as in ITK. SciPy has no such keyword.
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
    image, given = image_of(input)
    target = target_of(output, image, is_complex=image.dtype.kind == "c")
    filtered = check_axes(axes, image.ndim)
    missing = missing_in(given, image, filtered, target, mask, nan, fill, cval)
    if not filtered:
        return blank(copied(image, target), missing)
    steps = steps_of(spacing, len(filtered))
    shapes = _gaussian_shapes(sigma, filtered, image.ndim, steps, **kwargs)
    where = filter_axes(filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image))
    work = work_dtype(image.dtype, target_dtype(target), np.ones(1))
    squares = squares_of(image)
    nothing = None if missing is None else np.zeros(image.shape, bool)
    silent = None if missing is None else replace(missing, fill=0)
    for along in range(len(filtered)):
        kernel = _derivatives_kernel(shapes, 1, along, steps)
        squares.add(correlated(image, kernel, where, work, silent, nothing))
    result = finished(squares.root(), target)
    if missing is not None and nothing is not None:
        np.copyto(result, missing.fill, where=nothing, casting="unsafe")
    return result


@lru_cache(maxsize=16)
def _laplace_kernel(ndim: int, steps: tuple[float, ...] | None = None) -> Kernel:
    unit = np.array([0, 1, 0])
    second = [SECOND] * ndim if steps is None else [SECOND / np.float64(h) ** 2 for h in steps]
    return kernel_of(
        tuple(
            tuple(second[k] if k == along else unit for k in range(ndim)) for along in range(ndim)
        )
    )


@lru_cache(maxsize=64)
def _derivatives_kernel(
    shapes: tuple[tuple[float, int], ...],
    order: int,
    only: int | None = None,
    steps: tuple[float, ...] | None = None,
) -> Kernel:
    """The sum over all axes (or `only` one) of the Gaussian's derivative along it.

    `shapes` holds (sigma, radius) for each axis, in samples; `steps` the spacing. An axis of no width stays as it is, whatever its
    order, as in SciPy.
    """
    one, steps = np.ones(1), steps or (1.0,) * len(shapes)
    terms = tuple(
        tuple(
            one if radius < 0 else gaussian_taps(sigma, order * (k == along), radius, steps[k])
            for k, (sigma, radius) in enumerate(shapes)
        )
        for along in (range(len(shapes)) if only is None else (only,))
    )
    return kernel_of(terms)


def _gaussian_shapes(
    sigma: Any, axes: tuple[int, ...], ndim: int, steps: tuple[float, ...], **kwargs: Any
) -> tuple[tuple[float, int], ...]:
    """(sigma, radius) in samples for each filtered axis."""
    unknown = sorted(set(kwargs) - {"truncate", "radius"})
    if unknown:
        raise ArgumentTypeError(
            f"unexpected keyword argument {', '.join(f'`{k}`' for k in unknown)}: "
            "only `truncate` and `radius` go to gaussian_filter"
        )
    radius: Any = kwargs.get("radius")
    if isinstance(radius, (Sequence, np.ndarray)) and len(radius) == ndim != len(axes):
        radius = [radius[a] for a in axes]  # SciPy's gaussian_laplace wants one for every axis
    sigmas = per_axis("sigma", sigma, len(axes))
    given = per_axis("radius", radius, len(axes))
    radii = half_lengths(sigmas, kwargs.get("truncate", 4.0), given, steps)
    return tuple((float(s) / h, r) for s, r, h in zip(sigmas, radii, steps, strict=True))
