"""Fused layers against PyTorch in float64: values, gradients, memory, threads, bad input."""

from __future__ import annotations

import math
import mmap
import threading

import pytest
import torch
from guarded_memory import guarded
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import drawn_layer
from surrounded import surrounded
from torch import nn as tnn

from separable import nn
from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import Window, by_torch
from separable.nn.fused.packed_layer import PackedLayer

OPS = torch.ops.separable
ACTS = ACTIVATIONS


@pytest.fixture(autouse=True)
def same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@st.composite
def cases(draw):
    """A layer and an input: tensors, then stride, padding, dilation, activations."""
    drawn = drawn_layer(draw, images=(1, 3))
    tensors = list(drawn[:5])
    for optional in (2, 4):
        if draw(st.booleans()):
            tensors[optional] = None
    acts = draw(st.sampled_from(ACTS)), draw(st.sampled_from(ACTS))
    return tensors, (*drawn.window, *acts)


def wide(tensors):
    return [None if t is None else t.double() for t in tensors]


def near(found, exact, tolerance):
    assert found.shape == exact.shape
    if exact.numel():
        scale = exact.abs().max() + 1  # inputs are of size 1; sums may cancel
        assert (found.double() - exact).abs().max() <= tolerance * scale


@pytest.mark.widths
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_values(dtype, tolerance, monkeypatch):
    monkeypatch.setattr(pool, "poison", True)

    @given(cases())
    def check(case):
        tensors, rest = case
        tensors = [None if t is None else t.to(dtype) for t in tensors]
        x, *own = wide(tensors)
        exact = by_torch(x, tuple(own), Window(*rest[:3]), *rest[3:])
        found = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(OPS.depthwise_separable(*tensors, *rest))
        near(found[0], exact, tolerance)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        alone = OPS.depthwise(*tensors[:3], *rest[:4])
        near(alone, OPS.depthwise(*wide(tensors[:3]), *rest[:4]), tolerance)

    check()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_inside_the_image(stride, dtype, monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    x = torch.randn(2, 48, 9, 71)
    x = (
        surrounded(x)
        if dtype is torch.float32
        else x.to(dtype).movedim(1, -1).contiguous().movedim(-1, 1)
    )
    tensors = [x, torch.randn(48, 1, 3, 3), torch.randn(48), torch.randn(70, 48, 1, 1), None]
    tensors = [None if t is None else t.to(dtype) for t in tensors]
    rest = ([1, stride], [1, 1, 1, 1], [1, 1], "relu", "none")
    found = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found.append(OPS.depthwise_separable(*tensors, *rest))
    near(
        found[0],
        OPS.depthwise_separable(*wide(tensors), *rest),
        1e-5 if x.element_size() == 4 else 1e-2,
    )
    assert all(torch.equal(found[0], f) for f in found[1:])


@settings(max_examples=25)
@given(cases())
def test_gradients(case):
    tensors, rest = case
    clamps = ("none", "relu", "relu6")  # the compiled kernels differentiate only these
    rest = (*rest[:3], *(clamps[ACTIVATIONS.index(a) % 3] for a in rest[3:]))
    found = []
    for threads, given_ in ((1, tensors), (2, tensors), (2, wide(tensors))):
        torch.set_num_threads(threads)
        leaves = [None if t is None else t.detach().requires_grad_() for t in given_]
        out = OPS.depthwise_separable(*leaves, *rest)
        back = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
        asked = [t for t in leaves if t is not None]
        found.append(torch.autograd.grad(out, asked, back))
    for one, two, exact in zip(*found, strict=True):
        assert torch.equal(one, two)
        near(one, exact, 3e-5)


@pytest.mark.parametrize(
    "acts", [("none", "none"), ("relu", "relu6"), ("silu", "hardswish"), ("gelu", "tanh")]
)
def test_operators_by_the_book(acts):
    def made(*shape):
        return torch.randn(*shape, dtype=torch.float64).requires_grad_()

    tensors = [made(1, 2, 4, 4), made(4, 1, 3, 2), made(4), made(3, 4, 1, 1), made(3)]
    rest = ([1, 2], [1, 1, 1, 0], [1, 1], *acts)
    assert torch.autograd.gradcheck(lambda *t: OPS.depthwise_separable(*t, *rest), tensors)
    narrow = [t.detach().float().requires_grad_() for t in tensors]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for operator, arguments in (
        (OPS.depthwise_separable, (*narrow, *rest)),
        (OPS.depthwise, (*narrow[:3], *rest[:4])),
    ):
        found = torch.library.opcheck(operator, arguments, test_utils=checks)
        assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("channels", "outputs", "stride"), [(3, 5, 1), (17, 33, 2), (16, 64, 1)])
def test_guard_pages(channels, outputs, stride, at_end, monkeypatch):
    from separable.engine.compiled.thread_pool import run

    x = guarded(2 * 9 * 8 * channels, at_end).normal_().view(2, 9, 8, channels).movedim(-1, 1)
    weight, point = torch.randn(channels, 1, 3, 3), torch.randn(outputs, channels, 1, 1)
    for pointwise in (None, point):
        layer = PackedLayer(
            weight, None, pointwise, None, channels, ((stride,) * 2, (1,) * 4, (1, 1), 0, 3)
        )
        exact = layer(x)
        held = next(iter(layer._shapes.values()))
        shape = [held.out_shape[i] for i in (0, 2, 3, 1)]
        out = guarded(math.prod(shape), at_end).view(shape)
        run(held.plan, (x.data_ptr(), *layer.addresses), out.data_ptr(), 2)
        assert torch.equal(out.movedim(-1, 1), exact)


