"""Smoothing kernels: Gaussian (and its derivatives), box, binomial."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.kernels.kernel_arguments import (
    PerAxis,
    WholePerAxis,
    check_extent,
    check_reach,
    count_axes,
    factors_from_terms,
    in_samples,
    whole_samples,
)
from separable.kernels.kernel_parameter_docs import documented
from separable.request import (
    check_spacing,
    per_axis,
    positive,
    real_per_axis,
    shown,
    whole_in_range,
    whole_per_axis,
)

__all__ = [
    "binomial",
    "binomial1d",
    "box",
    "box1d",
    "gaussian",
    "gaussian1d",
    "gaussians",
    "sigma_of",
]

MOST_BINOMIAL = 1 << 16  # its integers have as many bits; more take minutes
FWHM = math.sqrt(8 * math.log(2))  # full width at half maximum of a Gaussian of sigma 1
HIGHEST_ORDER = 4  # in higher derivatives the truncation at 4 sigma dominates


@documented
def gaussian(
    sigma: PerAxis | None = None,
    *,
    order: WholePerAxis = 0,
    ndim: int | None = None,
    truncate: float = 4.0,
    radius: WholePerAxis | None = None,
    spacing: PerAxis | None = None,
    fwhm: PerAxis | None = None,
) -> Factors:
    """Return a sampled Gaussian, or a derivative of it, of rank 1 in any dimension.

    A derivative is written for correlation: order 1 is negative on the left, positive on the right,
    and correlating with it equals ``scipy.ndimage.gaussian_filter(order=1)``.

    Parameters
    ----------
    %(sigma)s
    %(order)s
    %(ndim)s
    %(truncate)s
    %(radius)s
    %(spacing_of_derivatives)s
    %(fwhm)s

    Returns
    -------
    Factors
        Factors of one term with ``2 * radius + 1`` taps per axis, ``yx -> y,x`` for two axes. For
        order 0 each sums to 1. A filter takes ``K * ndim`` multiplications per output instead of
        ``K ** ndim``.

    Raises
    ------
    %(raises)s

    See Also
    --------
    gaussian1d : one axis alone.

    References
    ----------
    Koenderink and van Doorn, 1987, doi:10.1007/BF00318371 (derivatives of Gaussians as filters).

    Examples
    --------
    >>> gaussian(1, radius=1)
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  0.2741 0.4519 0.2741
      x  0.2741 0.4519 0.2741

    Smooth a volume by 3 mm, its slices 3 mm apart and its pixels 1 mm:

    >>> gaussian(3, spacing=(3, 1, 1)).shape
    (9, 25, 25)

    Smooth by a full width at half maximum of 6 mm, as neuroimaging programs do:

    >>> gaussian(fwhm=6, spacing=(2, 2, 2)).shape
    (11, 11, 11)
    """
    sigma = sigma_of(sigma, fwhm)
    return factors_from_terms([gaussians(sigma, order, ndim, truncate, radius, spacing)])


@documented
def gaussian1d(
    sigma: float | None = None,
    *,
    order: int = 0,
    truncate: float = 4.0,
    radius: int | None = None,
    spacing: float | None = None,
    fwhm: float | None = None,
) -> NDArray[np.float64]:
    """Return a sampled Gaussian, or a derivative of it, on one axis.

    A derivative is written for correlation: order 1 is negative on the left, positive on the right,
    and correlating with it equals ``scipy.ndimage.gaussian_filter1d(order=1)``.

    Parameters
    ----------
    %(sigma_1d)s
    %(order_1d)s
    %(truncate)s
    %(radius_1d)s
    %(spacing_1d_of_derivatives)s
    %(fwhm_1d)s

    Returns
    -------
    ndarray of float64, shape (2 * radius + 1,)

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> gaussian1d(1, radius=1).round(4)
    array([0.2741, 0.4519, 0.2741])
    >>> gaussian1d(1, order=1, radius=1).round(4)
    array([-0.2741,  0.    ,  0.2741])
    """
    step = check_spacing(spacing, 1)[0]
    width = positive("sigma", sigma_of(sigma, fwhm)) / step
    derivative = whole_in_range("order", order, 0, HIGHEST_ORDER)
    half = None if radius is None else whole_in_range("radius", radius, 0)
    return _sample(width, derivative, _half_length(width, truncate, half), step)


def sigma_of(sigma: Any, fwhm: Any) -> Any:
    """Return sigma, or the sigma of a full width at half maximum: ``fwhm / (2 sqrt(2 ln 2))``.

    Raises
    ------
    ArgumentError
        If none of them is given, or both.

    Examples
    --------
    >>> round(sigma_of(None, 2.3548200450309493), 12)
    1.0
    """
    if (sigma is None) == (fwhm is None):
        got = "neither" if sigma is None else "both"
        raise ArgumentError(f"give either `sigma` or `fwhm`, the width of a Gaussian; got {got}")
    if fwhm is None:
        return sigma
    if isinstance(fwhm, (tuple, list, np.ndarray)):
        return tuple(positive("fwhm", w) / FWHM for w in fwhm)
    return positive("fwhm", fwhm) / FWHM


def gaussians(
    sigma: PerAxis,
    order: WholePerAxis,
    ndim: int | None,
    truncate: float,
    radius: WholePerAxis | None,
    spacing: PerAxis | None = None,
) -> list[NDArray[np.float64]]:
    """Return one sampled Gaussian per axis; the arguments are those of `gaussian`."""
    count = count_axes(ndim, sigma=sigma, order=order, radius=radius, spacing=spacing)
    steps = check_spacing(spacing, count)
    widths = in_samples(real_per_axis("sigma", sigma, count), steps)
    orders = whole_per_axis("order", order, count, 0, HIGHEST_ORDER)
    radii = (None,) * count if radius is None else whole_per_axis("radius", radius, count, 0)
    halves = [_half_length(s, truncate, r) for s, r in zip(widths, radii, strict=True)]
    return [_sample(*axis) for axis in zip(widths, orders, halves, steps, strict=True)]


def _half_length(sigma: float, truncate: object, radius: int | None) -> int:
    """Return the number of taps on one side of the centre, rounded from ``truncate * sigma`` as in SciPy."""
    if radius is not None:
        check_extent("radius", radius, 2 * radius + 1)
        return radius
    reach = positive("truncate", truncate) * sigma
    check_reach(sigma, truncate, 2 * reach + 1)
    return int(reach + 0.5)


def _sample(sigma: float, order: int, radius: int, step: float) -> NDArray[np.float64]:
    """Sample the derivative per unit of length: a polynomial times the Gaussian that sums to 1.

    The polynomial of order n + 1 is ``q' - q x / sigma**2``. As a matrix on its coefficients this is
    the operation that SciPy does step by step, so the values agree to the last bit or two.
    """
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    variance = np.float64(sigma * sigma)
    with np.errstate(all="ignore"):
        bell = np.exp(-0.5 / variance * x**2)
        bell /= bell.sum()
        differentiate = np.diag(np.arange(1.0, order + 1), 1)
        times_slope = np.diag(np.ones(order) / -variance, -1)
        q = np.eye(order + 1)[0]
        for _ in range(order):
            q = (differentiate + times_slope).dot(q)
        values = (x[:, None] ** np.arange(order + 1)).dot(q) * bell if order else bell
        values /= np.float64(step) ** order
    if not np.isfinite(values).all():
        raise ArgumentError(
            f"`sigma` is too small for float64 at order {order}; got {shown(sigma)}"
            + (" samples" if step != 1 else "")
        )
    return np.asarray(values[::-1])


@documented
def box(size: PerAxis, *, ndim: int | None = None, spacing: PerAxis | None = None) -> Factors:
    """Return the mean over a box, of rank 1 in any dimension.

    Parameters
    ----------
    size : int or sequence of int
        Number of taps, for all axes or for each; >= 1. With `spacing` it is a length in its units,
        which must be a whole number of samples: a box is not rounded silently.
    %(ndim)s
    %(spacing)s

    Returns
    -------
    Factors
        Factors of one term with `size` taps per axis, each ``1 / size``. The kernel sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a size is not a whole number >= 1, or `ndim` is out of its range.

    Examples
    --------
    >>> box(4)
    Factors 'yx -> y,x' of a kernel 4x4: rank 1, exact
      y  0.25 0.25 0.25 0.25
      x  0.25 0.25 0.25 0.25
    >>> float(box((1, 5, 5)).dense().sum().round(12))
    1.0
    >>> box(9, spacing=(3, 1, 1)).shape
    (3, 9, 9)
    """
    if spacing is None:
        return factors_from_terms([[box1d(n) for n in _lengths(size, ndim)]])  # type: ignore[arg-type]
    count = count_axes(ndim, size=size, spacing=spacing)
    pairs = zip(per_axis("size", size, count), check_spacing(spacing, count), strict=True)
    return factors_from_terms([[box1d(length, spacing=step) for length, step in pairs]])


@documented
def box1d(size: float, *, spacing: float | None = None) -> NDArray[np.float64]:
    """Return the mean over `size` taps on one axis.

    Parameters
    ----------
    size : int
        Number of taps; >= 1. With `spacing` it is a length in its units, which must be a whole
        number of samples.
    %(spacing_1d)s

    Returns
    -------
    ndarray of float64, shape (size,)

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `size` is not a whole number >= 1.

    Examples
    --------
    >>> box1d(4)
    array([0.25, 0.25, 0.25, 0.25])
    """
    length = _length(
        size if spacing is None else whole_samples("size", size, check_spacing(spacing, 1)[0])
    )
    return np.full(length, 1.0 / length)


@documented
def binomial(size: WholePerAxis, *, ndim: int | None = None) -> Factors:
    """Return a binomial kernel, an approximation of a Gaussian by binomial coefficients, of rank 1.

    Its taps are a row of Pascal's triangle divided by its sum: ``[1, 2, 1] / 4``. Its variance is
    ``(size - 1) / 4`` pixels squared on each axis. It has no physical size: for a width in physical
    units use `gaussian`.

    Parameters
    ----------
    size : int or sequence of int
        Number of taps, for all axes or for each; >= 1, odd or even.
    %(ndim)s

    Returns
    -------
    Factors
        Factors of one term with `size` taps per axis. The kernel sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a size is not a whole number >= 1, or `ndim` is out of its range.

    References
    ----------
    Burt and Adelson, 1983, doi:10.1109/TCOM.1983.1095851.

    Examples
    --------
    >>> binomial(3)
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  0.25 0.5 0.25
      x  0.25 0.5 0.25
    >>> (256 * binomial(5).dense()).astype(int)[2]
    array([ 6, 24, 36, 24,  6])
    """
    return factors_from_terms([[binomial1d(n) for n in _lengths(size, ndim)]])


def binomial1d(size: int) -> NDArray[np.float64]:
    """Return a row of Pascal's triangle divided by its sum.

    Parameters
    ----------
    size : int
        Number of taps; >= 1.

    Returns
    -------
    ndarray of float64, shape (size,)

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `size` is not a whole number >= 1.

    Examples
    --------
    >>> binomial1d(5) * 16
    array([1., 4., 6., 4., 1.])
    """
    n = _length(size) - 1
    check_extent("size", size, n + 1, limit=MOST_BINOMIAL)
    # A recurrence from the centre tap would be faster, but rounds; integers divide exactly.
    row, value = [], 1
    for k in range(n + 1):
        row.append(value / 2**n)
        value = value * (n - k) // (k + 1)
    return np.array(row)


def _length(size: object) -> int:
    length = whole_in_range("size", size, 1)
    check_extent("size", size, length)
    return length


def _lengths(size: WholePerAxis, ndim: int | None) -> tuple[int, ...]:
    return whole_per_axis("size", size, count_axes(ndim, size=size), 1)
