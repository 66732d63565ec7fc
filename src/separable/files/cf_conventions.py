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
from separable.masked.nodata import fits_dtype

__all__ = [
    "decoded",
    "even_step",
    "fill_as_text",
    "fill_number",
    "length_unit",
    "linear",
    "referenced",
    "result_attributes",
    "unpacked",
    "valid_range",
]

Array = NDArray[Any]

MISSING = ("_FillValue", "missing_value")
PACKED = ("scale_factor", "add_offset", "_Unsigned")
VALID_RANGE = ("valid_min", "valid_max", "valid_range")
OLD_RANGE = (*VALID_RANGE, "actual_range")  # of the old numbers
REFERENCES = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures",
              "ancillary_variables", "formula_terms")  # fmt: skip
EVEN = 1e-3  # relative: coordinates are often stored as float32


def decoded(source: Source, attributes: Mapping[str, Any], fill: Any = None) -> Source:
    """Return a source of the meant numbers: ``scale_factor * stored + add_offset``, NaN where missing.

    Without a scale or an offset the numbers stay as they are, and `ImageInfo.nodata` has the values
    that mark missing samples. Samples outside `valid_range` are missing too: they become NaN, or the
    first of these values.

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
        If an attribute is not what the conventions say; the source is closed then.
    """
    try:
        return _decoded(source, attributes, fill)
    except BaseException:
        source.close()
        raise


def _decoded(source: Source, attributes: Mapping[str, Any], fill: Any) -> Source:
    nodata = _nodata(source, attributes, fill)
    scale, offset = (_number(source, attributes, key) for key in PACKED[:2])
    unsigned = str(_scalar(attributes.get("_Unsigned", ""))).lower() == "true"
    stored = source.dtype
    if unsigned and stored.kind == "i":
        stored = np.dtype(f"u{stored.itemsize}")
        nodata = tuple(
            int(np.real(v)) % (1 << 8 * stored.itemsize) if v == v else v for v in nodata
        )
        source = _converted(source, stored, lambda values: values.view(stored), nodata, "")
    if "actual_range" in attributes:
        note = "actual_range, which describes the source, is not kept"
        source.info = replace(source.info, notes=(*source.info.notes, note))
    if scale is None and offset is None:
        nodata = _within_range(source, attributes, nodata, unsigned)
        source.info = replace(source.info, nodata=nodata)
        return source
    meant = stored.kind in "iu" and _is_of_meant_numbers(attributes)
    if not meant:
        nodata = _within_range(source, attributes, nodata, unsigned)
    dtype = _wide(stored, offset)
    # An integer attribute counts like the float that it stands for.
    factor, shift = dtype.type(1.0 if scale is None else scale), dtype.type(offset or 0.0)

    def unpack(values: Array) -> Array:
        real = np.asarray(np.multiply(values, factor, dtype=dtype) + shift)
        if nodata:
            real[~valid_samples(values, nodata)] = np.nan
        return real

    note = f"numbers are {linear(factor, shift)}, by scale_factor and add_offset"
    source = _converted(source, dtype, unpack, (math.nan,) if nodata else (), note)
    if meant:
        nodata = _within_range(source, attributes, source.info.nodata, unsigned=False)
        source.info = replace(source.info, nodata=nodata)
    return source


def _is_of_meant_numbers(attributes: Mapping[str, Any]) -> bool:
    """Return whether the valid range is that of the unpacked numbers: floats beside packed whole numbers.

    The convention asks for the range of the packed numbers, in their type.
    """
    return any(np.asarray(attributes.get(key, 0)).dtype.kind == "f" for key in VALID_RANGE)


