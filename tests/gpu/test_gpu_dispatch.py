"""Layers, fused networks and operators choose the GPU kernels, fall back to PyTorch, and say why."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import pytest
import torch
from tests.gpu.gpu_cases import error_of
from torch import nn as torch_nn
from torch.utils.flop_counter import FlopCounterMode

from separable import nn
from separable.engine import availability
from separable.errors import ArgumentError
from separable.gpu import kernel_support, serves, why_not_served
from separable.gpu.kernel_launch import or_fallback, recorded
from separable.gpu.rank_terms import passes_pay
from separable.nn.fused.fused_split import FusedSplit


def network() -> torch_nn.Module:
    torch.manual_seed(0)
    return torch_nn.Sequential(
        torch_nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), torch_nn.BatchNorm2d(4), torch_nn.ReLU(),
        torch_nn.Conv2d(4, 6, 1, bias=False), torch_nn.BatchNorm2d(6), torch_nn.ReLU6(),
        torch_nn.Conv2d(6, 6, 3, padding=1, groups=6), torch_nn.SiLU(), torch_nn.Flatten(),
    ).eval()  # fmt: skip


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing run on compiled kernels of the CPU."""
    monkeypatch.setattr(availability, "_reason", "this test is about the GPU")
    # Tensors on a GPU have no programs; where the engine is loaded already, those on the CPU would.
    module = import_module("separable.nn.fused.fuse")
    monkeypatch.setattr(module, "attach", lambda *_, **__: ([], []))


def test_fuse_runs_the_kernels_and_agrees(interpreted: None, no_engine: None) -> None:
    model, x = network(), torch.randn(2, 4, 5, 6)
    with recorded() as launches:
        fused, report = nn.fuse(model, x, measure=False)
    assert [what for _, what in report.fused] == [
        "depthwise, norm, relu, pointwise, norm, relu6", "depthwise, silu",
    ]  # fmt: skip
    names = [made.name for made in launches]
    assert names[-2:] == ["fused_layer", "depthwise_layer"]
    assert report.difference < 1e-5
    assert error_of(fused(x), copy.deepcopy(model).double()(x.double()).detach()) < 1e-5


