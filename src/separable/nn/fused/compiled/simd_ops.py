"""SIMD operations of the layer kernels: masked loads and stores, bfloat16, clamps and the exponential function.

Memory holds float32 or bfloat16; the type of the pointer says which (``float32`` or ``uint16``). Vectors in
registers are always float32, LANES numbers each. Functions ``emit_...`` emit LLVM code, the intrinsics at the
end are what kernels call.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import intrinsic
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import emit_call, emit_fma, emit_splat, native

SINGLE = native(types.float32)
LANES = SINGLE.lanes
FLOAT32_PTR = types.CPointer(types.float32)
BFLOAT16_PTR = types.CPointer(types.uint16)

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_F32 = ir.FloatType()


def vector_type(element: Any = _F32) -> Any:
    """Return the LLVM type of a full vector of an element type."""
    return ir.VectorType(element, LANES)


def constant(value: float) -> Any:
    """Return a vector with `value` in all lanes."""
    return ir.Constant(vector_type(), [value] * LANES)


def integers(value: int) -> Any:
    """Return a vector of 32-bit integers with `value` in all lanes."""
    return ir.Constant(vector_type(_I32), [value] * LANES)


def emit_mask(builder: Any, count: Any) -> Any:
    """Emit the mask of the first ``count`` lanes: lane < count."""
    order = ir.Constant(vector_type(_I32), list(range(LANES)))
    return builder.icmp_signed("<", order, emit_splat(builder, builder.trunc(count, _I32), LANES))


def _masked(element: Any) -> tuple[Any, str]:
    """Return the LLVM type of a vector of elements, and its name in the names of intrinsics."""
    kind = vector_type(element)
    return kind, f"v{LANES}{'f32' if element == _F32 else 'i16'}"


def emit_read(builder: Any, like: Any, place: Any, mask: Any = None) -> Any:
    """Emit an unaligned load of a float32 vector.

    Lanes outside the mask become 0; their memory is not accessed.
    """
    element = _F32 if like == FLOAT32_PTR else ir.IntType(16)
    kind, name = _masked(element)
    where = builder.bitcast(place, kind.as_pointer())
    if mask is None:
        value = builder.load(where, align=1)
    else:
        nothing = ir.Constant(kind, [0] * LANES)
        arguments = [where, _I32(1), mask, nothing]
        value = emit_call(builder, f"llvm.masked.load.{name}.p0", kind, arguments)
    return value if element == _F32 else emit_widened(builder, value)


def emit_write(builder: Any, like: Any, value: Any, place: Any, mask: Any = None) -> None:
    """Emit an unaligned store of a float32 vector; memory of lanes outside the mask is not accessed."""
    element = _F32 if like == FLOAT32_PTR else ir.IntType(16)
    kind, name = _masked(element)
    if element != _F32:
        value = emit_rounded(builder, value)
    where = builder.bitcast(place, kind.as_pointer())
    if mask is None:
        builder.store(value, where, align=1)
    else:
        arguments = [value, where, _I32(1), mask]
        emit_call(builder, f"llvm.masked.store.{name}.p0", ir.VoidType(), arguments)


def emit_prefetch_write(builder: Any, place: Any) -> None:
    """Emit a prefetch of a cache line for writing; it arrives while the sums are computed."""
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    emit_call(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, _I32(1), _I32(3), _I32(1)])


def emit_widened(builder: Any, value: Any) -> Any:
    """Emit bfloat16 to float32: the 16 bits become the upper half, the lower half is 0."""
    wide = builder.zext(value, vector_type(_I32))
    return builder.bitcast(builder.shl(wide, integers(16)), vector_type())


def emit_rounded(builder: Any, value: Any) -> Any:
    """Emit float32 to bfloat16, rounded half to even; NaN stays NaN.

    bits + 0x7FFF + (lowest bit kept) carries into the upper half exactly where rounding goes up.
    """
    bits = builder.bitcast(value, vector_type(_I32))
    odd = builder.and_(builder.lshr(bits, integers(16)), integers(1))
    rounded = builder.add(bits, builder.add(odd, integers(0x7FFF)))
    # Rounding could turn a NaN into an infinity: set the quiet bit instead.
    quiet = builder.or_(bits, integers(0x400000))
    chosen = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
    return builder.trunc(builder.lshr(chosen, integers(16)), vector_type(ir.IntType(16)))


def emit_between(builder: Any, value: Any, lower: Any, upper: Any) -> Any:
    """Emit min(max(value, lower), upper) per lane; NaN stays NaN because comparisons with it are false."""
    value = builder.select(builder.fcmp_ordered(">", lower, value), lower, value)
    return builder.select(builder.fcmp_ordered("<", upper, value), upper, value)


def emit_exp(builder: Any, x: Any, *, upper: bool = True, keeps_nan: bool = False) -> Any:
    """Emit exp(x) within 2 units in the last place.

    Without ``upper``, x must not be above 88.3. Without ``keeps_nan``, the result for NaN is any number, which is
    faster.

    exp(x) = 2**n * exp(r) with n = round(x / log 2) and r = x - n log 2, so that abs(r) <= log(2) / 2.
    """
    # Beyond these bounds the result would overflow, or become subnormal.
    lower = constant(-87.3)
    x = builder.select(builder.fcmp_ordered(">", lower, x), lower, x)
    if upper:
        x = builder.select(builder.fcmp_ordered("<", constant(88.3), x), constant(88.3), x)
    # Adding 1.5 * 2**23 rounds to an integer, which then stands in the lowest bits of the sum.
    magic = constant(12582912.0 + (127 if keeps_nan else 0))
    scaled = builder.fadd(builder.fmul(x, constant(1.4426950408889634)), magic)
    n = builder.fsub(scaled, magic)
    # log 2 in two parts: the first has few bits, so that n times it is exact.
    r = emit_fma(builder, SINGLE, n, constant(-0.693359375), x)
    r = emit_fma(builder, SINGLE, n, constant(2.12194440e-4), r)
    # Minimax polynomial of Cephes (S. Moshier), expf.c: exp(r) = 1 + r + r^2 p(r), Horner's scheme.
    p = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = emit_fma(builder, SINGLE, p, r, constant(c))
    p = emit_fma(builder, SINGLE, builder.fmul(r, r), p, builder.fadd(r, constant(1.0)))
    power = builder.shl(builder.bitcast(scaled, vector_type(_I32)), integers(23))
    if keeps_nan:  # times 2**n, the number with n + 127 as its exponent: bits 23 and up
        return builder.fmul(p, builder.bitcast(power, vector_type()))
    # Times 2**n: add n to the exponent. Units for multiplication are busy, those for integers are not.
    bits = builder.add(builder.bitcast(p, vector_type(_I32)), power)
    return builder.bitcast(bits, vector_type())


@intrinsic
def float32_ptr(_typing: Any, address: Any) -> Any:
    """Return an address as a pointer to float32."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(FLOAT32_PTR))

    return FLOAT32_PTR(types.int64), emit


