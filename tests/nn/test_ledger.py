"""The ledger: against loops that compute and count, and against the counter of PyTorch."""

from __future__ import annotations

import copy
import csv
import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from separable.cost import Cost, attention, conv, factored
from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.ledger import Ledger, ledger

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Function(nn.Module):
    """A function of the input times a trained number, so that there are gradients."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, *inputs: torch.Tensor) -> Any:
        scaled = [x * self.scale if x.is_floating_point() else x for x in inputs]
        return self.function(*scaled)


def of(function: Any, *shapes: tuple[int, ...], **options: Any) -> Ledger:
    """Count a function without the scaling of its inputs."""
    return ledger(Function(function), list(shapes), **options)


# Convolutions: loops that compute the result and count their multiplications.


def dense_loop(
    x: np.ndarray, w: np.ndarray, layer: Any
) -> tuple[np.ndarray, int]:  # fmt: skip
    """Convolve output by output; products with the zeros of the padding count."""
    pads = [(0, 0), (0, 0), *((p, p) for p in layer.padding)]
    x = np.pad(x, pads)
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(
            x.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    ]
    out, count = np.zeros((len(x), len(w), *sizes)), 0
    share = len(w) // layer.groups
    for n, o, *at in itertools.product(*map(range, out.shape)):
        first = o // share * w.shape[1]
        for c, *tap in itertools.product(*map(range, w.shape[1:])):
            place = [
                a * s + t * d
                for a, s, t, d in zip(at, layer.stride, tap, layer.dilation, strict=True)
            ]
            out[(n, o, *at)] += x[(n, first + c, *place)] * w[(o, c, *tap)]
            count += 1
    return out, count


def transposed_loop(x: np.ndarray, w: np.ndarray, layer: Any) -> tuple[np.ndarray, int]:
    """Scatter input by input; products that the padding cuts off count."""
    full = [
        (n - 1) * s + d * (k - 1) + 1 + p
        for n, s, d, k, p in zip(
            x.shape[2:], layer.stride, layer.dilation, layer.kernel_size, layer.output_padding,
            strict=True,
        )
    ]  # fmt: skip
    out, count = np.zeros((len(x), w.shape[1] * layer.groups, *full)), 0
    share = len(w) // layer.groups
    for n, c, *at in itertools.product(*map(range, x.shape)):
        first = c // share * w.shape[1]
        for o, *tap in itertools.product(*map(range, w.shape[1:])):
            place = [
                a * s + t * d
                for a, s, t, d in zip(at, layer.stride, tap, layer.dilation, strict=True)
            ]
            out[(n, first + o, *place)] += x[(n, c, *at)] * w[(c, o, *tap)]
            count += 1
    cut = tuple(slice(p, s - p) for p, s in zip(layer.padding, full, strict=True))
    return out[(slice(None), slice(None), *cut)], count


@st.composite
def convolutions(draw: Any) -> tuple[nn.Module, tuple[int, ...]]:
    ndim = draw(st.integers(1, 3))
    few = {1: 9, 2: 5, 3: 3}[ndim]

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    groups = draw(st.integers(1, 3))
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    stride, kernel = each(1, 2), each(1, 3)
    options = {"stride": stride, "padding": each(0, 1), "groups": groups}
    options |= {"dilation": each(1, 2), "bias": draw(st.booleans())}
    space = each(few, few + 2)
    if draw(st.booleans()):
        options["output_padding"] = tuple(draw(st.integers(0, s - 1)) for s in stride)
        layer = TRANSPOSED[ndim](channels, filters, kernel, **options)
        reach = layer.dilation
        if any(
            (n - 1) * s + d * (k - 1) + 1 + o - 2 * p < 1
            for n, s, d, k, o, p in zip(
                space, stride, reach, kernel, layer.output_padding, layer.padding, strict=True
            )
        ):
            layer.padding = (0,) * ndim
    else:
        layer = CONVS[ndim](channels, filters, kernel, **options)
        if any(
            d * (k - 1) + 1 > n + 2 * p
            for n, k, d, p in zip(space, kernel, layer.dilation, layer.padding, strict=True)
        ):
            layer.dilation = (1,) * ndim
    return layer, (draw(st.integers(1, 2)), channels, *space)


@given(convolutions())
def test_convolutions_against_loops(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    check_against_loops(case)


@pytest.mark.long
@given(convolutions())
def test_many_convolutions_against_loops(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    check_against_loops(case)


def check_against_loops(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    """The loop computes what PyTorch does, so that what it counts is a convolution."""
    layer, shape = case
    layer = layer.double()
    x = torch.randn(shape, dtype=torch.float64)
    loop = transposed_loop if hasattr(layer, "output_padding") and layer.transposed else dense_loop
    result, count = loop(x.numpy(), layer.weight.detach().numpy(), layer)
    if layer.bias is not None:
        result = result + layer.bias.detach().numpy().reshape(1, -1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(result, layer(x).detach().numpy(), rtol=1e-10, atol=1e-10)
    found = ledger(layer, shape)
    assert found.total.multiplications == found.total.macs == count
    assert found.total.flops == 2 * count
    assert found.total.additions == (0 if layer.bias is None else result.size)
    assert found.total.parameters == sum(p.numel() for p in layer.parameters())
    assert found.total.activation_bytes == 8 * (x.numel() + result.size)
    assert found.total.weight_bytes == 8 * found.total.parameters
    # The gradient of the weights multiplies as often; that of the input is not needed.
    assert found.backward.macs == count
    # Behind a trained layer it is needed, and multiplies as often again.
    behind = ledger(nn.Sequential(Function(lambda x: x), layer).double(), shape)
    assert behind["1"].backward.macs == 2 * count


@given(convolutions())
def test_weight_gradients_against_loops(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    """Each product of the forward pass gives one product of the gradient, grouped or not."""
    layer, shape = case
    if layer.transposed:
        return
    layer = layer.double()
    x = torch.randn(shape, dtype=torch.float64)
    result, _ = dense_loop(x.numpy(), layer.weight.detach().numpy(), layer)
    g = np.random.default_rng(0).standard_normal(result.shape)
    found, count = np.zeros(layer.weight.shape), 0
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), *((p, p) for p in layer.padding)])
    share = len(found) // layer.groups
    for o, c, *tap in itertools.product(*map(range, found.shape)):
        for n, *at in itertools.product(*map(range, (len(g), *g.shape[2:]))):
            place = [
                a * s + t * d
                for a, s, t, d in zip(at, layer.stride, tap, layer.dilation, strict=True)
            ]
            channel = o // share * found.shape[1] + c
            found[(o, c, *tap)] += padded[(n, channel, *place)] * g[(n, o, *at)]
            count += 1
    layer(x).backward(torch.from_numpy(g))
    np.testing.assert_allclose(found, layer.weight.grad.numpy(), rtol=1e-9, atol=1e-9)
    assert ledger(layer, shape).backward.macs == count


# The counter of PyTorch


def torch_flops(model: nn.Module, *inputs: torch.Tensor, backward: bool = False) -> int:
    with FlopCounterMode(display=False) as counter:
        out = model(*inputs)
        if backward:
            out.sum().backward()
    return int(counter.get_total_flops())


@given(convolutions())
@settings(max_examples=25)
def test_the_counter_of_pytorch_agrees_forward(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    layer, shape = case
    flops = torch_flops(layer, torch.zeros(shape))
    assert 2 * ledger(layer, shape).total.macs == flops


def body(groups: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=groups),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


def test_the_counter_of_pytorch_agrees_backward() -> None:
    x = torch.randn(3, 8, 9, 7)
    found = ledger(body(1), x)
    both = (found.total + found.backward).macs
    assert 2 * both == torch_flops(body(1), x, backward=True)


@pytest.mark.parametrize("groups", [2, 8])
def test_the_counter_of_pytorch_is_wrong_for_grouped_gradients(groups: int) -> None:
    """It forgets the groups of the weights' gradient; loops, above, agree with the ledger."""
    x = torch.randn(3, 8, 9, 7)
    found = ledger(body(groups), x)
    grouped = found["0"].backward.macs
    assert grouped == found["0"].cost.macs
    assert torch_flops(body(groups), x) == 2 * found.total.macs
    excess = torch_flops(body(groups), x, backward=True) - 2 * (found.total + found.backward).macs
    assert excess == 2 * grouped * (groups - 1)


