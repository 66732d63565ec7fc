"""The arithmetic of a sweep: four stages, each specialised by the dtypes that it touches.

======================== =====================================================================
``load_tile``            rows of the image, converted, into strips one vector wide
``filter_columns``       the y pass down each strip, then transposed: vectors now run along y
``filter_rows``          the x pass, transposed back, rounded and stored
``finish_columns``       the y pass alone, rounded and stored
======================== =====================================================================

The z pass is in :mod:`.z_pass`.

Strips are ``strip[g][row][lane]``; the transposed buffer is ``across[term][group of rows][column][lane]``.
A border is nothing but a table of where rows and columns lie (0 or ``OUTSIDE``: the constant value).
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .dtype_conversion import load_as, peek_as, poke_as
from .fma_blocks import OUTPUTS, correlate, correlate_square, correlate_terms, zeros
from .jit import inline, inline_coded, intrinsic, part, stage
from .numba_api import types, without_literals
from .simd import (
    ahead,
    at,
    lanes_of,
    peek,
    poke,
    prefetch,
    splat,
    store,
)
from .sweep_params import OUTSIDE, invoke, least, most, plan_at, word
from .transpose import transpose
from .vector_blocks import load_block, store_block, store_rows, store_squares

_OUTSIDE = int(OUTSIDE)
_ROWS_AT_ONCE = 4
"""Rows of the next tile loaded at a time: fewer are many calls, more are not hidden by arithmetic."""


@intrinsic
def item_of(_typing: Any, like: Any) -> Any:
    """Return the size in bytes of an element of the pointer ``like``."""
    size = getattr(like.dtype, "bitwidth", 16) // 8

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(size)

    return types.int64(like), emit


# --- load -----------------------------------------------------------------------------------------


@without_literals
@inline_coded
def _gather(plan, source, row, column, strip):
    """Fill one vector with the samples of flat columns from ``column`` on, border included."""
    outside = peek(at(strip, plan.outside))
    for lane in range(lanes_of(strip)):
        flat = column + lane
        if flat < 0:
            offset = word(plan.left_table, flat + plan.x_reach)
        elif flat >= plan.x_flat:
            offset = word(plan.right_table, flat - plan.x_flat)
        else:
            position = flat // plan.channels
            offset = position * plan.x_source + (flat - position * plan.channels) * plan.c_source
        value = outside
        if offset != _OUTSIDE:
            value = peek_as(at(source, row + offset), strip)
        poke(ahead(strip, lane), value)


@stage
def load_tile(plan_address, source, strips, table, rows, first, count):
    """Load ``count`` strips of ``rows`` rows, the flat column ``first`` at lane 0 of strip 0.

    If the record says so, as many columns to the right of them are prefetched.
    """
    plan = plan_at(plan_address)
    size = lanes_of(strips)
    step = plan.load_strip
    outside = splat(strips, peek(at(strips, plan.outside)))
    # Strips that lie wholly inside the image, where its samples are neighbours in memory.
    start, stop = 0, 0
    if plan.source_dense:
        start = least(most(0, (size - 1 - first) // size), count)
        stop = most(start, least(count, (plan.x_flat - first) // size))
    for r in range(rows):
        row = word(table, r)
        here = ahead(strips, r * plan.load_row)
        if row == 0:
            for g in range(count):
                store(ahead(here, g * step), outside)
            continue
        samples = at(source, row + first * item_of(source))
        for g in range(start, stop):
            store(ahead(here, g * step), load_as(ahead(samples, g * size), strips))
        if plan.prefetch_right and stop == count:
            width = count * size * plan.source_item
            right = row + first * plan.source_item + width
            for offset in range(0, width, 64):
                prefetch(right + offset)
        for g in range(start):
            _gather(plan, source, row, first + g * size, ahead(here, g * step))
        for g in range(stop, count):
            _gather(plan, source, row, first + g * size, ahead(here, g * step))


# --- y, then turned --------------------------------------------------------------------------------


@without_literals
@inline_coded
def _ask(table, start, stop, offset):
    """Prefetch one line of each of some rows."""
    for r in range(start, stop):
        row = word(table, r)
        if row != 0:
            prefetch(row + offset)


@without_literals
@inline_coded
def _fetch(plan_address, spare, table, start, stop, first, count):
    """Load some rows of the next tile."""
    plan = plan_at(plan_address)
    if stop > start and count > 0:
        strips = spare + start * plan.load_row * plan.work_item
        invoke(plan.load, (plan_address, 0, strips, table + 8 * start, stop - start, first, count))


@without_literals
@inline_coded
def _ask_lines(table, lines, start, stop, offset):
    """Prefetch some of the cache lines of a tile that has ``lines`` of them in each row, row by row."""
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
    plan_address, strips, across, like, rows, position, count,
    spare, sources, wanted, later, coming, table, asked, ahead_by, lines,
):  # fmt: skip
    """Filter ``count`` strips along y and write them, transposed, from column ``position`` on.

    The type of the pointer ``like`` says of which kind the taps are.

    Meanwhile ``coming`` strips are loaded from the flat column ``later`` on of ``wanted`` rows, those of
    ``sources``, and ``lines`` cache lines are prefetched, ``ahead_by`` bytes further on, of each of the
    ``asked`` rows of ``table``.
    """
    plan = plan_at(plan_address)
    size = lanes_of(strips)
    height = most(size, OUTPUTS)
    groups = (rows + size - 1) // size
    step = plan.across_width * size
    taps = plan.y_taps
    blocks = (groups * size + height - 1) // height
    steps, at_step, loaded, prefetched, total = count * blocks, 0, 0, 0, asked * lines
    weights = at(like, plan.y_weights)
    terms = plan.y_terms if taps > 0 else 1
    for g in range(count):
        strip = ahead(strips, g * plan.load_strip)
        here = ahead(across, (position + g * size) * size)
        for t in range(terms):
            place = ahead(here, t * plan.groups * step)
            taken, kind = ahead(weights, t * taps), word(plan.y_kinds, t) if taps > 0 else 0
            for r in range(0, groups * size, height):
                if t == 0:
                    at_step += 1
                    until = at_step * total // steps
                    if until > prefetched:
                        _ask_lines(table, lines, prefetched, until, ahead_by)
                        prefetched = until
                    until = at_step * wanted // steps
                    if until >= loaded + _ROWS_AT_ONCE or at_step == steps:
                        _fetch(plan_address, spare, sources, loaded, until, later, coming)
                        loaded = until
                square = ahead(place, r // size * step)
                if taps == 0:
                    for k in range(0, height, size):
                        block = transpose(load_block(ahead(strip, (r + k) * size), size))
                        store_block(ahead(square, k // size * step), size, block)
                else:
                    block = correlate_square(ahead(strip, r * size), size, taken, taps, kind)
                    store_squares(square, step, transpose(block))


# --- x --------------------------------------------------------------------------------------------


@without_literals
@inline_coded
def _scatter(plan, target, row, column, count, values):
    """Store ``count`` samples one by one, wherever the flat columns from ``column`` on lie."""
    for lane in range(count):
        flat = column + lane
        position = flat // plan.channels
        offset = position * plan.x_target + (flat - position * plan.channels) * plan.c_target
        poke_as(at(target, row + offset), peek(ahead(values, lane)))


@without_literals
@part
def _along_one(across, line, columns, channels, weights, taps, kind):
    """Filter ``columns`` vectors along x into ``line``, with a single term."""
    size = lanes_of(line)
    stride = channels * size
    for f in range(0, columns, OUTPUTS * channels):
        for c in range(channels):
            place = (f + c) * size
            block = correlate(zeros(line), ahead(across, place), stride, weights, taps, kind)
            store_block(ahead(line, place), stride, block)


@without_literals
@part
def _along_many(plan_address, across, line, like, columns, first_term, last_term):
    """Filter ``columns`` vectors along x into ``line``, summing over terms."""
    plan = plan_at(plan_address)
    size = lanes_of(line)
    stride, term_step = plan.channels * size, plan.groups * plan.across_width * size
    for f in range(0, columns, OUTPUTS * plan.channels):
        for c in range(plan.channels):
            x, weights = ahead(across, (f + c) * size), at(like, plan.x_weights)
            block = correlate_terms(
                x, plan.x_from, term_step, stride, weights, plan.x_taps, plan.x_kinds,
                first_term, last_term,
            )  # fmt: skip
            store_block(ahead(line, (f + c) * size), stride, block)


@without_literals
@inline
def _along(plan_address, across, line, like, group, column, count, first_term, last_term):
    """Filter ``count`` vectors of one group of rows from ``column`` on along x into ``line``."""
    plan = plan_at(plan_address)
    size = lanes_of(line)
    here = ahead(across, (group * plan.across_width + plan.x_phase + column) * size)
    if last_term == first_term + 1:
        taps = plan.x_taps
        weights = ahead(at(like, plan.x_weights), first_term * taps)
        taken = word(plan.x_from, first_term)
        x = ahead(here, taken * plan.groups * plan.across_width * size)
        kind = word(plan.x_kinds, first_term)
        _along_one(x, line, count, plan.channels, weights, taps, kind)
    else:
        _along_many(plan_address, here, line, like, count, first_term, last_term)


@without_literals
@part
def put_part(plan_address, target, row, step, first, dense, rows, columns, values):
    """Store the upper left part of a block of vectors sample by sample."""
    plan = plan_at(plan_address)
    size = lanes_of(values)
    for r in range(rows):
        place = at(target, row + r * step + first * item_of(target))
        here = ahead(values, r * size)
        if dense:
            for lane in range(columns):
                poke_as(ahead(place, lane), peek(ahead(here, lane)))
        else:
            _scatter(plan, target, row + r * step, first, columns, here)


@without_literals
@inline
def put_whole(target, place, step, block, dense):
    """Store a block of vectors, past the cache if ``dense`` is 2."""
    if dense == 2:
        store_rows(target, place, step, block, True)
    else:
        store_rows(target, place, step, block, False)


@without_literals
@part
def _row_of_squares(x, columns, weights, taps, kind, target, place, step, pitch, dense):
    """Filter whole square blocks along x, a single term and channel, and store them."""
    size = lanes_of(x)
    for f in range(0, columns, size):
        block = correlate_square(ahead(x, f * size), size, weights, taps, kind)
        put_whole(target, place + f * pitch, step, transpose(block), dense)


@stage
def filter_rows(
    plan_address,
    across,
    line,
    temp,
    target,
    like,
    row,
    step,
    pitch,
    first,
    columns,
    rows,
    dense,
    terms,
):
    """Filter ``columns`` flat columns from ``first`` on along x and store them.

    The type of the pointer ``like`` says of which kind the taps are; ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows and ``pitch``
    those from a vector to the next over its lanes; ``dense`` is 0 for samples that are not neighbours, 2
    to bypass the cache; ``terms`` is ``first * 65536 + last``.
    """
    plan = plan_at(plan_address)
    size = lanes_of(line)
    run = plan.run
    single = (terms >> 16) + 1 == terms & 65535
    group = 0
    while group * size < rows:
        inside = least(size, rows - group * size)
        top = row + group * size * step
        whole = 0
        if dense and inside == size and size >= OUTPUTS and plan.channels == 1 and single:
            whole = columns // size * size
            weights = ahead(at(like, plan.x_weights), (terms >> 16) * plan.x_taps)
            column = word(plan.x_from, terms >> 16) * plan.groups + group
            x = ahead(across, (column * plan.across_width + plan.x_phase) * size)
            kind = word(plan.x_kinds, terms >> 16)
            place = top + first * pitch
            _row_of_squares(x, whole, weights, plan.x_taps, kind, target, place, step, pitch, dense)
        for start in range(whole, columns, run):
            count = least(run, columns - start)
            _along(
                plan_address, across, line, like, group, start, count, terms >> 16, terms & 65535
            )
            for f in range(start, least(start + run, columns), size):
                turned = ahead(line, (f - start) * size)
                wide = least(size, columns - f)
                block = transpose(load_block(turned, size))
                if dense and inside == size and wide == size:
                    put_whole(target, top + (first + f) * pitch, step, block, dense)
                else:
                    store_block(temp, size, block)
                    put_part(plan_address, target, top, step, first + f, dense, inside, wide, temp)
        group += 1


# --- y alone ---------------------------------------------------------------------------------------


@stage
def finish_columns(
    plan_address, strips, temp, target, like, row, step, pitch, first, columns, rows, dense, terms,
    table, asked, ahead_by,
):  # fmt: skip
    """Filter the strips along y and store them as :func:`filter_rows` does.

    Meanwhile the rows of ``table``, ``asked`` of them, are prefetched ``ahead_by`` bytes further on.
    """
    plan = plan_at(plan_address)
    size = lanes_of(temp)
    line = size * plan.source_item
    share = (asked * OUTPUTS + rows - 1) // rows
    taps = plan.y_taps
    for g in range((columns + size - 1) // size):
        strip = ahead(strips, g * plan.load_strip)
        begun = 0 if (g * line) % 64 == 0 else asked
        for r in range(0, rows, OUTPUTS):
            until = least(begun + share, asked)
            _ask(table, begun, until, ahead_by + g * line)
            begun = until
            x, weights = ahead(strip, r * size), at(like, plan.y_weights)
            block = correlate_terms(
                x, plan.y_kinds, 0, size, weights, taps, plan.y_kinds, terms >> 16, terms & 65535
            )
            inside, wide = least(rows - r, OUTPUTS), least(columns - g * size, size)
            top, left = row + r * step, first + g * size
            if dense and inside == OUTPUTS and wide == size:
                put_whole(target, top + left * pitch, step, block, dense)
            else:
                store_block(temp, size, block)
                put_part(plan_address, target, top, step, left, dense, inside, wide, temp)
