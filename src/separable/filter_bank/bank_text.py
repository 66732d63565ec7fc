"""How a bank is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from separable.pages import table_fragment
from separable.plan.plan_text import count_text, duration, headline, render, wrapped

if TYPE_CHECKING:
    from separable.filter_bank.planned_bank import Bank, Group

__all__ = ["bank_html", "bank_text", "duration"]

COLUMNS = ("band", "kernel", "mult/out alone", "own passes", "shared", "runs in")
MOST_ROWS = 20
LONGEST = 28  # characters of a name


def bank_text(bank: Bank) -> str:
    """Return a bank in 80 columns: a line a band, what is shared, and what that saves."""
    rows = _rows(bank)
    more = [f"... and {len(rows) - MOST_ROWS} more bands"] if len(rows) > MOST_ROWS else []
    notes = [*more, *_sweeps(bank), *_verdict(bank)]
    return "\n".join([_head(bank), render(COLUMNS, rows[:MOST_ROWS]), *notes])


def bank_html(bank: Bank) -> str:
    """Return the same for notebooks."""
    rows = _rows(bank)
    more = [f"... and {len(rows) - MOST_ROWS} more bands"] if len(rows) > MOST_ROWS else []
    notes = [*more, *_sweeps(bank), *_verdict(bank)]
    return table_fragment(_head(bank), COLUMNS, rows[:MOST_ROWS], notes, words=(0, 1, 5))


def _head(bank: Bank) -> str:
    return headline(bank.plans[0], f"bank of {len(bank.names)} kernels")


def _rows(bank: Bank) -> list[tuple[str, ...]]:
    """Return a line for each band, in their order."""
    rows: list[tuple[int, tuple[str, ...]]] = []
    for group in bank.groups:
        own, shared = _counted(group)
        for k, band in enumerate(group.members):
            p = bank.plans[band]
            title = p.chosen.title if group.graph is None else f"sweep {_number(bank, group)}"
            size = "x".join(map(str, p.problem.kernel_shape))
            count = count_text(p.chosen.multiplications)
            rows.append((band, (_short(bank.names[band]), size, count, own[k], shared[k], title)))
    return [row for _, row in sorted(rows)]


def _counted(group: Group) -> tuple[list[str], list[str]]:
    """For each band how many passes it has alone and how many others need as well."""
    if group.graph is None:
        return ["-"], ["-"]
    own, shared = [0] * len(group.members), [0] * len(group.members)
    for layer, terms in zip(group.graph.layers, group.graph.users(), strict=True):
        for taps, users in zip(layer.taps, terms, strict=True):
            if (taps != 0).sum() > 1:
                for band in users:
                    (own if len(users) == 1 else shared)[band] += 1
    return list(map(str, own)), list(map(str, shared))


def _number(bank: Bank, group: Group) -> int:
    return 1 + [g for g in bank.groups if g.graph is not None].index(group)


def _sweeps(bank: Bank) -> list[str]:
    """A line for each sweep: how many passes there are along each axis."""
    lines = []
    letters = "tzyx"[-len(bank.problem.axes) :]
    for number, group in enumerate((g for g in bank.groups if g.graph is not None), 1):
        assert group.graph is not None
        layers = sorted(group.graph.layers, key=lambda layer: layer.axis)
        along = ", ".join(f"{letters[layer.axis]} {len(layer.sources)}" for layer in layers)
        alone = sum(bank.plans[band].chosen.multiplications for band in group.members)
        bands = f"{len(group.members)} band{'s' if len(group.members) > 1 else ''}"
        counts = f"{group.graph.multiplications} multiplications instead of {count_text(alone)}"
        lines.append(wrapped(f"Sweep {number}: {bands}, passes along {along}; {counts}."))
    if len(lines) > MOST_ROWS:
        lines[MOST_ROWS:] = [f"... and {len(lines) - MOST_ROWS} more sweeps"]
    return lines


def _verdict(bank: Bank) -> Sequence[str]:
    counts = (
        f"{count_text(bank.multiplications)} multiplications a sample instead of "
        f"{count_text(bank.multiplications_alone)}"
    )
    times = f"predicted {duration(bank.seconds)}, kernel by kernel {duration(bank.seconds_alone)}"
    return [wrapped(f"In all {counts}; {times}."), wrapped(f"Rates: {bank.machine}.")]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
