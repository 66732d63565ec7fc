"""The schedule of a sweep: which tile is loaded, filtered and stored when, and by which thread.

Nothing here touches a sample; the stages do, called by address.  An item of work is a band of rows in a
chunk of columns of one batch element; threads claim items from a shared counter.  Within an item:

- two axes: tiles go along the row.  The transposed buffer slides: its last ``halo`` columns, already
  filtered along y, are kept for the next tile, so that nothing is computed twice.
- three axes: planes are filtered along y and x into a ring, and the z pass runs down the ring.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .fma_blocks import OUTPUTS
from .jit import inline, part, stage
from .numba_api import without_literals
from .sweep_loop import find_rows, load_columns, round_up, slide
from .sweep_params import invoke, least, most, plan_at, set_word, word


@without_literals
@inline
def _wish(plan, scratch, at_column, limit, rows, coming):
    """Say what to prefetch: a table of rows, how many of them, and the flat column.

    ``foresight`` columns further along these rows, or the beginning of the next band, ``coming`` rows.
    """
    following = at_column + plan.prefetch_distance
    if plan.source_dense == 0:
        return scratch, 0, 0
    if following < limit:
        return scratch + plan.at_rows, rows, following
    return scratch + plan.at_next, coming, following - limit


@without_literals
@inline
def _width(plan, ready, total, ring):
    """Return the width of the tile after ``ready`` of ``total`` columns.

    First comes the halo, then what is needed for the others to be aligned in the result, so that no
    tile ends within a cache line of it.  In a ring all tiles are alike.
    """
    if ring:
        return least(plan.tile, total - ready)
    if ready < plan.halo:
        return least(plan.tile, plan.halo - ready)
    wide = plan.unaligned_prefix if ready == plan.halo and plan.unaligned_prefix > 0 else plan.tile
    return least(wide, total - ready)


@without_literals
@inline
def _following(plan, loaded, later, more, total, ring):
    """Return what to prefetch: the column of a tile, and whether it is in the next band.

    That is the tile after the next one, or the next one if that is as far as a whole band.
    """
    if ring:
        whole = (total + plan.tile - 1) // plan.tile * plan.tile
        following = loaded + least(plan.prefetch_distance, whole)
        return (following, 0) if following < total else (most(following - whole, 0), 1)
    following = later + more + (_width(plan, 0, total, 0) if more == 0 else 0)
    return (following, 0) if following < total else (following - total, 1)


@without_literals
@part
def _turn(
    plan_address, scratch, strips, spare, rows, position, columns, first, later, more, start, stop, coming
):  # fmt: skip
    """Filter the loaded strips along y and transpose them into the sliding buffer.

    Meanwhile the next tile, ``more`` columns after ``later``, is loaded into the ``spare`` strips if loads
    are to overlap, and the columns ``start`` to ``stop`` are prefetched, in the ``coming`` rows of the next
    band unless that is negative.
    """
    plan = plan_at(plan_address)
    across = scratch + plan.at_across
    count = (columns + plan.lanes - 1) // plan.lanes
    reach = most(plan.y_taps, 1) - 1
    table, asked = scratch + plan.at_rows, rows + reach
    if coming >= 0:
        table, asked = scratch + plan.at_next, coming
    begin, end = most(first + start, 0), least(first + stop, plan.x_flat)
    if plan.source_dense == 0 or end <= begin:
        asked = 0
    invoke(
        plan.filter_columns,
        (
            plan_address, strips, across, 0, rows, position, count, spare, scratch + plan.at_rows,
            (rows + reach) * plan.overlap, first + later, (more + plan.lanes - 1) // plan.lanes,
            table, asked, begin * plan.source_item, ((end - begin) * plan.source_item + 63) // 64,
        ),
    )  # fmt: skip


@without_literals
@part
def _store(plan_address, scratch, position, row, step, first, columns, rows, dense, ring):
    """Filter along x: all terms summed into the image, or each into its own ring, whole vectors."""
    plan = plan_at(plan_address)
    across = scratch + plan.at_across + position * plan.lanes * plan.work_item
    line, temp = scratch + plan.at_line, scratch + plan.at_temp
    if ring:
        wide, high, pitch = (
            round_up(columns, plan.lanes),
            round_up(rows, plan.lanes),
            plan.ring_pitch,
        )
        for t in range(plan.rings):
            place = row + t * plan.ring_term
            terms = word(plan.ring_terms, t)
            invoke(
                plan.filter_rows,
                (
                    plan_address, across, line, temp, 0, 0, place, step, pitch, first, wide, high, 1,
                    terms,
                ),
            )  # fmt: skip
        return
    item = plan.target_item
    for k in range(plan.outputs):
        place, terms = row + word(plan.out_at, k), word(plan.out_terms, k)
        invoke(
            plan.filter_rows,
            (
                plan_address, across, line, temp, 0, 0, place, step, item, first, columns, rows,
                dense, terms,
            ),
        )  # fmt: skip


# --- bands: one stage for each kind, of which a filter needs one -----------------------------------


@without_literals
@part
def _find(plan_address, scratch, base, top, rows, next_base, next_top):
    """Find the rows of a band, and those of the next one, to be prefetched; return their number.

    The band at row ``next_top`` of the plane at ``next_base`` (0: none) will follow.
    """
    plan = plan_at(plan_address)
    reach = most(plan.y_taps, 1) - 1
    find_rows(plan, scratch + plan.at_rows, base, top, rows + reach)
    coming = 0
    if next_base != 0:
        coming = least(plan.y_band, plan.y_size - next_top) + reach
        find_rows(plan, scratch + plan.at_next, next_base, next_top, coming)
    return coming


@stage
def band_of_two(
    plan_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane along y, if at all, and x."""
    plan = plan_at(plan_address)
    coming = _find(plan_address, scratch, base, top, rows, next_base, next_top)
    dense = plan.target_dense + plan.stream
    rows_in = rows + most(plan.y_taps, 1) - 1
    first, total = start - plan.x_reach, plan.halo + columns
    table = scratch + plan.at_rows
    strips, spare = scratch + plan.at_strips, scratch + plan.at_spare
    wide = _width(plan, 0, total, ring)
    load_columns(plan_address, strips, table, first, wide, rows_in)
    loaded, filled, done, position = 0, 0, 0, 0
    while done < columns:
        if filled + wide > plan.halo + plan.slide_after:
            slide(plan, scratch, rows, position, plan.halo)
            filled, position = plan.halo, 0
        later = loaded + wide
        more = _width(plan, later, total, ring)
        following, beyond = _following(plan, loaded, later, more, total, ring)
        stop = following + _width(plan, following, total, ring)
        _turn(
            plan_address, scratch, strips, spare, rows, filled, wide,
            first, later, more, following, stop, coming if beyond else -1,
        )  # fmt: skip
        if plan.overlap == 0 and more > 0:
            load_columns(plan_address, spare, table, first + later, more, rows_in)
        loaded = later
        filled += wide
        ready = loaded - plan.halo - done
        if ready > 0:
            at_column = start + done
            _store(plan_address, scratch, position, row, step, at_column, ready, rows, dense, ring)
            done += ready
            position += ready
        wide = more
        strips, spare = spare, strips


