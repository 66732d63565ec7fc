"""Resample a `DataArray` along dims: spacing from the coordinates, and coordinates of the result."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from separable.errors import OutputError
from separable.request import axes_by_name, check_axes
from separable.resample.axis_grids import Grid
from separable.resample.resampled_arrays import BandRequest
from separable.resample.resampled_arrays import run_request as run_on_data
from separable.xarray_accessor.engine_hook import aligned_mask
from separable.xarray_accessor.spacing import spatial_dims, step_of

__all__ = [
    "coordinate_at",
    "coords_on",
    "on_grids",
    "resampled_axes",
    "run_request",
    "spacing_along",
]

Array = NDArray[Any]


def resampled_axes(image: xr.DataArray, axes: Any) -> tuple[int, ...]:
    """Return the axes of some dims; without `axes` those of the spatial dims.

    Examples
    --------
    >>> cube = xr.DataArray(np.zeros((2, 3, 4)), dims=("time", "y", "x"))
    >>> resampled_axes(cube, None), resampled_axes(cube, "x")
    ((1, 2), (2,))
    """
    if not isinstance(image, xr.DataArray):
        return check_axes(axes, image.ndim)
    names = spatial_dims(image) if axes is None else axes
    return check_axes(axes_by_name(names, image.dims), image.ndim)


def spacing_along(image: xr.DataArray, axes: Sequence[int]) -> tuple[float, ...]:
    """Return the steps of the coordinates along some axes; seconds along times, 1 without a coordinate.

    Raises
    ------
    ArgumentError
        If a coordinate is not evenly spaced.

    Examples
    --------
    >>> line = xr.DataArray(np.zeros(3), {"x": [0.0, 2.0, 4.0]}, "x")
    >>> spacing_along(line, (0,))
    (2.0,)
    """
    return tuple(step_of(image, image.dims[axis]).size for axis in axes)


def run_request(image: Any, request: BandRequest, output: Any) -> Any:
    """Resample the data of a `DataArray`, and its coordinates along the resampled dims.

    Coordinates of one dim that hold numbers or times are interpolated at the places of the new samples,
    and continued in a straight line outside. Other coordinates along a resampled dim are left out.

    Raises
    ------
    OutputError
        If `output` is an array: the result has coordinates of its own.

    Examples
    --------
    >>> from separable.resample import resize
    >>> line = xr.DataArray([0.0, 4.0], {"x": [10.0, 20.0]}, "x", name="depth")
    >>> found = resize(line, 4)
    >>> found.values, found.x.values, found.name
    (array([0., 1., 3., 4.]), array([ 7.5, 12.5, 17.5, 22.5]), 'depth')
    """
    if not isinstance(image, xr.DataArray):  # a `Variable`: dims without coordinates
        return run_on_data(image.data, request, output)
    if hasattr(output, "dims") or isinstance(output, np.ndarray):
        raise OutputError("`output` must be a type for a DataArray, whose result has coordinates")
    mask = request.missing.mask
    if mask is not None:
        own = request.missing._replace(mask=aligned_mask(mask, image, None))
        request = replace(request, missing=own)
    data = run_on_data(image.data, request, output)
    return on_grids(image, data, {image.dims[a]: grid for a, grid in request.grids.items()})


def on_grids(image: xr.DataArray, data: Any, grids: Mapping[Hashable, Grid]) -> xr.DataArray:
    """Return other data with the coordinates of an image at the places of new samples.

    Examples
    --------
    >>> line = xr.DataArray(np.arange(4.0), {"x": np.arange(4.0)}, "x")
    >>> on_grids(line, line.data[::2], {"x": Grid(4, 2, 2.0, 0.0)}).x.values
    array([0., 2.])
    """
    coords = coords_on(image.coords, grids)
    return xr.DataArray(data, coords, image.dims, image.name, image.attrs)


def coords_on(coords: Any, grids: Mapping[Hashable, Grid]) -> dict[Hashable, Any]:
    """Return coordinates at the places of new samples, without those that have no values there.

    Examples
    --------
    >>> line = xr.Dataset(coords={"x": [0.0, 1.0, 2.0, 3.0], "name": ("x", list("abcd"))})
    >>> coords_on(line.coords, {"x": Grid(4, 2, 2.0, 0.0)})["x"].values
    array([0., 2.])
    """
    found: dict[Hashable, Any] = {}
    for name, coordinate in coords.items():
        moved = [dim for dim in coordinate.dims if dim in grids]
        if not moved:
            found[name] = coordinate.variable
        elif coordinate.ndim == 1 and coordinate.dtype.kind in "iufmM":
            grid = grids[moved[0]]
            if grid.length == 1 < grid.size:  # one value says no step
                continue
            values = coordinate_at(np.asarray(coordinate.values), grid)
            found[name] = xr.Variable(coordinate.dims, values, coordinate.attrs)
    return found


def coordinate_at(values: Array, grid: Grid) -> Array:
    """Return a coordinate at the places of new samples, continued in a straight line outside.

    Examples
    --------
    >>> coordinate_at(np.array([0.0, 1.0, 4.0]), Grid(3, 2, 1.5, 0.25))
    array([0.25, 3.25])
    """
    places = grid.places
    is_time = values.dtype.kind in "mM"
    origin = values[0]
    known = (values - origin) / np.timedelta64(1, "ns") if is_time else values
    if len(values) == 1:
        return values
    first = np.clip(np.floor(places).astype(np.int64), 0, len(values) - 2)
    low, high = (known[first + k].astype(np.float64) for k in (0, 1))
    found = low + (places - first) * (high - low)
    if is_time:
        return np.asarray(origin + np.rint(found).astype("timedelta64[ns]"))
    kind = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    return np.asarray(found, kind)
