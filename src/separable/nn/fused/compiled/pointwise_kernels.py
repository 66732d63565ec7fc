"""Layers that end with a pointwise step: alone, or after a depthwise step whose result stays in the cache.

    out[p, o] = act(pointwise_bias[o] + sum_c middle[p, c] * pointwise[c, o] + residual[p, o])

The residual is optional; it is added in a second pass over the outputs of a group, which are in the cache.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import add, load_scalar, offset_pointer
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .depthwise_tiles import depthwise_group
from .layer_blocks import PIXELS, VECTORS
from .layer_kernels import multiply_panels
from .layer_params import IDENTITY, SILU, layer_at
from .simd_ops import (
    LANES,
    between,
    bfloat16_ptr,
    float32_ptr,
    read,
    read_part,
    write,
    write_part,
)


@part
def _add_residual(target, step, residual, residual_step, rows, count, limits, act):
    """Add the residual to ``count`` outputs of some rows in place, then apply the activation."""
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for r in range(rows):
        line, other = float32_ptr(target + r * step), float32_ptr(residual + r * residual_step)
        for start in range(0, count, LANES):
            here, there = offset_pointer(line, start), offset_pointer(other, start)
            left = count - start
            if left >= LANES:
                write(here, between(add(read(here), read(there)), lower, upper))
            else:
                value = add(read_part(here, left), read_part(there, left))
                write_part(here, between(value, lower, upper), left)
    if act >= SILU:
        activate(float32_ptr(target), rows, step // 4, count, act)


@inline
def _pointwise_step(plan, like, rows, pitch, start, pixels, begun, ended, spill):
    """Compute the panels from ``begun`` to ``ended`` for ``pixels`` positions from ``start`` on.

    ``rows`` is the address of their middle values, ``pitch`` bytes apart.
    """
    limits, act, bias = (
        offset_pointer(float32_ptr(plan.limits), 2),
        plan.pointwise_act,
        plan.pointwise_bias,
    )
    step, outputs = plan.target_step, plan.outputs
    target = plan.target + start * step
    if plan.bias_offset == 0:
        multiply_panels(
            like, rows, pitch, plan.depth, plan.pointwise, bias, target, step, outputs, pixels,
            begun, ended, limits, act, spill,
        )  # fmt: skip
    else:
        multiply_panels(
            like, rows, pitch, plan.depth, plan.pointwise, plan.pointwise + plan.bias_offset, target,
            step, outputs, pixels, begun, ended, offset_pointer(limits, 2), IDENTITY, spill,
        )  # fmt: skip
        first = begun * VECTORS * LANES
        count = min(outputs, ended * VECTORS * LANES) - first
        far = plan.residual_step
        _add_residual(
            target + first * 4,
            step,
            bias + start * far + first * 4,
            far,
            pixels,
            count,
            limits,
            act,
        )


@inline
def _layer_items(plan, counter, thread, like):
    """Compute work items of a depthwise and a pointwise step until none is left."""
    scratch = plan.scratch + thread * plan.scratch_size
    middle, spill = scratch + plan.at_middle, scratch + plan.at_spill
    items, parts, panels = plan.items, plan.parts, plan.panels
    item = next_work_item(counter, items, thread)
    while item < items:
        # Items are numbered [group][part]; every part of a group computes its middle values again.
        group, share = item // parts, item % parts
        begun = group * plan.group_tiles
        ended = min(begun + plan.group_tiles, plan.tiles)
        start, pixels = depthwise_group(plan, like, middle, scratch, begun, ended)
        low, high = share * panels // parts, (share + 1) * panels // parts
        _pointwise_step(plan, like, middle, plan.middle_step, start, pixels, low, high, spill)
        item = next_work_item(counter, items, thread)


@stage
def layer_float32(address, counter, thread):
    """Run a depthwise and a pointwise step of float32."""
    plan = layer_at(address)
    _layer_items(plan, counter, thread, float32_ptr(plan.source))


@stage
def layer_bfloat16(address, counter, thread):
    """Run a depthwise and a pointwise step of bfloat16."""
    plan = layer_at(address)
    _layer_items(plan, counter, thread, bfloat16_ptr(plan.source))


@stage
def pointwise_float32(address, counter, thread):
    """Run a pointwise layer: out[p, o] = act(bias[o] + sum_c x[p, c] * weights[c, o] + residual[p, o]).

    The input itself takes the place of the middle values; all positions form one row.
    """
    plan = layer_at(address)
    spill = plan.scratch + thread * plan.scratch_size + plan.at_spill
    items, parts, panels = plan.items, plan.parts, plan.panels
    pitch, size = plan.depth * 4, plan.group_tiles * PIXELS
    item = next_work_item(counter, items, thread)
    while item < items:
        # Items are numbered [group of positions][part of the panels].
        start, share = item // parts * size, item % parts
        low, high = share * panels // parts, (share + 1) * panels // parts
        _pointwise_step(
            plan, float32_ptr(plan.source), plan.source + start * pitch, pitch, start,
            min(size, plan.row_size - start), low, high, spill,
        )  # fmt: skip
        item = next_work_item(counter, items, thread)
