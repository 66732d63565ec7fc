"""One convolution, or two in one walk, on planes: channels first, vectors along the last axis.

What is computed, for output o and position p, twice:

    out[o, p] = act(bias[o] + sum_{c, t} weights[o, c, t] * x[c, p * stride + t * dilation - pad])

How it is walked: an item of work is a box of the output. The input under it is copied into scratch memory, with
zeros where it ends, so that every tap is a fixed offset; the first convolution writes what the second
needs into a second box. Every output is summed in the order of the weights: results do not depend on boxes or threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import inline, literal_intrinsic, part, stage
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import (
    emit_fma,
    emit_splat,
    fence,
    load_scalar,
    mark_stream,
    offset_pointer,
    store_scalar,
)
from separable.engine.compiled.sweep_params import move, next_work_item, word

from .layer_blocks import ROWS, VECTORS
from .layer_kernels import _activate
from .layer_params import SILU
from .simd_ops import (
    FLOATS,
    LANES,
    SINGLE,
    emit_ahead,
    emit_between,
    emit_mask,
    emit_read,
    emit_write,
    floats,
    vector_type,
    write,
    zero,
)  # fmt: skip
from .spatial_params import (
    A_PLANE,
    A_ROW,
    A_SLICE,
    ACT_ONE,
    ACT_TWO,
    AT_B,
    B_PLANE,
    B_ROW,
    B_SLICE,
    BEFORE_ONE,
    BEFORE_TWO,
    BIAS_ONE,
    BIAS_TWO,
    BLOCK,
    BLOCKS,
    CHANNELS,
    COUNT_ONE,
    COUNT_TWO,
    FLAT,
    GROUP_STEP_ONE,
    GROUP_STEP_TWO,
    GROUPS_ONE,
    GROUPS_TWO,
    ITEMS,
    LIMITS,
    MIDDLE,
    OFFSETS_ONE,
    OFFSETS_TWO,
    OUT,
    PARTS,
    REACH_ONE,
    REACH_TWO,
    ROWS_ONE,
    ROWS_TWO,
    SCRATCH,
    SCRATCH_SIZE,
    SIZE,
    SOURCE,
    STEPS,
    STREAM,
    STRIDE_ONE,
    STRIDE_TWO,
    TARGET,
    WEIGHTS_ONE,
    WEIGHTS_TWO,
)  # fmt: skip

WIDE = 2 * VECTORS
"""Vectors of a block of a single row: as many sums as hide the latency of an FMA."""
_I64 = ir.IntType(64)
_BYTE = ir.IntType(8).as_pointer()


@literal_intrinsic
def combine(
    _typing: Any, base: Any, offsets: Any, count: Any, weights: Any, bias: Any, out: Any,
    step: Any, inside: Any, least: Any, most: Any, rows: Any, vectors: Any, stream: Any,
) -> Any:  # fmt: skip
    """Store ``rows`` rows of ``vectors`` vectors, clamped: sums of ``count`` shifted rows with their weights.

    The shifted rows lie ``offsets[k]`` bytes behind ``base``; rows of weights are ``count`` numbers long, rows
    of ``out`` ``step`` bytes apart. Of the last vector only ``inside`` lanes are stored. If `stream`, ``out`` is
    aligned and stores bypass the caches.
    """
    tall, wide, past = rows.literal_value, vectors.literal_value, stream.literal_value

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        start, table, depth, factors, begun, target, far, last, least_, most_ = arguments[:10]
        table = builder.inttoptr(table, _I64.as_pointer())
        first = []
        for m in range(tall):
            value = builder.load(builder.gep(begun, [_I64(m)]), align=4)
            first.append([emit_splat(builder, value, LANES)] * wide)
        lines = [builder.gep(factors, [builder.mul(depth, _I64(m))]) for m in range(tall)]
        places = []
        for m in range(tall):
            moved = builder.gep(builder.bitcast(target, _BYTE), [builder.mul(far, _I64(m))])
            places.append(builder.bitcast(moved, target.type))
            for v in range(0 if past else wide):
                emit_ahead(builder, builder.gep(places[m], [_I64(v * LANES)]))
        before = builder.block
        body = builder.append_basic_block("taps")
        after = builder.append_basic_block("taps.done")
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_I64)
        held = [[builder.phi(vector_type()) for _ in range(wide)] for _ in range(tall)]
        place = builder.add(start, builder.load(builder.gep(table, [k])))
        row = builder.inttoptr(place, begun.type)
        taken = [
            emit_read(builder, FLOATS, builder.gep(row, [_I64(v * LANES)])) for v in range(wide)
        ]
        sums = []
        for m in range(tall):
            value = builder.load(builder.gep(lines[m], [k]), align=4)
            splat = emit_splat(builder, value, LANES)
            sums.append(
                [emit_fma(builder, SINGLE, splat, taken[v], held[m][v]) for v in range(wide)]
            )
        following = builder.add(k, _I64(1))
        k.add_incoming(_I64(0), before)
        k.add_incoming(following, body)
        for m in range(tall):
            for v in range(wide):
                held[m][v].add_incoming(first[m][v], before)
                held[m][v].add_incoming(sums[m][v], body)
        builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
        builder.position_at_end(after)
        bounds = [emit_splat(builder, b, LANES) for b in (least_, most_)]
        made = [[emit_between(builder, value, *bounds) for value in line] for line in sums]
        if past:
            for v in range(wide):
                there = builder.gep(places[0], [_I64(v * LANES)])
                there = builder.bitcast(there, vector_type().as_pointer())
                mark_stream(builder, builder.store(made[0][v], there, align=LANES * 4))
            return _context.get_dummy_value()
        for m in range(tall):
            for v in range(wide - 1):
                emit_write(builder, out, made[m][v], builder.gep(places[m], [_I64(v * LANES)]))
        ends = [builder.gep(p, [_I64((wide - 1) * LANES)]) for p in places]
        with builder.if_else(builder.icmp_signed(">=", last, _I64(LANES))) as (whole, some):
            with whole:
                for m in range(tall):
                    emit_write(builder, out, made[m][-1], ends[m])
            with some:
                mask = emit_mask(builder, last)
                for m in range(tall):
                    emit_write(builder, out, made[m][-1], ends[m], mask)
        return _context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    given = (i64, i64, i64, weights, bias, out, i64, i64, f32, f32, rows, vectors, stream)
    return types.none(*given), emit


@inline
def _of_height(base, offsets, count, weights, bias, out, step, inside, least, most, rows, vectors):
    """Combine a literal number of vectors."""
    if rows == 6:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 6, vectors, 0)
    elif rows == 5:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 5, vectors, 0)
    elif rows == 4:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 4, vectors, 0)
    elif rows == 3:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 3, vectors, 0)
    elif rows == 2:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 2, vectors, 0)
    else:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 1, vectors, 0)


@part
def _block(base, offsets, count, weights, bias, out, step, inside, least, most, rows, vectors):
    """Combine up to ``ROWS`` rows of up to ``VECTORS`` vectors, or one row of twice as many."""
    if vectors == 1:
        _of_height(base, offsets, count, weights, bias, out, step, inside, least, most, rows, 1)
    elif vectors == 2:
        _of_height(base, offsets, count, weights, bias, out, step, inside, least, most, rows, 2)
    elif vectors == WIDE:
        combine(base, offsets, count, weights, bias, out, step, inside, least, most, 1, WIDE, 0)
    elif vectors == 3 and VECTORS == 4:
        _of_height(base, offsets, count, weights, bias, out, step, inside, least, most, rows, 3)
    elif VECTORS == 4:
        _of_height(base, offsets, count, weights, bias, out, step, inside, least, most, rows, 4)


@inline
def _streamed_line(base, offsets, count, weights, bias, out, columns, least, most):
    """Compute one row of one output, past the caches where it is aligned."""
    v = min(columns, (-out // 4) & (LANES - 1))
    if v:
        combine(base, offsets, count, weights, bias, floats(out), 0, v, least, most, 1, 1, 0)
    while v + WIDE * LANES <= columns:
        here, place = base + v * 4, floats(out + v * 4)
        combine(here, offsets, count, weights, bias, place, 0, LANES, least, most, 1, WIDE, 1)
        v += WIDE * LANES
    while v < columns:
        here, place, left = base + v * 4, floats(out + v * 4), columns - v
        combine(here, offsets, count, weights, bias, place, 0, left, least, most, 1, 1, 0)
        v += LANES


@part
def _streamed(base, offsets, count, weights, bias, outputs, out, step, columns, limits):
    """Compute one row of all outputs of a group, output by output, past the caches."""
    least, most = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for o in range(outputs):
        _streamed_line(
            base, offsets, count, offset_pointer(weights, o * count), offset_pointer(bias, o), out + o * step, columns,
            least, most,
        )  # fmt: skip


@part
def _strip(
    base, offsets, count, weights, bias, outputs, out, step, columns, exact, limits, act
):  # fmt: skip
    """Compute one row of all outputs of a group; if not ``exact``, whole vectors are written."""
    least, most = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    vectors = (columns + LANES - 1) // LANES
    tiles = (outputs + ROWS - 1) // ROWS
    v = 0
    while v < vectors:
        wide = min(VECTORS, vectors - v)
        if outputs == 1 and vectors - v >= WIDE:
            wide = WIDE
        left = columns - v * LANES
        inside = left - (wide - 1) * LANES if exact else LANES
        for t in range(tiles):
            o = t * outputs // tiles
            rows = (t + 1) * outputs // tiles - o
            place = floats(out + o * step + v * LANES * 4)
            _block(
                base + v * LANES * 4, offsets, count, offset_pointer(weights, o * count), offset_pointer(bias, o),
                place, step, inside, least, most, rows, wide,
            )  # fmt: skip
            if act >= SILU:
                _activate(place, rows, step // 4, min(left, wide * LANES), act)
        v += wide


@inline
def _zeros(place, count):
    """Write zeros over ``count`` values, and up to a vector further."""
    for i in range(0, count, LANES):
        write(floats(place + i * 4), zero())


@part
def _fill(plan, image, box, at_z, at_y, at_x, tall, deep, wide):
    """Copy the input under a box, zeros where there is none; sizes are (tall, deep, wide)."""
    high, rows, columns = word(plan, SIZE), word(plan, SIZE + 1), word(plan, SIZE + 2)
    low, top = max(0, -at_x), min(wide, columns - at_x)
    for c in range(word(plan, CHANNELS)):
        source = image + c * high * rows * columns * 4
        for z in range(tall):
            for y in range(deep):
                place = (
                    box + c * word(plan, A_PLANE) + z * word(plan, A_SLICE) + y * word(plan, A_ROW)
                )
                iz, iy = at_z + z, at_y + y
                inside = iz >= 0 and iz < high and iy >= 0 and iy < rows and low < top
                if not inside or low > 0 or top < wide:
                    _zeros(place, wide)
                if inside:
                    row = source + ((iz * rows + iy) * columns + at_x + low) * 4
                    move(place + low * 4, row, (top - low) * 4)


@part
def _first(plan, share, box_a, box_b, at_z, at_y, at_x, tall, deep, wide):
    """Write a share of the first convolution's results under a box of the second's outputs."""
    high, rows, columns = word(plan, MIDDLE), word(plan, MIDDLE + 1), word(plan, MIDDLE + 2)
    low, top = max(0, -at_x), min(wide, columns - at_x)
    outputs, count = word(plan, ROWS_ONE) // word(plan, PARTS), word(plan, COUNT_ONE)
    step = word(plan, B_PLANE)
    limits = floats(word(plan, LIMITS))
    for g in range(word(plan, GROUPS_ONE)):
        begun = (share + g) * outputs  # one of them is 0
        weights = offset_pointer(floats(word(plan, WEIGHTS_ONE)), begun * count)
        bias = offset_pointer(floats(word(plan, BIAS_ONE)), begun)
        source = box_a + g * word(plan, GROUP_STEP_ONE)
        for z in range(tall):
            for y in range(deep):
                place = box_b + g * outputs * step + z * word(plan, B_SLICE) + y * word(plan, B_ROW)
                mz, my = at_z + z, at_y + y
                inside = mz >= 0 and mz < high and my >= 0 and my < rows and low < top
                if inside:
                    base = source + z * word(plan, STRIDE_ONE) * word(plan, A_SLICE)
                    base += y * word(plan, STRIDE_ONE + 1) * word(plan, A_ROW) + low * 4
                    _strip(
                        base, word(plan, OFFSETS_ONE), count, weights, bias, outputs,
                        place + low * 4, step, top - low, 0, limits, word(plan, ACT_ONE),
                    )  # fmt: skip
                for r in range(outputs):
                    line = place + r * step
                    if not inside:
                        _zeros(line, wide)
                    else:
                        for j in range(low):
                            store_scalar(floats(line + j * 4), 0.0)
                        if top < wide:
                            _zeros(line + top * 4, wide - top)


@part
def _second(plan, share, box, slice_step, row_step, image, oz, oy, ox, tall, deep, wide):
    """Write a box of a share of the output's channels."""
    high, rows, columns = word(plan, OUT), word(plan, OUT + 1), word(plan, OUT + 2)
    outputs, count = word(plan, ROWS_TWO), word(plan, COUNT_TWO)
    step = high * rows * columns * 4
    limits = offset_pointer(floats(word(plan, LIMITS)), 2)
    if word(plan, FLAT):  # rows follow each other, in the box as in the output
        wide *= deep
        deep = 1
    groups = word(plan, GROUPS_TWO) // word(plan, PARTS)
    for g in range(share * groups, (share + 1) * groups):
        weights = offset_pointer(floats(word(plan, WEIGHTS_TWO)), g * outputs * count)
        bias = offset_pointer(floats(word(plan, BIAS_TWO)), g * outputs)
        source = box + (g - share * groups) * word(plan, GROUP_STEP_TWO)
        for z in range(tall):
            for y in range(deep):
                base = source + z * word(plan, STRIDE_TWO) * slice_step
                base += y * word(plan, STRIDE_TWO + 1) * row_step
                place = image + g * outputs * step
                place += (((oz + z) * rows + oy + y) * columns + ox) * 4
                if word(plan, STREAM):
                    _streamed(
                        base, word(plan, OFFSETS_TWO), count, weights, bias, outputs, place, step,
                        wide, limits,
                    )  # fmt: skip
                else:
                    _strip(
                        base, word(plan, OFFSETS_TWO), count, weights, bias, outputs, place, step,
                        wide, 1, limits, word(plan, ACT_TWO),
                    )  # fmt: skip


