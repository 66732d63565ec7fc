"""Layer normalisation and softmax of the rows of a matrix of float32.

    out[r, c] = act(scale[c] * (x[r, c] - mean[r]) / sqrt(variance[r] + eps) + shift[c])
    out[r, c] = exp(x[r, c] - max[r]) / sum over c of exp(x[r, c] - max[r])

The variance is the mean of the squared differences from the mean, in a second pass over the row, which is in the
first-level cache then: nothing cancels where the mean is large. Rows are summed lane by lane in two sums, which are
added at the end in a fixed order.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir

from separable.engine.compiled.jit import inline, intrinsic, literal_intrinsic, part, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import (
    add,
    emit_shuffle,
    emit_splat,
    fma,
    load_scalar,
    mul,
    offset_pointer,
    sub,
)
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .layer_params import SILU, emit_pointer
from .simd_ops import (
    LANES,
    SINGLE,
    between,
    constant,
    emit_exp,
    emit_mask,
    float32_ptr,
    read,
    read_part,
    write,
    write_part,
    zero,
)

NORMALISATION = np.dtype(
    [(name, np.int64) for name in (
        # Arrays of this run.
        "source",  # input x[row][channel]
        "target",  # output [row][channel]
        "scale",  # float32[channel]
        "shift",  # float32[channel]
        "unused_one", "unused_two",
        "scratch",
        "scratch_size",
        # Work items.
        "items",  # groups of rows
        "group_rows",  # rows of a group
        "rows",
        "channels",
        "source_step", "target_step",  # bytes from a row to the next
        "numbers",  # address of float32[4]: eps, channels, lower and upper clamp
        "act",  # activation
    )]
)  # fmt: skip
_RECORD = numba.from_dtype(NORMALISATION)


@intrinsic
def rows_at(_typing: Any, address: Any) -> Any:
    """Return the record of a normalisation of rows at an address."""
    return _RECORD(types.int64), emit_pointer


@literal_intrinsic
def over_lanes(_typing: Any, value: Any, maximum: Any) -> Any:
    """Return the sum of all lanes of a vector, or their maximum, in a fixed order; NaN if one is NaN.

    Halves are added to each other until one lane is left.
    """
    takes_maximum = maximum.literal_value

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, width = arguments[0], LANES
        while width > 1:
            width //= 2
            a = emit_shuffle(builder, left, left, list(range(width)))
            b = emit_shuffle(builder, left, left, list(range(width, 2 * width)))
            left = _emit_larger(builder, a, b) if takes_maximum else builder.fadd(a, b)
        return builder.extract_element(left, ir.IntType(32)(0))

    return types.float32(value, maximum), emit


def _emit_larger(builder: Any, a: Any, b: Any) -> Any:
    keep = builder.or_(builder.fcmp_ordered("<=", b, a), builder.fcmp_unordered("uno", a, a))
    return builder.select(keep, a, b)


@intrinsic
def larger_of(_typing: Any, a: Any, _b: Any) -> Any:
    """Return the maximum of two vectors, NaN where one of them is."""
    return a(a, a), lambda _context, builder, _signature, v: _emit_larger(builder, *v)


@intrinsic
def spread(_typing: Any, value: Any) -> Any:
    """Return a vector of copies of a scalar."""
    return SINGLE(types.float32), lambda _c, builder, _s, a: emit_splat(builder, a[0], LANES)


@intrinsic
def inside_or(_typing: Any, value: Any, count: Any, other: Any) -> Any:
    """Return a vector whose lanes from ``count`` on are replaced by a scalar."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        return builder.select(emit_mask(builder, a[1]), a[0], emit_splat(builder, a[2], LANES))

    return value(value, types.int64, types.float32), emit


