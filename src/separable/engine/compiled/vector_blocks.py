"""Blocks of vectors: tuples of vectors held in registers, loaded, added and stored together."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .dtype_conversion import emit_narrow
from .jit import intrinsic, literal_intrinsic
from .numba_api import cgutils, types
from .simd import (
    VECTOR_BYTES,
    emit_load,
    emit_splat,
    emit_store,
    llvm_vector,
    mark_stream,
    native,
)

# --- constants ------------------------------------------------------------------------------------


def zeros_emitter(block: Any) -> Any:
    """Return the function that emits a tuple of vectors of zeros."""
    vector = block.dtype

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        zero = ir.Constant(llvm_vector(context, vector), [0.0] * vector.lanes)
        return context.make_tuple(builder, block, [zero] * block.count)

    return emit


def splats_emitter(block: Any) -> Any:
    """Return the function that emits a tuple of vectors, each of copies of one of the numbers at the first argument."""
    vector = block.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = []
        for i in range(block.count):
            number = builder.load(builder.gep(arguments[0], [ir.IntType(64)(i)]))
            values.append(emit_splat(builder, number, vector.lanes))
        return context.make_tuple(builder, block, values)

    return emit


@literal_intrinsic
def zero_vectors(_typing: Any, like: Any, count: Any) -> Any:
    """Return ``count`` (a literal) vectors of zeros of the element type of the pointer ``like``."""
    block = types.UniTuple(native(like.dtype), count.literal_value)
    return block(like, count), zeros_emitter(block)


@literal_intrinsic
def splat_numbers(_typing: Any, p: Any, count: Any) -> Any:
    """Return ``count`` (a literal) vectors, each of copies of one of the numbers at ``p``."""
    block = types.UniTuple(native(p.dtype), count.literal_value)
    return block(p, count), splats_emitter(block)


# --- arithmetic -----------------------------------------------------------------------------------


def _elementwise(a: Any, operation: str) -> Any:
    """Return the type of an operation on two tuples of vectors, and the function that emits it."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, right = (cgutils.unpack_tuple(builder, v, len(a)) for v in arguments)
        combine = getattr(builder, operation)
        return context.make_tuple(
            builder, a, [combine(x, y) for x, y in zip(left, right, strict=True)]
        )

    return a(a, a), emit


@intrinsic
def plus(_typing: Any, a: Any, _b: Any) -> Any:
    """Add two blocks."""
    return _elementwise(a, "fadd")


@intrinsic
def minus(_typing: Any, a: Any, _b: Any) -> Any:
    """Subtract two blocks."""
    return _elementwise(a, "fsub")


@intrinsic
def times(_typing: Any, block: Any, x: Any) -> Any:
    """Multiply each vector of a block by the vector ``x``."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0], len(block))
        return context.make_tuple(builder, block, [builder.fmul(v, arguments[1]) for v in values])

    return block(block, x), emit


# --- memory ---------------------------------------------------------------------------------------


def _load_emitter(block: Any) -> Any:
    """Return the function that emits the loads of a tuple of aligned vectors, `stride` elements apart."""
    vector = block.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, step = arguments[:2]
        values = []
        for i in range(block.count):
            place = builder.gep(base, [builder.mul(step, step.type(i))])
            values.append(emit_load(context, builder, vector, place, VECTOR_BYTES))
        return context.make_tuple(builder, block, values)

    return emit


@intrinsic
def load_block(_typing: Any, p: Any, stride: Any) -> Any:
    """Load a square block: as many aligned vectors as each has lanes, ``stride`` elements apart."""
    vector = native(p.dtype)
    block = types.UniTuple(vector, vector.lanes)
    return block(p, types.int64), _load_emitter(block)


@literal_intrinsic
def load_vectors(_typing: Any, p: Any, stride: Any, count: Any) -> Any:
    """Load ``count`` (a literal) aligned vectors, ``stride`` elements apart."""
    block = types.UniTuple(native(p.dtype), count.literal_value)
    return block(p, types.int64, count), _load_emitter(block)


def _block_storer(p: Any, rows: Any, align: int) -> Any:
    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, step, block = arguments
        for i, value in enumerate(cgutils.unpack_tuple(builder, block, len(rows))):
            place = builder.gep(base, [builder.mul(step, step.type(i))])
            emit_store(builder, value, place, align)
        return context.get_dummy_value()

    return types.none(p, types.int64, rows), emit


@intrinsic
def store_block(_typing: Any, p: Any, stride: Any, rows: Any) -> Any:
    """Store a tuple of vectors at aligned places ``stride`` elements apart."""
    return _block_storer(p, rows, VECTOR_BYTES)


@intrinsic
def store_block_any(_typing: Any, p: Any, stride: Any, rows: Any) -> Any:
    """Store a tuple of vectors at any places ``stride`` elements apart."""
    return _block_storer(p, rows, 1)


@intrinsic
def store_squares(_typing: Any, p: Any, step: Any, rows: Any) -> Any:
    """Store square blocks of vectors ``step`` elements apart, each contiguous and aligned."""
    vector = rows.dtype

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, far, block = arguments
        for i, value in enumerate(cgutils.unpack_tuple(builder, block, len(rows))):
            # Vector i is row i % lanes of square i // lanes.
            square, row = divmod(i, vector.lanes)
            place = builder.gep(base, [builder.mul(far, far.type(square))])
            place = builder.gep(place, [far.type(row * vector.lanes)])
            emit_store(builder, value, place, VECTOR_BYTES)
        return _context.get_dummy_value()

    return types.none(p, types.int64, rows), emit


@literal_intrinsic
def store_rows(_typing: Any, like: Any, address: Any, step: Any, rows: Any, stream: Any) -> Any:
    """Convert a tuple of vectors and store them ``step`` bytes apart as elements of ``like``."""
    vector, past_cache = rows.dtype, bool(stream.literal_value)
    item = getattr(like.dtype, "bitwidth", 16) // 8

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.args[0])
        place = arguments[1]
        for value in cgutils.unpack_tuple(builder, arguments[3], len(rows)):
            # Stores past the caches need whole, aligned vectors; all others may lie anywhere.
            narrow = emit_narrow(builder, value, vector, like.dtype)
            align = vector.lanes * item if past_cache else 1
            instruction = emit_store(builder, narrow, builder.inttoptr(place, kind), align)
            if past_cache:
                mark_stream(builder, instruction)
            place = builder.add(place, arguments[2])
        return context.get_dummy_value()

    return types.none(like, types.int64, types.int64, rows, stream), emit
