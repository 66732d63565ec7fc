"""Calls of the functions of features: recorded for a plan, for each variable of an xarray object, stacked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from separable.arrays import ImageShape, package_of
from separable.borders import Border
from separable.features.feature_base import Feature, Grid

__all__ = ["FeatureCall", "over_variables", "recorded", "stacked"]

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

XARRAY = "separable.xarray_accessor.feature_dims"  # imported by name: it stands above this package


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


def over_variables(function: Function) -> Function:
    """Return a function that also takes xarray objects, and gives the results their dims and coordinates.

    Examples
    --------
    >>> xr = __import__("pytest").importorskip("xarray")
    >>> @over_variables
    ... def doubled(image, **options):
    ...     return 2 * image
    >>> doubled(xr.DataArray([1, 2], dims="x")).dims
    ('x',)
    """

    @wraps(function)
    def call(image: Any, *arguments: Any, **options: Any) -> Any:
        if package_of(image) == "xarray":
            return importlib.import_module(XARRAY).feature_of(function, image, arguments, options)
        return function(image, *arguments, **options)

    return cast("Function", call)
