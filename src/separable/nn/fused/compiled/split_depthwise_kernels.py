"""Depthwise convolutions as a pass along y and a pass along x per channel, channels last.

What is computed, for output position (j, i), channel c and its terms t (as many as the rank of its kernel):

    middle[t, j, x] = act(column_bias[t] + sum_k columns[t, k] * x[j * stride + k * dilation - pad, x, c])
    out[j, i, c] = act(bias[c] + sum_t sum_k rows[t, k] * middle[t, j, i * stride + k * dilation - pad])

A work item is a *box* of output rows and columns for one cache line of channels. The image under the box is first
copied into *strips*, float32[vector][column][row][lane], with a few rows of zeros above and below it, so that the
pass along y reads vectors that follow each other. Then, for PIXELS output rows at a time, the middle values of all terms are
computed, float32[term][row][column][lane], and from them the output.

Boxes consist of whole blocks of PIXELS rows and columns, and every output is summed in a fixed order, so results
depend neither on boxes nor on the number of threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import inline, intrinsic, part, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import LINE_VECTORS, load_scalar, offset_pointer
from separable.engine.compiled.sweep_params import word
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .layer_blocks import PIXELS, add_spaced_taps, start_block, store_block
from .layer_params import SILU
from .simd_ops import LANES, float32_ptr, read, read_part, write, zero

SPLIT_FIELDS = (
    # Arrays of this run. Weights and biases of a pass are one array.
    "source",  # input x[image][y][x][channel]
    "target",  # output [image][y][x][channel]
    "columns",  # taps along y [term][tap][lane], then float32[term][lane]
    "rows",  # taps along x [term][tap][lane], then float32[block of LANES channels][lane]
    "unused_one", "unused_two",
    "scratch",  # scratch memory of the first thread
    "scratch_size",  # bytes of scratch memory per thread
    # Work items: boxes of the output, for one cache line of channels each.
    "items",  # number of work items
    "lines",  # cache lines of channels
    "boxes_y", "boxes_x",  # boxes per image
    "box_y", "box_x",  # outputs of a box, multiples of PIXELS
    # Terms.
    "terms",  # address of int64[blocks + 1]: first term of each block of LANES channels
    "column_bias", "row_bias",  # bytes from the weights of a pass to its biases
    # Sizes.
    "channels",
    "size_y", "size_x",  # input
    "out_y", "out_x",  # output
    "taps_y", "taps_x",
    "stride_y", "stride_x",
    "dilation_y", "dilation_x",
    "before_y", "before_x",  # padding before the image
    "outside",  # rows above and below the image that blocks may read: zeros
    "near_y", "near_x",  # 1 or 2: the taps are neighbours, at this stride; 0 for other strides and dilations
    # Steps in bytes.
    "source_step",  # from a position of the input to the next
    "target_step",  # from a position of the output to the next
    "strip_step",  # from a column of a strip to the next
    "strip_size",  # from the strip of a vector to the next
    "middle_row",  # from a row of middle values to the next
    "middle_term",  # from the middle values of a term to the next
    # Activations.
    "middle_act", "act",
    "limits",  # address of float32[2][2]: clamps after both passes
    "at_middle",  # middle values in the scratch memory; the strips are at 0
)  # fmt: skip
SPLIT = np.dtype([(name, np.int64) for name in SPLIT_FIELDS])
_RECORD = numba.from_dtype(SPLIT)


@intrinsic
def split_at(_typing: Any, address: Any) -> Any:
    """Return the record of a split depthwise convolution at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _RECORD(types.int64), emit


