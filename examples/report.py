"""The printed table of a training, and its measures of quality."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from separable.plan.plan_text import duration

__all__ = ["Result", "accuracy", "average_precision", "spread", "summary"]


@dataclass(frozen=True)
class Result:
    """Result of one network trained with one seed.

    Attributes
    ----------
    multiplications : int
        Multiplications of the forward pass of one sample.
    step_seconds : float
        Median time of a step.
    losses : list of float
        Loss of the global batch at each step.
    """

    network: str
    seed: int
    parameters: int
    multiplications: int
    step_seconds: float
    quality: float
    losses: list[float] = field(repr=False)


def summary(
    results: Sequence[Result], baselines: Mapping[str, Sequence[float]], quality: str
) -> Table:
    """Return the table: one line per network, with ratios to the first one, and one per baseline."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for name in ("parameters", "multiplications", "time / step", quality.replace(" ", "\n")):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    networks: dict[str, list[Result]] = {}
    for result in results:
        networks.setdefault(result.network, []).append(result)
    first: tuple[float, ...] = ()
    for name, runs in networks.items():
        seconds = statistics.median(r.step_seconds for r in runs)
        costs = (runs[0].parameters, runs[0].multiplications, seconds)
        shown = (f"{costs[0]:,}", f"{costs[1]:,}", duration(seconds))
        table.add_row(name, *shown, spread([r.quality for r in runs]))
        if first:
            table.add_row("", *map(_times, first, costs), "", style="dim")
        first = first or costs
    for name, qualities in baselines.items():
        table.add_row(name, "", "", "", spread(qualities))
    return table


def _times(first: float, other: float) -> str:
    return f"÷ {first / other:.2f}" if first >= other else f"× {other / first:.2f}"


def spread(values: Sequence[float]) -> str:
    """Return the mean and, for two or more values, the standard deviation.

    Examples
    --------
    >>> spread([0.5]), spread([0.5, 0.7])
    ('0.500', '0.600 ± 0.141')
    """
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def accuracy(outputs: Tensor, classes: Tensor) -> float:
    """Return the share of correct classes; the second axis of the outputs is the class.

    Examples
    --------
    >>> accuracy(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))
    0.5
    """
    return (outputs.argmax(1) == classes).double().mean().item()


def average_precision(outputs: Tensor, wanted: Tensor) -> float:
    """Return the area under precision over recall: the mean precision over the positives.

    Among equal outputs the positives count as found last, so that a constant output gains nothing.

    Examples
    --------
    >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1.0, 0.0, 1.0]))
    0.8333333333333333
    """
    scores, truth = outputs.flatten(), wanted.flatten().double()
    last = truth.argsort(stable=True)
    hits = truth[last][scores[last].argsort(descending=True, stable=True)]
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return ((precision * hits).sum() / hits.sum()).item()
