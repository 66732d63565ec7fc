"""Linear layers, the factors of squeeze-and-excitation, and transposes against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from step_oracle import Surrounded, near, on_all_threads, threads_restored
from torch import nn as tnn
from torch.nn import functional

from separable.engine.compiled import thread_pool
from separable.errors import ArgumentError
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import TransposePlan
from separable.nn.fused.openmp import run
from separable.nn.fused.operators import activate
from separable.nn.fused.steps.linear import (
    Excitation,
    PackedLinear,
    linear_plan,
    pack_linear,
    run_excitation,
)
from separable.nn.fused.steps.pooling import average_plans, slabs_of

SIZES = st.sampled_from([1, 3, 16, 17, 64, 130])


@given(
    st.sampled_from([1, 2, 5, 40]), SIZES, SIZES, st.integers(0, len(ACTIVATIONS) - 1), st.booleans()
)  # fmt: skip
def test_linear(rows, inputs, outputs, act, with_bias) -> None:
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs**0.5
    bias = torch.randn(outputs) if with_bias else None
    wide = [None if t is None else t.double() for t in (x, weight, bias)]
    exact = activate(functional.linear(*wide), ACTIVATIONS[act])
    source, packed = Surrounded(x), pack_linear(weight, bias)

    def step(target: Surrounded) -> None:
        threads = torch.get_num_threads()
        plan = linear_plan(rows, inputs, outputs, act, threads)
        addresses = (source.tensor.data_ptr(), 0, 0, *(t.data_ptr() for t in packed))
        run(plan, addresses, target.tensor.data_ptr(), threads)

    near(on_all_threads(step, (rows, outputs)), exact, 1e-5)


def test_linear_layer_as_a_function() -> None:
    layer = tnn.Linear(20, 30)
    packed = PackedLinear(layer.weight, layer.bias, ACTIVATIONS.index("gelu"))
    x = torch.randn(2, 5, 20).transpose(0, 1)
    torch.testing.assert_close(packed(x), functional.gelu(layer(x)), rtol=1e-4, atol=1e-5)
    assert packed(x[:0]).shape == (0, 2, 30)
    with pytest.raises(ArgumentError, match="linear: expected an input of 20 channels"):
        packed(torch.zeros(2, 21))


def test_weights_for_flattened_images() -> None:
    image, layer = torch.randn(2, 6, 3, 5), tnn.Linear(90, 17)
    rows = image.permute(0, 2, 3, 1).reshape(2, 90).contiguous()
    packed = pack_linear(layer.weight, layer.bias, (3, 5))
    out = torch.empty(2, 17)
    addresses = (rows.data_ptr(), 0, 0, *(t.data_ptr() for t in packed))
    run(linear_plan(2, 90, 17, 0, 1), addresses, out.data_ptr(), 1)
    torch.testing.assert_close(out, layer(image.flatten(1)), rtol=1e-4, atol=1e-5)


@given(
    st.integers(1, 3), st.sampled_from([9, 3136]), SIZES, st.sampled_from([1, 3, 8, 70]),
    st.sampled_from([("silu", "sigmoid"), ("relu", "hardsigmoid")]),
)  # fmt: skip
def test_squeeze_and_excitation(images, positions, channels, hidden, names) -> None:
    """The mean over all positions, in slabs where there are many, then both layers in one step."""
    x = torch.randn(images, positions, channels) + 0.5
    first, second = tnn.Linear(channels, hidden), tnn.Linear(hidden, channels)
    squeezed = activate(first.double()(x.double().mean(1)), names[0])
    exact = activate(second.double()(squeezed), names[1]).detach()
    packed = [*pack_linear(first.weight, first.bias), *pack_linear(second.weight, second.bias)]
    slabs = slabs_of(images, positions, channels)
    acts = ACTIVATIONS.index(names[0]), ACTIVATIONS.index(names[1])
    sizes = Excitation(images, channels, hidden, acts, slabs, positions if slabs > 1 else 1)
    sums = torch.empty(images, slabs, channels)

    def step(target: Surrounded) -> None:
        threads = torch.get_num_threads()
        plan = average_plans(images, positions, channels, threads)[0]
        run(plan, (x.data_ptr(), 0, 0, 0, 0), sums.data_ptr(), threads)
        run_excitation(sizes, sums, packed, target.tensor)

    try:
        thread_pool.poison = True
        found = on_all_threads(step, (images, channels))
    finally:
        thread_pool.poison = False
    near(found, exact, 3e-6)


@given(st.integers(1, 3), SIZES, st.one_of(SIZES, st.sampled_from([20_011, 50_176])))
def test_transposes_are_steps(matrices, rows, columns) -> None:
    source = Surrounded(torch.randn(matrices, rows, columns))
    with threads_restored():
        found = on_all_threads(
            lambda target: run(
                TransposePlan(matrices, rows, columns), (source.tensor.data_ptr(), 0, 0, 0, 0),
                target.tensor.data_ptr(), torch.get_num_threads(),
            ),
            (matrices, columns, rows),
        )  # fmt: skip
    assert torch.equal(found, source.values.transpose(1, 2))
