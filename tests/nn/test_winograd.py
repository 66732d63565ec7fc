"""Convolutions with three taps along one axis or two by Winograd's minimal filtering against PyTorch in float64: values, errors, memory, threads."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from guarded_memory import GuardedRun, guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import dense_by_torch, drawn_size, last, normal_numbers

from separable.engine.compiled import thread_pool as pool
from separable.nn.fused import dense_layer, winograd_tiling
from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution
from separable.nn.fused.dense_tiling import DensePlan, Steps
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.winograd_tiling import WinogradPlan, can_use_winograd, winograd_pays


@pytest.fixture(autouse=True)
def same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture
def always(monkeypatch):
    """Winograd's filtering wherever it can be used."""
    monkeypatch.setattr(dense_layer, "winograd_pays", lambda conv, *_: can_use_winograd(conv))
    monkeypatch.setattr(dense_layer, "FIRST_CHANNELS", 0)


def layer_of(weight, bias, padding, act, exact=False):
    return PackedConvolution(weight, bias, ACTIVATIONS.index(act), settings_of(padding), exact)


def settings_of(padding):
    ones = (1,) * (len(padding) // 2)
    return ConvSettings(ones, padding, ones)


def by_torch(x, weight, bias, residual, padding, act):
    return dense_by_torch(x, weight, bias, residual, settings_of(padding), act)


@st.composite
def cases(draw):
    """Return an input, weights, a bias or None, a residual or None, padding and an activation."""
    kernel = draw(st.sampled_from([(3, 3), (3, 1), (1, 3), (3,)]))
    ends = 2 * len(kernel)
    padding = tuple(draw(st.lists(st.integers(0, 3), min_size=ends, max_size=ends)))
    size = drawn_size(draw, (kernel, padding, (1,) * len(kernel)), 13)
    channels = draw(st.sampled_from([1, 3, 8, 16, 17, 33]))
    outputs = draw(st.sampled_from([1, 5, 16, 31, 64, 70]))
    normal = normal_numbers(draw)
    x = last(normal(draw(st.integers(1, 3)), channels, *size))
    weight = normal(outputs, channels, *kernel)
    bias = normal(outputs) if draw(st.booleans()) else None
    residual = None
    if draw(st.booleans()):
        residual = normal(*by_torch(x, weight, bias, None, padding, "none").shape)
    return x, weight, bias, residual, padding, draw(st.sampled_from(ACTIVATIONS))


@pytest.mark.parametrize("limit", [winograd_tiling.GROUP_BYTES, 0])
def test_values(limit, monkeypatch, always):
    """Compare with PyTorch; with the limit of 0 groups have at most 6 tiles."""
    monkeypatch.setattr(pool, "poison", True)
    monkeypatch.setattr(winograd_tiling, "GROUP_BYTES", limit)
    winograd_tiling.winograd_plan.cache_clear()

    @settings(max_examples=80)
    @given(cases())
    def check(case):
        x, weight, bias, residual, padding, act = case
        layer = layer_of(weight, bias, padding, act)
        found = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(layer(x, residual))
        assert all(isinstance(p.plan, WinogradPlan) for p in layer._plans.values())
        exact = by_torch(*case)
        assert found[0].shape == exact.shape
        assert (found[0] - exact).abs().max() <= 1e-5 * (exact.abs().max() + 1)
        assert all(torch.equal(found[0], other) for other in found[1:])

    check()
    winograd_tiling.winograd_plan.cache_clear()


@pytest.mark.parametrize("channels", [64, 128, 256, 512])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3)])
def test_errors_are_at_most_twice_those_of_the_direct_kernel(channels, kernel, always):
    generator = torch.Generator().manual_seed(channels)
    x = last(torch.randn(1, channels, 21, 22, generator=generator))
    weight = torch.randn(64, channels, *kernel, generator=generator)
    weight /= weight[0].numel() ** 0.5
    exact = by_torch(x, weight, None, None, (1,) * 4, "none")
    found = {}
    for direct in (False, True):
        layer = layer_of(weight, None, (1,) * 4, "none", direct)
        found[direct] = (layer(x) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
        kind = DensePlan if direct else WinogradPlan
        assert all(isinstance(p.plan, kind) for p in layer._plans.values())
    assert found[False] <= 2 * found[True]
    assert found[False] <= 3e-6


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (3, 1), (1, 3)])
@pytest.mark.parametrize(
    ("channels", "outputs", "size"), [(17, 33, (9, 8)), (16, 64, (5, 13)), (40, 5, (3, 3))]
)
def test_guard_pages(channels, outputs, size, kernel, at_end, always):
    x = last(torch.randn(2, channels, *size))
    weight, bias = torch.randn(outputs, channels, *kernel), torch.randn(outputs)
    layer = layer_of(weight, bias, (1, 0, 2, 1), "silu")
    residual = last(torch.randn(layer(x).shape))
    exact = layer(x, residual).movedim(1, -1)
    plan, addresses = layer.planned(2, (1, *size), Steps(), 2)
    weights = layer._packed["winograd"]
    assert addresses == (weights.data_ptr(), layer._bias.data_ptr())
    arrays = [x.movedim(1, -1), weights, layer._bias, residual.movedim(1, -1)]
    held = [guarded(a.numel(), at_end).copy_(a.reshape(-1)) for a in arrays]
    out = guarded(exact.numel(), at_end)
    pool.run(GuardedRun(plan, at_end), (*(a.data_ptr() for a in held), 0), out.data_ptr(), 2)
    assert torch.equal(out.reshape(exact.shape), exact)