@intrinsic
def bfloat16_ptr(_typing: Any, address: Any) -> Any:
    """Return an address as a pointer to bfloat16."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(BFLOAT16_PTR))

    return BFLOAT16_PTR(types.int64), emit


@intrinsic
def read(_typing: Any, p: Any) -> Any:
    """Load a vector from an unaligned address."""
    return SINGLE(p), lambda _context, builder, _signature, a: emit_read(builder, p, a[0])


@intrinsic
def read_part(_typing: Any, p: Any, count: Any) -> Any:
    """Load the first ``count`` lanes of a vector; the others become 0, their memory is not accessed."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        return emit_read(builder, p, a[0], emit_mask(builder, a[1]))

    return SINGLE(p, types.int64), emit


@intrinsic
def write(_typing: Any, p: Any, value: Any) -> Any:
    """Store a vector at an unaligned address."""

    def emit(context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        emit_write(builder, p, a[1], a[0])
        return context.get_dummy_value()

    return types.none(p, value), emit


@intrinsic
def write_part(_typing: Any, p: Any, value: Any, count: Any) -> Any:
    """Store the first ``count`` lanes of a vector."""

    def emit(context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        emit_write(builder, p, a[1], a[0], emit_mask(builder, a[2]))
        return context.get_dummy_value()

    return types.none(p, value, types.int64), emit


@intrinsic
def between(_typing: Any, value: Any, lower: Any, upper: Any) -> Any:
    """Return a vector clamped between two scalars; NaN stays NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        bounds = [emit_splat(builder, b, LANES) for b in a[1:]]
        return emit_between(builder, a[0], *bounds)

    return value(value, types.float32, types.float32), emit


@intrinsic
def zero(_typing: Any) -> Any:
    """Return a vector of zeros."""
    return SINGLE(), lambda _context, _builder, _signature, _a: constant(0.0)


@intrinsic
def gradient_inside(_typing: Any, gradient: Any, result: Any, lower: Any, upper: Any) -> Any:
    """Return the gradient where lower < result < upper, 0 elsewhere: the derivative of a clamp."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        low, high = (emit_splat(builder, b, LANES) for b in a[2:])
        above = builder.fcmp_ordered("<=", a[1], low)
        below = builder.fcmp_ordered(">=", a[1], high)
        return builder.select(builder.or_(above, below), constant(0.0), a[0])

    return gradient(gradient, result, types.float32, types.float32), emit


@intrinsic
def silu_gradient(_typing: Any, gradient: Any, x: Any) -> Any:
    """Return the gradient times the derivative of SiLU: ``s (1 + x (1 - s))`` with ``s = 1 / (1 + exp(-x))``."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        one = constant(1.0)
        down = emit_exp(builder, builder.fsub(constant(-0.0), a[1]))
        gate = builder.fdiv(one, builder.fadd(one, down))
        slope = emit_fma(builder, SINGLE, a[1], builder.fsub(one, gate), one)
        return builder.fmul(a[0], builder.fmul(gate, slope))

    return gradient(gradient, x), emit


@intrinsic
def hardswish_gradient(_typing: Any, gradient: Any, x: Any) -> Any:
    """Return the gradient times the derivative of hardswish: 0 up to -3, ``x / 3 + 1 / 2``, 1 from 3 on."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        slope = emit_fma(builder, SINGLE, a[1], constant(1.0 / 3.0), constant(0.5))
        inner = builder.fmul(a[0], slope)
        below = builder.fcmp_ordered("<=", a[1], constant(-3.0))
        above = builder.fcmp_ordered(">=", a[1], constant(3.0))
        return builder.select(below, constant(0.0), builder.select(above, a[0], inner))

    return gradient(gradient, x), emit
