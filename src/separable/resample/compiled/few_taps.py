"""Banded passes of few taps: between rows straight from memory, and every second sample along rows.

With few taps the loads and stores of a strip cost more than the arithmetic. The sums are added in the same order as in
:mod:`.band_kernels`, so their bits are the same.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.dtype_conversion import (
    emit_widen,
    load_as,
    load_scalar_as,
    store_as,
    store_scalar_as,
)
from separable.engine.compiled.jit import inline, intrinsic, literal_intrinsic, stage
from separable.engine.compiled.load_store import item_of
from separable.engine.compiled.numba_api import cgutils, without_literals
from separable.engine.compiled.simd import (
    HAS_FMA,
    LINE_BYTES,
    Vec,
    at,
    emit_call,
    emit_fma,
    emit_load,
    emit_shuffle,
    emit_splat,
    fence,
    fma,
    lanes_of,
    load_scalar,
    offset_pointer,
    splat,
)
from separable.engine.compiled.sweep_params import invoke, smaller, word
from separable.engine.compiled.vector_blocks import plus, store_rows, zero_vectors
from separable.engine.compiled.work_items import next_work_item

from .band_kernels import TILE_VECTORS, batch_offset
from .band_record import band_at


@intrinsic
def add_samples(_typing: Any, sums: Any, source: Any, weight: Any) -> Any:
    """Return ``sums[v] + weight * x[v]`` for the samples ``x`` at any address ``source``, converted."""
    vector = sums.dtype
    stored = Vec(source.dtype, vector.lanes)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        totals = cgutils.unpack_tuple(builder, arguments[0], len(sums))
        factor = emit_splat(builder, builder.load(arguments[2]), vector.lanes)
        found = []
        for v, total in enumerate(totals):
            place = builder.gep(arguments[1], [ir.IntType(64)(v * vector.lanes)])
            value = emit_load(context, builder, stored, place, 1)
            value = emit_widen(context, builder, value, source.dtype, vector)
            found.append(emit_fma(builder, vector, factor, value, total))
        return context.make_tuple(builder, sums, found)

    return sums(sums, source, weight), emit


@intrinsic
def add_constant(_typing: Any, sums: Any, value: Any, weight: Any) -> Any:
    """Return ``sums[v] + weight * value`` for the number at ``value``."""
    vector = sums.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        totals = cgutils.unpack_tuple(builder, arguments[0], len(sums))
        number, factor = (emit_splat(builder, builder.load(p), vector.lanes) for p in arguments[1:])
        found = [emit_fma(builder, vector, factor, number, total) for total in totals]
        return context.make_tuple(builder, sums, found)

    return sums(sums, value, weight), emit


@without_literals
@inline
def _weighted_rows(params, source, like, base, i):
    """Return the sums of a tile of output ``i`` straight from the rows of the image; ``base`` is the address in row 0."""
    # sums[v] = sum_j weights[i][j] * image[samples[starts[i] + j]][v]
    positions = params.samples + word(params.starts, i) * 8
    weights = offset_pointer(at(like, params.weights), i * params.taps)
    outside = at(like, params.outside)
    sums = zero_vectors(like, 8)
    for j in range(params.taps):
        sample = word(positions, j)
        if sample < 0:
            sums = add_constant(sums, outside, offset_pointer(weights, j))
        else:
            row = at(source, base + sample * params.source_step)
            sums = add_samples(sums, row, offset_pointer(weights, j))
    return plus(zero_vectors(like, 8), sums)


@stage
def sum_direct(params_address, source, target, like, base, place, columns, block):
    """Compute ``columns`` samples (a tile or more) of a block of outputs, one output after the other.

    Rows are read and written from end to end. The last tile of a row may overlap the one before it.
    """
    params = band_at(params_address)
    tile = TILE_VECTORS * lanes_of(like)
    step = lanes_of(like) * item_of(target)
    start = block * params.block
    for i in range(start, smaller(start + params.block, params.outputs)):
        here = place + (i - params.first_block * params.block) * params.target_step
        column = 0
        if params.stream and here % LINE_BYTES != 0:
            # Stores past the caches need whole cache lines: the first tile is stored otherwise.
            store_rows(target, here, step, _weighted_rows(params, source, like, base, i), False)
            column = (LINE_BYTES - here % LINE_BYTES) // item_of(target)
        while column + tile <= columns:
            read = base + column * item_of(source)
            sums = _weighted_rows(params, source, like, read, i)
            if params.stream:
                store_rows(target, here + column * item_of(target), step, sums, True)
            else:
                store_rows(target, here + column * item_of(target), step, sums, False)
            column += tile
        if column < columns:
            column = columns - tile
            sums = _weighted_rows(params, source, like, base + column * item_of(source), i)
            store_rows(target, here + column * item_of(target), step, sums, False)


@stage
def items_direct(params_address, counter, worker):
    """Take chunks of a pass between rows with few taps until none is left."""
    params = band_at(params_address)
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        # item = (batch element * blocks + block) * chunks + chunk
        chunk = item % params.tiles
        block = item // params.tiles % params.blocks + params.first_block
        batch = item // params.tiles // params.blocks
        start = chunk * params.chunk_lines
        # The last chunk takes what is less than a tile.
        columns = params.lines - start if chunk == params.tiles - 1 else params.chunk_lines
        source = params.source + batch_offset(params, batch, 1) + start * params.source_item
        target = params.target + batch_offset(params, batch, 2) + start * params.target_item
        invoke(params.sum, (params_address, 0, 0, 0, source, target, columns, block))
        item = next_work_item(counter, params.items, worker)
    if params.stream:
        fence()


# --- every second sample along rows ------------------------------------------------------------------


@literal_intrinsic
def _every_second(_typing: Any, a: Any, b: Any, odd: Any) -> Any:
    """Return the even lanes of ``a`` followed by ``b``, or the odd ones if the literal ``odd`` is 1."""
    first = int(odd.literal_value)

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_shuffle(builder, arguments[0], arguments[1], list(range(first, 2 * a.lanes, 2)))

    return a(a, a, odd), emit


@intrinsic
def fma_number(_typing: Any, a: Any, _b: Any, _c: Any) -> Any:
    """Return ``a * b + c`` for numbers, rounded as for vectors."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        name = f"llvm.{'fma' if HAS_FMA else 'fmuladd'}.f{a.bitwidth}"
        return emit_call(builder, name, arguments[0].type, list(arguments))

    return a(a, a, a), emit


