"""Layers against the torch.nn convolutions that they stand for."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import separable as sep
from separable import nn as snn
from separable.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    PatternError,
    RankError,
)

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
PATTERNS = {
    1: ["ocx -> oc,cx", "ocx -> oc,ox", "ocx -> oR,RxS,Sc", "ocx -> ox,c", "oc(Xx) -> oX,cx"],
    2: [
        "ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc",
        "ocyx -> oR,RyS,SxT,Tc", "ocyx -> o,c,y,x", "ocyx -> oc,cy,cx", "ocyx -> oc,yx",
        "ocyx -> ocy,ocx", "oc(Yy)(Xx) -> oYX,cyx", "(Oo)(Cc)yx -> OCyx,oc", "(Oo)cyx -> Oy,ocx",
    ],
    3: ["oczyx -> oc,czyx", "oczyx -> oxS,SyR,Rcz", "oclyx -> oyx,cl", "oczyx -> oz,cyx"],
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A random convolution, a pattern for it and an input."""

    pattern: str
    conv: Any
    image: torch.Tensor

    @property
    def sizes(self) -> dict[str, int] | None:
        return {a: 2 for a in "OCYX" if f"({a}" in self.pattern} or None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    pattern = draw(st.sampled_from(PATTERNS[ndim]))
    groups = draw(st.sampled_from([1, 1, 2]))
    channels = (
        st.just(4 * groups) if "(C" in pattern or "(O" in pattern else st.sampled_from([2, 4])
    )
    per_axis = lambda values: st.tuples(*[values] * ndim)  # noqa: E731
    kernel = (4,) * ndim if "(X" in pattern else draw(per_axis(st.integers(1, 4)))
    stride = draw(per_axis(st.integers(1, 3)))
    padding = draw(per_axis(st.integers(0, 3)))
    if max(stride) == 1 and draw(st.booleans()):
        padding = draw(st.sampled_from(["same", "valid"]))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    conv = CONVS[ndim](
        draw(channels), draw(channels), kernel, stride, padding,
        draw(per_axis(st.integers(1, 2))), groups, draw(st.booleans()),
        draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    ).double()  # fmt: skip
    lead = draw(st.sampled_from([(), (0,), (1,), (2,)]))
    space = draw(per_axis(st.integers(8, 11) if ndim < 3 else st.integers(7, 8)))
    return Case(pattern, conv, torch.randn(*lead, conv.in_channels, *space, dtype=torch.float64))


