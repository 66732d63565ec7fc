"""The recursion nearest to a Gaussian, and its error.

A sampled Gaussian, or its first derivative, is approximated by a sum of a few damped oscillations,

    h[k] = Re sum_p c_p p^|k| + delta [k = 0],    p = exp(-(damping + i frequency) / sigma),

which a recursion applies by a forward and a backward run (R. Deriche, 1993, "Recursively implementing the
Gaussian and its derivatives", INRIA RR-1893).  The poles of order 4 are Deriche's; those of orders 5 (a real one more)
and 6 were found the same way, as the minimum of the squared error over the half line.  The factors ``c`` are
fitted by least squares to the taps that are replaced, and keep their sum (or, for odd ones, their first
moment) exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.value import Value

__all__ = ["ORDERS", "Coefficients", "fit", "fit_within"]

# Damping and frequency, in units of 1 / sigma.
_POLES = {
    4: ((1.7832, 0.6318), (1.7228, 1.9969)),
    5: ((1.97698, 1.1573), (1.90883, 2.45034), (1.9969, 0.0)),
    6: ((2.1807, 0.5265), (2.1496, 1.6159), (2.0771, 2.8562)),
}
ORDERS = tuple(_POLES)
MOST_ERROR = 0.05
"""Taps that are approximated worse than this do not look like a Gaussian."""
DECAYED = 1e-18
"""Fraction of its initial envelope at which an oscillation counts as decayed."""
PART = 1 << 16
"""Samples of an impulse response that are processed together, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Coefficients(Value):
    """The coefficients of a recursion.

    Attributes
    ----------
    poles, factors : ndarray of complex
        The ``p`` and ``c`` of the formula, with non-negative imaginary parts of ``p``; a real pole, if any, is the last.
    delta : float
        Additional factor of the sample itself.
    odd : bool
        True if the response changes sign with the direction.
    reach : int
        Half width of the taps.
    gain : float
        Sum of the taps.
    """

    ARRAYS = ("poles", "factors")

    poles: NDArray[np.complex128]
    factors: NDArray[np.complex128]
    delta: float
    odd: bool
    reach: int
    gain: float

    @property
    def order(self) -> int:
        """Number of real states."""
        return int(np.sum(np.where(self.poles.imag > 0, 2, 1)))

    @property
    def operations(self) -> int:
        """Multiply-adds per output."""
        return 5 * (self.order // 2) * 2 + 4 * (self.order % 2) + 1

    @property
    def memory(self) -> int:
        """Distance in samples at which the response is below 1e-9 of its initial value."""
        return math.ceil(math.log(1e-9) / math.log(float(np.max(np.abs(self.poles)))))

    def response(self, count: int, start: int = 0) -> NDArray[np.float64]:
        """Return the impulse response for start .. count - 1; the other half is its mirror image."""
        powers = self.poles[:, None] ** np.arange(start, count)
        half = np.real(self.factors @ powers)
        if start == 0:
            half[0] = 0.0 if self.odd else 2 * half[0] + self.delta
        return np.asarray(half, np.float64)

    def numbers(self) -> NDArray[np.float64]:
        """Return the numbers that the compiled code reads, in its order."""
        # A state is kept as u = Re s and w = Im s / b; `steady` is the state after infinitely many samples of 1.
        poles, steady, forward, backward = [], [], [], []
        for p, c in zip(self.poles, self.factors, strict=True):
            a, b = p.real, p.imag
            limit = 1 / (1 - p)
            if b > 0:
                poles += [a, -b * b]
                steady += [limit.real, limit.imag / b]
                weights = [c.real, -c.imag * b]
            else:
                poles, steady, weights = [*poles, a], [*steady, limit.real], [c.real]
            forward += weights
            # A correlation applies the taps right of the middle to later samples.
            backward += [-v for v in weights] if self.odd else weights
        if self.odd:
            forward, backward = backward, forward
        return np.array([self.delta, *poles, *steady, *forward, *backward])


def fit(taps: ArrayLike, order: int = 4) -> tuple[Coefficients, float] | None:
    """Approximate the taps of a Gaussian, or of its first derivative, by a recursion.

    Parameters
    ----------
    taps : array_like, shape (2 * reach + 1,)
        Taps of a correlation, symmetric or antisymmetric about the middle.
    order : {4, 5, 6}
        Number of real states of each run: more are more accurate and slower.

    Returns
    -------
    (Coefficients, float) or None
        The recursion and its error: the 1-norm of its impulse response minus the taps, over the
        1-norm of the taps, measured until the response has decayed.  None if the taps do not look like
        a Gaussian.

    Raises
    ------
    ValueError
        If `order` is none of these.

    Examples
    --------
    >>> k = np.arange(-120, 121)
    >>> taps = np.exp(-0.5 * (k / 30) ** 2)
    >>> [round(fit(taps, order)[1], 6) for order in (4, 5, 6)]
    [0.000551, 0.000148, 0.000117]
    >>> fit([1, 1, 1, 1, 1]) is None
    True
    """
    if order not in _POLES:
        raise ValueError(f"`order` must be one of {ORDERS}; got {order!r}")
    values = np.asarray(taps, np.float64)
    found = _recognise(values)
    if found is None:
        return None
    sigma, odd = found
    half = values[len(values) // 2 :]
    poles = np.exp([-(damping - 1j * frequency) / sigma for damping, frequency in _POLES[order]])
    poles = np.where(
        poles.imag < 0, poles.conj(), poles
    )  # with a small sigma a step rotates by more than pi
    poles = _representable(poles)
    coefficients = _solve(half, poles, odd)
    error = _measure(coefficients, half)
    return (coefficients, error) if error <= MOST_ERROR else None


def fit_within(taps: ArrayLike, limit: float) -> tuple[Coefficients, float] | None:
    """Return the cheapest approximation whose error is at most ``limit``, or None.

    Examples
    --------
    >>> taps = np.exp(-0.5 * (np.arange(-120, 121) / 30) ** 2)
    >>> fit_within(taps, 5e-4)[0].order, fit_within(taps, 1e-6)
    (5, None)
    """
    for order in ORDERS:
        found = fit(taps, order)
        if found is not None and found[1] <= limit:
            return found
    return None


def _recognise(taps: NDArray[np.float64]) -> tuple[float, bool] | None:
    """Return the sigma of a sampled Gaussian and True if the taps are its derivative; None for other taps."""
    if taps.ndim != 1 or len(taps) < 3 or len(taps) % 2 == 0 or not np.all(np.isfinite(taps)):
        return None
    half = taps[len(taps) // 2 :]
    tolerance = 1e-12 * float(np.max(np.abs(taps)))
    even, odd = (bool(np.all(np.abs(taps - s * taps[::-1]) <= tolerance)) for s in (1, -1))
    if even == odd:
        return None
    k = np.arange(len(half), dtype=np.float64)
    bell, at = (half[1:] / k[1:], k[1:]) if odd else (half, k)
    if len(bell) < 2 or bell[0] == 0:
        return None
    # bell[k] / bell[0] = exp(-(k^2 - at[0]^2) / (2 sigma^2)): a line through the logarithms.
    ratio = bell / bell[0]
    known = ratio > 1e-12
    x, weight = at[known] ** 2 - at[0] ** 2, ratio[known] ** 2
    slope = -float(np.sum(weight * x * np.log(ratio[known])) / max(np.sum(weight * x * x), 1e-300))
    if not slope > 0:
        return None
    # Taps that hardly decay over their length are not a Gaussian: the decay may be rounding.
    sigma = math.sqrt(0.5 / slope)
    return (sigma, odd) if sigma <= len(half) - 1 else None


def _solve(half: NDArray[np.float64], poles: NDArray[np.complex128], odd: bool) -> Coefficients:
    """Fit the factors to the taps right of the middle; `delta` makes the sum of all taps exact."""
    reach = len(half) - 1
    slowest = float(np.max(np.abs(poles)))
    count = max(reach, math.ceil(math.log(1e-12) / math.log(slowest))) + 1
    is_pair = poles.imag > 0
    sums = poles / (1 - poles) ** 2 if odd else poles / (1 - poles)
    # The sum of the taps, or their first moment for odd ones, as one heavy equation.
    moment = float(half @ np.arange(reach + 1)) if odd else float(np.sum(half[1:]))
    totals = np.concatenate([sums.real, -sums.imag[is_pair]])
    heavy = 1e4 / float(np.linalg.norm(totals)) * math.sqrt(count)
    matrix, wanted = np.empty((0, len(totals))), np.empty(0)
    for start in range(1, count, PART):
        k = np.arange(start, min(start + PART, count))
        powers = poles[:, None] ** k
        columns = np.vstack([powers.real, -powers.imag[is_pair]])
        taps = half[start : start + len(k)]
        matrix = np.vstack([matrix, columns.T])
        wanted = np.concatenate([wanted, taps, np.zeros(len(k) - len(taps))])
        if len(k) < count - 1:  # the same least squares problem, in a few rows
            matrix, wanted = _condensed(matrix, wanted)
    matrix = np.vstack([matrix, heavy * totals])
    wanted = np.append(wanted, heavy * moment)
    solution = np.linalg.lstsq(matrix, wanted, rcond=1e-15)[0]
    factors = solution[: len(poles)].astype(np.complex128)
    factors[is_pair] += 1j * solution[len(poles) :]
    gain = 0.0 if odd else float(half[0] + 2 * np.sum(half[1:]))
    delta = 0.0
    if not odd:
        delta = gain - 2 * float(np.sum(np.real(factors / (1 - poles))))
    return Coefficients(poles, factors, delta, odd, reach, gain)


def _representable(poles: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return nearby poles whose coefficients are the same in single and double precision.

    Poles are near 1 for a large sigma, and then rounding them would change their decay.
    """
    real = poles.real.astype(np.float32).astype(np.float64)
    imaginary = np.sqrt((poles.imag**2).astype(np.float32).astype(np.float64))
    found = real + 1j * imaginary
    decays = 1 - np.abs(found) > 1e-2 * (1 - np.abs(poles))
    return np.asarray(np.where(decays, found, poles), np.complex128)


def _condensed(
    matrix: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a least-squares problem with the same solution and as many rows as columns."""
    triangle: NDArray[np.float64] = np.asarray(
        np.asarray(np.linalg.qr(np.column_stack([matrix, wanted]), mode="r"))
    )
    return triangle[:, :-1], triangle[:, -1]


def _measure(coefficients: Coefficients, half: NDArray[np.float64]) -> float:
    """Return the 1-norm of the error relative to the 1-norm of the taps."""
    slowest = float(np.max(np.abs(coefficients.poles)))
    count = max(len(half), math.ceil(math.log(DECAYED) / math.log(slowest)) + 1)
    error, middle = 0.0, 0.0
    for start in range(0, count, PART):
        response = coefficients.response(min(start + PART, count), start)
        taps = half[start : start + len(response)]
        response[: len(taps)] -= taps
        if start == 0:
            middle, response = abs(float(response[0])), response[1:]
        error += float(np.sum(np.abs(response)))
    size = abs(float(half[0])) + 2 * float(np.sum(np.abs(half[1:])))
    return (middle + 2 * error) / size
