"""Fused networks of bfloat16 and float16, and layers under autocast: no farther from float64 than PyTorch."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn as tnn

from separable import nn
from separable.nn.fused import kernel_choice, kernel_use
from separable.nn.fused.fused_modules import Fused, FusedSeparable

pytestmark = pytest.mark.apart

NORMS = {1: tnn.BatchNorm1d, 2: tnn.BatchNorm2d, 3: tnn.BatchNorm3d}
LAYERS = {1: nn.SeparableConv1d, 2: nn.SeparableConv2d, 3: nn.SeparableConv3d}


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(
        (found.detach().double() - exact.detach()).abs().max() / exact.detach().abs().max()
    )


def network(name: str) -> Any:
    torch.manual_seed(0)
    options = {"width": 0.25} if name == "MobileNetV1" else {}
    net = getattr(nn.models, name)(classes=10, **options).eval()
    for module in net.modules():
        if isinstance(module, tnn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("name", ["MobileNetV1", "EfficientNet"])
def test_networks_of_bfloat16(name: str, measure: bool) -> None:
    net = network(name).bfloat16()
    x = torch.randn(1, 3, 64, 64).bfloat16()
    fused, report = nn.fuse(net, x, measure=measure)
    with torch.no_grad():
        for image in (x, torch.randn(2, 3, 96, 64).bfloat16()):
            exact = copy.deepcopy(net).double()(image.double())
            found = fused(image)
            assert found.dtype is torch.bfloat16
            assert error(found, exact) <= 2 * error(net(image), exact) + 1e-3
    text = str(report)
    assert "not one program: its inputs are of bfloat16, and programs compute in float32" in text
    assert "its weights are of bfloat16, and its kernels compute in float32" in text
    assert not any(isinstance(m, tnn.BatchNorm2d) for m in fused.modules())
    assert (report.times is not None) is measure
    kept = {s.name: s.kept for s in report.segments}
    for layer, module in fused.named_modules():
        if isinstance(module, Fused) and layer in kept:
            assert module.left_to_torch is not kept[layer]


def test_layers_of_bfloat16_run_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network("MobileNetV1").bfloat16()
    x = torch.randn(1, 3, 64, 64).bfloat16()
    made = []
    for times in ([1.0, 2.0], [2.0, 1.0]):
        monkeypatch.setattr(
            kernel_choice,
            "interleaved",
            lambda runs, t=times: [r() for r in runs] and [*t, 1.0][: len(runs)],
        )
        fused, report = nn.fuse(net, x)
        layers = [m for m in fused.modules() if isinstance(m, FusedSeparable)]
        assert layers
        assert all(m.left_to_torch is (times[0] > times[1]) for m in layers)
        assert ("left to PyTorch, which is faster" in str(report)) is (times[0] > times[1])
        made.append(fused(x))
    assert error(made[0], made[1].double()) < 0.05


@pytest.mark.parametrize("has_products", [True, False])
def test_without_a_measurement_the_processor_decides(
    has_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_choice, "BFLOAT16_PRODUCTS", has_products)
    fused, _ = nn.fuse(
        network("MobileNetV1").bfloat16(), torch.randn(1, 3, 64, 64).bfloat16(), measure=False
    )
    layers = [m for m in fused.modules() if isinstance(m, FusedSeparable)]
    assert {m.left_to_torch for m in layers} == {has_products}


class Wrong(tnn.Module):
    """A module of bfloat16 whose second call gives something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.calls = tnn.Conv2d(4, 4, 1), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        found: torch.Tensor = self.conv(x) * (1.0 if self.calls < 3 else 1.5)
        return found


def test_wrong_numbers_of_low_precision_are_refused() -> None:
    from separable.errors import ArgumentError

    with pytest.raises(ArgumentError, match="behaves differently in its second call"):
        nn.fuse(Wrong().bfloat16().eval(), torch.randn(1, 4, 8, 8).bfloat16(), measure=False)


@pytest.mark.parametrize(
    ("ndim", "norm", "products"), list(itertools.product([1, 2, 3], [False, True], [False, True]))
)
def test_a_training_step_under_autocast(
    ndim: int, norm: bool, products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operators run in float32 where PyTorch has no fast convolutions of bfloat16: more exact, the same dtypes."""
    from separable.nn.fused import forward

    monkeypatch.setattr(kernel_use, "BFLOAT16_PRODUCTS", products)
    monkeypatch.setattr(
        forward, "LEAST_TRAINING_WORK", dict.fromkeys(forward.LEAST_TRAINING_WORK, 0)
    )
    torch.manual_seed(0)
    middle = tnn.Sequential(NORMS[ndim](16), tnn.ReLU()) if norm else None
    layer = LAYERS[ndim](16, 24, 3, intermediate=middle)
    plain, exact = copy.deepcopy(layer), copy.deepcopy(layer).double()
    plain._serves = False
    x = torch.randn(9, 16, *(20, 11, 6)[:ndim]).movedim(1, -1).contiguous().movedim(-1, 1)
    for given in (x, x.bfloat16()):
        outs, gradients = [], []
        for net, dtype in ((layer, given.dtype), (plain, given.dtype), (exact, torch.float64)):
            leaf = given.detach().to(dtype).requires_grad_()
            net.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not torch.float64):
                out = net(leaf)
            out.sin().sum().backward()
            outs.append(out)
            gradients.append([leaf.grad, *(p.grad for p in net.parameters())])
        assert outs[0].dtype is outs[1].dtype is torch.bfloat16
        is_operator = ndim != 2 or not products
        assert ("ToCopy" in outs[0].grad_fn.name()) is is_operator
        assert error(outs[0], outs[2]) <= error(outs[1], outs[2]) + 4e-3
        for found, by_torch, right in zip(*gradients, strict=True):
            assert found.dtype is by_torch.dtype
            assert error(found, right) <= 2 * error(by_torch, right) + 1e-2
    for (key, one), two in zip(
        layer.state_dict().items(), exact.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one.double(), two.double(), rtol=1e-3, atol=1e-3, msg=key)


@pytest.mark.parametrize("products", [False, True])
def test_compiled_layers_under_autocast_have_its_dtype(
    products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_use, "BFLOAT16_PRODUCTS", products)
    layer = nn.SeparableConv2d(16, 24, 3)
    x = torch.randn(2, 16, 9, 9).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, right = compiled(x), layer(x)
    assert found.dtype is right.dtype is torch.bfloat16
    torch.testing.assert_close(found, right, rtol=2e-2, atol=2e-2)
