"""The set of features of ilastik's pixel classification: six features at several scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import array_of, package_of
from separable.errors import ArgumentError
from separable.features.feature_base import Feature
from separable.features.feature_calls import over_variables, stacked
from separable.features.feature_documentation import documented
from separable.features.feature_run import FeatureOptions, compute
from separable.features.feature_values import (
    GaussianFeatures,
    GaussianSmoothing,
    StructureTensorEigenvalues,
)
from separable.features.ridge_values import BlobResponse
from separable.features.ridges import check_sigmas

__all__ = ["TEXTURES", "FeatureStack", "texture_features"]

Array = NDArray[Any]
SIGMAS = (0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
NARROW = 0.66  # ilastik's second scale of the difference of Gaussians
OUTER = 0.5  # ilastik's smoothing of the structure tensor, as a part of the scale

TEXTURES = (
    "gaussian",
    "laplacian",
    "gradient",
    "difference",
    "structure_tensor",
    "hessian",
)
"""Names of the features, in the order of ilastik."""


@dataclass(frozen=True)
class FeatureStack:
    """Features of one image, with their names.

    Attributes
    ----------
    names : tuple of str
        Names such as ``"hessian_1 at 1.6"``.
    values : ndarray, shape (features, ...)
        The features; of an xarray object with the dim "feature", whose coordinate has the names.

    Examples
    --------
    >>> stack = FeatureStack(("a", "b"), np.arange(4.0).reshape(2, 2))
    >>> stack["b"], stack.table.shape
    (array([2., 3.]), (2, 2))
    """

    names: tuple[str, ...]
    values: Array

    def __getitem__(self, name: str) -> Array:
        """Return one feature by its name."""
        if name not in self.names:
            raise ArgumentError(f"there is no feature {name!r}; there are {', '.join(self.names)}")
        place = self.names.index(name)
        found: Any = self.values  # a `Dataset` of several images has no position to count from
        taken: Array = found[place] if not hasattr(found, "isel") else found.isel(feature=place)
        return taken

    @property
    def table(self) -> Array:
        """The features as scikit-learn takes them: one row per sample, one column per feature."""
        found: Any = self.values
        if package_of(found) == "xarray":
            found = found.data if hasattr(found, "data") else array_of(found, "values")
        table: Array = found.reshape(len(self.names), -1).T
        return table


@documented
@over_variables
def texture_features(
    image: ArrayLike,
    sigmas: Iterable[float] = SIGMAS,
    features: Sequence[str] = TEXTURES,
    *,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> FeatureStack:
    """Compute the features of ilastik's pixel classification at several scales.

    All derivatives of one scale are computed in one sweep.

    Parameters
    ----------
    %(image)s
    %(sigmas)s
    features : sequence of str
        Some of: gaussian (the smoothed image), laplacian (Laplacian of Gaussian), gradient (length of
        the gradient), difference (Gaussians of ``sigma`` minus ``0.66 sigma``), structure_tensor
        (eigenvalues for derivatives of ``sigma``, smoothed by ``0.5 sigma``), hessian (eigenvalues).
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    FeatureStack
        The features, scale by scale, with their names.

    Raises
    ------
    %(raises)s

    References
    ----------
    Berg et al., 2019, ilastik, doi:10.1038/s41592-019-0582-9.

    Examples
    --------
    >>> found = texture_features(np.eye(16), [1.0, 2.0])
    >>> len(found.names), found.names[:3], found.table.shape
    (16, ('gaussian at 1', 'laplacian at 1', 'gradient at 1'), (256, 16))
    """
    wrong = next((name for name in features if name not in TEXTURES), None)
    if wrong is not None or not len(features) or isinstance(features, str):
        raise ArgumentError(
            f"`features` must be some of {', '.join(TEXTURES)}; got "
            f"{features if wrong is None else wrong!r}"
        )
    common = FeatureOptions.of(mode, cval, options)
    names: list[str] = []
    values: list[Array] = []
    for sigma in check_sigmas(sigmas):
        found = _at_scale(image, sigma, tuple(features), common)
        for name in TEXTURES:
            for label, one in found.items():
                if name in features and (label == name or label.startswith(f"{name}_")):
                    names.append(f"{label} at {_text(sigma)}")
                    values.append(one)
    return FeatureStack(tuple(names), stacked(values))


def _at_scale(
    image: ArrayLike, sigma: Any, wanted: tuple[str, ...], common: FeatureOptions
) -> dict[str, Array]:
    """Return the features of one scale by their labels."""
    found: dict[str, Array] = {}

    def add(feature: Feature) -> None:
        values = compute(feature, image, common)
        found.update(zip(feature.labels(_axes_of(values, common)), values, strict=True))

    ndim = np.ndim(image) if common.axes is None else np.size(common.axes)
    derived = {"laplacian", "gradient", "hessian"} & set(wanted)
    if derived and ndim in (2, 3):
        add(GaussianFeatures(sigma))
    elif derived:
        raise ArgumentError(
            f"{', '.join(sorted(derived))} need 2 or 3 axes; got {ndim}. Choose them with `axes`"
        )
    elif "gaussian" in wanted:
        add(GaussianSmoothing(sigma))
    if "difference" in wanted:
        # g_sigma - g_narrow = -(ratio - 1) times the normalised difference of the narrow scale.
        narrow = np.multiply(sigma, NARROW)
        scale = tuple(narrow) if np.ndim(narrow) else float(narrow)
        values = compute(BlobResponse(scale, "dog", 1 / NARROW), image, common)[0]
        found["difference"] = values * (1 - 1 / NARROW)
    if "structure_tensor" in wanted:
        outer = np.multiply(sigma, OUTER)
        add(StructureTensorEigenvalues(tuple(outer) if np.ndim(outer) else float(outer), sigma))
    return found


def _axes_of(values: Array, common: FeatureOptions) -> int:
    return values.ndim - 1 if common.axes is None else np.size(common.axes)


def _text(sigma: Any) -> str:
    return "x".join(f"{s:g}" for s in np.atleast_1d(sigma))
