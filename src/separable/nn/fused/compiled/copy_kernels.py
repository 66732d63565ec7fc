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

from separable.engine.compiled.jit import inline, intrinsic, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import load_scalar, offset_pointer, store_scalar
from separable.engine.compiled.sweep_params import move, next_work_item, word

from .layer_params import emit_pointer
from .simd_ops import float32_ptr

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
def _gather_channels(plan, source, target, count):
    """Copy ``count`` positions channel by channel."""
    for i in range(count):
        out = float32_ptr(target + i * plan.target_step)
        place = source + i * plan.source_step
        for c in range(plan.channels):
            value = load_scalar(float32_ptr(place + word(plan.offsets_c, c)))
            store_scalar(offset_pointer(out, c), value)


@stage
def copy_float32(address, counter, thread):
    """Run a copy by tables of float32."""
    plan = copies_at(address)
    deep, tall, wide, channels = plan.out_z, plan.out_y, plan.out_x, plan.channels
    size, source_step, step = channels * 4, plan.source_step, plan.target_step
    dense = source_step == size and step == size
    fill = load_scalar(float32_ptr(plan.fill))
    item = next_work_item(counter)
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
                elif plan.offsets_c != 0:
                    _gather_channels(plan, base + offset, out, count)
                elif dense:
                    move(out, base + offset, count * size)
                else:
                    for i in range(count):
                        move(out + i * step, base + offset + i * source_step, size)
        item = next_work_item(counter)