@inline
def _add_pass(block, first, weights, low, high, near, stride, dilation):
    """Add the taps from ``low`` to ``high`` of one pass to a block of PIXELS outputs.

    block[p, lane] += sum_k weights[k, lane] * first[p * stride + k * dilation, lane],  low <= k < high
    """
    k = low
    if near == 1:
        while k + 7 <= high:
            here, factors = offset_pointer(first, k * LANES), offset_pointer(weights, k * LANES)
            block = add_spaced_taps(block, here, factors, 7, 1, 1, LANES)
            k += 7
        if k + 5 <= high:
            here, factors = offset_pointer(first, k * LANES), offset_pointer(weights, k * LANES)
            block = add_spaced_taps(block, here, factors, 5, 1, 1, LANES)
            k += 5
        if k + 3 <= high:
            here, factors = offset_pointer(first, k * LANES), offset_pointer(weights, k * LANES)
            block = add_spaced_taps(block, here, factors, 3, 1, 1, LANES)
            k += 3
    elif near == 2:
        while k + 4 <= high:
            here, factors = offset_pointer(first, k * LANES), offset_pointer(weights, k * LANES)
            block = add_spaced_taps(block, here, factors, 4, 2, 2, LANES)
            k += 4
    while k < high:
        here = offset_pointer(first, k * dilation * LANES)
        factors = offset_pointer(weights, k * LANES)
        block = add_spaced_taps(block, here, factors, 1, 0, stride, LANES)
        k += 1
    return block


