"""Tables of `docs/fused.md`, computed from the saved results of `fused.py`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import limits
import ratio_tables

RESULTS = Path(__file__).parent / "results" / "fused.json"
OURS = ("separable", "fused", "dense")
"""First words of the names of what is not a peer."""
EAGER = ("torch", "torch last")
MEMORY = {
    "as it comes": "memory as each library requests and returns it",
    "kept": "released memory kept in the process, for every library",
}

Measured = dict[str, Any]
"""One line: name, seconds and errors by contestant, the theoretical saving, and the targets."""


WRONG = 1e-3
"""Errors above this are wrong results: whoever has one is no peer."""


def _peers(line: Measured) -> dict[str, float]:
    """Return the seconds of the others, but for those with wrong results."""
    return {
        name: seconds
        for name, seconds in line["seconds"].items()
        if not name.startswith(OURS) and line["errors"].get(name, 0.0) <= WRONG
    }


def ratios(line: Measured) -> dict[str, float]:
    """Return what the targets are about: `peer`, `torch`, `part`, `dense`, where they were measured."""
    mine = line["seconds"]["separable"]
    found = {}
    others = _peers(line)
    if others:
        found["peer"] = min(others.values()) / mine
    eager = [s for n, s in others.items() if n in EAGER]
    if eager:
        found["torch"] = min(eager) / mine
    dense = [s for n, s in line["seconds"].items() if n.startswith("dense")]
    if dense:
        found["dense"] = min(dense) / mine
        if line["saving"]:
            found["part"] = found["dense"] / line["saving"]
    return found


def best_peer(line: Measured) -> str:
    """Return the name of the fastest of the others, or an empty string."""
    others = _peers(line)
    return min(others, key=lambda n: others[n], default="")


def means(lines: list[Measured]) -> dict[str, tuple[float, float]]:
    """Return, by name of the group, the mean over PyTorch and its target."""
    groups: dict[str, list[Measured]] = {}
    for line in lines:
        if line["aim"]["group"]:
            groups.setdefault(line["aim"]["group"], []).append(line)
    return {
        name: (statistics.mean(ratios(n)["torch"] for n in members), members[0]["aim"]["torch"])
        for name, members in groups.items()
    }


def text(line: Measured) -> str:
    """Return a line for the terminal, with the times of all."""
    mine, found = line["seconds"]["separable"], ratios(line)
    words = [f"{line['name']:<38}{mine * 1e6:>9.0f} us"]
    words += [f"best {found['peer']:5.2f} ({best_peer(line)})"] if "peer" in found else []
    words += [f"{n} {found[n]:5.2f}" for n in ("torch", "dense", "part") if n in found]
    words += [f"aim {_aims(line, lines_aim=True)}"]
    rest = ", ".join(f"{n} {s / mine:.2f}" + _error(line, n) for n, s in line["seconds"].items())
    return "; ".join(words) + f"\n      {rest}"


def _error(line: Measured, name: str) -> str:
    return f" ({line['errors'][name]:.0e})" if name in line["errors"] else ""


def _aims(line: Measured, *, lines_aim: bool = False) -> str:
    """Return the targets of a line: over the best peer, over PyTorch, part of the saving, over dense."""
    aim = line["aim"]
    mean = " (mean)" if aim["group"] and not lines_aim else ""
    parts = [_number(aim["peer"]), _number(aim["torch"]) + (mean if aim["torch"] else "")]
    parts.append(_number(aim["part"]))
    dense = f", {aim['dense']:g} × dense" if aim["dense"] else ""
    return (
        " / ".join(parts) + dense if any(aim[n] for n in ("peer", "torch", "part")) else dense[2:]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def table(lines: list[Measured]) -> str:
    """Return the Markdown table of one setting."""
    rows = [
        "| work | ours, µs | over the best peer | over PyTorch | over dense | part of the saving | error | error of the peer | aims |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for line in lines:
        found, peer = ratios(line), best_peer(line)
        cells = [line["name"], f"{line['seconds']['separable'] * 1e6:,.0f}"]
        cells.append(f"{found['peer']:.2f} ({peer})" if peer else "")
        cells += [f"{found[n]:.2f}" if n in found else "" for n in ("torch", "dense", "part")]
        cells += [_error(line, n).strip(" ()") for n in ("separable", peer)]
        rows.append(f"| {' | '.join([*cells, _aims(line)])} |")
    for name, (mean, aim) in means(lines).items():
        rows.append(f"| *{name}, mean* | | | {mean:.2f} | | | | | {aim:g} |")
    return "\n".join(rows)


def missed(lines: list[Measured]) -> list[tuple[str, str, float, float]]:
    """Return the targets that are not reached, as (line, of what, reached, aim), as they are printed."""
    called = {"peer": "the best peer", "torch": "PyTorch", "part": "the saving", "dense": "dense"}
    found = []
    for line in lines:
        reached = ratios(line)
        for what, title in called.items():
            aim = line["aim"][what]
            if aim is None or what not in reached or (what == "torch" and line["aim"]["group"]):
                continue
            if round(reached[what], 2) < aim:
                name = f"{title} ({best_peer(line)})" if what == "peer" else title
                found.append((line["name"], name, reached[what], aim))
    for name, (mean, aim) in means(lines).items():
        if round(mean, 2) < aim:
            found.append((f"{name}, mean", called["torch"], mean, aim))
    return found


def measurements(found: dict[str, Any]) -> str:
    """Return the section with all tables."""
    where = found["where"]
    versions = ", ".join(f"{n} {v}" for n, v in where["versions"].items())
    parts = [
        f"*{where['date']}, {where['processor']}, {where['processors']} processors, {where['threads']} threads, load "
        f"{where['load']} before it began. {versions}.*",
        *(f"*{warning}*" for warning in ratio_tables.busy(where)),
    ]
    for width, part in found["widths"].items():
        for memory, lines in part["memory"].items():
            parts.append(f"### {limits.WIDTHS[width].capitalize()}, {MEMORY[memory]}")
            parts.append(f"{'; '.join(part['limits'])}.")
            parts.append(table(lines))
    return "\n\n".join(parts)


def missed_table(found: dict[str, Any]) -> str:
    """Return the table of the targets that are not reached, with memory as it comes."""
    rows = []
    count = 0
    for width, part in found["widths"].items():
        lines = part["memory"]["as it comes"]
        for name, what, reached, aim in missed(lines):
            rows.append(f"| {name} | {limits.WIDTHS[width]} | {what} | {reached:.2f} | {aim:g} |")
        count += sum(
            line["aim"][n] is not None for line in lines for n in ("peer", "part", "dense")
        )
        count += sum(line["aim"]["torch"] is not None for line in lines if not line["aim"]["group"])
        count += len(means(lines))
    told = f"{len(rows)} of {count} targets are missed."
    if not rows:
        return told
    head = "| work | instructions | over, or part of | reached | aim |\n| --- | --- | --- | ---: | ---: |"
    return f"{told}\n\n{head}\n" + "\n".join(rows)


def load() -> dict[str, Any]:
    """Return the saved results.

    Raises
    ------
    SystemExit
        If they are those of ``--quick`` or of a part.
    """
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    if found["quick"]:
        raise SystemExit(f"{RESULTS} has results of --quick: measure again")
    return found
