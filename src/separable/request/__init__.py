"""Canonical arguments: every public function calls these checks, and no other module repeats them.

`separable.convolve` and `plan`, `separable.ndimage`, tensors, the xarray accessor, files, the kernels of
the catalogue and the command line take the same kinds of arguments: numbers, axes, one value per axis,
spacings, origins, a constant outside the image, and types. Each function here turns one of them into its
only form, or raises an error that names the argument, what was expected and what was given.

Where SciPy has its own words for a mistake, `separable.ndimage` puts them in front of these messages.
"""

from separable.request.filtered_axes import (
    AxisError,
    FilterAxes,
    OriginError,
    axes_by_name,
    check_axes,
    check_axis,
    check_cval,
    check_origins,
    kernel_axes,
)
from separable.request.numbers_per_axis import (
    SequenceError,
    check_spacing,
    is_sequence,
    per_axis,
    positive,
    real,
    real_per_axis,
    shown,
    whole,
    whole_in_range,
    whole_per_axis,
)
from separable.request.types_and_shapes import (
    check_dtype,
    check_output_shape,
    mask_shape,
    result_dtype,
)

__all__ = [
    "AxisError",
    "FilterAxes",
    "OriginError",
    "SequenceError",
    "axes_by_name",
    "check_axes",
    "check_axis",
    "check_cval",
    "check_dtype",
    "check_origins",
    "check_output_shape",
    "check_spacing",
    "is_sequence",
    "kernel_axes",
    "mask_shape",
    "per_axis",
    "positive",
    "real",
    "real_per_axis",
    "result_dtype",
    "shown",
    "whole",
    "whole_in_range",
    "whole_per_axis",
]
