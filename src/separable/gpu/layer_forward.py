"""Fused separable layer on a GPU: forward pass, and the gradient before the last activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from separable.gpu.kernel_launch import Launch, launch
from separable.gpu.layer_sizes import LayerSizes, axes_of
from separable.gpu.layer_tiles import LayerTile, layer_tiles
from separable.gpu.tensor_strides import (
    channels_lie_last,
    layer_precision,
    named_strides,
    rate_name,
)
from separable.gpu.tuned_tiles import chosen

__all__ = ["GpuLayer", "layer_launch", "run_layer"]


class GpuLayer(NamedTuple):
    """Parameters of a layer.

    Attributes
    ----------
    depthwise : Tensor, shape (channels * multiplier, 1, *kernel)
    between_bias : Tensor or None
    pointwise : Tensor, shape (outputs, channels * multiplier, ...)
    bias : Tensor or None
    window : tuple
        Stride, padding before and after each axis, dilation.
    acts : tuple of two int
        Activations after the two steps, as places in `separable.nn.fused.layer_tiling.ACTIVATIONS`.
    """

    depthwise: Tensor
    between_bias: Tensor | None
    pointwise: Tensor
    bias: Tensor | None
    window: tuple[Sequence[int], Sequence[int], Sequence[int]]
    acts: tuple[int, int] = (0, 0)

    def sizes(self, x: Tensor) -> LayerSizes:
        """Return the sizes for an input."""
        return LayerSizes.of(x.shape, self.depthwise.shape, self.pointwise.shape[0], self.window)


def run_layer(x: Tensor, layer: GpuLayer, out: Tensor, upstream: Tensor | None = None) -> Tensor:
    """Compute a layer into `out`, of any layout, and return it.

    With `upstream`, the gradient of the layer's result, the result is the gradient before the last activation: the
    values before it are computed again, not stored.
    """
    if out.numel() == 0:
        return out
    sizes, last = layer.sizes(x), channels_lie_last(x)
    name = rate_name(x.dtype)
    tile = chosen(
        "fused_layer", (*sizes.key, str(x.dtype), name, last, *layer.acts, upstream is not None), x.device,
        lambda device: layer_tiles(device, sizes, name, x.element_size(), last=last),
        lambda tile: launch(layer_launch(x, layer, out, LayerTile(*tile), upstream)),
    )  # fmt: skip
    launch(layer_launch(x, layer, out, LayerTile(*tile), upstream))
    return out


def layer_launch(
    x: Tensor, layer: GpuLayer, out: Tensor, tile: LayerTile, upstream: Tensor | None = None
) -> Launch:
    """Return the launch of the fused kernel with a tile."""
    from separable.gpu.triton_kernels.fused_layer import fused_layer

    sizes = layer.sizes(x)
    tiles = sizes.tiles(tile.shape)
    blocks = -(-sizes.outputs // tile.n)
    programs = sizes.images * tiles[0] * tiles[1] * tiles[2]
    arguments: dict[str, Any] = {
        "x": x, "depthwise": layer.depthwise.contiguous(), "between_bias": _dense(layer.between_bias),
        "pointwise": layer.pointwise.reshape(sizes.outputs, sizes.depth).contiguous(),
        "bias": _dense(layer.bias), "upstream": upstream, "out": out, "depth": sizes.depth,
        "outputs": sizes.outputs, **axes_of("in", sizes.size), **axes_of("out", sizes.out),
        **axes_of("tiles", tiles), **named_strides("x", x), **named_strides("o", out),
        **named_strides("g", out if upstream is None else upstream), **axes_of("pad", sizes.before),
    }  # fmt: skip
    constants = {
        **sizes.constants(), "MULTIPLIER": sizes.multiplier, "BETWEEN": layer.acts[0], "ACT": layer.acts[1],
        "PRECISION": layer_precision(x.dtype), "TZ": tile.z, "TY": tile.y, "TX": tile.x, "BK": tile.k,
        "BN": tile.n,
    }  # fmt: skip
    item = x.element_size()
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape)
    read += sizes.depth * (sizes.taps + sizes.outputs)
    read += 0 if upstream is None else out.numel()
    return Launch(
        fused_layer, (programs * blocks,), arguments, constants, tile.warps, tile.stages, read * item,
        out.numel() * item,
    )  # fmt: skip


def _dense(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()