@inline
def _first_tap(start, stride, dilation):
    """Return the first tap that meets the image for any of PIXELS outputs whose first tap is at ``start``."""
    return max(0, (-(start + (PIXELS - 1) * stride) + dilation - 1) // dilation)


@inline
def _last_tap(start, dilation, taps, size):
    """Return the end of the taps that meet the image for any of some outputs whose first tap is at ``start``."""
    return max(0, min(taps, (size - start + dilation - 1) // dilation))


@part
def _fill_strip(plan, image, strip, y, rows, x, columns, channel):
    """Copy one vector of channels of ``rows`` by ``columns`` samples from (y, x) on into a strip.

    Rows outside the image become zeros.
    """
    inside, pitch = min(LANES, plan.channels - channel), plan.source_step
    above, below = max(0, -y), max(0, min(rows, plan.size_y - y))  # none of a box below the image
    for i in range(columns):
        out = float32_ptr(strip + i * plan.strip_step)
        for j in range(above):
            write(offset_pointer(out, j * LANES), zero())
        here = image + ((y + above) * plan.size_x + x + i) * pitch + channel * 4
        for j in range(above, below):
            source = float32_ptr(here)
            write(
                offset_pointer(out, j * LANES),
                read(source) if inside == LANES else read_part(source, inside),
            )
            here += plan.size_x * pitch
        for j in range(below, rows):
            write(offset_pointer(out, j * LANES), zero())


@part
def _filter_columns(plan, strip, middle, block, row, y, columns):
    """Compute ``columns`` middle values of PIXELS output rows from ``row`` on, for all terms of a block of channels.

    The strip begins at image row ``y``. Taps that lie outside the image for all PIXELS rows are left out.
    """
    taps, stride, dilation = plan.taps_y, plan.stride_y, plan.dilation_y
    start = row * stride - plan.before_y
    low = _first_tap(start, stride, dilation)
    high = _last_tap(start, dilation, taps, plan.size_y)
    limits = float32_ptr(plan.limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    begun = word(plan.terms, block)
    for t in range(begun, word(plan.terms, block + 1)):
        weights = float32_ptr(plan.columns + t * taps * LANES * 4)
        bias = float32_ptr(plan.columns + plan.column_bias + t * LANES * 4)
        out = middle + (t - begun) * plan.middle_term
        for i in range(columns):
            samples = float32_ptr(strip + i * plan.strip_step + (start - y) * LANES * 4)
            sums = start_block(bias)
            sums = _add_pass(sums, samples, weights, low, high, plan.near_y, stride, dilation)
            place = float32_ptr(out + i * LANES * 4)
            store_block(sums, place, plan.middle_row, PIXELS, lower, upper, LANES, 0)
        if plan.middle_act >= SILU:
            for p in range(PIXELS):
                line = float32_ptr(out + p * plan.middle_row)
                activate(line, 1, 0, columns * LANES, plan.middle_act)


@part
def _filter_rows(plan, middle, block, out, x, begun, ended):
    """Compute one output row from ``begun`` to ``ended`` from the middle values, for a block of channels.

    The middle values begin at image column ``x``, that of the first tap of output ``begun``.
    """
    taps, stride, dilation = plan.taps_x, plan.stride_x, plan.dilation_x
    limits = offset_pointer(float32_ptr(plan.limits), 2)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    inside = min(LANES, plan.channels - block * LANES)
    bias = float32_ptr(plan.rows + plan.row_bias + block * LANES * 4)
    first_term, last_term = word(plan.terms, block), word(plan.terms, block + 1)
    for i in range(begun, ended, PIXELS):
        at = (i - begun) * stride
        low = _first_tap(x + at, stride, dilation)
        high = _last_tap(x + at, dilation, taps, plan.size_x)
        sums = start_block(bias)
        for t in range(first_term, last_term):
            weights = float32_ptr(plan.rows + t * taps * LANES * 4)
            samples = middle + (t - first_term) * plan.middle_term + at * LANES * 4
            sums = _add_pass(
                sums, float32_ptr(samples), weights, low, high, plan.near_x, stride, dilation
            )
        place, wide = float32_ptr(out + (i - begun) * plan.target_step), min(PIXELS, ended - i)
        if inside == LANES:
            store_block(sums, place, plan.target_step, wide, lower, upper, LANES, 0)
        else:
            store_block(sums, place, plan.target_step, wide, lower, upper, inside, 1)
        if plan.act >= SILU:
            activate(place, wide, plan.target_step // 4, inside, plan.act)


@inline
def _clear_columns(plan, middle, terms, columns, first, last):
    """Write zeros to the columns of the middle values before ``first`` and from ``last`` on."""
    for t in range(terms):
        for p in range(PIXELS):
            line = middle + t * plan.middle_term + p * plan.middle_row
            for i in range(columns):
                if i < first or i >= last:
                    write(float32_ptr(line + i * LANES * 4), zero())


@stage
def split_depthwise(address, counter, thread):
    """Run a depthwise convolution of float32 as two passes."""
    plan = split_at(address)
    strips = plan.scratch + thread * plan.scratch_size
    middle = strips + plan.at_middle
    lines, boxes_y, boxes_x = plan.lines, plan.boxes_y, plan.boxes_x
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [image][box y][box x][line of channels].
        line, box_x = item % lines, item // lines % boxes_x
        box_y, n = item // (lines * boxes_x) % boxes_y, item // (lines * boxes_x * boxes_y)
        image = plan.source + n * plan.size_y * plan.size_x * plan.source_step
        begun, left = box_y * plan.box_y, box_x * plan.box_x
        ended, right = min(begun + plan.box_y, plan.out_y), min(left + plan.box_x, plan.out_x)
        # Rows of the image under the box, and rows of zeros that the blocks at its ends read.
        blocks, outside = (ended - begun + PIXELS - 1) // PIXELS, plan.outside
        y = begun * plan.stride_y - plan.before_y
        rows = (blocks * PIXELS - 1) * plan.stride_y + (plan.taps_y - 1) * plan.dilation_y + 1
        bottom, y = min(y + rows, plan.size_y + outside), max(y, -outside)
        # Columns under the box, and those of them inside the image.
        blocks, x = (right - left + PIXELS - 1) // PIXELS, left * plan.stride_x - plan.before_x
        columns = (blocks * PIXELS - 1) * plan.stride_x + (plan.taps_x - 1) * plan.dilation_x + 1
        first = min(columns, max(0, -x))
        last = max(first, min(columns, plan.size_x - x))
        for v in range(LINE_VECTORS):
            block = line * LINE_VECTORS + v
            if block * LANES < plan.channels and bottom > y:
                strip = strips + v * plan.strip_size
                _fill_strip(
                    plan, image, strip, y, bottom - y, x + first, last - first, block * LANES
                )
        for v in range(LINE_VECTORS):
            block = line * LINE_VECTORS + v
            if block * LANES >= plan.channels:
                break
            terms = word(plan.terms, block + 1) - word(plan.terms, block)
            _clear_columns(plan, middle, terms, columns, first, last)
            here = middle + first * LANES * 4
            for row in range(begun, ended, PIXELS):
                strip = strips + v * plan.strip_size
                _filter_columns(plan, strip, here, block, row, y, last - first)
                for p in range(min(PIXELS, ended - row)):
                    position = (n * plan.out_y + row + p) * plan.out_x + left
                    out = plan.target + position * plan.target_step + block * LANES * 4
                    _filter_rows(plan, middle + p * plan.middle_row, block, out, x, left, right)
        item = next_work_item(counter, plan.items, thread)
