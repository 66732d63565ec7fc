"""Laplacians and gradient magnitudes: sums over the axes, rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.engine import work_dtype
from separable.errors import ArgumentTypeError
from separable.masked import MissingOptions
from separable.ndimage.apply import (
    Kernel,
    correlation,
    finished,
    kernel_of,
    magnitude_of,
    unfiltered,
)
from separable.ndimage.missing_input import FilterInput
from separable.ndimage.parameter_docs import documented
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    check_axes,
    check_cval,
    check_filter_axes,
    is_lazy,
    per_axis,
    steps_of,
    target_dtype,
)
from separable.ndimage.smoothing_filters import gaussian_radii, gaussian_taps
from separable.ndimage.sums_of_squares import squares_of
from separable.repeated_calls import Filter, PlannedCall, repeated

__all__ = ["gaussian_gradient_magnitude", "gaussian_laplace", "laplace"]

SECOND = np.array([1, -2, 1])


@documented
@repeated
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
) -> Array | PlannedCall:
    """Add up the second differences ``[1, -2, 1]`` along the axes, one pass per axis.

    Parameters
    ----------
    %(input)s
    %(output)s
    %(mode)s
    %(cval)s
    %(axes)s
    %(spacing)s
    %(missing)s

    Returns
    -------
    ndarray
        An array of the image's shape. Integers are rounded and saturated once, after the sum.

    Raises
    ------
    %(raises)s

    Notes
    -----
    The derivative along each axis is a filter of its own. Where samples are missing the local mean
    of the valid ones replaces them, and the result is `fill` where one of the filters has no valid
    sample below it.

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
    source = FilterInput.of(input, output)
    image, target = source.image, source.target
    filtered = check_axes(axes, image.ndim)
    missing = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    if not filtered:
        return unfiltered(image, target, missing)
    filter_axes = check_filter_axes(
        filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image)
    )
    steps = None if spacing is None else steps_of(spacing, len(filtered))
    return correlation(image, _laplace_kernel(len(filtered), steps), filter_axes, target, missing)


@documented
@repeated
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
) -> Array | PlannedCall:
    """Add up the second derivatives of a Gaussian along the axes (Laplacian of Gaussian).

    %(gaussian_derivatives)s

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
    source = FilterInput.of(input, output)
    image, target = source.image, source.target
    filtered = check_axes(axes, image.ndim)
    missing = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    if not filtered:
        return unfiltered(image, target, missing)
    steps = steps_of(spacing, len(filtered))
    shapes = _gaussian_shapes(sigma, filtered, image.ndim, steps, **kwargs)
    filter_axes = check_filter_axes(
        filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image)
    )
    return correlation(
        image, _derivatives_kernel(shapes, 2, None, steps), filter_axes, target, missing
    )


@documented
@repeated
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
) -> Array | PlannedCall:
    """Compute the magnitude of the gradient of an image smoothed with a Gaussian.

    %(gaussian_derivatives)s

    Examples
    --------
    >>> ramp = np.arange(20.0) * 3 + np.zeros((20, 1))
    >>> float(gaussian_gradient_magnitude(ramp, sigma=1)[10, 10].round(2))
    3.0
    >>> int(gaussian_gradient_magnitude(ramp.astype(np.uint8), sigma=1)[10, 10])
    3
    """
    source = FilterInput.of(input, output)
    image, target = source.image, source.target
    filtered = check_axes(axes, image.ndim)
    missing = source.missing(filtered, MissingOptions(mask, nan, fill), cval)
    if not filtered:
        return unfiltered(image, target, missing)
    steps = steps_of(spacing, len(filtered))
    shapes = _gaussian_shapes(sigma, filtered, image.ndim, steps, **kwargs)
    filter_axes = check_filter_axes(
        filtered, per_axis("mode", mode, len(filtered)), check_cval(cval, image)
    )
    work = work_dtype(image.dtype, target_dtype(target), np.ones(1))
    kernels = [_derivatives_kernel(shapes, 1, along, steps) for along in range(len(filtered))]
    if missing is None and not is_lazy(image):
        calls = [correlation(image, kernel, filter_axes, work) for kernel in kernels]
        filters = [call.filter for call in calls if isinstance(call, PlannedCall)]
        if len(filters) == len(calls):
            out = target if isinstance(target, np.ndarray) else None
            return PlannedCall(partial(_magnitude, filters, target_dtype(target)), image, out)
    return magnitude_of(image, kernels, filter_axes, target, missing)


def _magnitude(
    filters: Sequence[Filter], dtype: np.dtype[Any], image: Array, out: Array | None = None
) -> Array:
    """Return the root of the sum of the squares of the results of several filters."""
    squares = squares_of(image)
    for along in filters:
        squares.add(along(image, None))
    return finished(squares.root(), dtype if out is None else out)


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
    """Return the sum over all axes (or `only` one) of the Gaussian's derivative along it.

    `shapes` holds (sigma, radius) for each axis, in samples; `steps` is the spacing. As in SciPy, an
    axis without width is not filtered, whatever the order.
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
    """Return (sigma, radius) in samples for each filtered axis."""
    unknown = sorted(set(kwargs) - {"truncate", "radius"})
    if unknown:
        raise ArgumentTypeError(
            f"unexpected keyword argument {', '.join(f'`{k}`' for k in unknown)}: "
            "only `truncate` and `radius` go to gaussian_filter"
        )
    radius: Any = kwargs.get("radius")
    if isinstance(radius, (Sequence, np.ndarray)) and len(radius) == ndim != len(axes):
        radius = [radius[a] for a in axes]  # SciPy's gaussian_laplace takes one per image axis
    sigmas = per_axis("sigma", sigma, len(axes))
    given = per_axis("radius", radius, len(axes))
    radii = gaussian_radii(sigmas, kwargs.get("truncate", 4.0), given, steps)
    return tuple((float(s) / h, r) for s, r, h in zip(sigmas, radii, steps, strict=True))