class Attending(nn.Module):
    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(16, 4, batch_first=True)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mha(x, x, x, need_weights=self.weights)[0]


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_attention(weights: bool, training: bool) -> None:
    """Exactly what the closed form says; PyTorch's counter forgets the fused one of processors."""
    model = Attending(weights).train(training)
    found = ledger(model, (1, 10, 16)).total
    expected = attention(10, 16, 4, bias=True)
    assert found.macs == expected.macs
    assert found.parameters == expected.parameters
    forgotten = 0 if weights else 2 * 10**2 * 16
    assert found.macs == torch_flops(model.train(), torch.zeros(1, 10, 16)) / 2 + forgotten
    if not weights:  # fused: the scores stay inside
        assert found.multiplications == expected.multiplications
        assert (found.additions, found.others) == (expected.additions, expected.others)
        assert found.weight_bytes == expected.weight_bytes


def test_functional_attention_of_several_shapes() -> None:
    scaled = functional.scaled_dot_product_attention
    scores = 2 * 3 * 5 * 7
    fused = of(scaled, (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))
    assert fused.total.macs == scores * (8 + 8)
    # The scores again, and two gradients of each product.
    assert fused.backward.macs == scores * (3 * 8 + 2 * 8)
    apart = of(scaled, (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 6))  # no fused kernel: scores kept
    assert apart.total.macs == scores * (8 + 6)
    assert apart.backward.macs == scores * 2 * (8 + 6)
    causal = of(lambda q: scaled(q, q, q, is_causal=True), (2, 3, 5, 8))
    assert causal.total.macs == 2 * (2 * 3 * 5 * 5 * 8)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (torch.matmul, [(3, 4, 5), (5, 6)]),
        (torch.matmul, [(2, 3, 4, 5), (2, 3, 5, 6)]),
        (torch.bmm, [(3, 4, 5), (3, 5, 6)]),
        (lambda a, b: torch.einsum("abc,cd->abd", a, b), [(3, 4, 5), (5, 6)]),
        (lambda a, b, c: torch.baddbmm(a, b, c), [(3, 4, 6), (3, 4, 5), (3, 5, 6)]),
        (lambda a, b, c: torch.addmm(a, b, c), [(6,), (4, 5), (5, 6)]),
        (lambda x, w: functional.conv2d(x, w, padding=1), [(2, 3, 8, 8), (4, 3, 3, 3)]),
        (functional.conv_transpose1d, [(2, 3, 8), (3, 4, 3)]),
    ],
)
def test_functions_count_as_modules_do(function: Any, shapes: list[tuple[int, ...]]) -> None:
    inputs = [torch.zeros(s) for s in shapes]
    found = of(function, *shapes)
    assert 2 * found.total.macs == torch_flops(Function(function), *inputs)
    both = found.total.macs + found.backward.macs
    assert 2 * both == torch_flops(Function(function), *inputs, backward=True)
    assert not found.uncounted


