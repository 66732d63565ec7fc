"""Gradients of fused separable layers on a GPU, with or without batch normalisation between the steps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separable.gpu.depthwise_layers import (
    DepthwiseTile,
    GpuDepthwise,
    run_to_input,
    run_weight_sums,
    slabs_of,
)
from separable.gpu.gradient_tiles import (
    WEIGHT_OUTPUTS,
    GradientPass,
    GradientTile,
    gradient_tiles,
)
from separable.gpu.kernel_launch import Launch, launch
from separable.gpu.layer_forward import GpuLayer, run_layer
from separable.gpu.layer_sizes import LayerSizes, Three, axes_of, power_of_two
from separable.gpu.layer_tiles import position_tiles
from separable.gpu.tensor_strides import (
    channels_lie_last,
    layer_precision,
    named_strides,
    rate_name,
)
from separable.gpu.tuned_tiles import device_of

__all__ = [
    "DepthwiseMoments",
    "LayerGradients",
    "MiddleNorm",
    "backward_gpu_layer",
    "backward_norm_layer",
    "gradient_launch",
    "run_moments",
]

SUMS_BYTES = 64 << 20
"""Bound on the partial sums of all slabs together."""
CLAMPED = {0: 0, 1: 1, 2: 2}
"""Activations whose derivative the stored result shows: none, ReLU, ReLU6, with the kernels' names for them."""


class LayerGradients(NamedTuple):
    """Gradients of the input and of the parameters, in float32 except that of the input."""

    input: Tensor | None
    depthwise: Tensor
    between_bias: Tensor
    pointwise: Tensor
    bias: Tensor


class DepthwiseMoments(NamedTuple):
    """Mean and biased variance of the depthwise result per middle channel, in float64."""

    mean: Tensor
    var: Tensor


class MiddleNorm(NamedTuple):
    """Normalisation between the steps: the depthwise weights then compute the normalised values.

    Attributes
    ----------
    gamma, beta : Tensor of shape (channels * multiplier,), float32
    scale : Tensor of shape (channels * multiplier,), float32
        gamma over the standard deviation.
    """

    gamma: Tensor
    beta: Tensor
    scale: Tensor


class _Tiling(NamedTuple):
    """Tile of a program, tiles along each axis, all tiles, and slabs."""

    tile: GradientTile
    counts: Three
    tiles: int
    slabs: int


