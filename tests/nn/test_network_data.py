"""Networks in files that are fitted to data: as well as modules, within the budget, or why not."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from separable import nn
from separable.errors import ArgumentError
from separable.nn.formats import Source, open_network


class Twin(torch.nn.Module):
    """Return `twin_model` in ONNX: branches, a sum, and a matrix product after convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = torch.nn.Conv2d
        self.first, self.second = conv(3, 16, 3, padding=1), conv(16, 16, 3, padding=1)
        self.third, self.last = conv(16, 24, 3, stride=2), torch.nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x)) + x
        return self.last(self.third(x).mean((2, 3)))


def twin_model(net: Twin, batch: int | str) -> Any:
    node = helper.make_node
    stored = [
        numpy_helper.from_array(value.detach().numpy(), name)
        for name, value in net.state_dict().items()
    ]
    stored += [numpy_helper.from_array(np.array([2, 3]), "axes")]

    def conv(name: str, source: str, **how: Any) -> Any:
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        return node("Conv", inputs, [f"{name}_out"], name=name, **how)

    nodes = [
        conv("first", "x", pads=[1] * 4), node("Relu", ["first_out"], ["a"]),
        conv("second", "a", pads=[1] * 4), node("Relu", ["second_out"], ["b"]),
        node("Add", ["b", "a"], ["c"]), conv("third", "c", strides=[2, 2]),
        node("ReduceMean", ["third_out", "axes"], ["d"], keepdims=0),
        node("Gemm", ["d", "last.weight", "last.bias"], ["y"], transB=1),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [batch, 3, 12, 12])],
        [value("y", TensorProto.FLOAT, [batch, 5])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def twin() -> Twin:
    return Twin().eval()


def opened(folder: Path, model: Any) -> Source:
    onnx.save(model, folder / "m.onnx")
    return open_network(str(folder / "m.onnx"))


def smooth(count: int, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, 1, 1)


def outputs(model: bytes, x: torch.Tensor) -> torch.Tensor:
    made = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return torch.from_numpy(made.run(None, {"x": x.numpy()})[0])


def counted(model: Any, shape: list[int]) -> int:
    """Multiplications of convolutions and matrix products, from the written nodes alone."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    fixed.graph.output[0].type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True, strict_mode=True).graph
    sizes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.value_info, *graph.output, *graph.input):
        sizes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    found = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            found += math.prod(sizes[node.output[0]]) * math.prod(sizes[node.input[1]][1:])
    return found


@pytest.mark.parametrize("batch", ["n", 4])
def test_onnx_is_fitted_layer_after_layer_as_a_module_is(
    tmp_path: Path, twin: Twin, batch: int | str
) -> None:
    """The same layers from the same data, and so the same outputs."""
    source = opened(tmp_path, twin_model(twin, batch))
    source.module.even_ranks = False  # as for modules
    data = smooth(24).split(4)
    batches = source.calibration([(part,) for part in smooth(24).split(8 if batch == 4 else 4)])
    how: dict[str, Any] = {"pattern": "auto", "rank": None, "tol": 0.3, "repeats": 0}
    converted, report = nn.convert(source.module, data=batches, **how)
    wanted, other = nn.convert(twin, data=data, **how)
    assert [x.pattern for x in report.layers] == [x.pattern for x in other.layers]
    assert len(report.converted) == 3
    assert report.output_error == pytest.approx(other.output_error, rel=1e-3)
    assert report.plain_output_error == pytest.approx(other.plain_output_error, rel=1e-3)
    assert report.output_error < report.plain_output_error
    x = smooth(4, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(
            outputs(source.serialised(converted), x), wanted(x), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("samples", [None, 1, 24])
@pytest.mark.parametrize("budget", [0.2, 0.5])
def test_a_budget_of_onnx_is_kept_by_the_nodes_written(
    tmp_path: Path, twin: Twin, budget: float, samples: int | None
) -> None:
    model = twin_model(twin, "n")
    source = opened(tmp_path, model)
    how: dict[str, Any] = {"input_shape": source.shapes_to_count(None)}
    if samples:
        how = {"data": source.calibration([(smooth(24)[:samples],)] * 2)}
    converted, report = nn.convert(source.module, "auto", budget=budget, repeats=0, **how)
    report = source.completed(report, converted)
    written = onnx.load_from_string(source.serialised(converted))
    many = samples or 1
    after, before = (counted(m, [many, 3, 12, 12]) for m in (written, model))
    assert 0.8 * budget * before < after <= budget * before
    assert (report.multiplications, report.multiplications_before) == (after, before)
    assert report.model == "m.onnx"
    assert report.parameters_before == sum(p.numel() for p in twin.parameters())
    kept = [numpy_helper.to_array(t) for t in written.graph.initializer]
    assert report.parameters == sum(a.size for a in kept if a.dtype == np.float32 and a.ndim)


def test_graphs_within_nodes_and_values_from_before_reach_their_segment(
    tmp_path: Path, twin: Twin
) -> None:
    """An If between two convolutions whose branches use a value and weights of the graph around."""
    model = twin_model(twin, "n")
    nodes = list(model.graph.node)
    value = helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, ["b", "a"], [f"c_{name}"])], name, [],
            [value(f"c_{name}", TensorProto.FLOAT, None)],
        )
        for name, kind in (("then", "Add"), ("else", "Sub"))
    }  # fmt: skip
    nodes[4] = helper.make_node("If", ["yes"], ["c"], **branches)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.value_info.append(value("c", TensorProto.FLOAT, ["n", 16, 12, 12]))
    source = opened(tmp_path, model)
    x = smooth(5)
    with torch.no_grad():
        (found,) = source.module(x)
        torch.testing.assert_close(found, twin(x), rtol=1e-4, atol=1e-5)


def test_values_that_nothing_needs_are_let_go(tmp_path: Path, twin: Twin) -> None:
    plan = opened(tmp_path, twin_model(twin, "n")).module.plan  # type: ignore[union-attr]
    gone = [name for names in plan.gone for name in names]
    assert sorted(gone) == ["a", "c", "first_out", "second_out", "third_out", "x"]
    assert gone.index("first_out") < gone.index("second_out") < gone.index("c")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.zeros(3, 3, 12, 12),), "m.onnx takes in one call: it was exported for 4 samples"),
        (
            (torch.zeros(8, 3, 12, 12), torch.zeros(8, 1)),
            "the inputs of m.onnx are 4x3x12x12; got 4x3x12x12, 4x1",
        ),
        ((torch.zeros(8, 3, 12, 12), torch.zeros(2)), "was exported for 4 samples a call, and a"),
        ((torch.zeros(8, 3, 9, 12),), "the inputs of m.onnx are 4x3x12x12; got 4x3x9x12"),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, twin: Twin, data: Any, message: str) -> None:
    source = opened(tmp_path, twin_model(twin, 4))
    with pytest.raises(ArgumentError, match=message):
        nn.convert(source.module, rank=1, data=source.calibration([data]), repeats=0)


def test_samples_are_put_together_for_a_fixed_batch(tmp_path: Path, twin: Twin) -> None:
    source = opened(tmp_path, twin_model(twin, 4))
    x = smooth(11)
    found = list(source.calibration([(part,) for part in x.split(3)]))
    assert [tuple(b[0].shape) for b in found] == [(4, 3, 12, 12)] * 2
    assert torch.equal(torch.cat([b[0] for b in found]), x[:8])


# Exported programs.


def saved(folder: Path, net: torch.nn.Module, *inputs: Any, example: bool, **how: Any) -> Path:
    program = torch.export.export(net.eval(), inputs, **how)
    if not example:
        program.example_inputs = None  # type: ignore[assignment]
    torch.export.save(program, folder / "m.pt2")
    return folder / "m.pt2"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_without_example_inputs_is_exported_with_zeros(
    tmp_path: Path, twin: Twin
) -> None:
    x = smooth(3)
    axis = torch.export.Dim("n", min=2, max=64)
    path = saved(tmp_path, twin, x, example=False, dynamic_shapes=({0: axis},))
    source = open_network(str(path))
    assert source.batch is None
    converted, _ = nn.convert(source.module, "auto", tol=0.5, data=[x], repeats=0)
    again = torch.export.load(io.BytesIO(source.serialised(converted))).module()
    with torch.no_grad():
        torch.testing.assert_close(again(smooth(7)), converted(smooth(7)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_of_more_than_tensors_says_what_is_missing(tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x: torch.Tensor, by: int) -> torch.Tensor:
            return self.conv(x) * by

    path = saved(tmp_path, Scaled(), smooth(2), 3, example=False)
    with pytest.raises(
        ArgumentError, match=r"m\.pt2 has no example inputs, .* input 1 is not a tensor"
    ):
        open_network(str(path))
    assert open_network(str(saved(tmp_path, Scaled(), smooth(2), 3, example=True))).batch == 2
