"""Depthwise step, activation, pointwise step, activation: one read of the input and one write of the output.

A program computes TZ * TY * TX positions (a tile) of BN outputs. It loops over blocks of BK middle channels:

    middle[m, k] = act(bias[k] + sum over taps of x[m + tap, channel of k] * w[k, tap])   in registers
    out[m, o]   += middle[m, k] * pointwise[o, k]                                        by tensor cores

so the middle is never in memory. If there are more than BN outputs, the middle is computed once per block of outputs;
these programs follow each other, so the input comes from the cache.
"""

from __future__ import annotations

from separable.gpu.triton_kernels.tile_ops import activated, finished, product, tile_windows
from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = ["depthwise_values", "fused_layer", "window_values"]


@kernel
def window_values(x, base, z0, y0, x0, in_z, in_y, in_x, x_z, x_y, x_x, dz, dy, dx, inside, k_in):
    """Return x at one tap of all positions and channels of a tile, as float32; 0 outside.

    `base` has the offsets [m, k] of the first tap; z0, y0 and x0 [m] its coordinates, which may lie outside.
    """
    z = z0 + dz
    y = y0 + dy
    w = x0 + dx
    valid = inside & (z >= 0) & (z < in_z) & (y >= 0) & (y < in_y) & (w >= 0) & (w < in_x)
    return tl.load(
        x + base + (dz * x_z + dy * x_y + dx * x_x), mask=valid[:, None] & k_in[None, :], other=0.0
    ).to(tl.float32)


@kernel
def depthwise_values(
    x, weights, bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
):  # fmt: skip
    """Return the depthwise result [m, k] with its bias, before the activation, in float32."""
    total = tl.full(base.shape, 0.0, tl.float32)
    # One row of taps is unrolled at a time: more loads in flight would need more registers than there are.
    for row in range(KZ * KY):
        for column in tl.static_range(0, KX):
            v = window_values(
                x, base, z0, y0, x0, in_z, in_y, in_x, x_z, x_y, x_x, row // KY * DZ, row % KY * DY,
                column * DX, inside, k_in,
            )  # fmt: skip
            w = tl.load(weights + k * (KZ * KY * KX) + (row * KX + column), mask=k_in, other=0.0)
            total += v * w.to(tl.float32)[None, :]
    if bias is not None:
        total += tl.load(bias + k, mask=k_in, other=0.0).to(tl.float32)[None, :]
    return total


@kernel
def fused_layer(
    x, depthwise, between_bias, pointwise, bias, upstream, out, depth, outputs,
    in_z, in_y, in_x, out_z, out_y, out_x, tiles_z, tiles_y, tiles_x,
    x_n, x_c, x_z, x_y, x_x, o_n, o_c, o_z, o_y, o_x, g_n, g_c, g_z, g_y, g_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    MULTIPLIER: tl.constexpr, BETWEEN: tl.constexpr, ACT: tl.constexpr, PRECISION: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Compute the layer; with `upstream`, that gradient times the derivative of the last activation instead."""
    blocks = tl.cdiv(outputs, BN)
    program = tl.program_id(0)
    n, z, y, w, inside, z0, y0, x0 = tile_windows(
        program // blocks, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
        SZ, SY, SX, TZ, TY, TX,
    )  # fmt: skip
    position = n * x_n + z0 * x_z + y0 * x_y + x0 * x_x
    o = program % blocks * BN + tl.arange(0, BN)
    o_in = o < outputs
    total = tl.full((TZ * TY * TX, BN), 0.0, tl.float32)
    for first in range(0, depth, BK):
        k = first + tl.arange(0, BK)
        k_in = k < depth
        base = position[:, None] + (k // MULTIPLIER * x_c)[None, :]
        middle = depthwise_values(
            x, depthwise, between_bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x,
            x_z, x_y, x_x, KZ, KY, KX, DZ, DY, DX,
        )  # fmt: skip
        middle = activated(middle, BETWEEN).to(x.dtype.element_ty)
        # Channels and positions outside may hold act(0) or act(bias); the weights there are 0.
        p = tl.load(
            pointwise + o[None, :] * depth + k[:, None],
            mask=k_in[:, None] & o_in[None, :],
            other=0.0,
        )
        total = product(middle, p, total, PRECISION)
    if bias is not None:
        total += tl.load(bias + o, mask=o_in, other=0.0).to(tl.float32)[None, :]
    stored = inside[:, None] & o_in[None, :]
    at = n * g_n + z * g_z + y * g_y + w * g_x
    total = finished(total, upstream, at[:, None] + (o * g_c)[None, :], stored, ACT)
    at = n * o_n + z * o_z + y * o_y + w * o_x
    tl.store(out + at[:, None] + o[None, :] * o_c, total.to(out.dtype.element_ty), mask=stored)
