"""Draw a kernel with characters: as numbers if they fit, else as shades."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.text import Text

__all__ = ["draw", "number"]

Array = NDArray[Any]

SMALL = 9  # largest side of a kernel shown as numbers
CELLS = 37  # largest side of a kernel shown as shades, two columns each
PIXELS = 72  # largest side of a kernel shown as coloured half blocks
BLUE, INK, GOLD = (64, 140, 255), (24, 24, 28), (255, 190, 70)
SHADES = ("· ", "░░", "▒▒", "▓▓", "██")
PLAIN = (". ", "::", "oo", "OO", "@@")
NEGATIVE = ("  ", "--", "~~", "==", "##")


def draw(dense: Array, console: Console) -> RenderableType:
    """Draw a kernel; with three or more axes, its middle slice."""
    plane, caption = _plane(dense)
    real = np.abs(plane) if plane.dtype.kind == "c" else plane.astype(np.float64)
    cells = [[_short(v) for v in row] for row in plane] if max(plane.shape) <= SMALL else []
    width = max((len(cell) for row in cells for cell in row), default=0) + 2
    if cells and width * plane.shape[1] <= console.width - 4:
        body: RenderableType = _numbers(cells, real, console)
    elif _colours(console):
        body = _half_blocks(_reduced(real, PIXELS))
    else:
        body = _shades(_reduced(real, CELLS), console)
    return Group(*([Text(caption)] if caption else []), body)


def number(value: Any) -> str:
    """Return a number as short text.

    Examples
    --------
    >>> number(np.float64(0.123456)), number(-2), number(1e-20)
    ('0.1235', '-2', '1e-20')
    """
    return str(int(value)) if isinstance(value, (int, np.integer, np.bool_)) else f"{value:.4g}"


def _plane(dense: Array) -> tuple[Array, str]:
    """Return the plane to draw, and a caption if it is not the whole kernel."""
    if dense.ndim < 3:
        return np.atleast_2d(dense), ""
    middle = tuple(n // 2 for n in dense.shape[:-2])
    index = middle[0] if len(middle) == 1 else middle
    return dense[middle], f"The middle slice, {index}:"


def _numbers(cells: list[list[str]], real: Array, console: Console) -> Text:
    scale = float(np.max(np.abs(real), initial=0.0))
    width = max(len(cell) for row in cells for cell in row)
    text = Text()
    for row, values in zip(cells, real, strict=True):
        for cell, value in zip(row, values, strict=True):
            text.append(f" {cell:>{width}} ", _style(value, scale) if _colours(console) else "")
        text.append("\n")
    text.right_crop(1)
    return text


def _short(value: Any) -> str:
    text = number(value)
    return text if len(text) <= 7 else f"{value:.2g}"


def _colours(console: Console) -> bool:
    return console.color_system in ("256", "truecolor") and not console.options.ascii_only


def _style(value: float, scale: float) -> Style:
    """Return the style of a cell: gold is positive, blue negative; dark text on bright colours."""
    colour = _colour(value, scale)
    bright = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 110
    return Style(color="#101010" if bright else "#f0f0f0", bgcolor=_hex(colour))


def _colour(value: float, scale: float) -> tuple[int, int, int]:
    share = (abs(value) / scale) ** 0.6 if scale else 0.0
    end = GOLD if value > 0 else BLUE
    r, g, b = (round(a + share * (z - a)) for a, z in zip(INK, end, strict=True))
    return r, g, b


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _half_blocks(real: Array) -> Text:
    """Return rows of characters that show two elements each, one above the other."""
    scale = float(np.max(np.abs(real), initial=0.0))
    text = Text()
    for y in range(0, len(real), 2):
        for x in range(real.shape[1]):
            upper = _hex(_colour(real[y, x], scale))
            lower = _hex(_colour(real[y + 1, x], scale)) if y + 1 < len(real) else None
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    text.append(f"\n██ {number(float(real.max()))}", _hex(GOLD))
    if real.min() < 0:
        text.append(f"   ██ {number(float(real.min()))}", _hex(BLUE))
    return text


def _shades(real: Array, console: Console) -> Text:
    """Return rows of two characters per element, different for each sign, with a key below."""
    scale = float(np.max(np.abs(real), initial=0.0)) or 1.0
    positive = PLAIN if console.options.ascii_only else SHADES
    levels = np.rint((len(SHADES) - 1) * np.sqrt(np.abs(real) / scale)).astype(int)
    lines = [
        "".join((NEGATIVE if k and v < 0 else positive)[k] for v, k in zip(row, marks, strict=True))
        for row, marks in zip(real, levels, strict=True)
    ]
    key = f"{positive[-1]} {number(float(real.max()))}"
    if real.min() < 0:
        key += f"   {NEGATIVE[-1]} {number(float(real.min()))}"
    return Text("\n".join([*(line.rstrip() for line in lines), "", key]))


def _reduced(real: Array, max_side: int) -> Array:
    """Return the means of blocks, so that no side is longer than `max_side`."""
    step = -(-max(real.shape) // max_side)
    if step == 1:
        return real
    rows, columns = (-(-n // step) * step for n in real.shape)
    padded = np.zeros((rows, columns))
    padded[: real.shape[0], : real.shape[1]] = real
    means: Array = padded.reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    return means
