"""Fused layers beside their peers: how much of the saved multiplications is saved time.

    python benchmarks/fused.py                      # the whole table, with memory as it is and kept
    python benchmarks/fused.py --quick              # few rounds, no torch.compile, no second memory setting
    python benchmarks/fused.py --only 56^2 --threads 1 --clock cpu

Calls of all contestants are interleaved, round by round, and medians are compared, within a run only. `--clock
cpu` counts the processor's time in place of the wall's, which on a machine with other work is the only figure
worth reading; it wants one thread. Errors are the largest difference from float64, relative to its largest value.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fused_work
import torch
from fused_work import Work

OURS = ("separable", "fused", "dense")
KEPT = {"MALLOC_TOP_PAD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "4294967296"}
"""Environment variables that keep freed memory in the process, for every framework."""
QUIET = 0.05
"""Seconds before a turn: threads of the one before look for work that long, on the cores of the next."""


@dataclass
class Line:
    """Measurement of one layer: median seconds and errors of each library."""

    work: Work
    seconds: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        mine, others = self.seconds["separable"], self.peers()
        best = min(others, key=lambda name: others[name])
        words = [f"{self.work.name:<32}{mine * 1e6:>9.0f} us"]
        words.append(f"best {others[best] / mine:5.2f} ({best})")
        words += [f"torch {s / mine:5.2f}" for s in self.torch()]
        words += [f"{what} {ratio:4.2f}" for what, ratio in self.realised()]
        if "separable" in self.errors:
            words.append(f"error {self.errors['separable']:.0e}")
        words.append(f"aim: {self.work.aim}")
        rest = ", ".join(
            f"{n} {s / mine:.2f}" + (f" ({self.errors[n]:.0e})" if n in self.errors else "")
            for n, s in self.seconds.items()
            if n != "separable"
        )
        return "; ".join(words) + f"\n      {rest}"

    def markdown(self) -> str:
        """Return the line of a table."""
        mine, others = self.seconds["separable"], self.peers()
        best = min(others, key=lambda name: others[name])
        eager = "".join(f"{s / mine:.2f}" for s in self.torch())
        ratio = "".join(f"{r:.2f}" for what, r in self.realised() if what == "r/t")
        error = f"{self.errors['separable']:.0e}" if "separable" in self.errors else ""
        cells = (self.work.name, f"{mine * 1e6:,.0f}", f"{others[best] / mine:.2f} ({best})", eager,
                 ratio, error, self.work.aim)  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def peers(self) -> dict[str, float]:
        """Return the seconds of those who are not ours and do the same."""
        return {n: s for n, s in self.seconds.items() if not n.startswith(OURS)}

    def torch(self) -> list[float]:
        """Return the seconds of PyTorch in its better layout."""
        return [min(s for n, s in self.seconds.items() if n in fused_work.EAGER)]

    def realised(self) -> list[tuple[str, float]]:
        """Return how many times faster than the dense layer, or what part of the theory that is."""
        dense = [s for n, s in self.seconds.items() if n.startswith("dense")]
        if not dense:
            return []
        faster = min(dense) / self.seconds["separable"]
        return [("r/t", faster / self.work.saving)] if self.work.saving else [("dense", faster)]


def medians(
    runs: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the median seconds of each, calls interleaved."""
    calls = {}
    for name, run in runs.items():
        run()
        spent = []
        for _ in range(2):
            begun = time.perf_counter()
            run()
            spent.append(time.perf_counter() - begun)
        calls[name] = max(1, min(100, int(0.01 / min(spent))))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs.items())
    for _ in range(rounds):
        random.shuffle(order)
        for name, run in order:
            time.sleep(QUIET)
            run()  # what the one before left in the caches is not this one's to pay
            begun = clock()
            for _ in range(calls[name]):
                run()
            seconds[name].append((clock() - begun) / calls[name])
    return {name: statistics.median(s) for name, s in seconds.items()}


def measured(work: Work, rounds: int, clock: Callable[[], float]) -> Line:
    """Time a work's contestants and compare their results."""
    with torch.set_grad_enabled(work.trains):
        seconds = medians({n: c.run for n, c in work.contestants.items()}, rounds, clock)
        errors = {}
        if work.exact is not None:
            scale = float(work.exact.abs().max())
            for name, contestant in work.contestants.items():
                if contestant.result is not None:
                    found = torch.as_tensor(contestant.result()).double()
                    errors[name] = float((found - work.exact).abs().max()) / scale
    return Line(work, seconds, errors)


def versions() -> Iterator[str]:
    """Yield what is compared."""
    for name in ("torch", "onnxruntime", "openvino", "ai_edge_litert", "keras"):
        found = importlib.util.find_spec(name)
        known = importlib.import_module(name) if found else None
        yield (
            f"{name} {getattr(known, '__version__', '?').split('-')[0]}" if found else f"no {name}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the names of the work to do")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/fused.md")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", action="store_true", help="only the memory setting as it is")
    chosen = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    torch.set_num_threads(chosen.threads)
    rounds = min(chosen.rounds, 7) if chosen.quick else chosen.rounds
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    kept = "kept in the process" if "MALLOC_TOP_PAD_" in os.environ else "as it comes"
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load}; "
          f"{chosen.threads} threads, {chosen.clock} time, memory {kept}; {', '.join(versions())}\n"
          "Times the others take; r/t: saved time over saved multiplications")  # fmt: skip
    for name, make in fused_work.all_works():
        if chosen.only not in name:
            continue
        torch.manual_seed(0)
        work = make(fused_work.Peers(chosen.threads, compiled=not chosen.quick))
        line = measured(work, rounds, clock)
        print(line.markdown() if chosen.markdown else line, flush=True)
    if not (chosen.quick or chosen.one or "MALLOC_TOP_PAD_" in os.environ):
        print(flush=True)
        subprocess.run([sys.executable, *sys.argv], env={**os.environ, **KEPT}, check=True)


if __name__ == "__main__":
    main()
