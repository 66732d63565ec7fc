"""`separable cost` for ONNX files and networks of torchvision."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from separable.cli import run

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


def _saved(folder: Path, batch: int | str) -> str:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    stored = [
        numpy_helper.from_array(np.ones(s, "f"), n)
        for n, s in (("w", (8, 3, 3, 3)), ("v", (4, 8, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/block/first/Conv"),
        helper.make_node("Conv", ["a", "v"], ["y"], name="/block/second/Conv"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [batch, 3, 12, "w"])],
        [value("y", TensorProto.FLOAT, [batch, 4, 8, "u"])], stored,
    )  # fmt: skip
    path = folder / "m.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return str(path)


def test_an_onnx_file_is_counted(tmp_path: Path, call: Caller) -> None:
    path = _saved(tmp_path, "n")
    code, out, err = call(path, "--input-shape", "2x3x12x10", "--depth", 1, "--json")
    assert code == 0, err
    found = json.loads(out)
    wanted = 2 * (10 * 8 * 8 * 27 + 8 * 6 * 4 * 72)
    assert sum(x["cost"]["multiplications"] for x in found["layers"]) == wanted
    code, out, _ = call(path, "--input-shape", "2x3x12x10", "--depth", 1)
    assert code == 0
    assert "original  separated  ratio" in out
    assert "\nblock " in out
    assert "block.first" not in out


def test_all_parameters_of_an_onnx_file_are_counted(tmp_path: Path, call: Caller) -> None:
    """Those of nodes that are not convolutions too, as in the report of `convert`."""
    onnx = pytest.importorskip("onnx")
    path = _saved(tmp_path, 1)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 4, 1, 1), "f"), "b"))
    model.graph.node[1].output[0] = "c"
    model.graph.node.append(onnx.helper.make_node("Add", ["c", "b"], ["y"]))
    onnx.save(model, path)
    code, out, err = call(path, "--input-shape", "1x3x12x10", "--depth", 3)
    assert code == 0, err
    assert f"parameters {8 * 27 + 4 * 72 + 4}" in " ".join(out.split())
    assert "m.onnx on 1x3x12x10" in out
    found = json.loads(call(path, "--input-shape", "1x3x12x10", "--json")[1])
    assert next((x["name"], x["cost"]["parameters"]) for x in found["layers"]) == ("", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "depend on the size of its input: give --input-shape, for its input x ?x3x12x?"),
        (("--input-shape", "1x3x12"), "the inputs of m.onnx are ?x3x12x?; got 1x3x12"),
        (("--width", "0.5"), "`m.onnx` has no option `--width`"),
        (("--training",), "`m.onnx` has no option `--training`"),
        (("--input-shape", "1x3x12x9", "--batch", "2"), "Leave --batch out"),
        (("--input-shape", "0x3"), "`--input-shape` must be sizes >= 1; got '0x3'"),
    ],
)
def test_files_that_cannot_be_counted(
    tmp_path: Path, call: Caller, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = call(_saved(tmp_path, "n"), *arguments)
    assert code == 2
    assert message in " ".join(err.split())


def test_a_missing_file_and_a_shape_for_a_name(call: Caller) -> None:
    pytest.importorskip("torch")
    assert "no such file" in call("missing.onnx")[2]
    assert "`--input-shape` is for files" in call("mobilenet_v1", "--input-shape", "1x3x9x9")[2]


def test_a_network_of_torchvision(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    preset = SimpleNamespace(crop_size=[32], mean=[0.5] * 3, std=[0.25] * 3)
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: preset))
    library = SimpleNamespace(
        list_models=lambda: ["resnet9"],
        get_model_weights=lambda name: weights,
        get_model=lambda name, weights=None, **_: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)),
    )
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=library))
    monkeypatch.setitem(sys.modules, "torchvision.models", library)
    code, out, err = call("torchvision:resnet9")
    assert code == 0, err
    assert "torchvision:resnet9: 1x3x32x32 float32" in out
    assert (
        "torchvision has no network `resnet1`. Did you mean `resnet9`?"
        in call("torchvision:resnet1")[2]
    )
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    assert "needs torchvision, which cannot be imported" in call("torchvision:resnet9")[2]
