"""The outputs of a filter along its axes: "same", "valid" or "full", all of them or every n-th."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.base import Problem
from separable.errors import ArgumentError
from separable.request import shown, whole_per_axis

__all__ = ["REGIONS", "RegionAxis", "region_axes"]

REGIONS = ("same", "valid", "full")
LARGEST_STRIDE = 1 << 31


@dataclass(frozen=True)
class RegionAxis:
    """Outputs along one filtered axis: those at ``first + i * stride``.

    Attributes
    ----------
    axis, length : int
        Image axis, and its number of samples.
    size, first, stride : int
        Number of outputs, the place of the first one, and the samples from one to the next.

    Examples
    --------
    >>> RegionAxis(0, 10, 4, 1, 2).places.tolist()
    [1, 3, 5, 7]
    """

    axis: int
    length: int
    size: int
    first: int
    stride: int

    @property
    def places(self) -> NDArray[np.int64]:
        """Samples of all outputs."""
        return self.first + self.stride * np.arange(self.size)


def region_axes(problem: Problem, region: Any, stride: Any) -> tuple[RegionAxis, ...]:
    """Return the outputs along each filtered axis.

    Parameters
    ----------
    problem : Problem
        The filter of the whole image.
    region : str
        "same", "valid" or "full".
    stride : int or sequence of int

    Raises
    ------
    ArgumentError
        If there is no such region, a stride is below 1, or the kernel is larger than the image and the region
        is "valid".
    """
    if not (isinstance(region, str) and region in REGIONS):
        raise ArgumentError(
            '`output_region` must be "same" (as the image), "valid" (where the kernel lies inside the image) '
            f'or "full" (where it overlaps the image); got {shown(region)}'
        )
    strides = whole_per_axis("stride", stride, len(problem.axes), 1, LARGEST_STRIDE)
    found = []
    for axis, left, taps, step in zip(
        problem.axes, problem.lefts, problem.kernel_shape, strides, strict=True
    ):
        length = problem.shape[axis]
        first, count = 0, length
        if region == "valid":
            first, count = left, length - taps + 1
        elif region == "full":
            first, count = left - taps + 1, length + taps - 1
        if count < 1:
            raise ArgumentError(
                f'`output_region="valid"` needs an image as large as the kernel; along axis {axis} the image has '
                f"{length} samples and the kernel {taps}"
            )
        found.append(RegionAxis(axis, length, -(-count // step), first, step))
    return tuple(found)
