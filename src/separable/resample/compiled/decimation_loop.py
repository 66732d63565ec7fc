"""The order of work in a decimating sweep: which rows are summed when, and where results are stored.

A work item is a block of rows and columns of the result, in one or several planes of it that follow each other.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.numba_api import without_literals
from separable.engine.compiled.simd import LINE_BYTES, fence
from separable.engine.compiled.sweep_loop import round_up
from separable.engine.compiled.sweep_params import (
    invoke,
    larger,
    set_word,
    smaller,
    word,
)
from separable.engine.compiled.work_items import next_work_item

from .band_kernels import batch_offset
from .band_record import SPAN_FIRST, SPAN_SAMPLE, SPAN_START, SPAN_STOP, SPAN_WORDS
from .decimation_record import decimation_at

MOST_AHEAD = 32
"""Rows that are prefetched together, at most."""


@without_literals
@inline
def _find_rows(table, samples, start, taps, base, step):
    """Write the addresses of the rows that an output reads, 0 for the constant value outside; return how many it reads."""
    inside = 0
    for j in range(taps):
        sample = word(samples, start + j)
        set_word(table, j, base + sample * step if sample >= 0 else 0)
        inside += 1 if sample >= 0 else 0
    return inside


@without_literals
@inline
def first_aligned(params, address):
    """Return the first sample behind an address that begins a cache line, where samples are as wide as numbers in work."""
    if params.source_item != params.work_item or params.y_source_step % LINE_BYTES != 0:
        return 0
    return (LINE_BYTES - address % LINE_BYTES) % LINE_BYTES // params.source_item % params.lanes


@without_literals
@inline
def _sum(
    params_address, stages, line, table, weights, taps, count, inside, ahead, rows, distance, aligned
):  # fmt: skip
    """Sum the rows at ``table`` by the stage for few rows, if there is one and all lie in the image, or by the general one."""
    few, general = stages
    if few != 0 and inside == taps:
        invoke(
            few,
            (
                params_address, 0, line, 0, table, weights, count, ahead, rows, distance, general,
                aligned,
            ),
        )  # fmt: skip
    else:
        invoke(
            general, (params_address, 0, line, table, weights, taps, count, ahead, rows, distance)
        )


@without_literals
@part
def _fill_row(params_address, table, rows, base, plane, position, count):
    """Put a row of the image, or the sum of rows along z, into the buffer; ``rows`` is the address of this row."""
    params = decimation_at(params_address)
    row = base + word(params.y_samples, position) * params.y_source_step
    stages = (params.fill_few, params.fill)
    if params.z_taps == 0:
        set_word(table, 0, row)
        _sum(
            params_address, stages, rows, table, params.one, 1, count, 1, table, 0, 0, 0,
        )  # fmt: skip
        return
    start, weights = word(params.z_starts, plane), params.z_weights
    weights += plane * params.z_taps * params.work_item
    inside = _find_rows(table, params.z_samples, start, params.z_taps, row, params.z_source_step)
    _sum(params_address, stages, rows, table, weights, params.z_taps, count, inside, table, 0, 0, 0)


@without_literals
@inline
def _find_ahead(params, ahead, source, plane, start, stop):
    """Write the addresses of the image rows at positions ``start`` to ``stop`` along y; return how many there are."""
    rows = 0
    for position in range(start, stop):
        sample = word(params.y_samples, position)
        if sample < 0:
            continue
        row = source + sample * params.y_source_step
        if params.z_taps == 0 and rows < MOST_AHEAD:
            set_word(ahead, rows, row)
            rows += 1
        for j in range(params.z_taps):
            deep = word(params.z_samples, word(params.z_starts, plane) + j)
            if deep >= 0 and rows < MOST_AHEAD:
                set_word(ahead, rows, row + deep * params.z_source_step)
                rows += 1
    return rows


@without_literals
@part
def _fill_buffer(params_address, scratch, source, plane, start, stop, count):
    """Fill the slots of the buffer for the positions ``start`` to ``stop`` along y."""
    params = decimation_at(params_address)
    table, rows = scratch + params.at_table, scratch + params.at_rows
    for position in range(start, stop):
        if word(params.y_samples, position) >= 0:
            row = rows + position % params.slots * params.pitch
            _fill_row(params_address, table, row, source, plane, position, count)


@without_literals
@inline
def _find_slots(params, scratch, start, count):
    """Write the addresses of ``count`` rows of the buffer, 0 for the constant; return how many are not constant."""
    table, known = scratch + params.at_table, 0
    for j in range(count):
        inner = word(params.y_samples, start + j) >= 0
        row = scratch + params.at_rows + (start + j) % params.slots * params.pitch
        set_word(table, j, row if inner else 0)
        known += 1 if inner else 0
    return known


@without_literals
@part
def _finish(params_address, scratch, line, span, place):
    """Extend a line by its border and compute a row of the result from it."""
    params = decimation_at(params_address)
    chunk = (span - params.x_spans) // (SPAN_WORDS * 8)
    start, stop = chunk * params.x_block, smaller((chunk + 1) * params.x_block, params.x_outputs)
    invoke(params.extend, (params_address, line, span))
    temp = scratch + params.at_temp
    first = word(span, SPAN_FIRST)
    invoke(params.finish, (params_address, line, 0, 0, temp, place, first, start, stop))


@without_literals
@part
def _plane_block(params_address, scratch, source, target, plane, block, span):
    """Compute a block of rows of one plane, within one block of columns.

    ``source`` is the address of sample 0 along y of the first column that is read, ``target`` that of row 0.
    """
    params = decimation_at(params_address)
    table, ahead = scratch + params.at_table, scratch + params.at_ahead
    channels, taps = params.channels, params.y_taps
    count = (word(span, SPAN_STOP) - word(span, SPAN_START)) * channels
    # Vectors of the line are aligned where those of the image are; the border lies before them.
    left = (word(span, SPAN_START) - word(span, SPAN_FIRST)) * channels
    aligned = 0 if params.buffered else first_aligned(params, source)
    inside = scratch + params.at_line
    inside += (round_up(left, params.lanes) + params.lanes - aligned) * params.work_item
    line, filled = inside - left * params.work_item, word(params.y_starts, block * params.y_block)
    stop = smaller((block + 1) * params.y_block, params.y_outputs)
    i = block * params.y_block
    while i < stop:
        begin = word(params.y_starts, i)
        pair = params.pairs != 0 and i + 1 < stop
        step = word(params.y_starts, i + 1) - begin if pair else 0
        # Step 1: the rows that this output reads, and the next one.
        end = begin + taps + step
        if params.buffered:
            filled = larger(filled, begin)
            _fill_buffer(params_address, scratch, source, plane, filled, end, count)
            filled = larger(filled, end)
            known = _find_slots(params, scratch, begin, taps + step)
        else:
            known = _find_rows(table, params.y_samples, begin, taps, source, params.y_source_step)
        # Step 2: their sums, while what comes next is prefetched.
        following = smaller(i + (3 if pair else 1), stop - 1)
        more = word(params.y_starts, following) + taps
        ahead_rows = _find_ahead(params, ahead, source, plane, end, larger(more, end))
        weights = params.y_weights + i * taps * params.work_item
        place = target + i * params.y_target_step
        if pair and known == taps + step:
            second = inside + params.line_size
            invoke(
                params.combine_pairs,
                (
                    params_address, inside, second, table, weights,
                    weights + taps * params.work_item, taps, step, count, ahead, ahead_rows,
                ),
            )  # fmt: skip
            _finish(params_address, scratch, line, span, place)
            place += params.y_target_step
            _finish(params_address, scratch, line + params.line_size, span, place)
            i += 2
            continue
        if pair:
            known = _find_slots(params, scratch, begin, taps)
        _sum(
            params_address, (params.combine_few, params.combine), inside, table, weights, taps,
            count, known, ahead, ahead_rows, 0, aligned,
        )  # fmt: skip
        _finish(params_address, scratch, line, span, place)
        i += 1


@stage
def items_decimated(params_address, counter, worker):
    """Take blocks of the result until none is left."""
    params = decimation_at(params_address)
    scratch = params.scratch + worker * params.scratch_size
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        # item = ((batch element * y_blocks + y block) * x_blocks + x block) * z_blocks + z block
        z, rest = item % params.z_blocks, item // params.z_blocks
        x, rest = rest % params.x_blocks, rest // params.x_blocks
        block, batch = rest % params.y_blocks, rest // params.y_blocks
        span = params.x_spans + x * SPAN_WORDS * 8
        source = params.source + batch_offset(params, batch, 1)
        source += word(span, SPAN_SAMPLE) * params.channels * params.source_item
        target = params.target + batch_offset(params, batch, 2)
        for plane in range(z * params.z_block, smaller((z + 1) * params.z_block, params.z_outputs)):
            place = target + plane * params.z_target_step
            _plane_block(params_address, scratch, source, place, plane, block, span)
        item = next_work_item(counter, params.items, worker)
    if params.stream:
        fence()
