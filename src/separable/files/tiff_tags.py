"""Tags of a TIFF page that are kept: georeference, missing value, colour profile, description, orientation."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.image_info import ImageInfo

__all__ = ["GEO_TAGS", "band_scaling", "geo_spacing", "kept_tags", "nodata_of", "tag_settings"]

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264
GEO_KEYS, GEO_DOUBLES, GEO_TEXTS = 34735, 34736, 34737
GDAL_METADATA, GDAL_NODATA = 42112, 42113
GEO_TAGS = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS, GEO_DOUBLES, GEO_TEXTS, 50844)
# Orientation, maker, model, page name, software, date, artist, white point, primaries, inks,
# copyright, XMP, colour profile.
OTHER_TAGS = (274, 271, 272, 285, 305, 306, 315, 318, 319, 332, 333, 334, 33432, 700, 34675)
DESCRIPTION = 270
EXIF, GPS = 34665, 34853  # directories of their own, which tifffile does not write
FEET = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937}  # metres per unit, by its GeoTIFF code
MODEL_TYPE, LINEAR_UNIT, LINEAR_SIZE = 1024, 3076, 3077  # GeoTIFF keys
PROJECTED = 1
# Items of GDAL's metadata that are untrue of other numbers.
STATISTICS = re.compile(r"\s*<Item[^>]*name=\"STATISTICS_[^>]*>[^<]*</Item>", re.IGNORECASE)
SCALING = re.compile(
    r"\s*<Item(?=[^>]*\brole=\"(?P<role>scale|offset)\")(?=[^>]*\bsample=\"(?P<sample>\d+)\")[^>]*>"
    r"(?P<value>[^<]*)</Item>",
    re.IGNORECASE,
)


def kept_tags(page: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options of a page that its tags are written from again, and notes on what is lost.

    Parameters
    ----------
    page : tifffile.TiffPage
    """
    options: dict[str, Any] = {}
    geo = _raw_tags(page, GEO_TAGS)
    metadata = _text(page, GDAL_METADATA)
    if metadata:
        left = SCALING.sub("", STATISTICS.sub("", metadata))
        if "<Item" in left:
            geo.append((GDAL_METADATA, 2, 0, left, True))
    if geo:
        options["geotiff"] = geo
    others = _raw_tags(page, OTHER_TAGS)
    if others:
        options["tags"] = others
    orientation = _value(page, 274)
    if orientation in range(2, 9):
        options["orientation"] = int(orientation)
    text = _text(page, DESCRIPTION)
    if text and not page.is_shaped:
        options["description"] = text
    lost = [name for code, name in ((EXIF, "EXIF"), (GPS, "GPS")) if code in page.tags]
    notes = (f"the {' and '.join(lost)} directory of the TIFF file is not kept",) if lost else ()
    return options, notes


def tag_settings(info: ImageInfo) -> dict[str, Any]:
    """Return the options of tifffile that write the kept tags, and the missing value of the result."""
    options = info.options
    tags = [*options.get("geotiff", ()), *options.get("tags", ())]
    if info.nodata:
        value = info.nodata[0]
        text = (
            "nan" if value != value else str(value) if isinstance(value, int) else f"{value:.17g}"
        )
        tags.append((GDAL_NODATA, 2, 0, text, True))
    settings: dict[str, Any] = {"extratags": tags} if tags else {}
    if "description" in options:
        settings["description"] = options["description"]
    if any(tag[0] == 305 for tag in tags):
        settings["software"] = False
    return settings


