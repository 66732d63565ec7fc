"""A network of the size of ResNet-50 converts in bounded time and memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from separable.nn.convert import convert
from separable.nn.ledger import ledger

SHAPE = (1, 3, 224, 224)
KIB_PER_GIB = 2**20
BUDGET = 0.7  # kernels of size 1 take half of its multiplications


class Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def resnet50() -> nn.Sequential:
    """He et al. (2015), with the stride on the 3x3 convolutions as everyone has it now."""
    blocks: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    ]  # fmt: skip
    channels = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(count):
            blocks.append(Bottleneck(channels, width, stride if k == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(2048, 1000))


def test_the_network_is_resnet50() -> None:
    with torch.device("meta"):
        net = resnet50()
    found = ledger(net.eval(), SHAPE, backward=False).total
    assert found.parameters == 25_557_032
    assert found.macs == 4_089_184_256  # torchvision's 4.09 G


def converted_in_a_process(images: int) -> dict[str, float]:
    """Time and peak memory of a process of its own: others' memory does not count."""
    command = [sys.executable, __file__, str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    return found


@pytest.mark.long
def test_resnet50_without_data_in_a_minute() -> None:
    found = converted_in_a_process(0)
    assert found["seconds"] < 60
    assert found["gib"] < 4
    assert found["share"] <= BUDGET


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_resnet50_with_64_images_in_ten_minutes() -> None:
    found = converted_in_a_process(64)
    assert found["seconds"] < 600
    assert found["gib"] < 4
    assert found["share"] <= BUDGET
    assert found["error"] <= found["plain_error"]


def main(images: int) -> None:
    torch.manual_seed(0)
    net = resnet50().eval()
    how: dict[str, Any] = {"input_shape": SHAPE}
    if images:
        how = {"data": list(torch.randn(images, *SHAPE[1:]).split(8))}
    start = time.process_time()  # limits under load are on CPU time
    small, report = convert(net, budget=BUDGET, **how)
    seconds = time.process_time() - start
    counted = [ledger(m, SHAPE, backward=False).total.multiplications for m in (small, net)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    found = {"seconds": seconds, "gib": peak, "share": counted[0] / counted[1]}
    if images:
        found |= {"error": report.output_error, "plain_error": report.plain_output_error}
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
