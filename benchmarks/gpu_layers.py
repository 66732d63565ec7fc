"""Layers on a GPU: what is compared, checked against float64 and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from separable.nn.fused import autograd as _autograd  # noqa: F401

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}
ERRORS = {torch.float32: 2e-3, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest errors that pass, relative to the largest value; TF32 rounds factors to 10 bits."""


@dataclass(frozen=True)
class LayerWork:
    """A depthwise layer, with a pointwise one if it has outputs."""

    title: str
    images: int
    channels: int
    outputs: int
    size: tuple[int, ...]
    kernel: int
    dtype: torch.dtype
    trains: bool
    target: float

    def toy(self) -> LayerWork:
        """Return the same work on a tiny input."""
        size, kernel = tuple(5 for _ in self.size), min(self.kernel, 7)
        return LayerWork(
            self.title,
            1,
            3,
            min(self.outputs, 4),
            size,
            kernel,
            self.dtype,
            self.trains,
            self.target,
        )

    def tensors(self, device: str, *, last: bool) -> list[Tensor]:
        """Return an input and weights."""
        axes, generator = len(self.size), torch.Generator().manual_seed(0)
        shapes = [
            (self.images, self.channels, *self.size),
            (self.channels, 1, *[self.kernel] * axes),
        ]
        if self.outputs:
            shapes.append((self.outputs, self.channels, *[1] * axes))
        made = []
        for number, shape in enumerate(shapes):
            fan = max(1, self.kernel**axes if number == 1 else self.channels if number else 1)
            drawn = torch.randn(shape, generator=generator) / fan**0.5
            made.append(drawn.to(device=device, dtype=self.dtype))
        if last:
            made[0] = made[0].contiguous(memory_format=FORMATS[axes])
        return made

    def ours(self, x: Tensor, depthwise: Tensor, *pointwise: Tensor) -> Tensor:
        """Run our operator."""
        axes = len(self.size)
        window = [1] * axes, [self.kernel // 2] * (2 * axes), [1] * axes
        found: Tensor
        if pointwise:
            operator = torch.ops.separable.depthwise_separable
            found = operator(x, depthwise, None, *pointwise, None, *window, "relu", "relu")
        else:
            found = torch.ops.separable.depthwise(x, depthwise, None, *window, "none")
        return found

    def eager(self, x: Tensor, depthwise: Tensor, *pointwise: Tensor) -> Tensor:
        """Run PyTorch's operators."""
        convolve = CONVOLUTIONS[len(self.size)]
        middle = convolve(x, depthwise, padding=self.kernel // 2, groups=self.channels)
        return torch.relu(convolve(torch.relu(middle), *pointwise)) if pointwise else middle

    @property
    def floor_bytes(self) -> int:
        """Bytes of one read of the input and one write of the output; a training step moves each twice more."""
        positions = self.images
        for n in self.size:
            positions *= n
        once = positions * (self.channels + (self.outputs or self.channels)) * self.dtype.itemsize
        return 3 * once if self.trains else once


def works() -> Iterator[LayerWork]:
    """Yield the layers of the issue's table."""
    half = torch.bfloat16
    yield LayerWork("KernelBench task 86", 16, 64, 128, (512, 512), 3, torch.float32, False, 2.1)
    for size, channels in ((112, 64), (56, 128), (28, 256)):
        for trains in (False, True):
            title = f"pair {size}^2 x {channels}{', training step' if trains else ''}"
            target = 1.5 if trains else 2.0
            yield LayerWork(title, 32, channels, channels, (size, size), 3, half, trains, target)
    yield LayerWork("3-D 3^3, 32 -> 64 at 64^3", 2, 32, 64, (64,) * 3, 3, half, False, 2.0)
    for kernel, target in ((7, 3.0), (31, 8.0)):
        for trains in (False, True):
            title = f"depthwise {kernel} x {kernel}{', forward and backward' if trains else ''}"
            yield LayerWork(title, 16, 64, 0, (56, 56), kernel, torch.float32, trains, target)


def step(function: Callable[..., Tensor], tensors: list[Tensor], upstream: Tensor) -> list[Tensor]:
    """Run a layer and its gradients."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    return list(torch.autograd.grad(function(*leaves), leaves, upstream))


def error_of(work: LayerWork, device: str, *, last: bool) -> float:
    """Return the largest error of results and gradients relative to the largest value of float64."""
    # A slice of the batch: float64 on a GPU takes many times as long.
    tensors = work.tensors(device, last=last)
    tensors[0] = tensors[0][:1]
    wide = [t.double() for t in tensors]
    pairs = [(work.ours(*tensors), work.eager(*wide))]
    if work.trains:
        upstream = torch.randn_like(pairs[0][0])
        pairs += zip(
            step(work.ours, tensors, upstream),
            step(work.eager, wide, upstream.double()),
            strict=True,
        )
    return max(
        float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-9)) for a, b in pairs
    )


def candidates(work: LayerWork, device: str) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    found: dict[str, Callable[[], object]] = {}
    compiled = torch.compile(work.eager)
    for last in (False, True):
        tensors = work.tensors(device, last=last)
        where = "last" if last else "first"
        for name, function in (("ours", work.ours), ("eager", work.eager), ("compiled", compiled)):
            if work.trains:
                upstream = torch.ones_like(work.eager(*tensors))
                found[f"{name}, {where}"] = partial(step, function, tensors, upstream)
            else:
                found[f"{name}, {where}"] = partial(function, *tensors)
    return found
