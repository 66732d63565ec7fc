"""Device functions that all kernels share: activations, their derivatives, positions of a tile, and products."""

from __future__ import annotations

from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = [
    "activated",
    "derivative",
    "finished",
    "product",
    "sigmoid_of",
    "tile_of",
    "tile_windows",
]

# The numbers of activations are their places in `separable.nn.fused.layer_tiling.ACTIVATIONS`:
# 0 none, 1 relu, 2 relu6, 3 silu, 4 hardswish, 5 hardsigmoid, 6 sigmoid, 7 gelu, 8 gelu_tanh, 9 tanh.


@kernel
def sigmoid_of(v):
    """Return 1 / (1 + exp(-v)), without overflow."""
    e = tl.exp(-tl.abs(v))
    return tl.where(v >= 0, 1.0, e) / (1.0 + e)


@kernel
def activated(v, ACT: tl.constexpr):
    """Return the activation of float32 values; a NaN stays one."""
    a = v
    if ACT == 1:
        a = tl.where(v < 0, 0.0, v)
    elif ACT == 2:
        a = tl.where(v < 0, 0.0, tl.where(v > 6, 6.0, v))
    elif ACT == 3:
        a = v * sigmoid_of(v)
    elif ACT == 4:
        a = v * tl.where(v < -3, 0.0, tl.where(v > 3, 6.0, v + 3.0)) * (1.0 / 6.0)
    elif ACT == 5:
        a = tl.where(v < -3, 0.0, tl.where(v > 3, 6.0, v + 3.0)) * (1.0 / 6.0)
    elif ACT == 6:
        a = sigmoid_of(v)
    elif ACT == 7:
        a = 0.5 * v * (1.0 + tl.erf(v * 0.7071067811865476))
    elif ACT == 8:
        # 0.5 (1 + tanh(u)) is the sigmoid of 2 u, with u = sqrt(2 / pi) (v + 0.044715 v^3).
        a = v * sigmoid_of(1.5957691216057308 * (v + 0.044715 * v * v * v))
    elif ACT == 9:
        a = 2.0 * sigmoid_of(2.0 * v) - 1.0
    return a


@kernel
def derivative(v, ACT: tl.constexpr):
    """Return the derivative of the activation at float32 values before it, as PyTorch defines it at corners."""
    d = tl.full(v.shape, 1.0, tl.float32)
    if ACT == 1:
        d = tl.where(v > 0, 1.0, 0.0)
    elif ACT == 2:
        d = tl.where((v > 0) & (v < 6), 1.0, 0.0)
    elif ACT == 3:
        s = sigmoid_of(v)
        d = s * (1.0 + v * (1.0 - s))
    elif ACT == 4:
        d = tl.where(v < -3, 0.0, tl.where(v > 3, 1.0, v * (1.0 / 3.0) + 0.5))
    elif ACT == 5:
        d = tl.where((v > -3) & (v < 3), 1.0 / 6.0, 0.0)
    elif ACT == 6:
        s = sigmoid_of(v)
        d = s * (1.0 - s)
    elif ACT == 7:
        cdf = 0.5 * (1.0 + tl.erf(v * 0.7071067811865476))
        d = cdf + v * 0.3989422804014327 * tl.exp(-0.5 * v * v)
    elif ACT == 8:
        u = 1.5957691216057308 * (v + 0.044715 * v * v * v)
        s = sigmoid_of(u)
        d = s + v * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * v * v)
    elif ACT == 9:
        t = 2.0 * sigmoid_of(2.0 * v) - 1.0
        d = 1.0 - t * t
    return d


@kernel
def tile_of(tile, tiles_z, tiles_y, tiles_x, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr):
    """Return the image of a tile, and the z, y and x of its TZ * TY * TX positions, x moving fastest."""
    m = tl.arange(0, TZ * TY * TX)
    x = (tile % tiles_x) * TX + m % TX
    tile = tile // tiles_x
    y = (tile % tiles_y) * TY + (m // TX) % TY
    tile = tile // tiles_y
    z = (tile % tiles_z) * TZ + m // (TX * TY)
    return tile // tiles_z, z, y, x


@kernel
def tile_windows(
    tile, tiles_z, tiles_y, tiles_x, out_z, out_y, out_x, pad_z, pad_y, pad_x,
    SZ: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr,
):  # fmt: skip
    """Return the image and positions of a tile, which of them are outputs, and the first sample that each reads.

    The results are n; z, y and x; whether a position is inside; and z, y and x of its first sample, which may lie outside.
    """
    n, z, y, x = tile_of(tile, tiles_z, tiles_y, tiles_x, TZ, TY, TX)
    inside = (z < out_z) & (y < out_y) & (x < out_x)
    return n, z, y, x, inside, z * SZ - pad_z, y * SY - pad_y, x * SX - pad_x


@kernel
def finished(total, upstream, places, stored, ACT: tl.constexpr):
    """Return the activation of sums; with `upstream`, that gradient times the activation's derivative instead."""
    if upstream is None:
        total = activated(total, ACT)
    else:
        g = tl.load(upstream + places, mask=stored, other=0.0)
        total = g.to(tl.float32) * derivative(total, ACT)
    return total


@kernel
def product(a, b, total, PRECISION: tl.constexpr):
    """Return total + a @ b, with sums in float32."""
    if PRECISION == "interpreted":
        # The interpreter would multiply the bits of bfloat16 as integers.
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total
