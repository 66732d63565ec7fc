"""Code that the example trainings share: runs over seeds, resuming, several processes, options.

A script defines an `Example` (data, networks, loss, quality); `main` does the rest.

**An interrupted run resumes with the same result.**  All random numbers are a function of
``(seed, step, rank)``: the order of the data and the random numbers of layers (dropout) are seeded
from these, so the step number in a checkpoint determines the state of every random generator.

**Under torchrun the loss is that of one process.**  Every process takes its share of the same
global batch and gradients are averaged.  This requires that no layer depends on the whole batch: batch
normalisation would see half of it (and `SyncBatchNorm` runs on GPUs only), so the networks of the
examples use group normalisation, which uses one sample at a time, and no dropout,
whose masks each process would draw independently.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import torch
from report import Result, summary
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn

from separable.cli.console import error, output, put
from separable.errors import ArgumentError, FileError, SeparableError
from separable.nn.ledger import ledger

__all__ = ["Data", "Example", "Ranks", "Run", "batch_rows", "main", "options", "train"]


@dataclass(frozen=True)
class Data:
    """Inputs and targets, first axis samples; no sample of `test` is in `train`."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Example:
    """Definition of a training: data, networks, loss and measure of quality.

    Attributes
    ----------
    name, title : str
        Beginning of the names of its checkpoints, and first line of its table.
    quality : str
        Name of the quantity that `score` returns; larger is better.
    networks : mapping of str to callable
        Functions that build the networks to compare, the dense one first.
    data : callable
        Function that returns the data of a seed, the same for every network.
    loss : callable
        ``loss(outputs, targets)``, a mean over samples (so that shares of a batch average).
    score : callable
        ``score(outputs, targets)`` of the whole test set.
    baselines : callable
        Qualities of other methods on the same data, by name; it is given the trained dense network.
    steps, quick_steps : int
        The length of a run: a full one within a minute, a quick one within a second.
    batch : int
        Samples per step, over all processes.
    rate : float
        Learning rate of Adam at the first step; it falls to zero along a half cosine.
    """

    name: str
    title: str
    quality: str
    networks: Mapping[str, Callable[[], nn.Module]]
    data: Callable[[int], Data]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    baselines: Callable[[Data, nn.Module], dict[str, float]]
    steps: int
    batch: int
    rate: float
    quick_steps: int = 8


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes that train together.

    Examples
    --------
    >>> Ranks(1, 2).share([10, 11, 12, 13])
    [12, 13]
    """

    rank: int = 0
    world: int = 1

    def share(self, rows: Any) -> Any:
        """Return this process's equal part of a global batch."""
        size = len(rows) // self.world
        return rows[self.rank * size : (self.rank + 1) * size]


@dataclass(frozen=True)
class Run:
    """One network of an example and one seed."""

    example: Example
    network: str
    seed: int
    steps: int
    folder: Path | None = None
    save_every: int = 1

    @property
    def text(self) -> str:
        """Options that determine the result, to compare with those of a checkpoint."""
        e = self.example
        return f"{e.title}: {self.network}, seed {self.seed}, {self.steps} steps of {e.batch}"

    @property
    def path(self) -> Path | None:
        """Path of the checkpoint, or None without a folder."""
        name = "".join(c if c.isalnum() else "-" for c in self.network)
        return self.folder and self.folder / f"{self.example.name}-{name}-{self.seed}.pt"


# ---------------------------------------------------------------- one run


