"""ONNX models: Conv nodes as modules for `convert`, and the graph written back."""

from __future__ import annotations

import importlib.util
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from separable.distribution import install_command
from separable.errors import ArgumentError, FileError
from separable.nn.audit.layer_outputs import first_inputs
from separable.nn.convert import ConvertedLayer, Report
from separable.nn.convert.runtime_comparison import RuntimeComparison
from separable.nn.factored_conv import FactoredConv
from separable.nn.formats.network_source import Batch, Source
from separable.nn.formats.onnx_constants import Constants, nested_graphs
from separable.nn.formats.onnx_graph import OnnxGraph
from separable.nn.formats.onnx_layers import CONVOLUTIONS, Call, layer_of, weight_input
from separable.nn.formats.onnx_nodes import Writer
from separable.nn.formats.onnx_pruning import prune
from separable.nn.formats.onnx_reading import graph_inputs, load, opset_of, parameters_of
from separable.nn.formats.onnx_sizes import example_inputs, nodes_with_place
from separable.nn.formats.onnx_timing import compared
from separable.nn.ledger import Layer, Ledger

__all__ = ["OnnxSource", "read_onnx"]

Shape = tuple[int, ...]
LARGEST = 2**31 - 1  # largest protobuf file in bytes
SHOWN = 6  # names in a message


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
        self._layers: dict[str, nn.Module] = {}
        self._calls: list[Call] = []
        self._known: dict[Any, str] = {}
        self._shared: dict[tuple[int, str], nn.Parameter] = {}
        self._constants: list[Constants] = []
        self._find(model.graph, None, (), "")
        self.module: OnnxGraph = OnnxGraph(model, title, self._layers, self._calls).eval()
        self.module.plan.writer = self.serialised
        sizes = [sizes[:1] for _, sizes in graph_inputs(model.graph)]
        if sizes and all(s == sizes[0] for s in sizes):
            self.batch = next(iter(sizes[0]), None)
            self.module.fixed_batch = self.batch

    def _find(
        self, graph: Any, outer: Constants | None, place: tuple[int | str, ...], refusal: str
    ) -> None:
        """Make a module of every convolution of a graph, or record the reason why there is none."""
        values = Constants(graph, opset_of(self.model), outer)
        self._constants.append(values)  # keys of parameters hold their identity
        for at, node in enumerate(graph.node):
            here = (*place, at)
            for name, inner in nested_graphs(node):
                why = refusal or _refusal_inside(node)
                self._find(inner, values, (*here, name), why)
            if node.op_type in CONVOLUTIONS:
                self._take(node, values, here, refusal)

    def _take(
        self, node: Any, values: Constants, place: tuple[int | str, ...], refusal: str
    ) -> None:
        taken = {**self._layers, **{x.name: x for x in self._left}}
        name = _module_name(node.name or node.output[0], taken)
        made = refusal or layer_of(node, values, self._shared)
        if isinstance(made, str):
            weights = weight_input(node)
            shape = values[weights].shape if weights in values else ()
            self._left.append(ConvertedLayer(name, (), node.op_type, shape, reason=made))
            return
        conv, padding, key = made
        if key not in self._known:
            self._layers[name], self._known[key] = conv, name
        self._calls.append(Call(place, self._known[key], node.input[0], node.output[0], padding))

    def input_shapes(self) -> list[Shape] | None:
        """Return the shapes stored in the graph; one sample if the batch size is dynamic."""
        found = []
        for _, sizes in graph_inputs(self.model.graph):
            first = sizes[:1] if sizes[:1] != [None] else [1]
            if None in sizes[1:]:
                return None
            found.append((*first, *sizes[1:]))
        return found

    def shapes_to_count(
        self, input_shape: list[Shape] | None, needed: bool = True
    ) -> list[Any] | None:
        """Return the given shapes, or those of the graph, if all other sizes follow from them.

        A shape of one size for an input without axes is the value of that input.

        Raises
        ------
        ArgumentError
            If the sizes are needed and cannot be known, or there is no convolution to convert.
        """
        shapes = self.input_shapes() if input_shape is None else input_shape
        if shapes is None:
            return None
        values: list[torch.Tensor | None] = [None] * len(shapes)
        known = graph_inputs(self.model.graph)
        if len(known) == len(shapes):
            for at, ((_, sizes), shape) in enumerate(zip(known, shapes, strict=True)):
                if not sizes and len(shape) == 1:
                    values[at] = torch.tensor(shape[0])
            self.module.plan.remember(values)
        try:
            self.module.plan.sizes(
                [tuple(s) if v is None else () for s, v in zip(shapes, values, strict=True)]
            )
        except ArgumentError:
            if needed or input_shape is not None:
                raise
            return None
        return [s if v is None else v for s, v in zip(shapes, values, strict=True)]

    def counted(self, found: Ledger) -> Ledger:
        """Name the ledger after the file, and add the parameters of nodes that are not modules."""
        stored = sum(p.numel() for p in self.module.parameters())
        rest = max(parameters_of(self.model.graph) - stored, 0)
        layers = list(found.layers)
        if rest and not any(x.name == "" for x in layers):
            layers.insert(0, Layer("", "other nodes"))
        at = next((k for k, x in enumerate(layers) if x.name == ""), None)
        if at is not None:
            cost = replace(layers[at].cost, parameters=layers[at].cost.parameters + rest)
            layers[at] = replace(layers[at], kind="other nodes", cost=cost)
        return replace(found, model=self.title, layers=tuple(layers))

    def calibration(self, batches: Iterable[Batch]) -> Iterable[Any]:
        """Return the batches; the first one also says what sizes within the graph depend on."""
        return _Remembered(super().calibration(batches), self.module)

    def input_hint(self) -> str:
        """Return the inputs that the graph declares, with ? for unknown sizes."""
        found = [
            f"{name} {'x'.join(str(n or '?') for n in sizes)}" if sizes else f"{name} (a number)"
            for name, sizes in graph_inputs(self.model.graph)
        ]
        return (
            f"for its input {found[0]}" if len(found) == 1 else f"for its inputs {', '.join(found)}"
        )

    def check_layers(self) -> None:
        """Raise an error that lists all convolutions with their reasons if none can be converted.

        Raises
        ------
        ArgumentError
        """
        if self._layers:
            return
        if not self._left:
            raise ArgumentError(
                f"{self.title} has no convolution to convert: its nodes are {_kinds(self.model)}"
            )
        reasons: dict[str, list[str]] = {}
        for layer in self._left:
            reasons.setdefault(layer.reason, []).append(f"{layer.name} ({layer.kind})")
        listed = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
        raise ArgumentError(f"{self.title} has no convolution that can be converted. {listed}")

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
        names = {t.name for t in model.graph.initializer} | {v.name for v in model.graph.input}
        for _, node in nodes_with_place(model.graph):
            names.update(node.output)
            for _, inner in nested_graphs(node):
                names |= {t.name for t in inner.initializer}
        writer = Writer(sorted(names))
        self._rewrite(model.graph, (), converted, writer)
        for name, values in writer.weights.items():
            model.graph.initializer.append(numpy_helper.from_array(values, name))
        prune(self.model.graph, model.graph)
        return model

    def convolution_inputs(self) -> dict[str, list[Hashable]]:
        """Return the inputs of each convolution: the graph that makes them, and their names there."""
        made = {
            (place[:-1], name)
            for place, node in nodes_with_place(self.model.graph)
            for name in node.output
        }
        found: dict[str, list[Hashable]] = {}
        for call in self._calls:
            # A graph within an If is two places deeper: the index of that, and its branch.
            graphs = [call.place[:at] for at in range(len(call.place) - 1, -1, -2)]
            owner = next((g for g in graphs if (g, call.source) in made), ())
            found.setdefault(call.layer, []).append((owner, call.source))
        return found

    def layer_inputs(self, inputs: Any) -> tuple[dict[str, torch.Tensor], str]:
        """Return the input of each convolution in one run, and why there are none if the run fails."""
        if importlib.util.find_spec("onnxruntime") is None:
            return {}, f"onnxruntime is not installed: {install_command('convert')}"
        sizes = [tuple(s.shape) if isinstance(s, torch.Tensor) else tuple(s) for s in inputs]
        layers = {name: self.module.get_submodule(name) for name in self._layers}
        ndims = {name: layer.weight.dim() - 2 for name, layer in layers.items()}  # type: ignore[operator]
        try:
            tensors = [s if isinstance(s, torch.Tensor) and s.dim() else None for s in inputs]
            self.module.plan.remember(tensors)
            values = example_inputs(self.model, sizes, self.module.plan.examples, self.title)
            given = [torch.from_numpy(np.asarray(v)) for v in values.values()]
            return first_inputs(lambda: self.module(*given), layers, ndims), ""
        except (ArgumentError, RuntimeError, ValueError, IndexError) as problem:
            return {}, str(problem).strip().splitlines()[0]

    def left_out(self) -> tuple[ConvertedLayer, ...]:
        """Return the convolution nodes that are not modules, with the reasons."""
        return tuple(self._left)

    def _rewrite(
        self, graph: Any, place: tuple[int | str, ...], converted: nn.Module, writer: Writer
    ) -> None:
        """Replace the nodes of converted layers in a graph and in the branches within it."""
        calls = {c.place: c for c in self._calls}
        nodes: list[Any] = []
        for at, node in enumerate(graph.node):
            here = (*place, at)
            for name, inner in nested_graphs(node):
                self._rewrite(inner, (*here, name), converted, writer)
            call = calls.get(here)
            layer = None if call is None else converted.get_submodule(call.layer)
            if call is not None and isinstance(layer, FactoredConv):
                writer.nodes = []
                writer.layer(
                    call.layer, layer, call.source, call.target, node.name or call.target,
                    call.padding,
                )  # fmt: skip
                nodes += writer.nodes
            else:
                nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)

    def completed(self, report: Report, converted: nn.Module) -> Report:
        """Add the model's name, nodes without a layer, lost ties and the stored parameters."""
        return replace(
            report, model=self.title, layers=(*report.layers, *self._left),
            parameters=parameters_of(self._written(converted).graph),
            parameters_before=parameters_of(self.model.graph),
            untied=(*report.untied, *self._ties_outside(converted)),
        )  # fmt: skip

    def timed(self, report: Report, content: bytes, shapes: Any, repeats: int) -> Report:
        """Add the time and outputs of the converted file in ONNX Runtime next to the original's."""
        plan = self.module.plan
        if shapes is None and len(plan.examples) == len(plan.inputs):
            shapes = [plan.examples[name].shape for name in plan.inputs]
        if not repeats or shapes is None or importlib.util.find_spec("onnxruntime") is None:
            return report
        sizes = [tuple(s.shape) if isinstance(s, torch.Tensor) else tuple(s) for s in shapes]
        said = ", ".join("x".join(map(str, s)) or "a number" for s in sizes)
        is_data = len(plan.examples) == len(plan.inputs)
        inputs = example_inputs(self.model, sizes, plan.examples, self.title)
        times = compared(self.model.SerializeToString(), content, inputs, repeats)
        batch = "one sample" if all(s[:1] in ((), (1,)) for s in sizes[:1]) else "one batch"
        kind = "of data" if is_data else "of random numbers"
        return replace(
            report,
            comparison=RuntimeComparison("ONNX Runtime", f"{batch} {kind}, {said}", *times),
        )

    def _ties_outside(self, converted: nn.Module) -> Iterator[tuple[str, ...]]:
        """Yield converted layers whose weights a node that is not converted reads too."""
        nodes = dict(nodes_with_place(self.model.graph))
        users: dict[str, list[str]] = {}
        calls = {c.place for c in self._calls}
        for place, node in nodes.items():
            if place not in calls:
                for name in node.input:
                    users.setdefault(name, []).append(node.name or node.output[0])
        seen = set()
        for call in self._calls:
            weights = nodes[call.place].input[1]
            changed = isinstance(converted.get_submodule(call.layer), FactoredConv)
            if changed and call.layer not in seen and weights in users:
                seen.add(call.layer)
                yield (f"{call.layer}.weight", *users[weights])


