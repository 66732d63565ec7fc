"""Depthwise convolution, its input gradient and its weight gradient, tap by tap.

A program computes TZ * TY * TX positions (a tile) of BK channels. The taps are read from the first-level cache, where
neighbouring positions share them. `toeplitz_rows` has the kernels for many taps.
"""

from __future__ import annotations

from separable.gpu.triton_kernels.fused_layer import depthwise_values, window_values
from separable.gpu.triton_kernels.tile_ops import finished, tile_of, tile_windows
from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = ["depthwise_layer", "depthwise_to_input", "depthwise_weight_sums", "with_tap_sums"]


@kernel
def depthwise_layer(
    x, depthwise, bias, upstream, out, depth, in_z, in_y, in_x, out_z, out_y, out_x,
    tiles_z, tiles_y, tiles_x, x_n, x_c, x_z, x_y, x_x, o_n, o_c, o_z, o_y, o_x,
    g_n, g_c, g_z, g_y, g_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    MULTIPLIER: tl.constexpr, ACT: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Compute the layer; with `upstream`, that gradient times the derivative of the activation instead."""
    blocks = tl.cdiv(depth, BK)
    program = tl.program_id(0)
    n, z, y, w, inside, z0, y0, x0 = tile_windows(
        program // blocks, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
        SZ, SY, SX, TZ, TY, TX,
    )  # fmt: skip
    k = program % blocks * BK + tl.arange(0, BK)
    k_in = k < depth
    position = n * x_n + z0 * x_z + y0 * x_y + x0 * x_x
    base = position[:, None] + (k // MULTIPLIER * x_c)[None, :]
    total = depthwise_values(
        x, depthwise, bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
        KZ, KY, KX, DZ, DY, DX,
    )  # fmt: skip
    stored = inside[:, None] & k_in[None, :]
    at = n * g_n + z * g_z + y * g_y + w * g_x
    total = finished(total, upstream, at[:, None] + (k * g_c)[None, :], stored, ACT)
    at = n * o_n + z * o_z + y * o_y + w * o_x
    tl.store(out + at[:, None] + k[None, :] * o_c, total.to(out.dtype.element_ty), mask=stored)


@kernel
def depthwise_to_input(
    g, depthwise, out, channels, in_z, in_y, in_x, out_z, out_y, out_x, tiles_z, tiles_y, tiles_x,
    g_n, g_c, g_z, g_y, g_x, o_n, o_c, o_z, o_y, o_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, MULTIPLIER: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the input from that of the depthwise result: a transposed convolution.

    Input position i receives w[tap] * g[o] from every output o with o * stride = i + pad - tap * dilation. Here `in_*`
    are the sizes of the input, whose gradient is stored to `out`, and `out_*` those of the result, as in the other
    kernels; the tiles are of input positions.
    """
    blocks = tl.cdiv(channels, BK)
    program = tl.program_id(0)
    n, z, y, w = tile_of(program // blocks, tiles_z, tiles_y, tiles_x, TZ, TY, TX)
    inside = (z < in_z) & (y < in_y) & (w < in_x)
    c = program % blocks * BK + tl.arange(0, BK)
    c_in = c < channels
    total = tl.full((TZ * TY * TX, BK), 0.0, tl.float32)
    for part in tl.static_range(MULTIPLIER):
        k = c * MULTIPLIER + part
        for row in range(KZ * KY):
            for column in tl.static_range(KX):
                # Coordinates times the stride, of the outputs that read these inputs at this tap.
                fz = z + pad_z - row // KY * DZ
                fy = y + pad_y - row % KY * DY
                fx = w + pad_x - column * DX
                valid = inside & (fz >= 0) & (fy >= 0) & (fx >= 0)
                if SZ * SY * SX > 1:
                    valid = valid & (fz % SZ == 0) & (fy % SY == 0) & (fx % SX == 0)
                oz = fz // SZ
                oy = fy // SY
                ox = fx // SX
                valid = valid & (oz < out_z) & (oy < out_y) & (ox < out_x)
                at = n * g_n + oz * g_z + oy * g_y + ox * g_x
                v = tl.load(
                    g + at[:, None] + (k * g_c)[None, :],
                    mask=valid[:, None] & c_in[None, :],
                    other=0.0,
                ).to(tl.float32)
                taps = depthwise + k * (KZ * KY * KX) + (row * KX + column)
                total += v * tl.load(taps, mask=c_in, other=0.0).to(tl.float32)[None, :]
    at = n * o_n + z * o_z + y * o_y + w * o_x
    stored = inside[:, None] & c_in[None, :]
    tl.store(out + at[:, None] + c[None, :] * o_c, total.to(out.dtype.element_ty), mask=stored)


@kernel
def with_tap_sums(
    total, g, x, base, z0, y0, x0, inside, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Add g * x at every tap of a tile to the rows of `total` [TAPS, BK], and g itself to the row behind them.

    g is 0 outside the image.
    """
    rows = tl.arange(0, TAPS)
    for tap in range(KZ * KY * KX):
        seen = window_values(
            x, base, z0, y0, x0, in_z, in_y, in_x, x_z, x_y, x_x, tap // (KY * KX) * DZ,
            tap // KX % KY * DY, tap % KX * DX, inside, k_in,
        )  # fmt: skip
        total += tl.where((rows == tap)[:, None], tl.sum(g * seen, axis=0)[None, :], 0.0)
    total += tl.where((rows == KZ * KY * KX)[:, None], tl.sum(g, axis=0)[None, :], 0.0)
    return total


@kernel
def depthwise_weight_sums(
    x, g, sums, depth, tiles, slabs, in_z, in_y, in_x, out_z, out_y, out_x, tiles_z, tiles_y, tiles_x,
    x_n, x_c, x_z, x_y, x_x, g_n, g_c, g_z, g_y, g_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, MULTIPLIER: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Sum g * x over a slab of tiles for every tap, and g itself behind the taps: `sums` is [slab][TAPS][depth].

    A second step adds the slabs, in a fixed order, so that results do not depend on the order of programs. TAPS is a
    power of two above the number of taps.
    """
    slab = tl.program_id(0)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    k_in = k < depth
    total = tl.full((TAPS, BK), 0.0, tl.float32)
    for tile in range(slab, tiles, slabs):
        n, z, y, w, inside, z0, y0, x0 = tile_windows(
            tile, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
            SZ, SY, SX, TZ, TY, TX,
        )  # fmt: skip
        at = n * g_n + z * g_z + y * g_y + w * g_x
        given = tl.load(
            g + at[:, None] + (k * g_c)[None, :], mask=inside[:, None] & k_in[None, :], other=0.0
        ).to(tl.float32)
        position = n * x_n + z0 * x_z + y0 * x_y + x0 * x_x
        base = position[:, None] + (k // MULTIPLIER * x_c)[None, :]
        total = with_tap_sums(
            total, given, x, base, z0, y0, x0, inside, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
            KZ, KY, KX, DZ, DY, DX, TAPS,
        )  # fmt: skip
    rows = tl.arange(0, TAPS)
    place = (slab * TAPS + rows)[:, None] * depth + k[None, :]
    tl.store(sums + place, total, mask=k_in[None, :] & (rows <= KZ * KY * KX)[:, None])
