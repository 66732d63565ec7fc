"""`separable cost`: the figures people know, the networks of the literature, and its mistakes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from separable.cli import run

pytestmark = pytest.mark.apart

Caller = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Run `separable cost` in this process: its status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def called(*arguments: object) -> tuple[int, str, str]:
        code = run(["cost", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


def flat(text: str) -> str:
    return " ".join(text.split())


def counts(text: str) -> dict[str, str]:
    """The first column of numbers of a printed table."""
    rows = (line.split() for line in text.splitlines()[3:])
    return {row[0]: row[1] for row in rows if len(row) > 1}


# Layers


@pytest.mark.parametrize(
    ("shape", "kernel", "filters", "dense", "separable", "ratio", "result"),
    [
        ("12x12x3", "5x5", 256, "1,228,800", "53,952", "22.8", "8x8x256"),
        ("15x15x3", "3x3", 10, "45,630", "9,633", "4.74", "13x13x10"),
        ("3x3x64", "3x3", 128, "73,728", "8,768", "8.41", "1x1x128"),
    ],
)
def test_the_layers_people_know(
    call: Caller, shape: str, kernel: str, filters: int, dense: str, separable: str, ratio: str,
    result: str,
) -> None:  # fmt: skip
    options = ("--in", shape, "--kernel", kernel, "--filters", filters)
    for command in ("conv", "separable"):
        code, out, err = call(command, *options)
        assert (code, err) == (0, "")
        rows = counts(out)
        assert (rows["dense"], rows["separable"]) == (dense, separable)
        assert f"{shape} to {result}, kernel {kernel}" in out
        assert f"Separable: {ratio} times fewer multiplications than dense" in flat(out)


def test_factors_one_by_one(call: Caller) -> None:
    out = call("separable", "--in", "12x12x3", "-k", "5x5", "--filters", 256)[1]
    rows = counts(out)
    assert (rows["depthwise"], rows["pointwise"]) == ("4,800", "49,152")
    assert "C_out K^2 / (M (K^2 + C_out)) = 256 x 25 / (1 x (25 + 256))" in flat(out)
    out = call(
        "separable", "--in", "15x15x1", "-k", "3x3", "--filters", 1, "--pattern",
        "ocyx -> ocy,ocx",
    )[1]  # fmt: skip
    rows = counts(out)
    assert (rows["ocy"], rows["ocx"], rows["separable"]) == ("585", "507", "1,092")
    assert "1.39 times fewer" in out
    assert "C_out K^2" not in out


def test_more_multipliers_cost_more(call: Caller) -> None:
    layer = ("--in", "3x3x1", "-k", "3x3", "--filters", 256)
    assert "2.17 times fewer" in call("separable", *layer, "--multiplier", 4)[1]
    assert "1.04 times more" in flat(call("separable", *layer, "--multiplier", 9)[1])


def test_padding_strides_and_axes(call: Caller) -> None:
    code, out, _ = call(
        "conv", "--in", "9x8x7x4", "-k", "3x3x3", "--filters", 8, "--padding", "same",
        "--stride", "2x1x2",
    )  # fmt: skip
    assert code == 0
    assert "9x8x7x4 to 5x8x4x8" in out
    assert f"{5 * 8 * 4 * 8 * 27 * 4:,}" in out
    out = call("conv", "--in", "64x4", "-k", "3", "--filters", 8, "--padding", 1)[1]
    assert "64x4 to 64x8" in out
    found = json.loads(
        call("conv", "--in", "8x8x4", "-k", "3x3", "--filters", 6, "--transposed", "--json")[1]
    )
    assert found["transposed"]["macs"] == 64 * 9 * 24
    assert "separable" not in found
    depthwise = call(
        "conv", "--in", "8x8x4", "-k", "3x3", "--filters", 4, "--groups", 4, "--padding", "same"
    )[1]
    assert f"depthwise {64 * 9 * 4:,}" in flat(depthwise)
    assert "dense" not in depthwise


def test_json_holds_the_unrounded_counts(call: Caller) -> None:
    layer = ("--in", "12x12x3", "-k", "5x5", "--filters", 256)
    found = json.loads(call("conv", *layer, "--json")[1])
    assert found["output"] == [8, 8, 256]
    assert found["dense"]["multiplications"] == 1_228_800
    assert found["separable"]["parameters"] == 843
    assert json.loads(call("separable", *layer, "--json")[1])["depthwise"]["macs"] == 4_800
    beside = json.loads(call("attention", "--in", "7x7x8", "-k", "7x7", "--json")[1])
    assert beside["attention, alike"]["macs"] == beside["separable 7x7"]["macs"]


def test_attention_and_where_it_crosses(call: Caller) -> None:
    out = call("attention", "--in", "14x14x64", "--kernel", "7x7", "--heads", 4)[1]
    assert f"attention, like for like {196**2 * 64 + 196 * 64**2:,}" in flat(out)
    assert f"separable 7x7 {196 * 64 * 49 + 196 * 64**2:,}" in flat(out)
    assert "both need the same where N = K^2 = 49." in flat(out)
    assert "needs as many multiplications as the separable layer; both" in flat(
        call("attention", "--in", "3x3x64")[1]
    )


# Networks

PUBLISHED = [
    ("mobilenet_v1", 4.2, 569),
    ("mobilenet_v1 --dense", 29.3, 4866),
    pytest.param("mobilenet_v1 --width 0.75", 2.6, 325, marks=pytest.mark.long),
    pytest.param("mobilenet_v1 --width 0.5", 1.3, 149, marks=pytest.mark.long),
    ("mobilenet_v1 --width 0.25", 0.5, 41),
    pytest.param("mobilenet_v1 --resolution 192", 4.2, 418, marks=pytest.mark.long),
    pytest.param("mobilenet_v1 --resolution 160", 4.2, 290, marks=pytest.mark.long),
    ("mobilenet_v1 --resolution 128", 4.2, 186),
    ("xception", 22.9, 8400),
    ("efficientnet_b0", 5.3, 390),
    pytest.param("efficientnet_b1", 7.8, 700, marks=pytest.mark.long),
    pytest.param("efficientnet_b7", 66, 37000, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("command", "millions", "multiply_adds"), PUBLISHED)
def test_published_networks(
    call: Caller, command: str, millions: float, multiply_adds: float
) -> None:
    """Within the digits printed there, or 2 % where a paper rounds to whole ones or two digits."""
    pytest.importorskip("torch")
    code, out, err = call(*command.split(), "--json")
    assert (code, err) == (0, "")
    total = json.loads(out)["total"]
    digit = 1 if millions > 30 else 0.1
    assert abs(total["parameters"] / 1e6 - millions) <= 0.6 * digit
    assert total["macs"] / 1e6 == pytest.approx(multiply_adds, rel=0.021)
    if command.startswith("mobilenet"):
        assert total["macs"] / 1e6 == pytest.approx(multiply_adds, rel=0.01)
    assert json.loads(out)["uncounted"] == []


def test_a_network_beside_its_twin(call: Caller) -> None:
    pytest.importorskip("torch")
    code, out, _ = call("mobilenet_v1")
    assert code == 0
    assert "mobilenet_v1: 1x3x224x224 float32, evaluation mode" in out
    assert "multiply-adds 569 M 4.87 G 8.56" in flat(out)
    assert "parameters 4.23 M 29.3 M 6.92" in flat(out)
    assert max(map(len, out.splitlines())) <= 80
    out = call("mobilenet_v1", "--dense", "--width", 0.25, "--batch", 2)[1]
    assert "mobilenet_v1: 2x3x224x224" in out
    assert flat(out).index("dense") < flat(out).index("separable")


def test_every_layer_and_exports(call: Caller) -> None:
    pytest.importorskip("torch")
    small = ("mobilenet_v1", "--width", 0.25, "--resolution", 64)
    out = call(*small, "--layers", "--training")[1]
    assert "MobileNetV1 on 1x3x64x64 float32, in training mode" in out
    assert "stages.12.0" in out
    assert "`--depth 5` shows all" in out
    top = call(*small, "--depth", 1)[1]
    assert "stages " in top
    assert "stages.12" not in top
    assert "Layers deeper than 1 are added" in top
    every = call(*small, "--depth", 5)[1]
    assert "Layers deeper than" not in every
    assert len(every.splitlines()) > len(out.splitlines()) > len(top.splitlines())
    rows = list(csv.DictReader(io.StringIO(call(*small, "--csv")[1])))
    assert rows[-1]["layer"] == "total"
    assert sum(int(r["macs"]) for r in rows[:-1]) == int(rows[-1]["macs"])
    assert call(*small, "--markdown")[1].startswith("| layer |")


@pytest.mark.parametrize("name", ["unet", "unet_3d", "spatial_spectral", "series", "multimodal"])
def test_the_other_networks_count_without_gaps(call: Caller, name: str) -> None:
    pytest.importorskip("torch")
    code, out, err = call(name)
    assert (code, err) == (0, "")
    assert "Not counted" not in out


@pytest.mark.parametrize("name", ["unet", "series", "multimodal"])
def test_a_resolution_drops_no_input(call: Caller, name: str) -> None:
    pytest.importorskip("torch")
    usual = call(name)[1].partition("\n")[0].split(", ")
    code, out, err = call(name, "--resolution", 64)
    assert (code, err) == (0, "")
    given = out.partition("\n")[0].split(", ")
    assert len(given) == len(usual)
    assert given[1:] == usual[1:]
    assert "64" in given[0]


def test_networks_of_timm(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    def create(name: str, **options: Any) -> Any:
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.Conv2d(64, 128, 3))
        model.pretrained_cfg = {"input_size": (3, 7, 7)}
        return model

    fake = types.SimpleNamespace(
        is_model=lambda name: name == "toy", list_models=lambda: ["toy"], create_model=create
    )
    monkeypatch.setitem(sys.modules, "timm", fake)  # type: ignore[arg-type]
    code, out, _ = call("timm:toy")
    assert code == 0
    assert "original separated ratio" in flat(out)
    dense = 25 * 3 * 64 * 9 + 9 * 64 * 128 * 9
    apart = 25 * 3 * (64 + 9) + 9 * 64 * (128 + 9)
    found = json.loads(call("timm:toy", "--json")[1])
    assert found["total"]["macs"] == dense
    assert f"multiply-adds 707 k 84.4 k {dense / apart:.2f}" in flat(out)
    assert call("timm:toi")[2].startswith("Error: timm has no network `toi`. Did you mean `toy`?")
    monkeypatch.setitem(sys.modules, "timm", None)  # type: ignore[arg-type]
    code, _, err = call("timm:toy")
    assert code == 2
    assert "`timm:toy` needs timm" in err


# Mistakes

LAYER = ("--in", "12x12x3", "--kernel", "5x5", "--filters", 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv", "--in", "12x12", *LAYER[2:]), "`--in` must be one size for each kernel axis and the channels; got 12x12 for a kernel 5x5. Append the channels, for instance 12x12x3"),
        (("conv", "--in", "12x12x3", "--kernel", "5", *LAYER[4:]), "`--in` must be one size for each kernel axis and the channels; got 12x12x3 for a kernel 5. Give the kernel one size for each axis, for instance 5x5"),
        (("conv", "--in", "12xa", *LAYER[2:]), "`--in` must be whole numbers such as 512x512; got '12xa'"),
        (("conv", "--in", "4x4x3", *LAYER[2:]), "`--kernel` 5x5 must fit into the input 4x4. Pad it, for instance --padding same"),
        (("conv", *LAYER, "--padding", "full"), "`--padding` must be 'same', 'valid' or whole numbers such as 1 or 2x1; got 'full'"),
        (("conv", *LAYER, "--stride", "0"), "`--stride` must be whole numbers >= 1 for each of 2 axes; got 0"),
        (("conv", *LAYER, "--stride", "1.5"), "`--stride` must be whole numbers such as 1 or 2x1; got '1.5'"),
        (("conv", *LAYER, "--groups", "2"), "`--groups` must divide the channels and the `--filters`; got groups=2, 3 channels, filters=256"),
        (("separable", *LAYER, "--multiplier", "0"), "`--multiplier` must be a whole number >= 1; got 0"),
        (("attention", "--in", "4x4x6", "--heads", "4"), "`--heads` must divide `channels`; got 4 and 6"),
    ],
)  # fmt: skip
def test_mistakes(call: Caller, arguments: tuple[object, ...], message: str) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert flat(err) == f"Error: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("separable", *LAYER, "--pattern", "ocyx -> oc,cya"),
            "axis `x` of the kernel is not in any factor",
        ),
        (
            ("separable", *LAYER, "--pattern", "yx -> y,x"),
            "pattern `yx -> y,x` describes a kernel with 2",
        ),
        (("conv", "--in", "12x12x3"), "missing option '--kernel'"),
        (("conv", *LAYER, "--nonsense"), "no such option: --nonsense"),
        (("convv", *LAYER), "no layer or network 'convv'; there are conv, separable, attention"),
        (("mobilenet_v1", "--kernel", "3x3"), "no such option: --kernel"),
        (("xception", "--width", "0.5"), "`xception` has no option `--width`"),
        (("mobilenet_v1", "--width", "0"), "`--width` must be > 0"),
        (("mobilenet_v1", "--resolution", "0"), "invalid value for '--resolution'"),
    ],
)
def test_mistakes_found_by_other_packages(
    call: Caller, arguments: tuple[object, ...], message: str
) -> None:
    pytest.importorskip("torch")
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_without_pytorch_layers_count_and_networks_say_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from separable.cli import run; "
        "assert run('cost conv --in 12x12x3 -k 5x5 --filters 256'.split()) == 0; "
        "sys.exit(run(['cost', 'mobilenet_v1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "1,228,800" in done.stdout
    assert flat(done.stderr) == (
        "Error: `cost mobilenet_v1` needs PyTorch, which is not installed: "
        'pip install "separable-convolution[torch]"'
    )


def test_layers_need_no_pytorch_import() -> None:
    code = (
        "import sys; from separable.cli import run; "
        "run('cost conv --in 12x12x3 -k 5x5 --filters 256'.split()); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_lists_what_there_is(call: Caller) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for word in ("conv", "separable", "attention", "NETWORK", "timm:NAME", "efficientnet_b7"):
        assert word in out
    assert call("mobilenet_v1", "--help")[0] == 0


def test_a_mistake_in_a_pattern_is_pointed_at(call: Caller) -> None:
    pytest.importorskip("torch")
    code, out, err = call("separable", *LAYER, "--pattern", "ocyx -> oc,cy")
    assert (code, out) == (2, "")
    assert err == "Error: axis `x` of the kernel is not in any factor\n  ocyx -> oc,cy\n     ^\n"


# One pass per axis, and the steps of a layer


def test_one_channel_leads_to_one_pass_per_axis(call: Caller) -> None:
    """3x1 and then 1x3: 585 + 507, because the second pass runs on the smaller output."""
    code, out, _ = call("conv", "--in", "15x15x1", "--kernel", "3x3", "--filters", 1)
    assert code == 0
    assert (
        "One pass per axis (3x1 and then 1x3): 585 + 507 = 1,092, 1.39 times fewer "
        "multiplications than dense. Each pass runs on the smaller output of the one before."
    ) in flat(out)
    assert "1.11 times more multiplications than dense" in flat(out)  # of the depthwise one


def test_a_depthwise_layer_too(call: Caller) -> None:
    options = ("--in", "56x56x64", "--kernel", "7x7", "--filters", 64, "--groups", 64)
    _, out, _ = call("conv", *options, "--padding", "same")
    found = counts(out)
    assert found["depthwise"] == f"{56 * 56 * 64 * 49:,}"
    assert f"= {56 * 56 * 64 * 14:,}, 3.50 times fewer multiplications than depthwise." in flat(out)


def test_channels_that_mix_have_no_pass_per_axis(call: Caller) -> None:
    for options in (("12x12x3", "5x5"), ("12x1", "5"), ("12x12x1", "5x1")):
        _, out, _ = call("conv", "--in", options[0], "--kernel", options[1], "--filters", 4)
        assert "ne pass per axis" not in out


def test_the_steps_are_printed_with_depth(call: Caller) -> None:
    options = ("conv", "--in", "12x12x3", "--kernel", "5x5", "--filters", 256)
    _, out, _ = call(*options, "--depth", 2)
    found = counts(out)
    assert (found["depthwise"], found["pointwise"]) == ("4,800", "49,152")
    _, short, _ = call(*options)
    assert "depthwise" not in counts(short)
    _, text, _ = call(*options, "--depth", 2, "--json")
    assert json.loads(text)["pointwise"]["multiplications"] == 49152
    code, _, err = call(*options, "--depth", 3)
    assert code == 2
    assert "--depth" in err


@pytest.mark.parametrize(
    ("shape", "kernel", "text"),
    [
        ("9x64", "9", "where N = K = 9."),
        ("7x7x64", "7x7", "where N = K^2 = 49."),
        ("4x4x4x8", "3x3x3", "where N = K^3 = 27."),
        ("7x7x64", "3x5", "where N = the kernel's number of weights = 15."),
    ],
)
def test_attention_crosses_at_the_number_of_weights(
    call: Caller, shape: str, kernel: str, text: str
) -> None:
    _, out, _ = call("attention", "--in", shape, "--kernel", kernel)
    assert text in flat(out)
