"""ONNX models: their Conv nodes as modules for `convert`, and the graph written again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from separable.errors import ArgumentError, FileError
from separable.nn.convert import ConvertedLayer, Report
from separable.nn.convert.conversion import _Tally
from separable.nn.formats.onnx_nodes import Writer
from separable.nn.formats.onnx_reading import constants, graph_inputs, inferred_shapes, load
from separable.nn.formats.source import Batch, Source
from separable.nn.layers import FactoredConv
from separable.nn.spec import CONVS

__all__ = ["Convolutions", "OnnxSource", "read_onnx"]

Array = NDArray[Any]
Shape = tuple[int, ...]
LARGEST = 2**31 - 1  # bytes that one file of protobuf can have
TYPES = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Call:
    """A Conv node: which module it runs on which value."""

    node: int
    layer: str
    source: str
    pads: tuple[int, ...] | None


class Convolutions(nn.Module):
    """The convolutions of a graph, each on an input of its own, and what else it multiplies.

    Attributes
    ----------
    calls : list of Call
    others : int
        Multiplications of the rest of the graph; they are counted, not done.
    """

    def __init__(self, layers: Mapping[str, nn.Module], calls: Sequence[Call]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.calls = list(calls)
        self.others = 0

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Run each on what its node gets."""
        outputs = []
        for call, value in zip(self.calls, inputs, strict=True):
            padded = value if call.pads is None else functional.pad(value, _for_torch(call.pads))
            outputs.append(self.get_submodule(call.layer)(padded))
        if self.others and isinstance(outputs[0], FakeTensor):
            row = outputs[0].new_empty(1, self.others)
            row @ row.T
        return outputs


class OnnxSource(Source):
    """A model of ONNX.

    With data each layer is fitted to what it gets in the model as it was: onnxruntime runs the
    model, batch after batch, and no activations are kept.
    """

    suffix = ".onnx"

    def __init__(self, title: str, model: Any) -> None:
        self.title = title
        self.model = model
        self._left: list[ConvertedLayer] = []
        self.module: Convolutions = self._container()
        self._shapes: list[Shape] | None = None

    def _container(self) -> Convolutions:
        values = constants(self.model.graph)
        layers: dict[str, nn.Module] = {}
        known: dict[Any, str] = {}
        calls = []
        for at, node in enumerate(self.model.graph.node):
            if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in ("", "ai.onnx"):
                continue
            name = _unique((node.name or node.output[0]).replace(".", "_"), layers)
            made = _module(node, values)
            if isinstance(made, str):
                shape = values[node.input[1]].shape if node.input[1] in values else ()
                self._left.append(ConvertedLayer(name, (), node.op_type, shape, reason=made))
                continue
            conv, pads, key = made
            if key not in known:
                layers[name], known[key] = conv, name
            calls.append(Call(at, known[key], node.input[0], pads))
        return Convolutions(layers, calls).eval()

    def input_shapes(self) -> list[Shape] | None:
        """Return those the graph says; one sample where the batch may change."""
        found = []
        for _, sizes in graph_inputs(self.model.graph):
            first = sizes[:1] if sizes[:1] != [None] else [1]
            if None in sizes[1:]:
                return None
            found.append((*first, *sizes[1:]))
        return found

    def shapes_to_count(self, given: list[Shape] | None) -> Any:
        """Return the shapes of what the Conv nodes get."""
        shapes = self.input_shapes() if given is None else given
        if shapes is None or not self.module.calls:
            return None
        known = inferred_shapes(self.model, shapes)
        unknown = [c.source for c in self.module.calls if c.source not in known]
        if unknown:
            raise ArgumentError(
                f"the shape of `{unknown[0]}` in {self.title} does not follow from that of its "
                "inputs: simplify the graph first, or export it for fixed sizes"
            )
        self._shapes = shapes
        self.module.others = sum(self._multiplications(n, known) for n in self._other_nodes())
        return [known[c.source] for c in self.module.calls]

    def _other_nodes(self) -> Iterator[Any]:
        converted = {c.node for c in self.module.calls}
        return (n for at, n in enumerate(self.model.graph.node) if at not in converted)

    def _multiplications(self, node: Any, known: Mapping[str, Shape]) -> int:
        """Count those of matrix products and of convolutions that stay."""
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

    def calibration(self, batches: Iterable[Batch]) -> Iterable[Any]:
        """Return what the Conv nodes get for each batch."""
        return _Activations(self, batches)

    def serialised(self, converted: nn.Module) -> bytes:
        """Write the graph with the separable layers in place of their nodes; check it."""
        import onnx

        model = self._written(converted)
        if model.ByteSize() > LARGEST:
            raise FileError(
                f"the converted {self.title} takes {model.ByteSize():,} bytes; one ONNX file can "
                "have 2 GiB. Use a smaller `--budget`"
            )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def _written(self, converted: nn.Module) -> Any:
        from onnx import ModelProto, numpy_helper

        model = ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        names = [t.name for t in graph.initializer] + [v for n in graph.node for v in n.output]
        writer = Writer([*names, *(v.name for v in graph.input)])
        calls = {c.node: c for c in self.module.calls}
        for at, node in enumerate(self.model.graph.node):
            layer = converted.get_submodule(calls[at].layer) if at in calls else None
            if isinstance(layer, FactoredConv):
                call = calls[at]
                writer.layer(
                    call.layer, layer, node.input[0], node.output[0],
                    node.name or node.output[0], call.pads,
                )  # fmt: skip
            else:
                writer.nodes.append(node)
        del graph.node[:]
        graph.node.extend(writer.nodes)
        for name, values in writer.weights.items():
            graph.initializer.append(numpy_helper.from_array(values, name))
        _drop_unused(self.model.graph, graph)
        return model

    def completed(
        self, report: Report, converted: nn.Module, data: Iterable[Batch] | None
    ) -> Report:
        """Name the model, list the nodes that no layer stands for, measure the model's outputs."""
        shapes = self._shapes or []
        found = replace(
            report, model=self.title, layers=(*report.layers, *self._left),
            inputs=tuple("x".join(map(str, s)) for s in shapes),
        )  # fmt: skip
        if data is None:
            return found
        tally = _Tally()
        before, after = session(self.model), session(self._written(converted))
        for batch in data:
            for wanted, got in zip(run(before, batch), run(after, batch), strict=True):
                tally.add(torch.from_numpy(wanted), torch.from_numpy(got))
        return replace(found, output_error=tally.error, plain_output_error=math.nan)


