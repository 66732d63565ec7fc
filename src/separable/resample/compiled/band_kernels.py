"""Banded passes: outputs of an axis as weighted sums of neighbouring samples, many lines at a time.

A tile is TILE_VECTORS vectors wide: as many lines are computed together. Its samples are loaded, converted and
written behind each other, ``strip[position][vector][lane]``, with the border in place, so that each output is a sum over
rows of the strip that begins at its own position:

    sums[i][line] = sum_j weights[i][j] * strip[starts[i] - first + j][line]

Between rows the lines of a tile are neighbours in memory.  Along rows they are rows of the image, which are
transposed in registers while they are loaded and transposed back while the results are stored.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.dtype_conversion import (
    emit_narrow,
    emit_widen,
    load_as,
    load_scalar_as,
    store_scalar_as,
)
from separable.engine.compiled.jit import (
    inline,
    intrinsic,
    literal_intrinsic,
    part,
    stage,
)
from separable.engine.compiled.load_store import item_of
from separable.engine.compiled.numba_api import cgutils, types, without_literals
from separable.engine.compiled.simd import (
    LINE_BYTES,
    VECTOR_BYTES,
    Vec,
    at,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    fence,
    lanes_of,
    load,
    load_scalar,
    mark_stream,
    native,
    offset_pointer,
    prefetch,
    splat,
    store,
    store_scalar,
)
from separable.engine.compiled.sweep_params import (
    invoke,
    set_word,
    smaller,
    word,
)
from separable.engine.compiled.transpose import transpose
from separable.engine.compiled.vector_blocks import (
    load_block,
    plus,
    store_block,
    store_rows,
    zero_vectors,
)
from separable.engine.compiled.work_items import next_work_item

from .band_record import (
    SPAN_FIRST,
    SPAN_LAST,
    SPAN_SAMPLE,
    SPAN_START,
    SPAN_STOP,
    SPAN_WORDS,
    band_at,
)

TILE_VECTORS = 8
"""Vectors of a tile: as many sums in turn keep the multiply-add units busy."""
STEPS = 16
"""Products of an output that are summed on their own, so that the rounding error does not grow with the taps."""


# --- sums -----------------------------------------------------------------------------------------


@intrinsic
def _add_products(_typing: Any, sums: Any, x: Any, weight: Any) -> Any:
    """Return ``sums[v] + weight * x[v]`` for the vectors that lie behind each other at ``x``."""
    vector = sums.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        totals = cgutils.unpack_tuple(builder, arguments[0], len(sums))
        factor = emit_splat(builder, builder.load(arguments[2]), vector.lanes)
        found = []
        for v, total in enumerate(totals):
            place = builder.gep(arguments[1], [ir.IntType(64)(v * vector.lanes)])
            value = emit_load(context, builder, vector, place, VECTOR_BYTES)
            found.append(emit_fma(builder, vector, factor, value, total))
        return context.make_tuple(builder, sums, found)

    return sums(sums, x, weight), emit


@without_literals
@inline
def _weighted(x, step, weights, taps):
    """Return the sums of ``taps`` rows of a strip, ``step`` elements apart, with their weights."""
    # total[v] = sum_j weights[j] * x[j * step + v], STEPS products at a time
    total = zero_vectors(x, 8)
    for start in range(0, taps, STEPS):
        sums = zero_vectors(x, 8)
        for j in range(start, smaller(start + STEPS, taps)):
            sums = _add_products(sums, offset_pointer(x, j * step), offset_pointer(weights, j))
        total = plus(total, sums)
    return total


@without_literals
@inline
def _fill(strip, value):
    """Fill a row of a strip with copies of a vector."""
    for v in range(TILE_VECTORS):
        store(offset_pointer(strip, v * lanes_of(strip)), value)


# --- between rows -----------------------------------------------------------------------------------


@stage
def load_between(params_address, source, strip, base, columns, block, ahead):
    """Load the rows that a block of outputs reads: ``columns`` samples of each from the address ``base`` on.

    ``ahead`` bytes to the right of them are prefetched, because the hardware does not follow rows that are left
    after a few cache lines.
    """
    params = band_at(params_address)
    size = lanes_of(strip)
    outside = splat(strip, load_scalar(at(strip, params.outside)))
    first = word(params.spans, block * SPAN_WORDS + SPAN_FIRST)
    last = word(params.spans, block * SPAN_WORDS + SPAN_LAST)
    whole = columns // size
    for position in range(first, last):
        row = offset_pointer(strip, (position - first) * TILE_VECTORS * size)
        sample = word(params.samples, position)
        if sample < 0:
            _fill(row, outside)
            continue
        # strip[position][column] = image[sample][column]
        samples = at(source, base + sample * params.source_step)
        right = base + sample * params.source_step + columns * params.source_item
        for offset in range(0, ahead, LINE_BYTES):
            prefetch(right + offset)
        if whole == TILE_VECTORS:
            for v in range(TILE_VECTORS):
                store(
                    offset_pointer(row, v * size), load_as(offset_pointer(samples, v * size), strip)
                )
            continue
        for v in range(whole):
            store(offset_pointer(row, v * size), load_as(offset_pointer(samples, v * size), strip))
        for column in range(whole * size, columns):
            store_scalar(
                offset_pointer(row, column), load_scalar_as(offset_pointer(samples, column), strip)
            )


@stage
def sum_between(params_address, strip, target, temp, base, columns, block):
    """Compute a block of outputs from a strip and store ``columns`` samples of each from ``base`` on."""
    params = band_at(params_address)
    size = lanes_of(strip)
    row = TILE_VECTORS * size
    first = word(params.spans, block * SPAN_WORDS + SPAN_FIRST)
    taps, stream = params.taps, params.stream
    start = block * params.block
    step = size * item_of(target)
    base -= params.first_block * params.block * params.target_step
    for i in range(start, smaller(start + params.block, params.outputs)):
        x = offset_pointer(strip, (word(params.starts, i) - first) * row)
        weights = offset_pointer(at(strip, params.weights), i * taps)
        sums = _weighted(x, row, weights, taps)
        place = base + i * params.target_step
        if columns == row and stream:
            store_rows(target, place, step, sums, True)
        elif columns == row:
            store_rows(target, place, step, sums, False)
        else:
            store_block(temp, size, sums)
            for column in range(columns):
                value = load_scalar(offset_pointer(temp, column))
                store_scalar_as(offset_pointer(at(target, place), column), value)


@without_literals
@part
def batch_offset(params, batch, which):
    """Return the byte offset of a batch element in the image (``which`` 1) or in the result (2)."""
    offset = 0
    for d in range(params.batch_dims - 1, -1, -1):
        size = word(params.batch_table, d)
        offset += batch % size * word(params.batch_table, which * params.batch_dims + d)
        batch //= size
    return offset


@stage
def items_between(params_address, counter, worker):
    """Take tiles of a pass between rows until none is left."""
    params = band_at(params_address)
    scratch = params.scratch + worker * params.scratch_size
    strip, temp = scratch + params.at_strip, scratch + params.at_temp
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        # item = (batch element * blocks + block) * chunks + chunk
        chunk = item % params.tiles
        block = item // params.tiles % params.blocks + params.first_block
        batch = item // params.tiles // params.blocks
        source = params.source + batch_offset(params, batch, 1)
        target = params.target + batch_offset(params, batch, 2)
        stop = smaller((chunk + 1) * params.chunk_lines, params.lines)
        for start in range(chunk * params.chunk_lines, stop, params.tile_lines):
            columns = smaller(params.tile_lines, stop - start)
            ahead = smaller(params.tile_lines, stop - start - columns) * params.source_item
            base = source + start * params.source_item
            invoke(params.load, (params_address, 0, strip, base, columns, block, ahead))
            base = target + start * params.target_item
            invoke(params.sum, (params_address, strip, 0, temp, base, columns, block))
        item = next_work_item(counter, params.items, worker)
    if params.stream:
        fence()


# --- along rows -------------------------------------------------------------------------------------


@intrinsic
def _load_rows(_typing: Any, source: Any, table: Any, offset: Any, like: Any) -> Any:
    """Load one vector from each of as many rows as a vector has lanes, ``offset`` bytes from the addresses at ``table``."""
    vector = native(like.dtype)
    stored = Vec(source.dtype, vector.lanes)
    block = types.UniTuple(vector, vector.lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.args[0])
        rows = builder.inttoptr(arguments[1], ir.IntType(64).as_pointer())
        values = []
        for r in range(vector.lanes):
            address = builder.load(builder.gep(rows, [ir.IntType(64)(r)]))
            place = builder.inttoptr(builder.add(address, arguments[2]), kind)
            value = emit_load(context, builder, stored, place, 1)
            values.append(emit_widen(context, builder, value, source.dtype, vector))
        return context.make_tuple(builder, block, values)

    return block(source, types.int64, types.int64, like), emit


@without_literals
@inline
def _gather(source, table, offset, row):
    """Fill a row of a strip with the sample at ``offset`` of every row of the table."""
    for line in range(TILE_VECTORS * lanes_of(row)):
        value = load_scalar_as(at(source, word(table, line) + offset), row)
        store_scalar(offset_pointer(row, line), value)


@stage
def load_along(params_address, source, strip, table, vectors, block):
    """Load the positions that a block of outputs reads, of the rows whose addresses are at ``table``, transposed."""
    params = band_at(params_address)
    size, channels = lanes_of(strip), params.channels
    row, item = TILE_VECTORS * size, item_of(source)
    span = params.spans + block * SPAN_WORDS * 8
    first, last = word(span, SPAN_FIRST), word(span, SPAN_LAST)
    start, stop = word(span, SPAN_START), word(span, SPAN_STOP)
    # Step 1: positions `start` to `stop` hold neighbouring samples, which are transposed in square blocks.
    # strip[(position - first) * channels + c][line] = image[line][sample * channels + c]
    begin = word(span, SPAN_SAMPLE) * channels
    count = (stop - start) * channels
    inside = offset_pointer(strip, (start - first) * channels * row)
    # Few rows at a time, because the processor looks ahead in few of them.
    whole = smaller(count, (params.row_samples - begin) // size * size)
    for v in range(vectors):
        for f in range(0, whole, size):
            values = _load_rows(source, table + v * size * 8, (begin + f) * item, strip)
            place = offset_pointer(inside, f * row + v * size)
            store_block(place, row, transpose(values))
    for k in range((whole + size - 1) // size * size, count):
        _gather(source, table, (begin + k) * item, offset_pointer(inside, k * row))
    # Step 2: the border. A sample that was loaded is copied. The blocks of step 1 may have written beyond `stop`.
    outside = splat(strip, load_scalar(at(strip, params.outside)))
    for position in range(first, last):
        if start <= position and position < stop:
            continue
        sample = word(params.samples, position)
        here = offset_pointer(strip, (position - first) * channels * row)
        loaded = sample - word(span, SPAN_SAMPLE)
        for c in range(channels):
            place = offset_pointer(here, c * row)
            if sample < 0:
                _fill(place, outside)
            elif loaded >= 0 and loaded < stop - start:
                other = offset_pointer(inside, (loaded * channels + c) * row)
                for v in range(TILE_VECTORS):
                    store(offset_pointer(place, v * size), load(offset_pointer(other, v * size)))
            else:
                _gather(source, table, (sample * channels + c) * item, place)


@literal_intrinsic
def _store_rows_at(
    _typing: Any, target: Any, table: Any, offset: Any, rows: Any, stream: Any
) -> Any:
    """Store each vector of a square block ``offset`` bytes from one of the addresses at ``table``, rounded."""
    vector, past_cache = rows.dtype, bool(stream.literal_value)
    item = getattr(target.dtype, "bitwidth", 16) // 8

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.args[0])
        words = builder.inttoptr(arguments[1], ir.IntType(64).as_pointer())
        for r, value in enumerate(cgutils.unpack_tuple(builder, arguments[3], len(rows))):
            address = builder.load(builder.gep(words, [ir.IntType(64)(r)]))
            place = builder.inttoptr(builder.add(address, arguments[2]), kind)
            narrow = emit_narrow(builder, value, vector, target.dtype)
            instruction = emit_store(
                builder, narrow, place, vector.lanes * item if past_cache else 1
            )
            if past_cache:
                mark_stream(builder, instruction)
        return context.get_dummy_value()

    return types.none(target, types.int64, types.int64, rows, stream), emit


@stage
def sum_along(params_address, strip, sums, target, table, rows, block):
    """Compute a block of outputs from a strip, and store them in ``rows`` rows whose addresses are at ``table``."""
    params = band_at(params_address)
    size, channels, taps = lanes_of(strip), params.channels, params.taps
    row, item = TILE_VECTORS * size, item_of(target)
    first = word(params.spans, block * SPAN_WORDS + SPAN_FIRST)
    start = block * params.block
    stop = smaller(start + params.block, params.outputs)
    for i in range(start, stop):
        x = offset_pointer(strip, (word(params.starts, i) - first) * channels * row)
        weights = offset_pointer(at(strip, params.weights), i * taps)
        for c in range(channels):
            found = _weighted(offset_pointer(x, c * row), channels * row, weights, taps)
            store_block(offset_pointer(sums, ((i - start) * channels + c) * row), size, found)
    # target[line][begin + f] = sums[f][line], in square blocks
    count = (stop - start) * channels
    begin = (start - params.first_block * params.block) * channels
    for v in range((rows + size - 1) // size):
        lines = smaller(size, rows - v * size)
        for f in range(0, count, size):
            place = offset_pointer(sums, f * row + v * size)
            offset = (begin + f) * item
            if lines == size and f + size <= count:
                values = transpose(load_block(place, row))
                if params.stream:
                    _store_rows_at(target, table + v * size * 8, offset, values, True)
                else:
                    _store_rows_at(target, table + v * size * 8, offset, values, False)
                continue
            for k in range(smaller(size, count - f)):
                for line in range(lines):
                    value = load_scalar(offset_pointer(place, k * row + line))
                    address = word(table, v * size + line) + offset + k * item
                    store_scalar_as(at(target, address), value)


@stage
def items_along(params_address, counter, worker):
    """Take tiles of a pass along rows until none is left."""
    params = band_at(params_address)
    scratch = params.scratch + worker * params.scratch_size
    strip, sums = scratch + params.at_strip, scratch + params.at_sums
    table = scratch + params.at_rows
    item, known = next_work_item(counter, params.items, worker), -1
    while item < params.items:
        # item = tile * blocks + block
        block, tile = item % params.blocks + params.first_block, item // params.blocks
        rows = smaller(params.tile_lines, params.lines - tile * params.tile_lines)
        if tile != known:
            for line in range(params.tile_lines):
                # Lines that the image lacks repeat the last one, so that every address can be read.
                number = tile * params.tile_lines + smaller(line, rows - 1)
                set_word(table, line, params.source + batch_offset(params, number, 1))
                place = params.target + batch_offset(params, number, 2)
                set_word(table, params.tile_lines + line, place)
            known = tile
        vectors = (rows + params.lanes - 1) // params.lanes
        invoke(params.load, (params_address, 0, strip, table, vectors, block))
        targets = table + params.tile_lines * 8
        invoke(params.sum, (params_address, strip, sums, 0, targets, rows, block))
        item = next_work_item(counter, params.items, worker)
    if params.stream:
        fence()
