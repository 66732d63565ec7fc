"""Features of a `DataArray` and of the variables of a `Dataset`: axes by dims, spacing from the coordinates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import xarray as xr

from separable.errors import ArgumentError
from separable.xarray_accessor.dataset import DatasetAccessor, variables_with
from separable.xarray_accessor.engine_hook import aligned_mask, by_dims, like
from separable.xarray_accessor.resampled_dims import resampled_axes, spacing_along

__all__ = ["feature_of"]

ADDED = ("feature", "component")
"""Dims in front of those of the image: numbers of results, and components of vectors."""
COORDINATES = "coordinates"


def feature_of(
    function: Callable[..., Any], image: Any, arguments: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    """Compute a feature of an xarray object; the results have its dims.

    Without `axes` the spatial dims are taken. ``spacing="coordinates"`` takes the spacing of their coordinates.

    Parameters
    ----------
    function : callable
        Function of an array.
    image : DataArray, Dataset or Variable
        Of a `Dataset`, the variables of numbers that have all the dims; the others stay as they are.
    arguments, options
        Further arguments of the function.

    Returns
    -------
    DataArray, Dataset, or a list, tuple or FeatureStack of them
        Several results in one array are the first dim, "feature".

    Raises
    ------
    ArgumentError
        If there is no such dim, or a coordinate is not evenly spaced.

    Examples
    --------
    >>> import numpy as np
    >>> from separable import features
    >>> line = xr.DataArray(np.arange(16.0).reshape(4, 4), {"x": 10.0 * np.arange(4)}, ("y", "x"))
    >>> found = features.hessian_eigenvalues(line, 1.0)
    >>> found.dims, found.x.values
    (('feature', 'y', 'x'), array([ 0., 10., 20., 30.]))
    """
    bound = inspect.signature(function).bind(image, *arguments, **options)
    given = dict(bound.arguments)
    own = given.pop("options", {})
    own = dict(own)
    given.pop("image")
    if isinstance(image, xr.Dataset):
        return _of_dataset(function, image, given, own)
    if not isinstance(image, xr.DataArray):  # a `Variable`: dims without coordinates
        return function(image.data, **given, **own)
    axes = resampled_axes(image, own.pop("axes", None))
    if "mode" in given:
        given |= by_dims({"mode": given["mode"]}, tuple(image.dims[a] for a in axes))
    if isinstance(own.get("spacing"), str):
        if own["spacing"] != COORDINATES:
            raise ArgumentError(
                f'`spacing` must be numbers or "{COORDINATES}"; got {own["spacing"]!r}'
            )
        own["spacing"] = spacing_along(image, axes)
    if own.get("mask") is not None:
        own["mask"] = aligned_mask(own["mask"], image, axes)
    return _wrapped(image, function(image.data, **given, axes=axes, **own))


def _wrapped(image: xr.DataArray, found: Any) -> Any:
    """Return results with the dims and coordinates of an image."""
    if isinstance(found, (list, tuple)):
        return type(found)(_wrapped(image, one) for one in found)
    if is_dataclass(found) and not isinstance(
        found, type
    ):  # a `FeatureStack`, whose values have names
        stack: Any = found
        values = _wrapped(image, stack.values).assign_coords({ADDED[0]: list(stack.names)})
        return replace(stack, values=values)
    added = found.ndim - image.ndim
    if not added:
        return like(image, found)
    dims = (*ADDED[:added], *image.dims)
    coords = {name: one.variable.copy(deep=False) for name, one in image.coords.items()}
    for one in coords.values():
        one.encoding = {}
    return xr.DataArray(found, coords, dims, image.name, image.attrs)


def _of_dataset(
    function: Callable[..., Any], dataset: xr.Dataset, given: dict[str, Any], own: dict[str, Any]
) -> Any:
    """Call a function for each variable that has the dims."""
    dims = DatasetAccessor(dataset).dims_of(own.pop("axes", None))
    results = {
        name: feature_of(function, dataset[name], (), {**given, **own, "axes": dims})
        for name in variables_with(dataset, dims)
    }
    return _assigned(dataset, results)


def _assigned(dataset: xr.Dataset, results: Mapping[Hashable, Any]) -> Any:
    """Return the dataset with the results in place of the variables, once for each of several results."""
    first = next(iter(results.values()))
    if isinstance(first, (list, tuple)):
        count = range(len(first))
        return type(first)(_assigned(dataset, {n: r[k] for n, r in results.items()}) for k in count)
    if is_dataclass(first) and not isinstance(first, type):
        stack: Any = first
        values = {name: found.values for name, found in results.items()}
        return replace(stack, values=_assigned(dataset, values))
    return dataset.assign(results)
