"""Separable layers with batch normalisation between their steps, in training: forward and gradients.

Everything is float32 with the channels last. See `compiled/norm_kernels.py` for the formulas and for what each pass
reads and writes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from separable.engine.tensor_memory import empty
from separable.nn.fused.layer_gradients import (
    BackwardLayerPlan,
    BackwardPlan,
    backward_depthwise,
    depthwise_sums,
    flipped_taps,
    in_one_pass,
    pointwise_sums,
    transposed_panels,
)
from separable.nn.fused.layer_tiling import Geometry, clamp_limits, up
from separable.nn.fused.openmp import run
from separable.nn.fused.output_norm import Moments, combined_moments, per_channel
from separable.nn.fused.packed_layer import (
    PackedLayer,
    Settings,
    cached_layer,
    pack_depthwise,
    pack_depthwise_bias,
)

__all__ = [
    "NormCall",
    "NormLayer",
    "NormLayerGradients",
    "OutputGradient",
    "backward_norm",
    "forward_norm",
]

MOMENTS_BYTES = 96 << 10
"""Largest size of the depthwise results whose moments are formed together: they are read twice."""


class NormLayer(NamedTuple):
    """Parameters of a layer: ``act(norm(depthwise(x)))``, then the pointwise step.

    Attributes
    ----------
    depthwise : Tensor, shape (channels * multiplier, 1, *kernel)
    between_bias, gamma, beta : Tensor of shape (channels * multiplier,), or None
    pointwise : Tensor, shape (outputs, channels * multiplier, ...)
    bias : Tensor of shape (outputs,), or None
    """

    depthwise: Tensor
    between_bias: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None
    pointwise: Tensor
    bias: Tensor | None


class NormCall(NamedTuple):
    """One call of a layer.

    Attributes
    ----------
    layer : NormLayer
    x : Tensor, shape (n, channels, *space)
        The input, its channels last in memory.
    settings : Settings
        The activation of the depthwise step is the one after the normalisation.
    eps : float
    """

    layer: NormLayer
    x: Tensor
    settings: Settings
    eps: float

    def depthwise(self) -> tuple[PackedLayer, Geometry, Geometry]:
        """Return the packed depthwise step, its sizes, and those of the layer; both without activations."""
        tensors = (self.layer.depthwise, self.layer.between_bias, None, None)
        packed = cached_layer(tensors, self.x.shape[1], (*self.settings[:3], 0, 0))
        alone = packed.geometry(self.x.shape, self.x.element_size())
        return packed, alone, _with_outputs(alone, self.layer.pointwise.shape[0])

    def scaled(self, scale: Tensor, shift: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return depthwise weights and biases that compute ``(depthwise(x) - mean) * scale + shift``."""
        weight, bias = self.layer.depthwise.detach().double(), self.layer.between_bias
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        return weight.float(), ((per_channel(bias, mean, 0.0) - mean) * scale + shift).float()


class OutputGradient(NamedTuple):
    """The gradient of the output of a call, and its normalisation if it has one.

    Attributes
    ----------
    gradient : Tensor, shape (n, outputs, *space)
    rows : Tensor or None
        Result of the pointwise step.
    table : Tensor or None
        See `OutputNorm.table`; complete.
    act : int
    """

    gradient: Tensor
    rows: Tensor | None = None
    table: Tensor | None = None
    act: int = 0


class NormLayerGradients(NamedTuple):
    """Gradients of the input and of the parameters of a `NormLayer`."""

    input: Tensor | None
    depthwise: Tensor
    between_bias: Tensor
    gamma: Tensor
    beta: Tensor
    pointwise: Tensor
    bias: Tensor


