"""One convolution, or two that follow each other, channels first, with vectors along x.

What each of them computes, for output channel o and position p:

    out[o, p] = act(bias[o] + sum_{c, t} weights[o, c, t] * x[c, p * stride + t * dilation - pad])

A work item is a *box* of the output. Box a, float32[channel][z][y][x] in scratch memory, holds the input under
it, with zeros outside the image, so that every tap is a fixed offset. The first of two convolutions writes
what the second one reads into box b of the same layout.

Every output is summed in the order of its weights, so results depend neither on boxes nor on threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import (
    fence,
    load_scalar,
    offset_pointer,
    store_scalar,
)
from separable.engine.compiled.sweep_params import move
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .layer_blocks import ROWS, VECTORS
from .layer_params import SILU, boxes_at
from .simd_ops import LANES, float32_ptr, write, zero
from .spatial_blocks import fma_lines, fma_rows

WIDE = 8
"""Vectors of a block of a single row: enough independent sums to hide the latency of an FMA."""


@inline
def _fma_rows_of(
    base, offsets, count, weights, bias, out, step, inside, lower, upper, rows, vectors
):
    """Compute a block of up to ROWS rows and a literal number of vectors."""
    if rows == 6:
        fma_rows(
            base, offsets, count, weights, bias, out, step, inside, lower, upper, 6, vectors, 0
        )
    elif rows == 5:
        fma_rows(
            base, offsets, count, weights, bias, out, step, inside, lower, upper, 5, vectors, 0
        )
    elif rows == 4:
        fma_rows(
            base, offsets, count, weights, bias, out, step, inside, lower, upper, 4, vectors, 0
        )
    elif rows == 3:
        fma_rows(
            base, offsets, count, weights, bias, out, step, inside, lower, upper, 3, vectors, 0
        )
    elif rows == 2:
        fma_rows(
            base, offsets, count, weights, bias, out, step, inside, lower, upper, 2, vectors, 0
        )
    else:
        fma_rows(
            base, offsets, count, weights, bias, out, step, inside, lower, upper, 1, vectors, 0
        )


@part
def _block(base, offsets, count, weights, bias, out, step, inside, lower, upper, rows, vectors):
    """Compute a block of up to ROWS rows and up to VECTORS vectors, or one row of 4 or WIDE vectors."""
    if vectors == 1:
        _fma_rows_of(base, offsets, count, weights, bias, out, step, inside, lower, upper, rows, 1)
    elif vectors == 2:
        _fma_rows_of(base, offsets, count, weights, bias, out, step, inside, lower, upper, rows, 2)
    elif vectors == WIDE:
        fma_rows(base, offsets, count, weights, bias, out, step, inside, lower, upper, 1, WIDE, 0)
    elif vectors == 3 and VECTORS == 4:
        _fma_rows_of(base, offsets, count, weights, bias, out, step, inside, lower, upper, rows, 3)
    elif VECTORS == 4:
        _fma_rows_of(base, offsets, count, weights, bias, out, step, inside, lower, upper, rows, 4)
    else:  # of a single row
        fma_rows(base, offsets, count, weights, bias, out, step, inside, lower, upper, 1, 4, 0)


@inline
def _stream_output(base, offsets, count, weights, bias, out, columns, lower, upper):
    """Compute one row of one output channel; aligned parts of it bypass the caches."""
    v = min(columns, (-out // 4) & (LANES - 1))
    if v:
        fma_rows(base, offsets, count, weights, bias, float32_ptr(out), 0, v, lower, upper, 1, 1, 0)
    while v + WIDE * LANES <= columns:
        here, place = base + v * 4, float32_ptr(out + v * 4)
        fma_rows(here, offsets, count, weights, bias, place, 0, LANES, lower, upper, 1, WIDE, 1)
        v += WIDE * LANES
    while v < columns:
        here, place, left = base + v * 4, float32_ptr(out + v * 4), columns - v
        fma_rows(here, offsets, count, weights, bias, place, 0, left, lower, upper, 1, 1, 0)
        v += LANES


@part
def _stream_outputs(base, offsets, count, weights, bias, outputs, out, step, columns, limits):
    """Compute one row of all outputs of a group, one output after the other, bypassing the caches."""
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for o in range(outputs):
        _stream_output(
            base, offsets, count, offset_pointer(weights, o * count), offset_pointer(bias, o), out + o * step, columns,
            lower, upper,
        )  # fmt: skip


@part
def _row_of_outputs(
    base, offsets, count, weights, bias, outputs, out, step, columns, exact, limits, act
):  # fmt: skip
    """Compute one row of all outputs of a group, in blocks of outputs and vectors.

    If ``exact`` is 0, whole vectors are written, also beyond ``columns``: a box has space for them.
    """
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    vectors = (columns + LANES - 1) // LANES
    tiles = (outputs + ROWS - 1) // ROWS
    v = 0
    while v < vectors:
        wide = min(VECTORS, vectors - v)
        if outputs == 1 and vectors - v >= 4:
            wide = WIDE if vectors - v >= WIDE else 4
        left = columns - v * LANES
        inside = left - (wide - 1) * LANES if exact else LANES
        for t in range(tiles):
            o = t * outputs // tiles
            rows = (t + 1) * outputs // tiles - o
            place = float32_ptr(out + o * step + v * LANES * 4)
            _block(
                base + v * LANES * 4, offsets, count, offset_pointer(weights, o * count), offset_pointer(bias, o),
                place, step, inside, lower, upper, rows, wide,
            )  # fmt: skip
            if act >= SILU:
                activate(place, rows, step // 4, min(left, wide * LANES), act)
        v += wide


@inline
def _write_zeros(place, count):
    """Write ``count`` zeros, rounded up to whole vectors."""
    for i in range(0, count, LANES):
        write(float32_ptr(place + i * 4), zero())


@part
def _copy_input(plan, image, box, at_z, at_y, at_x, tall, deep, wide):
    """Copy the input under a box of (tall, deep, wide) positions into box a, zeros outside the image.

    ``at_z``, ``at_y`` and ``at_x`` are the input position of the box's corner; they may be negative.
    """
    high, rows, columns = plan.size_z, plan.size_y, plan.size_x
    low, top = max(0, -at_x), min(wide, columns - at_x)
    for c in range(plan.channels):
        source = image + c * high * rows * columns * 4
        for z in range(tall):
            for y in range(deep):
                place = box + c * plan.a_plane + z * plan.a_slice + y * plan.a_row
                iz, iy = at_z + z, at_y + y
                inside = iz >= 0 and iz < high and iy >= 0 and iy < rows and low < top
                if not inside or low > 0 or top < wide:
                    _write_zeros(place, wide)
                if inside:
                    row = source + ((iz * rows + iy) * columns + at_x + low) * 4
                    move(place + low * 4, row, (top - low) * 4)


@part
def _short_rows(base, line, offsets, count, weights, bias, out, step, rows, limits):
    """Compute up to 8 rows of one output channel, of at most one vector each; return their number, a power of two."""
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    place = float32_ptr(out)
    if rows >= 8:
        fma_lines(base, line, offsets, count, weights, bias, place, step, lower, upper, 8)
        return 8
    if rows >= 4:
        fma_lines(base, line, offsets, count, weights, bias, place, step, lower, upper, 4)
        return 4
    if rows >= 2:
        fma_lines(base, line, offsets, count, weights, bias, place, step, lower, upper, 2)
        return 2
    fma_lines(base, line, offsets, count, weights, bias, place, step, lower, upper, 1)
    return 1


@inline
def _clear_ends(line, low, top, wide):
    """Write zeros to the first ``low`` of ``wide`` positions of a row, and from ``top`` on."""
    for j in range(low):
        store_scalar(float32_ptr(line + j * 4), 0.0)
    if top < wide:
        _write_zeros(line + top * 4, wide - top)


@part
def _first_convolution(plan, share, box_a, box_b, at_z, at_y, at_x, tall, deep, wide):
    """Compute a share of the first convolution's results into box b, which has (tall, deep, wide) positions.

    Positions outside the first result are the second convolution's padding, and become 0.
    """
    high, rows, columns = plan.middle_z, plan.middle_y, plan.middle_x
    low, top = max(0, -at_x), min(wide, columns - at_x)
    outputs, count = plan.rows_one // plan.parts, plan.count_one
    step = plan.b_plane
    limits = float32_ptr(plan.limits)
    short = outputs == 1 and top - low <= LANES and plan.act_one < SILU
    for g in range(plan.groups_one):
        begun = (share + g) * outputs  # either the groups or the parts are 1
        weights = offset_pointer(float32_ptr(plan.weights_one), begun * count)
        bias = offset_pointer(float32_ptr(plan.bias_one), begun)
        source = box_a + g * plan.group_step_one
        for z in range(tall):
            y = 0
            while y < deep:
                place = box_b + g * outputs * step + z * plan.b_slice + y * plan.b_row
                mz, my, done = at_z + z, at_y + y, 1
                inside = mz >= 0 and mz < high and my >= 0 and my < rows and low < top
                base = source + z * plan.stride_one_z * plan.a_slice
                base += y * plan.stride_one_y * plan.a_row + low * 4
                if inside and short:
                    done = _short_rows(
                        base, plan.stride_one_y * plan.a_row, plan.offsets_one, count, weights, bias,
                        place + low * 4, plan.b_row, min(deep - y, rows - my), limits,
                    )  # fmt: skip
                elif inside:
                    _row_of_outputs(
                        base, plan.offsets_one, count, weights, bias, outputs,
                        place + low * 4, step, top - low, 0, limits, plan.act_one,
                    )  # fmt: skip
                for r in range(
                    outputs * done
                ):  # some outputs of one row, or some rows of one output
                    line = place + (r * step if done == 1 else r * plan.b_row)
                    if inside:
                        _clear_ends(line, low, top, wide)
                    else:
                        _write_zeros(line, wide)
                y += done


@part
def _second_convolution(
    plan, share, box, slice_step, row_step, image, oz, oy, ox, tall, deep, wide
):
    """Compute a share of the output's channels for a box of (tall, deep, wide) positions at (oz, oy, ox)."""
    high, rows, columns = plan.out_z, plan.out_y, plan.out_x
    outputs, count = plan.rows_two, plan.count_two
    step = high * rows * columns * 4
    limits = offset_pointer(float32_ptr(plan.limits), 2)
    if plan.flat:  # rows follow each other in the box and in the output: one long row
        wide *= deep
        deep = 1
    groups = plan.groups_two // plan.parts
    for g in range(share * groups, (share + 1) * groups):
        weights = offset_pointer(float32_ptr(plan.weights_two), g * outputs * count)
        bias = offset_pointer(float32_ptr(plan.bias_two), g * outputs)
        source = box + (g - share * groups) * plan.group_step_two
        for z in range(tall):
            for y in range(deep):
                base = source + z * plan.stride_two_z * slice_step
                base += y * plan.stride_two_y * row_step
                place = image + g * outputs * step
                place += (((oz + z) * rows + oy + y) * columns + ox) * 4
                if plan.stream:
                    _stream_outputs(
                        base, plan.offsets_two, count, weights, bias, outputs, place, step,
                        wide, limits,
                    )  # fmt: skip
                else:
                    _row_of_outputs(
                        base, plan.offsets_two, count, weights, bias, outputs, place, step,
                        wide, 1, limits, plan.act_two,
                    )  # fmt: skip


