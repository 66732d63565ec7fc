"""Kernels that smooth: Gaussian (and its derivatives), box, binomial."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.kernels.arguments import (
    PerAxis,
    WholePerAxis,
    born,
    check_extent,
    count_axes,
    per_axis,
    positive,
    real_per_axis,
    shown,
    whole_from,
    whole_per_axis,
)

__all__ = ["binomial", "binomial1d", "box", "box1d", "gaussian", "gaussian1d", "gaussians"]

HIGHEST_ORDER = 4  # beyond it the truncation at 4 sigma, not the derivative, is what one sees


def gaussian(
    sigma: PerAxis,
    *,
    order: WholePerAxis = 0,
    ndim: int | None = None,
    truncate: float = 4.0,
    radius: WholePerAxis | None = None,
) -> Factors:
    """Return a sampled Gaussian, or a derivative of it, of rank 1 in any dimension.

    A derivative is written for correlation: order 1 is negative on the left, positive on the right,
    and correlating with it equals ``scipy.ndimage.gaussian_filter(order=1)``.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation in pixels, for all axes or for each; > 0.
    order : int or sequence of int, default 0
        The derivative, for all axes or for each: 0 smooths, 1 .. 4 differentiate.
    ndim : int, optional
        2, 3 or 4 axes; default: as many as a sequence has, else 2.
    truncate : float, default 4.0
        Cut off at this many standard deviations: SciPy's default, which leaves out 6e-5 of the
        weight.
    radius : int or sequence of int, optional
        Half the length without the centre, in pixels; instead of `truncate`.

    Returns
    -------
    Factors
        ``2 * radius + 1`` taps an axis, ``yx -> y,x`` for two axes; for order 0 each sums to 1.
        ``K * ndim`` multiplications per output instead of ``K ** ndim``.

    Raises
    ------
    ArgumentError
        If a value is out of its range, or sequences differ in length.
    ArgumentTypeError
        If a value is no number.

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

    Smooth a volume with slices three times as far apart as their pixels:

    >>> gaussian((1, 3, 3)).shape
    (9, 25, 25)
    """
    return born([gaussians(sigma, order, ndim, truncate, radius)])


def gaussian1d(
    sigma: float, *, order: int = 0, truncate: float = 4.0, radius: int | None = None
) -> NDArray[np.float64]:
    """Return a sampled Gaussian, or a derivative of it, on one axis.

    A derivative is written for correlation: order 1 is negative on the left, positive on the right,
    and correlating with it equals ``scipy.ndimage.gaussian_filter1d(order=1)``.

    Parameters
    ----------
    sigma, order, truncate, radius
        As for `gaussian`, one value each.

    Returns
    -------
    ndarray of float64, shape (2 * radius + 1,)

    Raises
    ------
    ArgumentError, ArgumentTypeError
        As for `gaussian`.

    Examples
    --------
    >>> gaussian1d(1, radius=1).round(4)
    array([0.2741, 0.4519, 0.2741])
    >>> gaussian1d(1, order=1, radius=1).round(4)
    array([-0.2741,  0.    ,  0.2741])
    """
    width = positive("sigma", sigma)
    derivative = whole_from("order", order, 0, HIGHEST_ORDER)
    half = None if radius is None else whole_from("radius", radius, 0)
    return _sample(width, derivative, _half_length(width, truncate, half))


def gaussians(
    sigma: PerAxis,
    order: WholePerAxis,
    ndim: int | None,
    truncate: float,
    radius: WholePerAxis | None,
) -> list[NDArray[np.float64]]:
    """Return one sampled Gaussian an axis, the arguments being those of `gaussian`."""
    count = count_axes(ndim, sigma=sigma, order=order, radius=radius)
    widths = real_per_axis("sigma", sigma, count)
    orders = whole_per_axis("order", order, count, 0, HIGHEST_ORDER)
    radii = per_axis(None, count) if radius is None else whole_per_axis("radius", radius, count, 0)
    halves = [_half_length(s, truncate, r) for s, r in zip(widths, radii, strict=True)]
    return [_sample(s, d, h) for s, d, h in zip(widths, orders, halves, strict=True)]


def _half_length(sigma: float, truncate: object, radius: int | None) -> int:
    """Taps on one side of the centre: SciPy's rounding of ``truncate * sigma``."""
    if radius is not None:
        check_extent("radius", radius, 2 * radius + 1)
        return radius
    reach = positive("truncate", truncate) * sigma
    check_extent("sigma", sigma, 2 * reach + 1)
    return int(reach + 0.5)


