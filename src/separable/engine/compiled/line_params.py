"""The record that describes a sweep of whole-line filters to compiled code.

Such a filter runs down lines of vectors in memory, in place; it may look as far along its line as it
likes.  ``y`` is the axis between rows and ``x`` the one along them; ``channels`` samples stand at each
position of ``x``, and ``flat`` columns are positions times channels.  Sizes count elements, strides and
offsets count bytes, addresses are integers.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

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
    "y_size",
    "y_taps",
    "y_map",
    "y_source",
    "y_target",
    "y_band",
    "y_bands",
    "y_shift",
    "x_flat",
    "x_taps",
    "x_reach",
    "x_phase",
    "x_tile",
    "x_chunk",
    "x_chunks",
    "x_shift",
    "x_source",
    "x_target",
    "channels",
    "c_source",
    "c_target",
    "source_dense",
    "target_dense",
    "stream",
    "lead",
    "left_table",
    "right_table",
    "outside",
    "scale",
    "y_filter_data",
    "x_filter_data",
    "strip_columns",
    "strip_rows",
    "groups",
    "across_width",
    "halo",
    "stretch",
    "extra_step",
    "load",
    "turn",
    "y_filter",
    "x_filter",
    "put",
    "put_strips",
    "scratch",
    "scratch_size",
    "at_rows",
    "at_strips",
    "at_across",
    "at_extra",
    "at_temp",
]

LINES = np.dtype([(name, np.int64) for name in _INTEGERS])
_RECORD = numba.from_dtype(LINES)


@intrinsic
def lines_at(_typing: Any, address: Any) -> Any:
    """Return the plan at an address."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _RECORD(types.int64), emit
