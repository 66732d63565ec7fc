"""Tables of the comparison, computed from saved runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import limits
from targets import MEMORY, TARGETS

LEGEND = """\
time: of our call, the median over the runs
error: largest difference from the result in float64, in a corner of the image, divided by max|input| x sum|kernel|; for uint8 and
    uint16 with the rounding to whole numbers
floor: our time divided by the least that the rates below allow; c: copying decides, m: multiply-adds decide
over: the library that the target names, or the fastest of several
ratio: its time divided by ours, the median over the runs, with the least and the greatest
its err: its error away from the border, where libraries differ
others: times of the other libraries, divided by ours"""

QUIET = 0.5
"""Load average up to which a machine with two processors or more is quiet."""


@dataclass(frozen=True)
class Line:
    """One row, over all runs.

    Attributes
    ----------
    key, name, method : str
    seconds : float
    error : float
    floor : float or None
        Our time divided by the floor.
    bound : str
        Rate that decides the floor.
    over : str
        Library of the target; empty if it was not measured.
    ratios : tuple of float
        Its time divided by ours, in each run.
    peer_error : float or None
    others : dict of str to float
    goal, floor_goal : float or None
        Targets of this table.
    """

    key: str
    name: str
    method: str
    seconds: float
    error: float
    floor: float | None
    bound: str
    over: str
    ratios: tuple[float, ...]
    peer_error: float | None
    others: dict[str, float]
    goal: float | None
    floor_goal: float | None

    @property
    def ratio(self) -> float | None:
        """Median over the runs."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """True if all targets of this row are met, as printed; None if there are none or it was not measured."""
        if self.goal is None or self.ratio is None:
            return None
        near = self.floor_goal is None or (
            self.floor is not None and round(self.floor, 2) <= self.floor_goal
        )
        return round(self.ratio, 2) >= self.goal and near


def lines(runs: list[dict[str, Any]]) -> list[Line]:
    """Return the rows of one table, with medians over its runs."""
    column = "avx512" if runs[0]["avx512"] else "avx2"
    return [_line([run["rows"][i] for run in runs], column) for i in range(len(runs[0]["rows"]))]


def _line(rows: list[dict[str, Any]], column: str) -> Line:
    first = rows[0]
    target = TARGETS.get(first["key"])
    over = _peer(rows, target.over if target else tuple(first["peers"])[:1])
    ratios = tuple(row["peers"][over] / row["seconds"] for row in rows) if over else ()
    others = {
        peer: _median(rows, lambda row, p=peer: row["peers"][p] / row["seconds"])
        for peer in first["peers"] if peer != over
    }  # fmt: skip
    return Line(
        key=first["key"], name=first["name"], method=first["method"],
        seconds=_median(rows, lambda row: row["seconds"]), error=max(row["error"] for row in rows),
        floor=_median(rows, lambda row: row["seconds"] / row["floor"][0]) if first["floor"] else None,
        bound=statistics.mode(row["floor"][1] for row in rows) if first["floor"] else "",
        over=over, ratios=ratios, peer_error=first["errors"].get(over), others=others,
        goal=target.ratio[column] if target else None,
        floor_goal=target.floor.get(column) if target else None,
    )  # fmt: skip


def _median(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(value(row) for row in rows)


def _peer(rows: list[dict[str, Any]], over: tuple[str, ...]) -> str:
    """Return the fastest of the libraries that were measured, or an empty string."""
    found = [peer for peer in over if all(peer in row["peers"] for row in rows)]
    return min(found, key=lambda p: _median(rows, lambda row: row["peers"][p]), default="")


def text(found: dict[str, Any]) -> str:
    """Return both tables as text."""
    parts = ["\n".join([heading(found["where"]), *busy(found["where"])])]
    for width, part in found["widths"].items():
        parts.append(_table(width, part))
    return "\n\n".join([*parts, LEGEND])


def heading(where: dict[str, Any]) -> str:
    """Return the date, the machine and the versions."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    return (
        f"{where['date']}, {where['processor']}, {where['processors']} processors, "
        f"{where['threads']} threads, load {where['load']} before it began\n{versions}"
    )


