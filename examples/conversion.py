"""Convert trained networks to separable ones: quality against multiplications.

    python examples/conversion.py                               # all cases, three seeds
    python examples/conversion.py --case vgg-digits --seeds 1
    python examples/conversion.py --first-seed 3 --markdown docs/conversion.md  # the tables of that page
    python examples/conversion.py --timm resnet18 --images FOLDER --budget 0.5 --budget 0.25

Each dense network is trained and then converted, for each budget, without data (plain SVD), with
unlabelled training samples (data-aware), and then fine-tuned on the outputs of the original, still
without labels.  For comparison a separable network is trained from scratch, with labels, as wide as
the budget permits.  ``docs/conversion.md`` says how the settings were chosen.

With ``--timm`` the network is one of timm with its trained weights, and FOLDER has one folder of images
per class, in the order of the network's classes (or any other folders: the quality is
then the share of images for which a network's class is that of the original).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import training
from cases import CASES, Case, multiplications
from finetune import finetune
from tables import Row, printed, read_json, write_json, write_markdown
from torch import nn
from training import Data, Ranks, Run, chance

from separable import nn as separable_nn
from separable.cli.console import error, output, progress, put
from separable.errors import ArgumentError, FileError, SeparableError

__all__ = ["compare", "main", "run_case"]


def run_case(name: str, seed: int, quick: bool, folder: Path | None = None) -> list[Row]:
    """Train, convert and measure one case with one seed, or read earlier results."""
    torch.set_num_threads(1)
    case = CASES[name]
    if quick:
        case = replace(case, steps=8, tuning=4, budgets=case.budgets[-1:], batch=8, calibration=8)
    kept = folder and folder / f"{name}-{seed}{'-quick' * quick}.json"
    if kept and kept.exists():
        return read_json(kept)
    data = case.data(seed, quick)
    shape = tuple(data.train[0].shape[1:])
    dense = multiplications(case.network(case.width, True), shape)
    widths = {f"{b:.3f}": case.widest(shape, b * dense) for b in case.budgets}
    example = case.training(widths)

    def trained(network: str, method: str, budget: float) -> tuple[Row, nn.Module]:
        begin = time.perf_counter()
        run = Run(example, network, seed, case.steps, folder, save_every=50)
        made, model = training.train(run, data, Ranks(), lambda steps, loss: None)
        seconds = time.perf_counter() - begin
        costs = (made.multiplications, made.parameters)
        return Row(name, seed, method, budget, *costs, made.quality, seconds), model

    first, original = trained("dense", "dense", 1.0)
    rows = [first, *compare(case, original, data, seed)]
    rows += [trained(n, "from scratch", b)[0] for n, b in zip(widths, case.budgets, strict=True)]
    if kept:
        write_json(kept, rows, {"case": name, "seed": seed, "quick": quick})
    return rows


def compare(case: Case, original: nn.Module, data: Data, seed: int) -> Iterator[Row]:
    """Convert a trained network with and without data, and measure the results."""
    images, shape = data.train[0], tuple(data.train[0].shape[1:])
    order = torch.Generator().manual_seed(chance(seed))
    samples = images[torch.randperm(len(images), generator=order)[: case.calibration]]
    batches = samples.split(case.batch)

    for budget in case.budgets:
        convert = functools.partial(
            separable_nn.convert, original, "auto", budget=budget, repeats=0
        )
        begin = time.perf_counter()
        plain, _ = convert(input_shape=(1, *shape))
        yield _judged(case, "plain SVD", budget, plain, data, seed, begin)

        begin = time.perf_counter()
        aware, _ = convert(data=batches)
        yield _judged(case, "data-aware", budget, aware, data, seed, begin)

        begin = time.perf_counter()
        finetune(aware, original, images, steps=case.tuning, batch=case.batch, seed=seed)
        yield _judged(case, "fine-tuned", budget, aware, data, seed, begin)


@torch.inference_mode()
def _judged(
    case: Case, method: str, budget: float, model: nn.Module, data: Data, seed: int, begin: float
) -> Row:
    """Return the row of a converted network; `begin` is when the conversion started."""
    seconds = time.perf_counter() - begin
    inputs, targets = data.test
    outputs = torch.cat([model.eval()(part) for part in inputs.split(case.batch)])
    parameters = sum(p.numel() for p in model.parameters())
    costs = (multiplications(model, tuple(inputs.shape[1:])), parameters)
    return Row(
        case.name, seed, method, budget, *costs, float(case.score(outputs, targets)), seconds
    )


# ---------------------------------------------------------------- the command line


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    asked = _options().parse_args(arguments)
    try:
        _check(asked)
        rows, titles = _of_timm(asked) if asked.timm else _of_cases(asked)
        console = output()
        for table in printed(rows, titles):
            put(console, table)
            console.print()
        put(console, "± is one standard deviation over seeds; ÷ how many times fewer than dense")
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(asked).items()}
        if asked.json:
            write_json(asked.json, rows, settings)
        if asked.markdown:
            write_markdown(asked.markdown, rows, titles)
    except (SeparableError, OSError) as problem:
        return error(str(problem), 2)
    except KeyboardInterrupt:
        return error("stopped", 130)
    return 0


def _options() -> argparse.ArgumentParser:
    read = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    number = training.positive
    read.add_argument(
        "--case", action="append", choices=list(CASES), help="run only this case (all)"
    )
    read.add_argument("--seeds", type=number, default=3, metavar="N", help="runs per case (3)")
    read.add_argument("--first-seed", type=whole, default=0, metavar="N", help="first seed (0)")
    read.add_argument(
        "--processes", type=number, default=2, metavar="N", help="processes at a time (2)"
    )
    read.add_argument("--quick", action="store_true", help="test run with few data and steps")
    read.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="keep finished trainings in this folder"
    )
    read.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    read.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables into this page"
    )
    read.add_argument("--timm", metavar="NAME", help="convert this network of timm")
    read.add_argument(
        "--images", type=Path, metavar="FOLDER", help="for --timm: one folder per class"
    )
    read.add_argument(
        "--budget",
        type=float,
        action="append",
        metavar="B",
        help="for --timm: share of the multiplications (0.5)",
    )
    read.add_argument(
        "--count", type=number, default=512, metavar="N", help="number of images (512)"
    )
    return read


def whole(text: str) -> int:
    """Return a whole number.

    Examples
    --------
    >>> whole("0")
    0
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number; got {text!r}")
    return int(text)