@without_literals
@inline
def _one_output(params, source, target, like, rows, i):
    """Compute output ``i`` of a row, with the border; ``rows`` are the addresses of the row and of its result."""
    positions = params.samples + word(params.starts, i) * 8
    weights = offset_pointer(at(like, params.weights), i * params.taps)
    total = load_scalar(weights) * 0
    for j in range(params.taps):
        sample = word(positions, j)
        value = load_scalar(at(like, params.outside))
        if sample >= 0:
            value = load_scalar_as(at(source, rows[0] + sample * item_of(source)), like)
        total = fma_number(load_scalar(offset_pointer(weights, j)), value, total)
    store_scalar_as(at(target, rows[1] + i * item_of(target)), total)


@without_literals
@inline
def _vector(source, like, place, weights, taps):
    """Return a vector of outputs, the first of which reads the samples from ``place`` on."""
    # sums[lane] = sum_j weights[j] * x[2 lane + j]
    sums = splat(like, load_scalar(weights) * 0)
    for j in range(0, taps, 2):
        x = at(source, place + j * item_of(source))
        a, b = load_as(x, like), load_as(offset_pointer(x, lanes_of(like)), like)
        tap = splat(like, load_scalar(offset_pointer(weights, j)))
        sums = fma(tap, _every_second(a, b, 0), sums)
        if j + 1 < taps:
            tap = splat(like, load_scalar(offset_pointer(weights, j + 1)))
            sums = fma(tap, _every_second(a, b, 1), sums)
    return sums


@stage
def sum_halves(params_address, source, target, like, row, place):
    """Compute the outputs of one row, of which each reads the samples two after those of the one before.

    Outputs `regular_first` to `regular_last` have the same weights and read neighbouring samples; the others are
    computed one by one.
    """
    params = band_at(params_address)
    size, taps = lanes_of(like), params.taps
    rows, begin = (row, place), params.regular_first
    for edge in range(begin):
        _one_output(params, source, target, like, rows, edge)
    weights = offset_pointer(at(like, params.weights), begin * taps)
    first = word(params.samples, word(params.starts, begin))
    # The last vector that reads within the row; it may overlap the one before it.
    last = (params.row_samples - first - taps - 2 * size) // 2
    last = smaller(begin + last, params.regular_last - size)
    i = begin
    while i <= last:
        x = row + (first + 2 * (i - begin)) * item_of(source)
        store_as(at(target, place + i * item_of(target)), _vector(source, like, x, weights, taps))
        i += size
        if i > last and i < last + size:
            i = last
    for edge in range(i, params.outputs):
        _one_output(params, source, target, like, rows, edge)


@stage
def items_halves(params_address, counter, worker):
    """Take groups of rows until none is left."""
    params = band_at(params_address)
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        start = item * params.tile_lines
        for line in range(start, smaller(start + params.tile_lines, params.lines)):
            row = params.source + batch_offset(params, line, 1)
            place = params.target + batch_offset(params, line, 2)
            invoke(params.sum, (params_address, 0, 0, 0, row, place))
        item = next_work_item(counter, params.items, worker)
