"""ONNX files as exporters write them: computed shapes and weights, branches, SAME padding, ties."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from separable import nn
from separable.errors import ArgumentError
from separable.nn.convert.network_times import NetworkDuration
from separable.nn.formats import open_network
from separable.nn.formats.onnx_forms import terms_of
from separable.nn.formats.onnx_layers import Padding
from separable.nn.formats.onnx_nodes import Writer

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node, info = helper.make_node, helper.make_tensor_value_info


def values(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype("f")


def model(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, int], stored: dict[str, Any]
) -> Any:
    graph = helper.make_graph(
        nodes, "g",
        [info(n, INT64 if n in ("sr", "n") else FLOAT, shape) for n, shape in inputs.items()],
        [info(name, FLOAT, [None] * rank) for name, rank in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def opened(folder: Path, found: Any) -> Any:
    onnx.save(found, folder / "m.onnx")
    return open_network(str(folder / "m.onnx"))


def run(found: Any, **inputs: Any) -> list[Any]:
    content = found if isinstance(found, bytes) else found.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def same(source: Any, found: Any, pattern: str = "ocyx -> ox,cy", **inputs: Any) -> Any:
    """Convert at full rank and check the outputs; return the written model."""
    converted, report = nn.convert(source.module, pattern, min_saving=0, repeats=0)
    assert any(layer.converted for layer in report.layers)
    written = source.serialised(converted)
    for wanted, got in zip(run(found, **inputs), run(written, **inputs), strict=True):
        np.testing.assert_allclose(got, wanted, atol=3e-5 * max(1.0, float(np.abs(wanted).max())))
    return onnx.load_from_string(written)


# Sizes.


def reshaped() -> Any:
    """Reshape by what Shape, Gather and Concat compute, between two convolutions, and a product."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        node("Abs", ["a"], ["a1"]), node("ReduceSum", ["a1"], ["total"], keepdims=0),
        node("Greater", ["total", "zero"], ["positive"]), node("Cast", ["positive"], ["one"], to=INT64),
        node("Reshape", ["one", "unit"], ["one1"]), node("Mul", ["one1", "pads"], ["amounts"]),
        node("Pad", ["a", "amounts"], ["b"]),  # zeros around, by an amount that the values decide
        node("Conv", ["b", "v"], ["c"], name="second"),
        node("GlobalAveragePool", ["c"], ["d"]), node("Flatten", ["d"], ["e"]),
        node("MatMul", ["e", "m"], ["y"]),
    ]  # fmt: skip
    stored = {
        "w": values(6, 3, 3, 3), "v": values(8, 6, 3, 3), "m": values(8, 5),
        "zero": np.float32(0), "unit": np.array([1]), "pads": np.array([0, 0, 1, 2, 0, 0, 1, 2]),
    }  # fmt: skip
    return model(nodes, {"x": ["n", 3, "h", "w"]}, {"y": 2}, stored)


def test_sizes_that_values_decide_come_from_a_run(tmp_path: Path) -> None:
    source = opened(tmp_path, reshaped())
    shapes = source.shapes_to_count([(2, 3, 7, 8)])
    book = nn.ledger(source.module, shapes)
    first, second = 2 * 7 * 8 * 6 * 27, 2 * 7 * 10 * 8 * 54
    assert sum(x.cost.multiplications for x in book.layers) == first + second + 2 * 8 * 5
    converted, report = nn.convert(source.module, "auto", budget=0.5, input_shape=shapes, repeats=0)
    assert report.multiplications <= 0.5 * report.multiplications_before
    x = values(2, 3, 7, 8)
    assert run(source.serialised(converted), x=x)[0].shape == (2, 5)


def test_nothing_is_counted_where_nothing_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = reshaped()
    for dim, size in zip(
        found.graph.input[0].type.tensor_type.shape.dim, (1, 3, 7, 8), strict=True
    ):
        dim.dim_value = size
    source = opened(tmp_path, found)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)  # any run would fail
    assert source.shapes_to_count(None, needed=False) is None
    with pytest.raises(ArgumentError, match="onnxruntime does not take the model"):
        source.shapes_to_count(None)


def test_recurrent_layers_are_counted(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="c"),
        node("Transpose", ["a"], ["b"], perm=[2, 0, 1]),
        node("LSTM", ["b", "W", "R"], ["y"], hidden_size=7),
    ]
    stored = {"w": values(4, 3, 3), "W": values(1, 28, 4), "R": values(1, 28, 7)}
    source = opened(tmp_path, model(nodes, {"x": [2, 3, 12]}, {"y": 4}, stored))
    book = nn.ledger(source.module, source.shapes_to_count(None))
    wanted = 2 * 10 * 4 * 9 + 10 * 2 * 28 * (4 + 7)
    assert sum(x.cost.multiplications for x in book.layers) == wanted


