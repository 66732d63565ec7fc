"""Transposed convolutions as factors: layers, conversion, fits, files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from separable import nn as snn
from separable.errors import ArgumentError, ArgumentTypeError, PatternError
from separable.nn.convert import blueprint, convert, merge, rebuild
from separable.nn.convert.covariances import Collector
from separable.nn.convert.factored_layers import weights_of_conv

KINDS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
PATTERNS = {
    1: ("ocx -> oc,cx", "ocx -> oc,ox", "ocx -> oR,RxS,Sc"),
    2: ("ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc", "ocyx -> oc,cy,cx"),
    3: ("oczyx -> oc,czyx", "oczyx -> oxS,SyR,Rcz"),
}  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_exact_factors_equal_the_layer(data: Any) -> None:
    ndim = data.draw(st.sampled_from([1, 2, 3]))
    pattern = data.draw(st.sampled_from(PATTERNS[ndim]))
    stride, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    kernel, groups = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 2]))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1))
    padding = data.draw(st.integers(0, min(2, dilation * (kernel - 1))))
    bias = data.draw(st.booleans())
    torch.manual_seed(data.draw(st.integers(0, 99)))
    conv = KINDS[ndim](4, 6, kernel, stride, padding, extra, groups, bias, dilation)
    layer = snn.FactoredConvTranspose.from_dense(conv, pattern)
    x = torch.randn(2, 4, *(5, 4, 6)[:ndim])
    assert torch.allclose(layer(x), conv(x), atol=1e-5)
    assert torch.allclose(layer(x[0]), conv(x[0]), atol=1e-5)
    dense = layer.to_dense()
    assert type(dense) is type(conv)
    assert torch.allclose(dense.weight, conv.weight, atol=1e-5)
    counted = snn.ledger(layer, (1, 4, *(5, 4, 6)[:ndim])).total.macs
    if ndim == 1 or padding == 0:
        assert counted >= layer.multiplications  # at least one position


@pytest.mark.parametrize("ranks", [[1, 3, 2, 2], [2, 0, 1, 1]])
def test_ragged_ranks(ranks: list[int]) -> None:
    conv = nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1)
    layer = snn.FactoredConvTranspose.from_dense(conv, "ocyx -> oc,cyx", rank=ranks)
    x = torch.randn(1, 4, 5, 5)
    assert torch.allclose(layer(x), layer.to_dense()(x), atol=1e-5)
    kernel = conv.weight.detach().transpose(0, 1).double()  # (o, c, y, x)
    for c, rank in enumerate(ranks):
        u, s, v = torch.linalg.svd(kernel[:, c].reshape(6, 16), full_matrices=False)
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        ours = layer.to_dense().weight.detach()[c].reshape(6, 16).double()
        assert torch.allclose(ours, best, atol=1e-6)


def test_moments_are_those_of_the_layer() -> None:
    """The patches of the collector times the weights are the output, so that the fit is right."""
    torch.manual_seed(0)
    for groups, padding, extra in ((1, 1, 1), (2, 0, 0), (1, 3, 1)):
        conv = nn.ConvTranspose2d(4, 6, 3, 2, padding, extra, groups, dilation=2)
        x = torch.randn(2, 4, 6, 5)
        windows = Collector(conv)._windows(x)
        weights = torch.from_numpy(weights_of_conv(conv)).float().reshape(groups, 6 // groups, -1)
        patches = windows.reshape(*windows.shape[:3], groups, -1)
        output = torch.einsum("nyxgi,goi->ngoyx", patches, weights).flatten(1, 2)
        output = output + conv.bias[:, None, None]
        assert torch.allclose(output, conv(x), atol=1e-5)


def decoder() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ConvTranspose2d(12, 16, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 3, 2, 1, 1, groups=2), nn.ReLU(), nn.Conv2d(8, 3, 1),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("pattern", ["auto", "ocyx -> ox,cy"])
def test_a_decoder_is_converted_with_data(pattern: str) -> None:
    net = decoder()
    data = nn.functional.avg_pool2d(torch.randn(6, 12, 10, 10), 3, 1).split(3)
    small, report = convert(net, pattern, budget=0.5, data=data, repeats=0)
    assert report.layers[0].converted
    assert report.output_error < report.plain_output_error
    counted = [snn.ledger(m, (3, 12, 8, 8)).total.multiplications for m in (net, small)]
    assert counted == [report.multiplications_before, report.multiplications]
    assert counted[1] <= 0.5 * counted[0]
    again = rebuild(net, blueprint(small))
    again.load_state_dict(small.state_dict())
    assert torch.equal(again(data[0]), small(data[0]))
    assert torch.allclose(merge(small)(data[0]), small(data[0]), atol=1e-5)
    fused, _ = snn.fuse(small.eval(), data[0])
    assert torch.allclose(fused(data[0]), small(data[0]), atol=1e-5)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_files(tmp_path: Path, suffix: str) -> None:
    from separable.nn.formats import open_network

    net, x = decoder(), torch.randn(1, 12, 6, 6)
    path = tmp_path / f"net.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if suffix == "onnx":
            torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"])
        else:
            torch.export.save(torch.export.export(net, (x,)), path)
    source = open_network(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        small, report = convert(
            source.module, "auto", budget=0.4, repeats=0, input_shape=source.shapes_to_count(None)
        )
        written = source.serialised(small)
    assert sum(y.converted and "Transpose" in y.kind for y in report.layers) == 2
    net.even_ranks = source.module.even_ranks if suffix == "onnx" else False  # as in the file
    wanted = convert(net, "auto", budget=0.4, input_shape=(1, 12, 6, 6), repeats=0)[0](x)
    path.write_bytes(written)
    if suffix == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        found = torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})[0])
    else:
        found = torch.export.load(path).module()(x)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_depthwise_upsampling_is_separated() -> None:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    conv = nn.ConvTranspose2d(5, 5, 4, 2, 1, groups=5, bias=False)
    conv.weight.data[:] = line[:, None] * line
    small, report = convert(
        nn.Sequential(conv), "auto", tol=1e-5, input_shape=(1, 5, 9, 9), repeats=0
    )
    assert report.layers[0].pattern == "cyx -> cy,cx"
    x = torch.randn(1, 5, 9, 9)
    assert torch.allclose(small(x), conv(x), atol=1e-5)
    # Along y the input has 9 x 9 positions; along x, after the stride of y, 18 x 9.
    assert report.layers[0].multiplications == 5 * 4 * (81 + 162)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: snn.FactoredConvTranspose("ocyx -> oc,cyx", 4, 6, 3, stride=2, output_padding=2, rank=1),
            ArgumentError, "`output_padding` must be less than `stride` or `dilation`",
        ),
        (
            lambda: snn.FactoredConvTranspose("oc(Yy)x -> ocY,cyx", 4, 6, 4, rank=1, sizes={"y": 2}),
            PatternError, "splits a spatial axis",
        ),
        (
            lambda: snn.FactoredConvTranspose("ocyx -> oc,cyx", 4, 6, 3, padding="same", rank=1),
            ArgumentError, "has integers as `padding`",
        ),
        (
            lambda: snn.FactoredConv.from_dense(nn.ConvTranspose2d(4, 6, 3), "ocyx -> oc,cyx"),
            ArgumentTypeError, "use FactoredConvTranspose",
        ),
        (
            lambda: snn.FactoredConvTranspose.from_dense(nn.Conv2d(4, 6, 3), "ocyx -> oc,cyx"),
            ArgumentTypeError, "use FactoredConv",
        ),
        (
            lambda: snn.FactoredConvTranspose("ocyx -> oc,cyx", 4, 6, 3, padding=4, rank=1)(torch.zeros(1, 4, 2, 2)),
            ArgumentError, "sizes of at least",
        ),
    ],
)  # fmt: skip
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_the_layer_says_of_itself() -> None:
    layer = snn.FactoredConvTranspose("ocyx -> oc,oyx", 8, 4, 3, 2, 1, 1, rank=2)
    assert "output_padding=(1, 1)" in repr(layer)
    assert layer.output_padding == (1, 1)
    assert layer.multiplications == 8 * 4 * 2 + 4 * 2 * 9
    assert np.asarray(layer.factors().dense()).shape == (4, 8, 3, 3)
