"""A separable layer in one walk over its output, channels last.

What is computed, for output position p and channels c (depthwise) and o:

    held[p, c] = act(between_bias[c] + sum_t depthwise[t, c] * x[p * stride + t * dilation - pad, c])
    out[p, o] = act(bias[o] + sum_c held[p, c] * pointwise[c, o])

How it is walked: a *tile* is up to ``PIXELS`` neighbouring outputs of one row, a *group* so many tiles that
their depthwise result stays in the second-level cache, where the product with all weights finds it. Items of
work are groups, and parts of the output channels where there are few groups.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import address_of, at, load_scalar, offset_pointer, prefetch
from separable.engine.compiled.sweep_params import move, next_work_item, set_word, word

from .layer_blocks import PIXELS, ROWS, VECTORS, begin, finish, gather, multiply
from .layer_params import (
    ACT,
    AT_HELD,
    AT_SPILL,
    BETWEEN_ACT,
    BETWEEN_BIAS,
    BIAS,
    BLOCK_STEP,
    CHANNELS,
    COLUMNS,
    DEPTH,
    DEPTHWISE,
    DILATION,
    GROUP_TILES,
    HELD_STEP,
    IMAGE_STEP,
    ITEMS,
    KIND,
    LIMITS,
    MULTIPLIER,
    NEIGHBOURS,
    OUT_ROWS,
    OUTPUTS,
    PANELS,
    PARTS,
    POINTWISE,
    ROW_OFFSETS,
    ROW_SIZE,
    ROW_STARTS,
    ROW_WEIGHTS,
    SCRATCH,
    SCRATCH_SIZE,
    SILU,
    SOURCE,
    SOURCE_BLOCKS,
    STEP_ENTRIES,
    STRIDED_THREES,
    TAP_RANGE,
    TAPS_OF_ROW,
    TARGET,
    TARGET_STEP,
    THREES,
    TILES,
    TILES_OF_IMAGE,
    TILES_OF_ROW,
    WINDOW,
    ZEROS,
)  # fmt: skip
from .simd_ops import (
    LANES,
    brains,
    floats,
    hardswish,
    read,
    read_part,
    silu,
    write,
    write_part,
)


@inline
def prepare(plan, image, row, tile, table):
    """Write the addresses of all inputs of a tile; return how many rows of taps are inside."""
    starts, offsets = word(plan, ROW_STARTS), word(plan, ROW_OFFSETS)
    columns, window = word(plan, COLUMNS), word(plan, WINDOW)
    zeros = word(plan, ZEROS)
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
def foresee(plan, table, rows, item_bytes):
    """Ask for what the next tile of the row reads first: its part of the lowest rows under the kernel."""
    window, stride, channels = word(plan, WINDOW), word(plan, STEP_ENTRIES), word(plan, CHANNELS)
    count = min(window, PIXELS * stride)
    away = PIXELS * stride * channels * item_bytes
    for i in range(max(0, rows - stride), rows):
        for j in range(window - count, window):
            place = word(table, i * window + j) + away
            for line in range(0, channels * item_bytes, 64):
                prefetch(place + line)


@inline
def _row_of_taps(plan, block, like, table, shift, weights, tile, inside, kind, tail):
    """Add one row of taps to a block."""
    if kind == THREES:
        return gather(block, like, table, shift, 1, weights, 3, 1, inside, tail)
    if kind == STRIDED_THREES:
        return gather(block, like, table, shift, 2, weights, 3, 2, inside, tail)
    taps, k = word(plan, TAPS_OF_ROW), 0
    if kind == NEIGHBOURS:
        k, taps = word(word(plan, TAP_RANGE), 2 * tile), word(word(plan, TAP_RANGE), 2 * tile + 1)
        while k + 7 <= taps:
            block = gather(
                block,
                like,
                table + k * 8,
                shift,
                1,
                offset_pointer(weights, k * LANES),
                7,
                1,
                inside,
                tail,
            )
            k += 7
        place, factors, left = table + k * 8, offset_pointer(weights, k * LANES), taps - k
        if left == 6:
            block = gather(block, like, place, shift, 1, factors, 6, 1, inside, tail)
        elif left == 5:
            block = gather(block, like, place, shift, 1, factors, 5, 1, inside, tail)
        elif left == 4:
            block = gather(block, like, place, shift, 1, factors, 4, 1, inside, tail)
        elif left == 3:
            block = gather(block, like, place, shift, 1, factors, 3, 1, inside, tail)
        elif left == 2:
            block = gather(block, like, place, shift, 1, factors, 2, 1, inside, tail)
        elif left == 1:
            block = gather(block, like, place, shift, 1, factors, 1, 1, inside, tail)
    else:
        step, dilation = word(plan, STEP_ENTRIES), word(plan, DILATION)
        while k < taps:
            here = table + k * dilation * 8
            block = gather(
                block,
                like,
                here,
                shift,
                step,
                offset_pointer(weights, k * LANES),
                1,
                0,
                inside,
                tail,
            )
            k += 1
    return block


@inline
def _channels(
    plan, like, table, rows, first, tile, weights, bias, shift, out, step, pixels, inside, tail
):
    """Compute the depthwise result of one vector of channels of a tile."""
    table_step = word(plan, WINDOW) * 8
    offsets = word(plan, ROW_WEIGHTS) + first * 8
    limits = floats(word(plan, LIMITS))
    kind = word(plan, KIND)
    block = begin(bias)
    if kind == THREES:
        for i in range(rows):
            here = offset_pointer(weights, word(offsets, i))
            block = gather(block, like, table + i * table_step, shift, 1, here, 3, 1, inside, tail)
    elif kind == STRIDED_THREES:
        for i in range(rows):
            here = offset_pointer(weights, word(offsets, i))
            block = gather(block, like, table + i * table_step, shift, 2, here, 3, 2, inside, tail)
    else:
        for i in range(rows):
            here = offset_pointer(weights, word(offsets, i))
            place = table + i * table_step
            block = _row_of_taps(plan, block, like, place, shift, here, tile, inside, kind, tail)
    finish(
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
def depthwise_of(plan, like, table, rows, first, tile, out, step, pixels, begun, ended):
    """Compute the depthwise result of a tile for vectors of channels from ``begun`` to ``ended``."""
    channels, blocks = word(plan, CHANNELS), word(plan, SOURCE_BLOCKS)
    size = word(plan, BLOCK_STEP)
    item = address_of(offset_pointer(like, 1)) - address_of(like)
    weights, biases = floats(word(plan, DEPTHWISE)), floats(word(plan, BETWEEN_BIAS))
    for n in range(begun, ended):
        m, b = n // blocks, n % blocks
        taps, bias = offset_pointer(weights, n * size), offset_pointer(biases, n * LANES)
        place = offset_pointer(out, m * channels + b * LANES)
        inside = channels - b * LANES
        if inside >= LANES:
            _channels(
                plan, like, table, rows, first, tile, taps, bias, b * LANES * item,
                place, step, pixels, LANES, 0,
            )  # fmt: skip
        else:
            _channels(
                plan, like, table, rows, first, tile, taps, bias, b * LANES * item,
                place, step, pixels, inside, 1,
            )  # fmt: skip


@part
def _activate(p, rows, step, count, act):
    """Apply an activation that is no clamp to ``count`` values of each of some rows."""
    for r in range(rows):
        line = offset_pointer(p, r * step)
        for start in range(0, count, LANES):
            here, left = offset_pointer(line, start), count - start
            if left >= LANES:
                value = read(here)
                write(here, silu(value) if act == SILU else hardswish(value))
            else:
                value = read_part(here, left)
                write_part(here, silu(value) if act == SILU else hardswish(value), left)


@inline
def _of_width(a, row, panel, line, depth, start, out, step, least, most, rows, vectors, turned):
    """Multiply ``rows`` rows with a panel of a literal number of vectors."""
    if rows == 6:
        multiply(a, row, panel, line, depth, start, out, step, least, most, 6, vectors, turned)
    elif rows == 5:
        multiply(a, row, panel, line, depth, start, out, step, least, most, 5, vectors, turned)
    elif rows == 4:
        multiply(a, row, panel, line, depth, start, out, step, least, most, 4, vectors, turned)
    elif rows == 3:
        multiply(a, row, panel, line, depth, start, out, step, least, most, 3, vectors, turned)
    elif rows == 2:
        multiply(a, row, panel, line, depth, start, out, step, least, most, 2, vectors, turned)
    else:
        multiply(a, row, panel, line, depth, start, out, step, least, most, 1, vectors, turned)


@part
def product(a, row, panel, line, depth, bias, out, step, least, most, rows, vectors):
    """Store the product of up to ``ROWS`` rows with a panel of up to ``VECTORS`` vectors."""
    if vectors == 1:
        _of_width(a, row, panel, line, depth, bias, out, step, least, most, rows, 1, 0)
    elif vectors == 2:
        _of_width(a, row, panel, line, depth, bias, out, step, least, most, rows, 2, 0)
    elif vectors == 3 and VECTORS == 4:
        _of_width(a, row, panel, line, depth, bias, out, step, least, most, rows, 3, 0)
    elif VECTORS == 4:
        _of_width(a, row, panel, line, depth, bias, out, step, least, most, rows, 4, 0)


@part
def _spilled(spill, out, step, rows, count, item):
    """Copy a block whose last vector is not full to where it belongs."""
    size = VECTORS * LANES * item
    for r in range(rows):
        move(out + r * step, spill + r * size, count * item)


@part
def panels_of(
    like, held, pitch, depth, packed, bias, target, step, outputs, pixels, begun, ended, limits,
    act, spill,
):  # fmt: skip
    """Multiply rows of values with panels of weights from ``begun`` to ``ended``."""
    item = address_of(offset_pointer(like, 1)) - address_of(like)
    least, most = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    tiles = (pixels + ROWS - 1) // ROWS
    size = VECTORS * LANES
    for n in range(begun, ended):
        vectors = min(VECTORS, (outputs - n * size + LANES - 1) // LANES)
        panel, start = floats(packed + n * depth * size * 4), floats(bias + n * size * 4)
        width = min(outputs - n * size, vectors * LANES)
        for t in range(tiles):
            p = t * pixels // tiles
            rows = (t + 1) * pixels // tiles - p
            place = target + p * step + n * size * item
            a, line = floats(held + p * pitch), vectors * LANES * 4
            if width == vectors * LANES:
                out = at(like, place)
                product(a, pitch, panel, line, depth, start, out, step, least, most, rows, vectors)
            else:
                out, far = at(like, spill), size * item
                product(a, pitch, panel, line, depth, start, out, far, least, most, rows, vectors)
                _spilled(spill, place, step, rows, width, item)
            if act >= SILU:
                _activate(at(like, place), rows, step // item, width, act)


@inline
def group_of(plan, like, held, table, begun, ended):
    """Compute the depthwise result of tiles; return where their outputs begin and how many there are."""
    per_row, per_image = word(plan, TILES_OF_ROW), word(plan, TILES_OF_IMAGE)
    size, pitch = word(plan, ROW_SIZE), word(plan, HELD_STEP)
    blocks = word(plan, SOURCE_BLOCKS) * word(plan, MULTIPLIER)
    act, depth = word(plan, BETWEEN_ACT), word(plan, DEPTH)
    out_rows = word(plan, OUT_ROWS)
    item_bytes = address_of(offset_pointer(like, 1)) - address_of(like)
    start = (begun // per_row) * size + (begun % per_row) * PIXELS
    pixels = 0
    for t in range(begun, ended):
        image, row, tile = t // per_image, t // per_row % out_rows, t % per_row
        source = word(plan, SOURCE) + image * word(plan, IMAGE_STEP)
        first = word(word(plan, ROW_STARTS), row)
        rows = prepare(plan, source, row, tile, table)
        foresee(plan, table, rows, item_bytes)
        wide = min(PIXELS, size - tile * PIXELS)
        out = floats(held + pixels * pitch)
        depthwise_of(plan, like, table, rows, first, tile, out, pitch, wide, 0, blocks)
        if act >= SILU:
            _activate(out, wide, pitch // 4, depth, act)
        pixels += wide
    return start, pixels


@inline
def _walk(plan, counter, seat, like):
    """Take items until none is left."""
    scratch = word(plan, SCRATCH) + seat * word(plan, SCRATCH_SIZE)
    held, spill = scratch + word(plan, AT_HELD), scratch + word(plan, AT_SPILL)
    items, parts, panels = word(plan, ITEMS), word(plan, PARTS), word(plan, PANELS)
    item = next_work_item(counter)
    while item < items:
        group, share = item // parts, item % parts
        begun = group * word(plan, GROUP_TILES)
        ended = min(begun + word(plan, GROUP_TILES), word(plan, TILES))
        start, pixels = group_of(plan, like, held, scratch, begun, ended)
        target = word(plan, TARGET) + start * word(plan, TARGET_STEP)
        low, high = share * panels // parts, (share + 1) * panels // parts
        panels_of(
            like, held, word(plan, HELD_STEP), word(plan, DEPTH), word(plan, POINTWISE),
            word(plan, BIAS), target, word(plan, TARGET_STEP), word(plan, OUTPUTS), pixels,
            low, high, offset_pointer(floats(word(plan, LIMITS)), 2), word(plan, ACT), spill,
        )  # fmt: skip
        item = next_work_item(counter)


@inline
def _column(plan, block):
    """Return the first depthwise output of a block of channels."""
    channels, blocks = word(plan, CHANNELS), word(plan, SOURCE_BLOCKS)
    return block // blocks * channels + block % blocks * LANES


@inline
def _walk_depthwise(plan, counter, seat, like):
    """Take items of a layer that is only depthwise until none is left."""
    table = word(plan, SCRATCH) + seat * word(plan, SCRATCH_SIZE)
    items, parts = word(plan, ITEMS), word(plan, PARTS)
    per_row, per_image = word(plan, TILES_OF_ROW), word(plan, TILES_OF_IMAGE)
    size, step, out_rows = word(plan, ROW_SIZE), word(plan, TARGET_STEP), word(plan, OUT_ROWS)
    blocks = word(plan, SOURCE_BLOCKS) * word(plan, MULTIPLIER)
    act, outputs = word(plan, BETWEEN_ACT), word(plan, OUTPUTS)
    item_bytes = address_of(offset_pointer(like, 1)) - address_of(like)
    item = next_work_item(counter)
    while item < items:
        group, share = item // parts, item % parts
        low, high = share * blocks // parts, (share + 1) * blocks // parts
        begun = group * word(plan, GROUP_TILES)
        for t in range(begun, min(begun + word(plan, GROUP_TILES), word(plan, TILES))):
            image, row, tile = t // per_image, t // per_row % out_rows, t % per_row
            source = word(plan, SOURCE) + image * word(plan, IMAGE_STEP)
            rows = prepare(plan, source, row, tile, table)
            if share == 0:
                foresee(plan, table, rows, item_bytes)
            wide = min(PIXELS, size - tile * PIXELS)
            place = word(plan, TARGET) + ((t // per_row) * size + tile * PIXELS) * step
            first = word(word(plan, ROW_STARTS), row)
            depthwise_of(
                plan, like, table, rows, first, tile, at(like, place), step, wide, low, high
            )  # fmt: skip
            if act >= SILU and high > low:
                bytes_each = step // outputs
                column = _column(plan, low)
                count = _column(plan, high) - column
                _activate(at(like, place + column * bytes_each), wide, outputs, count, act)
        item = next_work_item(counter)


@stage
def depthwise_float32(plan, counter, seat):
    """Run a depthwise layer of float32."""
    _walk_depthwise(plan, counter, seat, floats(word(plan, SOURCE)))


@stage
def depthwise_bfloat16(plan, counter, seat):
    """Run a depthwise layer of bfloat16."""
    _walk_depthwise(plan, counter, seat, brains(word(plan, SOURCE)))


@stage
def layer_float32(plan, counter, seat):
    """Run a layer of float32."""
    _walk(plan, counter, seat, floats(word(plan, SOURCE)))


@stage
def layer_bfloat16(plan, counter, seat):
    """Run a layer of bfloat16."""
    _walk(plan, counter, seat, brains(word(plan, SOURCE)))


@stage
def pointwise_float32(plan, counter, seat):
    """Run a layer that only mixes the channels of each position: its input is what is multiplied."""
    spill = word(plan, SCRATCH) + seat * word(plan, SCRATCH_SIZE) + word(plan, AT_SPILL)
    items, parts, panels = word(plan, ITEMS), word(plan, PARTS), word(plan, PANELS)
    pitch, step, size = (
        word(plan, DEPTH) * 4,
        word(plan, TARGET_STEP),
        word(plan, GROUP_TILES) * PIXELS,
    )
    item = next_work_item(counter)
    while item < items:
        start, share = item // parts * size, item % parts
        low, high = share * panels // parts, (share + 1) * panels // parts
        panels_of(
            floats(word(plan, SOURCE)), word(plan, SOURCE) + start * pitch, pitch,
            word(plan, DEPTH), word(plan, POINTWISE), word(plan, BIAS),
            word(plan, TARGET) + start * step, step, word(plan, OUTPUTS),
            min(size, word(plan, ROW_SIZE) - start), low, high,
            offset_pointer(floats(word(plan, LIMITS)), 2), word(plan, ACT), spill,
        )  # fmt: skip
        item = next_work_item(counter)
