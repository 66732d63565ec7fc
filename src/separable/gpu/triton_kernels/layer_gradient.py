"""Gradients of a separable layer: the middle is computed again, tile by tile, and never stored.

A program has BK middle channels and a slab of tiles, i.e. every `slabs`-th tile of TZ * TY * TX positions. For each it

    d[m, k]       = depthwise result, z = gamma d + beta with a normalisation, else z = d      in registers
    dz[m, k]      = (sum over o of g[m, o] * pointwise[o, k]) * act'(z)                        by tensor cores
    middle[m, k] <- dz                                                                         stored
    weights[o, k] += g[m, o] * act(z)[m, k]                                                    by tensor cores
    taps[t, k]    += dz[m, k] * x[m + t, channel of k]

The gradient of the input follows from `middle` (see `depthwise_to_input`). Sums over a slab are stored as
[slab][...] and added in a fixed order afterwards.
"""

from __future__ import annotations

from separable.gpu.triton_kernels.depthwise_step import with_tap_sums
from separable.gpu.triton_kernels.fused_layer import depthwise_values
from separable.gpu.triton_kernels.tile_ops import activated, derivative, product, tile_windows
from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = ["depthwise_moments", "layer_gradients", "norm_middle_gradient", "pointwise_weight_sums"]


@kernel
def upstream_gradient(
    g, result, at_g, at_r, o, g_c, r_c, inside, o_in, CLAMP: tl.constexpr
):  # fmt: skip
    """Return the gradient [m, o] of the result, 0 where ReLU (1) or ReLU6 (2) clamped the stored result."""
    mask = inside[:, None] & o_in[None, :]
    given = tl.load(g + at_g[:, None] + (o * g_c)[None, :], mask=mask, other=0.0)
    if CLAMP > 0:
        r = tl.load(result + at_r[:, None] + (o * r_c)[None, :], mask=mask, other=0.0).to(
            tl.float32
        )
        kept = r > 0
        if CLAMP == 2:
            kept = kept & (r < 6)
        given = tl.where(kept, given, 0.0).to(given.dtype)
    return given


@kernel
def pointwise_block(pointwise, o, k, depth, o_in, k_in):
    """Return the pointwise weights [o, k]."""
    return tl.load(
        pointwise + o[:, None] * depth + k[None, :], mask=o_in[:, None] & k_in[None, :], other=0.0
    )


@kernel
def normalised(v, gamma, beta, k, k_in):
    """Return gamma v + beta; without gamma or beta, without that part."""
    if gamma is not None:
        v = v * tl.load(gamma + k, mask=k_in, other=0.0).to(tl.float32)[None, :]
    if beta is not None:
        v = v + tl.load(beta + k, mask=k_in, other=0.0).to(tl.float32)[None, :]
    return v