# Branches and scalars.


def branched() -> Any:
    """Two networks in the branches of an If on the sampling rate, within the same names."""
    branches = {}
    for name, seed in (("then", 1), ("else", 2)):
        branches[f"{name}_branch"] = helper.make_graph(
            [
                node("Relu", ["x"], ["r"]),
                node("Conv", ["r", "w"], ["z"], name=f"{name}_conv", pads=[1, 1]),
                node("Conv", ["z", "shared"], ["z2"], name=f"{name}_last"),
            ],
            name, [], [info("z2", FLOAT, None)], [numpy_helper.from_array(values(8, 4, 3, seed=seed), "w")],
        )  # fmt: skip
    nodes = [
        node("Equal", ["sr", "rate"], ["fast"]),
        node("If", ["fast"], ["y"], **branches),
    ]
    stored = {"rate": np.array(16000), "shared": values(8, 8, 3, seed=3)}
    return model(nodes, {"x": ["n", 4, "t"], "sr": []}, {"y": 3}, stored)


def test_convolutions_in_branches_are_converted(tmp_path: Path) -> None:
    found = branched()
    source = opened(tmp_path, found)
    shapes = source.shapes_to_count([(1, 4, 30), (16000,)])
    _, report = nn.convert(source.module, rank=2, input_shape=shapes, repeats=0)
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons == {"then_conv": "", "else_last": "", "else_conv": "does not run"}
    assert report.inputs == ("1x4x30 float32", "scalar int64")
    for rate in (16000, 8000):
        x = values(1, 4, 30)
        same(source, found, "ocx -> oc,cx", x=x, sr=np.array(rate))
        tensors = torch.from_numpy(x), torch.tensor(rate)
        (got,) = source.module(*tensors)
        np.testing.assert_allclose(
            got.detach().numpy(), run(found, x=x, sr=np.array(rate))[0], atol=1e-4
        )


def test_data_with_a_scalar_fits_the_branch_that_runs(tmp_path: Path) -> None:
    source = opened(tmp_path, branched())
    batches = [(torch.from_numpy(values(4, 4, 30, seed=k)), torch.tensor(16000)) for k in range(3)]
    how: dict[str, Any] = {"data": source.calibration(batches), "repeats": 0, "budget": 0.6}
    _, report = nn.convert(source.module, "auto", **how)
    assert report.output_error < report.plain_output_error
    assert report["else_conv"].reason == "does not run"


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    source = opened(tmp_path, branched())
    with pytest.raises(ArgumentError, match=r"m.onnx \(x, sr\) are \?x4x\?, a single number; got"):
        source.shapes_to_count([(1, 4, 30)])


def test_loops_and_other_kinds_are_named_with_their_reasons(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["go_on"]),
            node("Conv", ["state", "w"], ["next"], name="inner", pads=[1] * 4),
        ],
        "body", [info("i", INT64, []), info("go", TensorProto.BOOL, []), info("state", FLOAT, None)],
        [info("go_on", TensorProto.BOOL, []), info("next", FLOAT, None)],
    )  # fmt: skip
    nodes = [
        node("Loop", ["n", "", "x"], ["a"], name="again", body=body),
        node("ConvTranspose", ["a", "w"], ["b"], name="up", auto_pad="SAME_UPPER"),
        node("Conv", ["b", "b"], ["y"], name="weights"),
    ]
    found = model(nodes, {"n": [], "x": [3, 3, 5, 5]}, {"y": 4}, {"w": values(3, 3, 3, 3)})
    source = opened(tmp_path, found)
    with pytest.raises(ArgumentError) as caught:
        source.check_layers()
    for text in (
        "has no convolution that can be converted",
        "inner (Conv): inside the Loop `again`, which runs it several times",
        "up (ConvTranspose): transposed with auto_pad SAME_UPPER: its padding depends",
        "weights (Conv): its weights are computed from the network's inputs",
    ):
        assert text in str(caught.value)


# Weights and padding.


