"""The two register blocks of a separable layer.

Depthwise block: PIXELS neighbouring outputs of one vector of channels, one register each. The inputs are
found through a table of addresses, int64[row of taps][column of the window]; padding is an address of zeros.

Pointwise block: ``rows`` outputs by ``vectors`` vectors of output channels, one register each, summed over all
middle channels.

Each output is summed in the same order wherever it stands in a block, so results depend neither on tiles
nor on threads.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from separable.engine.compiled.jit import intrinsic, literal_intrinsic
from separable.engine.compiled.numba_api import cgutils, types
from separable.engine.compiled.simd import HAS_32_REGISTERS, emit_fma, emit_shuffle, emit_splat

from .simd_ops import (
    FLOAT32_PTR,
    LANES,
    SINGLE,
    emit_between,
    emit_mask,
    emit_prefetch_write,
    emit_read,
    emit_write,
    vector_type,
)

PIXELS = 7
"""Number of outputs of a depthwise block."""
ROWS = 6
"""Largest number of outputs of a pointwise block."""
VECTORS = 4 if HAS_32_REGISTERS else 2
"""Largest number of vectors of output channels of a pointwise block."""

UNROLLED = 1 if HAS_32_REGISTERS else 4
"""Steps of a sum per turn of its loop: few FMAs per turn would compete with the arithmetic of addresses."""

_I64 = ir.IntType(64)
_BYTE = ir.IntType(8).as_pointer()
_FLOAT = ir.FloatType()
BLOCK = types.UniTuple(SINGLE, PIXELS)


def emit_shifted(builder: Any, pointer: Any, offset: Any) -> Any:
    """Emit a pointer moved by a number of bytes."""
    moved = builder.gep(builder.bitcast(pointer, _BYTE), [offset])
    return builder.bitcast(moved, pointer.type)


@intrinsic
def start_block(_typing: Any, bias: Any) -> Any:
    """Return a depthwise block whose outputs all are the bias of their channels."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        first = emit_read(builder, bias, arguments[0])
        return context.make_tuple(builder, BLOCK, [first] * PIXELS)

    return BLOCK(bias), emit


def tap_order(taps: int, stride: int) -> list[tuple[int, int]]:
    """Return the pairs (output, tap) of a depthwise block in the order in which they are multiplied.

    With 16 registers the products of one sample follow each other: seven sums, up to seven taps and the sample stay in
    registers. Tap by tap, all samples would have to. Each output is summed in the order of its taps either way.
    """
    pairs = [(p, k) for k in range(taps) for p in range(PIXELS)]
    if HAS_32_REGISTERS or not stride:
        return pairs
    return sorted(pairs, key=lambda pair: (pair[0] * stride + pair[1], pair[1]))


def tap_emitter(builder: Any, weights: Any) -> Callable[[int], Any]:
    """Return a function that emits the vector of one tap, which is loaded once."""
    loaded: dict[int, Any] = {}

    def tap(k: int) -> Any:
        if k not in loaded:
            place = builder.gep(weights, [_I64(k * LANES)])
            loaded[k] = emit_read(builder, FLOAT32_PTR, place)
        return loaded[k]

    return tap


@literal_intrinsic
def add_taps(
    _typing: Any, block: Any, like: Any, table: Any, at: Any, stride: Any,
    weights: Any, taps: Any, step: Any, inside: Any, part: Any,
) -> Any:  # fmt: skip
    """Add neighbouring taps of one row to a depthwise block.

    block[p, lane] += sum_k weights[k, lane] * x(table[p * stride + k] + at)[lane],  k < taps

    The table holds the address of each column; ``at`` is the offset in bytes of the vector of channels.
    ``taps`` and ``step`` are literals. ``step`` is the stride in table entries, or 0 if only ``stride`` has
    it, which allows a single tap. If ``part`` is 1, only ``inside`` lanes are read.
    """
    count, fixed = taps.literal_value, step.literal_value
    masked = part.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], PIXELS)
        place = builder.inttoptr(arguments[2], _I64.as_pointer())
        mask = emit_mask(builder, arguments[8]) if masked else None
        pointer = context.get_value_type(like)
        # Outputs that share a column share its load: entry p * step + k is read once.
        loaded: dict[int, Any] = {}

        def sample(p: int, k: int) -> Any:
            key = p * fixed + k if fixed else p
            if key not in loaded:
                index = _I64(key) if fixed else builder.mul(arguments[4], _I64(p))
                address = builder.load(builder.gep(place, [index]))
                where = builder.inttoptr(builder.add(address, arguments[3]), pointer)
                loaded[key] = emit_read(builder, like, where, mask)
            return loaded[key]

        taps_of = tap_emitter(builder, arguments[5])
        for p, k in tap_order(count, fixed):
            sums[p] = emit_fma(builder, SINGLE, sample(p, k), taps_of(k), sums[p])
        return context.make_tuple(builder, BLOCK, sums)

    i64 = types.int64
    return BLOCK(block, like, i64, i64, i64, weights, taps, step, i64, part), emit


