"""Predicted and measured times of networks that the profile of layers never saw.

    python benchmarks/layer_times.py [--runtimes torch,fused,onnxruntime] [--only NAME,...] [--seconds S] [--output FILE]

The profile is the one that `separable machine --layers` measured, or the shipped one. For each network and runtime the
script prints the shortest measured time of a call and the predicted one; for PyTorch, whose layers can be timed one by
one with hooks, also the part of the layers that are predicted within 30 %. Layers that take less than 1 % of
their network are counted apart: a hook takes about as long as they do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from separable.nn import ledger, models
from separable.nn.convert.network_times import shortest_times
from separable.nn.runtimes.eager_runtime import warmed
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.step_times.layer_profile import current_profile

GOAL, WITHIN, LAYERS_GOAL = 0.12, 0.3, 0.9
SMALL = 0.01  # of the network's time: layers below are counted apart
SECONDS = 1.0  # per network and runtime
RUNS = 15  # of a network whose layers are timed one by one


def conv(channels: int, filters: int, size: int = 3, stride: int = 1, groups: int = 1,
         act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(filters), act(),
    )  # fmt: skip


class Residual(nn.Module):
    """Two convolutions and a shortcut (He et al., 2015)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, filters, 3, stride), conv(filters, filters, act=nn.Identity)
        )
        same = channels == filters and stride == 1
        self.skip = nn.Identity() if same else conv(channels, filters, 1, stride, act=nn.Identity)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.skip(x))


