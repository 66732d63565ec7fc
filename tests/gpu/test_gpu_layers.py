"""Fused layers and depthwise layers by the GPU kernels, in Triton's interpreter, against float64."""

from __future__ import annotations

import pytest
import torch
from tests.gpu.gpu_cases import LayerCase, error_of

from separable.gpu.kernel_launch import recorded
from separable.nn.fused import operators as _operators  # noqa: F401

pytestmark = pytest.mark.usefixtures("interpreted")

SHORT, LONG = range(8), range(8, 328)


def check_forward(seed: int) -> None:
    case = LayerCase.drawn(seed)
    with recorded() as launches:
        found = torch.ops.separable.depthwise_separable(
            case.x, *case.tensors, *case.window, case.between, case.act
        )
    assert [made.name for made in launches] == ["fused_layer"]
    assert found.dtype is case.dtype
    wanted = case.oracle(*case.wide())
    assert error_of(found, wanted) <= case.allowed
    with recorded() as launches:
        found = torch.ops.separable.depthwise(case.x, *case.tensors[:2], *case.window, case.between)
    assert [made.name for made in launches] == ["depthwise_layer"]
    assert error_of(found, case.depthwise_oracle(*case.wide()[:3])) <= case.allowed


@pytest.mark.parametrize("seed", SHORT)
def test_layers_agree_with_float64(seed: int) -> None:
    check_forward(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG)
def test_many_layers_agree_with_float64(seed: int) -> None:
    check_forward(seed)
