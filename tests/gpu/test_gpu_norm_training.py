"""Layers with batch normalisation in training by the GPU kernels, in Triton's interpreter, against float64."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tests.gpu.gpu_cases import LayerCase, error_of
from torch import Tensor

from separable.gpu.kernel_launch import recorded
from separable.nn.fused.norm_operator import _by_torch, _Call
from separable.nn.fused.norm_training import NormLayer

pytestmark = pytest.mark.usefixtures("interpreted")

EPS = 1e-3


def drawn(seed: int) -> tuple[LayerCase, list[Any], bool]:
    """Return a case, all parameters, and whether the output is normalised too."""
    case, draw = LayerCase.drawn(2000 + seed, smooth=True), random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    case.x = torch.cat([case.x, case.x.flip(0) * 0.5 + 0.25])  # at least two values per channel
    depth, outputs = case.tensors[0].shape[0], case.tensors[2].shape[0]
    gamma, beta = (torch.randn(depth, generator=generator).to(case.dtype) for _ in range(2))
    own = [*case.tensors[:2], gamma, beta if draw.random() < 0.7 else None, *case.tensors[2:]]
    normalises = draw.random() < 0.5
    outer = [torch.randn(outputs, generator=generator).to(case.dtype) for _ in range(2)]
    return case, own + (outer if normalises else [None, None]), normalises


def check(seed: int) -> set[str]:
    case, parameters, normalises = drawn(seed)
    rest = (EPS, case.between)
    eps, act = (EPS, case.act) if normalises else (None, "none")

    def ours(x: Tensor, *given: Any) -> Tensor:
        operator = torch.ops.separable.depthwise_separable_norm
        return operator(x, *given[:6], *case.window, *rest, *given[6:], eps, act)[0]

    def oracle(x: Tensor, *given: Any) -> Tensor:
        return _by_torch(x, _Call(NormLayer(*given[:6]), case.window, *rest, *given[6:], eps, act))[
            0
        ]

    def run(function: Any, tensors: list[Any]) -> list[Tensor]:
        leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
        out = function(*leaves)
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed))
        asked = [t for t in leaves if t is not None]
        return [out.detach(), *torch.autograd.grad(out, asked, upstream.to(out.dtype))]

    tensors = [case.x, *parameters]
    with recorded() as launches:
        found = run(ours, tensors)
    wanted = run(oracle, [None if t is None else t.double() for t in tensors])
    # Normalisation divides by standard deviations, which amplifies what was rounded before.
    allowed = 20 * case.allowed + 1e-4
    largest = max(float(t.abs().max()) for t in wanted if t.numel())
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype is case.dtype
        if theirs.numel() and float(theirs.abs().max()) <= 1e-9 * largest:
            # Zero: a normalisation of the output removes what beta adds. Sums of rounded values come near.
            assert float(mine.abs().max()) <= allowed * largest
        else:
            assert error_of(mine, theirs) <= allowed
    return {made.name for made in launches}


NAMES = {
    "depthwise_moments", "fused_layer", "layer_gradients", "norm_middle_gradient", "depthwise_weight_sums",
    "depthwise_to_input",
}  # fmt: skip


@pytest.mark.apart
@pytest.mark.parametrize("seed", range(2))
def test_training_agrees_with_float64(seed: int) -> None:
    assert check(seed) == NAMES


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 60))
def test_training_of_many_layers_agrees_with_float64(seed: int) -> None:
    assert check(seed) == NAMES
