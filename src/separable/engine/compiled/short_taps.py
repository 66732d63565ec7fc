"""Few taps along y and x: rows are filtered where they lie, without strips and without a transpose.

With few taps the loads and shuffles that arrange samples cost more than the arithmetic. Here ``OUTPUTS`` rows of the image
are filtered along y straight from memory into a buffer of as many rows, and along x out of it by vectors at any address::

    image rows r .. r + 7 + taps - 1        buffer[row][column]                   result
    ------------------------------- y ->    [ kept | tile of TILE_VECTORS | 2 ]  x ->  rows r .. r + 7

The buffer slides: the columns at its end that the next tile reads again move to its front. Columns outside the image and
the last ones of a row come through strips, which know the border; rows whose window leaves the image are filtered by the
band of a sweep with strips. Sums are added in the same order there and here, so their bits are the same.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .fma_blocks import OUTPUTS, correlate, zeros
from .jit import inline, part, stage
from .load_store import item_of, store_part, store_whole
from .numba_api import without_literals
from .row_kernels import correlate_lines
from .simd import LINE_VECTORS, at, lanes_of, load, offset_pointer, store
from .sweep_loop import find_rows
from .sweep_params import invoke, larger, params_at, smaller, word
from .vector_blocks import store_block, store_block_any

TILE_VECTORS = 32
"""Vectors of a row that are filtered along y before they are filtered along x: the buffer stays in the first-level cache."""
KEPT_VECTORS = LINE_VECTORS + 1
"""Vectors that stay in the buffer: the columns to the left of the next output, and those without a right neighbour yet."""
BUFFER_VECTORS = KEPT_VECTORS + TILE_VECTORS + 2
EDGE_STRIPS = KEPT_VECTORS + 3
"""Strips that hold the columns at both ends of a row."""


@stage
def band_of_short(
    params_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane along y and x: the rows whose window lies inside the image where they lie."""
    params = params_at(params_address)
    # Rows `low` to `high` read rows of the image only.
    low = larger(top, params.y_left)
    high = smaller(top + rows, params.y_size - (params.y_taps - 1 - params.y_left))
    if high - low < OUTPUTS or columns < (LINE_VECTORS + 2) * params.lanes:
        low, high = top + rows, top + rows
    if low > top:
        invoke(
            params.edge_band,
            (params_address, scratch, base, top, low - top, start, columns, row, step, ring, 0, 0),
        )
    if high > low:
        find_rows(params, scratch + params.at_rows, base, low, high - low + params.y_taps - 1)
        place = row + (low - top) * step
        invoke(
            params.filter_short,
            (params_address, scratch, 0, 0, 0, 0, 0, high - low, start, columns, place, step),
        )
    if top + rows > high:
        place = row + (high - top) * step
        invoke(
            params.edge_band,
            (
                params_address, scratch, base, high, top + rows - high, start, columns, place, step,
                ring, 0, 0,
            ),
        )  # fmt: skip


@without_literals
@part
def _filter_edge(params, strips, buffer, like, r, count, pitch):
    """Filter ``count`` strips along y from their row ``r`` on into the buffer, which may lie at any address."""
    size = lanes_of(buffer)
    weights, kind = at(like, params.y_weights), word(params.y_kinds, 0)
    for g in range(count):
        strip = offset_pointer(strips, g * params.load_strip + r * size)
        block = correlate(zeros(like), strip, size, weights, params.y_taps, kind)
        store_block_any(offset_pointer(buffer, g * size), pitch, block)


@without_literals
@part
def _filter_tile(params, rows, offset, source, buffer, like, count, pitch):
    """Filter ``count`` vectors of ``OUTPUTS`` rows along y, from byte ``offset`` of the row at the table ``rows``."""
    size = lanes_of(buffer)
    stride = params.y_source // params.source_item
    weights = at(like, params.y_weights)
    first = at(source, word(rows, 0) + offset)
    for v in range(count):
        block = correlate_lines(
            offset_pointer(first, v * size), stride, stride, weights, params.y_taps
        )
        store_block(offset_pointer(buffer, v * size), pitch, block)


@without_literals
@inline
def _keep_columns(buffer, count, pitch):
    """Move the last ``KEPT_VECTORS`` of ``count`` vectors of all rows to the front of the buffer."""
    size = lanes_of(buffer)
    for i in range(OUTPUTS):
        line = offset_pointer(buffer, i * pitch)
        for v in range(KEPT_VECTORS):
            from_here = offset_pointer(line, (count - KEPT_VECTORS + v) * size)
            store(offset_pointer(line, v * size), load(from_here))


