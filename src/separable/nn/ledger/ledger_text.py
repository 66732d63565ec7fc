"""Ledgers as printed text, CSV, Markdown and notebook tables."""

from __future__ import annotations

import csv
import io
import textwrap
from typing import Any

from separable.cost import Cost
from separable.cost.cost_text import Column, fitting, legend, quantity, ratio, size_text, table
from separable.nn.ledger.ledger_data import Layer, Ledger
from separable.pages import table_fragment

__all__ = ["ledger_csv", "ledger_fragment", "ledger_markdown", "ledger_text"]

ROWS = 60  # longer tables add layers to the modules that contain them
NARROWEST = 16  # characters of the column of names, which are folded


WORDS: tuple[Column[Layer], ...] = (
    Column("layer", lambda x: x.name or "(model)"),
    Column("kind", lambda x: x.kind, 3),
    Column("output", lambda x: "x".join(map(str, x.output_shape)), 4),
)
NUMBERS: tuple[Column[Layer], ...] = (
    Column("mult", lambda x: quantity(x.cost.multiplications), meaning="multiplications"),
    Column("MACs", lambda x: quantity(x.cost.macs), meaning="multiplications added to a sum"),
    Column("FLOPs", lambda x: quantity(x.cost.flops), 2, "mult + MACs"),
    Column("added", lambda x: quantity(x.cost.additions), meaning="additions outside MACs"),
    Column("params", lambda x: quantity(x.cost.parameters), meaning="parameters"),
    Column("activ.", lambda x: size_text(x.cost.activation_bytes), 0, "activations moved"),
    Column("weights", lambda x: size_text(x.cost.weight_bytes), meaning="weights moved"),
    Column("mult/B", lambda x: _intensity(x.cost), meaning="multiplications per byte moved"),
    Column("back", lambda x: quantity(x.backward.multiplications), 1, "mult of the backward pass"),
)
SEPARATED: tuple[Column[Layer], ...] = (
    Column("mult", lambda x: quantity(x.cost.multiplications), meaning="multiplications"),
    Column("separated", lambda x: quantity(_other(x).multiplications)),
    Column("ratio", lambda x: ratio(x.cost.multiplications, _other(x).multiplications)),
    Column("params", lambda x: quantity(x.cost.parameters), meaning="parameters"),
    Column(
        "separated",
        lambda x: quantity(_other(x).parameters),
        meaning="the column to its left with dense convolutions separated",
    ),
    Column("moved", lambda x: size_text(x.cost.bytes), 2, "bytes moved"),
    Column("separated", lambda x: size_text(_other(x).bytes), 2),
    Column("", lambda x: x.remark, 1),
)


def ledger_text(
    ledger: Ledger, width: int, depth: int | None, option: str = "table(depth={})"
) -> str:
    """Return the table with a headline; below it the total in words and uncounted operations.

    `option` is what the user writes to choose a depth, for the note on layers that are not shown.
    """
    deepest = max((x.name.count(".") + 1 for x in ledger.layers), default=1)
    chosen = depth if depth is not None else _depth(ledger, deepest)
    shown = ledger.merged(chosen) if chosen < deepest else ledger
    numbers = NUMBERS if ledger.pattern is None else SEPARATED
    rows = [*shown.layers, _total(ledger)]
    columns = fitting((*WORDS, *numbers), rows, width, NARROWEST)
    cells = [[c.cell(x) for c in columns] for x in rows]
    lines = table(
        [c.name for c in columns],
        [*cells[:-1], (), cells[-1]],
        text=sum(c in WORDS for c in columns),
        width=width,
    )
    notes = [_headline(ledger), legend(columns), *_verdict(ledger)]
    if chosen < deepest:
        notes.append(
            f"Layers deeper than {chosen} are added to the module they are in; "
            f"`{option.format(deepest)}` shows all {len(ledger.layers)}."
        )
    notes = [textwrap.fill(n, width, break_on_hyphens=False) for n in notes]
    return "\n".join([notes[0], lines, *notes[1:]])


