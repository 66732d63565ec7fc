"""nn.fuse: blocks as other libraries write them, pairs that split space, training, compiling, falling back."""

from __future__ import annotations

import copy
import ctypes
import mmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn as tnn
from torch.nn import functional

from separable import nn
from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused import direct_nchw
from separable.nn.fused.direct_nchw import Convolution, DirectConvolutions
from separable.nn.fused.spatial_pair import FusedPair

ACTS = (lambda x: x, functional.relu, functional.relu6, functional.silu, functional.hardswish)


@pytest.fixture(autouse=True)
def same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def drawn(net):
    """The network with statistics that are not those of a new one."""
    for m in net.modules():
        if isinstance(m, tnn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            tnn.init.uniform_(m.weight, 0.5, 1.5)
            tnn.init.normal_(m.bias, 0, 0.1)
    return net.eval()


def same_outputs(net, fused, *shape):
    x = torch.randn(*shape)
    with torch.no_grad():
        found, exact = fused(x).double(), copy.deepcopy(net).double()(x.double())
    assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


# Blocks as torchvision writes them.


class ConvNormActivation(tnn.Sequential):
    def __init__(self, i, o, kernel=3, stride=1, groups=1, act=tnn.ReLU6, dilation=1):
        pad = (kernel - 1) // 2 * dilation
        layers = [
            tnn.Conv2d(i, o, kernel, stride, pad, dilation, groups, bias=False),
            tnn.BatchNorm2d(o),
        ]
        super().__init__(*layers, *([act(inplace=True)] if act else []))


class InvertedResidual(tnn.Module):
    """MobileNetV2's block."""

    def __init__(self, i, o, stride, widen):
        super().__init__()
        wide = round(i * widen)
        layers = [] if widen == 1 else [ConvNormActivation(i, wide, 1)]
        layers += [ConvNormActivation(wide, wide, 3, stride, wide), tnn.Conv2d(wide, o, 1, bias=False),
                   tnn.BatchNorm2d(o)]  # fmt: skip
        self.conv = tnn.Sequential(*layers)
        self.use_res_connect = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class SqueezeExcitation(tnn.Module):
    def __init__(self, channels, squeezed):
        super().__init__()
        self.avgpool = tnn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = tnn.Conv2d(channels, squeezed, 1), tnn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(self.avgpool(x)))))


class MBConv(tnn.Module):
    """EfficientNet's block: no chain goes through the gate."""

    def __init__(self, i, o, kernel, stride):
        super().__init__()
        self.block = tnn.Sequential(
            ConvNormActivation(i, 4 * i, 1, act=tnn.SiLU),
            ConvNormActivation(4 * i, 4 * i, kernel, stride, 4 * i, tnn.SiLU),
            SqueezeExcitation(4 * i, 4),
            ConvNormActivation(4 * i, o, 1, act=None),
        )

    def forward(self, x):
        return self.block(x)


# Blocks as timm writes them.


class BatchNormAct2d(tnn.BatchNorm2d):
    """A norm that applies the activation itself."""

    def __init__(self, channels, act=tnn.SiLU):
        super().__init__(channels)
        self.drop, self.act = tnn.Identity(), act()

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


class DepthwiseSeparableConv(tnn.Module):
    def __init__(self, i, o, stride=1, act=tnn.Hardswish):
        super().__init__()
        self.conv_dw = tnn.Conv2d(i, i, 5, stride, 2, groups=i, bias=False)
        self.bn1 = BatchNormAct2d(i, act)
        self.se = tnn.Identity()
        self.conv_pw = tnn.Conv2d(i, o, 1, bias=False)
        self.bn2 = BatchNormAct2d(o, tnn.Identity)
        self.has_skip = stride == 1 and i == o

    def forward(self, x):
        made = self.bn2(self.conv_pw(self.se(self.bn1(self.conv_dw(x)))))
        return made + x if self.has_skip else made


