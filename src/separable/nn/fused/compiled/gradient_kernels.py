"""Gradients of a separable layer, channels last.

The pointwise step goes backwards group by group: the depthwise result is computed again (that is faster than
to keep it), multiplied with the output's gradient to that of the weights, and the gradient multiplied with
the weights to that of the depthwise result. The depthwise weights' gradient is another walk over tiles.

Sums over positions are made in *slabs*, of which there are as many on any number of threads, and
added in their order afterwards: results do not depend on threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import add, load_scalar, offset_pointer, prefetch
from separable.engine.compiled.sweep_params import next_work_item, set_word, word

from .layer_blocks import PIXELS, ROWS, VECTORS, correlate
from .layer_kernels import _of_width, foresee, group_of, panels_of, prepare
from .layer_params import (
    ACT,
    AT_GRADIENT,
    AT_HELD,
    AT_SPILL,
    BETWEEN_ACT,
    BIAS,
    BLOCK_STEP,
    CHANNELS,
    DEPTH,
    DILATION,
    GRADIENT,
    GRADIENT_STEP,
    GROUP_TILES,
    HELD_GRADIENT,
    HELD_STEP,
    IDENTITY,
    IMAGE_STEP,
    ITEMS,
    KIND,
    LIMITS,
    MULTIPLIER,
    NEIGHBOURS,
    OUT_ROWS,
    OUTPUTS,
    PARTS,
    POINTWISE,
    RESULT,
    ROW_SIZE,
    ROW_STARTS,
    ROW_WEIGHTS,
    SCRATCH,
    SCRATCH_SIZE,
    SLAB_STEP,
    SLABS,
    SOURCE,
    SOURCE_BLOCKS,
    STEP_ENTRIES,
    STRIDED_THREES,
    SUMS,
    TAPS_OF_ROW,
    THREES,
    TILES,
    TILES_OF_IMAGE,
    TILES_OF_ROW,
    WINDOW,
    ZEROS,
)  # fmt: skip
from .simd_ops import LANES, floats, kept, read, read_part, write, write_part, zero


@part
def clear(p, count):
    """Write ``count`` zeros, whole vectors of them."""
    for i in range(0, count, LANES):
        write(offset_pointer(p, i), zero())


@part
def _taken(gradient, result, act, limits, outputs, out, step, sums, pixels):
    """Copy the gradient of a group, 0 where the activation was clamped, and add it to the biases' sums."""
    least, most = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for c in range(0, outputs, LANES):
        inside = min(LANES, outputs - c)
        total = read(offset_pointer(sums, c))
        for p in range(pixels):
            place = offset_pointer(gradient, p * outputs + c)
            if inside == LANES:
                value = read(place)
                if act != IDENTITY:
                    value = kept(value, read(offset_pointer(result, p * outputs + c)), least, most)
            else:
                value = read_part(place, inside)
                if act != IDENTITY:
                    seen = read_part(offset_pointer(result, p * outputs + c), inside)
                    value = kept(value, seen, least, most)
            write(offset_pointer(out, p * step + c), value)
            total = add(total, value)
        write(offset_pointer(sums, c), total)


@part
def _between(gradient, held, pitch, depth, limits, pixels):
    """Set the gradient of the depthwise result to 0 where its activation was clamped."""
    least, most = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for p in range(pixels):
        here, seen = offset_pointer(gradient, p * depth), offset_pointer(held, p * pitch)
        for c in range(0, depth, LANES):
            place, inside = offset_pointer(here, c), min(LANES, depth - c)
            if inside == LANES:
                write(place, kept(read(place), read(offset_pointer(seen, c)), least, most))
            else:
                value = kept(
                    read_part(place, inside),
                    read_part(offset_pointer(seen, c), inside),
                    least,
                    most,
                )
                write_part(place, value, inside)


