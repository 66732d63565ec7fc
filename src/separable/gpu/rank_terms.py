"""Depthwise layers over two axes whose kernels are sums of separable terms: both passes of all terms on the chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from separable.gpu.depthwise_layers import depthwise_seconds
from separable.gpu.device_profile import Device
from separable.gpu.kernel_launch import Launch, launch
from separable.gpu.large_depthwise import copy_seconds, window_of
from separable.gpu.layer_sizes import LayerSizes, power_of_two
from separable.gpu.layer_tiles import BASE_REGISTERS
from separable.gpu.tensor_strides import (
    channels_lie_last,
    layer_precision,
    named_strides,
    rate_name,
)
from separable.gpu.tile_cost import BlockWork
from separable.gpu.tuned_tiles import chosen, device_of, ranked

__all__ = ["RankTerms", "RankTile", "passes_pay", "rank_tiles", "run_rank_passes"]

MOST_WINDOW = 128
"""Largest side of a window."""
MOST_REGISTERS = 200
"""Registers of a thread by the estimate; of 255 the assembler leaves the others for what the estimate does not see."""


class RankTerms(NamedTuple):
    """Depthwise kernels over two axes as sums of products of a column and a line of taps.

    Attributes
    ----------
    columns : Tensor, shape (terms, ky)
    lines : Tensor, shape (terms, kx)
    starts : Tensor of int32, shape (channels + 1,)
        Terms of channel c are ``starts[c]`` to ``starts[c + 1] - 1``.
    bias : Tensor of shape (channels,), or None
    """

    columns: Tensor
    lines: Tensor
    starts: Tensor
    bias: Tensor | None


class RankTile(NamedTuple):
    """Tile of one program: outputs along y and x, the window that they read, and its warps."""

    y: int
    x: int
    window_y: int
    window_x: int
    warps: int

    @property
    def values(self) -> int:
        """Values of the window, of what is between the passes, and of both Toeplitz matrices."""
        between = self.window_y * self.x
        return (
            self.window_y * self.window_x
            + between
            + self.window_x * self.x
            + self.y * self.window_y
        )


def rank_tiles(
    device: Device, sizes: LayerSizes, terms: float, precision: str, itemsize: int
) -> list[tuple[RankTile, float]]:
    """Return tiles that fit a device with their predicted seconds, the fastest first.

    `terms` is the mean number of terms per channel.
    """
    tiles = []
    for y in (16, 32, 64):
        for x in (16, 32, 64):
            window_y, window_x = (
                window_of(n, sizes.kernel[axis], sizes.stride[axis], sizes.dilation[axis])
                for axis, n in ((1, y), (2, x))
            )
            most_y, most_x = (max(16, power_of_two(n)) for n in sizes.out[1:])
            if max(window_y, window_x) <= MOST_WINDOW and y <= most_y and x <= most_x:
                tiles += [RankTile(y, x, window_y, window_x, warps) for warps in (4, 8)]
    fitting = [t for t in tiles if rank_registers(t, precision) <= MOST_REGISTERS]
    found = ranked(device, fitting, lambda t: rank_work(sizes, t, terms, precision, itemsize))
    return [(t, seconds) for t, seconds, _ in found]


def rank_registers(tile: RankTile, precision: str) -> int:
    """Return an estimate of the registers of a thread; for three products of TF32 each value is split."""
    each = 3 if precision == "tf32x3" else 1
    return BASE_REGISTERS + (tile.values * each + tile.y * tile.x) // (32 * tile.warps)


def rank_work(
    sizes: LayerSizes, tile: RankTile, terms: float, precision: str, itemsize: int
) -> BlockWork:
    """Return what both passes of all terms do with a tile."""
    _, tiles_y, tiles_x = sizes.tiles((1, tile.y, tile.x))
    blocks = sizes.images * sizes.channels * tiles_y * tiles_x
    read = sizes.images * sizes.channels * sizes.read_by_tiles((1, tile.y, tile.x))
    matrices = tile.window_x * tile.x + tile.y * tile.window_y
    loaded = blocks * (tile.window_y * tile.window_x + terms * matrices)
    each = tile.window_y * tile.x * (tile.window_x + tile.y)
    return BlockWork(
        blocks, (read + sizes.positions * sizes.channels) * itemsize, loaded * itemsize,
        blocks * terms * each, precision, 0.0, tile.warps, rank_registers(tile, precision),
        tile.values * itemsize,
    )  # fmt: skip


def passes_pay(
    x: Tensor,
    taps: tuple[int, int],
    terms: float,
    window: tuple[Sequence[int], Sequence[int], Sequence[int]],
) -> bool:
    """Return True if passes are predicted to be faster than the dense kernel that they multiply out to.

    Parameters
    ----------
    x : Tensor, shape (n, channels, y, x)
        Input; only its shape, type and device matter.
    taps : tuple of two int
        Taps along y and x.
    terms : float
        Mean number of terms per channel.
    window : tuple
        Stride, padding before and after each axis, dilation.
    """
    sizes, device = LayerSizes.of(x.shape, (x.shape[1], 1, *taps), 0, window), device_of(x.device)
    tiles = rank_tiles(device, sizes, terms, rate_name(x.dtype), x.element_size())
    return bool(tiles) and tiles[0][1] + copy_seconds(x, sizes) < depthwise_seconds(x, sizes)


def run_rank_passes(
    x: Tensor,
    terms: RankTerms,
    window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    act: int,
) -> Tensor:
    """Return depthwise convolutions over two axes by two passes per term that stay on the chip.

    Parameters
    ----------
    x : Tensor, shape (n, channels, y, x)
    terms : RankTerms
    window : tuple
        Stride, padding before and after each axis, dilation.
    act : int
        Activation, as its place in `ACTIVATIONS`.
    """
    ky, kx = terms.columns.shape[1], terms.lines.shape[1]
    sizes = LayerSizes.of(x.shape, (x.shape[1], 1, ky, kx), 0, window)
    out = x.new_empty(x.shape[0], x.shape[1], *sizes.out[1:])
    if not out.numel():
        return out
    last = channels_lie_last(x)
    x, name, mean = x.contiguous(), rate_name(x.dtype), len(terms.columns) / x.shape[1]

    def candidates(device: Device) -> list[RankTile]:
        return [t for t, _ in rank_tiles(device, sizes, mean, name, x.element_size())]

    tile = chosen(
        "rank_passes", (*sizes.key, str(x.dtype), name, len(terms.columns), act), x.device, candidates,
        lambda t: launch(_rank_launch(x, terms, sizes, act, (RankTile(*t), out))),
    )  # fmt: skip
    launch(_rank_launch(x, terms, sizes, act, (RankTile(*tile), out)))
    return out.contiguous(memory_format=torch.channels_last) if last else out


def _rank_launch(
    x: Tensor, terms: RankTerms, sizes: LayerSizes, act: int, target: tuple[RankTile, Tensor]
) -> Launch:
    from separable.gpu.triton_kernels.toeplitz_rows import rank_passes

    tile, out = target
    (_, ky, kx), (_, sy, sx), (_, dy, dx) = sizes.kernel, sizes.stride, sizes.dilation
    blocks = sizes.tiles((1, tile.y, tile.x))
    arguments = {
        "x": x, "columns": terms.columns.contiguous(), "lines": terms.lines.contiguous(), "starts": terms.starts,
        "bias": terms.bias, "out": out, "out_y": sizes.out[1], "out_x": sizes.out[2], "in_y": sizes.size[1],
        "in_x": sizes.size[2], "channels": sizes.channels, "blocks_y": blocks[1], "blocks_x": blocks[2],
        **named_strides("x", x), **named_strides("o", out), "pad_y": sizes.before[1], "pad_x": sizes.before[2],
    }  # fmt: skip
    constants = {
        "KY": ky, "KX": kx, "SY": sy, "SX": sx, "DY": dy, "DX": dx, "ACT": act,
        "PRECISION": layer_precision(x.dtype), "BY": tile.y, "BX": tile.x, "WY": tile.window_y,
        "WX": tile.window_x,
    }  # fmt: skip
    item = x.element_size()
    read = sizes.images * sizes.channels * sizes.read_by_tiles((1, tile.y, tile.x)) * item
    programs = sizes.images * sizes.channels * math.prod(blocks)
    return Launch(
        rank_passes, (programs,), arguments, constants, tile.warps, 1, read, out.numel() * item
    )
