"""The report, in all its forms; blueprints, merging, ONNX, and layers with too many inputs."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn import FactoredConv, SeparableConv2d
from separable.nn.convert import ConvertedLayer, Report, blueprint, convert, merge, rebuild
from separable.nn.convert import conversion as conversion_module

SNAPSHOTS = Path(__file__).parents[1] / "snapshot"
SHAPE = (1, 3, 16, 16)


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2), nn.ReLU(),
        nn.Conv2d(24, 24, 5, padding=2, groups=2, padding_mode="reflect"), nn.ReLU(),
        nn.Conv2d(24, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8, 5),
    ).eval()  # fmt: skip


def made_up() -> Report:
    """A report whose numbers do not depend on any machine."""
    rows = (
        ConvertedLayer(
            "stem", ("again",), "Conv2d", (64, 3, 7, 7), "ocyx -> oc,cyx", {"R": [2, 5, 3]}, {"R": 10},
            36_900_000, 118_000_000, 1_130, 9_408, 0.12, 0.034, 0.00135, 0.0061,
            spectrum={"R": np.array([0.5, 0.3, 0.2])},
        ),
        ConvertedLayer(
            "body.0.conv", (), "Conv2d", (64, 64, 3, 3), "ocyx -> oR,RyxS,Sc", {"R": 8, "S": 6},
            {"R": 8, "S": 6}, 4_200_000, 116_000_000, 1_328, 36_864, 0.4, 1e-7, 0.0008, 0.002,
        ),
        ConvertedLayer(
            "head", (), "Conv2d", (10, 64, 1, 1), multiplications=2_000_000,
            multiplications_before=2_000_000, parameters=650, parameters_before=650,
            reason="nothing to separate",
        ),
    )  # fmt: skip
    return Report(
        "Net", "auto, budget 0.2, fitted to 4 batches of data", rows, ("1x3x224x224 float32",),
        43_100_000, 236_000_000, 3_108, 46_922, 0.051, 0.97,
        np.array([[1e7, 0.9], [4e7, 0.3], [2.36e8, 0.0]]),
    )  # fmt: skip


def body_of(page: str) -> str:
    """Return what a page shows before its script draws."""
    return page[page.index("<main") : page.index("</main>")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("convert_report", lambda r: r.table(width=100)),
        ("convert_report_narrow", lambda r: r.table(width=60)),
        ("convert_report_markdown", Report.to_markdown),
        ("convert_report_html", lambda r: body_of(r.to_html())),
    ],
)
def test_printed_report(name: str, text: object, request: pytest.FixtureRequest) -> None:
    shown = text(made_up())  # type: ignore[operator]
    kept = SNAPSHOTS / f"{name}.txt"
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(shown + "\n")
    assert shown + "\n" == kept.read_text()
    if name.startswith("convert_report_narrow"):
        assert max(map(len, shown.splitlines())) <= 60


def test_a_budget_that_is_a_fraction_is_short() -> None:
    _, report = convert(small_net(), budget=1 / 3, input_shape=SHAPE, repeats=0)
    assert ", budget 0.333" in str(report)
    assert "0.3333" not in str(report)


def test_the_table_has_every_layer_and_the_totals() -> None:
    _, report = convert(small_net(), rank=2, input_shape=SHAPE, repeats=1)
    text = report.table(width=120)
    for layer in report.layers:
        assert layer.name in text
    assert "Left alone: 7 (nothing to separate)." in text
    rest = report.multiplications_before - sum(x.multiplications_before for x in report.layers)
    assert report.multiplications == rest + sum(x.multiplications for x in report.layers)
    assert report.parameters == sum(p.numel() for p in convert(small_net(), rank=2)[0].parameters())
    assert all(x.seconds > 0 < x.seconds_before for x in report.converted)
    assert str(report) == repr(report)


def test_dictionaries_are_json_and_complete() -> None:
    _, report = convert(
        small_net(), "auto", budget=0.4, data=[torch.randn(8, 3, 16, 16)], repeats=1
    )
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [x["name"] for x in found["layers"]] == ["0", "3", "5", "7"]
    wanted = {f.name for f in dataclasses.fields(Report)}
    assert set(found) == wanted
    kept = {f.name for f in dataclasses.fields(ConvertedLayer)} - {"spectrum"}
    assert set(found["layers"][0]) == kept
    assert found["multiplications"] == report.multiplications
    assert (
        json.loads(json.dumps(made_up().to_dict(), allow_nan=False))["layers"][2]["seconds"] is None
    )


def test_markdown_and_html_have_a_row_a_layer() -> None:
    report = made_up()
    rows = [line for line in report.to_markdown().splitlines() if line.startswith("|")]
    assert len(rows) == len(report.layers) + 3
    assert len({row.count("|") for row in rows}) == 1

    class Tags(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.rows = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.rows += tag == "tr"
            if tag not in ("meta", "link", "input"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    tags = Tags()
    tags.feed(report.to_html())
    assert tags.open == []
    assert tags.rows == len(report.layers) + 2
    odd = dataclasses.replace(report, model="<script>")
    assert "<script>" not in odd.to_html()
    assert set(re.findall(r"https?://[^\"]*", report.to_html())) == {"http://www.w3.org/2000/svg"}


def test_the_tradeoff_falls_to_the_dense_network() -> None:
    _, report = convert(small_net(), budget=0.5, input_shape=SHAPE, repeats=0)
    costs, errors = report.tradeoff.T
    assert (np.diff(costs) > 0).all()
    assert (np.diff(errors) < 0).all()
    assert costs[-1] == report.multiplications_before
    assert errors[-1] == pytest.approx(0, abs=1e-6)
    at = np.searchsorted(costs, report.multiplications, side="right") - 1
    squares = [x.weight_error**2 for x in report.layers if x.spectrum]
    # Equal ranks and a shorter predicted time may cost some of the error.
    assert 0.98 * errors[at] <= math.sqrt(np.mean(squares)) <= 1.2 * errors[at]


def test_pictures() -> None:
    _, report = convert(small_net(), "auto", budget=0.4, input_shape=SHAPE, repeats=0)
    ax = report.plot_tradeoff()
    assert isinstance(ax, Axes)
    line = ax.get_lines()[0].get_xydata()
    assert np.allclose(line[:, 1], report.tradeoff[:, 1])
    assert line[-1, 0] == 1
    for layer in report.layers:
        ax = report.plot_spectrum(layer.name)
        values = ax.get_lines()[0].get_ydata()
        assert np.sum(values**2) == pytest.approx(1)
    report.plot_spectrum("5", ax=ax)
    _, plain = convert(small_net(), rank=1, repeats=0)
    with pytest.raises(
        ArgumentError, match=r"`layer` '7' has no spectrum: .*\(nothing to separate"
    ):
        plain.plot_spectrum("7")
    with pytest.raises(KeyError, match="no convolution '9'; there are 0, 3, 5, 7"):
        plain["9"]


def test_kept_terms_of_a_spectrum_are_the_error() -> None:
    _, report = convert(small_net(), tol=0.4, input_shape=SHAPE, repeats=0)
    for layer in (x for x in report.converted if x.name != "5"):  # groups are kept even there
        left = layer.spectrum["R"][layer.terms["R"] :].sum()
        assert layer.weight_error == pytest.approx(math.sqrt(left), rel=1e-5)


# Blueprints.


@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> oR,RyxS,Sc", "auto"])
@pytest.mark.parametrize("with_data", [False, True])
def test_a_network_is_made_again(pattern: str, with_data: bool, tmp_path: Path) -> None:
    data = [torch.randn(4, 3, 16, 16)] if with_data else None
    small, _ = convert(small_net(), pattern, budget=0.5, input_shape=SHAPE, data=data, repeats=0)
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "plan.json").write_text(blueprint(small))

    fresh = small_net(seed=7)
    again = rebuild(fresh, (tmp_path / "plan.json").read_text())
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x), small(x))
    assert blueprint(again) == blueprint(small)
    assert not again.training
    assert not any(isinstance(m, FactoredConv) for m in fresh.modules())


def test_a_network_is_made_again_on_meta() -> None:
    small, _ = convert(small_net(), rank=2, repeats=0)
    again = rebuild(small_net().to("meta"), blueprint(small))
    assert all(p.is_meta for p in again.parameters())
    again.load_state_dict(small.state_dict(), assign=True)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x), small(x))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("{", "`plan` must be what `blueprint` gives"),
        ('{"layers": {}}', "`plan` must be what `blueprint` gives: KeyError"),
        (
            '{"format": "x", "version": 1, "layers": {}}',
            "must be a 'separable blueprint' of version 1",
        ),
        (
            {"format": "separable blueprint", "version": 1, "layers": {"4": {}}},
            "not a convolution of",
        ),
        ({"format": "separable blueprint", "version": 1, "layers": {"3": {}}}, "'3' lacks"),
    ],
)
def test_bad_blueprints(plan: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        rebuild(small_net(), plan)


def test_layers_of_the_networks_own_class_stay_in_a_blueprint_or_out() -> None:
    """A module between steps is in no JSON; the network that is rebuilt has it already."""

    def own() -> nn.Sequential:
        between = SeparableConv2d(3, 16, 3, intermediate=nn.ReLU())
        return nn.Sequential(between, nn.Conv2d(16, 16, 3))

    small, _ = convert(own(), rank=2, repeats=0)
    plan = blueprint(small)
    assert list(json.loads(plan)["layers"]) == ["1"]
    again = rebuild(own(), plan)
    again.load_state_dict(small.state_dict())
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(again(x), small(x))


def test_without_a_plain_error_nothing_is_said_of_it() -> None:
    _, report = convert(small_net(), rank=2, data=[torch.randn(4, 3, 16, 16)], repeats=0)
    assert "converted without the data it would be" in " ".join(str(report).split())
    unknown = dataclasses.replace(report, plain_output_error=math.nan)
    assert "without the data" not in str(unknown)
    assert "Error of the network's output on the data: " in " ".join(str(unknown).split())


def test_a_blueprint_of_another_network() -> None:
    small, _ = convert(nn.Sequential(nn.Conv2d(3, 9, 3)), rank=1, repeats=0)
    with pytest.raises(ArgumentError, match=r"has weights \(9, 3, 3, 3\); the model's are \(16, 3"):
        rebuild(small_net(), blueprint(small))
    with pytest.raises(ArgumentTypeError, match="`model` must be"):
        rebuild(blueprint(small), small)  # type: ignore[arg-type]


def test_merging_gives_the_dense_network_back() -> None:
    net = small_net()
    small, _ = convert(net, "auto", budget=0.5, data=[torch.randn(4, 3, 16, 16)], repeats=0)
    merged = merge(small)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert float((merged(x) - small(x)).norm() / small(x).norm()) < 1e-5
    assert [type(m) for m in merged] == [type(m) for m in net]
    exact, _ = convert(net, min_saving=0, repeats=0)
    weights = merge(exact).state_dict()
    for name, wanted in net.state_dict().items():
        assert torch.allclose(weights[name], wanted, rtol=1e-5, atol=1e-6), name
    kept = nn.Sequential(SeparableConv2d(4, 4, 3, intermediate=nn.ReLU()))
    assert isinstance(merge(kept)[0], SeparableConv2d)


# ONNX.


@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "auto"])
def test_a_converted_network_runs_in_onnxruntime(pattern: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    small, _ = convert(small_net(), pattern, budget=0.5, input_shape=SHAPE, repeats=0)
    x = torch.randn(SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(small, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(got - small(x).detach().numpy()).max() < 1e-5


# Layers with more inputs than moments fit into memory.


@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc"])
def test_layers_too_large_for_moments(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = small_net(), [torch.randn(16, 3, 16, 16)]
    large = conversion_module.Collector.size(net[5]) - 1
    monkeypatch.setattr(conversion_module, "LARGEST", large)
    monkeypatch.setattr(conversion_module, "TOGETHER", 1)
    _, report = convert(net, pattern, budget=0.5, data=data, include=["5"], repeats=0)
    assert report.output_error < 0.9 * report.plain_output_error
    assert report["5"].converted
