"""Blocks of multiply-adds: several outputs of a correlation held in registers.

A block computes ``OUTPUTS`` neighbouring output vectors at once, ``acc[i] += taps[j] * x[i + j]``, so that
each vector loaded serves several outputs.  All vectors are aligned and ``stride`` elements apart.
Each output is summed in the same order wherever it stands: results do not depend on the tiling.

Long sums are sums of short ones: ``STEPS`` products at a time are added up on their own, a few of
these sums likewise, and theirs are added with what each addition rounds off (W. Kahan, 1965,
doi:10.1145/363707.363723).  So the rounding of a sum does not grow with the number of taps.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .jit import inline, inline_coded, intrinsic, literal_intrinsic, overload, part
from .numba_api import cgutils, types, without_literals
from .simd import (
    HAS_32_REGISTERS,
    VECTOR_BYTES,
    ahead,
    emit_fma,
    emit_load,
    emit_splat,
    native,
)
from .sweep_params import least, most, word
from .vector_blocks import minus, plus, zeros_emitter

# 8 where there are 32 registers: 8 sums, two windows of 8 and some taps.
OUTPUTS = 8 if HAS_32_REGISTERS else 4
GENERAL, EVEN, ODD, MIXED = 0, 1, 2, 3
"""Kinds of taps; mixed: some terms have another kind than others."""
STEPS, MOST_STEPS = 16, 24
"""Multiply-adds of an output that are summed on their own; up to the second number are not cut."""
SHORT_SUMS = 4
"""How many such sums are added up on their own again."""
MOST_PRODUCTS = 64
"""Products of an output in all terms together that are summed as if they were one term's."""


@intrinsic
def zeros(_typing: Any, like: Any) -> Any:
    """Return ``OUTPUTS`` vectors of zeros of the element type of the pointer ``like``."""
    block = types.UniTuple(native(like.dtype), OUTPUTS)
    return block(like), zeros_emitter(block)


class _Window:
    """The vectors ``x[k * stride]``, each loaded once, when first used."""

    def __init__(
        self,
        context: Any,
        builder: Any,
        x: Any,
        stride: Any,
        vector: Any,
        align: int = VECTOR_BYTES,
    ) -> None:
        self._parts = (context, builder, x, stride, vector)
        self._align = align
        self._loaded: dict[int, Any] = {}

    def __getitem__(self, k: int) -> Any:
        if k not in self._loaded:
            context, builder, x, stride, vector = self._parts
            place = builder.gep(x, [builder.mul(stride, stride.type(k))])
            self._loaded[k] = emit_load(context, builder, vector, place, self._align)
        return self._loaded[k]


def _tap(builder: Any, taps: Any, j: int, vector: Any) -> Any:
    place = builder.gep(taps, [ir.IntType(64)(j)])
    return emit_splat(builder, builder.load(place), vector.lanes)


def _accumulator(acc: Any, x: Any, taps: Any, count: Any, align: int) -> Any:
    vector, steps = acc.dtype, count.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], OUTPUTS)
        window = _Window(context, builder, arguments[1], arguments[2], vector, align)
        for j in range(steps):
            tap = _tap(builder, arguments[3], j, vector)
            for i in range(OUTPUTS):
                sums[i] = emit_fma(builder, vector, tap, window[i + j], sums[i])
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, types.int64, taps, count), emit


@literal_intrinsic
def accumulate(_typing: Any, acc: Any, x: Any, _stride: Any, taps: Any, count: Any) -> Any:
    """Add ``sum_j taps[j] * x[i + j]`` to each ``acc[i]``, for ``count`` (a literal) taps."""
    return _accumulator(acc, x, taps, count, VECTOR_BYTES)


@literal_intrinsic
def accumulate_any(_typing: Any, acc: Any, x: Any, _stride: Any, taps: Any, count: Any) -> Any:
    """Do as :func:`accumulate` with vectors that may lie at any address."""
    return _accumulator(acc, x, taps, count, 1)


@literal_intrinsic
def accumulate_pairs(
    _typing: Any, acc: Any, x: Any, y: Any, stride: Any, taps: Any, count: Any, kind: Any
) -> Any:
    """Add ``sum_j taps[j] * (x[i + j] + y[i - j])``, or minus for odd taps, to each ``acc[i]``."""
    vector, steps, odd = acc.dtype, count.literal_value, kind.literal_value == ODD

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], OUTPUTS)
        left = _Window(context, builder, arguments[1], arguments[3], vector)
        right = _Window(context, builder, arguments[2], arguments[3], vector)
        join = builder.fsub if odd else builder.fadd
        for j in range(steps):
            tap = _tap(builder, arguments[4], j, vector)
            for i in range(OUTPUTS):
                pair = join(left[i + j], right[i - j])
                sums[i] = emit_fma(builder, vector, tap, pair, sums[i])
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, y, types.int64, taps, count, kind), emit


