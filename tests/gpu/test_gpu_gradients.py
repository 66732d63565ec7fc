"""Gradients of fused layers and depthwise layers by the GPU kernels, in Triton's interpreter, against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.gpu.gpu_cases import LayerCase, error_of
from torch import Tensor

from separable.gpu.kernel_launch import recorded
from separable.nn.fused import autograd as _autograd  # noqa: F401

pytestmark = pytest.mark.usefixtures("interpreted")

SHORT, LONG = range(4), range(4, 204)


def gradients(function: Any, tensors: list[Tensor | None], upstream: Tensor) -> list[Tensor]:
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    given = [t for t in leaves if t is not None]
    out = function(*leaves)
    return list(torch.autograd.grad(out, given, upstream.to(out.dtype)))


def check(case: LayerCase, seed: int, *, depthwise: bool) -> set[str]:
    count = 2 if depthwise else 4
    tensors: list[Any] = [case.x, *case.tensors[:count]]
    wide = case.wide()[: count + 1]

    def ours(*given: Tensor) -> Tensor:
        if depthwise:
            made: Tensor = torch.ops.separable.depthwise(*given, *case.window, case.between)
            return made
        names = case.between, case.act
        return torch.ops.separable.depthwise_separable(*given, *case.window, *names)

    oracle = case.depthwise_oracle if depthwise else case.oracle
    shape = oracle(*wide).shape
    generator = torch.Generator().manual_seed(seed)
    upstream = torch.randn(shape, generator=generator).to(case.dtype)
    with recorded() as launches:
        found = gradients(ours, tensors, upstream)
    wanted = gradients(oracle, wide, upstream.double())
    for ours_, theirs in zip(found, wanted, strict=True):
        assert ours_.dtype is case.dtype
        assert error_of(ours_, theirs) <= 4 * case.allowed
    return {made.name for made in launches}


def check_both(seed: int) -> None:
    case = LayerCase.drawn(1000 + seed, smooth=True)
    assert {"fused_layer", "layer_gradients", "depthwise_to_input"} <= check(
        case, seed, depthwise=False
    )
    assert check(case, seed, depthwise=True) == {
        "depthwise_layer", "depthwise_weight_sums", "depthwise_to_input",
    }  # fmt: skip


@pytest.mark.apart
@pytest.mark.parametrize("seed", SHORT)
def test_gradients_agree_with_float64(seed: int) -> None:
    check_both(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG)
def test_many_gradients_agree_with_float64(seed: int) -> None:
    check_both(seed)


@pytest.mark.parametrize("act", ["relu", "relu6"])
def test_clamps_take_the_gradient_from_the_stored_result(act: str) -> None:
    """In float32 both sides clamp the same values, except where one rounds to the corner itself."""
    case = LayerCase.drawn(3)
    case.between, case.act, case.dtype, case.x = act, act, torch.float32, torch.randn(1, 3, 5, 6)
    case.tensors = [torch.randn(3, 1, 3, 3), torch.randn(3), torch.randn(4, 3, 1, 1), None]
    case.window = ((1, 2), (1, 1, 0, 1), (1, 1))
    assert check(case, 0, depthwise=False) == {
        "fused_layer",
        "layer_gradients",
        "depthwise_to_input",
    }


def test_many_outputs_are_summed_by_a_kernel_of_their_own() -> None:
    case = LayerCase.drawn(5, smooth=True)
    case.dtype, case.x = torch.float32, torch.randn(1, 2, 3, 3)
    case.tensors = [torch.randn(2, 1, 3, 3), None, torch.randn(260, 2, 1, 1) / 2, torch.randn(260)]
    case.window = ((1, 1), (1, 1, 1, 1), (1, 1))
    assert "pointwise_weight_sums" in check(case, 0, depthwise=False)
