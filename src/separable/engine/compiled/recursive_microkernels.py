"""Recursive filters along lines: first-order sections with complex poles, run forth and back.

What is computed: for each pole ``p`` the state ``s[e] = p s[e - 1] + x[e]``, and the output as a weighted sum of
the states of the run forth, of those of the run back, and of the sample itself.  How: a complex pole
``a + ib`` is held as ``u = Re s`` and ``w = Im s / b``, so that a step costs three multiply-adds and two more to
read it out, and the error of rounding stays that of a rotation: it grows with ``1 / (1 - |p|)`` and not, as in the
direct form, with ``1 / |1 - p|^2``.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .jit import inline, intrinsic, stage
from .numba_api import cgutils, types
from .simd import (
    IS_X86,
    ahead,
    emit_call,
    emit_fma,
    lanes_of,
    load,
    mul,
    peek,
    splat,
    store,
)
from .vector_blocks import splat_numbers, times


@intrinsic
def advance(_typing: Any, states: Any, x: Any, poles: Any) -> Any:
    """Return the states after one more sample.

    ``states`` are ``u, w`` of each complex pole, and then that of a real one if their number is odd; ``poles``
    are ``a, -b^2`` of each, and ``a``.
    """
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


_FLUSH = 0x8040
"""Of the x86 control word: denormal operands count as zero, and so do denormal results."""


def _control(builder: Any, name: str, place: Any) -> None:
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    emit_call(builder, f"llvm.x86.sse.{name}", ir.VoidType(), [byte])


@intrinsic
def flush_denormals(_typing: Any) -> Any:
    """Treat denormal numbers as zeros, and return what :func:`restore_denormals` needs.

    States that die away over an empty region would else slow down a hundredfold on some CPUs.
    """

    def emit(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        word = ir.IntType(32)
        if not IS_X86:
            return word(0)
        place = cgutils.alloca_once(builder, word)
        _control(builder, "stmxcsr", place)
        old = builder.load(place)
        builder.store(builder.or_(old, word(_FLUSH)), place)
        _control(builder, "ldmxcsr", place)
        return old

    return types.int32(), emit


@intrinsic
def restore_denormals(_typing: Any, old: Any) -> Any:
    """Undo :func:`flush_denormals`."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if IS_X86:
            place = cgutils.alloca_once_value(builder, arguments[0])
            _control(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.none(types.int32), emit


@inline
def _recur(line, extra, step, n, taps, data, order):
    """Filter one line; its outputs are left under the samples they belong to.

    Both runs begin as if the first sample they meet had stood there for ever.
    """
    size, reach = lanes_of(line), taps // 2
    delta = splat(line, peek(data))
    poles, steady = (
        splat_numbers(ahead(data, 1), order),
        splat_numbers(ahead(data, 1 + order), order),
    )
    weights = splat_numbers(ahead(data, 1 + 2 * order), order)
    states = times(steady, load(line))
    for e in range(reach):
        states = advance(states, load(ahead(line, e * step)), poles)
    for i in range(n):
        x = load(ahead(line, (i + reach) * step))
        states = advance(states, x, poles)
        store(ahead(extra, i * size), read_out(mul(delta, x), states, weights))
    weights = splat_numbers(ahead(data, 1 + 3 * order), order)
    last = n + 2 * reach - 1
    states = times(steady, load(ahead(line, last * step)))
    for e in range(last, n + reach - 1, -1):
        states = advance(states, load(ahead(line, e * step)), poles)
    for i in range(n - 1, -1, -1):
        here = ahead(line, (i + reach) * step)
        states = advance(states, load(here), poles)
        store(here, read_out(load(ahead(extra, i * size)), states, weights))


@inline
def _recur_lines(lines, extra, far, step, count, channels, n, taps, data, order):
    """Filter ``count`` times ``channels`` lines."""
    old = flush_denormals()
    for k in range(count):
        for c in range(channels):
            line = ahead(lines, k * far + c * step)
            _recur(line, extra, channels * step, n, taps, data, order)
    restore_denormals(old)


@stage
def recur_4(lines, extra, far, step, count, channels, n, taps, data):
    """Filter lines with two pairs of poles."""
    _recur_lines(lines, extra, far, step, count, channels, n, taps, data, 4)


@stage
def recur_5(lines, extra, far, step, count, channels, n, taps, data):
    """Filter lines with two pairs of poles and a real one."""
    _recur_lines(lines, extra, far, step, count, channels, n, taps, data, 5)


@stage
def recur_6(lines, extra, far, step, count, channels, n, taps, data):
    """Filter lines with three pairs of poles."""
    _recur_lines(lines, extra, far, step, count, channels, n, taps, data, 6)


__all__ = ["recur_4", "recur_5", "recur_6"]
