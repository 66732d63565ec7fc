"""Plans of convolutions by Winograd's minimal filtering F(4x4, 3x3) and F(4, 3), and the transform of their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separable.nn.fused.dense_tiling import (
    POSITION_CYCLES,
    Panel,
    Steps,
    clamp_of,
    pack_dense,
    pack_panels,
    panel_table,
    panels_of,
)
from separable.nn.fused.direct_nchw import Convolution
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import THREAD_CYCLES, Sizes, up

__all__ = ["WinogradPlan", "can_use_winograd", "pack_winograd", "winograd_pays", "winograd_plan"]

POINT, INVERSE = 2 / 3, 3 / 2
"""Points of interpolation besides 0 and infinity: both with both signs. The compiled transforms use them too."""
TILE, WINDOW, ROWS = 4, 6, 6
"""Outputs and inputs of a tile along each axis that is transformed, and tiles of a register block."""
KERNELS = ((1, 3, 3), (1, 3, 1), (1, 1, 3))
"""Kernels that can be transformed; the transforms run along the axes with three taps."""
GROUP_BYTES = 768 << 10
"""Bound on the transformed inputs and the products of a group of tiles, for groups of more than 6 tiles."""
TRANSFORM_CYCLES, TILE_CYCLES, ITEM_CYCLES = 8.3, 100, 500
"""Measured cycles to transform one vector of channels of one input, either way; besides per tile and per work item."""
LARGE_WEIGHTS = 24 << 20
"""Transformed weights of more bytes do not stay in the last-level cache from call to call."""
LEAST_GAIN = 1.15
"""Predicted gain over the direct kernel from which Winograd's filtering is used."""
PLANS_KEPT = 512


def can_use_winograd(conv: Convolution) -> bool:
    """Return True for a convolution of 3 x 3, 3 x 1 or 1 x 3 taps with stride 1, dilation 1 and one group."""
    ones = (1, 1, 1)
    return (
        conv.kernel in KERNELS
        and conv.stride == conv.dilation == ones
        and conv.groups == 1
        and conv.before[0] == conv.after[0] == 0
    )


def _window(conv: Convolution) -> tuple[int, int]:
    """Return the inputs of a tile along y and x."""
    y, x = (WINDOW if k == 3 else 1 for k in conv.kernel[1:])
    return y, x


def _tile(conv: Convolution) -> tuple[int, int]:
    """Return the outputs of a tile along y and x."""
    y, x = (TILE if k == 3 else 1 for k in conv.kernel[1:])
    return y, x


def pack_winograd(weight: Tensor, panels: Sequence[Panel], lanes: int) -> Tensor:
    """Transform weights g ``(outputs, channels, *kernel)`` to G g G^T and pack ``[panel][value][channel][output]``.

    Row i of G evaluates the polynomial of three weights at the i-th point a, divided by the product of the
    distances from a to the other points; the last row has the leading coefficient alone. The plain weights, packed
    for the direct kernel, follow behind: they serve tiles whose inputs are not finite.
    """
    p, q = POINT, INVERSE
    points = (0.0, p, -p, q, -q)
    rows = [[a**k / math.prod(a - b for b in points if b != a) for k in range(3)] for a in points]
    g = torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)  # (6, 3)
    both = torch.ones(1, 1, dtype=torch.float64)
    for taps in weight.shape[2:]:
        both = torch.kron(both, g) if taps == 3 else both
    outputs, channels = weight.shape[:2]
    flat = weight.detach().double().reshape(outputs, channels, -1).permute(2, 1, 0)  # (tap, c, o)
    made = both @ flat.reshape(flat.shape[0], -1)  # (value, c and o)
    transformed = pack_panels(made.reshape(-1, outputs).float(), panels, lanes)
    return torch.cat([transformed, pack_dense(weight, panels, lanes)])


@lru_cache(maxsize=PLANS_KEPT)
def winograd_plan(
    conv: Convolution, images: int, size: Sizes, steps: Steps, threads: int
) -> WinogradPlan:
    """Return the plan of a convolution by Winograd's minimal filtering, which is created once."""
    return WinogradPlan(conv, images, size, steps, threads)


