"""Gradients of the fused layers, in float32 with channels last."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine.tensor_memory import empty
from separable.nn.fused.kernel_plan import kernels
from separable.nn.fused.layer_tiling import Geometry, LayerPlan, up
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import PackedLayer, pack_pointwise

__all__ = ["backward_depthwise", "backward_pointwise"]

MOST_SLABS = 16
SUMS_BYTES = 8 << 20
"""Bound on the sums of all slabs together; at least `LEAST_SLABS` are made."""
LEAST_SLABS = 4


class _Backward(LayerPlan):
    """Plan of the gradients of the pointwise step, or of the depthwise weights."""

    def __init__(self, geometry: Geometry, threads: int, *, pointwise: bool) -> None:
        self._pointwise = pointwise
        super().__init__(geometry, threads)

    def _finish(self) -> None:
        g = self.geometry
        self.line = up(g.depth, self._lanes)
        blocks = up(g.channels, self._lanes) * g.multiplier // self._lanes
        step = (int(np.prod(g.kernel)) + 1) * self._lanes * blocks
        if self._pointwise:
            step = g.outputs * self.line + up(g.outputs, self._lanes)
        self.slab = step
        most = max(LEAST_SLABS, min(MOST_SLABS, SUMS_BYTES // (step * 4)))
        self.slabs = max(1, min(self.tiles, most))
        taken = (up(g.outputs, 16) // 16 | 1) * 16
        at = up(self.scratch_size, 64)
        pixels = (self._group + 1) * self._pixels
        self.scratch_size = at + (taken * 4 * pixels + 64 if self._pointwise else 128)
        self._no_bias = self._add_table(np.zeros(up(g.depth, 64) + 64, np.float32))
        fields = list(self._record.dtype.names or ())
        self._at_gradients = [
            fields.index(n) for n in ("gradient", "result", "middle_gradient", "sums")
        ]
        self._set(
            slabs=self.slabs, slab_step=step * 4, gradient_step=taken, at_gradient=at,
            scratch_size=self.scratch_size, parts=1, items=self.slabs,
        )  # fmt: skip
        self.threads = min(self.threads, self.slabs)
        name = "backward_pointwise" if self._pointwise else "backward_depthwise"
        self.function = self._compiled.address(name)

    def fill(
        self, words: NDArray[np.int64], source: tuple[int, ...], target: int, scratch: int
    ) -> None:
        """Write the parameters of one run for the kernel; the last four addresses in `source` are the gradients."""
        x, depthwise, depthwise_bias, pointwise, *gradients = source
        arrays = (x, depthwise, depthwise_bias, pointwise, self._no_bias)
        super().fill(words, arrays, target, scratch)
        words[self._at_gradients] = gradients


@lru_cache(maxsize=256)
def _plan(geometry: Geometry, threads: int, pointwise: bool) -> _Backward:
    return _Backward(geometry, threads, pointwise=pointwise)


def backward_pointwise(
    packed: PackedLayer,
    geometry: Geometry,
    x: Tensor,
    gradient: Tensor,
    result: Tensor,
    pointwise: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the depthwise result ``(n, *space, depth)``, the weights and the biases.

    `x`, `gradient` and `result` are float32 with their channels last in memory. The depthwise result has
    its channels with the multiplier outside.
    """
    threads = torch.get_num_threads()
    plan = _plan(geometry, threads, True)
    g = geometry
    compiled = kernels()
    # (depth with the multiplier outside, outputs)
    across = pointwise.detach().reshape(g.outputs, g.channels, g.multiplier).permute(2, 1, 0)
    transposed = pack_pointwise(
        across.reshape(g.depth, g.outputs), g.outputs, compiled.panel, compiled.lanes
    )
    middle_gradient = empty((g.images, *g.out_size, g.depth))
    sums = torch.empty(plan.slabs, plan.slab, dtype=torch.float32, device="cpu")
    addresses = packed.addresses
    source: Any = (
        x.data_ptr(), addresses[0], addresses[1], transposed.data_ptr(), gradient.data_ptr(),
        result.data_ptr(), middle_gradient.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    run(plan, source, 0, threads)
    total = sums.sum(0)
    weights = total[: g.outputs * plan.line].view(g.outputs, plan.line)[:, : g.depth]
    weights = weights.reshape(g.outputs, g.multiplier, g.channels).transpose(1, 2)
    return (
        middle_gradient,
        weights.reshape(pointwise.shape),
        total[g.outputs * plan.line :][: g.outputs],
    )


def backward_depthwise(
    geometry: Geometry,
    x: Tensor,
    middle_gradient: Tensor,
    weight: Tensor,
    *,
    to_input: bool,
    to_weight: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of the input ``(n, channels, *space)``, the weights and the biases.

    `middle_gradient` is the gradient of the depthwise result ``(n, *space, depth)``, the multiplier outside.
    """
    g, threads = geometry, torch.get_num_threads()
    weights = biases = None
    if to_weight:
        plan = _plan(replace(g, outputs=0), threads, False)
        sums = torch.empty(plan.slabs, plan.slab, dtype=torch.float32, device="cpu")
        source: Any = (x.data_ptr(), 0, 0, 0, 0, 0, middle_gradient.data_ptr(), sums.data_ptr())
        run(plan, source, 0, threads)
        total = sums.sum(0).view(g.multiplier, -1, int(np.prod(g.kernel)) + 1, plan.lanes)
        table = total.permute(0, 1, 3, 2).reshape(g.multiplier, -1, total.shape[2])
        table = table[:, : g.channels].transpose(0, 1).reshape(g.depth, -1)
        weights, biases = table[:, :-1].reshape(weight.shape), table[:, -1].contiguous()
    if not to_input:
        return None, weights, biases
    return _to_input(g, middle_gradient, weight), weights, biases


def _to_input(g: Geometry, middle_gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input ``(n, channels, *space)``: the transposed convolution."""
    flipped = weight.detach().reshape(g.channels, g.multiplier, -1).flip(-1).transpose(0, 1)
    flipped = flipped.reshape(g.depth, 1, *g.kernel)
    reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)]
    before = [r - b for r, b in zip(reach, g.before, strict=True)]
    seen = [(n - 1) * s + 1 for n, s in zip(g.out_size, g.stride, strict=True)]
    after = [n - e - b + r for n, e, b, r in zip(g.size, seen, before, reach, strict=True)]
    settings = ((1, 1, 1), tuple(n for pair in zip(before, after, strict=True) for n in pair),
                g.dilation, 0, 0)  # fmt: skip
    layer = PackedLayer(flipped, None, None, None, g.depth, settings, spread=g.stride)
    found = layer(middle_gradient.movedim(-1, 1))
    if g.multiplier > 1:
        found = found.reshape(found.shape[0], g.multiplier, g.channels, *found.shape[2:]).sum(1)
    return found
