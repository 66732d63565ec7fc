"""Layers beside the same convolutions of `torch.nn` one after the other, and beside dense ones.

    python benchmarks/layers.py               # forward, one thread
    python benchmarks/layers.py --threads 2 --backward

Contestants run round after round, in random order; medians count. The aim: no layer takes 3 % longer than
the plain convolutions it is made of. Small layers show the overhead best, for they do the least.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from separable import nn as snn
from separable.system import processor_name


@dataclass(frozen=True)
class Contest:
    """A layer, the plain convolutions it is to be as fast as, and the dense one it stands for."""

    name: str
    layer: nn.Module
    plain: nn.Module
    dense: nn.Module
    shape: tuple[int, ...]


def depthwise_pair(channels: int, outputs: int, kernel: int, ndim: int) -> nn.Sequential:
    """Layer as written without this library."""
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    return nn.Sequential(
        conv(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        conv(channels, outputs, 1),
    )


def contests() -> list[Contest]:
    """Layers from tiny to those of MobileNet, and one of each kind."""
    found = []
    for channels, outputs, size in [(8, 8, 8), (32, 64, 16), (128, 128, 28), (512, 512, 14)]:
        found.append(
            Contest(
                f"SeparableConv2d {channels} -> {outputs}, 3x3, {size}x{size}",
                snn.SeparableConv2d(channels, outputs, 3),
                depthwise_pair(channels, outputs, 3, 2),
                nn.Conv2d(channels, outputs, 3, padding=1),
                (1, channels, size, size),
            )
        )
    found += [
        Contest(
            "SeparableConv1d 32 -> 64, 9, 1000",
            snn.SeparableConv1d(32, 64, 9),
            depthwise_pair(32, 64, 9, 1),
            nn.Conv1d(32, 64, 9, padding=4),
            (1, 32, 1000),
        ),
        Contest(
            "SeparableConv3d 16 -> 32, 3x3x3, 16^3",
            snn.SeparableConv3d(16, 32, 3),
            depthwise_pair(16, 32, 3, 3),
            nn.Conv3d(16, 32, 3, padding=1),
            (1, 16, 16, 16, 16),
        ),
        Contest(
            "SeparableConv2d 64 -> 64, 3x3, stride 2 'same', 56x56",
            snn.SeparableConv2d(64, 64, 3, stride=2),
            nn.Sequential(
                nn.ZeroPad2d((0, 1, 0, 1)),
                nn.Conv2d(64, 64, 3, 2, groups=64, bias=False),
                nn.Conv2d(64, 64, 1),
            ),
            nn.Conv2d(64, 64, 3, 2, padding=1),
            (1, 64, 56, 56),
        ),
        Contest(
            "SpatiallySeparableConv2d 32 -> 32, 7x7, 28x28",
            snn.SpatiallySeparableConv2d(32, 32, 7),
            nn.Sequential(
                nn.Conv2d(32, 32, (7, 1), padding=(3, 0), bias=False),
                nn.Conv2d(32, 32, (1, 7), padding=(0, 3)),
            ),
            nn.Conv2d(32, 32, 7, padding=3),
            (1, 32, 28, 28),
        ),
        Contest(
            "FactoredConv Tucker-2 128 -> 128, 3x3, ranks 32, 28x28",
            snn.FactoredConv("ocyx -> oR,RyxS,Sc", 128, 128, 3, rank=32),
            nn.Sequential(
                nn.Conv2d(128, 32, 1, bias=False),
                nn.Conv2d(32, 32, 3, padding=1, bias=False),
                nn.Conv2d(32, 128, 1),
            ),
            nn.Conv2d(128, 128, 3, padding=1),
            (1, 128, 28, 28),
        ),
        Contest(
            "DepthwiseConv2d 64, 3x3, 28x28",
            snn.DepthwiseConv2d(64, 3),
            nn.Conv2d(64, 64, 3, padding=1, groups=64),
            nn.Conv2d(64, 64, 3, padding=1),
            (1, 64, 28, 28),
        ),
        Contest(
            "SeparableConv2d 64 -> 64, 3x3, multipliers 1 and 3 (plain: 3 for all), 28x28",
            snn.SeparableConv2d(64, 64, 3, depth_multiplier=[1, 3] * 32),
            nn.Sequential(
                nn.Conv2d(64, 192, 3, padding=1, groups=64, bias=False), nn.Conv2d(192, 64, 1)
            ),
            nn.Conv2d(64, 64, 3, padding=1),
            (1, 64, 28, 28),
        ),
    ]
    return found


def forward(module: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    """One pass without gradients."""

    def run() -> object:
        with torch.no_grad():
            return module(image)

    return run


def training(module: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    """A forward and a backward pass."""

    def run() -> object:
        module.zero_grad()
        return module(image).sum().backward()

    return run


def medians(runs: list[Callable[[], object]], seconds: float) -> list[float]:
    """The median time of each, run in turn, in random order, for so long."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs * 3:  # first calls allocate
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        # In another order each time: who runs after the dense layer finds other things in the cache.
        for run, found in random.sample(list(zip(runs, times, strict=True)), len(runs)):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(t) for t in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    parser.add_argument("--backward", action="store_true", help="forward and backward passes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random.seed(0)
    what = "forward and backward" if options.backward else "forward"
    print(f"{processor_name()}, {options.threads} threads, torch {torch.__version__}, {what}")
    print(f"{'layer':80} {'plain us':>9} {'layer/plain':>11} {'dense/layer':>11} {'mult.':>6}")
    make = training if options.backward else forward
    for contest in contests():
        image = torch.randn(contest.shape)
        modules = [contest.plain, contest.layer, contest.dense]
        plain, layer, dense = medians([make(m, image) for m in modules], options.seconds)
        saved = contest.layer.spec.multiplications / contest.layer.multiplications
        print(
            f"{contest.name:80} {plain * 1e6:9.0f} {layer / plain:11.3f} {dense / layer:11.2f} "
            f"{saved:6.2f}"
        )


if __name__ == "__main__":
    main()
