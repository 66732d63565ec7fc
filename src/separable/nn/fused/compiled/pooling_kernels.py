"""Pooling, channels last: maxima and means of windows, and means over all positions of an image.

    out[p, c] = max over the window of x[., c],   or   sum over the window of x[., c] / divisor[p]

A window is a box of input positions, given per axis by its first position and its number of positions inside the
image, so that padding, rounding up and adaptive sizes need no case of their own. Sums are taken row by row of the
window, and the sums of the rows are added.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import math
from typing import Any

import numpy as np

from separable.engine.compiled.jit import inline, intrinsic, literal_intrinsic, part, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import add, emit_splat, load_scalar, offset_pointer, sub
from separable.engine.compiled.sweep_params import word
from separable.engine.compiled.work_items import next_work_item

from .layer_params import emit_pointer
from .simd_ops import (
    LANES,
    SINGLE,
    constant,
    emit_mask,
    emit_read,
    float32_ptr,
    write,
    write_part,
)

POOLING = np.dtype(
    [(name, np.int64) for name in (
        # Arrays of this run.
        "source",  # input x[image][position][channel]
        "target",  # output [image][position][channel]
        "unused_one", "unused_two", "unused_three", "unused_four",
        "scratch",
        "scratch_size",
        # Work items.
        "items",  # groups of rows of outputs, times parts of the channels
        "parts",  # parts into which the channels are divided
        "blocks",  # blocks of LANES channels
        "group_rows",  # rows of outputs of a group
        "rows",  # rows of outputs of all images
        "channels",
        "image_step",  # bytes from an image of the input to the next
        "target_step",  # bytes from a position of the output to the next
        "out_z", "out_y", "out_x",  # outputs per image
        # Addresses of int64[outputs along the axis][2]: bytes to the first input of a window, number of inputs.
        "windows_z", "windows_y", "windows_x",
        "tap_z", "tap_y", "tap_x",  # bytes from an input of a window to the next along each axis
        "divisors",  # address of float32[position of an image]
        "operation",  # MAXIMUM or MEAN
    )]
)  # fmt: skip
AVERAGE = np.dtype(
    [(name, np.int64) for name in (
        # Arrays of this run.
        "source",  # input x[image][position][channel]
        "target",  # means [image][slab][channel]
        "unused_one", "unused_two", "unused_three", "unused_four",
        "scratch",
        "scratch_size",
        # Work items.
        "items",  # images times slabs times parts
        "slabs",  # parts into which the positions are divided
        "parts",  # parts into which the channels are divided
        "positions",  # positions of an image
        "channels",
        "source_step",  # bytes from a position to the next
        "image_step",  # bytes from an image to the next
        "divisor",  # address of float32: what the sums are divided by
    )]
)  # fmt: skip
_POOLING_RECORD, _AVERAGE_RECORD = numba.from_dtype(POOLING), numba.from_dtype(AVERAGE)

MAXIMUM, MEAN = range(2)
FEW = 16
"""Positions whose plain sum is added with compensation to the sum over all positions."""
_QUAD = types.UniTuple(SINGLE, 4)


@intrinsic
def pooling_at(_typing: Any, address: Any) -> Any:
    """Return the record of a pooling step at an address."""
    return _POOLING_RECORD(types.int64), emit_pointer


@intrinsic
def average_at(_typing: Any, address: Any) -> Any:
    """Return the record of a global average at an address."""
    return _AVERAGE_RECORD(types.int64), emit_pointer


def _emit_fold(builder: Any, operation: int, a: Any, b: Any) -> Any:
    """Emit a + b, or their maximum, which is NaN if one of them is."""
    if operation == MEAN:
        return builder.fadd(a, b)
    smaller = builder.fcmp_ordered("<=", b, a)
    missing = builder.fcmp_unordered("uno", a, a)
    return builder.select(builder.or_(smaller, missing), a, b)


@literal_intrinsic
def neutral(_typing: Any, operation: Any) -> Any:
    """Return four vectors with which nothing changes: 0 for a sum, minus infinity for a maximum."""
    value = 0.0 if operation.literal_value == MEAN else -math.inf

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        return context.make_tuple(builder, _QUAD, [constant(value)] * 4)

    return _QUAD(operation), emit


@literal_intrinsic
def fold_vectors(
    _typing: Any, sums: Any, p: Any, count: Any, vectors: Any, operation: Any
) -> Any:  # fmt: skip
    """Add the vectors at an address to the first ``vectors`` (4, 2 or 1) of four, or take their maxima.

    Of a single vector only the first ``count`` lanes are read.
    """
    wide, chosen = vectors.literal_value, operation.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = [builder.extract_value(arguments[0], i) for i in range(4)]
        mask = emit_mask(builder, arguments[2]) if wide == 1 else None
        for i in range(wide):
            place = builder.gep(arguments[1], [arguments[2].type(i * LANES)])
            values[i] = _emit_fold(builder, chosen, values[i], emit_read(builder, p, place, mask))
        return context.make_tuple(builder, _QUAD, values)

    return _QUAD(sums, p, types.int64, vectors, operation), emit


@literal_intrinsic
def fold_all(_typing: Any, a: Any, b: Any, operation: Any) -> Any:
    """Add four vectors to four others, or take their maxima."""
    chosen = operation.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pairs = [[builder.extract_value(t, i) for t in arguments[:2]] for i in range(4)]
        return context.make_tuple(builder, _QUAD, [_emit_fold(builder, chosen, *p) for p in pairs])

    return _QUAD(a, b, operation), emit


@intrinsic
def divided(_typing: Any, value: Any, divisor: Any) -> Any:
    """Return a vector divided by a scalar."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        return builder.fdiv(a[0], emit_splat(builder, a[1], LANES))

    return value(value, types.float32), emit


