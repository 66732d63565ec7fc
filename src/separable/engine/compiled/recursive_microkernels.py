"""Recursive filters along lines: first-order sections with complex poles, run forwards and backwards.

For each pole ``p`` the state is ``s[e] = p s[e - 1] + x[e]``.  The output is a weighted sum of the states of the
forward run, of those of the backward run, and of the sample itself.  A complex pole ``a + ib`` is kept as
``u = Re s`` and ``w = Im s / b``, so that a step takes three multiply-adds and its weights two more, and the rounding
error stays that of a rotation: it grows with ``1 / (1 - |p|)`` and not, as in the direct form, with
``1 / |1 - p|^2``.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .jit import inline, intrinsic, stage
from .numba_api import cgutils, types
from .simd import (
    IS_ARM,
    IS_X86,
    emit_call,
    emit_fma,
    lanes_of,
    load,
    load_scalar,
    mul,
    offset_pointer,
    splat,
    store,
)
from .vector_blocks import splat_numbers, times


@intrinsic
def advance(_typing: Any, states: Any, x: Any, poles: Any) -> Any:
    """Return the states after one more sample.

    ``states`` are ``u, w`` of each complex pole, and the state of a real one if their number is odd; ``poles``
    are ``a, -b^2`` of each, and ``a``.
    """
    # u' = a u - b^2 w + x;  w' = a w + u;  a real pole: s' = a s + x
    vector = states.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        old = cgutils.unpack_tuple(builder, arguments[0], len(states))
        pole = cgutils.unpack_tuple(builder, arguments[2], len(states))
        sample, new = arguments[1], []
        for k in range(0, len(states) - 1, 2):
            turned = emit_fma(builder, vector, pole[k + 1], old[k + 1], sample)
            new.append(emit_fma(builder, vector, pole[k], old[k], turned))
            new.append(emit_fma(builder, vector, pole[k], old[k + 1], old[k]))
        if len(states) % 2:
            new.append(emit_fma(builder, vector, pole[-1], old[-1], sample))
        return context.make_tuple(builder, states, new)

    return states(states, x, states), emit


@intrinsic
def read_out(_typing: Any, total: Any, states: Any, weights: Any) -> Any:
    """Return ``total`` plus the weighted sum of the states."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pairs = [cgutils.unpack_tuple(builder, v, len(states)) for v in arguments[1:]]
        value = arguments[0]
        for state, weight in zip(*pairs, strict=True):
            value = emit_fma(builder, total, weight, state, value)
        return value

    return total(total, states, states), emit


_FLUSH_X86 = 0x8040
"""Bits of the x86 control register MXCSR: denormal operands count as zero, and so do denormal results."""

_FLUSH_ARM = 1 << 24
"""The same for the ARM control register FPCR."""

_I64 = ir.IntType(64)


def _control(builder: Any, name: str, place: Any) -> None:
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    emit_call(builder, f"llvm.x86.sse.{name}", ir.VoidType(), [byte])


def _set_fpcr(builder: Any, value: Any) -> None:
    emit_call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [value])


@intrinsic
def flush_denormals(_typing: Any) -> Any:
    """Treat denormal numbers as zeros, and return the former setting for :func:`restore_denormals`.

    States decay to denormals over an empty region, which slows some CPUs down a hundredfold.
    """

    def emit(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        if IS_ARM:
            old = emit_call(builder, "llvm.aarch64.get.fpcr", _I64, [])
            _set_fpcr(builder, builder.or_(old, _I64(_FLUSH_ARM)))
            return old
        if not IS_X86:
            return _I64(0)
        word = ir.IntType(32)
        place = cgutils.alloca_once(builder, word)
        _control(builder, "stmxcsr", place)
        old = builder.load(place)
        builder.store(builder.or_(old, word(_FLUSH_X86)), place)
        _control(builder, "ldmxcsr", place)
        return builder.zext(old, _I64)

    return types.int64(), emit


@intrinsic
def restore_denormals(_typing: Any, old: Any) -> Any:
    """Undo :func:`flush_denormals`."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if IS_ARM:
            _set_fpcr(builder, arguments[0])
        elif IS_X86:
            place = cgutils.alloca_once_value(builder, builder.trunc(arguments[0], ir.IntType(32)))
            _control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.none(types.int64), emit


@inline
def _recur(line, forward, step, n, taps, data, order):
    """Filter one line; each output replaces the sample that it belongs to.

    Both runs begin as if their first sample had been repeated for ever.
    """
    # data = delta, poles[order], steady[order], weights forwards[order], weights backwards[order], see
    # `Coefficients.numbers`.  With h[k] = Re sum_p c_p p^k:
    #   out[i] = delta x[i] + sum_{k >= 0} h[k] x[i - k] + sum_{k >= 0} h[k] x[i + k]
    size, reach = lanes_of(line), taps // 2
    delta = splat(line, load_scalar(data))
    poles, steady = (
        splat_numbers(offset_pointer(data, 1), order),
        splat_numbers(offset_pointer(data, 1 + order), order),
    )
    weights = splat_numbers(offset_pointer(data, 1 + 2 * order), order)
    # Forward run: `reach` samples to warm up, then one output each, kept in `forward`.
    # A constant x gives the state x / (1 - p) = x * steady.
    states = times(steady, load(line))
    for e in range(reach):
        states = advance(states, load(offset_pointer(line, e * step)), poles)
    for i in range(n):
        x = load(offset_pointer(line, (i + reach) * step))
        states = advance(states, x, poles)
        store(offset_pointer(forward, i * size), read_out(mul(delta, x), states, weights))
    # Backward run, added to the outputs of the forward run.
    weights = splat_numbers(offset_pointer(data, 1 + 3 * order), order)
    last = n + 2 * reach - 1
    states = times(steady, load(offset_pointer(line, last * step)))
    for e in range(last, n + reach - 1, -1):
        states = advance(states, load(offset_pointer(line, e * step)), poles)
    for i in range(n - 1, -1, -1):
        here = offset_pointer(line, (i + reach) * step)
        states = advance(states, load(here), poles)
        store(here, read_out(load(offset_pointer(forward, i * size)), states, weights))


@inline
def _recur_lines(lines, forward, line_step, step, count, channels, n, taps, data, order):
    """Filter ``count`` times ``channels`` lines."""
    old = flush_denormals()
    for k in range(count):
        for c in range(channels):
            line = offset_pointer(lines, k * line_step + c * step)
            _recur(line, forward, channels * step, n, taps, data, order)
    restore_denormals(old)


@stage
def recur_4(lines, forward, line_step, step, count, channels, n, taps, data):
    """Filter lines with two pairs of poles."""
    _recur_lines(lines, forward, line_step, step, count, channels, n, taps, data, 4)


@stage
def recur_5(lines, forward, line_step, step, count, channels, n, taps, data):
    """Filter lines with two pairs of poles and a real one."""
    _recur_lines(lines, forward, line_step, step, count, channels, n, taps, data, 5)


@stage
def recur_6(lines, forward, line_step, step, count, channels, n, taps, data):
    """Filter lines with three pairs of poles."""
    _recur_lines(lines, forward, line_step, step, count, channels, n, taps, data, 6)


__all__ = ["recur_4", "recur_5", "recur_6"]