def busy(where: dict[str, Any]) -> list[str]:
    """Return a warning if other programs were running when the measurement began."""
    if where["load"] <= QUIET:
        return []
    return [
        f"Measured on a busy machine (load {where['load']} before it began): these numbers are not reliable."
    ]


def _table(width: str, part: dict[str, Any]) -> str:
    runs = part["runs"]
    listed = lines(runs)
    title = limits.WIDTHS[width]
    if width == "native" and not runs[0]["avx512"]:
        title += " (no AVX-512: the targets of AVX2)"
    head = [
        f"{title}, {len(runs)} runs; {'; '.join(runs[0]['limits'])}",
        *([limits.UNLIMITED] if width == "avx2" else []),
        *_not_measured(runs[0]["rows"]),
        f"{'work':<42}{'time':>8} {'error':>6} {'floor':>7}  {'over':<11}{'ratio':>6} {'least-most':>11}"
        f" {'its err':>7}  {'target':<14} {'':<7}  others",
    ]
    judged = [line.met for line in listed if line.met is not None]
    return "\n".join([
        *head, *map(_text_line, listed),
        f"targets met: {sum(judged)} of {len(judged)}",
        *_memory(part.get("memory", {})), *_rates([run["rates"] for run in runs]),
    ])  # fmt: skip


def _not_measured(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line with the libraries that targets name and that are not installed."""
    named = [peer for row in rows if row["key"] in TARGETS for peer in TARGETS[row["key"]].over]
    measured = {peer for row in rows for peer in row["peers"]}
    missing = [peer for peer in dict.fromkeys(named) if peer not in measured]
    return [f"not installed and therefore not measured: {', '.join(missing)}"] if missing else []


def _text_line(line: Line) -> str:
    floor = "" if line.floor is None else f"{line.floor:.2f} {line.bound[0]}"
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    spread = f"{min(line.ratios):.2f}-{max(line.ratios):.2f}" if line.ratios else ""
    own = "" if line.peer_error is None else f"{line.peer_error:.0e}"
    goal = "" if line.goal is None else f"{line.goal:g}"
    if line.floor_goal is not None:
        goal += f", floor {line.floor_goal:g}"
    over = line.over or ("not measured" if line.goal is not None else "")
    others = ", ".join(f"{name} {value:.3g}" for name, value in line.others.items())
    judged = {True: "met", False: "NOT MET", None: ""}[line.met]
    return (
        f"{line.name:<42}{duration(line.seconds):>8} {line.error:>6.0e} {floor:>7}  {over:<11}"
        f"{ratio:>6} {spread:>11} {own:>7}  {goal:<14} {judged:<7}  {others}"
    ).rstrip()


def _memory(found: dict[str, float]) -> list[str]:
    if not found:
        return []
    return [f"memory beyond input and output (target: less than {MEMORY} MiB)"] + [
        f"  {name:<80}{mib:>6.0f} MiB  {'met' if mib < MEMORY else 'NOT MET'}"
        for name, mib in found.items()
    ]


def _rates(runs: list[dict[str, Any]]) -> list[str]:
    """Return the rates of this machine in words, medians over the runs."""

    def typical(kind: str, name: str) -> float:
        return statistics.median(rates[kind][name] for rates in runs) / 1e9

    copies = [
        f"{int(size) >> 20} MiB {typical('copy', size):.1f} GB/s"
        f" ({statistics.mode(rates['stores'][size] for rates in runs)})"
        for size in runs[0]["copy"]
    ]
    sums = [
        f"{work} {typical('multiply_adds', work):.0f} G/s, with an addition each {typical('pairs', work):.0f} G/s"
        for work in runs[0]["pairs"]
    ]
    return [f"copy, read and written: {', '.join(copies)}", f"multiply-adds: {'; '.join(sums)}"]


def duration(seconds: float) -> str:
    """Return a time with three digits."""
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"