class _Remembered:
    """Batches of data, the first of which is kept for sizes that depend on values."""

    def __init__(self, batches: Iterable[Any], module: OnnxGraph) -> None:
        self._batches = batches
        self._module = module

    def __iter__(self) -> Iterator[Any]:
        for at, batch in enumerate(self._batches):
            if at == 0 and isinstance(batch, tuple):
                self._module.plan.remember(batch)
            yield batch


def read_onnx(path: Path) -> Source:
    """Read an ONNX model.

    Raises
    ------
    FileError, ArgumentError
        If it is damaged, of an old opset, or refers to files outside its folder.
    """
    return OnnxSource(path.name, load(path))


def _refusal_inside(node: Any) -> str:
    """Return the reason why convolutions in the graphs of a node are left alone."""
    if node.op_type == "If":
        return ""
    return f"inside the {node.op_type} `{node.name or node.output[0]}`, which runs it several times"


def _kinds(model: Any) -> str:
    kinds = dict.fromkeys(node.op_type for _, node in nodes_with_place(model.graph))
    return _some(list(kinds)) if kinds else "none"


def _some(names: list[str]) -> str:
    """Return the first names of a list, and how many there are more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _module_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return a path of modules for the name of a node, whose parts slashes separate.

    Examples
    --------
    >>> _module_name("/model.4/conv/Conv", {}), _module_name("/a/b/c", {"a.b": None})
    ('model_4.conv.Conv', 'a_b_c')
    """
    parts = [part.replace(".", "_") for part in name.split("/") if part] or ["conv"]
    parts = [f"{part}_" if hasattr(nn.Module, part) else part for part in parts]
    found, at = ".".join(parts), 1
    if any(found.startswith(f"{t}.") or t.startswith(f"{found}.") for t in taken):
        parts = ["_".join(parts)]
        found = parts[0]
    while found in taken:
        at += 1
        found = f"{'.'.join(parts)}_{at}"
    return found