@without_literals
@part
def _finish_part(params_address, buffer, temp, target, like, place, step, first, columns, pitch):
    """Filter less than whole vectors along x and store them: ``columns`` flat columns from ``first`` on."""
    params = params_at(params_address)
    size = lanes_of(buffer)
    weights = at(like, params.x_weights)
    for f in range(0, columns, size):
        x = offset_pointer(buffer, f)
        block = correlate_lines(x, pitch, params.channels, weights, params.x_taps)
        store_block(temp, size, block)
        wide = smaller(size, columns - f)
        store_part(params_address, target, place, step, first + f, 1, OUTPUTS, wide, temp)


@without_literals
@part
def _finish_whole(params, buffer, target, like, place, step, count, pitch, dense):
    """Filter ``count`` vectors along x and store them from the address ``place`` on."""
    size = lanes_of(buffer)
    weights = at(like, params.x_weights)
    for v in range(count):
        x = offset_pointer(buffer, v * size)
        block = correlate_lines(x, pitch, params.channels, weights, params.x_taps)
        store_whole(target, place + v * size * item_of(target), step, block, dense)


@stage
def filter_short(
    params_address, scratch, source, work, target, y_like, x_like, rows, start, columns, row, step
):
    """Filter ``rows`` rows of an image, whose addresses are at ``at_rows``, along y and x.

    ``source``, ``work`` and ``target`` are null pointers that name the types of samples, ``y_like`` and ``x_like`` the
    kinds of taps; ``row`` is the address of flat column 0 of the first row in the target, ``step`` the bytes between rows.
    """
    params = params_at(params_address)
    size, item = lanes_of(work), item_of(target)
    pitch = BUFFER_VECTORS * size
    edges, buffer = at(work, scratch + params.at_strips), at(work, scratch + params.at_buffer)
    temp, table = at(work, scratch + params.at_temp), scratch + params.at_rows
    # Vectors are counted from column `origin` on, where the result is aligned; `count` of them are whole.
    prefix = smaller(params.unaligned_prefix, columns)
    origin = start + prefix
    count = (columns - prefix) // size
    rest = columns - prefix - count * size
    dense = params.target_dense + params.stream
    # Step 1: strips with the columns at both ends, of all rows: `pad` columns before the first output on the left.
    pad = smaller(params.x_reach, size)
    left = (pad + prefix + size - 1) // size
    rows_in = rows + params.y_taps - 1
    right_edges = scratch + params.at_strips + left * params.load_strip * params.work_item
    invoke(
        params.load,
        (params_address, 0, scratch + params.at_strips, table, rows_in, start - pad, left),
    )
    invoke(params.load, (params_address, 0, right_edges, table, rows_in, origin + count * size, 2))
    right = at(work, right_edges)
    taps_left = params.x_reach - params.x_phase  # flat columns read to the left of an output
    for block in range(0, rows, OUTPUTS):
        r = smaller(block, rows - OUTPUTS)  # the last rows are filtered twice where they are fewer
        here, place = table + 8 * r, row + r * step
        # Step 2: the columns on the left. Column `origin` lies behind KEPT_VECTORS vectors of the buffer.
        begin = KEPT_VECTORS * size - prefix
        _filter_edge(params, edges, offset_pointer(buffer, begin - pad), y_like, r, left, pitch)
        # `loaded` vectors are filtered along y, `done` are stored; the buffer begins with vector `front`.
        loaded, done, front = 0, 0, -KEPT_VECTORS
        while done < count:
            # Step 3: a tile along y.
            wide = smaller(TILE_VECTORS, count - loaded)
            tile = offset_pointer(buffer, (loaded - front) * size)
            offset = (origin + loaded * size) * params.source_item
            _filter_tile(params, here, offset, source, tile, y_like, wide, pitch)
            loaded += wide
            ready = loaded - LINE_VECTORS
            if loaded == count:
                tail = offset_pointer(buffer, (loaded - front) * size)
                _filter_edge(params, right, tail, y_like, r, 2, pitch)
                ready = count
            # Step 4: along x what has its right neighbours by now.
            if prefix > 0 and done == 0:
                x = offset_pointer(buffer, begin - taps_left)
                _finish_part(
                    params_address, x, temp, target, x_like, place, step, start, prefix, pitch
                )
            x = offset_pointer(buffer, (done - front) * size - taps_left)
            at_column = place + (origin + done * size) * item
            _finish_whole(params, x, target, x_like, at_column, step, ready - done, pitch, dense)
            done = ready
            if done < count:
                _keep_columns(buffer, loaded - front, pitch)
                front = loaded - KEPT_VECTORS
        if rest > 0:
            x = offset_pointer(buffer, (count - front) * size - taps_left)
            _finish_part(
                params_address, x, temp, target, x_like, place, step, origin + count * size, rest, pitch
            )  # fmt: skip
