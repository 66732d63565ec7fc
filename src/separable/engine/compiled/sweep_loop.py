"""The loop over work items, and the steps that every sweep has in common.

An item of work is a band of rows in a chunk of columns of one batch element.  Threads take items from a shared
counter until none is left.  Nothing here touches a sample; the stages do, called by their addresses.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import numpy as np

from .jit import inline, part, stage
from .numba_api import without_literals
from .simd import fence
from .sweep_params import (
    ITEM_PLANE,
    ITEM_SOURCE,
    ITEM_TOP,
    invoke,
    move,
    params_at,
    set_word,
    smaller,
    word,
)
from .work_items import next_work_item


@without_literals
@inline
def round_up(number, step):
    """Return the smallest multiple of ``step`` that is not below ``number``."""
    return (number + step - 1) // step * step


@without_literals
@part
def find_rows(params, table, base, start, count):
    """Write the addresses of the rows that a band needs; 0 where a row lies outside the image.

    ``base`` is the address of row 0 and ``start`` the first row, counted in the extended image if y is filtered.
    """
    for r in range(count):
        index = start + r
        if params.y_taps > 0:
            index = word(params.y_map, index)
        set_word(table, r, base + index * params.y_source if index >= 0 else 0)


@without_literals
@part
def load_columns(params_address, strips, table, first, columns, rows):
    """Load a tile: ``columns`` flat columns from ``first`` on, of the ``rows`` rows of ``table``."""
    params = params_at(params_address)
    count = (columns + params.lanes - 1) // params.lanes
    invoke(params.load, (params_address, 0, strips, table, rows, first, count))


@without_literals
@part
def slide(params, scratch, rows, position, columns):
    """Move ``columns`` columns from ``position`` on to the start of the transposed buffer."""
    # across[term][group of rows][column][lane]: a move for each term and group.
    column = params.lanes * params.work_item
    groups = (rows + params.lanes - 1) // params.lanes
    for t in range(params.y_terms):
        for group in range(groups):
            row = (t * params.groups + group) * params.across_width * column
            start = scratch + params.at_across + row
            move(start, start + position * column, columns * column)


@without_literals
@inline
def _locate(params, item):
    """Return where an item lies: addresses of its batch element, its first row and flat column."""
    # item = (batch element * bands + band) * chunks + chunk
    chunk = item % params.x_chunks
    item //= params.x_chunks
    band = item % params.y_bands
    batch = item // params.y_bands
    source, target = params.source, params.target
    for d in range(params.batch_dims - 1, -1, -1):
        size = word(params.batch_table, d)
        index = batch % size
        batch //= size
        source += index * word(params.batch_table, params.batch_dims + d)
        target += index * word(params.batch_table, 2 * params.batch_dims + d)
    return source, target, band * params.y_band, chunk * params.x_chunk


@without_literals
@inline
def _note_item(params, scratch, source, top):
    """Note where an item begins, for sums that are done again."""
    set_word(scratch + params.at_item, ITEM_SOURCE, source)
    set_word(scratch + params.at_item, ITEM_TOP, top)
    set_word(scratch + params.at_item, ITEM_PLANE, 0)


@stage
def sweep_ahead(params_address, counter, worker):
    """Take and filter bands until none is left; each is taken one early, so that it can be prefetched."""
    params = params_at(params_address)
    scratch = params.scratch + worker * params.scratch_size
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        following = next_work_item(counter, params.items, worker)
        source, target, top, start = _locate(params, item)
        rows = smaller(params.y_band, params.y_size - top)
        columns = smaller(params.x_chunk, params.x_flat - start)
        _note_item(params, scratch, source, top)
        next_base, next_top = np.int64(0), np.int64(0)
        if following < params.items and params.x_chunks == 1:
            next_base, _, next_top, _ = _locate(params, following)
        row, step = target + top * params.y_target, params.y_target
        invoke(
            params.band,
            (
                params_address, scratch, source, top, rows, start, columns, row, step, 0,
                next_base, next_top,
            ),
        )  # fmt: skip
        item = following
    if params.stream:
        fence()


@stage
def sweep_items(params_address, counter, worker):
    """Take and filter items until none is left: bands of all planes, or of whole-line filters."""
    params = params_at(params_address)
    scratch = params.scratch + worker * params.scratch_size
    item = next_work_item(counter, params.items, worker)
    while item < params.items:
        source, target, top, start = _locate(params, item)
        rows = smaller(params.y_band, params.y_size - top)
        columns = smaller(params.x_chunk, params.x_flat - start)
        _note_item(params, scratch, source, top)
        invoke(params.item, (params_address, scratch, source, target, top, rows, start, columns))
        item = next_work_item(counter, params.items, worker)
    if params.stream:
        fence()