@inline
def _read_extent(size, stride, reach):
    """Return how many positions a convolution reads along an axis for ``size`` outputs."""
    return (size - 1) * stride + reach + 1


@stage
def convolve_boxes(address, counter, thread):
    """Run one convolution or two of float32."""
    plan = boxes_at(address)
    box_a = plan.scratch + thread * plan.scratch_size
    box_b = box_a + plan.at_b
    along_z, along_y, along_x = plan.blocks_z, plan.blocks_y, plan.blocks_x
    in_size = plan.size_z * plan.size_y * plan.size_x * 4
    out_size = plan.out_z * plan.out_y * plan.out_x * 4
    outputs = plan.groups_two * plan.rows_two
    parts = plan.parts
    item = next_work_item(counter, plan.items * parts, thread)
    while item < plan.items * parts:
        # Items are numbered [image][box z][box y][box x][part of the channels].
        share = item % parts
        item //= parts
        image = item // (along_z * along_y * along_x)
        oz = item // (along_y * along_x) % along_z * plan.block_z
        oy = item // along_x % along_y * plan.block_y
        ox = item % along_x * plan.block_x
        tall = min(plan.block_z, plan.out_z - oz)
        deep = min(plan.block_y, plan.out_y - oy)
        wide = min(plan.block_x, plan.out_x - ox)
        source = plan.source + image * plan.channels * in_size
        target = plan.target + image * outputs * out_size
        # The corner and the sizes of what the second convolution reads: its outputs' positions before it.
        z = oz * plan.stride_two_z - plan.before_two_z
        y = oy * plan.stride_two_y - plan.before_two_y
        x = ox - plan.before_two_x
        high = _read_extent(tall, plan.stride_two_z, plan.reach_two_z)
        rows = _read_extent(deep, plan.stride_two_y, plan.reach_two_y)
        columns = _read_extent(wide, plan.stride_two_x, plan.reach_two_x)
        if plan.steps == 1:
            _copy_input(plan, source, box_a, z, y, x, high, rows, columns)
            _second_convolution(
                plan, share, box_a, plan.a_slice, plan.a_row, target, oz, oy, ox, tall, deep, wide
            )  # fmt: skip
        else:
            _copy_input(
                plan, source, box_a, z * plan.stride_one_z - plan.before_one_z,
                y * plan.stride_one_y - plan.before_one_y,
                x - plan.before_one_x, _read_extent(high, plan.stride_one_z, plan.reach_one_z),
                _read_extent(rows, plan.stride_one_y, plan.reach_one_y),
                _read_extent(columns, plan.stride_one_x, plan.reach_one_x),
            )  # fmt: skip
            _first_convolution(plan, share, box_a, box_b, z, y, x, high, rows, columns)
            _second_convolution(
                plan, share, box_b, plan.b_slice, plan.b_row, target, oz, oy, ox, tall, deep, wide
            )  # fmt: skip
        item = next_work_item(counter, plan.items * parts, thread)
    if plan.stream:
        fence()
