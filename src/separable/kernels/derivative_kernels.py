"""Derivative kernels: differences, Sobel, Prewitt, Scharr, Laplace, Laplacian of Gaussian."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.kernels.kernel_arguments import (
    Array,
    PerAxis,
    WholePerAxis,
    count_axes,
    factors_from_terms,
)
from separable.kernels.kernel_parameter_docs import documented
from separable.kernels.smoothing_kernels import gaussians
from separable.request import check_axis, check_spacing, whole

__all__ = [
    "central_difference",
    "laplace",
    "laplacian_of_gaussian",
    "prewitt",
    "scharr",
    "sobel",
]

CENTRAL = (-1, 0, 1)  # rises to the right: for correlation
SECOND = (1, -2, 1)
MOST_SOBEL = 31  # as in OpenCV: the integers of larger ones exceed 32 bits
# Taps beside the centre (slope) and from the centre on (smoothing) of Scharr masks, by size. Those of
# size 3 are Scharr's integers. Those of 5 and 7 minimise the mean square of the error of the direction,
# weighted by cos(kx / 2)**4 cos(ky / 2)**4 over all frequencies, as tests/test_gradients.py derives.
SCHARR: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    3: ((1,), (10, 3)),
    5: ((0.61064173, 0.19467914), (7.16820819, 3.93989177, 0.47600413)),
    7: (
        (0.40111363, 0.24606797, 0.03558348),
        (5.86341392, 3.92156966, 1.07005505, 0.07666834),
    ),
}


@documented
def sobel(
    axis: int = -1, *, size: int = 3, ndim: int | None = None, spacing: PerAxis | None = None
) -> Factors:
    """Return the Sobel mask: ``[-1, 0, 1]`` along an axis, ``[1, 2, 1]`` along all others.

    Written for correlation: positive to the right (down, for ``axis=0``), so that correlating with
    it equals ``scipy.ndimage.sobel``.
    The response to a slope of 1 per pixel is 8 in two dimensions,
    ``2 * 4 ** (ndim - 1)`` in general. Larger masks are those of OpenCV: both vectors are smoothed
    with ``[1, 2, 1]`` until they have `size` taps.

    %(sized_slope)s

    References
    ----------
    Sobel and Feldman, 1968, a talk at the Stanford Artificial Intelligence Project; the masks of
    all dimensions as in `scipy.ndimage`.

    Examples
    --------
    >>> sobel().dense()
    array([[-1,  0,  1],
           [-2,  0,  2],
           [-1,  0,  1]])
    >>> sobel(axis=0, ndim=3)
    Factors 'zyx -> z,y,x' of a kernel 3x3x3: rank 1, exact
      z  -1 0 1
      y  1 2 1
      x  1 2 1
    >>> sobel(size=5)
    Factors 'yx -> y,x' of a kernel 5x5: rank 1, exact
      y  1 4 6 4 1
      x  -1 -2 0 2 1
    """
    if whole("size", size) not in range(3, MOST_SOBEL + 1, 2):
        raise ArgumentError(
            f"`size` must be odd, 3 .. {MOST_SOBEL}, for the Sobel mask; got {size}"
        )
    slope, smoothing = np.array(CENTRAL), np.array((1, 2, 1))
    for _ in range(size // 2 - 1):
        slope, smoothing = (np.convolve(v, (1, 2, 1)) for v in (slope, smoothing))
    return _gradient(slope, smoothing, axis, ndim, spacing)


@documented
def prewitt(axis: int = -1, *, ndim: int | None = None, spacing: PerAxis | None = None) -> Factors:
    """Return the Prewitt mask: ``[-1, 0, 1]`` along an axis, ``[1, 1, 1]`` along all others.

    Written for correlation: positive to the right (down, for ``axis=0``), so that correlating with
    it equals ``scipy.ndimage.prewitt``.

    %(slope)s

    References
    ----------
    Prewitt, 1970, Object enhancement and extraction.

    Examples
    --------
    >>> prewitt(axis=0).dense()
    array([[-1, -1, -1],
           [ 0,  0,  0],
           [ 1,  1,  1]])
    """
    return _gradient(CENTRAL, (1, 1, 1), axis, ndim, spacing)


@documented
def scharr(
    axis: int = -1, *, size: int = 3, ndim: int | None = None, spacing: PerAxis | None = None
) -> Factors:
    """Return the Scharr mask: ``[-1, 0, 1]`` along an axis, ``[3, 10, 3]`` along all others.

    It measures directions more accurately than any other 3x3 mask. Written for correlation: positive to the right
    (down, for ``axis=0``).
    The response to a slope of 1 per pixel is 32 in two dimensions, for every size. Sizes 5 and 7
    minimise the same error of the direction, weighted over all frequencies: 0.6 degrees (Sobel 2.1)
    become 0.04 and 0.004. They are not integers.

    %(sized_slope)s

    References
    ----------
    Scharr, 2000, doi:10.11588/heidok.00000962.

    Examples
    --------
    >>> scharr()
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  3 10 3
      x  -1 0 1
    >>> scharr(size=5).dense()[2].round(2)
    array([-1.4 , -4.38,  0.  ,  4.38,  1.4 ])
    """
    if whole("size", size) not in SCHARR:
        raise ArgumentError(f"`size` must be 3, 5 or 7 for the Scharr mask; got {size}")
    right, half = SCHARR[size]
    slope = np.array([*(-v for v in right[::-1]), 0, *right])
    return _gradient(slope, np.array([*half[:0:-1], *half]), axis, ndim, spacing)


@documented
def central_difference(
    axis: int = -1, *, ndim: int | None = None, spacing: PerAxis | None = None
) -> Factors:
    """Return half the difference of the two neighbours along an axis: the simplest derivative.

    Written for correlation: positive to the right (down, for ``axis=0``), so that correlating with
    it equals `numpy.gradient` away from the borders.

    Parameters
    ----------
    %(axis)s
    %(ndim)s
    %(spacing_of_derivatives)s

    Returns
    -------
    Factors
        Factors with 3 taps along `axis` and 1 along all others. The response to a slope of 1 is 1.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> central_difference().dense()
    array([[-0.5,  0. ,  0.5]])
    >>> central_difference(0, spacing=(3, 1, 1)).dense().ravel().round(3)
    array([-0.167,  0.   ,  0.167])
    """
    return _gradient(tuple(v / 2 for v in CENTRAL), (1,), axis, ndim, spacing)


def _gradient(
    slope: ArrayLike,
    smoothing: ArrayLike,
    axis: int,
    ndim: int | None,
    spacing: PerAxis | None,
) -> Factors:
    count = count_axes(ndim, spacing=spacing)
    along = check_axis(whole("axis", axis), count, of=f"ndim={count}")
    taps = _per_length(np.array(slope), spacing, count, along, 1)
    return factors_from_terms([[taps if k == along else np.array(smoothing) for k in range(count)]])


def _per_length(taps: Array, spacing: object, ndim: int, axis: int, order: int) -> Array:
    """Divide taps by a power of the spacing; without a spacing they stay integers."""
    steps = check_spacing(spacing, ndim)
    return taps if spacing is None else taps / np.float64(steps[axis]) ** order


@documented
def laplace(*, ndim: int | None = None, spacing: PerAxis | None = None) -> Factors:
    """Return the sum of second differences ``[1, -2, 1]`` along every axis.

    Correlating with it equals ``scipy.ndimage.laplace``. The kernel is symmetric, so convolving gives
    the same.

    Parameters
    ----------
    %(ndim)s
    %(spacing_of_derivatives)s

    Returns
    -------
    Factors
        Factors with one term per axis and 3 taps per axis, integers without `spacing`: rank 2 in
        two dimensions.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `ndim` or `spacing` is out of its range or not a number.

    Examples
    --------
    >>> laplace().dense()
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    >>> laplace(ndim=3).rank
    3
    """
    count = count_axes(ndim, spacing=spacing)
    unit = np.array((0, 1, 0))
    second = [_per_length(np.array(SECOND), spacing, count, k, 2) for k in range(count)]
    return factors_from_terms(
        [[second[k] if k == along else unit for k in range(count)] for along in range(count)]
    )


@documented
def laplacian_of_gaussian(
    sigma: PerAxis,
    *,
    ndim: int | None = None,
    truncate: float = 4.0,
    radius: WholePerAxis | None = None,
    spacing: PerAxis | None = None,
) -> Factors:
    """Return the Laplacian of a Gaussian: the sum of its second derivatives.

    Correlating with it equals ``scipy.ndimage.gaussian_laplace``. The kernel is symmetric, so
    convolving gives the same. As in SciPy its sum is nearly, not exactly, zero.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation, for all axes or for each, in pixels or in the units of `spacing`; > 0.
        Blobs of radius ``sigma * sqrt(ndim)`` give the strongest response.
    %(ndim)s
    %(truncate)s
    %(radius)s
    %(spacing_of_derivatives)s

    Returns
    -------
    Factors
        Factors with one term per axis: rank 2 in two dimensions. A filter takes ``2 * K * ndim``
        multiplications per output if passes are shared, instead of ``K ** ndim``.

    Raises
    ------
    %(raises)s

    References
    ----------
    Marr and Hildreth, 1980, doi:10.1098/rspb.1980.0020.

    Examples
    --------
    >>> laplacian_of_gaussian(1, radius=1).dense().round(2)
    array([[ 0.  , -0.12,  0.  ],
           [-0.12, -0.41, -0.12],
           [ 0.  , -0.12,  0.  ]])
    >>> laplacian_of_gaussian(3)
    Factors 'yx -> y,x' of a kernel 25x25: rank 2, exact
      y  shape (2, 25)
      x  shape (2, 25)
    """
    smooth = gaussians(sigma, 0, ndim, truncate, radius, spacing)
    count = len(smooth)
    second = gaussians(sigma, 2, count, truncate, radius, spacing)
    return factors_from_terms(
        [[second[k] if k == along else smooth[k] for k in range(count)] for along in range(count)]
    )