class SeparableConv2d(tnn.Module):
    """Xception's, as timm and Cadene write it: no norm between."""

    def __init__(self, i, o):
        super().__init__()
        self.conv1 = tnn.Conv2d(i, i, 3, padding=1, groups=i, bias=False)
        self.pointwise = tnn.Conv2d(i, o, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class Xception(tnn.Module):
    """A middle block: what is added at the end is read before the first activation."""

    def __init__(self, channels):
        super().__init__()
        layers = []
        for _ in range(3):
            layers += [tnn.ReLU(), SeparableConv2d(channels, channels), tnn.BatchNorm2d(channels)]
        self.rep = tnn.Sequential(*layers)

    def forward(self, x):
        return self.rep(x) + x


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (InvertedResidual(8, 8, 1, 4), ["pointwise, norm, relu6", "depthwise, norm, relu6, pointwise, norm"]),
        (InvertedResidual(8, 12, 2, 1), ["depthwise, norm, relu6, pointwise, norm"]),
        (MBConv(8, 16, 5, 2), ["pointwise, norm, silu", "depthwise, norm, silu", "pointwise", "pointwise",
                               "pointwise, norm"]),
        (DepthwiseSeparableConv(8, 8), ["depthwise, norm, hardswish, pointwise, norm"]),
        (DepthwiseSeparableConv(8, 8, 2, tnn.SiLU), ["depthwise, norm, silu, pointwise, norm"]),
        (Xception(17), ["depthwise, pointwise, norm, relu"] * 2 + ["depthwise, pointwise, norm"]),
    ],
)  # fmt: skip
def test_blocks_of_other_libraries(net, expected):
    torch.manual_seed(0)
    net = drawn(net)
    channels = 17 if isinstance(net, Xception) else 8
    fused, report = nn.fuse(net, torch.randn(1, channels, 16, 16))
    assert [what for _, what in report.fused] == expected
    assert not any(isinstance(m, tnn.BatchNorm2d) for m in fused.modules())
    same_outputs(net, fused, 2, channels, 21, 18)


def test_the_report_lists_what_was_not_fused_and_why():
    net = tnn.Sequential(
        tnn.Conv2d(4, 4, 3), tnn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), tnn.ConvTranspose2d(4, 4, 2),
        tnn.Conv2d(4, 4, (3, 1), groups=2), tnn.Conv2d(4, 4, (1, 3), 2, groups=2),
    ).eval()  # fmt: skip
    _, report = nn.fuse(net, torch.randn(1, 4, 50, 50))
    few = "nothing to fold, and fewer than 16 outputs per group are faster in PyTorch"
    assert dict(report.left) == {
        "1": "nothing to fold, and padding mode 'circular'",
        "2": "a transposed convolution, or called more than once",
        "3": f"{few}; no pair with 4: a stride along the last axis",
        "4": few,
    }
    assert report.fused == (("0", "convolution"),)
    assert "4 convolutions left to PyTorch" in str(report)


