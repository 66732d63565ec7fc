"""Functions of vectors that the filters do not need: division, roots, comparisons, exponentials.

They complete :mod:`separable.engine.compiled.simd`. All are elementwise and take vectors of float32 or float64.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import intrinsic, literal_intrinsic
from separable.engine.compiled.simd import emit_call, emit_fma, llvm_vector, suffix

__all__ = [
    "absolute",
    "choose_less",
    "divide",
    "exponential",
    "inverse_power",
    "negative",
    "power_of_two",
    "ratio",
    "root",
]

MANTISSA = {32: 23, 64: 52}  # stored bits of the mantissa, by the width of a number
BIAS = {32: 127, 64: 1023}
# exp(x) is the sum of x**k / k! for |x| <= log(2) / 2, up to this k.
TERMS = {32: 7, 64: 13}
SMALLEST = {32: -87.0, 64: -708.0}  # arguments whose exponential is a normal number
# log(2) in two parts: n * HIGH is exact for the n that occur.
HIGH = {32: 0.693359375, 64: 6.93145751953125e-1}


def _splat(context: Any, vector: Any, value: float) -> Any:
    return ir.Constant(llvm_vector(context, vector), [value] * vector.lanes)


def _integers(vector: Any) -> Any:
    return ir.VectorType(ir.IntType(vector.dtype.bitwidth), vector.lanes)


@literal_intrinsic
def ratio(_typing: Any, like: Any, numerator: Any, denominator: Any) -> Any:
    """Return a vector of copies of the quotient of two integer literals, of the type of the vector ``like``."""
    value = numerator.literal_value / denominator.literal_value

    def emit(context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return _splat(context, like, value)

    return like(like, numerator, denominator), emit


@intrinsic
def divide(_typing: Any, a: Any, _b: Any) -> Any:
    """Return ``a / b``."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return a(a, a), emit


def _unary(a: Any, name: str) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_call(builder, f"llvm.{name}.{suffix(a)}", arguments[0].type, list(arguments))

    return a(a), emit


@intrinsic
def root(_typing: Any, a: Any) -> Any:
    """Return the square root."""
    return _unary(a, "sqrt")


@intrinsic
def absolute(_typing: Any, a: Any) -> Any:
    """Return the absolute value."""
    return _unary(a, "fabs")


@intrinsic
def negative(_typing: Any, a: Any) -> Any:
    """Return ``-a``."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fneg(arguments[0])

    return a(a), emit


@intrinsic
def choose_less(_typing: Any, a: Any, _b: Any, x: Any, _y: Any) -> Any:
    """Return ``x if a < b else y``; ``y`` where ``a`` or ``b`` is not a number."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, right, yes, no = arguments
        return builder.select(builder.fcmp_ordered("<", left, right), yes, no)

    return a(a, a, x, x), emit


@intrinsic
def power_of_two(_typing: Any, a: Any) -> Any:
    """Return the largest power of two that is not above ``|a|``, such that its inverse is a normal number."""
    width = a.dtype.bitwidth
    shift, bias = MANTISSA[width], BIAS[width]

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = _integers(a)

        def constant(value: int) -> Any:
            return ir.Constant(kind, [value] * a.lanes)

        # The exponent of a float stands in the bits above the mantissa; bits of floats >= 0 have their order.
        bits = builder.and_(builder.bitcast(arguments[0], kind), constant((2 * bias + 1) << shift))
        for limit, comparison in ((1 << shift, ">"), ((2 * bias - 1) << shift, "<")):
            bound = constant(limit)
            bits = builder.select(builder.icmp_unsigned(comparison, bits, bound), bits, bound)
        return builder.bitcast(bits, llvm_vector(context, a))

    return a(a), emit


@intrinsic
def inverse_power(_typing: Any, a: Any) -> Any:
    """Return the inverse of a power of two that `power_of_two` returned."""
    width = a.dtype.bitwidth

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = _integers(a)
        twice = ir.Constant(kind, [2 * BIAS[width] << MANTISSA[width]] * a.lanes)
        bits = builder.sub(twice, builder.bitcast(arguments[0], kind))
        return builder.bitcast(bits, llvm_vector(context, a))

    return a(a), emit


@intrinsic
def exponential(_typing: Any, a: Any) -> Any:
    """Return ``exp(a)`` for ``a <= 0``; 0 where it is not a normal number."""
    width = a.dtype.bitwidth
    high, bottom = HIGH[width], SMALLEST[width]

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        x = arguments[0]
        least = _splat(context, a, bottom)
        inside = builder.fcmp_ordered(">", x, least)
        clipped = builder.select(inside, x, least)
        # exp(x) = 2**n * exp(r), where r = x - n log(2) and |r| <= log(2) / 2.
        scaled = builder.fmul(clipped, _splat(context, a, 1 / math.log(2)))
        n = emit_call(builder, f"llvm.rint.{suffix(a)}", scaled.type, [scaled])
        r = emit_fma(builder, a, n, _splat(context, a, -high), clipped)
        r = emit_fma(builder, a, n, _splat(context, a, high - math.log(2)), r)
        total = _splat(context, a, 1 / math.factorial(TERMS[width]))
        for k in reversed(range(TERMS[width])):
            total = emit_fma(builder, a, total, r, _splat(context, a, 1 / math.factorial(k)))
        kind = _integers(a)
        bias = ir.Constant(kind, [BIAS[width]] * a.lanes)
        shift = ir.Constant(kind, [MANTISSA[width]] * a.lanes)
        bits = builder.shl(builder.add(builder.fptosi(n, kind), bias), shift)
        value = builder.fmul(total, builder.bitcast(bits, x.type))
        value = builder.select(inside, value, _splat(context, a, 0.0))
        is_number = builder.fcmp_ordered("ord", x, x)
        return builder.select(is_number, value, x)

    return a(a), emit
