"""Gradients of the fused layers, in float32 with channels last."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine.tensor_memory import empty
from separable.nn.fused.kernel_plan import kernels
from separable.nn.fused.layer_tiling import THREAD_CYCLES, Geometry, LayerPlan, Sizes, up
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import (
    PackedLayer,
    pack_depthwise,
    pack_depthwise_bias,
    pack_pointwise,
)

__all__ = [
    "BackwardLayerPlan",
    "BackwardPlan",
    "backward_depthwise",
    "backward_layer",
    "backward_pointwise",
    "depthwise_sums",
    "flipped_taps",
    "in_one_pass",
    "pointwise_sums",
    "transposed_panels",
]

MOST_SLABS = 16
SUMS_BYTES = 8 << 20
"""Bound on the sums of all slabs together; at least `LEAST_SLABS` are made."""
LEAST_SLABS = 4
LEAST_IMAGES = 8
"""Images from which on each thread computes all gradients of whole images."""
IMAGE_BYTES = 6 << 20
"""Largest gradient of the middle values of an image that a thread keeps in its scratch memory."""


class BackwardPlan(LayerPlan):
    """Plan of the gradients of the pointwise step, of the depthwise weights, or of both and the input."""

    group_bytes = 96 << 10
    """Largest size of a group's middle values."""

    def __init__(self, geometry: Geometry, threads: int, kernel: str) -> None:
        self._kernel = kernel
        super().__init__(geometry, threads)

    def _finish(self) -> None:
        g = self.geometry
        self.line = up(g.depth, self._lanes)
        self.slab, taps = self._sums()
        self.slabs = self._slabs(self.slab)
        taken = (up(g.outputs, 16) // 16 | 1) * 16
        at = up(self.scratch_size, 64)
        pixels = (self._group + 1) * self._pixels
        self.scratch_size = at + (taken * 4 * pixels + 64 if g.outputs else 128)
        self._no_bias = self._add_table(np.zeros(up(g.depth, 64) + 64, np.float32))
        fields = list(self._record.dtype.names or ())
        self._at_gradients = [
            fields.index(n)
            for n in ("gradient", "result", "middle_gradient", "sums", "norm", "outer")
        ]
        self._set(
            slabs=self.slabs, slab_step=self.slab * 4, gradient_step=taken, at_gradient=at,
            parts=1, items=self.slabs, images=g.images, tap_sums=taps * 4,
            source_ahead=_source_ahead(g),
        )  # fmt: skip
        self._add_buffers()
        self._set(scratch_size=self.scratch_size)
        self.threads = min(self.threads, self.slabs)
        self.function = self._compiled.address(self._kernel)

    def _share(self, threads: int, per_row: int, middle_step: int) -> None:
        """Choose groups of a size that does not depend on the number of threads."""
        super()._share(threads, per_row, middle_step)
        self.threads = max(1, min(threads, round(self.cycles / THREAD_CYCLES)))
        most = self.group_bytes // (self._pixels * middle_step)
        self._group = max(1, min(self.tiles, most))
        self._set(group_tiles=self._group)

    def _sums(self) -> tuple[int, int]:
        """Return the length of a partial sum, and where in it the depthwise gradients begin."""
        g = self.geometry
        blocks = up(g.channels, self._lanes) * g.multiplier // self._lanes
        taps = (int(np.prod(g.kernel)) + 1) * self._lanes * blocks
        if not g.outputs:
            return taps, 0
        return g.outputs * self.line + up(g.outputs, self._lanes), 0

    def _slabs(self, length: int) -> int:
        most = max(LEAST_SLABS, min(MOST_SLABS, SUMS_BYTES // (length * 4)))
        return max(1, min(self.tiles, most))

    def _add_buffers(self) -> None:
        """Add the buffers of other kernels to the scratch memory."""

    def fill(
        self, words: NDArray[np.int64], source: tuple[int, ...], target: int, scratch: int
    ) -> None:
        """Write the parameters of one run for the kernel.

        `source` has the addresses of the input, the depthwise weights and biases, the pointwise weights, and then of
        the arrays named in `_finish`.
        """
        x, depthwise, depthwise_bias, pointwise, *gradients = source
        arrays = (x, depthwise, depthwise_bias, pointwise, self._no_bias)
        super().fill(words, arrays, target, scratch)
        words[self._at_gradients[: len(gradients)]] = gradients


class BackwardLayerPlan(BackwardPlan):
    """Plan of all gradients of a layer in one pass over each image."""

    kernel = "backward_layer"

    def __init__(self, geometry: Geometry, threads: int) -> None:
        self.back = LayerPlan(_input_geometry(geometry), threads)
        super().__init__(geometry, threads, self.kernel)

    def _sums(self) -> tuple[int, int]:
        g = self.geometry
        pointwise, _ = super()._sums()
        taps = (int(np.prod(g.kernel)) + 1) * up(g.channels, self._lanes)
        return pointwise + taps, pointwise

    def _slabs(self, length: int) -> int:
        return min(self.geometry.images, super()._slabs(length))

    def _add_buffers(self) -> None:
        addresses = up(self.scratch_size, 64)
        pixels = addresses + up(self.back.scratch_size, 64)
        image = pixels + 128
        self.scratch_size = image + up(_image_bytes(self.geometry), 64)
        self._set(
            at_addresses=addresses, at_pixels=pixels, at_image=image,
            row_ready=self._add_table(_row_ready(self.geometry)),
        )  # fmt: skip

    def fill(
        self, words: NDArray[np.int64], source: tuple[int, ...], target: int, scratch: int
    ) -> None:
        """Write both records; the last two addresses in `source` are the flipped weights and their bias."""
        super().fill(words, source[:-2], target, scratch)
        rest = words[self._words.size :]
        self.back.fill(rest, (0, *source[-2:], 0, 0), target, scratch)


def _source_ahead(g: Geometry) -> int:
    """Return the bytes from the input row under an output row to the last one that it reads."""
    z, y = (d * (k - 1) - b for d, k, b in zip(g.dilation, g.kernel, g.before[:2], strict=False))
    return max(0, (z * g.size[1] + y) * g.size[2]) * g.channels * 4


def _image_bytes(g: Geometry) -> int:
    """Return the size of the middle values of one image."""
    return math.prod(g.out_size) * g.depth * 4


def _row_ready(g: Geometry) -> NDArray[np.int64]:
    """Return for each input row how many output rows must exist before its gradient can be computed."""
    out = g.out_size
    axes = []
    for axis in (0, 1):
        rows = np.arange(out[axis])[:, None] * g.stride[axis] - g.before[axis]
        axes.append(rows + np.arange(g.kernel[axis]) * g.dilation[axis])
    z, y = axes[0][:, None, :, None], axes[1][None, :, None, :]  # (oz, oy, kz, ky)
    inside = (z >= 0) & (z < g.size[0]) & (y >= 0) & (y < g.size[1])
    row = np.broadcast_to(np.arange(out[0] * out[1]).reshape(*out[:2], 1, 1) + 1, inside.shape)
    ready = np.zeros(g.size[0] * g.size[1], np.int64)
    np.maximum.at(ready, (z * g.size[1] + y)[inside], row[inside])
    return np.maximum.accumulate(ready)


def _input_geometry(g: Geometry) -> Geometry:
    """Return the geometry of the transposed convolution, which computes the gradient of the input."""
    reach = [d * (k - 1) for d, k in zip(g.dilation, g.kernel, strict=True)]
    before = [r - b for r, b in zip(reach, g.before, strict=True)]
    seen = [(n - 1) * s + 1 for n, s in zip(g.out_size, g.stride, strict=True)]
    after = [n - e - b + r for n, e, b, r in zip(g.size, seen, before, reach, strict=True)]
    ones = (1, 1, 1)
    return Geometry(
        g.images, g.depth, g.out_size, g.kernel, ones, g.dilation, _sizes(before), _sizes(after), 1, 0,
        0, 0, 4, g.stride,
    )  # fmt: skip


def _sizes(values: list[int]) -> Sizes:
    z, y, x = values
    return z, y, x


_plan = lru_cache(maxsize=256)(BackwardPlan)
_layer_plan = lru_cache(maxsize=128)(BackwardLayerPlan)


@lru_cache(maxsize=256)
def _without_outputs(g: Geometry) -> Geometry:
    return replace(g, outputs=0)


@lru_cache(maxsize=256)
def in_one_pass(g: Geometry) -> bool:
    """Return True if `backward_layer` serves: enough images for all threads, which fit the caches."""
    return g.multiplier == 1 and g.images >= LEAST_IMAGES and _image_bytes(g) <= IMAGE_BYTES


def backward_layer(
    packed: PackedLayer,
    geometry: Geometry,
    x: Tensor,
    gradient: Tensor,
    result: Tensor,
    weights: tuple[Tensor, Tensor],
    *,
    to_input: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
    """Return all gradients of a layer: input, depthwise weights and biases, pointwise weights and biases."""
    g, threads = geometry, torch.get_num_threads()
    plan = _layer_plan(geometry, threads)
    depthwise, pointwise = weights
    transposed, lanes = transposed_panels(g, pointwise), plan.lanes
    flipped = pack_depthwise(flipped_taps(g, depthwise), g.channels, lanes)
    no_bias = pack_depthwise_bias(None, g.channels, g.channels, lanes)
    sums = torch.empty(plan.slabs, plan.slab, dtype=torch.float32, device="cpu")
    found = empty((g.images, *g.size, g.channels)) if to_input else None
    source: Any = (
        x.data_ptr(), *packed.addresses[:2], transposed.data_ptr(), gradient.data_ptr(),
        result.data_ptr(), 0, sums.data_ptr(), flipped.data_ptr(), no_bias.data_ptr(),
    )  # fmt: skip
    run(plan, source, 0 if found is None else found.data_ptr(), threads)
    total = sums.sum(0)
    taps = plan.slab - (math.prod(g.kernel) + 1) * up(g.channels, lanes)
    return (
        None if found is None else found.movedim(-1, 1),
        *depthwise_sums(g, total[taps:], depthwise, lanes),
        *pointwise_sums(g, total, pointwise, plan.line),
    )


def transposed_panels(g: Geometry, pointwise: Tensor) -> Tensor:
    """Return the transposed pointwise weights as panels."""
    compiled = kernels()
    # (depth with the multiplier outside, outputs)
    across = pointwise.detach().reshape(g.outputs, g.channels, g.multiplier).permute(2, 1, 0)
    return pack_pointwise(
        across.reshape(g.depth, g.outputs), g.outputs, compiled.panel, compiled.lanes
    )


def pointwise_sums(
    g: Geometry, total: Tensor, pointwise: Tensor, line: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the pointwise weights and biases from the sums of all slabs."""
    weights = total[: g.outputs * line].view(g.outputs, line)[:, : g.depth]
    weights = weights.reshape(g.outputs, g.multiplier, g.channels).transpose(1, 2)
    return weights.reshape(pointwise.shape), total[g.outputs * line :][: g.outputs]


def depthwise_sums(g: Geometry, total: Tensor, weight: Tensor, lanes: int) -> tuple[Tensor, Tensor]:
    """Return the gradients of the depthwise weights and biases from the sums of all slabs."""
    total = total.view(g.multiplier, -1, math.prod(g.kernel) + 1, lanes)
    table = total.permute(0, 1, 3, 2).reshape(g.multiplier, -1, total.shape[2])
    table = table[:, : g.channels].transpose(0, 1).reshape(g.depth, -1)
    return table[:, :-1].reshape(weight.shape), table[:, -1].contiguous()


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
    g, threads = geometry, torch.get_num_threads()
    plan = _plan(geometry, threads, "backward_pointwise")
    transposed = transposed_panels(g, pointwise)
    middle_gradient = empty((g.images, *g.out_size, g.depth))
    sums = torch.empty(plan.slabs, plan.slab, dtype=torch.float32, device="cpu")
    source: Any = (
        x.data_ptr(), *packed.addresses[:2], transposed.data_ptr(), gradient.data_ptr(),
        result.data_ptr(), middle_gradient.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    run(plan, source, 0, threads)
    return middle_gradient, *pointwise_sums(g, sums.sum(0), pointwise, plan.line)


def backward_depthwise(
    geometry: Geometry,
    x: Tensor,
    middle_gradient: Tensor,
    weight: Tensor,
    *,
    to_input: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of the input ``(n, channels, *space)``, the weights and the biases.

    `middle_gradient` is the gradient of the depthwise result ``(n, *space, depth)``, the multiplier outside.
    """
    g, threads = geometry, torch.get_num_threads()
    plan = _plan(_without_outputs(g), threads, "backward_depthwise")
    sums = torch.empty(plan.slabs, plan.slab, dtype=torch.float32, device="cpu")
    source: Any = (x.data_ptr(), 0, 0, 0, 0, 0, middle_gradient.data_ptr(), sums.data_ptr())
    run(plan, source, 0, threads)
    weights, biases = depthwise_sums(g, sums.sum(0), weight, plan.lanes)
    if not to_input:
        return None, weights, biases
    return _to_input(g, middle_gradient, weight), weights, biases


def flipped_taps(g: Geometry, weight: Tensor) -> Tensor:
    """Return the depthwise weights with their taps in reverse order, the multiplier outside."""
    flipped = weight.detach().reshape(g.channels, g.multiplier, -1).flip(-1).transpose(0, 1)
    return flipped.reshape(g.depth, 1, *g.kernel)


def _to_input(g: Geometry, middle_gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the input ``(n, channels, *space)``: the transposed convolution."""
    back = _input_geometry(g)
    pads = tuple(n for pair in zip(back.before, back.after, strict=True) for n in pair)
    settings = (back.stride, pads, back.dilation, 0, 0)
    layer = PackedLayer(
        flipped_taps(g, weight), None, None, None, g.depth, settings, spread=back.spread
    )
    found = layer(middle_gradient.movedim(-1, 1))
    if g.multiplier > 1:
        found = found.reshape(found.shape[0], g.multiplier, g.channels, *found.shape[2:]).sum(1)
    return found
