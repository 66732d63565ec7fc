"""Spacing of the samples of a `DataArray`, from its coordinates, and lengths in their units."""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from separable.errors import ArgumentError, ArgumentTypeError
from separable.files.axis_names import letter_by_attributes, letters_of
from separable.files.image_info import SPACE
from separable.request import axes_by_name, per_axis

__all__ = [
    "UNITS",
    "Step",
    "dims_of",
    "is_spatial",
    "lengths_along",
    "per_dim",
    "spatial_dims",
    "step_of",
    "steps_along",
]

UNITS = ("coordinates", "samples")
UNEVEN = 1e-6  # relative: a coordinate whose steps differ by more is not evenly spaced
DURATIONS = (str, np.timedelta64, datetime.timedelta)


@dataclass(frozen=True)
class Step:
    """Distance from one sample of a dim to the next.

    Attributes
    ----------
    dim : hashable
        The dim.
    size : float
        Distance > 0, in the units of the coordinate, in seconds for times, or 1 for samples.
    falls : bool
        Whether the coordinate descends.
    is_time : bool
        Whether lengths along it are durations.
    """

    dim: Hashable
    size: float = 1.0
    falls: bool = False
    is_time: bool = False


def step_of(array: xr.DataArray, dim: Hashable) -> Step:
    """Return the step of a dim's coordinate, or of one sample if it has none.

    Raises
    ------
    ArgumentError
        If the coordinate is not evenly spaced, does not change, or does not hold numbers or times.
    """
    if dim not in array.coords:
        return Step(dim)
    values = np.asarray(array.coords[dim].values)
    is_time = values.dtype.kind in "mM"
    if values.dtype.kind not in "iufmM":
        raise ArgumentError(
            f"the coordinate of `{dim}` must hold numbers or times to measure lengths with; got "
            f'{values.dtype}. Count samples with units="samples", or leave `{dim}` out of dims'
        )
    if len(values) < 2:
        raise ArgumentError(
            f"the coordinate of `{dim}` must have two values or more to tell its step; got "
            f'{len(values)}. Count samples with units="samples", or leave `{dim}` out of dims'
        )
    if is_time:
        seconds = (values - values[0]) / np.timedelta64(1, "s")
        steps, rounding = np.diff(seconds), 0.0
    else:
        wide = values.astype(np.float64)
        steps = np.diff(wide)
        own = np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps
        rounding = 2.0 * float(own * np.abs(wide).max())
    return _even(dim, steps, rounding, is_time)


def _even(dim: Hashable, steps: Any, rounding: float, is_time: bool) -> Step:
    """Return the common step, or raise an error if the steps differ by more than rounding."""
    mean = float(steps.mean())
    worst = float(np.abs(steps - mean).max())
    unit = " s" if is_time else ""
    if not np.isfinite(mean) or mean == 0 or worst > max(UNEVEN * abs(mean), rounding):
        where = int(np.argmax(np.abs(steps - mean))) if np.isfinite(mean) else 0
        share = f", {worst / abs(mean):.2g} of it" if mean else ""
        raise ArgumentError(
            f"the coordinate of `{dim}` must be evenly spaced; its mean step is {mean:.6g}{unit}, "
            f"and the one after index {where} is {float(steps[where]):.6g}{unit}: a difference of "
            f"{worst:.3g}{unit}{share}. Interpolate to even steps (DataArray.interp), or count "
            'samples with units="samples"'
        )
    return Step(dim, abs(mean), mean < 0, is_time)


def dims_of(array: xr.DataArray, dims: Any, values: Sequence[Any]) -> tuple[Hashable, ...]:
    """Return the dims to filter: the given ones, or those that a dict names, or the spatial ones.

    Raises
    ------
    ArgumentError
        If the array has no such dim, or one is named twice, or none is given and none is spatial.
    """
    if dims is None:
        named = [set(v) for v in values if isinstance(v, Mapping)]
        chosen = set().union(*named) if named else set(spatial_dims(array))
        unknown = [d for d in chosen if d not in array.dims]
        found = (*(d for d in array.dims if d in chosen), *unknown)
    elif isinstance(dims, str) or not isinstance(dims, Sequence):
        found = (dims,)
    else:
        found = tuple(dims)
    axes_by_name(found, array.dims, name="dims", numbers=False)
    if len(set(found)) != len(found):
        raise ArgumentError(f"`dims` must be different from each other; got {dims!r}")
    return found


