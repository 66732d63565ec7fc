"""The order of work in a decimating sweep: which rows are summed when, and where results are stored.

A work item is a block of rows and columns of the result, in one or several planes of it that follow each other.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.numba_api import without_literals
from separable.engine.compiled.simd import LINE_BYTES, fence, prefetch
from separable.engine.compiled.sweep_loop import round_up
from separable.engine.compiled.sweep_params import (
    invoke,
    larger,
    next_work_item,
    set_word,
    smaller,
    word,
)

from .band_kernels import batch_offset
from .band_record import SPAN_FIRST, SPAN_SAMPLE, SPAN_START, SPAN_STOP, SPAN_WORDS
from .decimation_record import decimation_at

AHEAD_ROWS = 2
"""Rows of the image that are prefetched before they are needed."""

@without_literals
@inline
def _find_rows(table, samples, start, taps, base, step):
    """Write the addresses of the rows that an output reads, 0 for the constant value outside."""
    for j in range(taps):
        sample = word(samples, start + j)
        set_word(table, j, base + sample * step if sample >= 0 else 0)


@without_literals
@part
def _fill_row(params_address, table, rows, base, plane, position, count):
    """Put a row of the image, or the sum of rows along z, into the buffer; ``rows`` is the address of this row."""
    params = decimation_at(params_address)
    row = base + word(params.y_samples, position) * params.y_source_step
    if params.z_taps == 0:
        set_word(table, 0, row)
        for offset in range(0, count * params.source_item, LINE_BYTES):
            prefetch(row + AHEAD_ROWS * params.y_source_step + offset)
        invoke(params.fill, (params_address, 0, rows, table, params.one, 1, count))
        return
    start, weights = word(params.z_starts, plane), params.z_weights
    _find_rows(table, params.z_samples, start, params.z_taps, row, params.z_source_step)
    weights += plane * params.z_taps * params.work_item
    invoke(params.fill, (params_address, 0, rows, table, weights, params.z_taps, count))


@without_literals
@part
def _plane_block(params_address, scratch, source, target, plane, block, span):
    """Compute a block of rows of one plane, within one block of columns.

    ``source`` is the address of sample 0 along y of the first column that is read, ``target`` that of row 0.
    """
    params = decimation_at(params_address)
    table, rows = scratch + params.at_table, scratch + params.at_rows
    channels = params.channels
    count = (word(span, SPAN_STOP) - word(span, SPAN_START)) * channels
    first, chunk = word(span, SPAN_FIRST), (span - params.x_spans) // (SPAN_WORDS * 8)
    # The samples of the image lie at the beginning of a cache line, what is left of them before it.
    left = (word(span, SPAN_START) - first) * channels
    inside = scratch + params.at_line + round_up(left, params.lanes) * params.work_item
    line = inside - left * params.work_item
    start, stop = chunk * params.x_block, smaller((chunk + 1) * params.x_block, params.x_outputs)
    top = word(params.y_starts, block * params.y_block)
    filled = top
    for i in range(block * params.y_block, smaller((block + 1) * params.y_block, params.y_outputs)):
        begin = word(params.y_starts, i)
        if params.buffered:
            filled = larger(filled, begin)
            while filled < begin + params.y_taps:
                if word(params.y_samples, filled) >= 0:
                    row = rows + (filled - top) * params.pitch
                    _fill_row(params_address, table, row, source, plane, filled, count)
                filled += 1
            for j in range(params.y_taps):
                known = word(params.y_samples, begin + j) >= 0
                set_word(table, j, rows + (begin + j - top) * params.pitch if known else 0)
        else:
            _find_rows(table, params.y_samples, begin, params.y_taps, source, params.y_source_step)
        weights = params.y_weights + i * params.y_taps * params.work_item
        invoke(params.combine, (params_address, 0, inside, table, weights, params.y_taps, count))
        invoke(params.extend, (params_address, line, span))
        place = target + i * params.y_target_step
        invoke(
            params.finish,
            (params_address, line, 0, 0, scratch + params.at_temp, place, first, start, stop),
        )


@stage
def items_decimated(params_address, counter, worker):
    """Take blocks of the result until none is left."""
    params = decimation_at(params_address)
    scratch = params.scratch + worker * params.scratch_size
    item = next_work_item(counter)
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
        item = next_work_item(counter)
    if params.stream:
        fence()
