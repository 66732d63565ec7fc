"""The record that describes a decimating sweep to compiled code.

Sizes count elements, steps count bytes, addresses are integers.  A sweep computes along two or three axes

    rows[p]   = sum_j z_weights[k][j] * image[z_samples[z_starts[k] + j]][y_samples[p]]      (three axes)
    line[q]   = sum_j y_weights[i][j] * rows[y_starts[i] + j][x_samples[q]]
    out[i][c] = sum_j x_weights[c][j] * line[x_starts[c] + j]

where ``samples`` lists the sample at each position of an extended axis, -1 for the constant value outside, and the starts
of an axis are equally far apart.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import intrinsic
from separable.engine.compiled.numba_api import numba, types

AXIS_FIELDS = (
    "outputs",  # number of outputs
    "block",  # outputs of a work item
    "blocks",  # number of blocks
    "taps",  # weights of each output; 0 if the axis is not filtered
    "starts",  # address of int64[outputs]: first position that each output reads
    "weights",  # address of work[outputs][taps]
    "samples",  # address of int64[positions]: the sample at each position, -1 outside
    "source_step",  # bytes between samples
    "target_step",  # bytes between outputs
)
FIELDS = (
    "source",  # address of the image
    "target",  # address of the result
    "items",  # number of work items
    "batch_dims",  # number of batch axes
    "batch_table",  # address of int64[3][batch_dims]: sizes, source steps, target steps
    *(f"{axis}_{name}" for axis in "zyx" for name in AXIS_FIELDS),
    "x_spans",  # address of int64[x_blocks][SPAN_WORDS], see `band_record`
    "regular_first",  # first output along rows that has the common weights
    "regular_last",  # the one after the last
    "channels",  # samples at each position along rows
    "lanes",  # numbers in a vector of the working dtype
    "source_item",  # bytes of a sample of the image
    "target_item",  # bytes of a sample of the result
    "work_item",  # bytes of a number of the working dtype
    "outside",  # address of the constant value outside
    "one",  # address of the number 1
    "snap",  # distance from a half within which a float64 sum counts as that half: a float64 number
    "buffered",  # 1 if rows are converted, or summed along z, before they are summed along y
    "pitch",  # bytes between the rows of the buffer
    "pairs",  # 1 if two outputs along y are computed together
    "line_size",  # bytes from the line of an output to that of the next one
    "slots",  # rows of the buffer: position p is in slot p % slots
    "stream",  # 1 if stores bypass the caches
    # Addresses of the stages for the dtypes of this sweep.
    "fill",  # image rows -> a row of the buffer
    "fill_few",  # the same for few rows within the image; 0 if there are many
    "combine",  # rows -> the line
    "combine_few",
    "combine_pairs",  # rows of the buffer -> the lines of two outputs
    "extend",  # the border of the line
    "finish",  # the line -> a row of the result
    # Scratch memory: one piece per thread, with these buffers at these offsets.
    "scratch",
    "scratch_size",
    "at_rows",  # work[slot][pitch]
    "at_line",  # work[flat position along x]
    "at_table",  # int64[taps]: addresses of the rows of a sum, 0 for the constant value
    "at_ahead",  # int64[MOST_AHEAD]: addresses of rows to be prefetched
    "at_temp",  # work[GROUP_VECTORS][lane]
)
DECIMATION = np.dtype([(name, np.float64 if name == "snap" else np.int64) for name in FIELDS])
_RECORD = numba.from_dtype(DECIMATION)


@intrinsic
def decimation_at(_typing: Any, address: Any) -> Any:
    """Return the record at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _RECORD(types.int64), emit
