"""The register block of a dense convolution: some outputs at any places, times some vectors of channels.

The sums stay in registers over all products of a chunk. Inputs are found by two tables of offsets, one per
output and one per product, so that a block may cross the ends of rows, and taps and channels may lie anywhere.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import literal_intrinsic
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import emit_fma, emit_splat

from .simd_ops import (
    FLOAT32_PTR,
    LANES,
    SINGLE,
    emit_between,
    emit_mask,
    emit_read,
    emit_write,
    vector_type,
)

_I64 = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_FLOATS = ir.FloatType().as_pointer()


class _Lines:
    """Rows of a two-dimensional array whose numbers stand in a table, from some output channel on."""

    def __init__(self, builder: Any, base: Any, table: Any, step: Any) -> None:
        self._builder, self._table, self._step = builder, table, step
        self._base = builder.inttoptr(base, _BYTES)

    def vector(self, m: int, v: int) -> Any:
        """Return the pointer to vector ``v`` of row ``table[m]``."""
        builder = self._builder
        number = builder.load(builder.gep(self._table, [_I64(m)]))
        line = builder.gep(self._base, [builder.mul(number, self._step)])
        return builder.gep(builder.bitcast(line, _FLOATS), [_I64(v * LANES)])


@literal_intrinsic
def sum_products(
    _typing: Any, base: Any, windows: Any, offsets: Any, count: Any, weights: Any, start: Any,
    start_step: Any, out: Any, places: Any, out_step: Any, added: Any, added_step: Any, inside: Any,
    lower: Any, upper: Any, rows: Any, vectors: Any,
) -> Any:  # fmt: skip
    """Compute and store a block of ``rows`` outputs by ``vectors`` vectors of output channels.

    out[places[m], o] = clamp(start[m, o] + sum_k weights[k, o] * base[windows[m] + offsets[k]]
                              + added[places[m], o]),  k < count

    All arrays are given by their addresses; ``windows``, ``offsets`` and ``places`` are int64 tables, the first two
    in bytes. Rows of ``start`` are ``start_step`` bytes apart: 0 for one bias that all outputs share. Nothing is
    added if ``added`` is 0. Of the last vector only ``inside`` lanes are stored.
    """
    tall, wide = rows.literal_value, vectors.literal_value
    every = [(m, v) for m in range(tall) for v in range(wide)]

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (
            base_, windows_, offsets_, depth, panel, begun, begun_step, target, places_, target_step,
            other, other_step, last, lower_, upper_,
        ) = arguments[:15]  # fmt: skip
        windows_, offsets_, places_ = (
            builder.inttoptr(a, _I64.as_pointer()) for a in (windows_, offsets_, places_)
        )
        written = _Lines(builder, target, places_, target_step)
        first = _first_sums(builder, builder.inttoptr(begun, _BYTES), begun_step, tall, wide)
        lines = []
        for m in range(tall):
            window = builder.add(base_, builder.load(builder.gep(windows_, [_I64(m)])))
            lines.append(builder.inttoptr(window, _BYTES))
        sums = _summed(builder, (lines, offsets_, depth, panel), first, every)
        sums = _with_added(builder, sums, (other, places_, other_step, last), every)
        bounds = [emit_splat(builder, b, LANES) for b in (lower_, upper_)]
        values = {at: emit_between(builder, value, *bounds) for at, value in sums.items()}
        for m, v in every:
            if v < wide - 1:
                emit_write(builder, FLOAT32_PTR, values[m, v], written.vector(m, v))
        with builder.if_else(builder.icmp_signed(">=", last, _I64(LANES))) as (whole, some):
            with whole:
                for m in range(tall):
                    place = written.vector(m, wide - 1)
                    emit_write(builder, FLOAT32_PTR, values[m, wide - 1], place)
            with some:
                mask = emit_mask(builder, last)
                for m in range(tall):
                    place = written.vector(m, wide - 1)
                    emit_write(builder, FLOAT32_PTR, values[m, wide - 1], place, mask)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    return types.none(*[i64] * 13, f32, f32, rows, vectors), emit


def _first_sums(builder: Any, begun: Any, step: Any, tall: int, wide: int) -> dict[Any, Any]:
    """Emit the loads of the values that the sums begin with."""
    found = {}
    for m in range(tall):
        line = builder.gep(begun, [builder.mul(step, _I64(m))])
        for v in range(wide):
            place = builder.gep(builder.bitcast(line, _FLOATS), [_I64(v * LANES)])
            found[m, v] = emit_read(builder, FLOAT32_PTR, place)
    return found


def _summed(builder: Any, given: Any, first: dict[Any, Any], every: list[Any]) -> dict[Any, Any]:
    """Emit the loop over the products: a load per vector of weights, a broadcast input per output."""
    lines, offsets, depth, panel = given
    wide = every[-1][1] + 1
    before = builder.block
    body = builder.append_basic_block("products")
    after = builder.append_basic_block("products.done")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_I64)
    running = {at: builder.phi(vector_type()) for at in every}
    offset = builder.load(builder.gep(offsets, [k]))
    row = builder.gep(builder.inttoptr(panel, _FLOATS), [builder.mul(k, _I64(wide * LANES))])
    taken = [
        emit_read(builder, FLOAT32_PTR, builder.gep(row, [_I64(v * LANES)])) for v in range(wide)
    ]
    sums = {}
    for m, line in enumerate(lines):
        place = builder.bitcast(builder.gep(line, [offset]), _FLOATS)
        value = emit_splat(builder, builder.load(place, align=4), LANES)
        for v in range(wide):
            sums[m, v] = emit_fma(builder, SINGLE, value, taken[v], running[m, v])
    following = builder.add(k, _I64(1))
    k.add_incoming(_I64(0), before)
    k.add_incoming(following, body)
    for at in every:
        running[at].add_incoming(first[at], before)
        running[at].add_incoming(sums[at], body)
    builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
    builder.position_at_end(after)
    return sums


def _with_added(builder: Any, sums: dict[Any, Any], given: Any, every: list[Any]) -> dict[Any, Any]:
    """Emit the addition of a second array, if there is one."""
    added, places, step, last = given
    wide = every[-1][1] + 1
    before = builder.block
    found = {}
    with builder.if_then(builder.icmp_signed("!=", added, _I64(0))):
        lines = _Lines(builder, added, places, step)
        mask = emit_mask(builder, last)
        for m, v in every:
            value = emit_read(
                builder, FLOAT32_PTR, lines.vector(m, v), mask if v == wide - 1 else None
            )
            found[m, v] = builder.fadd(sums[m, v], value)
        inner = builder.block
    joined = {}
    for at in every:
        joined[at] = builder.phi(vector_type())
        joined[at].add_incoming(sums[at], before)
        joined[at].add_incoming(found[at], inner)
    return joined
