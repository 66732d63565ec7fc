"""Compare `nn.convert` with two published methods at the same multiplications and calibration data.

    python examples/published.py --wheels FOLDER --markdown docs/conversion.md
    python examples/published.py --case vgg-digits --seeds 1

The four image classifiers of `conversion.py` are trained with several seeds.  With `--wheels`, two trained
networks are read from wheels that this command fetches:

    pip download --no-deps -d FOLDER rapidocr-onnxruntime facenet-pytorch

The first contains a classifier of the orientation of text, which gets rendered lines; the second a network
that decides on faces, which gets crops of the pictures that come with scikit-image, calibrated on their left
halves and tested on the right ones.  The methods are in `baselines.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from baselines import in_covariance_norm, whitened
from cases import CASES
from conversion_times import quality, trained_case
from tables import replace_marked
from torch import Tensor, nn
from wheel_networks import MtcnnNet, crops, from_wheel, text_lines

from separable import nn as separable_nn
from separable.cli.console import error, output, put
from separable.errors import SeparableError
from separable.nn.formats import open_network

__all__ = ["METHODS", "Outcome", "main", "markdown"]

BEGIN, END = "<!-- published -->", "<!-- end of published -->"
IMAGES = ("resnet-digits", "vgg-digits", "resnet-patches", "vgg-patches")
BUDGETS = (0.5, 0.25)
SAMPLES = 64  # lines of text to calibrate with, and as many for the test; of crops 8 times as many
Compress = Callable[[float], nn.Module]
Prepare = Callable[[nn.Module, Sequence[Tensor]], Compress]


def ours(model: nn.Module, batches: Sequence[Tensor]) -> Compress:
    """Return a function of the budget that converts with `nn.convert`, as a user would."""
    return lambda budget: separable_nn.convert(
        model, "auto", budget=budget, data=batches, repeats=0
    )[0]


METHODS: dict[str, Prepare] = {
    "nn.convert": ours,
    "whitening": lambda model, batches: whitened(model, batches).within,
    "Tucker-2 and CP": lambda model, batches: in_covariance_norm(model, batches).within,
}


@dataclass(frozen=True)
class Outcome:
    """Quality of one network, compressed by one method; "dense" is the original, NaN a missed budget."""

    network: str
    measure: str
    budget: float
    method: str
    seed: int
    quality: float
    share: float


def _tried(
    network: str, measure: str, model: nn.Module, batches: Sequence[Tensor],
    budgets: Sequence[float], score: Callable[[nn.Module], float], seed: int = 0,
) -> Iterator[Outcome]:  # fmt: skip
    """Yield the quality of the original, and of each method at each budget."""
    yield Outcome(network, measure, 1.0, "dense", seed, score(model), 1.0)
    shape = list(batches[0].shape)
    dense = separable_nn.ledger(model, [tuple(shape)], backward=False).total.multiplications
    for method, prepare in METHODS.items():
        begin = time.perf_counter()
        compress = prepare(model, batches)
        for budget in budgets:
            try:
                made = compress(budget).eval()
            except ValueError as problem:  # the ranks of the baselines do not go so low
                put(output(), f"{network} {seed}, {method}, {budget}: {problem}")
                yield Outcome(network, measure, budget, method, seed, math.nan, math.nan)
                continue
            book = separable_nn.ledger(made, [tuple(shape)], backward=False)
            share = book.total.multiplications / dense
            found = Outcome(network, measure, budget, method, seed, score(made), share)
            put(
                output(),
                f"{network} {seed}, {method}, {budget}: {found.quality:.4f} with {share:.4f} "
                f"of the multiplications, {time.perf_counter() - begin:.0f} s",
            )
            begin = time.perf_counter()
            yield found


# ---------------------------------------------------------------- networks in wheels


def orientation(folder: Path) -> Iterator[Outcome]:
    """Compress the classifier of PP-OCR that tells whether a line of text stands on its head."""
    with from_wheel(folder, "ch_ppocr_mobile_v2.0_cls_infer.onnx") as path:
        module = open_network(str(path)).module
    values = 2 * torch.from_numpy(text_lines(2 * SAMPLES)) - 1
    lines = values.movedim(-1, 1).contiguous()
    batches, tests = lines[:SAMPLES].split(16), lines[SAMPLES:].split(16)
    yield from _by_outputs("PP-OCR orientation", module, batches, tests)


def faces(folder: Path) -> Iterator[Outcome]:
    """Compress the network that decides on faces in `facenet-pytorch`."""
    model = MtcnnNet("onet")
    with from_wheel(folder, "onet.pt") as path:
        model.load_state_dict(torch.load(path, weights_only=True))
    left, right = (_pieces(8 * SAMPLES, half) for half in (0, 1))
    yield from _by_outputs("O-Net, faces", model.eval(), left.split(64), right.split(64))


def _pieces(count: int, half: int) -> Tensor:
    """Return crops ``(n, 3, 48, 48)`` of the left or right halves of scikit-image's pictures."""
    values = torch.from_numpy(crops(count, half, half=half)).movedim(-1, 1).contiguous()
    return (255 * values - 127.5) / 128


