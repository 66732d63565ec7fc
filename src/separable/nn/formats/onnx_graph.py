"""ONNX graphs as modules: convolutions run in PyTorch, everything else in onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from separable.distribution import install_command
from separable.errors import ArgumentError
from separable.nn.formats.onnx_reading import graph_inputs, inferred_shapes, used_names

__all__ = ["Call", "OnnxGraph", "node_multiplications"]

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """Conv node: its module, input and output.

    Attributes
    ----------
    node : int
        Index of the node in the graph.
    layer : str
        The module's name.
    source, target : str
        The values that it takes and gives.
    pads : tuple of int or None
        Zeros before and after all spatial axes, where those differ.
    """

    node: int
    layer: str
    source: str
    target: str
    pads: tuple[int, ...] | None


class OnnxGraph(nn.Module):
    """ONNX model whose convolutions are modules.

    It is called with the graph's inputs and gives the graph's outputs. On tensors without memory
    the convolutions alone run, on values of the shapes that ONNX infers, and as many
    multiplications as the other nodes take are counted.

    Parameters
    ----------
    model : onnx.ModelProto
        Kept as it is.
    title : str
        Name of the model, for messages.
    layers : mapping of str to torch.nn.Module
    calls : sequence of Call
    """

    def __init__(
        self, model: Any, title: str, layers: Mapping[str, nn.Module], calls: Sequence[Call]
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.calls = tuple(calls)
        self.plan = _Plan(model, title, self.calls)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Run the graph; values that are no longer needed are released."""
        if any(isinstance(value, FakeTensor) for value in inputs):
            return self._counted(inputs)
        values: dict[str, Any] = self.plan.given(inputs)
        for stage, gone in zip(self.plan.stages, self.plan.gone, strict=True):
            if isinstance(stage, Call):
                values[stage.target] = self._convolved(stage, _tensor(values[stage.source]))
            else:
                values |= stage.run(values)
            for name in gone:
                values.pop(name, None)
        found = [_tensor(values[name]) for name in self.plan.outputs if name in values]
        return [value for value in found if isinstance(value, Tensor)]

    def onnx_bytes(self) -> bytes:
        """Return the graph as it is written to a file, with the present layers, to measure its time."""
        writer = self.plan.writer
        if writer is None:
            raise ArgumentError(f"{self.plan.title} was not read from a file: it cannot be written")
        return writer(self)

    def _convolved(self, call: Call, value: Tensor) -> Tensor:
        padded = value if call.pads is None else functional.pad(value, _for_torch(call.pads))
        found: Tensor = self.get_submodule(call.layer)(padded)
        return found

    def _counted(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        known = self.plan.shapes([tuple(value.shape) for value in inputs])
        outputs = []
        for call in self.calls:
            like = next(self.get_submodule(call.layer).parameters())
            outputs.append(self._convolved(call, like.new_empty(known[call.source])))
        others = self.plan.multiplications(known)
        if others and outputs:
            row = outputs[0].new_empty(1, others)
            row @ row.T
        return outputs


class _Plan:
    """Order of execution of a graph, shared by its copies."""

    def __init__(self, model: Any, title: str, calls: Sequence[Call]) -> None:
        self.model = model
        self.title = title
        self.inputs = [name for name, _ in graph_inputs(model.graph)]
        self.outputs = [value.name for value in model.graph.output]
        self.calls = {call.node: call for call in calls}
        self.stages = self._stages()
        self.gone = self._gone()
        self._known: dict[tuple[Shape, ...], dict[str, Shape]] = {}
        self.writer: Callable[[nn.Module], bytes] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Plan:
        return self

    def _stages(self) -> list[Call | _Segment]:
        """Return the convolutions, and the nodes between two of them as one stage."""
        nodes = list(self.model.graph.node)
        stages: list[Call | _Segment] = []
        waiting: list[Any] = []
        for at, node in enumerate(nodes):
            if at not in self.calls:
                waiting.append(node)
                continue
            if waiting:
                stages.append(_Segment(self.model, waiting))
                waiting = []
            stages.append(self.calls[at])
        if waiting:
            stages.append(_Segment(self.model, waiting))
        needed = set(self.outputs)
        for stage in reversed(stages):
            if isinstance(stage, Call):
                needed.add(stage.source)
            else:
                stage.wanted = sorted(stage.made & needed)
                needed |= stage.taken
        return [s for s in stages if isinstance(s, Call) or s.wanted]

    def _gone(self) -> list[list[str]]:
        """Return the values that are no longer needed after each stage."""
        kept = set(self.outputs)
        found: list[list[str]] = []
        for stage in reversed(self.stages):
            taken = {stage.source} if isinstance(stage, Call) else stage.taken
            own = {stage.target} if isinstance(stage, Call) else set(stage.wanted)
            found.append(sorted((taken | own) - kept))
            kept |= taken
        return found[::-1]

    def given(self, inputs: Sequence[Tensor]) -> dict[str, Any]:
        """Name the inputs; numbers get the precision that the graph takes."""
        from onnx import helper  # optional dependency

        if len(inputs) != len(self.inputs):
            raise ArgumentError(
                f"{self.title} takes {len(self.inputs)} inputs ({', '.join(self.inputs)}); "
                f"got {len(inputs)}"
            )
        kinds = {v.name: v.type.tensor_type.elem_type for v in self.model.graph.input}
        values = {}
        for name, value in zip(self.inputs, inputs, strict=True):
            kind = helper.tensor_dtype_to_np_dtype(kinds[name])
            array = value.detach().cpu().numpy()
            values[name] = array.astype(kind) if array.dtype.kind == kind.kind == "f" else array
        return values

    def shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of all values for the given input shapes.

        Raises
        ------
        ArgumentError
            If the graph does not take them, or what a convolution gets is not known.
        """
        key = tuple(inputs)
        if key not in self._known:
            known = inferred_shapes(self.model, inputs, self.title)
            unknown = [c.source for c in self.calls.values() if c.source not in known]
            if unknown:
                raise ArgumentError(
                    f"the shape of `{unknown[0]}` in {self.title} does not follow from that of its "
                    "inputs: simplify the graph first, or export it for fixed sizes"
                )
            self._known[key] = known
        return self._known[key]

    def multiplications(self, known: Mapping[str, Shape]) -> int:
        """Count the multiplications of all nodes but the convolutions that are modules."""
        nodes = enumerate(self.model.graph.node)
        return sum(node_multiplications(n, known) for at, n in nodes if at not in self.calls)


class _Segment:
    """Nodes that onnxruntime runs together; the session is created at the first run."""

    def __init__(self, model: Any, nodes: Sequence[Any]) -> None:
        self.model = model
        self.nodes = list(nodes)
        self.made = {name for node in nodes for name in node.output if name}
        stored = {t.name for t in model.graph.initializer}
        stored |= {t.values.name for t in model.graph.sparse_initializer}
        used = used_names(nodes)
        self.stored = used & stored
        self.taken = used - self.made - stored
        self.wanted: list[str] = []
        self._session: Any = None

    def run(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that later stages or the graph's outputs need."""
        arrays = {name: _array(values[name]) for name in sorted(self.taken) if name in values}
        if self._session is None:
            self._session = self._ready(arrays)
        try:
            results = self._session.run(self.wanted, arrays)
        except Exception as problem:  # onnxruntime has its own exceptions
            raise RuntimeError(f"onnxruntime: {problem}") from None
        return dict(zip(self.wanted, results, strict=True))

    def _ready(self, arrays: Mapping[str, Array]) -> Any:
        import onnx  # optional dependency
        from onnx import helper

        model = onnx.ModelProto(ir_version=self.model.ir_version)
        model.opset_import.extend(self.model.opset_import)
        model.functions.extend(self.model.functions)
        graph, whole = model.graph, self.model.graph
        graph.name = "segment"
        graph.node.extend(self.nodes)
        graph.initializer.extend(t for t in whole.initializer if t.name in self.stored)
        graph.sparse_initializer.extend(
            t for t in whole.sparse_initializer if t.values.name in self.stored
        )
        for name, array in arrays.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, None))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.wanted)
        return _session(model)


