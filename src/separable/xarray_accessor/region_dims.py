"""Outputs of a region of a `DataArray`, at every n-th place of its dims, with their coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from separable.errors import ArgumentTypeError, OutputError
from separable.factors import Factors
from separable.kernels.parse import read_kernel_of
from separable.request import kernel_axes
from separable.resample.axis_grids import Grid
from separable.resample.region_filters import filter_region as filter_data
from separable.resample.region_plans import plan_region
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

    Raises
    ------
    ArgumentTypeError
        If it is a `Dataset`.
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
        raise ArgumentTypeError(
            "`output_region` and `stride` are for one variable; got a Dataset. Filter each: "
            "dataset.map(lambda variable: separable.convolve(variable, kernel, stride=2))"
        )
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