def test_matrix_vector_products() -> None:
    assert of(torch.mv, (4, 5), (5,)).total.macs == 20
    assert of(torch.dot, (5,), (5,)).total.macs == 5
    assert of(torch.outer, (4,), (5,)).total.multiplications == 20 + 9  # and the scaling
    bilinear = ledger(nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)]).total
    assert (bilinear.macs, bilinear.multiplications) == (2 * 60, 4 * 60)


def test_recurrent_layers() -> None:
    """Four gates of LSTM, three of GRU, each with two matrices, for each of 7 steps."""
    lstm, gru = ledger(nn.LSTM(5, 6), (7, 2, 5)), ledger(nn.GRU(5, 6), (7, 2, 5))
    assert lstm.total.macs == 7 * 2 * 4 * 6 * (5 + 6)
    assert gru.total.macs == 7 * 2 * 3 * 6 * (5 + 6)
    assert not lstm.uncounted
    assert not gru.uncounted


# What is no MAC


@pytest.mark.parametrize(
    ("module", "shape", "multiplications", "additions", "others"),
    [
        (nn.ReLU(), (2, 3), 0, 0, 6),
        (nn.Sigmoid(), (2, 3), 0, 0, 6),
        (nn.SiLU(), (2, 3), 6, 0, 6),
        (nn.GELU(), (2, 3), 18, 6, 6),
        (nn.Hardswish(), (2, 3), 12, 6, 6),
        (nn.MaxPool2d(2), (1, 3, 4, 4), 0, 0, 3 * 4 * 3),
        (nn.AvgPool2d((2, 4)), (1, 3, 4, 4), 3 * 2, 3 * 2 * 7, 0),
        (nn.AvgPool3d(2), (1, 3, 4, 4, 4), 3 * 8, 3 * 8 * 7, 0),
        (nn.AdaptiveAvgPool2d(1), (1, 3, 4, 4), 3, 3 * 15, 0),
        (nn.AdaptiveAvgPool2d(3), (1, 3, 7, 7), 3 * 9, 3 * (9 * 9 - 9), 0),
        (nn.AdaptiveMaxPool2d(3), (1, 3, 7, 7), 0, 0, 3 * (9 * 9 - 9)),
        (nn.Softmax(1), (2, 5), 10, 20, 20),
        (nn.Flatten(), (2, 3, 4), 0, 0, 0),
        (nn.Identity(), (2, 3), 0, 0, 0),
        (nn.ZeroPad2d(1), (1, 3, 4, 4), 0, 0, 0),
        (nn.Upsample(scale_factor=2), (1, 3, 4, 4), 0, 0, 0),
        (nn.UpsamplingBilinear2d(scale_factor=2), (1, 3, 4, 4), 3 * 64 * 4, 3 * 64 * 3, 0),
        (nn.LayerNorm(8), (2, 5, 8), 3 * 80 + 3 * 10, 4 * 80 + 10, 10),
        (nn.LayerNorm(8, elementwise_affine=False), (2, 5, 8), 2 * 80 + 30, 3 * 80 + 10, 10),
        (nn.GroupNorm(2, 8), (2, 8, 5), 3 * 80 + 3 * 4, 4 * 80 + 4, 4),
        (nn.RMSNorm(8), (2, 5, 8), 3 * 80 + 10, 80 - 10 + 10, 10),
        (nn.BatchNorm2d(4).eval(), (2, 4, 3, 3), 72 + 3 * 4, 72 + 2 * 4, 4),
        (nn.BatchNorm1d(4), (2, 4, 9), 3 * 72 + 7 * 4, 4 * 72 + 3 * 4, 4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_operations_that_are_not_multiply_adds(
    module: nn.Module, shape: tuple[int, ...], multiplications: int, additions: int, others: int
) -> None:
    found = ledger(module, shape)
    total = found.total
    assert total.macs == 0
    assert total.flops == total.multiplications
    assert (total.multiplications, total.additions, total.others) == (
        multiplications, additions, others,
    )  # fmt: skip
    assert not found.uncounted


def test_products_of_tensors_sums_and_biases() -> None:
    """Squeeze and excitation: a product for each pixel; a residual: a sum for each."""

    class Excited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            gate = self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
            return x + x * gate

    found = ledger(Excited(), (1, 8, 5, 5))
    own = found[""].cost
    assert own.macs == 0
    assert own.multiplications == 8 * 25 + 8  # the gate; the mean's division
    assert own.additions == 8 * 25 + 8 * 24  # the residual; the mean
    assert own.others == 2 + 8
    assert found.total.macs == 2 * 16
    assert found.total.additions - own.additions == 2 + 8  # biases
    assert found.total.multiplications == own.multiplications + 32


def test_embeddings_move_rows_and_multiply_nothing() -> None:
    found = ledger(nn.Embedding(1000, 16), (2, 5), dtype=torch.int64).total
    assert (found.multiplications, found.parameters) == (0, 16_000)
    assert found.weight_bytes == 10 * 16 * 4  # not the whole table
    assert found.activation_bytes == 10 * 8 + 10 * 16 * 4
    bag = ledger(nn.EmbeddingBag(10, 4, mode="sum"), (3, 5), dtype=torch.int64)
    assert bag.total.additions == 3 * 4 * 4
    assert not bag.uncounted


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LayerNorm(8),
        nn.RMSNorm(8), nn.LocalResponseNorm(2), nn.MaxPool2d(2), nn.AvgPool2d(3),
        nn.AdaptiveMaxPool2d(3), nn.LPPool2d(2, 2), nn.FractionalMaxPool2d(2, 3), nn.PReLU(),
        nn.RReLU(), nn.ELU(), nn.CELU(), nn.SELU(), nn.GELU("tanh"), nn.Mish(), nn.Hardsigmoid(),
        nn.Hardtanh(), nn.Tanh(), nn.Softplus(), nn.Softsign(), nn.Softshrink(), nn.Hardshrink(),
        nn.LogSigmoid(), nn.Threshold(0.1, 1.0), nn.GLU(1), nn.LogSoftmax(1), nn.Dropout(),
        nn.Dropout2d(), nn.AlphaDropout(), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1),
        nn.CircularPad2d(1), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2),
        nn.Unfold(2), nn.Upsample(scale_factor=2, mode="bicubic"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)  # fmt: skip
def test_nothing_of_pytorch_is_left_uncounted(module: nn.Module, training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), copy.deepcopy(module)).train(training)
    found = ledger(model, (2, 4, 8, 8))
    assert not found.uncounted
    assert found.total.macs == 2 * 16 * 64