def test_weights_computed_from_constants_are_folded(tmp_path: Path) -> None:
    integers = np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8)
    nodes = [
        node("DequantizeLinear", ["q", "scale", "zero"], ["w1"], axis=0),
        node("Conv", ["x", "w1"], ["a"], name="quantised"),
        node("Cast", ["half"], ["w2"], to=FLOAT), node("Identity", ["w2"], ["w3"]),
        node("Identity", ["bias"], ["bias1"]),
        node("Conv", ["a", "w3", "bias1"], ["b"], name="cast"),
        node("Transpose", ["turned"], ["w4"], perm=[3, 2, 0, 1]),
        node("Conv", ["b", "w4"], ["y"], name="turned"),
    ]  # fmt: skip
    stored = {
        "q": integers, "scale": np.linspace(0.01, 0.02, 8).astype("f"), "zero": np.zeros(8, np.int8),
        "half": values(8, 8, 3, 3).astype(np.float16), "bias": values(8), "turned": values(3, 3, 8, 8),
    }  # fmt: skip
    found = model(nodes, {"x": [1, 3, 12, 12]}, {"y": 4}, stored)
    source = opened(tmp_path, found)
    written = same(source, found, x=values(1, 3, 12, 12))
    kinds = {n.op_type for n in written.graph.node}
    assert kinds == {"Conv"}
    assert not {"q", "half", "turned"} & {t.name for t in written.graph.initializer}


@pytest.mark.parametrize("kind", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [[1, 1], [2, 2], [2, 3]])
@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc"])
def test_same_padding_of_any_size(
    tmp_path: Path, kind: str, stride: list[int], pattern: str
) -> None:
    conv = node("Conv", ["x", "w"], ["y"], name="c", auto_pad=kind, strides=stride)
    found = model([conv], {"x": ["n", 3, "h", "w"]}, {"y": 4}, {"w": values(8, 3, 4, 3)})
    source = opened(tmp_path, found)
    for size in ((7, 8), (8, 9), (10, 10)):
        x = values(2, 3, *size)
        same(source, found, pattern, x=x)
        (got,) = source.module(torch.from_numpy(x))
        np.testing.assert_allclose(got.detach().numpy(), run(found, x=x)[0], atol=1e-4)
    shapes = source.shapes_to_count([(1, 3, 8, 9)])
    outputs = -(-8 // stride[0]) * -(-9 // stride[1])
    book = nn.ledger(source.module, shapes)
    assert sum(x.cost.multiplications for x in book.layers) == outputs * 8 * 36


def test_padding_in_two_steps_of_one_axis_is_refused(tmp_path: Path) -> None:
    conv = node("Conv", ["x", "w"], ["y"], name="c", auto_pad="SAME_UPPER", strides=[2, 2])
    found = model([conv], {"x": ["n", 3, "h", "w"]}, {"y": 4}, {"w": values(8, 3, 4, 4)})
    source = opened(tmp_path, found)
    layer = nn.FactoredConv("oc(Yy)(Xx) -> oYX,cyx", 3, 8, 4, 2, 0, rank=2, sizes={"y": 2, "x": 2})
    source.module.c = layer
    with pytest.raises(ArgumentError, match="filters an axis in two steps"):
        source.serialised(source.module)


def test_long_chains_of_arithmetic_end(tmp_path: Path) -> None:
    """Each node reads its input twice: without memory of failures, 2**60 evaluations."""
    nodes = [node("Add", [f"v{k}", f"v{k}"], [f"v{k + 1}"]) for k in range(60)]
    nodes.append(node("Conv", ["v0", "v60"], ["y"], name="c"))
    source = opened(tmp_path, model(nodes, {"v0": [3, 3, 3, 3]}, {"y": 4}, {}))
    with pytest.raises(ArgumentError, match="its weights are computed from"):
        source.check_layers()


# Ties.


def tied(last: Any, rank: int) -> Any:
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="wide", pads=[1] * 4),
        node("Conv", ["a", "w"], ["b"], name="strided", strides=[2, 2]), last,
    ]  # fmt: skip
    stored = {"w": values(8, 8, 3, 3), "flat": np.array([-1])}
    return model(nodes, {"x": [1, 8, 12, 12]}, {"y": rank}, stored)


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path: Path) -> None:
    found = tied(node("Relu", ["b"], ["y"]), 4)
    source = opened(tmp_path, found)
    converted, report = nn.convert(source.module, rank=2, repeats=0)
    report = source.completed(report, converted)
    assert report.untied == ()
    assert len(report.converted) == 2
    written = onnx.load_from_string(source.serialised(converted))
    sizes = [int(np.prod(t.dims)) for t in written.graph.initializer if t.name != "flat"]
    assert sum(sizes) == sum(p.numel() for p in converted.parameters()) == 2 * 8 * (9 + 8)


