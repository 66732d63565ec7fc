"""Copies by tables of offsets, channels last: padding, cropping, upsampling, channel and pixel shuffles.

    out[image, z, y, x, c] = source[image_step * image + offset_z[z] + offset_y[y] + offset_x[x] + offset_c[c]]

Offsets count bytes. An offset of -1 along an axis stands for a constant value. Offsets along x are given as runs of
neighbouring outputs with neighbouring inputs, which are moved together.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import inline, intrinsic, literal_intrinsic, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import emit_shuffle, load_scalar, offset_pointer, store_scalar
from separable.engine.compiled.sweep_params import move, word
from separable.engine.compiled.work_items import next_work_item

from .layer_params import emit_pointer
from .simd_ops import LANES, float32_ptr, read, read_part, write, write_part

COPIES = np.dtype(
    [(name, np.int64) for name in (
        # Arrays of this run.
        "source",  # input
        "target",  # output [image][z][y][x][channel]
        "unused_one", "unused_two", "unused_three", "unused_four",
        "scratch",
        "scratch_size",
        # Work items.
        "items",  # groups of rows
        "group_rows",  # rows of outputs of a group
        "rows",  # rows of outputs of all images
        "channels",  # output channels
        "image_step",  # bytes from an image of the input to the next
        "source_step",  # bytes from a position of the input to the next
        "target_step",  # bytes from a position of the output to the next
        "out_z", "out_y", "out_x",  # outputs per image
        "offsets_z", "offsets_y",  # addresses of int64[outputs along the axis]
        "runs",  # address of int64[runs][3]: first output, number of outputs, offset of the first input
        "run_count",
        "offsets_c",  # address of int64[channels], 0 if the channels are neighbours in the input
        "interleaves",  # 1 if offsets_c takes from the first and the second half of the channels in turn
        "fill",  # address of float32: the constant value
    )]
)  # fmt: skip
_RECORD = numba.from_dtype(COPIES)


@intrinsic
def copies_at(_typing: Any, address: Any) -> Any:
    """Return the record of a copy by tables at an address."""
    return _RECORD(types.int64), emit_pointer


@inline
def _fill(place, step, count, channels, value):
    """Write a constant value to all channels of ``count`` positions."""
    for i in range(count):
        out = float32_ptr(place + i * step)
        for c in range(channels):
            store_scalar(offset_pointer(out, c), value)


@inline
def _gather_channels(table, channels, source, source_step, target, step, count):
    """Copy ``count`` positions channel by channel; ``table`` is int64[channel], offsets in bytes."""
    for i in range(count):
        out = float32_ptr(target + i * step)
        place = source + i * source_step
        c = 0
        while c + 4 <= channels:
            one = load_scalar(float32_ptr(place + word(table, c)))
            two = load_scalar(float32_ptr(place + word(table, c + 1)))
            three = load_scalar(float32_ptr(place + word(table, c + 2)))
            four = load_scalar(float32_ptr(place + word(table, c + 3)))
            store_scalar(offset_pointer(out, c), one)
            store_scalar(offset_pointer(out, c + 1), two)
            store_scalar(offset_pointer(out, c + 2), three)
            store_scalar(offset_pointer(out, c + 3), four)
            c += 4
        while c < channels:
            store_scalar(offset_pointer(out, c), load_scalar(float32_ptr(place + word(table, c))))
            c += 1


@literal_intrinsic
def interleave(_typing: Any, a: Any, b: Any, upper: Any) -> Any:
    """Return a[0], b[0], a[1], b[1], ... of the lower halves of two vectors, or of the upper ones."""
    first = LANES // 2 if upper.literal_value else 0
    order = [lane + i for lane in range(first, first + LANES // 2) for i in (0, LANES)]

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_shuffle(builder, arguments[0], arguments[1], order)

    return a(a, b, upper), emit


@inline
def _interleave_channels(channels, source, source_step, target, step, count):
    """Copy ``count`` positions, channels of the first and the second half in turn."""
    half = channels // 2
    for i in range(count):
        one, out = float32_ptr(source + i * source_step), float32_ptr(target + i * step)
        two = offset_pointer(one, half)
        for c in range(0, half, LANES):
            here, left = offset_pointer(out, 2 * c), 2 * (half - c)
            if left >= 2 * LANES:
                a, b = read(offset_pointer(one, c)), read(offset_pointer(two, c))
                write(here, interleave(a, b, 0))
                write(offset_pointer(here, LANES), interleave(a, b, 1))
            else:
                a = read_part(offset_pointer(one, c), half - c)
                b = read_part(offset_pointer(two, c), half - c)
                write_part(here, interleave(a, b, 0), min(left, LANES))
                write_part(offset_pointer(here, LANES), interleave(a, b, 1), left - LANES)


@stage
def copy_float32(address, counter, thread):
    """Run a copy by tables of float32."""
    plan = copies_at(address)
    deep, tall, wide, channels = plan.out_z, plan.out_y, plan.out_x, plan.channels
    size, source_step, step = channels * 4, plan.source_step, plan.target_step
    dense = source_step == size and step == size
    fill, table = load_scalar(float32_ptr(plan.fill)), plan.offsets_c
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Rows are numbered [image][z][y].
        for r in range(item * plan.group_rows, min((item + 1) * plan.group_rows, plan.rows)):
            image, z, y = r // (deep * tall), r // tall % deep, r % tall
            place = plan.target + r * wide * step
            at_z, at_y = word(plan.offsets_z, z), word(plan.offsets_y, y)
            if at_z < 0 or at_y < 0:
                _fill(place, step, wide, channels, fill)
                continue
            base = plan.source + image * plan.image_step + at_z + at_y
            for n in range(plan.run_count):
                first, count = word(plan.runs, 3 * n), word(plan.runs, 3 * n + 1)
                offset = word(plan.runs, 3 * n + 2)
                out = place + first * step
                if offset < 0:
                    _fill(out, step, count, channels, fill)
                elif plan.interleaves:
                    _interleave_channels(channels, base + offset, source_step, out, step, count)
                elif table != 0:
                    _gather_channels(table, channels, base + offset, source_step, out, step, count)
                elif dense:
                    move(out, base + offset, count * size)
                else:
                    for i in range(count):
                        move(out + i * step, base + offset + i * source_step, size)
        item = next_work_item(counter, plan.items, thread)
