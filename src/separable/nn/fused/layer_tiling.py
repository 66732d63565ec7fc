"""Plans of separable layers: tables of addresses, groups of tiles, sizes of scratch memory.

Every size of scratch memory is fixed here, in one place, because compiled code checks no bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from separable.nn.fused.kernel_plan import KernelPlan, kernels

__all__ = [
    "ACTIVATIONS",
    "Geometry",
    "LayerPlan",
    "clamp_limits",
    "layer_plan",
    "pointwise_plan",
    "three",
    "up",
]

ACTIVATIONS = (
    "none", "relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid", "gelu", "gelu_tanh", "tanh",
)  # fmt: skip
MIDDLE_BYTES = 192 << 10
"""Largest size of a group's middle values, which share the second-level cache with weights and inputs."""
THREAD_CYCLES = 15_000
"""Cycles of work that justify one more thread."""
PLANS_KEPT = 512
PAIR_TAPS = (3, 7)
"""Numbers of neighbouring taps for which `depthwise_tiles._depthwise_pair` has code."""
SPLIT_COST = 1.5
"""Factor of the time of a depthwise step whose threads write different channels of the same positions.

What one core fetches ahead of its own part is what the other core writes (see `engine.compiled.work_items`).
"""
PAIR_GAIN = 0.25
"""Part of its time that a depthwise step saves where rows of outputs are computed in pairs, about."""
PAIR_VECTORS = 4
"""Vectors of a block of code for 32 registers."""
INSIDE_TAPS = (5, 7, 9)
"""Numbers of neighbouring taps other than three for which `depthwise_tiles.depthwise_inside` has code."""

Sizes = tuple[int, int, int]


@dataclass(frozen=True)
class Geometry:
    """Sizes of a layer and its input, always with three spatial axes.

    Attributes
    ----------
    images, channels : int
    size, kernel, stride, dilation : tuple of three int
    before, after : tuple of three int
        Padding at both ends of each axis; never negative.
    multiplier : int
        Depthwise outputs per channel.
    outputs : int
        Outputs of the pointwise step; 0 if there is none.
    depthwise_act, pointwise_act : int
        Activations after the two steps, as indices into `ACTIVATIONS`.
    itemsize : int
        4 for float32, 2 for bfloat16.
    spread : tuple of three int
        Distance between input samples, with zeros between them: for gradients of strided layers.
    residual : bool
        Whether a tensor of the output's shape is added before the last activation (float32 only). Its address
        takes the place of the pointwise step's biases, which then lie behind the pointwise weights.
    """

    images: int
    channels: int
    size: Sizes
    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    before: Sizes
    after: Sizes
    multiplier: int
    outputs: int
    depthwise_act: int
    pointwise_act: int
    itemsize: int = 4
    spread: Sizes = (1, 1, 1)
    residual: bool = False

    @property
    def out_size(self) -> Sizes:
        """Sizes of the output along the spatial axes."""
        z, y, x = (
            ((n - 1) * w + a + b - d * (k - 1)) // s + 1
            for n, a, b, d, k, s, w in zip(
                self.size, self.before, self.after, self.dilation, self.kernel, self.stride,
                self.spread, strict=True,
            )
        )  # fmt: skip
        return z, y, x

    @property
    def depth(self) -> int:
        """Number of channels between the two steps."""
        return self.channels * self.multiplier


@lru_cache(maxsize=PLANS_KEPT)
def layer_plan(geometry: Geometry, threads: int) -> LayerPlan:
    """Return the plan of a layer, which is created once."""
    return LayerPlan(geometry, threads)


@lru_cache(maxsize=PLANS_KEPT)
def pointwise_plan(geometry: Geometry, threads: int) -> PointwisePlan:
    """Return the plan of a pointwise layer, which is created once."""
    return PointwisePlan(geometry, threads)


