"""The order of tiles in a sweep with a dense kernel over three axes.

A work item is a band of rows in a chunk of columns of all planes.  It is filtered tile by tile, each through all planes:
the tiles of the ``z_taps`` planes that one output reads lie in slots, and each plane's tile is loaded once.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .jit import part, stage
from .numba_api import without_literals
from .sweep_loop import find_rows, load_columns
from .sweep_params import ITEM_PLANE, invoke, params_at, set_word, word
from .tile_loop import density, tile_width

__all__ = ["planes_direct"]


@without_literals
@part
def _find_plane_rows(params, table, source, position, top, rows):
    """Tabulate the rows of the plane at a position of the extended volume; return how many are inside the image."""
    sample = word(params.z_map, position)
    if sample < 0:
        for r in range(rows):
            set_word(table, r, 0)
        return 0
    find_rows(params, table, source + sample * params.z_source, top, rows)
    return rows


@stage
def planes_direct(params_address, scratch, source, target, top, rows, start, columns):
    """Filter a band of all planes with a dense kernel over three axes."""
    params = params_at(params_address)
    # planes[slot][row][column]: the plane at extended position p is in slot p % z_taps.
    planes, temp, table = (
        scratch + params.at_strips,
        scratch + params.at_temp,
        scratch + params.at_rows,
    )
    rows_in, taps = rows + params.y_taps - 1, params.z_taps
    done = 0
    while done < columns:
        wide = tile_width(params, params.halo + done, params.halo + columns, 0)
        at_column, dense = start - params.x_reach + done, density(params, done)
        # Only what lies inside the image has an address, so only there is the next plane prefetched.
        prefetched = params.source_dense == 1 and at_column >= 0
        for position in range(params.z_size + taps - 1):
            _find_plane_rows(params, table, source, position, top, rows_in)
            slot = planes + position % taps * params.plane_step * params.work_item
            load_columns(params_address, slot, table, at_column, wide + params.halo, rows_in)
            z = position - (taps - 1)
            if z >= 0:
                set_word(scratch + params.at_item, ITEM_PLANE, z)  # for sums that are done again
                next_rows = 0
                if prefetched and position + 1 < params.z_size + taps - 1:
                    next_rows = _find_plane_rows(params, table, source, position + 1, top, rows_in)
                # The first of the planes that this output reads is in slot z % z_taps.
                offsets = params.column_table + z % taps * params.kernel_columns * 8
                row = target + z * params.z_target + top * params.y_target
                invoke(
                    params.filter_direct,
                    (
                        params_address, planes, temp, 0, offsets, rows, row, params.y_target,
                        start + done, wide, dense, table, next_rows, at_column * params.source_item,
                    ),
                )  # fmt: skip
        done += wide
