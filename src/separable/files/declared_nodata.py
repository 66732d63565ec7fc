"""Missing values that files declare: the options of a filter that obeys them, and the metadata of its result."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.file_format import Format
from separable.files.image_info import ImageInfo
from separable.masked import check_nodata, fill_for, nodata_values
from separable.masked.nodata import fits_dtype
from separable.masked.samples import EXPLICIT_NAN

__all__ = ["Obeyed", "obey_nodata"]


@dataclass(frozen=True)
class Obeyed:
    """Treatment of the missing values of a file by a filter.

    Attributes
    ----------
    missing : dict
        Options for missing samples, as `separable.convolve` takes them.
    info : ImageInfo
        Metadata of the result: it declares the value of results without a valid sample.
    note : str
        Which samples are missing, in words; empty if none is.
    """

    missing: dict[str, Any]
    info: ImageInfo
    note: str = ""


def obey_nodata(
    missing: dict[str, Any],
    info: ImageInfo,
    path: Any,
    dtype: np.dtype[Any],
    out: np.dtype[Any],
    target: tuple[Format, Path] | None = None,
) -> Obeyed:
    """Return the options of a filter that obeys the missing values of a file.

    Parameters
    ----------
    missing : dict
        Options `mask`, `nan`, `fill` and `nodata` that were given.
    info : ImageInfo
        Metadata of the file.
    path : path
        Name of the file, for messages.
    dtype, out : dtype
        Types of the samples and of the result.
    target : (Format, path), optional
        Format and name of the result. Where it cannot declare a missing value, a float result has
        NaN instead.

    Raises
    ------
    FileError
        If the file declares a value that its type does not hold.
    ArgumentError
        If the given value is none of its type.

    Examples
    --------
    >>> info = ImageInfo("YX", nodata=(-9999,))
    >>> obeyed = obey_nodata({}, info, "dem.hdr", np.dtype("int16"), np.dtype("int16"))
    >>> obeyed.missing, obeyed.info.nodata
    ({'nodata': (-9999,), 'fill': -9999}, (-9999,))
    >>> obeyed.note
    'samples equal to -9999 are missing, as dem.hdr declares'
    """
    given = missing.get("nodata", "auto")
    from_file = isinstance(given, str) and given == "auto"
    if from_file:
        _check_declared(info, path, dtype)
    values = check_nodata(nodata_values(given, info.nodata), dtype)
    rest = {k: v for k, v in missing.items() if k != "nodata"}
    if not values:
        return Obeyed(rest, replace(info, nodata=()))
    fill = fill_for(missing.get("fill", math.nan), values)
    declared: tuple[Any, ...] = (fill,)
    if "fill" not in missing and from_file and fill != fill and out.kind in "biu":
        fill, declared = 0, ()  # an integer result has no NaN
    floats = "fill" not in missing and out.kind in "fc"
    if floats and target is not None and not _declares(target, info, fill, out):
        fill, declared = EXPLICIT_NAN, (math.nan,)
    words = " or ".join("NaN" if v != v else f"{v:g}" for v in values)
    note = f"samples equal to {words} are missing" + (f", as {path} declares" if from_file else "")
    return Obeyed({**rest, "nodata": values, "fill": fill}, replace(info, nodata=declared), note)


def _check_declared(info: ImageInfo, path: Any, dtype: np.dtype[Any]) -> None:
    for value in info.nodata:
        if value == value and not fits_dtype(value, dtype):
            raise FileError(
                f"cannot filter {path}: it declares the missing value {value:g}, which {dtype} "
                "cannot hold. Say which value is missing (--nodata VALUE, nodata=VALUE), or filter "
                "all samples (--nodata none)"
            )


def _declares(target: tuple[Format, Path], info: ImageInfo, fill: Any, out: np.dtype[Any]) -> bool:
    format, path = target
    wanted = replace(info, nodata=(fill,))
    return "nodata" in format.keeps(wanted, (1,) * max(1, len(info.axes)), out, path)