def resnet18(width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [conv(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for at in range(4):
        filters = width * 2**at
        layers += [Residual(channels, filters, 1 if at == 0 else 2), Residual(filters, filters, 1)]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def vgg(*stages: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for stage in stages:
        for filters in stage:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Inverted(nn.Module):
    """Inverted residual (Sandler et al., 2018)."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.body = nn.Sequential(
            conv(channels, inner, 1, act=nn.ReLU6),
            conv(inner, inner, 3, stride, inner, nn.ReLU6),
            conv(inner, filters, 1, act=nn.Identity),
        )
        self.adds = channels == filters and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x if self.adds else self.body(x)


def mobilenet_v2(width: float = 1.0) -> nn.Sequential:
    def scaled(filters: int) -> int:
        return max(8, int(filters * width / 8) * 8)

    channels = scaled(32)
    layers: list[nn.Module] = [conv(3, channels, 3, 2, act=nn.ReLU6)]
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for expansion, filters, count, stride in stages:
        for at in range(count):
            layers.append(Inverted(channels, scaled(filters), stride if at == 0 else 1, expansion))
            channels = scaled(filters)
    last = [conv(channels, 1280, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *last, nn.Linear(1280, 1000))


class UShaped(nn.Module):
    """U-Net (Ronneberger et al., 2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width * 2**k for k in range(4)]
        self.down = nn.ModuleList(
            nn.Sequential(conv(a, b), conv(b, b)) for a, b in zip([1, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(sizes)
        )
        self.join = nn.ModuleList(nn.Sequential(conv(2 * a, a), conv(a, a)) for a in sizes[:-1])
        self.pools = nn.ModuleList(nn.MaxPool2d(2) for _ in sizes[1:])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for at, block in enumerate(self.down):
            x = block(x)
            if at < len(self.pools):
                kept.append(x)
                x = self.pools[at](x)
        for at in reversed(range(len(self.up))):
            x = self.join[at](torch.cat([self.up[at](x), kept[at]], 1))
        return self.head(x)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18 112": (resnet18, (1, 3, 112, 112)),
    "resnet18/2 160": (lambda: resnet18(32), (1, 3, 160, 160)),
    "resnet18 64, batch 4": (lambda: resnet18(48), (4, 3, 64, 64)),
    "vgg11 64": (lambda: vgg([64], [128], [256, 256], [512, 512]), (1, 3, 64, 64)),
    "vgg16 112": (
        lambda: vgg([64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3), (1, 3, 112, 112)
    ),
    "mobilenet_v2 224": (mobilenet_v2, (1, 3, 224, 224)),
    "mobilenet_v2/2 128": (lambda: mobilenet_v2(0.5), (1, 3, 128, 128)),
    "u-net 24 128": (lambda: UShaped(24), (1, 1, 128, 128)),
    "u-net 16 192": (lambda: UShaped(16), (1, 1, 192, 192)),
    "mobilenet_v1 160": (lambda: models.create("mobilenet_v1"), (1, 3, 160, 160)),
    "efficientnet_b0 128": (lambda: models.create("efficientnet_b0"), (1, 3, 128, 128)),
    "xception 128": (lambda: models.create("xception"), (1, 3, 128, 128)),
}  # fmt: skip


def layer_times(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Return the shortest time of each leaf module in PyTorch, the sum of its calls."""
    names = {m: n for n, m in net.named_modules() if not list(m.children())}
    begun: dict[nn.Module, float] = {}
    found: dict[str, float] = {}
    current: dict[str, float] = {}

    def before(module: nn.Module, args: Any) -> None:
        begun[module] = time.perf_counter()

    def after(module: nn.Module, args: Any, output: Any) -> None:
        taken = time.perf_counter() - begun[module]
        current[names[module]] = current.get(names[module], 0.0) + taken

    handles = [
        h
        for m in names
        for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))
    ]
    with torch.no_grad():
        for _ in range(RUNS):
            current.clear()
            net(x)
            for name, seconds in current.items():
                found[name] = min(found.get(name, math.inf), seconds)
    for handle in handles:
        handle.remove()
    return found


def compare(name: str, runtimes: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """Return the measured and predicted times of one network in each runtime."""
    build, shape = NETWORKS[name]
    net, x = build().eval(), torch.rand(shape)
    predicted = ledger(net, shape, backward=False).seconds(*runtimes)
    rows = []
    for runtime in runtimes:
        row: dict[str, Any] = {"network": name, "runtime": runtime}
        try:
            run = RUNTIMES[runtime].prepared(net, [x])
        except Exception as problem:  # a network that cannot be exported is reported, not hidden
            print(f"{name:22} {runtime:12} not measured: {str(problem).splitlines()[0][:90]}")
            continue
        row["measured"] = shortest_times([run], seconds)[0]
        row["predicted"] = predicted.total[runtime]
        if runtime == "torch":
            taken = layer_times(net, x)
            pairs = [
                (predicted[n].seconds[runtime] / t - 1, t / row["measured"])
                for n, t in taken.items()
                if any(layer.name == n for layer in predicted.layers)
            ]
            row["layers"] = [e for e, share in pairs if share >= SMALL]
            row["small layers"] = [e for e, share in pairs if share < SMALL]
        rows.append(row)
        print(
            f"{name:22} {runtime:12} measured {row['measured'] * 1e3:7.2f} ms, "
            f"predicted {row['predicted'] * 1e3:7.2f} ms, "
            f"{row['predicted'] / row['measured'] - 1:+.0%}",
            flush=True,
        )
    return rows


def summary(rows: Sequence[dict[str, Any]], runtimes: Sequence[str]) -> list[str]:
    """Return one sentence per runtime and aim."""
    lines = []
    for runtime in runtimes:
        own = [r for r in rows if r["runtime"] == runtime]
        if not own:
            continue
        errors = [abs(r["predicted"] / r["measured"] - 1) for r in own]
        median = statistics.median(errors)
        met = "met" if median <= GOAL else "missed"
        lines.append(
            f"{runtime}: median error of {len(own)} networks {median:.1%}, largest {max(errors):.0%} "
            f"(aim {GOAL:.0%}: {met})"
        )
        for kind in ("layers", "small layers"):
            found = [abs(e) for r in own for e in r.get(kind, ())]
            if found:
                share = sum(e <= WITHIN for e in found) / len(found)
                lines.append(
                    f"{runtime}: {share:.0%} of {len(found)} {kind} within {WITHIN:.0%}"
                    + (f" (aim {LAYERS_GOAL:.0%})" if kind == "layers" else "")
                )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtimes", default="torch,fused,onnxruntime")
    parser.add_argument("--only", help="names of networks that contain one of these words")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per network and runtime")
    parser.add_argument("--output", type=Path, help="JSON file; rows of earlier runs are kept")
    args = parser.parse_args()
    runtimes = [r for r in args.runtimes.split(",") if not RUNTIMES[r].why_not()]
    rows: list[dict[str, Any]] = []
    if args.output and args.output.exists():
        rows = json.loads(args.output.read_text())["rows"]
    warmed()
    for name in NETWORKS:
        if args.only is None or any(word in name for word in args.only.split(",")):
            new = compare(name, runtimes, args.seconds)
            keys = {(r["network"], r["runtime"]) for r in new}
            rows = [r for r in rows if (r["network"], r["runtime"]) not in keys] + new
    lines = summary(rows, runtimes)
    print("\n".join(lines))
    if args.output:
        values = {"profile": current_profile().origin, "rows": rows, "summary": lines}
        args.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
