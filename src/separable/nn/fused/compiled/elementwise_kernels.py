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
from separable.engine.compiled.simd import emit_fma, load_scalar, offset_pointer
from separable.engine.compiled.sweep_params import next_work_item

from .activation_ops import activate
from .layer_params import SILU, emit_pointer
from .simd_ops import LANES, SINGLE, between, emit_mask, emit_read, float32_ptr, write, write_part

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
        "operation",  # COPY, ADD, SUBTRACT, MULTIPLY, DIVIDE or SCALE
        "act",  # activation
        "limits",  # address of float32[2]: clamp of the result
    )]
)  # fmt: skip
_RECORD = numba.from_dtype(ELEMENTWISE)

COPY, ADD, SUBTRACT, MULTIPLY, DIVIDE, SCALE = range(6)
"""Operations: a, a + b, a - b, a * b, a / b, a * b + c."""


@intrinsic
def elementwise_at(_typing: Any, address: Any) -> Any:
    """Return the record of an elementwise step at an address."""
    return _RECORD(types.int64), emit_pointer


@literal_intrinsic
def combine(
    _typing: Any, a: Any, b: Any, c: Any, count: Any, operation: Any, part: Any
) -> Any:  # fmt: skip
    """Return the operation on the vectors at three addresses; arrays that it has no use for are not read.

    If ``part`` is 1, only the first ``count`` lanes are read.
    """
    chosen, masked = operation.literal_value, part.literal_value

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        mask = emit_mask(builder, arguments[3]) if masked else None

        def vector(place: Any) -> Any:
            return emit_read(builder, a, place, mask)

        first = vector(arguments[0])
        if chosen == COPY:
            return first
        second = vector(arguments[1])
        if chosen == SCALE:
            return emit_fma(builder, SINGLE, first, second, vector(arguments[2]))
        emitters = {
            ADD: builder.fadd,
            SUBTRACT: builder.fsub,
            MULTIPLY: builder.fmul,
            DIVIDE: builder.fdiv,
        }
        return emitters[chosen](first, second)

    return SINGLE(a, a, a, types.int64, operation, part), emit


@inline
def _combine_row(source, other, shift, out, count, lower, upper, operation):
    """Store the clamped results of one operation, a literal, on a row of ``count`` values."""
    for start in range(0, count, LANES):
        a, b = offset_pointer(source, start), offset_pointer(other, start)
        c, place = offset_pointer(shift, start), offset_pointer(out, start)
        left = count - start
        if left >= LANES:
            write(place, between(combine(a, b, c, left, operation, 0), lower, upper))
        else:
            value = between(combine(a, b, c, left, operation, 1), lower, upper)
            write_part(place, value, left)


@inline
def _combine_rows(plan, image, begun, ended, lower, upper, operation):
    """Apply one operation, a literal, to the rows of an image from ``begun`` to ``ended``."""
    for r in range(begun, ended):
        count = plan.width if r + 1 < plan.rows else plan.last_width
        beside = image * plan.other_image + r * plan.other_row
        _combine_row(
            float32_ptr(plan.source + image * plan.source_image + r * plan.source_row),
            float32_ptr(plan.other + beside), float32_ptr(plan.shift + beside),
            float32_ptr(plan.target + image * plan.target_image + r * plan.target_row),
            count, lower, upper, operation,
        )  # fmt: skip


@stage
def elementwise_float32(address, counter, thread):
    """Run an elementwise step of float32."""
    plan = elementwise_at(address)
    limits = float32_ptr(plan.limits)
    lower, upper = load_scalar(limits), load_scalar(offset_pointer(limits, 1))
    operation, act, rows = plan.operation, plan.act, plan.rows
    item = next_work_item(counter)
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
            else:
                _combine_rows(plan, image, begun, ended, lower, upper, SCALE)
            if act >= SILU:
                place = plan.target + image * plan.target_image + begun * plan.target_row
                whole = ended if ended < rows or plan.last_width == plan.width else ended - 1
                step = plan.target_row // 4
                activate(float32_ptr(place), whole - begun, step, plan.width, act)
                if whole < ended:  # the last row is shorter
                    place += (whole - begun) * plan.target_row
                    activate(float32_ptr(place), 1, step, plan.last_width, act)
        item = next_work_item(counter)
