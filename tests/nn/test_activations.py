"""Activations of the compiled layers against float64: dense grids, limits, NaN, tiny and huge values."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn as tnn

from separable import nn
from separable.nn.fused.batchnorm_folding import name_of_activation
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate, activate_in_place
from separable.nn.fused.packed_layer import PackedLayer, PackedPointwise

pytestmark = pytest.mark.widths

SMOOTH = ACTIVATIONS[3:]
ULP = 2.0**-23
# Largest error in units of ULP, relative to the exact result, for abs(x) < 3; and in all, relative to 1 + abs(result).
BOUNDS = {
    "silu": (2, 1.5),
    "hardswish": (2, 2),
    "hardsigmoid": (1.5, 1),
    "sigmoid": (2, 1),
    "gelu": (8, 2),
    "gelu_tanh": (8, 2),
    "tanh": (4, 2),
}


def applied(x: torch.Tensor, act: str) -> torch.Tensor:
    """Return an activation of a vector, by a pointwise layer with the weight 1 and without a bias."""
    layer = PackedPointwise(torch.ones(1, 1, 1), None, ACTIVATIONS.index(act))
    return layer(x.reshape(1, 1, -1)).reshape(-1)


def grid() -> torch.Tensor:
    size = torch.logspace(-44, 37, 100_001)
    steps = [torch.linspace(-12, 12, 1_000_001), torch.linspace(-110, 110, 300_001), size, -size]
    return torch.cat(steps)


@pytest.mark.parametrize("act", SMOOTH)
def test_errors_on_dense_grids(act: str) -> None:
    x = grid()
    exact = activate(x.double(), act)
    error = (applied(x, act).double() - exact).abs()
    relative, overall = BOUNDS[act]
    small = (x.abs() < 3) & (exact.abs() > 1e-36)
    assert float((error / exact.abs())[small].max()) <= relative * ULP
    assert float((error / (1 + exact.abs())).max()) <= overall * ULP
    theirs = (activate(x, act).double() - exact).abs()
    assert float((error / (1 + exact.abs())).max()) <= 2 * ULP + float(
        (theirs / (1 + exact.abs()))[x.abs() < 1e36].max()
    )


def test_the_normal_distribution_function_in_gelu() -> None:
    x = torch.linspace(-6, 6, 600_001)
    x = x[x != 0]
    found = applied(x, "gelu").double() / x.double()
    assert float((found - torch.special.ndtr(x.double())).abs().max()) < 3e-7


LIMITS = {
    "silu": (0.0, math.inf),
    "hardswish": (math.nan, math.inf),  # as in PyTorch: minus infinity times 0
    "hardsigmoid": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "gelu": (0.0, math.inf),
    "gelu_tanh": (0.0, math.inf),
    "tanh": (-1.0, 1.0),
}


@pytest.mark.parametrize("act", SMOOTH)
def test_limits_and_nan(act: str) -> None:
    low, high, nan = applied(torch.tensor([-math.inf, math.inf, math.nan]), act).tolist()
    assert math.isnan(nan)
    torch.testing.assert_close(low, LIMITS[act][0], rtol=0, atol=1e-36, equal_nan=True)
    assert high == LIMITS[act][1]
    every = torch.tensor([0x7FC00001, 0x7F800001, 0x7FFFFFFF, -1], dtype=torch.int32)
    assert applied(every.view(torch.float32), act).isnan().all()


@pytest.mark.parametrize("act", SMOOTH)
def test_huge_values(act: str) -> None:
    x = torch.tensor([-3e38, -1e30, -1e10, -1000.0, -200.0, 200.0, 1000.0, 1e10, 1e30])
    exact = activate(x.double(), act).float()
    torch.testing.assert_close(applied(x, act), exact, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("channels", [1, 3, 17, 40])
@given(between=st.sampled_from(ACTIVATIONS), act=st.sampled_from(ACTIVATIONS))
def test_between_and_after(channels: int, between: str, act: str) -> None:
    torch.manual_seed(channels)
    x = torch.randn(2, channels, 9, 8).movedim(1, -1).contiguous().movedim(-1, 1)
    tensors = [torch.randn(channels, 1, 3, 3), torch.randn(channels)]
    tensors += [torch.randn(5, channels, 1, 1), torch.randn(5)]
    rest = ((1, 1), (1, 1, 1, 1), (1, 1))
    layer = PackedLayer(
        *tensors, channels, (*rest, ACTIVATIONS.index(between), ACTIVATIONS.index(act))
    )
    wide = [t.double() for t in (x, *tensors)]
    exact = torch.ops.separable.depthwise_separable(*wide, *map(list, rest), between, act)
    scale = 1 + float(exact.abs().max())
    assert float((layer(x).double() - exact).abs().max()) < 1e-5 * scale


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (tnn.GELU(), "gelu"),
        (tnn.GELU(approximate="tanh"), "gelu_tanh"),
        (tnn.Hardsigmoid(), "hardsigmoid"),
        (tnn.Sigmoid(), "sigmoid"),
        (tnn.Tanh(), "tanh"),
        (tnn.Hardtanh(), None),
        (tnn.ELU(), None),
    ],
)
def test_modules_are_folded(module: tnn.Module, name: str | None) -> None:
    assert name_of_activation(module) == name
    x = torch.randn(100)
    if name is not None:
        torch.testing.assert_close(activate(x, name), module(x))
        assert torch.equal(activate_in_place(x.clone(), name), activate(x, name))
    convs = tnn.Conv2d(6, 6, 3, groups=6), tnn.Conv2d(6, 7, 1), tnn.Conv2d(7, 7, 2)
    network = tnn.Sequential(*(m for c in convs for m in (c, copy.deepcopy(module)))).eval()
    image = torch.randn(1, 6, 9, 9)
    fused, report = nn.fuse(network, image)
    torch.testing.assert_close(fused(image), network(image), rtol=1e-4, atol=1e-5)
    folded = sum(what.split(", ").count(name or "none") for _, what in report.fused)
    assert folded == (3 if name else 0)
