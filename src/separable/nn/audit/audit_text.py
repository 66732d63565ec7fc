"""Audits as printed text, Markdown, notebook tables and pages."""

from __future__ import annotations

import html
import textwrap

from separable.cost.cost_text import Column, fitting, legend, quantity, ratio, table
from separable.nn.audit.audit_data import Audit, AuditedLayer, Form
from separable.nn.convert.report_text import error_text, ranks_text
from separable.nn.convert.runtime_comparison import duration
from separable.pages import stand_alone, table_fragment

__all__ = ["audit_fragment", "audit_html", "audit_markdown", "audit_text"]

NARROWEST = 16
PAGE = """<h1>{title}</h1>
{notes}
<section class="card"><h2>Every convolution</h2><div class="scroll" tabindex="0" role="region" aria-label="Convolutions">
{table}</div><p class="help">{legend}</p></section>"""
EMPTY = ("", "-")


WORDS: tuple[Column[AuditedLayer], ...] = (
    Column("layer", lambda x: x.title),
    Column("weights", lambda x: "x".join(map(str, x.weight_shape)) or "-", 3, "out x in x kernel"),
    Column("exact", lambda x: "-" if x.reason else "no" if x.exact is None else "yes"),
    Column("pattern", lambda x: _pattern(x.best)),
    Column("rank", lambda x: (x.best and ranks_text(x.best.ranks)) or "-", 1),
)
NUMBERS: tuple[Column[AuditedLayer], ...] = (
    Column("error", lambda x: _error(x.best), 3, "relative error of the weights in that pattern"),
    Column("mult", lambda x: "-" if x.reason else quantity(x.multiplications), 0, "multiplications"),
    Column("then", lambda x: "-" if x.best is None else quantity(x.best.multiplications)),
    Column(
        "saving",
        lambda x: "-" if x.best is None else ratio(x.multiplications, x.best.multiplications),
        2,
        "mult divided by then",
    ),
    Column("at 1/2", lambda x: _error(x.at_half), 1,
           "smallest error of the weights with half of the multiplications"),
    Column("at 1/4", lambda x: _error(x.at_quarter), 4, "the same with a quarter"),
    Column("time", lambda x: duration(x.seconds_before), 0),
    Column("then", lambda x: duration(x.seconds), 0, "the column to its left in that pattern"),
    Column("fused", lambda x: duration(x.seconds_fused), 3, "time after nn.fuse"),
)  # fmt: skip
# What takes the place of three of these columns where the layers were run.
OUTPUTS: dict[Column[AuditedLayer], Column[AuditedLayer]] = {
    NUMBERS[0]: Column("error", lambda x: _output_error(x.best), 3,
                       "relative error of the layer's output in that pattern"),
    NUMBERS[4]: Column("at 1/2", lambda x: _output_error(x.at_half), 1,
                       "smallest error of the output with half of the multiplications"),
    NUMBERS[5]: Column("at 1/4", lambda x: _output_error(x.at_quarter), 4, "the same with a quarter"),
}  # fmt: skip
REASON: Column[AuditedLayer] = Column("not examined because", lambda x: x.reason)


def audit_text(found: Audit, width: int, convert: str = "") -> str:
    """Return the headline, the findings, the table, and layers that were not examined.

    `convert` is what the user writes to convert the layers that are exactly separable; the call of
    `nn.convert` if empty.
    """
    rows = [x for x in found.layers if not x.reason]
    parts = [_wrap(_headline(found), width)]
    parts += [_wrap(f"{at}. {f.text}", width) for at, f in enumerate(found.findings, 1)]
    if rows:
        columns = fitting(_columns(found), rows, width, NARROWEST)
        cells = [[c.cell(x) for c in columns] for x in rows]
        text = sum(c in WORDS for c in columns)
        parts.append(table([c.name for c in columns], cells, text=text, width=width))
        parts.append(_wrap(legend(columns), width))
    parts += [_wrap(n, width) for n in _notes(found, convert)]
    return "\n".join(parts)


def audit_markdown(found: Audit) -> str:
    """Return the findings and all layers and columns in Markdown."""
    columns = (*_columns(found), REASON)
    rule = ["---" if c in (*WORDS, REASON) else "---:" for c in columns]
    lines = [[c.name for c in columns], rule, *[[c.cell(x) for c in columns] for x in found.layers]]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    numbered = "\n".join(f"{at}. {f.text}" for at, f in enumerate(found.findings, 1))
    return "\n\n".join(p for p in (_headline(found), numbered, body) if p) + "\n"


