"""Features that a function would compute of an image, recorded for a plan."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.arrays import ImageShape, package_of
from separable.borders import Border
from separable.features.feature_base import Feature, Grid

__all__ = ["FeatureCall", "recorded", "stacked"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class FeatureCall:
    """A feature with the grid and the border modes of its image."""

    feature: Feature
    grid: Grid
    modes: tuple[Border, ...]


def recorded(image: ImageShape, call: FeatureCall, dtype: np.dtype[Any]) -> Array:
    """Record a call, and return results without samples, which later steps of a function take.

    Examples
    --------
    >>> from separable.features.feature_values import GradientMagnitude
    >>> image = ImageShape((4, 5), np.dtype("f4"))
    >>> recorded(image, FeatureCall(GradientMagnitude(), Grid((1.0, 1.0)), ()), image.dtype).shape
    (1, 0, 0)
    """
    image.calls.append(call)
    count = len(call.feature.labels(call.grid.ndim))
    return np.empty((count, *(0,) * image.ndim), dtype)


def stacked(results: Sequence[Any]) -> Any:
    """Return results along a new first axis: an array, a Dask array or a tensor, as they are.

    Examples
    --------
    >>> stacked([np.zeros(3), np.ones(3)]).shape
    (2, 3)
    """
    if package_of(results[0]) == "torch":
        return importlib.import_module("torch").stack(list(results))
    return np.stack(results)
