"""Counts and sizes as short text, and tables of them whose columns are values."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Column", "fitting", "legend", "quantity", "ratio", "size_text", "table"]

Row = TypeVar("Row")

WIDTH = 80
GAP = 2  # characters between columns
PREFIXES = ("", "k", "M", "G", "T", "P")


def quantity(count: float) -> str:
    """Return a count with three digits and a decimal prefix; small integers unchanged.

    Examples
    --------
    >>> quantity(568_740_352), quantity(1_331_592), quantity(999), quantity(0)
    ('569 M', '1.33 M', '999', '0')
    """
    return _scaled(count, 1000, PREFIXES)


def size_text(count: float) -> str:
    """Return a number of bytes with three digits and a binary unit.

    Examples
    --------
    >>> size_text(134_217_728), size_text(123)
    ('128 MiB', '123 B')
    """
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def ratio(first: float, second: float) -> str:
    """Return how many times larger one count is, with three digits; a dash if the other is 0.

    Examples
    --------
    >>> ratio(1_228_800, 53_952), ratio(1, 0)
    ('22.8', '-')
    """
    if not second:
        return "-"
    value = first / second
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1, width: int = WIDTH
) -> str:
    """Format a table as plain text, with Rich.

    Parameters
    ----------
    columns : sequence of str
        The headings.
    rows : sequence of sequence of str
        An empty row is a rule.
    text : int
        Number of leading columns with words, which are left-aligned and may be folded.
    width : int
        The widest line.

    Returns
    -------
    str
        Without spaces at the ends of lines.

    Examples
    --------
    >>> print(table(("layer", "mult"), [("conv", "1,228,800"), ("separable", "53,952")]))
    layer           mult
    ────────────────────
    conv       1,228,800
    separable     53,952
    """
    from rich import box  # start-up time: Rich is imported for tables alone
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for at, name in enumerate(columns):
        options: dict[str, Any] = {"justify": "right", "no_wrap": True} if at >= text else {}
        grid.add_column(Text(name), overflow="fold", **options)
    for row in rows:
        if row:
            grid.add_row(*(Text(cell) for cell in row))
        else:
            grid.add_section()
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


@dataclass(frozen=True)
class Column(Generic[Row]):
    """Column of a table.

    Attributes
    ----------
    name : str
    cell : callable
        Text of the cell of a row.
    rank : int
        Columns with the largest rank are left out first if a line is too long.
    meaning : str
        Explanation in the legend; empty if the name says it.
    """

    name: str
    cell: Callable[[Row], str]
    rank: int = 0
    meaning: str = ""


def fitting(
    columns: Sequence[Column[Row]], rows: Sequence[Row], width: int, narrowest: int
) -> tuple[Column[Row], ...]:
    """Leave out the least important columns until a line fits.

    The first column may be folded to `narrowest` characters.
    """
    kept = list(columns)
    while True:
        wide = [max(len(c.name), *(len(c.cell(x)) for x in rows)) for c in kept]
        wide[0] = min(wide[0], narrowest)
        least = max(c.rank for c in kept)
        if sum(wide) + GAP * (len(kept) - 1) <= width or least == 0:
            return tuple(kept)
        kept = [c for c in kept if c.rank < least]


def legend(columns: Sequence[Column[Row]]) -> str:
    """Return what the names of the columns mean, where they do not say it."""
    return "; ".join(f"{c.name}: {c.meaning}" for c in columns if c.meaning) + "."


def _scaled(count: float, base: int, units: Sequence[str]) -> str:
    if math.isnan(count):
        return "-"
    value, at = float(count), 0
    while abs(value) >= base - 0.5 and at + 1 < len(units):
        value, at = value / base, at + 1
    whole = at == 0 and value == int(value)
    number = f"{value:.0f}" if whole or abs(value) >= 99.95 else f"{value:#.3g}"
    return f"{number} {units[at]}".rstrip()
