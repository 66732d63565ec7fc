"""Stand-alone HTML page of a conversion report."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from separable.nn.convert.conversion_report import Report
from separable.nn.convert.report_text import (
    REASON,
    WORDS,
    columns_of,
    conclusions,
    headline,
    total_row,
)
from separable.pages import stand_alone

__all__ = ["report_html"]

POINTS = 200  # largest number of points of the curve on a page
PAGE = """<h1>{title}</h1>
{notes}
<section class="card" id="tradeoff-card"><h2>What fewer multiplications give up</h2>
<div id="tradeoff" class="chart"></div>
<label class="slider">Budget <input id="share" type="range" min="0" max="0" value="0"><output id="share-out" for="share"></output></label>
<p id="share-text" aria-live="polite"></p></section>
<section class="card"><h2>Multiplications before and after</h2><div id="layers" class="chart"></div></section>
<section class="card"><h2>Every convolution</h2><div class="scroll" tabindex="0" role="region" aria-label="Convolutions">
<table><thead>{head}</thead>
<tbody>
{rows}
</tbody>
<tfoot>{foot}</tfoot></table></div></section>"""


def report_html(report: Report) -> str:
    """Return a stand-alone page with the table and the curve of the trade-off."""
    columns = (*columns_of(report), REASON)

    def row(cells: Sequence[str], tag: str, attribute: str = "") -> str:
        kinds = [
            ' class="words"' if c is REASON else ' class="words short"' if c in WORDS else ""
            for c in columns
        ]
        made = (f"<{tag}{k}>{html.escape(v)}</{tag}>" for k, v in zip(kinds, cells, strict=True))
        return f"<tr{attribute}>{''.join(made)}</tr>"

    left = ' class="refused"'
    body = PAGE.format(
        title=html.escape(headline(report)),
        notes="".join(f"<p>{html.escape(n)}</p>" for n in conclusions(report)),
        head=row([c.name for c in columns], "th"),
        rows="\n".join(
            row([c.cell(x) for c in columns], "td", "" if x.converted else left)
            for x in report.layers
        ),
        foot=row([c.cell(total_row(report)) for c in columns], "th"),
    )
    return stand_alone(headline(report), body, _drawn(report), ("conversion_report.js",))


def _drawn(report: Report) -> dict[str, Any]:
    """Return the data of the page's charts; a long curve is thinned out."""
    curve = report.tradeoff
    dense = float(curve[:, 0].max()) if len(curve) else 1.0
    thin = curve[:: max(1, len(curve) // POINTS)]
    share = None if report.multiplications is None or not len(curve) else (
        report.multiplications / dense
    )  # fmt: skip
    stands = 0
    if share is not None:
        stands = int(np.argmin(np.abs(thin[:, 0] / dense - share)))
    layers = [
        {"name": x.name or report.model, "pattern": x.pattern,
         "before": x.multiplications_before, "after": x.multiplications}
        for x in report.layers
    ]  # fmt: skip
    points = [[float(x) / dense, float(y)] for x, y in thin]
    return {"curve": points, "share": share, "stands": stands, "layers": layers}
