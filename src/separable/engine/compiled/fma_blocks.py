"""Blocks of multiply-adds: several outputs of a correlation held in registers.

A block computes ``OUTPUTS`` neighbouring output vectors at once, ``acc[i] += taps[j] * x[i + j]``, so that
each vector loaded serves several outputs.  All vectors are aligned and ``stride`` elements apart.
Each output is summed in the same order wherever it lies: results do not depend on the tiles.

Long sums are sums of short ones: ``STEPS`` products at a time are summed on their own, a few of these sums
likewise, and theirs are added with a correction by the rounding error of each addition (W. Kahan, 1965,
doi:10.1145/363707.363723).  So the rounding error of a sum does not grow with the number of taps.

The functions of a block, from the inside out:

======================== =====================================================================
``accumulate``           1 or ``UNROLLED`` taps, unrolled: ``OUTPUTS`` sums, one splat per tap
``accumulate_pairs``     the same for mirrored taps: one multiplication per pair of samples
``correlate_general``    a loop over any number of taps; ``_even`` and ``_odd`` over pairs
``correlate``            chooses by the kind of the taps, and sums long ones in parts
``correlate_terms``      a sum over terms
``correlate_square``     as many outputs as a vector has lanes, to be transposed
======================== =====================================================================
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .jit import inline, inline_coded, intrinsic, literal_intrinsic, overload, part
from .numba_api import cgutils, types, without_literals
from .simd import (
    HAS_32_REGISTERS,
    VECTOR_BYTES,
    emit_fma,
    emit_load,
    emit_splat,
    native,
    offset_pointer,
)
from .sweep_params import larger, smaller, word
from .vector_blocks import minus, plus, zeros_emitter

# A multiply-add takes 4 cycles and two start in each: 8 sums in turn keep the units busy, 4 would leave them idle half
# of the time.
OUTPUTS = 8
UNROLLED = 4 if HAS_32_REGISTERS else 2
"""Taps, or pairs of them, in one block: with 16 registers 8 sums leave room for two taps and their samples."""
GENERAL, EVEN, ODD, MIXED = 0, 1, 2, 3
"""Kinds of taps; mixed: some terms have another kind than others."""
STEPS, MOST_STEPS = 16, 24
"""Multiply-adds of an output that are summed on their own; up to the second number are not cut."""
SHORT_SUMS = 4
"""Number of such sums that are added up on their own."""
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


def _add_products(
    builder: Any, vector: Any, sums: list[Any], taps: list[Any], sample: Callable[[int, int], Any]
) -> list[Any]:
    """Emit the sums of a block: output ``i`` adds ``taps[j] * sample(i, j)``, in the order of the taps."""
    sums = list(sums)
    if HAS_32_REGISTERS:  # OUTPUTS independent chains of multiply-adds hide their latency
        for j, tap in enumerate(taps):
            for i in range(OUTPUTS):
                sums[i] = emit_fma(builder, vector, tap, sample(i, j), sums[i])
        return sums
    for i in range(OUTPUTS):
        for j, tap in enumerate(taps):
            sums[i] = emit_fma(builder, vector, tap, sample(i, j), sums[i])
        sums[i] = _emit_in_order(builder, sums[i])
    return sums


def _emit_in_order(builder: Any, value: Any) -> Any:
    """Emit no instruction, but make LLVM compute ``value`` here, before the loads that follow.

    LLVM would load the samples of all outputs first and spill them: 16 registers hold those of one or two outputs.
    """
    kind = ir.FunctionType(value.type, [value.type])
    return builder.asm(kind, "", "=x,0", [value], side_effect=True)


def _accumulator(acc: Any, x: Any, taps: Any, count: Any, align: int) -> Any:
    vector, steps = acc.dtype, count.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], OUTPUTS)
        window = _Window(context, builder, arguments[1], arguments[2], vector, align)
        given = [_tap(builder, arguments[3], j, vector) for j in range(steps)]
        sums = _add_products(builder, vector, sums, given, lambda i, j: window[i + j])
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
        # x[i + j] and y[i - j] meet the same tap: folding them halves the multiplications.
        join = builder.fsub if odd else builder.fadd
        given = [_tap(builder, arguments[4], j, vector) for j in range(steps)]
        sums = _add_products(
            builder, vector, sums, given, lambda i, j: join(left[i + j], right[i - j])
        )
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, y, types.int64, taps, count, kind), emit


@inline
def correlate_general(acc, x, stride, taps, count):
    """Add the correlation with ``count`` taps to a block."""
    j = 0
    while j + UNROLLED <= count:
        here, taken = offset_pointer(x, j * stride), offset_pointer(taps, j)
        acc = accumulate(acc, here, stride, taken, UNROLLED)
        j += UNROLLED
    while j < count:
        acc = accumulate(acc, offset_pointer(x, j * stride), stride, offset_pointer(taps, j), 1)
        j += 1
    return acc


def _folded(kind):
    """Return the function that correlates with symmetric (EVEN) or antisymmetric (ODD) taps."""

    def correlate_pairs(acc, x, last, stride, taps, pairs):
        # acc[i] += sum_j taps[j] * (x[i + j] + last[i - j]); minus for ODD
        j = 0
        while j + UNROLLED <= pairs:
            left, right = offset_pointer(x, j * stride), offset_pointer(last, -j * stride)
            taken = offset_pointer(taps, j)
            acc = accumulate_pairs(acc, left, right, stride, taken, UNROLLED, kind)
            j += UNROLLED
        while j < pairs:
            left, right = offset_pointer(x, j * stride), offset_pointer(last, -j * stride)
            acc = accumulate_pairs(acc, left, right, stride, offset_pointer(taps, j), 1, kind)
            j += 1
        return acc

    correlate_pairs.__name__ = correlate_pairs.__qualname__ = (
        f"correlate_{'odd' if kind == ODD else 'even'}"
    )
    return inline(correlate_pairs)


# Each adds `pairs` taps times the sums, or the differences, of the vectors from `x` on and from `last` back.
correlate_even = _folded(EVEN)
correlate_odd = _folded(ODD)


def _short(kind):
    """Return the implementation of :func:`correlate` for few taps of one kind."""

    def general(acc, x, stride, taps, count, kind):
        return correlate_general(acc, x, stride, taps, count)

    def even(acc, x, stride, taps, count, kind):
        # An odd number of taps leaves the middle one without a partner.
        last, pairs = offset_pointer(x, (count - 1) * stride), count // 2
        acc = correlate_even(acc, x, last, stride, taps, pairs)
        if count & 1:
            acc = accumulate(
                acc, offset_pointer(x, pairs * stride), stride, offset_pointer(taps, pairs), 1
            )
        return acc

    def odd(acc, x, stride, taps, count, kind):
        return correlate_odd(
            acc, x, offset_pointer(x, (count - 1) * stride), stride, taps, count // 2
        )

    def mixed(acc, x, stride, taps, count, kind):
        # The kind is known at run time only: terms differ.
        if kind == GENERAL:
            return correlate_general(acc, x, stride, taps, count)
        last, pairs = offset_pointer(x, (count - 1) * stride), count // 2
        if kind == ODD:
            return correlate_odd(acc, x, last, stride, taps, pairs)
        acc = correlate_even(acc, x, last, stride, taps, pairs)
        if count & 1:
            acc = accumulate(
                acc, offset_pointer(x, pairs * stride), stride, offset_pointer(taps, pairs), 1
            )
        return acc

    return (general, even, odd, mixed)[kind]


def correlate_short(acc, x, stride, taps, count, kind):
    """Do as :func:`correlate` for few taps."""
    raise NotImplementedError("for compiled code only")


@overload(correlate_short)
def _correlate_short(acc, x, stride, taps, count, kind):
    return _short(taps.kind)


def correlate_steps(acc, left, right, stride, taps, steps, kind):
    """Add ``steps`` taps times the vectors from ``left`` on, folded with those from ``right`` back."""
    raise NotImplementedError("for compiled code only")


@overload(correlate_steps)
def _correlate_steps(acc, left, right, stride, taps, steps, kind):
    def general(acc, left, right, stride, taps, steps, kind):
        return correlate_general(acc, left, stride, taps, steps)

    def even(acc, left, right, stride, taps, steps, kind):
        return correlate_even(acc, left, right, stride, taps, steps)

    def odd(acc, left, right, stride, taps, steps, kind):
        return correlate_odd(acc, left, right, stride, taps, steps)

    def mixed(acc, left, right, stride, taps, steps, kind):
        if kind == EVEN:
            return correlate_even(acc, left, right, stride, taps, steps)
        if kind == ODD:
            return correlate_odd(acc, left, right, stride, taps, steps)
        return correlate_general(acc, left, stride, taps, steps)

    return (general, even, odd, mixed)[taps.kind]


@without_literals
@part
def _short_sums(acc, left, right, stride, taps, steps, kind):
    """Add a correlation of some ``steps`` to a block, ``STEPS`` of them at a time."""
    # acc += sum_{j < 16} ... + sum_{16 <= j < 32} ... + ...: a step is a tap, or a pair of mirrored taps
    for j in range(0, steps, STEPS):
        more = smaller(STEPS, steps - j)
        x, y, taken = (
            offset_pointer(left, j * stride),
            offset_pointer(right, -j * stride),
            offset_pointer(taps, j),
        )
        acc = plus(acc, correlate_steps(zeros(taps), x, y, stride, taken, more, kind))
    return acc


@without_literals
@part
def _long_sum(acc, left, right, stride, taps, steps, kind):
    """Add a correlation of many ``steps`` to a block, corrected by the rounding error of each addition."""
    # Kahan: addend = part - error;  total = acc + addend;  error = (total - acc) - addend
    error = zeros(taps)
    for j in range(0, steps, STEPS * SHORT_SUMS):
        more = smaller(STEPS * SHORT_SUMS, steps - j)
        x, y, taken = (
            offset_pointer(left, j * stride),
            offset_pointer(right, -j * stride),
            offset_pointer(taps, j),
        )
        addend = minus(_short_sums(zeros(taps), x, y, stride, taken, more, kind), error)
        total = plus(acc, addend)
        error = minus(minus(total, acc), addend)
        acc = total
    return acc


@without_literals
@inline
def correlate_long(acc, x, stride, taps, count, kind):
    """Do as :func:`correlate` for many taps, in sums of short sums."""
    last = offset_pointer(x, (count - 1) * stride)
    steps = count if kind == GENERAL else count // 2
    if kind == EVEN and count & 1:
        acc = accumulate(
            acc, offset_pointer(x, steps * stride), stride, offset_pointer(taps, steps), 1
        )
    if steps <= STEPS * SHORT_SUMS:
        return _short_sums(acc, x, last, stride, taps, steps, kind)
    return _long_sum(acc, x, last, stride, taps, steps, kind)


def is_long(count: int, kind: int) -> bool:
    """Return whether the products of ``count`` taps of one kind are summed in parts."""
    return count > (MOST_STEPS if kind == GENERAL else 2 * STEPS + 1)


def correlate(acc, x, stride, taps, count, kind):
    """Add the correlation of ``x`` with ``count`` taps of one kind to a block of outputs.

    The type of the pointer ``taps`` says which kind that is, or that kinds are mixed, and whether sums may be
    long: most filters have few taps, and tests at run time would slow them.
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
    # sum_t sum_j taps[t][j] * x[sources[t] * step + (i + j) * stride]
    def together(x, sources, step, stride, taps, count, kinds, first, last):
        block = zeros(taps)
        for t in range(first, last):
            here, taken = (
                offset_pointer(x, word(sources, t) * step),
                offset_pointer(taps, t * count),
            )
            block = correlate(block, here, stride, taken, count, word(kinds, t))
        return block

    def in_parts(x, sources, step, stride, taps, count, kinds, first, last):
        # A few terms at a time, so that no sum has more products than a short one.
        total, few = zeros(taps), larger(1, 2 * STEPS // count)
        for begin in range(first, last, few):
            block = zeros(taps)
            for t in range(begin, smaller(begin + few, last)):
                here, taken = (
                    offset_pointer(x, word(sources, t) * step),
                    offset_pointer(taps, t * count),
                )
                block = correlate(block, here, stride, taken, count, word(kinds, t))
            total = plus(total, block)
        return total

    return in_parts if taps.long else together


def correlate_square(x, stride, taps, count, kind):
    """Return the correlation for as many outputs as a vector has lanes, at least ``OUTPUTS``."""
    raise NotImplementedError("for compiled code only")


@overload(correlate_square)
def _correlate_square(x, stride, taps, count, kind):
    # A square of 16 float32 lanes takes two blocks of 8 outputs; the addition joins two tuples.
    if native(x.dtype).lanes == 2 * OUTPUTS:

        def twice(x, stride, taps, count, kind):
            first = correlate(zeros(x), x, stride, taps, count, kind)
            later = offset_pointer(x, OUTPUTS * stride)
            return first + correlate(zeros(x), later, stride, taps, count, kind)

        return twice

    def once(x, stride, taps, count, kind):
        return correlate(zeros(x), x, stride, taps, count, kind)

    return once


@inline_coded
def correlate_any(acc, x, stride, taps, count):
    """Add the correlation with ``count`` taps of vectors at any address to a block."""
    j = 0
    while j + UNROLLED <= count:
        here, taken = offset_pointer(x, j * stride), offset_pointer(taps, j)
        acc = accumulate_any(acc, here, stride, taken, UNROLLED)
        j += UNROLLED
    # One call for the rest instead of a loop: unaligned windows overlap, each is loaded once per call.
    here, taken = offset_pointer(x, j * stride), offset_pointer(taps, j)
    if count - j == 3:
        acc = accumulate_any(acc, here, stride, taken, 3)
    elif count - j == 2:
        acc = accumulate_any(acc, here, stride, taken, 2)
    elif count - j == 1:
        acc = accumulate_any(acc, here, stride, taken, 1)
    return acc
