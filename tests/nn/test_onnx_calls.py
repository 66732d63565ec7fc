"""Calls of ONNX files that are timed: inputs whose samples are on other axes, fixed batches, errors."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separable import nn
from separable.errors import ArgumentError
from separable.nn.formats import open_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def _opened(folder: Path, batch: int | str, is_stateful: bool = False) -> Any:
    """Return a network of a 3x3 layer, with a state ``(2, n, 8)`` that is added where it has one."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype("f")
    stored = [onnx.numpy_helper.from_array(weights, "w")]
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", kind, [batch, 3, 12, 12])]
    outputs = [helper.make_tensor_value_info("y", kind, [batch, 8, 10, 10])]
    if is_stateful:
        nodes.append(helper.make_node("Tanh", ["s"], ["t"]))
        inputs.append(helper.make_tensor_value_info("s", kind, [2, batch, 8]))
        outputs.append(helper.make_tensor_value_info("t", kind, [2, batch, 8]))
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(found, folder / "m.onnx")
    return open_network(str(folder / "m.onnx"))


def test_a_state_with_samples_on_its_second_axis_is_not_cut(tmp_path: Path) -> None:
    source = _opened(tmp_path, "n", is_stateful=True)
    batches = [(torch.rand(4, 3, 12, 12), torch.rand(2, 4, 8))]
    _, report = nn.convert(
        source.module, "auto", budget="1.01x faster", tol=0.9, runtime="onnxruntime",
        data=source.calibration(batches),
    )  # fmt: skip
    assert report.duration is not None
    assert report.duration.is_measured


def test_a_file_for_a_fixed_batch_is_timed_with_it(tmp_path: Path) -> None:
    source = _opened(tmp_path, 4)
    _, report = nn.convert(
        source.module, "auto", budget="1.01x faster", tol=0.9, runtime="onnxruntime",
        data=source.calibration([(torch.rand(8, 3, 12, 12),)]),
    )  # fmt: skip
    assert report.duration is not None
    assert report.duration.is_measured


def test_what_onnxruntime_refuses_is_said(tmp_path: Path) -> None:
    source = _opened(tmp_path, "n", is_stateful=True)
    batches = [(torch.rand(4, 3, 12, 12), torch.rand(3, 4, 8))]
    with pytest.raises(ArgumentError, match=r"does not run in ONNX Runtime: .*invalid dimensions"):
        nn.convert(
            source.module, "auto", budget="2x faster", runtime="onnxruntime",
            data=source.calibration(batches),
        )  # fmt: skip


def test_the_first_line_has_the_error_on_all_data(tmp_path: Path) -> None:
    source = _opened(tmp_path, "n")
    data = source.calibration([(torch.rand(4, 3, 12, 12),)])
    converted, report = nn.convert(source.module, "auto", budget=0.5, data=data, repeats=0)
    content = source.serialised(converted)
    timed = source.timed(report, content, [(1, 3, 12, 12)], 1)
    first = timed.table(width=500).splitlines()[0]
    assert math.isfinite(report.output_error)
    assert "Error of its output on the data: " in first
    assert "differ by" not in first
    without = dataclasses.replace(timed, output_error=math.nan)
    assert "differ by" in without.table(width=500).splitlines()[0]
    assert "(one sample of data, 1x3x12x12)" in without.table(width=500)
