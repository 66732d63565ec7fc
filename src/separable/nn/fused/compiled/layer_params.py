"""The numbers that describe one layer to compiled code: their places in its plan.

Sizes count elements and steps count bytes, unless said otherwise. All layers have three axes of space
``(z, y, x)``; where there are fewer the first ones have size 1.
"""

from __future__ import annotations

_NAMES = [
    "source",
    "target",
    "depthwise",
    "between_bias",
    "pointwise",
    "bias",
    "scratch",
    "scratch_size",
    "items",
    "parts",
    "images",
    "image_step",
    "tiles",
    "tiles_of_row",
    "tiles_of_image",
    "group_tiles",
    "row_size",
    "out_rows",
    "row_starts",
    "row_offsets",
    "row_weights",
    "columns",
    "window",
    "kind",
    "taps_of_row",
    "tap_range",
    "dilation",
    "step_entries",
    "block_step",
    "channels",
    "source_blocks",
    "multiplier",
    "depth",
    "zeros",
    "held_step",
    "panels",
    "outputs",
    "target_step",
    "between_act",
    "act",
    "limits",
    "at_held",
    "at_spill",
    "gradient",
    "result",
    "held_gradient",
    "sums",
    "slabs",
    "slab_step",
    "gradient_step",
    "at_gradient",
]

PLACE = {name: index for index, name in enumerate(_NAMES)}
COUNT = len(_NAMES)

(
    SOURCE, TARGET, DEPTHWISE, BETWEEN_BIAS, POINTWISE, BIAS, SCRATCH,
    SCRATCH_SIZE, ITEMS, PARTS,
    IMAGES, IMAGE_STEP, TILES, TILES_OF_ROW, TILES_OF_IMAGE, GROUP_TILES, ROW_SIZE, OUT_ROWS,
    ROW_STARTS, ROW_OFFSETS, ROW_WEIGHTS, COLUMNS, WINDOW,
    KIND, TAPS_OF_ROW, TAP_RANGE, DILATION, STEP_ENTRIES, BLOCK_STEP,
    CHANNELS, SOURCE_BLOCKS, MULTIPLIER, DEPTH,
    ZEROS, HELD_STEP, PANELS, OUTPUTS, TARGET_STEP,
    BETWEEN_ACT, ACT, LIMITS, AT_HELD, AT_SPILL,
    GRADIENT, RESULT, HELD_GRADIENT, SUMS, SLABS, SLAB_STEP, GRADIENT_STEP, AT_GRADIENT,
) = range(COUNT)  # fmt: skip

IDENTITY, RELU, RELU6, SILU, HARDSWISH = range(5)
THREES, STRIDED_THREES, NEIGHBOURS, ANY = range(4)
"""Kinds of rows of taps: three at stride 1, three at stride 2, any number at stride 1, anything."""