def test_arrays_that_are_slices_of_channels(always):
    x, weight = last(torch.randn(2, 12, 10, 11)), torch.randn(36, 12, 3, 3)
    layer = layer_of(weight, None, (1,) * 4, "relu6")
    residual = last(torch.randn(2, 36, 10, 11))
    exact = layer(x, residual).movedim(1, -1)
    wide = [torch.full((2, 10, 11, n + 9), float("nan")) for n in (12, 36, 36)]
    for array, value in zip(wide, (x, residual), strict=False):
        array[..., 4:-5] = value.movedim(1, -1)
    steps = Steps(False, *(wide[n].shape[-1] * 4 for n in (0, 2, 1)))
    plan, addresses = layer.planned(2, (1, 10, 11), steps, 2)
    start = [a.data_ptr() + 16 for a in wide]
    pool.run(plan, (start[0], *addresses, start[1], 0), start[2], 2)
    assert torch.equal(wide[2][..., 4:-5], exact)
    assert wide[2][..., :4].isnan().all()
    assert wide[2][..., -5:].isnan().all()


def test_it_is_used_where_it_pays_and_exact_turns_it_off():
    weight = torch.randn(64, 64, 3, 3)
    x = last(torch.randn(1, 64, 28, 28))
    fast, exact = (layer_of(weight, None, (1,) * 4, "none", e) for e in (False, True))
    assert not torch.equal(fast(x), exact(x))
    for threads in (1, 2, 3):
        assert isinstance(fast.planned(1, (1, 28, 28), Steps(), threads).plan, WinogradPlan)
        assert isinstance(exact.planned(1, (1, 28, 28), Steps(), threads).plan, DensePlan)
    conv = fast.conv
    assert winograd_pays(conv, 1, (1, 56, 56))
    # A single output needs a whole tile; weights of 512 channels outweigh one tile of 3 x 3 outputs.
    assert not winograd_pays(conv, 1, (1, 1, 1))
    assert not winograd_pays(replace(conv, inputs=512, outputs=512), 1, (1, 3, 3))
    for change in ({"stride": (1, 2, 1)}, {"dilation": (1, 1, 2)}, {"groups": 2}, {"kernel": (1, 3, 5)},
                   {"kernel": (3, 3, 3)}, {"kernel": (1, 1, 1)}):  # fmt: skip
        assert not can_use_winograd(replace(conv, **change))
        assert not winograd_pays(replace(conv, **change), 1, (1, 56, 56))


@pytest.mark.parametrize(("kernel", "act"), [((3, 3), "relu"), ((3, 1), "silu"), ((1, 3), "none")])
def test_numbers_that_are_not_finite_stay_within_the_kernel(kernel, act, always):
    """Tiles with such numbers are computed directly, with the bits of the direct kernel."""
    weight, x = torch.randn(70, 20, *kernel), last(torch.randn(2, 20, 18, 19))
    bias, residual = torch.randn(70), torch.randn(2, 70, 18, 19)
    high, wide = (k // 2 for k in kernel)
    padding = (high, high, wide, wide)
    clean = layer_of(weight, bias, padding, act)(x, residual)
    # At each of the 36 places of a tile, two tiles apart from the next; one overflows only in the transforms.
    for n in range(36):
        bad = x.clone(memory_format=torch.preserve_format)
        value = (float("nan"), float("inf"), -float("inf"), 3e38)[n % 4]
        y, column = 3 + n // 6, 7 + n % 6
        bad[0, n % 20, y, column] = value
        bad[1, 3, 17, 18] = value
        found = layer_of(weight, bias, padding, act)(bad, residual)
        exact = layer_of(weight, bias, padding, act, True)(bad, residual)
        touched = torch.zeros(2, 1, 18, 19, dtype=torch.bool)
        touched[0, :, y - high : y + high + 1, column - wide : column + wide + 1] = True
        touched[1, :, 17 - high :, 18 - wide :] = True
        touched = touched.expand_as(exact)
        assert torch.equal(found[touched].isnan(), exact[touched].isnan())
        assert torch.equal(found[touched].nan_to_num(), exact[touched].nan_to_num())
        assert (found[~touched] - clean[~touched]).abs().max() <= 1e-4 * clean.abs().max()


NARROW = """
import torch
from separable.engine.compiled.jit import vector_bits
from separable.nn.fused import dense_layer, winograd_tiling
from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution
dense_layer.winograd_pays = lambda *_: True
torch.manual_seed(0)
own = ConvSettings((1, 1), (1, 2, 0, 1), (1, 1))
x, weight, bias = torch.randn(2, 10, 13, 12), torch.randn(37, 10, 3, 3), torch.randn(37)
found = PackedConvolution(weight, bias, 1, own)(x)
wide = torch.nn.functional.pad(x.double(), (0, 1, 1, 2))
exact = torch.nn.functional.conv2d(wide, weight.double(), bias.double()).relu()
assert (found - exact).abs().max() < 1e-4
print(vector_bits(), float(found.double().sum()), float(found[1, 36, 3, 4]))
"""


@pytest.mark.widths
def test_vectors_of_128_bits_give_the_same_bits():
    texts = []
    for bits in ("", "128"):
        there = {**os.environ, "SEPARABLE_VECTOR_BITS": bits}
        done = subprocess.run(
            [sys.executable, "-c", NARROW], env=there, check=True, capture_output=True, text=True
        )
        texts.append(done.stdout.split())
    assert texts[1][0] == "128"
    assert texts[0][1:] == texts[1][1:]
