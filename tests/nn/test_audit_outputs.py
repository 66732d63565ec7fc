"""Errors of an audit's forms as errors of the layers' outputs."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from separable.cli import run
from separable.nn import audit
from separable.nn.audit.layer_outputs import LayerOutputs
from separable.nn.convert import convert
from separable.nn.formats import open_network
from separable.nn.torch_convs import spec_of

SHAPE = (1, 6, 14, 14)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1)).eval()


def by_running(net: nn.Sequential, at: int, form: Any, image: torch.Tensor) -> float:
    """Return the error of a layer's output, converted to a form, on the input that it gets."""
    inputs = net[:at](image)
    other, _ = convert(net[at], form.pattern, rank=form.ranks, repeats=0, min_saving=0)
    with torch.no_grad():
        wanted, found = net[at](inputs), other(inputs)
    deviation = (wanted - wanted.mean(dim=(0, 2, 3), keepdim=True)).norm()
    difference = wanted - found
    return float((difference - difference.mean(dim=(0, 2, 3), keepdim=True)).norm() / deviation)


def test_errors_are_those_of_outputs_on_the_example() -> None:
    net, image = network(), torch.randn(SHAPE)
    found = audit(net, image, repeats=0)
    assert found.ran_on == "the example"
    checked = 0
    for at in (0, 2):
        for form in (found[str(at)].at_half, found[str(at)].at_quarter):
            if form is not None and all(isinstance(r, int) for r in form.ranks.values()):
                checked += 1
                assert form.output_error == pytest.approx(
                    by_running(net, at, form, image), rel=1e-3
                )
    assert checked
    said = " ".join(str(found).split())
    assert "Errors are root mean squares of the layers' outputs on the example" in said
    assert "half of the multiplications" in said


def test_a_layer_with_one_position_has_the_error_of_its_only_output() -> None:
    """The best bias would leave no error of a single value, so that any form would look exact."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, bias=False).requires_grad_(False)
    image = torch.randn(1, 8, 3, 3)
    weight = conv.weight.detach().numpy()
    difference = 0.1 * torch.randn(weight.shape).numpy()
    found = LayerOutputs(spec_of(conv), weight, image).error(spec_of(conv), difference)
    other = nn.functional.conv2d(image, torch.from_numpy(difference))
    assert found == pytest.approx(float(other.norm() / conv(image).norm()), rel=1e-3)


def test_shapes_give_random_numbers_and_no_example_gives_errors_of_weights() -> None:
    assert audit(network(), SHAPE, repeats=0).ran_on == "random numbers"
    without = audit(network())
    assert without.ran_on == ""
    form = without["0"].at_half
    assert form is not None
    assert math.isnan(form.output_error)
    assert form.to_dict()["output_error"] is None
    assert "error of the weights" in " ".join(str(without).split())


def test_a_direction_that_the_input_lacks_does_not_matter() -> None:
    """Weights that no input reaches are an error of the weights and none of the output."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, bias=False)
    rank_one = torch.randn(8, 4, 1, 1) * torch.randn(1, 4, 3, 3)
    conv.weight.data = (
        rank_one + 0.5 * torch.randn(8, 4, 3, 3) * torch.tensor([0, 0, 0, 1.0])[:, None, None]
    )
    image = torch.randn(1, 4, 12, 12)
    image[:, 3] = 0
    layer = audit(nn.Sequential(conv), image, repeats=0).layers[0]
    assert layer.at_half is not None
    assert layer.at_half.output_error < 1e-5
    assert layer.at_half.error > 0.02


def test_functions_are_compared_too() -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def program(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight).relu_()

    found = audit(program, torch.randn(1, 4, 9, 9), repeats=0).layers[0]
    assert found.at_half is not None
    assert 0 < found.at_half.output_error < 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(network(), (torch.randn(SHAPE),), str(path), dynamo=False)
    return path


def test_onnx_files_are_run(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["audit", str(model), "--repeats", "0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Errors are root mean squares of the layers' outputs on random numbers" in said
    data = tmp_path / "batch.npy"
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    np.save(data, image)
    assert run(["audit", str(model), "--repeats", "0", "--data", str(data), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)
    assert layers["ran_on"] == "the data"
    wanted = audit(network(), torch.from_numpy(image), repeats=0).layers[0].at_half
    assert wanted is not None
    assert layers["layers"][0]["at_half"]["output_error"] == pytest.approx(
        wanted.output_error, rel=1e-3
    )


def test_a_file_that_cannot_run_says_why(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_network(str(model))

    def failing(*inputs: Any) -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(source.module, "forward", failing)
    assert source.layer_inputs([SHAPE]) == ({}, "no such kernel")
