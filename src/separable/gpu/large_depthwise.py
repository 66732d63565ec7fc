"""Depthwise layers of many taps on a GPU: rows of taps as products of tensor cores."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separable.gpu.device_profile import Device
from separable.gpu.kernel_launch import Launch, launch
from separable.gpu.layer_sizes import LayerSizes, axes_of, power_of_two
from separable.gpu.tensor_strides import layer_precision, named_strides, rate_name
from separable.gpu.tile_cost import BlockWork, predicted
from separable.gpu.tuned_tiles import chosen, device_of, ranked

__all__ = [
    "RowTile",
    "copy_seconds",
    "reversed_sizes",
    "row_tiles",
    "rows_seconds",
    "run_rows",
    "run_rows_weight_sums",
    "takes_rows",
    "weight_rows_launch",
    "window_of",
]

LEAST_TAPS = 25
"""Fewest taps for which products of rows are considered; below, tap by tap moves as little from the cache."""
MOST_WINDOW = 256
"""Largest window of a row; wider kernels are run tap by tap."""
WEIGHT_SLABS = 4


class RowTile(NamedTuple):
    """Tile of one program: rows, columns, columns of its window, and how it is run."""

    rows: int
    columns: int
    window: int
    warps: int
    stages: int


def window_of(columns: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the power of two that holds what `columns` outputs read along an axis.

    >>> window_of(32, 31, 1, 1), window_of(16, 7, 2, 1)
    (64, 64)
    """
    return max(16, power_of_two((columns - 1) * stride + (kernel - 1) * dilation + 1))


