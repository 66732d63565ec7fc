"""Operations with weights: separable, pointwise and dense convolutions, inverted residuals, linear layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution
from separable.nn.fused.fused_modules import GROUP_OUTPUTS
from separable.nn.fused.fused_split import FusedSplit
from separable.nn.fused.inverted_residual import PackedInverted, pays, serves
from separable.nn.fused.layer_tiling import ACTIVATIONS, layer_plan, pointwise_plan
from separable.nn.fused.operators import settings_of
from separable.nn.fused.packed_layer import PackedLayer, PackedPointwise
from separable.nn.fused.program.operations import (
    Graph,
    NetworkOperation,
    Planned,
    arguments,
    shape_of,
)
from separable.nn.fused.program.whole_modules import module_of
from separable.nn.fused.split_depthwise import PackedSplit, split_plan

__all__ = ["convolution", "depthwise", "depthwise_separable", "linear", "linear_with_bias", "split"]

FIRST_CONSTANT = 2
LAST_BIASES = 5
"""Word of the record of a layer that holds the address of the last biases, or of what is added instead."""


@dataclass(frozen=True)
class _Weighted(NetworkOperation):
    """An operation with weights, an activation at its end, and perhaps an addition before that.

    Attributes
    ----------
    pack : callable
        Packs the weights for an activation at the end.
    act : str
    has_residual : bool
        Whether the second input is added to the result.
    """

    pack: Callable[[str], Any] = field(default=lambda act: None, compare=False)
    act: str = "none"
    has_residual: bool = False
    words: ClassVar[tuple[int, ...]] = (0, LAST_BIASES)

    @property
    def packed(self) -> Any:
        """The packed weights."""
        return self.pack(self.act)

    def with_activation(self, node: fx.Node, act: str) -> NetworkOperation | None:
        if self.act != "none" or act not in ACTIVATIONS:
            return None
        return replace(self, node=node, act=act)

    def with_addition(self, node: fx.Node, other: fx.Node) -> NetworkOperation | None:
        if self.has_residual or self.act != "none" or shape_of(other) != shape_of(self.node):
            return None
        return replace(self, node=node, inputs=(*self.inputs, other), has_residual=True)


@dataclass(frozen=True)
class Pointwise(_Weighted):
    """Convolution of kernel size 1, or a linear layer; its tensors are weights and biases."""

    def planned(self, threads: int) -> Planned:
        layer: PackedPointwise = self.packed
        positions = math.prod(shape_of(self.node)) // layer.outputs
        plan = pointwise_plan(layer.geometry(positions, self.has_residual), threads)
        return Planned(plan, dict(enumerate(layer.addresses, FIRST_CONSTANT)))


@dataclass(frozen=True)
class Layer(_Weighted):
    """Depthwise convolution, with or without a pointwise one.

    Its tensors are depthwise weights, biases, pointwise weights, biases.

    Attributes
    ----------
    graph : Graph
    window : tuple of (stride, padding, dilation)
    between : str
        Activation after the depthwise step, if there are two.
    """

    graph: Graph | None = None
    window: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((), (), ())
    between: str = "none"

    def with_addition(self, node: fx.Node, other: fx.Node) -> NetworkOperation | None:
        return super().with_addition(node, other) if self.tensors[2] is not None else None

    def with_expansion(self, before: NetworkOperation) -> NetworkOperation | None:
        if not isinstance(before, Pointwise) or before.has_residual or self.tensors[2] is None:
            return None
        expand, depthwise, project = before.tensors, self.tensors[:2], self.tensors[2:]
        graph, window = self.graph, self.window
        if graph is None or len(window[0]) != 2 or self.has_residual:
            return None
        depth = shape_of(before.node)[1]
        if depthwise[0] is None or depthwise[0].shape[0] != depth:
            return None
        first = (ACTIVATIONS.index(before.act), ACTIVATIONS.index(self.between))

        def pack(act: str) -> Any:
            acts = (*first, ACTIVATIONS.index(act))
            return graph.pack(_inverted, (*expand, *depthwise, *project), acts, window)

        found: PackedInverted = pack(self.act)
        sizes = found.sizes(shape_of(before.inputs[0]), has_residual=False)
        if not serves(sizes) or not pays(sizes, graph.choices.threads):
            return None
        return Inverted(self.node, before.inputs, (*expand, *self.tensors), pack, self.act)

    def planned(self, threads: int) -> Planned:
        layer: PackedLayer = self.packed
        shape = shape_of(self.inputs[0])
        plan = layer_plan(layer.geometry(shape, 4, self.has_residual), threads)
        return Planned(plan, dict(enumerate(layer.addresses, FIRST_CONSTANT)))


def _inverted(*given: Any) -> PackedInverted:
    """Pack an inverted residual: six tensors, activations, window."""
    tensors, (acts, window) = given[:6], given[6:]
    return PackedInverted(tensors[:2], tensors[2:4], tensors[4:], acts, window)


@dataclass(frozen=True)
class Inverted(_Weighted):
    """Inverted residual: expand, depthwise and project steps as one."""

    def planned(self, threads: int) -> Planned:
        layer: PackedInverted = self.packed
        sizes = layer.sizes(shape_of(self.inputs[0]), has_residual=self.has_residual)
        plan, addresses = layer.planned(sizes, threads)
        return Planned(plan, dict(enumerate(addresses, FIRST_CONSTANT)))


@dataclass(frozen=True)
class Dense(_Weighted):
    """Dense convolution."""

    words: ClassVar[tuple[int, ...]] = (0, 4)

    def planned(self, threads: int) -> Planned:
        layer: PackedConvolution = self.packed
        found = layer.plan_for(shape_of(self.inputs[0]), first=False, threads=threads)
        return Planned(found.plan, dict(enumerate(found.addresses, FIRST_CONSTANT)))


def depthwise_separable(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for `separable::depthwise_separable`."""
    x, *weights, stride, padding, dilation, between, act = arguments(node)
    tensors = tuple(graph.constant(w) for w in weights)
    if tensors[0] is None or tensors[2] is None:
        return None
    return _layer(graph, node, x, tensors, (stride, padding, dilation), between, act)