@intrinsic
def exp_below(_typing: Any, x: Any) -> Any:
    """Return exp(x) for x <= 0, with 0 where the result is below 1e-38, and NaN for NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, a: Any) -> Any:
        is_tiny = builder.fcmp_ordered("<", a[0], constant(-87.3))
        return builder.select(
            is_tiny, constant(0.0), emit_exp(builder, a[0], upper=False, keeps_nan=True)
        )

    return x(x), emit


@inline
def _sum_row(p, count):
    """Return the sum of a row."""
    one, two = zero(), zero()
    c = 0
    while c + 2 * LANES <= count:
        one = add(one, read(offset_pointer(p, c)))
        two = add(two, read(offset_pointer(p, c + LANES)))
        c += 2 * LANES
    while c < count:
        one = add(one, read_part(offset_pointer(p, c), count - c))
        c += LANES
    return over_lanes(add(one, two), 0)


@inline
def _sum_differences(p, count, mean):
    """Return the sums of the differences from ``mean`` and of their squares."""
    middle = spread(mean)
    sums, one, two = zero(), zero(), zero()
    c = 0
    while c + 2 * LANES <= count:
        a = sub(read(offset_pointer(p, c)), middle)
        b = sub(read(offset_pointer(p, c + LANES)), middle)
        sums = add(sums, add(a, b))
        one, two = fma(a, a, one), fma(b, b, two)
        c += 2 * LANES
    while c < count:
        left = count - c
        a = sub(read_part(offset_pointer(p, c), left), middle)
        a = inside_or(a, left, np.float32(0.0))
        sums, one = add(sums, a), fma(a, a, one)
        c += LANES
    return over_lanes(sums, 0), over_lanes(add(one, two), 0)


@inline
def _normalise(value, middle, rest, factor, scale, shift, lower, upper):
    """Return (value - middle - rest) * factor * scale + shift, clamped."""
    centred = sub(sub(value, middle), rest)
    return between(fma(mul(centred, factor), scale, shift), lower, upper)


@part
def _normalise_row(plan, source, out, numbers):
    """Normalise one row."""
    count, p, o = plan.channels, float32_ptr(source), float32_ptr(out)
    eps, size = load_scalar(numbers), load_scalar(offset_pointer(numbers, 1))
    lower, upper = load_scalar(offset_pointer(numbers, 2)), load_scalar(offset_pointer(numbers, 3))
    mean = _sum_row(p, count) / size
    # The mean is rounded: its error, which is the mean of the differences, is subtracted from them.
    differences, squares = _sum_differences(p, count, mean)
    error = differences / size
    variance = squares / size - error * error
    middle, rest = spread(mean), spread(error)
    factor = spread(np.float32(1.0) / np.float32(math.sqrt(variance + eps)))
    scales, shifts = float32_ptr(plan.scale), float32_ptr(plan.shift)
    for c in range(0, count, LANES):
        here, left = offset_pointer(p, c), count - c
        scale, shift = offset_pointer(scales, c), offset_pointer(shifts, c)
        if left >= LANES:
            value = _normalise(
                read(here), middle, rest, factor, read(scale), read(shift), lower, upper
            )
            write(offset_pointer(o, c), value)
        else:
            value = _normalise(
                read_part(here, left), middle, rest, factor, read_part(scale, left), read_part(shift, left),
                lower, upper,
            )  # fmt: skip
            write_part(offset_pointer(o, c), value, left)


@stage
def layer_norm_float32(address, counter, thread):
    """Run a layer normalisation of float32."""
    plan = rows_at(address)
    numbers, step = float32_ptr(plan.numbers), plan.target_step
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        for r in range(item * plan.group_rows, min((item + 1) * plan.group_rows, plan.rows)):
            out = plan.target + r * step
            _normalise_row(plan, plan.source + r * plan.source_step, out, numbers)
            if plan.act >= SILU:
                activate(float32_ptr(out), 1, plan.channels, plan.channels, plan.act)
        item = next_work_item(counter, plan.items, thread)


@part
def _softmax_row(source, out, count):
    """Compute the softmax of one row."""
    p, o = float32_ptr(source), float32_ptr(out)
    lowest = np.float32(-np.inf)
    whole, left = count // LANES * LANES, count % LANES
    rest, last = offset_pointer(p, whole), offset_pointer(o, whole)
    most = spread(lowest)
    for c in range(0, whole, LANES):
        most = larger_of(most, read(offset_pointer(p, c)))
    if left:
        most = larger_of(most, inside_or(read_part(rest, left), left, lowest))
    peak = spread(over_lanes(most, 1))
    total = zero()
    for c in range(0, whole, LANES):
        value = exp_below(sub(read(offset_pointer(p, c)), peak))
        total = add(total, value)
        write(offset_pointer(o, c), value)
    if left:
        value = exp_below(sub(read_part(rest, left), peak))
        total = add(total, inside_or(value, left, np.float32(0.0)))
        write_part(last, value, left)
    factor = spread(np.float32(1.0) / over_lanes(total, 0))
    for c in range(0, whole, LANES):
        write(offset_pointer(o, c), mul(read(offset_pointer(o, c)), factor))
    if left:
        write_part(last, mul(read_part(last, left), factor), left)


@stage
def softmax_float32(address, counter, thread):
    """Run a softmax of float32."""
    plan = rows_at(address)
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        for r in range(item * plan.group_rows, min((item + 1) * plan.group_rows, plan.rows)):
            _softmax_row(
                plan.source + r * plan.source_step,
                plan.target + r * plan.target_step,
                plan.channels,
            )
        item = next_work_item(counter, plan.items, thread)