def _within_range(
    source: Source, attributes: Mapping[str, Any], nodata: tuple[Any, ...], unsigned: bool
) -> tuple[Any, ...]:
    """Mark samples outside the declared range as missing; return the values that mark missing samples."""
    low, high = valid_range(source.path, attributes, unsigned, source.dtype)
    whole = source.dtype.kind in "iu"
    ends = (
        (np.iinfo(source.dtype).min, np.iinfo(source.dtype).max) if whole else (-math.inf, math.inf)
    )
    if low <= ends[0] and high >= ends[1]:
        return nodata
    # A file of whole numbers that declares no missing value gets the next number outside the range.
    other: Any = math.nan
    if whole:
        other = math.floor(high) + 1 if high < ends[1] else math.ceil(low) - 1
    known = [v for v in nodata if (fits_dtype(v, source.dtype) if whole else v != v)]
    nodata = nodata if known else (*nodata, other)
    mark = known[0] if known else other

    def mask(values: Array) -> Array:
        wrong = (values < low) | (values > high)
        for value in nodata:  # these are missing already, and may lie anywhere
            wrong &= ~(values == value)
        if wrong.any():
            values = np.array(values)
            values[wrong] = mark
        return values

    note = f"samples outside {low:g} .. {high:g} are missing, by valid_range; the result declares no range"
    _converted(source, source.dtype, mask, nodata, note)
    return nodata


def valid_range(
    path: Any, attributes: Mapping[str, Any], unsigned: bool, dtype: np.dtype[Any]
) -> tuple[float, float]:
    """Return the smallest and the largest valid stored number, as the attributes of an array say.

    Raises
    ------
    FileError
        If they are not numbers, or contradict each other.

    Examples
    --------
    >>> valid_range("a.nc", {"valid_max": 100}, False, np.dtype("int16"))
    (-inf, 100.0)
    >>> valid_range("a.nc", {"valid_range": [0, -1]}, True, np.dtype("uint8"))
    (0.0, 255.0)
    """
    pair = attributes.get("valid_range")
    given = (attributes.get("valid_min"), attributes.get("valid_max"))
    wrong = None
    if pair is not None:
        if np.size(pair) != 2 or any(v is not None for v in given):
            wrong = "valid_range must be two numbers, without valid_min and valid_max beside it"
        given = tuple(np.ravel(pair)) if wrong is None else (None, None)
    found = []
    for value, none in zip(given, (-math.inf, math.inf), strict=True):
        try:
            number = none if value is None else float(_scalar(value))
        except (TypeError, ValueError):
            number = math.nan
        if unsigned and number < 0 and math.isfinite(number):
            number += 1 << 8 * dtype.itemsize
        found.append(number)
    if wrong is None and not found[0] <= found[1]:  # or NaN
        wrong = f"its valid range must be two numbers, the smaller one first; got {found[0]:g} and {found[1]:g}"
    if wrong is not None:
        raise FileError(f"cannot read {path}: {wrong}. Correct the attributes")
    return found[0], found[1]


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
    text = "stored" if slope == 1 else f"{float(slope):g} * stored"
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


def unpacked(values: Array, attributes: Mapping[str, Any]) -> Array:
    """Return the coordinates that packed numbers mean; they stay as they are if they are not packed.

    Examples
    --------
    >>> unpacked(np.array([1, 2], "int16"), {"scale_factor": 0.5, "add_offset": 3.0})
    array([3.5, 4. ])
    """
    try:
        scale, offset = (
            float(_scalar(attributes.get(k, d))) for k, d in zip(PACKED, (1, 0), strict=False)
        )
    except (TypeError, ValueError):  # a text
        return values
    return (
        values
        if (scale, offset) == (1, 0) or values.dtype.kind not in "iuf"
        else values * scale + offset
    )


def length_unit(units: Sequence[Any]) -> str:
    """Return the common unit of length of several coordinates, or an empty string.

    Examples
    --------
    >>> length_unit(["mm", "millimeter"]), length_unit(["degrees_north", "m"])
    ('mm', '')
    """
    found = {unit_of(str(_scalar(u))) for u in units}
    return found.pop() if len(found) == 1 else ""
