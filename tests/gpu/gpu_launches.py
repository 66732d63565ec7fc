"""Launches of every kernel at sizes of real networks and images, which are not run.

Tensors of layers are without memory. Images of filters are on the CPU and stand for those of a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import separable as sep
from separable import kernels
from separable.gpu import interpreting
from separable.gpu.depthwise_layers import (
    GpuDepthwise,
    run_depthwise_layer,
    run_to_input,
    run_weight_sums,
)
from separable.gpu.device_profile import for_capability
from separable.gpu.kernel_launch import Launch, recorded
from separable.gpu.layer_backward import (
    MiddleNorm,
    backward_gpu_layer,
    backward_norm_layer,
    run_moments,
)
from separable.gpu.layer_forward import GpuLayer, run_layer
from separable.gpu.rank_terms import RankTerms, run_rank_passes
from separable.gpu.tuned_tiles import assumed_device

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
    stride: int = 1
    acts: tuple[int, int] = (1, 1)
    exact: bool = False

    @property
    def name(self) -> str:
        """Name in the list of tests."""
        size, kind = "x".join(map(str, self.size)), str(self.dtype).removeprefix("torch.")
        more = [f"stride {self.stride}"] * (self.stride > 1) + ["exact"] * self.exact
        layout = "last" if self.last else "first"
        return "-".join(
            [f"{self.channels}-{self.outputs}-{size}-k{self.kernel}-{kind}-{layout}", *more]
        )

    def tensor(self, *shape: int, last: bool = False) -> Tensor:
        """Return a tensor without memory."""
        made = torch.empty(shape, dtype=self.dtype, device="meta")
        return made.contiguous(memory_format=FORMATS[len(shape) - 2]) if last else made

    @property
    def x(self) -> Tensor:
        """Input."""
        return self.tensor(self.images, self.channels, *self.size, last=self.last)

    @property
    def out(self) -> Tensor:
        """Output."""
        size = [-(-n // self.stride) for n in self.size]
        return self.tensor(self.images, self.outputs, *size, last=self.last)

    @property
    def layer(self) -> GpuLayer:
        """Layer with activations after both steps."""
        axes, half = len(self.size), self.kernel // 2
        window = (self.stride,) * axes, (half,) * (2 * axes), (1,) * axes
        c, o = self.channels, self.outputs
        return GpuLayer(
            self.tensor(c, 1, *[self.kernel] * axes), self.tensor(c), self.tensor(o, c, *[1] * axes),
            self.tensor(o), window, self.acts,
        )  # fmt: skip

    @property
    def step(self) -> GpuDepthwise:
        """Depthwise step alone."""
        layer = self.layer
        return GpuDepthwise(layer.depthwise, layer.between_bias, layer.window, 1)


SILU = 3
WORKS = (
    Work(16, 64, 128, (512, 512), 3, torch.float32, False),  # KernelBench, task 86
    Work(32, 128, 128, (56, 56), 3, torch.bfloat16, True),
    Work(32, 64, 64, (112, 112), 3, torch.bfloat16, True),
    Work(32, 256, 256, (28, 28), 3, torch.bfloat16, True),
    Work(16, 64, 128, (512, 512), 3, torch.float32, True),
    Work(2, 32, 64, (64, 64, 64), 3, torch.float16, True),
    Work(2, 32, 64, (64, 64, 64), 3, torch.float32, False),
    Work(32, 512, 512, (14, 14), 3, torch.bfloat16, True),  # more outputs than one program sums
    Work(32, 96, 24, (112, 112), 5, torch.float16, True, 2, (SILU, SILU)),
    Work(8, 64, 128, (16384,), 9, torch.bfloat16, False, 1, (SILU, SILU)),
    Work(32, 128, 128, (56, 56), 3, torch.float32, False, exact=True),  # three products of TF32
)
LARGE = (
    Work(32, 64, 64, (56, 56), 7, torch.bfloat16, False),
    Work(16, 64, 64, (56, 56), 31, torch.float32, False),
    Work(16, 64, 64, (56, 56), 31, torch.float16, True),
    Work(16, 64, 64, (56, 56), 13, torch.float32, False, exact=True),
)


@contextlib.contextmanager
def _settings(work: Work) -> Iterator[None]:
    """Set whether products of float32 may be rounded to TF32, as a user would."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = not work.exact
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def layer_launches(work: Work) -> list[Launch]:
    """Return the launches of the forward pass, of all gradients, and of training with a normalisation."""
    x, layer, out = work.x, work.layer, work.out
    wide = torch.empty(work.channels, device="meta")
    with _settings(work), recorded(run=False) as launches:
        run_layer(x, layer, out)
        backward_gpu_layer(out, x, layer, out, to_input=True)
        run_moments(x, work.step)
        norm = MiddleNorm(wide, wide, wide)
        backward_norm_layer(out, x, layer, norm, work.step, to_input=False)
    return launches


