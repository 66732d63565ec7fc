"""Activations of vectors of float32, chosen when the code is emitted.

Functions ``emit_...`` emit LLVM code. Their errors are measured against float64 in ``tests/nn/test_activations.py``.
At minus and plus infinity the results are the limits there (within 1e-36), except that hardswish is not a number at
minus infinity, as in PyTorch.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from separable.engine.compiled.jit import inline, literal_intrinsic, part
from separable.engine.compiled.simd import emit_call, emit_fma, offset_pointer, suffix

from .layer_params import (
    GELU,
    GELU_TANH,
    HARDSIGMOID,
    HARDSWISH,
    IDENTITY,
    RELU,
    RELU6,
    SIGMOID,
    SILU,
    TANH,
)
from .simd_ops import (
    LANES,
    SINGLE,
    constant,
    emit_between,
    emit_exp,
    read,
    read_part,
    write,
    write_part,
)

# Phi(-a) = exp(-a^2 / 2) P(1 / (1 + a * _TAIL_SCALE)) for a >= 0, where Phi is the normal distribution function, within
# 7e-8 of it times max(1, min(exp(a^2 / 6), 50)). Weighted least squares (Lawson's method) towards the smallest maximum
# of that error, fitted to erfcx(a / sqrt(2)) / 2 of SciPy in float64.
_TAIL_SCALE = 0.34
_TAIL = (
    -4.717378671003666e-05, 0.13670712855469144, 0.12578530222940912, 0.16862280311760672,
    -0.051684418687794276, 0.28510545993081915, -0.21185337632996595, 0.04736430914501485,
)  # fmt: skip
# tanh(x) = x P(x^2) / Q(x^2) for abs(x) < 9.1, within 2.3e-8 of it; fitted in the same way. All
# coefficients are positive: no digits are lost.
_TANH_NUMERATOR = (
    0.9999999771852709, 0.13374474729547856, 0.0034878105637582853, 2.0481180704021244e-05,
    1.3177517118888587e-08,
)  # fmt: skip
_TANH_DENOMINATOR = (
    1.0, 0.46707788505332526, 0.025847386585183534, 0.0003272919484646673, 7.704043349722917e-07,
)  # fmt: skip


def _emit_polynomial(builder: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Emit a polynomial by Horner's scheme; the coefficient of x**0 comes first."""
    value = constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = emit_fma(builder, SINGLE, value, x, constant(c))
    return value


def _emit_at_least(builder: Any, x: Any, lower: float) -> Any:
    """Emit max(x, lower); NaN stays NaN."""
    return builder.select(builder.fcmp_ordered(">", constant(lower), x), constant(lower), x)


def emit_silu(builder: Any, x: Any) -> Any:
    """Emit ``x / (1 + exp(-x))``, which is between -4e-37 and 0 for x < -88.3."""
    x = _emit_at_least(builder, x, -88.3)
    down = emit_exp(builder, builder.fsub(constant(-0.0), x), upper=False)
    return builder.fdiv(x, builder.fadd(constant(1.0), down))


def emit_hardswish(builder: Any, x: Any) -> Any:
    """Emit ``x * clamp(x + 3, 0, 6) / 6``."""
    gate = emit_between(builder, builder.fadd(x, constant(3.0)), constant(0.0), constant(6.0))
    return builder.fmul(builder.fmul(x, gate), constant(1.0 / 6.0))


def emit_hardsigmoid(builder: Any, x: Any) -> Any:
    """Emit ``clamp(x + 3, 0, 6) / 6``."""
    gate = emit_between(builder, builder.fadd(x, constant(3.0)), constant(0.0), constant(6.0))
    return builder.fmul(gate, constant(1.0 / 6.0))


def emit_sigmoid(builder: Any, x: Any) -> Any:
    """Emit ``1 / (1 + exp(-x))``; results below 5e-39 become 0."""
    down = emit_exp(builder, builder.fsub(constant(-0.0), x), keeps_nan=True)
    value = builder.fdiv(constant(1.0), builder.fadd(constant(1.0), down))
    # exp(-x) is limited to 2e38.
    return builder.select(builder.fcmp_ordered("<", x, constant(-88.3)), constant(0.0), value)


def emit_tanh(builder: Any, x: Any) -> Any:
    """Emit the hyperbolic tangent."""
    square = builder.fmul(x, x)
    above = builder.fmul(x, _emit_polynomial(builder, square, _TANH_NUMERATOR))
    value = builder.fdiv(above, _emit_polynomial(builder, square, _TANH_DENOMINATOR))
    value = emit_between(builder, value, constant(-1.0), constant(1.0))
    # Beyond 9.1 the result is rounded to 1; NaN is neither above nor below and stays NaN.
    value = builder.select(builder.fcmp_ordered(">", x, constant(9.1)), constant(1.0), value)
    return builder.select(builder.fcmp_ordered("<", x, constant(-9.1)), constant(-1.0), value)


