"""Light steps beside pages of memory that cannot be touched, with scratch memory full of NaN."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from step_oracle import beside_guard_page
from torch import Tensor

from separable.engine.compiled import thread_pool
from separable.nn.fused.kernel_plan import KernelPlan
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import TransposePlan
from separable.nn.fused.openmp import run
from separable.nn.fused.steps import (
    AveragePlan,
    Copies,
    CopyPlan,
    Elementwise,
    ElementwisePlan,
    Excitation,
    ExcitationPlan,
    LayerNorm,
    LayerNormPlan,
    Pooling,
    PoolingPlan,
    SoftmaxPlan,
    linear_plan,
    pack_linear,
)
from separable.nn.fused.steps.copies import channel_shuffle, padding
from separable.nn.fused.steps.layer_norm import pack_layer_norm
from separable.nn.fused.steps.pooling import sliding_windows

IMAGES, SIZE = 2, 7
GELU = ACTIVATIONS.index("gelu")


def _elementwise(channels: int) -> tuple[KernelPlan, list[Tensor], int]:
    sizes = Elementwise(IMAGES, SIZE * SIZE, channels, "scale", GELU, "image")
    factors = [torch.randn(IMAGES, channels) for _ in range(2)]
    return ElementwisePlan(sizes, 2), factors, IMAGES * SIZE * SIZE * channels


def _pooling(channels: int, operation: str) -> tuple[KernelPlan, list[Tensor], int]:
    windows = sliding_windows(SIZE, 3, 2, 1)
    sizes = Pooling(IMAGES, channels, (sliding_windows(1, 1, 1), windows, windows), operation)
    return PoolingPlan(sizes, 2), [], IMAGES * 16 * channels


def _copy(sizes: Copies) -> tuple[KernelPlan, list[Tensor], int]:
    return CopyPlan(sizes, 2), [], int(torch.Size(sizes.out_shape).numel())


def _layer_norm(channels: int) -> tuple[KernelPlan, list[Tensor], int]:
    packed = pack_layer_norm(torch.randn(channels), torch.randn(channels), channels)
    rows = IMAGES * SIZE * SIZE
    return LayerNormPlan(LayerNorm(rows, channels, act=GELU), 2), list(packed), rows * channels


def _excitation(channels: int) -> tuple[KernelPlan, list[Tensor], int]:
    packed = [
        *pack_linear(torch.randn(5, channels), None),
        *pack_linear(torch.randn(channels, 5), None),
    ]
    acts = ACTIVATIONS.index("relu"), ACTIVATIONS.index("sigmoid")
    sizes = Excitation(IMAGES, channels, 5, acts, SIZE * SIZE, SIZE * SIZE)
    return ExcitationPlan(sizes, 2), packed, IMAGES * channels


def _linear(channels: int) -> tuple[KernelPlan, list[Tensor], int]:
    weights = torch.zeros(0), torch.zeros(0), *pack_linear(torch.randn(19, channels), None)
    return (
        linear_plan(IMAGES * SIZE * SIZE, channels, 19, GELU, 2),
        list(weights),
        IMAGES * SIZE * SIZE * 19,
    )


ROWS = IMAGES * SIZE * SIZE
IMAGE = (1, SIZE, SIZE)
STEPS: dict[str, Callable[[int], tuple[KernelPlan, list[Tensor], int]]] = {
    "elementwise": _elementwise,
    "dense elementwise": lambda c: (
        ElementwisePlan(Elementwise(IMAGES, SIZE * SIZE, c, act=GELU), 2), [], ROWS * c,
    ),
    "maximum": lambda c: _pooling(c, "max"),
    "mean": lambda c: _pooling(c, "mean"),
    "global average": lambda c: (AveragePlan((IMAGES, SIZE * SIZE, c), 2, slabs=3), [], IMAGES * 3 * c),
    "padding": lambda c: _copy(padding(IMAGES, IMAGE, c, ((0, 0), (1, 2), (2, 1)))),
    "channel shuffle": lambda c: _copy(channel_shuffle(IMAGES, IMAGE, c, 1 if c % 2 else 2)),
    "layer norm": _layer_norm,
    "softmax": lambda c: (SoftmaxPlan(LayerNorm(ROWS, c), 2), [], ROWS * c),
    "excitation": _excitation,
    "linear": _linear,
    "transpose": lambda c: (TransposePlan(IMAGES, SIZE * SIZE, c), [], ROWS * c),
}  # fmt: skip


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 17, 34, 64])
@pytest.mark.parametrize("name", STEPS)
def test_guard_pages(
    name: str, channels: int, at_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "poison", True)
    plan, others, outputs = STEPS[name](channels)
    x = torch.randn(ROWS * channels)
    found = []
    for guards in (False, True):
        arrays = [x, *others, torch.full((outputs,), float("nan"))]
        if guards:
            arrays = [beside_guard_page(t, at_end) if t.numel() else t for t in arrays]
        source, *beside, target = arrays
        addresses = [t.data_ptr() for t in beside]
        run(plan, (source.data_ptr(), *addresses, *[0] * (4 - len(beside))), target.data_ptr(), 2)
        found.append(target.clone())
    assert not found[0].isnan().any()
    assert torch.equal(found[0].view(torch.int32), found[1].view(torch.int32))