def nodata_of(path: Path, page: Any, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the value that GDAL's tag declares as missing, in the precision of the samples.

    Raises
    ------
    FileError
        If it is not a number.
    """
    text = _text(page, GDAL_NODATA).strip().strip("\0")
    if not text:
        return ()
    try:
        if re.fullmatch(r"[+-]?\d+", text):
            return (int(text),)
        value = float(text)
    except ValueError:
        raise FileError(
            f"cannot read {path}: its missing value (GDAL_NODATA) is {text[:40]!r}; expected a number. "
            "Correct it: gdal_edit.py -a_nodata VALUE"
        ) from None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = float(dtype.type(value))
    return (value,)


def geo_spacing(page: Any) -> dict[str, float]:
    """Return the size of a pixel in metres along Y and X, as GeoTIFF tags say; empty if unknown.

    Only projected coordinates are lengths; pixels of geographic ones are measured in degrees.
    """
    keys = _geo_keys(page)
    factor = FEET.get(keys.get(LINEAR_UNIT, 0)) or _own_unit(page, keys)
    if keys.get(MODEL_TYPE) != PROJECTED or factor is None:
        return {}
    scale, matrix = _value(page, PIXEL_SCALE), _value(page, TRANSFORMATION)
    if scale is not None and len(scale) >= 2:
        x, y = abs(float(scale[0])), abs(float(scale[1]))
    elif matrix is not None and len(matrix) == 16:  # columns are steps along x and y
        x, y = math.hypot(matrix[0], matrix[4]), math.hypot(matrix[1], matrix[5])
    else:
        return {}
    if not (0 < x < math.inf and 0 < y < math.inf):
        return {}
    return {"X": x * factor, "Y": y * factor}


def band_scaling(page: Any, samples: int) -> tuple[Any, Any] | None:
    """Return scale and offset per sample as GDAL's metadata say, or None if they change nothing."""
    scales, offsets = np.ones(max(1, samples)), np.zeros(max(1, samples))
    for found in SCALING.finditer(_text(page, GDAL_METADATA)):
        target = scales if found["role"].lower() == "scale" else offsets
        if int(found["sample"]) < len(target):
            target[int(found["sample"])] = float(found["value"])
    if (scales == 1).all() and (offsets == 0).all():
        return None
    return (scales, offsets) if samples else (scales[0], offsets[0])


def _geo_keys(page: Any) -> dict[int, int]:
    """Return the GeoTIFF keys whose values are short integers."""
    values = _value(page, GEO_KEYS)
    if values is None or len(values) < 4:
        return {}
    rows = (values[i : i + 4] for i in range(4, len(values) - 3, 4))
    return {int(key): int(value) for key, place, _, value in rows if place == 0}


def _own_unit(page: Any, keys: dict[int, int]) -> float | None:
    """Return the metres per unit that a user-defined unit says."""
    values, doubles = _value(page, GEO_KEYS), _value(page, GEO_DOUBLES)
    if keys.get(LINEAR_UNIT) != 32767 or values is None or doubles is None:
        return None
    for i in range(4, len(values) - 3, 4):
        if values[i] == LINEAR_SIZE and values[i + 1] == GEO_DOUBLES:
            at = int(values[i + 3])
            return float(np.atleast_1d(doubles)[at]) if at < np.size(doubles) else None
    return None


def _raw_tags(page: Any, codes: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Return tags in the form in which tifffile writes extra tags."""
    found: list[tuple[Any, ...]] = []
    for code in codes:
        tag = page.tags.get(code)
        if tag is None:
            continue
        kind, value = int(tag.dtype), tag.value
        if kind == 2:  # text; its length is counted again
            found.append((code, kind, 0, str(value), True))
        elif kind in (5, 10):  # pairs
            found.append((code, kind, int(tag.count), tuple(np.ravel(value).tolist()), True))
        elif isinstance(value, bytes):
            found.append((code, kind, len(value), value, True))
        else:
            numbers = tuple(np.ravel(value).tolist())
            found.append((code, kind, len(numbers), numbers if numbers[1:] else numbers[0], True))
    return found


def _value(page: Any, code: int) -> Any:
    return page.tags[code].value if code in page.tags else None


def _text(page: Any, code: int) -> str:
    value = _value(page, code)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