LAYOUTS = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pool", ["Max", "Avg", "AdaptiveAvg", "AdaptiveMax", "LP"])
@pytest.mark.parametrize("training", [True, False])
def test_pooling_is_counted_alike_with_the_channels_anywhere(
    pool: str, layout: torch.memory_format, training: bool
) -> None:
    ndim = 3 if layout is torch.channels_last_3d else 2
    pooling: Any = getattr(nn, f"{pool}Pool{ndim}d")
    plain = nn.Sequential(
        nn.Conv2d(4, 4, 3) if ndim == 2 else nn.Conv3d(4, 4, 3),
        pooling(1) if "Adaptive" in pool else pooling(2, 2),
    ).train(training)
    shape = (2, 4, *(8,) * ndim)
    expected = ledger(plain, shape)
    found = ledger(plain.to(memory_format=layout), shape)
    assert not found.uncounted
    assert found.total.multiplications == expected.total.multiplications
    assert found.total.additions == expected.total.additions


def test_what_only_gives_memory_another_shape_in_place_is_free() -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y.transpose_(2, 3).unsqueeze_(0).squeeze_(0)
        return y.as_strided_((2, 4, 4), (16, 4, 1))

    found = of(run, (1, 2, 4, 4))
    assert not found.uncounted
    assert found.total.multiplications == 64  # `of` scales by a parameter


def test_what_has_no_formula_is_listed() -> None:
    found = of(lambda x: torch.fft.fft2(x.sort(1).values).abs(), (1, 2, 4, 4))
    listed = {(u.operation, u.reason) for u in found.uncounted}
    assert ("aten::sort", "no formula") in listed
    assert any(reason == "complex numbers" for _, reason in listed)
    assert "Not counted: aten::sort in the model itself (no formula)" in str(found)
    assert found.to_dict()["uncounted"][0]["operation"] == "aten::sort"