@inline
def correlate_general(acc, x, stride, taps, count):
    """Add the correlation with ``count`` taps to a block."""
    j = 0
    while j + 4 <= count:
        acc = accumulate(acc, ahead(x, j * stride), stride, ahead(taps, j), 4)
        j += 4
    while j < count:
        acc = accumulate(acc, ahead(x, j * stride), stride, ahead(taps, j), 1)
        j += 1
    return acc


@inline
def correlate_even(acc, x, last, stride, taps, pairs):
    """Add ``pairs`` taps times the sums of the vectors from ``x`` on and from ``last`` back."""
    j = 0
    while j + 4 <= pairs:
        near, far = ahead(x, j * stride), ahead(last, -j * stride)
        acc = accumulate_pairs(acc, near, far, stride, ahead(taps, j), 4, EVEN)
        j += 4
    while j < pairs:
        near, far = ahead(x, j * stride), ahead(last, -j * stride)
        acc = accumulate_pairs(acc, near, far, stride, ahead(taps, j), 1, EVEN)
        j += 1
    return acc


@inline
def correlate_odd(acc, x, last, stride, taps, pairs):
    """Add ``pairs`` taps times the differences of the vectors from ``x`` on and from ``last`` back."""
    j = 0
    while j + 4 <= pairs:
        near, far = ahead(x, j * stride), ahead(last, -j * stride)
        acc = accumulate_pairs(acc, near, far, stride, ahead(taps, j), 4, ODD)
        j += 4
    while j < pairs:
        near, far = ahead(x, j * stride), ahead(last, -j * stride)
        acc = accumulate_pairs(acc, near, far, stride, ahead(taps, j), 1, ODD)
        j += 1
    return acc


