"""Elementwise steps, layer normalisation and softmax against PyTorch in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from step_oracle import Surrounded, near, on_all_threads
from torch.nn import functional

from separable.errors import ArgumentError
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate
from separable.nn.fused.steps.elementwise import (
    OPERATIONS,
    Elementwise,
    pack_scalar,
    run_elementwise,
)
from separable.nn.fused.steps.layer_norm import (
    LayerNorm,
    pack_layer_norm,
    run_layer_norm,
    run_softmax,
)

CHANNELS = st.sampled_from([1, 3, 16, 17, 24, 64, 70])
FUNCTIONS = {
    "copy": lambda a, b, c: a,
    "add": lambda a, b, c: a + b,
    "sub": lambda a, b, c: a - b,
    "mul": lambda a, b, c: a * b,
    "div": lambda a, b, c: a / b,
    "scale": lambda a, b, c: a * b + c,
    "prelu": lambda a, b, c: torch.where(a < 0, a * b, a),
}


def test_every_operation_has_an_oracle() -> None:
    assert tuple(FUNCTIONS) == OPERATIONS


@st.composite
def cases(draw):
    images, positions = draw(st.integers(1, 3)), draw(st.sampled_from([1, 7, 50, 300]))
    repeats = draw(st.sampled_from(["none", "channel", "image", "scalar"]))
    operation, act = draw(st.sampled_from(OPERATIONS)), draw(st.integers(0, len(ACTIVATIONS) - 1))
    beside = draw(st.sampled_from([0, 0, 5])) if repeats != "scalar" else 0
    return images, positions, draw(CHANNELS), operation, act, repeats, beside


@given(cases())
def test_elementwise(case) -> None:
    images, positions, channels, operation, act, repeats, beside = case
    shape = (images, positions, channels)
    other_shape = {
        "none": shape, "channel": (1, 1, channels), "image": (images, 1, channels), "scalar": (1, 1, 1),
    }[repeats]  # fmt: skip
    a = torch.randn(shape)
    b, c = torch.randn(other_shape).abs() + 0.5, torch.randn(other_shape)
    exact = activate(FUNCTIONS[operation](a.double(), b.double(), c.double()), ACTIVATIONS[act])
    source = Surrounded(a, beside)
    wide = beside if repeats == "none" else 0
    if repeats == "scalar":
        others = [Surrounded(pack_scalar(float(t))) for t in (b, c)]
    else:
        others = [Surrounded(t, wide) for t in (b, c)]
    steps = (source.step, source.step, others[0].step) if beside else (0, 0, 0)
    if repeats != "none":
        steps = (*steps[:2], 0)
    sizes = Elementwise(images, positions, channels, operation, act, repeats, *steps)

    def step(target: Surrounded) -> None:
        run_elementwise(sizes, source.tensor, target.tensor, *(o.tensor for o in others))

    found = on_all_threads(step, shape, beside)
    near(found, exact, 2e-6)
    on_itself = Surrounded(a, beside)
    run_elementwise(sizes, on_itself.tensor, on_itself.tensor, *(o.tensor for o in others))
    assert torch.equal(on_itself.values, found)
    assert on_itself.is_untouched_around()


def test_large_arrays_are_shared_by_all_threads() -> None:
    a, b = torch.randn(2, 1, 300_001), torch.randn(2, 1, 300_001)
    sizes = Elementwise(2, 1, 300_001, "add", ACTIVATIONS.index("relu"))
    found = on_all_threads(lambda target: run_elementwise(sizes, a, target.tensor, b), a.shape)
    assert torch.equal(found, torch.relu(a + b))


def test_nan_and_infinity_pass() -> None:
    a = torch.tensor([math.nan, math.inf, -math.inf, 1.0, -1.0])
    sizes = Elementwise(1, 1, 5, "copy", ACTIVATIONS.index("relu6"))
    found = run_elementwise(sizes, a, torch.empty(5))
    assert found.isnan().tolist() == [True, False, False, False, False]
    assert found[1:].tolist() == [6.0, 0.0, 1.0, 0.0]


def test_a_clamp_of_any_bounds() -> None:
    a = torch.randn(3, 1, 50)
    sizes = Elementwise(3, 1, 50, clamp=(-0.5, 0.25))
    found = on_all_threads(lambda target: run_elementwise(sizes, a, target.tensor), a.shape)
    assert torch.equal(found, a.clamp(-0.5, 0.25))


def test_a_scalar_needs_dense_arrays() -> None:
    sizes = Elementwise(1, 4, 5, "add", repeats="scalar", source_step=24)
    with pytest.raises(ArgumentError, match="dense arrays only"):
        run_elementwise(sizes, torch.zeros(30), torch.zeros(20), pack_scalar(1.0))


@given(
    rows=st.sampled_from([1, 2, 7, 200]), channels=CHANNELS, beside=st.sampled_from([0, 3]),
    act=st.integers(0, len(ACTIVATIONS) - 1), offset=st.sampled_from([0.0, 100.0]), plain=st.booleans(),
)  # fmt: skip
def test_layer_norm(rows, channels, beside, act, offset, plain) -> None:
    x = torch.randn(rows, channels) + offset
    weight, bias = (None, None) if plain else (torch.randn(channels), torch.randn(channels))
    wide = [None if t is None else t.double() for t in (weight, bias)]
    exact = activate(functional.layer_norm(x.double(), (channels,), *wide, 1e-3), ACTIVATIONS[act])
    source = Surrounded(x, beside)
    sizes = LayerNorm(rows, channels, 1e-3, act, source.step, source.step)
    packed = pack_layer_norm(weight, bias, channels)
    found = on_all_threads(
        lambda target: run_layer_norm(sizes, source.tensor, packed, target.tensor), x.shape, beside
    )
    near(found, exact, 3e-6 if offset == 0 else 1e-4)
    theirs = functional.layer_norm(x, (channels,), weight, bias, 1e-3)
    error = (activate(theirs, ACTIVATIONS[act]).double() - exact).abs().max()
    assert float((found.double() - exact).abs().max()) <= 3 * float(error) + 3e-6


@settings(max_examples=20)
@given(
    rows=st.sampled_from([1, 5, 70]), channels=CHANNELS, size=st.sampled_from([1.0, 30.0, 1000.0])
)
def test_softmax(rows, channels, size) -> None:
    x = size * torch.randn(rows, channels)
    source = Surrounded(x)
    found = on_all_threads(lambda target: run_softmax(source.rows, target.tensor), x.shape)
    near(found, x.double().softmax(-1), 1e-6)


def test_softmax_of_masked_values() -> None:
    x = torch.tensor([[0.0, -math.inf, 1.0], [math.nan, 0.0, 1.0]])
    found = run_softmax(x, torch.empty_like(x))
    torch.testing.assert_close(found[0], x[0].softmax(-1))
    assert found[0, 1] == 0
    assert found[1].isnan().all()
