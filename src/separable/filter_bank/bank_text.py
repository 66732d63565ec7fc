"""Banks as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from separable.engine import Problem
from separable.filter_bank.sweep_groups import Group
from separable.pages import table_fragment
from separable.plan import Plan
from separable.plan.plan_text import count_text, duration, headline, render, wrapped

__all__ = ["bank_html", "bank_text", "duration"]

COLUMNS = ("band", "kernel", "mult/out alone", "own passes", "shared", "runs in")
MOST_ROWS = 20
LONGEST = 28  # characters of a name


class Bank(Protocol):
    """Properties of a bank that are printed."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Plan of each kernel alone."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Bands that run together."""

    @property
    def machine(self) -> str:
        """Computer whose rates the predictions come from."""

    @property
    def problem(self) -> Problem:
        """Problem of the first kernel."""

    @property
    def multiplications(self) -> float:
        """Multiplications per sample."""

    @property
    def multiplications_alone(self) -> float:
        """Multiplications per sample if each kernel ran alone."""

    @property
    def seconds(self) -> float:
        """Predicted time."""

    @property
    def seconds_alone(self) -> float:
        """Predicted time if each kernel ran alone."""


def bank_text(bank: Bank) -> str:
    """Return a bank in 80 columns: one line per band, the shared passes, and the saved work."""
    rows = _rows(bank)
    more = [f"... and {len(rows) - MOST_ROWS} more bands"] if len(rows) > MOST_ROWS else []
    notes = [*more, *_sweeps(bank), *_verdict(bank)]
    return "\n".join([_head(bank), render(COLUMNS, rows[:MOST_ROWS]), *notes])


def bank_html(bank: Bank) -> str:
    """Return a bank as HTML for notebooks."""
    rows = _rows(bank)
    more = [f"... and {len(rows) - MOST_ROWS} more bands"] if len(rows) > MOST_ROWS else []
    notes = [*more, *_sweeps(bank), *_verdict(bank)]
    return table_fragment(_head(bank), COLUMNS, rows[:MOST_ROWS], notes, words=(0, 1, 5))


def _head(bank: Bank) -> str:
    return headline(bank.plans[0], f"bank of {len(bank.names)} kernels")


def _rows(bank: Bank) -> list[tuple[str, ...]]:
    """Return one row per band, in their order."""
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
    """Return for each band the number of passes that it needs alone, and of those that it shares."""
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
    """Return one line per sweep with the number of passes along each axis."""
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
        f"{count_text(bank.multiplications)} multiplications per sample instead of "
        f"{count_text(bank.multiplications_alone)}"
    )
    times = f"predicted {duration(bank.seconds)}, kernel by kernel {duration(bank.seconds_alone)}"
    return [wrapped(f"In all {counts}; {times}."), wrapped(f"Rates: {bank.machine}.")]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
