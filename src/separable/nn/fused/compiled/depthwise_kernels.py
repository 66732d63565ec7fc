"""Depthwise layers alone, channels last, with depth multipliers.

    out[p, c * multiplier + m] = act(bias[m, c] + sum_t depthwise[t, m, c] * x[p * stride + t * dilation - pad, c])

Without a multiplier tiles are computed in the output itself. With one they are computed in scratch memory, which
has the channels in the order [m][c], and interleaved from there.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import at, offset_pointer
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .depthwise_tiles import depthwise_result, depthwise_tiles, first_position, item_of
from .layer_blocks import PIXELS, interleave
from .layer_params import SILU, layer_at
from .simd_ops import LANES, bfloat16_ptr, float32_ptr, read_part, write_part


@part
def _interleave_tile(like, middle, pitch, target, step, pixels, channels, multiplier, low, high):
    """Copy a tile in PyTorch's order of channels, from block ``low`` of channels to block ``high``.

    target[p, channel * multiplier + m] = middle[p, m * channels + channel]

    ``middle`` is float32 with rows ``pitch`` elements apart, rows of ``target`` are ``step`` elements apart.
    """
    for p in range(pixels):
        for b in range(low, high):
            source = offset_pointer(middle, p * pitch + b * LANES)
            out = offset_pointer(target, p * step + b * LANES * multiplier)
            inside = min(LANES, channels - b * LANES)
            if inside == LANES and multiplier == 2:
                interleave(source, channels, like, out, 2)
            elif inside == LANES and multiplier == 3:
                interleave(source, channels, like, out, 3)
            elif inside == LANES and multiplier == 4:
                interleave(source, channels, like, out, 4)
            else:
                # One value at a time. The count must not be a constant: LLVM turns a rounding store of one lane
                # with a constant mask into a store of 32 bits.
                one = min(inside, 1)
                for m in range(multiplier):
                    here = offset_pointer(source, m * channels)
                    for c in range(inside):
                        place = offset_pointer(out, c * multiplier + m)
                        write_part(place, read_part(offset_pointer(here, c), one), one)


@inline
def _multiplied_tiles(plan, like, table, begun, ended, low, high, ahead):
    """Compute tiles of a layer with a depth multiplier, one by one, and store them in PyTorch's order of channels."""
    per_row, per_image, depth = plan.tiles_of_row, plan.tiles_of_image, plan.depth
    middle, each = float32_ptr(table + plan.at_middle), plan.target_step // item_of(like)
    for t in range(begun, ended):
        image, row, tile = t // per_image, t // per_row % plan.out_rows, t % per_row
        source = plan.source + image * plan.image_step
        depthwise_result(plan, like, source, row, tile, table, middle, depth * 4, low, high, ahead)
        wide = min(PIXELS, plan.row_size - tile * PIXELS)
        out = at(like, plan.target + first_position(plan, t) * plan.target_step)
        _interleave_tile(
            like, middle, depth, out, each, wide, plan.channels, plan.multiplier, low, high
        )


@inline
def _depthwise_items(plan, counter, thread, like):
    """Compute work items of a depthwise step alone, which writes to the output directly."""
    table = plan.scratch + thread * plan.scratch_size
    items, parts, step = plan.items, plan.parts, plan.target_step
    blocks, multiplier, act = plan.source_blocks, plan.multiplier, plan.depthwise_act
    item = next_work_item(counter, items, thread)
    while item < items:
        # Items are numbered [group][part of the blocks of channels].
        group, share = item // parts, item % parts
        low, high = share * blocks // parts, (share + 1) * blocks // parts
        begun = group * plan.group_tiles
        ended = min(begun + plan.group_tiles, plan.tiles)
        start = first_position(plan, begun)
        out = at(like, plan.target + start * step)
        if multiplier == 1:
            depthwise_tiles(
                plan,
                like,
                plan.source,
                out,
                start,
                step,
                table,
                begun,
                ended,
                low,
                high,
                share == 0,
            )
        else:
            _multiplied_tiles(plan, like, table, begun, ended, low, high, share == 0)
        if act >= SILU and high > low:
            channel, pixels = low * LANES, first_position(plan, ended) - start
            count = (min(high * LANES, plan.channels) - channel) * multiplier
            here = offset_pointer(out, channel * multiplier)
            activate(here, pixels, step // item_of(like), count, act)
        item = next_work_item(counter, items, thread)


@stage
def depthwise_float32(address, counter, thread):
    """Run a depthwise layer of float32."""
    plan = layer_at(address)
    _depthwise_items(plan, counter, thread, float32_ptr(plan.source))


@stage
def depthwise_bfloat16(address, counter, thread):
    """Run a depthwise layer of bfloat16."""
    plan = layer_at(address)
    _depthwise_items(plan, counter, thread, bfloat16_ptr(plan.source))
