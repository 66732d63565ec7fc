"""Records that describe one run of a compiled dense convolution, directly or by Winograd's minimal filtering.

Sizes count elements, steps count bytes and addresses are integers. The layer has three spatial axes
``(z, y, x)``; where it has fewer, the first ones have size 1.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from separable.engine.compiled.jit import intrinsic
from separable.engine.compiled.numba_api import numba, types

DENSE_FIELDS = (
    # Arrays of this run.
    "source",  # input x[image][position][channel], or [image][channel][position]
    "target",  # output [image][position][output]
    "weights",  # float32[panel][product][output of the panel], products ordered [tap][input channel]
    "bias",  # float32[panel][output of the panel]
    "residual",  # float32[image][position][output] that is added before the activation; 0: none
    "unused",
    "scratch",  # scratch memory of the first thread
    "scratch_size",  # bytes of scratch memory per thread
    # Work items: boxes of the output, times parts of the panels.
    "items",  # number of work items
    "parts",  # parts into which the panels of a box are divided
    "panels",  # number of panels
    "panel_table",  # address of int64[panels][PANEL_WORDS]
    "chunk_starts",  # address of int64[chunks + 1]: first product of each chunk
    "chunks",  # parts of the products whose weights stay in the second-level cache
    "offsets",  # address of int64[product]: bytes from the first input of an output to each of its inputs
    # Input.
    "image_step",  # bytes from an image to the next
    "planes",  # planes of an image: input channels if these are first, 1 if they are last
    "plane_step",  # bytes from a plane to the next
    "slice_step",  # bytes from a z position to the next
    "row_step",  # bytes from a y position to the next
    "column_step",  # bytes from an x position to the next
    "column_bytes",  # bytes of a position: of its input channels if these are last, of one number if first
    # Copy of the input under a box, with zeros outside the image: float32[plane][z][y][x][channel]
    "copies",  # 1 if the input is copied; 0 if it is read where it lies, because nothing lies outside of it
    "box_plane",  # bytes from a plane to the next
    "box_slice",  # bytes from a z position to the next
    "box_row",  # bytes from a y position to the next
    "box_column",  # bytes from an x position to the next; without a gap in a copy
    # Sizes per axis.
    "size_z", "size_y", "size_x",  # input
    "out_z", "out_y", "out_x",  # output
    "block_z", "block_y", "block_x",  # outputs per box
    "blocks_z", "blocks_y", "blocks_x",  # boxes per image
    "stride_z", "stride_y", "stride_x",
    "before_z", "before_y", "before_x",  # padding before the input
    "reach_z", "reach_y", "reach_x",  # samples from the first tap to the last
    # Output.
    "target_step",  # bytes from a position of the output to the next
    "residual_step",  # bytes from a position of the residual to the next
    "act",  # activation
    "limits",  # address of float32[2][2]: clamp of the activation, and no clamp
    "order",  # address of int64[positions of a box]: 0, 1, 2, ...
    # Buffers in the scratch memory of a thread.
    "at_windows",  # int64[position of the box]: bytes from the first input of the box to that of each output
    "at_places",  # int64[position of the box]: outputs from the first one of the box to each, in the image
    "at_sums",  # float32[position of the box][VECTORS * LANES]: sums of the first chunks of products
    "at_box",  # the copy of the input
)  # fmt: skip

WINOGRAD_FIELDS = (
    # Arrays of this run.
    "source",  # input x[image][y][x][channel]
    "target",  # output [image][y][x][output]
    "weights",  # transformed weights float32[panel][values][channel][output of the panel], then the plain ones
    "bias",  # float32[panel][output of the panel]
    "residual",  # float32[image][y][x][output] that is added before the activation; 0: none
    "unused",
    "scratch",  # scratch memory of the first thread
    "scratch_size",  # bytes of scratch memory per thread
    # Work items: groups of tiles, times parts of the panels.
    "items",  # number of work items
    "parts",  # parts into which the panels of a group are divided
    "panels",  # number of panels
    "panel_table",  # address of int64[panels][PANEL_WORDS]
    "tiles",  # number of tiles
    "tile_y", "tile_x",  # outputs of a tile: 4 x 4, or 4 x 1, or 1 x 4
    "window_y", "window_x",  # inputs of a tile: 6 x 6, or 6 x 1, or 1 x 6
    "values",  # inputs of a tile, and products per channel: 36 or 6
    "products",  # products per output without transforms
    "tiles_of_row",  # tiles per row of tiles
    "tiles_of_image",  # tiles per image
    "group_tiles",  # tiles per group
    # Input and output.
    "channels",  # input channels
    "image_step",  # bytes from an image to the next
    "row_step",  # bytes from a row to the next
    "column_step",  # bytes from a position to the next
    "size_y", "size_x",  # input
    "out_y", "out_x",  # output
    "before_y", "before_x",  # padding before the input
    "zeros",  # address of zeros, read outside the image and as the begin of sums
    "target_step",  # bytes from a position of the output to the next
    "residual_step",  # bytes from a position of the residual to the next
    "act",  # activation
    "limits",  # address of float32[2][2]: clamp of the activation, and no clamp
    # Tables of the products.
    "windows",  # address of int64[group_tiles]: bytes from the first tile to each in V
    "offsets",  # address of int64[channels]: bytes from the first channel to each in V
    "order",  # address of int64[group_tiles]: 0, 1, 2, ...
    "direct_offsets",  # address of int64[product]: bytes from the first input of an output to each, in a copy of a tile
    # Buffers in the scratch memory of a thread; the addresses of the inputs of a tile are at 0.
    "at_windows",  # int64[16]: bytes from the first input of a tile to that of each output, in its copy
    "at_places",  # int64[16]: outputs from the first one of a tile to each, in the image
    "at_tile",  # float32[values][channel]: copy of the inputs of a tile
    "at_values",  # float32[values][tile][channel]: V, the transformed inputs
    "at_products",  # float32[values][tile][VECTORS * LANES]: M, the products of one panel
    "value_plane",  # bytes from one of the planes of V to the next
    "value_step",  # bytes from a tile to the next
    "product_plane",  # bytes from one of the planes of M to the next
)  # fmt: skip

PANEL_WEIGHTS, PANEL_BIAS, PANEL_OUTPUT, PANEL_VECTORS, PANEL_WIDTH, PANEL_INPUT, PANEL_PLAIN = (
    range(7)
)
"""Words of a panel: bytes to its weights and biases, its first output, its vectors and outputs, bytes to the
input channels of its group, bytes to its plain weights where the others are transformed."""
PANEL_WORDS = 8

DENSE = np.dtype([(name, np.int64) for name in DENSE_FIELDS])
WINOGRAD = np.dtype([(name, np.int64) for name in WINOGRAD_FIELDS])
_RECORD, _WINOGRAD_RECORD = numba.from_dtype(DENSE), numba.from_dtype(WINOGRAD)


def _emit_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def dense_at(_typing: Any, address: Any) -> Any:
    """Return the record of a dense convolution at an address."""
    return _RECORD(types.int64), _emit_pointer


@intrinsic
def winograd_at(_typing: Any, address: Any) -> Any:
    """Return the record of a convolution by Winograd's minimal filtering at an address."""
    return _WINOGRAD_RECORD(types.int64), _emit_pointer


@intrinsic
def fill_zeros(_typing: Any, target: Any, size: Any) -> Any:
    """Set ``size`` bytes at an address to 0."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        place = builder.inttoptr(arguments[0], byte.as_pointer())
        function = builder.module.declare_intrinsic(
            "llvm.memset", [byte.as_pointer(), ir.IntType(64)]
        )
        builder.call(function, [place, byte(0), arguments[1], ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), emit
