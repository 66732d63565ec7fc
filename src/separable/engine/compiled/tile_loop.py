"""The order of tiles in a sweep of separable terms: which one is loaded, filtered and stored when.

Nothing here touches a sample; the stages do, called by their addresses.  Within a work item:

- two axes: tiles go along the row.  The transposed buffer slides: its last ``halo`` columns, already
  filtered along y, are kept for the next tile, so that nothing is computed twice.
- three axes: planes are filtered along y and x into a ring, and the z pass runs down the ring.

All bands have one signature, because the record holds the address of the one that serves::

    band(params, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top)

``base`` is the address of the source plane; the band has ``rows`` rows from ``top`` on and ``columns`` flat columns
from ``start`` on.  ``row`` is the address of flat column 0 of its first row in the target, or in the rings if ``ring``
is 1, and ``step`` the bytes between rows there.  ``next_base`` and ``next_top`` say where the next band begins, which is
prefetched (0: unknown).  Compiled code takes many scalars because Numba passes them in registers, and an object
would be a record to load from.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .fma_blocks import OUTPUTS
from .jit import inline, part, stage
from .numba_api import without_literals
from .sweep_loop import find_rows, load_columns, round_up, slide
from .sweep_params import ITEM_PLANE, invoke, larger, params_at, set_word, smaller, word


@without_literals
@inline
def _prefetch_target(params, scratch, at_column, limit, rows, next_rows):
    """Return what to prefetch: a table of rows, how many of them, and the flat column.

    That is ``prefetch_distance`` columns further along these rows, or the beginning of the ``next_rows`` rows of the
    next band.
    """
    following = at_column + params.prefetch_distance
    if params.source_dense == 0:
        # Samples of a row lie on different lines: nothing is prefetched.
        return scratch, 0, 0
    if following < limit:
        return scratch + params.at_rows, rows, following
    return scratch + params.at_next, next_rows, following - limit


@without_literals
@inline
def tile_width(params, ready, total, ring):
    """Return the width of the tile after ``ready`` of ``total`` columns, the halo among them.

    The first tile is the halo, the second one ends where the result is aligned, so that no later tile ends
    within a cache line of it.  In a ring all tiles have one width.
    """
    if ring:
        return smaller(params.tile, total - ready)
    if ready < params.halo:
        return smaller(params.tile, params.halo - ready)
    wide = params.tile
    if ready == params.halo and params.unaligned_prefix > 0:
        wide = params.unaligned_prefix
    return smaller(wide, total - ready)


@without_literals
@inline
def density(params, done):
    """Return how to store from column ``done`` of a band on: 0 sample by sample, 1 vectors, 2 past the caches.

    The columns before the first aligned cache line are stored through the caches.
    """
    if done == 0 and params.unaligned_prefix > 0:
        return params.target_dense
    return params.target_dense + params.stream


@without_literals
@inline
def _next_prefetch(params, loaded, next_column, next_wide, total, ring):
    """Return the column of the tile to prefetch, and 1 if it is in the next band.

    That is the tile after the next one.
    """
    if ring:
        # The next plane follows: columns are counted on beyond the end of this one.
        whole = round_up(total, params.tile)
        following = loaded + smaller(params.prefetch_distance, whole)
        return (following, 0) if following < total else (larger(following - whole, 0), 1)
    following = next_column + next_wide + (tile_width(params, 0, total, 0) if next_wide == 0 else 0)
    return (following, 0) if following < total else (following - total, 1)


@without_literals
@part
def _filter_and_transpose(
    params_address, scratch, strips, spare, rows, position, columns, first, next_column, next_wide, total, ring, next_rows
):  # fmt: skip
    """Filter the loaded strips along y and transpose them into the sliding buffer, from column ``position`` on.

    Meanwhile the next tile, ``next_wide`` columns from ``next_column`` on, is loaded into the ``spare`` strips if
    ``overlap`` is set, and the tile after that is prefetched: in this band, or in the ``next_rows`` rows of the next one.
    """
    params = params_at(params_address)
    across = scratch + params.at_across
    count = (columns + params.lanes - 1) // params.lanes
    reach = larger(params.y_taps, 1) - 1
    start, in_next_band = _next_prefetch(
        params, next_column - columns, next_column, next_wide, total, ring
    )
    stop = start + tile_width(params, start, total, ring)
    table, prefetch_rows = scratch + params.at_rows, rows + reach
    if in_next_band:
        table, prefetch_rows = scratch + params.at_next, next_rows
    # Only what lies inside the image has an address.
    begin, end = larger(first + start, 0), smaller(first + stop, params.x_flat)
    if params.source_dense == 0 or end <= begin:
        prefetch_rows = 0
    invoke(
        params.filter_columns,
        (
            params_address, strips, across, 0, rows, position, count, spare, scratch + params.at_rows,
            (rows + reach) * params.overlap, first + next_column, (next_wide + params.lanes - 1) // params.lanes,
            table, prefetch_rows, begin * params.source_item, ((end - begin) * params.source_item + 63) // 64,
        ),
    )  # fmt: skip


@without_literals
@part
def _store(params_address, scratch, position, row, step, first, columns, rows, dense, ring):
    """Filter ``columns`` columns of the transposed buffer along x and store them in the image or the rings."""
    params = params_at(params_address)
    # across[term][group of rows][column][lane]: a column is one vector.
    across = scratch + params.at_across + position * params.lanes * params.work_item
    line, temp = scratch + params.at_line, scratch + params.at_temp
    if ring:
        # Rings have room for whole vectors, so that no store is masked: ring[row][vector column][slot][lane].
        wide, high = round_up(columns, params.lanes), round_up(rows, params.lanes)
        pitch = params.ring_pitch
        for t in range(params.rings):
            place = row + t * params.ring_term
            terms = word(params.ring_terms, t)
            invoke(
                params.filter_rows,
                (
                    params_address, across, line, temp, 0, 0, place, step, pitch, first, wide, high, 1,
                    terms,
                ),
            )  # fmt: skip
        return
    # Each result sums a range of terms: out_k = sum_t x_t * y_from(t).
    item = params.target_item
    for k in range(params.outputs):
        place, terms = row + word(params.out_at, k), word(params.out_terms, k)
        invoke(
            params.filter_rows,
            (
                params_address, across, line, temp, 0, 0, place, step, item, first, columns, rows,
                dense, terms,
            ),
        )  # fmt: skip


# --- bands: one stage for each kind, of which a filter needs one -----------------------------------


@without_literals
@part
def _find_band_rows(params_address, scratch, base, top, rows, next_base, next_top):
    """Tabulate the rows of a band and those of the next one, to be prefetched; return the number of the latter."""
    params = params_at(params_address)
    reach = larger(params.y_taps, 1) - 1
    find_rows(params, scratch + params.at_rows, base, top, rows + reach)
    next_rows = 0
    if next_base != 0:
        next_rows = smaller(params.y_band, params.y_size - next_top) + reach
        find_rows(params, scratch + params.at_next, next_base, next_top, next_rows)
    return next_rows


@stage
def band_of_two(
    params_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane along y, if at all, and x."""
    params = params_at(params_address)
    next_rows = _find_band_rows(params_address, scratch, base, top, rows, next_base, next_top)
    rows_in = rows + larger(params.y_taps, 1) - 1
    first, total = start - params.x_reach, params.halo + columns
    table = scratch + params.at_rows
    strips, spare = scratch + params.at_strips, scratch + params.at_spare
    wide = tile_width(params, 0, total, ring)
    load_columns(params_address, strips, table, first, wide, rows_in)
    # Columns are counted from the left end of the halo:
    # - `loaded` have been filtered along y, `done` are stored;
    # - the transposed buffer holds columns 0 .. `filled`, and the next one to filter along x is at `position`.
    loaded, filled, done, position = 0, 0, 0, 0
    while done < columns:
        # Step 1: make room.  The last `halo` columns are read again by the outputs to their right.
        if filled + wide > params.halo + params.slide_after:
            slide(params, scratch, rows, position, params.halo)
            filled, position = params.halo, 0
        # Step 2: filter this tile along y, load the next one and prefetch the one after that.
        next_column = loaded + wide
        next_wide = tile_width(params, next_column, total, ring)
        _filter_and_transpose(
            params_address, scratch, strips, spare, rows, filled, wide,
            first, next_column, next_wide, total, ring, next_rows,
        )  # fmt: skip
        if params.overlap == 0 and next_wide > 0:
            load_columns(params_address, spare, table, first + next_column, next_wide, rows_in)
        loaded = next_column
        filled += wide
        # Step 3: filter along x what has its right neighbours by now.
        ready = loaded - params.halo - done
        if ready > 0:
            at_column = start + done
            dense = density(params, done)
            _store(
                params_address, scratch, position, row, step, at_column, ready, rows, dense, ring
            )
            done += ready
            position += ready
        wide = next_wide
        strips, spare = spare, strips


