"""Separable layers, channels last: both convolutions for one group of outputs at a time.

What is computed, for output position p, middle channel c and output channel o:

    middle[p, c] = act(depthwise_bias[c] + sum_t depthwise[t, c] * x[p * stride + t * dilation - pad, c])
    out[p, o] = act(pointwise_bias[o] + sum_c middle[p, c] * pointwise[c, o] + residual[p, o])

This module has the first step of a tile whose inputs are found by a table of addresses (see `depthwise_tiles` for others
and for groups), and the product of the second; `pointwise_kernels` runs both. A *tile* is up to
``PIXELS`` neighbouring outputs of one row. A *group* is as many tiles as have middle values that stay in the
second-level cache, where the product with all pointwise weights finds them. A work item is one group, or one part
of the output channels of a group where there are few groups.

Every output is summed over taps and channels in a fixed order, so results depend neither on tiles and groups
nor on the number of threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part
from separable.engine.compiled.simd import address_of, at, load_scalar, offset_pointer, prefetch
from separable.engine.compiled.sweep_params import move, set_word, word

from .activation_ops import activate
from .layer_blocks import (
    PIXELS,
    ROWS,
    VECTORS,
    add_taps,
    multiply,
    start_block,
    store_block,
)
from .layer_params import (
    NEIGHBOURS,
    SILU,
    STRIDED_THREES,
    THREES,
)
from .simd_ops import (
    LANES,
    float32_ptr,
)


@inline
def write_tap_addresses(plan, image, row, tile, table):
    """Write the addresses of all inputs of a tile; return the number of rows of taps inside the image.

    ``table`` is int64[row of taps][window]. A column outside the image has the address of zeros, so the
    arithmetic needs no case for padding; rows of taps outside the image are left out.
    """
    starts, offsets = plan.row_starts, plan.row_offsets
    columns, window, zeros = plan.columns, plan.window, plan.zeros
    first = word(starts, row)
    rows = word(starts, row + 1) - first
    columns += tile * window * 8
    for i in range(rows):
        base = image + word(offsets, first + i)
        for j in range(window):
            column = word(columns, j)
            set_word(table, i * window + j, base + column if column >= 0 else zeros)
    return rows


@inline
def prefetch_next_tile(plan, table, rows, item_bytes):
    """Prefetch what the next tile of the row reads first.

    These are the columns that the next tile adds to the window, in the lowest rows of taps: the rows above
    were read for the row of outputs before.
    """
    window, stride, channels = plan.window, plan.stride_columns, plan.channels
    count = min(window, PIXELS * stride)
    offset = PIXELS * stride * channels * item_bytes
    for i in range(max(0, rows - stride), rows):
        for j in range(window - count, window):
            place = word(table, i * window + j) + offset
            for line in range(0, channels * item_bytes, 64):
                prefetch(place + line)


@inline
def _add_row_of_taps(plan, block, like, table, shift, weights, tile, inside, tail):
    """Add one row of taps to a block: all taps t along x, for PIXELS outputs and LANES channels.

    Taps that are neighbours are added up to seven at a time, so that an input that several outputs share is
    loaded once. ``weights`` is float32[tap][lane], ``table`` the addresses of the input columns.
    """
    taps, k = plan.taps_of_row, 0
    if plan.row_kind == NEIGHBOURS:
        k, taps = word(plan.tap_range, 2 * tile), word(plan.tap_range, 2 * tile + 1)
        while k + 7 <= taps:
            here, factors = table + k * 8, offset_pointer(weights, k * LANES)
            block = add_taps(block, like, here, shift, 1, factors, 7, 1, inside, tail)
            k += 7
        # The number of taps is a literal of the code, so each remainder has a call of its own.
        here, factors, left = table + k * 8, offset_pointer(weights, k * LANES), taps - k
        if left == 6:
            block = add_taps(block, like, here, shift, 1, factors, 6, 1, inside, tail)
        elif left == 5:
            block = add_taps(block, like, here, shift, 1, factors, 5, 1, inside, tail)
        elif left == 4:
            block = add_taps(block, like, here, shift, 1, factors, 4, 1, inside, tail)
        elif left == 3:
            block = add_taps(block, like, here, shift, 1, factors, 3, 1, inside, tail)
        elif left == 2:
            block = add_taps(block, like, here, shift, 1, factors, 2, 1, inside, tail)
        elif left == 1:
            block = add_taps(block, like, here, shift, 1, factors, 1, 1, inside, tail)
    else:
        step, dilation = plan.stride_columns, plan.dilation
        while k < taps:
            here = table + k * dilation * 8
            factors = offset_pointer(weights, k * LANES)
            block = add_taps(block, like, here, shift, step, factors, 1, 0, inside, tail)
            k += 1
    return block


@inline
def _depthwise_vector(
    plan, like, table, rows, first, tile, weights, bias, shift, out, step, pixels, inside, tail
):
    """Compute the depthwise result of one tile for one vector of channels.

    ``shift`` is the offset in bytes of the vector within a position, ``inside`` the number of its channels
    that exist (``tail`` 1 if these are fewer than LANES).
    """
    table_step = plan.window * 8
    # Weights of each row of taps: float32[tap][lane] at an offset in elements.
    offsets = plan.row_weights + first * 8
    limits = float32_ptr(plan.limits)
    kind = plan.row_kind
    block = start_block(bias)
    if kind == THREES:
        for i in range(rows):
            place, here = table + i * table_step, offset_pointer(weights, word(offsets, i))
            block = add_taps(block, like, place, shift, 1, here, 3, 1, inside, tail)
    elif kind == STRIDED_THREES:
        for i in range(rows):
            place, here = table + i * table_step, offset_pointer(weights, word(offsets, i))
            block = add_taps(block, like, place, shift, 2, here, 3, 2, inside, tail)
    else:
        for i in range(rows):
            place, here = table + i * table_step, offset_pointer(weights, word(offsets, i))
            block = _add_row_of_taps(plan, block, like, place, shift, here, tile, inside, tail)
    store_block(
        block,
        out,
        step,
        pixels,
        load_scalar(limits),
        load_scalar(offset_pointer(limits, 1)),
        inside,
        tail,
    )


@part
def depthwise_tile(plan, like, table, rows, first, tile, out, step, pixels, begun, ended):
    """Compute the depthwise result of a tile for the blocks of channels from ``begun`` to ``ended``.

    Block n is the b-th vector of input channels for the m-th value of the depth multiplier: middle channels
    are ordered [multiplier][channel]. ``out`` is the tile's first position, positions ``step`` bytes apart.
    """
    channels, blocks = plan.channels, plan.source_blocks
    size = plan.block_step
    item = address_of(offset_pointer(like, 1)) - address_of(like)
    weights, biases = float32_ptr(plan.depthwise), float32_ptr(plan.depthwise_bias)
    for n in range(begun, ended):
        m, b = n // blocks, n % blocks
        taps, bias = offset_pointer(weights, n * size), offset_pointer(biases, n * LANES)
        place = offset_pointer(out, m * channels + b * LANES)
        inside = channels - b * LANES
        if inside >= LANES:
            _depthwise_vector(
                plan, like, table, rows, first, tile, taps, bias, b * LANES * item,
                place, step, pixels, LANES, 0,
            )  # fmt: skip
        else:
            _depthwise_vector(
                plan, like, table, rows, first, tile, taps, bias, b * LANES * item,
                place, step, pixels, inside, 1,
            )  # fmt: skip


@inline
def multiply_rows(
    a, row, panel, line, depth, start, out, step, lower, upper, rows, vectors, transposed
):
    """Multiply up to ROWS rows with a panel of a literal number of vectors."""
    if rows == 6:
        multiply(a, row, panel, line, depth, start, out, step, lower, upper, 6, vectors, transposed)
    elif rows == 5:
        multiply(a, row, panel, line, depth, start, out, step, lower, upper, 5, vectors, transposed)
    elif rows == 4:
        multiply(a, row, panel, line, depth, start, out, step, lower, upper, 4, vectors, transposed)
    elif rows == 3:
        multiply(a, row, panel, line, depth, start, out, step, lower, upper, 3, vectors, transposed)
    elif rows == 2:
        multiply(a, row, panel, line, depth, start, out, step, lower, upper, 2, vectors, transposed)
    else:
        multiply(a, row, panel, line, depth, start, out, step, lower, upper, 1, vectors, transposed)


@part
def _multiply_block(a, row, panel, line, depth, bias, out, step, lower, upper, rows, vectors):
    """Store the product of up to ROWS rows with a panel of up to VECTORS vectors.

    out[r, o] = clamp(bias[o] + sum_c a[r, c] * panel[c, o])
    """
    if vectors == 1:
        multiply_rows(a, row, panel, line, depth, bias, out, step, lower, upper, rows, 1, 0)
    elif vectors == 2:
        multiply_rows(a, row, panel, line, depth, bias, out, step, lower, upper, rows, 2, 0)
    elif vectors == 3 and VECTORS == 4:
        multiply_rows(a, row, panel, line, depth, bias, out, step, lower, upper, rows, 3, 0)
    elif VECTORS == 4:
        multiply_rows(a, row, panel, line, depth, bias, out, step, lower, upper, rows, 4, 0)


@part
def _copy_block(spill, out, step, rows, count, item):
    """Copy the first ``count`` columns of a block from float[ROWS][VECTORS * LANES] to the output."""
    size = VECTORS * LANES * item
    for r in range(rows):
        move(out + r * step, spill + r * size, count * item)


@part
def multiply_panels(
    like, middle, pitch, depth, packed, bias, target, step, outputs, pixels, begun, ended, limits,
    act, spill,
):  # fmt: skip
    """Multiply ``pixels`` rows of values with the panels of weights from ``begun`` to ``ended``.

    out[p, o] = act(bias[o] + sum_c middle[p, c] * weights[c, o])

    ``middle`` is float32[p][c] with rows ``pitch`` bytes apart, ``packed`` float32[panel][c][o of the panel],
    ``target`` has rows ``step`` bytes apart.
    """
    item = address_of(offset_pointer(like, 1)) - address_of(like)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    tiles = (pixels + ROWS - 1) // ROWS
    size = VECTORS * LANES
    for n in range(begun, ended):
        vectors = min(VECTORS, (outputs - n * size + LANES - 1) // LANES)
        panel = float32_ptr(packed + n * depth * size * 4)
        start = float32_ptr(bias + n * size * 4)
        width = min(outputs - n * size, vectors * LANES)
        for t in range(tiles):
            # Rows are divided evenly over the blocks: small blocks do not hide the latency of an FMA.
            p = t * pixels // tiles
            rows = (t + 1) * pixels // tiles - p
            place = target + p * step + n * size * item
            a, line = float32_ptr(middle + p * pitch), vectors * LANES * 4
            if width == vectors * LANES:
                out = at(like, place)
                _multiply_block(
                    a, pitch, panel, line, depth, start, out, step, lower, upper, rows, vectors
                )
            else:  # the last vector is not full: whole vectors go to `spill` first
                out, far = at(like, spill), size * item
                _multiply_block(
                    a, pitch, panel, line, depth, start, out, far, lower, upper, rows, vectors
                )
                _copy_block(spill, place, step, rows, width, item)
            if act >= SILU:
                activate(at(like, place), rows, step // item, width, act)