class WinogradPlan(KernelPlan):
    """Plan of a convolution by Winograd's minimal filtering for one shape of input.

    Parameters
    ----------
    conv : Convolution
        A layer for which `can_use_winograd` is true.
    images : int
    size : tuple of three int
        Sizes of the input; the first is counted as images.
    steps : Steps
        Layout of the arrays; the channels are last.
    threads : int
        Largest number of threads.
    """

    def __init__(
        self, conv: Convolution, images: int, size: Sizes, steps: Steps, threads: int
    ) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("WINOGRAD"))
        self.conv, self.out_size = conv, conv.sizes(size)
        self._lanes = lanes = compiled.lanes
        self._panels = panels_of(conv.outputs, 1, compiled.vectors, lanes)
        images *= size[0]
        out, tile, window = self.out_size, _tile(conv), _window(conv)
        self._values = math.prod(window)
        per_row = -(-out[2] // tile[1])
        per_image = per_row * -(-out[1] // tile[0])
        self._tiles = images * per_image
        group, parts = self._share(threads)
        step = steps.source or conv.inputs * 4
        self._set(
            items=-(-self._tiles // group) * parts, parts=parts, tiles=self._tiles, tiles_of_row=per_row,
            tiles_of_image=per_image, group_tiles=group, channels=conv.inputs,
            tile_y=tile[0], tile_x=tile[1], window_y=window[0], window_x=window[1],
            values=self._values, products=conv.count,
            image_step=size[1] * size[2] * step, row_step=size[2] * step, column_step=step,
            size_y=size[1], size_x=size[2], out_y=out[1], out_x=out[2], before_y=conv.before[1],
            before_x=conv.before[2], act=conv.act, limits=self._add_table(clamp_of(conv.act)),
            target_step=steps.target or conv.outputs * 4,
            residual_step=steps.residual or conv.outputs * 4,
            zeros=self._add_table(np.zeros(max(conv.inputs, 4 * lanes) + lanes, np.float32)),
        )  # fmt: skip
        rows = self._values * conv.inputs
        table = panel_table(self._panels, rows, lanes)
        # The plain weights lie behind the transformed ones.
        whole = rows * sum(p.vectors for p in self._panels) * lanes * 4
        table[:, 6] = whole + conv.count * table[:, 1]
        self._set(panels=len(self._panels), panel_table=self._add_table(table))
        self._scratch(group)
        self.function = compiled.address("convolve_winograd")

    def _scratch(self, group: int) -> None:
        """Lay out the scratch memory of a thread, and write the tables of places in it."""
        value_step, value_plane, product_plane = self._planes(group)
        values = self._values
        at_windows = up(values * 8, 64)
        outputs = TILE * TILE * 8
        at_tile = at_windows + 2 * outputs
        at_values = at_tile + up(values * self.conv.inputs * 4, 64)
        at_products = at_values + values * value_plane
        self.scratch_size = at_products + values * product_plane
        numbers = np.arange(group, dtype=np.int64)
        rows, columns = (np.arange(k) for k in self.conv.kernel[1:])
        taps = rows[:, None, None] * _window(self.conv)[1] + columns[:, None]  # (y, x, channel)
        direct = (taps * self.conv.inputs + np.arange(self.conv.inputs)) * 4
        self._set(
            at_windows=at_windows, at_places=at_windows + outputs, at_tile=at_tile,
            direct_offsets=self._add_table(direct.astype(np.int64).ravel()), value_step=value_step, value_plane=value_plane, product_plane=product_plane,
            at_values=at_values, at_products=at_products, scratch_size=self.scratch_size,
            windows=self._add_table(numbers * value_step), order=self._add_table(numbers),
            offsets=self._add_table(np.arange(self.conv.inputs, dtype=np.int64) * 4),
        )  # fmt: skip

    def _planes(self, group: int) -> Sizes:
        """Return the bytes from tile to tile and plane to plane of V, and from plane to plane of M."""
        value_step = up(self.conv.inputs, max(16, self._lanes)) * 4
        line = max(p.vectors for p in self._panels) * self._lanes * 4
        # Odd numbers of cache lines: the planes of a tile do not fall into the same cache sets.
        value, product = (up(group * n, 64) // 64 | 1 for n in (value_step, line))
        return value_step, value * 64, product * 64

    def _share(self, threads: int) -> tuple[int, int]:
        """Choose the tiles of a group and parts of the panels by the shortest predicted time."""
        conv, tiles = self.conv, self._tiles
        inputs, outputs, weights = _cycles(conv, self._panels, self._lanes)
        self.threads = max(1, min(threads, round(tiles * (inputs + outputs) / THREAD_CYCLES)))
        best, group, parts = math.inf, 1, 1
        for size in range(1, min(tiles, 96) + 1):
            _, value, product = self._planes(size)
            if self._values * (value + product) > GROUP_BYTES and size > ROWS:
                break
            groups, rest = -(-tiles // size), (tiles - 1) % size + 1
            for share in {n for n in (1, self.threads, 2 * self.threads) if n <= len(self._panels)}:
                # A block of fewer tiles than ROWS takes a little more than its share of the time.
                whole, last = (
                    n * inputs
                    + ((0.85 * n + 0.15 * up(n, ROWS)) * outputs + weights) / share
                    + ITEM_CYCLES
                    for n in (size, rest)
                )
                rounds = -(-groups * share // self.threads)
                left = groups * share - (rounds - 1) * self.threads  # items of the last round
                time = (rounds - 1) * whole + (last if left <= share else whole)
                if time < best:
                    best, group, parts = time, size, share
        self.cycles = best
        self.threads = min(self.threads, -(-tiles // group) * parts)
        return group, parts


def _cycles(conv: Convolution, panels: Sequence[Panel], lanes: int) -> tuple[float, float, float]:
    """Return the predicted cycles of a tile's inputs and outputs, and to read the weights once."""
    values = math.prod(_window(conv))
    transform = values * TRANSFORM_CYCLES
    inputs = -(-conv.inputs // lanes) * transform + TILE_CYCLES
    outputs = sum(
        values * (conv.inputs * p.vectors + POSITION_CYCLES) + p.vectors * transform for p in panels
    )
    weights = values * conv.inputs * sum(p.vectors for p in panels) * lanes * 4
    return inputs, outputs, weights / (16 if weights <= LARGE_WEIGHTS else 4)


def winograd_pays(conv: Convolution, images: int, size: Sizes) -> bool:
    """Return True if Winograd's filtering is predicted to be faster than the direct kernel.

    The answer does not depend on the number of threads, so that results do not either.
    """
    if not can_use_winograd(conv):
        return False
    compiled = kernels()
    panels = panels_of(conv.outputs, 1, compiled.vectors, compiled.lanes)
    out = conv.sizes(size)
    positions = images * math.prod(out)
    tile = _tile(conv)
    tiles = images * out[0] * -(-out[1] // tile[0]) * -(-out[2] // tile[1])
    inputs, outputs, weights = _cycles(conv, panels, compiled.lanes)
    direct = positions * sum(conv.count * p.vectors + POSITION_CYCLES for p in panels)
    return (tiles * (inputs + outputs) + weights) * LEAST_GAIN <= direct
