"""Register blocks of convolutions with channels first: sums over taps and channels at fixed offsets.

The vectors of a block lie along x: some outputs by some vectors of one row, or one vector of each of some rows.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import literal_intrinsic
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import emit_fma, emit_splat, mark_stream

from .layer_blocks import emit_sum_loop
from .simd_ops import (
    FLOAT32_PTR,
    LANES,
    SINGLE,
    emit_between,
    emit_mask,
    emit_prefetch_write,
    emit_read,
    emit_write,
    vector_type,
)

_I64 = ir.IntType(64)
_BYTE = ir.IntType(8).as_pointer()


@literal_intrinsic
def fma_rows(
    _typing: Any, base: Any, offsets: Any, count: Any, weights: Any, bias: Any, out: Any,
    step: Any, inside: Any, lower: Any, upper: Any, rows: Any, vectors: Any, stream: Any,
) -> Any:  # fmt: skip
    """Compute and store a block of ``rows`` outputs by ``vectors`` vectors of positions along x.

    out[o, x] = clamp(bias[o] + sum_k weights[o, k] * base[x + offsets[k]])

    ``offsets`` is int64[count] in bytes, ``weights`` float32[rows][count]; rows of ``out`` are ``step`` bytes
    apart. Of the last vector only ``inside`` lanes are stored. If ``stream`` is 1, ``out`` is aligned and
    stores bypass the caches.
    """
    tall, wide, streams = rows.literal_value, vectors.literal_value, stream.literal_value

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        start, table, depth, factors, begun, target, far, last, lower_, upper_ = arguments[:10]
        table = builder.inttoptr(table, _I64.as_pointer())
        # The sums begin with the bias of each row.
        first = []
        for m in range(tall):
            value = builder.load(builder.gep(begun, [_I64(m)]), align=4)
            first.append([emit_splat(builder, value, LANES)] * wide)
        lines = [builder.gep(factors, [builder.mul(depth, _I64(m))]) for m in range(tall)]
        places = []
        for m in range(tall):
            moved = builder.gep(builder.bitcast(target, _BYTE), [builder.mul(far, _I64(m))])
            places.append(builder.bitcast(moved, target.type))
            for v in range(0 if streams else wide):
                emit_prefetch_write(builder, builder.gep(places[m], [_I64(v * LANES)]))
        # The loop over k: one load per vector of inputs, one broadcast weight per row, all sums in registers.
        before = builder.block
        body = builder.append_basic_block("taps")
        after = builder.append_basic_block("taps.done")
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_I64)
        running = [[builder.phi(vector_type()) for _ in range(wide)] for _ in range(tall)]
        place = builder.add(start, builder.load(builder.gep(table, [k])))
        row = builder.inttoptr(place, begun.type)
        taken = [
            emit_read(builder, FLOAT32_PTR, builder.gep(row, [_I64(v * LANES)]))
            for v in range(wide)
        ]
        sums = []
        for m in range(tall):
            value = builder.load(builder.gep(lines[m], [k]), align=4)
            splat = emit_splat(builder, value, LANES)
            sums.append(
                [emit_fma(builder, SINGLE, splat, taken[v], running[m][v]) for v in range(wide)]
            )
        following = builder.add(k, _I64(1))
        k.add_incoming(_I64(0), before)
        k.add_incoming(following, body)
        for m in range(tall):
            for v in range(wide):
                running[m][v].add_incoming(first[m][v], before)
                running[m][v].add_incoming(sums[m][v], body)
        builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
        builder.position_at_end(after)
        bounds = [emit_splat(builder, b, LANES) for b in (lower_, upper_)]
        made = [[emit_between(builder, value, *bounds) for value in line] for line in sums]
        if streams:
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


@literal_intrinsic
def fma_lines(
    _typing: Any, base: Any, line: Any, offsets: Any, count: Any, weights: Any, bias: Any, out: Any,
    step: Any, lower: Any, upper: Any, lines: Any,
) -> Any:  # fmt: skip
    """Compute and store one vector of each of ``lines`` rows of one output channel.

    out[y, x] = clamp(bias + sum_k weights[k] * base[y * line + x + offsets[k]])

    ``line``, ``step`` (between rows of ``out``) and ``offsets`` are in bytes. One sum alone would wait for each of its
    multiply-adds. Whole vectors are stored, row by row: what lies behind a row may be the row after it.
    """
    tall = lines.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        start, down, table, depth, factors, begun, target, far, lower_, upper_ = arguments[:10]
        table = builder.inttoptr(table, _I64.as_pointer())
        starts = [builder.add(start, builder.mul(down, _I64(y))) for y in range(tall)]

        def products(k: Any, running: list[Any]) -> list[Any]:
            offset = builder.load(builder.gep(table, [k]))
            value = builder.load(builder.gep(factors, [k]), align=4)
            splat, made = emit_splat(builder, value, LANES), []
            for row, total in zip(starts, running, strict=True):
                place = builder.inttoptr(builder.add(row, offset), begun.type)
                taken = emit_read(builder, FLOAT32_PTR, place)
                made.append(emit_fma(builder, SINGLE, splat, taken, total))
            return made

        first = emit_splat(builder, builder.load(begun, align=4), LANES)
        _, sums = emit_sum_loop(builder, _I64(0), depth, [first] * tall, 1, products)
        bounds = [emit_splat(builder, b, LANES) for b in (lower_, upper_)]
        for y, total in enumerate(sums):
            moved = builder.gep(builder.bitcast(target, _BYTE), [builder.mul(far, _I64(y))])
            place = builder.bitcast(moved, target.type)
            emit_write(builder, out, emit_between(builder, total, *bounds), place)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    return types.none(i64, i64, i64, i64, weights, bias, out, i64, f32, f32, lines), emit