@stage
def band_of_one(
    params_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane along y only."""
    params = params_at(params_address)
    next_rows = _find_band_rows(params_address, scratch, base, top, rows, next_base, next_top)
    strips, temp = scratch + params.at_strips, scratch + params.at_temp
    rows_in = rows + params.y_taps - 1
    limit = start + columns
    # No halo along x: tiles are independent.  The first one ends where the result is aligned.
    prefix, pitch = params.unaligned_prefix, params.target_item
    if ring:
        prefix, pitch = 0, params.ring_pitch
    done = 0
    while done < columns:
        wide = smaller(prefix if done == 0 and prefix > 0 else params.tile, columns - done)
        at_column = start + done
        load_columns(params_address, strips, scratch + params.at_rows, at_column, wide, rows_in)
        table, prefetch_rows, following = _prefetch_target(
            params, scratch, at_column, limit, rows_in, next_rows
        )
        dense = 1 if ring else density(params, done)
        high, across = rows, wide
        if ring:  # rings have room for whole vectors
            high, across = round_up(rows, OUTPUTS), round_up(wide, params.lanes)
        for t in range(params.rings if ring else params.outputs):
            terms = word(params.ring_terms if ring else params.out_terms, t)
            place = row + (t * params.ring_term if ring else word(params.out_at, t))
            invoke(
                params.finish_columns,
                (
                    params_address, strips, temp, 0, 0, place, step, pitch, at_column, across, high,
                    dense, terms,
                    table, prefetch_rows if t == 0 else 0, following * params.source_item,
                ),
            )  # fmt: skip
        done += wide


@stage
def band_direct(
    params_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane with a dense kernel: whole rows of a tile, each with its own halo."""
    params = params_at(params_address)
    # rows[row][column]: the vectors of a row lie one behind the other, so that shifted loads are possible.
    next_rows = _find_band_rows(params_address, scratch, base, top, rows, next_base, next_top)
    source, temp = scratch + params.at_strips, scratch + params.at_temp
    rows_in = rows + params.y_taps - 1
    first = start - params.x_reach
    limit = smaller(first + params.halo + columns, params.x_flat)
    done = 0
    while done < columns:
        wide = tile_width(params, params.halo + done, params.halo + columns, 0)
        at_column = first + done
        load_columns(
            params_address, source, scratch + params.at_rows, at_column, wide + params.halo, rows_in
        )
        table, prefetch_rows, following = _prefetch_target(
            params, scratch, at_column, limit, rows_in, next_rows
        )
        prefetch_offset, dense = following * params.source_item, density(params, done)
        invoke(
            params.filter_direct,
            (
                params_address, source, temp, 0, params.column_table, rows, row, step, start + done, wide,
                dense, table, prefetch_rows, prefetch_offset,
            ),
        )  # fmt: skip
        done += wide


# --- planes ------------------------------------------------------------------------------------------


@without_literals
@part
def _fill_slot(params_address, scratch, source, slot, sample, low, high, top, rows, start, columns):
    """Put the filtered plane ``sample`` (-1: outside the image) into a slot of the rings.

    It is copied if one of the slots ``low`` to ``high`` already holds it.
    """
    params = params_at(params_address)
    ring, slots = scratch + params.at_ring, scratch + params.at_slots
    # ring[term][row][vector column][slot][lane]: a slot is one vector of each column, `step` elements apart.
    vector = params.lanes * params.work_item
    place = ring + slot * vector
    count, step = params.ring_term // params.ring_strip, params.ring_strip // params.work_item
    set_word(slots, slot, sample)
    if sample < 0:
        # Filtering a constant along y and x gives a constant: z_outside[term].
        for t in range(params.rings):
            value = params.z_outside + t * params.work_item
            invoke(params.fill_slot, (place + t * params.ring_term, value, count, step))
        return
    # A border repeats planes: reflect and nearest find them in the ring.
    for k in range(low, high):
        if k != slot and word(slots, k) == sample:
            for t in range(params.rings):
                other = ring + k * vector + t * params.ring_term
                invoke(params.copy_slot, (place + t * params.ring_term, other, count, step))
            return
    # The band writes from flat column 0 on; this chunk begins at `start`.
    base = source + sample * params.z_source
    row = place - start * params.ring_pitch
    following = base + params.z_source if sample + 1 < params.z_size else 0
    invoke(
        params.band,
        (
            params_address, scratch, base, top, rows, start, columns, row, params.ring_row, 1,
            following, top,
        ),
    )  # fmt: skip


@without_literals
@part
def fill_ring(params_address, scratch, source, z, have, need, top, rows, start, columns):
    """Fill the slots ``have`` to ``need``: planes of the volume first, then the border's, mostly copies."""
    params = params_at(params_address)
    slots = scratch + params.at_slots
    # Slot s holds the plane at the extended position z + s; -2 says that it is not filled.
    for slot in range(have, need):
        set_word(slots, slot, -2)
    for border in range(2):
        for slot in range(have, need):
            sample = word(params.z_map, z + slot)
            inside = sample == z + slot - params.z_left
            if inside == (border == 0):
                high = need if border else 0
                _fill_slot(
                    params_address, scratch, source, slot, sample, 0, high, top, rows, start, columns
                )  # fmt: skip


@stage
def stream_planes(params_address, scratch, source, target, top, rows, start, columns):
    """Filter a band of all planes along y and x into the ring, and along z out of it."""
    params = params_at(params_address)
    ring, temp, slots = (
        scratch + params.at_ring, scratch + params.at_temp, scratch + params.at_slots
    )  # fmt: skip
    reach = params.z_taps - 1
    # The ring's vectors lie as the target's only where the target's first row is aligned.
    dense = params.target_dense + (1 if params.stream and params.unaligned_prefix == 0 else 0)
    have, z = 0, 0  # slots filled, planes completed
    while z < params.z_size:
        # Step 1: a slab of `count` planes needs the `reach` planes around it as well.
        count = smaller(params.z_slab, params.z_size - z)
        fill_ring(
            params_address, scratch, source, z, have, count + reach, top, rows, start, columns
        )
        # Step 2: filter along z; the pass drops the planes that are not needed again.
        set_word(scratch + params.at_item, ITEM_PLANE, z)
        place = target + z * params.z_target + top * params.y_target
        kept = reach if z + count < params.z_size else 0
        for k in range(params.outputs):
            terms = word(params.out_terms, k)
            dropped = params.rings if k == params.outputs - 1 else 0
            invoke(
                params.finish_planes,
                (
                    params_address, ring, temp, 0, 0, place + word(params.out_at, k), start, columns, rows,
                    count, dense, terms, kept, dropped,
                ),
            )  # fmt: skip
        # Step 3: the kept planes have moved to the first slots.
        for slot in range(kept):
            set_word(slots, slot, word(slots, slot + count))
        have = reach
        z += count