def test_operations_of_others_are_listed() -> None:
    library = torch.library.Library("ledger_test", "DEF")
    library.define("double(Tensor x) -> Tensor")
    library.impl("double", lambda x: x * 2, "CompositeExplicitAutograd")
    library.impl("double", torch.empty_like, "Meta")
    found = of(torch.ops.ledger_test.double, (2, 3), backward=False)
    assert [str(u) for u in found.uncounted] == [
        "ledger_test::double in the model itself (no formula)"
    ]


# Which layer


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.alias = self.conv
        self.unused = nn.Linear(2, 2)
        self.tied = nn.Linear(4, 4, bias=False)
        self.also = nn.Linear(4, 4, bias=False)
        self.also.weight = self.tied.weight

    def forward(self, image: torch.Tensor, *, again: bool = False) -> torch.Tensor:
        image = self.alias(self.conv(image))
        if again:
            image = functional.conv2d(image, self.conv.weight)
        return self.also(self.tied(image.mean((2, 3))))


def test_shared_modules_multiply_each_time_and_have_parameters_once() -> None:
    model = Shared()
    found = ledger(model, (1, 4, 6, 6))
    once = 36 * 9 * 16
    assert (found["conv"].calls, found["conv"].cost.macs) == (2, 2 * once)
    assert found["conv"].cost.parameters == 148
    assert found["conv"].cost.weight_bytes == 2 * 4 * 148
    assert found["conv"].backward.macs == 3 * once  # the first call needs no input gradient
    assert (found["unused"].calls, found["unused"].cost) == (0, Cost(parameters=6))
    assert found["tied"].cost.parameters == 16
    assert found["also"].cost.parameters == 0
    assert found["tied"].cost.macs == found["also"].cost.macs == 16
    assert found.total.parameters == sum(p.numel() for p in model.parameters())
    with pytest.raises(KeyError, match="no layer 'x'; there are"):
        found["x"]


def test_functions_called_in_forward_and_inputs_by_name() -> None:
    found = ledger(Shared(), (), kwargs={"image": (1, 4, 6, 6), "again": True})
    assert found[""].cost.macs == 16 * 9 * 16
    assert found[""].backward.macs == 2 * 16 * 9 * 16
    assert found["conv"].cost.macs == 2 * 36 * 9 * 16


def test_unused_gradients_are_not_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    sizes = [model[n].weight.numel() * (6 - 2 * n) ** 2 for n in range(3)]
    assert [x.backward.macs for x in ledger(model, (1, 3, 8, 8)).layers] == [
        sizes[0], 2 * sizes[1], 2 * sizes[2],
    ]  # fmt: skip
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    found = ledger(model, (1, 3, 8, 8))
    assert [x.backward.macs for x in found.layers] == [0, sizes[1], sizes[2]]
    assert found["0"].backward == Cost()
    assert found.total.parameters == sum(p.numel() for p in model.parameters())
    assert ledger(model, (1, 3, 8, 8), backward=False).backward == Cost()


def test_bytes_of_gradients() -> None:
    """Read the gradient and the input, write the weights' gradient; then that of the input."""
    layer = nn.Conv2d(3, 4, 3)
    found = ledger(layer, (1, 3, 8, 8)).backward
    assert found.activation_bytes == 4 * (4 * 36 + 3 * 64)
    assert found.weight_bytes == 4 * (108 + 4)
    behind = ledger(nn.Sequential(Function(lambda x: x), layer), (1, 3, 8, 8))["1"].backward
    assert behind.activation_bytes == 4 * (4 * 36 + 3 * 64 + 3 * 64)
    assert behind.weight_bytes == 4 * (108 + 108 + 4)


def test_recomputation_counts_as_backward() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU())

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layers = nn.Conv2d(4, 4, 1), layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.layers, self.first(x), use_reentrant=True)

    once = 16 * 9
    found = ledger(Again(), (1, 4, 3, 3))
    assert found["layers.0"].calls == 1
    assert found["layers.0"].cost.macs == once
    assert found["layers.0"].backward.macs == 3 * once  # once more forward, then two gradients
    assert found["first"].backward.macs == once


def test_gradients_of_ones_own() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return g * x * 2

    model = nn.Sequential(nn.Linear(3, 3), Function(Square.apply), nn.Linear(3, 3))
    found = ledger(model, (1, 3))
    assert found["1"].cost.multiplications == 3 + 3
    assert found["1"].backward.multiplications == 2 * 3 + 2 * 3  # and those of the scaling
    assert not found.uncounted


def test_outputs_that_are_objects_have_gradients() -> None:
    class Answer:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

    once = 2 * 3
    for wrap in (Answer, lambda x: {"a": [x]}, lambda x: (None, Answer({"b": x}))):  # type: ignore[arg-type]
        model = nn.Sequential(nn.Linear(3, 2), Function(wrap))
        assert ledger(model, (1, 3))["0"].backward.macs == once


