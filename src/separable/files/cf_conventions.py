"""Attributes of netCDF and of what xarray writes: missing values, scale and offset, as the CF conventions define them.

https://cfconventions.org/cf-conventions/cf-conventions.html, sections 2.5.1 (missing data) and 8.1
(packed data).
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError
from separable.files.chunked_io import Region, Source
from separable.files.image_info import ImageInfo
from separable.kernels.units import unit_of
from separable.masked import valid_samples

__all__ = [
    "decoded",
    "even_step",
    "fill_as_text",
    "fill_number",
    "length_unit",
    "linear",
    "referenced",
    "result_attributes",
]

Array = NDArray[Any]

MISSING = ("_FillValue", "missing_value")
PACKED = ("scale_factor", "add_offset", "_Unsigned")
OLD_RANGE = ("valid_min", "valid_max", "valid_range", "actual_range")  # of the old numbers
REFERENCES = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures",
              "ancillary_variables", "formula_terms")  # fmt: skip
EVEN = 1e-3  # relative: coordinates are often stored as float32


def decoded(source: Source, attributes: Mapping[str, Any], fill: Any = None) -> Source:
    """Return a source of the meant numbers: ``scale_factor * stored + add_offset``, NaN where missing.

    Without a scale or an offset the numbers stay as they are, and `ImageInfo.nodata` has the values
    that mark missing samples.

    Parameters
    ----------
    source : Source
    attributes : mapping
        Attributes of the array.
    fill : number, optional
        Fill value of the array, where it marks missing samples.

    Raises
    ------
    FileError
        If an attribute is not what the conventions say.
    """
    nodata = _nodata(source, attributes, fill)
    scale, offset = (_number(source, attributes, key) for key in PACKED[:2])
    unsigned = str(_scalar(attributes.get("_Unsigned", ""))).lower() == "true"
    stored = source.dtype
    if unsigned and stored.kind == "i":
        stored = np.dtype(f"u{stored.itemsize}")
        nodata = tuple(
            int(np.real(v)) % (1 << 8 * stored.itemsize) if v == v else v for v in nodata
        )
    if scale is None and offset is None and stored == source.dtype:
        source.info = replace(source.info, nodata=nodata)
        return source
    if scale is None and offset is None:
        return _converted(source, stored, lambda values: values.view(stored), nodata, "")
    dtype = _wide(stored, offset)
    # An integer attribute counts like the float that it stands for.
    factor, shift = dtype.type(1.0 if scale is None else scale), dtype.type(offset or 0.0)

    def unpack(values: Array) -> Array:
        values = values.view(stored)
        real = np.asarray(np.multiply(values, factor, dtype=dtype) + shift)
        if nodata:
            real[~valid_samples(values, nodata)] = np.nan
        return real

    note = f"numbers are {linear(factor, shift)}, by scale_factor and add_offset"
    return _converted(source, dtype, unpack, (math.nan,) if nodata else (), note)


def _converted(
    source: Source,
    dtype: np.dtype[Any],
    convert: Callable[[Array], Array],
    nodata: tuple[Any, ...],
    note: str,
) -> Source:
    fetch: Callable[[Region], Array] = source.fetch
    source.fetch = lambda region: convert(np.ascontiguousarray(fetch(region)))
    source.dtype = dtype
    notes = (*source.info.notes, *filter(None, [note]))
    source.info = replace(source.info, nodata=nodata, notes=notes)
    return source


def _wide(stored: np.dtype[Any], offset: float | None) -> np.dtype[Any]:
    """Return the type of unpacked numbers, as xarray chooses it: float32 holds 8 and 16 bits with a scale."""
    if stored.kind == "f":
        return np.dtype(np.float64) if stored.itemsize > 4 else np.dtype(np.float32)
    small = stored.itemsize <= 2 and offset is None
    return np.dtype(np.float32 if small else np.float64)


def _nodata(source: Source, attributes: Mapping[str, Any], fill: Any) -> tuple[Any, ...]:
    """Return the values that mark missing samples, `_FillValue` first."""
    found: list[Any] = []
    for value in (attributes.get("_FillValue"), fill, attributes.get("missing_value")):
        for one in np.ravel(fill_number(value)) if value is not None else ():
            number = _as_number(source, one)
            if not any(number == v or (number != number and v != v) for v in found):
                found.append(number)
    if source.dtype.kind in "biu":
        found = [v for v in found if v == v]
    return tuple(found)


def fill_number(value: Any) -> Any:
    """Return an attribute as a number or an array; Zarr 3 stores a float as base64 of its bytes."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return struct.unpack("<d", base64.b64decode(value, validate=True))[0]
    return value