@part
def _turned(a, row, panel, line, depth, out, step, rows, vectors):
    """Add the product of columns of ``a`` with a panel to ``out``."""
    if vectors == 1:
        _of_width(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 1, 1)
    elif vectors == 2:
        _of_width(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 2, 1)
    elif vectors == 3 and VECTORS == 4:
        _of_width(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 3, 1)
    elif VECTORS == 4:
        _of_width(a, row, panel, line, depth, out, out, step, 0.0, 0.0, rows, 4, 1)


@inline
def _weights(gradient, step, held, pitch, depth, outputs, sums, pixels):
    """Add the products of a group's gradients and depthwise results to the pointwise weights' sums."""
    vectors = (depth + LANES - 1) // LANES
    line = vectors * LANES
    panels = (vectors + VECTORS - 1) // VECTORS
    for n in range(panels):
        first = n * VECTORS
        wide = min(VECTORS, vectors - first)
        for o in range(0, outputs, ROWS):
            _turned(
                offset_pointer(gradient, o), step * 4, offset_pointer(held, first * LANES), pitch, pixels,
                offset_pointer(sums, o * line + first * LANES), line * 4, min(ROWS, outputs - o), wide,
            )  # fmt: skip


@stage
def backward_pointwise(plan, counter, seat):
    """Compute the gradients of pointwise weights, of their biases and of the depthwise result."""
    scratch = word(plan, SCRATCH) + seat * word(plan, SCRATCH_SIZE)
    held, spill = scratch + word(plan, AT_HELD), scratch + word(plan, AT_SPILL)
    taken = floats(scratch + word(plan, AT_GRADIENT))
    like, pitch = floats(word(plan, SOURCE)), word(plan, HELD_STEP)
    depth, outputs, step = word(plan, DEPTH), word(plan, OUTPUTS), word(plan, GRADIENT_STEP)
    slabs, tiles, limits = word(plan, SLABS), word(plan, TILES), floats(word(plan, LIMITS))
    line = (depth + LANES - 1) // LANES * LANES
    panels = (depth + VECTORS * LANES - 1) // (VECTORS * LANES)
    slab = next_work_item(counter)
    while slab < slabs:
        sums = floats(word(plan, SUMS) + slab * word(plan, SLAB_STEP))
        clear(sums, word(plan, SLAB_STEP) // 4)
        begun, ended = slab * tiles // slabs, (slab + 1) * tiles // slabs
        while begun < ended:
            until = min(begun + word(plan, GROUP_TILES), ended)
            start, pixels = group_of(plan, like, held, scratch, begun, until)
            _taken(
                floats(word(plan, GRADIENT) + start * outputs * 4),
                floats(word(plan, RESULT) + start * outputs * 4), word(plan, ACT),
                offset_pointer(limits, 2), outputs, taken, step, offset_pointer(sums, outputs * line), pixels,
            )  # fmt: skip
            _weights(taken, step, floats(held), pitch, depth, outputs, sums, pixels)
            target = word(plan, HELD_GRADIENT) + start * depth * 4
            panels_of(
                like, scratch + word(plan, AT_GRADIENT), step * 4, outputs, word(plan, POINTWISE),
                word(plan, BIAS), target, depth * 4, depth, pixels, 0, panels, offset_pointer(limits, 4),
                IDENTITY, spill,
            )  # fmt: skip
            if word(plan, BETWEEN_ACT) != IDENTITY:
                _between(floats(target), floats(held), pitch // 4, depth, limits, pixels)
            begun = until
        slab = next_work_item(counter)


@inline
def _taps(plan, sums, like, table, shift, gradients, far, inside, kind, tail):
    """Add the products of one row of taps."""
    if kind == THREES:
        correlate(sums, like, table, shift, 1, gradients, far, 3, 1, inside, tail)
    elif kind == STRIDED_THREES:
        correlate(sums, like, table, shift, 2, gradients, far, 3, 2, inside, tail)
    else:
        taps, k = word(plan, TAPS_OF_ROW), 0
        if kind == NEIGHBOURS:
            while k + 4 <= taps:
                here, place = table + k * 8, offset_pointer(sums, k * LANES)
                correlate(place, like, here, shift, 1, gradients, far, 4, 1, inside, tail)
                k += 4
        step, dilation = word(plan, STEP_ENTRIES), word(plan, DILATION)
        while k < taps:
            here, place = table + k * dilation * 8, offset_pointer(sums, k * LANES)
            correlate(place, like, here, shift, step, gradients, far, 1, 0, inside, tail)
            k += 1


@part
def _tile(plan, like, table, rows, first, gradients, sums, low, high):
    """Add the products of a tile's inputs and gradients for vectors of channels."""
    channels, blocks = word(plan, CHANNELS), word(plan, SOURCE_BLOCKS)
    line, kind = word(plan, WINDOW) * 8, word(plan, KIND)
    offsets = word(plan, ROW_WEIGHTS) + first * 8
    size = word(plan, BLOCK_STEP) + LANES
    for n in range(low, high):
        m, b = n // blocks, n % blocks
        inside, shift = channels - b * LANES, b * LANES * 4
        far, totals = (m * channels + b * LANES) * 4, offset_pointer(sums, n * size)
        for i in range(rows):
            here, place = offset_pointer(totals, word(offsets, i)), table + i * line
            if inside >= LANES:
                _taps(plan, here, like, place, shift, gradients, far, LANES, kind, 0)
            else:
                _taps(plan, here, like, place, shift, gradients, far, inside, kind, 1)
        total = read(offset_pointer(totals, size - LANES))
        for p in range(PIXELS):
            where = floats(word(gradients, p) + far)
            total = add(total, read(where) if inside >= LANES else read_part(where, inside))
        write(offset_pointer(totals, size - LANES), total)


@stage
def backward_depthwise(plan, counter, seat):
    """Compute the gradients of depthwise weights and of their biases."""
    table = word(plan, SCRATCH) + seat * word(plan, SCRATCH_SIZE)
    gradients = table + word(plan, AT_GRADIENT)
    like, depth = floats(word(plan, SOURCE)), word(plan, DEPTH)
    slabs, parts, tiles = word(plan, SLABS), word(plan, PARTS), word(plan, TILES)
    per_row, per_image = word(plan, TILES_OF_ROW), word(plan, TILES_OF_IMAGE)
    size, out_rows = word(plan, ROW_SIZE), word(plan, OUT_ROWS)
    blocks = word(plan, SOURCE_BLOCKS) * word(plan, MULTIPLIER)
    item = next_work_item(counter)
    while item < word(plan, ITEMS):
        slab, share = item // parts, item % parts
        low, high = share * blocks // parts, (share + 1) * blocks // parts
        sums = floats(word(plan, SUMS) + slab * word(plan, SLAB_STEP))
        step = word(plan, BLOCK_STEP) + LANES
        clear(offset_pointer(sums, low * step), (high - low) * step)
        for t in range(slab * tiles // slabs, (slab + 1) * tiles // slabs):
            image, row, tile = t // per_image, t // per_row % out_rows, t % per_row
            rows = prepare(
                plan, word(plan, SOURCE) + image * word(plan, IMAGE_STEP), row, tile, table
            )
            foresee(plan, table, rows, 4)
            wide = min(PIXELS, size - tile * PIXELS)
            start = word(plan, HELD_GRADIENT) + ((t // per_row) * size + tile * PIXELS) * depth * 4
            for line in range(PIXELS * depth * 4, 2 * PIXELS * depth * 4, 64):
                prefetch(start + line)  # the next tile's
            for p in range(PIXELS):
                set_word(gradients, p, start + p * depth * 4 if p < wide else word(plan, ZEROS))
            first = word(word(plan, ROW_STARTS), row)
            _tile(plan, like, table, rows, first, gradients, sums, low, high)
        item = next_work_item(counter)