@inline
def _under(plan, size, axis, stride, reach):
    """Return how many positions a convolution reads along an axis."""
    return (size - 1) * word(plan, stride + axis) + word(plan, reach + axis) + 1


@stage
def planes(plan, counter, seat):
    """Run one convolution or two on planes of float32."""
    box_a = word(plan, SCRATCH) + seat * word(plan, SCRATCH_SIZE)
    box_b = box_a + word(plan, AT_B)
    along_z, along_y, along_x = word(plan, BLOCKS), word(plan, BLOCKS + 1), word(plan, BLOCKS + 2)
    in_size = word(plan, SIZE) * word(plan, SIZE + 1) * word(plan, SIZE + 2) * 4
    out_size = word(plan, OUT) * word(plan, OUT + 1) * word(plan, OUT + 2) * 4
    outputs = word(plan, GROUPS_TWO) * word(plan, ROWS_TWO)
    item = next_work_item(counter)
    parts = word(plan, PARTS)
    while item < word(plan, ITEMS) * parts:
        share = item % parts
        item //= parts
        image = item // (along_z * along_y * along_x)
        oz = item // (along_y * along_x) % along_z * word(plan, BLOCK)
        oy = item // along_x % along_y * word(plan, BLOCK + 1)
        ox = item % along_x * word(plan, BLOCK + 2)
        tall = min(word(plan, BLOCK), word(plan, OUT) - oz)
        deep = min(word(plan, BLOCK + 1), word(plan, OUT + 1) - oy)
        wide = min(word(plan, BLOCK + 2), word(plan, OUT + 2) - ox)
        source = word(plan, SOURCE) + image * word(plan, CHANNELS) * in_size
        target = word(plan, TARGET) + image * outputs * out_size
        z = oz * word(plan, STRIDE_TWO) - word(plan, BEFORE_TWO)
        y = oy * word(plan, STRIDE_TWO + 1) - word(plan, BEFORE_TWO + 1)
        x = ox - word(plan, BEFORE_TWO + 2)
        high = _under(plan, tall, 0, STRIDE_TWO, REACH_TWO)
        rows = _under(plan, deep, 1, STRIDE_TWO, REACH_TWO)
        columns = _under(plan, wide, 2, STRIDE_TWO, REACH_TWO)
        if word(plan, STEPS) == 1:
            _fill(plan, source, box_a, z, y, x, high, rows, columns)
            _second(
                plan, share, box_a, word(plan, A_SLICE), word(plan, A_ROW), target, oz, oy, ox, tall, deep, wide
            )  # fmt: skip
        else:
            _fill(
                plan, source, box_a, z * word(plan, STRIDE_ONE) - word(plan, BEFORE_ONE),
                y * word(plan, STRIDE_ONE + 1) - word(plan, BEFORE_ONE + 1),
                x - word(plan, BEFORE_ONE + 2), _under(plan, high, 0, STRIDE_ONE, REACH_ONE),
                _under(plan, rows, 1, STRIDE_ONE, REACH_ONE),
                _under(plan, columns, 2, STRIDE_ONE, REACH_ONE),
            )  # fmt: skip
            _first(plan, share, box_a, box_b, z, y, x, high, rows, columns)
            _second(
                plan, share, box_b, word(plan, B_SLICE), word(plan, B_ROW), target, oz, oy, ox, tall, deep, wide
            )  # fmt: skip
        item = next_work_item(counter)
    if word(plan, STREAM):
        fence()