def depthwise(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for `separable::depthwise`."""
    x, weight, bias, stride, padding, dilation, act = arguments(node)
    tensors = (graph.constant(weight), graph.constant(bias), None, None)
    if tensors[0] is None:
        return None
    return _layer(graph, node, x, tensors, (stride, padding, dilation), "none", act)


def _layer(
    graph: Graph, node: fx.Node, x: fx.Node, tensors: Any, window: Any, between: str, act: str
) -> NetworkOperation:
    channels = shape_of(x)[1]
    stride, padding, dilation = (tuple(v) for v in window)
    alone = tensors[2] is None

    def pack(act: str) -> Any:
        acts = (act, "none") if alone else (between, act)
        return graph.pack(
            PackedLayer, tensors, channels, settings_of(stride, padding, dilation, *acts)
        )

    return Layer(node, (x,), tensors, pack, act, False, graph, (stride, padding, dilation), between)


def convolution(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for a convolution of PyTorch."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = arguments(node)
    tensors = (graph.constant(weight), graph.constant(bias))
    if tensors[0] is None or transposed or (bias is not None and tensors[1] is None):
        return None
    x, zeros = _without_padding(x, len(stride))
    both = tuple(p + z for p, z in zip((p for p in padding for _ in range(2)), zeros, strict=True))
    plain = all(s == 1 for s in stride) and not any(both) and groups == 1
    if plain and all(k == 1 for k in tensors[0].shape[2:]):
        return _pointwise(graph, node, x, tensors)
    if groups > 1 and tensors[0].shape[0] // groups < GROUP_OUTPUTS:
        return None
    settings = ConvSettings(tuple(stride), both, tuple(dilation), groups)

    def pack(act: str) -> Any:
        return graph.pack(
            PackedConvolution, tensors, ACTIVATIONS.index(act), settings, graph.choices.exact
        )

    return Dense(node, (x,), tensors, pack)


def _without_padding(x: fx.Node, axes: int) -> tuple[fx.Node, tuple[int, ...]]:
    """Return what a value is if it is another one with zeros around it, and their number before and after each axis."""
    none = (0,) * (2 * axes)
    if x.target is not torch.ops.aten.constant_pad_nd.default:
        return x, none
    inner, ends, *value = arguments(x)
    if len(ends) > 2 * axes or min(ends) < 0 or any(value):
        return x, none
    # PyTorch gives them from the last axis to the first.
    pairs = [*zip(ends[0::2], ends[1::2], strict=True), *[(0, 0)] * axes][:axes]
    return inner, tuple(n for pair in reversed(pairs) for n in pair)


@dataclass(frozen=True)
class Split(NetworkOperation):
    """Two depthwise convolutions along one axis each, as two passes."""

    packed: PackedSplit | None = None

    def planned(self, threads: int) -> Planned:
        assert self.packed is not None
        plan = split_plan(self.packed.sizes(shape_of(self.inputs[0])), threads)
        return Planned(plan, dict(enumerate(self.packed.addresses, FIRST_CONSTANT)))


def split(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for a module of two depthwise convolutions that was kept whole."""
    x, number = arguments(node)
    module = module_of(number)
    if not isinstance(module, FusedSplit):
        return None
    packed = module.packed_for(shape_of(x))
    return Split(node, (x,), tuple(module.buffers()), packed)


def _pointwise(
    graph: Graph, node: fx.Node, x: fx.Node, tensors: tuple[Tensor | None, ...]
) -> NetworkOperation:
    def pack(act: str) -> Any:
        return graph.pack(PackedPointwise, tensors, ACTIVATIONS.index(act))

    return Pointwise(node, (x,), tensors, pack)


def linear_with_bias(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for `aten::addmm`."""
    bias, x, weight = arguments(node)
    matrix, start = graph.constant(weight), graph.constant(bias)
    if matrix is None or start is None or node.kwargs or start.dim() != 1:
        return None
    return _pointwise(graph, node, x, (matrix.t(), start))


def linear(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for `aten::mm`."""
    x, weight = arguments(node)
    matrix = graph.constant(weight)
    return None if matrix is None else _pointwise(graph, node, x, (matrix.t(), None))
