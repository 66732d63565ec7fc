"""Times of converted networks: predicted and measured, in the fused programs and in ONNX Runtime.

    python examples/conversion_times.py --markdown docs/conversion.md   # the table of that page
    python examples/conversion_times.py --case vgg-digits --budget 0.5

Each dense network of `conversion.py` is trained with one seed, converted with unlabelled training samples for
each budget, and run for one batch in turns with the dense one.  A budget such as ``0.5`` counts
multiplications; ``"2x faster"`` is a time, in each runtime in turn.  With ``--checkpoint`` trained and
converted networks are kept, so that a second run on a quiet computer measures times alone.  The line under
the table says how busy the computer was.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import training
from cases import CASES, Case, multiplications
from tables import replace_marked
from torch import Tensor, nn
from training import Data, Ranks, Run, chance

from separable import nn as separable_nn
from separable.cli.console import error, output, put
from separable.errors import SeparableError
from separable.nn.convert.network_times import timed_networks
from separable.nn.runtimes.known_runtimes import RUNTIMES, runtime_named
from separable.nn.step_times.layer_profile import current_profile

__all__ = ["TIMED", "TimedNetwork", "conditions", "main", "timed_case", "trained_case"]

TIMED = ("fused", "onnxruntime")
BEGIN, END = "<!-- times -->", "<!-- end of times -->"
BATCH = 16  # samples of a call
SECONDS = 1.0  # for a pair of networks in one runtime
REQUESTS = ("0.5", "0.25", "2x faster")


@dataclass(frozen=True)
class TimedNetwork:
    """One network of the table.

    Attributes
    ----------
    case, request : str
    multiplications : int
        Multiplications of one sample.
    quality : float
    predicted, measured : tuple of float
        Seconds of a call in each runtime of `TIMED`; NaN where it does not run there.
    before : tuple of float
        Measured seconds of the dense network, in turns with this one.
    """

    case: str
    request: str
    multiplications: int
    quality: float
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    before: tuple[float, ...]


def trained_case(
    case: Case, seed: int, folder: Path | None = None
) -> tuple[nn.Module, Data, Sequence[Tensor]]:
    """Return a trained dense network, its data, and batches of unlabelled samples."""
    data = case.data(seed, False)
    run = Run(case.training({}), "dense", seed, case.steps, folder, save_every=50)
    _, model = training.train(run, data, Ranks(), lambda steps, loss: None)
    images = data.train[0]
    order = torch.Generator().manual_seed(chance(seed))
    samples = images[torch.randperm(len(images), generator=order)[: case.calibration]]
    return model.eval(), data, samples.split(case.batch)


@torch.inference_mode()
def quality(case: Case, model: nn.Module, data: Data) -> float:
    """Return the quality of a network on the test samples."""
    inputs, targets = data.test
    outputs = torch.cat([model.eval()(part) for part in inputs.split(case.batch)])
    return float(case.score(outputs, targets))


def timed_case(
    name: str, seed: int, requests: Sequence[str], folder: Path | None = None
) -> Iterator[TimedNetwork]:
    """Train one network, and yield it and its conversions with their times."""
    case = CASES[name]
    dense, data, batches = trained_case(case, seed, folder)
    inputs = data.test[0][: BATCH if case.batch > BATCH else 1]
    yield _timed(name, "dense", dense, dense, inputs, quality(case, dense, data))
    for request in requests:
        for runtime in TIMED if "faster" in request else (None,):
            asked = budget_text(request, runtime)
            kept = folder and folder / f"{name}-{seed}-{asked.replace(' ', '-')}.json"
            try:
                made = _converted(dense, request, runtime, batches, kept)
            except SeparableError:  # the goal cannot be met
                missing = (math.nan,) * len(TIMED)
                yield TimedNetwork(name, asked, 0, math.nan, missing, missing, missing)
                continue
            yield _timed(name, asked, dense, made, inputs, quality(case, made, data))


def _converted(
    dense: nn.Module,
    request: str,
    runtime: str | None,
    batches: Sequence[Tensor],
    kept: Path | None,
) -> nn.Module:
    """Convert a network, or build it again from what an earlier run kept."""
    if kept and kept.exists():
        made = separable_nn.rebuild(dense, kept.read_text(encoding="utf-8"))
        made.load_state_dict(torch.load(kept.with_suffix(".pt"), weights_only=True))
        return made
    made, _ = separable_nn.convert(
        dense, "auto", budget=request if runtime else float(request), data=batches,
        runtime=runtime, repeats=3 if runtime else 0,
    )  # fmt: skip
    if kept:
        torch.save(made.state_dict(), kept.with_suffix(".pt"))
        kept.write_text(separable_nn.blueprint(made), encoding="utf-8")
    return made


def budget_text(request: str, runtime: str | None) -> str:
    """Return a budget as text, with the runtime that it is a time in."""
    return request if runtime is None else f"{request} in {RUNTIMES[runtime].title}"


def _timed(
    name: str, asked: str, dense: nn.Module, made: nn.Module, inputs: Tensor, score: float
) -> TimedNetwork:
    shape = tuple(inputs.shape)
    book = separable_nn.ledger(made.eval(), shape, backward=False)
    profile = current_profile()
    predicted, before, after = [], [], []
    for runtime in map(runtime_named, TIMED):
        steps = runtime.steps(book.operations)
        call = profile.calls.get(runtime.name, 0.0)
        predicted.append(call + sum(profile.predict(runtime.name, s.work).seconds for s in steps))
        try:
            pair = timed_networks(runtime, [dense.eval(), made.eval()], [inputs], SECONDS)
        except SeparableError:
            pair = [math.nan, math.nan]
        before.append(pair[0])
        after.append(pair[1])
    count = multiplications(made, tuple(inputs.shape[1:]))
    return TimedNetwork(name, asked, count, score, tuple(predicted), tuple(after), tuple(before))


def markdown(rows: Sequence[TimedNetwork]) -> str:
    """Return the table in Markdown."""
    head = ["network", "budget", "multiplications", "÷", "quality"]
    for runtime in TIMED:
        title = RUNTIMES[runtime].title
        head += [f"{title}: predicted", "measured", "times as fast"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    counts = {r.case: r.multiplications for r in rows if r.request == "dense"}
    for r in rows:
        if not r.multiplications:
            lines.append(
                [CASES[r.case].title, r.request, "cannot be met", *["-"] * (len(head) - 3)]
            )
            continue
        cells = [CASES[r.case].title, r.request, f"{r.multiplications:,}"]
        cells += [f"{counts[r.case] / r.multiplications:.2f}", f"{r.quality:.3f}"]
        for predicted, after, before in zip(r.predicted, r.measured, r.before, strict=True):
            gain = "" if r.request == "dense" else f"{before / after:.2f}"
            cells += [_ms(predicted), _ms(after), gain]
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def conditions(threads: int) -> str:
    """Return a sentence about the profile, the threads and how busy the computer is."""
    many = f"{threads} thread{'s' if threads != 1 else ''}"
    return (
        f"Times of {many}, predicted from times {current_profile().origin}. "
        f"Average number of running programs in the last minute: {os.getloadavg()[0]:.1f}."
    )


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1e3 * seconds:.2f} ms"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    read.add_argument("--case", action="append", choices=list(CASES), help="only this case (all)")
    read.add_argument(
        "--budget", action="append", metavar="B", help=f"a budget ({', '.join(REQUESTS)})"
    )
    read.add_argument("--seed", type=int, default=3, metavar="N", help="seed of the training (3)")
    read.add_argument("--steps", type=int, metavar="N", help="steps of the training")
    read.add_argument("--threads", type=int, default=2, metavar="N", help="threads (2)")
    read.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="keep the trainings here")
    read.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table into this page"
    )
    asked = read.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    if asked.checkpoint:
        asked.checkpoint.mkdir(parents=True, exist_ok=True)
    try:
        rows = []
        for name in asked.case or list(CASES):
            if asked.steps:
                CASES[name] = replace(CASES[name], steps=asked.steps)
            for row in timed_case(name, asked.seed, asked.budget or REQUESTS, asked.checkpoint):
                put(output(), f"{name}, {row.request}: {row.multiplications:,}, {row.quality:.3f}")
                rows.append(row)
        table = f"{markdown(rows)}\n\n{conditions(asked.threads)}"
        if asked.markdown:
            replace_marked(asked.markdown, BEGIN, END, table)
        else:
            print(table)
    except (SeparableError, OSError) as problem:
        return error(str(problem), 2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
