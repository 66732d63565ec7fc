"""Conversion reports as printed text, Markdown and notebook tables."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from separable.cost.cost_text import Column, fitting, legend, quantity, ratio, table
from separable.nn.convert.conversion_report import ConvertedLayer, Report
from separable.nn.convert.network_times import LEVEL
from separable.nn.convert.runtime_comparison import RuntimeComparison, duration
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.ties import ties_text
from separable.pages import table_fragment

__all__ = [
    "REASON",
    "WORDS",
    "columns_of",
    "conclusions",
    "error_text",
    "headline",
    "report_fragment",
    "report_markdown",
    "report_text",
    "time_line",
    "total_row",
]

NARROWEST = 18
ARROW = "->"


WORDS: tuple[Column[ConvertedLayer], ...] = (
    Column("layer", lambda x: x.name or "(model)"),
    Column("pattern", lambda x: _pattern(x)),
    Column("rank", lambda x: ranks_text(x.ranks) or "-", 2),
)
NUMBERS: tuple[Column[ConvertedLayer], ...] = (
    Column("mult", lambda x: quantity(x.multiplications_before), 3, "multiplications"),
    Column("now", lambda x: quantity(x.multiplications), 3, "the column to its left, converted"),
    Column(
        "saving",
        lambda x: ratio(x.multiplications_before, x.multiplications),
        meaning="multiplications before divided by after",
    ),
    Column("params", lambda x: quantity(x.parameters_before), 5, "parameters"),
    Column("now", lambda x: quantity(x.parameters), 5),
    Column(
        "weights",
        lambda x: error_text(x.weight_error) if x.converted else "-",
        4,
        "relative error of the weights",
    ),
    Column(
        "output", lambda x: error_text(x.output_error), 0, "relative error of the layer's output"
    ),
    Column("time", lambda x: duration(x.seconds_before), 0, "time of the layer alone, before"),
    Column("now", lambda x: duration(x.seconds), 0, "and after"),
    Column(
        "loss",
        lambda x: "-" if math.isnan(x.score_loss) else f"{x.score_loss:.2g}",
        1,
        "loss of the score with this layer alone converted",
    ),
)
REASON: Column[ConvertedLayer] = Column("left alone because", lambda x: x.reason)


def _pattern(layer: ConvertedLayer) -> str:
    """Return the factors, or the groups of a layer that is one factor."""
    before, _, factors = layer.pattern.partition(ARROW)
    if factors and factors.strip() == before.strip():
        return f"{layer.groups} groups"
    return factors.strip() or "-"


def report_text(report: Report, width: int) -> str:
    """Return the table below sentences about time and multiplications; then the reasons for layers left alone."""
    rows = [x for x in report.layers if x.converted]
    said = conclusions(report)
    first = _leading(report)
    parts = [_wrap(text, width) for text in (*said[:first], headline(report))]
    if rows:
        columns = fitting(columns_of(report), [*rows, total_row(report)], width, NARROWEST)
        lines = [[c.cell(x) for c in columns] for x in rows]
        last = [c.cell(total_row(report)) for c in columns]
        text = sum(c in WORDS for c in columns)
        parts.append(table([c.name for c in columns], [*lines, (), last], text=text, width=width))
        parts.append(_wrap(legend(columns), width))
    parts += [_wrap(n, width) for n in [*said[first:], *_left(report)]]
    return "\n".join(parts)


def report_markdown(report: Report) -> str:
    """Return all layers and columns in Markdown, with the reasons for layers left alone."""
    said = conclusions(report)
    first = _leading(report)
    columns = (*columns_of(report), REASON)
    rows = [[c.cell(x) for c in columns] for x in report.layers]
    rows.append([f"**{c.cell(total_row(report))}**" if c is not REASON else "" for c in columns])
    rule = ["---" if c in (*WORDS, REASON) else "---:" for c in columns]
    lines = [[c.name for c in columns], rule, *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([*said[:first], headline(report), body, *said[first:]]) + "\n"


def report_fragment(report: Report) -> str:
    """Return the table for notebooks: all layers and columns, with reasons for layers left alone."""
    columns = (*columns_of(report), REASON)
    rows = [[c.cell(x) for c in columns] for x in (*report.layers, total_row(report))]
    return table_fragment(
        headline(report), [c.name for c in columns], rows, conclusions(report),
        words=[at for at, c in enumerate(columns) if c in (*WORDS, REASON)], has_total=True,
    )  # fmt: skip


def ranks_text(ranks: Any) -> str:
    """Return the ranks of the bonds as a short text.

    Examples
    --------
    >>> ranks_text({"R": 4}), ranks_text({"R": [1, 3, 2]}), ranks_text({"R": 8, "S": 6})
    ('4', '1..3', 'R=8 S=6')
    """
    said = {}
    for bond, rank in ranks.items():
        said[bond] = str(rank) if isinstance(rank, int) else f"{min(rank)}..{max(rank)}"
    if len(said) == 1:
        return next(iter(said.values()))
    return " ".join(f"{bond}={text}" for bond, text in said.items())


def columns_of(report: Report) -> tuple[Column[ConvertedLayer], ...]:
    """Return the columns of everything that was measured."""
    unknown = set()
    if all(math.isnan(x.output_error) for x in report.layers):
        unknown.add(NUMBERS[6])
    if all(math.isnan(x.seconds) for x in report.layers):
        unknown |= {NUMBERS[7], NUMBERS[8]}
    if all(math.isnan(x.score_loss) for x in report.layers):
        unknown.add(NUMBERS[9])
    return tuple(c for c in (*WORDS, *NUMBERS) if c not in unknown)


def total_row(report: Report) -> ConvertedLayer:
    """Return the network as one row; the sum of its convolutions if it was not counted."""
    layers = report.layers
    now, before = report.multiplications, report.multiplications_before
    return ConvertedLayer(
        "total", (), "", (),
        multiplications=sum(x.multiplications for x in layers) if now is None else now,
        multiplications_before=sum(x.multiplications_before for x in layers)
        if before is None else before,
        parameters=report.parameters,
        parameters_before=report.parameters_before,
        weight_error=math.nan,
        output_error=report.output_error,
        seconds=_sum([x.seconds for x in layers]),
        seconds_before=_sum([x.seconds_before for x in layers]),
    )  # fmt: skip


def _sum(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) if known else math.nan


def headline(report: Report) -> str:
    """Return the line about the network, what was requested, and how many layers were converted."""
    done = len(report.converted)
    count = len(report.layers)
    convolutions = "convolution" if count == 1 else "convolutions"
    inputs = f" on {', '.join(report.inputs)}" if report.inputs else ""
    return f"{report.model}{inputs}, {report.request}: {done} of {count} {convolutions} converted"


def time_line(report: Report) -> str:
    """Return the first line: the time of the network before and after, and the error of its output."""
    quality = (
        "its error is unknown without data"
        if math.isnan(report.output_error)
        else f"error of its output {error_text(report.output_error)}"
    )
    if report.score is not None:
        quality = report.score.text()
    found = report.duration
    if found is None:
        return f"Time unknown without an input shape or data; {quality}."
    before, after = found.best
    if math.isnan(found.gain):
        return f"Time in {found.title} unknown ({found.reason}); {quality}."
    times = f"{duration(after)} instead of {duration(before)} per call"
    if found.is_slower:
        said = f"Slower than the original in {found.title}: {times}"
    elif found.gain < 1 + LEVEL:
        said = f"As fast as the original in {found.title}: {times}"
    else:
        said = f"{ratio(before, after)} times as fast in {found.title}: {times}"
    if not found.is_measured:
        said += f", predicted and not measured ({found.reason})"
    for name, gain in found.slower_in.items():
        said += f"; SLOWER in {RUNTIMES[name].title}, {gain:.2f} times as fast"
    if found.misses_goal:
        said = f"Goal of {1 / found.goal:.4g}x faster not met. {said}"
    return f"{said}; {quality}."


def _times(report: Report) -> list[str]:
    """Return the sentences about time; one that says that the written file is slower comes first.

    The file that was written was measured as it is. The same time predicted or measured for its layers
    before they were written would be said twice, so only a missed goal is left of it.
    """
    compared, found = report.comparison, report.duration
    if compared is None:
        return [time_line(report)]
    if found is None or found.runtime != compared.name:
        said = [_compared(report, compared)]
        if found is None:
            return said
        return [*said, time_line(report)] if compared.slower else [time_line(report), *said]
    first = _compared(report, compared)
    ratio_reached = compared.seconds_before / compared.seconds
    if not math.isnan(found.goal) and ratio_reached * found.goal < 1 - LEVEL:
        first = f"Goal of {1 / found.goal:.4g}x faster not met. {first}"
    if report.score is not None:
        first = f"{first} {report.score.text().capitalize()}."
    return [first]


def _compared(report: Report, compared: RuntimeComparison) -> str:
    """Return the sentences about the written file: its time, and its error on all data if that is known.

    The comparison itself has the error of a single call.
    """
    if math.isnan(report.output_error):
        return compared.text()
    return f"{compared.time_text()} Error of its output on the data: {error_text(report.output_error)}."


def _leading(report: Report) -> int:
    """Return how many conclusions stand above the table: those about time, and the multiplications."""
    return len(_times(report)) + 1


def conclusions(report: Report) -> list[str]:
    """Return sentences about the whole network: its time and quality, its multiplications, its error."""
    now, before = report.multiplications, report.multiplications_before
    notes = _times(report)
    if now is not None and before is not None:
        notes.append(
            f"The network takes {quantity(now)} of {quantity(before)} multiplications "
            f"({now / max(before, 1):.1%}, {ratio(before, now)} times fewer) and "
            f"{quantity(report.parameters)} of {quantity(report.parameters_before)} parameters."
        )
    else:
        notes.append(
            "Multiplications are those of one position of each layer's output; `input_shape` or "
            f"`data` would give the network's. {quantity(report.parameters)} of "
            f"{quantity(report.parameters_before)} parameters."
        )
    if not math.isnan(report.output_error):
        note = f"Error of the network's output on the data: {error_text(report.output_error)}"
        if not math.isnan(report.plain_output_error):
            note += (
                f"; converted without the data it would be {error_text(report.plain_output_error)}"
            )
        notes.append(f"{note}.")
    if report.score is not None:
        notes.append(report.score.sentence())
    return notes + ties_text(report.untied)


def _left(report: Report) -> list[str]:
    """Return one sentence per reason for layers that were left alone."""
    reasons: dict[str, list[str]] = {}
    for x in report.layers:
        if x.reason:
            reasons.setdefault(x.reason, []).append(x.name or "(model)")
    return [f"Left alone: {', '.join(names)} ({reason})." for reason, names in reasons.items()]


def error_text(value: float) -> str:
    """Return a relative error as a percentage with two digits, or as a power of ten if it is tiny."""
    if math.isnan(value):
        return "-"
    if value < 5e-5:
        return f"{value:.0e}" if value else "0"
    if value >= 10:
        return f"{value:.2g}"
    return f"{100 * value:.0f} %" if value >= 0.995 else f"{100 * value:.2g} %"


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)
