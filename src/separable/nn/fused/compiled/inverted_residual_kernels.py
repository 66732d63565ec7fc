"""Inverted residuals, channels last: expand, depthwise and project for one band of output rows at a time.

What is computed, for input position q, output position p, expanded channel e and output channel o:

    expanded[q, e] = act(expand_bias[e] + sum_c x[q, c] * expand[c, e])
    middle[p, e] = act(depthwise_bias[e] + sum_t depthwise[t, e] * expanded[p * stride + t * dilation - pad, e])
    out[p, o] = act(project_bias[o] + sum_e middle[p, e] * project[e, o]) + residual[p, o]

The expanded channels are computed one panel (VECTORS * LANES channels) after the other. For each panel, the
depthwise step slides down a *ring* of expanded rows, float32[slot][column][channel of the panel]: image row y is in
slot y % slots. The first and the last columns of each slot are the padding; they stay zero. Rows of taps outside the
image are left out. The middle values of a few rows (a *chunk*), with all expanded channels, stay in the second-level
cache, where the product with the project weights finds them. The rings of all panels keep their rows from one
chunk of a band to the next.

Every output is summed in a fixed order, so results depend neither on bands nor on the number of threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import inline, intrinsic, part, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import add, load_scalar, offset_pointer
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .layer_blocks import PIXELS, VECTORS, add_spaced_taps, start_block, store_block
from .layer_kernels import multiply_panels
from .layer_params import SILU, STRIDED_THREES, THREES
from .simd_ops import LANES, float32_ptr, read, read_part, write, write_part, zero

INVERTED_FIELDS = (
    # Arrays of this run. Weights and biases of a step are one array.
    "source",  # input x[image][y][x][channel]
    "target",  # output [image][y][x][output]
    "expand",  # [panel][channel][expanded channel of the panel], then float32[panel][channel of the panel]
    "depthwise",  # [block of LANES channels][tap][lane], then float32[block][lane]
    "project",  # [panel][expanded channel][output of the panel], then float32[panel][output of the panel]
    "residual",  # array [image][y][x][output] that is added to the output, 0 for none
    "scratch",  # scratch memory of the first thread
    "scratch_size",  # bytes of scratch memory per thread
    # Work items: bands of output rows, and without a project step also shares of the panels.
    "items",  # number of work items
    "bands",  # bands per image
    "chunk_rows",  # output rows of a chunk
    "shares",  # shares into which the panels of a band are divided; 1 with a project step
    "panels",  # panels of expanded channels
    "out_panels",  # panels of output channels
    # Bytes from the weights of a step to its biases.
    "expand_bias",
    "depthwise_bias",
    "project_bias",
    # Sizes.
    "channels",  # input channels
    "depth",  # expanded channels
    "outputs",  # output channels
    "size_y", "size_x",  # input
    "out_y", "out_x",  # output
    "taps_y", "taps_x",  # depthwise kernel
    "stride_y", "stride_x",
    "dilation_y", "dilation_x",
    "before_y", "before_x",  # padding before the image
    "row_kind",  # how a row of taps is computed: THREES, STRIDED_THREES or ANY
    # Steps in bytes.
    "source_step",  # from a position of the input to the next
    "target_step",  # from a position of the output to the next
    "residual_step",
    "middle_step",  # from a position of the middle values to the next
    # Rings of expanded rows, which begin the scratch memory of a thread.
    "rings",  # rings in the scratch memory: one per panel, or 1 if each panel begins again in the same ring
    "ring_step",  # bytes from the ring of a panel to the next; 0 for one ring
    "slots",  # expanded rows in a ring
    "slot_step",  # bytes from a slot to the next
    "slot_columns",  # columns of a slot, with padding on both sides
    # Activations.
    "expand_act", "depthwise_act", "project_act",
    "limits",  # address of float32[3][2]: clamps after the three steps
    # Other buffers in the scratch memory.
    "at_middle",  # float32[position][middle_step / 4]: depthwise results of a band
    "at_spill",  # float32[ROWS][VECTORS * LANES]: a block whose last vector is not full
)  # fmt: skip
INVERTED = np.dtype([(name, np.int64) for name in INVERTED_FIELDS])
_RECORD = numba.from_dtype(INVERTED)
PANEL = VECTORS * LANES
"""Expanded channels of a panel."""


@intrinsic
def inverted_at(_typing: Any, address: Any) -> Any:
    """Return the record of an inverted residual at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _RECORD(types.int64), emit


