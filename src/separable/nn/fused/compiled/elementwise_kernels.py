"""Elementwise steps: out = act(a), act(a + b), act(a * b), ..., on rows of float32.

The arrays are [image][row][value]. The second and third array may repeat for all rows of an image, or for all images:
then their step from a row, or from an image, to the next is 0. A work item is a group of rows of one image. The
result may replace one of the arrays, if both have the same steps.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import inline, intrinsic, literal_intrinsic, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import emit_fma, emit_splat, load_scalar, offset_pointer
from separable.engine.compiled.work_items import next_work_item

from .activation_ops import activate
from .layer_params import SILU, emit_pointer
from .simd_ops import (
    LANES,
    SINGLE,
    constant,
    emit_between,
    emit_mask,
    emit_read,
    emit_write,
    float32_ptr,
)

ELEMENTWISE = np.dtype(
    [(name, np.int64) for name in (
        # Arrays of this run.
        "source",  # the first array, a
        "target",  # the result
        "other",  # the second array, b
        "shift",  # the third array, c
        "unused_one", "unused_two",
        "scratch",
        "scratch_size",
        # Work items.
        "items",  # groups of rows, times images
        "groups",  # groups of rows of an image
        "group_rows",  # rows of a group
        "block_rows",  # rows that are activated together, while they are in the first-level cache
        "rows",  # rows of an image
        "width",  # values of a row
        "last_width",  # values of the last row of an image
        # Bytes from a row, and from an image, to the next.
        "source_row", "target_row", "other_row",
        "source_image", "target_image", "other_image",
        "operation",  # COPY, ADD, SUBTRACT, MULTIPLY, DIVIDE, SCALE or PRELU
        "act",  # activation
        "limits",  # address of float32[2]: clamp of the result
    )]
)  # fmt: skip
_RECORD = numba.from_dtype(ELEMENTWISE)

COPY, ADD, SUBTRACT, MULTIPLY, DIVIDE, SCALE, PRELU = range(7)
"""Operations: a, a + b, a - b, a * b, a / b, a * b + c, and a * b where a < 0 but a elsewhere."""


@intrinsic
def elementwise_at(_typing: Any, address: Any) -> Any:
    """Return the record of an elementwise step at an address."""
    return _RECORD(types.int64), emit_pointer


@literal_intrinsic
def combine(
    _typing: Any, a: Any, b: Any, c: Any, out: Any, lower: Any, upper: Any, count: Any,
    operation: Any, vectors: Any,
) -> Any:  # fmt: skip
    """Store the clamped results of an operation on vectors; arrays that it has no use for are not read.

    ``operation`` and ``vectors`` are literals. If ``vectors`` is 0, ``count`` lanes of one vector are read and written.
    """
    chosen, wide = operation.literal_value, vectors.literal_value

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        mask = None if wide else emit_mask(builder, arguments[6])
        bounds = [emit_splat(builder, bound, LANES) for bound in arguments[4:6]]

        def place(array: int, i: int) -> Any:
            return builder.gep(arguments[array], [arguments[6].type(i * LANES)])

        def result(i: int) -> Any:
            used = 1 if chosen == COPY else 3 if chosen == SCALE else 2
            values = [emit_read(builder, a, place(array, i), mask) for array in range(used)]
            if chosen == COPY:
                return values[0]
            if chosen == SCALE:
                return emit_fma(builder, SINGLE, *values)
            if chosen == PRELU:
                is_negative = builder.fcmp_ordered("<", values[0], constant(0.0))
                return builder.select(is_negative, builder.fmul(*values), values[0])
            emitters = {
                ADD: builder.fadd,
                SUBTRACT: builder.fsub,
                MULTIPLY: builder.fmul,
                DIVIDE: builder.fdiv,
            }
            return emitters[chosen](*values)

        # All loads come first: the result may replace one of the arrays, so the compiler cannot move them.
        results = [emit_between(builder, result(i), *bounds) for i in range(max(wide, 1))]
        for i, value in enumerate(results):
            emit_write(builder, out, value, place(3, i), mask)
        return context.get_dummy_value()

    i64, f32 = types.int64, types.float32
    return types.none(a, a, a, a, f32, f32, i64, operation, vectors), emit


@inline
def _combine_row(a, b, c, out, count, lower, upper, operation):
    """Apply one operation, a literal, to a row of ``count`` values."""
    while count >= 4 * LANES:
        combine(a, b, c, out, lower, upper, count, operation, 4)
        a, b = offset_pointer(a, 4 * LANES), offset_pointer(b, 4 * LANES)
        c, out = offset_pointer(c, 4 * LANES), offset_pointer(out, 4 * LANES)
        count -= 4 * LANES
    while count >= LANES:
        combine(a, b, c, out, lower, upper, count, operation, 1)
        a, b = offset_pointer(a, LANES), offset_pointer(b, LANES)
        c, out = offset_pointer(c, LANES), offset_pointer(out, LANES)
        count -= LANES
    if count > 0:
        combine(a, b, c, out, lower, upper, count, operation, 0)


@inline
def _combine_rows(plan, image, begun, ended, lower, upper, operation):
    """Apply one operation, a literal, to the rows of an image from ``begun`` to ``ended``."""
    # Read before the loop: the compiler must assume that stores change the record.
    source_row, other_row, target_row = plan.source_row, plan.other_row, plan.target_row
    width, last, last_width = plan.width, plan.rows - 1, plan.last_width
    a = plan.source + image * plan.source_image + begun * source_row
    b = plan.other + image * plan.other_image + begun * other_row
    c = plan.shift + image * plan.other_image + begun * other_row
    out = plan.target + image * plan.target_image + begun * target_row
    for r in range(begun, ended):
        _combine_row(
            float32_ptr(a), float32_ptr(b), float32_ptr(c), float32_ptr(out),
            last_width if r == last else width, lower, upper, operation,
        )  # fmt: skip
        a, b, c, out = a + source_row, b + other_row, c + other_row, out + target_row


@stage
def elementwise_float32(address, counter, thread):
    """Run an elementwise step of float32."""
    plan = elementwise_at(address)
    limits = float32_ptr(plan.limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    operation, act, rows = plan.operation, plan.act, plan.rows
    item = next_work_item(counter, plan.items, thread)
    while item < plan.items:
        # Items are numbered [image][group of rows].
        image, group = item // plan.groups, item % plan.groups
        for begun in range(
            group * plan.group_rows, min((group + 1) * plan.group_rows, rows), plan.block_rows
        ):
            ended = min(begun + plan.block_rows, (group + 1) * plan.group_rows, rows)
            if operation == COPY:
                _combine_rows(plan, image, begun, ended, lower, upper, COPY)
            elif operation == ADD:
                _combine_rows(plan, image, begun, ended, lower, upper, ADD)
            elif operation == SUBTRACT:
                _combine_rows(plan, image, begun, ended, lower, upper, SUBTRACT)
            elif operation == MULTIPLY:
                _combine_rows(plan, image, begun, ended, lower, upper, MULTIPLY)
            elif operation == DIVIDE:
                _combine_rows(plan, image, begun, ended, lower, upper, DIVIDE)
            elif operation == SCALE:
                _combine_rows(plan, image, begun, ended, lower, upper, SCALE)
            else:
                _combine_rows(plan, image, begun, ended, lower, upper, PRELU)
            if act >= SILU:
                place = plan.target + image * plan.target_image + begun * plan.target_row
                whole = ended if ended < rows or plan.last_width == plan.width else ended - 1
                step = plan.target_row // 4
                activate(float32_ptr(place), whole - begun, step, plan.width, act)
                if whole < ended:  # the last row is shorter
                    place += (whole - begun) * plan.target_row
                    activate(float32_ptr(place), 1, step, plan.last_width, act)
        item = next_work_item(counter, plan.items, thread)