def is_spatial(data: xr.DataArray | xr.Dataset, dim: Hashable) -> bool:
    """Return whether a dim is space, by its name and the attributes of its coordinate.

    Dims of unknown names are spatial, as in files.

    Examples
    --------
    >>> import numpy as np
    >>> cube = xr.DataArray(np.zeros((2, 3, 4)), dims=("time", "lat", "band"))
    >>> [is_spatial(cube, dim) for dim in cube.dims]
    [False, True, False]
    """
    letter = letters_of([str(dim)])
    if dim in data.coords:
        coordinate = data.coords[dim]
        if coordinate.dtype.kind in "mM":
            return False
        letter = letter_by_attributes(coordinate.attrs) or letter
    return letter in SPACE


def spatial_dims(array: xr.DataArray) -> tuple[Hashable, ...]:
    """Return the spatial dims of an array; the only dim of a series, whatever it is.

    Raises
    ------
    ArgumentError
        If none of several dims is spatial.
    """
    if array.ndim < 2:
        return tuple(array.dims)
    found = tuple(dim for dim in array.dims if is_spatial(array, dim))
    if not found:
        raise ArgumentError(
            f"none of the dims {', '.join(map(str, array.dims))} is spatial: name the ones to filter, "
            f"for instance dims={array.dims[0]!r}"
        )
    return found


def per_dim(
    name: str, value: Any, dims: Sequence[Hashable], default: Any = None
) -> tuple[Any, ...]:
    """Return one value for each dim; a mapping has them by name."""
    of = f"dims {', '.join(map(str, dims))}"
    if not isinstance(value, (Mapping, list, tuple, np.ndarray)):
        return (value,) * len(dims)
    return per_axis(name, value, len(dims), of=of, names=tuple(dims), default=default)


def steps_along(array: xr.DataArray, dims: tuple[Hashable, ...], units: str) -> list[Step]:
    """Return the distance of neighbours along dims: that of the coordinates, or one sample if `units` is "samples".

    Raises
    ------
    ArgumentError
        If there is no dim, a coordinate is not evenly spaced, or there are no such units.

    Examples
    --------
    >>> line = xr.DataArray([1.0, 2.0], {"x": [0.0, 2.0]}, "x")
    >>> steps_along(line, ("x",), "coordinates")[0].size, steps_along(line, ("x",), "samples")[0].size
    (2.0, 1.0)
    """
    if units not in UNITS:
        raise ArgumentError(f'`units` must be "coordinates" or "samples"; got {units!r}')
    if not dims:
        raise ArgumentError("`dims` must name one dim or more; got none")
    return [Step(d) if units == "samples" else step_of(array, d) for d in dims]


def lengths_along(name: str, value: Any, steps: Sequence[Step], *, several: bool) -> Any:
    """Return lengths for a kernel's function: numbers, durations in seconds.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : float, duration, or mapping of dims to those
        The lengths.
    steps : sequence of Step
        Steps of the filtered dims.
    several : bool
        Whether the function takes one length per axis.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a dict does not have a length for each dim, or the length along times is not a duration.
    """
    if not several:
        if isinstance(value, (Mapping, list, tuple)):
            raise ArgumentTypeError(f"`{name}` must be one length for all dims; got {value!r}")
        found = [_length(name, value, step) for step in steps]
        return found[0]
    values = per_dim(name, value, [step.dim for step in steps])
    found = [_length(name, v, step) for v, step in zip(values, steps, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _length(name: str, value: Any, step: Step) -> Any:
    if step.is_time:
        if not isinstance(value, DURATIONS):
            raise ArgumentTypeError(
                f'`{name}` along `{step.dim}`, whose coordinate is a time, must be a duration such as "3h" '
                f"or numpy.timedelta64(3, 'h'); got {value!r}. Give a dict with one length a dim, "
                'or count samples with units="samples"'
            )
        try:
            return pd.Timedelta(value).total_seconds()
        except ValueError:
            raise ArgumentError(
                f'`{name}` along `{step.dim}` must be a duration such as "3h"; got {value!r}'
            ) from None
    if isinstance(value, DURATIONS):
        raise ArgumentTypeError(
            f"`{name}` along `{step.dim}`, whose coordinate is not a time, must be a number; got {value!r}"
        )
    return value