def _short(kind):
    """Return the implementation of :func:`correlate` for few taps of one kind."""

    def general(acc, x, stride, taps, count, kind):
        return correlate_general(acc, x, stride, taps, count)

    def even(acc, x, stride, taps, count, kind):
        last, pairs = ahead(x, (count - 1) * stride), count // 2
        acc = correlate_even(acc, x, last, stride, taps, pairs)
        if count & 1:
            acc = accumulate(acc, ahead(x, pairs * stride), stride, ahead(taps, pairs), 1)
        return acc

    def odd(acc, x, stride, taps, count, kind):
        return correlate_odd(acc, x, ahead(x, (count - 1) * stride), stride, taps, count // 2)

    def mixed(acc, x, stride, taps, count, kind):
        if kind == GENERAL:
            return correlate_general(acc, x, stride, taps, count)
        last, pairs = ahead(x, (count - 1) * stride), count // 2
        if kind == ODD:
            return correlate_odd(acc, x, last, stride, taps, pairs)
        acc = correlate_even(acc, x, last, stride, taps, pairs)
        if count & 1:
            acc = accumulate(acc, ahead(x, pairs * stride), stride, ahead(taps, pairs), 1)
        return acc

    return (general, even, odd, mixed)[kind]


def correlate_short(acc, x, stride, taps, count, kind):
    """Do as :func:`correlate` for few taps."""
    raise NotImplementedError("for compiled code only")


@overload(correlate_short)
def _correlate_short(acc, x, stride, taps, count, kind):
    return _short(taps.kind)


def correlate_steps(acc, near, far, stride, taps, steps, kind):
    """Add ``steps`` taps times the vectors from ``near`` on, folded with those from ``far`` back."""
    raise NotImplementedError("for compiled code only")


@overload(correlate_steps)
def _correlate_steps(acc, near, far, stride, taps, steps, kind):
    def general(acc, near, far, stride, taps, steps, kind):
        return correlate_general(acc, near, stride, taps, steps)

    def even(acc, near, far, stride, taps, steps, kind):
        return correlate_even(acc, near, far, stride, taps, steps)

    def odd(acc, near, far, stride, taps, steps, kind):
        return correlate_odd(acc, near, far, stride, taps, steps)

    def mixed(acc, near, far, stride, taps, steps, kind):
        if kind == EVEN:
            return correlate_even(acc, near, far, stride, taps, steps)
        if kind == ODD:
            return correlate_odd(acc, near, far, stride, taps, steps)
        return correlate_general(acc, near, stride, taps, steps)

    return (general, even, odd, mixed)[taps.kind]


@without_literals
@part
def _short_sums(acc, near, far, stride, taps, steps, kind):
    """Add a correlation of some ``steps`` to a block, ``STEPS`` of them at a time."""
    for j in range(0, steps, STEPS):
        more = least(STEPS, steps - j)
        x, y, taken = ahead(near, j * stride), ahead(far, -j * stride), ahead(taps, j)
        acc = plus(acc, correlate_steps(zeros(taps), x, y, stride, taken, more, kind))
    return acc


@without_literals
@part
def _long_sum(acc, near, far, stride, taps, steps, kind):
    """Add a correlation of many ``steps`` to a block, with what each addition rounds off."""
    lost = zeros(taps)
    for j in range(0, steps, STEPS * SHORT_SUMS):
        more = least(STEPS * SHORT_SUMS, steps - j)
        x, y, taken = ahead(near, j * stride), ahead(far, -j * stride), ahead(taps, j)
        right = minus(_short_sums(zeros(taps), x, y, stride, taken, more, kind), lost)
        total = plus(acc, right)
        lost = minus(minus(total, acc), right)
        acc = total
    return acc


@without_literals
@inline
def correlate_long(acc, x, stride, taps, count, kind):
    """Do as :func:`correlate` for many taps, in sums of short sums."""
    last = ahead(x, (count - 1) * stride)
    steps = count if kind == GENERAL else count // 2
    if kind == EVEN and count & 1:
        acc = accumulate(acc, ahead(x, steps * stride), stride, ahead(taps, steps), 1)
    if steps <= STEPS * SHORT_SUMS:
        return _short_sums(acc, x, last, stride, taps, steps, kind)
    return _long_sum(acc, x, last, stride, taps, steps, kind)


def is_long(count: int, kind: int) -> bool:
    """Return whether the products of so many taps of one kind are not all summed together."""
    return count > (MOST_STEPS if kind == GENERAL else 2 * STEPS + 1)


def correlate(acc, x, stride, taps, count, kind):
    """Add the correlation of ``x`` with ``count`` taps of one kind to a block of outputs.

    The type of the pointer ``taps`` says which kind that is, or that kinds are mixed, and whether
    sums may be long: nothing else may slow the few taps of most filters.
    """
    raise NotImplementedError("for compiled code only")


@overload(correlate)
def _correlate(acc, x, stride, taps, count, kind):
    if not taps.long:
        return _short(taps.kind)

    def either(acc, x, stride, taps, count, kind):
        if count > (MOST_STEPS if kind == GENERAL else 2 * STEPS + 1):
            return correlate_long(acc, x, stride, taps, count, kind)
        return correlate_short(acc, x, stride, taps, count, kind)

    return either


def correlate_terms(x, sources, step, stride, taps, count, kinds, first, last):
    """Return the sum of the terms ``first`` to ``last``, each with ``count`` of the ``taps``.

    Term ``t`` reads the buffer number ``sources[t]`` of those that lie ``step`` elements apart.
    """
    raise NotImplementedError("for compiled code only")


@overload(correlate_terms)
def _correlate_terms(x, sources, step, stride, taps, count, kinds, first, last):
    def together(x, sources, step, stride, taps, count, kinds, first, last):
        block = zeros(taps)
        for t in range(first, last):
            here, taken = ahead(x, word(sources, t) * step), ahead(taps, t * count)
            block = correlate(block, here, stride, taken, count, word(kinds, t))
        return block

    def apart(x, sources, step, stride, taps, count, kinds, first, last):
        total, few = zeros(taps), most(1, 2 * STEPS // count)
        for begin in range(first, last, few):
            block = zeros(taps)
            for t in range(begin, least(begin + few, last)):
                here, taken = ahead(x, word(sources, t) * step), ahead(taps, t * count)
                block = correlate(block, here, stride, taken, count, word(kinds, t))
            total = plus(total, block)
        return total

    return apart if taps.long else together


def correlate_square(x, stride, taps, count, kind):
    """Return the correlation for as many outputs as a vector has lanes, at least ``OUTPUTS``."""
    raise NotImplementedError("for compiled code only")


@overload(correlate_square)
def _correlate_square(x, stride, taps, count, kind):
    if native(x.dtype).lanes == 2 * OUTPUTS:

        def twice(x, stride, taps, count, kind):
            first = correlate(zeros(x), x, stride, taps, count, kind)
            later = ahead(x, OUTPUTS * stride)
            return first + correlate(zeros(x), later, stride, taps, count, kind)

        return twice

    def once(x, stride, taps, count, kind):
        return correlate(zeros(x), x, stride, taps, count, kind)

    return once


@inline_coded
def correlate_any(acc, x, stride, taps, count):
    """Add the correlation with ``count`` taps of vectors at any address to a block."""
    j = 0
    while j + 4 <= count:
        acc = accumulate_any(acc, ahead(x, j * stride), stride, ahead(taps, j), 4)
        j += 4
    here, taken = ahead(x, j * stride), ahead(taps, j)
    if count - j == 3:
        acc = accumulate_any(acc, here, stride, taken, 3)
    elif count - j == 2:
        acc = accumulate_any(acc, here, stride, taken, 2)
    elif count - j == 1:
        acc = accumulate_any(acc, here, stride, taken, 1)
    return acc