@literal_intrinsic
def add_spaced_taps(
    _typing: Any, block: Any, first: Any, weights: Any, taps: Any, stride: Any, runtime: Any,
    pitch: Any,
) -> Any:  # fmt: skip
    """Add neighbouring taps to a depthwise block, whose samples lie at equal distances in memory.

    block[p, lane] += sum_k weights[k, lane] * first[(p * stride + k) * pitch + lane],  k < taps

    ``taps``, ``stride`` and ``pitch`` are literals, so that all addresses are constant offsets. If ``stride`` is 0,
    the stride is ``runtime``, and there is one tap.
    """
    count, fixed, far = taps.literal_value, stride.literal_value, pitch.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], PIXELS)
        # Outputs that share a column share its load.
        loaded: dict[int, Any] = {}

        def sample(p: int, k: int) -> Any:
            key = p * fixed + k if fixed else p
            if key not in loaded:
                index = _I64(key * far)
                if not fixed:
                    index = builder.mul(arguments[5], index)
                where = builder.gep(arguments[1], [index])
                loaded[key] = emit_read(builder, FLOAT32_PTR, where)
            return loaded[key]

        taps_of = tap_emitter(builder, arguments[2])
        for p, k in tap_order(count, fixed):
            sums[p] = emit_fma(builder, SINGLE, sample(p, k), taps_of(k), sums[p])
        return context.make_tuple(builder, BLOCK, sums)

    return BLOCK(block, first, weights, taps, stride, types.int64, pitch), emit


@literal_intrinsic
def interleave(_typing: Any, source: Any, step: Any, like: Any, target: Any, count: Any) -> Any:
    """Store ``count`` vectors of float32, ``step`` elements apart, with their lanes interleaved.

    target[lane * count + j] = source[j * step + lane],  j < count

    ``count`` is a literal; ``like`` is the type of the target.
    """
    many = count.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        places = [
            builder.gep(arguments[0], [builder.mul(arguments[1], _I64(j))]) for j in range(many)
        ]
        loaded = [emit_read(builder, FLOAT32_PTR, p) for p in places]
        for n in range(many):
            # Output n * LANES + lane is lane (n * LANES + lane) // many of vector (n * LANES + lane) % many.
            order = [divmod(n * LANES + lane, many) for lane in range(LANES)]
            first = [lane + LANES * (j == 1) for lane, j in order]
            made = emit_shuffle(builder, loaded[0], loaded[1], first)
            for k in range(2, many):
                taken = [LANES + lane if j == k else i for i, (lane, j) in enumerate(order)]
                made = emit_shuffle(builder, made, loaded[k], taken)
            place = builder.gep(arguments[3], [_I64(n * LANES)])
            emit_write(builder, like, made, place)
        return context.get_dummy_value()

    return types.none(source, types.int64, like, target, count), emit


def emit_stores(
    builder: Any, out: Any, values: list[Any], place: Any, step: Any, mask: Any, wanted: Any
) -> None:
    """Emit stores of ``values[p]`` to ``place + p * step`` bytes: of all, or of those of which ``wanted`` is true.

    ``wanted`` is a pair: the condition that all are, and a function that emits the condition for one of them.
    """

    def store_output(p: int) -> None:
        where = emit_shifted(builder, place, builder.mul(step, _I64(p)))
        emit_write(builder, out, values[p], where, mask)

    with builder.if_else(wanted[0]) as (all_of_them, some):
        with all_of_them:
            for p in range(PIXELS):
                store_output(p)
        with some:
            for p in range(PIXELS):
                with builder.if_then(wanted[1](p)):
                    store_output(p)


@literal_intrinsic
def store_block(
    _typing: Any, block: Any, out: Any, step: Any, pixels: Any,
    lower: Any, upper: Any, inside: Any, part: Any,
) -> Any:  # fmt: skip
    """Clamp a depthwise block and store its first ``pixels`` outputs, ``step`` bytes apart.

    If ``part`` is 1, only the first ``inside`` lanes of each output are stored.
    """
    masked = part.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], PIXELS)
        bounds = [emit_splat(builder, b, LANES) for b in arguments[4:6]]
        mask = emit_mask(builder, arguments[6]) if masked else None
        values = [emit_between(builder, value, *bounds) for value in sums]

        def exists(p: int) -> Any:
            return builder.icmp_signed(">", arguments[3], _I64(p))

        wanted = exists(PIXELS - 1), exists
        emit_stores(builder, out, values, arguments[1], arguments[2], mask, wanted)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    return types.none(block, out, i64, i64, f32, f32, i64, part), emit


