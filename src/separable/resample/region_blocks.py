"""Parts of the outputs of a region, each computed from a block of samples: for Dask arrays and files.

Every output is the same sum in the same order as in memory, so results do not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.masked import MissingOptions, keep_distinct, missing_of, nodata_values
from separable.masked.samples import fill_for
from separable.request import check_output_shape
from separable.resample.band_passes import empty_like_layout
from separable.resample.output_regions import RegionAxis
from separable.resample.region_plans import RegionPlan
from separable.resample.valid_regions import fill_valid

__all__ = ["RegionBlock", "region_block", "run_part"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RegionBlock:
    """Some outputs of a region, and the samples that they depend on.

    Attributes
    ----------
    axes : tuple of RegionAxis
        Outputs along each filtered axis.
    index : tuple of slice or ndarray
        Samples along each axis of the image.

    Examples
    --------
    >>> from separable.resample import plan_region
    >>> block = region_block(plan_region([1, 2, 1], (100,), stride=2), (slice(10, 20),))
    >>> block.index
    (slice(19, 40, None),)
    """

    axes: tuple[RegionAxis, ...]
    index: tuple[slice | Array, ...]


def region_block(planned: RegionPlan, region: Sequence[slice]) -> RegionBlock:
    """Return the block for a part of the result.

    Parameters
    ----------
    planned : RegionPlan
    region : sequence of slice
        Part of the result, along each axis of the image.
    """
    problem = planned.whole.problem
    index: list[slice | Array] = [slice(part.start, part.stop) for part in region]
    axes = []
    for one, left, taps, border in zip(
        planned.axes, problem.lefts, problem.kernel_shape, problem.modes, strict=True
    ):
        place = region[one.axis]
        part = one.part(place.start, place.stop)
        read = part.read(border, left, taps)
        axes.append(replace(part, block=read))
        first, last = int(read[0]), int(read[-1]) + 1
        index[one.axis] = slice(first, last) if last - first == len(read) else read
    return RegionBlock(tuple(axes), tuple(index))


def run_part(
    planned: RegionPlan,
    given: Any,
    out: Array | None,
    *,
    kernel: Any = None,
    missing: MissingOptions | None = None,
    block: RegionBlock | None = None,
) -> Array:
    """Compute outputs from an image, or from a block of it, with missing samples or without.

    Parameters
    ----------
    planned : RegionPlan
        Plan for the whole image.
    given : ndarray or masked array
        The image, or the samples of the block.
    out : ndarray, optional
        Array to write into.
    kernel : array_like or Factors, optional
        Kernel as given; needed for missing samples.
    missing : MissingOptions, optional
        Its mask has the shape of `given`, or of the filtered axes.
    block : RegionBlock, optional
        The outputs to compute; by default all.

    Returns
    -------
    ndarray
        `out`, or a new array.
    """
    problem = planned.whole.problem
    axes = planned.axes if block is None else block.axes
    image = np.asarray(given)
    sizes = {one.axis: one.size for one in axes}
    shape = tuple(sizes.get(axis, n) for axis, n in enumerate(image.shape))
    if out is None:
        out = empty_like_layout(image, shape, problem.out)
    else:
        check_output_shape(out, shape)
    if not out.size:
        return out
    if missing is None and not isinstance(given, np.ma.MaskedArray):
        planned.fill(image, out, axes, problem)
        return out
    options = MissingOptions() if missing is None else missing
    outside = problem.cval if problem.fills else 0.0
    found = missing_of(given, image, problem.axes, options, problem.out, outside)
    if found is not None:
        return fill_valid(planned, kernel, image, found, out, axes)
    planned.fill(image, out, axes, problem)
    values = nodata_values(options.nodata)
    return keep_distinct(out, fill_for(options.fill, values)) if values else out
