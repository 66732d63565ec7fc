"""Depthwise convolutions as two passes against PyTorch in float64: values, memory, threads, fusing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import drawn_size, normal_numbers
from surrounded import Surrounded, surrounded
from torch import nn as tnn
from torch.nn import functional

from separable import nn
from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused.fused_modules import FusedDepthwise, FusedSeparable
from separable.nn.fused.fused_split import FusedSplit, multiplied_out, terms_of
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate
from separable.nn.fused.spatial_pair import FusedPair
from separable.nn.fused.split_depthwise import PackedSplit, split_plan

pytestmark = pytest.mark.widths


@pytest.fixture(autouse=True)
def same_threads(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@st.composite
def cases(draw):
    """An input, taps along y and x, biases, the channel of each term, the window and the activations."""

    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, stride, dilation = pair(1, 33), pair(1, 3), pair(1, 2)
    padding = pair(0, 17), pair(0, 17)
    size = drawn_size(draw, (kernel, (*padding[0], *padding[1]), dilation), 40)
    channels = draw(st.sampled_from([1, 8, 16, 17, 40]))
    ranks = draw(st.lists(st.integers(0, 3), min_size=channels, max_size=channels))
    ranks[-1] = max(1, ranks[-1])  # at least one term
    terms = np.repeat(np.arange(channels), ranks)
    normal = normal_numbers(draw)
    tensors = [normal(len(terms), k) / k**0.5 for k in kernel]
    tensors += [normal(n) if draw(st.booleans()) else None for n in (len(terms), channels)]
    acts = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    x = normal(draw(st.integers(1, 2)), channels, *size)
    return x, tensors, terms, (stride, padding, dilation), acts


def by_torch(x, tensors, terms, window, acts):
    """The two passes one after the other in float64."""
    columns, rows, between, bias = (None if t is None else t.double() for t in tensors)
    stride, (down, across), dilation = window
    index = torch.from_numpy(terms)
    middle = functional.pad(x.double()[:, index], (0, 0, *down))
    middle = functional.conv2d(
        middle, columns[:, None, :, None], between, (stride[0], 1), 0, (dilation[0], 1), len(terms)
    )
    middle = functional.pad(activate(middle, ACTIVATIONS[acts[0]]), (*across, 0, 0))
    middle = functional.conv2d(
        middle, rows[:, None, None, :], None, (1, stride[1]), 0, (1, dilation[1]), len(terms)
    )
    out = middle.new_zeros(x.shape[0], x.shape[1], *middle.shape[2:]).index_add(1, index, middle)
    return activate(out if bias is None else out + bias[:, None, None], ACTIVATIONS[acts[1]])


@given(cases())
def test_values(case):
    x, tensors, terms, window, acts = case
    layer = PackedSplit(*tensors, terms, x.shape[1], window, acts)
    x = surrounded(x)
    found = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found.append(layer(x))
    assert all(torch.equal(found[0], f) for f in found[1:])
    exact = by_torch(x, tensors, terms, window, acts)
    assert found[0].shape == exact.shape
    assert (found[0] - exact).abs().max() <= 2e-5 * (exact.abs().max() + 1)
    sizes = layer.sizes(x.shape)
    target = Surrounded((x.shape[0], x.shape[1], *sizes.out_size))
    pool.run(split_plan(sizes, 2), (x.data_ptr(), *layer.addresses), target.tensor.data_ptr(), 2)
    assert target.is_untouched_outside()
    assert torch.equal(target.tensor, found[0])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_boxes_that_lie_below_the_image_write_nothing_before_their_memory(threads):
    x = torch.randn(1, 40, 13, 60)
    terms, window = np.arange(40), ((1, 1), ((0, 9), (0, 0)), (1, 1))
    tensors = [torch.randn(40, 1), torch.randn(40, 2), None, None]
    layer = PackedSplit(*tensors, terms, 40, window, (0, 0))
    exact = by_torch(x, tensors, terms, window, (0, 0))
    torch.set_num_threads(threads)
    for _ in range(20):
        assert (layer(surrounded(x)) - exact).abs().max() < 1e-4


def test_a_nan_stays_within_the_kernel():
    x = torch.zeros(1, 16, 40, 40)
    x[0, 3, 20, 21] = float("nan")
    terms = np.arange(16)
    window = ((1, 1), ((3, 3), (2, 2)), (1, 1))
    layer = PackedSplit(torch.ones(16, 7), torch.ones(16, 5), None, None, terms, 16, window, (0, 0))
    is_nan = layer(x).isnan()
    assert is_nan[0, 3, 17:24, 19:24].all()
    assert is_nan.sum() == 7 * 5


def test_layouts_empty_batches_and_bad_input():
    window = ((1, 1), ((0, 0), (0, 0)), (1, 1))
    layer = PackedSplit(
        torch.randn(8, 5), torch.randn(8, 5), None, None, np.arange(8), 8, window, (0, 0)
    )
    first = torch.randn(2, 8, 9, 10)
    assert torch.equal(layer(first), layer(first.contiguous(memory_format=torch.channels_last)))
    assert layer(first).is_contiguous()
    assert layer(first[:0]).shape == (0, 8, 5, 6)
    with pytest.raises(ArgumentError, match="the kernel is larger than the padded input"):
        layer(torch.randn(1, 8, 4, 9))
    with pytest.raises(ArgumentError, match="expected an input of 8 channels"):
        layer(torch.randn(1, 9, 9, 9))


UNEVEN = [1, 3, 2, 1, 1, 2, 3, 1]


@pytest.mark.parametrize("rank", [1, 2, UNEVEN])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("kernel", [(3, 3), (31, 33)])
def test_fused_factored_convolutions(rank, stride, kernel):
    layer = nn.FactoredConv("yx -> y,x", 8, 8, kernel, stride=stride, groups=8, rank=rank)
    norm = tnn.BatchNorm2d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net = tnn.Sequential(layer, norm, tnn.ReLU(), tnn.Conv2d(8, 5, 1)).eval()
    x = torch.randn(2, 8, 37, 34)
    fused, report = nn.fuse(net, x)
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()
    kinds = {type(m) for m in fused.modules()}
    if kernel == (3, 3):  # multiplied out, and joined with the pointwise step
        assert FusedSeparable in kinds
        assert len(report.fused) == 1
    else:
        assert FusedSplit in kinds
        assert FusedDepthwise not in kinds
    wide = fused.double()(x.double())  # by PyTorch; the weights were rounded to float32
    assert (wide - exact).abs().max() <= 1e-6 * exact.abs().max()


def chain(first, second, bias, between=None):
    pads = [tuple(k // 2 for k in kernel) for kernel in (first, second)]
    inner = [] if between is None else [between]
    return tnn.Sequential(
        tnn.Conv2d(16, 16, first, padding=pads[0], groups=16, bias=bias), *inner,
        tnn.Conv2d(16, 16, second, padding=pads[1], groups=16), tnn.Hardswish(),
    ).eval()  # fmt: skip


@pytest.mark.parametrize(
    ("net", "is_split"),
    [
        (chain((9, 1), (1, 9), True), True),
        (chain((9, 1), (1, 9), True, tnn.ReLU6()), True),
        (chain((1, 9), (9, 1), False), True),  # exchanged: nothing between them
        (chain((1, 9), (9, 1), True), False),  # zeros beyond the bias along y
        (chain((1, 9), (9, 1), False, tnn.SiLU()), False),
        (chain((9, 1), (9, 1), False), False),
    ],
)
def test_two_depthwise_convolutions_in_a_chain(net, is_split):
    x = torch.randn(1, 16, 20, 21)
    fused, _ = nn.fuse(net, x)
    assert any(isinstance(m, FusedSplit) for m in fused.modules()) == is_split
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_dense_pairs_of_many_channels_are_two_dense_convolutions():
    net = tnn.Sequential(nn.FactoredConv("ocyx -> ox,cy", 64, 64, 3, rank=8)).eval()
    fused, report = nn.fuse(net, torch.randn(1, 64, 40, 40))
    assert not any(isinstance(m, FusedPair) for m in fused.modules())
    assert [what for _, what in report.fused] == ["convolution", "convolution"]


def test_steps_that_are_not_two_passes():
    def steps(pattern, **arguments):
        return nn.FactoredConv(pattern, 16, 16, 5, **arguments).steps

    assert terms_of(*steps("ocyx -> ox,cy", rank=4)) is None
    assert terms_of(*steps("ocyx -> oc,cyx", rank=1)) is None
    assert terms_of(*steps("yx -> y,x", rank=1, groups=16, padding_mode="reflect")) is None


@pytest.mark.parametrize("rank", [1, 3, UNEVEN])
def test_multiplied_out(rank):
    layer = nn.FactoredConv("yx -> y,x", 8, 8, (3, 5), groups=8, rank=rank, bias=False)
    terms = terms_of(*layer.steps)
    weights = tuple(getattr(layer, name).weight.detach() for name in layer.step_names)
    step, dense = multiplied_out(layer.steps, weights, terms)
    assert (step.kernel_size, step.groups) == ((3, 5), 8)
    assert torch.allclose(dense, layer.to_dense().weight.detach(), atol=1e-6)
