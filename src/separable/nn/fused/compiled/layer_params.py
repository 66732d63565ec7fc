"""Records that describe one run of a compiled layer: a separable layer, or a box convolution.

Sizes count elements, steps count bytes and addresses are integers. All layers have three spatial axes
``(z, y, x)``; where a layer has fewer, the first ones have size 1. The first seven fields of both records
are the addresses that change from run to run.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import intrinsic
from separable.engine.compiled.numba_api import numba, types

LAYER_FIELDS = (
    # Arrays of this run.
    "source",  # input x[image][position][channel]
    "target",  # output [image][position][output]
    "depthwise",  # depthwise weights [block of LANES channels][tap][lane]
    "depthwise_bias",  # float32[block of LANES channels][lane]
    "pointwise",  # pointwise weights [panel][middle channel][output of the panel]
    "pointwise_bias",  # float32[panel][output of the panel]; with a residual: its address, see `bias_offset`
    "scratch",  # scratch memory of the first thread
    "scratch_size",  # bytes of scratch memory per thread
    # Work items.
    "items",  # number of work items: groups of tiles times parts
    "parts",  # parts into which the output channels of a group are divided
    "images",  # number of images
    "image_step",  # bytes from an image to the next
    "tiles",  # number of tiles; a tile is up to PIXELS neighbouring outputs of one row
    "tiles_of_row",  # tiles per row of outputs
    "tiles_of_image",  # tiles per image
    "group_tiles",  # tiles per group
    "row_size",  # outputs per row
    "out_rows",  # rows of outputs per image
    # Taps inside the image.
    "row_starts",  # address of int64[out_rows + 1]: first entry of each output row in the two tables below
    "row_offsets",  # address of int64[]: bytes from an image to the input row of each row of taps
    "row_weights",  # address of int64[]: first weight of each row of taps, within a block of channels
    "pair_starts",  # address of int64[out_rows + 1]: first entry in `pair_taps` of each row that has a partner below
    "pair_taps",  # address of int64[][3]: bytes from an image to an input row, its first weight for both rows or -1
    "columns",  # address of int64[tiles_of_row][window]: bytes from an input row to each column, -1 outside
    "window",  # input columns under a tile
    "tile_edges",  # address of int64[tiles_of_row][3], see `depthwise_tiles.depthwise_inside`
    "row_kind",  # how a row of taps is computed: THREES, STRIDED_THREES, NEIGHBOURS or ANY
    "taps_of_row",  # taps along x
    "tap_range",  # address of int64[tiles_of_row][2]: taps along x that meet any input column
    "dilation",  # columns between neighbouring taps
    "stride_columns",  # columns between neighbouring outputs
    "block_step",  # depthwise weights of one block of LANES channels
    # Channels.
    "channels",  # input channels
    "source_blocks",  # blocks of LANES input channels
    "multiplier",  # depth multiplier
    "depth",  # middle channels, i.e. results of the depthwise step: channels * multiplier
    "zeros",  # address of zeros, read wherever a tap lies outside the image
    "middle_step",  # bytes from a position of the middle values to the next
    "panels",  # panels of up to VECTORS * LANES output channels
    "outputs",  # output channels
    "target_step",  # bytes from a position of the output to the next
    "depthwise_act",  # activation after the depthwise step
    "pointwise_act",  # activation after the pointwise step
    "bias_offset",  # 0, or bytes from the pointwise weights to the biases if `pointwise_bias` is a residual
    "residual_step",  # bytes from a position of the residual [image][position][output] to the next
    "limits",  # address of float32[3][2]: clamps after the depthwise and pointwise steps, and no clamp
    # Buffers in the scratch memory of a thread; the table of tap addresses is at 0.
    "at_middle",  # float32[position][middle_step / 4]: depthwise results of a group
    "at_spill",  # float32[ROWS][VECTORS * LANES]: a block whose last vector is not full
    # Gradients.
    "gradient",  # address of the output's gradient [position][output]
    "result",  # address of the output itself, from which clamped values are recognised
    "middle_gradient",  # address of the middle values' gradient [position][depth]
    "sums",  # address of float32[slab][slab_step / 4]: partial sums of the weights' gradients
    "slabs",  # number of partial sums
    "slab_step",  # bytes from a partial sum to the next
    "gradient_step",  # elements from a position of the masked gradient to the next
    "at_gradient",  # buffer: masked gradient of a group, or the table of gradient addresses of a tile
    "source_ahead",  # bytes from the input under an output to the input under its last row of taps
    # Gradients of a whole layer in one pass, image by image; the record of the input's gradient follows.
    "row_ready",  # address of int64[input rows]: output rows that the gradient of each input row reads
    "at_addresses",  # buffer: table of tap addresses of the input's gradient
    "at_pixels",  # buffer: table of gradient addresses of a tile
    "at_image",  # buffer: float32[position][depth], gradient of the middle values of one image
    "tap_sums",  # bytes from the start of a partial sum to the sums of the depthwise weights
    # Batch normalisation between the two steps.
    "norm",  # address of float32[5][norm_line]: gamma, beta, and what the middle gradient needs
    "norm_line",  # depth, rounded up to whole vectors
    "norm_act",  # activation after the normalisation
    "norm_limits",  # address of float32[2]: its clamp
    "norm_sums",  # bytes from the start of a partial sum to the sums of the gradients of gamma and beta
    "at_active",  # buffer: float32[position][middle_step / 4], activated values of a group
    # Batch normalisation after the pointwise step.
    "outer",  # address of float32[7][outer_line], see `norm_rows`; 0 if there is none
    "outer_line",  # outputs, rounded up to whole vectors
    "outer_act",  # activation after the normalisation
    "outer_limits",  # address of float32[2]: its clamp
)
BOX_FIELDS = (
    # Arrays of this run. The first convolution is ``one``, the second ``two``; a single one is ``two``.
    "source",  # input x[image][channel][z][y][x]
    "target",  # output [image][output][z][y][x]
    "weights_one",  # float32[output][input of the group][tap]
    "bias_one",  # float32[output]
    "weights_two",
    "bias_two",
    "scratch",  # scratch memory of the first thread
    "scratch_size",  # bytes of scratch memory per thread
    # Work items: boxes of the output, times parts.
    "items",  # number of boxes
    "parts",  # parts into which the channels between the two convolutions are divided
    "steps",  # number of convolutions: 1 or 2
    "channels",  # input channels
    "limits",  # address of float32[2][2]: clamps after the first and the second convolution
    "act_one",  # activation after the first convolution
    "act_two",  # activation after the second convolution
    "flat",  # 1 if the rows of a box follow each other in memory, in box b and in the output
    "stream",  # 1 if stores bypass the caches
    # Convolutions.
    "groups_one",  # groups of channels
    "rows_one",  # outputs per group
    "count_one",  # products per output
    "offsets_one",  # address of int64[count_one]: bytes from the first input to each one, in a box
    "group_step_one",  # bytes from a group's channels to the next group's, in a box
    "groups_two",
    "rows_two",
    "count_two",
    "offsets_two",
    "group_step_two",
    # Boxes in scratch memory: a holds the input under a box of outputs, b the first convolution's result.
    "a_plane",  # bytes from a channel of box a to the next
    "a_slice",  # bytes from a z position to the next
    "a_row",  # bytes from a y position to the next
    "b_plane",
    "b_slice",
    "b_row",
    "at_b",  # bytes from box a to box b
    # Sizes per axis.
    "size_z", "size_y", "size_x",  # input
    "middle_z", "middle_y", "middle_x",  # result of the first convolution
    "out_z", "out_y", "out_x",  # output
    "block_z", "block_y", "block_x",  # outputs per box
    "blocks_z", "blocks_y", "blocks_x",  # boxes per image
    "stride_one_z", "stride_one_y", "stride_one_x",
    "stride_two_z", "stride_two_y", "stride_two_x",
    "before_one_z", "before_one_y", "before_one_x",  # padding before the input
    "before_two_z", "before_two_y", "before_two_x",
    "reach_one_z", "reach_one_y", "reach_one_x",  # samples from the first tap to the last
    "reach_two_z", "reach_two_y", "reach_two_x",
)  # fmt: skip

LAYER = np.dtype([(name, np.int64) for name in LAYER_FIELDS])
LAYER_BYTES = LAYER.itemsize
BOXES = np.dtype([(name, np.int64) for name in BOX_FIELDS])
_LAYER_RECORD, _BOX_RECORD = numba.from_dtype(LAYER), numba.from_dtype(BOXES)

IDENTITY, RELU, RELU6, SILU, HARDSWISH, HARDSIGMOID, SIGMOID, GELU, GELU_TANH, TANH = range(10)
"""Activations, in the order of `layer_tiling.ACTIVATIONS`; those from SILU on are no clamps."""
THREES, STRIDED_THREES, NEIGHBOURS, ANY = range(4)
"""Kinds of rows of taps: three at stride 1, three at stride 2, any number at stride 1, anything."""


def emit_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit a pointer of the result's type to an address."""
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def layer_at(_typing: Any, address: Any) -> Any:
    """Return the record of a separable layer at an address."""
    return _LAYER_RECORD(types.int64), emit_pointer


@intrinsic
def boxes_at(_typing: Any, address: Any) -> Any:
    """Return the record of a box convolution at an address."""
    return _BOX_RECORD(types.int64), emit_pointer
