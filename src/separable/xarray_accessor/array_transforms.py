"""Methods of `SeparableAccessor` that resample a `DataArray` and compute its features."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from separable import features
from separable import resample as resampling
from separable.errors import ArgumentError
from separable.xarray_accessor.spacing import UNITS, dims_of, lengths_along, per_dim, steps_along

__all__ = ["ArrayTransforms", "Dims", "Lengths", "computed_feature"]

Dims: TypeAlias = "Hashable | Sequence[Hashable] | None"
Lengths: TypeAlias = "float | str | np.timedelta64 | Sequence[Any] | Mapping[Hashable, Any]"

FEATURES = tuple(
    name for name in features.__all__
    if next(iter(inspect.signature(getattr(features, name)).parameters), "") == "image"
)  # fmt: skip


class ArrayTransforms:
    """Resampling and features, methods of ``array.separable``.

    Parameters
    ----------
    array : DataArray

    Examples
    --------
    >>> ArrayTransforms(xr.DataArray([0.0, 4.0], dims="x")).resize(4).values
    array([0., 1., 3., 4.])
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def resample(self, spacing: Lengths, dims: Dims = None, **options: Any) -> xr.DataArray:
        """Resample the array along dims to another spacing; coordinates are those of the new samples.

        Parameters
        ----------
        spacing : length, sequence or dict of dim to length
            New distance between neighbours, in the units of the coordinates; durations along times.
        dims : str or sequence of str, optional
            Dims to resample. Default is those that `spacing` names, else the spatial ones.
        **options
            Options of `separable.resample.resample`: interpolation, antialias, align, mode ...

        Returns
        -------
        DataArray
            Coordinates of one dim are interpolated; other coordinates along a resampled dim are left out.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If there is no such dim, it is not evenly spaced, or a length is wrong.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> line = xr.DataArray(np.arange(6.0), {"x": 2.0 * np.arange(6)}, "x")
        >>> line.separable.resample(4.0).x.values
        array([1., 5., 9.])
        """
        found = dims_of(self._array, dims, (spacing,))
        steps = steps_along(self._array, found, "coordinates")
        lengths = per_dim("spacing", lengths_along("spacing", spacing, steps, several=True), found)
        before = tuple(step.size for step in steps)
        where = self._array.get_axis_num(found)
        result: Any = resampling.resample(self._array, before, lengths, axes=where, **options)
        return _as_array(result)

    def resize(self, shape: Any, dims: Dims = None, **options: Any) -> xr.DataArray:
        """Take another number of samples along dims, as `separable.resample.resize`.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> line = xr.DataArray([0.0, 4.0], {"x": [10.0, 20.0]}, "x")
        >>> line.separable.resize({"x": 4}).x.values
        array([ 7.5, 12.5, 17.5, 22.5])
        """
        found = dims_of(self._array, dims, (shape,))
        where, sizes = self._array.get_axis_num(found), per_dim("shape", shape, found)
        return _as_array(resampling.resize(self._array, sizes, axes=where, **options))

    def rescale(self, factor: Any, dims: Dims = None, **options: Any) -> xr.DataArray:
        """Take `factor` times as many samples along dims, as `separable.resample.rescale`.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> xr.DataArray(np.zeros((4, 6)), dims=("y", "x")).separable.rescale(0.5).shape
        (2, 3)
        """
        found = dims_of(self._array, dims, (factor,))
        where, factors = self._array.get_axis_num(found), per_dim("factor", factor, found)
        return _as_array(resampling.rescale(self._array, factors, axes=where, **options))

    def feature(
        self, name: str | Callable[..., Any], *arguments: Any, dims: Dims = None, **options: Any
    ) -> Any:
        """Compute a feature of the array; scales are in the units of the coordinates.

        Parameters
        ----------
        name : str or function
            "frangi", "hessian_eigenvalues", "gradient_magnitude" ...
        *arguments
            Arguments of the function after the image.
        dims : str or sequence of str, optional
            Dims of the image. Default is the spatial ones; the others are independent images.
        **options
            Options of the function, and `units`: "coordinates" (the default) or "samples".

        Returns
        -------
        DataArray, or a list, tuple or FeatureStack of them
            Several results in one array are the first dim, "feature".

        Raises
        ------
        ArgumentError
            If there is no such function, or a coordinate is not evenly spaced.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> ramp = xr.DataArray(np.tile(np.arange(40.0), (20, 1)), {"x": 0.5 * np.arange(40)}, ("y", "x"))
        >>> float(ramp.separable.feature("gradient_magnitude", 1.0)[10, 20].round(2))
        2.0
        """
        found = dims_of(self._array, dims, ())
        return computed_feature(self._array, name, arguments, found, options)


def computed_feature(
    image: Any,
    name: str | Callable[..., Any],
    arguments: Sequence[Any],
    dims: tuple[Hashable, ...],
    options: dict[str, Any],
) -> Any:
    """Compute a feature of an xarray object along dims; parameters are those of `SeparableAccessor.feature`.

    Examples
    --------
    >>> line = xr.DataArray(np.eye(5), dims=("y", "x"))
    >>> computed_feature(line, "local_mean", (1,), ("y", "x"), {}).dims
    ('y', 'x')
    """
    if callable(name):
        function = name
    elif name in FEATURES:
        function = getattr(features, name)
    else:
        raise ArgumentError(f"`name` must be one of {', '.join(FEATURES)}; got {name!r}")
    units = options.pop("units", "coordinates")
    if units not in UNITS:
        raise ArgumentError(f"`units` must be one of {', '.join(UNITS)}; got {units!r}")
    if units == "coordinates" and options.get("spacing") is None:
        options["spacing"] = "coordinates"
    return function(image, *arguments, axes=dims, **options)


def _as_array(result: Any) -> xr.DataArray:
    found: xr.DataArray = result
    return found
