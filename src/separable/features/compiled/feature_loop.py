"""Work items of a sweep whose results are features: derivatives go into a tile of each thread, features leave.

The tile is ``tile[derivative][plane][row][column]``; the record's strides of the result are those of the tile.  When all
derivatives of a band (of a slab of planes) are in the tile, `_store_features` runs the stage that computes features
from them, row by row, into the result.  The table at ``params.feature_data`` is described in :mod:`.row_access`.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import part, stage
from separable.engine.compiled.numba_api import without_literals
from separable.engine.compiled.sweep_params import (
    ITEM_PLANE,
    invoke,
    params_at,
    set_word,
    smaller,
    word,
)
from separable.engine.compiled.tile_loop import fill_ring

from .row_access import CHUNK_STEP, COLUMN_STEP, PLANE_STEP, ROW, ROW_STEP, ROWS

__all__ = ["features_of_arrays", "features_of_band", "features_of_planes", "features_of_rows"]


@without_literals
@part
def _store_features(params_address, scratch, target, z, count, top, rows, start, columns):
    """Compute the features of the tile: ``count`` planes from ``z`` on, ``rows`` rows from ``top`` on."""
    params = params_at(params_address)
    data = params.feature_data
    function, planes, row_step = word(data, ROW), word(data, PLANE_STEP), word(data, ROW_STEP)
    target += start * word(data, COLUMN_STEP) + start // params.x_chunk * word(data, CHUNK_STEP)
    for p in range(count):
        for r in range(rows):
            tile = scratch + params.at_tile + p * params.z_target + r * params.y_target
            place = target + (z + p) * planes + (top + r) * row_step
            invoke(function, (params_address, scratch, 0, tile, place, columns))


@stage
def features_of_band(params_address, scratch, source, target, top, rows, start, columns):
    """Filter a band along y and x into the tile, and store its features."""
    params = params_at(params_address)
    # Bands count columns from the left end of a row; the tile begins at column `start`.
    row = scratch + params.at_tile - start * params.target_item
    invoke(
        params.band,
        (params_address, scratch, source, top, rows, start, columns, row, params.y_target, 0, 0, 0),
    )
    _store_features(params_address, scratch, target, 0, 1, top, rows, start, columns)


@stage
def features_of_planes(params_address, scratch, source, target, top, rows, start, columns):
    """Filter a band of all planes along y and x into the rings, along z into the tile, and store its features."""
    params = params_at(params_address)
    ring, temp, slots = (
        scratch + params.at_ring, scratch + params.at_temp, scratch + params.at_slots
    )  # fmt: skip
    reach = params.z_taps - 1
    place = scratch + params.at_tile - start * params.target_item
    have, z = 0, 0  # slots filled, planes completed; see `tile_loop.stream_planes`
    while z < params.z_size:
        count = smaller(params.z_slab, params.z_size - z)
        fill_ring(
            params_address, scratch, source, z, have, count + reach, top, rows, start, columns
        )
        set_word(scratch + params.at_item, ITEM_PLANE, z)
        kept = reach if z + count < params.z_size else 0
        for k in range(params.outputs):
            dropped = params.rings if k == params.outputs - 1 else 0
            invoke(
                params.finish_planes,
                (
                    params_address, ring, temp, 0, 0, place + word(params.out_at, k), start, columns, rows,
                    count, 1, word(params.out_terms, k), kept, dropped,
                ),
            )  # fmt: skip
        _store_features(params_address, scratch, target, z, count, top, rows, start, columns)
        for slot in range(kept):
            set_word(slots, slot, word(slots, slot + count))
        have = reach
        z += count


@stage
def features_of_arrays(params_address, scratch, source, target, top, rows, start, columns):
    """Compute features of derivatives that are arrays: a chunk of their flat samples."""
    params = params_at(params_address)
    data = params.feature_data
    target += start * word(data, COLUMN_STEP) + start // params.x_chunk * word(data, CHUNK_STEP)
    tile = source + start * params.target_item
    invoke(word(data, ROW), (params_address, scratch, 0, tile, target, columns))


@stage
def features_of_rows(params_address, scratch, source, target, top, rows, start, columns):
    """Compute features of derivatives that are arrays of planes: some of their rows."""
    params = params_at(params_address)
    data = params.feature_data
    function, height = word(data, ROW), word(data, ROWS)
    for r in range(rows):
        plane, row = (top + r) // height, (top + r) % height
        tile = source + plane * params.z_source + row * params.y_source
        place = target + plane * word(data, PLANE_STEP) + row * word(data, ROW_STEP)
        invoke(function, (params_address, scratch, 0, tile, place, columns))
