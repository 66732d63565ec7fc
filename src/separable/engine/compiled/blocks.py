"""Blocks of multiply-adds: several outputs of a correlation held in registers.

A block computes ``OUTPUTS`` neighbouring output vectors at once, ``acc[i] += taps[j] * x[i + j]``, so that
each vector loaded serves several outputs.  All vectors are aligned and ``stride`` elements apart.
Each output is summed in the same order wherever it stands: results do not depend on the tiling.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .kernel import inline, inline_coded, intrinsic, literal_intrinsic, overload
from .numba_api import cgutils, types
from .simd import (
    HAS_32_REGISTERS,
    VECTOR_BYTES,
    ahead,
    emit_fma,
    emit_load,
    emit_splat,
    llvm_vector,
    native,
)

# 8 where there are 32 registers: 8 sums, two windows of 8 and some taps.
OUTPUTS = 8 if HAS_32_REGISTERS else 4
GENERAL, EVEN, ODD, MIXED = 0, 1, 2, 3
"""Kinds of taps; mixed: some terms have another kind than others."""


@intrinsic
def zeros(_typing: Any, like: Any) -> Any:
    """Return ``OUTPUTS`` vectors of zeros of the element type of the pointer ``like``."""
    vector = native(like.dtype)
    block = types.UniTuple(vector, OUTPUTS)

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        zero = ir.Constant(llvm_vector(context, vector), [0.0] * vector.lanes)
        return context.make_tuple(builder, block, [zero] * OUTPUTS)

    return block(like), emit


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
def correlate_even(acc, x, stride, taps, count):
    """Add the correlation with taps equal to their mirror image, folded."""
    last = ahead(x, (count - 1) * stride)
    pairs = count // 2
    j = 0
    while j + 4 <= pairs:
        near, far = ahead(x, j * stride), ahead(last, -j * stride)
        acc = accumulate_pairs(acc, near, far, stride, ahead(taps, j), 4, EVEN)
        j += 4
    while j < pairs:
        near, far = ahead(x, j * stride), ahead(last, -j * stride)
        acc = accumulate_pairs(acc, near, far, stride, ahead(taps, j), 1, EVEN)
        j += 1
    if count & 1:
        acc = accumulate(acc, ahead(x, pairs * stride), stride, ahead(taps, pairs), 1)
    return acc


@inline
def correlate_odd(acc, x, stride, taps, count):
    """Add the correlation with taps equal to minus their mirror image, folded."""
    last = ahead(x, (count - 1) * stride)
    pairs = count // 2
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


def correlate(acc, x, stride, taps, count, kind):
    """Add the correlation of ``x`` with ``count`` taps of one kind to a block of outputs.

    ``kind`` counts where the type of the pointer ``taps`` says that they are mixed.
    """
    raise NotImplementedError("for compiled code only")


@overload(correlate)
def _correlate(acc, x, stride, taps, count, kind):
    def general(acc, x, stride, taps, count, kind):
        return correlate_general(acc, x, stride, taps, count)

    def even(acc, x, stride, taps, count, kind):
        return correlate_even(acc, x, stride, taps, count)

    def odd(acc, x, stride, taps, count, kind):
        return correlate_odd(acc, x, stride, taps, count)

    def mixed(acc, x, stride, taps, count, kind):
        if kind == EVEN:
            return correlate_even(acc, x, stride, taps, count)
        if kind == ODD:
            return correlate_odd(acc, x, stride, taps, count)
        return correlate_general(acc, x, stride, taps, count)

    return (general, even, odd, mixed)[taps.kind]


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
