"""Division of a network's graph into programs, and operators that PyTorch runs between them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx
from torch.fx.node import map_arg

from separable.nn.fused.layout_transpose import last_strides
from separable.nn.fused.program.aliases import is_alias, is_served
from separable.nn.fused.program.operation_table import (
    activation_of,
    addends_of,
    builder_of,
    takes_rows,
)
from separable.nn.fused.program.operations import (
    ROWS,
    Choices,
    Graph,
    NetworkOperation,
    arguments,
    has_rows,
    shape_of,
)
from separable.nn.fused.program.program import Buffer, Place, Program

__all__ = ["Segment", "TorchCall", "Translated", "translate"]

FLOAT_BYTES = 4


@dataclass(eq=False)
class TorchCall:
    """An operator that PyTorch runs.

    Attributes
    ----------
    node : torch.fx.Node
    reads : list of torch.fx.Node
    """

    node: fx.Node
    constants: dict[fx.Node, Any] = field(default_factory=dict)

    @property
    def reads(self) -> list[fx.Node]:
        """Nodes whose values it reads, other than constants."""
        return [n for n in self.node.all_input_nodes if n not in self.constants]

    @property
    def function(self) -> Any:
        """The operator."""
        return self.node.target

    def run(self, values: dict[fx.Node, Any]) -> None:
        """Run the operator, and add its result to the values."""

        def value(n: fx.Node) -> Any:
            return values[n] if n in values else self.constants[n]

        values[self.node] = self.function(
            *map_arg(self.node.args, value), **map_arg(self.node.kwargs, value)
        )


@dataclass(eq=False)
class Segment:
    """Operations that one program runs.

    Attributes
    ----------
    operations : list of NetworkOperation
    reads, writes : list of torch.fx.Node
        Values that it takes from outside, and gives to others.
    """

    operations: list[NetworkOperation]
    reads: list[fx.Node] = field(default_factory=list)
    writes: list[fx.Node] = field(default_factory=list)

    def program(self, threads: int, alias: Callable[[fx.Node], fx.Node]) -> Program:
        """Return the program; its tensors are those that it reads, then those that it writes."""
        outer = {n: Buffer(0, i) for i, n in enumerate((*self.reads, *self.writes))}
        buffers: dict[fx.Node, Buffer] = dict(outer)

        def buffer_of(node: fx.Node) -> Buffer:
            if node not in buffers:
                buffers[node] = Buffer(math.prod(shape_of(node)) * FLOAT_BYTES)
            return buffers[node]

        def place_of(node: fx.Node) -> Place:
            return Place(buffer_of(alias(node)))

        steps = [
            step
            for operation in self.operations
            for step in operation.steps(threads, place_of, Place(buffer_of(operation.node)))
        ]
        return Program(steps, len(outer), threads)


@dataclass(eq=False)
class Translated:
    """Parts of the execution of a network.

    Attributes
    ----------
    inputs : list of torch.fx.Node
    parts : list of Segment or TorchCall
    output : Any
        Nodes of the results, in the structure that the network returns them.
    constants : dict of torch.fx.Node to Any
    """

    inputs: list[fx.Node]
    parts: list[Segment | TorchCall]
    output: Any
    constants: dict[fx.Node, Any]
    aliases: dict[fx.Node, fx.Node]

    @property
    def segments(self) -> list[Segment]:
        """The parts that programs run."""
        return [p for p in self.parts if isinstance(p, Segment)]

    def alias(self, node: fx.Node) -> fx.Node:
        """Return the node whose memory a node's value has in a program."""
        return _source(self.aliases, node)