def test_missing_gradients_are_listed() -> None:
    found = ledger(nn.Sequential(nn.Linear(3, 2), Function(torch.Tensor.detach)), (1, 3))
    assert [str(u) for u in found.uncounted] == [
        "backward in the model itself (no output has a gradient)"
    ]
    frozen = nn.Linear(3, 2).requires_grad_(False)
    assert not ledger(frozen, (1, 3)).uncounted
    assert not ledger(nn.Linear(3, 2), (1, 3), backward=False).uncounted


def test_integers_are_bookkeeping() -> None:
    found = of(lambda x: x + (torch.arange(5) * 3 + 1).sum(), (5,))
    assert found.total.multiplications == 5  # the scaling
    assert found.total.additions == 5


# The model stays as it is


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout()
        self.calls, self.cache = 0, None
        self.table = torch.arange(4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.cache = self.norm(self.conv(x))
        self.table += 1
        return self.drop(self.cache) * self.table[:, None, None]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_untouched(fails: bool) -> None:
    model = Caching()
    model.drop.eval()
    before = copy.deepcopy(model.state_dict())
    table, random = model.table.clone(), torch.random.get_rng_state()
    if fails:
        with pytest.raises(ArgumentError):
            ledger(model, (2, 5, 8, 8))
    else:
        assert ledger(model, (2, 3, 8, 8)).total.macs == 2 * 36 * 27 * 4
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert type(value) is torch.Tensor
    assert (model.calls, model.cache) == (0, None)
    assert torch.equal(model.table, table)
    assert [m.training for m in model.modules()] == [True, True, True, False]
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())
    assert torch.backends.mkldnn.enabled == torch._C._get_mkldnn_enabled()
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 6, 6)


def test_meta_and_real_models_cost_the_same() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(72, 2))

    with torch.device("meta"):
        shapes_only = build()
    assert ledger(shapes_only, (2, 3, 5, 5)) == ledger(build(), (2, 3, 5, 5))
    # No memory: these weights would take 4 TB, these activations more.
    with torch.device("meta"):
        huge = nn.Sequential(nn.Linear(10**6, 10**6), nn.ReLU(), nn.Linear(10**6, 10))
    found = ledger(huge, (10**6, 10**6))
    assert found.total.macs == 10**18 + 10**13
    assert found["0"].cost.weight_bytes == 4 * (10**12 + 10**6)


def test_tensors_made_in_forward_meet_parameters_on_meta() -> None:
    with torch.device("meta"):
        model = Function(lambda x: x + torch.arange(3.0) * torch.zeros(3))
    assert ledger(model, (2, 3)).total.multiplications == 6 + 3


def test_types() -> None:
    half = nn.Conv2d(3, 4, 3).half()
    single = ledger(nn.Conv2d(3, 4, 3), (1, 3, 8, 8))
    found = ledger(half, (1, 3, 8, 8))
    assert found.inputs == ("1x3x8x8 float16",)
    assert 2 * found.total.bytes == single.total.bytes
    both = ledger(nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)], dtype=(torch.float32, torch.float32))
    assert both.inputs == ("2x3 float32", "2x4 float32")
    given = ledger(nn.Embedding(9, 4), torch.zeros(1, 2, dtype=torch.int32))
    assert given.inputs == ("1x2 int32",)


def test_zero_batch() -> None:
    found = ledger(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (0, 3, 8, 8))
    assert found.total.multiplications == 0
    assert found.total.parameters == 112


def test_modes_of_the_caller_do_not_matter() -> None:
    model = Attending(True).eval()
    expected = ledger(model, (1, 5, 16))
    with torch.no_grad():
        assert ledger(model, (1, 5, 16)) == expected
    with torch.inference_mode():
        assert ledger(model, (1, 5, 16)) == expected
    making = Function(lambda x: x + torch.arange(3.0))
    with torch.device("meta"):
        assert ledger(making, (2, 3)).total.additions == 6
    assert ledger(torch.compile(model, backend="eager"), (1, 5, 16)) == expected


# What if


def test_what_if_is_what_the_separated_layers_cost() -> None:
    """Build the separated network and count it: the same, bias and strides included."""
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, dilation=2)
    )
    apart = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2, padding=1, groups=3, bias=False), nn.Conv2d(6, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, dilation=2, groups=8, bias=False), nn.Conv2d(16, 6, 1),
    )  # fmt: skip
    shape = (2, 3, 15, 17)
    guessed = ledger(dense, shape).what_if("ocyx -> oc,cyx", rank=2)
    assert guessed.separated == ledger(apart, shape).total
    assert guessed.total == ledger(dense, shape).total
    assert [x.remark for x in guessed.layers] == ["", "", ""]


