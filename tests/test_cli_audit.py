"""`separable audit`: what it prints and writes, and its mistakes."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch

from separable.cli import run

sys.path.insert(0, str(Path(__file__).parent / "nn"))
import separable_programs as programs


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    net, x = programs.AnomalyDetector().eval(), torch.zeros(1, 3, 40, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), folder / "net.onnx", dynamo=False)
        torch.onnx.export(programs.EdgeDetector(), (x[:, :1],), folder / "edges.onnx", dynamo=False)
        torch.export.save(torch.export.export(net, (x,)), folder / "net.pt2")
    return folder


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_files(networks: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(networks / name), "--repeats", "0"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 convolutions is exactly separable" in " ".join(printed.split())
    assert "'cyx -> cy,cx' with R = 1" in " ".join(printed.split())
    assert f"separable convert {networks / name} --tol 1e-5" in " ".join(printed.split())


def test_banks_are_found_in_graphs(networks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(networks / "edges.onnx"), "--json", "--repeats", "0"]) == 0
    kinds = [f["kind"] for f in json.loads(capsys.readouterr().out)["findings"]]
    assert kinds == ["layer", "layer", "bank"]


def test_nodes_that_cannot_be_examined_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx
    from onnx import TensorProto, helper

    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", [1, 2, 8, 8]), ("w", [3, 2, 3, 3]), ("y", [1, 3, 6, 6]))
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="computed")
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    assert run(["audit", str(tmp_path / "net.onnx")]) == 0
    assert "Not examined: computed (" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["md", "html", "json"])
def test_output(networks: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"audit.{suffix}"
    command = ["audit", str(networks / "net.onnx"), "--repeats", "0", "-o", str(target)]
    assert run(command) == 0
    text = target.read_text()
    assert "cyx" in text
    assert run(command) == 2
    assert target.read_text() == text
    assert run([*command, "--force"]) == 0


def test_names_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "series", "--repeats", "1"]) == 0
    assert "exactly separable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no network `nothing`"),
        (["missing.onnx"], "no such file"),
        (["series", "-o", "x.txt"], "`--output` must end in .md, .html, .json"),
        (["series", "-o", "no/such/x.md"], "there is no folder no/such"),
        (["series", "--tol", "3"], "`--tol` must be 0 .. 1"),
        (["series", "--include", "x"], "`--include` names 'x'"),
        (["series", "--input-shape", "0x3"], "must be sizes >= 1"),
        (["series", "--input-shape", "1x3"], "series"),
        (["series", "--repeats", "-1"], "`--repeats` must be >= 0"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", *arguments]) == 2
    captured = capsys.readouterr()
    assert message.lower() in captured.err.lower()
    assert "Traceback" not in captured.err
    assert captured.out == ""
