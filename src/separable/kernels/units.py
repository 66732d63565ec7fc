"""Lengths in a kernel's text: numbers with units, and what they are beside an image's spacing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from separable.errors import ArgumentError
from separable.request import shown

__all__ = ["SAMPLES", "Lengths", "has_units", "measured", "read_lengths", "unit_of"]

SAMPLES = "px"
POWERS = {"m": 0, "cm": -2, "mm": -3, "um": -6, "nm": -9}  # of ten, in metres

# As OME, ImageJ, NIfTI, napari (pint) and people write them.
_SPELLINGS = {
    "m": ("meter", "metre"),
    "cm": ("centimeter", "centimetre"),
    "mm": ("millimeter", "millimetre"),
    "um": ("µm", "μm", "micron", "micrometer", "micrometre"),
    "nm": ("nanometer", "nanometre"),
    "px": ("pixel", "voxel", "sample"),
}
_NAMES = {s: unit for unit, spellings in _SPELLINGS.items() for s in (unit, *spellings)}
_NUMBER = re.compile(r"(.*?)(px|cm|mm|um|µm|μm|nm|m)?")
_BETWEEN = re.compile(r"(?<!p)x")  # the x of 2x1x1 and not that of 2px


@dataclass(frozen=True)
class Lengths:
    """One length, or one for each axis, each with its unit; an empty unit is none.

    Attributes
    ----------
    values : tuple of float
    units : tuple of str
    text : str
        As it was written.
    """

    values: tuple[float, ...]
    units: tuple[str, ...]
    text: str

    @property
    def plain(self) -> float | tuple[float, ...]:
        """The numbers alone, as arguments have them."""
        return self.values[0] if len(self.values) == 1 else self.values

    def within(self, unit: str) -> float | tuple[float, ...]:
        """Return the numbers in another unit; those without one stay."""
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
    if units[-1] and not any(units[:-1]):  # the unit at the end counts for all
        units = (units[-1],) * len(units)
    if len({_kind(u) for u in units}) > 1:
        raise ValueError(text)
    return Lengths(values, units, text)


def unit_of(text: str | None) -> str:
    """Return the short name of a unit as metadata spell it, or nothing where it is no length.

    Examples
    --------
    >>> unit_of("micron"), unit_of("millimeters"), unit_of("furlong"), unit_of(None)
    ('um', 'mm', '', '')
    """
    name = (text or "").strip()
    return _NAMES.get(name) or _NAMES.get(name.lower().removesuffix("s"), "")


def has_units(text: str) -> bool:
    """Return whether a kernel's text has lengths in physical units.

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

    Lengths in samples need no spacing, whatever the image has: then it is None.

    Raises
    ------
    ArgumentError
        If lengths are partly in units and partly not, or in units where the spacing has none.
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


def _check_spacing(text: str, length: Lengths, spacing: object, own: str) -> None:
    """Refuse a length in units beside an image of unknown spacing."""
    if spacing is None:
        raise ArgumentError(
            f"kernel `{text}` is in {length.units[0]}, and the image's spacing is not known. Say "
            f"how far apart its samples are, as --spacing 3x1x1mm (spacing=(3, 1, 1), "
            'unit="mm"), or write lengths in px'
        )
    if own in ("", SAMPLES):
        raise ArgumentError(
            f"kernel `{text}` is in {length.units[0]}, and the image's spacing {shown(spacing)} "
            'has no unit of length. Name it, as --spacing 3x1x1mm (unit="mm"), or write lengths '
            "without units"
        )


def _converted(value: float, here: str, there: str) -> float:
    if here not in POWERS or there not in POWERS:
        return value
    power = POWERS[here] - POWERS[there]
    return value * 10.0**power if power >= 0 else value / 10.0**-power


def _kind(unit: str) -> str:
    return "units" if unit in POWERS else unit
