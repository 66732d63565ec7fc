"""HTML tables for notebooks, with the colours and fonts of the surrounding page."""

from __future__ import annotations

import html
from collections.abc import Sequence

__all__ = ["table_fragment"]


def table_fragment(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
    *,
    words: Sequence[int] = (0,),
    has_total: bool = False,
) -> str:
    """Return a table as HTML, with a caption above it and sentences below.

    It has no colours and no scripts, so that it is readable on light and dark pages, and marks the
    heading cells for screen readers.

    Parameters
    ----------
    caption : str
        Plain text. This and all other texts are escaped here.
    columns : sequence of str
    rows : sequence of sequence of str
        The first cell of each row is its heading.
    notes : sequence of str
    words : sequence of int
        Columns with words; the others contain numbers and are right-aligned.
    has_total : bool
        Whether the last row is the sum of the others.

    Examples
    --------
    >>> print(table_fragment("Two <layers>", ("layer", "mult"), [("conv", "12"), ("pool", "3")]))
    <div class="separable"><table>
    <caption style="text-align:left">Two &lt;layers&gt;</caption>
    <thead><tr><th scope="col" style="text-align:left">layer</th><th scope="col" ...>mult</th></tr></thead>
    <tbody>
    <tr><th scope="row" style="text-align:left">conv</th><td style="text-align:right">12</td></tr>
    <tr><th scope="row" style="text-align:left">pool</th><td style="text-align:right">3</td></tr>
    </tbody>
    </table></div>
    """

    def cell(at: int, text: str, tag: str, scope: str = "") -> str:
        side = "left" if at in words else "right"
        what = f' scope="{scope}"' if scope else ""
        shown = html.escape(text).replace("\n", "<br>")
        return f'<{tag}{what} style="text-align:{side}">{shown}</{tag}>'

    def line(row: Sequence[str]) -> str:
        cells = [cell(at, text, "td") for at, text in enumerate(row)]
        return f"<tr>{''.join([cell(0, row[0], 'th', 'row'), *cells[1:]])}</tr>"

    head = "".join(cell(at, text, "th", "col") for at, text in enumerate(columns))
    body, total = (rows[:-1], rows[-1:]) if has_total else (rows, ())
    parts = [
        '<div class="separable"><table>',
        f'<caption style="text-align:left">{html.escape(caption)}</caption>',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *(line(row) for row in body),
        "</tbody>",
        *(f"<tfoot>{line(row)}</tfoot>" for row in total),
        "</table>",
        *(f"<p>{html.escape(note)}</p>" for note in notes),
    ]
    return "\n".join(parts) + "</div>"
