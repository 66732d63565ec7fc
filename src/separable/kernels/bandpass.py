"""Kernels that select a frequency band: difference of Gaussians, sharpening, Gabor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.kernels.kernel_arguments import (
    Kernel,
    PerAxis,
    WholePerAxis,
    check_extent,
    check_reach,
    count_axes,
    factors_from_terms,
    in_samples,
)
from separable.kernels.kernel_parameter_docs import documented
from separable.kernels.smoothing_kernels import gaussian1d, gaussians
from separable.request import check_spacing, positive, real, real_per_axis, shown, whole_in_range

__all__ = ["difference_of_gaussians", "gabor", "sharpen"]

CLOSEST_TO_LOG = 1.6  # the ratio of Marr and Hildreth, 1980
ONE_OCTAVE = math.sqrt(math.log(2) / 2) * 3 / math.pi  # sigma over wavelength, 0.56


@documented
def difference_of_gaussians(
    sigma_low: PerAxis,
    sigma_high: PerAxis | None = None,
    *,
    ndim: int | None = None,
    truncate: float = 4.0,
    spacing: PerAxis | None = None,
) -> Factors:
    """Return a narrow Gaussian minus a wide one: a band-pass that finds edges and blobs.

    Parameters
    ----------
    sigma_low : float or sequence of float
        Standard deviation of the narrow Gaussian, for all axes or for each, in pixels or in the
        units of `spacing`; > 0.
    sigma_high : float or sequence of float, optional
        Standard deviation of the wide Gaussian, larger than `sigma_low` on every axis. With the
        default, ``1.6 * sigma_low``, the kernel is closest to a Laplacian of Gaussian (times -1).
    %(ndim)s
    %(truncate)s
    %(spacing)s

    Returns
    -------
    Factors
        Factors of two terms, as long as the wide Gaussian. The kernel sums to 0.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or not a number, or `sigma_high` is not larger than
        `sigma_low`.

    References
    ----------
    Marr and Hildreth, 1980, doi:10.1098/rspb.1980.0020.

    Examples
    --------
    >>> difference_of_gaussians(1, 2).shape
    (17, 17)
    >>> bool(abs(difference_of_gaussians(1, ndim=3).dense().sum()) < 1e-15)
    True
    """
    count = count_axes(ndim, sigma_low=sigma_low, sigma_high=sigma_high, spacing=spacing)
    low = real_per_axis("sigma_low", sigma_low, count)
    if sigma_high is None:
        high = tuple(CLOSEST_TO_LOG * s for s in low)
    else:
        high = real_per_axis("sigma_high", sigma_high, count)
    if not all(h > s for s, h in zip(low, high, strict=True)):
        raise ArgumentError(
            f"`sigma_high` must be > `sigma_low` for every axis; "
            f"got {shown(sigma_high)} and {shown(sigma_low)}"
        )
    wide = gaussians(high, 0, count, truncate, None, spacing)
    narrow = gaussians(low, 0, count, truncate, None, spacing)
    padded = [np.pad(n, (len(w) - len(n)) // 2) for n, w in zip(narrow, wide, strict=True)]
    return factors_from_terms([padded, [-wide[0], *wide[1:]]])


@documented
def sharpen(
    sigma: PerAxis = 1.0,
    amount: float = 1.0,
    *,
    ndim: int | None = None,
    truncate: float = 4.0,
    radius: WholePerAxis | None = None,
    spacing: PerAxis | None = None,
) -> Factors:
    """Return an unsharp mask: ``(1 + amount) * unit - amount * gaussian``.

    It adds `amount` times the detail that a Gaussian removes from the image.

    Parameters
    ----------
    sigma : float or sequence of float, default 1.0
        Standard deviation of the Gaussian, in pixels or in the units of `spacing`: the scale of
        the amplified detail.
    amount : float, default 1.0
        Factor of the added detail; > 0. The default doubles it.
    %(ndim)s
    %(truncate)s
    %(radius)s
    %(spacing)s

    Returns
    -------
    Factors
        Factors of two terms. The kernel sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or not a number.

    Examples
    --------
    >>> sharpen(1, radius=1).dense().round(2)
    array([[-0.08, -0.12, -0.08],
           [-0.12,  1.8 , -0.12],
           [-0.08, -0.12, -0.08]])
    >>> sharpen(2, amount=0.5, ndim=3).rank
    2
    """
    strength = positive("amount", amount)
    smooth = gaussians(sigma, 0, ndim, truncate, radius, spacing)
    units = [np.eye(1, len(g), len(g) // 2)[0] for g in smooth]
    return factors_from_terms(
        [
            [(1.0 + strength) * units[0], *units[1:]],
            [-strength * smooth[0], *smooth[1:]],
        ]
    )


@documented
def gabor(
    wavelength: float,
    theta: float = 0.0,
    *,
    sigma: float | None = None,
    gamma: float = 1.0,
    phase: float = 0.0,
    truncate: float = 4.0,
    radius: int | None = None,
    spacing: PerAxis | None = None,
) -> Kernel:
    """Return a real Gabor kernel: a plane wave under a Gaussian.

    ::

        g(y, x) = exp(-(u**2 + gamma**2 v**2) / (2 sigma**2)) cos(2 pi u / wavelength + phase)
        u = x cos(theta) + y sin(theta),   v = y cos(theta) - x sin(theta)

    with the Gaussian scaled to sum to 1. With a round Gaussian the kernel has rank 2 at any angle,
    because ``cos(a + b) = cos(a) cos(b) - sin(a) sin(b)``. Written for correlation: with
    ``phase=-pi/2`` it is a sine, positive where `u` is small and positive.

    Parameters
    ----------
    wavelength : float
        Length of a period, in pixels or in the units of `spacing`; > 0. It is the inverse of the
        frequency.
    theta : float, default 0.0
        Direction of the wave, in radians, from the x axis towards the y axis. The
        default responds to vertical lines.
    sigma : float, optional
        Standard deviation of the Gaussian along the wave, in the same units. The default, ``0.56 *
        wavelength``, gives a bandwidth of one octave.
    gamma : float, default 1.0
        Aspect ratio; > 0. The Gaussian is ``sigma / gamma`` wide along the crests. The default is
        round.
    phase : float, default 0.0
        Phase of the wave at the centre, in radians: 0 is even, ``-pi/2`` odd.
    %(truncate)s
    radius : int, optional
        Half the length of both axes without the centre, in pixels whatever the spacing. It replaces
        `truncate`.
    spacing : float or sequence of 2 floats, optional
        Distance between the centres of neighbouring samples, ``(y, x)`` or both; > 0. Angles are
        measured in the plane, not in the pixel grid.

    Returns
    -------
    Factors or ndarray of float64
        One term if the wave runs along an axis, two terms for a round Gaussian at any other angle.
        With ``gamma != 1`` at any other angle the kernel does not separate and is an array.

    Raises
    ------
    %(raises)s

    References
    ----------
    Daugman, 1985, doi:10.1364/JOSAA.2.001160; the bandwidth: Petkov and Kruizinga, 1997,
    doi:10.1007/s004220050440.

    Examples
    --------
    >>> gabor(8, theta=0.5).rank
    2
    >>> gabor(8, theta=0.5, gamma=0.5).shape
    (67, 47)
    """
    period = positive("wavelength", wavelength)
    angle = real("theta", theta)
    along = ONE_OCTAVE * period if sigma is None else positive("sigma", sigma)
    across = along / positive("gamma", gamma)
    shift = real("phase", phase)
    dy, dx = check_spacing(spacing, 2)
    ky, kx = 2 * math.pi / period * math.sin(angle), 2 * math.pi / period * math.cos(angle)
    ry, rx = _gabor_radii(angle, along, across, truncate, radius, (dy, dx))
    y, x = dy * np.arange(-ry, ry + 1.0), dx * np.arange(-rx, rx + 1.0)
    if abs(math.sin(angle)) < 1e-12:
        bell_y = gaussian1d(across, radius=ry, spacing=dy)
        return factors_from_terms([[bell_y, _wave(kx * x + shift, along, rx, dx)]])
    if abs(math.cos(angle)) < 1e-12:
        bell_x = gaussian1d(across, radius=rx, spacing=dx)
        return factors_from_terms([[_wave(ky * y + shift, along, ry, dy), bell_x]])
    if along == across:
        quarter = math.pi / 2
        return factors_from_terms(
            [
                [_wave(ky * y + shift, along, ry, dy), _wave(kx * x, along, rx, dx)],
                [
                    _wave(ky * y + shift + quarter, along, ry, dy),
                    _wave(kx * x - quarter, along, rx, dx),
                ],
            ]
        )
    u = x * math.cos(angle) + y[:, None] * math.sin(angle)
    v = y[:, None] * math.cos(angle) - x * math.sin(angle)
    bell = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    dense: NDArray[np.float64] = bell / bell.sum() * np.cos(ky * y[:, None] + kx * x + shift)
    return dense


def _wave(
    angles: NDArray[np.float64], sigma: float, radius: int, step: float
) -> NDArray[np.float64]:
    """Return a cosine times a Gaussian that sums to 1; a phase of pi/2 gives ``cos(a + pi/2) = -sin(a)``."""
    return gaussian1d(sigma, radius=radius, spacing=step) * np.cos(angles)


def _gabor_radii(
    theta: float,
    along: float,
    across: float,
    truncate: object,
    radius: object,
    steps: tuple[float, float],
) -> tuple[int, int]:
    """Return half the lengths (y, x) of the box around the ellipse of `truncate` standard deviations."""
    if radius is not None:
        half = whole_in_range("radius", radius, 0)
        check_extent("radius", radius, 2 * half + 1, 2 * half + 1)
        return half, half
    reach = positive("truncate", truncate)
    y = reach * math.hypot(along * math.sin(theta), across * math.cos(theta))
    x = reach * math.hypot(along * math.cos(theta), across * math.sin(theta))
    y, x = in_samples((y, x), steps)
    check_reach(along, truncate, 2 * y + 1, 2 * x + 1)
    return int(y + 0.5), int(x + 0.5)