def ledger_fragment(ledger: Ledger) -> str:
    """Return the table for notebooks, with all columns, to the depth of `ledger_text`."""
    deepest = max((x.name.count(".") + 1 for x in ledger.layers), default=1)
    depth = _depth(ledger, deepest)
    shown = ledger.merged(depth) if depth < deepest else ledger
    columns = (*WORDS, *(NUMBERS if ledger.pattern is None else SEPARATED))
    rows = [[c.cell(x) for c in columns] for x in (*shown.layers, _total(ledger))]
    return table_fragment(
        _headline(ledger), [c.name for c in columns], rows, _verdict(ledger),
        words=range(len(WORDS)), has_total=True,
    )  # fmt: skip


def ledger_csv(ledger: Ledger) -> str:
    """Return one line per layer and the total, unrounded."""
    rows = [_flat(x, ledger) for x in (*ledger.layers, _total(ledger))]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def ledger_markdown(ledger: Ledger) -> str:
    """Return the rows of the table in Markdown, with all columns and layers."""
    columns = (*WORDS, *(NUMBERS if ledger.pattern is None else SEPARATED))
    rows = [[c.cell(x) for c in columns] for x in (*ledger.layers, _total(ledger))]
    rows[-1] = [f"**{cell}**" if cell else "" for cell in rows[-1]]
    rule = ["---" if c in WORDS else "---:" for c in columns]
    lines = [[c.name for c in columns], rule, *rows]
    notes = [_headline(ledger), *_verdict(ledger)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return body + "\n\n" + "\n\n".join(notes) + "\n"


def _flat(layer: Layer, ledger: Ledger) -> dict[str, Any]:
    """Return one line of the CSV: the forward counts first, then the others with a prefix."""
    found: dict[str, Any] = {
        "layer": layer.name,
        "kind": layer.kind,
        "calls": layer.calls,
        "input": "x".join(map(str, layer.input_shape)),
        "output": "x".join(map(str, layer.output_shape)),
        **layer.cost.to_dict(),
        "multiplications_per_byte": layer.cost.multiplications_per_byte,
    }
    found |= {f"backward_{name}": n for name, n in layer.backward.to_dict().items()}
    if ledger.pattern is not None:
        found |= {f"separated_{name}": n for name, n in _other(layer).to_dict().items()}
        found["remark"] = layer.remark
    return found


def _total(ledger: Ledger) -> Layer:
    """Return the sum of all layers as one row."""
    return Layer(
        "total", "", 1, cost=ledger.total, backward=ledger.backward, separated=ledger.separated
    )


def _depth(ledger: Ledger, deepest: int) -> int:
    """Return the greatest depth at which the table has few enough rows."""
    for depth in range(deepest, 1, -1):
        names = {".".join(x.name.split(".")[:depth]) for x in ledger.layers}
        if len(names) <= ROWS:
            return depth
    return 1


def _headline(ledger: Ledger) -> str:
    mode = "training" if ledger.training else "evaluation"
    inputs = ", ".join(ledger.inputs) or "no input"
    return f"{ledger.model} on {inputs}, in {mode} mode"


def _verdict(ledger: Ledger) -> list[str]:
    """Return sentences about the total and about operations without a formula."""
    total, back = ledger.total, ledger.backward
    said = f"Forward {quantity(total.macs)} MACs, {quantity(total.parameters)} parameters, "
    said += f"{size_text(total.bytes)} moved, {_intensity(total)} multiplications per byte"
    if back != Cost():
        said += f"; backward {quantity(back.macs)} MACs, {size_text(back.bytes)} moved"
    notes = [said + "."]
    if ledger.separated is not None:
        times = ratio(total.multiplications, ledger.separated.multiplications)
        notes.append(
            f"Separated by {ledger.pattern}: {quantity(ledger.separated.macs)} MACs, "
            f"{quantity(ledger.separated.parameters)} parameters; {times} times fewer "
            "multiplications."
        )
    if ledger.uncounted:
        notes.append("Not counted: " + "; ".join(map(str, ledger.uncounted)) + ".")
    return notes


def _intensity(cost: Cost) -> str:
    value = cost.multiplications_per_byte
    if value != value:
        return "-"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _other(layer: Layer) -> Cost:
    return layer.cost if layer.separated is None else layer.separated
