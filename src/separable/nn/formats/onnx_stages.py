"""Order of execution of an ONNX graph: convolutions, branches, and nodes that onnxruntime runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.distribution import install_command
from separable.errors import ArgumentError
from separable.nn.formats.onnx_constants import nested_graphs
from separable.nn.formats.onnx_layers import Call
from separable.nn.formats.onnx_reading import used_names

__all__ = ["Place", "Scope", "Segment", "Stages", "array_of", "session"]

Array = NDArray[Any]
Place = tuple[int | str, ...]
Convolve = Callable[[Call, Any], Any]
Watch = Callable[[Place, Any, Mapping[str, tuple[int, ...]]], None]


class Scope:
    """Graph with the graphs around it, whose weights its nodes can read.

    Parameters
    ----------
    model : onnx.ModelProto
    graphs : sequence of onnx.GraphProto
        The outermost graph first.
    place : tuple of int or str
        Way to the graph, as in `Call`.
    """

    def __init__(self, model: Any, graphs: Sequence[Any], place: Place = ()) -> None:
        self.model = model
        self.graphs = tuple(graphs)
        self.place = place

    @property
    def graph(self) -> Any:
        """The graph itself."""
        return self.graphs[-1]

    def inner(self, at: int, name: str, graph: Any) -> Scope:
        """Return the scope of a graph in an attribute of a node."""
        return Scope(self.model, (*self.graphs, graph), (*self.place, at, name))

    def stored(self) -> set[str]:
        """Return the names of all weights that the nodes can read."""
        found = {t.name for g in self.graphs for t in g.initializer}
        return found | {t.values.name for g in self.graphs for t in g.sparse_initializer}


class Stages:
    """Stages of a graph, and the values that are no longer needed after each.

    Parameters
    ----------
    scope : Scope
    calls : mapping of place to Call
        Convolutions that modules run.
    opened : collection of place
        Nodes of type If whose branches are run by stages of their own.
    watch : function, optional
        Function of the place of a node, the node, and the shapes of its values. It is called for
        every node in `watched` that runs.
    watched : collection of place
    """

    def __init__(
        self,
        scope: Scope,
        calls: Mapping[Place, Call],
        opened: Collection[Place],
        watch: Watch | None = None,
        watched: Collection[Place] = (),
    ) -> None:
        self.scope = scope
        self.outputs = [value.name for value in scope.graph.output]
        self._calls = calls
        self._opened = opened
        self._watch = watch
        self._watched = watched
        self.stages = self._ordered()
        self.gone = self._unneeded()

    def _ordered(self) -> list[Call | _Branch | Segment]:
        """Return calls and branches, and the nodes between two of them as one stage."""
        stages: list[Call | _Branch | Segment] = []
        waiting: list[Any] = []
        watched: list[tuple[Place, Any]] = []
        for at, node in enumerate([*self.scope.graph.node, None]):
            place = (*self.scope.place, at)
            alone = node is None or place in self._calls or place in self._opened
            if not alone:
                waiting.append(node)
                watched += [(place, node)] if place in self._watched else []
                continue
            if waiting:
                stages.append(Segment(self.scope, waiting, watched, self._watch))
                waiting, watched = [], []
            if place in self._calls:
                stages.append(self._calls[place])
            elif place in self._opened:
                stages.append(_Branch(self.scope, node, self._branches(at, node)))
        needed = set(self.outputs)
        for stage in reversed(stages):
            if isinstance(stage, Segment):
                stage.wanted = sorted(stage.made & needed)
            needed |= _taken(stage)
        return [s for s in stages if not isinstance(s, Segment) or s.wanted or s.watched]

    def _branches(self, at: int, node: Any) -> dict[str, Stages]:
        return {
            name: Stages(
                self.scope.inner(at, name, graph), self._calls, self._opened, self._watch,
                self._watched,
            )
            for name, graph in nested_graphs(node)
        }  # fmt: skip

    def _unneeded(self) -> list[list[str]]:
        kept = set(self.outputs)
        found: list[list[str]] = []
        for stage in reversed(self.stages):
            taken = _taken(stage)
            found.append(sorted((taken | _made(stage)) - kept))
            kept |= taken
        return found[::-1]

    def run(self, values: dict[str, Any], convolve: Convolve) -> dict[str, Any]:
        """Run all stages; values that are no longer needed are released.

        Parameters
        ----------
        values : dict of str to value
            The inputs; changed.
        convolve : function
            Function of a call and its input.
        """
        for stage, gone in zip(self.stages, self.gone, strict=True):
            if isinstance(stage, Call):
                values[stage.target] = convolve(stage, values[stage.source])
            else:
                values |= stage.run(values, convolve)
            for name in gone:
                values.pop(name, None)
        return values


class _Branch:
    """Node of type If: one of its graphs runs."""

    def __init__(self, scope: Scope, node: Any, branches: Mapping[str, Stages]) -> None:
        self.scope = scope
        self.condition = node.input[0]
        self.targets = list(node.output)
        self.branches = branches
        self.taken = used_names([node])

    def run(self, values: Mapping[str, Any], convolve: Convolve) -> dict[str, Any]:
        """Return the outputs of the branch that the condition selects."""
        found = values[self.condition] if self.condition in values else self._stored()
        condition = bool(np.asarray(array_of(found)).reshape(-1)[0])
        stages = self.branches["then_branch" if condition else "else_branch"]
        inner = stages.run(dict(values), convolve)
        return {
            target: inner[name]
            for target, name in zip(self.targets, stages.outputs, strict=False)
            if target and name in inner
        }

    def _stored(self) -> Array:
        """Return a condition that is a weight of the model."""
        from onnx import numpy_helper  # optional dependency

        tensors = {t.name: t for graph in self.scope.graphs for t in graph.initializer}
        return np.asarray(numpy_helper.to_array(tensors[self.condition]))


class Segment:
    """Nodes that onnxruntime runs together; the session is created at the first run."""

    def __init__(
        self,
        scope: Scope,
        nodes: Sequence[Any],
        watched: Sequence[tuple[Place, Any]],
        watch: Watch | None,
    ) -> None:
        self.scope = scope
        self.nodes = list(nodes)
        self.watched = list(watched)
        self.watch = watch
        self.made = {name for node in nodes for name in node.output if name}
        stored = scope.stored()
        used = used_names(nodes)
        self.stored = used & stored
        self.taken = used - self.made - stored
        self.wanted: list[str] = []
        self._measured: dict[str, str] = {}
        self._session: Any = None

    def run(self, values: Mapping[str, Any], convolve: Convolve) -> dict[str, Any]:
        """Return the values that later stages or the graph's outputs need."""
        arrays = {name: array_of(values[name]) for name in sorted(self.taken) if name in values}
        if self._session is None:
            self._session = self._ready(arrays)
        names = [*self.wanted, *self._measured.values()]
        try:
            results = dict(zip(names, self._session.run(names, arrays), strict=True))
        except Exception as problem:  # onnxruntime has its own exceptions
            raise RuntimeError(f"onnxruntime: {problem}") from None
        if self.watch is not None:
            shapes = {n: tuple(results[m].tolist()) for n, m in self._measured.items()}
            shapes |= {n: a.shape for n, a in arrays.items() if hasattr(a, "shape")}
            shapes |= {t.name: tuple(t.dims) for g in self.scope.graphs for t in g.initializer}
            for place, node in self.watched:
                self.watch(place, node, shapes)
        return {name: results[name] for name in self.wanted}

    def _ready(self, arrays: Mapping[str, Array]) -> Any:
        import onnx  # optional dependency
        from onnx import helper

        whole = self.scope.model
        model = onnx.ModelProto(ir_version=whole.ir_version)
        model.opset_import.extend(whole.opset_import)
        model.functions.extend(whole.functions)
        graph = model.graph
        graph.name = "segment"
        graph.node.extend(self.nodes)
        for around in self.scope.graphs:
            graph.initializer.extend(t for t in around.initializer if t.name in self.stored)
            graph.sparse_initializer.extend(
                t for t in around.sparse_initializer if t.values.name in self.stored
            )
        for name, array in arrays.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, None))
        # Only the shapes of watched values are results, so that no activation is kept.
        values = [v for _, node in self.watched for v in (*node.input, *node.output)]
        for at, name in enumerate(sorted(set(values) & self.made)):
            self._measured[name] = f"separable_shape_{at}"
            graph.node.append(helper.make_node("Shape", [name], [self._measured[name]]))
        names = [*self.wanted, *self._measured.values()]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        return session(model, torch.get_num_threads(), spins=False)


def _taken(stage: Call | _Branch | Segment) -> set[str]:
    return {stage.source} if isinstance(stage, Call) else stage.taken


def _made(stage: Call | _Branch | Segment) -> set[str]:
    if isinstance(stage, Call):
        return {stage.target}
    return set(stage.wanted) if isinstance(stage, Segment) else set(stage.targets)


def session(model: Any, threads: int = 0, *, spins: bool = True) -> Any:
    """Return an onnxruntime session of a model or of a file's bytes.

    Parameters
    ----------
    model : onnx.ModelProto or bytes
    threads : int
        Number of threads; 0 leaves it to onnxruntime.
    spins : bool
        Whether its threads keep a processor busy for a while after a run, to begin the next one sooner.
        Between two convolutions that PyTorch runs they would take its processors.

    Raises
    ------
    ArgumentError
        If onnxruntime is missing or does not take it.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]  # optional dependency
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            "running an ONNX model needs onnxruntime, which is not installed: "
            f"{install_command('convert')}"
        ) from missing
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has its own exceptions
        raise ArgumentError(f"onnxruntime does not take the model: {problem}") from None


def array_of(value: Any) -> Any:
    """Return a tensor as an array; other values are returned unchanged."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