def _sample(sigma: float, order: int, radius: int) -> NDArray[np.float64]:
    """Sample the derivative: a polynomial times the Gaussian that sums to 1.

    The polynomial of order n + 1 is ``q' - q x / sigma**2``; as a matrix on its coefficients that
    is the operation SciPy does, step by step, so that the values agree to the last bit or two.
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
    if not np.isfinite(values).all():
        raise ArgumentError(
            f"`sigma` is too small for float64 at order {order}; got {shown(sigma)}"
        )
    return np.asarray(values[::-1])


def box(size: WholePerAxis, *, ndim: int | None = None) -> Factors:
    """Return the mean over a box, of rank 1 in any dimension.

    Parameters
    ----------
    size : int or sequence of int
        Taps, for all axes or for each; >= 1.
    ndim : int, optional
        2, 3 or 4 axes; default: as many as `size` has, else 2.

    Returns
    -------
    Factors
        ``size`` taps an axis, each ``1 / size``: the kernel sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a size is no whole number >= 1, or `ndim` is out of its range.

    Examples
    --------
    >>> box(4)
    Factors 'yx -> y,x' of a kernel 4x4: rank 1, exact
      y  0.25 0.25 0.25 0.25
      x  0.25 0.25 0.25 0.25
    >>> box((1, 5, 5)).dense().sum().round(12)
    np.float64(1.0)
    """
    return born([[box1d(n) for n in _lengths(size, ndim)]])


def box1d(size: int) -> NDArray[np.float64]:
    """Return the mean over `size` taps on one axis.

    Parameters
    ----------
    size : int
        >= 1.

    Returns
    -------
    ndarray of float64, shape (size,)

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `size` is no whole number >= 1.

    Examples
    --------
    >>> box1d(4)
    array([0.25, 0.25, 0.25, 0.25])
    """
    length = _length(size)
    return np.full(length, 1.0 / length)


def binomial(size: WholePerAxis, *, ndim: int | None = None) -> Factors:
    """Return a binomial kernel, the whole-number cousin of the Gaussian, of rank 1.

    Its taps are a row of Pascal's triangle over its sum: ``[1, 2, 1] / 4``. Its variance is
    ``(size - 1) / 4`` pixels squared on each axis.

    Parameters
    ----------
    size : int or sequence of int
        Taps, for all axes or for each; >= 1, odd or even.
    ndim : int, optional
        2, 3 or 4 axes; default: as many as `size` has, else 2.

    Returns
    -------
    Factors
        ``size`` taps an axis; the kernel sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a size is no whole number >= 1, or `ndim` is out of its range.

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
    return born([[binomial1d(n) for n in _lengths(size, ndim)]])


def binomial1d(size: int) -> NDArray[np.float64]:
    """Return a row of Pascal's triangle over its sum.

    Parameters
    ----------
    size : int
        >= 1.

    Returns
    -------
    ndarray of float64, shape (size,)

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `size` is no whole number >= 1.

    Examples
    --------
    >>> binomial1d(5) * 16
    array([1., 4., 6., 4., 1.])
    """
    n = _length(size) - 1
    # Recurrence from the centre tap would be faster, but rounds; whole numbers divide exactly.
    row, value = [], 1
    for k in range(n + 1):
        row.append(value / 2**n)
        value = value * (n - k) // (k + 1)
    return np.array(row)


def _length(size: object) -> int:
    length = whole_from("size", size, 1)
    check_extent("size", size, length)
    return length


def _lengths(size: WholePerAxis, ndim: int | None) -> tuple[int, ...]:
    return whole_per_axis("size", size, count_axes(ndim, size=size), 1)