def run(conv: Any, image: torch.Tensor) -> torch.Tensor:
    """A torch.nn convolution; it warns of 'same' for even kernels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")
        return conv(image).detach()


def check_full_rank(case: Case) -> None:
    layer = snn.FactoredConv.from_dense(case.conv, case.pattern, sizes=case.sizes)
    expected = run(case.conv, case.image)
    got = layer(case.image).detach()
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-10)
    back: Any = layer.to_dense()
    assert torch.allclose(back.weight, case.conv.weight, atol=1e-12)
    assert torch.allclose(run(back, case.image), expected, atol=1e-10)


@settings(max_examples=60)
@given(cases())
def test_at_full_rank_a_layer_equals_its_convolution(case: Case) -> None:
    check_full_rank(case)


@pytest.mark.long
@given(cases())
def test_at_full_rank_a_layer_equals_its_convolution_long(case: Case) -> None:
    check_full_rank(case)


@settings(max_examples=60)
@given(cases(), st.integers(1, 3))
def test_a_layer_with_weights_of_its_own_equals_its_to_dense(case: Case, rank: int) -> None:
    conv = case.conv
    layer = snn.FactoredConv(
        case.pattern, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,
        conv.padding, conv.dilation, conv.groups, conv.bias is not None, conv.padding_mode,
        rank=rank, sizes=case.sizes, dtype=torch.float64,
    )  # fmt: skip
    expected = run(layer.to_dense(), case.image)
    assert torch.allclose(layer(case.image).detach(), expected, atol=1e-10)
    assert np.allclose(
        layer.factors().dense().reshape(conv.weight.shape), layer.to_dense().weight.detach()
    )


# The mathematics of truncation.


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_error_of_a_truncated_layer_is_the_sum_of_squares_left_out(
    groups: int, rank: int
) -> None:
    """FIGURES: squared Frobenius, the sum over c of the singular values beyond M, squared."""
    torch.manual_seed(rank)
    conv = nn.Conv2d(6, 16, 3, groups=groups, dtype=torch.float64)
    weight = conv.weight.detach().numpy().reshape(groups, 16 // groups, 6 // groups, 9)
    per_channel = np.linalg.svd(weight.transpose(0, 2, 1, 3), compute_uv=False)
    closed_form = float((per_channel[..., rank:] ** 2).sum())
    layer = snn.SeparableConv2d.from_dense(conv, rank=rank)
    error = layer.to_dense().weight - conv.weight
    assert float((error**2).sum().detach()) == pytest.approx(closed_form, rel=1e-9)
    assert layer.depth_multiplier == rank


def test_a_layer_is_exact_from_the_rank_of_its_channels_on() -> None:
    conv = nn.Conv2d(3, 64, 3)
    exact = snn.SeparableConv2d.from_dense(conv, rank=9)
    assert torch.allclose(exact.to_dense().weight, conv.weight, atol=1e-6)
    almost = snn.SeparableConv2d.from_dense(conv, rank=8)
    assert not torch.allclose(almost.to_dense().weight, conv.weight, atol=1e-3)


@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc"])
@pytest.mark.parametrize("tol", [0.3, 0.5])
def test_a_tolerance_is_kept(pattern: str, tol: float) -> None:
    torch.manual_seed(3)
    conv = nn.Conv2d(8, 12, 3, dtype=torch.float64)
    layer = snn.FactoredConv.from_dense(conv, pattern, tol=tol)
    error = (layer.to_dense().weight - conv.weight).norm() / conv.weight.norm()
    assert float(error.detach()) <= tol
    exact = snn.FactoredConv.from_dense(conv, pattern)
    assert layer.multiplications < exact.multiplications


@pytest.mark.parametrize("order", ["depthwise_first", "pointwise_first"])
def test_ragged_multipliers_are_the_best_of_their_sizes(order: str) -> None:
    torch.manual_seed(4)
    conv = nn.Conv2d(4, 4, 3, stride=2, padding=1, dtype=torch.float64)
    multipliers = [0, 2, 4, 1]
    letter = "c" if order == "depthwise_first" else "o"
    layer = snn.SeparableConv2d.from_dense(conv, f"ocyx -> oc,{letter}yx", rank=multipliers)
    assert layer.depth_multiplier == multipliers
    assert layer.order == order
    channel = 1 if letter == "c" else 0
    values = np.linalg.svd(
        np.moveaxis(conv.weight.detach().numpy(), channel, 0).reshape(4, 4, 9), compute_uv=False
    )
    closed_form = sum(float((v[m:] ** 2).sum()) for v, m in zip(values, multipliers, strict=True))
    error = layer.to_dense().weight - conv.weight
    assert float((error**2).sum().detach()) == pytest.approx(closed_form, rel=1e-9)
    image = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    assert torch.allclose(layer(image), layer.to_dense()(image), atol=1e-12)
    pointwise = 4 * 7 * (1 if letter == "c" else 4)  # at the strided positions, or at all
    assert layer.multiplications == 9 * 7 + pointwise


def test_terms_added_to_even_out_groups_are_put_to_use() -> None:
    torch.manual_seed(5)
    conv = nn.Conv2d(4, 6, 3, groups=2, dtype=torch.float64)
    ragged = snn.SeparableConv2d.from_dense(conv, rank=[1, 1, 3, 2])
    assert ragged.depth_multiplier == [3, 2, 3, 2]
    same = snn.SeparableConv2d.from_dense(conv, rank=[3, 2, 3, 2])
    assert torch.equal(ragged.to_dense().weight, same.to_dense().weight)
    found = snn.SeparableConv2d.from_dense(conv, tol=0.5)
    again = snn.SeparableConv2d.from_dense(conv, rank=found.depth_multiplier)
    assert torch.allclose(found.to_dense().weight, again.to_dense().weight, atol=1e-12)


def test_dead_channels_cost_nothing() -> None:
    conv = nn.Conv2d(4, 8, 3, padding=1)
    with torch.no_grad():
        conv.weight[:, 1] = 0
        conv.weight[:, 2] = conv.weight[:, 2, :, :1] * torch.ones(3, 1)
    layer = snn.SeparableConv2d.from_dense(conv)
    multipliers = layer.depth_multiplier
    assert isinstance(multipliers, list)
    assert (multipliers[0], multipliers[1], multipliers[3]) == (8, 0, 8)
    assert multipliers[2] <= 3
    image = torch.randn(1, 4, 6, 6)
    assert torch.allclose(layer(image), conv(image), atol=1e-5)


@pytest.mark.parametrize(
    "pattern", ["ocyx -> oc,cyx", "ocyx -> oR,RyxS,Sc", "ocyx -> o,c,y,x", "ocyx -> oc,oyx"]
)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_of_zeros_gives_its_bias(pattern: str, groups: int) -> None:
    conv = nn.Conv2d(4, 6, 3, groups=groups)
    nn.init.zeros_(conv.weight)
    layer = snn.FactoredConv.from_dense(conv, pattern)
    image = torch.randn(1, 4, 5, 5)
    assert torch.equal(layer(image), conv(image))
    assert layer(image).isfinite().all()


# What is carried over.


def test_all_but_the_weights_is_carried_over() -> None:
    conv = nn.Conv2d(4, 6, 3, bias=False, dtype=torch.float64).eval().requires_grad_(False)
    before, state = conv.weight.clone(), torch.get_rng_state()
    layer = snn.SeparableConv2d.from_dense(conv, rank=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(conv.weight, before)
    assert not layer.training
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in layer.parameters())
    assert list(layer.state_dict()) == ["depthwise.weight", "pointwise.weight"]
    back = layer.to_dense()
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_other_types_of_weights(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(4, 6, 3, dtype=dtype)
    layer = snn.SeparableConv2d.from_dense(conv)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    eps = 1e-5 if dtype.is_complex else torch.finfo(dtype).eps
    weight = conv.weight.detach()
    error = (layer.to_dense().weight.detach() - weight).abs().max()
    assert float(error) <= 4 * eps * float(weight.abs().max())


def test_factors_found_elsewhere_make_a_layer() -> None:
    conv = nn.Conv2d(4, 6, 3, groups=2, bias=False)
    weight = conv.weight.detach().numpy().reshape(2, 3, 2, 3, 3)
    factors = sep.factorize(weight, "gocyx -> goc,gcyx", rank=2)
    bias = torch.arange(6.0)
    layer = snn.SeparableConv2d.from_factors(factors, conv, bias)
    assert np.allclose(layer.factors().dense(), factors.dense(), atol=1e-6)
    assert str(layer.pattern) == "ocyx -> oc,cyx"
    plain = snn.SeparableConv2d.from_factors(factors, conv)
    image = torch.randn(1, 4, 5, 5)
    assert torch.allclose(
        layer(image) - plain(image), bias[:, None, None].expand(6, 3, 3), atol=1e-5
    )
    wrong = sep.factorize(np.ones((5, 2, 3, 3)), "ocyx -> oc,cyx")
    with pytest.raises(PatternError, match=r"expected factors of a kernel \(2, 3, 2, 3, 3\)"):
        snn.SeparableConv2d.from_factors(wrong, conv)


# The named layers.


def parameters(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def test_the_figures_of_the_literature() -> None:
    layer = snn.SeparableConv2d(64, 128, 3, bias=False)
    assert (layer.multiplications, layer.spec.multiplications) == (8_768, 73_728)
    assert parameters(layer) == 8_768
    layer = snn.SeparableConv2d(3, 256, 5, padding="valid")
    image = torch.zeros(1, 3, 12, 12)
    assert layer.depthwise(image).shape[-2:] == layer(image).shape[-2:] == (8, 8)
    assert layer.multiplications * 64 == 4_800 + 49_152
    assert snn.DepthwiseConv2d(3, 5, padding="valid", depth_multiplier=2)(image).shape == (
        1,
        6,
        8,
        8,
    )
    assert snn.SeparableConv2d(3, 10, 3).multiplications * 169 == 9_633
    # M = 9 makes a 3x3 layer of 256 filters exact and costs 3 % more than it; M = 4 costs 2.2 times less.
    costs = [snn.SeparableConv2d(256, 256, 3, depth_multiplier=m).multiplications for m in (9, 4)]
    assert [round(256 * 256 * 9 / c, 2) for c in costs] == [0.97, 2.17]


def test_one_filter_in_two_passes_of_a_13_wide_and_a_15_wide_image() -> None:
    layer = snn.SpatiallySeparableConv2d(1, 1, 3, padding="valid", bias=False)
    image = torch.zeros(1, 1, 15, 15)
    between = layer.along_y(image)
    assert between.shape[-2:] == (13, 15)
    assert between.numel() * 3 + layer(image).numel() * 3 == 585 + 507


@pytest.mark.parametrize(
    ("layer", "shape", "outputs"),
    [
        (snn.SeparableConv1d(4, 6, 5, 2, depth_multiplier=3), (2, 4, 11), (2, 6, 6)),
        (snn.SeparableConv3d(4, 6, 3, padding=0, dilation=2), (1, 4, 7, 8, 9), (1, 6, 3, 4, 5)),
        (snn.DepthwiseConv1d(4, 3, padding="valid"), (2, 4, 9), (2, 4, 7)),
        (snn.DepthwiseConv3d(4, 2, 2, depth_multiplier=2), (1, 4, 5, 6, 7), (1, 8, 3, 3, 4)),
        (snn.PointwiseConv(4, 6, ndim=1), (2, 4, 9), (2, 6, 9)),
        (snn.PointwiseConv(4, 6, ndim=3, stride=2), (4, 5, 5, 5), (6, 3, 3, 3)),
        (snn.SpatiallySeparableConv2d(4, 6, 3, (2, 1)), (1, 4, 9, 9), (1, 6, 5, 9)),
        (snn.SpatiallySeparableConv3d(4, 6, (1, 3, 5), 2), (1, 4, 9, 9, 9), (1, 6, 5, 5, 5)),
        (snn.SpatialSpectralConv3d(1, 6, (7, 3, 3), rank=2), (1, 1, 20, 8, 8), (1, 6, 20, 8, 8)),
    ],
)
def test_shapes(layer: Any, shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    assert layer(torch.zeros(shape)).shape == outputs
    if max(layer.spec.stride) == 1 or not isinstance(layer.spec.padding, str):
        image = torch.randn(shape)
        assert torch.allclose(layer(image), layer.to_dense()(image), atol=1e-5)


def test_depthwise_and_pointwise_layers_are_plain_convolutions() -> None:
    depthwise = nn.Conv2d(4, 8, 3, padding=1, groups=4)
    pointwise = nn.Conv1d(4, 6, 1)
    layer = snn.DepthwiseConv2d.from_dense(depthwise)
    assert (layer.depth_multiplier, layer.ranks, str(layer.pattern)) == (2, {}, "oyx -> oyx")
    assert torch.equal(layer.depthwise.weight, depthwise.weight)
    assert torch.equal(snn.PointwiseConv.from_dense(pointwise).pointwise.bias, pointwise.bias)
    with pytest.raises(ArgumentError, match="one factor has no rank to choose; got rank=2"):
        snn.DepthwiseConv2d.from_dense(depthwise, rank=2)
    with pytest.raises(ArgumentError, match="has one factor: its weights are the kernel"):
        layer.factors()
    with pytest.raises(PatternError, match="Give groups=in_channels"):
        snn.DepthwiseConv2d.from_dense(nn.Conv2d(4, 8, 3))


def test_orders_of_the_spatial_spectral_layer() -> None:
    first = snn.SpatialSpectralConv3d(2, 4, 3)
    assert first.step_names == ("spectral", "spatial")
    other = snn.SpatialSpectralConv3d(2, 4, 3, order="spatial_first", rank=3)
    assert other.step_names == ("spatial", "spectral")
    assert other.spatial.out_channels == 3
    conv = nn.Conv3d(2, 4, 3, dtype=torch.float64)
    for pattern in ("oclyx -> oyx,cl", "oclyx -> ol,cyx"):
        layer = snn.SpatialSpectralConv3d.from_dense(conv, pattern)
        assert torch.allclose(layer.to_dense().weight, conv.weight)


def test_a_module_between_the_steps_runs_there() -> None:
    between = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    layer = snn.SeparableConv2d(4, 6, 3, intermediate=between).eval()
    image = torch.randn(2, 4, 5, 5)
    assert torch.equal(layer(image), layer.pointwise(between(layer.depthwise(image))))
    with pytest.raises(ArgumentError, match="for there is a Sequential between its steps"):
        layer.to_dense()
    layer.intermediate = None
    assert torch.allclose(layer(image), layer.to_dense()(image), atol=1e-6)
    layer.intermediate = nn.ReLU()
    assert torch.equal(layer(image), layer.pointwise(layer.depthwise(image).relu()))
    layer.intermediate = nn.Identity()
    assert torch.allclose(layer(image), layer.to_dense()(image), atol=1e-6)
    with pytest.raises(ArgumentError, match="`intermediate` stands between two steps"):
        snn.FactoredConv("ocyx -> oR,RyxS,Sc", 4, 6, 3, rank=2, intermediate=nn.ReLU())


def test_same_with_a_stride_has_no_torch_convolution() -> None:
    with pytest.raises(ArgumentError) as caught:
        snn.SeparableConv2d(4, 6, 3, stride=2).to_dense()
    assert str(caught.value) == (
        "SeparableConv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding='same'): no "
        "torch.nn.Conv2d pads 'same' with stride (2, 2): the amount depends on the input's size. "
        "Give the padding as integers"
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("size", [8, 9])
def test_same_with_a_stride_is_the_padded_convolution(mode: str, size: int) -> None:
    layer = snn.SeparableConv2d(2, 3, (4, 3), stride=(3, 2), dilation=(1, 2), padding_mode=mode)
    image = torch.randn(1, 2, size, size)
    pads: list[int] = []
    for k, s, d in ((3, 2, 2), (4, 3, 1)):  # the last axis first
        total = max((math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size, 0)
        pads += [total // 2, total - total // 2]
    padded = nn.functional.pad(image, pads, mode="constant" if mode == "zeros" else mode)
    weight, bias = torch.tensor(layer.factors().dense()).float(), layer.pointwise.bias
    expected = nn.functional.conv2d(padded, weight, bias, (3, 2), 0, (1, 2))
    assert torch.allclose(layer(image), expected, atol=1e-5)


# Saying what it is.


def test_repr_shows_the_saving() -> None:
    text = repr(snn.SeparableConv2d(64, 128, 3, stride=2, depth_multiplier=[1, 3] * 32))
    assert text.splitlines()[1].strip() == (
        "64, 128, kernel_size=(3, 3), stride=(2, 2), padding='same', 'ocyx -> oc,cyx', R=1..3; "
        "17,536 multiplications per position, 4.2 times fewer than 73,728 dense"
    )
    assert "(depthwise): StepConv2d(128, 128" in text
    assert "128 channels gathered" in text
    assert "intermediate" not in text
    text = repr(snn.SeparableConv2d(3, 3, 3, depth_multiplier=9))
    assert "324 multiplications per position, 4 times more than 81 dense" in text


# Bad input.


TITLE = "SeparableConv2d(4, 6, kernel_size=(3, 3), padding=(0, 0))"


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            torch.zeros(1, 3, 8, 8), ArgumentError,
            "expected an input of (n, 4, y, x) or without n; got (1, 3, 8, 8)",
        ),
        (
            torch.zeros(8, 8), ArgumentError,
            "expected an input of (n, 4, y, x) or without n; got (8, 8)",
        ),
        (
            torch.zeros(1, 1, 4, 8, 8), ArgumentError,
            "expected an input of (n, 4, y, x) or without n; got (1, 1, 4, 8, 8)",
        ),
        (
            torch.zeros(1, 8, 8, 4), ArgumentError,
            "expected an input of (n, 4, y, x) or without n; got (1, 8, 8, 4). The channels seem "
            "to be last: input.movedim(-1, 1)",
        ),
        (
            torch.zeros(1, 4, 2, 8), ArgumentError,
            "expected an input of sizes of at least (3, 3) after the channels; got (1, 4, 2, 8)",
        ),
        (
            torch.zeros(1, 4, 8, 8, dtype=torch.float64), DTypeError,
            "expected an input of torch.float32, the type of its weights (4, 1, 3, 3); got "
            "torch.float64, shape (1, 4, 8, 8). Convert one of them, for instance "
            "layer.to(torch.float64)",
        ),
    ],
)  # fmt: skip
def test_an_input_that_does_not_fit_is_refused(
    image: torch.Tensor, error: type[Exception], message: str
) -> None:
    layer = snn.SeparableConv2d(4, 6, 3, padding="valid")
    with pytest.raises(error) as caught:
        layer(image)
    assert str(caught.value) == f"{TITLE}: {message}"


@pytest.mark.parametrize(
    ("mode", "padding", "least"),
    [("reflect", 2, 3), ("circular", 2, 2), ("zeros", 0, 5), ("replicate", 2, 1), ("zeros", 1, 3)],
)
def test_the_smallest_input_is_the_one_that_torch_takes(
    mode: str, padding: int, least: int
) -> None:
    conv = nn.Conv1d(2, 2, 5, padding=padding, padding_mode=mode)
    layer = snn.SeparableConv1d.from_dense(conv)
    assert torch.allclose(layer(torch.ones(2, least)), conv(torch.ones(2, least)), atol=1e-6)
    if least > 1:
        with pytest.raises((RuntimeError, IndexError)):
            conv(torch.ones(2, least - 1))
        with pytest.raises(ArgumentError, match="sizes of at least"):
            layer(torch.ones(2, least - 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: snn.SeparableConv2d(4, 6, 3, depth_multiplier=0), ArgumentError,
            "SeparableConv2d: `depth_multiplier` must be >= 1; got 0",
        ),
        (
            lambda: snn.SeparableConv2d(4, 6, 3, depth_multiplier=[1, 2]), RankError,
            "SeparableConv2d: `rank` of bond R must be one integer, or one for each of 4 batch "
            "values (c) of `ocyx -> oc,cyx`; got 2",
        ),
        (
            lambda: snn.SeparableConv2d(4, 6, 3, order="last"), ArgumentError,
            "SeparableConv2d: `order` must be one of depthwise_first, pointwise_first; got 'last'",
        ),
        (
            lambda: snn.SpatialSpectralConv3d(4, 6, 3, order="last"), ArgumentError,
            "SpatialSpectralConv3d: `order` must be one of spectral_first, spatial_first; got "
            "'last'",
        ),
        (
            lambda: snn.DepthwiseConv2d(4, 3, depth_multiplier=0.5), ArgumentTypeError,
            "DepthwiseConv2d: `depth_multiplier` must be an integer; got 0.5",
        ),
        (
            lambda: snn.PointwiseConv(4, 6, ndim=4), ArgumentError,
            "PointwiseConv: `ndim` must be 1, 2 or 3; got 4",
        ),
        (
            lambda: snn.FactoredConv("octzyx -> oc,ctzyx", 4, 6, 3, rank=1), PatternError,
            "FactoredConv: PyTorch convolves over 1, 2 or 3 spatial axes; `octzyx -> oc,ctzyx` "
            "has 4",
        ),
        (
            lambda: snn.SeparableConv2d.from_dense(nn.Conv1d(4, 6, 3)), ArgumentTypeError,
            "SeparableConv2d convolves over 2 axes; got a Conv1d with weights (6, 4, 3)",
        ),
        (
            lambda: snn.SeparableConv2d.from_dense(nn.Conv2d(4, 6, 3), "ocyx -> ox,cy"),
            PatternError,
            "SeparableConv2d has the pattern `ocyx -> oc,cyx` or `ocyx -> oc,oyx`; got "
            "`ocyx -> ox,cy`, which `FactoredConv` takes",
        ),
        (
            lambda: snn.SeparableConv2d.from_dense(nn.ConvTranspose2d(4, 6, 3)),
            ArgumentTypeError,
            "SeparableConv2d cannot replace a ConvTranspose2d: use FactoredConvTranspose",
        ),
        (
            lambda: snn.SeparableConv2d.from_dense(nn.Linear(4, 6)), ArgumentTypeError,
            "`conv` must be a torch.nn.Conv1d, Conv2d or Conv3d, or ConvTranspose1d, 2d or 3d; got "
            "Linear, which has no kernel that these patterns describe",
        ),
        (
            lambda: snn.FactoredConv.from_dense(nn.Conv2d(4, 6, 3)), ArgumentError,
            "FactoredConv.from_dense needs a `pattern`, for instance 'ocyx -> oc,cyx' for a Conv2d",
        ),
        (
            lambda: snn.SeparableConv2d.from_dense(nn.Conv2d(4, 6, 3, device="meta")),
            ArgumentError,
            "SeparableConv2d.from_dense: the weights of `conv`, shape (6, 4, 3, 3), are on the "
            "meta device: there are no numbers to factorise",
        ),
        (
            lambda: snn.SeparableConv2d.from_dense(nn.LazyConv2d(6, 3)), ArgumentTypeError,
            "`conv` has no weights yet: run LazyConv2d once on an input",
        ),
        (
            lambda: snn.FactoredConv.from_dense(
                nn.Conv2d(4, 6, 3), "ocyx -> oc,cy,cx", rank=[1, 2, 3, 1]
            ),
            RankError,
            "FactoredConv: ranks that differ between batch values can be given for two factors; "
            "got `ocyx -> oc,cy,cx`. Give one rank, or `tol`",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_layer_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


# Random weights.


SHAPES = (64, 96, 3)


@pytest.mark.parametrize(
    ("scheme", "depthwise", "pointwise"),
    [
        ("torch", 1 / (3 * 9), 1 / (3 * 128)),
        ("lecun", 1 / 9, 1 / 128),
        ("he", 2 / 9, 1 / 128),
        ("glorot", 2 / (9 + 18), 2 / (128 + 96)),
        ("keras", 2 / (9 * 64 + 9 * 2), 2 / (128 + 96)),
    ],
)
def test_variances_have_the_true_fans(scheme: Any, depthwise: float, pointwise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = snn.SeparableConv2d(*SHAPES, depth_multiplier=2)
    assert snn.initialise(layer, scheme, generator=generator) is layer
    assert float(layer.depthwise.weight.var().detach()) == pytest.approx(depthwise, rel=0.1)
    assert float(layer.pointwise.weight.var().detach()) == pytest.approx(pointwise, rel=0.1)
    assert bool((layer.pointwise.bias == 0).all()) is (scheme != "torch")


def test_torch_draws_with_the_true_fan_in_by_default() -> None:
    torch.manual_seed(0)
    layer = snn.SeparableConv2d(256, 128, 3)
    assert float(layer.depthwise.weight.abs().max().detach()) == pytest.approx(1 / 3, rel=0.01)
    assert float(layer.pointwise.weight.abs().max().detach()) == pytest.approx(1 / 16, rel=0.01)
    before = layer.depthwise.weight.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.depthwise.weight, before)


def test_padding_does_not_change_the_initial_weights() -> None:
    drawn = []
    for stride in (1, 2):
        torch.manual_seed(0)
        drawn.append(snn.SeparableConv2d(4, 6, 3, stride=stride))
    assert all(torch.equal(a, b) for a, b in zip(*(d.parameters() for d in drawn), strict=True))


@pytest.mark.parametrize("order", ["depthwise_first", "pointwise_first"])
@pytest.mark.parametrize("multiplier", [2, [1, 3] * 32])
def test_he_keeps_the_size_of_what_comes_out_of_a_relu(order: Any, multiplier: Any) -> None:
    torch.manual_seed(1)
    layer = snn.SeparableConv2d(
        64, 64, 3, padding="valid", depth_multiplier=multiplier, order=order
    )
    snn.initialise(layer, "he")
    signal = torch.randn(8, 64, 20, 20)
    out = layer(signal.relu())
    assert float((out**2).mean().detach()) == pytest.approx(1.0, rel=0.35)


def test_a_network_is_drawn_layer_by_layer_and_reproducibly() -> None:
    net = nn.Sequential(snn.SeparableConv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 4))
    untouched = net[2].weight.detach().clone()
    draws = []
    for _ in range(2):
        snn.initialise(net, generator=torch.Generator().manual_seed(7))
        draws.append([p.detach().clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))
    assert torch.equal(net[2].weight, untouched)
    with pytest.raises(ArgumentError, match="`scheme` must be one of torch, he, glorot, lecun"):
        snn.initialise(net, "xavier")  # type: ignore[type-var]
    with pytest.raises(ArgumentError, match="`module` has no separable layer; got Linear"):
        snn.initialise(nn.Linear(2, 2))
    with pytest.raises(ArgumentTypeError, match=r"`module` must be a torch\.nn\.Module"):
        snn.initialise("net")  # type: ignore[type-var]
