"""Dense convolutions of 3 x 3, 3 x 1 or 1 x 3 taps, channels last, by Winograd's minimal filtering.

What is computed, for output position p and output channel o:

    out[p, o] = act(bias[o] + sum_{t, c} weights[o, c, t] * x[p + t - pad, c] + residual[p, o])

A work item is a group of tiles of 4 x 4 outputs (4 x 1 or 1 x 4 for taps along one axis) and a part of the panels of
weights. Its inputs are transformed to V[36][tile][channel]; then for each panel the products with the transformed
weights, M[36][tile][output], are computed and transformed back; with taps along one axis 6 takes the place of 36. See `winograd_blocks` for the transforms.

Every output is computed in the same order in whichever group it lies, so results depend neither on groups nor on
the number of threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import load_scalar, offset_pointer
from separable.engine.compiled.sweep_params import move, set_word, word
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .dense_conv_kernels import sum_chunk
from .dense_params import (
    PANEL_BIAS,
    PANEL_OUTPUT,
    PANEL_PLAIN,
    PANEL_VECTORS,
    PANEL_WEIGHTS,
    PANEL_WIDTH,
    PANEL_WORDS,
    winograd_at,
)
from .layer_params import SILU
from .simd_ops import LANES, float32_ptr
from .winograd_blocks import transform_input, transform_output


@inline
def _write_addresses(plan, tile, table):
    """Write the addresses of the inputs of a tile, int64[window_y][window_x]; that of zeros outside the image."""
    image, place = tile // plan.tiles_of_image, tile % plan.tiles_of_image
    y0 = place // plan.tiles_of_row * plan.tile_y - plan.before_y
    x0 = place % plan.tiles_of_row * plan.tile_x - plan.before_x
    source, wide = plan.source + image * plan.image_step, plan.window_x
    for i in range(plan.window_y):
        y = y0 + i
        row = source + y * plan.row_step
        for j in range(wide):
            x = x0 + j
            inside = y >= 0 and y < plan.size_y and x >= 0 and x < plan.size_x
            set_word(table, i * wide + j, row + x * plan.column_step if inside else plan.zeros)


@inline
def _transform_tile(plan, table, line, rows, columns):
    """Write V of one tile, whose window has ``rows`` times ``columns`` (literals) inputs."""
    channels, plane = plan.channels, plan.value_plane
    for c in range(0, channels, LANES):
        if channels - c >= LANES:
            transform_input(table, c * 4, line + c * 4, plane, LANES, rows, columns, 0)
        else:
            transform_input(table, c * 4, line + c * 4, plane, channels - c, rows, columns, 1)


@part
def _transform_inputs(plan, table, values, first, tiles):
    """Write V[36][tile][channel] of some tiles."""
    for t in range(tiles):
        _write_addresses(plan, first + t, table)
        line = values + t * plan.value_step
        if plan.window_y == 1:
            _transform_tile(plan, table, line, 1, 6)
        elif plan.window_x == 1:
            _transform_tile(plan, table, line, 6, 1)
        else:
            _transform_tile(plan, table, line, 6, 6)


@part
def _compute_directly(plan, scratch, panel, tile, out, added, high, wide):
    """Compute the outputs of a tile for one panel without transforms, from a copy of its inputs."""
    _write_addresses(plan, tile, scratch)
    inputs, size = scratch + plan.at_tile, plan.channels * 4
    windows, places = scratch + plan.at_windows, scratch + plan.at_places
    for k in range(plan.values):
        move(inputs + k * size, word(scratch, k), size)
    for i in range(high):
        for j in range(wide):
            set_word(windows, i * wide + j, (i * plan.window_x + j) * size)
            set_word(places, i * wide + j, i * plan.out_x + j)
    vectors, limits = word(panel, PANEL_VECTORS), float32_ptr(plan.limits)
    sum_chunk(
        inputs, windows, plan.direct_offsets, plan.products, plan.weights + word(panel, PANEL_PLAIN),
        plan.bias + word(panel, PANEL_BIAS), 0, out, places, plan.target_step, added,
        plan.residual_step, word(panel, PANEL_WIDTH) - (vectors - 1) * LANES, load_scalar(limits),
        load_scalar(offset_pointer(limits, 1)), high * wide, vectors,
    )  # fmt: skip


@inline
def _finish_tile(
    plan, line, vectors, bias, out, added, high, wide, width, lower, upper, rows, columns
):
    """Write the outputs of one tile, whose window has ``rows`` times ``columns`` (literals) inputs.

    Return 1 if they are valid, else 0.
    """
    step, far, across, valid = plan.target_step, plan.residual_step, plan.out_x, 1
    for v in range(vectors):
        offset = v * LANES * 4
        valid &= transform_output(
            line + offset, plan.product_plane, bias + offset, out + offset, across * step, step,
            added + offset if added != 0 else 0, across * far, far, high, wide, width - v * LANES,
            lower, upper, rows, columns,
        )  # fmt: skip
    return valid


@part
def _transform_outputs(plan, scratch, panel, first, tiles):
    """Write the outputs of some tiles for one panel, from M[36][tile][output].

    A tile with numbers that are not finite is computed directly: the transforms would spread them.
    """
    products = scratch + plan.at_products
    vectors, width = word(panel, PANEL_VECTORS), word(panel, PANEL_WIDTH)
    channel, bias = word(panel, PANEL_OUTPUT), plan.bias + word(panel, PANEL_BIAS)
    step, far = plan.target_step, plan.residual_step
    columns, limits = plan.out_x, float32_ptr(plan.limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for t in range(tiles):
        image, place = (first + t) // plan.tiles_of_image, (first + t) % plan.tiles_of_image
        y, x = place // plan.tiles_of_row * plan.tile_y, place % plan.tiles_of_row * plan.tile_x
        high, wide = min(plan.tile_y, plan.out_y - y), min(plan.tile_x, columns - x)
        position = (image * plan.out_y + y) * columns + x
        out = plan.target + position * step + channel * 4
        added = plan.residual
        if added != 0:
            added += position * far + channel * 4
        line = products + t * vectors * LANES * 4
        if plan.window_y == 1:
            valid = _finish_tile(
                plan, line, vectors, bias, out, added, high, wide, width, lower, upper, 1, 6
            )
        elif plan.window_x == 1:
            valid = _finish_tile(
                plan, line, vectors, bias, out, added, high, wide, width, lower, upper, 6, 1
            )
        else:
            valid = _finish_tile(
                plan, line, vectors, bias, out, added, high, wide, width, lower, upper, 6, 6
            )
        if valid == 0:
            _compute_directly(plan, scratch, panel, first + t, out, added, high, wide)
        if plan.act >= SILU:
            for i in range(high):
                row = float32_ptr(out + i * columns * step)
                activate(row, wide, step // 4, width, plan.act)


@stage
def convolve_winograd(address, counter, thread):
    """Run a dense convolution of float32 by Winograd's minimal filtering."""
    plan = winograd_at(address)
    scratch = plan.scratch + thread * plan.scratch_size
    values, products = scratch + plan.at_values, scratch + plan.at_products
    parts, panels, channels = plan.parts, plan.panels, plan.channels
    limits = float32_ptr(plan.limits)
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [group of tiles][part of the panels].
        share, first = item % parts, item // parts * plan.group_tiles
        tiles = min(plan.group_tiles, plan.tiles - first)
        _transform_inputs(plan, scratch, values, first, tiles)
        for n in range(share * panels // parts, (share + 1) * panels // parts):
            panel = plan.panel_table + n * PANEL_WORDS * 8
            vectors = word(panel, PANEL_VECTORS)
            line = vectors * LANES * 4
            weights = plan.weights + word(panel, PANEL_WEIGHTS)
            for e in range(plan.values):
                sum_chunk(
                    values + e * plan.value_plane, plan.windows, plan.offsets, channels,
                    weights + e * channels * line, plan.zeros, 0, products + e * plan.product_plane,
                    plan.order, line, 0, 0, LANES, load_scalar(offset_pointer(limits, 2)),
                    load_scalar(offset_pointer(limits, 3)), tiles, vectors,
                )  # fmt: skip
            _transform_outputs(plan, scratch, panel, first, tiles)
        item = next_work_item(counter, plan.items, thread)
