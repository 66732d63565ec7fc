"""Vectors of one element type loaded from and stored to memory of another.

Integers are rounded half to even and saturated; NaN becomes 0.  Memory may be unaligned.  "Working" types are
float32 and float64, in which all arithmetic is done.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .jit import intrinsic
from .numba_api import types
from .simd import (
    VECTOR_BYTES,
    Vec,
    emit_call,
    emit_load,
    emit_store,
    half,
    mark_stream,
    native,
    suffix,
)

_I32 = ir.IntType(32)


def _is_float(element: Any) -> bool:
    return element in (types.float32, types.float64)


def emit_widen(context: Any, builder: Any, value: Any, source: Any, target: Any) -> Any:
    """Emit the conversion of a vector of ``source`` elements to the working type ``target``."""
    kind = context.get_value_type(target)
    if source == target.dtype:
        return value
    # float16 -> float32 -> float64: both steps are exact.
    if source == half:
        single = ir.VectorType(ir.FloatType(), target.lanes)
        value = builder.fpext(value, single)
        return value if target.dtype == types.float32 else builder.fpext(value, kind)
    if _is_float(source):
        wider = target.dtype.bitwidth > source.bitwidth
        return builder.fpext(value, kind) if wider else builder.fptrunc(value, kind)
    return builder.sitofp(value, kind) if source.signed else builder.uitofp(value, kind)


def emit_narrow(builder: Any, value: Any, source: Vec, target: Any) -> Any:
    """Emit the conversion of a working vector to elements of ``target``, rounded once."""
    if target == source.dtype:
        return value
    if target == half:
        return _emit_half(builder, value, source)
    if _is_float(target):
        kind = ir.VectorType(_float(target.bitwidth), source.lanes)
        wider = target.bitwidth > source.dtype.bitwidth
        return builder.fpext(value, kind) if wider else builder.fptrunc(value, kind)
    # Integers: round half to even, then saturate.  The order matters for 255.5.
    rounded = emit_call(builder, f"llvm.rint.{suffix(source)}", value.type, [value])
    if target.bitwidth >= 32:
        return _emit_saturate(builder, rounded, source, target)
    return _emit_clamp(builder, rounded, source, target)


def _float(bits: int) -> Any:
    return ir.FloatType() if bits == 32 else ir.DoubleType()


def _emit_saturate(builder: Any, value: Any, source: Vec, target: Any) -> Any:
    """Convert to 32- or 64-bit integers, whose bounds the working type may not hold: LLVM saturates."""
    bits = target.bitwidth
    kind = ir.VectorType(ir.IntType(bits), source.lanes)
    name = "fptosi" if target.signed else "fptoui"
    full = f"llvm.{name}.sat.v{source.lanes}i{bits}.{suffix(source)}"
    return emit_call(builder, full, kind, [value])


def _emit_clamp(builder: Any, value: Any, source: Vec, target: Any) -> Any:
    """Convert to 8- or 16-bit integers: clamp as floats, then truncate."""

    def constant(number: float) -> Any:
        return ir.Constant(value.type, [float(number)] * source.lanes)

    lowest, highest = target.minval, target.maxval
    # In the unsigned case the first comparison already turns NaN into 0, the lowest value.
    if target.signed:
        unordered = builder.fcmp_unordered("uno", value, value)
        value = builder.select(unordered, constant(0.0), value)
    above = builder.fcmp_ordered(">", value, constant(lowest))
    value = builder.select(above, value, constant(lowest))
    below = builder.fcmp_ordered("<", value, constant(highest))
    value = builder.select(below, value, constant(highest))
    wide = builder.fptosi(value, ir.VectorType(_I32, source.lanes))
    return builder.trunc(wide, ir.VectorType(ir.IntType(target.bitwidth), source.lanes))


def _emit_half(builder: Any, value: Any, source: Vec) -> Any:
    """Round to float16, once."""
    # From float64 two roundings would differ from one where the first lands on a tie of the second; a first
    # rounding to odd never does (S. Boldo, G. Melquiond, 2008, doi:10.1109/TC.2007.70819).
    if source.dtype == types.float64:
        value = _emit_round_to_odd(builder, value, source)
    return builder.fptrunc(value, ir.VectorType(ir.HalfType(), source.lanes))


def _emit_round_to_odd(builder: Any, value: Any, source: Vec) -> Any:
    """Round float64 to float32 towards zero and set the last bit where that was not exact."""
    # near = float32(value), one unit towards zero if |near| > |value|; last bit = inexact.
    single = ir.VectorType(ir.FloatType(), source.lanes)
    whole = ir.VectorType(_I32, source.lanes)
    near = builder.fptrunc(value, single)
    back = builder.fpext(near, value.type)
    size, back_size = (
        emit_call(builder, f"llvm.fabs.{suffix(source)}", value.type, [v]) for v in (value, back)
    )
    away = builder.zext(builder.fcmp_ordered(">", back_size, size), whole)
    inexact = builder.zext(builder.fcmp_ordered("!=", back, value), whole)
    bits = builder.sub(builder.bitcast(near, whole), away)
    return builder.bitcast(builder.or_(bits, inexact), single)


@intrinsic
def load_as(_typing: Any, p: Any, like: Any) -> Any:
    """Load as many elements at ``p`` as a vector of the pointer ``like`` holds, converted to it."""
    target = native(like.dtype)
    stored = Vec(p.dtype, target.lanes)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value = emit_load(context, builder, stored, arguments[0], 1)
        return emit_widen(context, builder, value, p.dtype, target)

    return target(p, like), emit


def _storer(p: Any, value: Any, stream: bool) -> Any:
    stored_bytes = VECTOR_BYTES // value.dtype.bitwidth * getattr(p.dtype, "bitwidth", 16)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        narrow = emit_narrow(builder, arguments[1], value, p.dtype)
        instruction = emit_store(builder, narrow, arguments[0], stored_bytes if stream else 1)
        if stream:
            mark_stream(builder, instruction)
        return context.get_dummy_value()

    return types.none(p, value), emit


@intrinsic
def store_as(_typing: Any, p: Any, value: Any) -> Any:
    """Store a working vector as elements of the type of ``p``, at any address."""
    return _storer(p, value, False)


@intrinsic
def stream_as(_typing: Any, p: Any, value: Any) -> Any:
    """Store a working vector past the caches, at a multiple of its size in elements of ``p``."""
    return _storer(p, value, True)


@intrinsic
def load_scalar_as(_typing: Any, p: Any, like: Any) -> Any:
    """Return the scalar at ``p`` converted to the element type of ``like``."""
    target = Vec(like.dtype, 1)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value = emit_load(context, builder, Vec(p.dtype, 1), arguments[0], 1)
        wide = emit_widen(context, builder, value, p.dtype, target)
        return builder.extract_element(wide, _I32(0))

    return like.dtype(p, like), emit


@intrinsic
def store_scalar_as(_typing: Any, p: Any, value: Any) -> Any:
    """Store a working scalar at ``p``, rounded and saturated like :func:`store_as`."""
    source = Vec(value, 1)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(arguments[1].type, 1)
        vector = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[1], _I32(0))
        narrow = emit_narrow(builder, vector, source, p.dtype)
        emit_store(builder, narrow, arguments[0], 1)
        return context.get_dummy_value()

    return types.none(p, value), emit