def _as_number(source: Source, value: Any) -> Any:
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, float) and source.dtype.kind in "biu" and number.is_integer():
        return int(number)
    if isinstance(number, (bool, int, float, complex)):
        return number
    raise FileError(
        f"cannot read {source.path}: its missing value must be a number; got {value!r}. Correct "
        "the attribute"
    )


def _number(source: Source, attributes: Mapping[str, Any], key: str) -> float | None:
    if key not in attributes:
        return None
    try:
        number = float(_scalar(attributes[key]))
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise FileError(
            f"cannot read {source.path}: its {key} must be a number; got {attributes[key]!r}. "
            "Correct the attribute"
        )
    return number


def _scalar(value: Any) -> Any:
    """Return the only element of an attribute, as text if it is one."""
    if isinstance(value, (np.ndarray, list, tuple)) and np.size(value) == 1:
        value = np.ravel(value)[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def result_attributes(
    attributes: Mapping[str, Any], info: ImageInfo, dtype: np.dtype[Any]
) -> dict[str, Any]:
    """Return the attributes of a result: it is not packed, and it declares `info.nodata`.

    Examples
    --------
    >>> old = {"units": "K", "scale_factor": 0.1, "missing_value": -1}
    >>> new = result_attributes(old, ImageInfo(nodata=(-9,)), np.dtype("int16"))
    >>> new["units"], int(new["missing_value"]), sorted(new)
    ('K', -9, ['missing_value', 'units'])
    """
    gone = (*MISSING, *PACKED, *OLD_RANGE)
    found = {k: v for k, v in attributes.items() if k not in gone}
    if info.nodata:
        value = dtype.type(info.nodata[0])
        names = [name for name in MISSING if name in attributes] or [MISSING[0]]
        found |= dict.fromkeys(names, value)
    return found


def linear(slope: Any, intercept: Any) -> str:
    """Return the formula of meant numbers as text.

    Examples
    --------
    >>> linear(0.5, -3), linear(2, 0)
    ('0.5 * stored - 3', '2 * stored')
    """
    text = f"{float(slope):g} * stored"
    sign = "-" if intercept < 0 else "+"
    return f"{text} {sign} {abs(float(intercept)):g}" if intercept else text


def fill_as_text(value: Any) -> Any:
    """Return a missing value as xarray stores it in Zarr 3: floats as base64, integers as they are."""
    if isinstance(value, (float, np.floating)):
        return base64.standard_b64encode(struct.pack("<d", float(value))).decode()
    return value.item() if isinstance(value, np.generic) else value


def referenced(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of variables that attributes refer to.

    Examples
    --------
    >>> referenced({"coordinates": "lat lon", "cell_measures": "area: cell_area", "units": "K"})
    ('lat', 'lon', 'cell_area')
    """
    found: list[str] = []
    for key in REFERENCES:
        text = _scalar(attributes.get(key, ""))
        if isinstance(text, str):
            found += [word for word in text.split() if not word.endswith(":")]
    return tuple(dict.fromkeys(found))


def even_step(values: Array) -> float | None:
    """Return the distance between evenly spaced coordinates, or None.

    Examples
    --------
    >>> even_step(np.array([0.0, 0.5, 1.0])), even_step(np.array([0, 1, 3]))
    (0.5, None)
    """
    if values.ndim != 1 or values.size < 2 or values.dtype.kind not in "iuf":
        return None
    steps = np.diff(values.astype(np.float64))
    mean = float(steps.mean())
    if not math.isfinite(mean) or mean == 0 or np.abs(steps - mean).max() > EVEN * abs(mean):
        return None
    return abs(mean)


def length_unit(units: Sequence[Any]) -> str:
    """Return the common unit of length of several coordinates, or an empty string.

    Examples
    --------
    >>> length_unit(["mm", "millimeter"]), length_unit(["degrees_north", "m"])
    ('mm', '')
    """
    found = {unit_of(str(_scalar(u))) for u in units}
    return found.pop() if len(found) == 1 else ""