class _Activations:
    """What the Conv nodes get for each batch, made again each time."""

    def __init__(self, source: OnnxSource, batches: Iterable[Batch]) -> None:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(source.model)
        self._wanted = [c.source for c in source.module.calls]
        del model.graph.output[:]
        for name in dict.fromkeys(self._wanted):
            if name not in {v.name for v in model.graph.input}:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        self._session = session(model) if model.graph.output else None
        self._inputs = [name for name, _ in graph_inputs(model.graph)]
        self._names = [v.name for v in model.graph.output]
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in self._batches:
            given = dict(zip(self._inputs, batch, strict=False))
            if self._session is not None:
                results = map(torch.from_numpy, run(self._session, batch))
                given |= dict(zip(self._names, results, strict=True))
            yield tuple(given[name] for name in self._wanted)


def session(model: Any) -> Any:
    """Return what runs a model.

    Raises
    ------
    ArgumentError
        If onnxruntime is missing or does not take it.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            "`--data` with an ONNX model needs onnxruntime, which is not installed: pip install "
            "'separable[convert]'"
        ) from missing
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as problem:  # onnxruntime has its own exceptions
        raise ArgumentError(f"onnxruntime does not take the model: {problem}") from None


def run(made: Any, batch: Batch) -> list[Array]:
    """Run a model on a batch.

    Raises
    ------
    ArgumentError
        If that is not what it takes.
    """
    names = [v.name for v in made.get_inputs()]
    try:
        return list(made.run(None, dict(zip(names, (t.numpy() for t in batch), strict=True))))
    except Exception as problem:
        got = ", ".join("x".join(map(str, t.shape)) for t in batch)
        raise ArgumentError(f"`--data`: {got} does not go through the model: {problem}") from None


def read_onnx(path: Path) -> Source:
    """Read a model of ONNX.

    Raises
    ------
    FileError, ArgumentError
        If it is damaged, of an old opset, or refers to files outside its folder.
    """
    return OnnxSource(path.name, load(path))


def _module(node: Any, values: Mapping[str, Array]) -> Any:
    """Return the module of a Conv node, the pads it does not do, and what it is told by; or why not."""
    from onnx import helper

    if node.op_type == "ConvTranspose":
        return "transposed: the patterns are of convolutions"
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    if node.input[1] not in values or (bias is not None and bias not in values):
        return "its weights are computed by other nodes"
    weights = values[node.input[1]]
    ndim = weights.ndim - 2
    if ndim not in CONVS or weights.dtype.name not in TYPES:
        return f"weights of shape {weights.shape}, {weights.dtype}"
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kind = given.get("auto_pad", b"NOTSET")
    if kind not in (b"NOTSET", b"VALID", b""):
        return f"auto_pad {kind.decode()}: its padding depends on the input's size"
    pads = tuple(given.get("pads", (0,) * 2 * ndim)) if kind != b"VALID" else (0,) * 2 * ndim
    even = pads[:ndim] == pads[ndim:] and min(pads) >= 0
    stride, dilation = given.get("strides", [1] * ndim), given.get("dilations", [1] * ndim)
    groups = given.get("group", 1)
    conv: Any = CONVS[ndim](
        weights.shape[1] * groups, weights.shape[0], weights.shape[2:], tuple(stride),
        pads[:ndim] if even else 0, tuple(dilation), groups, bias is not None, device="meta",
    )  # fmt: skip
    conv.weight = nn.Parameter(torch.from_numpy(weights.copy()))
    if bias is not None:
        conv.bias = nn.Parameter(torch.from_numpy(values[bias].copy()))
    key = (node.input[1], bias, pads, tuple(stride), tuple(dilation), groups)
    return conv, None if even else pads, key


def _for_torch(pads: Sequence[int]) -> list[int]:
    """Turn all before, all behind into pairs, the last axis first."""
    count = len(pads) // 2
    return [pads[j + k * count] for j in reversed(range(count)) for k in (0, 1)]


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    found, at = name, 1
    while found in taken or hasattr(nn.Module, found):
        at += 1
        found = f"{name}_{at}"
    return found


def _drop_unused(before: Any, graph: Any) -> None:
    """Remove the weights that were used and are not any more."""

    def used(g: Any) -> set[str]:
        names = {v for n in g.node for v in n.input} | {v.name for v in g.output}
        inner = [i for n in g.node for a in n.attribute for i in (a.g, *a.graphs) if i.node]
        return names.union(*map(used, inner)) if inner else names

    gone = used(before) - used(graph)
    for part in (graph.initializer, graph.input):
        stored = {t.name for t in before.initializer}
        kept = [t for t in part if t.name not in gone or t.name not in stored]
        del part[:]
        part.extend(kept)
    nodes = [n for n in graph.node if n.op_type != "Constant" or n.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
