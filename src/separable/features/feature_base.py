"""Features as values: what a feature is called, which sweeps compute it, and what must be known before.

A feature is a frozen dataclass with its parameters. Arrays, files and Dask arrays take any of them. Lengths are in the unit
of the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.features.derivative_taps import DerivativeForm, axis_taps
from separable.features.feature_steps import SweepStep
from separable.features.smoothed_steps import SmoothedStep
from separable.kernels import gaussian1d
from separable.value import Value

__all__ = ["Feature", "Grid", "Step", "hessian_names", "numbered"]

Array = NDArray[Any]
Step: TypeAlias = "SweepStep | SmoothedStep"


@dataclass(frozen=True)
class Grid:
    """Number of axes, and the distance between neighbouring samples along each."""

    spacing: tuple[float, ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.spacing)

    def lengths(self, name: str, value: Any) -> tuple[float, ...]:
        """Return one length > 0 per axis.

        Raises
        ------
        ArgumentError
            If there is not one for each axis, or one is not > 0.
        """
        found = (value,) * self.ndim if np.ndim(value) == 0 else tuple(value)
        if len(found) != self.ndim:
            raise ArgumentError(
                f"`{name}` must be one number, or one for each of {self.ndim} axes; got {value!r}"
            )
        return tuple(float(v) for v in found)

    def derivatives(self, form: DerivativeForm, sigma: Any) -> tuple[tuple[Array, ...], ...]:
        """Return the taps of all orders along each axis."""
        sigmas = self.lengths("sigma", sigma)
        return tuple(
            tuple(axis_taps(form, s, step)) for s, step in zip(sigmas, self.spacing, strict=True)
        )

    def gaussians(self, sigma: Any) -> tuple[Array, ...]:
        """Return smoothing taps along each axis."""
        sigmas = self.lengths("sigma", sigma)
        return tuple(gaussian1d(s / step) for s, step in zip(sigmas, self.spacing, strict=True))


@dataclass(frozen=True, eq=False)
class Feature(Value):
    """A feature and its parameters.

    Attributes
    ----------
    name : str
        Name of the class of features, for users.
    """

    name: ClassVar[str]
    least_axes: ClassVar[int] = 1
    most_axes: ClassVar[int] = 8

    def labels(self, ndim: int) -> tuple[str, ...]:
        """Return the names of the results for an image of so many axes."""
        return (self.name,)

    def reductions(self, grid: Grid) -> tuple[SweepStep, ...]:
        """Return the steps whose maxima over the image must be known before."""
        return ()

    def steps(self, grid: Grid, maxima: Sequence[float] = ()) -> tuple[Step, ...]:
        """Return the steps; those after the first one accumulate into the same results, or follow them."""
        raise NotImplementedError


def hessian_names(prefix: str, ndim: int) -> tuple[str, ...]:
    """Return the names of the elements of an upper triangle.

    Examples
    --------
    >>> hessian_names("hessian", 2)
    ('hessian_00', 'hessian_01', 'hessian_11')
    """
    return tuple(f"{prefix}_{i}{j}" for i in range(ndim) for j in range(i, ndim))


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Return a name with the numbers 1 to `count`.

    Examples
    --------
    >>> numbered("hessian", 2)
    ('hessian_1', 'hessian_2')
    """
    return tuple(f"{name}_{k + 1}" for k in range(count))
