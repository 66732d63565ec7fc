"""Networks in files: what is written does what was read, for ONNX, torch.export and weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from separable import nn
from separable.errors import FileError
from separable.nn.formats import open_network

PATTERNS = ("ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc")


def model_of(pads: list[int], groups: int, bias: bool) -> Any:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(8, 6 // groups, 3, 3)).astype("f")
    stored = [numpy_helper.from_array(weights, "w")]
    if bias:
        stored.append(numpy_helper.from_array(generator.normal(size=8).astype("f"), "b"))
    node = helper.make_node(
        "Conv", ["x", *(t.name for t in stored)], ["y"], name="c", pads=pads, group=groups,
        strides=[2, 1], dilations=[1, 2],
    )  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, ["n", 6, 11, 12])],
        [value("y", TensorProto.FLOAT, ["n", 8, "h", "w"])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def outputs(model: bytes, x: Any) -> Any:
    made = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return made.run(None, {"x": x})[0]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("pads", "groups", "bias"), [([1, 2, 1, 2], 1, True), ([0, 1, 2, 3], 2, False)]
)
def test_onnx_at_full_rank_does_the_same(
    tmp_path: Path, pattern: str, pads: list[int], groups: int, bias: bool
) -> None:
    model = model_of(pads, groups, bias)
    onnx.save(model, tmp_path / "m.onnx")
    source = open_network(str(tmp_path / "m.onnx"))
    converted, report = nn.convert(source.module, pattern, min_saving=0, repeats=0)
    assert report.layers[0].converted
    written = source.serialised(converted)
    assert "w" not in {t.name for t in onnx.load_from_string(written).graph.initializer}
    x = np.random.default_rng(1).normal(size=(2, 6, 11, 12)).astype("f")
    wanted = outputs(model.SerializeToString(), x)
    np.testing.assert_allclose(outputs(written, x), wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("location", ["../w.bin", "link.bin", "/etc/hostname"])
def test_external_data_outside_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(8 * 6 * 9 * 4))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    model = model_of([0] * 4, 1, False)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match="outside the model's folder"):
        open_network(str(folder / "m.onnx"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_goes_out_as_it_came_in(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding="same"), torch.nn.BatchNorm2d(8))
    x = torch.randn(2, 3, 9, 9)
    torch.export.save(torch.export.export(net.eval(), (x,)), tmp_path / "m.pt2")
    source = open_network(str(tmp_path / "m.pt2"))
    converted, report = nn.convert(source.module, min_saving=0, repeats=0)
    assert [layer.converted for layer in report.layers] == [True]
    again = torch.export.load(io.BytesIO(source.serialised(converted))).module()
    torch.testing.assert_close(again(x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"\xff\x00nothing of the kind")
    with pytest.raises(FileError, match="damaged"):
        open_network(str(path))


def model_along(ndim: int) -> Any:
    """One convolution over 1 to 3 axes, whose channels have weights of different ranks."""
    generator = np.random.default_rng(ndim)
    weights = generator.normal(size=(8, 5, *[3] * ndim))
    for channel, rank in enumerate((0, 1, 2, 3, 8)):
        u, s, vt = np.linalg.svd(weights[:, channel].reshape(8, -1), full_matrices=False)
        s[rank:] *= 0.01
        weights[:, channel] = ((u * s) @ vt).reshape(8, *[3] * ndim)
    stored = [numpy_helper.from_array(weights.astype("f"), "w")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[1] * (2 * ndim))
    value = helper.make_tensor_value_info
    sizes = [9, 10, 11][:ndim]
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [2, 5, *sizes])],
        [value("y", TensorProto.FLOAT, [2, 8, *sizes])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> oR,RyxS,Sc"])
def test_onnx_runs_what_the_converted_layer_runs(tmp_path: Path, ndim: int, pattern: str) -> None:
    """Ranks that differ from channel to channel are padded with zeros, without Gather or Pad."""
    onnx.save(model_along(ndim), tmp_path / "m.onnx")
    source = open_network(str(tmp_path / "m.onnx"))
    source.module.even_ranks = False
    converted, _ = nn.convert(source.module, pattern, tol=0.1, min_saving=0, repeats=0)
    (layer,) = (m for m in converted.modules() if isinstance(m, nn.FactoredConv))
    if pattern == "ocyx -> oc,cyx" and ndim > 1:
        assert len(set(layer.ranks["R"])) > 1
    x = np.random.default_rng(9).normal(size=(2, 5, *[9, 10, 11][:ndim])).astype("f")
    with torch.no_grad():
        wanted = layer(torch.from_numpy(x)).numpy()
    written = source.serialised(converted)
    np.testing.assert_allclose(outputs(written, x), wanted, atol=2e-5 * np.abs(wanted).max())
    kinds = {node.op_type for node in onnx.load_from_string(written).graph.node}
    assert kinds <= {"Conv", "Concat", "Sum"}
