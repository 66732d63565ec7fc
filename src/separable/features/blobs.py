"""Gradients, blobs and local statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError
from separable.features.feature_calls import over_variables, stacked
from separable.features.feature_documentation import documented
from separable.features.feature_run import FeatureOptions, compute
from separable.features.feature_values import (
    GradientMagnitude,
    LocalMean,
    LocalVariance,
)
from separable.features.ridge_values import BlobResponse
from separable.features.ridges import check_sigmas
from separable.filter_bank import gradient
from separable.request import positive, whole

__all__ = [
    "blob_response",
    "gradient_direction",
    "gradient_magnitude",
    "local_mean",
    "local_variance",
]

Array = NDArray[Any]
METHODS = ("log", "dog", "doh")


@documented
@over_variables
def gradient_magnitude(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute the length of the gradient of an image smoothed with a Gaussian, in one sweep.

    Parameters
    ----------
    %(image)s
    %(sigma)s
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Values of `scipy.ndimage.gaussian_gradient_magnitude`, per unit of the spacing.

    Raises
    ------
    %(raises)s

    See Also
    --------
    separable.gradient : its components, also for Sobel's and other masks.

    Examples
    --------
    >>> y, x = np.mgrid[:17, :17]
    >>> round(float(gradient_magnitude(3.0 * x + 4 * y)[8, 8]), 2)
    5.0
    """
    feature = GradientMagnitude(sigma)
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found


@over_variables
def gradient_direction(image: ArrayLike, sigma: float = 1, **options: Any) -> Array:
    """Compute the direction of steepest ascent of a smoothed image.

    Parameters
    ----------
    image : array_like
        Image or volume.
    sigma : float
        Standard deviation of the Gaussian, in samples or in the unit of `spacing`.
    **options
        Options of `separable.gradient`: axes, spacing, mode, mask ...

    Returns
    -------
    ndarray
        For two axes the angle in radians, -pi .. pi: 0 points to larger indices of the second axis,
        pi / 2 to larger indices of the first. For more axes unit vectors, shape (axes, ...).

    Raises
    ------
    SeparableError
        As `separable.gradient`.

    Examples
    --------
    >>> y, x = np.mgrid[:17, :17]
    >>> round(float(np.degrees(gradient_direction(3.0 * x + 4 * y))[8, 8]), 1)
    53.1
    """
    found = gradient(image, f"gaussian:{positive('sigma', sigma):.17g}", **options)
    return found.direction if len(found.axes) == 2 else found.unit_vectors


@documented
@over_variables
def blob_response(
    image: ArrayLike,
    sigmas: Iterable[float],
    method: str = "log",
    *,
    ratio: float = 1.6,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute the response to bright blobs at several scales, with derivatives normalised by the scale.

    Parameters
    ----------
    %(image)s
    %(sigmas)s
    method : str
        "log": ``-sigma^2`` times the Laplacian of Gaussian; a blob of radius ``sigma sqrt(axes)`` gives
        the largest response. "dog": ``(g_sigma - g_{ratio sigma}) * image / (ratio - 1)``, close to
        "log". "doh": ``sigma^(2 axes)`` times the determinant of the Hessian (of its negative for
        three axes).
    ratio : float
        Ratio of the two scales of "dog"; > 1.
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray, shape (scales, ...)
        Responses: the scale-space that `skimage.feature.blob_log` and `blob_dog` search for maxima.

    Raises
    ------
    %(raises)s

    References
    ----------
    Lindeberg, 1998, doi:10.1023/A:1008045108935.

    Examples
    --------
    The scale with the largest response tells the size of a blob:

    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> disk = (y**2 + x**2 <= 6**2) * 1.0
    >>> sigmas = [2.0, 3.0, 4.25, 6.0]
    >>> sigmas[int(blob_response(disk, sigmas)[:, 20, 20].argmax())]
    4.25
    """
    if method not in METHODS:
        raise ArgumentError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}")
    if positive("ratio", ratio) <= 1:
        raise ArgumentError(f"`ratio` must be > 1; got {ratio}")
    if method == "dog":
        ratio = float(ratio)
    common = FeatureOptions.of(mode, cval, options)
    scales = check_sigmas(sigmas)
    found = [compute(BlobResponse(s, method, ratio), image, common)[0] for s in scales]
    result: Array = stacked(found)
    return result


@documented
@over_variables
def local_mean(
    image: ArrayLike,
    size: int | Sequence[int] | None = None,
    *,
    sigma: float | Sequence[float] | None = None,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute the mean of the neighbours of each sample.

    Parameters
    ----------
    %(image)s
    size : int or sequence of int, optional
        Odd number of samples along each axis of a box.
    sigma : float or sequence of float, optional
        Standard deviation of a Gaussian that weights the neighbours, instead of `size`.
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Mean, of the shape of the image.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> local_mean([0.0, 3.0, 6.0, 0.0], 3)
    array([1., 3., 3., 2.])
    """
    feature = LocalMean(*_window(size, sigma))
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found


@documented
@over_variables
def local_variance(
    image: ArrayLike,
    size: int | Sequence[int] | None = None,
    *,
    sigma: float | Sequence[float] | None = None,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute the variance of the neighbours of each sample, ``mean(x^2) - mean(x)^2``.

    Parameters
    ----------
    %(image)s
    size : int or sequence of int, optional
        Odd number of samples along each axis of a box.
    sigma : float or sequence of float, optional
        Standard deviation of a Gaussian that weights the neighbours, instead of `size`.
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Variance, >= 0, of the shape of the image. Means are computed in float64.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> local_variance([0.0, 3.0, 6.0, 0.0], 3)
    array([2., 6., 6., 8.])
    """
    feature = LocalVariance(*_window(size, sigma))
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found


def _window(size: Any, sigma: Any) -> tuple[Any, Any]:
    """Return the size of a box or the sigma of a Gaussian, checked."""
    if (size is None) == (sigma is None):
        raise ArgumentError("give either `size`, the samples of a box, or `sigma` of a Gaussian")
    if sigma is not None:
        values = np.atleast_1d(np.asarray(sigma, dtype=object)).tolist()
        found = tuple(positive("sigma", v) for v in values)
        return None, found[0] if np.ndim(sigma) == 0 else found
    sizes = np.atleast_1d(np.asarray(size, dtype=object)).tolist()
    whole_sizes = tuple(whole("size", n) for n in sizes)
    if any(n < 1 or n % 2 == 0 for n in whole_sizes):
        raise ArgumentError(f"`size` must be odd and >= 1 for every axis; got {size}")
    return whole_sizes[0] if np.ndim(size) == 0 else whole_sizes, None
