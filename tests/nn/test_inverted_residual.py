"""Inverted residuals as one step against PyTorch in float64: values, memory, threads, the choice of steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import drawn_size, normal_numbers
from surrounded import Surrounded, surrounded

from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused.inverted_residual import (
    InvertedSizes,
    PackedInverted,
    inverted_plan,
    pays,
    serves,
)
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate, convolve, depthwise_by_torch


@pytest.fixture(autouse=True)
def same_threads(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@st.composite
def cases(draw):
    """An input, the weights and biases of three steps, the window and the activations."""

    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, stride, dilation = pair(1, 7), pair(1, 3), pair(1, 2)
    padding = (*pair(0, 4), *pair(0, 4))
    size = drawn_size(draw, (kernel, padding, dilation), 19)
    channels, outputs = (draw(st.sampled_from([1, 5, 16, 33])) for _ in range(2))
    depth = draw(st.sampled_from([3, 16, 64, 70, 144]))
    normal = normal_numbers(draw)

    def bias(count):
        return normal(count) if draw(st.booleans()) else None

    steps = (
        (normal(depth, channels, 1, 1) / channels**0.5, bias(depth)),
        (normal(depth, 1, *kernel), bias(depth)),
        (normal(outputs, depth, 1, 1) / depth**0.5, bias(outputs)),
    )
    acts = tuple(draw(st.integers(0, 4)) for _ in range(3))
    x = normal(draw(st.integers(1, 3)), channels, *size)
    return x, steps, (stride, padding, dilation), acts, draw(st.booleans())


def by_torch(x, steps, window, acts, *, only_two=False):
    """The three steps, or the first two, one after the other in float64."""
    (expand, one), (depthwise, two), (project, three) = (
        (w.double(), None if b is None else b.double()) for w, b in steps
    )
    x = activate(convolve(x.double(), expand, one), ACTIVATIONS[acts[0]])
    x = activate(depthwise_by_torch(x, depthwise, two, *window), ACTIVATIONS[acts[1]])
    if only_two:
        return x
    return activate(convolve(x, project, three), ACTIVATIONS[acts[2]])


@given(cases())
def test_values(case):
    x, steps, window, acts, has_residual = case
    exact = by_torch(x, steps, window, acts)
    other = torch.randn(exact.shape) if has_residual else None
    exact = exact if other is None else exact + other
    layer = PackedInverted(*steps, acts, window)
    x = surrounded(x)
    residual = None if other is None else surrounded(other)
    for as_one in (True, False):
        found = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(layer(x, residual, as_one=as_one))
        assert (found[0] - exact).abs().max() <= 2e-5 * (exact.abs().max() + 1)
        assert all(torch.equal(found[0], f) for f in found[1:])


@given(cases())
def test_nothing_outside_the_output_is_written(case):
    x, steps, window, acts, _ = case
    layer = PackedInverted(*steps, acts, window)
    sizes = layer.sizes(x.shape, has_residual=False)
    assert serves(sizes)
    x = surrounded(x)
    for outputs in (sizes.outputs, 0):
        target = Surrounded((x.shape[0], outputs or sizes.depth, *sizes.out_size))
        plan = inverted_plan(replace(sizes, outputs=outputs), 2)
        pool.run(plan, (x.data_ptr(), *layer._addresses, 0), target.tensor.data_ptr(), 2)
        assert target.is_untouched_outside()
        assert not target.tensor.isnan().any()


@given(cases())
def test_a_pointwise_and_a_depthwise_step(case):
    x, steps, window, acts, _ = case
    exact = by_torch(x, steps, window, acts, only_two=True)
    layer = PackedInverted(*steps[:2], None, acts, window)
    x = surrounded(x)
    found = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found.append(layer(x))
    assert found[0].shape == exact.shape
    assert (found[0] - exact).abs().max() <= 2e-5 * (exact.abs().max() + 1)
    assert all(torch.equal(found[0], f) for f in found[1:])
    assert pays(layer.sizes(x.shape, has_residual=False), 2)


def test_layouts_and_empty_batches():
    steps = (
        (torch.randn(40, 8, 1, 1), None),
        (torch.randn(40, 1, 3, 3), None),
        (torch.randn(12, 40, 1, 1), None),
    )
    layer = PackedInverted(*steps, (1, 1, 0), ((1, 1), (1, 1, 1, 1), (1, 1)))  # fmt: skip
    first = torch.randn(2, 8, 9, 10)
    last = first.contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(first), layer(last))
    assert layer(first).is_contiguous()
    assert layer(last).is_contiguous(memory_format=torch.channels_last)
    assert layer(first[:0]).shape == (0, 12, 9, 10)
    with pytest.raises(ArgumentError, match="expected an input of 8 channels"):
        layer(torch.randn(1, 9, 5, 5))
    with pytest.raises(ArgumentError, match="expected a residual of the shape of the output"):
        layer(first, torch.randn(2, 12, 9, 9))


def sizes_of(size, channels, depth, stride=1):
    return InvertedSizes(
        1, channels, depth, channels, (size, size), (3, 3), (stride, stride), (1, 1), (1, 1), (1, 1),
        (2, 2, 0),
    )  # fmt: skip


def test_large_maps_run_as_one_step_and_small_ones_in_many_threads_do_not():
    assert pays(sizes_of(56, 24, 144), 2)
    assert pays(sizes_of(7, 160, 960), 1)
    assert not pays(sizes_of(7, 160, 960), 4)  # bands of two rows would expand four rows each


def test_rows_that_do_not_fit_the_cache_are_not_served():
    assert serves(sizes_of(112, 16, 96, stride=2))
    assert not serves(sizes_of(4096, 16, 96))
    assert not serves(replace(sizes_of(2, 16, 96), before=(0, 0), after=(0, 0)))  # no output
