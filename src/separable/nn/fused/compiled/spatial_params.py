"""The numbers that describe one or two convolutions on planes to compiled code: their places in the plan.

Sizes count elements and steps count bytes. The first convolution is ``one``, the second ``two``; where there is
only one, it is ``two``. Boxes hold what a convolution reads: ``a`` the input, ``b`` the result of the first.
"""

from __future__ import annotations

_AXES = "zyx"

_NAMES = [
    "source", "target", "weights_one", "bias_one", "weights_two", "bias_two", "scratch",
    "scratch_size", "items", "parts", "steps", "channels", "limits", "act_one", "act_two", "at_b", "flat", "stream",
    "groups_one", "rows_one", "count_one", "offsets_one", "group_step_one",
    "groups_two", "rows_two", "count_two", "offsets_two", "group_step_two",
    "a_plane", "a_slice", "a_row", "b_plane", "b_slice", "b_row",
    *(f"{what}_{axis}" for what in (
        "size", "middle", "out", "block", "blocks", "stride_one", "stride_two",
        "before_one", "before_two", "reach_one", "reach_two",
    ) for axis in _AXES),
]  # fmt: skip

PLACE = {name: index for index, name in enumerate(_NAMES)}
COUNT = len(_NAMES)

(
    SOURCE, TARGET, WEIGHTS_ONE, BIAS_ONE, WEIGHTS_TWO, BIAS_TWO, SCRATCH,
    SCRATCH_SIZE, ITEMS, PARTS, STEPS, CHANNELS, LIMITS, ACT_ONE, ACT_TWO, AT_B, FLAT, STREAM,
    GROUPS_ONE, ROWS_ONE, COUNT_ONE, OFFSETS_ONE, GROUP_STEP_ONE,
    GROUPS_TWO, ROWS_TWO, COUNT_TWO, OFFSETS_TWO, GROUP_STEP_TWO,
    A_PLANE, A_SLICE, A_ROW, B_PLANE, B_SLICE, B_ROW,
    SIZE, _1, _2, MIDDLE, _3, _4, OUT, _5, _6, BLOCK, _7, _8, BLOCKS, _9, _10,
    STRIDE_ONE, _11, _12, STRIDE_TWO, _13, _14, BEFORE_ONE, _15, _16, BEFORE_TWO, _17, _18,
    REACH_ONE, _19, _20, REACH_TWO, _21, _22,
) = range(COUNT)  # fmt: skip
