"""`nn.audit`: the seven situations that it must find, and networks in which there is nothing to find."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn
from torch.nn import functional

from separable import nn as snn
from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn import models
from separable.nn.audit import Audit, AuditedLayer, Finding, Form, audit
from separable.nn.audit.finding_texts import layer_finding

sys.path.insert(0, str(Path(__file__).parent))
import separable_programs as programs

# Larger networks of the same blocks as others, which take minutes.
LARGE = (
    *(f"efficientnet_b{n}" for n in range(4, 8)), "resnet101", "resnet152", "convnext_small",
    "convnext_base", "convnext_large",
)  # fmt: skip


def quick(program: object, example: object = None, **options: object) -> Audit:
    torch.manual_seed(0)
    return audit(program, example, repeats=0, **options)  # type: ignore[arg-type]


# The seven situations.


def test_gaussian_in_an_anomaly_detector() -> None:
    found = quick(programs.AnomalyDetector(), (1, 3, 64, 64))
    layer = found["smooth"]
    assert layer.exact is not None
    assert (layer.exact.pattern, layer.exact.ranks) == ("cyx -> cy,cx", {"R": 1})
    assert layer.multiplications == 3 * 33 * 33 * 64 * 64
    # The first pass, along y, also covers the columns of the padding.
    assert layer.exact.multiplications == 3 * 33 * (64 * 96 + 64 * 64)
    assert [x.name for x in found.separable] == ["smooth"]
    assert [f.kind for f in found.findings] == ["layer"]


def test_blur_augmentation_with_a_dense_kernel() -> None:
    pipeline = [lambda image: image / 255, programs.blur_augmentation]
    found = quick(pipeline, (1, 3, 48, 48))
    (layer,) = found.layers
    assert layer.where.startswith("separable_programs.py:")
    assert layer.exact is not None
    assert layer.exact.pattern == "cyx -> cy,cx"
    assert layer.exact.error == 0
    assert "blur_augmentation" in found.findings[0].text


def test_fourier_shift_of_a_separable_window() -> None:
    found = quick(programs.WindowShift(), torch.tensor([0.3, 1.7]))
    assert [f.kind for f in found.findings] == ["fft", "fft"]  # there and back
    assert found.findings[0].multiplications < found.findings[0].multiplications_before / 10
    # The two 1-D transforms that the finding proposes give the same window.
    program, shift = programs.WindowShift(), torch.tensor([0.3, 1.7])
    line, f = torch.hann_window(48), program.frequencies
    lines = [torch.fft.ifft(torch.fft.fft(line) * torch.exp(-2j * torch.pi * f * s)) for s in shift]
    assert torch.allclose(program(shift), (lines[0][:, None] * lines[1]).real, atol=1e-6)


def test_resize_as_a_dense_convolution() -> None:
    found = quick(programs.Downsampler(), (1, 3, 64, 64))
    form = found["resize"].exact
    assert form is not None
    assert (form.groups, form.pattern, form.ranks) == (3, "cyx -> cy,cx", {"R": 1})
    assert "mix only within 3 groups" in found.findings[0].text


def test_average_pooling_as_a_convolution() -> None:
    program = programs.AverageByConvolution()
    found = quick(program, (1, 16, 32, 32))
    form = found["pool"].exact
    assert form is not None
    assert form.pattern == "average pooling"
    assert form.multiplications * 16 == found["pool"].multiplications
    x = torch.randn(1, 16, 32, 32)
    assert torch.allclose(program(x), nn.AvgPool2d(4)(x), atol=1e-6)


def test_bank_computed_kernel_by_kernel() -> None:
    found = quick(programs.LogBank(), (1, 1, 48, 48))
    assert len(found.separable) == 4
    assert all(x.exact is not None and x.exact.ranks == {"R": 2} for x in found.layers)
    (bank,) = (f for f in found.findings if f.kind == "bank")
    assert len(bank.names) == 4
    assert len(set(bank.names)) == 4
    assert bank.multiplications < bank.multiplications_before / 5


def test_sobel_pair_shares_a_pass() -> None:
    found = quick(programs.EdgeDetector(), (1, 1, 32, 32))
    assert len(found.separable) == 2
    (bank,) = (f for f in found.findings if f.kind == "bank")
    assert "[1 1] along y and [1 1] along x" in bank.text


def test_sum_of_translations() -> None:
    net = nn.Sequential(programs.Translations(), nn.Conv2d(3, 8, 3))
    found = quick(net, (1, 3, 32, 32))
    (finding,) = found.findings
    assert (finding.kind, finding.names) == ("transform", ("0",))
    assert (finding.multiplications_before, finding.multiplications) == (25, 10)


@pytest.mark.parametrize("in_place", [False, True])
def test_sum_of_translations_inside_a_function(in_place: bool) -> None:
    weights = (1.0, 3.0, 3.0, 1.0)

    class Program(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded = functional.pad(x, (2, 1, 2, 1), mode="reflect")
            total = padded[:, :, :32, :32] / 64
            for at in range(1, 16):
                dy, dx = divmod(at, 4)
                part = padded[:, :, dy : dy + 32, dx : dx + 32]
                factor = weights[dy] * weights[dx] / 64
                if in_place:
                    total += part * factor
                else:
                    total = total - part * -factor
            return self.conv(total).relu()

    found = quick(Program(), (1, 3, 32, 32))
    (finding,) = found.findings
    assert finding.kind == "transform"
    assert "The sum of translations in test_audit.py:" in finding.text
    assert (finding.multiplications_before, finding.multiplications) == (16, 8)


def test_box_of_an_array_function() -> None:
    def smooth(image: np.ndarray) -> np.ndarray:
        return ndimage.convolve(image, np.full((9, 9), 1 / 81))

    found = quick(smooth, np.zeros((40, 50), np.float32))
    (finding,) = found.findings
    assert finding.names == ("smooth",)
    assert "running sums" in finding.text


# No false alarms.


NETWORKS: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "mobilenet_v1": ({"width": 0.25}, (1, 3, 48, 48)),
    "unet": ({"widths": (8, 16, 32), "dense": True}, (1, 1, 32, 32)),
    "unet_3d": ({"widths": (8, 16)}, (1, 1, 16, 16, 16)),
    "series": ({}, (1, 8, 64)),
    "multimodal": ({}, (1, 3, 48, 48)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_random_networks_have_nothing_separable(name: str) -> None:
    options, example = NETWORKS[name]
    found = quick(models.create(name, seed=0, **options), example)
    assert found.findings == ()
    assert not any(x.exact or x.close for x in found.layers)
    assert any(x.at_half is not None for x in found.layers)


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in models.names() if n not in LARGE])
def test_no_registered_network_has_anything_separable(name: str) -> None:
    assert quick(models.create(name, seed=1)).separable == ()


@pytest.mark.parametrize(
    "function",
    [
        torch.relu, torch.sigmoid, lambda x: x, lambda x: x.flip(-1), lambda x: x * 2 + 1,
        lambda x: x.mT, lambda x: x * torch.linspace(0, 1, 32), lambda x: x.cumsum(-1),
        functional.avg_pool2d, lambda x: torch.randn_like(x), lambda x: x.mean((-1, -2), keepdim=True),
        lambda x: functional.max_pool2d(x, 3, 1, 1), lambda x: {"image": x},
        lambda x: functional.conv2d(x, torch.arange(81.0).reshape(3, 3, 3, 3) ** 2 % 7, padding=1),
    ],
)  # fmt: skip
def test_other_functions_are_no_findings(function: object) -> None:
    arguments = {"kernel_size": 2} if function is functional.avg_pool2d else {}

    def call(x: torch.Tensor) -> object:
        return function(x, **arguments)  # type: ignore[operator]

    assert quick(call, (1, 3, 32, 32)).findings == ()


def test_zeros_and_translations_are_not_called_separable() -> None:
    zero = nn.Conv2d(4, 4, 3)
    nn.init.zeros_(zero.weight)
    assert quick(zero)[""].reason == "all weights are 0"
    shift = nn.Conv2d(4, 4, 5, groups=4)
    nn.init.zeros_(shift.weight)
    shift.weight.data[:, :, 1, 3] = 1.0
    assert "one tap" in quick(shift)[""].notes[0]


# What it computes.


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(0, 99))
def test_the_rank_of_depthwise_kernels(rank: int, height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(2, rank, height, 1, generator=generator)
    b = torch.randn(2, rank, 1, width, generator=generator)
    conv = nn.Conv2d(2, 2, (height, width), groups=2)
    conv.weight.data[:] = (a * b).sum(1, keepdim=True)
    layer = quick(conv)[""]
    true = np.linalg.matrix_rank(conv.weight.detach().double().numpy()[:, 0], tol=1e-4).max()
    saves = true * (height + width) < height * width
    assert (layer.exact is not None) == saves
    if layer.exact is not None:
        assert layer.exact.ranks == {"R": true}
        assert layer.exact.multiplications == 2 * true * (height + width)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rounding_of_the_weights_is_no_error(dtype: torch.dtype) -> None:
    line = programs.gaussian(15, 3.0).double()
    conv = nn.Conv2d(2, 2, 15, groups=2, bias=False, dtype=dtype)
    conv.weight.data[:] = (line[:, None] * line).to(dtype)
    assert quick(conv)[""].exact is not None


def test_close_forms_and_errors_are_those_of_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    line = programs.gaussian(9, 2.0)
    kernel = line[:, None] * line
    conv = nn.Conv2d(1, 1, 9)
    conv.weight.data[0, 0] = kernel + 1e-3 * kernel.norm() * torch.randn(9, 9, generator=generator)
    layer = quick(conv, tol=0.05)[""]
    assert layer.exact is None
    assert layer.close is not None
    values = torch.linalg.svdvals(conv.weight.detach()[0, 0].double())
    rest = float((values[1:] ** 2).sum() / (values**2).sum()) ** 0.5
    assert layer.close.error == pytest.approx(rest, rel=1e-3)
    closer = quick(conv, tol=rest / 2)[""].close
    assert closer is not None
    assert closer.ranks["R"] > 1
    assert closer.error <= rest / 2
    assert quick(conv, tol=rest / 100)[""].close is None
    assert layer.at_half is not None
    assert layer.at_half.multiplications <= layer.multiplications / 2
    assert layer.cheapest[0].error <= layer.cheapest[-1].error


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_transposed_convolutions_are_examined(ndim: int) -> None:
    kinds = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    conv = kinds[ndim](8, 6, 4, stride=2, padding=1)
    left, right = torch.randn(8, 1, *(1,) * ndim), torch.randn(1, 6, *(4,) * ndim)
    conv.weight.data[:] = left * right  # one kernel per output, from one mixture of inputs
    layer = quick(conv, (1, 8, *(6,) * ndim))[""]
    assert layer.exact is not None
    assert layer.weight_shape == (6, 8, *(4,) * ndim)
    small, _ = snn.convert(conv, layer.exact.pattern, rank=dict(layer.exact.ranks), repeats=0)
    x = torch.randn(1, 8, *(6,) * ndim)
    assert torch.allclose(small(x), conv(x), atol=1e-4)


def test_times_are_measured_for_what_can_be_separated() -> None:
    found = audit(programs.AnomalyDetector(), (1, 3, 32, 32), repeats=1)
    timed = [x.name for x in found.layers if not math.isnan(x.seconds_before)]
    assert timed == ["smooth"]
    assert found["smooth"].seconds > 0
    assert found["smooth"].seconds_fused > 0
    assert "Measured" in found.findings[0].text


def test_the_program_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    quick_state = np.random.get_state()[1].copy()  # noqa: NPY002
    audit(net, (2, 3, 8, 8), repeats=0)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], quick_state)  # noqa: NPY002


def test_separable_layers_are_named_but_their_depthwise_steps_are_examined() -> None:
    net = nn.Sequential(snn.SeparableConv2d(4, 8, 9), snn.SpatiallySeparableConv2d(8, 8, 3))
    line = programs.gaussian(9, 2.0)
    net[0].depthwise.weight.data[:] = line[:, None] * line
    found = quick(net, (1, 4, 24, 24))
    assert [(x.name, x.reason) for x in found.layers] == [
        ("0.depthwise", ""), ("0", "separable already"), ("1", "separable already"),
    ]  # fmt: skip
    assert [x.name for x in found.separable] == ["0.depthwise"]


# Mistakes.


@pytest.mark.parametrize(
    ("program", "example", "options", "message"),
    [
        (3, None, {}, "`model` must be a torch.nn.Module, a function"),
        (torch.relu, None, {}, "`example` is needed to audit the function relu"),
        (nn.Conv2d(3, 4, 3), (1, 5, 8, 8), {}, "`example` 1x5x8x8 float32 does not go through"),
        (nn.Conv2d(3, 4, 3), "abc", {}, "`example` must be a tensor, an array, a shape"),
        (nn.Linear(3, 4), (1, 3), {}, "runs no convolution"),
        (nn.Linear(3, 4), None, {}, "has no convolution to examine"),
        (nn.Conv2d(3, 4, 3), None, {"tol": 2}, "`tol` must be 0 .. 1"),
        (nn.Conv2d(3, 4, 3), None, {"tol": "a"}, "`tol` must be a number"),
        (nn.Conv2d(3, 4, 3), None, {"repeats": -1}, "`repeats` must be >= 0"),
        (nn.Conv2d(3, 4, 3), None, {"include": ["x"]}, "`include` names 'x'"),
    ],
)
def test_mistakes(
    program: object, example: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message.replace("(", r"\(")):
        audit(program, example, **options)  # type: ignore[arg-type]


# Forms of the report.


def made_up() -> Audit:
    """An audit whose numbers do not depend on any machine."""
    one = Form("cyx -> cy,cx", 3, {"R": 1}, 1_820_000, 0.0)
    near = Form("ocyx -> oR,RyxS,Sc", 1, {"R": 8, "S": 6}, 61_000_000, 0.034)
    half = Form("ocyx -> oc,cyx", 1, {"R": [1, 3, 2]}, 50_000_000, 0.06)
    layers = (
        AuditedLayer(
            "smooth", "", "Conv2d", (3, 1, 33, 33), 3, 1, 30_100_000, one, None, (one,), one, one,
            0.0061, 0.0044, 0.00061,
        ),
        AuditedLayer(
            "body.0", "", "Conv2d", (64, 64, 3, 3), 1, 2, 116_000_000, None, near, (half, near),
            near, half, 0.0061, 0.0048, 0.0047,
        ),
        AuditedLayer(
            "", "blur.py:31", "conv2d", (16, 1, 4, 4), 16, 1, 65_500,
            Form("average pooling", 16, {}, 4_100, 0.0), None, at_half=None,
        ),
        AuditedLayer("head", "", "Conv2d", (8, 64, 1, 1), 1, 1, 9_000),
        AuditedLayer("stem", "", "SeparableConv2d", (64, 3, 7, 7), reason="separable already"),
    )  # fmt: skip
    found = Finding("bank", ("a", "b"), "a and b filter the same input.", 18, 12)
    return Audit("Net", ("1x3x96x96 float32",), 0.05, layers, (layer_finding(layers[0]), found))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "width"), [("audit", 80), ("audit_wide", 140)])
def test_printed_audit(name: str, width: int, request: pytest.FixtureRequest) -> None:
    shown = made_up().table(width=width) + "\n"
    kept = Path(__file__).parents[1] / "snapshot" / f"{name}.txt"
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(shown)
    assert shown == kept.read_text()
    assert max(map(len, shown.splitlines())) <= width


def test_the_audit_in_all_its_forms() -> None:
    found = quick(programs.AnomalyDetector(), (1, 3, 40, 40))
    read = json.loads(found.to_json())
    assert read["layers"][2]["exact"]["pattern"] == "cyx -> cy,cx"
    assert read["findings"][0]["multiplications"] == found.findings[0].multiplications
    assert read["layers"][0]["seconds"] is None
    markdown = found.to_markdown().splitlines()
    rows = [line for line in markdown if line.startswith("|")]
    assert len(rows) == 2 + len(found.layers)
    assert len({row.count("|") for row in rows}) == 1
    assert "<table" in found._repr_html_()
    assert "https://" not in found.to_html()
    for width in (60, 80, 200):
        assert max(map(len, found.table(width=width).splitlines())) <= width
    with pytest.raises(KeyError, match="no convolution 'x'"):
        found["x"]
    assert found["smooth"].spectrum["R"][0] == pytest.approx(1 / 3, rel=1e-3)