def row_work(sizes: LayerSizes, tile: RowTile, precision: str, itemsize: int) -> BlockWork:
    """Return what products of rows do with a tile, for one pass over the output."""
    lines = sizes.images * sizes.out[0] * sizes.out[1]
    blocks = -(-lines // tile.rows) * -(-sizes.out[2] // tile.columns) * sizes.depth
    rows = sizes.kernel[0] * sizes.kernel[1]
    each = rows * (tile.rows + tile.columns) * tile.window
    samples = sizes.images * sizes.channels * math.prod(sizes.size)
    sums = tile.rows * tile.columns / (32 * tile.warps)
    shared = tile.stages * (tile.rows + tile.columns) * tile.window * itemsize
    return BlockWork(
        blocks, (samples + sizes.positions * sizes.depth) * itemsize, blocks * each * itemsize,
        blocks * rows * tile.rows * tile.window * tile.columns, precision, 0.0, tile.warps,
        min(255, int(72 + 2 * sums)), shared,
    )  # fmt: skip


def row_tiles(device: Device, sizes: LayerSizes, precision: str, itemsize: int) -> list[RowTile]:
    """Return tiles that fit a device, the fastest by prediction first."""
    tiles = []
    for rows in (32, 64, 128):
        for columns in (16, 32, 64):
            window = window_of(columns, sizes.kernel[2], sizes.stride[2], sizes.dilation[2])
            if window <= MOST_WINDOW and columns <= max(16, power_of_two(sizes.out[2])):
                tiles += [RowTile(rows, columns, window, warps, 1) for warps in (4, 8)]
    found = ranked(device, tiles, lambda t: row_work(sizes, t, precision, itemsize))
    return [t for t, _, _ in found]


def rows_seconds(device: Device, sizes: LayerSizes, precision: str, itemsize: int) -> float:
    """Return the predicted time of products of rows, infinite if no tile fits."""
    tiles = row_tiles(device, sizes, precision, itemsize)
    work = [row_work(sizes, t, precision, itemsize) for t in tiles[:1]]
    return min((predicted(device, w).seconds for w in work), default=math.inf)


def copy_seconds(x: Tensor, sizes: LayerSizes) -> float:
    """Return the time of copies of the input and of the output, which kernels of channels first need for other layouts."""
    if x.is_contiguous():
        return 0.0
    samples = sizes.images * sizes.channels * math.prod(sizes.size) + sizes.positions * sizes.depth
    return 2 * samples * x.element_size() / device_of(x.device).memory_rate


def takes_rows(sizes: LayerSizes, x: Tensor) -> bool:
    """Return True if products of rows are predicted to be faster than one tap after the other.

    One tap after the other loads every tap of every output from the first-level cache, and is bound by that or by its
    multiply-adds. With channels last, products of rows need a copy of the input and of the output.
    """
    if sizes.taps < LEAST_TAPS or sizes.kernel[2] < 3 or sizes.positions == 0:
        return False
    device, name, item = device_of(x.device), rate_name(x.dtype), x.element_size()
    tiles = row_tiles(device, sizes, name, item)
    if not tiles:
        return False
    outputs = sizes.positions * sizes.depth
    by_taps = max(
        outputs * sizes.taps * item / device.cache_rate, outputs * sizes.taps / device.fma_rate
    )
    rows = row_work(sizes, tiles[0], name, item)
    by_rows = max(
        rows.cache_bytes / device.cache_rate, rows.products / device.products_per_second(name)
    )
    return by_rows + copy_seconds(x, sizes) < by_taps


def run_rows(
    x: Tensor, sizes: LayerSizes, tensors: tuple[Tensor, Tensor | None], act: int, out: Tensor,
    upstream: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Compute a depthwise layer of many taps into `out` by products of rows, and return it.

    Parameters
    ----------
    x : Tensor
    sizes : LayerSizes
    tensors : tuple
        Weights and biases.
    act : int
    out : Tensor
    upstream : Tensor or None
        See `run_depthwise_layer`.
    """
    first = x.contiguous()
    target = out if out.is_contiguous() else out.new_empty(out.shape)
    if upstream is not None:
        upstream = upstream.contiguous()
    name = rate_name(x.dtype)
    made = partial(_rows_launch, first, sizes, (*tensors, upstream), act, target)
    tile = chosen(
        "toeplitz_layer", (*sizes.key, str(x.dtype), name, act, upstream is not None), x.device,
        lambda device: row_tiles(device, sizes, name, x.element_size()),
        lambda t: launch(made(RowTile(*t))),
    )  # fmt: skip
    launch(made(RowTile(*tile)))
    return out if target is out else out.copy_(target)


def _rows_launch(
    x: Tensor, sizes: LayerSizes, tensors: tuple[Tensor, Tensor | None, Tensor | None], act: int, out: Tensor,
    tile: RowTile,
) -> Launch:  # fmt: skip
    from separable.gpu.triton_kernels.toeplitz_rows import toeplitz_layer

    weight, bias, upstream = tensors
    arguments = {
        **_row_arguments(x, sizes, tile), "weight": weight.contiguous(),
        "bias": None if bias is None else bias.contiguous(), "upstream": upstream, "out": out,
        **named_strides("o", out), **named_strides("g", out if upstream is None else upstream),
    }  # fmt: skip
    constants = {**_row_constants(x, sizes, tile), "ACT": act}
    blocks = arguments["blocks_rows"] * arguments["blocks_x"] * sizes.depth
    item = x.element_size()
    read = (x.numel() + weight.numel() + (0 if upstream is None else out.numel())) * item
    return Launch(
        toeplitz_layer,
        (blocks,),
        arguments,
        constants,
        tile.warps,
        tile.stages,
        read,
        out.numel() * item,
    )


def _row_arguments(x: Tensor, sizes: LayerSizes, tile: RowTile) -> dict[str, Any]:
    lines = sizes.images * sizes.out[0] * sizes.out[1]
    return {
        "x": x, "rows": lines, **axes_of("out", sizes.out), **axes_of("in", sizes.size), "depth": sizes.depth,
        "blocks_rows": -(-lines // tile.rows), "blocks_x": -(-sizes.out[2] // tile.columns),
        **named_strides("x", x), **axes_of("pad", sizes.before),
    }  # fmt: skip


def _row_constants(x: Tensor, sizes: LayerSizes, tile: RowTile) -> dict[str, Any]:
    return {
        **sizes.constants(), "MULTIPLIER": sizes.multiplier, "PRECISION": layer_precision(x.dtype),
        "BM": tile.rows, "BX": tile.columns, "WX": tile.window,
    }  # fmt: skip


def reversed_sizes(sizes: LayerSizes) -> LayerSizes | None:
    """Return the sizes of the convolution that computes the input gradient, or None if it is not a plain one.

    With stride 1 and one output per channel it is the convolution with the taps in reverse order.
    """
    if sizes.stride != (1, 1, 1) or sizes.multiplier != 1:
        return None
    z, y, x = (
        d * (k - 1) - b for d, k, b in zip(sizes.dilation, sizes.kernel, sizes.before, strict=True)
    )
    return LayerSizes(
        sizes.images, sizes.channels, sizes.out, sizes.kernel, (1, 1, 1), sizes.dilation, (z, y, x),
        sizes.size, 1, 0,
    )  # fmt: skip


def run_rows_weight_sums(g: Tensor, x: Tensor, sizes: LayerSizes) -> tuple[Tensor, Tensor]:
    """Return the gradients of weights ``(depth, taps)`` and biases in float32 by products of rows."""
    first, given = x.contiguous(), g.contiguous()
    made = weight_rows_launch(given, first, sizes)
    launch(made)
    sums: Tensor = made.arguments["sums"]
    axes = [0, *range(2, g.dim())]
    return sums.sum(0, dtype=torch.float64).float(), given.sum(axes, dtype=torch.float32)


def weight_rows_launch(g: Tensor, x: Tensor, sizes: LayerSizes) -> Launch:
    """Return the launch of the partial sums of the weight gradient."""
    from separable.gpu.triton_kernels.toeplitz_rows import toeplitz_weight_sums

    window = window_of(32, sizes.kernel[2], sizes.stride[2], sizes.dilation[2])
    tile = RowTile(32, 32, window, 4 if window <= 64 else 8, 1)
    common = _row_arguments(x, sizes, tile)
    rows, device = sizes.kernel[0] * sizes.kernel[1], device_of(x.device)
    tiles = common["blocks_rows"] * common["blocks_x"]
    slabs = max(1, min(tiles, -(-WEIGHT_SLABS * device.multiprocessors // (sizes.depth * rows))))
    sums = torch.empty(slabs, sizes.depth, sizes.taps, dtype=torch.float32, device=x.device)
    arguments = {**common, "g": g, "sums": sums, "slabs": slabs, **named_strides("g", g)}
    read = (x.numel() + g.numel()) * rows * x.element_size()
    return Launch(
        toeplitz_weight_sums, (slabs * rows * sizes.depth,), arguments, _row_constants(x, sizes, tile),
        tile.warps, tile.stages, read, sums.numel() * 4,
    )  # fmt: skip
