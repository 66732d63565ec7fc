"""The outputs of a filter along its axes: "same", "valid" or "full", all of them or every n-th."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import OUTSIDE, Border
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
    block : ndarray of int, optional
        Numbers of the samples that a block has of the axis, ascending; by default it has all.

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
    block: NDArray[np.int64] | None = None

    @property
    def places(self) -> NDArray[np.int64]:
        """Samples of all outputs."""
        return self.first + self.stride * np.arange(self.size)

    @property
    def outputs_per_sample(self) -> float:
        """Outputs for each sample, the same for a part of the outputs."""
        return 1 / self.stride

    def samples(self, border: Border, start: int, stop: int) -> NDArray[np.int64]:
        """Return the samples at positions of the axis, as numbers of the block if this is one."""
        found = np.asarray(border.samples(self.length, start, stop), np.int64)
        if self.block is None:
            return found
        # Positions between the outputs of a large stride are not in the block, and no weight reads them.
        places = np.minimum(np.searchsorted(self.block, found), len(self.block) - 1)
        return np.where(found == OUTSIDE, OUTSIDE, places)

    def part(self, start: int, stop: int) -> RegionAxis:
        """Return the outputs ``start`` to ``stop - 1``.

        Examples
        --------
        >>> RegionAxis(0, 10, 4, 1, 2).part(2, 4).places.tolist()
        [5, 7]
        """
        first = self.first + start * self.stride
        return replace(self, size=stop - start, first=first)

    def read(self, border: Border, left: int, taps: int) -> NDArray[np.int64]:
        """Return the numbers of the samples that the outputs depend on, ascending.

        Examples
        --------
        >>> from separable.borders import REFLECT
        >>> RegionAxis(0, 10, 2, 0, 4).read(REFLECT, 1, 3).tolist()
        [0, 1, 3, 4, 5]
        """
        start = self.first - left
        found = border.samples(self.length, start, start + (self.size - 1) * self.stride + taps)
        used = (np.arange(len(found)) % self.stride < taps) | (self.stride <= taps)
        known = np.unique(np.asarray(found, np.int64)[used])
        known = known[known != OUTSIDE]
        return known if known.size else np.zeros(min(1, self.length), np.int64)


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
