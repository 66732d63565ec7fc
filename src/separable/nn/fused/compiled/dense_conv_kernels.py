"""Dense convolutions, channels last.

What is computed, for output position p and output channel o:

    out[p, o] = act(bias[o] + sum_{t, c} weights[o, c, t] * x[p * stride + t * dilation - pad, c] + residual[p, o])

A work item is a *box* of output positions and a part of the panels of weights. The input under the box is
copied to scratch memory with zeros outside the image, so that each tap and channel is a fixed offset from the
first input of an output. Where nothing lies outside the image the input is read where it lies.

The weights of a panel are read in *chunks* that stay in the second-level cache while all positions of the
box are gone through. Every output is summed in the order of its weights, so results depend neither on boxes and
chunks nor on the number of threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.numba_api import without_literals
from separable.engine.compiled.simd import load_scalar, offset_pointer
from separable.engine.compiled.sweep_params import move, set_word, word
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .dense_blocks import sum_products
from .dense_params import (
    PANEL_BIAS,
    PANEL_INPUT,
    PANEL_OUTPUT,
    PANEL_VECTORS,
    PANEL_WEIGHTS,
    PANEL_WIDTH,
    PANEL_WORDS,
    dense_at,
    fill_zeros,
)
from .layer_blocks import ROWS, VECTORS
from .layer_params import SILU
from .simd_ops import LANES, float32_ptr


@inline
def _write_windows(plan, windows, places, nz, ny, nx):
    """Write for each output of a box where its first input and itself lie, relative to those of the first output."""
    sz, sy = plan.box_slice * plan.stride_z, plan.box_row * plan.stride_y
    sx = plan.box_column * plan.stride_x
    rows, columns = plan.out_y, plan.out_x
    p = 0
    for z in range(nz):
        for y in range(ny):
            window, place = z * sz + y * sy, (z * rows + y) * columns
            for x in range(nx):
                set_word(windows, p, window + x * sx)
                set_word(places, p, place + x)
                p += 1


@inline
def _copy_columns(plan, target, source, count):
    """Copy positions of a row of the input, which follow each other in the copy."""
    size = plan.column_bytes
    if plan.column_step == size:
        move(target, source, count * size)
    else:
        for x in range(count):
            move(target + x * size, source + x * plan.column_step, size)


@part
def _copy_box(plan, image, box, z0, y0, x0, nz, ny, nx):
    """Copy the input under a box of ``nz * ny * nx`` outputs; what lies outside the image becomes 0.

    ``z0, y0, x0`` is the position of the first input, which may be negative.
    """
    tall = (nz - 1) * plan.stride_z + plan.reach_z + 1
    high = (ny - 1) * plan.stride_y + plan.reach_y + 1
    wide = (nx - 1) * plan.stride_x + plan.reach_x + 1
    size = plan.column_bytes
    left = min(max(-x0, 0), wide)
    inside = max(min(wide, plan.size_x - x0) - left, 0)
    for c in range(plan.planes):
        for z in range(tall):
            for y in range(high):
                row = box + c * plan.box_plane + z * plan.box_slice + y * plan.box_row
                here = z0 + z >= 0 and z0 + z < plan.size_z and y0 + y >= 0 and y0 + y < plan.size_y
                if here and inside > 0:
                    source = image + c * plan.plane_step + (z0 + z) * plan.slice_step
                    source += (y0 + y) * plan.row_step + (x0 + left) * plan.column_step
                    if left > 0:
                        fill_zeros(row, left * size)
                    _copy_columns(plan, row + left * size, source, inside)
                    if left + inside < wide:
                        fill_zeros(row + (left + inside) * size, (wide - left - inside) * size)
                else:
                    fill_zeros(row, wide * size)


@inline
def _sum_block(
    base, windows, offsets, count, panel, start, start_step, out, places, step, added, added_step,
    inside, lower, upper, rows, vectors,
):  # fmt: skip
    """Compute a block of up to ROWS outputs and a literal number of vectors."""
    if rows == 6:
        sum_products(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, 6, vectors,
        )  # fmt: skip
    elif rows == 5:
        sum_products(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, 5, vectors,
        )  # fmt: skip
    elif rows == 4:
        sum_products(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, 4, vectors,
        )  # fmt: skip
    elif rows == 3:
        sum_products(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, 3, vectors,
        )  # fmt: skip
    elif rows == 2:
        sum_products(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, 2, vectors,
        )  # fmt: skip
    else:
        sum_products(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, 1, vectors,
        )  # fmt: skip


@inline
def _sum_blocks(
    base, windows, offsets, count, panel, start, start_step, out, places, step, added, added_step,
    inside, lower, upper, positions, vectors,
):  # fmt: skip
    """Compute all outputs of a box for one panel of a literal number of vectors and one chunk of products."""
    p = 0
    while p < positions:
        # The last two blocks are of like size: small blocks do not hide the latency of an FMA.
        left = positions - p
        rows = ROWS if left >= 2 * ROWS or left <= ROWS else (left + 1) // 2
        rows = min(rows, left)
        _sum_block(
            base, windows + p * 8, offsets, count, panel, start + p * start_step, start_step, out,
            places + p * 8, step, added, added_step, inside, lower, upper, rows, vectors,
        )  # fmt: skip
        p += rows


@without_literals
@part
def sum_chunk(
    base, windows, offsets, count, panel, start, start_step, out, places, step, added, added_step,
    inside, lower, upper, positions, vectors,
):  # fmt: skip
    """Compute all outputs of a box for one panel of up to VECTORS vectors and one chunk of products."""
    if vectors == 1:
        _sum_blocks(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, positions, 1,
        )  # fmt: skip
    elif vectors == 2:
        _sum_blocks(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, positions, 2,
        )  # fmt: skip
    elif vectors == 3 and VECTORS == 4:
        _sum_blocks(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, positions, 3,
        )  # fmt: skip
    elif VECTORS == 4:
        _sum_blocks(
            base, windows, offsets, count, panel, start, start_step, out, places, step, added,
            added_step, inside, lower, upper, positions, 4,
        )  # fmt: skip


@inline
def _sum_panel(plan, scratch, base, target, added, positions, panel):
    """Compute all outputs of a box for one panel: chunk by chunk, the last one with bias and activation."""
    weights, vectors = plan.weights + word(panel, PANEL_WEIGHTS), word(panel, PANEL_VECTORS)
    line, width = vectors * LANES * 4, word(panel, PANEL_WIDTH)
    output = word(panel, PANEL_OUTPUT) * 4
    windows, places = scratch + plan.at_windows, scratch + plan.at_places
    sums, limits = scratch + plan.at_sums, float32_ptr(plan.limits)
    start, start_step = plan.bias + word(panel, PANEL_BIAS), 0
    base += word(panel, PANEL_INPUT)
    for n in range(plan.chunks - 1):
        first = word(plan.chunk_starts, n)
        count = word(plan.chunk_starts, n + 1) - first
        sum_chunk(
            base, windows, plan.offsets + first * 8, count, weights + first * line, start, start_step,
            sums, plan.order, line, 0, 0, LANES, load_scalar(offset_pointer(limits, 2)),
            load_scalar(offset_pointer(limits, 3)), positions, vectors,
        )  # fmt: skip
        start, start_step = sums, line
    first = word(plan.chunk_starts, plan.chunks - 1)
    count = word(plan.chunk_starts, plan.chunks) - first
    if added != 0:
        added += output
    sum_chunk(
        base, windows, plan.offsets + first * 8, count, weights + first * line, start, start_step,
        target + output, places, plan.target_step, added, plan.residual_step,
        width - (vectors - 1) * LANES, load_scalar(limits), load_scalar(offset_pointer(limits, 1)),
        positions, vectors,
    )  # fmt: skip


@inline
def _activate_box(plan, target, nz, ny, nx, channel, count):
    """Apply an activation that is not a clamp to some channels of a box of outputs."""
    for z in range(nz):
        for y in range(ny):
            row = target + (z * plan.out_y + y) * plan.out_x * plan.target_step + channel * 4
            activate(float32_ptr(row), nx, plan.target_step // 4, count, plan.act)


@stage
def convolve_dense(address, counter, thread):
    """Run a dense convolution of float32."""
    plan = dense_at(address)
    scratch = plan.scratch + thread * plan.scratch_size
    parts, panels = plan.parts, plan.panels
    of_z, of_y, of_x = 0, 0, 0  # sizes of the box whose outputs stand in the tables
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [image][z][y][x][part of the panels].
        share, b = item % parts, item // parts
        x, b = b % plan.blocks_x * plan.block_x, b // plan.blocks_x
        y, b = b % plan.blocks_y * plan.block_y, b // plan.blocks_y
        z, image = b % plan.blocks_z * plan.block_z, b // plan.blocks_z
        nz, ny, nx = (
            min(plan.block_z, plan.out_z - z),
            min(plan.block_y, plan.out_y - y),
            min(plan.block_x, plan.out_x - x),
        )
        if nz != of_z or ny != of_y or nx != of_x:
            _write_windows(plan, scratch + plan.at_windows, scratch + plan.at_places, nz, ny, nx)
            of_z, of_y, of_x = nz, ny, nx
        z0 = z * plan.stride_z - plan.before_z
        y0 = y * plan.stride_y - plan.before_y
        x0 = x * plan.stride_x - plan.before_x
        source = plan.source + image * plan.image_step
        if plan.copies:
            base = scratch + plan.at_box
            _copy_box(plan, source, base, z0, y0, x0, nz, ny, nx)
        else:
            base = source + z0 * plan.slice_step + y0 * plan.row_step + x0 * plan.column_step
        first = ((image * plan.out_z + z) * plan.out_y + y) * plan.out_x + x
        target = plan.target + first * plan.target_step
        added = plan.residual
        if added != 0:
            added += first * plan.residual_step
        for n in range(share * panels // parts, (share + 1) * panels // parts):
            panel = plan.panel_table + n * PANEL_WORDS * 8
            _sum_panel(plan, scratch, base, target, added, nz * ny * nx, panel)
            if plan.act >= SILU:
                channel, count = word(panel, PANEL_OUTPUT), word(panel, PANEL_WIDTH)
                _activate_box(plan, target, nz, ny, nx, channel, count)
        item = next_work_item(counter, plan.items, thread)
