"""Operations without weights of a convolution: sums, products, activations, pooling, concatenation, padding, upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from separable.nn.fused.kernel_plan import SOURCE, TARGET
from separable.nn.fused.layer_tiling import ACTIVATIONS, three
from separable.nn.fused.program.operations import (
    Graph,
    NetworkOperation,
    Planned,
    arguments,
    shape_of,
)
from separable.nn.fused.program.program import Buffer, Place, ProgramStep
from separable.nn.fused.steps.copies import Copies, CopyPlan, padding, upsampling
from separable.nn.fused.steps.elementwise import Elementwise, ElementwisePlan, pack_scalar
from separable.nn.fused.steps.layer_norm import LayerNorm, LayerNormPlan, pack_layer_norm
from separable.nn.fused.steps.pooling import (
    Pooling,
    PoolingPlan,
    Windows,
    adaptive_windows,
    average_plans,
    slabs_of,
    sliding_windows,
)

__all__ = [
    "activation",
    "adaptive_average",
    "average_pool",
    "concatenation",
    "elementwise",
    "first_of_several",
    "mean",
    "upsampled",
    "zeros_around",
]

_aten = torch.ops.aten
OTHER, SHIFT = 2, 3
"""Words of the record of an elementwise step that hold the addresses of the second and the third array."""


def _positions(shape: Sequence[int]) -> int:
    return math.prod(shape[2:])


def _sizes(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return images, positions and channels."""
    return shape[0], _positions(shape), shape[1]


@dataclass(frozen=True)
class _Values(NetworkOperation):
    """Sum, product, scale and shift, or activation of each value.

    Attributes
    ----------
    kind : str
        One of the operations of `Elementwise`.
    repeats : str
        How the other arrays repeat.
    act : str
    """

    kind: str = "copy"
    repeats: str = "none"
    act: str = "none"
    words: ClassVar[tuple[int, ...]] = (SOURCE, OTHER)

    def with_activation(self, node: fx.Node, act: str) -> NetworkOperation | None:
        if self.act != "none" or act not in ACTIVATIONS:
            return None
        return replace(self, node=node, act=act)

    def planned(self, threads: int) -> Planned:
        shape = shape_of(self.node)
        sizes = Elementwise(
            shape[0],
            _positions(shape),
            shape[1],
            self.kind,
            ACTIVATIONS.index(self.act),
            self.repeats,
        )
        held = [t.data_ptr() for t in self.tensors if t is not None]
        return Planned(ElementwisePlan(sizes, threads), dict(enumerate(held, OTHER)))


def activation(act: str) -> Callable[[Graph, fx.Node], NetworkOperation | None]:
    """Return the builder of an activation alone."""

    def build(graph: Graph, node: fx.Node) -> NetworkOperation | None:
        return _Values(node, (arguments(node)[0],), act=act) if act in ACTIVATIONS else None

    return build


def elementwise(kind: str) -> Callable[[Graph, fx.Node], NetworkOperation | None]:
    """Return the builder of a sum, a product, a difference or a quotient."""
    swaps = kind in ("add", "mul")

    def build(graph: Graph, node: fx.Node) -> NetworkOperation | None:
        if node.kwargs:
            return None
        a, b = arguments(node)[:2]
        shape = shape_of(node)
        if not isinstance(a, fx.Node) or (_shape(a) != shape and swaps):
            a, b = b, a
        if not isinstance(a, fx.Node) or _shape(a) != shape or graph.constant(a) is not None:
            return None
        if isinstance(b, int | float):
            number = graph.pack(_scalar, (), float(b))
            return _Values(node, (a,), (number,), kind, "scalar")
        held = graph.constant(b)
        if held is not None:
            return _with_constant(graph, node, a, held, kind)
        if _shape(b) == shape:
            return _Values(node, (a, b), (), kind)
        if _shape(b) == (*shape[:2], *(1,) * (len(shape) - 2)):
            return _Values(node, (a, b), (), kind, "image")
        return None

    return build


def _shape(node: Any) -> tuple[int, ...] | None:
    """Return the shape of a node that is a tensor, or None."""
    return (
        shape_of(node)
        if isinstance(node, fx.Node) and isinstance(node.meta.get("val"), Tensor)
        else None
    )


def _scalar(value: float) -> Tensor:
    return pack_scalar(value)


def _with_constant(
    graph: Graph, node: fx.Node, a: fx.Node, held: Tensor, kind: str
) -> NetworkOperation | None:
    """Return a sum or a product with a constant that has one value, or one per channel."""
    shape = shape_of(node)
    if held.numel() == 1:
        return _Values(node, (a,), (graph.pack(_scalar, (), float(held)),), kind, "scalar")
    axes = (1,) * (len(shape) - held.dim()) + tuple(held.shape)
    if held.dtype is not torch.float32 or axes != (1, shape[1], *(1,) * (len(shape) - 2)):
        return None
    return _Values(node, (a,), (graph.pack(_flat, (held,)),), kind, "channel")


