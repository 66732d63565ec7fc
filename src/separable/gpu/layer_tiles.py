"""Candidates of tile sizes for the layers' kernels, in the order of their predicted time."""

from __future__ import annotations

import math
from typing import NamedTuple

from separable.gpu.device_profile import Device
from separable.gpu.layer_sizes import LayerSizes, Three, power_of_two
from separable.gpu.tile_cost import BlockWork
from separable.gpu.tuned_tiles import ranked

__all__ = ["LayerTile", "layer_tiles", "layer_work", "position_tiles"]

LEAST_PRODUCT = 16
"""Smallest side of a product of tensor cores."""
MOST_SUMS = 128
"""Most sums of products per thread; more would leave too few registers for the depthwise step."""
MOST_MIDDLE = 8
"""Most middle values per thread: three taps of each are loaded at the same time."""
BASE_REGISTERS = 56
"""Registers of a thread besides its sums and middle values: addresses, masks, loop counters (seen in compiled code)."""


class LayerTile(NamedTuple):
    """Tile of one program: output positions along z, y and x, middle channels, outputs, and how it is run."""

    z: int
    y: int
    x: int
    k: int
    n: int
    warps: int
    stages: int

    @property
    def positions(self) -> int:
        """Number of output positions."""
        return self.z * self.y * self.x

    @property
    def shape(self) -> Three:
        """Positions along each axis."""
        return self.z, self.y, self.x


def position_tiles(sizes: LayerSizes, count: int, *, last: bool) -> list[Three]:
    """Return tiles of about `count` positions that do not exceed the output by more than a power of two.

    With channels last tiles are compact, which reads the fewest samples twice. With channels first rows of x are
    contiguous, so that tiles are at least 32 samples (a line of 128 bytes) wide if the output is; with three axes 16, since
    there narrow tiles save more samples around them than the halves of lines cost.
    """
    least = 16 if sizes.out[0] > 1 else 32
    limit = [power_of_two(n) for n in sizes.out]
    found: list[Three] = []
    for width in (8, 16, 32, 64, 128):
        x = min(width, limit[2], count)
        if not last and x < min(least, limit[2]):
            continue
        rest = count // x
        y = min(limit[1], rest)
        if limit[0] > 1 and rest >= 4 and limit[1] >= 2:
            y = min(limit[1], 1 << (rest.bit_length() // 2))
        z = min(limit[0], max(1, rest // y))
        if (z, y, x) not in found:
            found.append((z, y, x))
    return found


def layer_tiles(
    device: Device, sizes: LayerSizes, precision: str, itemsize: int, *, last: bool
) -> list[LayerTile]:
    """Return tiles of the fused layer that fit a device, the fastest by prediction first."""
    wide = max(LEAST_PRODUCT, min(256, power_of_two(sizes.outputs)))
    depth = max(LEAST_PRODUCT, power_of_two(sizes.depth))
    tiles = {
        LayerTile(*shape, k, n, warps, stages)
        for count in (32, 64, 128)
        for shape in position_tiles(sizes, count, last=last)
        for k in (16, 32, 64) if k <= depth
        for n in ({wide} if wide <= 128 else {wide, wide // 2})
        for warps in (4, 8)
        for stages in (1, 2)
        if math.prod(shape) >= LEAST_PRODUCT and math.prod(shape) * n <= MOST_SUMS * 32 * warps
        and math.prod(shape) * k <= MOST_MIDDLE * 32 * warps
        and (warps == 4 or math.prod(shape) * n >= 128 * 64)
    }  # fmt: skip
    if not tiles:  # an output of a few positions
        tiles = {LayerTile(1, 1, LEAST_PRODUCT, 16, min(wide, 64), 4, 1)}
    order = ranked(device, sorted(tiles), lambda t: layer_work(sizes, t, precision, itemsize))
    return [t for t, _, _ in order]


def layer_work(sizes: LayerSizes, tile: LayerTile, precision: str, itemsize: int) -> BlockWork:
    """Return what the fused layer does with a tile."""
    spatial = math.prod(sizes.tiles(tile.shape)) * sizes.images
    blocks = -(-sizes.outputs // tile.n)
    rounds = -(-sizes.depth // tile.k) * tile.k  # middle channels with those beyond the last
    threads = tile.warps * 32
    taps = spatial * blocks * tile.positions * rounds * sizes.taps
    weights = sizes.depth * (sizes.taps + sizes.outputs)
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) + weights
    products = spatial * blocks * tile.positions * rounds * tile.n
    sums = tile.positions * tile.n / threads
    middle = tile.positions * tile.k / threads
    stored = tile.positions * tile.k * itemsize + tile.stages * tile.k * tile.n * itemsize
    return BlockWork(
        spatial * blocks, (read + sizes.positions * sizes.outputs) * itemsize,
        taps * itemsize + spatial * blocks * rounds * tile.n * itemsize, products, precision, taps,
        tile.warps, min(255, int(BASE_REGISTERS + sums + (2 + min(sizes.kernel[2], 3)) * middle)), stored,
    )  # fmt: skip
