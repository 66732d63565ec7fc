"""Time saved by conversion beside multiplications saved, of networks shaped like ResNet-18, VGG-16 and U-Net.

    python benchmarks/converted_networks.py [--only NAME,...] [--budget B] [--runtime fused] [--markdown FILE]

Each network is converted for a share of its multiplications, with the runtime named, so that patterns are chosen that are
predicted to save time there. The dense and the converted network then run in turns. The realised part is the time saved,
relative to the dense network, divided by the multiplications saved. Weights are random, because times do not depend
on them; quality is measured elsewhere (`examples/conversion.py`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from layer_times import UShaped, resnet18, vgg
from torch import nn as tnn

from separable import nn
from separable.nn.convert.network_times import timed_networks
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.runtimes.runtime import Runtime

GOAL = 0.8  # of the theoretical saving
BEGIN, END = "<!-- realised -->", "<!-- end of realised -->"
NETWORKS: dict[str, tuple[Callable[[], tnn.Module], tuple[int, ...]]] = {
    "ResNet-18": (resnet18, (1, 3, 224, 224)),
    "VGG-16": (lambda: vgg([64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3), (1, 3, 224, 224)),
    "U-Net, 32 channels": (lambda: UShaped(32), (1, 1, 256, 256)),
}  # fmt: skip


@dataclass(frozen=True)
class Saving:
    """One converted network.

    Attributes
    ----------
    network : str
    budget : float
    share : float
        Multiplications relative to the dense network.
    before, after : float
        Measured seconds of a call of the dense and of the converted network.
    predicted : float
        Predicted part of the time that is left.
    """

    network: str
    budget: float
    share: float
    before: float
    after: float
    predicted: float

    @property
    def realised(self) -> float:
        """Part of the time saved, divided by the part of the multiplications saved."""
        return (1 - self.after / self.before) / (1 - self.share)

    @property
    def expected(self) -> float:
        """The same by predicted times."""
        return (1 - self.predicted) / (1 - self.share)


def converted(
    name: str, budget: float, runtime: Runtime, folder: Path | None
) -> tuple[tnn.Module, tnn.Module]:
    """Return a network and its conversion; the structure of an earlier run is used again."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    dense = build().eval()
    kept = folder and folder / f"{name.split(',')[0]}-{budget:g}-{runtime.name}.json"
    if kept and kept.exists():
        return dense, nn.rebuild(dense, kept.read_text(encoding="utf-8"))
    made, _ = nn.convert(
        dense, "auto", budget=budget, input_shape=shape, runtime=runtime.name, repeats=0
    )
    if kept:
        kept.write_text(nn.blueprint(made), encoding="utf-8")
    return dense, made


def saving(
    name: str, budget: float, runtime: Runtime, seconds: float, folder: Path | None
) -> Saving:
    """Convert a network and measure both."""
    dense, made = converted(name, budget, runtime, folder)
    shape = NETWORKS[name][1]
    books = [nn.ledger(m.eval(), shape, backward=False) for m in (dense, made)]
    predicted = [b.seconds(runtime.name).total[runtime.name] for b in books]
    counts = [b.total.multiplications for b in books]
    before, after = timed_networks(runtime, [dense, made.eval()], [torch.rand(shape)], seconds)
    return Saving(name, budget, counts[1] / counts[0], before, after, predicted[1] / predicted[0])


def markdown(rows: Sequence[Saving]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| network | input | multiplications left | dense | converted | time left | realised | predicted |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows:
        sizes = "x".join(map(str, NETWORKS[r.network][1]))
        lines.append(
            f"| {r.network} | {sizes} | {r.share:.3f} | {r.before * 1e3:.2f} ms | "
            f"{r.after * 1e3:.2f} ms | {r.after / r.before:.3f} | {r.realised:.2f} | {r.expected:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="networks whose names contain one of these words")
    parser.add_argument("--budget", type=float, action="append", help="0.5 and 0.25 if not given")
    parser.add_argument("--runtime", default="fused", choices=list(RUNTIMES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="per pair of networks")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was chosen here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in NETWORKS:
        if args.only is None or any(word in name for word in args.only.split(",")):
            for budget in args.budget or (0.5, 0.25):
                row = saving(name, budget, RUNTIMES[args.runtime], args.seconds, args.keep)
                rows.append(row)
                goal = "met" if row.realised >= GOAL else "missed"
                print(f"{name}, {budget:g}: realised {row.realised:.2f} ({goal})", flush=True)
    text = f"{markdown(rows)}\n\nLoad of the computer at the end: {os.getloadavg()[0]:.1f}."
    if args.markdown is None:
        print(text)
        return
    page = args.markdown.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    args.markdown.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
