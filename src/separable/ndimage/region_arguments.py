"""The arguments `output_region` and `stride`, which SciPy does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from separable.factors import Factors
from separable.filtering import missing_options, planned
from separable.masked import MissingOptions
from separable.ndimage.apply import Kernel
from separable.ndimage.missing_input import FilterInput
from separable.ndimage.scipy_arguments import Array
from separable.pattern import filter_pattern
from separable.request import FilterAxes

__all__ = ["OutputRegion"]


@dataclass(frozen=True)
class OutputRegion:
    """The outputs that are computed.

    Examples
    --------
    >>> OutputRegion("same", 1).is_all, OutputRegion("valid", 1).is_all
    (True, False)
    """

    region: Any = "same"
    stride: Any = 1

    @property
    def is_all(self) -> bool:
        """True if all outputs are computed, as in SciPy."""
        plain = isinstance(self.region, str) and self.region == "same"
        return plain and np.ndim(self.stride) == 0 and bool(self.stride == 1)

    def target(self, output: Any) -> Any:
        """Return the output as `FilterInput` checks it: of an array of another shape only its type."""
        is_array = isinstance(output, np.ndarray) and not self.is_all
        return output.dtype if is_array else output

    def run(
        self,
        source: FilterInput,
        output: Any,
        kernel: Kernel,
        filter_axes: FilterAxes,
        options: MissingOptions,
        operation: str = "correlate",
    ) -> Array:
        """Filter an image where the region and the stride say."""
        if isinstance(kernel, tuple):
            kernel = Factors.from_terms(filter_pattern(len(kernel[0])), kernel)
        into = output if isinstance(output, np.ndarray) else source.target
        mask, nan, fill, _ = options
        found: Any = planned(
            source.given, kernel, into, operation=operation, output_region=self.region,
            stride=self.stride, **missing_options(mask, nan, fill), **filter_axes.options,
        )  # fmt: skip
        result: Array = found
        return result