def emit_sum_loop(
    builder: Any, begun: Any, depth: Any, sums: list[Any], unrolled: int, products: Any
) -> tuple[Any, list[Any]]:
    """Emit a loop that starts at ``begun`` and runs while at least ``unrolled`` steps are left before ``depth``.

    ``products(k, sums)`` emits one step. The results are the step at which the loop ends, and the sums there; without
    any step they are the sums that were given.
    """
    count = _I64(unrolled)
    before = builder.block
    body = builder.append_basic_block("products")
    after = builder.append_basic_block("products.done")
    builder.cbranch(builder.icmp_signed("<=", builder.add(begun, count), depth), body, after)
    builder.position_at_end(body)
    k = builder.phi(_I64)
    running = [builder.phi(vector_type()) for _ in sums]
    made: list[Any] = list(running)
    for step in range(unrolled):
        made = products(builder.add(k, _I64(step)), made)
    following = builder.add(k, count)
    for phi, start, value in zip([k, *running], [begun, *sums], [following, *made], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed("<=", builder.add(following, count), depth), body, after)
    builder.position_at_end(after)
    ends = []
    for start, value in zip([begun, *sums], [following, *made], strict=True):
        end = builder.phi(value.type)
        end.add_incoming(start, before)
        end.add_incoming(value, body)
        ends.append(end)
    return ends[0], ends[1:]


@literal_intrinsic
def multiply(
    _typing: Any, a: Any, row: Any, weights: Any, line: Any, count: Any, start: Any,
    out: Any, step: Any, lower: Any, upper: Any, rows: Any, vectors: Any, transposed: Any,
) -> Any:  # fmt: skip
    """Multiply a block of rows with a panel of ``count`` rows of ``vectors`` vectors, and store it.

    out[m, o] = clamp(start[o] + sum_k a[m, k] * weights[k, o]),  k < count, m < rows

    Rows of ``a`` are ``row`` bytes apart, of the panel ``line`` bytes, of ``out`` ``step`` bytes. If ``transposed``
    is 1, the product with the transpose of ``a`` is added to the output instead, without a clamp:

    out[m, o] += sum_k a[k, m] * weights[k, o]
    """
    tall, wide, down = rows.literal_value, vectors.literal_value, transposed.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, pitch, panel, across, depth, begun, target, far, lower_, upper_ = arguments[:10]

        def vectors_at(place: Any) -> list[Any]:
            places = [builder.gep(place, [_I64(v * LANES)]) for v in range(wide)]
            return [emit_read(builder, FLOAT32_PTR, p) for p in places]

        def line_of(place: Any, step_: Any, m: int) -> Any:
            return emit_shifted(builder, place, builder.mul(step_, _I64(m)))

        # The sums begin with the output itself, or with the bias.
        if down:
            first = [vectors_at(line_of(target, far, m)) for m in range(tall)]
        else:
            first = [vectors_at(begun)] * tall
            lines = [line_of(left, pitch, m) for m in range(tall)]
            for m in range(tall):
                place = line_of(target, far, m)
                for v in range(wide):
                    emit_prefetch_write(builder, builder.gep(place, [_I64(v * LANES)]))

        def products(k: Any, running: list[Any]) -> list[Any]:
            """Emit one step of the sum: `wide` loads of the panel, one broadcast value per row."""
            taken = vectors_at(emit_shifted(builder, panel, builder.mul(k, across)))
            column = emit_shifted(builder, left, builder.mul(k, pitch)) if down else None
            made = []
            for m in range(tall):
                place = builder.gep(column, [_I64(m)]) if down else builder.gep(lines[m], [k])
                value = emit_splat(builder, builder.load(place, align=4), LANES)
                made += [
                    emit_fma(builder, SINGLE, value, taken[v], running[m * wide + v])
                    for v in range(wide)
                ]
            return made

        sums = [value for line in first for value in line]  # tall * wide sums in registers
        k: Any = _I64(0)
        for unrolled in sorted({1, UNROLLED}, reverse=True):
            k, sums = emit_sum_loop(builder, k, depth, sums, unrolled, products)
        bounds = [emit_splat(builder, b, LANES) for b in (lower_, upper_)]
        for m, v in [(m, v) for m in range(tall) for v in range(wide)]:
            value = sums[m * wide + v]
            value = value if down else emit_between(builder, value, *bounds)
            place = builder.gep(line_of(target, far, m), [_I64(v * LANES)])
            emit_write(builder, out, value, place)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    given = (a, i64, weights, i64, i64, start, out, i64, f32, f32, rows, vectors, transposed)
    return types.none(*given), emit
