"""Depthwise tiles inside the image and at its edges, whose columns lie side by side in memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from guarded_memory import GuardedRun, guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import last, normal_numbers
from surrounded import surrounded

from separable.engine.compiled import thread_pool as pool
from separable.nn.fused.kernel_plan import kernels
from separable.nn.fused.layer_tiling import layer_plan
from separable.nn.fused.operators import Window, depthwise_by_torch
from separable.nn.fused.packed_layer import PackedLayer

pytestmark = pytest.mark.widths

OPS = torch.ops.separable
TAPS = (3, 5, 7, 9)


@pytest.fixture(autouse=True)
def _same_threads() -> Any:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@st.composite
def edge_layers(draw: Any) -> tuple[list[Any], list[list[int]]]:
    """Return a layer whose channels fill vectors, with any padding and a row of 5 to 40 outputs."""
    ndim = draw(st.integers(1, 3))
    taps = draw(st.sampled_from(TAPS))
    kernel = [draw(st.integers(1, 3)) for _ in range(ndim - 1)] + [taps]
    stride = [draw(st.integers(1, 2)) for _ in range(ndim)]
    padding = [draw(st.integers(0, 2)) for _ in range(2 * ndim)]
    size = [k + draw(st.integers(0, 3)) for k in kernel[:-1]]
    width = draw(st.integers(5, 40)) * stride[-1] + draw(st.integers(0, 1))
    channels, multiplier = draw(st.sampled_from([16, 32, 48])), draw(st.integers(1, 2))
    normal = normal_numbers(draw)
    x = last(normal(draw(st.integers(1, 2)), channels, *size, width + taps))
    weight, bias = normal(channels * multiplier, 1, *kernel), normal(channels * multiplier)
    padding[:-2] = [1 if n == 2 else n for n in padding[:-2]]
    return [x, weight, bias], [stride, padding, [1] * ndim]


def _wide(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [t.double() for t in tensors]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 1e-2)])
def test_values_of_depthwise_layers(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "poison", True)

    @settings(max_examples=60)
    @given(edge_layers())
    def check(case: tuple[list[Any], list[list[int]]]) -> None:
        tensors, window = case
        tensors = [t.to(dtype) for t in tensors]
        if dtype is torch.float32:
            tensors[0] = surrounded(tensors[0])
        exact = depthwise_by_torch(*_wide(tensors), *Window(*window))
        depth = tensors[1].shape[0]
        point = torch.eye(depth).to(dtype).view(depth, depth, *[1] * len(window[0]))
        for run in (
            lambda: OPS.depthwise(*tensors, *window, "none"),
            lambda: OPS.depthwise_separable(*tensors, point, None, *window, "none", "none"),
        ):
            found = []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                found.append(run())
            scale = 1 + float(exact.abs().max())
            assert float((found[0].double() - exact).abs().max()) <= tolerance * scale
            assert all(torch.equal(found[0], f) for f in found[1:])

    check()


@settings(max_examples=25)
@given(edge_layers())
def test_gradients_of_depthwise_layers(case: tuple[list[Any], list[list[int]]]) -> None:
    tensors, window = case
    found = []
    for threads, given_ in ((1, tensors), (2, tensors), (2, _wide(tensors))):
        torch.set_num_threads(threads)
        leaves = [t.detach().requires_grad_() for t in given_]
        out = OPS.depthwise(*leaves, *window, "none")
        back = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
        found.append(torch.autograd.grad(out, leaves, back))
    for one, two, exact in zip(*found, strict=True):
        assert torch.equal(one, two)
        scale = 1 + float(exact.abs().max())
        assert float((one.double() - exact).abs().max()) <= 3e-5 * scale


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), 1, (1,) * 6),
        ((1, 3, 3), 2, (0, 0, 1, 1, 1, 1)),
        ((1, 3, 3), 1, (0,) * 6),
        ((1, 1, 3), 1, (0, 0, 0, 0, 1, 0)),
        ((1, 7, 7), 1, (0, 0, 3, 3, 3, 3)),
        ((1, 1, 9), 1, (0,) * 6),
        ((1, 5, 5), 1, (0,) * 6),
    ],
)
def test_nothing_outside_the_arrays_is_touched(
    kernel: tuple[int, ...], stride: int, padding: tuple[int, ...], at_end: bool
) -> None:
    size, channels = (3, 9, 23), 32
    x = guarded(math.prod(size) * channels, at_end).normal_().view(1, *size, channels)
    x = x.movedim(-1, 1)
    weight = torch.randn(channels, 1, *kernel)
    settings_ = ((1, stride, stride), padding, (1, 1, 1), 0, 0)
    layer = PackedLayer(weight, None, None, None, channels, settings_)
    exact = layer(x)
    plan = layer_plan(layer.geometry(x.shape, 4), 2)
    shape = [exact.shape[i] for i in (0, 2, 3, 4, 1)]
    out = guarded(math.prod(shape), at_end).view(shape)
    kernels().run(GuardedRun(plan, at_end), (x.data_ptr(), *layer.addresses), out.data_ptr(), 2, 0)
    assert torch.equal(out.movedim(-1, 1), exact)


def test_most_tiles_of_a_padded_row_need_no_table() -> None:
    """With padding 1 all tiles of a row lie side by side; with 2, those at the ends do not."""
    for padding, expected in ((1, [1, 0, 0, 0, 2]), (2, [-1, 0, 0, 0, -1])):
        weight = torch.randn(32, 1, 3, 3)
        layer = PackedLayer(weight, None, None, None, 32, ((1, 1), (padding,) * 4, (1, 1), 0, 0))
        width = 34 - 2 * padding
        plan = layer_plan(layer.geometry((1, 32, 8, width), 4), 1)
        table = plan._edges(5, 9, 0)
        assert table[:, 0].tolist() == expected
        assert table[:, 2].tolist() == [0, 0, 0, 0, 3]


def test_infinite_inputs_and_nan_stay_within_the_support() -> None:
    x = last(torch.randn(1, 32, 1, 4, 30))
    weight = torch.randn(32, 1, 1, 3, 3)
    window = [1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1]
    expected = depthwise_by_torch(x, weight, None, *window)
    for bad in (float("inf"), float("nan")):
        spoilt = x.clone(memory_format=torch.preserve_format)
        spoilt[0, 3, 0, 2, 29] = bad
        found = OPS.depthwise(spoilt, weight, None, *window, "none")
        touched = torch.zeros(found.shape, dtype=torch.bool)
        touched[0, 3, 0, 1:4, 28:] = True
        assert not found[touched].isfinite().any()
        torch.testing.assert_close(found[~touched], expected[~touched])
