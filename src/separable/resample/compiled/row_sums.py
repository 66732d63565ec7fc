"""Sums of rows for a decimating sweep: of image rows, and of rows of the buffer for one or two outputs.

Sums are added in the same order as in :mod:`.band_kernels`, so their bits are the same.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.dtype_conversion import load_scalar_as
from separable.engine.compiled.jit import inline, intrinsic, part, stage
from separable.engine.compiled.load_store import item_of
from separable.engine.compiled.numba_api import (
    cgutils,
    types,
    without_literals,
)
from separable.engine.compiled.simd import (
    at,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    lanes_of,
    load_scalar,
    offset_pointer,
    store_scalar,
)
from separable.engine.compiled.sweep_params import (
    larger,
    smaller,
    word,
)
from separable.engine.compiled.vector_blocks import (
    plus,
    store_block_any,
    zero_vectors,
)

from .band_kernels import STEPS, TILE_VECTORS
from .decimation_record import decimation_at
from .few_rows import prefetch_ahead
from .few_taps import add_constant, add_samples, fma_number

# --- sums of rows -----------------------------------------------------------------------------------


@without_literals
@inline
def _add_row(sums, source, row, offset, weight, outside):
    """Return ``sums[v] + weight * row[v]``, where row 0 is the constant value outside."""
    if row == 0:
        return add_constant(sums, outside, weight)
    return add_samples(sums, at(source, row + offset), weight)


@without_literals
@inline
def _tile_part(source, like, table, offset, weights, start, stop, outside):
    """Return a tile of the sum of the rows ``start`` to ``stop`` of a table."""
    sums = zero_vectors(like, 8)
    for j in range(start, stop):
        weight = offset_pointer(weights, j)
        sums = _add_row(sums, source, word(table, j), offset, weight, outside)
    return sums


@without_literals
@inline
def _tile_sums(source, like, table, offset, weights, taps, outside):
    """Return a tile of the sum of rows, ``offset`` bytes from the addresses at ``table``."""
    # total[v] = sum_j weights[j] * row_j[v], STEPS products at a time
    total = _tile_part(
        source, like, table, offset, weights, 0, smaller(STEPS, taps), outside
    )  # fmt: skip
    for start in range(STEPS, taps, STEPS):
        stop = smaller(start + STEPS, taps)
        total = plus(
            total, _tile_part(source, like, table, offset, weights, start, stop, outside)
        )  # fmt: skip
    return total


@without_literals
@inline
def _vector_sums(source, like, table, offset, weights, taps, outside):
    """Return one vector of the sum of rows, as a tuple."""
    total = zero_vectors(like, 1)
    for start in range(0, taps, STEPS):
        sums = zero_vectors(like, 1)
        for j in range(start, smaller(start + STEPS, taps)):
            weight = offset_pointer(weights, j)
            sums = _add_row(sums, source, word(table, j), offset, weight, outside)
        total = plus(total, sums)
    return total


@without_literals
@part
def _column_sum(source, like, table, offset, weights, taps, outside):
    """Return one number of the sum of rows."""
    total = load_scalar(weights) * 0
    for start in range(0, taps, STEPS):
        sums = load_scalar(weights) * 0
        for j in range(start, smaller(start + STEPS, taps)):
            row = word(table, j)
            value = load_scalar(outside)
            if row != 0:
                value = load_scalar_as(at(source, row + offset), like)
            sums = fma_number(load_scalar(offset_pointer(weights, j)), value, sums)
        total += sums
    return total


@stage
def sum_rows(
    params_address, source, line, table, weights, taps, count, ahead, ahead_rows, distance
):
    """Write ``count`` numbers of the sum of the rows at ``table``; nothing beyond them is read.

    Meanwhile ``ahead_rows`` rows of the image, ``distance`` bytes from the addresses at ``ahead``, are prefetched.
    """
    params = decimation_at(params_address)
    size, item = lanes_of(line), item_of(source)
    tile = TILE_VECTORS * size
    numbers, outside = at(line, weights), at(line, params.outside)
    column = 0
    while column + tile <= count:
        prefetch_ahead(
            ahead, ahead_rows, distance + column * params.source_item, tile * params.source_item
        )
        sums = _tile_sums(source, line, table, column * item, numbers, taps, outside)
        store_block_any(offset_pointer(line, column), size, sums)
        column += tile
    if column < count and column + size > count and count >= size:
        column = count - size
    while column + size <= count:
        sums = _vector_sums(source, line, table, column * item, numbers, taps, outside)
        store_block_any(offset_pointer(line, column), size, sums)
        column += size
        if column < count and column + size > count:
            column = count - size  # the last vector overlaps the one before it
    for c in range(column, count):
        value = _column_sum(source, line, table, c * item, numbers, taps, outside)
        store_scalar(offset_pointer(line, c), value)


# --- sums of the same rows for two outputs ------------------------------------------------------------


def _pair_adder(sums: Any, source: Any, weights: tuple[Any, ...], which: tuple[int, ...]) -> Any:
    """Return the type and the emitter of a row added to one or both halves of a tuple of sums."""
    vector, half = sums.dtype, len(sums) // 2

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        totals = cgutils.unpack_tuple(builder, arguments[0], len(sums))
        values = []
        for v in range(half):
            place = builder.gep(arguments[1], [ir.IntType(64)(v * vector.lanes)])
            values.append(emit_load(context, builder, vector, place, vector.dtype.bitwidth // 8))
        for number, place in zip(which, arguments[2:], strict=True):
            factor = emit_splat(builder, builder.load(place), vector.lanes)
            for v, value in enumerate(values):
                k = number * half + v
                totals[k] = emit_fma(builder, vector, factor, value, totals[k])
        return context.make_tuple(builder, sums, totals)

    return sums(sums, source, *weights), emit


@intrinsic
def _add_to_first(_typing: Any, sums: Any, source: Any, weight: Any) -> Any:
    """Add ``weight * row`` to the first half of the sums."""
    return _pair_adder(sums, source, (weight,), (0,))


@intrinsic
def _add_to_second(_typing: Any, sums: Any, source: Any, weight: Any) -> Any:
    """Add ``weight * row`` to the second half of the sums."""
    return _pair_adder(sums, source, (weight,), (1,))


@intrinsic
def _add_to_both(_typing: Any, sums: Any, source: Any, first: Any, second: Any) -> Any:
    """Add ``first * row`` to the first half of the sums, and ``second * row`` to the second half."""
    return _pair_adder(sums, source, (first, second), (0, 1))


@intrinsic
def _store_halves(_typing: Any, first: Any, second: Any, sums: Any) -> Any:
    """Store the halves of a tuple of vectors, each half contiguous at any address."""
    vector, half = sums.dtype, len(sums) // 2

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[2], len(sums))
        for number, value in enumerate(values):
            base, v = arguments[number // half], number % half
            place = builder.gep(base, [ir.IntType(64)(v * vector.lanes)])
            emit_store(builder, value, place, vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(first, second, sums), emit


@without_literals
@inline
def _pair_part(like, table, column, first, second, start, stop, step):
    """Return the products ``start`` to ``stop`` of two outputs, of which the second begins ``step`` rows later."""
    sums = zero_vectors(like, 8)
    middle = smaller(start + step, stop)
    for r in range(start, middle):
        row = offset_pointer(at(like, word(table, r)), column)
        sums = _add_to_first(sums, row, offset_pointer(first, r))
    for r in range(middle, stop):
        row = offset_pointer(at(like, word(table, r)), column)
        other = offset_pointer(second, r - step)
        sums = _add_to_both(sums, row, offset_pointer(first, r), other)
    for r in range(larger(stop, start + step), stop + step):
        row = offset_pointer(at(like, word(table, r)), column)
        sums = _add_to_second(sums, row, offset_pointer(second, r - step))
    return sums


@without_literals
@inline
def _pair_tile(like, table, column, first, second, taps, step):
    """Return a tile of two sums of rows of the buffer, STEPS products at a time."""
    total = _pair_part(like, table, column, first, second, 0, smaller(STEPS, taps), step)
    for start in range(STEPS, taps, STEPS):
        stop = smaller(start + STEPS, taps)
        part = _pair_part(like, table, column, first, second, start, stop, step)
        total = plus(total, part)
    return total


@stage
def sum_row_pairs(
    params_address, line, second, table, first_weights, second_weights, taps, step, count, ahead, ahead_rows
):  # fmt: skip
    """Write ``count`` numbers, rounded up to whole tiles, of two sums of rows of the buffer into two lines.

    The second one begins ``step`` rows later in the table. Meanwhile ``ahead_rows`` rows of the image are prefetched.
    """
    params = decimation_at(params_address)
    size = lanes_of(line)
    tile = TILE_VECTORS // 2 * size
    first, other = at(line, first_weights), at(line, second_weights)
    for column in range(0, count, tile):
        prefetch_ahead(ahead, ahead_rows, column * params.source_item, tile * params.source_item)
        sums = _pair_tile(line, table, column, first, other, taps, step)
        _store_halves(offset_pointer(line, column), offset_pointer(second, column), sums)