def train(
    run: Run, data: Data, ranks: Ranks, show: Callable[[int, float], None]
) -> tuple[Result, nn.Module]:
    """Train one network, from its checkpoint if there is one, and measure its quality.

    `show` receives the number of steps done and the last loss. Only the first process measures the quality.
    """
    # Step 1: build the network from its seed, then load the checkpoint.
    torch.manual_seed(chance(run.seed))
    model = run.example.networks[run.network]()
    optimizer = torch.optim.Adam(model.parameters(), lr=run.example.rate)
    state: dict[str, Any] = {"run": run.text, "step": 0, "losses": [], "seconds": []}
    if run.path and (kept := checkpoints.load(run.path, run.text)):
        model.load_state_dict(kept.pop("model"))
        optimizer.load_state_dict(kept.pop("optimizer"))
        state = kept
        show(state["step"], state["losses"][-1])

    # Step 2: run the remaining steps.
    parallel = nn.parallel.DistributedDataParallel(model) if ranks.world > 1 else model
    for step in range(state["step"], run.steps):
        begin = time.perf_counter()
        state["losses"].append(_step(run, step, data, parallel, optimizer, ranks))
        state["seconds"].append(time.perf_counter() - begin)
        state["step"] = step + 1
        due = state["step"] % run.save_every == 0 or state["step"] == run.steps
        if run.path and due and ranks.rank == 0:
            both = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoints.save(run.path, {**state, **both})
        show(1, state["losses"][-1])

    # Step 3: measure the quality on the test samples.
    inputs, targets = data.test
    quality = math.nan if ranks.rank else run.example.score(_outputs(model, inputs), targets)
    parameters = sum(p.numel() for p in model.parameters())
    multiplications = ledger(model, (1, *inputs.shape[1:])).total.multiplications
    median = statistics.median(state["seconds"])
    costs = (parameters, multiplications, median)
    return Result(run.network, run.seed, *costs, quality, state["losses"]), model


def _step(
    run: Run,
    step: int,
    data: Data,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ranks: Ranks,
) -> float:
    """Take one step; return the loss of the global batch."""
    torch.manual_seed(chance(run.seed, step, ranks.rank))
    inputs, targets = data.train
    rows = ranks.share(batch_rows(len(inputs), run.example.batch, run.seed, step))
    for group in optimizer.param_groups:
        group["lr"] = run.example.rate * 0.5 * (1 + math.cos(math.pi * step / run.steps))
    model.train()
    optimizer.zero_grad()
    loss = run.example.loss(model(inputs[rows]), targets[rows])
    loss.backward()
    optimizer.step()
    mean = loss.detach()
    if ranks.world > 1:
        distributed.all_reduce(mean)
        mean = mean / ranks.world
    return mean.item()


@torch.inference_mode()
def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(part) for part in inputs.split(128)])


def batch_rows(samples: int, batch: int, seed: int, step: int) -> Tensor:
    """Return the rows of the global batch of one step.

    Every epoch is a new permutation; samples that do not fill a batch are carried over to the next.

    Examples
    --------
    >>> sorted(torch.cat([batch_rows(6, 3, seed=0, step=s) for s in (0, 1)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    epoch, place = divmod(step, samples // batch)
    return _order(samples, seed, epoch)[place * batch : (place + 1) * batch]


@functools.lru_cache(maxsize=1)
def _order(samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(chance(seed, epoch)))


def chance(*key: int) -> int:
    """Return a seed that is a fixed function of some numbers.

    Examples
    --------
    >>> chance(0, 1) == chance(0, 1) != chance(1, 0)
    True
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


# ---------------------------------------------------------------- all runs


def options(about: str | None) -> argparse.ArgumentParser:
    """Return the parser of the options that all examples have."""
    read = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    read.add_argument("--steps", type=positive, metavar="N", help="steps per run")
    read.add_argument("--seeds", type=positive, default=3, metavar="N", help="runs per network (3)")
    read.add_argument("--quick", action="store_true", help="test run with few data and steps")
    read.add_argument("--threads", type=positive, metavar="N", help="threads per process")
    read.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    read.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        help="keep checkpoints in this folder and resume from them",
    )
    read.add_argument(
        "--save-every",
        type=positive,
        default=25,
        metavar="N",
        help="steps between checkpoints (25)",
    )
    return read


