"""Depthwise blocks whose columns lie side by side in memory: of one row of outputs, or of two, one below the other.

Addresses are those of the first column plus multiples of a pitch, so no table is needed (see `layer_blocks`). Two rows
of outputs share the rows of inputs between them: each input is loaded once for both.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import intrinsic, literal_intrinsic
from separable.engine.compiled.numba_api import cgutils, types
from separable.engine.compiled.simd import emit_fma, emit_splat

from .layer_blocks import BLOCK, PIXELS, emit_shifted, emit_stores, tap_emitter, tap_order
from .simd_ops import LANES, SINGLE, emit_between, emit_read

_I64 = ir.IntType(64)
_PAIR = types.UniTuple(SINGLE, 2 * PIXELS)


def _emit_inside_taps(
    builder: Any, like: Any, first: Any, pitch: Any, kinds: tuple[int, int, int], blocks: Any
) -> None:
    """Emit the products of neighbouring taps of one row, whose columns lie side by side in memory.

    ``kinds`` are the number of taps, the stride, and which columns are outside the image; ``blocks`` are the sums and the
    taps (see `tap_emitter`) of each output row that reads this row.
    """
    count, stride, outside = kinds
    # Each address is the one before plus the pitch: an addition costs less than a table of addresses.
    places = [first]
    for _ in range((PIXELS - 1) * stride + count - 1):
        places.append(emit_shifted(builder, places[-1], pitch))
    low, high = outside & 1, len(places) - (outside >> 1)
    samples: dict[int, Any] = {}
    for p, k in tap_order(count, stride):
        at = p * stride + k
        if low <= at < high:
            if at not in samples:
                samples[at] = emit_read(builder, like, places[at])
            for sums, taps_of in blocks:
                sums[p] = emit_fma(builder, SINGLE, samples[at], taps_of(k), sums[p])


@literal_intrinsic
def add_inside_taps(
    _typing: Any, block: Any, first: Any, pitch: Any, weights: Any, taps: Any, stride: Any, missing: Any
) -> Any:  # fmt: skip
    """Add neighbouring taps of one row to a depthwise block whose columns lie side by side in memory.

    block[p, lane] += sum_k weights[k, lane] * first[(p * stride + k) * pitch + lane],  k < taps

    ``taps``, ``stride`` and ``missing`` are literals; ``pitch`` counts bytes. ``missing`` says which columns are outside
    the image and are left out: the first of all (bit 0), the last (bit 1).
    """
    kinds = taps.literal_value, stride.literal_value, missing.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], PIXELS)
        blocks = [(sums, tap_emitter(builder, arguments[3]))]
        _emit_inside_taps(builder, first, arguments[1], arguments[2], kinds, blocks)
        return context.make_tuple(builder, BLOCK, sums)

    return BLOCK(block, first, types.int64, weights, taps, stride, missing), emit


@intrinsic
def start_pair(_typing: Any, bias: Any) -> Any:
    """Return two depthwise blocks, of an output row and of the one below, whose outputs all are the bias."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        first = emit_read(builder, bias, arguments[0])
        return context.make_tuple(builder, _PAIR, [first] * (2 * PIXELS))

    return _PAIR(bias), emit


@literal_intrinsic
def add_inside_pair(
    _typing: Any, pair: Any, first: Any, pitch: Any, upper: Any, lower: Any, taps: Any, missing: Any,
    which: Any,
) -> Any:  # fmt: skip
    """Add neighbouring taps of one row, at stride 1, to the blocks of two rows of outputs: each input is loaded once.

    ``upper`` and ``lower`` are the weights of this row for the outputs above and below. The literal ``which`` says which
    of them read it: the upper ones (1), the lower ones (2) or both (3). See :func:`add_inside_taps`.
    """
    kinds, rows = (taps.literal_value, 1, missing.literal_value), which.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0], 2 * PIXELS)
        parts = [values[:PIXELS], values[PIXELS:]]
        blocks = [
            (parts[i], tap_emitter(builder, arguments[3 + i])) for i in (0, 1) if rows >> i & 1
        ]
        _emit_inside_taps(builder, first, arguments[1], arguments[2], kinds, blocks)
        return context.make_tuple(builder, _PAIR, parts[0] + parts[1])

    return _PAIR(pair, first, types.int64, upper, lower, taps, missing, which), emit


def _emit_rest(
    builder: Any, sums: list[Any], out: Any, place: Any, step: Any, skipped: Any, bounds: Any
) -> None:
    """Emit the clamp of a depthwise block, and stores of all but its first ``skipped`` outputs from ``place`` on."""
    values = [emit_between(builder, value, *bounds) for value in sums]
    first = emit_shifted(builder, place, builder.neg(builder.mul(step, skipped)))

    def is_new(p: int) -> Any:
        return builder.icmp_signed("<=", skipped, _I64(p))

    emit_stores(builder, out, values, first, step, None, (is_new(0), is_new))


@intrinsic
def store_rest(
    _typing: Any, block: Any, out: Any, step: Any, skipped: Any, lower: Any, upper: Any
) -> Any:
    """Clamp a depthwise block and store all but its first ``skipped`` outputs, ``step`` bytes apart from ``out`` on."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], PIXELS)
        bounds = [emit_splat(builder, b, LANES) for b in arguments[4:6]]
        place, step_, skipped_ = arguments[1:4]
        _emit_rest(builder, sums, out, place, step_, skipped_, bounds)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    return types.none(block, out, i64, i64, f32, f32), emit


@intrinsic
def store_pair(
    _typing: Any, pair: Any, out: Any, below: Any, step: Any, skipped: Any, lower: Any, upper: Any
) -> Any:
    """Clamp and store two depthwise blocks as `store_rest` does, the second one from ``below`` on."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], 2 * PIXELS)
        bounds = [emit_splat(builder, b, LANES) for b in arguments[5:7]]
        for part, place in ((sums[:PIXELS], arguments[1]), (sums[PIXELS:], arguments[2])):
            _emit_rest(builder, part, out, place, arguments[3], arguments[4], bounds)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    return types.none(pair, out, below, i64, i64, f32, f32), emit
