"""Lengths in the text of a kernel: numbers with units, converted to the units of the spacing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from separable.errors import ArgumentError
from separable.request import shown

__all__ = ["SAMPLES", "Lengths", "has_units", "measured", "read_lengths", "unit_of"]

SAMPLES = "px"
POWERS = {
    "km": 3,
    "m": 0,
    "cm": -2,
    "mm": -3,
    "um": -6,
    "nm": -9,
    "A": -10,
    "pm": -12,
}  # of ten, in metres

# Spellings in OME, ImageJ, NIfTI and napari (pint), and those that people type.
_SPELLINGS = {
    "km": ("kilometer", "kilometre"),
    "m": ("meter", "metre"),
    "cm": ("centimeter", "centimetre"),
    "mm": ("millimeter", "millimetre"),
    "um": ("µm", "μm", "micron", "micrometer", "micrometre"),
    "nm": ("nanometer", "nanometre"),
    "A": ("angstrom", "\u00c5", "\u212b"),
    "pm": ("picometer", "picometre"),
    "px": ("pixel", "voxel", "sample"),
}
_NAMES = {s: unit for unit, spellings in _SPELLINGS.items() for s in (unit, *spellings)}
_NUMBER = re.compile(r"(.*?)(px|km|cm|mm|um|µm|μm|nm|pm|m)?")
_BETWEEN = re.compile(r"(?<!p)x")  # the x of 2x1x1 and not that of 2px


@dataclass(frozen=True)
class Lengths:
    """One length, or one per axis, each with its unit; an empty text means no unit.

    Attributes
    ----------
    values : tuple of float
        Numbers, in their units.
    units : tuple of str
        Short name of each unit.
    text : str
        The lengths as they were written.
    """

    values: tuple[float, ...]
    units: tuple[str, ...]
    text: str

    @property
    def plain(self) -> float | tuple[float, ...]:
        """Numbers without units: one, or a tuple of one per axis."""
        return self.values[0] if len(self.values) == 1 else self.values

    def within(self, unit: str) -> float | tuple[float, ...]:
        """Return the numbers in another unit; numbers without a unit are not converted."""
        return Lengths(
            tuple(_converted(v, u, unit) for v, u in zip(self.values, self.units, strict=True)),
            self.units,
            self.text,
        ).plain


def read_lengths(text: str) -> Lengths:
    """Read ``2``, ``2mm``, ``3x1x1``, ``3mmx1mmx500um``, ``3x1x1mm`` or ``4px``.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> read_lengths("3x1x1mm")
    Lengths(values=(3.0, 1.0, 1.0), units=('mm', 'mm', 'mm'), text='3x1x1mm')
    >>> read_lengths("2mmx500um").within("mm")
    (2.0, 0.5)
    """
    found = [_NUMBER.fullmatch(part.strip()) for part in _BETWEEN.split(text)]
    values = tuple(float(m[1]) for m in found if m)
    units = tuple(_NAMES[m[2]] if m[2] else "" for m in found if m)
    if units[-1] and not any(units[:-1]):  # a unit at the end counts for all
        units = (units[-1],) * len(units)
    if len({_kind(u) for u in units}) > 1:
        raise ValueError(text)
    return Lengths(values, units, text)


def unit_of(text: str | None) -> str:
    """Return the short name of a unit in metadata, or "" if it is not a unit of length.

    Examples
    --------
    >>> unit_of("micron"), unit_of("millimeters"), unit_of("furlong"), unit_of(None)
    ('um', 'mm', '', '')
    """
    name = (text or "").strip()
    return _NAMES.get(name) or _NAMES.get(name.lower().removesuffix("s"), "")


def has_units(text: str) -> bool:
    """Return whether the text of a kernel has lengths in physical units.

    Examples
    --------
    >>> has_units("gaussian:2mm"), has_units("gaussian:2px"), has_units("gabor:8,theta=45deg")
    (True, False, False)
    """
    for item in text.partition(":")[2].split(","):
        try:
            found = read_lengths(item.rpartition("=")[2])
        except ValueError:
            continue
        if _kind(found.units[0]) == "units":
            return True
    return False


def measured(
    text: str, arguments: Mapping[str, Any], spacing: object, unit: str
) -> tuple[dict[str, Any], object]:
    """Return the arguments of a kernel's function, and the spacing to call it with.

    If lengths are in samples, the spacing is None, whatever that of the image is.

    Raises
    ------
    ArgumentError
        If some lengths have units and others do not, or lengths have units and the spacing has
        none.
    """
    own = unit_of(unit)
    if unit and not own:
        raise ArgumentError(f"`unit` must be one of {', '.join(POWERS)}; got {unit!r}")
    lengths = {key: v for key, v in arguments.items() if isinstance(v, Lengths)}
    kinds = {_kind(v.units[0]): (key, v) for key, v in lengths.items()}
    if len(kinds) > 1:
        (one, a), (other, b) = list(kinds.values())[:2]
        raise ArgumentError(
            "all lengths of a kernel must have units, or none of them, or all be in px; "
            f"got {one}={a.text} and {other}={b.text}"
        )
    if "units" in kinds:
        _check_spacing(text, kinds["units"][1], spacing, own)
    if own == SAMPLES or SAMPLES in kinds:
        spacing = None
    plain = {k: v.within(own) if k in lengths else v for k, v in arguments.items()}
    return plain, spacing


def _check_spacing(text: str, length: Lengths, spacing: object, spacing_unit: str) -> None:
    """Refuse a length in units for an image of unknown spacing."""
    if spacing is None:
        raise ArgumentError(
            f"kernel `{text}` is in {length.units[0]}, and the image's spacing is not known. Say "
            f"how far apart its samples are, as --spacing 3x1x1mm (spacing=(3, 1, 1), "
            'unit="mm"), or write lengths in px'
        )
    if spacing_unit in ("", SAMPLES):
        raise ArgumentError(
            f"kernel `{text}` is in {length.units[0]}, and the image's spacing {shown(spacing)} "
            'has no unit of length. Name it, as --spacing 3x1x1mm (unit="mm"), or write lengths '
            "without units"
        )


def _converted(value: float, from_unit: str, to_unit: str) -> float:
    if from_unit not in POWERS or to_unit not in POWERS:
        return value
    power = POWERS[from_unit] - POWERS[to_unit]
    return value * 10.0**power if power >= 0 else value / 10.0**-power


def _kind(unit: str) -> str:
    return "units" if unit in POWERS else unit
