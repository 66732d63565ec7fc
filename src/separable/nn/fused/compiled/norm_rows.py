"""Batch normalisation after the pointwise step, in training: passes over its rows of outputs; float32.

With q the result of the pointwise step, N its number of positions, and g the gradient of the output:

    h[p, o] = q[p, o] * inverse[o] + offset[o]                normalised: inverse = 1 / sqrt(var + eps)
    z[p, o] = gamma[o] * h[p, o] + beta[o],  out = act(z)
    z'[p, o] = g[p, o] * act'(z[p, o])
    beta'[o]  = sum_p z'[p, o],  gamma'[o] = sum_p z'[p, o] * h[p, o]
    q'[p, o]  = gamma[o] * inverse[o] * (z'[p, o] - beta'[o] / N - h[p, o] * gamma'[o] / N)

The rows of ``norm``, float32[7][line], are inverse, offset, gamma, beta, gamma * inverse, beta' / N and gamma' / N.
A work item is a group of ``group_tiles`` positions; its sums stand alone, so results do not depend on threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import add, fma, load_scalar, mul, offset_pointer, splat, sub
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activated as applied
from .layer_params import HARDSWISH, IDENTITY, SILU, layer_at
from .simd_ops import (
    LANES,
    between,
    float32_ptr,
    gradient_inside,
    hardswish_gradient,
    read,
    read_part,
    silu_gradient,
    write,
    write_part,
    zero,
)


@inline
def activated(z, act, lower, upper):
    """Return act(z)."""
    if act == SILU:
        return applied(z, SILU)
    if act == HARDSWISH:
        return applied(z, HARDSWISH)
    return between(z, lower, upper)


@inline
def activation_gradient(gradient, z, act, lower, upper):
    """Return gradient * act'(z)."""
    if act == SILU:
        return silu_gradient(gradient, z)
    if act == HARDSWISH:
        return hardswish_gradient(gradient, z)
    return gradient_inside(gradient, z, lower, upper)


@inline
def _read_some(p, inside):
    return read(p) if inside >= LANES else read_part(p, inside)


@inline
def _write_some(p, value, inside):
    if inside >= LANES:
        write(p, value)
    else:
        write_part(p, value, inside)


@part
def rows_gradient(gradient, rows, outputs, norm, line, act, limits, out, step, pixels):
    """Compute q' from g: ``gradient`` and ``rows`` (of q) are float32[p][outputs], ``out`` is float32[p][step]."""
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for p in range(pixels):
        for c in range(0, outputs, LANES):
            inside, at, n = outputs - c, p * outputs + c, offset_pointer(norm, c)
            value = _read_some(offset_pointer(gradient, at), inside)
            q = _read_some(offset_pointer(rows, at), inside)
            h = fma(q, read(n), read(offset_pointer(n, line)))
            if act != IDENTITY:
                z = fma(read(offset_pointer(n, 2 * line)), h, read(offset_pointer(n, 3 * line)))
                value = activation_gradient(value, z, act, lower, upper)
            value = sub(value, read(offset_pointer(n, 5 * line)))
            value = sub(value, mul(h, read(offset_pointer(n, 6 * line))))
            value = mul(value, read(offset_pointer(n, 4 * line)))
            # Rows of `out` have room for whole vectors.
            write(offset_pointer(out, p * step + c), value)


@inline
def _range_of(plan, group):
    """Return the first position of a group, and the number of its positions."""
    first = group * plan.group_tiles
    return first, min(plan.group_tiles, plan.tiles - first)


@stage
def rows_moments(address, counter, thread):
    """Write for each group and output a value near the mean, and sums about it: float32[3][line].

    These are the sums of the differences from that value, and of their squares.
    """
    plan = layer_at(address)
    outputs, line = plan.outputs, plan.outer_line
    group = next_work_item(counter, plan.items, thread)
    while group < plan.items:
        first, pixels = _range_of(plan, group)
        rows = float32_ptr(plan.source + first * outputs * 4)
        out = float32_ptr(plan.sums + group * plan.slab_step)
        part_of = splat(rows, 1.0 / pixels)
        for c in range(0, outputs, LANES):
            inside = outputs - c
            total, differences, squares = zero(), zero(), zero()
            for p in range(pixels):
                total = add(total, _read_some(offset_pointer(rows, p * outputs + c), inside))
            mean = mul(total, part_of)
            for p in range(pixels):
                value = _read_some(offset_pointer(rows, p * outputs + c), inside)
                difference = sub(value, mean)
                differences = add(differences, difference)
                squares = fma(difference, difference, squares)
            write(offset_pointer(out, c), mean)
            write(offset_pointer(out, line + c), differences)
            write(offset_pointer(out, 2 * line + c), squares)
        group = next_work_item(counter, plan.items, thread)


@stage
def rows_normalise(address, counter, thread):
    """Compute out = act(gamma * h + beta) from q."""
    plan = layer_at(address)
    outputs, line, act = plan.outputs, plan.outer_line, plan.outer_act
    limits = float32_ptr(plan.outer_limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    group = next_work_item(counter, plan.items, thread)
    while group < plan.items:
        first, pixels = _range_of(plan, group)
        rows = float32_ptr(plan.source + first * outputs * 4)
        out = float32_ptr(plan.target + first * outputs * 4)
        for p in range(pixels):
            for c in range(0, outputs, LANES):
                inside, at = outputs - c, p * outputs + c
                n = offset_pointer(float32_ptr(plan.outer), c)
                q = _read_some(offset_pointer(rows, at), inside)
                h = fma(q, read(n), read(offset_pointer(n, line)))
                z = fma(read(offset_pointer(n, 2 * line)), h, read(offset_pointer(n, 3 * line)))
                _write_some(offset_pointer(out, at), activated(z, act, lower, upper), inside)
        group = next_work_item(counter, plan.items, thread)


@stage
def rows_sums(address, counter, thread):
    """Write beta' and gamma' of each group: float32[2][line]."""
    plan = layer_at(address)
    outputs, line, act = plan.outputs, plan.outer_line, plan.outer_act
    limits = float32_ptr(plan.outer_limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    group = next_work_item(counter, plan.items, thread)
    while group < plan.items:
        first, pixels = _range_of(plan, group)
        rows = float32_ptr(plan.source + first * outputs * 4)
        gradient = float32_ptr(plan.gradient + first * outputs * 4)
        out = float32_ptr(plan.sums + group * plan.slab_step)
        for c in range(0, outputs, LANES):
            inside, n = outputs - c, offset_pointer(float32_ptr(plan.outer), c)
            inverse, offset = read(n), read(offset_pointer(n, line))
            gamma, beta = read(offset_pointer(n, 2 * line)), read(offset_pointer(n, 3 * line))
            shift, slope = zero(), zero()
            for p in range(pixels):
                value = _read_some(offset_pointer(gradient, p * outputs + c), inside)
                h = fma(_read_some(offset_pointer(rows, p * outputs + c), inside), inverse, offset)
                if act != IDENTITY:
                    value = activation_gradient(value, fma(gamma, h, beta), act, lower, upper)
                shift, slope = add(shift, value), fma(value, h, slope)
            write(offset_pointer(out, c), shift)
            write(offset_pointer(out, line + c), slope)
        group = next_work_item(counter, plan.items, thread)
