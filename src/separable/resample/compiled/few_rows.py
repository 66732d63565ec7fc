"""Sums of few rows for a decimating sweep: addresses and weights stay in registers, and the next rows are prefetched."""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.dtype_conversion import emit_widen
from separable.engine.compiled.jit import inline, intrinsic, stage
from separable.engine.compiled.load_store import item_of
from separable.engine.compiled.numba_api import (
    cgutils,
    models,
    register_default,
    types,
    without_literals,
)
from separable.engine.compiled.simd import (
    ELEMENTS,
    LINE_BYTES,
    Vec,
    address_of,
    at,
    emit_fma,
    emit_load,
    lanes_of,
    llvm_vector,
    native,
    offset_pointer,
    prefetch,
)
from separable.engine.compiled.sweep_params import invoke, word
from separable.engine.compiled.vector_blocks import splats_emitter, store_block_any

from .decimation_record import decimation_at

FEW_VECTORS = 4
"""Vectors of a row that are summed together."""


class Rows(types.CPointer):
    """A pointer whose type says how many rows are summed."""

    def __init__(self, count: int, dtype: Any) -> None:
        super().__init__(dtype)
        self.count = count
        self.name = f"Rows({count}, {dtype})"

    @property
    def key(self) -> tuple[Any, ...]:
        """The attributes that distinguish two types."""
        return (*super().key, self.count)


register_default(Rows)(models.PointerModel)


def rows_pointer(count: int, name: str) -> Rows:
    """Return the pointer type for sums of ``count`` rows, of the NumPy dtype called ``name``."""
    return Rows(count, ELEMENTS[name])


@intrinsic
def _addresses(_typing: Any, table: Any, rows: Any) -> Any:
    """Return the words at ``table``, one for each row."""
    block = types.UniTuple(types.int64, rows.count)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        words = [builder.load(builder.gep(base, [ir.IntType(64)(j)])) for j in range(rows.count)]
        return context.make_tuple(builder, block, words)

    return block(types.int64, rows), emit


@intrinsic
def _count_of(_typing: Any, rows: Any) -> Any:
    """Return how many rows are summed."""

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(rows.count)

    return types.int64(rows), emit


@intrinsic
def _numbers(_typing: Any, weights: Any, rows: Any) -> Any:
    """Return a vector of copies of each weight."""
    block = types.UniTuple(native(weights.dtype), rows.count)
    return block(weights, rows), splats_emitter(block)


def _summing(source: Any, addresses: Any, numbers: Any, count: int) -> Any:
    vector = numbers.dtype
    stored = Vec(source.dtype, vector.lanes)
    block = types.UniTuple(vector, count)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.args[0])
        rows = cgutils.unpack_tuple(builder, arguments[1], len(addresses))
        factors = cgutils.unpack_tuple(builder, arguments[2], len(numbers))
        places = [builder.inttoptr(builder.add(row, arguments[3]), kind) for row in rows]
        totals = []
        for v in range(count):
            total = ir.Constant(llvm_vector(context, vector), [0.0] * vector.lanes)
            for place, factor in zip(places, factors, strict=True):
                here = builder.gep(place, [ir.IntType(64)(v * vector.lanes)])
                value = emit_load(context, builder, stored, here, 1)
                value = emit_widen(context, builder, value, source.dtype, vector)
                total = emit_fma(builder, vector, factor, value, total)
            totals.append(total)
        return context.make_tuple(builder, block, totals)

    return block(source, addresses, numbers, types.int64), emit


@intrinsic
def _tile(_typing: Any, source: Any, addresses: Any, numbers: Any, offset: Any) -> Any:
    """Return FEW_VECTORS vectors of the sum of rows, ``offset`` bytes from their addresses."""
    return _summing(source, addresses, numbers, FEW_VECTORS)


@intrinsic
def _vector(_typing: Any, source: Any, addresses: Any, numbers: Any, offset: Any) -> Any:
    """Return one vector of the sum of rows, as a tuple."""
    return _summing(source, addresses, numbers, 1)


@without_literals
@inline
def prefetch_ahead(ahead, count, offset, size):
    """Prefetch ``size`` bytes of ``count`` rows whose addresses are at ``ahead``."""
    for r in range(count):
        row = word(ahead, r)
        for line in range(0, size, LINE_BYTES):
            prefetch(row + offset + line)


@stage
def sum_few_rows(
    params_address, source, line, rows, table, weights, count, ahead, ahead_rows, distance, general, aligned
):  # fmt: skip
    """Write ``count`` numbers of the sum of the rows at ``table``, all of which lie in the image.

    Meanwhile ``ahead_rows`` rows, ``distance`` bytes from the addresses at ``ahead``, are prefetched. ``general`` is
    the address of the stage for less than a vector, ``aligned`` the first column at the beginning of a cache line.
    """
    size, item = lanes_of(line), item_of(source)
    tile, wide = FEW_VECTORS * size, FEW_VECTORS * size * decimation_at(params_address).source_item
    addresses, numbers = _addresses(table, rows), _numbers(at(line, weights), rows)
    column = 0
    if aligned > 0 and count >= tile + size:  # the first vector, then those at whole cache lines
        store_block_any(line, size, _vector(source, addresses, numbers, 0))
        column = aligned
    while column + tile <= count:
        prefetch_ahead(ahead, ahead_rows, distance + column * wide // tile, wide)
        sums = _tile(source, addresses, numbers, column * item)
        store_block_any(offset_pointer(line, column), size, sums)
        column += tile
    if column < count and column + size > count and count >= size:
        column = count - size
    while column + size <= count:
        sums = _vector(source, addresses, numbers, column * item)
        store_block_any(offset_pointer(line, column), size, sums)
        column += size
        if column < count and column + size > count:
            column = count - size  # the last vector overlaps the one before it
    if column < count:
        invoke(
            general,
            (
                params_address, 0, address_of(line), table, weights, _count_of(rows), count,
                ahead, 0, distance,
            ),
        )  # fmt: skip