def positive(text: str) -> int:
    """Return a whole number of at least 1.

    Examples
    --------
    >>> positive("3")
    3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; got {text!r}")
    return int(text)


def main(
    make: Callable[[argparse.Namespace], Example],
    read: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
) -> int:
    """Train an example as the options say and print its table; return the exit status."""
    asked = read.parse_args(arguments)
    try:
        with _processes() as ranks:
            example = make(asked)
            _prepare(example, asked, ranks)
            results, baselines = _runs(example, asked, ranks)
            if ranks.rank == 0:
                _report(example, asked, ranks, results, baselines)
    except (SeparableError, OSError) as problem:
        return error(str(problem), 2)
    except KeyboardInterrupt:
        kept = (
            "the same command goes on from the checkpoint" if asked.checkpoint else "nothing kept"
        )
        return error(f"stopped; {kept}", 130)
    return 0


@contextlib.contextmanager
def _processes() -> Iterator[Ranks]:
    """Connect to the other processes if torchrun started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    distributed.init_process_group("gloo")
    try:
        yield Ranks(distributed.get_rank(), world)
    finally:
        distributed.destroy_process_group()


def _prepare(example: Example, asked: argparse.Namespace, ranks: Ranks) -> None:
    """Check the options before anything is trained."""
    asked.steps = asked.steps or (example.quick_steps if asked.quick else example.steps)
    if example.batch % ranks.world:
        raise ArgumentError(
            f"{ranks.world} processes cannot share a batch of {example.batch} equally; "
            f"start a number of them that divides {example.batch}"
        )
    if asked.json and (asked.json.is_dir() or not asked.json.parent.is_dir()):
        raise FileError(f"`--json` must name a file in a folder that exists; got {asked.json}")
    if asked.checkpoint:
        asked.checkpoint.mkdir(parents=True, exist_ok=True)
    if asked.threads:
        torch.set_num_threads(asked.threads)


def _runs(
    example: Example, asked: argparse.Namespace, ranks: Ranks
) -> tuple[list[Result], dict[str, list[float]]]:
    """Train every network with every seed; return the results, and the baselines' qualities."""
    results: list[Result] = []
    baselines: dict[str, list[float]] = {}
    with _progress(len(example.networks) * asked.seeds * asked.steps, ranks) as show:
        for seed in range(asked.seeds):
            data = example.data(seed)
            if len(data.train[0]) < example.batch:
                raise ArgumentError(
                    f"a step needs {example.batch} samples; got {len(data.train[0])} for training"
                )
            trained = []
            for network in example.networks:
                run = Run(example, network, seed, asked.steps, asked.checkpoint, asked.save_every)
                tell = functools.partial(show, f"{network}, seed {seed}")
                result, model = train(run, data, ranks, tell)
                results.append(result)
                trained.append(model)
            if ranks.rank == 0:
                for name, quality in example.baselines(data, trained[0]).items():
                    baselines.setdefault(name, []).append(quality)
    return results, baselines


@contextlib.contextmanager
def _progress(total: int, ranks: Ranks) -> Iterator[Callable[[str, int, float], None]]:
    """Show a progress bar on stderr if it is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    remaining = TimeRemainingColumn(compact=True)
    shown = sys.stderr.isatty() and ranks.rank == 0
    console = Console(stderr=True)
    with Progress(*columns, remaining, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda text, steps, loss: bar.update(
            task, advance=steps, description=f"{text}, loss {loss:.4f}"
        )


def _report(
    example: Example,
    asked: argparse.Namespace,
    ranks: Ranks,
    results: Sequence[Result],
    baselines: Mapping[str, Sequence[float]],
) -> None:
    """Print the table and write the numbers."""
    console, threads = output(), torch.get_num_threads()
    console.print(example.title)
    put(console, summary(results, baselines, example.quality))
    put(
        console,
        f"steps: {asked.steps} of {example.batch}; seeds: {asked.seeds}, ± is one standard deviation; "
        f"processes: {ranks.world}; threads of each: {threads}; multiplications: one sample, forward",
    )
    if asked.json:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(asked).items()}
        told = {
            "example": example.title, "quality": example.quality, "batch": example.batch,
            "options": settings, "processes": ranks.world, "threads": threads,
            "torch": torch.__version__, "baselines": baselines,
            "results": [asdict(r) for r in results],
        }  # fmt: skip
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
