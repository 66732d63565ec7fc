"""The schedule of whole-line filters: which tile is loaded, filtered and stored when.

Nothing here touches a sample.  An item of work is a band of rows in a chunk of columns of one batch
element.  Along a band tiles go from left to right: each is loaded, filtered down its columns and turned; the
transposed buffer slides, so that the columns which the next tile needs too are not computed twice.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .jit import part, stage
from .line_params import lines_at
from .numba_api import without_literals
from .simd import fence
from .sweep_params import claim, invoke, move, set_word, word


@without_literals
@part
def _find_rows(plan, table, base, start, count):
    """Write the addresses of the rows that a band needs; 0 where a row lies outside the image."""
    for r in range(count):
        index = start + r
        if plan.y_taps > 0:
            index = word(plan.y_map, index)
        set_word(table, r, base + index * plan.y_source if index >= 0 else 0)


@without_literals
@part
def _load(plan_address, scratch, first, columns, rows):
    """Load a few strips and filter them along y; ``rows`` are those of the output."""
    plan = lines_at(plan_address)
    strips, extra = scratch + plan.at_strips, scratch + plan.at_extra
    count = (columns + plan.lanes - 1) // plan.lanes
    rows_in = rows + max(plan.y_taps, 1) - 1
    invoke(plan.load, (plan_address, 0, strips, scratch + plan.at_rows, rows_in, first, count))
    if plan.y_taps > 0:
        step = plan.strip_rows * plan.lanes
        data = plan.y_filter_data
        invoke(plan.y_filter, (strips, extra, step, plan.lanes, count, 1, rows, plan.y_taps, data))


@without_literals
@part
def _prepare(plan_address, scratch, first, position, columns, rows):
    """Fill columns of the transposed buffer from ``position`` on."""
    plan = lines_at(plan_address)
    groups = (rows + plan.lanes - 1) // plan.lanes
    strips = scratch + plan.at_strips
    for f in range(0, columns, plan.strip_columns):
        wide = min(plan.strip_columns, columns - f)
        _load(plan_address, scratch, first + f, wide, rows)
        place = (position + f) * plan.lanes * plan.work_item
        count = (wide + plan.lanes - 1) // plan.lanes
        invoke(plan.turn, (plan_address, strips, scratch + plan.at_across + place, groups, count))


@without_literals
@part
def _slide(plan, scratch, rows, position, columns):
    """Move ``columns`` columns from ``position`` on to the start of the transposed buffer."""
    column = plan.lanes * plan.work_item
    for group in range((rows + plan.lanes - 1) // plan.lanes):
        start = scratch + plan.at_across + group * plan.across_width * column
        move(start, start + position * column, columns * column)


@without_literals
@part
def _filter_rows(plan_address, scratch, position, columns, rows):
    """Filter along x in place, from column ``position`` of the transposed buffer on."""
    plan = lines_at(plan_address)
    column = plan.lanes * plan.work_item
    groups = (rows + plan.lanes - 1) // plan.lanes
    place = scratch + plan.at_across + position * column
    extra, far = scratch + plan.at_extra, plan.across_width * plan.lanes
    invoke(
        plan.x_filter,
        (
            place, extra, far, plan.lanes, groups, plan.channels,
            columns // plan.channels, plan.x_taps, plan.x_filter_data,
        ),
    )  # fmt: skip


@without_literals
@part
def _band_along(plan_address, scratch, rows, start, columns, row):
    """Filter a band along x, and before that along y if that axis is filtered."""
    plan = lines_at(plan_address)
    column, size = plan.lanes * plan.work_item, plan.lanes
    first = start - plan.x_reach
    # The buffer begins with room for `size` columns of output that wait for their neighbours.
    _prepare(plan_address, scratch, first, size, plan.halo, rows)
    done, stored, position = 0, 0, size
    while done < columns:
        wide = min(plan.x_tile, columns - done)
        if position + wide > plan.stretch:
            _slide(plan, scratch, rows, position - size, size + plan.halo)
            position = size
        fresh = (wide + size - 1) // size * size
        _prepare(plan_address, scratch, first + plan.halo + done, position + plan.halo, fresh, rows)
        _filter_rows(plan_address, scratch, position + plan.x_phase, wide, rows)
        done += wide
        while stored < done:
            # First up to an aligned address, then in whole vectors; what is left over waits.
            skew = (start + stored - plan.lead) % size
            stop = done
            if skew > 0:
                stop = min(done, stored + size - skew)
            elif done < columns:
                stop = stored + (done - stored) // size * size
            if stop <= stored:
                break
            behind = position + plan.x_phase + plan.x_shift - (done - wide - stored)
            across = scratch + plan.at_across + behind * column
            invoke(
                plan.put,
                (
                    plan_address, across, scratch + plan.at_temp, 0, row, plan.y_target,
                    start + stored, stop - stored, rows,
                ),
            )  # fmt: skip
            stored = stop
        position += wide


@without_literals
@part
def _band_down(plan_address, scratch, rows, start, columns, row):
    """Filter a band along y only."""
    plan = lines_at(plan_address)
    strips, temp = scratch + plan.at_strips, scratch + plan.at_temp
    done = 0
    while done < columns:
        wide = min(plan.strip_columns, columns - done)
        skew = (start + done - plan.lead) % plan.lanes
        if skew > 0:
            wide = min(wide, plan.lanes - skew)
        _load(plan_address, scratch, start + done, wide, rows)
        invoke(
            plan.put_strips,
            (plan_address, strips, temp, 0, row, plan.y_target, start + done, wide, rows),
        )
        done += wide


@stage
def sweep_lines(plan_address, counter, worker):
    """Claim and filter items until none is left."""
    plan = lines_at(plan_address)
    scratch = plan.scratch + worker * plan.scratch_size
    while True:
        item = claim(counter)
        if item >= plan.items:
            break
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
        top, start = band * plan.y_band, chunk * plan.x_chunk
        rows = min(plan.y_band, plan.y_size - top)
        columns = min(plan.x_chunk, plan.x_flat - start)
        rows_in = rows + max(plan.y_taps, 1) - 1
        _find_rows(plan, scratch + plan.at_rows, source, top, rows_in)
        row = target + top * plan.y_target
        if plan.x_taps > 0:
            _band_along(plan_address, scratch, rows, start, columns, row)
        else:
            _band_down(plan_address, scratch, rows, start, columns, row)
    if plan.stream:
        fence()