@inline
def _add_row(plan, block, columns, weights):
    """Add one row of taps to a depthwise block; ``weights`` is float32[tap][lane]."""
    taps, k, kind = plan.taps_x, 0, plan.row_kind
    if kind == THREES:
        while k + 3 <= taps:
            here, factors = offset_pointer(columns, k * PANEL), offset_pointer(weights, k * LANES)
            block = add_spaced_taps(block, here, factors, 3, 1, 1, PANEL)
            k += 3
    elif kind == STRIDED_THREES:
        while k + 3 <= taps:
            here, factors = offset_pointer(columns, k * PANEL), offset_pointer(weights, k * LANES)
            block = add_spaced_taps(block, here, factors, 3, 2, 2, PANEL)
            k += 3
    while k < taps:
        here = offset_pointer(columns, k * plan.dilation_x * PANEL)
        factors = offset_pointer(weights, k * LANES)
        block = add_spaced_taps(block, here, factors, 1, 0, plan.stride_x, PANEL)
        k += 1
    return block


@part
def _depthwise_vector(plan, ring, y, low, high, weights, bias, out, step, pixels, inside, tail):
    """Compute up to PIXELS neighbouring depthwise results of one vector of channels.

    ``ring`` is the vector at the first column that the outputs read; rows of taps from ``low`` to ``high`` are
    inside the image, the first row of all taps would be ``y``. Of the vector ``inside`` channels exist (``tail`` 1
    if these are fewer than LANES).
    """
    block = start_block(bias)
    line = plan.taps_x * LANES
    for t in range(low, high):
        columns = float32_ptr(ring + (y + t * plan.dilation_y) % plan.slots * plan.slot_step)
        block = _add_row(plan, block, columns, offset_pointer(weights, t * line))
    limits = offset_pointer(float32_ptr(plan.limits), 2)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    if tail:
        store_block(block, out, step, pixels, lower, upper, inside, 1)
    else:
        store_block(block, out, step, pixels, lower, upper, LANES, 0)


