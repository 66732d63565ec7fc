"""Filters of xarray's `DataArray` and `Dataset`, with named axes and units from the coordinates.

``import separable.xarray_accessor`` registers ``.separable`` on every `DataArray` and `Dataset`::

    import separable.xarray_accessor

    smooth = volume.separable.gaussian(sigma=2.0, dims=("z", "y", "x"))

Lengths are in the units of the coordinates of the filtered dims, so that a Gaussian is as wide
across slices 3 mm apart as within them, and derivatives are per unit. Along a dim without a coordinate
lengths are in samples; with ``units="samples"`` they are in samples along all dims.

`separable.convolve` and `separable.correlate` accept a `DataArray` too, with names of dims for
``axes``, and return one; their kernels are in samples. Dask arrays remain lazy.

Examples
--------
>>> import numpy as np, xarray as xr
>>> import separable.xarray_accessor
>>> z, x = 3.0 * np.arange(9), np.arange(32.0)
>>> ramp = xr.DataArray(np.add.outer(z, x), dims=("z", "x"), coords={"z": z, "x": x})
>>> ramp.separable.derivative("z").values[4, :3]
array([1., 1., 1.])
>>> ramp.separable.gaussian(sigma={"z": 6, "x": 2}).dims
('z', 'x')
"""

import xarray as xr

from separable.xarray_accessor.data_array import SeparableAccessor
from separable.xarray_accessor.dataset import DatasetAccessor, filter_with

__all__ = ["DatasetAccessor", "SeparableAccessor", "filter_with"]

xr.register_dataarray_accessor("separable")(SeparableAccessor)  # type: ignore[no-untyped-call, unused-ignore]
xr.register_dataset_accessor("separable")(DatasetAccessor)  # type: ignore[no-untyped-call, unused-ignore]
