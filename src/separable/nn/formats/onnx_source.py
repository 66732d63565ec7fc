"""ONNX models: Conv nodes as modules for `convert`, and the graph written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from separable.errors import FileError
from separable.nn.convert import ConvertedLayer, Report
from separable.nn.factored_conv import FactoredConv
from separable.nn.formats.network_source import Source
from separable.nn.formats.onnx_graph import Call, OnnxGraph
from separable.nn.formats.onnx_nodes import Writer
from separable.nn.formats.onnx_reading import (
    constants,
    graph_inputs,
    load,
    parameters_of,
    used_names,
)
from separable.nn.torch_convs import CONVS

__all__ = ["OnnxSource", "read_onnx"]

Array = NDArray[Any]
Shape = tuple[int, ...]
LARGEST = 2**31 - 1  # largest protobuf file in bytes
TYPES = ("float16", "float32", "float64")


class OnnxSource(Source):
    """Network read from an ONNX model.

    Its module is the whole graph: the convolutions run in PyTorch and the nodes between them in
    onnxruntime, so that data is fitted to layer after layer as in any other network.
    """

    suffix = ".onnx"

    def __init__(self, title: str, model: Any) -> None:
        self.title = title
        self.model = model
        self._left: list[ConvertedLayer] = []
        self.module: OnnxGraph = self._graph()
        self.module.plan.writer = self.serialised
        sizes = [sizes[:1] for _, sizes in graph_inputs(model.graph)]
        if sizes and all(s == sizes[0] for s in sizes):
            self.batch = next(iter(sizes[0]), None)

    def _graph(self) -> OnnxGraph:
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
            calls.append(Call(at, known[key], node.input[0], node.output[0], pads))
        return OnnxGraph(self.model, self.title, layers, calls).eval()

    def input_shapes(self) -> list[Shape] | None:
        """Return the shapes stored in the graph; one sample if the batch size is dynamic."""
        found = []
        for _, sizes in graph_inputs(self.model.graph):
            first = sizes[:1] if sizes[:1] != [None] else [1]
            if None in sizes[1:]:
                return None
            found.append((*first, *sizes[1:]))
        return found

    def shapes_to_count(self, input_shape: list[Shape] | None) -> Any:
        """Return the given shapes, or those of the graph, if all other shapes follow from them."""
        shapes = self.input_shapes() if input_shape is None else input_shape
        if shapes is None or not self.module.calls:
            return None
        self.module.plan.shapes(shapes)
        return shapes

    def serialised(self, converted: nn.Module) -> bytes:
        """Write the graph with separable layers in place of their nodes, and check it."""
        import onnx  # optional dependency

        model = self._written(converted)
        if model.ByteSize() > LARGEST:
            raise FileError(
                f"the converted {self.title} takes {model.ByteSize():,} bytes; one ONNX file can "
                "have 2 GiB. Use a smaller `--budget`"
            )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def _written(self, converted: nn.Module) -> Any:
        from onnx import ModelProto, numpy_helper  # optional dependency

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

    def completed(self, report: Report, converted: nn.Module) -> Report:
        """Add the model's name, nodes without a layer, and the stored parameters to the report."""
        return replace(
            report, model=self.title, layers=(*report.layers, *self._left),
            parameters=parameters_of(self._written(converted).graph),
            parameters_before=parameters_of(self.model.graph),
        )  # fmt: skip


def read_onnx(path: Path) -> Source:
    """Read an ONNX model.

    Raises
    ------
    FileError, ArgumentError
        If it is damaged, of an old opset, or refers to files outside its folder.
    """
    return OnnxSource(path.name, load(path))


def _module(node: Any, values: Mapping[str, Array]) -> Any:
    """Return the module of a Conv node, the padding that it does not apply, and its key; or a reason."""
    from onnx import helper  # optional dependency

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


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    found, at = name, 1
    while found in taken or hasattr(nn.Module, found):
        at += 1
        found = f"{name}_{at}"
    return found


def _drop_unused(before: Any, graph: Any) -> None:
    """Remove weights that are no longer used."""

    def used(g: Any) -> set[str]:
        return used_names(g.node) | {v.name for v in g.output}

    gone = used(before) - used(graph)
    for part in (graph.initializer, graph.input):
        stored = {t.name for t in before.initializer}
        kept = [t for t in part if t.name not in gone or t.name not in stored]
        del part[:]
        part.extend(kept)
    nodes = [n for n in graph.node if n.op_type != "Constant" or n.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(nodes)
