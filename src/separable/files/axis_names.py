"""Letters of axes, their longer names, and units of length as files write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "LONG_UNITS",
    "letter_by_attributes",
    "letters_of",
    "long_unit",
    "names_of",
    "short_unit",
]

LETTERS = {
    "z": "Z", "y": "Y", "x": "X", "depth": "Z", "row": "Y", "rows": "Y", "col": "X", "cols": "X",
    "column": "X", "height": "Y", "width": "X", "lat": "Y", "latitude": "Y", "lon": "X",
    "longitude": "X", "t": "T", "time": "T", "c": "C", "ch": "C", "channel": "C", "s": "S",
    "rgb": "S", "l": "L", "band": "L", "bands": "L", "wavelength": "L", "lambda": "L", "q": "Q",
    "i": "I", "lev": "Z", "level": "Z", "altitude": "Z", "alt": "Z", "plev": "Z",
    "pressure": "Z", "slice": "Z", "easting": "X", "northing": "Y", "ensemble": "C",
    "member": "C", "realization": "C", "channels": "C", "spectrum": "L", "wavenumber": "L",
    "frequency": "L", "freq": "L", "energy": "L", "date": "T", "datetime": "T",
    "valid_time": "T", "month": "T", "year": "T", "step": "T",
}  # fmt: skip

LONG_UNITS = {
    "pm": "picometer", "nm": "nanometer", "um": "micrometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter", "km": "kilometer", "A": "angstrom", "in": "inch",
}  # fmt: skip

SHORT_UNITS = {long: short for short, long in LONG_UNITS.items()} | {
    "micron": "um", "microns": "um", "\u00b5m": "um", "\u03bcm": "um", "\\u00B5m": "um",
    "\u212b": "A", "\u00c5": "A", "inches": "in", "meters": "m", "metre": "m", "pixel": "",
    "pixels": "", "millimetre": "mm", "micrometre": "um", "nanometre": "nm",
}  # fmt: skip


def letters_of(names: Sequence[str | None]) -> str:
    """Return one letter per axis for axis names of any length; Q for unknown names.

    Examples
    --------
    >>> letters_of(["time", "z", "latitude", None])
    'TZYQ'
    """
    return "".join(LETTERS.get((name or "").strip().lower(), "Q") for name in names)


def letter_by_attributes(attributes: Mapping[str, Any]) -> str:
    """Return the letter of an axis that the attributes of its coordinate say (CF conventions), else "".

    Examples
    --------
    >>> letter_by_attributes({"units": "degrees_north"}), letter_by_attributes({"units": "K"})
    ('Y', '')
    """
    words = {
        key: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for key in ("axis", "units", "standard_name")
        if (value := attributes.get(key)) is not None
    }
    axis, units = words.get("axis", "").upper(), words.get("units", "")
    if axis in ("X", "Y", "Z", "T"):
        return axis
    if words.get("standard_name") == "latitude" or units.startswith(("degrees_n", "degree_n")):
        return "Y"
    if words.get("standard_name") == "longitude" or units.startswith(("degrees_e", "degree_e")):
        return "X"
    return "T" if " since " in units else ""


def names_of(axes: str, names: Sequence[str] = (), ndim: int | None = None) -> tuple[str, ...]:
    """Return one unique name per axis: the given names, or else small letters.

    Examples
    --------
    >>> names_of("QQY"), names_of("TY", ("time", "y")), names_of("", ndim=2)
    (('q', 'q1', 'y'), ('time', 'y'), ('dim0', 'dim1'))
    """
    ndim = len(axes) if ndim is None else ndim
    if len(names) == ndim and len(set(names)) == ndim:
        return tuple(names)
    if len(axes) != ndim:
        return tuple(f"dim{i}" for i in range(ndim))
    small = axes.lower()
    return tuple(
        letter if small.index(letter) == i else f"{letter}{i}" for i, letter in enumerate(small)
    )


def short_unit(text: str | None) -> str:
    """Return the short ASCII name of a unit.

    Examples
    --------
    >>> short_unit("micrometer"), short_unit("mm"), short_unit(None)
    ('um', 'mm', '')
    """
    text = (text or "").strip()
    return SHORT_UNITS.get(text, SHORT_UNITS.get(text.lower(), text))


def long_unit(text: str) -> str:
    """Return the name of a unit in OME-Zarr.

    Examples
    --------
    >>> long_unit("um"), long_unit("parsec")
    ('micrometer', 'parsec')
    """
    return LONG_UNITS.get(text, text)
