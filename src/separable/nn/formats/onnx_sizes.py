"""Shapes and multiplications within an ONNX graph: inferred, or measured in one run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.nn.formats.onnx_constants import nested_graphs
from separable.nn.formats.onnx_layers import CONVOLUTIONS, Call
from separable.nn.formats.onnx_reading import graph_inputs, inferred_shapes
from separable.nn.formats.onnx_stages import Place, Scope, Stages

__all__ = ["GraphSizes", "example_inputs", "node_multiplications", "nodes_with_place", "sizes_of"]

Array = NDArray[Any]
Shape = tuple[int, ...]
Measured = list[tuple[Place, Any, Mapping[str, Shape]]]
RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
# Position of the second operand of each matrix product.
PRODUCTS = {
    "MatMul": 1, "Gemm": 1, "MatMulInteger": 1, "QLinearMatMul": 3, "FusedMatMul": 1,
    "FusedGemm": 1, "Einsum": 1,
}  # fmt: skip
CONVOLVED = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv")


@dataclass(frozen=True)
class GraphSizes:
    """Sizes of one call of a graph.

    Attributes
    ----------
    calls : tuple of (Call, tuple of int)
        The convolutions that run, with the shapes of their inputs.
    others : int
        Multiplications of all other nodes.
    """

    calls: tuple[tuple[Call, Shape], ...]
    others: int


def sizes_of(
    model: Any, calls: Sequence[Call], inputs: Sequence[Shape],
    examples: Mapping[str, Array], title: str,
) -> GraphSizes:  # fmt: skip
    """Return the sizes within a graph for the given shapes of its inputs.

    They are inferred by ONNX where that is possible. Where sizes depend on values, for instance if
    a Reshape reads what Shape, Slice and Concat computed, onnxruntime runs the graph once.

    Parameters
    ----------
    model : onnx.ModelProto
    calls : sequence of Call
    inputs : sequence of tuple of int
    examples : mapping of str to ndarray
        Known values of inputs; all others are made up.
    title : str
        Name of the model, for messages.

    Raises
    ------
    ArgumentError
        If the graph does not take these inputs, or onnxruntime is needed and not installed.
    """
    known = inferred_shapes(model, inputs, title)
    nodes = {place: node for place, node in nodes_with_place(model.graph) if _counts(node)}
    flat = all(len(place) == 1 for place in nodes)
    if flat and all(name in known for node in nodes.values() for name in _operands(node)):
        found: Measured = [(place, node, known) for place, node in nodes.items()]
    else:
        found = _measured(model, nodes, example_inputs(model, inputs, examples, title), title)
    by_place = {call.place: call for call in calls}
    taken, others = [], 0
    for place, node, shapes in found:
        if place in by_place:
            taken.append((by_place[place], shapes[node.input[0]]))
        else:
            others += node_multiplications(node, shapes)
    return GraphSizes(tuple(taken), others)


def nodes_with_place(graph: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield all nodes, also those of nested graphs, with the way to them as in `Call`."""
    for at, node in enumerate(graph.node):
        yield (*place, at), node
        for name, inner in nested_graphs(node):
            yield from nodes_with_place(inner, (*place, at, name))


def _counts(node: Any) -> bool:
    kind = node.op_type
    return kind in CONVOLUTIONS or kind in RECURRENT or kind in PRODUCTS


def _operands(node: Any) -> list[str]:
    """Return the values whose shapes decide on the multiplications of a node."""
    count = 3 if node.op_type in RECURRENT else 2
    inputs = [*node.input[:count]]
    if node.op_type in ("QLinearConv", "QLinearMatMul"):
        inputs = [node.input[0], node.input[3]]
    return [name for name in (*inputs, *node.output[:1]) if name]


