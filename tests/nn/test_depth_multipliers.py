"""Depthwise layers with depth multipliers, channels last: PyTorch's order of channels, written directly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from surrounded import Surrounded, surrounded

from separable.engine.compiled import thread_pool as pool
from separable.nn.fused.layer_tiling import ACTIVATIONS, layer_plan
from separable.nn.fused.operators import activate, depthwise_by_torch
from separable.nn.fused.packed_layer import PackedLayer

pytestmark = pytest.mark.widths


@pytest.fixture(autouse=True)
def same_threads(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_values(dtype, tolerance):
    @given(
        st.integers(1, 9), st.sampled_from([1, 7, 16, 19, 48]), st.integers(1, 2), st.integers(0, 4),
        st.integers(3, 40),
    )  # fmt: skip
    def check(multiplier, channels, stride, act, width):
        generator = torch.Generator().manual_seed(multiplier * channels)
        x = torch.randn(2, channels, 9, width, generator=generator).to(dtype)
        weight = torch.randn(channels * multiplier, 1, 3, 3, generator=generator).to(dtype)
        bias = torch.randn(channels * multiplier, generator=generator).to(dtype)
        window = ((stride, stride), (1, 1, 0, 1), (1, 1))
        layer = PackedLayer(weight, bias, None, None, channels, (*window, act, 0))
        x = (
            surrounded(x)
            if dtype is torch.float32
            else x.contiguous(memory_format=torch.channels_last)
        )
        found = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(layer(x))
        assert all(torch.equal(found[0], f) for f in found[1:])
        exact = depthwise_by_torch(x.double(), weight.double(), bias.double(), *window)
        exact = activate(exact, ACTIVATIONS[act])
        assert (found[0].double() - exact).abs().max() <= tolerance * (exact.abs().max() + 1)
        if dtype is torch.float32:
            target = Surrounded(exact.shape)
            plan = layer_plan(layer.geometry(x.shape, 4), 2)
            pool.run(plan, (x.data_ptr(), *layer.addresses), target.tensor.data_ptr(), 2)
            assert target.is_untouched_outside()
            assert torch.equal(target.tensor, found[0])

    check()
