"""The record that describes one sweep to compiled code, and the operations on addresses around it.

Sizes count elements, strides and offsets count bytes, addresses are integers.  The axes of a sweep are called

- ``z``: the axis streamed plane by plane through a ring of filtered planes (``z_taps`` 0: none),
- ``y``: the axis between rows (``y_taps`` 0: not filtered),
- ``x``: the axis along rows (``x_taps`` 0: not filtered), each column holding ``channels`` samples;
  ``flat`` columns are columns times channels.

Sums of separable terms and whole-line filters (box, recursion) use the same record.  A sweep of terms filters rows
into ``y_terms`` images, those along x into ``rings``, and these along z into ``outputs``.  Words such as tile,
strip and ring are explained in ``README.md`` beside this file.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import ctypes
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from .jit import intrinsic
from .numba_api import numba, types

FIELDS = (
    # The arrays of this run, and the element types.
    "source",  # address of the image
    "target",  # address of the result
    "source_item",  # bytes of a sample of the image
    "target_item",  # bytes of a sample of the result
    "work_item",  # bytes of a number in the working dtype
    "lanes",  # numbers in a vector of the working dtype
    # Work items: bands of rows in chunks of columns of batch elements.
    "items",  # number of work items
    "batch_dims",  # number of batch axes
    "batch_table",  # address of int64[3][batch_dims]: sizes, source strides, target strides
    # The streamed axis.
    "z_size",  # planes
    "z_taps",  # taps; 0 if this axis is not filtered
    "z_left",  # taps to the left of the output
    "z_map",  # address of int64[z_size + z_taps - 1]: plane at each extended position, -1 outside
    "z_source",  # stride
    "z_target",  # stride
    "z_slab",  # planes that the z pass completes together
    # The axis between rows.
    "y_size",  # rows
    "y_taps",  # taps, or the window of a line filter; 0 if this axis is not filtered
    "y_map",  # address of int64[y_size + y_taps - 1]: row at each extended position, -1 outside
    "y_source",  # stride
    "y_target",  # stride
    "y_band",  # rows of a band
    "y_bands",  # bands of an image
    "y_left",  # taps above the output, where rows are filtered where they lie
    "y_shift",  # rows by which a line filter leaves its first output after the first sample
    # The axis along rows.
    "x_flat",  # flat columns
    "channels",  # samples at each position
    "x_taps",  # taps, or the window of a line filter; 0 if this axis is not filtered
    "x_reach",  # flat columns loaded to the left of an output, whole vectors
    "x_phase",  # of these the ones that no tap reads
    "x_source",  # stride of positions
    "x_target",  # stride of positions
    "c_source",  # stride of channels
    "c_target",  # stride of channels
    "x_chunk",  # flat columns of a chunk
    "x_chunks",  # chunks of a row
    "x_shift",  # flat columns by which a line filter leaves its first output after the first sample
    "source_dense",  # 1 if flat columns of the image are neighbours in memory
    "target_dense",  # 1 if flat columns of the result are neighbours in memory
    "stream",  # 1 if stores bypass the caches
    "unaligned_prefix",  # elements of the result before the first aligned cache line
    # Borders and constants.
    "left_table",  # address of int64[x_reach]: offset of each flat column left of the image, or OUTSIDE
    "right_table",  # the same for flat columns right of the image
    "outside",  # address of the constant value outside the image
    "scale",  # address of the factor of all results of a line filter
    # Sums of terms: ranges are first * 65536 + last.
    "y_terms",  # terms along y
    "x_from",  # address of int64[x terms]: the y term that each reads
    "rings",  # rings of filtered planes
    "ring_terms",  # address of int64[rings]: the range of terms that each ring sums
    "z_from",  # address of int64[z terms]: the ring that each reads
    "outputs",  # results of the sweep
    "out_terms",  # address of int64[outputs]: the range of terms that each result sums
    "out_at",  # address of int64[outputs]: bytes from the first result to each
    "y_weights",  # address of work[y_terms][y_taps]
    "y_kinds",  # address of int64[y_terms]: GENERAL, EVEN or ODD
    "x_weights",  # address of work[x terms][x_taps]; of a dense kernel [z_taps][x_taps][y_taps]
    "x_kinds",  # address of int64[x terms]
    "z_weights",  # address of work[z terms][z_taps]
    "z_kinds",  # address of int64[z terms]
    "z_outside",  # address of work[rings]: the constant value outside, filtered along y and x
    # Correctly rounded integers, see `exact_rounding.py`.
    "half_limit",  # address of the distance to the nearest integer above which a sum is rounded exactly
    "snap",  # address of the float64 distance to a half within which a sum counts as that half
    "exact_outside",  # address of the float64 constant value outside the image
    "exact_weights",  # address of float64[outputs][window_planes][window_rows][window_width]
    "window_planes",  # planes that an output reads
    "window_rows",  # rows of each
    "window_columns",  # positions of each; 0: the sums themselves are exact enough
    "window_width",  # numbers in a row of weights: flat columns, filled with zeros
    "window_left",  # positions to the left of the output
    # Line filters.
    "y_filter_data",  # address of the numbers that `y_filter` reads
    "x_filter_data",  # address of the numbers that `x_filter` reads
    # Features.
    "feature_data",  # address of int64[]: a table of `separable.features.compiled.feature_rows`
    # Tiles and buffers.
    "tile",  # flat columns that are loaded and filtered along y together
    "run",  # flat columns that are filtered along x together
    "slide_after",  # flat columns of output that the transposed buffer takes before it slides
    "prefetch_distance",  # flat columns from the tile in work to the one that is prefetched
    "prefetch_right",  # 1 if loading a tile also prefetches as many columns to the right of it
    "overlap",  # 1 if a tile is loaded while the one before it is filtered
    "halo",  # flat columns that neighbouring tiles share because of the taps along x
    "load_row",  # elements from a row of a strip to the next
    "load_strip",  # elements from a strip to the next
    "kernel_columns",  # columns of a dense kernel: x_taps, times z_taps if there are three axes
    "column_table",  # address of int64[max(z_taps, 1)][kernel_columns]: elements from an output to what a column reads
    "plane_step",  # elements from a tile to that of the next plane, for a dense kernel over three axes
    "groups",  # groups of `lanes` rows in a band
    "across_width",  # columns of the transposed buffer
    "ring_pitch",  # bytes of a ring per flat column
    "ring_strip",  # bytes from a vector column of a ring to the next
    "ring_row",  # bytes from a row of a ring to the next
    "ring_term",  # bytes from a ring to the next
    # Addresses of the stages that serve the dtypes and taps of this sweep; 0 where none is needed.
    "load",
    "item",  # filters one work item: planes, or a band of a line filter
    "band",  # filters one band of one plane
    "edge_band",  # filters the rows at the edges of the image, where `band` filters only the others
    "filter_short",
    "filter_columns",
    "filter_rows",
    "finish_columns",
    "filter_direct",
    "finish_planes",
    "sum_again",
    "fill_slot",
    "copy_slot",
    "y_filter",  # runs down the strips, in place
    "x_filter",  # runs along the transposed buffer, in place
    "transpose_strips",
    "store_across",
    "store_strips",
    # Scratch memory: one piece per thread, with these buffers at these offsets.
    "scratch",  # address of the first thread's
    "scratch_size",  # bytes of a thread's
    "at_item",  # int64[4]: address of the batch element in work, first row of the band, first plane of the slab
    "at_window",  # int64[window_planes * window_rows]: addresses of the rows that an output reads
    "at_rows",  # int64[rows]: addresses of the rows of a band, 0 for the constant value
    "at_next",  # int64[rows]: addresses of the rows of the next band, to be prefetched
    "at_slots",  # int64[slots]: the plane in each slot of the ring
    "at_strips",  # work[strip][row][lane]: the tile in work
    "at_spare",  # work[strip][row][lane]: the tile that is loaded meanwhile
    "at_temp",  # work[row][lane]: a block that is stored sample by sample
    "at_across",  # work[term][group of rows][column][lane]: the transposed buffer
    "at_buffer",  # work[output][column]: rows filtered along y by few taps
    "at_line",  # work[column][lane]: a run along x, or the forward run of a recursion
    "at_ring",  # work[ring][row][vector column][slot][lane]: filtered planes
    "at_tile",  # work[result][plane][row][column]: results that features are computed from
)
SWEEP = np.dtype([(name, np.int64) for name in FIELDS])
_RECORD = numba.from_dtype(SWEEP)
OUTSIDE = np.iinfo(np.int64).min
"""The offset of a sample that lies outside the image."""
# Words at `at_item`: the address of the batch element, the first row of the band, the first plane of the slab.
ITEM_SOURCE, ITEM_TOP, ITEM_PLANE, ITEM_WORDS = 0, 1, 2, 4


def _data_offset() -> int:
    """Return how many bytes after the address of an array object the address of its data is stored, or 0.

    The C struct of an array is part of NumPy's binary interface: Python's head of an object, then the address.
    """
    if (
        platform.python_implementation() != "CPython"
    ):  # `id` is the address of an object in CPython only
        return 0
    offset = object.__basicsize__
    tried: list[NDArray[Any]] = [np.zeros((3, 4)), np.zeros(5, np.uint8)[1:]]
    stored = (ctypes.c_size_t.from_address(id(a) + offset).value for a in tried)
    return offset if all(s == a.ctypes.data for s, a in zip(stored, tried, strict=True)) else 0


DATA_OFFSET = _data_offset()
"""Bytes from an array object to the word that holds the address of its first element; 0 if that is not known."""


def array_address(array: NDArray[Any]) -> int:
    """Return the address of the first element (ten times faster than ``array.ctypes.data``)."""
    if DATA_OFFSET:
        return ctypes.c_size_t.from_address(id(array) + DATA_OFFSET).value
    return int(array.__array_interface__["data"][0])


@intrinsic
def params_at(_typing: Any, address: Any) -> Any:
    """Return the record at an address."""

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
def smaller(_typing: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two integers."""
    # Numba's own `min` is one more function to compile.
    return _choice(a, b, "<")


@intrinsic
def larger(_typing: Any, a: Any, b: Any) -> Any:
    """Return the larger of two integers."""
    return _choice(a, b, ">")


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
