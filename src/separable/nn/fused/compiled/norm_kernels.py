"""Batch normalisation between the steps of a separable layer, in training; channels last, float32.

With d the depthwise result, N its number of positions, and h, z, a what follows:

    h[p, c] = (d[p, c] - mean[c]) / sqrt(var[c] + eps)        normalised
    z[p, c] = gamma[c] * h[p, c] + beta[c]
    a[p, c] = act(z[p, c])                                    multiplied with the pointwise weights

and with g the gradient of the output:

    a'[p, c]  = sum_o g[p, o] * pointwise[c, o],  z' = a' * act'(z)
    beta'[c]  = sum_p z'[p, c],  gamma'[c] = sum_p z'[p, c] * h[p, c]
    d'[p, c]  = gamma[c] / sqrt(var[c] + eps) * (z'[p, c] - beta'[c] / N - h[p, c] * gamma'[c] / N)

No d, h or a is kept: each pass computes h again, by a depthwise step whose weights contain the normalisation. Only
z' is written to memory, because d' depends on sums of all of it.

    pass                       reads        writes
    depthwise_moments          x            moments of each group
    layer (forward)            x            out
    backward_norm_pointwise    x, g         z', partial sums
    backward_norm_depthwise    x, z'        x', partial sums
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.simd import (
    add,
    address_of,
    fma,
    load_scalar,
    mul,
    offset_pointer,
    prefetch,
    splat,
    sub,
)
from separable.engine.compiled.work_items import next_work_item

from .depthwise_tiles import depthwise_group
from .gradient_kernels import (
    add_pointwise_gradient,
    depthwise_gradients,
    mask_gradient,
    multiply_transposed_weights,
    write_zeros,
)
from .layer_params import IDENTITY, LAYER_BYTES, layer_at
from .norm_rows import activated, activation_gradient, rows_gradient
from .simd_ops import LANES, float32_ptr, read, read_part, write, write_part, zero


@part
def _moments(middle, pitch, depth, pixels, out, line):
    """Write for each channel a value m near the mean, and the sums of the differences from m and of their squares.

    ``middle`` is float32[pixels][pitch], ``out`` float32[3][line]. The value m is the mean of these positions, rounded,
    so that nothing cancels where a channel's mean is much larger than its deviation.
    """
    part_of = splat(middle, 1.0 / pixels)
    for c in range(0, depth, LANES):
        total, differences, squares = zero(), zero(), zero()
        for p in range(pixels):
            total = add(total, read(offset_pointer(middle, p * pitch + c)))
        mean = mul(total, part_of)
        for p in range(pixels):
            difference = sub(read(offset_pointer(middle, p * pitch + c)), mean)
            differences = add(differences, difference)
            squares = fma(difference, difference, squares)
        write(offset_pointer(out, c), mean)
        write(offset_pointer(out, line + c), differences)
        write(offset_pointer(out, 2 * line + c), squares)


@stage
def depthwise_moments(address, counter, thread):
    """Compute the moments of the depthwise result of each group; the result itself is not kept."""
    plan = layer_at(address)
    scratch = plan.scratch + thread * plan.scratch_size
    middle = scratch + plan.at_middle
    like = float32_ptr(plan.source)
    group = next_work_item(counter, plan.items, thread)
    while group < plan.items:
        begun = group * plan.group_tiles
        until = min(begun + plan.group_tiles, plan.tiles)
        _start, pixels = depthwise_group(plan, like, middle, scratch, begun, until)
        _moments(
            float32_ptr(middle), plan.middle_step // 4, plan.depth, pixels,
            float32_ptr(plan.sums + group * plan.slab_step), plan.norm_line,
        )  # fmt: skip
        group = next_work_item(counter, plan.items, thread)


@part
def _activate(middle, active, pitch, depth, norm, line, act, limits, pixels):
    """Compute a = act(gamma * h + beta): float32[pixels][pitch] of h to the same of a."""
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for p in range(pixels):
        for c in range(0, depth, LANES):
            gamma, beta = read(offset_pointer(norm, c)), read(offset_pointer(norm, line + c))
            z = fma(gamma, read(offset_pointer(middle, p * pitch + c)), beta)
            write(offset_pointer(active, p * pitch + c), activated(z, act, lower, upper))


@part
def _mask_norm_gradient(gradient, middle, pitch, depth, norm, line, act, limits, sums, pixels):
    """Turn a' into z' in place, and add it to the sums of the gradients of beta and gamma.

    ``gradient`` is float32[pixels][depth], ``middle`` float32[pixels][pitch] of h, ``sums`` float32[2][line].
    """
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    for c in range(0, depth, LANES):
        inside = min(LANES, depth - c)
        gamma, beta = read(offset_pointer(norm, c)), read(offset_pointer(norm, line + c))
        shift, slope = zero(), zero()
        for p in range(pixels):
            h, place = (
                read(offset_pointer(middle, p * pitch + c)),
                offset_pointer(gradient, p * depth + c),
            )
            value = read(place) if inside == LANES else read_part(place, inside)
            if act != IDENTITY:
                value = activation_gradient(value, fma(gamma, h, beta), act, lower, upper)
                if inside == LANES:
                    write(place, value)
                else:
                    write_part(place, value, inside)
            shift, slope = add(shift, value), fma(value, h, slope)
        # Each group is summed by itself first, which keeps rounding errors small.
        here, there = offset_pointer(sums, c), offset_pointer(sums, line + c)
        write(here, add(read(here), shift))
        write(there, add(read(there), slope))


@stage
def backward_norm_pointwise(address, counter, thread):
    """Compute z' and the gradients of the pointwise weights, their biases, gamma and beta."""
    plan = layer_at(address)
    scratch = plan.scratch + thread * plan.scratch_size
    middle, active = scratch + plan.at_middle, float32_ptr(scratch + plan.at_active)
    masked = float32_ptr(scratch + plan.at_gradient)
    like, norm, limits = (
        float32_ptr(plan.source),
        float32_ptr(plan.norm),
        float32_ptr(plan.norm_limits),
    )
    depth, outputs, step, pitch = plan.depth, plan.outputs, plan.gradient_step, plan.middle_step
    slabs, tiles, line, act = plan.slabs, plan.tiles, plan.norm_line, plan.norm_act
    slab = next_work_item(counter, slabs, thread)
    while slab < slabs:
        sums = float32_ptr(plan.sums + slab * plan.slab_step)
        write_zeros(sums, plan.slab_step // 4)
        begun, ended = slab * tiles // slabs, (slab + 1) * tiles // slabs
        while begun < ended:
            until = min(begun + plan.group_tiles, ended)
            start, pixels = depthwise_group(plan, like, middle, scratch, begun, until)
            _activate(
                float32_ptr(middle), active, pitch // 4, depth, norm, line, act, limits, pixels
            )
            gradient = float32_ptr(plan.gradient + start * outputs * 4)
            if plan.outer == 0:
                mask_gradient(
                    gradient, gradient, IDENTITY, limits, outputs, masked, step,
                    offset_pointer(sums, outputs * line), pixels,
                )  # fmt: skip
            else:
                rows_gradient(
                    gradient, float32_ptr(plan.result + start * outputs * 4), outputs, float32_ptr(plan.outer),
                    plan.outer_line, plan.outer_act, float32_ptr(plan.outer_limits), masked, step, pixels,
                )  # fmt: skip
            add_pointwise_gradient(plan, masked, active, sums, start, pixels)
            target = plan.middle_gradient + start * depth * 4
            multiply_transposed_weights(plan, like, scratch, target, start, pixels)
            _mask_norm_gradient(
                float32_ptr(target), float32_ptr(middle), pitch // 4, depth, norm, line, act, limits,
                offset_pointer(sums, plan.norm_sums // 4), pixels,
            )  # fmt: skip
            begun = until
        slab = next_work_item(counter, slabs, thread)


_ROWS_AHEAD = 16
"""Positions between the one in work and the one whose gradient is prefetched."""


@part
def _middle_gradient(gradient, middle, pitch, depth, norm, line, out, pixels):
    """Compute d' = scale * (z' - shift - h * slope) from float32[pixels][depth] of z'; ``out`` may be the same.

    Rows 2 to 4 of ``norm`` are scale = gamma / sqrt(var + eps), shift = beta' / N and slope = gamma' / N.
    """
    for p in range(pixels):
        for c in range(0, depth, LANES):
            # The rows that come after these in memory, which is where the next group begins.
            prefetch(address_of(offset_pointer(gradient, (p + _ROWS_AHEAD) * depth + c)))
            scale = read(offset_pointer(norm, 2 * line + c))
            shift = read(offset_pointer(norm, 3 * line + c))
            slope = read(offset_pointer(norm, 4 * line + c))
            h, at = read(offset_pointer(middle, p * pitch + c)), p * depth + c
            inside = min(LANES, depth - c)
            if inside == LANES:
                value = sub(sub(read(offset_pointer(gradient, at)), shift), mul(h, slope))
                write(offset_pointer(out, at), mul(scale, value))
            else:
                value = read_part(offset_pointer(gradient, at), inside)
                value = sub(sub(value, shift), mul(h, slope))
                write_part(offset_pointer(out, at), mul(scale, value), inside)


@inline
def _middle_gradient_of_group(plan, like, scratch, begun, until, target):
    """Compute d' of a group from z'; ``target`` is its address for output position 0."""
    middle, depth = scratch + plan.at_middle, plan.depth
    start, pixels = depthwise_group(plan, like, middle, scratch, begun, until)
    _middle_gradient(
        float32_ptr(plan.middle_gradient + start * depth * 4), float32_ptr(middle),
        plan.middle_step // 4, depth, float32_ptr(plan.norm), plan.norm_line,
        float32_ptr(target + start * depth * 4), pixels,
    )  # fmt: skip


@stage
def norm_middle_gradient(address, counter, thread):
    """Compute d' from z' in place."""
    plan = layer_at(address)
    scratch = plan.scratch + thread * plan.scratch_size
    like = float32_ptr(plan.source)
    group = next_work_item(counter, plan.items, thread)
    while group < plan.items:
        begun = group * plan.group_tiles
        until = min(begun + plan.group_tiles, plan.tiles)
        _middle_gradient_of_group(plan, like, scratch, begun, until, plan.middle_gradient)
        group = next_work_item(counter, plan.items, thread)


@stage
def backward_norm_depthwise(address, counter, thread):
    """Compute d' from z', and from it the gradients of the depthwise weights and the input, image by image."""
    plan, back = layer_at(address), layer_at(address + LAYER_BYTES)
    scratch = plan.scratch + thread * plan.scratch_size
    like = float32_ptr(plan.source)
    slabs, images, per_image = plan.slabs, plan.images, plan.tiles_of_image
    positions = plan.out_rows * plan.row_size
    slab = next_work_item(counter, slabs, thread)
    while slab < slabs:
        sums = float32_ptr(plan.sums + slab * plan.slab_step)
        write_zeros(sums, plan.slab_step // 4)
        for image in range(slab * images // slabs, (slab + 1) * images // slabs):
            target = scratch + plan.at_image - image * positions * plan.depth * 4
            begun, ended, done = image * per_image, (image + 1) * per_image, 0
            while begun < ended:
                until = min(begun + plan.group_tiles, ended)
                _middle_gradient_of_group(plan, like, scratch, begun, until, target)
                done = depthwise_gradients(
                    plan, back, like, scratch, image, begun, until, done, sums
                )
                begun = until
        slab = next_work_item(counter, slabs, thread)
