"""Means of blocks of 2x2 samples: one reading of the image, without the line that other sweeps put in between.

Floats are summed as in :mod:`.decimation_loop`, so their bits are the same: ``0.5 (0.5 a + 0.5 b) + 0.5 (0.5 c + 0.5 d)``, a
above b. Integers of 8 and 16 bits stay whole numbers: with the sum s of four samples the mean, rounded half to even, is
``(s + 1 + (s / 4 odd)) >> 2``.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.dtype_conversion import load_scalar_as, store_scalar_as
from separable.engine.compiled.jit import inline, intrinsic, stage
from separable.engine.compiled.load_store import item_of
from separable.engine.compiled.numba_api import types, without_literals
from separable.engine.compiled.simd import (
    VECTOR_BYTES,
    Vec,
    at,
    emit_fma,
    emit_load,
    emit_shuffle,
    fence,
    load_scalar,
    store_any,
    store_stream,
)
from separable.engine.compiled.sweep_params import invoke, smaller, word
from separable.engine.compiled.work_items import next_work_item

from .band_kernels import batch_offset
from .decimation_record import decimation_at
from .few_taps import fma_number


def _outputs(element: Any) -> Vec:
    return Vec(element, VECTOR_BYTES * 8 // element.bitwidth)


@intrinsic
def _outputs_of(_typing: Any, source: Any) -> Any:
    """Return how many outputs `_means` computes together."""
    count = _outputs(source.dtype).lanes

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(count)

    return types.int64(source), emit


@intrinsic
def _means(_typing: Any, upper: Any, lower: Any) -> Any:
    """Return a vector of means of two samples at ``upper`` and the two below them at ``lower``."""
    element = upper.dtype
    result = _outputs(element)
    pairs = Vec(element, 2 * result.lanes)
    emit_sums = _emit_float_means if element in (types.float32, types.float64) else _emit_whole

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rows = [emit_load(context, builder, pairs, row, 1) for row in arguments]
        return emit_sums(builder, rows, result)

    return result(upper, lower), emit


def _emit_float_means(builder: Any, rows: list[Any], result: Vec) -> Any:
    """Emit the means of floats: down the columns, then of neighbours."""
    count, wide = result.lanes, Vec(result.dtype, 2 * result.lanes)
    half = ir.Constant(rows[0].type, [0.5] * wide.lanes)
    columns = emit_fma(builder, wide, half, rows[1], builder.fmul(half, rows[0]))
    even, odd = (
        emit_shuffle(builder, columns, columns, list(range(k, 2 * count, 2))) for k in (0, 1)
    )
    half = ir.Constant(even.type, [0.5] * count)
    return emit_fma(builder, result, half, odd, builder.fmul(half, even))


def _emit_whole(builder: Any, rows: list[Any], result: Vec) -> Any:
    """Emit the means of integers: each pair of neighbours is one number of twice as many bits."""
    count, bits, signed = result.lanes, result.dtype.bitwidth, result.dtype.signed
    kind = ir.VectorType(ir.IntType(2 * bits), count)

    def number(value: int) -> Any:
        return ir.Constant(kind, [value] * count)

    shift = builder.ashr if signed else builder.lshr
    total: Any = None
    for row in rows:
        pair = builder.bitcast(row, kind)
        for one in (
            shift(builder.shl(pair, number(bits)), number(bits)),
            shift(pair, number(bits)),
        ):
            total = one if total is None else builder.add(total, one)
    quarter = builder.ashr(total, number(2))
    rounded = builder.add(total, builder.add(number(1), builder.and_(quarter, number(1))))
    narrow = ir.VectorType(ir.IntType(bits), count)
    return builder.trunc(builder.ashr(rounded, number(2)), narrow)


@without_literals
@inline
def _one_mean(params, source, target, like, rows, i):
    """Compute output ``i`` of a row; ``rows`` are the addresses of both rows of the image and of the result."""
    half = load_scalar(at(like, params.x_weights))
    total = half * 0
    for j in range(2):
        place = word(params.x_samples, word(params.x_starts, i) + j) * item_of(source)
        above = load_scalar_as(at(source, rows[0] + place), like)
        below = load_scalar_as(at(source, rows[1] + place), like)
        column = fma_number(half, below, half * above)
        total = fma_number(half, column, total)
    store_scalar_as(at(target, rows[2] + i * item_of(target)), total)


@without_literals
@inline
def _mean_row(params, source, target, like, rows):
    """Compute a row of the result; ``rows`` as for `_one_mean`."""
    step, whole = _outputs_of(source), params.regular_last
    stream = params.stream != 0 and rows[2] % VECTOR_BYTES == 0
    i = 0
    while i + step <= whole:
        upper = at(source, rows[0] + 2 * i * item_of(source))
        lower = at(source, rows[1] + 2 * i * item_of(source))
        place = at(target, rows[2] + i * item_of(target))
        if stream:
            store_stream(place, _means(upper, lower))
        else:
            store_any(place, _means(upper, lower))
        i += step
        if i < whole and i + step > whole and whole >= step:
            i, stream = whole - step, False  # the last vector overlaps the one before it
    for edge in range(i, params.x_outputs):
        _one_mean(params, source, target, like, rows, edge)


@stage
def mean_rows(params_address, source, target, like, base, place, start, stop):
    """Compute the rows ``start`` to ``stop - 1`` of a result at ``place`` from the image at ``base``."""
    params = decimation_at(params_address)
    for i in range(start, stop):
        position = word(params.y_starts, i)
        upper = base + word(params.y_samples, position) * params.y_source_step
        lower = base + word(params.y_samples, position + 1) * params.y_source_step
        rows = (upper, lower, place + i * params.y_target_step)
        _mean_row(params, source, target, like, rows)


@stage
def items_means(params_address, counter, worker):
    """Take blocks of rows until none is left."""
    params = decimation_at(params_address)
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        block, batch = item % params.y_blocks, item // params.y_blocks
        source = params.source + batch_offset(params, batch, 1)
        target = params.target + batch_offset(params, batch, 2)
        start = block * params.y_block
        stop = smaller(start + params.y_block, params.y_outputs)
        invoke(params.finish, (params_address, 0, 0, 0, source, target, start, stop))
        item = next_work_item(counter, params.items, worker)
    if params.stream:
        fence()
