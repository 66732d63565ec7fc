"""Launches of every kernel of the layers at sizes of real networks, made from tensors without memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from separable.gpu.depthwise_layers import (
    GpuDepthwise,
    run_depthwise_layer,
    run_to_input,
    run_weight_sums,
)
from separable.gpu.kernel_launch import Launch, recorded
from separable.gpu.large_depthwise import RankTerms, run_rank_passes
from separable.gpu.layer_backward import (
    MiddleNorm,
    backward_gpu_layer,
    backward_norm_layer,
    run_moments,
)
from separable.gpu.layer_forward import GpuLayer, run_layer

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Work:
    """A layer of a network."""

    images: int
    channels: int
    outputs: int
    size: tuple[int, ...]
    kernel: int
    dtype: torch.dtype
    last: bool

    @property
    def name(self) -> str:
        """Name in the list of tests."""
        size, kind = "x".join(map(str, self.size)), str(self.dtype).removeprefix("torch.")
        return f"{self.channels}-{self.outputs}-{size}-k{self.kernel}-{kind}-{'last' if self.last else 'first'}"

    def tensor(self, *shape: int, last: bool = False) -> Tensor:
        """Return a tensor without memory."""
        made = torch.empty(shape, dtype=self.dtype, device="meta")
        return made.contiguous(memory_format=FORMATS[len(shape) - 2]) if last else made

    @property
    def x(self) -> Tensor:
        """Input."""
        return self.tensor(self.images, self.channels, *self.size, last=self.last)

    @property
    def layer(self) -> GpuLayer:
        """Layer with ReLU after both steps."""
        axes, half = len(self.size), self.kernel // 2
        window = (1,) * axes, (half,) * (2 * axes), (1,) * axes
        c, o = self.channels, self.outputs
        return GpuLayer(
            self.tensor(c, 1, *[self.kernel] * axes), self.tensor(c), self.tensor(o, c, *[1] * axes),
            self.tensor(o), window, (1, 1),
        )  # fmt: skip

    @property
    def step(self) -> GpuDepthwise:
        """Depthwise step alone."""
        layer = self.layer
        return GpuDepthwise(layer.depthwise, layer.between_bias, layer.window, 1)


WORKS = (
    Work(16, 64, 128, (512, 512), 3, torch.float32, False),  # KernelBench, task 86
    Work(32, 128, 128, (56, 56), 3, torch.bfloat16, True),
    Work(32, 64, 64, (112, 112), 3, torch.bfloat16, True),
    Work(32, 256, 256, (28, 28), 3, torch.bfloat16, True),
    Work(16, 64, 128, (512, 512), 3, torch.float32, True),
    Work(2, 32, 64, (64, 64, 64), 3, torch.float16, True),
    Work(2, 32, 64, (64, 64, 64), 3, torch.float32, False),
)
LARGE = (
    Work(32, 64, 64, (56, 56), 7, torch.bfloat16, False),
    Work(16, 64, 64, (56, 56), 31, torch.float32, False),
    Work(16, 64, 64, (56, 56), 31, torch.float16, True),
)


def layer_launches(work: Work) -> list[Launch]:
    """Return the launches of the forward pass, of all gradients, and of training with a normalisation."""
    x, layer = work.x, work.layer
    out = work.tensor(work.images, work.outputs, *work.size, last=work.last)
    wide = torch.empty(work.channels, device="meta")
    with recorded(run=False) as launches:
        run_layer(x, layer, out)
        backward_gpu_layer(out, x, layer, out, to_input=True)
        run_moments(x, work.step)
        norm = MiddleNorm(wide, wide, wide)
        backward_norm_layer(out, x, layer, norm, work.step, to_input=False)
    return launches


def depthwise_launches(work: Work) -> list[Launch]:
    """Return the launches of a depthwise layer alone and of its gradients."""
    x = work.x
    with recorded(run=False) as launches:
        run_depthwise_layer(x, work.step, torch.empty_like(x))
        run_to_input(x, x, work.step, torch.empty_like(x))
        run_weight_sums(x, x, work.step)
        if work.kernel > 3:
            lines = work.tensor(2 * work.channels, work.kernel)
            starts = torch.empty(work.channels + 1, dtype=torch.int32, device="meta")
            half = (work.kernel // 2,) * 4
            run_rank_passes(x, RankTerms(lines, lines, starts, None), ((1, 1), half, (1, 1)), 0)
    return launches


def all_launches() -> Iterator[tuple[str, Launch]]:
    """Yield names and launches, each kernel once per layer."""
    for work, make in [(w, layer_launches) for w in WORKS] + [
        (w, depthwise_launches) for w in (*WORKS[:2], *LARGE)
    ]:
        seen = set()
        for made in make(work):
            key = (made.name, str(sorted(made.constants.items(), key=str)))
            if key not in seen:
                seen.add(key)
                yield f"{made.name}-{work.name}", made
