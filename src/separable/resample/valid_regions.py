"""Outputs of a region of images with missing samples: normalised convolution, as `separable.masked` defines it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.masked import Missing, Weights, normalise
from separable.plan import plan
from separable.resample.output_regions import RegionAxis
from separable.resample.region_plans import RegionPlan

__all__ = ["RegionRun", "fill_valid"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RegionRun:
    """Runs of kernels for the outputs of a region: a `separable.masked.Run`.

    Attributes
    ----------
    planned : RegionPlan
        Plan of the filter without missing samples.
    axes : tuple of RegionAxis
        Outputs along each filtered axis.
    """

    planned: RegionPlan
    axes: tuple[RegionAxis, ...]

    @property
    def cval(self) -> Any:
        """Value outside the image."""
        problem = self.planned.whole.problem
        return problem.cval if problem.fills else 0.0

    @property
    def threads(self) -> int:
        """Number of threads."""
        return self.planned.whole.problem.threads

    def data(
        self,
        image: Array,
        kernel: Any,
        dtype: np.dtype[Any],
        cval: Any,
        smallest: float,
        *,
        named: bool = True,
    ) -> Array:
        """Filter samples by sums of products, which are exact beside small weights."""
        problem = self.planned.whole.problem
        made = plan(
            kernel, self._whole_shape(image), image.dtype, output=dtype, axes=problem.axes,
            mode=problem.modes, cval=cval, origin=self.planned.whole.request.origins,
            operation=self.planned.whole.request.operation, threads=problem.threads,
        )  # fmt: skip
        sizes = {one.axis: one.size for one in self.axes}
        shape = tuple(sizes.get(axis, n) for axis, n in enumerate(image.shape))
        out: Array = np.empty(shape, dtype)
        own = replace(self.planned, whole=made, steady=True)
        own.fill(image, out, self.axes, made.problem)
        return out

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask with the absolute weights: 0 where no sample is valid."""
        return self.data(valid.view(np.uint8), weights.sizes, dtype, float(outside), 1.0)

    def _whole_shape(self, image: Array) -> tuple[int, ...]:
        """Return the shape of the whole image, of which `image` is a block."""
        lengths = {one.axis: one.length for one in self.axes}
        return tuple(lengths.get(axis, n) for axis, n in enumerate(image.shape))


def fill_valid(
    planned: RegionPlan,
    kernel: Any,
    image: Array,
    missing: Missing,
    out: Array,
    axes: Sequence[RegionAxis],
) -> Array:
    """Compute outputs along some axes from the valid samples of an image, or of a block of it.

    Examples
    --------
    >>> from separable.resample import plan_region
    >>> p = plan_region([1, 1, 1], (6,), stride=2)
    >>> valid = np.array([1, 0, 1, 1, 1, 1], bool)
    >>> fill_valid(p, [1, 1, 1], np.arange(6.0), Missing(valid, np.nan), np.empty(3), p.axes)
    array([ 0. ,  7.5, 12. ])
    """
    run = RegionRun(planned, tuple(axes))
    return normalise(image, Weights.of(kernel), missing, out, run)
