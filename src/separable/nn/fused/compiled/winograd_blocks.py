"""Transforms of Winograd's minimal filtering F(4x4, 3x3) and F(4, 3), one vector of channels of one tile at a time.

A *tile* is 4 x 4 outputs of a 3 x 3 convolution and the 6 x 6 inputs d below them. With the matrices of
`separable.nn.fused.winograd_tiling`

    outputs = A^T ((G g G^T) * (B^T d B)) A,   * element by element, summed over the input channels

so that an output takes 36 / 16 = 2.25 multiplications per channel instead of 9. Convolutions of 3 x 1 or 1 x 3 taps
have tiles of 4 x 1 or 1 x 4 outputs and transforms along one axis: 6 / 4 = 1.5 multiplications instead of 3. Sources: S. Winograd, Arithmetic
Complexity of Computations, 1980, doi:10.1137/1.9781611970364; A. Lavin and S. Gray, 2016, doi:10.1109/CVPR.2016.435.

The points of interpolation are 0, P, -P, Q, -Q and infinity with P = 2/3 and Q = 1/P = 3/2. In float32 their error was
measured to be half of that of the usual points 0, 1, -1, 2, -2 and infinity.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import literal_intrinsic
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import emit_fma, emit_splat

from .simd_ops import (
    FLOAT32_PTR,
    LANES,
    SINGLE,
    constant,
    emit_between,
    emit_mask,
    emit_read,
    emit_write,
)

P, Q = 2 / 3, 3 / 2
"""Points of interpolation; the transforms below use that P * Q = 1."""
TILE, WINDOW = 4, 6
"""Outputs and inputs of a tile along each axis that is transformed."""

_I64 = ir.IntType(64)
_FLOATS = ir.FloatType().as_pointer()


def _fma(builder: Any, factor: float, x: Any, y: Any) -> Any:
    """Emit ``factor * x + y``."""
    return emit_fma(builder, SINGLE, constant(factor), x, y)


def _emit_input_line(builder: Any, d: Sequence[Any]) -> list[Any]:
    """Emit B^T d for six inputs.

    Row ``i`` of B^T has the coefficients of the product of (x - a) over all points a but the i-th:

        0:  d0 - (P^2 + Q^2) d2 + d4              +-P:  (d4 - Q^2 d2) +- P (d3 - Q^2 d1)
        infinity:  d1 - (P^2 + Q^2) d3 + d5       +-Q:  (d4 - P^2 d2) +- Q (d3 - P^2 d1)
    """
    both = -(P * P + Q * Q)
    rows = [_fma(builder, both, d[2], builder.fadd(d[0], d[4]))]
    for point, other in ((P, Q), (Q, P)):
        even = _fma(builder, -other * other, d[2], d[4])
        odd = _fma(builder, -other * other, d[1], d[3])
        rows += [_fma(builder, point, odd, even), _fma(builder, -point, odd, even)]
    return [*rows, _fma(builder, both, d[3], builder.fadd(d[1], d[5]))]


def _emit_output_line(builder: Any, m: Sequence[Any]) -> list[Any]:
    """Emit A^T m for six products: y_r = sum_i a_i^r m_i over the finite points, and y_3 has m_5 besides."""
    plus = [builder.fadd(m[1], m[2]), builder.fadd(m[3], m[4])]
    minus = [builder.fsub(m[1], m[2]), builder.fsub(m[3], m[4])]

    def weighted(pair: list[Any], power: int) -> Any:
        return _fma(builder, P**power, pair[0], builder.fmul(constant(Q**power), pair[1]))

    first = builder.fadd(builder.fadd(m[0], plus[0]), plus[1])
    return [
        first, weighted(minus, 1), weighted(plus, 2), builder.fadd(weighted(minus, 3), m[5]),
    ]  # fmt: skip


def _emit_transform(builder: Any, values: list[list[Any]], emit_line: Any) -> list[list[Any]]:
    """Emit a transform of the columns and then of the rows, of those axes that have more than one value."""
    if len(values) > 1:
        columns = [emit_line(builder, column) for column in zip(*values, strict=True)]
        values = [list(row) for row in zip(*columns, strict=True)]
    return [emit_line(builder, row) for row in values] if len(values[0]) > 1 else values


@literal_intrinsic
def transform_input(
    _typing: Any, table: Any, shift: Any, out: Any, plane: Any, inside: Any, rows: Any,
    columns: Any, part: Any,
) -> Any:  # fmt: skip
    """Store B^T d B for one vector of channels, ``rows * columns`` vectors ``plane`` bytes apart.

    ``table`` is int64[rows][columns], the addresses of the inputs of the tile; ``shift`` is the offset in bytes of the
    vector. If ``part`` is 1, only ``inside`` lanes are read, and the others become 0.
    """
    high, wide, masked = rows.literal_value, columns.literal_value, part.literal_value

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        table_, shift_, out_, plane_, inside_ = arguments[:5]
        places = builder.inttoptr(table_, _I64.as_pointer())
        mask = emit_mask(builder, inside_) if masked else None

        def read(i: int, j: int) -> Any:
            address = builder.load(builder.gep(places, [_I64(i * wide + j)]))
            where = builder.inttoptr(builder.add(address, shift_), _FLOATS)
            return emit_read(builder, FLOAT32_PTR, where, mask)

        inputs = [[read(i, j) for j in range(wide)] for i in range(high)]
        for i, line in enumerate(_emit_transform(builder, inputs, _emit_input_line)):
            for j, value in enumerate(line):
                offset = builder.mul(plane_, _I64(i * wide + j))
                where = builder.inttoptr(builder.add(out_, offset), _FLOATS)
                emit_write(builder, FLOAT32_PTR, value, where)
        return _context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, i64, i64, i64, i64, rows, columns, part), emit


@literal_intrinsic
def transform_output(
    _typing: Any, products: Any, plane: Any, bias: Any, out: Any, row_step: Any, step: Any,
    added: Any, added_row: Any, added_step: Any, high: Any, wide: Any, inside: Any,
    lower: Any, upper: Any, rows: Any, columns: Any,
) -> Any:  # fmt: skip
    """Store the outputs of a tile for one vector of output channels; return 1 if they are valid, else 0.

    out[i, j] = clamp(bias + (A^T m A)[i, j] + added[i, j]),  i < high, j < wide

    ``products`` is the address of m, ``rows * columns`` vectors ``plane`` bytes apart. Rows of outputs are ``row_step``
    bytes apart, columns ``step`` bytes. Nothing is added if ``added`` is 0. Only ``inside`` lanes are stored.

    The outputs are not valid if an input is infinite or not a number, or a transform overflows: then some product is
    not finite, and through A^T neither is one of the outputs at the corners, whose sum is tested.
    """
    window = rows.literal_value, columns.literal_value

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (
            products_, plane_, bias_, out_, row_, step_, added_, added_row_, added_step_, high_,
            wide_, inside_, lower_, upper_,
        ) = arguments[:14]  # fmt: skip

        def pointer(base: Any, *steps: tuple[Any, int]) -> Any:
            for size, number in steps:
                base = builder.add(base, builder.mul(size, _I64(number)))
            return builder.inttoptr(base, _FLOATS)

        def read(i: int, j: int) -> Any:
            return emit_read(builder, FLOAT32_PTR, pointer(products_, (plane_, i * window[1] + j)))

        made = [[read(i, j) for j in range(window[1])] for i in range(window[0])]
        lines = _emit_transform(builder, made, _emit_output_line)
        tall, across = len(lines), len(lines[0])
        first = emit_read(builder, FLOAT32_PTR, pointer(bias_))
        bounds = [emit_splat(builder, b, LANES) for b in (lower_, upper_)]
        mask = emit_mask(builder, inside_)

        def store(i: int, j: int, residual: bool, mask_: Any) -> None:
            value = builder.fadd(lines[i][j], first)
            if residual:
                place = pointer(added_, (added_row_, i), (added_step_, j))
                value = builder.fadd(value, emit_read(builder, FLOAT32_PTR, place, mask_))
            value = emit_between(builder, value, *bounds)
            emit_write(builder, FLOAT32_PTR, value, pointer(out_, (row_, i), (step_, j)), mask_)

        def store_tile(residual: bool) -> None:
            full = builder.and_(
                builder.icmp_signed(">=", inside_, _I64(LANES)),
                builder.and_(
                    builder.icmp_signed(">=", high_, _I64(tall)),
                    builder.icmp_signed(">=", wide_, _I64(across)),
                ),
            )
            every = [(i, j) for i in range(tall) for j in range(across)]
            with builder.if_else(full) as (whole, some):
                with whole:
                    for i, j in every:
                        store(i, j, residual, None)
                with some:
                    for i, j in every:
                        exists = builder.and_(
                            builder.icmp_signed("<", _I64(i), high_),
                            builder.icmp_signed("<", _I64(j), wide_),
                        )
                        with builder.if_then(exists):
                            store(i, j, residual, mask)

        with builder.if_else(builder.icmp_signed("==", added_, _I64(0))) as (alone, both):
            with alone:
                store_tile(False)
            with both:
                store_tile(True)
        return builder.zext(_emit_valid(builder, lines), _I64)

    i64, f32 = types.int64, types.float32
    return i64(*[i64] * 12, f32, f32, rows, columns), emit


def _emit_valid(builder: Any, lines: list[list[Any]]) -> Any:
    """Emit the test whether the sum of the outputs at the corners of a tile is finite in all lanes."""
    corners = [line[j] for line in (lines[0], lines[-1]) for j in (0, -1)]
    tested = builder.fadd(builder.fadd(*corners[:2]), builder.fadd(*corners[2:]))
    # Infinity minus infinity is not a number.
    wrong = builder.fcmp_unordered("une", builder.fsub(tested, tested), constant(0.0))
    bits = ir.IntType(LANES)
    return builder.icmp_unsigned("==", builder.bitcast(wrong, bits), bits(0))