@inline
def _store_quad(values, out, count, vectors):
    """Store the first ``vectors`` (4, 2 or 1) of four vectors; of a single one ``count`` lanes."""
    if vectors == 1:
        write_part(out, values[0], count)
    else:
        write(out, values[0])
        write(offset_pointer(out, LANES), values[1])
        if vectors == 4:
            write(offset_pointer(out, 2 * LANES), values[2])
            write(offset_pointer(out, 3 * LANES), values[3])


@inline
def _pool_block(plan, place, z, y, x, out, divisor, count, vectors, operation):
    """Compute one output for some vectors of channels; ``vectors`` and ``operation`` are literals."""
    place += word(plan.windows_z, 2 * z) + word(plan.windows_y, 2 * y) + word(plan.windows_x, 2 * x)
    deep, tall = word(plan.windows_z, 2 * z + 1), word(plan.windows_y, 2 * y + 1)
    wide = word(plan.windows_x, 2 * x + 1)
    step = plan.tap_x
    total = neutral(operation)
    for i in range(deep):
        for j in range(tall):
            row = place + i * plan.tap_z + j * plan.tap_y
            values = neutral(operation)
            for k in range(wide):
                p = float32_ptr(row + k * step)
                values = fold_vectors(values, p, count, vectors, operation)
            total = fold_all(total, values, operation)
    if operation == MEAN:
        total = (
            divided(total[0], divisor),
            divided(total[1], divisor),
            divided(total[2], divisor),
            divided(total[3], divisor),
        )
    _store_quad(total, out, count, vectors)


@part
def _pool_position(plan, place, z, y, x, out, divisor, begun, ended, operation):
    """Compute one output for the blocks of channels from ``begun`` to ``ended``."""
    b = begun
    while b < ended:
        first = b * LANES
        left = min(plan.channels, ended * LANES) - first
        here, there = place + first * 4, float32_ptr(out + first * 4)
        if left >= 4 * LANES:
            if operation == MEAN:
                _pool_block(plan, here, z, y, x, there, divisor, left, 4, MEAN)
            else:
                _pool_block(plan, here, z, y, x, there, divisor, left, 4, MAXIMUM)
            b += 4
        elif left >= 2 * LANES:
            if operation == MEAN:
                _pool_block(plan, here, z, y, x, there, divisor, left, 2, MEAN)
            else:
                _pool_block(plan, here, z, y, x, there, divisor, left, 2, MAXIMUM)
            b += 2
        else:
            if operation == MEAN:
                _pool_block(plan, here, z, y, x, there, divisor, min(left, LANES), 1, MEAN)
            else:
                _pool_block(plan, here, z, y, x, there, divisor, min(left, LANES), 1, MAXIMUM)
            b += 1


