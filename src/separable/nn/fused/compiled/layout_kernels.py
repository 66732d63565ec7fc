"""Transposes of many matrices, for conversions between channels first and channels last.

Channels first is [image][channel][position], channels last [image][position][channel]: one transpose of a
matrix of channels and positions per image. A work item is some strips of LANES rows of a matrix.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from separable.engine.compiled.jit import inline, literal_intrinsic, stage
from separable.engine.compiled.numba_api import cgutils, types
from separable.engine.compiled.simd import emit_shuffle, offset_pointer
from separable.engine.compiled.transpose import transpose
from separable.engine.compiled.work_items import next_work_item

from .layer_params import layer_at
from .simd_ops import LANES, SINGLE, emit_mask, emit_read, emit_write, float32_ptr

_BLOCK = types.UniTuple(SINGLE, LANES)


def _exists(builder: Any, count: Any, i: int) -> Any:
    """Emit the comparison ``i < count``."""
    return builder.icmp_signed("<", count.type(i), count)


@literal_intrinsic
def load_square(_typing: Any, p: Any, step: Any, rows: Any, columns: Any, whole: Any) -> Any:
    """Load a block of LANES x LANES values, rows ``step`` elements apart.

    If ``whole`` is 0, only the first ``rows`` rows and ``columns`` columns are read.
    """
    is_whole = whole.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, far, count, width = arguments[:4]
        mask = None if is_whole else emit_mask(builder, width)
        values = []
        for i in range(LANES):
            index = far.type(i)
            if not is_whole:  # rows that do not exist repeat the first one
                index = builder.select(_exists(builder, count, i), index, far.type(0))
            place = builder.gep(base, [builder.mul(far, index)])
            values.append(emit_read(builder, p, place, mask))
        return context.make_tuple(builder, _BLOCK, values)

    return _BLOCK(p, types.int64, types.int64, types.int64, whole), emit


@literal_intrinsic
def store_square(
    _typing: Any, p: Any, step: Any, block: Any, rows: Any, columns: Any, whole: Any
) -> Any:
    """Store a block of LANES x LANES values, rows ``step`` elements apart.

    If ``whole`` is 0, only the first ``rows`` rows and ``columns`` columns are written.
    """
    is_whole = whole.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, far, held, count, width = arguments[:5]
        mask = None if is_whole else emit_mask(builder, width)
        for i, value in enumerate(cgutils.unpack_tuple(builder, held, LANES)):
            place = builder.gep(base, [builder.mul(far, far.type(i))])
            if is_whole:
                emit_write(builder, p, value, place)
            else:
                with builder.if_then(_exists(builder, count, i)):
                    emit_write(builder, p, value, place, mask)
        return context.get_dummy_value()

    return types.none(p, types.int64, block, types.int64, types.int64, whole), emit


@literal_intrinsic
def interleave_rows(_typing: Any, p: Any, step: Any, out: Any, rows: Any) -> Any:
    """Store LANES columns of a matrix of few rows, ``step`` elements apart: out[column * rows + row] = p[row, column].

    ``rows`` is a literal.
    """
    count = rows.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, far, target = arguments[:3]
        places = [builder.gep(base, [builder.mul(far, far.type(r))]) for r in range(count)]
        values = [emit_read(builder, p, place) for place in places]
        for n in range(count):  # vector n of the result takes lanes from all rows in turn
            made = values[0]
            for r in range(count):
                flat = [n * LANES + lane for lane in range(LANES)]
                lanes = [
                    LANES + f // count if f % count == r else lane for lane, f in enumerate(flat)
                ]
                made = emit_shuffle(builder, made, values[r], lanes)
            emit_write(builder, out, made, builder.gep(target, [far.type(n * LANES)]))
        return context.get_dummy_value()

    return types.none(p, types.int64, out, rows), emit


@inline
def _strip(source, target, rows, columns, r, begun, ended):
    """Transpose up to LANES rows of some columns: target[c, r] = source[r, c], LANES x LANES values at a time."""
    tall = min(LANES, rows - r)
    for c in range(begun, ended, LANES):
        wide = min(LANES, ended - c)
        here, there = offset_pointer(source, r * columns + c), offset_pointer(target, c * rows + r)
        if rows == 3 and wide == LANES:
            interleave_rows(here, columns, there, 3)
        elif tall == LANES and wide == LANES:
            store_square(there, rows, transpose(load_square(here, columns, 0, 0, 1)), 0, 0, 1)
        else:
            store_square(
                there, rows, transpose(load_square(here, columns, tall, wide, 0)), wide, tall, 0
            )


@stage
def transpose_matrices(address, counter, thread):
    """Transpose matrices of ``channels`` rows and ``row_size`` columns; a tile is part of a strip of rows."""
    plan = layer_at(address)
    rows, columns, parts = plan.channels, plan.row_size, plan.parts
    strips, each = plan.tiles_of_image, plan.group_tiles
    blocks = (columns + LANES - 1) // LANES
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        for s in range(item * each, min((item + 1) * each, plan.tiles)):
            # Tiles are numbered [matrix][strip of LANES rows][part of the columns].
            share, strip = s % parts, s // parts
            begun = share * blocks // parts * LANES
            ended = min(columns, (share + 1) * blocks // parts * LANES)
            matrix = strip // strips * rows * columns
            source = offset_pointer(float32_ptr(plan.source), matrix)
            target = offset_pointer(float32_ptr(plan.target), matrix)
            _strip(source, target, rows, columns, strip % strips * LANES, begun, ended)
        item = next_work_item(counter, plan.items, thread)
