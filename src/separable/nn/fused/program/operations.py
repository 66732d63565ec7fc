"""Operations of programs: what one operator of a network becomes.

An `Operation` knows the nodes that it reads, takes up an activation or an addition that follows it, and plans its kernel
for one number of threads. `OPERATIONS` says which operators of PyTorch it is made from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from separable.nn.fused.kernel_plan import SOURCE, KernelPlan
from separable.nn.fused.layer_tiling import ACTIVATIONS, layer_plan, pointwise_plan
from separable.nn.fused.operators import settings_of
from separable.nn.fused.packed_layer import PackedLayer, PackedPointwise
from separable.nn.fused.program.network_trace import constant_of

__all__ = ["OPERATIONS", "Graph", "Operation", "Planned", "shape_of"]


@dataclass(frozen=True)
class Planned:
    """A planned kernel: its record and the addresses of its constants by word of the record."""

    plan: KernelPlan
    constants: dict[int, int]


class Graph:
    """A traced network with the constants that its operations pack.

    Parameters
    ----------
    module : torch.fx.GraphModule
    packed : dict
        Packed weights by the constants that they were made of; shared by all shapes of input.
    """

    def __init__(self, module: fx.GraphModule, packed: dict[Any, Any]) -> None:
        self.module, self._packed = module, packed

    def constant(self, node: Any) -> Tensor | None:
        """Return the constant tensor that a node stands for, or None."""
        found: Tensor | None = constant_of(self.module, node)
        return found

    def pack(
        self, build: Callable[..., Any], tensors: tuple[Tensor | None, ...], *more: Any
    ) -> Any:
        """Return packed weights, built once for the same tensors."""
        key = (build, *((0, 0) if t is None else (t.data_ptr(), t.shape) for t in tensors), *more)
        if key not in self._packed:
            self._packed[key] = (
                tensors,
                build(*tensors, *more),
            )  # the tensors keep their addresses
        return self._packed[key][1]


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value."""
    return tuple(node.meta["val"].shape)


@dataclass(frozen=True)
class Operation:
    """What one operator becomes.

    Attributes
    ----------
    node : torch.fx.Node
        The operator whose result this computes.
    inputs : tuple of torch.fx.Node
        Values that it reads, in the order of `words`.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    words: ClassVar[tuple[int, ...]] = (SOURCE,)
    """Words of the record that hold the addresses of the inputs."""
    in_place: ClassVar[bool] = False
    """Whether the result may take the place of the first input."""

    def with_activation(self, node: fx.Node, act: str) -> Operation | None:
        """Return the operation with an activation behind it, computing another node; None if it cannot take it up."""
        return None

    def planned(self, threads: int) -> Planned:
        """Return the kernel."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Weighted(Operation):
    """An operation with packed weights and an activation at its end."""

    packed: Any = None
    act: str = "none"
    again: Callable[[str], Any] = field(default=lambda act: None, compare=False)
    """Packs the weights for another activation."""

    def with_activation(self, node: fx.Node, act: str) -> Operation | None:
        if self.act != "none" or act not in ACTIVATIONS:
            return None
        return replace(self, node=node, act=act, packed=self.again(act))


@dataclass(frozen=True)
class LayerOperation(_Weighted):
    """Depthwise convolution, with or without a pointwise one."""

    def planned(self, threads: int) -> Planned:
        layer: PackedLayer = self.packed
        plan = layer_plan(layer.geometry(shape_of(self.inputs[0]), 4), threads)
        return Planned(plan, dict(enumerate(layer.addresses, start=2)))


@dataclass(frozen=True)
class PointwiseOperation(_Weighted):
    """Convolution of kernel size 1, or a linear layer."""

    def planned(self, threads: int) -> Planned:
        layer: PackedPointwise = self.packed
        positions = math.prod(shape_of(self.node)) // layer.outputs
        plan = pointwise_plan(layer.geometry(positions), threads)
        return Planned(plan, dict(enumerate(layer.addresses, start=2)))


def _arguments(node: fx.Node) -> Any:
    """Return the arguments of an operator; their types are known from its schema only."""
    return node.args


def _depthwise_separable(graph: Graph, node: fx.Node) -> Operation | None:
    x, *weights, stride, padding, dilation, between, act = _arguments(node)
    tensors = tuple(graph.constant(w) for w in weights)
    if tensors[0] is None or tensors[2] is None:
        return None
    channels = shape_of(x)[1]

    def again(act: str) -> Any:
        settings = settings_of(stride, padding, dilation, between, act)
        return graph.pack(PackedLayer, tensors, channels, settings)

    return LayerOperation(node, (x,), again(act), act, again)


def _depthwise(graph: Graph, node: fx.Node) -> Operation | None:
    x, weight, bias, stride, padding, dilation, act = _arguments(node)
    tensors = (graph.constant(weight), graph.constant(bias), None, None)
    channels = shape_of(x)[1]
    if tensors[0] is None or tensors[0].shape[0] != channels:
        return None

    def again(act: str) -> Any:
        settings = settings_of(stride, padding, dilation, act, "none")
        return graph.pack(PackedLayer, tensors, channels, settings)

    return LayerOperation(node, (x,), again(act), act, again)


def _convolution(graph: Graph, node: fx.Node) -> Operation | None:
    x, weight, bias, stride, padding, _, transposed, _, groups = _arguments(node)
    tensors = (graph.constant(weight), graph.constant(bias))
    if tensors[0] is None or transposed or (bias is not None and tensors[1] is None):
        return None
    plain = all(s == 1 for s in stride) and not any(padding) and groups == 1
    if not plain or any(k != 1 for k in tensors[0].shape[2:]):
        return None
    return _pointwise(graph, node, x, tensors)


def _pointwise(
    graph: Graph, node: fx.Node, x: fx.Node, tensors: tuple[Tensor | None, ...]
) -> Operation:
    def again(act: str) -> Any:
        return graph.pack(PackedPointwise, tensors, ACTIVATIONS.index(act))

    return PointwiseOperation(node, (x,), again("none"), "none", again)


def _addmm(graph: Graph, node: fx.Node) -> Operation | None:
    bias, x, weight = _arguments(node)
    matrix, start = graph.constant(weight), graph.constant(bias)
    if matrix is None or start is None or node.kwargs or start.dim() != 1:
        return None
    return _pointwise(graph, node, x, (matrix.t(), start))


def _mm(graph: Graph, node: fx.Node) -> Operation | None:
    x, weight = _arguments(node)
    matrix = graph.constant(weight)
    return None if matrix is None else _pointwise(graph, node, x, (matrix.t(), None))


_aten, _own = torch.ops.aten, torch.ops.separable
OPERATIONS: dict[Any, Callable[[Graph, fx.Node], Operation | None]] = {
    _own.depthwise_separable.default: _depthwise_separable,
    _own.depthwise.default: _depthwise,
    _aten.convolution.default: _convolution,
    _aten.addmm.default: _addmm,
    _aten.mm.default: _mm,
}
ACTIVATION_NAMES: dict[Any, str] = {
    _aten.relu.default: "relu", _aten.silu.default: "silu", _aten.hardswish.default: "hardswish",
}  # fmt: skip


def activation_of(node: fx.Node) -> str | None:
    """Return the name of the activation that an operator is, or None."""
    if node.target is _aten.hardtanh.default and tuple(_arguments(node)[1:]) in (
        (0, 6),
        (0.0, 6.0),
    ):
        return "relu6"
    return ACTIVATION_NAMES.get(node.target)
