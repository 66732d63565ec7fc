"""Depthwise results of tiles, with or without a table of addresses, alone or two rows at a time.

A tile whose columns lie side by side in the image needs no table. The record says for each tile of a row whether that is
so (``tile_edges``, see `depthwise_inside`), and which rows of outputs are computed together with the one below
(``pair_starts``). Each output is summed in the same order either way.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part
from separable.engine.compiled.simd import address_of, at, load_scalar, offset_pointer, prefetch
from separable.engine.compiled.sweep_params import word

from .activation_ops import activate
from .inside_blocks import (
    add_inside_pair,
    add_inside_taps,
    start_pair,
    store_pair,
    store_rest,
)
from .layer_blocks import PIXELS, start_block
from .layer_kernels import depthwise_tile, prefetch_next_tile, write_tap_addresses
from .layer_params import SILU, STRIDED_THREES, THREES
from .simd_ops import LANES, float32_ptr


@inline
def item_of(p):
    """Return the size in bytes of what a pointer points to."""
    return address_of(offset_pointer(p, 1)) - address_of(p)


@inline
def _prefetch_beside(plan, source, rows, first, pitch):
    """Prefetch the columns that the next tile adds to the window, in the rows that the outputs before did not read."""
    stride, places = plan.stride_columns, plan.row_offsets + first * 8
    added = min(plan.window, PIXELS * stride)
    ahead = (plan.window - added + PIXELS * stride) * pitch
    for i in range(max(0, rows - stride), rows):
        place = source + word(places, i) + ahead
        for line in range(0, added * pitch, 64):
            prefetch(place + line)


@inline
def _add_rows(plan, block, like, source, pitch, rows, first, weights, taps, stride, missing):
    """Add all rows of taps to a block whose columns lie side by side; see :func:`add_inside_taps`."""
    offsets, places = plan.row_weights + first * 8, plan.row_offsets + first * 8
    for i in range(rows):
        here = at(like, source + word(places, i))
        factors = offset_pointer(weights, word(offsets, i))
        block = add_inside_taps(block, here, pitch, factors, taps, stride, missing)
    return block


@inline
def _add_threes(plan, block, like, source, pitch, rows, first, weights, stride, missing):
    """Add all rows of three taps; ``stride`` is a literal."""
    if missing == 0:
        block = _add_rows(plan, block, like, source, pitch, rows, first, weights, 3, stride, 0)
    elif missing == 1:
        block = _add_rows(plan, block, like, source, pitch, rows, first, weights, 3, stride, 1)
    elif missing == 2:
        block = _add_rows(plan, block, like, source, pitch, rows, first, weights, 3, stride, 2)
    else:
        block = _add_rows(plan, block, like, source, pitch, rows, first, weights, 3, stride, 3)
    return block


@part
def depthwise_inside(plan, like, source, rows, first, missing, skipped, out, step, begun, ended):
    """Compute the depthwise result of a tile whose columns lie side by side in the image.

    The record has three numbers for each tile of a row (``tile_edges``). The first, ``missing``, is -1 for tiles that
    :func:`depthwise_tile` must compute. Others compute PIXELS outputs; the last of a row begins early enough for
    that, and the number ``skipped`` of its outputs, which the tile before has stored, is the third. Bits of ``missing``
    say that the first column (1) or the last (2) is outside the image. The second number is the offset in bytes of the
    first column in a row of the image; ``source`` is the address there in a row at offset 0.

    The other arguments are as for :func:`depthwise_tile`.
    """
    channels, blocks, size = plan.channels, plan.source_blocks, plan.block_step
    item = item_of(like)
    pitch, kind, taps = channels * item, plan.row_kind, plan.taps_of_row
    limits = float32_ptr(plan.limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for n in range(begun, ended):
        m, b = n // blocks, n % blocks
        weights = offset_pointer(float32_ptr(plan.depthwise), n * size)
        block = start_block(offset_pointer(float32_ptr(plan.depthwise_bias), n * LANES))
        here = source + b * LANES * item
        if kind == THREES:
            block = _add_threes(plan, block, like, here, pitch, rows, first, weights, 1, missing)
        elif kind == STRIDED_THREES:
            block = _add_threes(plan, block, like, here, pitch, rows, first, weights, 2, missing)
        elif taps == 5:
            block = _add_rows(plan, block, like, here, pitch, rows, first, weights, 5, 1, 0)
        elif taps == 7:
            block = _add_rows(plan, block, like, here, pitch, rows, first, weights, 7, 1, 0)
        else:
            block = _add_rows(plan, block, like, here, pitch, rows, first, weights, 9, 1, 0)
        place = offset_pointer(out, m * channels + b * LANES)
        store_rest(block, place, step, skipped, lower, upper)


@inline
def _add_pair(plan, pair, like, source, pitch, first, last, weights, taps, missing):
    """Add all rows of taps of two rows of outputs to their blocks; see :func:`add_inside_pair`."""
    for i in range(first, last):
        entry = plan.pair_taps + i * 24
        here, one, two = at(like, source + word(entry, 0)), word(entry, 1), word(entry, 2)
        upper, lower = offset_pointer(weights, one), offset_pointer(weights, two)
        if one < 0:
            pair = add_inside_pair(pair, here, pitch, upper, lower, taps, missing, 2)
        elif two < 0:
            pair = add_inside_pair(pair, here, pitch, upper, lower, taps, missing, 1)
        else:
            pair = add_inside_pair(pair, here, pitch, upper, lower, taps, missing, 3)
    return pair


@part
def _depthwise_pair(
    plan, like, source, first, last, missing, skipped, out, below, step, begun, ended
):
    """Compute the depthwise results of two tiles, one below the other: see :func:`depthwise_inside`.

    The rows of taps are the entries of ``pair_taps`` from ``first`` to ``last``; ``below`` is the first position of the
    lower tile.
    """
    channels, blocks, size = plan.channels, plan.source_blocks, plan.block_step
    item = item_of(like)
    pitch, taps = channels * item, plan.taps_of_row
    limits = float32_ptr(plan.limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for n in range(begun, ended):
        m, b = n // blocks, n % blocks
        weights = offset_pointer(float32_ptr(plan.depthwise), n * size)
        pair = start_pair(offset_pointer(float32_ptr(plan.depthwise_bias), n * LANES))
        here = source + b * LANES * item
        if taps == 7:
            pair = _add_pair(plan, pair, like, here, pitch, first, last, weights, 7, 0)
        elif missing == 0:
            pair = _add_pair(plan, pair, like, here, pitch, first, last, weights, 3, 0)
        elif missing == 1:
            pair = _add_pair(plan, pair, like, here, pitch, first, last, weights, 3, 1)
        elif missing == 2:
            pair = _add_pair(plan, pair, like, here, pitch, first, last, weights, 3, 2)
        else:
            pair = _add_pair(plan, pair, like, here, pitch, first, last, weights, 3, 3)
        shift = m * channels + b * LANES
        place, under = offset_pointer(out, shift), offset_pointer(below, shift)
        store_pair(pair, place, under, step, skipped, lower, upper)


@inline
def depthwise_result(plan, like, image, row, tile, table, out, step, low, high, ahead):
    """Compute the depthwise result of a tile for the blocks of input channels from ``low`` to ``high``.

    ``image`` is the address of the image, ``table`` memory for addresses, ``out`` the tile's first position, positions
    ``step`` bytes apart. If ``ahead`` is 1, the next tile is prefetched.
    """
    edges, first = plan.tile_edges + tile * 24, word(plan.row_starts, row)
    item = item_of(like)
    missing, source, skipped = word(edges, 0), image + word(edges, 1), word(edges, 2)
    blocks, every = plan.source_blocks, plan.source_blocks * plan.multiplier
    if missing >= 0:
        rows = word(plan.row_starts, row + 1) - first
        if ahead == 1:
            _prefetch_beside(plan, source, rows, first, plan.channels * item)
        for m in range(0, every, blocks):
            depthwise_inside(
                plan, like, source, rows, first, missing, skipped, out, step, m + low, m + high
            )
    else:
        rows = write_tap_addresses(plan, image, row, tile, table)
        wide = min(PIXELS, plan.row_size - tile * PIXELS)
        if ahead == 1:
            prefetch_next_tile(plan, table, rows, item)
        for m in range(0, every, blocks):
            depthwise_tile(plan, like, table, rows, first, tile, out, step, wide, m + low, m + high)


@inline
def depthwise_tiles(plan, like, source, out, origin, step, table, begun, ended, low, high, ahead):
    """Compute the depthwise results of tiles for the blocks of input channels from ``low`` to ``high``.

    ``source`` is the address of the first image, ``out`` that of output position ``origin``. A tile and the one below
    are computed together if both are asked for and the record has such pairs. See :func:`depthwise_result`.
    """
    per_row, per_image, out_rows = plan.tiles_of_row, plan.tiles_of_image, plan.out_rows
    blocks, every = plan.source_blocks, plan.source_blocks * plan.multiplier
    item = item_of(like)
    for t in range(begun, ended):
        # Tiles are numbered [image][row of outputs][tile of the row].
        image, row, tile = t // per_image, t // per_row % out_rows, t % per_row
        x = source + image * plan.image_step
        place = (t // per_row * plan.row_size + tile * PIXELS - origin) * step // item_of(out)
        here, edges, starts = (
            offset_pointer(out, place),
            plan.tile_edges + tile * 24,
            plan.pair_starts,
        )
        first, last, missing = word(starts, row), word(starts, row + 1), word(edges, 0)
        if first < last and missing >= 0 and t + per_row < ended:
            start = x + word(edges, 1)
            if ahead == 1:
                rows, entry = word(plan.row_starts, row + 2), word(plan.row_starts, row + 1)
                _prefetch_beside(plan, start, rows - entry, entry, plan.channels * item)
            below = offset_pointer(here, plan.row_size * step // item_of(out))
            for m in range(0, every, blocks):
                _depthwise_pair(
                    plan, like, start, first, last, missing, word(edges, 2), here, below, step,
                    m + low, m + high,
                )  # fmt: skip
        elif missing >= 0 and row > 0 and word(starts, row - 1) < first and t - per_row >= begun:
            pass  # the tile above has computed it
        else:
            depthwise_result(plan, like, x, row, tile, table, here, step, low, high, ahead)


@inline
def first_position(plan, tile):
    """Return the first output position of a tile; for the number of tiles, the number of positions."""
    per_row = plan.tiles_of_row
    return (tile // per_row) * plan.row_size + (tile % per_row) * PIXELS


@inline
def depthwise_group(plan, like, middle, table, begun, ended):
    """Compute the middle values of tiles, float32[position][depth] with rows ``middle_step`` bytes apart.

    Return the first output position of the tiles, and the number of their outputs.
    """
    act, depth, pitch = plan.depthwise_act, plan.depth, plan.middle_step
    start = first_position(plan, begun)
    pixels = first_position(plan, ended) - start
    depthwise_tiles(
        plan, like, plan.source, float32_ptr(middle), start, pitch, table, begun, ended, 0,
        plan.source_blocks, 1,
    )  # fmt: skip
    if act >= SILU:  # one call for all tiles, because each loads the constants of the activation
        activate(float32_ptr(middle), pixels, pitch // 4, depth, act)
    return start, pixels