@stage
def pooling_float32(address, counter, thread):
    """Run a pooling step of float32."""
    plan = pooling_at(address)
    deep, tall, wide, operation = plan.out_z, plan.out_y, plan.out_x, plan.operation
    divisors = float32_ptr(plan.divisors)
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [group of rows][part of the channels], rows [image][z][y].
        group, share = item // plan.parts, item % plan.parts
        low, high = share * plan.blocks // plan.parts, (share + 1) * plan.blocks // plan.parts
        for r in range(group * plan.group_rows, min((group + 1) * plan.group_rows, plan.rows)):
            image, z, y = r // (deep * tall), r // tall % deep, r % tall
            place = plan.source + image * plan.image_step
            for x in range(wide):
                divisor = load_scalar(offset_pointer(divisors, (z * tall + y) * wide + x))
                out = plan.target + (r * wide + x) * plan.target_step
                _pool_position(plan, place, z, y, x, out, divisor, low, high, operation)
        item = next_work_item(counter, plan.items, thread)


@inline
def _average_block(place, step, begun, ended, out, divisor, count, vectors):
    """Store the sum over the positions from ``begun`` to ``ended``, divided by ``divisor``.

    FEW positions are summed plainly. Their sum is added to the whole with compensation: the rounding error of each
    addition is computed exactly and subtracted from what is added next (Kahan 1965, doi:10.1145/363707.363723).
    """
    whole, lost = neutral(MEAN), neutral(MEAN)
    for p in range(begun, ended, FEW):
        few = neutral(MEAN)
        for q in range(p, min(p + FEW, ended)):
            few = fold_vectors(few, float32_ptr(place + q * step), count, vectors, MEAN)
        y0, y1 = sub(few[0], lost[0]), sub(few[1], lost[1])
        y2, y3 = sub(few[2], lost[2]), sub(few[3], lost[3])
        t0, t1 = add(whole[0], y0), add(whole[1], y1)
        t2, t3 = add(whole[2], y2), add(whole[3], y3)
        lost = (
            sub(sub(t0, whole[0]), y0),
            sub(sub(t1, whole[1]), y1),
            sub(sub(t2, whole[2]), y2),
            sub(sub(t3, whole[3]), y3),
        )
        whole = (t0, t1, t2, t3)
    values = (
        divided(whole[0], divisor),
        divided(whole[1], divisor),
        divided(whole[2], divisor),
        divided(whole[3], divisor),
    )
    _store_quad(values, out, count, vectors)


@stage
def average_float32(address, counter, thread):
    """Run a global average, or the first of its two steps, of float32."""
    plan = average_at(address)
    divisor = load_scalar(float32_ptr(plan.divisor))
    channels, step, slabs = plan.channels, plan.source_step, plan.slabs
    blocks = (channels + LANES - 1) // LANES
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [image][slab][part of the channels].
        share, row = item % plan.parts, item // plan.parts
        image, slab = row // slabs, row % slabs
        begun, ended = slab * plan.positions // slabs, (slab + 1) * plan.positions // slabs
        source, target = plan.source + image * plan.image_step, plan.target + row * channels * 4
        first = share * blocks // plan.parts * LANES
        last = min(channels, (share + 1) * blocks // plan.parts * LANES)
        while first < last:
            place, out, left = source + first * 4, float32_ptr(target + first * 4), last - first
            if left >= 4 * LANES:
                _average_block(place, step, begun, ended, out, divisor, left, 4)
                first += 4 * LANES
            elif left >= 2 * LANES:
                _average_block(place, step, begun, ended, out, divisor, left, 2)
                first += 2 * LANES
            else:
                _average_block(place, step, begun, ended, out, divisor, min(left, LANES), 1)
                first += LANES
        item = next_work_item(counter, plan.items, thread)
