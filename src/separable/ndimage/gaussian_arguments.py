"""Arguments of Gaussian filters: radius, taps and kernel, cached for repeated calls."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from separable.errors import ArgumentError
from separable.kernels import gaussian1d
from separable.ndimage.apply import Kernel, kernel_of
from separable.ndimage.scipy_arguments import (
    Array,
    check_axes,
    check_filter_axes,
    check_taps,
    finite,
    index,
    number,
    per_axis,
    steps_of,
)
from separable.process_cache import ProcessCache
from separable.request import FilterAxes, shown

__all__ = ["GaussianArguments", "check_order", "gaussian_kernel", "gaussian_radii", "gaussian_taps"]

NO_WIDTH = 1e-15  # as in SciPy, an axis with a sigma up to this is not filtered
DEFAULT_TRUNCATE = 4.0
MOST_ORDER = 1000  # Hermite polynomials of higher orders overflow
CATALOGUED = 4  # highest derivative in the catalogue of kernels
PLAIN = (int, float, str, type(None))  # types of arguments whose results are cached


class GaussianArguments(NamedTuple):
    """Arguments of `gaussian_filter` that do not depend on the samples of the image."""

    ndim: int
    axes: Any
    mode: Any
    sigma: Any
    order: Any
    truncate: Any
    radius: Any
    spacing: Any

    def checked(self) -> tuple[tuple[int, ...], Kernel | None, FilterAxes | None]:
        """Return the filtered axes, the kernel, and the axes with a width; None if there are none.

        Results for plain numbers and texts are cached. Their types are part of the key, because 1 and
        1.0 are equal and yet not both allowed.
        """
        types = tuple(map(type, self))
        if all(t in PLAIN for t in types):
            found: Any = _checked.get_or_build((*self, *types), self._check)
            return found  # type: ignore[no-any-return]
        return self._check()

    def _check(self) -> tuple[tuple[int, ...], Kernel | None, FilterAxes | None]:
        axes = check_axes(self.axes, self.ndim)
        count = len(axes)
        modes = per_axis("mode", self.mode, count)
        sigmas = per_axis("sigma", self.sigma, count)
        steps = steps_of(self.spacing, count)
        radii = gaussian_radii(sigmas, self.truncate, per_axis("radius", self.radius, count), steps)
        orders = tuple(check_order(n) for n in per_axis("order", self.order, count))
        used = [k for k in range(count) if radii[k] >= 0]
        if not used:
            return axes, None, None
        kernel = gaussian_kernel(
            tuple((float(sigmas[k]) / steps[k], orders[k], radii[k], steps[k]) for k in used)
        )
        where = check_filter_axes([axes[k] for k in used], [modes[k] for k in used], 0.0)
        return axes, kernel, where


_checked = ProcessCache(limit=256)


def gaussian_radii(
    sigmas: Sequence[Any],
    truncate: Any,
    radii: Sequence[int | None],
    steps: Sequence[float] | None = None,
) -> tuple[int, ...]:
    """Return the radius of each Gaussian, or -1 for an axis that is not filtered.

    Examples
    --------
    >>> gaussian_radii((2.0, 0, 1.0), 4.0, (None, None, 7))
    (8, -1, 7)
    """
    widths = [number("sigma", s) for s in sigmas]
    if not all(0 <= s < math.inf for s in widths):
        raise ArgumentError(f"`sigma` must be finite and >= 0 for every axis; got {_shown(sigmas)}")
    if steps is not None:
        widths = [s / step for s, step in zip(widths, steps, strict=True)]
    cut = finite("truncate", truncate)
    found = []
    for width, sigma, radius in zip(widths, sigmas, radii, strict=True):
        if radius is None:
            _check_reach(sigma, truncate, cut, width)
        half: Any = int(cut * width + 0.5) if radius is None else radius
        if not isinstance(half, numbers.Integral) or half < 0:
            name = "truncate" if radius is None else "radius"
            value = truncate if radius is None else radius
            raise ArgumentError(
                "Radius must be a nonnegative integer: "
                f"`{name}` must make a nonnegative whole radius; got {value!r}"
            )
        check_taps(f"`radius` {shown(radius)}", 2 * int(half) + 1)
        found.append(int(half) if width > NO_WIDTH else -1)
    return tuple(found)


def _check_reach(sigma: Any, truncate: Any, cut: float, width: float) -> None:
    """Refuse a Gaussian with too many taps; the message names the given arguments."""
    given = f"`sigma` {shown(sigma)}"
    if cut != DEFAULT_TRUNCATE:
        given += f" and `truncate` {shown(truncate)}"
    check_taps(f"{given}, {width:.4g} samples. Give a smaller one, or `radius`", 2 * cut * width)


@lru_cache(maxsize=256)
def gaussian_taps(sigma: float, order: int, radius: int, step: float = 1.0) -> Array:
    """Return a sampled Gaussian or its derivative per unit of length, for correlation.

    `sigma` is in samples. Derivatives that are not in the catalogue are the Gaussian times a Hermite
    polynomial.
    """
    if order <= CATALOGUED:
        return gaussian1d(sigma, order=order, radius=radius) / np.float64(step) ** order
    from numpy.polynomial.hermite_e import hermeval  # start-up: rarely needed

    x = np.arange(-radius, radius + 1) / sigma
    polynomial = hermeval(x, np.append(np.zeros(order), 1.0)) / (sigma * step) ** order
    return np.asarray(polynomial * gaussian1d(sigma, radius=radius))


@lru_cache(maxsize=64)
def gaussian_kernel(axes: tuple[Any, ...]) -> Kernel:
    """Return the kernel of (sigma, order, radius, step) per axis."""
    return kernel_of((tuple(gaussian_taps(*axis) for axis in axes),))


def check_order(order: Any) -> int:
    """Return the order of a derivative: an integer >= 0."""
    value = index("order", order)
    if value < 0:
        raise ArgumentError(
            f"order must be non-negative: `order` must be an integer >= 0; got {order!r}"
        )
    if value > MOST_ORDER:
        raise ArgumentError(f"`order` must be at most {MOST_ORDER}; got {shown(order)}")
    return value


def _shown(values: Sequence[Any]) -> str:
    return shown(values[0] if len(set(values)) == 1 else tuple(values))
