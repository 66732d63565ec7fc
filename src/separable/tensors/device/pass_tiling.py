"""Tiles of the fused passes: what fits into the registers, and which of these is predicted to be the fastest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from separable.gpu.device_profile import WARP, Device
from separable.gpu.tile_cost import BlockWork, predicted
from separable.tensors.device.pass_program import PassProgram

__all__ = ["PassShape", "PassTile", "fitting_tiles", "register_estimate", "work_of"]

MOST_REGISTERS = 200  # by the estimate; a thread has at most 255
OTHER_REGISTERS = 40  # addresses and counters
PHASES, DEPTHS, WARPS, ELEMENTS = (4, 2, 1), (8, 4, 2, 1), (4, 2, 1), (4, 2, 1)
ROWS = (256, 128, 64, 32, 16, 8)
LINE = 128  # bytes that a warp loads at a time from the first-level cache


@dataclass(frozen=True)
class PassShape:
    """Sizes that a tile is chosen for.

    Attributes
    ----------
    outputs : (int, int, int)
        Outputs along the lanes (x with what lies inside it), z and y.
    batch : int
        Number of independent images.
    inner : int
        Samples inside each position of x.
    itemsize, work, result : int
        Bytes of a sample, of the type of the sums, and of a result.
    fills : bool
        Whether a constant lies outside.
    """

    outputs: tuple[int, int, int]
    batch: int
    inner: int
    itemsize: int
    work: int
    result: int
    fills: bool = False


@dataclass(frozen=True)
class PassTile:
    """Tile of one program.

    Attributes
    ----------
    lanes, phases : int
        Elements of each tensor of the kernel, and outputs of each of them along x.
    depth : int
        Outputs along z.
    rows : int
        Rows of a strip.
    unroll : int
        Rows per turn of the loop.
    warps : int
        Groups of 32 threads.
    """

    lanes: int
    phases: int
    depth: int
    rows: int
    unroll: int
    warps: int

    @property
    def width(self) -> int:
        """Outputs along the lanes."""
        return self.lanes * self.phases

    @property
    def elements(self) -> int:
        """Elements of each tensor of the kernel that one thread holds."""
        return max(1, self.lanes // (WARP * self.warps))

    def tiles(self, shape: PassShape) -> tuple[int, int, int]:
        """Return the number of tiles along x, z and y."""
        x, z, y = shape.outputs
        return math.ceil(x / self.width), math.ceil(z / self.depth), math.ceil(y / self.rows)

    def programs(self, shape: PassShape) -> int:
        """Return the number of programs of a launch."""
        return math.prod(self.tiles(shape)) * shape.batch


def register_estimate(program: PassProgram, tile: PassTile, work: int) -> int:
    """Return an estimate of the registers that a thread needs.

    The ring of rows, the window of a row, the sums of a row, and the places of the window of a tile at the border.
    """
    kx, kz, ky = program.taps
    sums = len(program.z) if kz else len(program.x)
    window = tile.phases + kx - 1
    row = sums * tile.depth * tile.phases
    values = ky * row + window + (tile.phases * len(program.x) if kz else 0)
    places = window if kx > 1 else 1
    return OTHER_REGISTERS + (values * (work // 4) + places) * tile.elements


def work_of(
    program: PassProgram, shape: PassShape, tile: PassTile, memory_bytes: float
) -> BlockWork:
    """Return what a launch moves and multiplies."""
    _, kz, ky = program.taps
    x, z, y = program.multiplications
    programs = tile.programs(shape)
    rows = min(tile.rows, shape.outputs[2])
    planes = kz + tile.depth - 1 if kz else 1
    # Per lane: rows of the strip with those above it, each with its planes, and outputs. An output adds a plane that
    # it does not read with a selection, which takes as long as a multiplication.
    along_z = 2 * planes * tile.depth * sum(map(len, program.z)) if kz else 0
    per_row = tile.phases * (planes * x + along_z)
    per_output = tile.phases * tile.depth * y
    sums = programs * tile.lanes * ((rows + ky - 1) * per_row + rows * per_output)
    # Loads of a window, and of weights that are no arguments; each of those takes a whole line.
    warps = tile.lanes / WARP
    lines = _lines(program, tile, shape) * warps
    weights = (sum((x, y)) if shape.work == 8 else 0) + (2 * z if kz else 0)
    loaded = programs * (rows + ky - 1) * (planes * lines + weights * tile.warps) * LINE
    registers = register_estimate(program, tile, shape.work)
    double = shape.work // 4  # float64 at half of the rate
    return BlockWork(
        programs, memory_bytes, loaded, 0.0, "ieee", sums * double, tile.warps, registers, 0
    )


def _lines(program: PassProgram, tile: PassTile, shape: PassShape) -> float:
    """Return the cache lines that a warp loads for the window of one row."""
    kx = program.taps[0]
    lines = shape.itemsize * WARP / LINE
    if tile.phases > 1:  # aligned loads of all phases
        return math.ceil((2 * tile.phases + kx - 2) / tile.phases) * tile.phases * lines
    return kx * (lines if kx == 1 else lines + 1)


def fitting_tiles(program: PassProgram, shape: PassShape, device: Device) -> list[PassTile]:
    """Return the tiles that fit into the registers, the one that is predicted to be the fastest first.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.gpu.device_profile import PROFILES
    >>> from separable.tensors.device.pass_program import program_of
    >>> taps = np.ones(17)
    >>> program, _ = program_of([[(taps, taps)]], [(8, 8)], {"y": 0, "x": 1})
    >>> best = fitting_tiles(program, PassShape((4096, 1, 4096), 1, 1, 4, 4, 4), PROFILES["h100"])[0]
    >>> best.phases > 1, best.depth
    (True, 1)
    """
    outputs = shape.outputs[0] * shape.outputs[1] * shape.outputs[2] * shape.batch
    memory = float(outputs * (shape.itemsize + shape.result * program.bands))
    found = []
    for number, tile in enumerate(_all_tiles(program, shape)):
        if register_estimate(program, tile, shape.work) > MOST_REGISTERS:
            continue
        found.append(
            (predicted(device, work_of(program, shape, tile, memory)).seconds, number, tile)
        )
    return [tile for seconds, _, tile in sorted(found) if seconds < math.inf]


def _all_tiles(program: PassProgram, shape: PassShape) -> Iterator[PassTile]:
    phased = shape.inner == 1 and program.taps[0] > 1
    for warps in WARPS:
        for depth in DEPTHS if program.taps[1] else (1,):
            for rows in ROWS:
                for phases in PHASES if phased else (1,):
                    for elements in (1,) if phased else ELEMENTS:
                        unroll = 1 if depth > 1 or rows < 16 else 2
                        yield PassTile(WARP * warps * elements, phases, depth, rows, unroll, warps)