def _check(asked: argparse.Namespace) -> None:
    """Check the options before anything is trained."""
    for option in ("json", "markdown"):
        path = getattr(asked, option)
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise FileError(f"`--{option}` must name a file in a folder that exists; got {path}")
    if bool(asked.timm) != bool(asked.images):
        raise ArgumentError("`--timm NAME` and `--images FOLDER` go together; got one of them")
    if asked.timm and asked.case:
        raise ArgumentError("`--case` names a network of this script, `--timm` another; give one")
    if asked.checkpoint:
        asked.checkpoint.mkdir(parents=True, exist_ok=True)


def _of_cases(asked: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """Run every case with every seed, in separate processes if there are several."""
    names = asked.case or list(CASES)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    jobs = [(name, seed, asked.quick, asked.checkpoint) for seed in seeds for name in names]
    rows: list[Row] = []
    with progress(f"{len(jobs)} trainings and conversions", shown=True) as advance:
        for done in _each(jobs, asked.processes):
            rows += done
            if advance:
                advance(1 / len(jobs))
    rows.sort(key=lambda row: (names.index(row.case), row.seed))
    return rows, {name: f"{CASES[name].title} ({CASES[name].quality})" for name in names}


def _each(jobs: list[tuple], processes: int) -> Iterable[list[Row]]:
    """Yield the results in the order in which they are finished."""
    if processes == 1 or len(jobs) == 1:
        yield from (run_case(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # PyTorch may hang after a fork
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        waiting = [pool.submit(run_case, *job) for job in jobs]
        with contextlib.ExitStack() as stopped:
            stopped.callback(pool.shutdown, wait=False, cancel_futures=True)
            for one in concurrent.futures.as_completed(waiting):
                yield one.result()


def _of_timm(asked: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """Convert a network of timm; the seed determines which images are used for the test."""
    from photos import classified

    model = separable_nn.models.create(f"timm:{asked.timm}", pretrained=True).eval()
    rows: list[Row] = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        data, quality = classified(model, asked.images, asked.count, seed)
        case = replace(
            CASES["vgg-digits"], name=asked.timm, title=asked.timm, quality=quality, batch=16,
            budgets=tuple(asked.budget or (0.5,)), calibration=64,
        )  # fmt: skip
        rows.append(_judged(case, "dense", 1.0, model, data, seed, time.perf_counter()))
        rows += compare(case, model, data, seed)
    return rows, {asked.timm: f"{asked.timm} ({quality})"}


if __name__ == "__main__":
    sys.exit(main())
