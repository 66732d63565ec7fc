"""The schedule of whole-line filters: which tile is loaded, filtered and stored when.

Nothing here touches a sample.  An item of work is a band of rows in a chunk of columns of one batch
element.  Along a band tiles go from left to right: each is loaded, filtered down its columns and turned; the
transposed buffer slides, so that the columns which the next tile needs too are not computed twice.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .jit import part, stage
from .numba_api import without_literals
from .sweep_loop import find_rows, load_columns, slide
from .sweep_params import invoke, least, most, plan_at


@without_literals
@part
def _load(plan_address, scratch, first, columns, rows):
    """Load a few strips and filter them along y; ``rows`` are those of the output."""
    plan = plan_at(plan_address)
    strips, extra = scratch + plan.at_strips, scratch + plan.at_line
    rows_in = rows + most(plan.y_taps, 1) - 1
    load_columns(plan_address, strips, scratch + plan.at_rows, first, columns, rows_in)
    if plan.y_taps > 0:
        # Lines are the lanes of strip[g][row]: `load_strip` elements apart, a step of `lanes` along each.
        count, step = (columns + plan.lanes - 1) // plan.lanes, plan.lanes
        invoke(
            plan.y_filter,
            (
                strips, extra, plan.load_strip, step, count, 1, rows, plan.y_taps,
                plan.y_filter_data,
            ),
        )  # fmt: skip


@without_literals
@part
def _prepare(plan_address, scratch, first, position, columns, rows):
    """Fill columns of the transposed buffer from ``position`` on."""
    plan = plan_at(plan_address)
    groups = (rows + plan.lanes - 1) // plan.lanes
    strips = scratch + plan.at_strips
    for f in range(0, columns, plan.tile):
        wide = least(plan.tile, columns - f)
        _load(plan_address, scratch, first + f, wide, rows)
        place = (position + f) * plan.lanes * plan.work_item
        count = (wide + plan.lanes - 1) // plan.lanes
        invoke(
            plan.transpose_strips,
            (plan_address, strips, scratch + plan.at_across + place, groups, count),
        )


@without_literals
@part
def _filter_rows(plan_address, scratch, position, columns, rows):
    """Filter along x in place, from column ``position`` of the transposed buffer on."""
    plan = plan_at(plan_address)
    column = plan.lanes * plan.work_item
    groups = (rows + plan.lanes - 1) // plan.lanes
    place = scratch + plan.at_across + position * column
    extra, far = scratch + plan.at_line, plan.across_width * plan.lanes
    invoke(
        plan.x_filter,
        (
            place, extra, far, plan.lanes, groups, plan.channels,
            columns // plan.channels, plan.x_taps, plan.x_filter_data,
        ),
    )  # fmt: skip


@stage
def band_along(plan_address, scratch, source, target, top, rows, start, columns):
    """Filter a band along x, and before that along y if that axis is filtered."""
    plan = plan_at(plan_address)
    row = target + top * plan.y_target
    find_rows(plan, scratch + plan.at_rows, source, top, rows + most(plan.y_taps, 1) - 1)
    column, size = plan.lanes * plan.work_item, plan.lanes
    first = start - plan.x_reach
    # The buffer begins with room for `size` columns of output that wait for their neighbours.
    _prepare(plan_address, scratch, first, size, plan.halo, rows)
    done, stored, position = 0, 0, size
    while done < columns:
        wide = least(plan.run, columns - done)
        if position + wide > plan.slide_after:
            slide(plan, scratch, rows, position - size, size + plan.halo)
            position = size
        fresh = (wide + size - 1) // size * size
        _prepare(plan_address, scratch, first + plan.halo + done, position + plan.halo, fresh, rows)
        _filter_rows(plan_address, scratch, position + plan.x_phase, wide, rows)
        done += wide
        while stored < done:
            # First up to an aligned address, then in whole vectors; what is left over waits.
            skew = (start + stored - plan.unaligned_prefix) % size
            stop = done
            if skew > 0:
                stop = least(done, stored + size - skew)
            elif done < columns:
                stop = stored + (done - stored) // size * size
            if stop <= stored:
                break
            behind = position + plan.x_phase + plan.x_shift - (done - wide - stored)
            across = scratch + plan.at_across + behind * column
            invoke(
                plan.store_across,
                (
                    plan_address, across, scratch + plan.at_temp, 0, row, plan.y_target,
                    start + stored, stop - stored, rows,
                ),
            )  # fmt: skip
            stored = stop
        position += wide


@stage
def band_down(plan_address, scratch, source, target, top, rows, start, columns):
    """Filter a band along y only."""
    plan = plan_at(plan_address)
    row = target + top * plan.y_target
    find_rows(plan, scratch + plan.at_rows, source, top, rows + most(plan.y_taps, 1) - 1)
    strips, temp = scratch + plan.at_strips, scratch + plan.at_temp
    done = 0
    while done < columns:
        wide = least(plan.tile, columns - done)
        skew = (start + done - plan.unaligned_prefix) % plan.lanes
        if skew > 0:
            wide = least(wide, plan.lanes - skew)
        _load(plan_address, scratch, start + done, wide, rows)
        invoke(
            plan.store_strips,
            (plan_address, strips, temp, 0, row, plan.y_target, start + done, wide, rows),
        )
        done += wide
