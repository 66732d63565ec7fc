"""Predicted times of programs beside PyTorch's own operators, from the profile of this computer."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from separable.cost import Convolution
from separable.errors import MachineError
from separable.nn.fused.program.executor import Execution, RunSegment
from separable.nn.fused.program.measurement import SegmentTime, name_of, operators_of
from separable.nn.fused.program.operations import arguments
from separable.nn.step_times.layer_profile import LayerProfile
from separable.nn.step_times.operation_folding import PROGRAM_RULES, folded_steps
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.step_times.step_work import PRODUCTS, work_of

__all__ = ["predicted_times"]

PYTORCH, PROGRAMS = "torch", "fused"
ITEM = 4  # bytes of a float32
_aten, _own = torch.ops.aten, torch.ops.separable
Shape = tuple[int, ...]


def predicted_times(
    execution: Execution, names: dict[int, str], profile: LayerProfile
) -> list[SegmentTime]:
    """Return the predicted time of each segment of an execution beside PyTorch's operators.

    Segments with an operator of unknown sizes are left out, and so are all if the profile lacks one of the two.

    Parameters
    ----------
    execution : Execution
    names : dict of int to str
        Names of modules by the addresses of their weights.
    profile : LayerProfile
    """
    translated = execution.translated
    assert translated is not None
    found = []
    for part in execution.parts:
        if not isinstance(part, RunSegment):
            continue
        nodes = operators_of(part, translated)
        operations = _Recorded(nodes).operations
        if operations is None:
            continue
        try:
            steps = folded_steps(operations, PROGRAM_RULES)
            own = sum(profile.predict(PROGRAMS, step.work).seconds for step in steps)
            eager = sum(profile.predict(PYTORCH, work_of(o)).seconds for o in operations)
        except MachineError:
            return []
        own += profile.calls.get(PROGRAMS, 0.0)
        name, count = name_of(part.segment.operations, names), len(part.program.steps)
        kept = frozenset(n.name for n in nodes)
        found.append(SegmentTime(name, count, own, eager, kept, is_predicted=True))
    return found


class _Recorded:
    """Operations of PyTorch that the operators of a recorded graph stand for.

    Attributes
    ----------
    operations : list of RecordedOperation or None
        None if the work of an operator is not known.
    """

    def __init__(self, nodes: Sequence[fx.Node]) -> None:
        self.operations: list[RecordedOperation] | None = []
        self._numbers: dict[fx.Node, int] = {}
        self._values = 0
        for node in nodes:
            if node.target is operator.getitem:  # one of several results
                self._numbers[node] = self._number(arguments(node)[0])
            elif not self._take(node):
                self.operations = None
                return

    def _take(self, node: fx.Node) -> bool:
        """Add what an operator stands for; return whether it is known."""
        target: Any = node.target
        if target is _aten.convolution.default:
            x, weight, bias, stride, padding, dilation, transposed, _, groups = arguments(node)
            if transposed:
                return False
            both = [p for p in padding for _ in range(2)]
            shapes = _shape(x), _shape(weight)
            window = (stride, both, dilation)
            self._convolve(
                shapes, window, groups, bias is not None, self._number(x), self._number(node)
            )
        elif target in (_own.depthwise.default, _own.depthwise_separable.default):
            self._take_layer(node)
        elif hasattr(target, "_schema") and target.namespace == "aten":
            self._take_other(node)
        else:
            return False
        return True

    def _take_layer(self, node: fx.Node) -> None:
        """Add the convolutions and activations of a layer of this library."""
        x, weight, bias, *more = arguments(node)
        given, taps, last = _shape(x), _shape(weight), self._number(node)
        if node.target is _own.depthwise.default:
            *window, act = more
            self._convolve_and_activate(
                (given, taps), window, given[1], bias is not None, self._number(x), last, act
            )
            return
        pointwise, last_bias, *window, between, act = more
        middle, axes = self._fresh(), len(taps) - 2
        shape = self._convolve_and_activate(
            (given, taps), window, given[1], bias is not None, self._number(x), middle, between
        )
        matrix = (*_shape(pointwise)[:2], *[1] * axes)
        ones, none = [1] * axes, [0] * (2 * axes)
        self._convolve_and_activate(
            (shape, matrix), (ones, none, ones), 1, last_bias is not None, middle, last, act
        )

    def _convolve_and_activate(
        self, shapes: tuple[Shape, Shape], window: Any, groups: int, has_bias: bool, source: int,
        target: int, act: str,
    ) -> Shape:  # fmt: skip
        """Add a convolution and the activation after it; return the shape of the result."""
        middle = target if act == "none" else self._fresh()
        shape = self._convolve(shapes, window, groups, has_bias, source, middle)
        if act != "none":
            self._add(
                act.partition("_")[0].replace("relu6", "hardtanh"), [middle], target, [shape], shape
            )
        return shape

    def _convolve(
        self, shapes: tuple[Shape, Shape], window: Any, groups: int, has_bias: bool, source: int, target: int
    ) -> Shape:  # fmt: skip
        """Add a convolution of an input and weights of some shapes; return the shape of the result."""
        given, weight = shapes
        stride, padding, dilation = (tuple(v) for v in window)
        conv = Convolution(
            space=given[2:], channels=given[1], filters=weight[0], kernel=weight[2:], stride=stride,
            padding=tuple(zip(padding[0::2], padding[1::2], strict=True)), dilation=dilation,
            groups=groups, bias=has_bias, batch=given[0],
        )  # fmt: skip
        shape = (given[0], weight[0], *conv.outputs)
        self._add("convolution", [source], target, [given], shape, convolution=conv,
                  macs=conv.multiplications, weight_bytes=math.prod(weight) * ITEM)  # fmt: skip
        return shape

    def _take_other(self, node: fx.Node) -> None:
        """Add an operator of PyTorch that is not a convolution."""
        name = _schema_name(node)
        shapes = [_shape(n) for n in node.all_input_nodes if _first(n) is not None]
        reads = [self._number(n) for n in node.all_input_nodes if n.op != "get_attr"]
        macs, window = 0, 1
        if name in PRODUCTS:
            macs = math.prod(_shape(node)) * shapes[-2][-1]
        if "pool" in name and len(arguments(node)) > 1:
            sizes = arguments(node)[1]
            window = math.prod(sizes if isinstance(sizes, list | tuple) else [sizes])
        self._add(name, reads, self._number(node), shapes, _shape(node), macs=macs, window=window)

    def _add(
        self, name: str, reads: list[int], writes: int, shapes: list[Shape], out: Shape, **more: Any
    ) -> None:
        assert self.operations is not None
        self.operations.append(
            RecordedOperation(
                "", name, read_bytes=sum(map(math.prod, shapes)) * ITEM, written_bytes=math.prod(out) * ITEM,
                reads=tuple(reads), writes=(writes,), input_shapes=tuple(shapes), output_shapes=(out,), **more,
            )
        )  # fmt: skip

    def _fresh(self) -> int:
        """Return the number of a new value."""
        self._values += 1
        return self._values

    def _number(self, node: fx.Node) -> int:
        """Return the number of a node's value."""
        if node not in self._numbers:
            self._numbers[node] = self._fresh()
        return self._numbers[node]


def _first(node: fx.Node) -> Tensor | None:
    """Return a node's value, the first of several, or None if it is not a tensor."""
    found = node.meta.get("val")
    found = found[0] if isinstance(found, list | tuple) and found else found
    return found if isinstance(found, Tensor) else None


def _shape(node: fx.Node) -> Shape:
    found = _first(node)
    return () if found is None else tuple(found.shape)


def _schema_name(node: fx.Node) -> str:
    """Return PyTorch's name of an operator without mark of place and overload."""
    target: Any = node.target
    name: str = target._schema.name.partition("::")[2]
    return name.rstrip("_")
