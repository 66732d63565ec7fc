"""Convert the trained networks inside wheels for a time in ONNX Runtime, and measure time and agreement.

    python examples/wheel_times.py --wheels FOLDER --checkpoint KEPT               # convert, and measure
    python examples/wheel_times.py --wheels FOLDER --checkpoint KEPT --markdown docs/conversion.md
    python examples/wheel_times.py --wheels FOLDER --checkpoint KEPT --only yolo --budget "0.5 time" --budget "0.7 time"

`wheel_networks.py` says how the wheels are fetched, and makes the inputs: crops of pictures, rendered text and
generated sound, of other seeds for the test than for the calibration.  Converted files are kept in KEPT, so that a
second run measures alone; the choice of ranks needs a quiet computer too, because candidates are timed.  The original
and all converted files of a network run in turns, each twice, and the second call counts; the times are medians.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import replace_marked
from wheel_networks import WHEELS, Array, WheelNetwork, agreement

from separable import nn as separable_nn
from separable.cli.console import error, output, put
from separable.errors import SeparableError
from separable.nn.formats import open_network
from separable.nn.formats.onnx_stages import session

__all__ = ["BUDGETS", "Converted", "Measured", "main", "markdown", "measured"]

BEGIN, END = "<!-- wheels -->", "<!-- end of wheels -->"
BUDGETS = ("0.5 time",)
CALIBRATION_BATCH = 16
ROUNDS = 200


@dataclass(frozen=True)
class Converted:
    """Outcome of a conversion.

    Attributes
    ----------
    budget : str
    share : float
        Multiplications left; 1 if nothing was converted.
    refusal : str
        Why there is no converted file; empty if there is one.
    seconds : float
        Duration of the conversion.
    """

    budget: str
    share: float = 1.0
    refusal: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A converted network beside its original.

    Attributes
    ----------
    before, after : float
        Median seconds of a call.
    error : float
        Root mean square difference of the outputs, relative to the deviation of the original's from their mean.
    agreement : float
        Part of the decisions that both make alike.
    """

    before: float
    after: float
    error: float
    agreement: float


def converted(
    network: WheelNetwork, content: bytes, budget: str, kept: Path, threads: int
) -> Converted:
    """Convert a network and write the file, or return what an earlier run found."""
    note, path = kept.with_suffix(".json"), kept.with_suffix(".onnx")
    if note.exists():
        return Converted(**json.loads(note.read_text(encoding="utf-8")))
    torch.set_num_threads(threads)
    source_path = kept.with_name(f"{kept.name}.original.onnx")
    source_path.write_bytes(content)
    begin = time.perf_counter()
    try:
        source = open_network(str(source_path))
        calls = network.calls(network.calibration, 0, CALIBRATION_BATCH)
        batches = [tuple(map(torch.from_numpy, call)) for call in calls]
        wanted: Any = budget if "time" in budget or "faster" in budget else float(budget)
        model, report = separable_nn.convert(
            source.module, "auto", budget=wanted, data=source.calibration(batches),
            runtime="onnxruntime",
        )  # fmt: skip
        path.write_bytes(source.serialised(model))
        now, before = report.multiplications or 0, report.multiplications_before or 1
        found = Converted(budget, now / before, "", time.perf_counter() - begin)
    except SeparableError as problem:
        found = Converted(budget, 1.0, str(problem), time.perf_counter() - begin)
    finally:
        source_path.unlink()
    note.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    return found


def measured(
    network: WheelNetwork, files: Sequence[bytes], threads: int, rounds: int = ROUNDS,
    seconds: float = 10.0,
) -> list[Measured]:  # fmt: skip
    """Return the times and outputs of converted files; the first file is the original."""
    sessions = [session(content, threads) for content in files]
    names = [value.name for value in sessions[0].get_inputs()]
    calls = [dict(zip(names, call, strict=True)) for call in network.calls(network.tests, 1)]
    outputs = [[s.run(None, call) for call in calls] for s in sessions]
    times: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + seconds
    for at in range(rounds):
        feeds = calls[at % len(calls)]
        for one, found in zip(sessions, times, strict=True):
            one.run(None, feeds)  # its weights are in the cache, as in calls one after another
            start = time.perf_counter()
            one.run(None, feeds)
            found.append(time.perf_counter() - start)
        if time.perf_counter() > end and at >= 5:
            break
    medians = [statistics.median(found) for found in times]
    decided = [np.concatenate([network.decide(o) for o in found]) for found in outputs]
    return [
        Measured(medians[0], medians[at], _error(outputs[0], outputs[at]), agreement(decided[0], decided[at]))
        for at in range(1, len(files))
    ]  # fmt: skip