def _flat(held: Tensor) -> Tensor:
    return held.detach().reshape(-1).contiguous()


@dataclass(frozen=True)
class _Means(NetworkOperation):
    """Means over all positions of each image."""

    def steps(
        self, threads: int, place_of: Callable[[fx.Node], Place], target: Place
    ) -> list[ProgramStep]:
        shape = shape_of(self.inputs[0])
        plans = average_plans(*_sizes(shape), threads)
        places = [place_of(self.inputs[0]), target]
        if len(plans) == 2:
            places.insert(1, Place(Buffer(4 * slabs_of(*_sizes(shape)) * shape[0] * shape[1])))
        return [
            ProgramStep(plan, {}, {SOURCE: places[i]}, {TARGET: places[i + 1]})
            for i, plan in enumerate(plans)
        ]


def mean(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for a mean over all positions."""
    x, axes = arguments(node)[:2]
    shape = shape_of(x)
    if len(shape) < 3 or {a % len(shape) for a in axes} != set(range(2, len(shape))):
        return None
    return _Means(node, (x,))


@dataclass(frozen=True)
class _Pooled(NetworkOperation):
    """Maxima or means over windows."""

    windows: tuple[Windows, Windows, Windows] | None = None
    kind: str = "max"
    divisor: int = 0

    def planned(self, threads: int) -> Planned:
        assert self.windows is not None
        images, channels = shape_of(self.inputs[0])[:2]
        sizes = Pooling(images, channels, self.windows, self.kind, divisor=self.divisor)
        return Planned(PoolingPlan(sizes, threads), {})


def adaptive_average(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for adaptive average pooling."""
    x, sizes = arguments(node)[:2]
    if all(n == 1 for n in sizes):
        return _Means(node, (x,))
    return _pooled(
        node,
        x,
        [adaptive_windows(n, m) for n, m in zip(shape_of(x)[2:], sizes, strict=True)],
        "mean",
    )


def _pooled(
    node: fx.Node, x: fx.Node, windows: Sequence[Windows], kind: str, divisor: int = 0
) -> NetworkOperation | None:
    one = sliding_windows(1, 1, 1)
    z, y, x_windows = (one,) * (3 - len(windows)) + tuple(windows)
    made = _Pooled(node, (x,), (), (z, y, x_windows), kind, divisor)
    sizes = tuple(len(w.first) for w in windows)
    return made if sizes == shape_of(node)[2:] else None


def _per_axis(values: Any, axes: int, default: int) -> list[int]:
    """Return one value per axis; PyTorch gives one for all, or none."""
    given = [values] if isinstance(values, int) else list(values or [])
    return given * axes if len(given) == 1 else given or [default] * axes


def average_pool(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for average pooling over windows."""
    x, kernel, *more = arguments(node)
    shape = shape_of(x)
    axes = len(shape) - 2
    more += [[], 0, False, True, None][len(more) :]
    kernel = _per_axis(kernel, axes, 1)
    stride, pads = _per_axis(more[0], axes, 0), _per_axis(more[1], axes, 0)
    windows = [
        sliding_windows(n, k, s or k, p, ceil_mode=more[2], count_include_pad=more[3])
        for n, k, s, p in zip(shape[2:], kernel, stride, pads, strict=True)
    ]
    return _pooled(node, x, windows, "mean", more[4] or 0)


def _max_pool(graph: Graph, node: fx.Node, given: Any) -> NetworkOperation | None:
    x, kernel, *more = given
    shape = shape_of(x)
    axes = len(shape) - 2
    more += [[], 0, 1, False][len(more) :]
    kernel = _per_axis(kernel, axes, 1)
    stride, pads, dilation = (
        _per_axis(v, axes, d) for v, d in zip(more[:3], (0, 0, 1), strict=True)
    )
    windows = [
        sliding_windows(n, k, s or k, p, d, ceil_mode=more[3])
        for n, k, s, p, d in zip(shape[2:], kernel, stride, pads, dilation, strict=True)
    ]
    return _pooled(node, x, windows, "max")


def _batch_norm(graph: Graph, node: fx.Node, given: Any) -> NetworkOperation | None:
    """Return the scale and shift of a batch normalisation with stored statistics."""
    x, *tensors, _, eps = given
    held = [graph.constant(t) for t in tensors]
    if (
        held[2] is None
        or held[3] is None
        or any(h is None and t is not None for h, t in zip(held, tensors, strict=True))
    ):
        return None
    scale, shift = graph.pack(_scale_and_shift, tuple(held), float(eps))
    return _Values(node, (x,), (scale, shift), "scale", "channel")


def _scale_and_shift(
    weight: Tensor | None, bias: Tensor | None, average: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    scale = (variance.double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.double()
    shift = -average.double() * scale
    if bias is not None:
        shift = shift + bias.double()
    return scale.float(), shift.float()


@dataclass(frozen=True)
class _Normalised(NetworkOperation):
    """Layer normalisation of rows of channels."""

    eps: float = 1e-5

    def planned(self, threads: int) -> Planned:
        rows, channels = shape_of(self.inputs[0])
        plan = LayerNormPlan(LayerNorm(rows, channels, self.eps), threads)
        held = [t.data_ptr() for t in self.tensors if t is not None]
        return Planned(plan, dict(enumerate(held, OTHER)))


def _layer_norm(graph: Graph, node: fx.Node, given: Any) -> NetworkOperation | None:
    x, sizes, *tensors, eps = given
    held = [graph.constant(t) for t in tensors]
    missing = any(h is None and t is not None for h, t in zip(held, tensors, strict=True))
    if missing or len(sizes) != 1 or len(shape_of(x)) != 2:
        return None
    packed = graph.pack(pack_layer_norm, tuple(held), int(sizes[0]))
    return _Normalised(node, (x,), packed, float(eps))


_FIRST_OF: dict[Any, Callable[[Graph, fx.Node, Any], NetworkOperation | None]] = {
    _aten.max_pool2d_with_indices.default: _max_pool,
    _aten.max_pool3d_with_indices.default: _max_pool,
    _aten._native_batch_norm_legit_no_training.default: _batch_norm,
    _aten.native_layer_norm.default: _layer_norm,
}


def first_of_several(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for the first result of an operator that has several."""
    parent, index = arguments(node)
    if not isinstance(parent, fx.Node) or index != 0 or parent.kwargs:
        return None
    build = _FIRST_OF.get(parent.target)
    return None if build is None else build(graph, node, arguments(parent))


@dataclass(frozen=True)
class _Joined(NetworkOperation):
    """Concatenation along the channels."""

    def steps(
        self, threads: int, place_of: Callable[[fx.Node], Place], target: Place
    ) -> list[ProgramStep]:
        made, shape, at = [], shape_of(self.node), 0
        for node in self.inputs:
            channels = shape_of(node)[1]
            sizes = Elementwise(shape[0], _positions(shape), channels, target_step=4 * shape[1])
            place = Place(target.buffer, target.offset + 4 * at)
            plan = ElementwisePlan(sizes, threads)
            made.append(ProgramStep(plan, {}, {SOURCE: place_of(node)}, {TARGET: place}))
            at += channels
        return made


def concatenation(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for a concatenation along the channels."""
    parts, *axis = arguments(node)
    if (axis or [0])[0] % len(shape_of(node)) != 1 or any(
        graph.constant(p) is not None for p in parts
    ):
        return None
    return _Joined(node, tuple(parts))


@dataclass(frozen=True)
class _Copied(NetworkOperation):
    """Copies of whole positions."""

    table: Copies | None = None

    def planned(self, threads: int) -> Planned:
        assert self.table is not None
        return Planned(CopyPlan(self.table, threads), {})


def zeros_around(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for padding with a constant."""
    x, ends, *fill = arguments(node)
    shape = shape_of(x)
    if len(ends) > 2 * (len(shape) - 2):
        return None
    pairs = [*zip(ends[0::2], ends[1::2], strict=True), *[(0, 0)] * 3][:3]
    table = padding(
        shape[0],
        three(shape[2:], 1),
        shape[1],
        list(reversed(pairs)),
        "constant",
        float((fill or [0.0])[0]),
    )
    return _Copied(node, (x,), (), table)


def upsampled(graph: Graph, node: fx.Node) -> NetworkOperation | None:
    """Return the operation for nearest-neighbour upsampling by whole numbers."""
    x = arguments(node)[0]
    before, after = shape_of(x), shape_of(node)
    if any(m % n for n, m in zip(before[2:], after[2:], strict=True)):
        return None
    # With scales that are not whole numbers PyTorch may take other neighbours.
    given = [
        v for a in arguments(node)[2:] for v in (a if isinstance(a, list | tuple) else [a]) if v
    ]
    if any(float(v) != int(v) for v in given):
        return None
    table = upsampling(before[0], three(before[2:], 1), before[1], three(after[2:], 1))
    return _Copied(node, (x,), (), table)
