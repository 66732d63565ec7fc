"""TimeModel: the time of one kind of step, from measured cases.

The time is the sum of a call, of multiplications and of bytes, each at a rate, times a factor that depends on
the sizes. The rates are a least-squares fit with non-negative unknowns (Lawson and Hanson, 1974); the logarithm of
the factor is a Gaussian process with a squared exponential kernel that has one length per size, chosen by
marginal likelihood (Rasmussen and Williams, 2006, sections 2.2 and 5.4.1). Far from all measured cases, the factor is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray

from separable.errors import MachineError
from separable.nn.step_times.step_work import StepWork
from separable.value import Value

__all__ = ["BOUNDS", "StepTime", "TimeModel"]

Array = NDArray[np.float64]

BOUNDS = ("call", "arithmetic", "bytes")
"""What can take most of the time of a step."""
LARGEST_FACTOR = 4.0  # logarithm of the largest correction of the rates
NOISE = (0.02, 0.3)  # smallest and largest standard deviation of the logarithm of a measured time
LENGTHS = (0.7, 30.0)  # in octaves
SWINGS = (0.1, 2.0)  # standard deviation of the factor's logarithm


@dataclass(frozen=True)
class StepTime:
    """Predicted time of one step.

    Attributes
    ----------
    seconds : float
    bound : str
        What takes most of it: "arithmetic", "bytes" or "call".
    """

    seconds: float
    bound: str


@dataclass(frozen=True, eq=False)
class TimeModel(Value):
    """Rates of one kind of step, and their correction by sizes.

    Attributes
    ----------
    rates : tuple of three float
        Seconds per call, per multiplication and per byte.
    points : ndarray, shape (cases, sizes)
        Sizes of the measured cases.
    weights : ndarray, shape (cases,)
        Weights of the kernel functions at the points.
    lengths : ndarray, shape (sizes,)
        Lengths of the kernel in octaves.
    swing : float
        Standard deviation of the logarithm of the correction.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("points", "weights", "lengths")
    rates: tuple[float, float, float]
    points: Array
    weights: Array
    lengths: Array
    swing: float

    def predict(self, work: StepWork) -> StepTime:
        """Return the time of a step, and what binds it.

        Examples
        --------
        >>> model = TimeModel.fitted([StepWork("copy", (n,), 0.0, 2.0**n) for n in range(10, 20)],
        ...                          [1e-5 + 1e-10 * 2.0**n for n in range(10, 20)])
        >>> found = model.predict(StepWork("copy", (22.0,), 0.0, 2.0**22))
        >>> found.bound, round(found.seconds * 1e6)
        ('bytes', 429)
        """
        parts = self._parts(work)
        total = sum(parts)
        log = self._log_factor(np.array([work.sizes]))[0]
        return StepTime(total * math.exp(log), BOUNDS[int(np.argmax(parts))])

    def _parts(self, work: StepWork) -> tuple[float, float, float]:
        call, mac, byte = self.rates
        return call, mac * work.macs, byte * work.bytes

    def _log_factor(self, sizes: Array) -> Array:
        """Return the logarithm of the correction at some sizes, (cases,)."""
        if not len(self.points):
            return np.zeros(len(sizes))
        kernel = _kernel(sizes, self.points, self.lengths, self.swing)
        found: Array = np.clip(kernel @ self.weights, -LARGEST_FACTOR, LARGEST_FACTOR)
        return found

    def scaled(self, factors: Sequence[float]) -> TimeModel:
        """Return the model with its three rates multiplied, for another computer."""
        call, mac, byte = (r * f for r, f in zip(self.rates, factors, strict=True))
        return TimeModel((call, mac, byte), self.points, self.weights, self.lengths, self.swing)

    @classmethod
    def fitted(cls, works: Sequence[StepWork], seconds: Sequence[float]) -> TimeModel:
        """Fit a model to measured times.

        Parameters
        ----------
        works : sequence of StepWork
            Cases of one kind.
        seconds : sequence of float
            Their measured times.
        """
        times = np.array(seconds, float)
        counts = np.array([[1.0, w.macs, w.bytes] for w in works])
        rates = scipy.optimize.nnls(counts / times[:, None], np.ones(len(times)))[0]
        points = np.array([w.sizes for w in works])
        residual = np.log(times / (counts @ rates))
        lengths, swing, noise = _likeliest(points, residual)
        kernel = _kernel(points, points, lengths, swing) + noise**2 * np.eye(len(points))
        weights = scipy.linalg.solve(kernel, residual, assume_a="pos")
        found = tuple(float(r) for r in rates)
        return cls((found[0], found[1], found[2]), points, weights, lengths, swing)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON values, with as many digits as predictions need."""
        return {
            "rates": [float(f"{r:.4g}") for r in self.rates],
            "points": [[float(f"{v:.5g}") for v in row] for row in self.points],
            "weights": [float(f"{v:.5g}") for v in self.weights],
            "lengths": [float(f"{v:.4g}") for v in self.lengths],
            "swing": float(f"{self.swing:.4g}"),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TimeModel:
        """Read a model from JSON values.

        Raises
        ------
        MachineError
            If its arrays do not fit together or are not finite.
        """
        rates = tuple(float(r) for r in values["rates"])
        lengths = np.array(values["lengths"], float)
        points = np.array(values["points"], float).reshape(-1, len(lengths))
        weights = np.array(values["weights"], float)
        swing = float(values["swing"])
        numbers = (np.array(rates), lengths, points, weights, np.array([swing]))
        finite = all(bool(np.isfinite(a).all()) for a in numbers)
        if len(rates) != 3 or len(weights) != len(points) or not finite or min(rates) < 0:
            raise MachineError("not a profile of layers: rates, points or weights do not fit")
        return cls((rates[0], rates[1], rates[2]), points, weights, lengths, swing)


def _kernel(a: Array, b: Array, lengths: Array, swing: float) -> Array:
    """Return ``swing^2 exp(-sum_k (a_k - b_k)^2 / (2 length_k^2))``, (cases of a, cases of b)."""
    left, right = a / lengths, b / lengths
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    found: Array = swing**2 * np.exp(-0.5 * np.maximum(squares, 0.0))
    return found


def _likeliest(points: Array, values: Array) -> tuple[Array, float, float]:
    """Return lengths, swing and noise of the largest marginal likelihood."""
    count = points.shape[1]
    start = np.log([*[4.0] * count, 0.4, 0.08])
    limits = [tuple(np.log(LENGTHS))] * count + [tuple(np.log(SWINGS)), tuple(np.log(NOISE))]
    squares = (points[:, None, :] - points[None, :, :]) ** 2  # (cases, cases, sizes)

    def loss(logs: Array) -> tuple[float, Array]:
        lengths, swing, noise = np.exp(logs[:count]), math.exp(logs[-2]), math.exp(logs[-1])
        smooth = _kernel(points, points, lengths, swing)
        root = np.linalg.cholesky(smooth + (noise**2 + 1e-9) * np.eye(len(points)))
        weights = scipy.linalg.cho_solve((root, True), values)
        # d loss / d p = trace((K^-1 - w w^T) dK/dp) / 2; the prior keeps lengths of sizes that do not matter long
        inner = scipy.linalg.cho_solve((root, True), np.eye(len(points))) - np.outer(
            weights, weights
        )
        weighted = inner * smooth
        slopes = np.einsum("ij,ijk->k", weighted, squares) / lengths**2 / 2
        gradient = np.array([*slopes, float(weighted.sum()), float(np.trace(inner)) * noise**2])
        prior = 0.05 * (logs[:count] - math.log(LENGTHS[1]))
        gradient[:count] += 2 * prior
        value = 0.5 * float(values @ weights) + float(np.log(np.diag(root)).sum())
        return value + float((prior**2).sum()) / 0.05, gradient

    best = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 60}
    ).x
    return np.exp(best[:count]), math.exp(best[-2]), math.exp(best[-1])
