"""Stand-alone HTML page of a ledger."""

from __future__ import annotations

import html
from typing import Any

from separable.cost.cost_text import quantity, ratio, size_text
from separable.nn.ledger.ledger_data import Layer, Ledger
from separable.pages import stand_alone

__all__ = ["ledger_html"]

BODY = """<h1>{model}</h1>
<p class="lead">{inputs}: {total}.</p>
<section class="card"><h2>The largest layers</h2>
<div class="bar"><label>By <select id="count"><option>multiplications</option><option>parameters</option><option>bytes</option></select></label></div>
<div id="layers" class="chart"></div></section>
<section class="card"><h2>Every layer</h2><div class="scroll" tabindex="0" role="region" aria-label="Layers">
<table><thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
{uncounted}</section>"""


def ledger_html(ledger: Ledger) -> str:
    """Return a page with a table of all layers and a chart of the largest ones by a chosen count."""
    columns = ["layer", "kind", "output", "mult", "params", "activations", "weights", "mult/B"]
    separated = ledger.separated
    if separated is not None:
        columns += ["separated", "ratio", "remark"]
    total, count = ledger.total, ledger.total.multiplications
    said = f"{quantity(total.macs)} multiply-adds, {quantity(total.parameters)} parameters"
    if separated is not None:
        fewer = ratio(count, separated.multiplications)
        said += f"; separated as {ledger.pattern} {quantity(separated.multiplications)}, {fewer}"
    missing = [f"<li>{html.escape(str(u))}</li>" for u in ledger.uncounted]
    told = f"<p>Not counted:</p><ul>{''.join(missing)}</ul>" if missing else ""
    words = ("layer", "kind", "remark")
    head = "".join(f'<th scope="col"{_kind(c in words)}>{html.escape(c)}</th>' for c in columns)
    body = BODY.format(
        model=html.escape(ledger.model),
        inputs=html.escape(", ".join(ledger.inputs)),
        total=html.escape(said),
        head=head,
        rows="\n".join(_row(x, separated is not None) for x in ledger.layers),
        uncounted=told,
    )
    return stand_alone(f"{ledger.model}: what it costs", body, _data(ledger), ("ledger_report.js",))


def _row(layer: Layer, has_separated: bool) -> str:
    cost = layer.cost
    cells = [
        (layer.name or "(model)", True),
        (layer.kind, True),
        ("x".join(map(str, layer.output_shape)), False),
        (quantity(cost.multiplications), False),
        (quantity(cost.parameters), False),
        (size_text(cost.activation_bytes), False),
        (size_text(cost.weight_bytes), False),
        (f"{cost.multiplications_per_byte:.3g}" if cost.bytes else "-", False),
    ]
    if has_separated:
        other = layer.separated
        cells += [
            ("" if other is None else quantity(other.multiplications), False),
            ("" if other is None else ratio(cost.multiplications, other.multiplications), False),
            (layer.remark, True),
        ]
    made = (f"<td{_kind(words)}>{html.escape(text)}</td>" for text, words in cells)
    return f"<tr>{''.join(made)}</tr>"


def _kind(words: bool) -> str:
    return ' class="words"' if words else ""


def _data(ledger: Ledger) -> dict[str, Any]:
    return {
        "layers": [
            {
                "name": x.name or x.kind,
                "multiplications": x.cost.multiplications,
                "parameters": x.cost.parameters,
                "bytes": x.cost.bytes,
                "separated": None if x.separated is None else x.separated.multiplications,
            }
            for x in ledger.layers
        ]
    }
