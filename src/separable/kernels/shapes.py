"""Kernels that are shapes: disk, ball, pillbox, motion. They do not separate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.kernels.kernel_arguments import (
    PerAxis,
    check_extent,
    in_samples,
)
from separable.request import check_spacing, positive, real, shown

__all__ = ["ball", "disk", "motion", "pillbox"]

NEAR = 1e-12  # relative rounding error of a length divided by a spacing
Point = tuple[float, float]  # (y, x)


def disk(radius: float, *, spacing: PerAxis | None = None) -> NDArray[np.int64]:
    """Return a disk of ones: 1 where ``y**2 + x**2 <= radius**2``, else 0.

    It does not separate: radius 5, 10, 20, 40 has rank 4, 7, 13, 25, and an error of 1 % already
    needs all of these terms.

    Parameters
    ----------
    radius : float
        Radius in pixels, or in the units of `spacing`; >= 0.
    spacing : float or sequence of 2 floats, optional
        Distance between the centres of neighbouring samples, ``(y, x)`` or both; > 0. The disk is
        then an ellipse of pixels: 1 where ``(y dy)**2 + (x dx)**2 <= radius**2``.

    Returns
    -------
    ndarray of int64, shape (2 * floor(radius / dy) + 1, 2 * floor(radius / dx) + 1)
        An array of 0 and 1. For a mean divide it by its sum, or use `pillbox`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `radius` is negative, not finite or not a number, or `spacing` is not > 0.

    Examples
    --------
    >>> disk(2)
    array([[0, 0, 1, 0, 0],
           [0, 1, 1, 1, 0],
           [1, 1, 1, 1, 1],
           [0, 1, 1, 1, 0],
           [0, 0, 1, 0, 0]])
    >>> int(disk(15).sum())
    709
    """
    return _round(radius, 2, spacing)


def ball(radius: float, *, spacing: PerAxis | None = None) -> NDArray[np.int64]:
    """Return a ball of ones: 1 where ``z**2 + y**2 + x**2 <= radius**2``, else 0.

    Parameters
    ----------
    radius : float
        Radius in voxels, or in the units of `spacing`; >= 0.
    spacing : float or sequence of 3 floats, optional
        Distance between the centres of neighbouring samples, ``(z, y, x)`` or all; > 0. The ball
        is then an ellipsoid of voxels.

    Returns
    -------
    ndarray of int64, shape (2 * floor(radius / dz) + 1, ... dy, ... dx)
        An array of 0 and 1. For a mean divide it by its sum.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `radius` is negative, not finite or not a number, or `spacing` is not > 0.

    Examples
    --------
    >>> int(ball(1).sum()), ball(1)[0].tolist()
    (7, [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    >>> ball(6, spacing=(3, 1, 1)).shape
    (5, 13, 13)
    """
    return _round(radius, 3, spacing)


def _round(radius: object, ndim: int, spacing: object) -> NDArray[np.int64]:
    reach = real("radius", radius)
    if reach < 0:
        raise ArgumentError(f"`radius` must be >= 0; got {shown(radius)}")
    steps = check_spacing(spacing, ndim)
    reaches = in_samples((reach,) * ndim, steps)
    check_extent("radius", radius, *(2 * r + 1 for r in reaches))
    # A radius of 0.3 reaches three pixels of 0.1, however their quotient is rounded.
    limit = reach * reach if spacing is None else (reach * (1 + NEAR)) ** 2
    total: NDArray[np.float64] = np.zeros(())
    for r, step in zip(reaches, steps, strict=True):
        half = math.floor(r if spacing is None else r * (1 + NEAR))
        total = np.add.outer(total, (step * np.arange(-half, half + 1.0)) ** 2)
    return (total <= limit).astype(np.int64)


def pillbox(radius: float, *, spacing: PerAxis | None = None) -> NDArray[np.float64]:
    """Return the kernel of a lens out of focus: a disk with a smooth edge.

    Each weight is the exact area of the pixel inside the circle, divided by the area of the circle.

    Parameters
    ----------
    radius : float
        Radius of the circle of confusion, in pixels or in the units of `spacing`; > 0.
    spacing : float or sequence of 2 floats, optional
        Distance between the centres of neighbouring samples, ``(y, x)`` or both; > 0.

    Returns
    -------
    ndarray of float64, shape (2 * ceil(radius / dy - 0.5) + 1, ... dx)
        An array that sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `radius` or `spacing` is not > 0, not finite or not a number.

    References
    ----------
    Potmesil and Chakravarty, 1981, doi:10.1145/800224.806818.

    Examples
    --------
    >>> pillbox(1).round(3)
    array([[0.025, 0.145, 0.025],
           [0.145, 0.318, 0.145],
           [0.025, 0.145, 0.025]])
    >>> pillbox(7.5).shape
    (15, 15)
    """
    r = positive("radius", radius)
    steps = check_spacing(spacing, 2)
    reaches = in_samples((r, r), steps)
    check_extent("radius", radius, *(2 * reach + 1 for reach in reaches))
    halves = [max(0, math.ceil(reach - 0.5)) for reach in reaches]
    # Compute one quadrant, from the centre. Its first row and column are half pixels.
    ys, xs = (
        step * np.concatenate([[0.0], np.arange(half + 1) + 0.5])
        for half, step in zip(halves, steps, strict=True)
    )
    quadrant = _area_in_circle(ys, xs, r)
    if steps[0] == steps[1]:
        quadrant = (quadrant + quadrant.T) / 2
    quadrant[0] *= 2
    quadrant[:, 0] *= 2
    y, x = (np.abs(np.arange(-half, half + 1)) for half in halves)
    weights: NDArray[np.float64] = quadrant[y[:, None], x]
    weights /= weights.sum()
    return weights


def _area_in_circle(
    ys: NDArray[np.float64], xs: NDArray[np.float64], r: float
) -> NDArray[np.float64]:
    """Return the areas of the cells of a grid inside a circle about the origin; all edges are >= 0.

    Along x the circle's height falls: at first it is above the cell, which is covered, then the
    arc runs through the cell, then it is below. The integral of the arc has a closed form.
    """
    y0, y1 = ys[:-1, None], ys[1:, None]
    x0, x1 = np.minimum(xs[:-1], r), np.minimum(xs[1:], r)
    covered = np.clip(np.sqrt(np.maximum(r * r - y1 * y1, 0)), x0, x1)
    reached = np.clip(np.sqrt(np.maximum(r * r - y0 * y0, 0)), x0, x1)
    arc = _arc_integral(reached, r) - _arc_integral(covered, r)
    area: NDArray[np.float64] = (covered - x0) * (y1 - y0) + arc - y0 * (reached - covered)
    return np.maximum(area, 0.0)


def _arc_integral(x: NDArray[np.float64], r: float) -> NDArray[np.float64]:
    """Return the integral of ``sqrt(r**2 - x**2)`` from 0."""
    height = np.sqrt(np.maximum(r * r - x * x, 0))
    integral: NDArray[np.float64] = (x * height + r * r * np.arcsin(np.minimum(x / r, 1.0))) / 2
    return integral


def motion(
    length: float, angle: float = 0.0, *, spacing: PerAxis | None = None
) -> NDArray[np.float64]:
    """Return the kernel of a camera that moved straight during the exposure.

    Each weight is the exact area of the pixel inside a line of this length that is one pixel wide,
    divided by the area of the line. Along an axis an odd `length` is a box of as many taps.

    Parameters
    ----------
    length : float
        Length of the path, in pixels or in the units of `spacing`; > 0.
    angle : float, default 0.0
        Direction of the path, in radians, from the x axis towards the y axis (down).
    spacing : float or sequence of 2 floats, optional
        Distance between the centres of neighbouring samples, ``(y, x)`` or both; > 0. The angle is
        measured in the plane. The line stays one pixel wide.

    Returns
    -------
    ndarray of float64, odd shape (y, x)
        An array that sums to 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `length` or `spacing` is not > 0, or a value is not finite or not a number.

    References
    ----------
    Clipping: Sutherland and Hodgman, 1974, doi:10.1145/360767.360802.

    Examples
    --------
    >>> motion(3)
    array([[0.33333333, 0.33333333, 0.33333333]])
    >>> motion(3, angle=np.pi / 4).round(2)
    array([[0.18, 0.08, 0.  ],
           [0.08, 0.3 , 0.08],
           [0.  , 0.08, 0.18]])
    """
    reach = positive("length", length)
    turn = real("angle", angle)
    if spacing is not None:
        dy, dx = check_spacing(spacing, 2)
        path_y, path_x = in_samples((reach * math.sin(turn), reach * math.cos(turn)), (dy, dx))
        reach, turn = math.hypot(path_y, path_x), math.atan2(path_y, path_x)
    # Round directions along an axis exactly, so that a quarter turn does not touch a third row.
    along = np.round([math.sin(turn), math.cos(turn)], 15)  # (y, x)
    extent = reach / 2 * np.abs(along) + np.abs(along[::-1]) / 2
    half_y, half_x = (max(0, math.ceil(f - 0.5 - 1e-9)) for f in extent)
    check_extent("length", length, 2 * extent[0] + 1, 2 * extent[1] + 1)
    path, side = along * (reach / 2), np.array([along[1], -along[0]]) / 2
    line = [path + side, path - side, -path - side, -path + side]
    corners: list[Point] = [(float(c[0]), float(c[1])) for c in line]
    weights = np.zeros((2 * half_y + 1, 2 * half_x + 1))
    for row in range(2 * half_y + 1):
        strip = _between(corners, 0, row - half_y)
        for column in _columns(strip, half_x):
            weights[row, column] = _area(_between(strip, 1, column - half_x))
    weights = weights + weights[::-1, ::-1]
    weights /= weights.sum()
    return weights


def _columns(polygon: list[Point], half: int) -> range:
    """Return the columns that a polygon touches."""
    if not polygon:
        return range(0)
    xs = [x for _, x in polygon]
    low, high = math.floor(min(xs) + 0.5), math.ceil(max(xs) - 0.5)
    return range(max(low + half, 0), min(high + half, 2 * half) + 1)


def _between(polygon: list[Point], axis: int, centre: int) -> list[Point]:
    """Return the part of a polygon within half a pixel of `centre` on one axis."""
    above = _clipped(polygon, axis, centre - 0.5, 1.0)
    return _clipped(above, axis, centre + 0.5, -1.0)


def _clipped(polygon: list[Point], axis: int, limit: float, sign: float) -> list[Point]:
    """Return the part of a convex polygon where ``sign * (coordinate - limit) >= 0``."""
    kept: list[Point] = []
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        inside_a, inside_b = sign * (a[axis] - limit), sign * (b[axis] - limit)
        if inside_a >= 0:
            kept.append(a)
        if inside_a * inside_b < 0:
            t = inside_a / (inside_a - inside_b)
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
    return kept


def _area(polygon: list[Point]) -> float:
    """Return the area of a polygon, half the sum of its cross products."""
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs)) / 2
