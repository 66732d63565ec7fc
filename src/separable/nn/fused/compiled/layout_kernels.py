"""Channels from first to last in memory and back: transposes of many matrices."""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from separable.engine.compiled.jit import inline, literal_intrinsic, stage
from separable.engine.compiled.numba_api import cgutils, types
from separable.engine.compiled.simd import offset_pointer
from separable.engine.compiled.sweep_params import next_work_item, word
from separable.engine.compiled.transpose import transpose

from .layer_params import (
    CHANNELS,
    GROUP_TILES,
    ITEMS,
    ROW_SIZE,
    SOURCE,
    TARGET,
    TILES,
    TILES_OF_IMAGE,
)
from .simd_ops import LANES, SINGLE, emit_mask, emit_read, emit_write, floats

_BLOCK = types.UniTuple(SINGLE, LANES)


def _exists(builder: Any, count: Any, i: int) -> Any:
    """Emit whether there is a row ``i`` where only ``count`` rows exist."""
    return builder.icmp_signed("<", count.type(i), count)


@literal_intrinsic
def take(_typing: Any, p: Any, step: Any, rows: Any, columns: Any, whole: Any) -> Any:
    """Load a square block at any address; if not ``whole`` only its first rows and columns."""
    full = whole.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, far, count, width = arguments[:4]
        mask = None if full else emit_mask(builder, width)
        values = []
        for i in range(LANES):
            index = far.type(i)
            if not full:  # rows that do not exist repeat the first one
                index = builder.select(_exists(builder, count, i), index, far.type(0))
            place = builder.gep(base, [builder.mul(far, index)])
            values.append(emit_read(builder, p, place, mask))
        return context.make_tuple(builder, _BLOCK, values)

    return _BLOCK(p, types.int64, types.int64, types.int64, whole), emit


@literal_intrinsic
def put(_typing: Any, p: Any, step: Any, block: Any, rows: Any, columns: Any, whole: Any) -> Any:
    """Store a square block at any address; if not ``whole`` only its first rows and columns."""
    full = whole.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, far, held, count, width = arguments[:5]
        mask = None if full else emit_mask(builder, width)
        for i, value in enumerate(cgutils.unpack_tuple(builder, held, LANES)):
            place = builder.gep(base, [builder.mul(far, far.type(i))])
            if full:
                emit_write(builder, p, value, place)
            else:
                with builder.if_then(_exists(builder, count, i)):
                    emit_write(builder, p, value, place, mask)
        return context.get_dummy_value()

    return types.none(p, types.int64, block, types.int64, types.int64, whole), emit


@inline
def _strip(source, target, rows, columns, r):
    """Turn up to ``LANES`` rows."""
    tall = min(LANES, rows - r)
    for c in range(0, columns, LANES):
        wide = min(LANES, columns - c)
        here, there = offset_pointer(source, r * columns + c), offset_pointer(target, c * rows + r)
        if tall == LANES and wide == LANES:
            put(there, rows, transpose(take(here, columns, 0, 0, 1)), 0, 0, 1)
        else:
            put(there, rows, transpose(take(here, columns, tall, wide, 0)), wide, tall, 0)


@stage
def turn(plan, counter, seat):
    """Transpose ``IMAGES`` matrices of ``CHANNELS`` rows and ``ROW_SIZE`` columns."""
    rows, columns = word(plan, CHANNELS), word(plan, ROW_SIZE)
    strips, each = word(plan, TILES_OF_IMAGE), word(plan, GROUP_TILES)
    item = next_work_item(counter)
    while item < word(plan, ITEMS):
        for s in range(item * each, min((item + 1) * each, word(plan, TILES))):
            matrix = s // strips * rows * columns
            source = offset_pointer(floats(word(plan, SOURCE)), matrix)
            target = offset_pointer(floats(word(plan, TARGET)), matrix)
            _strip(source, target, rows, columns, s % strips * LANES)
        item = next_work_item(counter)
