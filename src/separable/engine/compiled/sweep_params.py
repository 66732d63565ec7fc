"""The record that describes one sweep to compiled code.

Sizes count elements, strides count bytes and addresses are integers.  The axes of a sweep are called

- ``z``: the axis streamed plane by plane through a ring of filtered planes (``z_taps`` 0: none),
- ``y``: the axis between rows (``y_taps`` 0: not filtered),
- ``x``: the axis along rows (``x_taps`` 0: not filtered), each column holding ``channels`` samples;
  ``flat`` columns are columns times channels.

A sweep filters rows into ``y_terms`` images, those along x into ``rings``, and these along z into ``outputs``,
which lie ``out_at`` bytes from the target.  ``ring_terms`` and ``out_terms`` say which terms each of them sums, as
``first * 65536 + last``; ``x_from`` and ``z_from`` what each term reads: the y term, or the ring.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from .jit import intrinsic
from .numba_api import numba, types

_INTEGERS = [
    "source",
    "target",
    "source_item",
    "target_item",
    "work_item",
    "lanes",
    "items",
    "batch_dims",
    "batch_table",
    "z_size",
    "z_taps",
    "z_left",
    "z_map",
    "z_source",
    "z_target",
    "z_slab",
    "y_size",
    "y_taps",
    "y_map",
    "y_source",
    "y_target",
    "y_band",
    "y_bands",
    "x_flat",
    "channels",
    "x_taps",
    "x_reach",
    "x_phase",
    "x_source",
    "x_target",
    "c_source",
    "c_target",
    "x_chunk",
    "x_chunks",
    "source_dense",
    "target_dense",
    "stream",
    "lead",
    "left_table",
    "right_table",
    "outside",
    "y_terms",
    "x_from",
    "rings",
    "ring_terms",
    "z_from",
    "outputs",
    "out_terms",
    "out_at",
    "y_weights",
    "y_kinds",
    "x_weights",
    "x_kinds",
    "z_weights",
    "z_kinds",
    "z_outside",
    "tile",
    "stretch",
    "foresight",
    "overlap",
    "halo",
    "load_row",
    "load_strip",
    "groups",
    "across_width",
    "run",
    "ring_pitch",
    "ring_strip",
    "ring_row",
    "ring_term",
    "load",
    "columns",
    "rows",
    "finish",
    "direct",
    "band",
    "z_finish",
    "fill_slot",
    "copy_slot",
    "scratch",
    "scratch_size",
    "at_rows",
    "at_next",
    "at_slots",
    "at_strips",
    "at_spare",
    "at_temp",
    "at_across",
    "at_line",
    "at_ring",
]

PLAN = np.dtype([(name, np.int64) for name in _INTEGERS])
_RECORD = numba.from_dtype(PLAN)
OUTSIDE = np.iinfo(np.int64).min
"""The offset of a sample that lies outside the image."""


@intrinsic
def plan_at(_typing: Any, address: Any) -> Any:
    """Return the plan at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _RECORD(types.int64), emit


@intrinsic
def word(_typing: Any, address: Any, index: Any) -> Any:
    """Return the int64 number ``index`` of the table at ``address``."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(base, [arguments[1]]))

    return types.int64(types.int64, types.int64), emit


@intrinsic
def set_word(_typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Set the int64 number ``index`` of the table at ``address``."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store(arguments[2], builder.gep(base, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), emit


def _choice(a: Any, b: Any, comparison: str) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y = (
            context.cast(builder, value, given, types.int64)
            for value, given in zip(arguments, signature.args, strict=True)
        )
        return builder.select(builder.icmp_signed(comparison, x, y), x, y)

    return types.int64(a, b), emit


@intrinsic
def least(_typing: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two integers; Numba's own ``min`` is one more function to compile."""
    return _choice(a, b, "<")


@intrinsic
def most(_typing: Any, a: Any, b: Any) -> Any:
    """Return the larger of two integers."""
    return _choice(a, b, ">")


@intrinsic
def claim(_typing: Any, address: Any) -> Any:
    """Return the int64 at ``address`` and add 1 to it, atomically."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.int64(types.int64), emit


@intrinsic
def move(_typing: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy ``size`` bytes between addresses whose ranges may overlap."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        places = [builder.inttoptr(a, byte) for a in arguments[:2]]
        function = builder.module.declare_intrinsic("llvm.memmove", [byte, byte, ir.IntType(64)])
        builder.call(function, [*places, arguments[2], ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), emit


@intrinsic
def invoke(_typing: Any, function: Any, arguments: Any) -> Any:
    """Call the stage at the address ``function`` with a tuple of integers."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word_type = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word_type] * len(arguments))
        callee = builder.inttoptr(values[0], kind.as_pointer())
        words = [
            context.cast(builder, builder.extract_value(values[1], i), given, types.int64)
            for i, given in enumerate(arguments)
        ]
        builder.call(callee, words)
        return context.get_dummy_value()

    return types.none(types.int64, arguments), emit
