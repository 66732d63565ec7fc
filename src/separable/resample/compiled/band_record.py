"""The record that describes one banded pass to compiled code.

Sizes count elements, steps count bytes, addresses are integers.  A pass computes along one axis

    out[i] = sum_j weights[i][j] * x[samples[starts[i] + j]],    0 <= j < taps

where ``samples`` lists the sample at each position of the extended axis, -1 for the constant value outside.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import intrinsic
from separable.engine.compiled.numba_api import numba, types

FIELDS = (
    # The arrays of this run.
    "source",  # address of the image
    "target",  # address of the result
    # Work items: blocks of outputs in tiles of lines.
    "items",  # number of work items
    "tiles",  # tiles of lines along rows, or chunks of them between rows
    "blocks",  # blocks of outputs
    "block",  # outputs of a block
    "first_block",  # the first block of this run; the address of the result is that of its first output
    "batch_dims",  # number of batch axes
    "batch_table",  # address of int64[3][batch_dims]: sizes, source steps, target steps
    # The axis of the pass.
    "outputs",  # number of outputs
    "taps",  # weights of each output
    "starts",  # address of int64[outputs]: first position that each output reads
    "weights",  # address of work[outputs][taps]
    "samples",  # address of int64[positions]: the sample at each position, -1 outside
    "spans",  # address of int64[blocks][SPAN_WORDS]
    "outside",  # address of the constant value outside
    "source_step",  # bytes between samples
    "target_step",  # bytes between outputs
    # Lines: neighbours in memory of a pass between rows, or rows of a pass along rows.
    "lines",  # number of lines of one batch element, or of the whole image along rows
    "tile_lines",  # lines of a tile
    "chunk_lines",  # lines of a work item between rows: several tiles
    "lanes",  # numbers in a vector of the working dtype
    "source_item",  # bytes of a sample of the image
    "target_item",  # bytes of a sample of the result
    "channels",  # samples at each position along rows
    "regular_first",  # first output along rows that has the common weights and reads neighbouring samples
    "regular_last",  # the one after the last
    "row_samples",  # samples along rows: positions times channels
    "stream",  # 1 if stores bypass the caches
    # Addresses of the stages for the dtypes of this pass.
    "load",
    "sum",
    # Scratch memory: one piece per thread, with these buffers at these offsets.
    "scratch",
    "scratch_size",
    "at_strip",  # work[position][TILE_VECTORS][lane]
    "at_sums",  # work[output][TILE_VECTORS][lane], along rows only
    "at_rows",  # int64[2][TILE_VECTORS * lanes]: addresses of rows of the image and of the result
    "at_temp",  # work[TILE_VECTORS][lane]
)
BAND = np.dtype([(name, np.int64) for name in FIELDS])
_RECORD = numba.from_dtype(BAND)
# Words of a span: the positions that a block reads, those of them that are neighbours in the image, and the
# sample of the first of these.
SPAN_FIRST, SPAN_LAST, SPAN_START, SPAN_STOP, SPAN_SAMPLE, SPAN_WORDS = 0, 1, 2, 3, 4, 5


@intrinsic
def band_at(_typing: Any, address: Any) -> Any:
    """Return the record at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _RECORD(types.int64), emit