def _source(aliases: Mapping[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
    """Return the node at the beginning of a chain of aliases."""
    while node in aliases:
        node = aliases[node]
    return node


def translate(module: fx.GraphModule, packed: dict[Any, Any], choices: Choices) -> Translated:
    """Divide a graph into programs and operators of PyTorch.

    Parameters
    ----------
    module : torch.fx.GraphModule
    packed : dict
        Packed weights, which this adds to.
    choices : Choices
    """
    return _Translation(Graph(module, packed, choices)).result()


class _Translation:
    """State of one translation."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self._by_torch = graph, graph.choices.by_torch
        self.nodes = list(graph.module.graph.nodes)
        self.output = self.nodes[-1]
        self.operations: dict[fx.Node, NetworkOperation] = {}
        self.aliases: dict[fx.Node, fx.Node] = {}
        self.constants: dict[fx.Node, Any] = {}

    def result(self) -> Translated:
        """Return the parts."""
        for node in self.nodes:
            self._classify(node)
        by_torch = self._needed()
        parts = self._parts(by_torch)
        inputs = [n for n in self.nodes if n.op == "placeholder"]
        made = Translated(inputs, parts, self.output.args[0], self.constants, self.aliases)
        _connect(made)
        return made

    def _classify(self, node: fx.Node) -> None:
        """Find the operation that a node becomes, if any."""
        constant = self.graph.constant(node)
        if constant is not None:
            self.constants[node] = constant
            return
        if node.op != "call_function" or not is_served(node) or node.name in self._by_torch:
            return
        if is_alias(node):
            self.aliases[node] = arguments(node)[0]
            return
        if self._takes_up(node):
            return
        rows = {has_rows(n) for n in self._values_read(node)}
        if True in rows and (False in rows or not takes_rows(node)):
            return  # programs hold the two kinds of values in different orders
        node.meta[ROWS] = True in rows
        builder = builder_of(node)
        found = None if builder is None else builder(self.graph, node)
        if found is None or not all(is_served(n) for n in found.inputs):
            node.meta[ROWS] = False
            return
        before = self._alias(found.inputs[0])
        if before in self.operations and self._is_only_reader(before, node):
            joined = found.with_expansion(self.operations[before])
            if joined is not None:
                del self.operations[before]
                found = joined
        self.operations[node] = found

    def _values_read(self, node: fx.Node) -> list[fx.Node]:
        """Return the tensors of more than two axes that an operator reads, other than constants."""
        read = list(node.all_input_nodes)
        if node.target is operator.getitem:
            read = list(read[0].all_input_nodes)
        values = [n for n in read if n not in self.constants]
        return [n for n in values if is_served(n) and n.meta["val"].dim() > 2]

    def _takes_up(self, node: fx.Node) -> bool:
        """Join an activation or an addition with the operation before it, if that can take it up."""
        act, addends = activation_of(node), addends_of(node)
        for i, value in enumerate(node.all_input_nodes[:1] if act is not None else addends):
            before = self._alias(value)
            if before not in self.operations or not self._is_only_reader(before, node):
                continue
            if value.meta["val"].shape != node.meta["val"].shape:
                continue
            operation = self.operations[before]
            if act is not None:
                made = operation.with_activation(node, act)
            elif is_served(addends[1 - i]):
                made = operation.with_addition(node, addends[1 - i])
            else:
                made = None
            if made is not None:
                del self.operations[before]
                node.meta[ROWS] = has_rows(value)
                self.operations[node] = made
                return True
        return False

    def _alias(self, node: fx.Node) -> fx.Node:
        return _source(self.aliases, node)

    def _is_only_reader(self, value: fx.Node, reader: fx.Node) -> bool:
        """Return whether a value and its aliases are read by one node only."""
        users = list(value.users)
        while users:
            user = users.pop()
            if user in self.aliases:
                users += list(user.users)
            elif user is not reader:
                return False
        return True

    def _needed(self) -> set[fx.Node]:
        """Return the nodes that PyTorch runs; operations that nobody needs are dropped."""
        wanted: list[tuple[fx.Node, bool]] = [(n, True) for n in self.output.all_input_nodes]
        seen: set[tuple[fx.Node, bool]] = set()
        by_torch: set[fx.Node] = set()
        used: set[fx.Node] = set()
        while wanted:
            node, as_tensor = wanted.pop()
            if not as_tensor:  # a program needs the memory only
                node = self._alias(node)
            if (node, as_tensor) in seen or node in self.constants or node.op != "call_function":
                continue
            seen.add((node, as_tensor))
            if node in self.operations:
                used.add(node)
                wanted += [(n, False) for n in self.operations[node].inputs]
            else:
                by_torch.add(node)
                wanted += [(n, True) for n in node.all_input_nodes]
        self.operations = {n: o for n, o in self.operations.items() if n in used}
        return by_torch

    def _parts(self, by_torch: set[fx.Node]) -> list[Segment | TorchCall]:
        """Collect operations in segments, in the order of the graph."""
        parts: list[Segment | TorchCall] = []
        current: Segment | None = None
        inside: set[fx.Node] = set()  # what depends on the current segment
        for node in self.nodes:
            if node in self.operations:
                if current is None:
                    current = Segment([])
                    inside = set()
                current.operations.append(self.operations[node])
                inside.add(node)
            elif node in by_torch:
                call = TorchCall(
                    node,
                    {n: self.constants[n] for n in node.all_input_nodes if n in self.constants},
                )
                if current is not None and any(
                    self._alias(n) in inside or n in inside for n in call.reads
                ):
                    parts.append(current)
                    current = None
                parts.append(call)
        if current is not None:
            parts.append(current)
        return parts


def _connect(made: Translated) -> None:
    """Set what segments read from outside and what others need of them."""
    wanted: set[fx.Node] = set(_nodes_of(made.output))
    for part in made.parts:
        if isinstance(part, TorchCall):
            wanted.update(part.reads)
    for segment in made.segments:
        own = {o.node for o in segment.operations}
        for operation in segment.operations:
            for n in operation.inputs:
                source = made.alias(n)
                if source not in own and source not in segment.reads:
                    segment.reads.append(source)
        wanted.update(segment.reads)
    for segment in made.segments:
        segment.writes = [o.node for o in segment.operations if o.node in wanted]


def _nodes_of(tree: Any) -> Iterable[fx.Node]:
    found: list[fx.Node] = []
    map_arg(tree, found.append)
    return found


def strides_in_program(node: fx.Node) -> tuple[int, ...]:
    """Return the strides of a node's value in memory as programs read and write it."""
    shape = tuple(node.meta["val"].shape)
    if len(shape) > 2 and not has_rows(node):
        return last_strides(shape)
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return tuple(steps)
