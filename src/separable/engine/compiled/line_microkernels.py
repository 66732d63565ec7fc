"""Load, turn and store: how lines of an image become vectors that a filter can run along.

======================== =====================================================================
``load_strips``          rows of the image, converted, into strips one vector wide
``turn``                 strips transposed, so that lines along x run through memory as well
``put_rows``             transposed back, scaled, rounded and stored
``put_strips``           strips scaled, rounded and stored
======================== =====================================================================

Strips are ``strip[g][row][lane]``, the transposed buffer is ``across[group of rows][column][lane]``.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .dtype_conversion import emit_narrow, load_as, peek_as, poke_as
from .jit import inline, intrinsic, literal_intrinsic, part, stage
from .line_params import lines_at
from .numba_api import cgutils, types
from .simd import (
    VECTOR_BYTES,
    ahead,
    at,
    emit_load,
    emit_store,
    load,
    mark_stream,
    mul,
    native,
    peek,
    poke,
    prefetch,
    splat,
    store,
)
from .sweep_params import OUTSIDE, word
from .transpose import load_block, store_block, transpose

_OUTSIDE = int(OUTSIDE)


@intrinsic
def lanes_of(_typing: Any, like: Any) -> Any:
    """Return how many elements of the type of the pointer ``like`` a vector holds."""
    count = native(like.dtype).lanes

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(count)

    return types.int64(like), emit


# --- several lines side by side ---------------------------------------------------------------------


@literal_intrinsic
def nought(_typing: Any, p: Any, count: Any) -> Any:
    """Return ``count`` vectors of zeros of the element type of the pointer ``p``."""
    vector = native(p.dtype)
    block = types.UniTuple(vector, count.literal_value)

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        zero = ir.Constant(context.get_value_type(vector), [0.0] * vector.lanes)
        return context.make_tuple(builder, block, [zero] * block.count)

    return block(p, count), emit


@literal_intrinsic
def fetch(_typing: Any, p: Any, far: Any, count: Any) -> Any:
    """Load one vector from each of ``count`` lines that lie ``far`` elements apart."""
    vector = native(p.dtype)
    block = types.UniTuple(vector, count.literal_value)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, step = arguments[:2]
        values = []
        for i in range(block.count):
            place = builder.gep(base, [builder.mul(step, step.type(i))])
            values.append(emit_load(context, builder, vector, place, VECTOR_BYTES))
        return context.make_tuple(builder, block, values)

    return block(p, types.int64, count), emit


@intrinsic
def keep(_typing: Any, p: Any, far: Any, block: Any) -> Any:
    """Store one vector to each of several lines that lie ``far`` elements apart."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, step, values = arguments
        for i, value in enumerate(cgutils.unpack_tuple(builder, values, len(block))):
            place = builder.gep(base, [builder.mul(step, step.type(i))])
            emit_store(builder, value, place, VECTOR_BYTES)
        return context.get_dummy_value()

    return types.none(p, types.int64, block), emit


@intrinsic
def plus(_typing: Any, a: Any, _b: Any) -> Any:
    """Add two tuples of vectors."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, right = (cgutils.unpack_tuple(builder, v, len(a)) for v in arguments)
        sums = [builder.fadd(x, y) for x, y in zip(left, right, strict=True)]
        return context.make_tuple(builder, a, sums)

    return a(a, a), emit


@intrinsic
def minus(_typing: Any, a: Any, _b: Any) -> Any:
    """Subtract two tuples of vectors."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, right = (cgutils.unpack_tuple(builder, v, len(a)) for v in arguments)
        parts = [builder.fsub(x, y) for x, y in zip(left, right, strict=True)]
        return context.make_tuple(builder, a, parts)

    return a(a, a), emit


@literal_intrinsic
def put_block(
    _typing: Any, like: Any, address: Any, step: Any, rows: Any, scale: Any, stream: Any
) -> Any:
    """Scale, convert and store a tuple of vectors ``step`` bytes apart as elements of ``like``."""
    vector, past_cache = rows.dtype, bool(stream.literal_value)
    align = vector.lanes * getattr(like.dtype, "bitwidth", 16) // 8 if past_cache else 1

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.args[0])
        place = arguments[1]
        for value in cgutils.unpack_tuple(builder, arguments[3], len(rows)):
            scaled = builder.fmul(value, arguments[4])
            narrow = emit_narrow(builder, scaled, vector, like.dtype)
            instruction = emit_store(builder, narrow, builder.inttoptr(place, kind), align)
            if past_cache:
                mark_stream(builder, instruction)
            place = builder.add(place, arguments[2])
        return context.get_dummy_value()

    return types.none(like, types.int64, types.int64, rows, vector, stream), emit


# --- load -----------------------------------------------------------------------------------------