def _tiling(sizes: LayerSizes, x: Tensor, *, clamps: bool) -> _Tiling:
    """Choose the tile that is predicted to be the fastest of those that fit into the registers."""
    device = device_of(x.device)
    made = GradientPass(rate_name(x.dtype), x.element_size(), channels_lie_last(x), clamps)
    tile = gradient_tiles(device, sizes, made)[0]
    counts = sizes.tiles(tile.shape)
    tiles = sizes.images * math.prod(counts)
    slabs = slabs_of(device, max(1, tiles), -(-sizes.depth // tile.k))
    most = SUMS_BYTES // (4 * max(1, sizes.outputs) * sizes.depth)
    return _Tiling(tile, counts, tiles, max(1, min(slabs, most)))


def backward_gpu_layer(
    g: Tensor, x: Tensor, layer: GpuLayer, result: Tensor | None, *, to_input: bool
) -> LayerGradients:
    """Return all gradients of a fused layer.

    Parameters
    ----------
    g : Tensor
        Gradient of the result.
    x : Tensor
    layer : GpuLayer
    result : Tensor or None
        Stored result; needed if the last activation is ReLU or ReLU6.
    to_input : bool
    """
    act = layer.acts[1]
    if act not in CLAMPED or (act and result is None):
        # The gradient before the activation needs the value there, which the fused kernel computes again.
        g, act = run_layer(x, layer, torch.empty_like(g), g), 0
    found = _sums(g, x, layer, result, CLAMPED[act], None)
    dx = run_to_input(found.middle, x, _step_of(layer), torch.empty_like(x)) if to_input else None
    return LayerGradients(dx, found.taps, found.tap_bias, found.weights, found.bias)


class _Sums(NamedTuple):
    """Results of the kernels before the input gradient."""

    middle: Tensor
    weights: Tensor
    bias: Tensor
    taps: Tensor
    tap_bias: Tensor
    norm: Tensor


def _sums(
    g: Tensor,
    x: Tensor,
    layer: GpuLayer,
    result: Tensor | None,
    clamp: int,
    norm: MiddleNorm | None,
) -> _Sums:
    """Run the gradient kernel and add the slabs."""
    sizes = layer.sizes(x)
    tiling = _tiling(sizes, x, clamps=clamp > 0)
    order = (0, *range(2, x.dim()), 1) if channels_lie_last(x) else tuple(range(x.dim()))
    shape = (x.shape[0], sizes.depth, *g.shape[2:])
    middle = torch.empty_permuted(shape, order, dtype=x.dtype, device=x.device)
    rows, slabs = power_of_two(sizes.taps + 1), tiling.slabs

    def partial(*last: int) -> Tensor:
        make = torch.zeros if tiling.tiles == 0 else torch.empty
        return make(slabs, *last, dtype=torch.float32, device=x.device)

    sums_taps = norm is None and rows <= 64
    buffers = {
        "weight_sums": partial(sizes.outputs, sizes.depth), "bias_sums": partial(sizes.outputs),
        "tap_sums": partial(rows, sizes.depth) if sums_taps else None,
        "norm_sums": partial(2, sizes.depth) if norm is not None else None,
    }  # fmt: skip
    operands = _Operands(g, x, layer, result, clamp, norm)
    launch(gradient_launch(operands, tiling, middle, buffers))
    if not tiling.tile.sums_all:
        launch(_weights_launch(operands, tiling, buffers))
    weights, bias = (_added(buffers[n]) for n in ("weight_sums", "bias_sums"))
    taps, tap_bias = bias.new_empty(0), bias.new_empty(0)
    if sums_taps:
        total = _added(buffers["tap_sums"])
        taps = total[: sizes.taps].t().reshape(layer.depthwise.shape)
        tap_bias = total[sizes.taps]
    elif norm is None:
        taps, tap_bias = run_weight_sums(middle, x, _step_of(layer))
    return _Sums(
        middle, weights.reshape(layer.pointwise.shape), bias, taps, tap_bias,
        bias.new_empty(0) if norm is None else _added(buffers["norm_sums"]),
    )  # fmt: skip


def _added(sums: Tensor | None) -> Tensor:
    """Add the partial sums of all slabs in float64, in their order."""
    assert sums is not None
    return sums.sum(0, dtype=torch.float64).float()


class _Operands(NamedTuple):
    """Tensors that both gradient kernels read."""

    g: Tensor
    x: Tensor
    layer: GpuLayer
    result: Tensor | None
    clamp: int
    norm: MiddleNorm | None

    def arguments(self, sizes: LayerSizes, tiling: _Tiling) -> dict[str, Any]:
        """Return the kernels' common arguments."""
        norm = self.norm
        seen = self.g if self.result is None or not self.clamp else self.result
        return {
            **_step_arguments(self.x, _step_of(self.layer), sizes, tiling.counts),
            "gamma": None if norm is None else norm.gamma, "beta": None if norm is None else norm.beta,
            "g": self.g, "result": seen, "outputs": sizes.outputs, "tiles": tiling.tiles,
            "slabs": tiling.slabs, **named_strides("g", self.g), **named_strides("r", seen),
        }  # fmt: skip

    def constants(self, sizes: LayerSizes, tile: GradientTile) -> dict[str, Any]:
        """Return the kernels' common constants."""
        return {
            **_step_constants(sizes, tile), "BETWEEN": self.layer.acts[0], "CLAMP": self.clamp,
            "PRECISION": layer_precision(self.x.dtype),
        }  # fmt: skip


def gradient_launch(
    operands: Any, tiling: Any, middle: Tensor, buffers: dict[str, Tensor | None]
) -> Launch:
    """Return the launch of the kernel that computes the middle gradient and all sums that it can."""
    from separable.gpu.triton_kernels.layer_gradient import layer_gradients

    sizes, tile = operands.layer.sizes(operands.x), tiling.tile
    rows = 2 if buffers["tap_sums"] is None else buffers["tap_sums"].shape[1]
    arguments = {
        **operands.arguments(sizes, tiling), "middle": middle, **buffers, **named_strides("m", middle),
        "pointwise": operands.layer.pointwise.reshape(sizes.outputs, sizes.depth).contiguous(),
    }  # fmt: skip
    constants = {
        **operands.constants(sizes, tile), "BO": tile.outputs, "TAPS": rows,
        "WEIGHTS": tile.sums_all, "TAP_SUMS": buffers["tap_sums"] is not None,
        "NORM": buffers["norm_sums"] is not None,
    }  # fmt: skip
    item, blocks = operands.x.element_size(), -(-sizes.depth // tile.k)
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape)
    read += operands.g.numel() * (2 if operands.clamp else 1) * blocks
    written = middle.numel() * item + sum(4 * b.numel() for b in buffers.values() if b is not None)
    return Launch(
        layer_gradients,
        (tiling.slabs * blocks,),
        arguments,
        constants,
        tile.warps,
        1,
        read * item,
        written,
    )


def _weights_launch(
    operands: _Operands, tiling: _Tiling, buffers: dict[str, Tensor | None]
) -> Launch:
    """Return the launch of the pointwise weights' gradient for layers of many outputs."""
    from separable.gpu.triton_kernels.layer_gradient import pointwise_weight_sums

    sizes, tile = operands.layer.sizes(operands.x), tiling.tile
    arguments = {
        **operands.arguments(sizes, tiling), "weight_sums": buffers["weight_sums"],
        "bias_sums": buffers["bias_sums"],
    }  # fmt: skip
    grid = (tiling.slabs, -(-sizes.depth // tile.k), -(-sizes.outputs // WEIGHT_OUTPUTS))
    item = operands.x.element_size()
    read = (
        sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) * grid[2]
        + operands.g.numel()
    )
    sums = buffers["weight_sums"]
    written = 0 if sums is None else 4 * sums.numel()
    return Launch(
        pointwise_weight_sums, grid, arguments, {**operands.constants(sizes, tile), "BO": WEIGHT_OUTPUTS}, tile.warps,
        1, read * item, written,
    )  # fmt: skip


# Batch normalisation in training


def run_moments(x: Tensor, step: GpuDepthwise) -> DepthwiseMoments:
    """Return mean and variance of the depthwise result per middle channel, by one kernel and a reduction."""
    from separable.gpu.triton_kernels.layer_gradient import depthwise_moments

    sizes = step.sizes(x)
    tile, counts, tiles, slabs = _step_tiling(sizes, x)
    sums = torch.empty(slabs, 3, sizes.depth, dtype=torch.float32, device=x.device)
    arguments = {
        **_step_arguments(x, step, sizes, counts), "sums": sums, "tiles": tiles, "slabs": slabs,
    }  # fmt: skip
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) * x.element_size()
    launch(
        Launch(
            depthwise_moments, (slabs, -(-sizes.depth // tile.k)), arguments, _step_constants(sizes, tile),
            tile.warps, 1, read, sums.numel() * 4,
        )
    )  # fmt: skip
    count, mean, squares = sums.double().unbind(1)
    total = count.sum(0)
    mean_all = (count * mean).sum(0) / total
    var = (squares + count * (mean - mean_all).square()).sum(0) / total
    return DepthwiseMoments(mean_all, var)


def backward_norm_layer(
    g: Tensor, x: Tensor, layer: GpuLayer, norm: MiddleNorm, plain: GpuDepthwise, *, to_input: bool
) -> tuple[LayerGradients, Tensor, Tensor]:
    """Return the gradients of a layer with batch normalisation, and those of beta and gamma.

    Parameters
    ----------
    g : Tensor
        Gradient of the result of the pointwise step.
    x : Tensor
    layer : GpuLayer
        Its depthwise weights and bias compute the normalised values.
    norm : MiddleNorm
    plain : GpuDepthwise
        The depthwise step as it is, whose weights' gradient is wanted.
    to_input : bool
    """
    found = _sums(g, x, layer, None, 0, norm)
    betas, gammas = found.norm
    positions = layer.sizes(x).positions
    launch(_norm_launch(x, layer, norm, (betas / positions, gammas / positions), found.middle))
    taps, _ = run_weight_sums(found.middle, x, plain)
    dx = run_to_input(found.middle, x, plain, torch.empty_like(x)) if to_input else None
    # A bias before a normalisation changes nothing: its gradient is zero.
    gradients = LayerGradients(dx, taps, torch.zeros_like(betas), found.weights, found.bias)
    return gradients, betas, gammas


def _norm_launch(
    x: Tensor, layer: GpuLayer, norm: MiddleNorm, means: tuple[Tensor, Tensor], middle: Tensor
) -> Launch:
    """Return the launch that turns the gradient behind the normalisation into the one before it, in place."""
    from separable.gpu.triton_kernels.layer_gradient import norm_middle_gradient

    step = _step_of(layer)
    sizes = step.sizes(x)
    tile, counts, tiles, _ = _step_tiling(sizes, x)
    arguments = {
        **_step_arguments(x, step, sizes, counts), "scale": norm.scale, "mean_dz": means[0],
        "mean_dzd": means[1], "middle": middle, **named_strides("m", middle),
    }  # fmt: skip
    read = sizes.images * sizes.channels * sizes.read_by_tiles(tile.shape) + middle.numel()
    grid = (tiles * -(-sizes.depth // tile.k),)
    item = x.element_size()
    return Launch(
        norm_middle_gradient, grid, arguments, _step_constants(sizes, tile), tile.warps, 1, read * item,
        middle.numel() * item,
    )  # fmt: skip


def _step_tiling(sizes: LayerSizes, x: Tensor) -> tuple[DepthwiseTile, Three, int, int]:
    """Return the tile of a kernel of the depthwise step alone, tiles along each axis, all tiles, and slabs."""
    last = channels_lie_last(x)
    shape = position_tiles(sizes, 64 if last else 256, last=last)[0]
    tile = DepthwiseTile(*shape, min(power_of_two(sizes.depth), 32 if last else 4), 4)
    counts = sizes.tiles(tile.shape)
    tiles = sizes.images * math.prod(counts)
    slabs = slabs_of(device_of(x.device), max(1, tiles), -(-sizes.depth // tile.k))
    return tile, counts, tiles, slabs


def _step_of(layer: GpuLayer) -> GpuDepthwise:
    """Return the depthwise step of a layer, without its activation."""
    return GpuDepthwise(layer.depthwise, layer.between_bias, layer.window)


def _step_arguments(
    x: Tensor, step: GpuDepthwise, sizes: LayerSizes, counts: Three
) -> dict[str, Any]:
    return {
        "x": x, "depthwise": step.weight.contiguous(),
        "between_bias": None if step.bias is None else step.bias.contiguous(), "depth": sizes.depth,
        **axes_of("in", sizes.size), **axes_of("out", sizes.out), **axes_of("tiles", counts),
        **named_strides("x", x), **axes_of("pad", sizes.before),
    }  # fmt: skip


def _step_constants(sizes: LayerSizes, tile: DepthwiseTile | GradientTile) -> dict[str, int]:
    return {
        **sizes.constants(), "MULTIPLIER": sizes.multiplier, "TZ": tile.z, "TY": tile.y, "TX": tile.x,
        "BK": tile.k,
    }  # fmt: skip
