"""Text and HTML of plans and measurements."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from separable.cost import KernelCount
from separable.engine import METHODS
from separable.engine.spread_passes import chain_text
from separable.pages import table_fragment

if TYPE_CHECKING:
    from separable.plan.candidates import Candidate
    from separable.plan.planned_filter import Measurement, Plan

__all__ = [
    "amount",
    "axes_text",
    "count_text",
    "duration",
    "headline",
    "measurement_text",
    "plan_html",
    "plan_text",
    "render",
    "wrapped",
]

WIDTH = 80
COLUMNS = ("", "method", "terms", "passes", "mult/out", "moved", "predicted", "error", "")
LEGEND = (
    "method: name for `method=` or `--method`; terms: products of 1-D factors that are added up; "
    "mult/out: multiplications per output; moved: bytes read and written; error: bound, relative to "
    "sum|kernel| x max|input|."
)
MEASURED_LEGEND = "ratio: measured over predicted; difference: largest difference from the chosen method's result."
ROUNDED = 1e-12  # bound of a decomposition that is exact to rounding
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))


def plan_text(plan: Plan) -> str:
    """Return the plan in 80 columns: a table of the methods, and the reasons against the rejected ones."""
    return "\n".join([headline(plan), render(COLUMNS, _rows(plan)), *_notes(plan)])


def plan_html(plan: Plan) -> str:
    """Return the plan as HTML for notebooks; the last column marks the chosen method."""
    columns, rows = (*COLUMNS[1:-1], "remark"), [row[1:] for row in _rows(plan)]
    return table_fragment(headline(plan), columns, rows, _notes(plan), words=(0, 7))


def _rows(plan: Plan) -> list[tuple[str, ...]]:
    return [
        (
            "*" if c is plan.chosen else "",
            c.name,
            str(c.rank) if c.rank else "-",
            str(c.passes),
            count_text(c.multiplications),
            amount(c.bytes),
            duration(c.seconds),
            f"{c.bound:.0e}",
            _remark(c, plan.chosen),
        )
        for c in plan.candidates
        if not c.refused
    ]


def _notes(plan: Plan) -> list[str]:
    refused = [wrapped(f"Rejected: {c.name} ({c.refused}).") for c in plan.candidates if c.refused]
    return [*refused, *_verdict(plan), *_why_not_compiled(plan), wrapped(LEGEND)]


def _why_not_compiled(plan: Plan) -> list[str]:
    """Return the line that says why the compiled engine does not run the chosen decomposition."""
    chosen = plan.chosen
    if chosen.form is None:
        return []
    compiled = (
        m
        for m in METHODS.values()
        if m.fallback == chosen.method and not m.own_candidate and not m.unavailable()
    )
    reason = next((m.refuse(plan.problem, chosen.form) for m in compiled), "")
    return [wrapped(f"Not compiled: {reason}.")] if reason else []


def measurement_text(measured: Measurement) -> str:
    """Return predicted beside measured times as a table."""
    rows = [
        (
            "*" if c.name == measured.plan.chosen.name else "",
            c.title,
            duration(c.seconds),
            duration(seconds),
            f"{seconds / c.seconds:.2f}",
            f"{difference:.1e}",
        )
        for c, seconds, difference in zip(
            measured.candidates, measured.seconds, measured.differences, strict=True
        )
    ]
    columns = ("", "method", "predicted", "measured", "ratio", "difference")
    last = f"The chosen method took {measured.regret:.2f} times as long as the fastest one."
    notes = [wrapped(MEASURED_LEGEND), last]
    return "\n".join([headline(measured.plan), render(columns, rows), *notes])


def duration(seconds: float) -> str:
    """Return a time with three digits and a unit.

    Examples
    --------
    >>> duration(0.01234), duration(75.0), duration(float("nan"))
    ('12.3 ms', '75.0 s', '-')
    """
    if math.isnan(seconds):
        return "-"
    unit, factor = next((u for u in UNITS if seconds >= u[1] * 0.9995), UNITS[-1])
    value = seconds / factor
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"


def amount(count: float) -> str:
    """Return a number of bytes with a unit.

    Examples
    --------
    >>> amount(134_217_728), amount(float("nan"))
    ('128 MiB', '-')
    """
    if math.isnan(count):
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if count >= 99.5 else f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError


def headline(plan: Plan, what: str = "") -> str:
    """Return what is filtered and how; `what` instead of the operation and the kernel."""
    p, r = plan.problem, plan.request
    names = [border.name for border in p.modes]
    modes = names[0] if len(set(names)) == 1 else "/".join(names)
    if p.fills:
        modes += f" {p.cval:g}"
    types = str(p.dtype) if p.dtype == p.out else f"{p.dtype} -> {p.out}"
    error = "exact" if not r.tol else f"tol {r.tol:g}"
    axes = "" if p.axes == tuple(range(len(p.shape))) else f", {axes_text(p.axes, ',')}"
    kernel = "x".join(map(str, p.kernel_shape))
    if len(p.kernel_shape) == 1:
        kernel += " tap" if p.kernel_shape == (1,) else " taps"
    image = "x".join(map(str, p.shape))
    threads = f"{p.threads} thread{'s' if p.threads > 1 else ''}"
    what = what or f"{r.operation} {kernel}"
    return wrapped(f"{what} on {image} {types}{axes}, {modes}, {error}, {threads}")


def axes_text(axes: Sequence[int], comma: str = ", ") -> str:
    """Return image axes as text.

    Examples
    --------
    >>> axes_text((0,)), axes_text((0, 2))
    ('axis 0', 'axes 0, 2')
    """
    return f"{'axis' if len(axes) == 1 else 'axes'} {comma.join(map(str, axes))}"


def _verdict(plan: Plan) -> list[str]:
    c = plan.chosen
    if plan.request.method != "auto":
        why = "as requested"
    else:
        others = [o.seconds for o in plan.candidates if o is not c and not o.refused]
        others = [s for s in others if not math.isnan(s)]
        why = "the only one that can run this filter"
        if others:
            why = _lead(min(others), c.seconds)
    weights = plan.request.weights
    count = KernelCount(weights.size, weights.nonzeros, c.multiplications, c.passes)
    chosen = [wrapped(f"Chosen: {c.title}, {why}; {count.sentence}.")]
    if c.explanation:
        chosen.append(wrapped(f"Method: {c.title} {c.explanation}."))
    if c.form is not None and c.form.spread:
        chosen.append(wrapped(f"Passes: {chain_text(c.form.spread)}.{_difference(c.form.bound)}"))
    return [*chosen, wrapped(f"Rates: {plan.machine}.")]


def _difference(bound: float) -> str:
    """Say how much passes differ from the kernel that was given, if they do."""
    if bound <= ROUNDED:
        return ""
    percent = f"{100 * bound:.2g} % of sum|kernel| x max|input|"
    return f" They approximate the kernel: the error is at most {percent}."


def _lead(next_best: float, seconds: float) -> str:
    """Say how much faster the choice is predicted to be than the next candidate."""
    if seconds == 0:
        return "predicted to take no time"
    ratio = next_best / seconds
    if ratio >= 1.05:
        return f"predicted {ratio:.1f} times faster than the next"
    percent = round(100 * (ratio - 1))
    return f"predicted {percent} % faster than the next" if percent else "as fast as the next"


def _remark(c: Candidate, chosen: Candidate) -> str:
    if c is chosen:
        return "chosen"
    if chosen.seconds > 0 and c.seconds >= chosen.seconds:
        ratio = c.seconds / chosen.seconds
        if ratio < 1.05:
            percent = round(100 * (ratio - 1))
            return f"{percent} % slower" if percent else "as fast"
        return f"{ratio:.1f}x slower" if ratio < 100 else f"{ratio:.0f}x slower"
    return ""


def count_text(count: float) -> str:
    """Return a number of multiplications, without a fraction where it is whole."""
    return f"{count:.0f}" if count == int(count) else f"{count:.1f}"


def wrapped(text: str) -> str:
    """Return a text in lines of 80 columns."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def render(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Lay a table out with Rich, as plain text."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        numeric = name not in ("", "method", "band", "kernel", "runs in")
        options: dict[str, Any] = {"justify": "right", "no_wrap": True} if numeric else {}
        grid.add_column(name, overflow="fold", **options)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    out = io.StringIO()
    Console(file=out, width=WIDTH, color_system=None, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
