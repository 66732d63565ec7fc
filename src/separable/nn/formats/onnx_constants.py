"""Constants of ONNX graphs: stored values, and weights computed from them by a few nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Constants", "nested_graphs", "standard"]

Array = NDArray[Any]
LONGEST = 64  # nodes between a stored value and the weights computed from it
RESHAPING = frozenset((
    "Identity", "Cast", "CastLike", "DequantizeLinear", "Transpose", "Reshape", "Squeeze",
    "Unsqueeze", "Flatten",
))  # fmt: skip
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))
FIELDS = ("value_float", "value_floats", "value_int", "value_ints")


class Constants(Mapping[str, Array]):
    """Values of a graph that do not depend on its inputs, by name.

    They are initialisers, values of Constant nodes, and what nodes of the kinds in `RESHAPING` and
    `ARITHMETIC` compute from those, for instance weights that are stored as 8-bit integers. The
    latter are computed when they are asked for. None of these nodes makes more numbers than it
    reads, so no file can fill the memory.

    Parameters
    ----------
    graph : onnx.GraphProto
    opset : int
        Version of the standard operators.
    outer : Constants, optional
        Constants of the graph around it, which a nested graph can read.
    """

    def __init__(self, graph: Any, opset: int, outer: Constants | None = None) -> None:
        self._opset = opset
        self._outer = outer
        self._stored = {t.name: t for t in graph.initializer}
        self._makers: dict[str, Any] = {}
        self._values: dict[str, Array] = {}
        self._computable: dict[str, bool] = {}  # False after a failure, which is not tried again
        for node in graph.node:
            if not standard(node) or len(node.output) != 1:
                continue
            name = node.output[0]
            if node.op_type == "Constant":
                self._keep_constant(name, node)
            elif node.op_type in RESHAPING | ARITHMETIC:
                self._makers[name] = node

    def _keep_constant(self, name: str, node: Any) -> None:
        from onnx import helper  # optional dependency

        for attribute in node.attribute:
            if attribute.name == "value":
                self._stored[name] = attribute.t
            elif attribute.name in FIELDS:
                value = helper.get_attribute_value(attribute)
                kind = np.float32 if "float" in attribute.name else np.int64
                self._values[name] = np.asarray(value, kind)

    def __getitem__(self, name: str) -> Array:
        found = self._value(name, LONGEST)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter({**self._stored, **self._values})

    def __len__(self) -> int:
        return len({**self._stored, **self._values})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._value(name, LONGEST) is not None

    def owner(self, name: str) -> int:
        """Return a number for the graph that defines a name, which branches may use once each."""
        own = name in self._stored or name in self._values or name in self._makers
        return id(self) if own or self._outer is None else self._outer.owner(name)

    def _value(self, name: str, depth: int) -> Array | None:
        from onnx import numpy_helper  # optional dependency

        if name in self._values:
            return self._values[name]
        found: Array | None = None
        if name in self._stored:
            found = np.asarray(numpy_helper.to_array(self._stored[name]))
        elif name in self._makers and depth and self._computable.get(name, True):
            self._computable[name] = False  # also ends cycles
            found = self._computed(self._makers[name], depth - 1)
        elif self._outer is not None and name not in self._makers:
            return self._outer._value(name, depth)
        if found is not None:
            self._values[name] = found
        return found

    def _computed(self, node: Any, depth: int) -> Array | None:
        """Return the output of a node, or None if its inputs are not constant."""
        from onnx.reference import ReferenceEvaluator  # optional dependency

        inputs = {name: self._value(name, depth) for name in node.input if name}
        if not inputs or any(value is None for value in inputs.values()):
            return None
        arrays = [value for value in inputs.values() if value is not None]
        if node.op_type in ARITHMETIC:
            shape = np.broadcast_shapes(*(a.shape for a in arrays))
            if np.prod(shape) > max(a.size for a in arrays):
                return None
        try:
            (found,) = ReferenceEvaluator(node, opsets={"": self._opset}).run(None, inputs)
        except Exception:  # the evaluator raises arbitrary exceptions for wrong nodes
            return None
        return np.asarray(found)


def standard(node: Any) -> bool:
    """Return True for an operator of ONNX itself."""
    return node.domain in ("", "ai.onnx")


def nested_graphs(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the graphs in a node's attributes with their names."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for at, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}_{at}", graph
