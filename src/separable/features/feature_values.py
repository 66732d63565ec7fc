"""Gradients, Hessians, structure tensors and local statistics as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.features.derivative_taps import COMPOSED, DIFFERENCES, SAMPLED, DerivativeForm
from separable.features.feature_base import Feature, Grid, Step, hessian_names, numbered
from separable.features.feature_steps import SweepStep, hessian_orders, unit_orders
from separable.features.smoothed_steps import Powers, SmoothedStep
from separable.kernels import box1d

__all__ = [
    "FORMS",
    "Coherence",
    "GaussianFeatures",
    "GaussianSmoothing",
    "GradientMagnitude",
    "HessianDeterminant",
    "HessianEigenvalues",
    "HessianMatrix",
    "LocalMean",
    "LocalVariance",
    "StructureTensor",
    "StructureTensorEigenvalues",
]

Array = NDArray[Any]

FORMS = {True: COMPOSED, False: DIFFERENCES}
"""Form of the derivatives by scikit-image's ``use_gaussian_derivatives``."""


@dataclass(frozen=True, eq=False)
class GaussianSmoothing(Feature):
    """The image smoothed with a Gaussian."""

    name: ClassVar[str] = "gaussian"
    sigma: Any = 1.0

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        taps = tuple((t,) for t in grid.gaussians(self.sigma))
        return (SweepStep(((0,) * grid.ndim,), taps, "copies"),)


@dataclass(frozen=True, eq=False)
class GradientMagnitude(Feature):
    """Length of the gradient of the smoothed image, times ``scale``."""

    name: ClassVar[str] = "gradient"
    sigma: Any = 1.0
    scale: float = 1.0

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        taps = grid.derivatives(SAMPLED, self.sigma)
        return (SweepStep(unit_orders(grid.ndim), taps, "length", (1.0, self.scale)),)


@dataclass(frozen=True, eq=False)
class HessianMatrix(Feature):
    """Second derivatives of the smoothed image, row by row of the upper triangle."""

    name: ClassVar[str] = "hessian_matrix"
    sigma: Any = 1.0
    form: DerivativeForm = COMPOSED

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return one name per element."""
        return hessian_names("hessian", ndim)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        taps = grid.derivatives(self.form, self.sigma)
        return (SweepStep(hessian_orders(grid.ndim), taps, "copies"),)


@dataclass(frozen=True, eq=False)
class HessianEigenvalues(Feature):
    """Eigenvalues of the Hessian of the smoothed image, the largest first."""

    name: ClassVar[str] = "hessian"
    sigma: Any = 1.0
    form: DerivativeForm = COMPOSED

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return one name per eigenvalue."""
        return numbered(self.name, ndim)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        taps = grid.derivatives(self.form, self.sigma)
        return (SweepStep(hessian_orders(grid.ndim), taps, "eigenvalues"),)


@dataclass(frozen=True, eq=False)
class HessianDeterminant(Feature):
    """Determinant of the Hessian of the smoothed image."""

    name: ClassVar[str] = "hessian_determinant"
    least_axes: ClassVar[int] = 2
    most_axes: ClassVar[int] = 3
    sigma: Any = 1.0
    form: DerivativeForm = COMPOSED

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        taps = grid.derivatives(self.form, self.sigma)
        return (SweepStep(hessian_orders(grid.ndim), taps, "determinant"),)


@dataclass(frozen=True, eq=False)
class _Tensor(Feature):
    """A structure tensor: smoothed products of first derivatives.

    Attributes
    ----------
    sigma : float or tuple of float
        Standard deviation of the smoothing of the products.
    inner : float or tuple of float, optional
        Standard deviation of derivatives of a Gaussian; without it derivatives are Sobel's.
    """

    sigma: Any = 1.0
    inner: Any = None

    def _smoothed(self, grid: Grid, work: str) -> tuple[Step, ...]:
        if self.inner is None:
            slope, smooth = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0])
            # Sobel's masks are not divided by their weights, as in scikit-image; the spacing counts.
            taps: Any = tuple((smooth, slope / step) for step in grid.spacing)
        else:
            taps = tuple(rows[:2] for rows in grid.derivatives(SAMPLED, self.inner))
        products = SweepStep(unit_orders(grid.ndim), taps, "products")
        return (SmoothedStep(products, grid.gaussians(self.sigma), work),)


@dataclass(frozen=True, eq=False)
class StructureTensor(_Tensor):
    """Elements of the structure tensor, row by row of the upper triangle."""

    name: ClassVar[str] = "structure_tensor_matrix"

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return one name per element."""
        return hessian_names("structure_tensor", ndim)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return the products and their smoothing."""
        return self._smoothed(grid, "copies")


@dataclass(frozen=True, eq=False)
class StructureTensorEigenvalues(_Tensor):
    """Eigenvalues of the structure tensor, the largest first."""

    name: ClassVar[str] = "structure_tensor"

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return one name per eigenvalue."""
        return numbered(self.name, ndim)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return the products, their smoothing and the eigenvalues."""
        return self._smoothed(grid, "eigenvalues")


@dataclass(frozen=True, eq=False)
class Coherence(_Tensor):
    """Anisotropy of the structure tensor, ``(l1 - ln) / (l1 + ln)``."""

    name: ClassVar[str] = "coherence"
    least_axes: ClassVar[int] = 2

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return the products, their smoothing and the coherence."""
        return self._smoothed(grid, "coherence")


@dataclass(frozen=True, eq=False)
class LocalMean(Feature):
    """Mean of the neighbours: of a box of so many samples, or weighted with a Gaussian."""

    name: ClassVar[str] = "mean"
    size: Any = None
    sigma: Any = None

    def _taps(self, grid: Grid) -> tuple[Array, ...]:
        if self.sigma is not None:
            return grid.gaussians(self.sigma)
        sizes = (self.size,) * grid.ndim if np.ndim(self.size) == 0 else tuple(self.size)
        return tuple(np.asarray(box1d(int(n))) for n in sizes)

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        return (SweepStep(((0,) * grid.ndim,), tuple((t,) for t in self._taps(grid)), "copies"),)


@dataclass(frozen=True, eq=False)
class LocalVariance(LocalMean):
    """Variance of the neighbours, ``mean(x**2) - mean(x)**2``."""

    name: ClassVar[str] = "variance"

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return powers, their means and the variance."""
        return (SmoothedStep(Powers(grid.ndim), self._taps(grid), "variance"),)


@dataclass(frozen=True, eq=False)
class GaussianFeatures(Feature):
    """Smoothing, gradient magnitude, Laplacian and Hessian eigenvalues of one scale, in one sweep."""

    name: ClassVar[str] = "gaussian_features"
    least_axes: ClassVar[int] = 2
    most_axes: ClassVar[int] = 3
    sigma: Any = 1.0

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return the names of the features."""
        return ("gaussian", "gradient", "laplacian", *numbered("hessian", ndim))

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return one sweep."""
        ndim = grid.ndim
        orders = ((0,) * ndim, *unit_orders(ndim), *hessian_orders(ndim))
        taps = grid.derivatives(SAMPLED, self.sigma)
        return (SweepStep(orders, taps, "gaussian_features"),)
