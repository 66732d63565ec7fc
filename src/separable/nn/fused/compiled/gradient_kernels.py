"""Gradients of a separable layer, channels last, in float32.

With g[p, o] the gradient of the output, 0 where the activation clamped the output:

    pointwise_bias'[o]   = sum_p g[p, o]
    pointwise'[c, o]     = sum_p middle[p, c] * g[p, o]
    middle'[p, c]        = sum_o g[p, o] * pointwise[c, o], 0 where the activation clamped middle[p, c]
    depthwise_bias'[c]   = sum_p middle'[p, c]
    depthwise'[t, c]     = sum_p middle'[p, c] * x[p * stride + t * dilation - pad, c]

The first kernel computes the first three, group by group: it computes the middle values again, which is
faster than to keep them. The second kernel computes the last two, tile by tile.

Sums over positions are formed in *slabs*, ranges of tiles whose number does not depend on the number of
threads; the partial sums are added in order afterwards, so results do not depend on threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import add, at, load_scalar, offset_pointer, prefetch
from separable.engine.compiled.sweep_params import set_word, word
from separable.engine.compiled.work_items import next_work_item

from .depthwise_tiles import depthwise_group, depthwise_tiles
from .gradient_blocks import add_square_gradients, add_tap_gradients
from .layer_blocks import PIXELS, ROWS, VECTORS
from .layer_kernels import multiply_panels, multiply_rows, prefetch_next_tile, write_tap_addresses
from .layer_params import IDENTITY, LAYER_BYTES, NEIGHBOURS, STRIDED_THREES, THREES, layer_at
from .simd_ops import LANES, float32_ptr, gradient_inside, read, read_part, write, write_part, zero

_ROWS_BETWEEN = ROWS
"""Positions that are multiplied between two parts of what is prefetched."""


@part
def write_zeros(p, count):
    """Write ``count`` zeros, rounded up to whole vectors."""
    for i in range(0, count, LANES):
        write(offset_pointer(p, i), zero())


@inline
def _copy_four(gradient, outputs, out, step, sums, pixels):
    """Copy four vectors of outputs of each position, and add them to their sums: whole cache lines in order."""
    ends = LANES, 2 * LANES, 3 * LANES
    a, b = read(sums), read(offset_pointer(sums, ends[0]))
    c, d = read(offset_pointer(sums, ends[1])), read(offset_pointer(sums, ends[2]))
    for p in range(pixels):
        here, there = offset_pointer(gradient, p * outputs), offset_pointer(out, p * step)
        v, w = read(here), read(offset_pointer(here, ends[0]))
        x, y = read(offset_pointer(here, ends[1])), read(offset_pointer(here, ends[2]))
        write(there, v)
        write(offset_pointer(there, ends[0]), w)
        write(offset_pointer(there, ends[1]), x)
        write(offset_pointer(there, ends[2]), y)
        a, b, c, d = add(a, v), add(b, w), add(c, x), add(d, y)
    write(sums, a)
    write(offset_pointer(sums, ends[0]), b)
    write(offset_pointer(sums, ends[1]), c)
    write(offset_pointer(sums, ends[2]), d)


@part
def mask_gradient(gradient, result, act, limits, outputs, out, step, sums, pixels):
    """Copy the masked gradient g of a group to ``out`` and add it to the sums of the biases' gradient.

    ``gradient`` and ``result`` are float32[p][outputs], ``out`` is float32[p][step]. g is 0 where the
    activation clamped the result.
    """
    whole = outputs - outputs % (4 * LANES) if act == IDENTITY else 0
    for c in range(0, whole, 4 * LANES):
        _copy_four(
            offset_pointer(gradient, c), outputs, offset_pointer(out, c), step,
            offset_pointer(sums, c), pixels,
        )  # fmt: skip
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    # One vector of outputs after the other, so that its sum over positions stays in a register.
    for c in range(whole, outputs, LANES):
        inside = min(LANES, outputs - c)
        total = read(offset_pointer(sums, c))
        for p in range(pixels):
            place = offset_pointer(gradient, p * outputs + c)
            if inside == LANES:
                value = read(place)
                if act != IDENTITY:
                    value = gradient_inside(
                        value, read(offset_pointer(result, p * outputs + c)), lower, upper
                    )
            else:
                value = read_part(place, inside)
                if act != IDENTITY:
                    seen = read_part(offset_pointer(result, p * outputs + c), inside)
                    value = gradient_inside(value, seen, lower, upper)
            write(offset_pointer(out, p * step + c), value)
            total = add(total, value)
        write(offset_pointer(sums, c), total)


@part
def _mask_middle_gradient(gradient, middle, pitch, depth, limits, pixels):
    """Set the gradient of the middle values to 0 in place where their activation clamped them.

    ``gradient`` is float32[p][depth], ``middle`` float32[p][pitch].
    """
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for p in range(pixels):
        here, seen = offset_pointer(gradient, p * depth), offset_pointer(middle, p * pitch)
        for c in range(0, depth, LANES):
            place, inside = offset_pointer(here, c), min(LANES, depth - c)
            if inside == LANES:
                write(
                    place, gradient_inside(read(place), read(offset_pointer(seen, c)), lower, upper)
                )
            else:
                value = gradient_inside(
                    read_part(place, inside),
                    read_part(offset_pointer(seen, c), inside),
                    lower,
                    upper,
                )
                write_part(place, value, inside)


@part
def _multiply_transposed(a, row, panel, line, depth, out, step, rows, vectors):
    """Add the product of columns of ``a`` with a panel: out[o, c] += sum_p a[p, o] * panel[p, c]."""
    if vectors == 1:
        multiply_rows(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 1, 1)
    elif vectors == 2:
        multiply_rows(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 2, 1)
    elif vectors == 3 and VECTORS == 4:
        multiply_rows(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 3, 1)
    elif VECTORS == 4:
        multiply_rows(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 4, 1)


@part
def _prefetch_share(start, size, share, shares):
    """Prefetch one of ``shares`` parts of the ``size`` bytes at ``start``."""
    first, last = share * size // shares // 64, (share + 1) * size // shares // 64
    for line in range(first, last):
        prefetch(start + line * 64)


@inline
def add_pointwise_gradient(plan, gradient, middle, sums, start, pixels):
    """Add a group's share of the pointwise weights' gradient: sums[o, c] += sum_p g[p, o] * middle[p, c].

    ``gradient`` is float32[pixels][gradient_step], ``middle`` float32[pixels][middle_step / 4], ``sums``
    float32[outputs][depth rounded up to whole vectors]. Between the products, which leave the memory idle, the output's
    gradient that the next group reads is prefetched.
    """
    depth, outputs, step, pitch = plan.depth, plan.outputs, plan.gradient_step, plan.middle_step
    vectors = (depth + LANES - 1) // LANES
    line = vectors * LANES
    panels = (vectors + VECTORS - 1) // VECTORS
    blocks = (outputs + ROWS - 1) // ROWS
    size = pixels * outputs * 4
    following = plan.gradient + start * outputs * 4 + size
    for n in range(panels):
        first = n * VECTORS
        wide = min(VECTORS, vectors - first)
        for o in range(0, outputs, ROWS):
            _prefetch_share(following, size, n * blocks + o // ROWS, panels * blocks)
            _multiply_transposed(
                offset_pointer(gradient, o), step * 4, offset_pointer(middle, first * LANES), pitch, pixels,
                offset_pointer(sums, o * line + first * LANES), line * 4, min(ROWS, outputs - o), wide,
            )  # fmt: skip


@part
def pointwise_group(plan, like, scratch, begun, until, target, sums):
    """Add a group's share to the sums of a slab, and compute the gradient of its middle values.

    ``target`` is the address of the middle values' gradient of output position 0.
    """
    middle, masked = scratch + plan.at_middle, float32_ptr(scratch + plan.at_gradient)
    limits, pitch = float32_ptr(plan.limits), plan.middle_step
    depth, outputs, step = plan.depth, plan.outputs, plan.gradient_step
    line = (depth + LANES - 1) // LANES * LANES
    start, pixels = depthwise_group(plan, like, middle, scratch, begun, until)
    mask_gradient(
        float32_ptr(plan.gradient + start * outputs * 4),
        float32_ptr(plan.result + start * outputs * 4), plan.pointwise_act,
        offset_pointer(limits, 2), outputs, masked, step, offset_pointer(sums, outputs * line), pixels,
    )  # fmt: skip
    add_pointwise_gradient(plan, masked, float32_ptr(middle), sums, start, pixels)
    target += start * depth * 4
    multiply_transposed_weights(plan, like, scratch, target, start, pixels)
    if plan.depthwise_act != IDENTITY:
        _mask_middle_gradient(
            float32_ptr(target), float32_ptr(middle), pitch // 4, depth, limits, pixels
        )


@inline
def multiply_transposed_weights(plan, like, scratch, target, start, pixels):
    """Compute middle' = g times the transposed weights, which the caller packed as panels.

    Between the products the input that the next group reads is prefetched.
    """
    depth, step = plan.depth, plan.gradient_step * 4
    panels = (depth + VECTORS * LANES - 1) // (VECTORS * LANES)
    masked, spill = scratch + plan.at_gradient, scratch + plan.at_spill
    limits = offset_pointer(float32_ptr(plan.limits), 4)
    # Input positions lie in the same order as output positions, a share of an image for each of them.
    positions = plan.out_rows * plan.row_size
    following = plan.source + (start + pixels) * plan.image_step // positions + plan.source_ahead
    size = pixels * plan.image_step // positions
    for p in range(0, pixels, _ROWS_BETWEEN):
        _prefetch_share(following, size, p // _ROWS_BETWEEN, (pixels - 1) // _ROWS_BETWEEN + 1)
        multiply_panels(
            like, masked + p * step, step, plan.outputs, plan.pointwise, plan.pointwise_bias,
            target + p * depth * 4, depth * 4, depth, min(_ROWS_BETWEEN, pixels - p), 0, panels, limits,
            IDENTITY, spill,
        )  # fmt: skip


@stage
def backward_pointwise(address, counter, thread):
    """Compute the gradients of the pointwise weights, their biases and the middle values."""
    plan = layer_at(address)
    scratch = plan.scratch + thread * plan.scratch_size
    like = float32_ptr(plan.source)
    slabs, tiles = plan.slabs, plan.tiles
    slab = next_work_item(counter, slabs, thread)
    while slab < slabs:
        # One work item is one slab. Its sums: float32[outputs][line] of weights, then float32[outputs].
        sums = float32_ptr(plan.sums + slab * plan.slab_step)
        write_zeros(sums, plan.slab_step // 4)
        begun, ended = slab * tiles // slabs, (slab + 1) * tiles // slabs
        while begun < ended:
            until = min(begun + plan.group_tiles, ended)
            pointwise_group(plan, like, scratch, begun, until, plan.middle_gradient, sums)
            begun = until
        slab = next_work_item(counter, slabs, thread)


@inline
def _add_row_gradient(plan, sums, like, table, shift, gradients, far, inside, tail):
    """Add one row of taps to the depthwise weights' gradient: sums[t, c] += sum_p x[p, t, c] * g[p, c].

    ``sums`` is float32[tap][lane], ``table`` has the inputs' addresses, ``gradients`` those of the
    PIXELS gradients; ``shift`` and ``far`` are the offsets of the vector of channels in both.
    """
    kind = plan.row_kind
    if kind == THREES:
        add_tap_gradients(sums, like, table, shift, 1, gradients, far, 3, 1, inside, tail)
    elif kind == STRIDED_THREES:
        add_tap_gradients(sums, like, table, shift, 2, gradients, far, 3, 2, inside, tail)
    else:
        taps, k = plan.taps_of_row, 0
        if kind == NEIGHBOURS:
            while k + 4 <= taps:
                here, place = table + k * 8, offset_pointer(sums, k * LANES)
                add_tap_gradients(place, like, here, shift, 1, gradients, far, 4, 1, inside, tail)
                k += 4
        step, dilation = plan.stride_columns, plan.dilation
        while k < taps:
            here, place = table + k * dilation * 8, offset_pointer(sums, k * LANES)
            add_tap_gradients(place, like, here, shift, step, gradients, far, 1, 0, inside, tail)
            k += 1


@part
def _add_tile_gradient(plan, like, table, rows, first, gradients, sums, low, high):
    """Add a tile's share of the depthwise gradients for the blocks of channels from ``low`` to ``high``.

    ``sums`` is float32[block][tap + 1][lane]: the weights' gradient, and in the last row the biases'.
    """
    channels, blocks = plan.channels, plan.source_blocks
    line = plan.window * 8
    offsets = plan.row_weights + first * 8
    size = plan.block_step + LANES
    kind = plan.row_kind
    # All taps of a 3x3 kernel inside the image are added together, if there are registers for them.
    square = VECTORS == 4 and kind <= STRIDED_THREES and rows == 3 and size == 10 * LANES
    for n in range(low, high):
        m, b = n // blocks, n % blocks
        inside, shift = channels - b * LANES, b * LANES * 4
        far, totals = (m * channels + b * LANES) * 4, offset_pointer(sums, n * size)
        if square and inside >= LANES:
            biases = offset_pointer(totals, size - LANES)
            if kind == THREES:
                add_square_gradients(totals, biases, like, table, line, shift, gradients, far, 3, 1)
            else:
                add_square_gradients(totals, biases, like, table, line, shift, gradients, far, 3, 2)
            continue
        for i in range(rows):
            here, place = offset_pointer(totals, word(offsets, i)), table + i * line
            if inside >= LANES:
                _add_row_gradient(plan, here, like, place, shift, gradients, far, LANES, 0)
            else:
                _add_row_gradient(plan, here, like, place, shift, gradients, far, inside, 1)
        total = read(offset_pointer(totals, size - LANES))
        for p in range(PIXELS):
            where = float32_ptr(word(gradients, p) + far)
            total = add(total, read(where) if inside >= LANES else read_part(where, inside))
        write(offset_pointer(totals, size - LANES), total)


@part
def add_tiles(plan, like, table, gradients, images, begun, until, sums, low, high, ahead):
    """Add the share of the tiles from ``begun`` to ``until`` to the depthwise gradients.

    ``images`` is the address of the middle values' gradient of output position 0. If ``ahead`` is 1, the next tile is
    prefetched.
    """
    depth, size, out_rows = plan.depth, plan.row_size, plan.out_rows
    per_row, per_image = plan.tiles_of_row, plan.tiles_of_image
    for t in range(begun, until):
        image, row, tile = t // per_image, t // per_row % out_rows, t % per_row
        rows = write_tap_addresses(plan, plan.source + image * plan.image_step, row, tile, table)
        wide = min(PIXELS, size - tile * PIXELS)
        start = images + ((t // per_row) * size + tile * PIXELS) * depth * 4
        if ahead == 1:
            prefetch_next_tile(plan, table, rows, 4)
            for line in range(PIXELS * depth * 4, 2 * PIXELS * depth * 4, 64):
                prefetch(start + line)
        # Positions past the end of the row have the gradient 0.
        for p in range(PIXELS):
            set_word(gradients, p, start + p * depth * 4 if p < wide else plan.zeros)
        first = word(plan.row_starts, row)
        _add_tile_gradient(plan, like, table, rows, first, gradients, sums, low, high)


@stage
def backward_depthwise(address, counter, thread):
    """Compute the gradients of the depthwise weights and their biases."""
    plan = layer_at(address)
    table = plan.scratch + thread * plan.scratch_size
    gradients = table + plan.at_gradient
    like = float32_ptr(plan.source)
    slabs, parts, tiles = plan.slabs, plan.parts, plan.tiles
    blocks = plan.source_blocks * plan.multiplier
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [slab][part of the blocks of channels].
        slab, share = item // parts, item % parts
        low, high = share * blocks // parts, (share + 1) * blocks // parts
        sums = float32_ptr(plan.sums + slab * plan.slab_step)
        step = plan.block_step + LANES
        write_zeros(offset_pointer(sums, low * step), (high - low) * step)
        add_tiles(
            plan, like, table, gradients, plan.middle_gradient,
            slab * tiles // slabs, (slab + 1) * tiles // slabs, sums, low, high, 1,
        )  # fmt: skip
        item = next_work_item(counter, plan.items, thread)


@part
def depthwise_rows(plan, like, source, target, table, begun, until):
    """Compute some rows of the depthwise result of one image."""
    per_row = plan.tiles_of_row
    depthwise_tiles(
        plan, like, source, at(like, target), 0, plan.target_step, table, begun * per_row,
        until * per_row, 0, plan.source_blocks, 0,
    )  # fmt: skip


@part
def depthwise_gradients(plan, back, like, scratch, image, begun, until, done, sums):
    """Use the middle values' gradient of a group while it is in the cache; return the input rows done.

    Its share is added to the depthwise weights' gradient. Then all rows of the input's gradient are computed, from
    row ``done`` on, that read no output row after the group. ``back`` is the record of the input's gradient.
    """
    buffer = scratch + plan.at_image
    positions = plan.out_rows * plan.row_size
    add_tiles(
        plan, like, scratch, scratch + plan.at_pixels, buffer - image * positions * plan.depth * 4,
        begun, until, offset_pointer(sums, plan.tap_sums // 4), 0, plan.source_blocks, 0,
    )  # fmt: skip
    if plan.target == 0:
        return done
    ready = (until - image * plan.tiles_of_image) // plan.tiles_of_row
    last = done
    while last < back.out_rows and word(plan.row_ready, last) <= ready:
        last += 1
    target = plan.target + image * plan.image_step
    depthwise_rows(back, like, buffer, target, scratch + plan.at_addresses, done, last)
    return last


@stage
def backward_layer(address, counter, thread):
    """Compute all gradients of a layer, image by image.

    The gradient of the middle values of an image stays in a buffer, so that it never goes to main memory.
    """
    plan, back = layer_at(address), layer_at(address + LAYER_BYTES)
    scratch = plan.scratch + thread * plan.scratch_size
    like = float32_ptr(plan.source)
    slabs, images, per_image = plan.slabs, plan.images, plan.tiles_of_image
    positions = plan.out_rows * plan.row_size
    slab = next_work_item(counter, slabs, thread)
    while slab < slabs:
        sums = float32_ptr(plan.sums + slab * plan.slab_step)
        write_zeros(sums, plan.slab_step // 4)
        for image in range(slab * images // slabs, (slab + 1) * images // slabs):
            target = scratch + plan.at_image - image * positions * plan.depth * 4
            begun, ended, done = image * per_image, (image + 1) * per_image, 0
            while begun < ended:
                until = min(begun + plan.group_tiles, ended)
                pointwise_group(plan, like, scratch, begun, until, target, sums)
                done = depthwise_gradients(
                    plan, back, like, scratch, image, begun, until, done, sums
                )
                begun = until
        slab = next_work_item(counter, slabs, thread)