def node_multiplications(node: Any, known: Mapping[str, Shape]) -> int:
    """Count the multiplications of a matrix product or convolution; 0 for other nodes.

    Parameters
    ----------
    node : onnx.NodeProto
    known : mapping of str to tuple of int
        The shapes of values.
    """
    shapes = [known.get(v) for v in (*node.input[:2], *node.output[:1])]
    if None in shapes or len(shapes) < 3:
        return 0
    first, second, out = shapes
    assert first is not None and second is not None and out is not None  # noqa: PT018
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    if node.op_type == "MatMul":
        return math.prod(out) * first[-1]
    if node.op_type == "Gemm":
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(out) * first[0 if turned else 1]
    return 0


def _session(model: Any) -> Any:
    """Return an onnxruntime session of a model.

    Raises
    ------
    ArgumentError
        If onnxruntime is missing or does not take it.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]  # optional dependency
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            "`--data` with an ONNX model needs onnxruntime, which is not installed: "
            f"{install_command('convert')}"
        ) from missing
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as problem:  # onnxruntime has its own exceptions
        raise ArgumentError(f"onnxruntime does not take the model: {problem}") from None


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def _tensor(value: Any) -> Any:
    """Convert an array of numbers to a tensor; texts and sequences are returned unchanged."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value)
    return value


def _for_torch(pads: Sequence[int]) -> list[int]:
    """Convert ONNX's padding (all before, all after) to pairs, the last axis first."""
    count = len(pads) // 2
    return [pads[j + k * count] for j in reversed(range(count)) for k in (0, 1)]