@stage
def band_of_one(
    plan_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane along y only."""
    plan = plan_at(plan_address)
    coming = _find(plan_address, scratch, base, top, rows, next_base, next_top)
    dense = plan.target_dense + plan.stream
    strips, temp = scratch + plan.at_strips, scratch + plan.at_temp
    rows_in = rows + plan.y_taps - 1
    limit = start + columns
    lead, pitch = (0, plan.ring_pitch) if ring else (plan.unaligned_prefix, plan.target_item)
    done = 0
    while done < columns:
        wide = least(lead if done == 0 and lead > 0 else plan.tile, columns - done)
        at_column = start + done
        load_columns(plan_address, strips, scratch + plan.at_rows, at_column, wide, rows_in)
        table, asked, following = _wish(plan, scratch, at_column, limit, rows_in, coming)
        high, across = (
            (round_up(rows, OUTPUTS), round_up(wide, plan.lanes)) if ring else (rows, wide)
        )
        for t in range(plan.rings if ring else plan.outputs):
            terms = word(plan.ring_terms if ring else plan.out_terms, t)
            place = row + (t * plan.ring_term if ring else word(plan.out_at, t))
            invoke(
                plan.finish_columns,
                (
                    plan_address, strips, temp, 0, 0, place, step, pitch, at_column, across, high,
                    1 if ring else dense, terms,
                    table, asked if t == 0 else 0, following * plan.source_item,
                ),
            )  # fmt: skip
        done += wide


@stage
def band_direct(
    plan_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane with a dense kernel: whole rows of a tile, each with its own halo."""
    plan = plan_at(plan_address)
    coming = _find(plan_address, scratch, base, top, rows, next_base, next_top)
    dense = plan.target_dense + plan.stream
    source, temp = scratch + plan.at_strips, scratch + plan.at_temp
    rows_in = rows + plan.y_taps - 1
    first = start - plan.x_reach
    limit = least(first + plan.halo + columns, plan.x_flat)
    done = 0
    while done < columns:
        wide = _width(plan, plan.halo + done, plan.halo + columns, 0)
        at_column = first + done
        load_columns(
            plan_address, source, scratch + plan.at_rows, at_column, wide + plan.halo, rows_in
        )
        table, asked, following = _wish(plan, scratch, at_column, limit, rows_in, coming)
        ahead_by = following * plan.source_item
        invoke(
            plan.filter_direct,
            (
                plan_address, source, temp, 0, rows, row, step, start + done, wide, dense,
                table, asked, ahead_by,
            ),
        )  # fmt: skip
        done += wide


# --- planes ------------------------------------------------------------------------------------------


@without_literals
@part
def _fill_slot(plan_address, scratch, source, slot, sample, low, high, top, rows, start, columns):
    """Put the filtered plane ``sample`` (-1: outside the image) into a slot of the ring.

    It is copied if one of the slots ``low`` to ``high`` holds it already.
    """
    plan = plan_at(plan_address)
    ring, slots = scratch + plan.at_ring, scratch + plan.at_slots
    vector = plan.lanes * plan.work_item
    place = ring + slot * vector
    count, step = plan.ring_term // plan.ring_strip, plan.ring_strip // plan.work_item
    set_word(slots, slot, sample)
    if sample < 0:
        for t in range(plan.rings):
            value = plan.z_outside + t * plan.work_item
            invoke(plan.fill_slot, (place + t * plan.ring_term, value, count, step))
        return
    for k in range(low, high):
        if k != slot and word(slots, k) == sample:
            for t in range(plan.rings):
                other = ring + k * vector + t * plan.ring_term
                invoke(plan.copy_slot, (place + t * plan.ring_term, other, count, step))
            return
    base = source + sample * plan.z_source
    row = place - start * plan.ring_pitch
    following = base + plan.z_source if sample + 1 < plan.z_size else 0
    invoke(
        plan.band,
        (
            plan_address, scratch, base, top, rows, start, columns, row, plan.ring_row, 1,
            following, top,
        ),
    )  # fmt: skip


@without_literals
@part
def _fill_ring(plan_address, scratch, source, z, have, need, top, rows, start, columns):
    """Fill the slots ``have`` to ``need``: planes of the volume first, then the border's."""
    plan = plan_at(plan_address)
    slots = scratch + plan.at_slots
    for slot in range(have, need):
        set_word(slots, slot, -2)
    for border in range(2):
        for slot in range(have, need):
            sample = word(plan.z_map, z + slot)
            inside = sample == z + slot - plan.z_left
            if inside == (border == 0):
                high = need if border else 0
                _fill_slot(
                    plan_address, scratch, source, slot, sample, 0, high, top, rows, start, columns
                )


@stage
def stream_planes(plan_address, scratch, source, target, top, rows, start, columns):
    """Filter a band of all planes along y and x into the ring, and along z out of it."""
    plan = plan_at(plan_address)
    ring, temp, slots = (
        scratch + plan.at_ring, scratch + plan.at_temp, scratch + plan.at_slots
    )  # fmt: skip
    reach = plan.z_taps - 1
    # The ring's vectors lie as the target's only where the target's first row is aligned.
    dense = plan.target_dense + (1 if plan.stream and plan.unaligned_prefix == 0 else 0)
    have, z = 0, 0
    while z < plan.z_size:
        count = least(plan.z_slab, plan.z_size - z)
        _fill_ring(plan_address, scratch, source, z, have, count + reach, top, rows, start, columns)
        place = target + z * plan.z_target + top * plan.y_target
        kept = reach if z + count < plan.z_size else 0
        for k in range(plan.outputs):
            terms = word(plan.out_terms, k)
            dropped = plan.rings if k == plan.outputs - 1 else 0
            invoke(
                plan.finish_planes,
                (
                    plan_address, ring, temp, 0, 0, place + word(plan.out_at, k), start, columns, rows,
                    count, dense, terms, kept, dropped,
                ),
            )  # fmt: skip
        for slot in range(kept):
            set_word(slots, slot, word(slots, slot + count))
        have = reach
        z += count