class LayerPlan(KernelPlan):
    """Plan of a separable or depthwise layer for one shape of input."""

    def __init__(self, geometry: Geometry, threads: int) -> None:
        self._compiled = kernels()
        super().__init__(self._compiled.constant("LAYER"))
        self.geometry = g = geometry
        self._lanes, self._pixels = self._compiled.lanes, self._compiled.pixels
        self._panel = self._compiled.panel
        out = g.out_size
        per_row = -(-out[2] // self._pixels)
        self.tiles = g.images * out[0] * out[1] * per_row
        blocks_of_source = -(-g.channels // self._lanes)
        outputs = g.outputs or g.depth
        panels = -(-g.outputs // self._panel)
        # An odd number of cache lines, so that rows do not fall into the same cache sets.
        middle_step = ((g.depth + self._lanes - 1) // 16 + 1 | 1) * 64
        self._set(
            tiles=self.tiles, tiles_of_row=per_row, tiles_of_image=per_row * out[0] * out[1],
            row_size=out[2], out_rows=out[0] * out[1], channels=g.channels,
            source_blocks=blocks_of_source, multiplier=g.multiplier, depth=g.depth,
            image_step=math.prod(g.size) * g.channels * g.itemsize, middle_step=middle_step,
            outputs=outputs, target_step=outputs * g.itemsize, panels=panels,
            depthwise_act=g.depthwise_act, pointwise_act=g.pointwise_act,
            block_step=math.prod(g.kernel) * self._lanes,
            zeros=self._add_table(np.zeros(g.depth * 4 + 128, np.uint8)),
        )  # fmt: skip
        if g.residual:
            bias_offset = g.depth * up(g.outputs, self._lanes) * 4
            self._set(bias_offset=bias_offset, residual_step=g.outputs * g.itemsize)
        limits = [
            *clamp_limits(g.depthwise_act),
            *clamp_limits(g.pointwise_act),
            -math.inf,
            math.inf,
        ]
        self._set(limits=self._add_table(np.array(limits, np.float32)))
        rows = self._rows()
        window = self._columns(per_row)
        self._share(threads, per_row, middle_step)
        table = up(rows * window * 8, 64)
        middle = (self._group * self._pixels + self._pixels) * middle_step if g.outputs else 0
        if not g.outputs and g.multiplier > 1:  # a tile before its channels are interleaved
            middle = up(self._pixels * g.depth * 4 + self._lanes * 4, 64)
        self._set(at_middle=table, at_spill=table + middle)
        self.scratch_size = up(table + middle + 8 * self._panel * 4, 64)
        self._finish()

    def _finish(self) -> None:
        """Choose the kernel, and set the size of the scratch memory."""
        step = "layer" if self.geometry.outputs else "depthwise"
        dtype = "float32" if self.geometry.itemsize == 4 else "bfloat16"
        self._set(scratch_size=self.scratch_size)
        self.function = self._compiled.address(f"{step}_{dtype}")

    @property
    def lanes(self) -> int:
        """Number of float32 in a vector."""
        return self._lanes

    def _rows(self) -> int:
        """Write the table of the rows of taps inside the image; return the largest number for one output row."""
        g, out = self.geometry, self.geometry.out_size
        inputs = []
        for axis in (0, 1):
            first = np.arange(out[axis])[:, None] * g.stride[axis] - g.before[axis]
            inputs.append(first + np.arange(g.kernel[axis]) * g.dilation[axis])
        z, y = inputs[0][:, None, :, None], inputs[1][None, :, None, :]  # (oz, oy, kz, ky)
        inside = (z % g.spread[0] == 0) & (y % g.spread[1] == 0)
        z, y = z // g.spread[0], y // g.spread[1]
        inside = inside & (z >= 0) & (z < g.size[0]) & (y >= 0) & (y < g.size[1])
        offsets = (z * g.size[1] + y) * g.size[2] * g.channels * g.itemsize
        taps = np.arange(g.kernel[0] * g.kernel[1]).reshape(g.kernel[:2])
        weights = np.broadcast_to(taps * g.kernel[2] * self._lanes, inside.shape)
        starts = np.concatenate([[0], np.cumsum(inside.sum(axis=(2, 3)).ravel())])
        self._set(
            row_starts=self._add_table(starts.astype(np.int64)),
            row_offsets=self._add_table(offsets[inside].astype(np.int64)),
            row_weights=self._add_table(weights[inside].astype(np.int64)),
        )
        self._pairs()
        return int(np.diff(starts).max(initial=0))

    def _pairs(self) -> None:
        """Write the table of the rows of taps of two rows of outputs, one below the other; see `LAYER_FIELDS`."""
        g, out = self.geometry, self.geometry.out_size
        counts = np.zeros(out[:2], np.int64)
        z = np.arange(out[0])[:, None] * g.stride[0] - g.before[0]
        z = (z + np.arange(g.kernel[0]) * g.dilation[0])[:, None, :, None]
        # Row j of the inputs is tap j of the outputs above, and tap j - 1 of those below.
        j = np.arange(g.kernel[1] + 1)
        y = (np.arange(0, out[1] - 1, 2)[:, None] + j - g.before[1])[None, :, None, :]
        inside = (z >= 0) & (z < g.size[0]) & (y >= 0) & (y < g.size[1])  # (oz, oy / 2, kz, j)
        inside = inside if self._has_pairs else np.zeros_like(inside)
        tap = np.arange(g.kernel[0])[:, None] * g.kernel[1] + j
        line = g.kernel[2] * self._lanes
        entries = (
            (z * g.size[1] + y) * g.size[2] * g.channels * g.itemsize,
            np.where(j < g.kernel[1], tap * line, -1),
            np.where(j > 0, (tap - 1) * line, -1),
        )
        table = np.stack([np.broadcast_to(e, inside.shape)[inside] for e in entries], axis=1)
        counts[:, 0 : out[1] - 1 : 2] = inside.sum(axis=(2, 3))
        starts = np.concatenate([[0], np.cumsum(counts.ravel())])
        self._set(
            pair_starts=self._add_table(starts.astype(np.int64)),
            pair_taps=self._add_table(table.astype(np.int64)),
        )

    @cached_property
    def _has_pairs(self) -> bool:
        """True if two rows of outputs are computed together, which needs 32 registers and pays at stride 1."""
        g, compiled = self.geometry, self._compiled
        steps = {*g.stride[1:], *g.dilation[1:], *g.spread}
        serves = steps == {1} and g.kernel[1] > 1 and g.kernel[2] in PAIR_TAPS
        return serves and compiled.vectors == PAIR_VECTORS and g.channels % self._lanes == 0

    def _columns(self, per_row: int) -> int:
        """Write the table of the input columns under each tile; return their number per tile."""
        g = self.geometry
        stride, dilation, taps = g.stride[2], g.dilation[2], g.kernel[2]
        window = (self._pixels - 1) * stride + (taps - 1) * dilation + 1
        first = np.arange(per_row)[:, None] * self._pixels * stride - g.before[2]
        columns = first + np.arange(window)
        used = np.minimum(g.out_size[2] - np.arange(per_row) * self._pixels, self._pixels)
        inside = (columns % g.spread[2] == 0) & (
            np.arange(window) <= window - 1 - (self._pixels - used[:, None]) * stride
        )
        columns = columns // g.spread[2]
        inside &= (columns >= 0) & (columns < g.size[2])
        offsets = np.where(inside, columns * g.channels * g.itemsize, -1)
        kind = 3
        if dilation == 1 and stride <= 2:
            kind = stride - 1 if taps == 3 else 2 if stride == 1 else 3
        low, high = (
            np.maximum(-(first[:, 0] + used - 1), 0),
            np.minimum(g.size[2] - first[:, 0], taps),
        )
        if g.spread[2] > 1:
            low, high = np.zeros_like(low), np.full_like(high, taps)
        ranges = np.stack([low, np.maximum(high, low)], axis=1)  # taps that meet any input column
        self._set(
            columns=self._add_table(offsets.astype(np.int64)), window=window, row_kind=kind,
            tile_edges=self._add_table(self._edges(per_row, window, kind)),
            tap_range=self._add_table(ranges.astype(np.int64)),
            taps_of_row=taps, dilation=dilation, stride_columns=stride,
        )  # fmt: skip
        return window

    def _edges(self, per_row: int, window: int, kind: int) -> NDArray[np.int64]:
        """Return for each tile of a row what `depthwise_tiles.depthwise_inside` needs, (tiles, 3)."""
        g = self.geometry
        tiles, taps = np.arange(per_row) * self._pixels, g.kernel[2]
        # The last tile of a row is as long as the others.
        begun = np.minimum(tiles, g.out_size[2] - self._pixels)
        first = begun * g.stride[2] - g.before[2]
        left, right = np.maximum(-first, 0), np.maximum(first + window - g.size[2], 0)
        threes = kind <= 1  # three taps at stride 1 or 2: code for a missing column at either end
        serves = threes or (kind == 2 and taps in INSIDE_TAPS)
        serves = serves and g.channels % self._lanes == 0 and g.spread[2] == 1 and begun[-1] >= 0
        near = np.maximum(left, right) <= (1 if threes else 0)
        missing = np.where(near & serves, left + 2 * right, -1)
        column = first * g.channels * g.itemsize
        return np.stack([missing, column, tiles - begun], axis=1).astype(np.int64)

    def _share(self, threads: int, per_row: int, middle_step: int) -> None:
        """Choose groups of tiles and parts of channels by the shortest predicted time."""
        g = self.geometry
        vectors = -(-g.depth // self._lanes)
        depthwise = self._pixels * vectors * (math.prod(g.kernel) * 1.3 + 4) + 60
        pointwise = self._pixels * g.depth * -(-g.outputs // self._lanes)
        self.cycles = self.tiles * (depthwise + pointwise)
        self.threads = max(1, min(threads, round(self.cycles / THREAD_CYCLES)))
        most = max(1, MIDDLE_BYTES // (self._pixels * middle_step)) if g.outputs else 64
        blocks = -(-g.channels // self._lanes)
        panels = max(1, -(-g.outputs // self._panel)) if g.outputs else blocks
        best = math.inf
        self._group, parts = 1, 1
        for groups in _candidates(self.tiles, min(most, self.tiles)):
            rows = groups / per_row
            paired = PAIR_GAIN * (rows // 2 * 2 / rows) if self._has_pairs else 0.0
            for share in {1, self.threads, 2 * self.threads}:
                if share > panels:
                    continue
                items = -(-self.tiles // groups) * share
                again = 1.0 if g.outputs or share == 1 else SPLIT_COST / share
                again -= again * paired
                each = groups * (depthwise * again + pointwise / share) + 300
                each += g.depth * g.outputs * 4 / share / 8
                time = -(-items // self.threads) * each
                if time < best:
                    best, self._group, parts = time, groups, share
        items = -(-self.tiles // self._group) * parts
        self._set(group_tiles=self._group, parts=parts, items=items)
        self.threads = min(self.threads, max(1, items))


class PointwisePlan(LayerPlan):
    """Plan of a pointwise layer: all positions form one row of an empty depthwise step."""

    def _finish(self) -> None:
        self._set(scratch_size=self.scratch_size)
        self.function = self._compiled.address("pointwise_float32")


def three(values: Sequence[int], fill: int) -> Sizes:
    """Return values of one to three spatial axes as those of three: the axes that are missing come first."""
    z, y, x = (fill,) * (3 - len(values)) + tuple(values)
    return z, y, x


def up(number: int, step: int) -> int:
    """Return the smallest multiple of ``step`` that is at least ``number``."""
    return -(-number // step) * step


def _candidates(tiles: int, largest: int) -> list[int]:
    """Return the sizes of groups to try."""
    return sorted(set(range(1, min(largest, 48) + 1)) | {min(largest, tiles)} - {0}) or [1]


def clamp_limits(act: int) -> tuple[float, float]:
    """Return the bounds of an activation that is a clamp, or no bounds."""
    if ACTIVATIONS[act] in ("relu", "relu6"):
        return 0.0, 6.0 if ACTIVATIONS[act] == "relu6" else math.inf
    return -math.inf, math.inf
