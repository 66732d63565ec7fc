"""`filter_array`, which `separable.convolve` and `separable.correlate` call for a `DataArray`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from separable import filtering
from separable.arrays import array_of
from separable.errors import ArgumentError, OutputError
from separable.factors import Factors
from separable.request import axes_by_name
from separable.xarray_accessor.spacing import is_spatial, per_dim

__all__ = ["aligned_mask", "by_dims", "filter_array", "filtered_axes", "like"]


def filter_array(
    image: Any,
    kernel: ArrayLike | Factors,
    output: Any = None,
    *,
    axes: Any = None,
    mask: Any = None,
    **options: Any,
) -> Any:
    """Filter a `DataArray`.

    The parameters are those of `separable.filtering.filter_with`; `axes` may be names of dims,
    `mode` and `origin` dicts of dims, and `mask` a `DataArray`. A `Variable` is filtered as its
    array.

    Raises
    ------
    SeparableError
        Its subclasses, as for `separable.convolve`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sep
    >>> image = xr.DataArray(np.ones((3, 4)), dims=("y", "x"), name="depth")
    >>> sep.convolve(image, [0.25, 0.5, 0.25], axes="x").name
    'depth'
    """
    if not isinstance(image, xr.DataArray):
        array = array_of(image)
        return filtering.filter_with(array, kernel, output, axes=axes, mask=mask, **options)
    where = filtered_axes(image, kernel, axes)
    names = image.dims if where is None else tuple(image.dims[a] for a in where)
    options = by_dims(options, names)
    target, given = output, {} if mask is None else {"mask": aligned_mask(mask, image, where)}
    if isinstance(output, xr.DataArray):
        if output.dims != image.dims:
            raise OutputError(f"`output` must have the dims {image.dims}; got {output.dims}")
        target = output.data
    data = filtering.filter_with(image.data, kernel, target, axes=where, **given, **options)
    return output if isinstance(output, xr.DataArray) else like(image, data)


def filtered_axes(image: xr.DataArray, kernel: Any, axes: Any) -> tuple[int, ...] | None:
    """Return the axes of named dims, or the spatial axes if the kernel has as many, else None for all of them.

    Examples
    --------
    >>> import numpy as np
    >>> movie = xr.DataArray(np.ones((2, 3, 4)), dims=("time", "y", "x"))
    >>> filtered_axes(movie, np.ones((3, 3)), None), filtered_axes(movie, np.ones(3), "x")
    ((1, 2), (2,))
    """
    if axes is not None:
        return axes_by_name(axes, image.dims)
    count = len(kernel.shape) if isinstance(kernel, Factors) else np.ndim(kernel)
    if count == image.ndim:
        return None
    space = [i for i, dim in enumerate(image.dims) if is_spatial(image, dim)]
    return tuple(space) if len(space) == count else None


def by_dims(options: dict[str, Any], dims: Sequence[Hashable]) -> dict[str, Any]:
    """Return options with one value per dim in place of dicts of dims.

    Examples
    --------
    >>> by_dims({"mode": {"x": "wrap"}}, ("y", "x"))
    {'mode': ('reflect', 'wrap')}
    """
    usual = {"mode": "reflect", "origin": 0}
    return {
        key: per_dim(key, value, dims, usual[key])
        if key in usual and isinstance(value, Mapping)
        else value
        for key, value in options.items()
    }


def aligned_mask(mask: Any, image: xr.DataArray, axes: tuple[int, ...] | None) -> Any:
    """Return the data of a mask in the image's order of dims; other masks are returned as they are.

    Raises
    ------
    ArgumentError
        If it has other coordinates or dims.

    Examples
    --------
    >>> import numpy as np
    >>> image = xr.DataArray(np.ones((2, 3)), dims=("y", "x"))
    >>> aligned_mask(image.T > 0, image, None).shape
    (2, 3)
    """
    if not isinstance(mask, xr.DataArray):
        return mask
    try:
        xr.align(image, mask, join="exact")
    except ValueError as error:
        first = str(error).partition("\n")[0]
        raise ArgumentError(
            f"`mask` must have the coordinates of the image: {first}. Interpolate or select it, or "
            "give its values"
        ) from None
    strange = [d for d in mask.dims if d not in image.dims]
    if strange:
        raise ArgumentError(f"`mask` must have dims of {image.dims}; got {mask.dims}")
    if axes is not None and set(mask.dims) == {image.dims[a] for a in axes}:
        return mask.transpose(*(image.dims[a] for a in axes)).data
    return mask.broadcast_like(image).transpose(*image.dims).data


def like(image: xr.DataArray, data: Any) -> xr.DataArray:
    """Return a `DataArray` with the same coordinates, attributes and name, other data and no encoding."""
    found: xr.DataArray = image.copy(deep=False, data=data)
    for part in (found, *found.coords.values()):
        part.encoding = {}  # `drop_encoding` of xarray 2025.1 would copy the data
    return found