@inline
def _depthwise_row(plan, ring, row, panel, out, step):
    """Compute the depthwise results of one output row for one panel of channels.

    ``out`` is the address of the row's first position at the panel's first channel.
    """
    size, depth = plan.out_x, plan.depth
    weights = float32_ptr(plan.depthwise)
    biases = float32_ptr(plan.depthwise + plan.depthwise_bias)
    taps, dilation, y = plan.taps_y, plan.dilation_y, row * plan.stride_y - plan.before_y
    low = max(0, (-y + dilation - 1) // dilation)
    high = min(taps, (plan.size_y - y + dilation - 1) // dilation)
    line = PIXELS * plan.stride_x * PANEL * 4
    for v in range(VECTORS):
        channel = panel * PANEL + v * LANES
        inside = min(LANES, depth - channel)
        if inside > 0:
            block = panel * VECTORS + v
            factors = offset_pointer(weights, block * taps * plan.taps_x * LANES)
            bias = offset_pointer(biases, block * LANES)
            columns, place = ring + v * LANES * 4, out + v * LANES * 4
            for x in range(0, size, PIXELS):
                wide = min(PIXELS, size - x)
                _depthwise_vector(
                    plan, columns, y, low, high, factors, bias, float32_ptr(place), step,
                    wide, inside, inside < LANES,
                )  # fmt: skip
                if plan.depthwise_act >= SILU:
                    activate(float32_ptr(place), wide, step // 4, inside, plan.depthwise_act)
                columns += line
                place += PIXELS * step


@inline
def _expand_row(plan, image, row, panel, ring, spill):
    """Compute one row of a panel of expanded channels into its slot of the ring."""
    slot = ring + row % plan.slots * plan.slot_step + plan.before_x * PANEL * 4
    pitch = plan.source_step
    padded = (plan.depth + LANES - 1) // LANES * LANES  # the weights of missing channels are zeros
    multiply_panels(
        float32_ptr(slot), image + row * plan.size_x * pitch, pitch, plan.channels, plan.expand,
        plan.expand + plan.expand_bias, slot - panel * PANEL * 4, PANEL * 4, padded, plan.size_x,
        panel, panel + 1, float32_ptr(plan.limits), plan.expand_act, spill,
    )  # fmt: skip


@part
def _expand_rows(plan, image, panel, done, begun, ended, ring, spill, out, step):
    """Compute the expand and depthwise steps of one panel for output rows from ``begun`` to ``ended``.

    Rows of the image before ``done`` are in the ring or are no longer needed. ``out`` is the address of the first
    position at the panel's first channel, positions ``step`` bytes apart. Return the new ``done``.
    """
    reach = (plan.taps_y - 1) * plan.dilation_y
    for row in range(begun, ended):
        y = row * plan.stride_y - plan.before_y
        done = max(done, y)
        while done < min(y + reach + 1, plan.size_y):
            _expand_row(plan, image, done, panel, ring, spill)
            done += 1
        _depthwise_row(plan, ring, row, panel, out + (row - begun) * plan.out_x * step, step)
    return done


@inline
def _clear_padding(plan, ring):
    """Write zeros to the columns of each slot that lie outside the image."""
    low, high = plan.before_x, plan.before_x + plan.size_x
    for slot in range(plan.slots * plan.rings):
        line = ring + slot // plan.slots * plan.ring_step + slot % plan.slots * plan.slot_step
        for column in range(plan.slot_columns):
            if column < low or column >= high:
                place = line + column * PANEL * 4
                for v in range(VECTORS):
                    write(float32_ptr(place + v * LANES * 4), zero())


@part
def _add_residual(out, step, other, far, pixels, outputs):
    """Add an array to the output: out[p, o] += other[p, o]."""
    for p in range(pixels):
        here, there = float32_ptr(out + p * step), float32_ptr(other + p * far)
        for o in range(0, outputs, LANES):
            place, source, left = offset_pointer(here, o), offset_pointer(there, o), outputs - o
            if left >= LANES:
                write(place, add(read(place), read(source)))
            else:
                write_part(place, add(read_part(place, left), read_part(source, left)), left)


@inline
def _project(plan, middle, start, pixels, spill):
    """Compute the project step for ``pixels`` positions from ``start`` on, and add the residual."""
    step = plan.target_step
    target = plan.target + start * step
    multiply_panels(
        float32_ptr(target), middle, plan.middle_step, plan.depth, plan.project,
        plan.project + plan.project_bias, target, step, plan.outputs, pixels, 0, plan.out_panels,
        offset_pointer(float32_ptr(plan.limits), 4), plan.project_act, spill,
    )  # fmt: skip
    if plan.residual:
        far = plan.residual_step
        _add_residual(target, step, plan.residual + start * far, far, pixels, plan.outputs)


@stage
def expand_depthwise(address, counter, thread):
    """Run the expand and the depthwise step of float32; the middle values are the output."""
    plan = inverted_at(address)
    ring = plan.scratch + thread * plan.scratch_size
    shares, bands, panels, rows = plan.shares, plan.bands, plan.panels, plan.out_y
    step = plan.target_step
    _clear_padding(plan, ring)
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [image][band][share of the panels].
        share, band, n = item % shares, item // shares % bands, item // (shares * bands)
        image = plan.source + n * plan.size_y * plan.size_x * plan.source_step
        begun, ended = band * rows // bands, (band + 1) * rows // bands
        out = plan.target + (n * rows + begun) * plan.out_x * step
        for panel in range(share * panels // shares, (share + 1) * panels // shares):
            place = out + panel * PANEL * 4
            _expand_rows(
                plan, image, panel, 0, begun, ended, ring, ring + plan.at_spill, place, step
            )
        item = next_work_item(counter, plan.items, thread)


@stage
def inverted_residual(address, counter, thread):
    """Run the expand, depthwise and project steps of float32, and add the residual."""
    plan = inverted_at(address)
    ring = plan.scratch + thread * plan.scratch_size
    middle, spill = ring + plan.at_middle, ring + plan.at_spill
    bands, rows, pitch = plan.bands, plan.out_y, plan.middle_step
    _clear_padding(plan, ring)
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [image][band].
        band, n = item % bands, item // bands
        image = plan.source + n * plan.size_y * plan.size_x * plan.source_step
        row, ended, done = band * rows // bands, (band + 1) * rows // bands, 0
        while row < ended:
            until = min(row + plan.chunk_rows, ended)
            before = done
            for panel in range(plan.panels):
                place = middle + panel * PANEL * 4
                here = ring + panel * plan.ring_step
                done = _expand_rows(
                    plan, image, panel, before, row, until, here, spill, place, pitch
                )
            start, pixels = (n * rows + row) * plan.out_x, (until - row) * plan.out_x
            _project(plan, middle, start, pixels, spill)
            row = until
        item = next_work_item(counter, plan.items, thread)
