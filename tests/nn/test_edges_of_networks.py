"""Networks at their edges: what layers say about themselves, modes, autocast, tied parameters."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from separable import nn as layers
from separable.errors import ArgumentError

NAMES = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
    "padding_mode",
)  # fmt: skip

LAYERS: dict[str, Callable[[], Any]] = {
    "SeparableConv1d": lambda: layers.SeparableConv1d(4, 8, 5, stride=2, padding=1),
    "SeparableConv2d": lambda: layers.SeparableConv2d(4, 8, (3, 5), padding="valid", bias=False),
    "SeparableConv3d": lambda: layers.SeparableConv3d(4, 8, 3, padding=1, dilation=2),
    "DepthwiseConv1d": lambda: layers.DepthwiseConv1d(4, 3),
    "DepthwiseConv2d": lambda: layers.DepthwiseConv2d(
        4, 3, stride=2, padding=1, depth_multiplier=3
    ),
    "DepthwiseConv3d": lambda: layers.DepthwiseConv3d(4, 3, padding=1, padding_mode="circular"),
    "PointwiseConv": lambda: layers.PointwiseConv(4, 8, stride=2, groups=2),
    "SpatiallySeparableConv2d": lambda: layers.SpatiallySeparableConv2d(
        4, 8, 3, padding=1, padding_mode="reflect"
    ),
    "SpatiallySeparableConv3d": lambda: layers.SpatiallySeparableConv3d(4, 8, 3, groups=2),
    "SpatialSpectralConv3d": lambda: layers.SpatialSpectralConv3d(4, 8, (5, 3, 3), padding=1),
    "FactoredConv": lambda: layers.FactoredConv("ocyx -> oR,RyxS,Sc", 4, 8, 3, rank=2),
    "FactoredConvTranspose": lambda: layers.FactoredConvTranspose(
        "ocyx -> oR,RyxS,Sc", 4, 8, 3, rank=2, stride=2
    ),
}
every = pytest.mark.parametrize("name", LAYERS)


def test_every_layer_is_among_them() -> None:
    made = {
        name for name in layers.__all__
        if isinstance(getattr(layers, name), type)
        and issubclass(getattr(layers, name), layers.FactoredConv)
    }  # fmt: skip
    assert made == set(LAYERS)


@every
def test_layers_have_the_attributes_of_torchs_convolutions(name: str) -> None:
    layer = LAYERS[name]()
    dense = layer.to_dense()
    for key in NAMES:
        got, want = getattr(layer, key), getattr(dense, key)
        assert (got, type(got)) == (want, type(want)), key
    assert (layer.bias is None) == (dense.bias is None)
    if layer.bias is not None:
        assert layer.bias is layer._convolutions()[-1].bias
        assert torch.equal(layer.bias, dense.bias)


@every
def test_attributes_survive_copies_files_and_traces(name: str) -> None:
    layer = LAYERS[name]().eval()
    before = dict(layer.state_dict())
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    others = [
        copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)
    ]  # fmt: skip
    for other in others:
        assert all(getattr(other, key) == getattr(layer, key) for key in NAMES)
        assert list(other.state_dict()) == list(before)
        assert (other.bias is None) == (layer.bias is None)
        assert other.bias is None or other.bias is not layer.bias
    for key in (*NAMES, "bias"):
        with pytest.raises(AttributeError):
            setattr(layer, key, getattr(layer, key) if key != "bias" else None)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@every
def test_layers_are_traced_and_compiled_as_before(name: str) -> None:
    layer = LAYERS[name]().eval()
    x = torch.randn(1, 4, *(9,) * layer.spec.ndim)
    traced = torch.jit.trace(layer, x)
    assert torch.allclose(traced(x), layer(x), atol=1e-6)
    torch._dynamo.reset()

    def read(signal: torch.Tensor) -> torch.Tensor:
        return layer(signal) * layer.stride[0] + layer.out_channels

    compiled = torch.compile(read, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x), read(x), atol=1e-6)


# Fused networks are for inference.


def network(dropout: bool = False) -> nn.Sequential:
    parts: list[nn.Module] = [layers.SeparableConv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    parts += [nn.Dropout(0.5)] if dropout else []
    return nn.Sequential(*parts, nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4)).eval()


@pytest.mark.parametrize("copied", ["itself", "deepcopy", "pickle"])
def test_a_fused_network_refuses_training_mode_and_stays_as_it_is(copied: str) -> None:
    fused, _ = layers.fuse(network(dropout=True), torch.randn(1, 4, 8, 8))
    if copied == "deepcopy":
        fused = copy.deepcopy(fused)
    if copied == "pickle":
        fused = pickle.loads(pickle.dumps(fused))
    with pytest.raises(ArgumentError, match=r"train: a fused network is for inference.*Train the"):
        fused.train()
    assert not any(m.training for m in fused.modules())
    assert fused.eval() is fused
    assert fused.train(False) is fused
    assert fused(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 8, 8)
    with pytest.raises(ArgumentError, match="fused network"):
        nn.Sequential(fused).train()


@pytest.mark.parametrize("half", [False, True])
def test_fuse_works_under_autocast(half: bool) -> None:
    model, x = network(), torch.randn(1, 4, 8, 8)
    expected, plain = model(x), layers.fuse(model, x)[1]
    with torch.autocast("cpu", torch.bfloat16):
        fused, report = layers.fuse(model, x.bfloat16() if half else x)
        assert fused(x).shape == expected.shape
    assert report.fused == plain.fused
    assert report.difference < 1e-5
    assert torch.allclose(fused(x), expected, atol=1e-5)


def test_a_model_that_turns_on_autocast_itself_is_not_blamed_for_something_else() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.inner[1].running_var.fill_(0.7)  # folded into the weights, it is rounded otherwise

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.inner(x).float()

    with pytest.raises(ArgumentError, match="turns on autocast"):
        layers.fuse(Half().eval(), torch.randn(1, 4, 8, 8))


# Tied parameters


def tied(bias: bool = False) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, (1, 3)),
    ).eval()  # fmt: skip
    net[3].weight = net[0].weight
    net[5].weight = net[4].weight
    if bias:
        net[3].bias = net[0].bias
    return net


X = torch.randn(1, 8, 12, 12, generator=torch.Generator().manual_seed(0))


def test_convert_keeps_ties() -> None:
    net = tied(bias=True)
    made, report = layers.convert(net, rank=2, exclude=["4", "5"], repeats=0)
    assert report.untied == ()
    first, second = made[0], made[3]
    assert all(
        a.weight is b.weight
        for a, b in zip(first._convolutions(), second._convolutions(), strict=True)
    )
    assert first.bias is second.bias
    assert made[4].weight is made[5].weight
    assert sum(p.numel() for p in made.parameters()) == report.parameters
    made.train()(X).sum().backward()
    assert made[0]._convolutions()[0].weight.grad is not None
    # ... and so do the ways back and to files.
    dense = layers.merge(made)
    assert dense[0].weight is dense[3].weight
    assert dense[0].bias is dense[3].bias
    again = layers.rebuild(tied(bias=True), layers.blueprint(made))
    assert again[0]._convolutions()[0].weight is again[3]._convolutions()[0].weight
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.eval()(X), made.eval()(X))


def test_convert_says_which_ties_it_loses() -> None:
    net = tied()
    made, report = layers.convert(net, rank=2, data=[X], include=["0", "3"], repeats=0)
    lost = (("0.weight", "3.weight"),)
    if made[0]._convolutions()[0].weight is not made[3]._convolutions()[0].weight:
        assert report.untied == lost
        assert "Tied before, separate now: 0.weight, 3.weight." in str(report)
        assert "Tied before" in report.to_html()
    _, some = layers.convert(net, rank=2, include=["0"], repeats=0)
    assert some.untied == lost
    assert some.to_dict()["untied"] == [["0.weight", "3.weight"]]
    assert "ties" not in layers.blueprint(layers.convert(net, rank=2, include=["0"], repeats=0)[0])


def test_fuse_keeps_ties_where_nothing_is_folded_and_says_which_it_loses() -> None:
    net = tied()
    fused, report = layers.fuse(net, X)
    assert ("0.weight", "3.weight") in report.untied
    assert "Tied before, separate now: 0.weight, 3.weight." in str(report)
    assert ("4.weight", "5.weight") not in report.untied
    assert fused[4].conv.weight is fused[5].conv.weight
    assert torch.allclose(fused(X), net(X), atol=1e-5)


def test_a_blueprint_with_ties_of_another_network_is_refused() -> None:
    made, _ = layers.convert(tied(), rank=2, include=["0", "3"], repeats=0)
    text = layers.blueprint(made).replace('"3.factor', '"3.nothing')
    with pytest.raises(ArgumentError, match="ties"):
        layers.rebuild(tied(), text)