def test_several_python_threads_and_no_growth():
    layer = nn.SeparableConv2d(16, 24, 3).eval()
    inputs = [torch.randn(1, 16, n, n) for n in (5, 9, 14, 20)]
    with torch.no_grad():
        exact = [layer(x) for x in inputs]
    wrong = []

    def work(i):
        with torch.no_grad():
            wrong.extend(i for _ in range(200) if not torch.equal(layer(inputs[i]), exact[i]))

    crew = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not wrong


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not hasattr(mmap, "MAP_ANONYMOUS"), reason="needs /proc")
def test_ten_thousand_calls_take_no_memory():
    layer = nn.SeparableConv2d(8, 8, 3).eval()
    x = torch.randn(1, 8, 7, 7)
    with torch.no_grad():
        for _ in range(500):
            layer(x)
        before = resident()
        for _ in range(10_000):
            layer(x)
    assert resident() - before < 4 << 20


class Inputs(torch.utils.data.Dataset):
    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 4

    def __getitem__(self, i):
        with torch.no_grad():
            return self.layer(torch.full((1, 4, 24, 24), float(i)))[0]


def test_forked_workers_run_layers():
    layer = nn.SeparableConv2d(4, 8, 3).eval()
    data = Inputs(layer)
    exact = torch.stack([data[i] for i in range(4)])
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=1, multiprocessing_context="fork"
    )
    assert torch.allclose(next(iter(loader)), exact, atol=1e-6)


def test_changed_weights_count_at_once():
    layer = nn.SeparableConv2d(4, 4, 3).eval()
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        first = layer(x)
        layer.pointwise.weight.mul_(2)
        layer.pointwise.bias.mul_(2)
        assert torch.allclose(layer(x), 2 * first, rtol=1e-5, atol=1e-6)


def test_a_training_step_of_a_layer_in_both_layouts():
    torch.manual_seed(0)
    layer = nn.SeparableConv2d(8, 12, 3, stride=2)
    x = torch.randn(2, 8, 11, 10)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        layer.zero_grad()
        layer(x.contiguous(memory_format=layout)).square().sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_nan_stays_where_it_belongs_and_empty_batches():
    layer = nn.SeparableConv2d(3, 5, 3).eval()
    x = torch.randn(1, 3, 12, 12)
    x[0, 1, 0, 11] = float("nan")
    with torch.no_grad():
        bad = layer(x).isnan()
        assert bad[..., :2, 10:].all()
        assert bad.sum() == 4 * 5
        assert layer(x[:0]).shape == (0, 5, 12, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": (5, 1, 3, 3)}, r"depthwise: expected weights .* shape \(1, 4, 6, 6\) and weights of shape \(5, 1, 3, 3\)"),
        ({"weight": (4, 1, 9, 9)}, "the kernel is larger than the padded input"),
        ({"bias": (3,)}, r"expected a bias of shape \(4,\)"),
        ({"stride": [0, 1]}, "stride and dilation must be >= 1"),
        ({"act": "elu"}, "an activation is one of none, relu, relu6, silu, .*, tanh; got 'elu'"),
    ],
)  # fmt: skip
def test_bad_input(change, message):
    x, weight = torch.zeros(1, 4, 6, 6), torch.zeros(change.get("weight", (4, 1, 3, 3)))
    bias = torch.zeros(change["bias"]) if "bias" in change else None
    stride = change.get("stride", [1, 1])
    with pytest.raises(ArgumentError, match=message):
        OPS.depthwise(x, weight, bias, stride, [1] * 4, [1, 1], change.get("act", "none"))


def drawn(net):
    """The network with statistics that are not those of a new one."""
    for m in net.modules():
        if isinstance(m, tnn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            tnn.init.uniform_(m.weight, 0.5, 1.5)
            tnn.init.normal_(m.bias, 0, 0.1)
    return net.eval()


@pytest.mark.parametrize("name", ["MobileNetV1", "EfficientNet"])
def test_fuse(name):
    torch.manual_seed(0)
    options = {"width": 0.25} if name == "MobileNetV1" else {}
    net = drawn(getattr(nn.models, name)(classes=10, **options))
    fused, report = nn.fuse(net, torch.randn(1, 3, 64, 64))
    assert report.difference < 1e-5
    assert not any(isinstance(m, tnn.BatchNorm2d) for m in fused.modules())
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        near(fused(x), net.double()(x.double()), 1e-5)


class Shortcut(tnn.Module):
    """The depthwise result is read twice: it may not vanish."""

    def __init__(self):
        super().__init__()
        self.first = tnn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.second = tnn.Conv2d(8, 8, 1)
        self.twice = tnn.ReLU()

    def forward(self, x):
        held = self.first(x)
        return self.twice(self.second(held)) + self.twice(held)


def test_fuse_keeps_results_that_are_read_twice():
    net = Shortcut().eval()
    fused, report = nn.fuse(net, torch.randn(1, 8, 9, 9))
    assert [what for _, what in report.fused] == ["depthwise", "pointwise"]
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        near(fused(x), net.double()(x.double()), 1e-5)


def test_fuse_refuses_training_and_no_input():
    with pytest.raises(ArgumentError, match="training mode"):
        nn.fuse(Shortcut().train(), torch.zeros(1, 8, 9, 9))
    with pytest.raises(ArgumentError, match="expected the inputs of one call"):
        nn.fuse(Shortcut().eval())


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    net = Shortcut().eval()
    fused, _ = nn.fuse(net, torch.zeros(1, 8, 9, 9))
    counts = []
    for model in (net, fused):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 8, 9, 9))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 81 * 8 * (9 + 8)
