"""Kernels that differentiate: Sobel, Prewitt, Scharr, Laplace, Laplacian of Gaussian."""

from __future__ import annotations

import numpy as np

from separable.factors import Factors
from separable.kernels.arguments import PerAxis, WholePerAxis, born, check_axis, check_ndim
from separable.kernels.smoothing import gaussians

__all__ = ["laplace", "laplacian_of_gaussian", "prewitt", "scharr", "sobel"]

CENTRAL = (-1, 0, 1)  # rises to the right: for correlation
SECOND = (1, -2, 1)


def sobel(axis: int = -1, *, ndim: int = 2) -> Factors:
    """Return the Sobel mask: ``[-1, 0, 1]`` along an axis, ``[1, 2, 1]`` along all others.

    Written for correlation: positive to the right (down, for ``axis=0``), so that correlating with
    it equals ``scipy.ndimage.sobel``.

    Parameters
    ----------
    axis : int, default -1
        The axis differentiated; the default gives the horizontal derivative.
    ndim : int, default 2
        2, 3 or 4 axes.

    Returns
    -------
    Factors
        Whole numbers, 3 taps an axis, rank 1. The response to a slope of 1 per pixel is 8 in two
        dimensions, ``2 * 4 ** (ndim - 1)`` in general.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `axis` or `ndim` is out of its range or no whole number.

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
    """
    return _gradient((1, 2, 1), axis, ndim)


def prewitt(axis: int = -1, *, ndim: int = 2) -> Factors:
    """Return the Prewitt mask: ``[-1, 0, 1]`` along an axis, ``[1, 1, 1]`` along all others.

    Written for correlation: positive to the right (down, for ``axis=0``), so that correlating with
    it equals ``scipy.ndimage.prewitt``.

    Parameters
    ----------
    axis : int, default -1
        The axis differentiated; the default gives the horizontal derivative.
    ndim : int, default 2
        2, 3 or 4 axes.

    Returns
    -------
    Factors
        Whole numbers, 3 taps an axis, rank 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `axis` or `ndim` is out of its range or no whole number.

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
    return _gradient((1, 1, 1), axis, ndim)


def scharr(axis: int = -1, *, ndim: int = 2) -> Factors:
    """Return the Scharr mask: ``[-1, 0, 1]`` along an axis, ``[3, 10, 3]`` along all others.

    Its directions are the truest of all 3x3 masks. Written for correlation: positive to the right
    (down, for ``axis=0``).

    Parameters
    ----------
    axis : int, default -1
        The axis differentiated; the default gives the horizontal derivative.
    ndim : int, default 2
        2, 3 or 4 axes.

    Returns
    -------
    Factors
        Whole numbers, 3 taps an axis, rank 1. The response to a slope of 1 per pixel is 32 in two
        dimensions.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `axis` or `ndim` is out of its range or no whole number.

    References
    ----------
    Scharr, 2000, doi:10.11588/heidok.00000962.

    Examples
    --------
    >>> scharr()
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  3 10 3
      x  -1 0 1
    """
    return _gradient((3, 10, 3), axis, ndim)


def _gradient(smoothing: tuple[int, int, int], axis: int, ndim: int) -> Factors:
    count = check_ndim(ndim)
    along = check_axis(axis, count)
    return born([[np.array(CENTRAL if k == along else smoothing) for k in range(count)]])


def laplace(*, ndim: int = 2) -> Factors:
    """Return the sum of second differences ``[1, -2, 1]`` along every axis.

    Correlating with it equals ``scipy.ndimage.laplace``; it is even, so convolving does too.

    Parameters
    ----------
    ndim : int, default 2
        2, 3 or 4 axes.

    Returns
    -------
    Factors
        Whole numbers, 3 taps an axis, one term an axis: rank 2 in two dimensions.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `ndim` is out of its range or no whole number.

    Examples
    --------
    >>> laplace().dense()
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    >>> laplace(ndim=3).rank
    3
    """
    count = check_ndim(ndim)
    unit, second = np.array((0, 1, 0)), np.array(SECOND)
    return born([[second if k == along else unit for k in range(count)] for along in range(count)])


def laplacian_of_gaussian(
    sigma: PerAxis,
    *,
    ndim: int | None = None,
    truncate: float = 4.0,
    radius: WholePerAxis | None = None,
) -> Factors:
    """Return the Laplacian of a Gaussian: the sum of its second derivatives.

    Correlating with it equals ``scipy.ndimage.gaussian_laplace``; it is even, so convolving does
    too. Like there it sums to nearly, not exactly, zero.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation in pixels, for all axes or for each; > 0. Blobs of radius
        ``sigma * sqrt(ndim)`` give the strongest response.
    ndim, truncate, radius
        As for `gaussian`.

    Returns
    -------
    Factors
        One term an axis: rank 2 in two dimensions. ``2 * K * ndim`` multiplications per output
        when passes are shared, instead of ``K ** ndim``.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        As for `gaussian`.

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
    smooth = gaussians(sigma, 0, ndim, truncate, radius)
    count = len(smooth)
    second = gaussians(sigma, 2, count, truncate, radius)
    return born(
        [[second[k] if k == along else smooth[k] for k in range(count)] for along in range(count)]
    )
