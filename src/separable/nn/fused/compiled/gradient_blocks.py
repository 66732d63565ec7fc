"""The register blocks of the gradient of a depthwise step.

The sums of all taps of one row, or of a whole 3x3 kernel, stay in registers while the PIXELS outputs of a tile are gone
through; the inputs are found through the same table of addresses as in `layer_blocks`.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import literal_intrinsic
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import emit_fma

from .layer_blocks import PIXELS
from .simd_ops import FLOAT32_PTR, LANES, SINGLE, emit_mask, emit_read, emit_write

_I64 = ir.IntType(64)


@literal_intrinsic
def add_tap_gradients(
    _typing: Any, sums: Any, like: Any, table: Any, shift: Any, stride: Any, other: Any,
    far: Any, taps: Any, step: Any, inside: Any, part: Any,
) -> Any:  # fmt: skip
    """Add the gradients of neighbouring taps of one row to ``sums``, float32[tap][lane] in memory.

    sums[k, lane] += sum_p x(table[p * stride + k] + shift)[lane] * g(other[p] + far)[lane],  p < PIXELS

    ``table``, ``stride``, ``taps`` and ``step`` are as for `layer_blocks.add_taps`; ``other`` is the table of the addresses
    of the gradients g, which are float32.
    """
    count, fixed, masked = taps.literal_value, step.literal_value, part.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[2], _I64.as_pointer())
        across = builder.inttoptr(arguments[5], _I64.as_pointer())
        mask = emit_mask(builder, arguments[9]) if masked else None
        loaded: dict[int, Any] = {}

        def vector(kind: Any, place_: Any, index: Any, offset: Any) -> Any:
            address = builder.add(builder.load(builder.gep(place_, [index])), offset)
            where = builder.inttoptr(address, context.get_value_type(kind))
            return emit_read(builder, kind, where, mask)

        def sample(p: int, k: int) -> Any:
            key = p * fixed + k if fixed else p
            if key not in loaded:
                index = _I64(key) if fixed else builder.mul(arguments[4], _I64(p))
                loaded[key] = vector(like, place, index, arguments[3])
            return loaded[key]

        # The sums of all taps stay in registers while the outputs are gone through.
        places = [builder.gep(arguments[0], [_I64(k * LANES)]) for k in range(count)]
        totals = [emit_read(builder, FLOAT32_PTR, p) for p in places]
        for p in range(PIXELS):
            gradient = vector(FLOAT32_PTR, across, _I64(p), arguments[6])
            for k in range(count):
                totals[k] = emit_fma(builder, SINGLE, sample(p, k), gradient, totals[k])
        for where, total in zip(places, totals, strict=True):
            emit_write(builder, FLOAT32_PTR, total, where)
        return context.get_dummy_value()

    i64 = types.int64
    given = (sums, like, i64, i64, i64, i64, i64, taps, step, i64, part)
    return types.none(*given), emit


@literal_intrinsic
def add_square_gradients(
    _typing: Any, sums: Any, biases: Any, like: Any, table: Any, line: Any, shift: Any,
    other: Any, far: Any, taps: Any, step: Any,
) -> Any:  # fmt: skip
    """Add the gradients of ``taps`` rows of ``taps`` neighbouring taps each, and those of the biases.

    sums[i, k, lane] += sum_p x(table[i * line / 8 + p * step + k] + shift)[lane] * g(other[p] + far)[lane]
    biases[lane] += sum_p g(other[p] + far)[lane]

    Each gradient is loaded once for all taps; see :func:`add_tap_gradients`. ``line`` is in bytes.
    """
    count, fixed = taps.literal_value, step.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        lines = [
            builder.inttoptr(
                builder.add(arguments[3], builder.mul(arguments[4], _I64(i))), _I64.as_pointer()
            )
            for i in range(count)
        ]
        across = builder.inttoptr(arguments[6], _I64.as_pointer())
        loaded: dict[tuple[int, int], Any] = {}

        def vector(kind: Any, place: Any, index: int, offset: Any) -> Any:
            address = builder.add(builder.load(builder.gep(place, [_I64(index)])), offset)
            where = builder.inttoptr(address, context.get_value_type(kind))
            return emit_read(builder, kind, where)

        def sample(i: int, column: int) -> Any:
            if (i, column) not in loaded:
                loaded[i, column] = vector(like, lines[i], column, arguments[5])
            return loaded[i, column]

        places = [builder.gep(arguments[0], [_I64(k * LANES)]) for k in range(count * count)]
        totals = [emit_read(builder, FLOAT32_PTR, p) for p in places]
        bias = emit_read(builder, FLOAT32_PTR, arguments[1])
        for p in range(PIXELS):
            gradient = vector(FLOAT32_PTR, across, p, arguments[7])
            bias = builder.fadd(bias, gradient)
            for i in range(count):
                for k in range(count):
                    x, at = sample(i, p * fixed + k), i * count + k
                    totals[at] = emit_fma(builder, SINGLE, x, gradient, totals[at])
        for where, total in zip(places, totals, strict=True):
            emit_write(builder, FLOAT32_PTR, total, where)
        emit_write(builder, FLOAT32_PTR, bias, arguments[1])
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(sums, biases, like, i64, i64, i64, i64, i64, taps, step), emit
