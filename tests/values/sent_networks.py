"""Networks of every fused module, that have run, and a program that gives them to workers of a DataLoader."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn as tnn

import separable as sep
from separable import nn
from separable.engine import METHODS


def networks() -> dict[str, tuple[tnn.Module, torch.Tensor]]:
    """Return networks, fused and as they were, each with an input; none of them has run on it yet."""
    torch.manual_seed(0)
    blocks = {
        "separable": [tnn.Conv2d(6, 6, 3, padding=1, groups=6), tnn.ReLU(), tnn.Conv2d(6, 9, 1)],
        "depthwise": [tnn.Conv2d(6, 6, 3, padding=1, groups=6), tnn.ReLU6()],
        "depthwise 1-D": [tnn.Conv1d(6, 6, 3, groups=6), tnn.ReLU()],
        "pointwise": [tnn.Conv2d(6, 5, 1), tnn.BatchNorm2d(5), tnn.SiLU()],
        "pair": [tnn.Conv2d(6, 8, (3, 1)), tnn.ReLU(), tnn.Conv2d(8, 4, (1, 3)), tnn.ReLU()],
        "other": [tnn.Conv2d(6, 8, 3), tnn.BatchNorm2d(8), tnn.ReLU()],
    }
    found: dict[str, tuple[tnn.Module, torch.Tensor]] = {}
    for name, layers in blocks.items():
        x = torch.randn(2, 6, 40) if "1-D" in name else torch.randn(2, 6, 20, 40)
        found[name] = nn.fuse(tnn.Sequential(*layers).eval(), x)[0], x
    found["layer"] = nn.SeparableConv2d(6, 9, 3, padding="same").eval(), torch.randn(2, 6, 20, 40)
    return found


def ran() -> dict[str, tuple[tnn.Module, torch.Tensor, torch.Tensor]]:
    """Return all networks with inputs and what they made of them."""
    with torch.no_grad():
        return {name: (net, x, net(x)) for name, (net, x) in networks().items()}


class Applied(torch.utils.data.Dataset[Any]):
    """Return the outputs of values that have already run, one after the other."""

    def __init__(self, values: list[tuple[Any, Any]]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        value, x = self.values[index]
        with torch.no_grad():
            return torch.as_tensor(value(x))


def main(*starts: str) -> None:
    """Print, for each way to start workers, the values that make something else there, or "the same"."""
    warnings.simplefilter("ignore")
    # A worker has one thread: results of PyTorch's own operators depend on the number.
    torch.set_num_threads(1)
    values = ran()
    image = np.random.default_rng(0).random((30, 40), dtype="float32")
    for method in ("separable", "box", "direct"):
        if method in METHODS and METHODS[method].unavailable():
            continue  # the compiled engine cannot be used
        plan = sep.plan(np.ones((5, 5)), image.shape, image.dtype, method=method)
        values[method] = (plan, image, torch.as_tensor(plan(image)))  # type: ignore[assignment]
    data = Applied([(value, x) for value, x, _ in values.values()])
    for start in starts:
        loader = torch.utils.data.DataLoader(
            data, batch_size=None, num_workers=1, multiprocessing_context=start
        )
        pairs = zip(values.items(), loader, strict=True)
        wrong = [name for (name, value), made in pairs if not torch.equal(made, value[2])]
        print(start, ", ".join(wrong) or "the same", sep=": ", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