@inline
def _gather(plan, source, row, column, strip):
    """Fill one vector with the samples of flat columns from ``column`` on, border included."""
    outside = peek(at(strip, plan.outside))
    for lane in range(lanes_of(strip)):
        flat = column + lane
        if flat < 0:
            offset = word(plan.left_table, flat + plan.x_reach)
        elif flat >= plan.x_flat:
            offset = word(plan.right_table, flat - plan.x_flat)
        else:
            position = flat // plan.channels
            offset = position * plan.x_source + (flat - position * plan.channels) * plan.c_source
        value = outside
        if offset != _OUTSIDE:
            value = peek_as(at(source, row + offset), strip)
        poke(ahead(strip, lane), value)


@stage
def load_strips(plan_address, source, strips, table, rows, first, count):
    """Load ``count`` strips of ``rows`` rows, the flat column ``first`` at lane 0 of strip 0.

    As many columns to the right of them are prefetched.
    """
    plan = lines_at(plan_address)
    size = lanes_of(strips)
    step = plan.strip_rows * size
    outside = splat(strips, peek(at(strips, plan.outside)))
    # Strips that lie wholly inside the image, where its samples are neighbours in memory.
    start, stop, width = 0, 0, count * size * plan.source_item
    if plan.source_dense:
        start = min(max(0, (size - 1 - first) // size), count)
        stop = max(start, min(count, (plan.x_flat - first) // size))
    for r in range(rows):
        row = word(table, r)
        here = ahead(strips, r * size)
        if row == 0:
            for g in range(count):
                store(ahead(here, g * step), outside)
            continue
        samples = row + first * plan.source_item
        for g in range(start, stop):
            place = at(source, samples + g * size * plan.source_item)
            store(ahead(here, g * step), load_as(place, strips))
        if stop == count:
            for offset in range(width, 2 * width, 64):
                prefetch(samples + offset)
        for g in range(start):
            _gather(plan, source, row, first + g * size, ahead(here, g * step))
        for g in range(stop, count):
            _gather(plan, source, row, first + g * size, ahead(here, g * step))


@stage
def turn(plan_address, strips, across, groups, count):
    """Transpose ``count`` strips into the columns of ``across``."""
    plan = lines_at(plan_address)
    size = lanes_of(strips)
    for g in range(count):
        strip = ahead(strips, (g * plan.strip_rows + plan.y_shift) * size)
        for q in range(groups):
            block = transpose(load_block(ahead(strip, q * size * size), size))
            place = ahead(across, (q * plan.across_width + g * size) * size)
            store_block(place, size, block)


# --- store ----------------------------------------------------------------------------------------


@part
def _put_part(plan_address, target, row, step, first, rows, columns, values):
    """Scale and store the upper left part of a block of vectors sample by sample."""
    plan = lines_at(plan_address)
    size = lanes_of(values)
    scale = splat(values, peek(at(values, plan.scale)))
    for r in range(rows):
        here = ahead(values, r * size)
        store(here, mul(load(here), scale))
        for lane in range(columns):
            flat = first + lane
            position = flat // plan.channels
            offset = position * plan.x_target + (flat - position * plan.channels) * plan.c_target
            poke_as(at(target, row + r * step + offset), peek(ahead(here, lane)))


@stage
def put_rows(plan_address, across, temp, target, row, step, first, columns, rows):
    """Transpose ``columns`` of ``across`` back and store them from flat column ``first`` on.

    ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows.
    """
    plan = lines_at(plan_address)
    size = lanes_of(temp)
    scale = splat(temp, peek(at(temp, plan.scale)))
    item = plan.target_item
    stream = plan.stream and (first - plan.lead) % size == 0
    for q in range((rows + size - 1) // size):
        inside = min(size, rows - q * size)
        top = row + q * size * step
        source = ahead(across, q * plan.across_width * size)
        for f in range(0, columns, size):
            wide = min(size, columns - f)
            block = transpose(load_block(ahead(source, f * size), size))
            if plan.target_dense and inside == size and wide == size:
                place = top + (first + f) * item
                if stream:
                    put_block(target, place, step, block, scale, True)
                else:
                    put_block(target, place, step, block, scale, False)
            else:
                store_block(temp, size, block)
                _put_part(plan_address, target, top, step, first + f, inside, wide, temp)


@stage
def put_strips(plan_address, strips, temp, target, row, step, first, columns, rows):
    """Store strips from flat column ``first`` on; see :func:`put_rows`."""
    plan = lines_at(plan_address)
    size = lanes_of(temp)
    scale = splat(temp, peek(at(temp, plan.scale)))
    item = plan.target_item
    stream = plan.stream and (first - plan.lead) % size == 0
    whole = columns // size if plan.target_dense else 0
    for r in range(rows):
        here = ahead(strips, (r + plan.y_shift) * size)
        place = row + r * step + first * item
        for g in range(whole):
            value = (load(ahead(here, g * plan.strip_rows * size)),)
            if stream:
                put_block(target, place + g * size * item, 0, value, scale, True)
            else:
                put_block(target, place + g * size * item, 0, value, scale, False)
        for f in range(whole * size, columns, size):
            store(temp, load(ahead(here, f * plan.strip_rows)))
            wide = min(size, columns - f)
            _put_part(plan_address, target, row + r * step, 0, first + f, 1, wide, temp)