def test_fuse_refuses_a_network_that_does_not_repeat_itself():
    class Moody(tnn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.calls = tnn.Conv2d(3, 3, 1), [0]

        def forward(self, x):
            self.calls[0] += 1
            return self.conv(x) * self.calls[0]

    with pytest.raises(ArgumentError, match="behaves differently in its second call"):
        nn.fuse(Moody().eval(), torch.randn(1, 3, 4, 4))


@st.composite
def pairs(draw):
    """One or two convolutions on planes: an input, tensors, steps."""

    def three(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(3))

    def step(inputs, outputs, groups):
        stride = (*three(1, 2)[:2], 1)
        return Convolution(
            inputs, outputs, groups, three(1, 3), stride, three(1, 2), three(0, 2), three(0, 2),
            draw(st.integers(0, 4)),
        )  # fmt: skip

    groups = draw(st.sampled_from([1, 2]))
    channels, middle = groups * draw(st.integers(1, 3)), groups * draw(st.sampled_from([1, 3, 8]))
    steps = [step(channels, middle, groups)]
    if draw(st.booleans()):
        again = draw(st.sampled_from([1, groups, middle]))
        steps.append(step(middle, again * draw(st.sampled_from([1, 2, 7])), again))
    size = (
        draw(st.integers(15, 17)),
        draw(st.integers(15, 20)),
        draw(st.sampled_from([9, 16, 33, 70, 150])),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randn(draw(st.integers(0, 2)), channels, *size, generator=generator)
    tensors = []
    for s in steps:
        shape = (s.outputs, s.inputs // s.groups, *s.kernel)
        tensors.append(torch.randn(shape, generator=generator))
        tensors.append(torch.randn(s.outputs, generator=generator) if draw(st.booleans()) else None)
    return x, tensors, tuple(steps)


def by_definition(x, tensors, steps):
    x = x.double()
    for step, weight, bias in zip(steps, tensors[0::2], tensors[1::2], strict=True):
        ends = [n for axis in (2, 1, 0) for n in (step.before[axis], step.after[axis])]
        bias = None if bias is None else bias.double()
        x = functional.conv3d(
            functional.pad(x, ends),
            weight.double(),
            bias,
            step.stride,
            0,
            step.dilation,
            step.groups,
        )
        x = ACTS[step.act](x)
    return x


@pytest.mark.parametrize("streams", [False, True])
def test_planes(streams, monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    if streams:
        monkeypatch.setattr(direct_nchw, "STREAM_BYTES", -1)
        monkeypatch.setattr(direct_nchw, "STREAM_COLUMNS", 1)
    direct_nchw._plan.cache_clear()

    @settings(max_examples=25)
    @given(pairs())
    def check(case):
        x, tensors, steps = case
        exact = by_definition(x, tensors, steps)
        layer, found = DirectConvolutions(tensors), []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(layer(x, steps))
            assert found[0].shape == exact.shape
            assert torch.equal(found[0], found[-1])
        if exact.numel():
            assert (found[0] - exact).abs().max() <= 1e-5 * (1 + exact.abs().max())

    check()
    direct_nchw._plan.cache_clear()


_libc = ctypes.CDLL(None, use_errno=True)


def test_planes_touch_nothing_beside_their_arrays():
    from separable.engine.compiled.thread_pool import run

    areas = []

    def guarded(*shape):
        size, page = torch.Size(shape).numel() * 4, mmap.PAGESIZE
        pages = -(-size // page)
        area = mmap.mmap(-1, (pages + 2) * page)
        areas.append(area)
        base = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for at in (0, pages + 1):
            assert _libc.mprotect(ctypes.c_void_p(base + at * page), page, 0) == 0
        start = page * (pages + 1) - size
        return torch.frombuffer(area, dtype=torch.float32, count=size // 4, offset=start).view(
            shape
        )

    x = guarded(1, 3, 4, 9, 37).normal_()
    one, none = (1, 1, 1), (0, 0, 0)
    steps = (
        Convolution(3, 5, 1, (1, 3, 3), one, one, (0, 1, 1), (0, 1, 1), 1),
        Convolution(5, 7, 1, (3, 1, 1), one, one, none, none, 3),
    )
    layer = DirectConvolutions(
        [torch.randn(5, 3, 1, 3, 3), None, torch.randn(7, 5, 3, 1, 1), torch.randn(7)]
    )
    exact = layer(x, steps)
    out = guarded(*exact.shape).fill_(float("nan"))
    plan = direct_nchw._plan(steps, 1, (4, 9, 37), 2)
    run(plan, (x.data_ptr(), *layer.addresses), out.data_ptr(), 2)
    assert torch.equal(out, exact)


def test_steps_of_two_layers_become_one():
    """The last step of a layer and the first of the next: the next layer gets what its second step reads."""
    torch.manual_seed(3)
    first = nn.FactoredConv("ocyx -> ox,cy", 64, 8, 3, padding=1, rank=4)
    second = nn.FactoredConv("ocyx -> ox,cy", 8, 8, 3, padding=1, rank=6)
    net = tnn.Sequential(first, tnn.ReLU(), second).eval()
    x = torch.randn(1, 64, 40, 40)
    fused, report = nn.fuse(net, x, measure=False)
    with torch.no_grad():
        found = fused(x)
        wanted = net.double()(x.double())
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    assert type(fused[2]._modules[second.step_names[0]]) is tnn.Identity, report


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([tnn.Conv3d(1, 1, (1, 3, 3)), tnn.Conv3d(1, 16, (7, 1, 1))], (1, 1, 20, 40, 40)),
        (
            [tnn.Conv3d(1, 16, (1, 3, 3)), tnn.BatchNorm3d(16), tnn.ReLU(),
             tnn.Conv3d(16, 16, (7, 1, 1), groups=16), tnn.SiLU()],
            (2, 1, 20, 40, 40),
        ),
        ([tnn.Conv2d(8, 6, (3, 1), padding=(1, 0)), tnn.Conv2d(6, 8, (1, 3), padding="same")], (2, 8, 40, 44)),
        ([nn.SpatiallySeparableConv2d(8, 8, 5, rank=3), tnn.Hardswish()], (2, 8, 40, 44)),
        ([nn.SpatialSpectralConv3d(2, 8, (5, 3, 3), stride=(2, 1, 1)), tnn.ReLU6()], (2, 2, 21, 40, 44)),
    ],
)  # fmt: skip
def test_pairs_that_split_space(layers, shape):
    torch.manual_seed(1)
    net = drawn(tnn.Sequential(*layers))
    fused, report = nn.fuse(net, torch.randn(shape))
    assert len(report.fused) == 1
    assert not report.left
    (module,) = (m for m in fused.modules() if isinstance(m, FusedPair))
    same_outputs(net, fused, *shape[:-1], shape[-1] + 7)
    same_outputs(net, fused, *shape[:-2], 9, 12)  # rows too short: by PyTorch
    assert "kernels" in repr(module)
    x = torch.randn(shape)
    x[..., 0, 0] = float("nan")
    with torch.no_grad():
        assert torch.equal(fused(x).isnan(), net(x).isnan())
        assert torch.equal(fused.double()(x.double()).isnan(), net.double()(x.double()).isnan())


def test_one_axis_takes_its_input_as_it_lies():
    torch.manual_seed(0)
    layer = nn.SeparableConv1d(6, 10, 7, depth_multiplier=2, dilation=2).eval()
    x = torch.randn(3, 6, 200)
    with torch.no_grad():
        found = layer(x)
        last = layer(x.movedim(1, -1).contiguous().movedim(-1, 1))
        exact = copy.deepcopy(layer).double()(x.double())
    assert found.is_contiguous()
    assert (found - exact).abs().max() < 1e-5
    assert (last - exact).abs().max() < 1e-5


class Training(tnn.Module):
    def __init__(self, norm):
        super().__init__()
        middle = tnn.Sequential(tnn.BatchNorm2d(6), tnn.ReLU6()) if norm else None
        self.layer = nn.SeparableConv2d(6, 9, 3, stride=2, intermediate=middle)
        self.depthwise = nn.DepthwiseConv2d(9, 5, depth_multiplier=2)

    def forward(self, x):
        return self.depthwise(self.layer(x))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_training_step_equals_the_one_in_double(norm, layout):
    torch.manual_seed(0)
    net = Training(norm)
    exact = copy.deepcopy(net).double()
    x = torch.randn(2, 6, 15, 14).contiguous(memory_format=layout)
    for model, given_ in ((net, x), (exact, x.double())):
        model(given_).square().sum().backward()
    for a, b in zip(net.parameters(), exact.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 2e-4 * (1 + b.grad.abs().max())
    for a, b in zip(net.buffers(), exact.buffers(), strict=True):
        assert torch.allclose(a.double(), b.double(), atol=1e-5)


def test_bfloat16_networks():
    torch.manual_seed(0)
    net = drawn(InvertedResidual(16, 16, 1, 2)).to(torch.bfloat16)
    fused, _ = nn.fuse(copy.deepcopy(net).float(), torch.randn(1, 16, 12, 12))
    fused = fused.to(torch.bfloat16)
    x = torch.randn(1, 16, 12, 12, dtype=torch.bfloat16)
    with torch.no_grad():
        found, exact = fused(x), net.double()(x.double())
    assert found.dtype is torch.bfloat16
    assert (found.double() - exact).abs().max() < 0.03 * exact.abs().max()


def test_compiled_networks_have_no_breaks():
    torch.manual_seed(0)
    net = drawn(
        tnn.Sequential(InvertedResidual(8, 8, 1, 1), nn.SeparableConv2d(8, 4, 3))
    ).requires_grad_(False)
    fused, _ = nn.fuse(net, torch.randn(1, 8, 10, 10))
    x = torch.randn(1, 8, 10, 10).contiguous(memory_format=torch.channels_last)
    for model in (net, fused):
        made = torch.compile(model, backend="aot_eager", fullgraph=True)
        with torch.no_grad():
            assert torch.allclose(made(x), model(x), atol=1e-5)
    layer = nn.SeparableConv2d(8, 4, 3)
    made = torch.compile(layer, backend="aot_eager", fullgraph=True)
    made(x).sum().backward()
    once = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x).sum().backward()
    for a, p in zip(once, layer.parameters(), strict=True):
        assert torch.allclose(a, p.grad, rtol=1e-4, atol=1e-4)


def test_fused_networks_are_saved_copied_and_run_in_other_types():
    torch.manual_seed(0)
    net = drawn(InvertedResidual(8, 8, 1, 2))
    fused, _ = nn.fuse(net, torch.randn(1, 8, 12, 12))
    x = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        exact = fused(x)
        again = copy.deepcopy(fused)
        again.load_state_dict(fused.state_dict())
        assert torch.equal(again(x), exact)
        assert torch.allclose(again.double()(x.double()), exact.double(), atol=1e-5)
        assert fused.to("meta")(x.to("meta")).shape == exact.shape


@pytest.mark.parametrize(
    ("layers", "owner"),
    [
        ([tnn.Conv2d(8, 8, 3, groups=8), tnn.Conv2d(8, 4, 1)], "depthwise"),
        ([tnn.Conv2d(8, 8, 3, groups=8), tnn.ReLU()], "depthwise"),
        ([tnn.Conv2d(8, 4, 1), tnn.ReLU()], "pointwise"),
        ([tnn.Conv2d(8, 4, (3, 1)), tnn.Conv2d(4, 4, (1, 3))], "pair"),
    ],
)
def test_fused_networks_refuse_what_does_not_fit(layers, owner):
    fused, report = nn.fuse(tnn.Sequential(*layers).eval(), torch.randn(1, 8, 40, 40))
    assert len(report.fused) == 1
    for channels in (7, 9):
        with pytest.raises(
            ArgumentError, match=rf"{owner}: expected an input of 8 .*\(1, {channels}, 40, 40\)"
        ):
            fused(torch.randn(1, channels, 40, 40))
    if owner == "depthwise":
        with pytest.raises(
            ArgumentError, match=r"larger than the padded input.*\(1, 8, 2, 40\).*\(8, 1, 3, 3\)"
        ):
            fused(torch.randn(1, 8, 2, 40))


@pytest.mark.parametrize("shape", [(0, 4, 8, 8), (2, 4, 0, 8)])
def test_empty_inputs_are_as_in_pytorch(shape):
    weight, rest = torch.randn(4, 1, 3, 1), ([1, 1], [1, 1, 0, 0], [1, 1], "relu")
    x = torch.zeros(shape)
    try:
        exact = functional.conv2d(x, weight, None, 1, (1, 0), 1, 4)
    except RuntimeError:
        with pytest.raises(ArgumentError, match=r"depthwise: .*\(2, 4, 0, 8\).*\(4, 1, 3, 1\)"):
            torch.ops.separable.depthwise(x, weight, None, *rest)
    else:
        assert torch.ops.separable.depthwise(x, weight, None, *rest).shape == exact.shape


@pytest.mark.long
@pytest.mark.parametrize("name", ["MobileNetV1", "EfficientNet", "Xception"])
def test_whole_networks(name):
    torch.manual_seed(0)
    net = drawn(getattr(nn.models, name)(classes=10))
    fused, report = nn.fuse(net, torch.randn(1, 3, 96, 96))
    assert report.difference < 1e-5
    same_outputs(net, fused, 1, 3, 96, 128)