@pytest.mark.parametrize("groups", [1, 2])
def test_what_if_of_groups_and_transposed_convolutions(groups: int) -> None:
    from separable.nn import FactoredConv, FactoredConvTranspose

    dense = nn.Sequential(
        nn.Conv2d(4, 8, 3, 2, 1, groups=groups),
        nn.ConvTranspose2d(8, 6, 3, 2, 1, 1, groups=groups, bias=False),
    )
    for pattern, rank in (("ocyx -> oc,cyx", 2), ("ocyx -> oc,oyx", 1), ("ocyx -> oR,RyxS,Sc", 2)):
        apart = nn.Sequential(
            FactoredConv.from_dense(dense[0], pattern, rank=rank),
            FactoredConvTranspose.from_dense(dense[1], pattern, rank=rank),
        )
        shape = (2, 4, 9, 11)
        guessed = ledger(dense, shape).what_if(pattern, rank=rank).separated
        counted = ledger(apart, shape).total
        assert guessed is not None
        assert guessed.multiplications == counted.multiplications
        assert guessed.parameters == counted.parameters


def test_what_if_leaves_alone_what_it_cannot_separate() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1), nn.ConvTranspose2d(6, 4, 3),
        nn.Conv2d(4, 2, 3), nn.Flatten(2), nn.Conv1d(2, 2, 3),
    )  # fmt: skip
    found = ledger(model, (1, 4, 8, 8)).what_if("ocyx -> oc,cyx", rank=9)
    remarks = {x.name: x.remark for x in found.layers}
    assert remarks == {
        "0": "nothing to separate", "1": "nothing to separate", "2": "dearer", "3": "dearer",
        "5": "3 axes",
    }  # fmt: skip
    for name in "015":
        assert found[name].separated == found[name].cost
    expected = factored((8, 8, 4), (3, 3), 2, "ocyx -> oc,cyx", rank=9, bias=True)
    assert found["3"].separated == expected
    assert found.pattern is not None
    assert found.separated == sum((x.separated or Cost() for x in found.layers), Cost())
    tucker = ledger(model, (1, 4, 8, 8)).what_if("ocyx -> oR,RyxS,Sc", rank={"R": 2, "S": 3})
    assert tucker["1"].remark == "dearer"  # channels alone can be of low rank, of a lower one
    assert tucker["1"].separated.multiplications == 36 * (3 * 4 + 2 * 3 + 6 * 2)  # type: ignore[union-attr]


def test_what_if_counts_parameters_of_shared_layers_once() -> None:
    found = ledger(Shared(), (1, 4, 6, 6)).what_if("ocyx -> oc,cyx")
    layer = found["conv"]
    single = factored((6, 6, 4), (3, 3), 4, "ocyx -> oc,cyx", padding=1, bias=True)
    assert layer.separated is not None
    assert layer.separated.parameters == single.parameters
    assert layer.separated.macs == 2 * single.macs
    with pytest.raises(
        ArgumentError, match=r"weights with 3 axes; Shared has convolutions with \[4\]"
    ):
        found.what_if("ocx -> oc,cx")
    with pytest.raises(ArgumentError, match="Linear has no convolution"):
        ledger(nn.Linear(2, 2), (1, 2)).what_if("ocx -> oc,cx")