def test_fuse_falls_back_without_kernels(no_engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(), torch.randn(2, 4, 5, 6)
    monkeypatch.setenv("SEPARABLE_GPU", "torch")
    with recorded() as launches:
        fused, _ = nn.fuse(model, x, measure=False)
        assert error_of(fused(x), model(x).detach()) < 1e-5
    assert launches == []


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_layers_run_and_train_by_the_kernels(interpreted: None, ndim: int) -> None:
    kinds = {1: nn.SeparableConv1d, 2: nn.SeparableConv2d, 3: nn.SeparableConv3d}
    layer, x = kinds[ndim](3, 5, 3, stride=2), torch.randn(1, 3, *[5] * ndim)
    with recorded() as launches:
        layer(x).sum().backward()
    assert {"fused_layer", "layer_gradients"} <= {made.name for made in launches}
    wide, found = copy.deepcopy(layer).double(), [p.grad for p in layer.parameters()]
    wide.zero_grad()
    wide(x.double()).sum().backward()
    for ours, theirs in zip(found, (p.grad for p in wide.parameters()), strict=True):
        assert error_of(ours, theirs) < 1e-5


def test_a_layer_with_a_normalisation_trains_by_the_kernels(interpreted: None) -> None:
    middle = torch_nn.Sequential(torch_nn.BatchNorm2d(3), torch_nn.SiLU())
    layer, x = nn.SeparableConv2d(3, 4, 3, intermediate=middle), torch.randn(2, 3, 4, 4)
    wide = copy.deepcopy(layer).double()
    with recorded() as launches:
        layer(x).square().sum().backward()
    assert {"depthwise_moments", "norm_middle_gradient"} <= {made.name for made in launches}
    wide(x.double()).square().sum().backward()
    for ours, theirs in zip(layer.parameters(), wide.parameters(), strict=True):
        assert error_of(ours.grad, theirs.grad) < 1e-4
    for ours, theirs in zip(layer.buffers(), wide.buffers(), strict=True):
        assert error_of(ours, theirs) < 1e-5


def test_operators_count_their_operations(interpreted: None) -> None:
    x, weight, pointwise = torch.randn(1, 4, 6, 6), torch.randn(4, 1, 3, 3), torch.randn(8, 4, 1, 1)
    rest = (1, 1), (1, 1, 1, 1), (1, 1), "none", "relu"
    with FlopCounterMode(display=False) as counter:
        torch.ops.separable.depthwise_separable(x, weight, None, pointwise, None, *rest)
    assert counter.get_total_flops() == 2 * 36 * (4 * 9 + 4 * 8)


def passes(channels: int, kernel: int, rank: int, bias: bool = True) -> torch_nn.Module:
    """Return a network of depthwise kernels that are sums of separable terms."""
    torch.manual_seed(1)
    layer = nn.FactoredConv(
        "yx -> y,x",
        channels,
        channels,
        kernel,
        groups=channels,
        rank=rank,
        padding="same",
        bias=bias,
    )
    return torch_nn.Sequential(layer, torch_nn.BatchNorm2d(channels), torch_nn.ReLU()).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fuse_forms_passes_of_both_axes(
    dtype: torch.dtype, interpreted: None, no_engine: None
) -> None:
    """Also of three channels, which fill no vector of a CPU."""
    model, x = passes(3, 31, 2).to(dtype), torch.randn(1, 3, 32, 33, dtype=dtype)
    with recorded() as launches:
        fused, report = nn.fuse(model, x, measure=False)
    assert {made.name for made in launches} == {"rank_passes"}
    assert [what for _, what in report.fused] == ["depthwise 31x1, depthwise 1x31, norm, relu"]
    assert not any("float32" in why for _, why in report.left)
    assert any(isinstance(m, FusedSplit) for m in fused.modules())
    wide = copy.deepcopy(model).double()(x.double()).detach()
    assert error_of(fused(x), wide) < (1e-5 if dtype is torch.float32 else 4e-3)


def test_passes_of_the_gpu_are_timed_beside_pytorch(interpreted: None, no_engine: None) -> None:
    model, x = passes(2, 31, 1), torch.randn(1, 2, 16, 17)
    fused, report = nn.fuse(model, x)
    (split,) = (m for m in fused.modules() if isinstance(m, FusedSplit))
    (segment,) = report.segments
    assert split.left_to_torch != segment.kept


@pytest.mark.parametrize(
    ("kernel", "rank", "pays"), [(31, 1, True), (31, 16, False), (7, 1, False), (3, 4, False)]
)
def test_passes_are_multiplied_out_where_the_dense_kernel_is_predicted_to_be_faster(
    kernel: int, rank: int, pays: bool
) -> None:
    x = torch.empty(16, 64, 56, 56, device="meta")
    window = (1, 1), (kernel // 2,) * 4, (1, 1)
    assert passes_pay(x, (kernel, kernel), rank, window) == pays


# What the kernels do not take


def test_reasons_are_said() -> None:
    x = torch.zeros(1)
    assert "the tensor is on cpu" in why_not_served(x)
    assert not serves(x)


def test_reasons_in_the_interpreter(interpreted: None) -> None:
    x = torch.zeros(2, 3)
    assert why_not_served(x) == ""
    assert "float64" in why_not_served(x.double())
    assert "different types" in why_not_served(x, x.half())
    assert "different devices, cpu and meta" in why_not_served(x, torch.zeros(2, device="meta"))
    large = torch.zeros(1).expand(2**31)
    assert why_not_served(large) == ""  # its elements share one place


def test_too_many_elements_are_left_to_pytorch(interpreted: None) -> None:
    huge: Any = torch.empty(2**31, 1, device="meta", dtype=torch.float16)
    assert kernel_support._extent(huge) == 2**31
    assert kernel_support._extent(huge[:-1]) < kernel_support.MOST_ELEMENTS


def test_old_devices_and_other_vendors_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    why = kernel_support._why_not_device.__wrapped__
    assert why(0) == "the GPU has compute capability 7.5, and the kernels need 8.0 or later"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert why(0) == ""
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert "NVIDIA" in why(0)


def test_a_missing_triton_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def why() -> str:
        kernel_support._why_too_old.cache_clear()
        return kernel_support._why_no_triton.__wrapped__()

    assert why() == ""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.1.0")
    assert "Triton 3.1.0 is too old" in why()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "Triton is not installed" in why()
    assert 'pip install "separable-convolution[triton]"' in why()
    kernel_support._why_too_old.cache_clear()


def test_the_environment_variable_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPARABLE_GPU", "torch")
    assert kernel_support.why_no_kernels() == "SEPARABLE_GPU=torch is set"
    monkeypatch.setenv("SEPARABLE_GPU", "fast")
    with pytest.raises(ArgumentError, match="must be one of auto, torch; got 'fast'"):
        kernel_support.why_no_kernels()


def test_running_out_of_memory_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_support, "_warned", set())

    def fail() -> int:
        raise torch.cuda.OutOfMemoryError("tried to allocate 80 GiB")

    with pytest.warns(
        RuntimeWarning, match="separable::depthwise: the GPU kernel could not be run"
    ):
        assert or_fallback("separable::depthwise", fail, lambda: 7) == 7
    assert or_fallback("separable::depthwise", fail, lambda: 8) == 8  # said once


def test_faults_of_kernels_are_not_hidden() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        or_fallback("separable::depthwise", fail, lambda: 7)


def test_tensors_on_different_devices_are_left_to_pytorch(interpreted: None) -> None:
    """On a GPU PyTorch raises its usual error; a device without values has nothing to compute."""
    x, weight = torch.zeros(1, 2, 4, 4), torch.zeros(2, 1, 3, 3, device="meta")
    with recorded() as launches:
        torch.ops.separable.depthwise(x, weight, None, (1, 1), (1, 1, 1, 1), (1, 1), "none")
    assert launches == []


def test_empty_batches_give_empty_results(interpreted: None) -> None:
    layer = nn.SeparableConv2d(3, 5, 3)
    out = layer(torch.zeros(0, 3, 4, 4))
    assert out.shape == (0, 5, 4, 4)
    out.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in layer.parameters())
