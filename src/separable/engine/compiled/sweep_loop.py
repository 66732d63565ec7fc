"""The loop over work items, and the steps that every sweep has in common.

An item of work is a band of rows in a chunk of columns of one batch element.  Threads take items from a shared
counter until none is left.  Nothing here touches a sample; the stages do, called by their addresses.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import numpy as np

from .jit import inline, part, stage
from .numba_api import without_literals
from .simd import fence
from .sweep_params import claim, invoke, least, move, plan_at, set_word, word


@without_literals
@inline
def round_up(number, step):
    """Return the smallest multiple of ``step`` that is not below ``number``."""
    return (number + step - 1) // step * step


@without_literals
@part
def find_rows(plan, table, base, start, count):
    """Write the addresses of the rows that a band needs; 0 where a row lies outside the image.

    ``base`` is the address of row 0 and ``start`` the first row, counted in the extended image if y is filtered.
    """
    for r in range(count):
        index = start + r
        if plan.y_taps > 0:
            index = word(plan.y_map, index)
        set_word(table, r, base + index * plan.y_source if index >= 0 else 0)


@without_literals
@part
def load_columns(plan_address, strips, table, first, columns, rows):
    """Load a tile: ``columns`` flat columns from ``first`` on, of the ``rows`` rows of ``table``."""
    plan = plan_at(plan_address)
    count = (columns + plan.lanes - 1) // plan.lanes
    invoke(plan.load, (plan_address, 0, strips, table, rows, first, count))


@without_literals
@part
def slide(plan, scratch, rows, position, columns):
    """Move ``columns`` columns from ``position`` on to the start of the transposed buffer."""
    # across[term][group of rows][column][lane]: a move for each term and group.
    column = plan.lanes * plan.work_item
    groups = (rows + plan.lanes - 1) // plan.lanes
    for t in range(plan.y_terms):
        for group in range(groups):
            row = (t * plan.groups + group) * plan.across_width * column
            start = scratch + plan.at_across + row
            move(start, start + position * column, columns * column)


@without_literals
@inline
def _locate(plan, item):
    """Return where an item lies: addresses of its batch element, its first row and flat column."""
    # item = (batch element * bands + band) * chunks + chunk
    chunk = item % plan.x_chunks
    item //= plan.x_chunks
    band = item % plan.y_bands
    batch = item // plan.y_bands
    source, target = plan.source, plan.target
    for d in range(plan.batch_dims - 1, -1, -1):
        size = word(plan.batch_table, d)
        index = batch % size
        batch //= size
        source += index * word(plan.batch_table, plan.batch_dims + d)
        target += index * word(plan.batch_table, 2 * plan.batch_dims + d)
    return source, target, band * plan.y_band, chunk * plan.x_chunk


@stage
def sweep_ahead(plan_address, counter, worker):
    """Take and filter bands until none is left; each is taken one early, so that it can be prefetched."""
    plan = plan_at(plan_address)
    scratch = plan.scratch + worker * plan.scratch_size
    item = claim(counter)
    while item < plan.items:
        following = claim(counter)
        source, target, top, start = _locate(plan, item)
        rows = least(plan.y_band, plan.y_size - top)
        columns = least(plan.x_chunk, plan.x_flat - start)
        next_base, next_top = np.int64(0), np.int64(0)
        if following < plan.items and plan.x_chunks == 1:
            next_base, _, next_top, _ = _locate(plan, following)
        row, step = target + top * plan.y_target, plan.y_target
        invoke(
            plan.band,
            (
                plan_address, scratch, source, top, rows, start, columns, row, step, 0,
                next_base, next_top,
            ),
        )  # fmt: skip
        item = following
    if plan.stream:
        fence()


@stage
def sweep_items(plan_address, counter, worker):
    """Take and filter items until none is left: bands of all planes, or of whole-line filters."""
    plan = plan_at(plan_address)
    scratch = plan.scratch + worker * plan.scratch_size
    item = claim(counter)
    while item < plan.items:
        source, target, top, start = _locate(plan, item)
        rows = least(plan.y_band, plan.y_size - top)
        columns = least(plan.x_chunk, plan.x_flat - start)
        invoke(plan.item, (plan_address, scratch, source, target, top, rows, start, columns))
        item = claim(counter)
    if plan.stream:
        fence()
