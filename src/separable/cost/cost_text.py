"""Counts and sizes as short text, and tables of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["quantity", "ratio", "size_text", "table"]

WIDTH = 80
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


def _scaled(count: float, base: int, units: Sequence[str]) -> str:
    if math.isnan(count):
        return "-"
    value, at = float(count), 0
    while abs(value) >= base - 0.5 and at + 1 < len(units):
        value, at = value / base, at + 1
    whole = at == 0 and value == int(value)
    number = f"{value:.0f}" if whole or abs(value) >= 99.95 else f"{value:#.3g}"
    return f"{number} {units[at]}".rstrip()
