"""The order of tiles in a sweep of whole-line filters: which one is loaded, filtered and stored when.

Nothing here touches a sample; the stages do, called by their addresses.  Along a band tiles go from left to right:
each is loaded, filtered along y and transposed; the transposed buffer slides, so that the columns which the next
run needs too are not computed twice.  Filters run in place: a strip, or a run of the transposed buffer, is input
first and output afterwards.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .jit import inline, part, stage
from .numba_api import without_literals
from .simd import LINE_VECTORS
from .sweep_loop import find_rows, load_columns, slide
from .sweep_params import invoke, larger, params_at, smaller


@without_literals
@part
def _load(params_address, scratch, first, columns, rows):
    """Load a tile and filter its strips along y; ``rows`` counts rows of output."""
    params = params_at(params_address)
    strips, forward = scratch + params.at_strips, scratch + params.at_line
    rows_in = rows + larger(params.y_taps, 1) - 1
    load_columns(params_address, strips, scratch + params.at_rows, first, columns, rows_in)
    if params.y_taps > 0:
        # Lines are the lanes of strip[g][row]: `load_strip` elements apart, a step of `lanes` along each.
        count, step = (columns + params.lanes - 1) // params.lanes, params.lanes
        invoke(
            params.y_filter,
            (
                strips, forward, params.load_strip, step, count, 1, rows, params.y_taps,
                params.y_filter_data,
            ),
        )  # fmt: skip


@without_literals
@part
def _prepare(params_address, scratch, first, position, columns, rows):
    """Fill ``columns`` columns of the transposed buffer from ``position`` on with flat columns from ``first`` on."""
    params = params_at(params_address)
    groups = (rows + params.lanes - 1) // params.lanes
    strips = scratch + params.at_strips
    for f in range(0, columns, params.tile):
        wide = smaller(params.tile, columns - f)
        _load(params_address, scratch, first + f, wide, rows)
        place = (position + f) * params.lanes * params.work_item
        count = (wide + params.lanes - 1) // params.lanes
        invoke(
            params.transpose_strips,
            (params_address, strips, scratch + params.at_across + place, groups, count),
        )


@without_literals
@part
def _filter_rows(params_address, scratch, position, columns, rows):
    """Filter along x in place, from column ``position`` of the transposed buffer on."""
    params = params_at(params_address)
    # across[group of rows][column][lane]: each group holds `lanes` rows; channels are lines of their own,
    # whose positions lie `channels` vectors apart.
    column = params.lanes * params.work_item
    groups = (rows + params.lanes - 1) // params.lanes
    place = scratch + params.at_across + position * column
    forward, line_step = scratch + params.at_line, params.across_width * params.lanes
    invoke(
        params.x_filter,
        (
            place, forward, line_step, params.lanes, groups, params.channels,
            columns // params.channels, params.x_taps, params.x_filter_data,
        ),
    )  # fmt: skip


@without_literals
@inline
def _store_until(params, start, stored, done, columns):
    """Return the column up to which ``stored`` to ``done`` can be stored.

    First up to an aligned address, then in whole vectors; the rest waits for its neighbours.
    """
    size = params.lanes
    skew = (start + stored - params.unaligned_prefix) % size
    if skew > 0:
        return smaller(done, stored + size - skew)
    return stored + (done - stored) // size * size if done < columns else done


@stage
def band_along(params_address, scratch, source, target, top, rows, start, columns):
    """Filter a band along x, and before that along y if that axis is filtered."""
    params = params_at(params_address)
    row = target + top * params.y_target
    find_rows(params, scratch + params.at_rows, source, top, rows + larger(params.y_taps, 1) - 1)
    column, size = params.lanes * params.work_item, params.lanes
    first = start - params.x_reach
    # The buffer begins with room for `size` columns of output that wait for their neighbours.
    _prepare(params_address, scratch, first, size, params.halo, rows)
    done, stored, position = 0, 0, size
    # `done` columns are filtered along x, `stored` of them are in the result; the run in work is at `position`.
    while done < columns:
        # Step 1: make room, keeping what waits to be stored and the halo.
        wide = smaller(params.run, columns - done)
        if position + wide > params.slide_after:
            slide(params, scratch, rows, position - size, size + params.halo)
            position = size
        # Step 2: load what the halo does not hold yet, then filter the run along x.
        fresh = (wide + size - 1) // size * size
        _prepare(
            params_address, scratch, first + params.halo + done, position + params.halo, fresh, rows
        )
        _filter_rows(params_address, scratch, position + params.x_phase, wide, rows)
        done += wide
        # Step 3: store whole vectors.
        while stored < done:
            stop = _store_until(params, start, stored, done, columns)
            if stop <= stored:
                break
            oldest = position + params.x_phase + params.x_shift - (done - wide - stored)
            across = scratch + params.at_across + oldest * column
            invoke(
                params.store_across,
                (
                    params_address, across, scratch + params.at_temp, 0, row, params.y_target,
                    start + stored, stop - stored, rows,
                ),
            )  # fmt: skip
            stored = stop
        position += wide


@stage
def band_down(params_address, scratch, source, target, top, rows, start, columns):
    """Filter a band along y only."""
    params = params_at(params_address)
    row = target + top * params.y_target
    find_rows(params, scratch + params.at_rows, source, top, rows + larger(params.y_taps, 1) - 1)
    strips, temp = scratch + params.at_strips, scratch + params.at_temp
    # Tiles are independent.  The first one ends where the result is aligned.
    done = 0
    while done < columns:
        wide = smaller(params.tile, columns - done)
        line = params.lanes * LINE_VECTORS
        skew = (start + done - params.unaligned_prefix) % line
        if skew > 0:
            wide = smaller(wide, line - skew)
        _load(params_address, scratch, start + done, wide, rows)
        invoke(
            params.store_strips,
            (params_address, strips, temp, 0, row, params.y_target, start + done, wide, rows),
        )
        done += wide
