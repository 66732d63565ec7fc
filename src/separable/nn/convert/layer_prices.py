"""LayerPrices: predicted and measured times of layers, dense and written as factors, in one runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from separable.cost import Convolution
from separable.errors import SeparableError
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.lower import lower
from separable.lowering.scheme import Scheme
from separable.lowering.step import SamePadding, Step
from separable.nn.convert.factored_layers import built
from separable.nn.convert.layer_refs import LayerRef
from separable.nn.convert.network_times import shortest_times
from separable.nn.factored_conv import FactoredConv
from separable.nn.runtimes.runtime import Runtime
from separable.nn.step_times.layer_profile import LayerProfile, current_profile
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.torch_convs import build_conv, spec_of

__all__ = ["LayerPrices", "structure_of"]

Shape = tuple[int, ...]
LAYER_SECONDS = 0.06  # time for the candidates of one layer
MOST_BYTES = 2**28  # of the inputs of a layer that is measured


class LayerPrices:
    """Times of the layers of a network in one runtime.

    Parameters
    ----------
    runtime : Runtime
    shapes : mapping of str to sequence of tuple of int
        Shapes of each layer's inputs in all calls.
    profile : LayerProfile, optional
        That of this computer if not given.
    """

    def __init__(
        self,
        runtime: Runtime,
        shapes: Mapping[str, Sequence[Shape]],
        profile: LayerProfile | None = None,
    ) -> None:
        self.runtime, self.shapes = runtime, shapes
        self.profile = current_profile() if profile is None else profile
        self._predicted: dict[Any, float] = {}
        self._measured: dict[Any, float] = {}

    def network(self, operations: Sequence[RecordedOperation]) -> float:
        """Return the predicted time of all operations of a network."""
        call = self.profile.calls.get(self.runtime.name, 0.0)
        return call + self._sum(operations)

    def dense(self, ref: LayerRef) -> float:
        """Return the predicted time of a layer as it is, in all calls."""
        return sum(self._dense(ref.spec, shape) for shape in self.shapes.get(ref.name, ()))

    def original(self, ref: LayerRef) -> float:
        """Return the predicted time of a layer as the network has it, in all calls."""
        spec = spec_of(ref.original)
        return sum(self._dense(spec, shape) for shape in self.shapes.get(ref.name, ()))

    def cost(self, ref: LayerRef, scheme: Scheme) -> float:
        """Return the predicted time of a layer written as factors, in all calls."""
        if self.runtime.is_compiled and scheme.pattern.has_one_bond:
            scheme = scheme.with_ranks({b: int(r.max()) for b, r in scheme.ranks.items()})
        steps = lower(scheme)[1]
        return sum(
            self._sum(_operations(ref.spec, steps, s)) for s in self.shapes.get(ref.name, ())
        )

    def _dense(self, spec: ConvSpec, shape: Shape) -> float:
        key = (spec, shape)
        if key not in self._predicted:
            conv = _convolution(spec, shape)
            self._predicted[key] = self._sum([RecordedOperation.of_convolution(conv)])
        return self._predicted[key]

    def _sum(self, operations: Sequence[RecordedOperation]) -> float:
        steps = self.runtime.steps(operations)
        return sum(self.profile.predict(self.runtime.name, s.work).seconds for s in steps)

    def measured(self, ref: LayerRef, schemes: Sequence[Scheme | None]) -> list[float]:
        """Return the measured times of a layer as some schemes, None for the dense layer.

        They run in turns. Layers of the same sizes are measured once. NaN where the runtime cannot run it alone.
        """
        shapes = self.shapes.get(ref.name, ())
        if not shapes or math.prod(shapes[0]) * 4 > MOST_BYTES:
            return [math.nan] * len(schemes)
        keys = [self._key(ref, shapes[0], scheme) for scheme in schemes]
        new = [at for at, key in enumerate(keys) if key not in self._measured]
        if new:
            layers = [_layer(ref, schemes[at]) for at in new]
            for at, seconds in zip(new, self._timed(layers, shapes[0]), strict=True):
                self._measured[keys[at]] = seconds
        return [self._measured[key] * len(shapes) for key in keys]

    def _key(self, ref: LayerRef, shape: Shape, scheme: Scheme | None) -> Any:
        if scheme is None:
            return (ref.spec, shape)
        ranks = tuple((b, tuple(r.ravel().tolist())) for b, r in scheme.ranks.items())
        return (ref.spec, shape, str(scheme.written), ranks)

    def _timed(self, layers: Sequence[nn.Module], shape: Shape) -> list[float]:
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        call = self.profile.calls.get(self.runtime.name, 0.0)
        try:
            runs = [self.runtime.prepared(nn.Sequential(m).eval(), [x]) for m in layers]
            found = shortest_times(runs, LAYER_SECONDS)
        except (SeparableError, RuntimeError):
            return [math.nan] * len(layers)
        return [max(t - call, 0.1 * t) for t in found]


def _layer(ref: LayerRef, scheme: Scheme | None) -> nn.Module:
    """Return a layer whose weights are of no importance, in single precision on the processor."""
    if scheme is not None:
        return structure_of(scheme, ref.conv)
    made = build_conv(ref.spec, device="meta")
    for key, like in list(made._parameters.items()):
        if like is not None:
            made._parameters[key] = nn.Parameter(torch.full(like.shape, 0.01), requires_grad=False)
    return made.eval()


def structure_of(scheme: Scheme, conv: nn.Module) -> FactoredConv:
    """Return the layer of a scheme with constant weights, to measure its time."""
    scheme = lower(scheme)[0]
    arrays = [
        np.full([scheme.size(a) for a in letters], 0.01, np.float32) for letters in scheme.operands
    ]
    return built(scheme, arrays, conv).to(device="cpu", dtype=torch.float32)


def _convolution(spec: ConvSpec, shape: Shape) -> Convolution:
    """Return the sizes of a dense layer on an input."""
    space = shape[-spec.ndim :]
    pads = tuple(_pads(spec, j, n) for j, n in enumerate(space))
    return Convolution(
        space, spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, pads,
        spec.dilation, spec.groups, batch=math.prod(shape[: -spec.ndim - 1]),
        transposed=spec.transposed, output_padding=spec.output_padding,
    )  # fmt: skip


def _pads(spec: ConvSpec, axis: int, size: int) -> tuple[int, int]:
    if isinstance(spec.padding, str):
        return SamePadding(spec.reach[axis], spec.stride[axis]).amounts(size)
    return spec.padding[axis], spec.padding[axis]


def _operations(spec: ConvSpec, steps: Sequence[Step], shape: Shape) -> list[RecordedOperation]:
    """Return the operations of a layer's steps on an input."""
    batch, space = math.prod(shape[: -spec.ndim - 1]), shape[-spec.ndim :]
    found: list[RecordedOperation] = []
    for step in steps:
        value = len(found)
        if step.gather is not None:
            found.append(_copy(value, batch, len(step.gather), space))
        pads = tuple(
            p.amounts(n) if isinstance(p, SamePadding) else p
            for p, n in zip(step.padding, space, strict=True)
        )
        conv = Convolution(
            space, step.in_channels, step.out_channels, step.kernel_size, step.stride, pads,
            step.dilation, step.groups, batch=batch * step.shared, transposed=step.transposed,
            output_padding=step.output_padding,
        )  # fmt: skip
        value = len(found)
        operation = RecordedOperation.of_convolution(conv)
        found.append(replace(operation, reads=(value,), writes=(value + 1,)))
        space = conv.outputs
        if step.scatter is not None:
            found.append(_copy(len(found), batch, step.outputs, space))
    return found


def _copy(value: int, batch: int, channels: int, space: Shape) -> RecordedOperation:
    """Return the operation that gathers or adds up channels."""
    shape = (batch, channels, *space)
    size = 4 * math.prod(shape)
    return RecordedOperation(
        "", "index_select", 0, size, size, 0, (value,), (value + 1,), (shape,), (shape,)
    )