def depthwise_launches(work: Work) -> list[Launch]:
    """Return the launches of a depthwise layer alone and of its gradients."""
    x = work.x
    with _settings(work), recorded(run=False) as launches:
        run_depthwise_layer(x, work.step, torch.empty_like(x))
        run_to_input(x, x, work.step, torch.empty_like(x))
        run_weight_sums(x, x, work.step)
        if work.kernel > 3:
            lines = work.tensor(2 * work.channels, work.kernel)
            starts = torch.empty(work.channels + 1, dtype=torch.int32, device="meta")
            half = (work.kernel // 2,) * 4
            run_rank_passes(x, RankTerms(lines, lines, starts, None), ((1, 1), half, (1, 1)), 0)
    return launches


@dataclass(frozen=True)
class FilterWork:
    """A filter or a bank of a large image."""

    shape: tuple[int, ...]
    kernel: Any
    dtype: torch.dtype = torch.float32
    options: Any = None

    @property
    def bands(self) -> int:
        """Number of results."""
        return len(self.kernel) if isinstance(self.kernel, list) else 1

    def launch(self) -> Launch:
        """Return the launch."""
        image, options = torch.empty(self.shape, dtype=self.dtype), self.options or {}
        with interpreting(), recorded(run=False) as made:
            if isinstance(self.kernel, list):
                kind = str(self.dtype).removeprefix("torch.")
                sep.bank(self.kernel, self.shape, kind, **options)(image)
            else:
                sep.convolve(image, self.kernel, method="triton", **options)
        (only,) = made
        return only


GAUSSIAN = kernels.gaussian(2)  # of 17 taps along each axis
PLANE, VOLUME = (1024, 1024), (64, 128, 128)
SIX = [
    "gaussian:2",
    *(f"gaussian:2,order={y}x{x}" for y, x in ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))),
]
FILTERS = {
    "plane": FilterWork(PLANE, GAUSSIAN),
    "plane, constant": FilterWork(PLANE, GAUSSIAN, options={"mode": "constant", "cval": 1.5}),
    "plane, float16": FilterWork(PLANE, GAUSSIAN, torch.float16),
    "plane, bfloat16": FilterWork(PLANE, GAUSSIAN, torch.bfloat16),
    "plane, uint8": FilterWork(PLANE, GAUSSIAN, torch.uint8),
    "plane, float64": FilterWork(PLANE, GAUSSIAN, torch.float64),
    "batch, channels inside": FilterWork((4, 256, 256, 16), GAUSSIAN, options={"axes": (1, 2)}),
    "sum of two products": FilterWork(PLANE, kernels.laplacian_of_gaussian(1.5)),
    "one axis": FilterWork(PLANE, kernels.gaussian1d(4), options={"axes": 0}),
    "six derivatives": FilterWork(PLANE, SIX),
    "volume": FilterWork(VOLUME, kernels.gaussian(2, ndim=3)),
    "volume, three sums": FilterWork(VOLUME, kernels.laplacian_of_gaussian(1, ndim=3)),
}


def all_launches(capability: int) -> list[tuple[str, Launch]]:
    """Return names and launches, each kernel once per layer, with the tiles for a generation of GPUs."""
    found = []
    with assumed_device(for_capability(divmod(capability, 10))):
        made = [(w.name, layer_launches(w)) for w in WORKS]
        made += [(w.name, depthwise_launches(w)) for w in (*WORKS[:2], *LARGE)]
        made += [(name, [work.launch()]) for name, work in FILTERS.items()]
    for name, launches in made:
        seen = set()
        for each in launches:
            key = (each.name, str(sorted(each.constants.items(), key=str)))
            if key not in seen:
                seen.add(key)
                found.append((f"{each.name}-{name}", each))
    return found