def emit_gelu(builder: Any, x: Any) -> Any:
    """Emit ``x * Phi(x)``, where Phi is the normal distribution function.

    Phi is computed from its tail, which keeps its digits where ``1 + erf`` would cancel.
    """
    magnitude = emit_call(builder, f"llvm.fabs.{suffix(SINGLE)}", x.type, [x])
    place = emit_fma(builder, SINGLE, magnitude, constant(_TAIL_SCALE), constant(1.0))
    factor = _emit_polynomial(builder, builder.fdiv(constant(1.0), place), _TAIL)
    down = emit_exp(builder, builder.fmul(builder.fmul(x, x), constant(-0.5)), upper=False)
    tail = builder.fmul(down, factor)
    is_negative = builder.fcmp_ordered("<", x, constant(0.0))
    share = builder.select(is_negative, tail, builder.fsub(constant(1.0), tail))
    value = builder.fmul(x, share)
    # exp is limited to 1e-38, by which huge x must not be multiplied.
    return builder.select(builder.fcmp_ordered("<", x, constant(-13.0)), constant(-0.0), value)


def emit_gelu_tanh(builder: Any, x: Any) -> Any:
    """Emit ``x * (1 + tanh(u)) / 2`` with ``u = sqrt(2 / pi) * (x + 0.044715 * x**3)``.

    This is ``x / (1 + exp(-2 u))``, which loses no digits where tanh is close to -1.
    """
    # -2 u = x (-a - b x^2), at most 88.1. Below, the result is between -5e-38 and 0.
    x = _emit_at_least(builder, x, -10.03)
    square = builder.fmul(x, x)
    slope = emit_fma(
        builder, SINGLE, square, constant(-0.0713548162726), constant(-1.5957691216057308)
    )
    down = emit_exp(builder, builder.fmul(x, slope), upper=False)
    return builder.fdiv(x, builder.fadd(constant(1.0), down))


def _emit_relu(builder: Any, x: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, constant(0.0)), constant(0.0), x)


_EMITTERS = {
    IDENTITY: lambda _builder, x: x,
    RELU: _emit_relu,
    RELU6: lambda builder, x: emit_between(builder, x, constant(0.0), constant(6.0)),
    SILU: emit_silu,
    HARDSWISH: emit_hardswish,
    HARDSIGMOID: emit_hardsigmoid,
    SIGMOID: emit_sigmoid,
    GELU: emit_gelu,
    GELU_TANH: emit_gelu_tanh,
    TANH: emit_tanh,
}


@literal_intrinsic
def activated(_typing: Any, x: Any, act: Any) -> Any:
    """Return an activation of a vector; ``act`` is a literal."""
    emit_activation = _EMITTERS[act.literal_value]
    return x(x, act), lambda _context, builder, _signature, a: emit_activation(builder, a[0])


@inline
def _activate_rows(p, rows, step, count, act):
    """Apply one activation, a literal, in place to ``count`` values of each of some rows."""
    for r in range(rows):
        here, left = offset_pointer(p, r * step), count
        while left >= 2 * LANES:  # two chains of dependent operations at a time
            beside = offset_pointer(here, LANES)
            one, two = activated(read(here), act), activated(read(beside), act)
            write(here, one)
            write(beside, two)
            here = offset_pointer(here, 2 * LANES)
            left -= 2 * LANES
        if left >= LANES:
            write(here, activated(read(here), act))
            here = offset_pointer(here, LANES)
            left -= LANES
        if left > 0:
            write_part(here, activated(read_part(here, left), act), left)


@part
def activate(p, rows, step, count, act):
    """Apply an activation in place to ``count`` values of each of some rows, ``step`` elements apart.

    The clamps (ReLU, ReLU6) need no second pass: the blocks apply them when they store.
    """
    # One loop per activation keeps its constants in registers.
    if act == SILU:
        _activate_rows(p, rows, step, count, SILU)
    elif act == HARDSWISH:
        _activate_rows(p, rows, step, count, HARDSWISH)
    elif act == HARDSIGMOID:
        _activate_rows(p, rows, step, count, HARDSIGMOID)
    elif act == SIGMOID:
        _activate_rows(p, rows, step, count, SIGMOID)
    elif act == GELU:
        _activate_rows(p, rows, step, count, GELU)
    elif act == GELU_TANH:
        _activate_rows(p, rows, step, count, GELU_TANH)
    elif act == TANH:
        _activate_rows(p, rows, step, count, TANH)
