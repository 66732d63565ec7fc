"""Ridge filters and blob responses as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.features.derivative_taps import COMPOSED, SAMPLED
from separable.features.feature_base import Feature, Grid, Step
from separable.features.feature_steps import SweepStep, hessian_orders

__all__ = ["BlobResponse", "Frangi", "Meijering", "Ridges", "Sato"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ridges(Feature):
    """A filter of the Hessian's eigenvalues: its largest value over several scales."""

    least_axes: ClassVar[int] = 2
    most_axes: ClassVar[int] = 3

    sigmas: tuple[Any, ...] = (1.0, 3.0, 5.0, 7.0, 9.0)
    black_ridges: bool = True

    @property
    def sign(self) -> float:
        """Factor of the derivatives: white ridges are black ones of the negative image."""
        return 1.0 if self.black_ridges else -1.0

    def _step(
        self, grid: Grid, sigma: Any, work: str, *numbers: float, more: bool = False
    ) -> SweepStep:
        taps = grid.derivatives(COMPOSED, sigma)
        return SweepStep(hessian_orders(grid.ndim), taps, work, (self.sign, *numbers), more)


@dataclass(frozen=True, eq=False)
class Frangi(Ridges):
    """Frangi's vesselness."""

    name: ClassVar[str] = "frangi"
    alpha: float = 0.5
    beta: float = 0.5
    gamma: float | None = None

    def reductions(self, grid: Grid) -> tuple[SweepStep, ...]:
        """Return the largest norm of the Hessian at the first scale, if `gamma` is not given."""
        if self.gamma is not None:
            return ()
        return (self._step(grid, self.sigmas[0], "largest_norm"),)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep per scale."""
        gamma = maxima[0] / 2 if self.gamma is None else self.gamma
        most = float(np.finfo(np.float32).max)
        # An image without any structure has no ridges.
        structure = min(1 / (math.sqrt(2) * gamma), most) if gamma > 0 else 0.0
        numbers = (-0.5 / self.alpha**2, -0.5 / self.beta**2, structure)
        return tuple(
            self._step(grid, sigma, "frangi", *numbers, more=k > 0)
            for k, sigma in enumerate(self.sigmas)
        )


@dataclass(frozen=True, eq=False)
class Sato(Ridges):
    """Sato's tubeness."""

    name: ClassVar[str] = "sato"

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep per scale."""
        return tuple(
            self._step(grid, sigma, "sato", _square(sigma), more=k > 0)
            for k, sigma in enumerate(self.sigmas)
        )


@dataclass(frozen=True, eq=False)
class Meijering(Ridges):
    """Meijering's neuriteness, divided by its maximum at each scale."""

    name: ClassVar[str] = "meijering"
    alpha: float | None = None

    def _mixed(self, ndim: int) -> float:
        return 1 / (ndim + 1) if self.alpha is None else self.alpha

    def reductions(self, grid: Grid) -> tuple[SweepStep, ...]:
        """Return the largest neuriteness at each scale."""
        alpha = self._mixed(grid.ndim)
        return tuple(self._step(grid, s, "largest_neuriteness", alpha) for s in self.sigmas)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep per scale."""
        alpha = self._mixed(grid.ndim)
        return tuple(
            self._step(grid, sigma, "meijering", alpha, most or math.inf, more=k > 0)
            for k, (sigma, most) in enumerate(zip(self.sigmas, maxima, strict=True))
        )


def _square(sigma: Any) -> float:
    """Return the square of a scale; with one sigma per axis, of their geometric mean."""
    values = np.atleast_1d(np.asarray(sigma, float))
    return float(np.exp(np.log(values).mean()) ** 2)


@dataclass(frozen=True, eq=False)
class BlobResponse(Feature):
    """Response to bright blobs at one scale, with derivatives normalised by it.

    ``log``: ``-sigma**2`` times the Laplacian of Gaussian; ``doh``: ``sigma**(2 ndim)`` times the determinant of the
    Hessian, positive for blobs of both signs in two dimensions; ``dog``: the difference of two Gaussians, ``sigma`` and
    ``ratio * sigma``, over ``ratio - 1``.
    """

    name: ClassVar[str] = "blob"
    sigma: Any = 1.0
    method: str = "log"
    ratio: float = 1.6

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return the method."""
        return (self.method,)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        scale = _square(self.sigma)
        if self.method == "doh":
            taps = grid.derivatives(COMPOSED, self.sigma)
            # The determinant of the negative Hessian in an odd number of dimensions: positive for bright blobs.
            sign = -1.0 if grid.ndim % 2 else 1.0
            numbers = (sign, scale**grid.ndim)
            return (SweepStep(hessian_orders(grid.ndim), taps, "determinant", numbers),)
        if self.method == "log":
            taps = grid.derivatives(SAMPLED, self.sigma)
            orders = tuple(tuple(2 * (i == k) for k in range(grid.ndim)) for i in range(grid.ndim))
            return (SweepStep(orders, taps, "sum", (1.0, -scale)),)
        wide = tuple(s * self.ratio for s in grid.lengths("sigma", self.sigma))
        narrow, broad = grid.gaussians(self.sigma), grid.gaussians(wide)
        taps = tuple((_centred(a, b.size), b) for a, b in zip(narrow, broad, strict=True))
        orders = ((0,) * grid.ndim, (1,) * grid.ndim)
        return (SweepStep(orders, taps, "difference", (1.0, 1 / (self.ratio - 1))),)


def _centred(taps: Array, size: int) -> Array:
    """Return taps with zeros on both sides."""
    return np.pad(taps, (size - taps.size) // 2)