class _NormPlan(BackwardPlan):
    """Plan of a pass over groups or slabs of tiles that computes the normalised values again."""

    def __init__(
        self, geometry: Geometry, threads: int, kernel: str, act: int = 0, outer_act: int = 0
    ) -> None:
        self._act, self._outer_act = act, outer_act
        if kernel == "depthwise_moments":
            self.group_bytes = MOMENTS_BYTES
        super().__init__(geometry, threads, kernel)

    def _sums(self) -> tuple[int, int]:
        if not self.geometry.outputs:
            return 3 * self.line, 0
        pointwise, _ = super()._sums()
        self._set(norm_sums=pointwise * 4)
        return pointwise + 2 * self.line, 0

    def _add_buffers(self) -> None:
        """Add memory for the normalised or the activated values of a group, and what the normalisation needs."""
        limits = np.array(clamp_limits(self._act), np.float32)
        self._set(norm_line=self.line, norm_act=self._act, norm_limits=self._add_table(limits))
        outer = np.array(clamp_limits(self._outer_act), np.float32)
        self._set(
            outer_line=up(self.geometry.outputs, self._lanes), outer_act=self._outer_act,
            outer_limits=self._add_table(outer),
        )  # fmt: skip
        at = up(self.scratch_size, 64)
        self.scratch_size = at + (self._group + 1) * self._pixels * int(
            self._record["middle_step"][0]
        )
        if self.geometry.outputs:
            self._set(at_active=at)
            return
        self._set(at_middle=at)
        self.slabs = -(-self.tiles // self._group)
        self._set(items=self.slabs)

    def positions(self) -> Tensor:
        """Return how many output positions each group has."""
        row = self.geometry.out_size[2]
        per_row = -(-row // self._pixels)
        ends = np.arange(0, self.tiles + self._group, self._group).clip(max=self.tiles)
        counts = ends // per_row * row + np.minimum(ends % per_row * self._pixels, row)
        return torch.from_numpy(np.diff(counts).astype(np.float64))


class _NormDepthwisePlan(BackwardLayerPlan):
    """Plan of the gradients of the depthwise step and its input, image by image."""

    kernel = "backward_norm_depthwise"

    def _sums(self) -> tuple[int, int]:
        return BackwardPlan._sums(self)

    def _add_buffers(self) -> None:
        super()._add_buffers()
        at = up(self.scratch_size, 64)
        self.scratch_size = at + (self._group + 1) * self._pixels * int(
            self._record["middle_step"][0]
        )
        self._set(at_middle=at, norm_line=self.line)


_plan = lru_cache(maxsize=256)(_NormPlan)
_depthwise_plan = lru_cache(maxsize=128)(_NormDepthwisePlan)


@lru_cache(maxsize=256)
def _counts(plan: _NormPlan) -> Tensor:
    return plan.positions()


def _addresses(*tensors: Tensor | None) -> Any:
    return tuple(0 if t is None else t.data_ptr() for t in tensors)


def _moments(packed: PackedLayer, geometry: Geometry, x: Tensor) -> Moments:
    """Return the moments of the depthwise result in float64, the multiplier inside."""
    g, threads = geometry, torch.get_num_threads()
    plan = _plan(g, threads, "depthwise_moments")
    sums = torch.empty(plan.slabs, 3, plan.line, dtype=torch.float32, device="cpu")
    source = (x.data_ptr(), *packed.addresses[:2], 0, 0, 0, 0, sums.data_ptr())
    run(plan, source, 0, threads)
    mean, var = combined_moments(sums[:, :, : g.depth], _counts(plan))
    return Moments(_woven(g, mean), _woven(g, var))


def _woven(g: Geometry, t: Tensor) -> Tensor:
    """Return values per middle channel with the multiplier inside, as PyTorch has them."""
    return t if g.multiplier == 1 else t.view(g.multiplier, g.channels).t().reshape(-1)


def _unwoven(g: Geometry, t: Tensor) -> Tensor:
    """Return values per middle channel with the multiplier outside, as the kernels have them."""
    return t if g.multiplier == 1 else t.view(g.channels, g.multiplier).t().reshape(-1)


@lru_cache(maxsize=256)
def _with_outputs(geometry: Geometry, outputs: int) -> Geometry:
    return replace(geometry, outputs=outputs)


def forward_norm(call: NormCall) -> tuple[Tensor, Moments]:
    """Return the result of the pointwise step, and the moments of the depthwise result."""
    layer, x, settings, eps = call
    packed, alone, _ = call.depthwise()
    moments = _moments(packed, alone, x)
    scale = (moments.var + eps).rsqrt() * per_channel(layer.gamma, moments.var, 1.0)
    folded = call.scaled(scale, per_channel(layer.beta, moments.var, 0.0), moments.mean)
    whole = PackedLayer(*folded, layer.pointwise, layer.bias, x.shape[1], settings)
    return whole(x), Moments(moments.mean.float(), moments.var.float())


def backward_norm(
    call: NormCall, moments: Moments, gradient: OutputGradient, *, to_input: bool
) -> NormLayerGradients:
    """Return the gradients of a layer; tensors have their channels last in memory."""
    layer, act = call.layer, call.settings[3]
    _, alone, g = call.depthwise()
    plan = _plan(g, torch.get_num_threads(), "backward_norm_pointwise", act, gradient.act)
    mean, inverse = moments.mean.double(), (moments.var.double() + call.eps).rsqrt()
    gamma = per_channel(layer.gamma, mean, 1.0)
    weight, bias = call.scaled(inverse, torch.zeros_like(mean), mean)
    norm = torch.zeros(5, plan.line, dtype=torch.float32, device="cpu")
    norm[0, : g.depth] = _unwoven(g, gamma)
    norm[1, : g.depth] = _unwoven(g, per_channel(layer.beta, mean, 0.0))
    normalising = (
        pack_depthwise(weight, g.channels, plan.lanes),
        pack_depthwise_bias(bias, g.channels, g.depth, plan.lanes), norm,
    )  # fmt: skip
    masked, total = _backward_pointwise(plan, call, gradient, normalising)
    weights, biases = pointwise_sums(g, total, layer.pointwise, plan.line)
    betas, gammas = total[-2 * plan.line :].view(2, plan.line)[:, : g.depth]
    positions = g.images * math.prod(g.out_size)
    norm[2, : g.depth] = _unwoven(g, gamma * inverse)
    norm[3, : g.depth] = betas / positions
    norm[4, : g.depth] = gammas / positions
    to, taps = _backward_depthwise(call, (g, alone), masked, normalising, to_input=to_input)
    # A bias before a normalisation changes nothing: its gradient is zero.
    biases = biases if gradient.table is None else torch.zeros_like(biases)
    return NormLayerGradients(
        to, taps, torch.zeros_like(gammas), _woven(g, gammas), _woven(g, betas), weights, biases
    )


def _backward_pointwise(
    plan: _NormPlan,
    call: NormCall,
    outer: OutputGradient,
    normalising: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Return z', and the sums of the gradients of the pointwise weights, biases, beta and gamma."""
    g, (weight, bias, norm) = plan.geometry, normalising
    transposed = transposed_panels(g, call.layer.pointwise)
    masked = empty((g.images, *g.out_size, g.depth))
    sums = torch.empty(plan.slabs, plan.slab, dtype=torch.float32, device="cpu")
    source = _addresses(
        call.x, weight, bias, transposed, outer.gradient, outer.rows, masked, sums, norm, outer.table
    )  # fmt: skip
    run(plan, source, 0, torch.get_num_threads())
    return masked, sums.sum(0)


def _backward_depthwise(
    call: NormCall,
    geometries: tuple[Geometry, Geometry],
    masked: Tensor,
    normalising: tuple[Tensor, Tensor, Tensor],
    *,
    to_input: bool,
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of the input and of the depthwise weights from z', which is overwritten."""
    threads, (g, alone), x = torch.get_num_threads(), geometries, call.x
    weight, bias, norm = normalising
    if not in_one_pass(g):
        plan = _plan(alone, threads, "norm_middle_gradient")
        source = _addresses(x, weight, bias, None, None, None, masked, None, norm)
        run(plan, source, 0, threads)
        to, weights, _ = backward_depthwise(g, x, masked, call.layer.depthwise, to_input=to_input)
        return to, weights
    whole = _depthwise_plan(alone, threads)
    flipped = pack_depthwise(flipped_taps(g, call.layer.depthwise), g.channels, whole.lanes)
    no_bias = pack_depthwise_bias(None, g.channels, g.channels, whole.lanes)
    sums = torch.empty(whole.slabs, whole.slab, dtype=torch.float32, device="cpu")
    found = empty((g.images, *g.size, g.channels)) if to_input else None
    source = _addresses(
        x, weight, bias, None, None, None, masked, sums, norm, flipped, no_bias
    )  # fmt: skip
    run(whole, source, 0 if found is None else found.data_ptr(), threads)
    weights, _ = depthwise_sums(g, sums.sum(0), call.layer.depthwise, whole.lanes)
    return None if found is None else found.movedim(-1, 1), weights