@kernel
def layer_gradients(
    x, depthwise, between_bias, gamma, beta, pointwise, g, result, middle, weight_sums, bias_sums, tap_sums,
    norm_sums, depth, outputs, tiles, slabs, in_z, in_y, in_x, out_z, out_y, out_x, tiles_z, tiles_y, tiles_x,
    x_n, x_c, x_z, x_y, x_x, g_n, g_c, g_z, g_y, g_x, r_n, r_c, r_z, r_y, r_x, m_n, m_c, m_z, m_y, m_x,
    pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    MULTIPLIER: tl.constexpr, BETWEEN: tl.constexpr, CLAMP: tl.constexpr, PRECISION: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr, BO: tl.constexpr,
    TAPS: tl.constexpr, WEIGHTS: tl.constexpr, TAP_SUMS: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the depthwise result, and sums of the parameters' gradients.

    WEIGHTS says that BO covers all outputs, so that the pointwise weights' gradient is summed here too. TAP_SUMS adds
    the depthwise weights' gradient, and NORM the sums of dz and of dz * d.
    """
    blocks = tl.cdiv(depth, BK)
    slab = tl.program_id(0) // blocks
    k = tl.program_id(0) % blocks * BK + tl.arange(0, BK)
    k_in = k < depth
    rows = tl.arange(0, TAPS)
    o_all = tl.arange(0, BO)
    by_taps = tl.full((TAPS, BK), 0.0, tl.float32)
    by_weights = tl.full((BO, BK), 0.0, tl.float32)
    by_bias = tl.full((BO,), 0.0, tl.float32)
    sum_dz = tl.full((BK,), 0.0, tl.float32)
    sum_dzd = tl.full((BK,), 0.0, tl.float32)
    for tile in range(slab, tiles, slabs):
        n, z, y, w, inside, z0, y0, x0 = tile_windows(
            tile, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
            SZ, SY, SX, TZ, TY, TX,
        )  # fmt: skip
        position = n * x_n + z0 * x_z + y0 * x_y + x0 * x_x
        base = position[:, None] + (k // MULTIPLIER * x_c)[None, :]
        d = depthwise_values(
            x, depthwise, between_bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
            KZ, KY, KX, DZ, DY, DX,
        )  # fmt: skip
        v = normalised(d, gamma, beta, k, k_in)
        at_g = n * g_n + z * g_z + y * g_y + w * g_x
        at_r = n * r_n + z * r_z + y * r_y + w * r_x
        dz = tl.full((TZ * TY * TX, BK), 0.0, tl.float32)
        if WEIGHTS:
            o_in = o_all < outputs
            given = upstream_gradient(g, result, at_g, at_r, o_all, g_c, r_c, inside, o_in, CLAMP)
            p = pointwise_block(pointwise, o_all, k, depth, o_in, k_in)
            dz = product(given, p, dz, PRECISION)
            active = activated(v, BETWEEN).to(x.dtype.element_ty)
            by_weights = product(tl.trans(given), active, by_weights, PRECISION)
            by_bias += tl.sum(given.to(tl.float32), axis=0)
        else:
            for first in range(0, outputs, BO):
                o = first + o_all
                o_in = o < outputs
                given = upstream_gradient(g, result, at_g, at_r, o, g_c, r_c, inside, o_in, CLAMP)
                p = pointwise_block(pointwise, o, k, depth, o_in, k_in)
                dz = product(given, p, dz, PRECISION)
        dz = tl.where(inside[:, None], dz * derivative(v, BETWEEN), 0.0)
        at_m = n * m_n + z * m_z + y * m_y + w * m_x
        tl.store(
            middle + at_m[:, None] + (k * m_c)[None, :], dz.to(middle.dtype.element_ty),
            mask=inside[:, None] & k_in[None, :],
        )  # fmt: skip
        if NORM:
            sum_dz += tl.sum(dz, axis=0)
            sum_dzd += tl.sum(dz * d, axis=0)
        if TAP_SUMS:
            by_taps = with_tap_sums(
                by_taps, dz, x, base, z0, y0, x0, inside, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
                KZ, KY, KX, DZ, DY, DX, TAPS,
            )  # fmt: skip
    if WEIGHTS:
        place = (slab * outputs + o_all)[:, None] * depth + k[None, :]
        tl.store(weight_sums + place, by_weights, mask=(o_all < outputs)[:, None] & k_in[None, :])
        if tl.program_id(0) % blocks == 0:
            tl.store(bias_sums + slab * outputs + o_all, by_bias, mask=o_all < outputs)
    if TAP_SUMS:
        place = (slab * TAPS + rows)[:, None] * depth + k[None, :]
        tl.store(tap_sums + place, by_taps, mask=k_in[None, :] & (rows <= KZ * KY * KX)[:, None])
    if NORM:
        tl.store(norm_sums + slab * 2 * depth + k, sum_dz, mask=k_in)
        tl.store(norm_sums + (slab * 2 + 1) * depth + k, sum_dzd, mask=k_in)


@kernel
def pointwise_weight_sums(
    x, depthwise, between_bias, gamma, beta, g, result, weight_sums, bias_sums, depth, outputs, tiles, slabs,
    in_z, in_y, in_x, out_z, out_y, out_x, tiles_z, tiles_y, tiles_x,
    x_n, x_c, x_z, x_y, x_x, g_n, g_c, g_z, g_y, g_x, r_n, r_c, r_z, r_y, r_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    MULTIPLIER: tl.constexpr, BETWEEN: tl.constexpr, CLAMP: tl.constexpr, PRECISION: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr, BO: tl.constexpr,
):  # fmt: skip
    """Sum the gradient of the pointwise weights for BO of many outputs and BK middle channels."""
    slab = tl.program_id(0)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    o = tl.program_id(2) * BO + tl.arange(0, BO)
    k_in = k < depth
    o_in = o < outputs
    by_weights = tl.full((BO, BK), 0.0, tl.float32)
    by_bias = tl.full((BO,), 0.0, tl.float32)
    for tile in range(slab, tiles, slabs):
        n, z, y, w, inside, z0, y0, x0 = tile_windows(
            tile, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
            SZ, SY, SX, TZ, TY, TX,
        )  # fmt: skip
        position = n * x_n + z0 * x_z + y0 * x_y + x0 * x_x
        base = position[:, None] + (k // MULTIPLIER * x_c)[None, :]
        v = depthwise_values(
            x, depthwise, between_bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
            KZ, KY, KX, DZ, DY, DX,
        )  # fmt: skip
        v = normalised(v, gamma, beta, k, k_in)
        active = activated(v, BETWEEN).to(x.dtype.element_ty)
        at_g = n * g_n + z * g_z + y * g_y + w * g_x
        at_r = n * r_n + z * r_z + y * r_y + w * r_x
        given = upstream_gradient(g, result, at_g, at_r, o, g_c, r_c, inside, o_in, CLAMP)
        by_weights = product(tl.trans(given), active, by_weights, PRECISION)
        by_bias += tl.sum(given.to(tl.float32), axis=0)
    place = (slab * outputs + o)[:, None] * depth + k[None, :]
    tl.store(weight_sums + place, by_weights, mask=o_in[:, None] & k_in[None, :])
    if tl.program_id(1) == 0:
        tl.store(bias_sums + slab * outputs + o, by_bias, mask=o_in)


@kernel
def norm_middle_gradient(
    x, depthwise, between_bias, scale, mean_dz, mean_dzd, middle, depth, in_z, in_y, in_x, out_z, out_y, out_x,
    tiles_z, tiles_y, tiles_x, x_n, x_c, x_z, x_y, x_x, m_n, m_c, m_z, m_y, m_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, MULTIPLIER: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Replace dz in `middle` by scale * (dz - mean(dz) - d * mean(dz * d)), the gradient before the normalisation.

    d is the normalised depthwise result, computed again. (Ioffe and Szegedy, 2015, arXiv:1502.03167, section 3.)
    """
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
    d = depthwise_values(
        x, depthwise, between_bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
        KZ, KY, KX, DZ, DY, DX,
    )  # fmt: skip
    stored = inside[:, None] & k_in[None, :]
    place = middle + (n * m_n + z * m_z + y * m_y + w * m_x)[:, None] + (k * m_c)[None, :]
    dz = tl.load(place, mask=stored, other=0.0).to(tl.float32)
    first = tl.load(mean_dz + k, mask=k_in, other=0.0)[None, :]
    second = tl.load(mean_dzd + k, mask=k_in, other=0.0)[None, :]
    dd = tl.load(scale + k, mask=k_in, other=0.0)[None, :] * (dz - first - d * second)
    tl.store(place, dd.to(middle.dtype.element_ty), mask=stored)


@kernel
def depthwise_moments(
    x, depthwise, between_bias, sums, depth, tiles, slabs, in_z, in_y, in_x, out_z, out_y, out_x,
    tiles_z, tiles_y, tiles_x, x_n, x_c, x_z, x_y, x_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, MULTIPLIER: tl.constexpr,
    TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Store the number, the mean and the sum of squared deviations of the depthwise result of each slab and channel.

    Tiles are combined by the formula of Chan, Golub and LeVeque (1983, doi:10.2307/2683386).
    """
    slab = tl.program_id(0)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    k_in = k < depth
    count = tl.full((BK,), 0.0, tl.float32)
    mean = tl.full((BK,), 0.0, tl.float32)
    squares = tl.full((BK,), 0.0, tl.float32)
    for tile in range(slab, tiles, slabs):
        n, _z, _y, _w, inside, z0, y0, x0 = tile_windows(
            tile, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
            SZ, SY, SX, TZ, TY, TX,
        )  # fmt: skip
        position = n * x_n + z0 * x_z + y0 * x_y + x0 * x_x
        base = position[:, None] + (k // MULTIPLIER * x_c)[None, :]
        d = depthwise_values(
            x, depthwise, between_bias, base, z0, y0, x0, inside, k, k_in, in_z, in_y, in_x, x_z, x_y, x_x,
            KZ, KY, KX, DZ, DY, DX,
        )  # fmt: skip
        here = tl.sum(inside.to(tl.float32), axis=0)  # at least 1: tiles begin inside
        own = tl.sum(tl.where(inside[:, None], d, 0.0), axis=0) / here
        deviation = tl.where(inside[:, None], d - own[None, :], 0.0)
        total = count + here
        change = own - mean
        squares += tl.sum(deviation * deviation, axis=0) + change * change * (count * here / total)
        mean += change * (here / total)
        count = total
    place = sums + slab * 3 * depth + k
    tl.store(place, count, mask=k_in)
    tl.store(place + depth, mean, mask=k_in)
    tl.store(place + 2 * depth, squares, mask=k_in)
