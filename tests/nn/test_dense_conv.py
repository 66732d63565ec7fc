"""Dense convolutions by the compiled kernels against PyTorch in float64: values, memory, threads, bad input."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
import torch
from guarded_memory import GuardedRun, guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import dense_by_torch, drawn_size, last, normal_numbers

from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused import dense_tiling
from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution
from separable.nn.fused.dense_tiling import Steps, panels_of
from separable.nn.fused.layer_tiling import ACTIVATIONS


@pytest.fixture(autouse=True)
def same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@st.composite
def cases(draw):
    """Return an input, weights, a bias or None, a residual or None, settings and an activation."""
    ndim = draw(st.integers(1, 3))

    def each(low, high, count=ndim):
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    padding = each(0, 3, 2 * ndim) if draw(st.booleans()) else (0,) * (2 * ndim)
    size = drawn_size(draw, (kernel, padding, dilation), 15 if ndim < 3 else 5)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = groups * draw(st.sampled_from([1, 2, 3, 8, 17]))
    outputs = groups * draw(st.sampled_from([1, 5, 16, 31, 64, 70]))
    normal = normal_numbers(draw)
    x = normal(draw(st.integers(1, 3)), channels, *size)
    x = last(x) if draw(st.booleans()) else x
    weight = normal(outputs, channels // groups, *kernel)
    bias = normal(outputs) if draw(st.booleans()) else None
    own = ConvSettings(stride, padding, dilation, groups)
    residual = None
    if draw(st.booleans()):
        residual = normal(*dense_by_torch(x, weight, bias, None, own, "none").shape)
    return x, weight, bias, residual, own, draw(st.sampled_from(ACTIVATIONS))


def packed(weight, bias, own, act):
    return PackedConvolution(weight, bias, ACTIVATIONS.index(act), own, exact=True)


def near(found, exact, tolerance=1e-5):
    assert found.shape == exact.shape
    scale = exact.abs().max() + 1  # inputs are of size 1; sums may cancel
    assert (found.double() - exact).abs().max() <= tolerance * scale


@pytest.mark.parametrize("limit", [dense_tiling.BOX_BYTES, 3000])
def test_values(limit, monkeypatch):
    """Compare with PyTorch; with the small limit there are many boxes and chunks of weights."""
    monkeypatch.setattr(pool, "poison", True)
    monkeypatch.setattr(dense_tiling, "BOX_BYTES", limit)
    monkeypatch.setattr(dense_tiling, "CHUNK_BYTES", limit)
    dense_tiling.dense_plan.cache_clear()

    @settings(max_examples=100)
    @given(cases())
    def check(case):
        x, weight, bias, residual, own, act = case
        layer = packed(weight, bias, own, act)
        found = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(layer(x, residual))
        near(found[0], dense_by_torch(*case))
        assert all(torch.equal(found[0], other) for other in found[1:])
        assert found[0].movedim(1, -1).is_contiguous()
        # Both layouts of the input give the same bits.
        other = (
            x.movedim(1, -1).contiguous().movedim(-1, 1) if x.is_contiguous() else x.contiguous()
        )
        assert torch.equal(found[0], layer(other, residual))

    check()
    dense_tiling.dense_plan.cache_clear()


LAYERS = [  # input channels, outputs, kernel, stride, padding, size: of common networks
    (3, 64, 7, 2, 3, (97, 131)),
    (3, 32, 3, 2, 1, (112, 112)),
    (64, 64, 3, 1, 1, (56, 56)),
    (320, 96, 3, 1, 1, (14, 14)),
    (640, 80, 3, 2, 1, (7, 9)),
    (96, 200, 1, 2, 0, (28, 28)),
    (64, 48, 9, 1, 4, (701,)),
    (16, 40, 3, 1, 1, (20, 19, 18)),
]


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layers_of_common_sizes(case, monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    channels, outputs, kernel, stride, padding, size = case
    ndim = len(size)
    own = ConvSettings((stride,) * ndim, (padding,) * 2 * ndim, (1,) * ndim)
    torch.manual_seed(1)
    weight = torch.randn(outputs, channels, *[kernel] * ndim) / (channels * kernel**ndim) ** 0.5
    x, bias = torch.randn(2, channels, *size), torch.randn(outputs)
    layer, found = packed(weight, bias, own, "relu"), []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found.append(layer(x))
    near(found[0], dense_by_torch(x, weight, bias, None, own, "relu"), 5e-6)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    ("channels", "outputs", "stride", "padding", "first"),
    [(3, 5, 1, 1, False), (3, 33, 2, 1, True), (17, 33, 2, 2, False), (16, 64, 1, 0, False),
     (300, 64, 1, 1, False), (5, 7, 2, 0, True)],
)  # fmt: skip
def test_guard_pages(channels, outputs, stride, padding, first, at_end):
    x = torch.randn(2, channels, 9, 8)
    own = ConvSettings((stride,) * 2, (padding,) * 4, (1, 1))
    weight, bias = torch.randn(outputs, channels, 3, 3), torch.randn(outputs)
    layer = packed(weight, bias, own, "silu")
    given_ = x if first else x.movedim(1, -1).contiguous().movedim(-1, 1)
    residual = torch.randn(layer(x).shape).movedim(1, -1).contiguous()
    exact = layer(given_, residual.movedim(-1, 1))
    plan, addresses = layer.planned(2, (1, 9, 8), Steps(first), 2)
    weights = layer._packed["direct"]
    assert addresses == (weights.data_ptr(), layer._bias.data_ptr())
    arrays = [given_ if first else given_.movedim(1, -1), weights, layer._bias, residual]
    held = [guarded(a.numel(), at_end).copy_(a.reshape(-1)) for a in arrays]
    out = guarded(exact.numel(), at_end)
    source = (*(a.data_ptr() for a in held), 0)
    pool.run(GuardedRun(plan, at_end), source, out.data_ptr(), 2)
    assert torch.equal(out.reshape(exact.movedim(1, -1).shape), exact.movedim(1, -1))


@pytest.mark.parametrize("padding", [0, 1])
def test_arrays_that_are_slices_of_channels(padding):
    """Inputs and residuals are read from, and outputs written to, some channels of wider arrays."""
    own = ConvSettings((2, 1), (padding,) * 4, (1, 1), 2)
    weight, bias = torch.randn(36, 6, 3, 3), torch.randn(36)
    x, layer = torch.randn(2, 12, 10, 11), packed(weight, bias, own, "relu6")
    exact = layer(x)
    residual = torch.randn(exact.shape)
    exact = layer(x, residual)
    wide = [torch.full((*a.movedim(1, -1).shape[:-1], a.shape[1] + 9), float("nan")) for a in (x, residual, exact)]  # fmt: skip
    for array, value in zip(wide, (x, residual), strict=False):
        array[..., 4 : 4 + value.shape[1]] = value.movedim(1, -1)
    steps = Steps(False, *(wide[n].shape[-1] * 4 for n in (0, 2, 1)))
    plan, addresses = layer.planned(2, (1, 10, 11), steps, 2)
    start = [a.data_ptr() + 16 for a in wide]
    pool.run(plan, (start[0], *addresses, start[1], 0), start[2], 2)
    assert torch.equal(wide[2][..., 4:40], exact.movedim(1, -1))
    assert wide[2][..., :4].isnan().all()
    assert wide[2][..., 40:].isnan().all()


def test_nan_stays_within_the_kernel_and_empty_batches():
    layer = packed(torch.randn(20, 3, 3, 3), None, ConvSettings((1, 1), (1,) * 4, (1, 1)), "relu")
    x = torch.randn(1, 3, 12, 12)
    x[0, 1, 0, 11] = float("nan")
    bad = layer(x).isnan()
    assert bad[..., :2, 10:].all()
    assert bad.sum() == 4 * 20
    assert layer(x[:0]).shape == (0, 20, 12, 12)


@pytest.mark.parametrize(
    ("shape", "residual", "message"),
    [
        ((1, 5, 6, 6), None, "expected an input of 4 channels"),
        ((1, 4, 1, 2), None, "the kernel is larger than the padded input"),
        ((1, 4, 6, 6), (1, 8, 6, 5), r"expected a float32 residual of the output's shape \(1, 8, 4, 4\); got torch.float32 of shape \(1, 8, 6, 5\)"),
    ],
)  # fmt: skip
def test_bad_input(shape, residual, message):
    layer = packed(torch.zeros(8, 4, 3, 3), None, ConvSettings((1, 1), (0,) * 4, (1, 1)), "none")
    added = None if residual is None else torch.zeros(residual)
    with pytest.raises(ArgumentError, match=message):
        layer(torch.zeros(shape), added)


NARROW = """
import torch
from separable.engine.compiled.jit import vector_bits
from separable.nn.fused import dense_tiling
from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution
torch.manual_seed(0)
own = ConvSettings((2, 1), (1, 2, 0, 1), (1, 2))
x, weight, bias = torch.randn(2, 10, 13, 12), torch.randn(37, 10, 3, 3), torch.randn(37)
found = PackedConvolution(weight, bias, 1, own, exact=True)(x)
wide = torch.nn.functional.pad(x.double(), (0, 1, 1, 2))
exact = torch.nn.functional.conv2d(wide, weight.double(), bias.double(), (2, 1), 0, (1, 2)).relu()
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


def test_panels_cover_all_outputs_once():
    for outputs, groups, vectors, lanes in itertools.product(
        (1, 16, 70, 200), (1, 2), (2, 4), (4, 16)
    ):
        panels = panels_of(outputs * groups, groups, vectors, lanes)
        covered = [n for p in panels for n in range(p.output, p.output + p.width)]
        assert covered == list(range(outputs * groups))
        assert all(p.vectors <= vectors and 0 < p.width <= p.vectors * lanes for p in panels)
        assert all(p.output // outputs == (p.output + p.width - 1) // outputs for p in panels)
