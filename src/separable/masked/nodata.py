"""Values that mean "no data": the samples that they mark as missing, and results that must differ from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "check_nodata",
    "fits_dtype",
    "keep_distinct",
    "nodata_values",
    "valid_samples",
]

Array = NDArray[Any]

NUMBERS = (bool, int, float, complex, np.number, np.bool_)


def nodata_values(nodata: Any, declared: Sequence[complex] = ()) -> tuple[Any, ...]:
    """Return the values that mean "no data", from the argument `nodata` and what a file declares.

    Parameters
    ----------
    nodata : "auto", "none", None, number or sequence of numbers
        "auto" takes the declared values; "none" and None take no value.
    declared : sequence of numbers
        Values that the file declares.

    Raises
    ------
    ArgumentTypeError
        If `nodata` is none of these.

    Examples
    --------
    >>> nodata_values("auto", (-9999,)), nodata_values("none", (-9999,)), nodata_values(0)
    ((-9999,), (), (0,))
    """
    if isinstance(nodata, str) and nodata == "auto":
        return tuple(declared)
    if nodata is None or (isinstance(nodata, str) and nodata == "none"):
        return ()
    values = nodata if isinstance(nodata, (list, tuple, np.ndarray)) else (nodata,)
    found = [v[()] if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in values]
    if not all(isinstance(v, NUMBERS) for v in found):
        raise ArgumentTypeError(
            f'`nodata` must be "auto" (what the file declares), "none" or a number; got {nodata!r}'
        )
    return tuple(v.item() if isinstance(v, np.generic) else v for v in found)


def fits_dtype(value: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether a sample of a dtype can have this value; floats are rounded to the dtype.

    Examples
    --------
    >>> fits_dtype(-1, np.dtype("uint8")), fits_dtype(1e20, np.dtype("float32"))
    (False, True)
    """
    if dtype.kind == "c":
        return True
    if isinstance(value, complex):
        return False
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return not math.isfinite(value) or bool(np.isfinite(dtype.type(value)))
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return math.isfinite(value) and value == int(value) and low <= int(value) <= high


def check_nodata(values: Sequence[Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the values as the dtype has them; NaN is left out where the dtype has no NaN.

    Raises
    ------
    ArgumentError
        If no sample of the dtype can have one of the values.

    Examples
    --------
    >>> check_nodata((0.1,), np.dtype("float32"))
    (0.10000000149011612,)
    """
    found = [v for v in values if dtype.kind in "fc" or not _is_nan(v)]
    wrong = next((v for v in found if not fits_dtype(v, dtype)), None)
    if wrong is not None:
        raise ArgumentError(
            f"`nodata` must be a value that {dtype} holds; got {wrong}. No sample can have it: "
            'filter all samples (nodata="none", --nodata none)'
        )
    return tuple(dtype.type(v).item() for v in found)


def valid_samples(samples: Array, values: Sequence[Any]) -> Array:
    """Return True where a sample has none of the values; NaN equals NaN.

    Examples
    --------
    >>> valid_samples(np.array([1.0, np.nan, -1.0]), (-1.0, np.nan))
    array([ True, False, False])
    """
    valid = np.ones(samples.shape, bool)
    for value in values:
        valid &= ~np.isnan(samples) if _is_nan(value) else samples != samples.dtype.type(value)
    return valid


def keep_distinct(result: Array, fill: Any, nothing: Array | None = None) -> Array:
    """Move valid results that equal `fill` to the next value of their dtype, in place.

    A file declares `fill` as "no data", so a valid result of this value would be read as missing.
    GDAL's warper avoids that value in the same way.

    Parameters
    ----------
    result : ndarray
    fill : number
        Declared value; NaN is never the result of valid samples.
    nothing : ndarray of bool, optional
        True where no sample is valid, so that the result is `fill`; default: nowhere.

    Examples
    --------
    >>> keep_distinct(np.array([0, 3, 0], "uint8"), 0, np.array([True, False, False]))
    array([0, 3, 1], dtype=uint8)
    """
    if _is_nan(fill) or result.dtype.kind not in "iuf":
        return result
    clash = result == result.dtype.type(fill)
    if nothing is not None:
        clash &= ~nothing
    if clash.any():
        result[clash] = _next_to(fill, result.dtype)
    return result


def _next_to(fill: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "iu":
        return int(fill) + 1 if fill < np.iinfo(dtype).max else int(fill) - 1
    value = dtype.type(fill)
    if value == 0:
        return np.finfo(dtype).tiny  # the next one, a subnormal number, is 0 for some programs
    return np.nextafter(value, dtype.type(0))


def _is_nan(value: Any) -> bool:
    return bool(value != value)
