"""Resample the variables of a `Dataset` along common dims."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from separable.errors import OutputError
from separable.resample.resampled_arrays import BandRequest
from separable.xarray_accessor.dataset import DatasetAccessor, step_along, variables_with
from separable.xarray_accessor.resampled_dims import coords_on, run_request

__all__ = ["DatasetImage", "dataset_axes"]


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """A `Dataset` seen as one image, whose axes are the dims of the dataset.

    Attributes
    ----------
    dataset : Dataset

    Examples
    --------
    >>> both = DatasetImage(xr.Dataset({"a": (("y", "x"), np.ones((2, 3), "f4")), "b": ("x", np.ones(3))}))
    >>> both.shape, both.dtype
    ((2, 3), dtype('float64'))
    """

    dataset: xr.Dataset

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Dims of the dataset."""
        return tuple(self.dataset.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples along each dim."""
        return tuple(self.dataset.sizes.values())

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.dataset.sizes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Common type of the variables of numbers."""
        numbers = [v.dtype for v in self.dataset.data_vars.values() if v.dtype.kind in "biufc"]
        return np.result_type(*numbers) if numbers else np.dtype(np.float64)

    def spacing(self, axes: tuple[int, ...]) -> tuple[float, ...]:
        """Return the steps of the coordinates along some axes."""
        return tuple(step_along(self.dataset, self.dims[axis]).size for axis in axes)

    def run_request(self, request: BandRequest, output: Any) -> xr.Dataset:
        """Resample each variable of numbers along those of the dims that it has.

        Variables that hold no numbers are left out where they have a resampled dim.

        Raises
        ------
        OutputError
            If `output` is an array.
        """
        if hasattr(output, "dims") or isinstance(output, np.ndarray):
            raise OutputError("`output` must be a type for a Dataset, whose variables are new")
        grids = {self.dims[axis]: grid for axis, grid in request.grids.items()}
        found: dict[Hashable, Any] = {}
        for name, one in self.dataset.data_vars.items():
            if not grids.keys() & set(one.dims):
                found[name] = one.variable
            elif one.dtype.kind in "biufc":
                own = _for_variable(request, self.dims, one)
                found[name] = run_request(one.drop_vars(list(one.coords)), own, output).variable
        return xr.Dataset(found, coords_on(self.dataset.coords, grids), self.dataset.attrs)


def dataset_axes(dataset: xr.Dataset, axes: Any) -> tuple[DatasetImage, tuple[int, ...]]:
    """Return a dataset as an image, and its axes to resample.

    Raises
    ------
    ArgumentError
        If no variable of numbers has all the dims.

    Examples
    --------
    >>> dataset_axes(xr.Dataset({"a": (("time", "y", "x"), np.zeros((2, 3, 4)))}), None)[1]
    (1, 2)
    """
    dims = DatasetAccessor(dataset).dims_of(axes)
    variables_with(dataset, dims)
    image = DatasetImage(dataset)
    return image, tuple(image.dims.index(dim) for dim in dims)


def _for_variable(
    request: BandRequest, dims: tuple[Hashable, ...], variable: xr.DataArray
) -> BandRequest:
    """Return a request with the axes of a variable in place of those of the dataset."""
    place = {axis: variable.dims.index(d) for axis, d in enumerate(dims) if d in variable.dims}
    return replace(
        request,
        bands={place[a]: band for a, band in request.bands.items() if a in place},
        grids={place[a]: grid for a, grid in request.grids.items() if a in place},
    )
