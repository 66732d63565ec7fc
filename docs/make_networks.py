"""Update the tables of docs/networks.md: `python docs/make_networks.py`.

`separable.nn.ledger` counts our networks; the published figures are copied from the papers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from separable.nn import models
from separable.nn.ledger import ledger

PAGE = Path(__file__).with_name("networks.md")
UNITS = {"": 1, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Figure:
    """A count as it was printed: "4.2 M", "37 G", "22,855,952"."""

    text: str

    @property
    def value(self) -> float:
        """The number."""
        digits, _, unit = self.text.partition(" ")
        return float(digits.replace(",", "")) * UNITS[unit]

    @property
    def step(self) -> float:
        """Value of one unit in the last printed digit."""
        digits, _, unit = self.text.partition(" ")
        return UNITS[unit] / 10 ** len(digits.partition(".")[2])

    def shift(self, count: int) -> float:
        """Return the relative difference of a count from this figure."""
        return count / self.value - 1

    def holds(self, count: int) -> bool:
        """Return whether a count is within 1 % or, for coarser figures, rounds to the same digits."""
        return abs(count - self.value) <= max(0.01 * self.value, self.step / 2)

    def like(self, count: int) -> str:
        """Return a count as text in the same unit, with one more digit."""
        digits, _, unit = self.text.partition(" ")
        if not unit:
            return f"{count:,}"
        return f"{count / UNITS[unit]:,.{len(digits.partition('.')[2]) + 1}f} {unit}"


@dataclass(frozen=True)
class Published:
    """Network of a paper, with the figures published there."""

    network: str
    parameters: Figure
    macs: Figure | None = None
    options: dict[str, Any] = field(default_factory=dict)


def _published() -> tuple[Published, ...]:
    def row(network: str, parameters: str, macs: str = "", **options: Any) -> Published:
        return Published(network, Figure(parameters), Figure(macs) if macs else None, options)

    v1 = "mobilenet_v1"
    return (
        row(v1, "4.2 M", "569 M"),
        row(v1, "29.3 M", "4866 M", dense=True),
        row(v1, "2.6 M", "325 M", width=0.75),
        row(v1, "1.3 M", "149 M", width=0.5),
        row(v1, "0.5 M", "41 M", width=0.25),
        row(v1, "4.2 M", "418 M", resolution=192),
        row(v1, "4.2 M", "290 M", resolution=160),
        row(v1, "4.2 M", "186 M", resolution=128),
        row("mobilenet_v2", "3.4 M", "300 M"),
        row("mobilenet_v3_large", "5.4 M", "219 M"),
        row("mobilenet_v3_small", "2.5 M", "56 M"),
        row("resnet18", "11,689,512", "1.8 G"),
        row("resnet34", "21,797,672", "3.6 G"),
        row("resnet50", "25,557,032", "3.8 G"),
        row("resnet101", "44,549,160", "7.6 G"),
        row("resnet152", "60,192,808", "11.3 G"),
        row("convnext_tiny", "29 M", "4.5 G"),
        row("convnext_small", "50 M", "8.7 G"),
        row("convnext_base", "89 M", "15.4 G"),
        row("convnext_large", "198 M", "34.4 G"),
        row("xception", "22.9 M", "8.4 G"),
        row("efficientnet_b0", "5.3 M", "0.39 G"),
        row("efficientnet_b1", "7.8 M", "0.70 G"),
        row("efficientnet_b2", "9.2 M", "1.0 G"),
        row("efficientnet_b3", "12 M", "1.8 G"),
        row("efficientnet_b4", "19 M", "4.2 G"),
        row("efficientnet_b5", "30 M", "9.9 G"),
        row("efficientnet_b6", "43 M", "19 G"),
        row("efficientnet_b7", "66 M", "37 G"),
        row("unet_3d", "19,069,955", in_channels=3, classes=3, dense=True),
    )


PUBLISHED = _published()

# torchvision/models/efficientnet.py: `num_params` and `_ops` of the weights' metadata, in which
# B2 is counted at 288 pixels.
TORCHVISION = {
    "b0": (Figure("5,288,548"), Figure("0.4 G"), 224),
    "b1": (Figure("7,794,184"), Figure("0.7 G"), 240),
    "b2": (Figure("9,109,994"), Figure("1.1 G"), 288),
    "b3": (Figure("12,233,232"), Figure("1.8 G"), 300),
    "b4": (Figure("19,341,616"), Figure("4.4 G"), 380),
    "b5": (Figure("30,389,784"), Figure("10.3 G"), 456),
    "b6": (Figure("43,040,704"), Figure("19.1 G"), 528),
    "b7": (Figure("66,347,960"), Figure("37.7 G"), 600),
}

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Count:
    """Counts of a network for one input; `norms` is the number of values that normalisation scales."""

    parameters: int
    macs: int
    norms: int
    sample: str


def count(network: str, resolution: int | None = None, **options: Any) -> Count:
    """Count a network by name, at its usual input size or for square images of another size."""
    scaling = models.SCALINGS.get(network.removeprefix("efficientnet_"))
    if scaling is not None and resolution == scaling.resolution:
        resolution = None
    return _count(network, resolution, **options)


@cache
def _count(network: str, resolution: int | None, **options: Any) -> Count:
    net = models.create(network, device="meta", **options).eval()
    example = net.example()
    if resolution is not None:
        example = (example[0].new_zeros(1, example[0].shape[1], resolution, resolution),)
    total = ledger(net, list(example), backward=False).total
    norms: list[int] = []
    for module in net.modules():
        if isinstance(module, NORMS):
            module.register_forward_hook(lambda _, inputs, out: norms.append(out.numel()))
    net(*example)
    shapes = [x.shape[1:] for x in example]
    sample = " + ".join("x".join(map(str, shape)) for shape in shapes)
    return Count(total.parameters, total.macs, sum(norms), sample)


def call(row: Published) -> str:
    """Return the call that builds the network of a row."""
    shown = "".join(f", {k}={v!r}" for k, v in row.options.items())
    return f'`create("{row.network}"{shown})`'


def published_table() -> str:
    """Return the table of published figures and our counts."""
    head = ("network", "input", "parameters", "ours", "", "multiply-adds", "ours", "")
    rows = []
    for row in PUBLISHED:
        ours = count(row.network, **row.options)
        pairs = ((row.parameters, ours.parameters), (row.macs, ours.macs))
        cells = [cell for figure, value in pairs for cell in _beside(figure, value)]
        rows.append((call(row), ours.sample, *cells))
    return _table(head, rows)


def _beside(figure: Figure | None, ours: int) -> tuple[str, str, str]:
    if figure is None:
        return "", f"{ours / UNITS['G']:.1f} G", ""
    shift = f"{100 * figure.shift(ours):+.2f} %"
    return figure.text, figure.like(ours), shift if figure.holds(ours) else f"**{shift}**"


def torchvision_table() -> str:
    """Return the table of EfficientNets in torchvision and here, without and with normalisation."""
    head = ("", "parameters, torchvision", "ours", "multiply-adds, torchvision", "ours",
            "ours, with normalisation", "paper")  # fmt: skip
    rows = []
    for row in PUBLISHED:
        variant = row.network.removeprefix("efficientnet_")
        if variant not in TORCHVISION or row.macs is None:
            continue
        parameters, macs, resolution = TORCHVISION[variant]
        there, here = count(row.network, resolution), count(row.network)
        at = f" (at {resolution})" if there.sample != here.sample else ""
        rows.append((
            variant.upper(), parameters.text, f"{here.parameters:,}", macs.text + at,
            Figure("0.00 G").like(there.macs) + at, Figure("0.00 G").like(here.macs + here.norms),
            row.macs.text,
        ))  # fmt: skip
    return _table(head, rows)


def twins_table() -> str:
    """Return the table of all networks and their dense twins."""
    head = ("name", "input", "parameters", "dense", "ratio", "multiply-adds", "dense", "ratio")
    rows = []
    for name in models.names():
        ours, dense = count(name, dense=False), count(name, dense=True)
        rows.append((
            f"`{name}`", ours.sample,
            f"{ours.parameters:,}", f"{dense.parameters:,}",
            f"{dense.parameters / ours.parameters:.1f}",
            _millions(ours.macs), _millions(dense.macs), f"{dense.macs / ours.macs:.1f}",
        ))  # fmt: skip
    return _table(head, rows)


def _millions(count: int) -> str:
    return f"{count / UNITS['M']:,.1f} M"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(re.sub(" +\\|", " |", f"| {' | '.join(line)} |") for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "published": published_table,
    "torchvision": torchvision_table,
    "twins": twins_table,
}


def with_tables(page: str) -> str:
    """Return the page with the table between each pair of marks replaced."""
    for name, make in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", f"<!-- end: {name} -->"
        before, mark, rest = page.partition(begin)
        _, other, after = rest.partition(end)
        if not mark or not other:
            raise ValueError(f"{PAGE.name} has no place for the table {name!r}")
        page = f"{before}{begin}\n{make()}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
