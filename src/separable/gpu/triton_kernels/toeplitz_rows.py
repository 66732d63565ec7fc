"""Depthwise kernels of many taps as products of matrices, one channel at a time, with channels first.

A row of K taps over BX columns is a product with a Toeplitz matrix of WX = BX + K - 1 rows (more with stride and
dilation, always rounded up to a power of two), so that tensor cores compute it:

    T[i, j] = w[t] where i = j * stride + t * dilation, else 0
    out[row, j] += sum over i of window[row, i] * T[i, j]

WX / K times as many multiplications are computed as there are taps, by units that are 15 (TF32) to 30 (bfloat16) times
as fast as the others, and each sample is loaded once per row of taps instead of once per tap.
"""

from __future__ import annotations

from separable.gpu.triton_kernels.tile_ops import activated, finished, product
from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = ["rank_passes", "toeplitz_layer", "toeplitz_weight_sums"]


@kernel
def row_matrix(
    taps, K: tl.constexpr, S: tl.constexpr, D: tl.constexpr, W: tl.constexpr, B: tl.constexpr
):
    """Return the Toeplitz matrix [W, B] of K taps in memory."""
    i = tl.arange(0, W)[:, None]
    j = tl.arange(0, B)[None, :]
    reach = i - j * S
    valid = (reach >= 0) & (reach <= (K - 1) * D)
    if D > 1:
        valid = valid & (reach % D == 0)
    return tl.load(taps + reach // D, mask=valid, other=0.0)


@kernel
def toeplitz_layer(
    x, weight, bias, upstream, out, rows, out_z, out_y, out_x, in_z, in_y, in_x, depth, blocks_rows, blocks_x,
    x_n, x_c, x_z, x_y, x_x, o_n, o_c, o_z, o_y, o_x, g_n, g_c, g_z, g_y, g_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    MULTIPLIER: tl.constexpr, ACT: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BX: tl.constexpr, WX: tl.constexpr,
):  # fmt: skip
    """Compute BM rows (of all images, z and y) times BX columns of one channel; see `depthwise_layer`."""
    program = tl.program_id(0)
    first = program % blocks_x * BX
    program = program // blocks_x
    r = program % blocks_rows * BM + tl.arange(0, BM)
    k = program // blocks_rows
    r_in = r < rows
    y = r % out_y
    z = r // out_y % out_z
    n = r // (out_y * out_z)
    i = first * SX - pad_x + tl.arange(0, WX)
    i_in = (i >= 0) & (i < in_x)
    total = tl.full((BM, BX), 0.0, tl.float32)
    for row in range(KZ * KY):
        iz = z * SZ - pad_z + row // KY * DZ
        iy = y * SY - pad_y + row % KY * DY
        valid = r_in & (iz >= 0) & (iz < in_z) & (iy >= 0) & (iy < in_y)
        at = n * x_n + k // MULTIPLIER * x_c + iz * x_z + iy * x_y
        window = tl.load(
            x + at[:, None] + (i * x_x)[None, :], mask=valid[:, None] & i_in[None, :], other=0.0
        )
        taps = row_matrix(weight + (k * (KZ * KY) + row) * KX, KX, SX, DX, WX, BX)
        total = product(window, taps, total, PRECISION)
    if bias is not None:
        total += tl.load(bias + k).to(tl.float32)
    j = first + tl.arange(0, BX)
    stored = r_in[:, None] & (j < out_x)[None, :]
    at = n * g_n + k * g_c + z * g_z + y * g_y
    total = finished(total, upstream, at[:, None] + (j * g_x)[None, :], stored, ACT)
    at = n * o_n + k * o_c + z * o_z + y * o_y
    tl.store(out + at[:, None] + (j * o_x)[None, :], total.to(out.dtype.element_ty), mask=stored)


@kernel
def toeplitz_weight_sums(
    x, g, sums, rows, slabs, out_z, out_y, out_x, in_z, in_y, in_x, depth, blocks_rows, blocks_x,
    x_n, x_c, x_z, x_y, x_x, g_n, g_c, g_z, g_y, g_x, pad_z, pad_y, pad_x,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    DZ: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    MULTIPLIER: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BX: tl.constexpr, WX: tl.constexpr,
):  # fmt: skip
    """Sum the gradient of one row of taps of one channel over a slab of tiles: `sums` is [slab][depth][taps].

    P[i, j] = sum over rows of window[row, i] * g[row, j];  gradient of tap t = sum of P[j * stride + t * dilation, j]
    """
    slab = tl.program_id(0) % slabs
    rest = tl.program_id(0) // slabs
    row = rest % (KZ * KY)
    k = rest // (KZ * KY)
    total = tl.full((WX, BX), 0.0, tl.float32)
    for tile in range(slab, blocks_rows * blocks_x, slabs):
        first = tile % blocks_x * BX
        r = tile // blocks_x * BM + tl.arange(0, BM)
        r_in = r < rows
        y = r % out_y
        z = r // out_y % out_z
        n = r // (out_y * out_z)
        i = first * SX - pad_x + tl.arange(0, WX)
        j = first + tl.arange(0, BX)
        iz = z * SZ - pad_z + row // KY * DZ
        iy = y * SY - pad_y + row % KY * DY
        valid = r_in & (iz >= 0) & (iz < in_z) & (iy >= 0) & (iy < in_y)
        at = n * x_n + k // MULTIPLIER * x_c + iz * x_z + iy * x_y
        i_in = (i >= 0) & (i < in_x)
        window = tl.load(
            x + at[:, None] + (i * x_x)[None, :], mask=valid[:, None] & i_in[None, :], other=0.0
        )
        at = n * g_n + k * g_c + z * g_z + y * g_y
        given = tl.load(
            g + at[:, None] + (j * g_x)[None, :],
            mask=r_in[:, None] & (j < out_x)[None, :],
            other=0.0,
        )
        total = product(tl.trans(window), given, total, PRECISION)
    reach = tl.arange(0, WX)[:, None] - tl.arange(0, BX)[None, :] * SX
    for tap in range(KX):
        # All elements at once: Triton 3.7 fails on two sums along one axis each for capability 10.0.
        own = tl.sum(tl.where(reach == tap * DX, total, 0.0))
        tl.store(sums + ((slab * depth + k) * (KZ * KY) + row) * KX + tap, own)


@kernel
def rank_passes(
    x, columns, lines, starts, bias, out, out_y, out_x, in_y, in_x, channels, blocks_y, blocks_x,
    x_n, x_c, x_z, x_y, x_x, o_n, o_c, o_z, o_y, o_x, pad_y, pad_x,
    KY: tl.constexpr, KX: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    ACT: tl.constexpr, PRECISION: tl.constexpr,
    BY: tl.constexpr, BX: tl.constexpr, WY: tl.constexpr, WX: tl.constexpr,
):  # fmt: skip
    """Compute BY * BX outputs of one channel whose kernel is a sum of products of a column and a line of taps.

    The window is loaded once. For each term the pass along x is a product with a Toeplitz matrix and the pass along y
    another one; what is between stays in shared memory. Terms of channel c are starts[c] to starts[c + 1] - 1.
    """
    program = tl.program_id(0)
    first_x = program % blocks_x * BX
    program = program // blocks_x
    first_y = program % blocks_y * BY
    program = program // blocks_y
    c = program % channels
    n = program // channels
    iy = first_y * SY - pad_y + tl.arange(0, WY)
    ix = first_x * SX - pad_x + tl.arange(0, WX)
    valid = ((iy >= 0) & (iy < in_y))[:, None] & ((ix >= 0) & (ix < in_x))[None, :]
    window = tl.load(
        x + n * x_n + c * x_c + (iy * x_y)[:, None] + (ix * x_x)[None, :], mask=valid, other=0.0
    )
    total = tl.full((BY, BX), 0.0, tl.float32)
    for term in range(tl.load(starts + c), tl.load(starts + c + 1)):
        along_x = row_matrix(lines + term * KX, KX, SX, DX, WX, BX)
        middle = product(window, along_x, tl.full((WY, BX), 0.0, tl.float32), PRECISION)
        along_y = tl.trans(row_matrix(columns + term * KY, KY, SY, DY, WY, BY))
        total = product(along_y, middle.to(x.dtype.element_ty), total, PRECISION)
    if bias is not None:
        total += tl.load(bias + c).to(tl.float32)
    total = activated(total, ACT)
    y = first_y + tl.arange(0, BY)
    w = first_x + tl.arange(0, BX)
    stored = (y < out_y)[:, None] & (w < out_x)[None, :]
    at = n * o_n + c * o_c + (y * o_y)[:, None] + (w * o_x)[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=stored)
