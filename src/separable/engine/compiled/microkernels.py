"""The arithmetic of a sweep of separable terms, specialised by the dtypes and the symmetry of the taps.

======================== =====================================================================
``filter_columns``       the y pass down each strip, then transposed: vectors now run along y
``filter_rows``          the x pass, transposed back, rounded and stored
``finish_columns``       the y pass alone, rounded and stored
======================== =====================================================================

Tiles are loaded by :mod:`.load_store`; the z pass is in :mod:`.z_pass`.

Strips are ``strip[g][row][lane]``; the transposed buffer is ``across[term][group of rows][column][lane]``.

Stages share some arguments: ``like`` is a null pointer whose type says of which kind the taps are; ``row`` is the
address of flat column 0 of the first row of the target, ``step`` the bytes between rows and ``pitch`` those between
flat columns; ``dense`` is 0 for samples that are not neighbours in memory, 2 to bypass the caches; ``terms`` is
``first * 65536 + last``.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .exact_rounding import round_exactly
from .fma_blocks import OUTPUTS, correlate, correlate_square, correlate_terms, zeros
from .jit import inline, inline_coded, part, stage
from .load_store import prefetch_rows_of, store_part, store_whole
from .numba_api import without_literals
from .simd import LINE_BYTES, LINE_VECTORS, at, lanes_of, offset_pointer, prefetch
from .sweep_params import invoke, larger, params_at, smaller, word
from .transpose import transpose
from .vector_blocks import load_block, store_block, store_squares

_ROWS_AT_ONCE = 4
"""Rows of the next tile loaded at a time: fewer are many calls, more are not hidden by arithmetic."""


# --- y, then transposed ----------------------------------------------------------------------------


@without_literals
@inline_coded
def _load_rows(params_address, spare, table, start, stop, first, count):
    """Load the rows ``start`` to ``stop`` of the next tile into the ``spare`` strips."""
    params = params_at(params_address)
    if stop > start and count > 0:
        strips = spare + start * params.load_row * params.work_item
        rows = stop - start
        invoke(params.load, (params_address, 0, strips, table + 8 * start, rows, first, count))


@without_literals
@inline_coded
def _prefetch_lines(table, lines, start, stop, offset):
    """Prefetch the cache lines ``start`` to ``stop`` of a tile that has ``lines`` of them in each row."""
    # Line number n is line n % lines of row n // lines.
    r = start // lines
    k = start - r * lines
    for _ in range(start, stop):
        row = word(table, r)
        if row != 0:
            prefetch(row + offset + k * 64)
        k += 1
        if k == lines:
            k = 0
            r += 1


@stage
def filter_columns(
    params_address, strips, across, like, rows, position, count,
    spare, next_table, next_rows, next_first, next_count, table, prefetch_rows, prefetch_offset, lines,
):  # fmt: skip
    """Filter ``count`` strips along y and write them, transposed, from column ``position`` on.

    Meanwhile ``next_count`` strips of the next tile are loaded into ``spare``, from the flat column ``next_first`` on of
    the ``next_rows`` rows of ``next_table``, and ``lines`` cache lines at ``prefetch_offset`` of each of the
    ``prefetch_rows`` rows of ``table`` are prefetched.
    """
    # across[t][q][position + g * size + i][j] = sum_k taps[t][k] * strip[g][q * size + j + k][i]
    params = params_at(params_address)
    size = lanes_of(strips)
    height, groups = larger(size, OUTPUTS), (rows + size - 1) // size
    step, taps = params.across_width * size, params.y_taps
    # Loads and prefetches are spread evenly over the blocks of all strips, so that arithmetic hides them.
    blocks = (groups * size + height - 1) // height
    steps, at_step, loaded, prefetched, total = count * blocks, 0, 0, 0, prefetch_rows * lines
    weights = at(like, params.y_weights)
    terms = params.y_terms if taps > 0 else 1
    for g in range(count):
        strip = offset_pointer(strips, g * params.load_strip)
        here = offset_pointer(across, (position + g * size) * size)
        for t in range(terms):
            place = offset_pointer(here, t * params.groups * step)
            taken = offset_pointer(weights, t * taps)
            kind = word(params.y_kinds, t) if taps > 0 else 0
            for r in range(0, groups * size, height):
                if t == 0:  # once per block, whatever the number of terms
                    at_step += 1
                    until = at_step * total // steps
                    if until > prefetched:
                        _prefetch_lines(table, lines, prefetched, until, prefetch_offset)
                        prefetched = until
                    until = at_step * next_rows // steps
                    if until >= loaded + _ROWS_AT_ONCE or at_step == steps:
                        _load_rows(
                            params_address, spare, next_table, loaded, until, next_first, next_count
                        )
                        loaded = until
                square = offset_pointer(place, r // size * step)
                if taps == 0:  # y is not filtered: transposed as it is
                    for k in range(0, height, size):
                        block = transpose(load_block(offset_pointer(strip, (r + k) * size), size))
                        store_block(offset_pointer(square, k // size * step), size, block)
                else:
                    block = correlate_square(
                        offset_pointer(strip, r * size), size, taken, taps, kind
                    )
                    store_squares(square, step, transpose(block))


# --- x --------------------------------------------------------------------------------------------


@without_literals
@part
def _filter_run_of_one(across, line, columns, channels, weights, taps, kind):
    """Filter ``columns`` vectors along x into ``line``, with a single term."""
    # line[f][lane] = sum_k taps[k] * across[f + k * channels][lane], OUTPUTS positions of a channel at a time
    size = lanes_of(line)
    stride = channels * size
    for f in range(0, columns, OUTPUTS * channels):
        for c in range(channels):
            place = (f + c) * size
            block = correlate(
                zeros(line), offset_pointer(across, place), stride, weights, taps, kind
            )
            store_block(offset_pointer(line, place), stride, block)


@without_literals
@part
def _filter_run_of_many(params_address, across, line, like, columns, first_term, last_term):
    """Filter ``columns`` vectors along x into ``line``, summing over terms."""
    # line[f][lane] = sum_t sum_k taps[t][k] * across[x_from[t]][f + k * channels][lane]
    params = params_at(params_address)
    size = lanes_of(line)
    stride, term_step = params.channels * size, params.groups * params.across_width * size
    for f in range(0, columns, OUTPUTS * params.channels):
        for c in range(params.channels):
            x, weights = offset_pointer(across, (f + c) * size), at(like, params.x_weights)
            block = correlate_terms(
                x, params.x_from, term_step, stride, weights, params.x_taps, params.x_kinds,
                first_term, last_term,
            )  # fmt: skip
            store_block(offset_pointer(line, (f + c) * size), stride, block)


@without_literals
@inline
def _filter_run(params_address, across, line, like, group, column, count, first_term, last_term):
    """Filter ``count`` vectors of one group of rows from ``column`` on along x into ``line``."""
    params = params_at(params_address)
    size = lanes_of(line)
    # Column 0 of the outputs reads from column `x_phase` on: the halo is whole vectors, the window is not.
    here = offset_pointer(across, (group * params.across_width + params.x_phase + column) * size)
    if last_term == first_term + 1:
        taps = params.x_taps
        weights = offset_pointer(at(like, params.x_weights), first_term * taps)
        taken = word(params.x_from, first_term)
        x = offset_pointer(here, taken * params.groups * params.across_width * size)
        kind = word(params.x_kinds, first_term)
        _filter_run_of_one(x, line, count, params.channels, weights, taps, kind)
    else:
        _filter_run_of_many(params_address, here, line, like, count, first_term, last_term)


@without_literals
@part
def _row_of_squares(
    params_address, temp, x, columns, weights, taps, kind, target, place, step, pitch, dense,
    first, row, terms,
):  # fmt: skip
    """Filter whole square blocks along x, a single term and channel, and store them from registers."""
    # target[j][f + i] = sum_k taps[k] * x[f + i + k][j] for a square of i and j
    size = lanes_of(x)
    for f in range(0, columns, size):
        block = correlate_square(offset_pointer(x, f * size), size, weights, taps, kind)
        block = round_exactly(
            params_address, temp, target, transpose(block), first + f, size, size, row, terms, 0
        )
        store_whole(target, place + f * pitch, step, block, dense)


@stage
def filter_rows(
    params_address, across, line, temp, target, like, row, step, pitch, first, columns, rows, dense, terms
):  # fmt: skip
    """Filter ``columns`` flat columns from ``first`` on along x and store ``rows`` rows of them.

    ``line`` and ``temp`` are buffers for a run and for a block that is stored in part.
    """
    params = params_at(params_address)
    size = lanes_of(line)
    run = params.run
    single = (terms >> 16) + 1 == terms & 65535
    group = 0
    while group * size < rows:
        inside = smaller(size, rows - group * size)
        top = row + group * size * step
        # Most columns of most images: square blocks go from registers to the target.
        whole = 0
        if dense and inside == size and size >= OUTPUTS and params.channels == 1 and single:
            whole = columns // size * size
            weights = offset_pointer(at(like, params.x_weights), (terms >> 16) * params.x_taps)
            column = word(params.x_from, terms >> 16) * params.groups + group
            x = offset_pointer(across, (column * params.across_width + params.x_phase) * size)
            kind = word(params.x_kinds, terms >> 16)
            place = top + first * pitch
            _row_of_squares(
                params_address, temp, x, whole, weights, params.x_taps, kind, target, place, step,
                pitch, dense, first, group * size, terms,
            )  # fmt: skip
        # All others go through `line`, a run at a time.
        for start in range(whole, columns, run):
            count = smaller(run, columns - start)
            _filter_run(
                params_address, across, line, like, group, start, count, terms >> 16, terms & 65535
            )
            for f in range(start, smaller(start + run, columns), size):
                turned = offset_pointer(line, (f - start) * size)
                wide = smaller(size, columns - f)
                block = transpose(load_block(turned, size))
                block = round_exactly(
                    params_address, temp, target, block, first + f, wide, inside, group * size,
                    terms, 0,
                )  # fmt: skip
                if dense and inside == size and wide == size:
                    store_whole(target, top + (first + f) * pitch, step, block, dense)
                else:
                    store_block(temp, size, block)
                    store_part(
                        params_address, target, top, step, first + f, dense, inside, wide, temp
                    )
        group += 1


# --- y alone ---------------------------------------------------------------------------------------


@stage
def finish_columns(
    params_address, strips, temp, target, like, row, step, pitch, first, columns, rows, dense, terms,
    table, prefetch_rows, prefetch_offset,
):  # fmt: skip
    """Filter the strips along y and store them as :func:`filter_rows` does.

    Meanwhile the ``prefetch_rows`` rows of ``table`` are prefetched at ``prefetch_offset``.
    """
    # target[r][first + g * size + lane] = sum_t sum_k taps[t][k] * strip[g][r + k][lane]: vectors run along the
    # columns, so nothing is transposed.
    params = params_at(params_address)
    size = lanes_of(temp)
    line = size * params.source_item
    share = (prefetch_rows * OUTPUTS + rows - 1) // rows
    taps, count = params.y_taps, (columns + size - 1) // size
    for begin in range(0, count, LINE_VECTORS):
        # One prefetch per row and cache line: strips that begin within a line have nothing to ask for.
        begun = 0 if (begin * line) % LINE_BYTES == 0 else prefetch_rows
        for r in range(0, rows, OUTPUTS):
            until = smaller(begun + share, prefetch_rows)
            prefetch_rows_of(table, begun, until, prefetch_offset + begin * line)
            begun = until
            inside, top = smaller(rows - r, OUTPUTS), row + r * step
            # The strips of a cache line of the result, one directly after the other.
            for g in range(begin, smaller(begin + LINE_VECTORS, count)):
                x = offset_pointer(strips, g * params.load_strip + r * size)
                # All terms read the same strip: the step between their sources is 0.
                block = correlate_terms(
                    x, params.y_kinds, 0, size, at(like, params.y_weights), taps, params.y_kinds,
                    terms >> 16, terms & 65535,
                )  # fmt: skip
                wide, left = smaller(columns - g * size, size), first + g * size
                block = round_exactly(
                    params_address, temp, target, block, left, wide, inside, r, terms, 0
                )
                if dense and inside == OUTPUTS and wide == size:
                    store_whole(target, top + left * pitch, step, block, dense)
                else:
                    store_block(temp, size, block)
                    store_part(params_address, target, top, step, left, dense, inside, wide, temp)
