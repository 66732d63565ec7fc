"""Outputs of a region of a `DataArray` or `Dataset`, at every n-th place of its dims, with their coordinates."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from separable.errors import OutputError
from separable.factors import Factors
from separable.kernels.parse import read_kernel_of
from separable.request import kernel_axes
from separable.resample.axis_grids import Grid
from separable.resample.region_filters import filter_region as filter_data
from separable.resample.region_plans import plan_region
from separable.xarray_accessor.dataset import DatasetAccessor, variables_with
from separable.xarray_accessor.engine_hook import aligned_mask, by_dims, filtered_axes
from separable.xarray_accessor.resampled_dims import on_grids

__all__ = ["filter_region"]


def filter_region(
    image: Any,
    kernel: Any,
    output: Any,
    *,
    output_region: Any = "same",
    stride: Any = 1,
    missing: Any = None,
    axes: Any = None,
    **options: Any,
) -> Any:
    """Filter a `DataArray` where a region and a stride say; the result has the coordinates of its samples.

    Of a `Dataset` the variables that have all the dims are filtered. Others that have one of them are taken
    at the places of the outputs, and left out where these reach beyond the image.

    Raises
    ------
    OutputError
        If `output` is an array.

    Examples
    --------
    >>> line = xr.DataArray(np.arange(6.0), {"x": 10.0 * np.arange(6)}, "x")
    >>> found = filter_region(line, [1, 1, 1], None, output_region="valid", stride=2)
    >>> found.values, found.x.values
    (array([3., 9.]), array([10., 30.]))
    """
    if isinstance(image, xr.Dataset):
        asked = {**options, "output_region": output_region, "stride": stride, "missing": missing}
        return _region_of_dataset(image, kernel, output, axes, asked)
    if not isinstance(image, xr.DataArray):
        return filter_data(
            image.data, kernel, output, output_region=output_region, stride=stride, missing=missing,
            axes=axes, **options,
        )  # fmt: skip
    if hasattr(output, "dims") or isinstance(output, np.ndarray):
        raise OutputError("`output` must be a type for a DataArray, whose result has coordinates")
    kernel = read_kernel_of(kernel, axes, image.ndim)
    count = len(kernel.shape) if isinstance(kernel, Factors) else np.ndim(kernel)
    where = kernel_axes(filtered_axes(image, kernel, axes), image.ndim, count)
    options = by_dims(options, tuple(image.dims[a] for a in where))
    if missing is not None and missing.mask is not None:
        missing = missing._replace(mask=aligned_mask(missing.mask, image, where))
    data = filter_data(
        image.data, kernel, output, output_region=output_region, stride=stride, missing=missing,
        axes=where, **options,
    )  # fmt: skip
    planned = plan_region(
        kernel, image.shape, image.dtype, output_region=output_region, stride=stride, axes=where,
        **{k: v for k, v in options.items() if k != "progress"},
    )  # fmt: skip
    grids = {
        image.dims[one.axis]: Grid(one.length, one.size, float(one.stride), float(one.first))
        for one in planned.axes
    }
    return on_grids(image, data, grids)


def _region_of_dataset(
    dataset: xr.Dataset, kernel: Any, output: Any, axes: Any, options: dict[str, Any]
) -> xr.Dataset:
    """Filter the variables that have all the dims, and take the others where the outputs lie."""
    dims = DatasetAccessor(dataset).dims_of(axes)
    found: dict[Hashable, Any] = {
        name: filter_region(dataset[name], kernel, output, axes=dims, **options)
        for name in variables_with(dataset, dims)
    }
    first = next(iter(found))
    planned = plan_region(
        read_kernel_of(kernel, dims, len(dims)), [dataset.sizes[dim] for dim in dims], np.float32,
        output_region=options["output_region"], stride=options["stride"],
        origin=by_dims({"origin": options.get("origin", 0)}, dims)["origin"],
        operation=options.get("operation", "convolve"),
    )  # fmt: skip
    places = {dims[one.axis]: one.places for one in planned.axes}
    for name, one in dataset.data_vars.items():
        moved = {dim: places[dim] for dim in one.dims if dim in places}
        if not moved:
            found[name] = one
        elif name not in found and all(
            p.min(initial=0) >= 0 and p.max(initial=0) < dataset.sizes[d] for d, p in moved.items()
        ):
            found[name] = one.isel(moved).variable
    ordered = {name: found[name] for name in dataset.data_vars if name in found}
    return xr.Dataset(ordered, found[first].coords, dataset.attrs)