def test_ties_with_other_nodes_are_reported(tmp_path: Path) -> None:
    found = tied(node("Reshape", ["w", "flat"], ["y"], name="copy"), 1)
    found.graph.output.append(info("b", FLOAT, [None] * 4))
    source = opened(tmp_path, found)
    converted, report = nn.convert(source.module, rank=2, repeats=0)
    report = source.completed(report, converted)
    assert ("wide.weight", "copy") in report.untied


# Forms.


@settings(max_examples=20, deadline=None)
@given(
    pattern=st.sampled_from(["ocyx -> oc,cyx", "ocyx -> oc,oyx", "cyx -> cy,cx"]),
    channels=st.sampled_from([3, 16, 20]),
    ranks=st.lists(st.integers(0, 18), min_size=20, max_size=20),
    stride=st.sampled_from([1, 2]),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
)
def test_any_ranks_are_written_as_convolutions_alone(
    pattern: str, channels: int, ranks: list[int], stride: int, pads: list[int]
) -> None:
    """Depthwise forms of uneven ranks against the layer itself, without Gather or Pad."""
    outputs, groups = (channels, channels) if pattern.startswith("cyx") else (17, 1)
    count = outputs if ",oyx" in pattern else channels
    chosen = [*ranks[: count - 1], 1]
    torch.manual_seed(0)
    layer = nn.FactoredConv(
        pattern, channels, outputs, 3, stride, 0, groups=groups,
        rank=max(chosen) if groups > 1 else chosen,
    ).eval()  # fmt: skip
    writer = Writer(["x", "y"])
    writer.layer("layer", layer, "x", "y", "layer", Padding(tuple(pads)))
    found = model(writer.nodes, {"x": ["n", channels, 9, 8]}, {"y": 4}, writer.weights)
    onnx.checker.check_model(found, full_check=True)
    assert {n.op_type for n in writer.nodes} <= {"Conv", "Concat", "Sum"}
    x = values(2, channels, 9, 8)
    top, left, bottom, right = pads
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom))
        wanted = layer(padded).numpy()
    np.testing.assert_allclose(run(found, x=x)[0], wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_few_terms_are_separate_convolutions_of_whole_channel_blocks() -> None:
    few = nn.FactoredConv("ocyx -> oc,cyx", 16, 8, 3, padding=1, rank=3)
    many = nn.FactoredConv("ocyx -> oc,cyx", 16, 8, 3, padding=1, rank=8)
    narrow = nn.FactoredConv("ocyx -> oc,cyx", 3, 8, 3, padding=1, rank=3)
    chains = [len(terms.chains) for x in (few, many, narrow) if (terms := terms_of(x, [None] * 2))]
    assert chains == [3, 1, 1]
    plain = nn.FactoredConv("ocyx -> oc,cyx", 16, 8, 3, padding=1, rank=1)
    assert terms_of(plain, [None] * 2) is None


def test_a_slower_file_is_the_first_thing_that_the_report_says(tmp_path: Path) -> None:
    found = tied(node("Relu", ["b"], ["y"]), 4)
    source = opened(tmp_path, found)
    shapes = source.shapes_to_count(None)
    converted, report = nn.convert(source.module, "ocyx -> oc,cyx", min_saving=0, repeats=0)
    content = source.serialised(converted)
    assert source.timed(report, content, shapes, 0).comparison is None
    timed = source.timed(report, content, shapes, 1).comparison
    assert min(timed.seconds, timed.seconds_before) > 0
    assert timed.output_error < 1e-4  # full rank
    # With a time of the network elsewhere, too, only a file that is slower comes before it.
    duration = NetworkDuration("torch", seconds=0.001, seconds_before=0.002)
    same = NetworkDuration("onnxruntime", seconds=0.001, seconds_before=0.002, goal=0.25)
    for seconds, first in ((0.003, True), (0.001, False)):
        comparison = dataclasses.replace(timed, seconds=seconds, seconds_before=0.002)
        report = dataclasses.replace(report, comparison=comparison, duration=duration)
        text = report.table(width=400)
        said = f"In ONNX Runtime the converted file takes {seconds * 1e3:.2f} ms per call"
        assert text.startswith(said) == first
        assert text.count(said) == 1
        assert text.count("2.00 times as fast in PyTorch") == 1
        # The same runtime has one time, and a goal that the file misses comes first.
        once = dataclasses.replace(report, duration=same).table(width=400)
        assert once.startswith(f"Goal of 4x faster not met. {said}")
        assert "as fast in ONNX Runtime" not in once
        alone = dataclasses.replace(report, duration=None).table(width=400)
        assert alone.startswith(said)
        assert "Time unknown" not in alone
        assert ("1.50 times SLOWER" in text) == first
        assert ("2.00 times faster" in text) != first
