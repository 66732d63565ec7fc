"""Fused layers beside their peers: how much of the saved multiplications is saved time.

    python benchmarks/fused.py                      # natively and limited to AVX2, memory as it is and kept
    python benchmarks/fused.py --avx2               # only limited to AVX2 (or --native)
    python benchmarks/fused.py --quick              # few rounds, no torch.compile, no second memory setting
    python benchmarks/fused.py --only 56² --threads 1 --clock cpu

Each setting is a process of its own, because libraries read their limits when they are loaded. In it, calls of all
contestants are interleaved, round by round, and medians are compared, within a line only. `--clock
cpu` counts the processor's time in place of the wall's, which on a machine with other work is the only figure
worth reading; it wants one thread. Errors are the largest difference from float64, relative to its largest value.
A complete run saves its results, and `page.py fused` writes the tables of docs/fused.md from them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fused_tables
import limits
from filters import where

PACKAGES = ("torch", "onnxruntime", "openvino", "ai-edge-litert", "keras", "numba")
KEPT = {"MALLOC_TOP_PAD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "4294967296"}
"""Environment variables that keep freed memory in the process, for every framework."""
QUIET = 0.05
"""Seconds before a turn: threads of the one before look for work that long, on the cores of the next."""
SLOW, FEW = 6, 3
"""A call that takes this many times the fastest one's time is measured only a few times."""
SAMPLE = 0.01
"""Seconds that a sample of short calls takes."""


def medians(
    runs: dict[str, Callable[[], Any]], rounds: int, seconds: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the median seconds of each, calls interleaved: so many rounds, or what fits into so many seconds."""
    calls, typical = {}, {}
    for name, run in runs.items():
        run()
        spent = []
        for _ in range(2):
            begun = time.perf_counter()
            run()
            spent.append(time.perf_counter() - begun)
        typical[name] = min(spent)
        calls[name] = max(1, min(100, int(SAMPLE / typical[name])))
    found: dict[str, list[float]] = {name: [] for name in runs}
    order, end = list(runs.items()), time.perf_counter() + seconds
    for turn in range(rounds):
        if turn >= FEW and time.perf_counter() > end:
            break
        random.shuffle(order)
        for name, run in order:
            if turn >= FEW and typical[name] > SLOW * min(typical.values()):
                continue
            time.sleep(QUIET)
            run()  # what the one before left in the caches is not this one's to pay
            begun = clock()
            for _ in range(calls[name]):
                run()
            found[name].append((clock() - begun) / calls[name])
    return {name: statistics.median(s) for name, s in found.items()}


def measured(line: Any, chosen: argparse.Namespace) -> dict[str, Any]:
    """Time a line's contestants, compare their results, and return JSON values."""
    import torch
    from fused_work import Peers

    torch.manual_seed(0)
    work = line.make(Peers(chosen.threads, compiled=not (chosen.quick or chosen.no_compile)))
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    with torch.set_grad_enabled(work.trains):
        runs = {n: c.run for n, c in work.contestants.items()}
        seconds = medians(runs, chosen.rounds, chosen.seconds, clock)
        errors = {}
        scale = float(work.exact.abs().max())
        for name, contestant in work.contestants.items():
            # A dense layer with other weights has another output.
            if contestant.result is not None:
                found = torch.as_tensor(contestant.result()).double()
                errors[name] = float((found.detach() - work.exact).abs().max()) / scale
    return {
        "name": line.name, "seconds": seconds, "errors": errors, "saving": work.saving,
        "aim": dataclasses.asdict(line.aim),
    }  # fmt: skip


def one_setting(chosen: argparse.Namespace) -> None:
    """Measure in this process; print one JSON value per line, after that of the limits in force."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import runtimes
    import torch
    from fused_lines import all_lines

    torch.set_num_threads(chosen.threads)
    chosen.seconds /= 2 if "MALLOC_TOP_PAD_" in os.environ else 1
    print(json.dumps(limits.layers_in_force(chosen.child, runtimes.openvino_kernels())), flush=True)
    for line in all_lines():
        if chosen.only not in line.name:
            continue
        print(json.dumps(measured(line, chosen)), flush=True)
        torch._dynamo.reset()


def _child(width: str, memory: str, chosen: argparse.Namespace) -> tuple[list[str], list[Any]]:
    """Run this program in a process of its own, and return its limits and lines."""
    command = [sys.executable, __file__, "--child", width, *sys.argv[1:]]
    environment = {**os.environ, **limits.environment(width), **(KEPT if memory == "kept" else {})}
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as running:
        assert running.stdout is not None
        for text in running.stdout:
            if not text.startswith(("{", "[")):  # what a library prints
                continue
            found.append(json.loads(text))
            told = fused_tables.text(found[-1]) if len(found) > 1 else "; ".join(found[0])
            print(told, flush=True)
    if running.returncode:
        raise SystemExit(f"{limits.WIDTHS[width]}, memory {memory}: failed")
    return found[0], found[1:]


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run every setting, and return all results."""
    found: dict[str, Any] = {"where": where(chosen.threads, PACKAGES), "quick": chosen.quick}
    found["widths"] = {}
    once = chosen.quick or chosen.one
    for width in chosen.widths:
        part: dict[str, Any] = {"memory": {}}
        for memory in list(fused_tables.MEMORY)[: 1 if once else None]:
            print(f"\n{limits.WIDTHS[width]}, {fused_tables.MEMORY[memory]}", flush=True)
            part["limits"], part["memory"][memory] = _child(width, memory, chosen)
        found["widths"][width] = part
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for width, title in limits.WIDTHS.items():
        parser.add_argument(
            f"--{width}", dest="widths", action="append_const", const=width, help=f"only {title}"
        )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument(
        "--seconds",
        type=float,
        default=5,
        help="after which a line ends; half as many with memory kept",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the names of the lines to measure")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--one", action="store_true", help="only the memory setting as it is")
    parser.add_argument(
        "--output", type=Path, help="JSON file; results/fused.json for a complete run"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.rounds = min(chosen.rounds, 7) if chosen.quick else chosen.rounds
    part = chosen.quick or chosen.only or chosen.one or chosen.widths or chosen.clock == "cpu"
    if not (chosen.output or part):
        chosen.output = fused_tables.RESULTS
    chosen.widths = chosen.widths or list(limits.WIDTHS)
    return chosen


def main() -> None:
    """Measure, print and save the tables."""
    chosen = _arguments()
    if chosen.child:
        one_setting(chosen)
        return
    if "native" in chosen.widths and not limits.has_avx512():
        chosen.widths = ["native"]  # which is the table of AVX2 then
    start = time.perf_counter()
    print(
        "Times of the others divided by ours (their errors); part: saved time over saved multiplications"
    )
    found = measure(chosen)
    found["minutes"] = round((time.perf_counter() - start) / 60, 1)
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"\nsaved in {chosen.output} after {found['minutes']} minutes")


if __name__ == "__main__":
    main()
