"""Numbers of a result as DICOM stores them: whole numbers of 8 or 16 bits, a slope and an intercept.

DICOM viewers show ``slope * stored + intercept``. Whole numbers whose range fits into 16 bits are stored
exactly; others are rounded to one of 65,536 steps from the smallest to the largest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError

__all__ = ["Encoding", "decimal", "encoding_of"]

Array = NDArray[Any]

STEPS = 65535  # of unsigned numbers of 16 bits
DIGITS = 16  # characters of a decimal string (VR DS)


@dataclass(frozen=True)
class Encoding:
    """Stored type, slope and intercept of the numbers of a result.

    Attributes
    ----------
    dtype : dtype
        Stored type: uint8, uint16 or int16.
    slope, intercept : float
        Meant values are ``slope * stored + intercept``.
    padding : int or None
        Stored value of missing samples.
    missing : number
        Value of missing samples in the result; NaN for floats.
    note : str
        What was rounded, in words; empty if the numbers are exact.
    """

    dtype: np.dtype[Any]
    slope: float = 1.0
    intercept: float = 0.0
    padding: int | None = None
    missing: Any = None
    note: str = ""

    def stored(self, values: Array) -> Array:
        """Return the stored numbers of a part of the result.

        Examples
        --------
        >>> Encoding(np.dtype("uint16"), 0.5, -1.0, 0, np.nan).stored(np.array([0.0, 2.0, np.nan]))
        array([2, 6, 0], dtype=uint16)
        """
        if (self.slope, self.intercept) == (1.0, 0.0) and self.padding is None:
            return values.astype(self.dtype)
        kind = np.int64 if values.dtype.kind in "iu" and self.slope == 1.0 else np.float64
        wide = values.astype(kind)
        absent = np.zeros(values.shape, bool)
        if self.padding is not None:
            absent = _absent(values, self.missing)
            wide[absent] = 0
        wide = np.asarray(wide - kind(self.intercept))
        if self.slope != 1.0:
            wide = np.asarray(wide / self.slope)
        limits = np.iinfo(self.dtype)
        low = limits.min + (self.padding == limits.min)
        found = np.clip(np.rint(wide), low, limits.max).astype(self.dtype)
        if self.padding is not None:
            found[absent] = self.padding
        return np.asarray(found)


@dataclass(frozen=True)
class _Range:
    """Range of the valid samples of a result."""

    low: Any
    high: Any
    whole: bool
    absent: bool


def encoding_of(
    parts: Iterable[Array],
    dtype: np.dtype[Any],
    nodata: tuple[Any, ...],
    intercept: float,
    name: Any,
) -> Encoding:
    """Return how the numbers of a result are stored.

    Parameters
    ----------
    parts : iterable of ndarray
        The result, a part at a time.
    dtype : dtype
        Type of the result.
    nodata : tuple of numbers
        Values that the result declares as missing.
    intercept : float
        Intercept of the source, which is taken if the numbers fit.
    name : path
        Name of the file, for messages.

    Raises
    ------
    FileError
        If a sample is infinite.

    Examples
    --------
    >>> made = encoding_of([np.array([-1000, 3000])], np.dtype("int32"), (), -1024.0, "a.dcm")
    >>> made.dtype.name, made.slope, made.intercept
    ('uint16', 1.0, -1024.0)
    """
    missing: Any = next(iter(nodata), math.nan if dtype.kind == "f" else None)
    if dtype.kind in "iu" and dtype.itemsize <= 2 and dtype != np.int8:
        return Encoding(dtype, padding=missing, missing=missing)
    if dtype == np.int8:
        return Encoding(np.dtype(np.int16), padding=missing, missing=missing)
    found = _range(parts, missing, name)
    reserved = found.absent or (missing is not None and dtype.kind != "f")
    if found.whole and found.high - found.low <= STEPS - reserved:
        return _exact(found, missing, int(intercept) if float(intercept).is_integer() else 0)
    return _stepped(found, missing)


def _range(parts: Iterable[Array], missing: Any, name: Any) -> _Range:
    low: Any = None
    high: Any = None
    whole, absent = True, False
    for part in parts:
        known = part
        if missing is not None:
            gone = _absent(part, missing)
            absent = absent or bool(gone.any())
            known = part[~gone]
        if not known.size:
            continue
        ends = known.min(), known.max()
        if not np.isfinite(ends).all():
            raise FileError(
                f"cannot write {name}: the result has infinite values, which DICOM cannot hold. Write "
                ".nrrd or .nii"
            )
        first, last = (e.item() for e in ends)
        low = first if low is None else min(low, first)
        high = last if high is None else max(high, last)
        whole = whole and (known.dtype.kind != "f" or bool((known == np.rint(known)).all()))
    if low is None:
        return _Range(0, 0, True, absent)
    return _Range(int(low) if whole else low, int(high) if whole else high, whole, absent)


def _absent(values: Array, missing: Any) -> Array:
    """Return where samples are missing: NaN, or a declared value."""
    gone = np.asarray(values == missing)
    return gone | np.isnan(values) if values.dtype.kind == "f" else gone


def _exact(found: _Range, missing: Any, intercept: int) -> Encoding:
    """Return an encoding with the slope 1."""
    low, high = found.low, found.high
    if missing is not None and float(missing).is_integer():  # a declared whole number
        if max(high, missing) - min(low, missing) <= STEPS:
            low, high = min(low, missing), max(high, missing)
        else:  # the number is too far away: another one stands for it
            return _with_padding(_shifted(low - 1, high, intercept), low - 1, missing)
    elif found.absent:
        return _with_padding(_shifted(low - 1, high, intercept), low - 1, missing)
    made = _shifted(low, high, intercept)
    if missing is None or not float(missing).is_integer():
        return made
    return _with_padding(made, int(missing), missing)


def _shifted(low: int, high: int, intercept: int) -> Encoding:
    for dtype, shift in ((np.uint16, intercept), (np.int16, 0), (np.uint16, 0), (np.uint16, low)):
        limits = np.iinfo(dtype)
        if limits.min <= low - shift and high - shift <= limits.max:
            return Encoding(np.dtype(dtype), 1.0, float(shift))
    raise AssertionError("the last one fits any range of 16 bits")  # pragma: no cover


def _with_padding(made: Encoding, value: int, missing: Any) -> Encoding:
    """Return an encoding in which a value stands for missing samples."""
    padding = int(value - made.intercept)
    return Encoding(made.dtype, made.slope, made.intercept, padding, missing)


def _stepped(found: _Range, missing: Any) -> Encoding:
    """Return an encoding in steps; 0 stands for missing samples if there are any."""
    low, high = float(found.low), float(found.high)
    steps = STEPS - found.absent
    slope = decimal((high / steps - low / steps) * (1 + 1e-9))
    while slope * steps < high - low:  # rounded down to 16 characters
        slope = decimal(slope * (1 + 1e-7))
    intercept = decimal(low - slope * found.absent)
    note = (
        f"DICOM holds 16 bits: the results were rounded to multiples of {slope:.3g} above {low:.6g}"
    )
    padding = 0 if found.absent else None
    return Encoding(np.dtype(np.uint16), slope, intercept, padding, missing, note)


def decimal(value: float) -> float:
    """Return a number as the decimal string of DICOM holds it, in 16 characters.

    Examples
    --------
    >>> decimal(1 / 3), decimal(-1.0e-7 / 3)
    (0.33333333333333, -3.333333333e-08)
    """
    for digits in range(17, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= DIGITS:
            return float(text)
    raise AssertionError(value)  # pragma: no cover
