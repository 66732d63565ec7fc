"""Tiles of the kernel of a layer's gradients, in the order of their predicted time."""

from __future__ import annotations

import math
from typing import NamedTuple

from separable.gpu.device_profile import Device
from separable.gpu.layer_sizes import LayerSizes, Three, power_of_two
from separable.gpu.layer_tiles import BASE_REGISTERS, LEAST_PRODUCT, position_tiles
from separable.gpu.tile_cost import BlockWork
from separable.gpu.tuned_tiles import ranked

__all__ = ["WEIGHT_OUTPUTS", "GradientPass", "GradientTile", "gradient_registers", "gradient_tiles"]

MOST_OUTPUTS = 256
"""Most outputs whose weights' gradient one program can sum; a second kernel sums those of more."""
OUTPUT_BLOCKS = (32, 64)
"""Outputs per round of programs that do not sum the weights' gradient; half of the outputs if those are fewer."""
WEIGHT_OUTPUTS = 128
"""Outputs per program of the second kernel."""
MOST_REGISTERS = {8: 200, 9: 200, 10: 150}
"""Registers of a thread by the estimate, for each generation. Of 255 the assembler leaves as many for what the estimate
does not see; for capability 10.0, whose products lie in a memory of their own, more (seen in compiled code)."""
PER_GIVEN, PER_CLAMPED, PER_SPLIT = 4, 5, 14
"""Registers per value of the upstream gradient that a thread holds (value and address), more if the stored result is
read beside it, and more if each value is split into three of TF32 (all three seen in compiled code)."""
PER_WEIGHT = 3
"""Registers per pointwise weight: its value and address stay the same for all tiles of a program."""


class GradientTile(NamedTuple):
    """Tile of one program: output positions along z, y and x, middle channels, outputs per round, and its warps.

    `sums_all` says that a round has all outputs, so that the program sums the gradient of the pointwise weights too.
    """

    z: int
    y: int
    x: int
    k: int
    outputs: int
    sums_all: bool
    warps: int

    @property
    def positions(self) -> int:
        """Number of output positions."""
        return self.z * self.y * self.x

    @property
    def shape(self) -> Three:
        """Positions along each axis."""
        return self.z, self.y, self.x


class GradientPass(NamedTuple):
    """Properties of a launch besides the sizes of its layer.

    Attributes
    ----------
    precision : str
        Precision of products, see `Device.products_per_second`.
    itemsize : int
        Bytes of a sample.
    last : bool
        Whether channels are last in memory.
    clamps : bool
        Whether the stored result is read, to see where the last activation clamped it.
    """

    precision: str
    itemsize: int
    last: bool
    clamps: bool


def gradient_tiles(device: Device, sizes: LayerSizes, made: GradientPass) -> list[GradientTile]:
    """Return tiles whose values fit into the registers, the fastest by prediction first."""
    depth = max(LEAST_PRODUCT, power_of_two(sizes.depth))
    tiles = {
        GradientTile(*_wide_enough(shape), k, outputs, sums_all, warps)
        for count in (16, 32, 64)
        for shape in position_tiles(sizes, count, last=made.last)
        for k in (16, 32) if k <= depth
        for outputs, sums_all in _rounds(sizes)
        for warps in (4, 8)
    }  # fmt: skip
    most = MOST_REGISTERS[min(10, device.capability[0])]
    fitting = [t for t in sorted(tiles) if gradient_registers(sizes, t, made) <= most]
    if not fitting:
        fitting = [min(tiles, key=lambda t: gradient_registers(sizes, t, made))]
    return [t for t, _, _ in ranked(device, fitting, lambda t: gradient_work(sizes, t, made))]


def _wide_enough(shape: Three) -> Three:
    """Return a tile with the positions that a product of tensor cores needs."""
    missing = LEAST_PRODUCT // math.prod(shape)
    return (shape[0], shape[1], shape[2] * missing) if missing > 1 else shape


def _rounds(sizes: LayerSizes) -> list[tuple[int, bool]]:
    """Return outputs per round, and whether these are all."""
    wide = max(LEAST_PRODUCT, power_of_two(sizes.outputs))
    found = [(wide, True)] if wide <= MOST_OUTPUTS else []
    blocks = {min(block, wide // 2) for block in OUTPUT_BLOCKS} if wide > LEAST_PRODUCT else set()
    return [*found, *((block, False) for block in sorted(blocks))]


def gradient_registers(sizes: LayerSizes, tile: GradientTile, made: GradientPass) -> int:
    """Return an estimate of the registers of a thread.

    The values of the upstream gradient and the pointwise weights with their addresses, the middle values with those that
    are loaded for a row of taps, and the sums of both kinds of weights.
    """
    threads = 32 * tile.warps
    each = PER_GIVEN + PER_CLAMPED * made.clamps + PER_SPLIT * (made.precision == "tf32x3")
    given = tile.positions * tile.outputs * each / threads
    middle = tile.positions * tile.k * (2 + sizes.kernel[2]) / threads
    weights = tile.k * tile.outputs * (PER_WEIGHT + tile.sums_all) / threads
    sums = tile.k * power_of_two(sizes.taps + 1) / threads
    return int(BASE_REGISTERS + given + middle + weights + sums)


def gradient_work(sizes: LayerSizes, tile: GradientTile, made: GradientPass) -> BlockWork:
    """Return what the kernel does with a tile, with the second kernel where the weights' gradient needs it."""
    spatial = math.prod(sizes.tiles(tile.shape)) * sizes.images
    blocks = -(-sizes.depth // tile.k)
    values = spatial * tile.positions * blocks * tile.k
    given = spatial * tile.positions * blocks * -(-sizes.outputs // tile.outputs) * tile.outputs
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape)
    upstream = sizes.positions * sizes.outputs * (2 if made.clamps else 1)
    products = values * -(-sizes.outputs // tile.outputs) * tile.outputs * 2
    # The depthwise step is computed again, and each of its values is multiplied once more for the taps' gradient.
    rounds, again = 2, 0
    if not tile.sums_all:
        again = -(-sizes.outputs // WEIGHT_OUTPUTS)
        rounds += again
    loaded = values * sizes.taps * rounds + given * (2 if made.clamps else 1) * (1 + (again > 0))
    memory = read * (1 + again) + upstream * (1 + (again > 0)) + sizes.positions * sizes.depth
    shared = tile.positions * (tile.outputs + tile.k) + tile.outputs * tile.k
    return BlockWork(
        spatial * blocks, memory * made.itemsize, loaded * made.itemsize, products, made.precision,
        values * sizes.taps * rounds, tile.warps, gradient_registers(sizes, tile, made),
        shared * made.itemsize,
    )  # fmt: skip