def audit_fragment(found: Audit) -> str:
    """Return the table for notebooks, with all columns, and the findings below it."""
    columns = (*_columns(found), REASON)
    return table_fragment(
        _headline(found), [c.name for c in columns],
        [[c.cell(x) for c in columns] for x in found.layers], [f.text for f in found.findings],
        words=[at for at, c in enumerate(columns) if c in (*WORDS, REASON)],
    )  # fmt: skip


def audit_html(found: Audit) -> str:
    """Return a stand-alone page with the findings and the table.

    The columns that say what is worth converting come first; columns without any value are left out.
    """
    columns = [c for c in _page_columns(found) if any(c.cell(x) not in EMPTY for x in found.layers)]

    def row(cells: list[str], tag: str) -> str:
        kinds = [
            ' class="words"' if c is REASON else ' class="words short"' if c in WORDS else ""
            for c in columns
        ]
        made = (f"<{tag}{k}>{html.escape(v)}</{tag}>" for k, v in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(made)}</tr>"

    rows = "\n".join(row([c.cell(x) for c in columns], "td") for x in found.layers)
    head = row([c.name for c in columns], "th")
    notes = "".join(f"<li>{html.escape(f.text)}</li>" for f in found.findings)
    body = PAGE.format(
        title=html.escape(_headline(found)),
        notes=f"<ol>{notes}</ol>" if notes else "",
        table=f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>",
        legend=html.escape(legend(columns)),
    )
    return stand_alone(_headline(found), body, {}, ())


def _page_columns(found: Audit) -> list[Column[AuditedLayer]]:
    """Return the columns of a page: what a layer saves and loses, then its numbers, then its forms."""
    layer, weights, exact, pattern, rank = WORDS
    known = _columns(found)
    numbers = [c for c in known if c not in WORDS]
    deciding = [c for c in numbers if c.name in ("saving", "error", "at 1/2", "at 1/4")]
    deciding.sort(key=lambda c: c.name != "saving")
    rest = [c for c in numbers if c not in deciding]
    return [layer, exact, *deciding, *rest, pattern, rank, weights, REASON]


def _columns(found: Audit) -> tuple[Column[AuditedLayer], ...]:
    """Return the columns of everything that was measured."""
    timed = any(x.seconds_before == x.seconds_before for x in found.layers)
    hidden = () if timed else NUMBERS[6:]
    shown = (c for c in (*WORDS, *NUMBERS) if c not in hidden)
    return tuple(OUTPUTS.get(c, c) if found.ran_on else c for c in shown)


def _headline(found: Audit) -> str:
    inputs = f" on {', '.join(found.inputs)}" if found.inputs else ""
    count = len(found.layers)
    convolutions = "convolution" if count == 1 else "convolutions"
    verb = "is" if 1 in (count, len(found.separable)) else "are"
    if not count:
        count = len(found.findings)
        said = f"no convolution, {count} {'finding' if count == 1 else 'findings'}"
    else:
        said = f"{len(found.separable)} of {count} {convolutions} {verb} exactly separable"
    close = sum(x.close is not None for x in found.layers)
    if close:
        said += f", {close} within {100 * found.tol:g} %"
    return f"{found.model}{inputs}: {said}"


def _notes(found: Audit, convert: str = "") -> list[str]:
    notes = []
    names = [x.name for x in found.layers if x.is_convertible]
    if names:
        said = convert or f'nn.convert(model, "auto", tol=1e-5, include={names})'
        notes.append(
            f"`{said}` writes the exact forms of {', '.join(n or '(model)' for n in names)}."
        )
    if not found.inputs and not all(x.reason for x in found.layers):
        notes.append(
            "Multiplications are those of one position of each layer's output; an example of the "
            "input would give the network's, and times."
        )
    if found.ran_on and not all(x.reason for x in found.layers):
        notes.append(
            f"Errors are root mean squares of the layers' outputs on {found.ran_on}, relative to their "
            "deviation from the mean."
        )
    reasons: dict[str, list[str]] = {}
    for x in found.layers:
        if x.reason:
            reasons.setdefault(x.reason, []).append(x.title)
    return notes + [
        f"Not examined: {', '.join(names)} ({reason})." for reason, names in reasons.items()
    ]


def _pattern(form: Form | None) -> str:
    if form is None:
        return "-"
    right = form.pattern.partition("->")[2].strip() or form.pattern
    return right or f"{form.groups} groups"


def _error(form: Form | None) -> str:
    return "-" if form is None else error_text(form.error)


def _output_error(form: Form | None) -> str:
    return "-" if form is None else error_text(form.output_error)


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)
