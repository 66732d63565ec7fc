"""Layers whose inputs and results have their channels first, without a conversion of either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import normal_numbers
from torch import nn as tnn

from separable.engine.compiled import thread_pool as pool
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate
from separable.nn.fused.packed_layer import LEAST_POSITIONS, PackedPointwise


@pytest.fixture(autouse=True)
def _same_threads() -> Any:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def test_pointwise_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "poison", True)

    @settings(max_examples=40)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        normal, draw = normal_numbers(data.draw), data.draw
        channels, outputs = draw(st.sampled_from([2, 3, 16, 65])), draw(st.sampled_from([1, 5, 70]))
        space = draw(st.sampled_from([(64,), (777,), (8, 9), (3, 5, 7), (9, 7)]))
        x = normal(draw(st.integers(1, 3)), channels, *space)
        weight = normal(outputs, channels, *[1] * len(space))
        bias = normal(outputs) if draw(st.booleans()) else None
        act = draw(st.integers(0, len(ACTIVATIONS) - 1))
        layer = PackedPointwise(weight, bias, act)
        assert layer.takes_first(x) == (x[0, 0].numel() >= LEAST_POSITIONS)
        sums = torch.einsum("oc,nc...->no...", weight.double().flatten(1), x.double())
        sums += 0 if bias is None else bias.double().view(-1, *[1] * len(space))
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(layer(x))
        assert found[0].is_contiguous()
        torch.testing.assert_close(
            found[0].double(), activate(sums, ACTIVATIONS[act]), rtol=1e-5, atol=3e-5
        )
        assert all(torch.equal(found[0], f) for f in found[1:])

    check()


@pytest.mark.parametrize("kind", ["depthwise", "pointwise", "both", "two"])
def test_fused_networks_over_one_axis(kind: str) -> None:
    depthwise = tnn.Conv1d(24, 24, 9, padding=4, groups=24)
    pointwise = tnn.Conv1d(24, 40, 1)
    steps = {
        "depthwise": [depthwise, tnn.ReLU()],
        "pointwise": [pointwise, tnn.SiLU()],
        "both": [depthwise, tnn.ReLU6(), pointwise],
        "two": [depthwise, pointwise, tnn.Conv1d(40, 40, 1), tnn.Hardswish()],
    }
    network = tnn.Sequential(*steps[kind]).eval().requires_grad_(False)
    x = torch.randn(3, 24, 130)
    fused, _ = fuse_without_choice(network, x)
    found = fused(x)
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), network.double()(x.double()), rtol=1e-5, atol=1e-5)
    found.resize_(found.shape)  # a tensor of its own
    other = torch.randn(2, 130, 24).transpose(1, 2)  # channels last
    torch.testing.assert_close(fused(other).double(), network(other.double()), rtol=1e-5, atol=1e-5)