@given(
    pattern=st.sampled_from(
        ["ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc",
         "ocyx -> oR,RyS,SxT,Tc", "ocyx -> ocy,ocx", "oc(Yy)(Xx) -> ocYX,ocyx"],
    ),
    channels=st.integers(1, 4), filters=st.integers(1, 4), stride=st.integers(1, 2),
    padding=st.integers(0, 2), dilation=st.integers(1, 2), rank=st.integers(1, 2),
    bias=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_what_if_agrees_with_the_layers_of_this_library(
    pattern: str, channels: int, filters: int, stride: int, padding: int, dilation: int,
    rank: int, bias: bool,
) -> None:  # fmt: skip
    """Lower the pattern to a module and count it."""
    from separable.nn import FactoredConv

    sizes = {"y": 2, "x": 2} if "(" in pattern else None
    kernel, shape = (4, 4) if sizes else (3, 4), (1, channels, 9, 10)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    module = FactoredConv(
        pattern, channels, filters, kernel, rank=rank, sizes=sizes, bias=bias, **options
    )
    expected = ledger(module, shape, backward=False)
    assert not expected.uncounted
    closed = factored(
        (9, 10, channels), kernel, filters, pattern, rank=rank, sizes=sizes, bias=bias, **options
    )
    assert closed.multiplications == expected.total.multiplications
    assert closed.additions == expected.total.additions


# Printing


def small() -> nn.Module:
    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(channels)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + self.norm(self.conv(x))).relu()

    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3), Block(16), Block(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip


def found() -> Ledger:
    return ledger(small(), (1, 3, 64, 64))


def test_rows_sum_to_the_totals() -> None:
    made = found().what_if("ocyx -> oc,cyx")
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [r["layer"] for r in rows] == [*(x.name for x in made.layers), "total"]
    counts = [n for n in rows[0] if rows[0][n].isdigit() and n != "calls"][1:]
    assert {"multiplications", "backward_macs", "separated_parameters"} <= set(counts)
    for name in counts:
        assert sum(int(r[name]) for r in rows[:-1]) == int(rows[-1][name]), name
    assert int(rows[-1]["macs"]) == made.total.macs
    exported = json.loads(json.dumps(made.to_dict()))
    for name, value in exported["total"].items():
        assert sum(x["cost"][name] for x in exported["layers"]) == value
    assert exported["separated"]["macs"] == made.separated.macs  # type: ignore[union-attr]
    for depth in (1, 2, 3):
        merged = made.merged(depth)
        assert merged.total == made.total
        assert merged.backward == made.backward
        assert merged.separated == made.separated


def test_merged_rows_are_the_modules_of_the_model() -> None:
    merged = found().merged(1)
    assert [(x.name, x.kind) for x in merged.layers] == [
        ("0", "Conv2d"), ("1", "Block"), ("2", "Block"), ("3", "AdaptiveAvgPool2d"),
        ("5", "Linear"),
    ]  # fmt: skip
    assert merged["1"].output_shape == (1, 16, 32, 32)
    assert merged["1"].cost.macs == conv((32, 32, 16), (3, 3), 16, padding="same").macs
    deep = found().table(depth=1)
    assert "Layers deeper than 1" in deep.replace("\n", " ")
    assert "1.conv" in found().table()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_fit(width: int) -> None:
    for made in (found(), found().what_if("ocyx -> oc,cyx")):
        for line in made.table(width=width).splitlines():
            assert len(line) <= width
            assert line == line.rstrip()


def test_long_networks_are_merged() -> None:
    layers = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(40)]
    made = ledger(nn.Sequential(*layers), (1, 2))
    assert len(made.layers) == 80
    assert len(made.table().splitlines()) < 60
    assert len(made.table(depth=2).splitlines()) > 80


def test_markdown_has_every_layer() -> None:
    made = found()
    lines = made.to_markdown().splitlines()
    assert lines[0].startswith("| layer | kind | output | mult |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    for layer in made.layers:
        assert any(
            line.startswith(f"| {layer.name or '(model)'} | {layer.kind} |") for line in lines
        )


# Bad input

BAD = [
    (3, (1,), ArgumentTypeError, "`model` must be a torch.nn.Module; got int"),
    (nn.Linear(2, 2), "2", ArgumentTypeError, "`input_shape` must be the shape of the input with its batch, as (1, 3, 224, 224), or a list of shapes; got '2'"),
    (nn.Linear(2, 2), (1, 2.0), ArgumentTypeError, "`input_shape` must be the shape of the input with its batch, as (1, 3, 224, 224), or a list of shapes; got (1, 2.0)"),
    (nn.Linear(2, 2), [(1, "2")], ArgumentTypeError, "`input_shape` must be whole numbers; got (1, '2')"),
    (nn.Linear(2, 2), (1, -2), ArgumentError, "`input_shape` must be sizes >= 0; got (1, -2)"),
    (nn.LazyLinear(2), (1, 2), ArgumentError, "`model` LazyLinear has lazy layers without parameters: run it once on an input, then count"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "kind", "message"), BAD)
def test_messages(model: Any, shape: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        ledger(model, shape)
    assert str(caught.value) == message


def test_a_wrong_shape_names_the_layer_and_the_input() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Conv2d(5, 4, 3))
    with pytest.raises(ArgumentError) as caught:
        ledger(model, (1, 3, 8, 8))
    text = str(caught.value)
    assert text.startswith("`input_shape` does not go through the model: layer `1` (Conv2d) says: ")
    assert "expected input[1, 4, 6, 6] to have 5 channels" in text
    assert "The input was 1x3x8x8 float32" in text
    with pytest.raises(ArgumentError, match=r"other types are given as `dtype=`"):
        ledger(nn.Embedding(3, 3), (1, 2))
    with pytest.raises(
        ArgumentError, match=r"`dtype` must be one for all inputs or one for each of 1"
    ):
        ledger(nn.Linear(2, 2), (1, 2), dtype=[torch.float32, torch.float32])


def test_operations_that_depend_on_data_are_reported() -> None:
    def choose(x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Linear(2, 2), Function(choose))
    with pytest.raises(ArgumentError, match="layer `1` \\(Function\\) reads values of a tensor"):
        ledger(model, (1, 2))


def test_models_that_cannot_be_copied_are_reported() -> None:
    import threading

    model = nn.Linear(2, 2)
    model.lock = threading.Lock()
    with pytest.raises(ArgumentTypeError, match=r"`model` Linear cannot be copied"):
        ledger(model, (1, 2))
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(ArgumentTypeError, match=r"TorchScript"):
        ledger(scripted, (1, 2))
