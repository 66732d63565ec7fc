"""Blocks of multiply-adds whose outputs lie apart: the same column of several rows.

In :mod:`.fma_blocks` neighbouring outputs share the samples they read; here none is shared, so this pays for few taps.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from .fma_blocks import EVEN, GENERAL, ODD, OUTPUTS, Window, emit_tap, zeros
from .jit import literal_intrinsic, overload
from .numba_api import cgutils, types
from .simd import emit_fma, offset_pointer


@literal_intrinsic
def _add_apart(_typing: Any, acc: Any, x: Any, y: Any, step: Any, taps: Any, kind: Any) -> Any:
    """Add ``taps[0] * x[i]`` to each ``acc[i]``, or times ``x[i] + y[i]`` (EVEN), ``x[i] - y[i]`` (ODD).

    Vectors lie ``step`` elements apart, at any address.
    """
    vector, folded = acc.dtype, kind.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], OUTPUTS)
        here = Window(context, builder, arguments[1], arguments[3], vector, 1)
        there = Window(context, builder, arguments[2], arguments[3], vector, 1)
        tap = emit_tap(builder, arguments[4], 0, vector)
        for i in range(OUTPUTS):
            sample = here[i]
            if folded != GENERAL:
                join = builder.fsub if folded == ODD else builder.fadd
                sample = join(sample, there[i])
            sums[i] = emit_fma(builder, vector, tap, sample, sums[i])
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, y, types.int64, taps, kind), emit


def correlate_apart(x, step, tap_step, taps, count):
    """Return a block whose outputs lie ``step`` elements apart and the samples of one output ``tap_step``.

    That is ``sum_j taps[j] * x[i * step + j * tap_step]``, added in the order of :func:`correlate` for few taps of
    one kind; vectors may lie at any address.
    """
    raise NotImplementedError("for compiled code only")


@overload(correlate_apart)
def _correlate_apart(x, step, tap_step, taps, count):
    kind = taps.kind

    def general(x, step, tap_step, taps, count):
        block = zeros(taps)
        for j in range(count):
            here = offset_pointer(x, j * tap_step)
            block = _add_apart(block, here, here, step, offset_pointer(taps, j), GENERAL)
        return block

    def folded(x, step, tap_step, taps, count):
        block, last = zeros(taps), offset_pointer(x, (count - 1) * tap_step)
        for j in range(count // 2):
            here, there = offset_pointer(x, j * tap_step), offset_pointer(last, -j * tap_step)
            block = _add_apart(block, here, there, step, offset_pointer(taps, j), kind)
        if kind == EVEN and count & 1:
            j = count // 2
            here = offset_pointer(x, j * tap_step)
            block = _add_apart(block, here, here, step, offset_pointer(taps, j), GENERAL)
        return block

    return general if kind == GENERAL else folded