def _by_outputs(
    title: str, module: nn.Module, batches: Sequence[Tensor], tests: Sequence[Tensor]
) -> Iterator[Outcome]:
    """Measure a network by how little its outputs change, each relative to its own deviation."""

    @torch.no_grad()
    def outputs(model: nn.Module) -> Tensor:
        found = (model(x) for x in tests)
        return torch.cat([f if isinstance(f, Tensor) else f[0] for f in found])

    wanted = outputs(module)
    scale = wanted.std(dim=0, keepdim=True)

    def score(model: nn.Module) -> float:
        return 1 - ((outputs(model) - wanted) / scale).square().mean().sqrt().item()

    yield from _tried(title, "1 - error of outputs", module, batches, BUDGETS, score)


# ---------------------------------------------------------------- the table


def classifier(name: str, seed: int, folder: Path | None) -> Iterator[Outcome]:
    """Compress a trained image classifier; the quality is the accuracy."""
    case = CASES[name]
    dense, data, batches = trained_case(case, seed, folder)

    def score(model: nn.Module) -> float:
        return quality(case, model, data)

    yield from _tried(case.title, "accuracy", dense, batches, BUDGETS, score, seed)


def kept(folder: Path | None, name: str, make: Callable[[], Iterator[Outcome]]) -> list[Outcome]:
    """Return the outcomes of an earlier run from a folder, or make and keep them."""
    path = folder and folder / f"published-{name}.json"
    if path and path.exists():
        return [Outcome(**x) for x in json.loads(path.read_text(encoding="utf-8"))]
    found = list(make())
    if path:
        path.write_text(json.dumps([asdict(x) for x in found], indent=1), encoding="utf-8")
    return found


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table and how many cells each side wins."""
    cells: dict[tuple[str, str, float], dict[str, list[float]]] = {}
    dense: dict[str, list[float]] = {}
    for x in outcomes:
        if x.method == "dense":
            dense.setdefault(x.network, []).append(x.quality)
        else:
            found = cells.setdefault((x.network, x.measure, x.budget), {})
            found.setdefault(x.method, []).append(x.quality)
    lines = [
        ["network", "quality", "dense", "multiplications", *METHODS],
        ["---", "---", "---:", "---:", *["---:"] * len(METHODS)],
    ]
    wins = 0
    for (network, measure, budget), found in cells.items():
        means = {m: statistics.fmean(v) for m, v in found.items()}
        best = max(mean for mean in means.values() if not math.isnan(mean))
        wins += means["nn.convert"] >= best
        values = [_shown(found[m], means[m] == best) for m in METHODS]
        lines.append([network, measure, _shown(dense[network], False), f"{budget:g}", *values])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n`nn.convert` is at least as good as both in {wins} of {len(cells)} rows."


def _shown(values: Sequence[float], is_best: bool) -> str:
    if math.isnan(statistics.fmean(values)):
        return "cannot be met"
    text = f"{statistics.fmean(values):.3f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.3f}"
    return f"**{text}**" if is_best else text


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    read.add_argument("--case", action="append", choices=IMAGES, help="only this classifier (all)")
    read.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings per classifier (3)"
    )
    read.add_argument("--first-seed", type=int, default=3, metavar="N", help="first seed (3)")
    read.add_argument("--only", metavar="NAME", help="only the jobs that begin so, such as faces")
    read.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="keep trainings and results"
    )
    read.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="also the networks in these wheels"
    )
    read.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table into this page"
    )
    asked = read.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.checkpoint:
        asked.checkpoint.mkdir(parents=True, exist_ok=True)
    try:
        jobs: dict[str, Callable[[], Iterator[Outcome]]] = {}
        for name in asked.case or IMAGES:
            for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
                jobs[f"{name}-{seed}"] = partial(classifier, name, seed, asked.checkpoint)
        if asked.wheels:
            jobs["orientation"] = partial(orientation, asked.wheels)
            jobs["faces"] = partial(faces, asked.wheels)
        if asked.only:
            jobs = {name: make for name, make in jobs.items() if name.startswith(asked.only)}
        found = [x for name, make in jobs.items() for x in kept(asked.checkpoint, name, make)]
        if asked.markdown:
            replace_marked(asked.markdown, BEGIN, END, markdown(found))
        else:
            print(markdown(found))
    except (SeparableError, OSError) as problem:
        return error(str(problem), 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
