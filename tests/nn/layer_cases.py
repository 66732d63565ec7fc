"""Drawn layers for tests with Hypothesis: windows, sizes and tensors; and dense convolutions by PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from separable.nn.fused.dense_layer import ConvSettings
from separable.nn.fused.operators import activate


def last(x: Tensor) -> Tensor:
    """Return a tensor with its channels last in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def drawn_size(
    draw: Callable[..., Any], window: tuple[Any, Any, Any], extra: int, least: int = 1
) -> list[int]:
    """Return sizes of an input that a kernel of `window` (kernel, padding, dilation) fits, up to `extra` larger."""
    kernel, padding, dilation = window
    smallest = [
        max(least, d * (k - 1) + 1 - padding[2 * i] - padding[2 * i + 1])
        for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    ]
    return [n + draw(st.integers(0, extra)) for n in smallest]


def normal_numbers(draw: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return a function that draws tensors of normal numbers."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    return lambda *shape: torch.randn(*shape, generator=generator)


class DrawnLayer(NamedTuple):
    """A separable layer and its input; the biases are there."""

    x: Tensor
    depthwise: Tensor
    between_bias: Tensor
    pointwise: Tensor
    bias: Tensor
    window: tuple[list[int], list[int], list[int]]
    normal: Callable[..., Tensor]


def drawn_layer(draw: Callable[..., Any], *, images: tuple[int, int], least: int = 1) -> DrawnLayer:
    """Return a separable layer over one to three axes, with channels first or last; many kernels are 3x3."""
    ndim = draw(st.integers(1, 3))

    def each(low: int, high: int, count: int = ndim) -> list[int]:
        found: list[int] = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
        return found

    kernel, stride, dilation = each(1, 5), each(1, 3), each(1, 2)
    if draw(st.booleans()):
        kernel = [3] * ndim
    padding = each(0, 3, 2 * ndim)
    size = drawn_size(draw, (kernel, padding, dilation), 17 if ndim < 3 else 5, least)
    channels, multiplier = draw(st.sampled_from([1, 2, 3, 8, 16, 17, 33])), draw(st.integers(1, 2))
    outputs, depth = draw(st.sampled_from([1, 5, 16, 31, 64, 70])), channels * multiplier
    normal = normal_numbers(draw)
    x = normal(draw(st.integers(*images)), channels, *size)
    x = last(x) if draw(st.booleans()) else x
    return DrawnLayer(
        x, normal(depth, 1, *kernel), normal(depth), normal(outputs, depth, *[1] * ndim),
        normal(outputs), (stride, padding, dilation), normal,
    )  # fmt: skip


def dense_by_torch(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, own: ConvSettings, act: str
) -> Tensor:  # fmt: skip
    """Return the result of a dense convolution, with a residual and an activation, by PyTorch in float64."""
    convolve: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[x.dim() - 3]
    ends = [
        n for axis in reversed(range(x.dim() - 2)) for n in own.padding[2 * axis : 2 * axis + 2]
    ]
    wide = functional.pad(x.double(), ends)
    offset = None if bias is None else bias.double()
    out = convolve(wide, weight.double(), offset, own.stride, 0, own.dilation, own.groups)
    return activate(out if residual is None else out + residual.double(), act)
