"""Pointwise and depthwise separable layers that add a residual before their last activation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate
from separable.nn.fused.packed_layer import PackedLayer, PackedPointwise


@pytest.fixture(autouse=True)
def same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def in_the_middle_of_nan(x):
    """Return a copy of a residual, channels last, with NaN before and behind it in memory."""
    around = torch.full((x.numel() + 4096,), float("nan"))
    inner = around[2048:-2048].view(x.movedim(1, -1).shape)
    inner.copy_(x.movedim(1, -1))
    return inner.movedim(-1, 1)


@st.composite
def cases(draw):
    """Return an input, depthwise and pointwise weights and biases, and two activations."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    channels = draw(st.sampled_from([1, 3, 16, 40]))
    outputs = draw(st.sampled_from([1, 5, 16, 31, 64, 70, 130]))
    size = draw(st.integers(1, 23)), draw(st.integers(1, 40))
    x = normal(draw(st.integers(1, 2)), channels, *size).to(memory_format=torch.channels_last)
    tensors = [normal(channels, 1, 3, 3), normal(channels), normal(outputs, channels, 1, 1)]
    tensors.append(normal(outputs) if draw(st.booleans()) else None)
    return x, tensors, draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from(ACTIVATIONS))


def near(found, exact):
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= 1e-5 * (exact.abs().max() + 1)


def wide(t):
    return None if t is None else t.double()


def test_values(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)

    @settings(max_examples=60)
    @given(cases())
    def check(case):
        x, (depthwise, between, weight, bias), first, act = case
        residual = in_the_middle_of_nan(torch.randn(x.shape[0], weight.shape[0], *x.shape[2:]))
        exact = functional.conv2d(x.double(), weight.double(), wide(bias)) + residual.double()
        alone = PackedPointwise(weight, bias, ACTIVATIONS.index(act))
        own = ((1, 1), (1,) * 4, (1, 1), ACTIVATIONS.index(first), ACTIVATIONS.index(act))
        layer = PackedLayer(depthwise, between, weight, bias, x.shape[1], own)
        found = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append((alone(x, residual), layer(x, residual)))
        near(found[0][0], activate(exact, act))
        middle = functional.conv2d(
            x.double(), depthwise.double(), wide(between), 1, 1, 1, x.shape[1]
        )
        middle = activate(middle, first)
        exact = functional.conv2d(middle, weight.double(), wide(bias)) + residual.double()
        near(found[0][1], activate(exact, act))
        for other in found[1:]:
            assert torch.equal(found[0][0], other[0])
            assert torch.equal(found[0][1], other[1])
        # The same weights serve calls without a residual.
        near(alone(x), activate(functional.conv2d(x.double(), weight.double(), wide(bias)), act))

    check()


def test_bad_residuals():
    x = torch.zeros(1, 4, 6, 6)
    alone = PackedPointwise(torch.zeros(8, 4, 1, 1), None, 0)
    own = ((1, 1), (1,) * 4, (1, 1), 0, 0)
    layer = PackedLayer(torch.zeros(4, 1, 3, 3), None, torch.zeros(8, 4, 1, 1), None, 4, own)
    for made in (alone, layer):
        with pytest.raises(
            ArgumentError, match=r"expected a float32 residual of .* \(1, 8, 6, 6\)"
        ):
            made(x, torch.zeros(1, 8, 6, 5))
        with pytest.raises(ArgumentError, match="expected a float32 residual"):
            made(x, torch.zeros(1, 8, 6, 6, dtype=torch.float64))
    depthwise = PackedLayer(torch.zeros(4, 1, 3, 3), None, None, None, 4, own)
    with pytest.raises(ArgumentError, match="a residual needs a pointwise step"):
        depthwise(x, x)
    with pytest.raises(ArgumentError, match="a residual needs a pointwise step and an input of"):
        layer(x.bfloat16(), torch.zeros(1, 8, 6, 6))
