"""The networks beside their papers, beside Keras, and the page that says so."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from separable.nn import models
from separable.nn.ledger import ledger

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.docs


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_networks", DOCS / "make_networks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


pages = _load()


def row_id(row: Any) -> str:
    return " ".join([row.network, *(f"{k}={v}" for k, v in row.options.items())])


FAMILIES = ("efficientnet_b0", "resnet18", "resnet50", "convnext_tiny")  # one or two of each

# ---------------------------------------------------------------- the papers

# Table 2 of the EfficientNet paper is not what its own network costs: by so much.
BEYOND = {"efficientnet_b1": -1.9, "efficientnet_b4": 4.6, "efficientnet_b5": 3.7,
          "efficientnet_b7": 2.0, "resnet34": 1.8, "resnet50": 1.5,
          "mobilenet_v3_large": -1.1}  # fmt: skip
# The papers round down; torchvision has our parameters exactly (see the page).
MORE_PARAMETERS = {"mobilenet_v2": 3.1, "mobilenet_v3_large": 1.5}


@pytest.mark.parametrize("row", pages.PUBLISHED, ids=row_id)
def test_counts_are_the_published_ones(row: Any) -> None:
    """Within 1 %, or the same digits where the published ones are coarser."""
    ours = pages.count(row.network, **row.options)
    if row.network in MORE_PARAMETERS:
        shift = 100 * row.parameters.shift(ours.parameters)
        assert shift == pytest.approx(MORE_PARAMETERS[row.network], abs=0.05)
    else:
        assert row.parameters.holds(ours.parameters)
    if row.network in BEYOND:
        assert not row.macs.holds(ours.macs)
        assert 100 * row.macs.shift(ours.macs) == pytest.approx(BEYOND[row.network], abs=0.05)
    elif row.macs:
        assert row.macs.holds(ours.macs)


def test_the_figures_that_users_know_are_among_them() -> None:
    """Networks, parameters in millions, multiply-adds in millions."""
    figures = {
        (row.network, *row.options.values()): (row.parameters.value / 1e6, row.macs.value / 1e6)
        for row in pages.PUBLISHED
        if row.macs
    }
    assert figures["mobilenet_v1",] == (4.2, 569)
    assert figures["mobilenet_v1", True] == (29.3, 4866)
    assert [figures["mobilenet_v1", w] for w in (0.75, 0.5, 0.25)] == [
        (2.6, 325), (1.3, 149), (0.5, 41),
    ]  # fmt: skip
    assert [figures["mobilenet_v1", r] for r in (192, 160, 128)] == [
        (4.2, 418), (4.2, 290), (4.2, 186),
    ]  # fmt: skip
    assert figures["xception",] == (22.9, 8400)
    assert figures["efficientnet_b0",] == (5.3, 390)
    assert figures["efficientnet_b1",] == (7.8, 700)
    assert figures["efficientnet_b7",] == (66, 37_000)


def test_xception_has_the_parameters_of_table_3_to_the_last_one() -> None:
    assert pages.count("xception").parameters == 22_855_952


def test_the_3d_unet_has_those_of_its_paper_and_the_norms() -> None:
    """A norm's shift replaces a convolution's bias; its scale is what the paper does not count."""
    with torch.device("meta"):
        net = models.UNet(3, in_channels=3, classes=3, dense=True)
    scales = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm3d))
    assert net.parameter_count() - scales == 19_069_955


@pytest.mark.parametrize("variant", pages.TORCHVISION)
def test_efficientnets_count_as_those_of_torchvision(variant: str) -> None:
    parameters, macs, resolution = pages.TORCHVISION[variant]
    ours = pages.count(f"efficientnet_{variant}", resolution)
    assert ours.parameters == parameters.value
    assert abs(ours.macs - macs.value) <= macs.step / 2


TIMM = {
    "mobilenet_v1": "mobilenetv1_100", "xception": "legacy_xception",
    "efficientnet_b0": "efficientnet_b0", "efficientnet_b7": "efficientnet_b7",
}  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_counts_are_those_of_timm(name: str) -> None:
    """Every parameter and multiply-add agrees with timm, if it is installed."""
    pytest.importorskip("timm")
    theirs = models.create(f"timm:{TIMM[name]}", device="meta").eval()
    assert models.sample_shape(theirs) == models.sample_shape(models.create(name, device="meta"))
    counted = ledger(theirs, (1, *models.sample_shape(theirs)), backward=False).total
    ours = pages.count(name)
    assert (counted.parameters, counted.macs) == (ours.parameters, ours.macs)


def test_norms_explain_b1_and_nothing_else() -> None:
    """With a multiply-add for each value that a norm scales, B1 prints as 0.70 G."""
    b1, b7 = (pages.count(f"efficientnet_{b}") for b in ("b1", "b7"))
    assert pages.Figure("0.70 G").holds(b1.macs + b1.norms)
    assert pages.Figure("37 G").shift(b7.macs + b7.norms) > pages.Figure("37 G").shift(b7.macs)


SOME = [
    n if not n.startswith(("efficientnet", "resnet", "convnext")) or n in FAMILIES
    else pytest.param(n, marks=pytest.mark.long)
    for n in models.names()
]  # fmt: skip


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", SOME)
def test_the_ledger_counts_what_pytorch_counts(name: str, dense: bool) -> None:
    net = models.create(name, device="meta", dense=dense).eval()
    with FlopCounterMode(display=False) as counter:
        net(*net.example())  # type: ignore[operator]
    ours = pages.count(name, dense=dense)
    assert ours.macs == counter.get_total_flops() // 2
    assert ours.parameters == net.parameter_count()  # type: ignore[operator]


def test_mobilenet_by_hand() -> None:
    """The formula of the paper, ``K^2 M F^2 + M N F^2``, layer by layer."""
    stages = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), *[(512, 2)] + [(512, 1)] * 5,
              (1024, 2), (1024, 1)]  # fmt: skip
    channels, size = 32, 112
    parameters, macs = 27 * 32 + 2 * 32, 27 * 32 * size**2
    for wide, stride in stages:
        size //= stride
        weights = 9 * channels + channels * wide
        parameters += weights + 2 * channels + 2 * wide
        macs += weights * size**2
        channels = wide
    ours = pages.count("mobilenet_v1")
    assert ours.macs == macs + 1024 * 1000
    assert ours.parameters == parameters + 1024 * 1000 + 1000


# ---------------------------------------------------------------- figures as printed


def test_a_figure_is_as_coarse_as_it_is_printed() -> None:
    half = pages.Figure("0.5 M")
    assert (half.value, half.step) == (500_000, 100_000)
    assert [half.holds(n) for n in (449_000, 450_000, 550_000, 551_000)] == [
        False, True, True, False,
    ]  # fmt: skip
    exact = pages.Figure("1,000,000")
    assert [exact.holds(n) for n in (989_999, 990_000, 1_010_000)] == [False, True, True]
    assert half.like(470_072) == "0.47 M"
    assert exact.like(22_855_952) == "22,855,952"
    assert pages.Figure("4866 M").like(4_867_293_184) == "4,867.3 M"


def test_the_page_is_true() -> None:
    """Made anew, its tables are what they are; if not: python docs/make_networks.py."""
    page = (DOCS / "networks.md").read_text(encoding="utf-8")
    assert pages.with_tables(page) == page


def test_bold_on_the_page_are_those_beyond() -> None:
    bold = [line for line in pages.published_table().splitlines() if "**" in line]
    assert {line.split('"')[1] for line in bold} == {*BEYOND, *MORE_PARAMETERS}


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table 'published'"):
        pages.with_tables("# Networks\n")


# ---------------------------------------------------------------- Keras


@pytest.fixture(scope="module")
def applications() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend")
    keras.utils.set_random_seed(0)
    return keras.applications


def keras_arrays(model: Any) -> list[np.ndarray]:
    """All weights in the order of the layers, in the layouts of PyTorch, drawn anew."""
    rng = np.random.default_rng(0)
    arrays: list[np.ndarray] = []
    for layer in model.layers:
        if type(layer).__name__ == "Normalization":
            continue
        drawn = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            centre = 1.0 if weight.name in ("gamma", "moving_variance") else 0.0
            spread = 0.1 if len(shape) == 1 else np.prod(shape[:-1]) ** -0.5
            if "depthwise" in weight.path or "dwconv" in weight.path or "conv_dw" in weight.path:
                spread = 0.1 if len(shape) == 1 else 1 / shape[0]
            drawn.append((centre + spread * rng.standard_normal(shape)).astype(np.float32))
            drawn[-1] = np.abs(drawn[-1]) if centre else drawn[-1]
        if drawn:
            layer.set_weights(drawn)
        for weight, array in zip(layer.weights, drawn, strict=True):
            if array.ndim == 2:
                array = array.T
            elif array.ndim == 4:
                depthwise = type(layer).__name__ == "DepthwiseConv2D" or (
                    type(layer).__name__ == "SeparableConv2D" and "pointwise" not in weight.name
                )
                array = array.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            arrays.append(array)
    return arrays


def copy_weights(net: nn.Module, arrays: list[np.ndarray]) -> None:
    ours = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    if arrays[-2].ndim == 4:  # a head of 1x1 is a linear layer
        arrays[-2] = arrays[-2][..., 0, 0]
    assert [tuple(v.shape) for v in ours.values()] == [a.shape for a in arrays]
    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)
    net.load_state_dict(dict(zip(ours, tensors, strict=True)), strict=False)


KERAS = {
    "MobileNet": ("mobilenet_v1", 96),
    "Xception": ("xception", 96),
    "EfficientNetB0": ("efficientnet_b0", 65),
}


@pytest.mark.parametrize("name", KERAS)
def test_the_same_weights_give_what_keras_gives(name: str, applications: Any) -> None:
    """Keras's published weights would give the same, for odd and even image sizes."""
    ours, size = KERAS[name]
    build = getattr(applications, name)
    theirs = build(weights=None, input_shape=(size, size, 3), classes=7, classifier_activation=None)
    net = models.create(ours, classes=7).eval()
    if name == "MobileNet":  # the authors' program has ReLU6 where the paper says ReLU
        for module in list(net.modules()):
            for key, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, key, nn.ReLU6())
    copy_weights(net, keras_arrays(theirs))
    images = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    scale = 255 if name.startswith("Efficient") else 1  # Keras divides by 255 in the network
    want = theirs(images * scale, training=False).detach().numpy()
    with torch.inference_mode():
        got = net(torch.from_numpy(images).movedim(-1, 1)).numpy()
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
