"""Random small layers for the GPU kernels, with float64 results of PyTorch's own operators as oracle."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import Window, activate, by_torch, depthwise_by_torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ERRORS = {torch.float32: 3e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Largest errors relative to the largest value; the interpreter rounds to bfloat16 towards zero."""
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass
class LayerCase:
    """A random layer and its input."""

    ndim: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    tensors: list[Tensor | None]
    window: tuple[Any, Any, Any]
    between: str
    act: str
    last: bool
    x: Tensor = field(init=False)

    @classmethod
    def drawn(cls, seed: int, *, smooth: bool = False) -> LayerCase:
        """Return the case of a seed; `smooth` leaves out activations with corners, and float16."""
        draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        ndim, dtype = draw.choice((1, 2, 2, 2, 3)), draw.choice(DTYPES)
        channels, multiplier = draw.choice((1, 2, 3, 7, 16, 19)), draw.choice((1, 1, 1, 2, 3))
        outputs, images = draw.choice((1, 3, 8, 17, 33)), draw.choice((1, 1, 2, 3))
        kernel = [draw.choice((1, 2, 3, 3, 5)) for _ in range(ndim)]
        stride = [draw.choice((1, 1, 2, 3)) for _ in range(ndim)]
        dilation = [draw.choice((1, 1, 2)) for _ in range(ndim)]
        padding = [draw.choice((0, 1, 2)) for _ in range(2 * ndim)]
        most = {1: 40, 2: 11, 3: 5}[ndim]
        least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        size = [max(draw.randint(1, most), n) for n in least]

        def tensor(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(dtype)

        depth = channels * multiplier
        tensors = [
            tensor(depth, 1, *kernel) / math.sqrt(math.prod(kernel)),
            tensor(depth) if draw.random() < 0.6 else None,
            tensor(outputs, depth, *[1] * ndim) / math.sqrt(depth),
            tensor(outputs) if draw.random() < 0.6 else None,
        ]  # fmt: skip
        acts = (
            ACTIVATIONS if not smooth else ("none", "silu", "sigmoid", "gelu", "gelu_tanh", "tanh")
        )
        case = cls(
            ndim, dtype, (images, channels, *size), tensors, (stride, padding, dilation),
            draw.choice(acts), draw.choice(acts), draw.random() < 0.5 and ndim > 1,
        )  # fmt: skip
        x = tensor(*case.shape)
        case.x = x.contiguous(memory_format=LAYOUTS[ndim]) if case.last else x
        return case

    def wide(self) -> list[Tensor | None]:
        """Return the input and the parameters in float64."""
        return [None if t is None else t.double() for t in (self.x, *self.tensors)]

    def oracle(self, x: Tensor, *tensors: Any) -> Tensor:
        """Return the layer by PyTorch's own operators."""
        return by_torch(x, tensors, Window(*self.window), self.between, self.act)

    def depthwise_oracle(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the depthwise step and its activation by PyTorch's own operators."""
        return activate(depthwise_by_torch(x, weight, bias, *self.window), self.between)

    @property
    def allowed(self) -> float:
        """Largest error relative to the largest value."""
        return ERRORS[self.dtype]


def error_of(found: Tensor, wanted: Tensor) -> float:
    """Return the largest error relative to the largest value."""
    assert found.shape == wanted.shape
    if wanted.numel() == 0:
        return 0.0
    scale = max(float(wanted.abs().max()), 1e-3)
    return float((found.double() - wanted.double()).abs().max()) / scale


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    """Return a depthwise convolution of two axes with an odd kernel and padding that keeps the size."""
    pads = [n // 2 for n in weight.shape[2:]]
    return functional.conv2d(x, weight, padding=pads, groups=x.shape[1])