def _error(wanted: Sequence[list[Array]], got: Sequence[list[Array]]) -> float:
    """Return the difference of all outputs, each relative to its own deviation."""
    squares = []
    for at in range(len(wanted[0])):
        a = np.concatenate([np.ravel(o[at]) for o in wanted]).astype(np.float64)
        b = np.concatenate([np.ravel(o[at]) for o in got]).astype(np.float64)
        if len(a) == len(b) and a.std():
            squares.append(float(((a - b) ** 2).mean()) / a.var())
    return float(np.sqrt(np.mean(squares))) if squares else float("nan")


# ---------------------------------------------------------------- the table


Row = tuple[WheelNetwork, Converted, Measured | None]


def markdown(rows: Sequence[Row], threads: int) -> str:
    """Return the table and the number of networks that reach 1.4 times."""
    head = (
        "network", "samples per call", "budget", "multiplications left", "original", "converted",
        "times as fast", "error of outputs", "decisions alike",
    )  # fmt: skip
    lines = [head, ["---", "---:", "---", *["---:"] * 6]]
    best: dict[str, float] = {}
    for network, made, found in rows:
        cells = [network.title, str(network.call), made.budget]
        best.setdefault(network.title, 0.0)
        if found is None:
            lines.append([*cells, "-", "-", "-", _reachable(made.refusal), "-", "-"])
            continue
        gain = found.before / found.after
        best[network.title] = max(best[network.title], gain)
        cells += [f"{made.share:.2f}", _ms(found.before), _ms(found.after), f"{gain:.2f}"]
        cells += [f"{found.error:.3f}", f"{found.agreement:.3f} of {network.decisions}"]
        lines.append(cells)
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    many = sum(gain >= 1.4 for gain in best.values())
    return (
        f"{table}\n\n{many} of {len(best)} networks run at least 1.4 times as fast with one of these budgets. "
        f"{threads} thread{'s' if threads != 1 else ''}."
    )


def _reachable(refusal: str) -> str:
    """Return how many times as fast the message of a refusal says that the network can become."""
    most = re.search(r"at most ([\d.]+) times", refusal)
    return f"cannot be met, at most {most[1]}" if most else "not converted"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} us"


def _wanted(words: Sequence[str] | None) -> list[WheelNetwork]:
    """Return the networks with some words in their titles, in the order of the words."""
    if words is None:
        return list(WHEELS)
    return [x for word in words for x in WHEELS if word.lower() in x.title.lower()]


def _rows(network: WheelNetwork, asked: argparse.Namespace) -> list[Row]:
    content = network.content(asked.wheels)
    budgets = asked.budget or BUDGETS
    slug = re.sub(r"\W+", "-", network.title.lower()).strip("-")
    kept = {b: asked.checkpoint / f"{slug}_{b.replace(' ', '-').replace('.', '')}" for b in budgets}
    made = {b: converted(network, content, b, kept[b], asked.threads) for b in budgets}
    done = [b for b in budgets if not made[b].refusal]
    files = [content, *(kept[b].with_suffix(".onnx").read_bytes() for b in done)]
    found = dict(
        zip(done, measured(network, files, asked.threads, seconds=asked.seconds), strict=True)
    )
    return [(network, made[b], found.get(b)) for b in budgets]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    read.add_argument("--wheels", type=Path, metavar="FOLDER", required=True, help="the wheels")
    read.add_argument(
        "--checkpoint", type=Path, metavar="KEPT", required=True, help="keep converted files here"
    )
    read.add_argument(
        "--budget", action="append", metavar="B", help=f"a budget ({', '.join(BUDGETS)})"
    )
    read.add_argument(
        "--only",
        action="append",
        metavar="WORD",
        help="only networks with this word in their title",
    )
    read.add_argument("--threads", type=int, default=1, metavar="N", help="threads (1)")
    read.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="time per network to measure (10)"
    )
    read.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table into this page"
    )
    asked = read.parse_args(arguments)
    asked.checkpoint.mkdir(parents=True, exist_ok=True)
    try:
        rows: list[Row] = []
        for network in _wanted(asked.only):
            for row in _rows(network, asked):
                put(output(), _progress(row))
                rows.append(row)
        table = markdown(rows, asked.threads)
        if asked.markdown:
            replace_marked(asked.markdown, BEGIN, END, table)
        else:
            print(table)
    except (SeparableError, OSError) as problem:
        return error(str(problem), 2)
    return 0


def _progress(row: Row) -> str:
    network, made, found = row
    if found is None:
        return f"{network.title}, {made.budget}: {made.refusal}"
    return (
        f"{network.title}, {made.budget}: {found.before / found.after:.2f} times as fast, "
        f"error {found.error:.3f}, {found.agreement:.3f} alike"
    )


if __name__ == "__main__":
    raise SystemExit(main())
