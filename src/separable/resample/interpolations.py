"""Interpolations: the weights with which a value between samples is a sum of the samples around it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, ArgumentTypeError
from separable.request import shown

__all__ = [
    "AREA",
    "LINEAR",
    "MAJORITY",
    "NEAREST",
    "Interpolation",
    "InterpolationName",
    "interpolation_names",
    "interpolation_of",
    "keys_cubic",
    "lanczos",
    "registered_interpolations",
    "spline",
]

Array = NDArray[Any]
Weight: TypeAlias = Callable[[Array], Array]

# Poles of the filters that turn samples into coefficients of B-splines (M. Unser, A. Aldroubi, M. Eden,
# "B-spline signal processing: part II", 1993, doi:10.1109/78.193221), for the orders 2 to 5.
POLES: dict[int, tuple[float, ...]] = {
    2: (math.sqrt(8.0) - 3.0,),
    3: (math.sqrt(3.0) - 2.0,),
    4: (
        math.sqrt(664.0 - math.sqrt(438976.0)) + math.sqrt(304.0) - 19.0,
        math.sqrt(664.0 + math.sqrt(438976.0)) - math.sqrt(304.0) - 19.0,
    ),
    5: (
        math.sqrt(67.5 - math.sqrt(4436.25)) + math.sqrt(26.25) - 6.5,
        math.sqrt(67.5 + math.sqrt(4436.25)) - math.sqrt(26.25) - 6.5,
    ),
}


@dataclass(frozen=True)
class Interpolation:
    """A way to compute values between samples.

    Attributes
    ----------
    name : str
    help : str
        One line that says what it is.
    radius : float
        Distance from which on samples do not count.
    weight : callable
        Weights of samples at some distances, an array of floats within ``-radius .. radius``.
    poles : tuple of float
        Poles of the filter that computes coefficients from samples first, for B-splines; empty if the
        samples themselves are summed.
    averages : bool
        Whether an output is the mean over the length of line that it stands for, so that it needs no
        other filter against aliasing.
    smooth : bool
        Whether weights change with the distance; those of the nearest sample do not.
    votes : bool
        Whether the result is the label with the largest weight and not the weighted sum.
    aliases : tuple of str

    Examples
    --------
    >>> triangle = Interpolation("triangle", "as linear", 1.0, lambda d: 1 - np.abs(d))
    >>> from separable.resample import resize
    >>> resize([0.0, 4.0], (4,), interpolation=triangle)
    array([0., 1., 3., 4.])
    """

    name: str
    help: str
    radius: float
    weight: Weight = field(repr=False)
    poles: tuple[float, ...] = ()
    averages: bool = False
    smooth: bool = True
    votes: bool = False
    aliases: tuple[str, ...] = ()

    def at(self, places: Array, stretch: float = 1.0) -> tuple[NDArray[np.int64], Array]:
        """Return the first sample and the weights for values at some places of an endless line.

        Parameters
        ----------
        places : ndarray of float64, shape (m,)
            Coordinates, of which sample 0 has 0.
        stretch : float
            Factor of all distances; the weights are divided by their sum.

        Returns
        -------
        firsts : ndarray of int64, shape (m,)
        weights : ndarray of float64, shape (m, taps)

        Examples
        --------
        >>> LINEAR.at(np.array([2.25]))
        (array([2]), array([[0.75, 0.25]]))
        """
        radius = self.radius * stretch
        if not self.smooth:  # two samples may be equally near: rounding errors do not decide
            places = places.round(9)
        firsts = np.floor(places - radius).astype(np.int64) + 1
        count = max(1, math.ceil(2 * radius - 1e-9))
        distances = places[:, None] - (firsts[:, None] + np.arange(count))
        weights = self.weight(np.clip(distances / stretch, -self.radius, self.radius))
        weights = np.where(np.abs(distances) <= radius * (1 + 1e-12), weights, 0.0)
        return firsts, weights / weights.sum(axis=1, keepdims=True)


InterpolationName: TypeAlias = str | int | Interpolation
"""The name of an interpolation, the order of a spline, or the interpolation itself."""


def _splines(order: int) -> Weight:
    """Return the B-spline of an order: the box of width 1 convolved with itself `order` times."""

    # beta(d) = 1 / n! sum_k (-1)^k binomial(n + 1, k) (d + (n + 1) / 2 - k)_+^n  at -|d|, where few terms count
    def weight(distances: Array) -> Array:
        right = (order + 1) / 2 - np.abs(distances)
        total = np.zeros_like(right)
        for k in range(order + 1):
            term = math.comb(order + 1, k) * np.maximum(right - k, 0.0) ** order
            total += -term if k % 2 else term
        return total / math.factorial(order)

    return weight


def spline(order: int) -> Interpolation:
    """Return the interpolation by B-splines of an order 2 .. 5, as SciPy has it.

    Parameters
    ----------
    order : int
        Order of the polynomials, 2 .. 5.

    Examples
    --------
    >>> spline(3).name, spline(3).at(np.array([0.0]))[1].round(4).tolist()
    ('spline3', [[0.1667, 0.6667, 0.1667, 0.0]])
    """
    return _SPLINES[order]


def keys_cubic(a: float, name: str = "", help: str = "") -> Interpolation:
    """Return the cubic convolution of Keys with the slope `a` at distance 1.

    R. Keys, "Cubic convolution interpolation for digital image processing", 1981,
    doi:10.1109/TASSP.1981.1163711. The value -0.5 is exact for polynomials of degree 2 (Catmull-Rom).

    Parameters
    ----------
    a : float
        Slope of the weights at distance 1; -0.5 and -0.75 are usual.
    name, help : str
        Name of the interpolation, and one line that says what it is.

    Examples
    --------
    >>> keys_cubic(-0.5).at(np.array([0.5]))[1].tolist()
    [[-0.0625, 0.5625, 0.5625, -0.0625]]
    """

    def weight(distances: Array) -> Array:
        d = np.abs(distances)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return Interpolation(
        name or f"cubic convolution with a = {a:g}", help or "cubic convolution", 2.0, weight
    )


def lanczos(lobes: int) -> Interpolation:
    """Return the interpolation by a sinc function in a window of `lobes` samples on each side.

    C. Duchon, "Lanczos filtering in one and two dimensions", 1979,
    doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2. The weights are divided by their sum.

    Parameters
    ----------
    lobes : int
        Number of samples on each side, >= 1.

    Examples
    --------
    >>> lanczos(3).at(np.array([0.5]))[1].shape
    (1, 6)
    """

    def weight(distances: Array) -> Array:
        found: Array = np.sinc(distances) * np.sinc(distances / lobes)
        return np.where(np.abs(distances) < lobes, found, 0.0)

    help = f"sinc in a window of {lobes} samples on each side"
    aliases = ("lanczos",) if lobes == 3 else ()
    return Interpolation(f"lanczos{lobes}", help, float(lobes), weight, aliases=aliases)


NEAREST = Interpolation(
    "nearest", "the nearest sample, the right one of two", 0.5, np.ones_like, smooth=False
)
LINEAR = Interpolation(
    "linear", "a straight line between two samples", 1.0, lambda d: 1 - np.abs(d)
)
AREA = Interpolation(
    "area", "the mean over the length that an output stands for", 0.5, np.ones_like, averages=True,
    aliases=("box",),
)  # fmt: skip
MAJORITY = Interpolation(
    "majority", "the label that covers the largest part of an output", 0.5, np.ones_like,
    averages=True, votes=True,
)  # fmt: skip
_SPLINES = {
    order: Interpolation(
        f"spline{order}", f"B-spline of order {order} through the samples, as SciPy's order={order}",
        (order + 1) / 2, _splines(order), POLES[order], aliases=("bspline",) if order == 3 else (),
    )
    for order in POLES
}  # fmt: skip
_CUBIC = keys_cubic(-0.5, "cubic", "cubic through four samples (Catmull-Rom)")
_SHARP = keys_cubic(-0.75, "cubic-sharp", "cubic of PyTorch and OpenCV, a = -0.75")
_BUILT_IN = (
    NEAREST, LINEAR, _CUBIC, _SHARP, *_SPLINES.values(), lanczos(2), lanczos(3), lanczos(4), AREA,
    MAJORITY,
)  # fmt: skip
_NAMES = {name: one for one in _BUILT_IN for name in (one.name, *one.aliases)}
_ORDERS = {0: NEAREST, 1: LINEAR, **_SPLINES}


def registered_interpolations() -> tuple[Interpolation, ...]:
    """Return all interpolations that have a name.

    Examples
    --------
    >>> [one.name for one in registered_interpolations()][:3]
    ['nearest', 'linear', 'cubic']
    """
    return _BUILT_IN


def interpolation_names() -> tuple[str, ...]:
    """Return every name that `interpolation` takes.

    Examples
    --------
    >>> "lanczos" in interpolation_names()
    True
    """
    return tuple(_NAMES)


def interpolation_of(value: InterpolationName) -> Interpolation:
    """Return the interpolation of a name or an order.

    Raises
    ------
    ArgumentError
        If there is none; the message lists all names.
    ArgumentTypeError
        If it is neither a name nor an order.

    Examples
    --------
    >>> interpolation_of("linear").name, interpolation_of(3).name
    ('linear', 'spline3')
    """
    if isinstance(value, Interpolation):
        return value
    known = ", ".join(one.name for one in _BUILT_IN)
    if isinstance(value, str):
        if value in _NAMES:
            return _NAMES[value]
        near = difflib.get_close_matches(value, _NAMES, n=1)
        hint = f'. Did you mean "{near[0]}"?' if near else ""
        raise ArgumentError(
            f"`interpolation` must be one of {known}, or an order 0 .. 5; got {value!r}{hint}"
        )
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if int(value) in _ORDERS:
            return _ORDERS[int(value)]
        raise ArgumentError(f"`interpolation` must be an order 0 .. 5, or a name; got {value}")
    raise ArgumentTypeError(
        f"`interpolation` must be a name ({known}) or an order 0 .. 5; got {shown(value)}"
    )