def _measured(
    model: Any, nodes: Mapping[Place, Any], inputs: dict[str, Array], title: str
) -> Measured:
    """Run a graph once and return the nodes that ran with the shapes of their values."""
    found: Measured = []

    def watch(place: Place, node: Any, shapes: Mapping[str, Shape]) -> None:
        found.append((place, node, shapes))

    opened = {place[:k] for place in nodes for k in range(1, len(place)) if _is_node(place[:k])}
    ifs = {p for p, node in nodes_with_place(model.graph) if p in opened and node.op_type == "If"}
    # Within a loop, the number of runs is not known before the data are.
    watched = {p: n for p, n in nodes.items() if _prefixes(p) <= ifs}
    stages = Stages(Scope(model, [model.graph]), {}, ifs, watch, watched)
    try:
        stages.run(dict(inputs), lambda call, value: value)
    except RuntimeError as problem:
        shapes = ", ".join(f"{n} {'x'.join(map(str, a.shape))}" for n, a in inputs.items())
        raise ArgumentError(
            f"the sizes within {title} follow from a run only, which fails for made-up inputs "
            f"({shapes}): {problem}. Give other sizes with --input-shape, with the value of each "
            "input without axes, or real inputs with --data"
        ) from None
    return found


def _is_node(place: Place) -> bool:
    return isinstance(place[-1], int)


def _prefixes(place: Place) -> set[Place]:
    """Return the places of the nodes around a node."""
    return {place[:k] for k in range(1, len(place)) if _is_node(place[:k])}


def example_inputs(
    model: Any, shapes: Sequence[Shape], examples: Mapping[str, Array], title: str
) -> dict[str, Array]:
    """Return inputs of the given shapes: known values, normal random numbers, or zeros for integers.

    Raises
    ------
    ArgumentError
        If an input is not a tensor of numbers.
    """
    from onnx import helper  # optional dependency

    generator = np.random.default_rng(0)
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    found = {}
    for (name, _), shape in zip(graph_inputs(model.graph), shapes, strict=True):
        kind = helper.tensor_dtype_to_np_dtype(kinds[name]) if kinds[name] else np.dtype("O")
        if kind.kind not in "biuf":
            raise ArgumentError(
                f"the input `{name}` of {title} does not hold numbers, so no example can be made up"
            )
        known = examples.get(name)
        if (
            known is not None
            and known.ndim == len(shape)
            and np.all(known.shape >= np.array(shape))
        ):
            found[name] = np.asarray(known[tuple(slice(n) for n in shape)], kind)
        elif kind.kind == "f":
            found[name] = generator.standard_normal(shape).astype(kind)
        else:
            found[name] = np.zeros(shape, kind)
    return found


def node_multiplications(node: Any, known: Mapping[str, Shape]) -> int:
    """Count the multiplications of a matrix product, convolution or recurrent layer.

    Parameters
    ----------
    node : onnx.NodeProto
    known : mapping of str to tuple of int
        The shapes of values.

    Returns
    -------
    int
        0 for other nodes, and if a shape is unknown.
    """
    kind = node.op_type
    if not _counts(node) or any(name not in known for name in _operands(node)):
        return 0
    first = known[node.input[0]]
    out = known[node.output[0]] if node.output and node.output[0] else ()
    if kind in RECURRENT:  # (steps, batch, in); weights (directions, gates, in or hidden)
        return math.prod(first[:2]) * sum(math.prod(known[n]) for n in node.input[1:3])
    second = known[_operands(node)[1]]
    if kind == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    if kind in CONVOLVED:
        return math.prod(out) * math.prod(second[1:])
    if kind == "Einsum":
        return _einsum(node, first, second)
    if kind in PRODUCTS:
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(out) * first[-2 if turned else -1]
    return 0


def _einsum(node: Any, first: Shape, second: Shape) -> int:
    """Count a product of two tensors: one multiplication per value of all letters."""
    text = next((a.s.decode() for a in node.attribute if a.name == "equation"), "")
    terms = text.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for letters, shape in zip(terms, (first, second), strict=False):
        if "." in letters or len(letters) != len(shape):
            return 0
        sizes |= dict(zip(letters, shape, strict=True))
    return math.prod(sizes.values()) if len(terms) == 2 else 0
