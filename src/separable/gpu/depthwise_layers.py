"""Depthwise layers on a GPU: forward pass and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separable.gpu.device_profile import Device
from separable.gpu.kernel_launch import Launch, launch
from separable.gpu.large_depthwise import (
    copy_seconds,
    reversed_sizes,
    rows_seconds,
    run_rows,
    run_rows_weight_sums,
    takes_rows,
)
from separable.gpu.layer_sizes import LayerSizes, Three, axes_of, power_of_two
from separable.gpu.layer_tiles import position_tiles
from separable.gpu.tensor_strides import channels_lie_last, named_strides, rate_name
from separable.gpu.tile_cost import BlockWork, predicted
from separable.gpu.tuned_tiles import chosen, device_of, ranked

__all__ = [
    "DepthwiseTile",
    "GpuDepthwise",
    "depthwise_launch",
    "depthwise_seconds",
    "depthwise_tiles",
    "run_depthwise_layer",
    "run_to_input",
    "run_weight_sums",
    "slabs_of",
]

SLABS_PER_BLOCK = 4
"""Slabs of partial sums per multiprocessor: enough for all to be busy, few enough for the sums to stay small."""


class GpuDepthwise(NamedTuple):
    """Parameters of a depthwise layer.

    Attributes
    ----------
    weight : Tensor, shape (channels * multiplier, 1, *kernel)
    bias : Tensor or None
    window : tuple
        Stride, padding before and after each axis, dilation.
    act : int
        Activation, as its place in `separable.nn.fused.layer_tiling.ACTIVATIONS`.
    """

    weight: Tensor
    bias: Tensor | None
    window: tuple[Sequence[int], Sequence[int], Sequence[int]]
    act: int = 0

    def sizes(self, x: Tensor) -> LayerSizes:
        """Return the sizes for an input."""
        return LayerSizes.of(x.shape, self.weight.shape, 0, self.window)


class DepthwiseTile(NamedTuple):
    """Tile of one program: output positions along z, y and x, channels, and how it is run."""

    z: int
    y: int
    x: int
    k: int
    warps: int

    @property
    def shape(self) -> Three:
        """Positions along each axis."""
        return self.z, self.y, self.x


def depthwise_tiles(
    device: Device, sizes: LayerSizes, itemsize: int, *, last: bool
) -> list[DepthwiseTile]:
    """Return tiles of the depthwise kernels that fit a device, the fastest by prediction first.

    With channels last a tile has many channels and few positions, with channels first the other way round, so that
    neighbouring threads read neighbouring samples.
    """
    deep = power_of_two(sizes.depth)
    counts, widths = ((16, 32, 64), (16, 32, 64)) if last else ((128, 256, 512), (1, 2, 4))
    tiles = {
        DepthwiseTile(*shape, min(k, deep), warps)
        for count in counts
        for shape in position_tiles(sizes, count, last=last)
        for k in widths
        for warps in (2, 4)
    }  # fmt: skip

    found = ranked(device, sorted(tiles), lambda t: depthwise_work(sizes, t, itemsize))
    return [t for t, _, _ in found]


def depthwise_work(sizes: LayerSizes, tile: DepthwiseTile, itemsize: int) -> BlockWork:
    """Return what the depthwise kernel does with a tile."""
    spatial = math.prod(sizes.tiles(tile.shape)) * sizes.images
    blocks, positions = -(-sizes.depth // tile.k), math.prod(tile.shape)
    taps = spatial * positions * blocks * tile.k * sizes.taps
    read = (
        sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) + sizes.depth * sizes.taps
    )
    each = positions * tile.k / (32 * tile.warps)
    return BlockWork(
        spatial * blocks, (read + sizes.positions * sizes.depth) * itemsize, taps * itemsize, 0, "ieee",
        taps, tile.warps, min(255, int(40 + each * (2 + min(3, sizes.kernel[2])))), 0,
    )  # fmt: skip


def depthwise_seconds(x: Tensor, sizes: LayerSizes) -> float:
    """Return the predicted time of a depthwise layer by the kernel that would run it."""
    device, itemsize = device_of(x.device), x.element_size()
    if takes_rows(sizes, x):
        rows = rows_seconds(device, sizes, rate_name(x.dtype), itemsize)
        return rows + copy_seconds(x, sizes)
    tile = depthwise_tiles(device, sizes, itemsize, last=channels_lie_last(x))[0]
    return predicted(device, depthwise_work(sizes, tile, itemsize)).seconds


def run_depthwise_layer(
    x: Tensor, layer: GpuDepthwise, out: Tensor, upstream: Tensor | None = None
) -> Tensor:
    """Compute a depthwise layer into `out` and return it.

    With `upstream`, the gradient of the result, it is the gradient before the activation.
    """
    if out.numel() and takes_rows(layer.sizes(x), x):
        return run_rows(x, layer.sizes(x), (layer.weight, layer.bias), layer.act, out, upstream)
    if out.numel():
        tile = _tile(
            "depthwise_layer",
            x,
            layer,
            lambda t: launch(depthwise_launch(x, layer, out, t, upstream)),
        )
        launch(depthwise_launch(x, layer, out, tile, upstream))
    return out


def _tile(
    name: str,
    x: Tensor,
    layer: GpuDepthwise,
    run: Callable[[DepthwiseTile], None],
    sizes: Any = None,
) -> DepthwiseTile:
    """Return the tile of a kernel for an input; `sizes` are those of what the tiles cover, if not the output."""
    own, last = layer.sizes(x), channels_lie_last(x)
    key = (*own.key, str(x.dtype), last, layer.act)
    found = chosen(
        name, key, x.device,
        lambda device: depthwise_tiles(device, sizes or own, x.element_size(), last=last),
        lambda t: run(DepthwiseTile(*t)),
    )  # fmt: skip
    return DepthwiseTile(*found)


def depthwise_launch(
    x: Tensor, layer: GpuDepthwise, out: Tensor, tile: DepthwiseTile, upstream: Tensor | None = None
) -> Launch:
    """Return the launch of the depthwise kernel with a tile."""
    from separable.gpu.triton_kernels.depthwise_step import depthwise_layer

    sizes = layer.sizes(x)
    tiles = sizes.tiles(tile.shape)
    programs = sizes.images * math.prod(tiles) * -(-sizes.depth // tile.k)
    arguments: dict[str, Any] = {
        "x": x, "depthwise": layer.weight.contiguous(),
        "bias": None if layer.bias is None else layer.bias.contiguous(), "upstream": upstream, "out": out,
        "depth": sizes.depth, **axes_of("in", sizes.size), **axes_of("out", sizes.out),
        **axes_of("tiles", tiles), **named_strides("x", x), **named_strides("o", out),
        **named_strides("g", out if upstream is None else upstream), **axes_of("pad", sizes.before),
    }  # fmt: skip
    constants = {
        **sizes.constants(),
        "MULTIPLIER": sizes.multiplier,
        "ACT": layer.act,
        **_tile_constants(tile),
    }
    item = x.element_size()
    read = (
        sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) + sizes.depth * sizes.taps
    )
    read += 0 if upstream is None else out.numel()
    return Launch(
        depthwise_layer,
        (programs,),
        arguments,
        constants,
        tile.warps,
        1,
        read * item,
        out.numel() * item,
    )


def _tile_constants(tile: DepthwiseTile) -> dict[str, int]:
    return {"TZ": tile.z, "TY": tile.y, "TX": tile.x, "BK": tile.k}


def run_to_input(g: Tensor, x: Tensor, layer: GpuDepthwise, out: Tensor) -> Tensor:
    """Compute the gradient of the input into `out` from `g`, the gradient of the depthwise result; return it."""
    if out.numel() == 0:
        return out
    sizes = layer.sizes(x)
    back = reversed_sizes(sizes)
    if back is not None and takes_rows(back, g):
        flipped = layer.weight.flip(tuple(range(2, layer.weight.dim())))
        return run_rows(g, back, (flipped, None), 0, out)
    # Tiles cover input positions, each of which reads the taps around it.
    as_output = LayerSizes(
        sizes.images, sizes.channels, sizes.out, sizes.kernel, (1, 1, 1), sizes.dilation, sizes.before,
        sizes.size, 1, 0,
    )  # fmt: skip

    def made(tile: DepthwiseTile) -> Launch:
        from separable.gpu.triton_kernels.depthwise_step import depthwise_to_input

        tiles = as_output.tiles(tile.shape)
        programs = sizes.images * math.prod(tiles) * -(-sizes.channels // tile.k)
        arguments = {
            "g": g, "depthwise": layer.weight.contiguous(), "out": out, "channels": sizes.channels,
            **axes_of("in", sizes.size), **axes_of("out", sizes.out), **axes_of("tiles", tiles),
            **named_strides("g", g), **named_strides("o", out), **axes_of("pad", sizes.before),
        }  # fmt: skip
        constants = {**sizes.constants(), "MULTIPLIER": sizes.multiplier, **_tile_constants(tile)}
        read = (g.numel() + layer.weight.numel()) * g.element_size()
        written = out.numel() * out.element_size()
        return Launch(
            depthwise_to_input, (programs,), arguments, constants, tile.warps, 1, read, written
        )

    tile = _tile("depthwise_to_input", x, layer, lambda t: launch(made(t)), as_output)
    launch(made(tile))
    return out


def slabs_of(device: Device, tiles: int, blocks: int) -> int:
    """Return the number of slabs into which tiles are divided, each with partial sums of its own."""
    return max(1, min(tiles, -(-SLABS_PER_BLOCK * device.multiprocessors // blocks)))


def run_weight_sums(g: Tensor, x: Tensor, layer: GpuDepthwise) -> tuple[Tensor, Tensor]:
    """Return the gradients of weights and biases in float32 from `g`, the gradient of the depthwise result."""
    sizes, device = layer.sizes(x), device_of(x.device)
    if takes_rows(sizes, x):
        weights, biases = run_rows_weight_sums(g, x, sizes)
        return weights.reshape(layer.weight.shape), biases
    rows = power_of_two(sizes.taps + 1)
    last = channels_lie_last(x)
    # Rows of sums must stay in registers beside the values of a tile.
    width = max(1, min(power_of_two(sizes.depth), 32 if last else 4, 8192 // rows))
    shape = position_tiles(sizes, 64 if last else 512, last=last)[0]
    tile = DepthwiseTile(*shape, width, 4)
    counts = sizes.tiles(tile.shape)
    tiles, blocks = sizes.images * math.prod(counts), -(-sizes.depth // width)
    slabs = slabs_of(device, tiles, blocks)
    sums = torch.empty(slabs, rows, sizes.depth, dtype=torch.float32, device=x.device)
    if tiles == 0:
        sums.zero_()
    launch(_weight_launch(g, x, sizes, (tile, counts, tiles), sums))
    total = sums[:, : sizes.taps + 1].sum(0)
    return total[: sizes.taps].t().reshape(layer.weight.shape), total[sizes.taps]


def _weight_launch(
    g: Tensor, x: Tensor, sizes: LayerSizes, tiling: tuple[DepthwiseTile, Three, int], sums: Tensor
) -> Launch:
    """Return the launch of the partial sums of the weight gradient."""
    from separable.gpu.triton_kernels.depthwise_step import depthwise_weight_sums

    tile, counts, tiles = tiling
    slabs, rows, _ = sums.shape
    arguments = {
        "x": x, "g": g, "sums": sums, "depth": sizes.depth, "tiles": tiles, "slabs": slabs,
        **axes_of("in", sizes.size), **axes_of("out", sizes.out), **axes_of("tiles", counts),
        **named_strides("x", x), **named_strides("g", g), **axes_of("pad", sizes.before),
    }  # fmt: skip
    constants = {
        **sizes.constants(), "MULTIPLIER": sizes.multiplier, **_tile_constants(tile), "TAPS": rows,
    }  # fmt: skip
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) + g.numel()
    grid = (slabs, -(-sizes.depth // tile.k))
    return Launch(
        depthwise_weight_sums,
        grid,
        arguments,
        constants,
        tile.warps,
        1,
        read * x.element_size(),
        sums.numel() * 4,
    )
