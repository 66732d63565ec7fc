"""Outputs of a region of Dask arrays, computed lazily: each chunk of the result from the samples that it reads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.masked import MissingOptions
from separable.resample.output_regions import RegionAxis
from separable.resample.region_blocks import RegionBlock, region_block, run_part
from separable.resample.region_plans import RegionPlan, plan_region
from separable.volumes.dask_arrays import check_blocks
from separable.volumes.missing_samples import mask_place

__all__ = ["filter_region"]

Array = NDArray[Any]


def filter_region(
    image: Any,
    kernel: Any,
    output: Any,
    *,
    output_region: Any = "same",
    stride: Any = 1,
    missing: MissingOptions | None = None,
    **options: Any,
) -> Any:
    """Return the outputs of a region of a Dask array, lazily; parameters are those of arrays.

    The chunks of the result stand for those of the image.

    Examples
    --------
    >>> import dask.array as da
    >>> filter_region(da.ones((8, 6), chunks=4), np.ones((3, 3)), None, stride=2).chunks
    ((2, 2), (2, 1))
    """
    check_blocks(image, output)
    kernel = kernel.compute() if hasattr(kernel, "dask") else kernel
    options["threads"] = options.get("threads") or 1
    planned = plan_region(
        kernel, image.shape, image.dtype, output_region=output_region, stride=stride, output=output,
        **options,
    )  # fmt: skip
    mask: Any = None if missing is None else missing.mask
    if mask is not None:
        mask = mask if hasattr(mask, "dask") else np.asarray(mask)
        place = mask_place(mask, image.shape, planned.whole.problem.axes)
        mask = mask.reshape(place)
        assert missing is not None
        missing = missing._replace(mask=None)
    return _blocks(image, planned, kernel, mask, missing)


def _chunks(own: Sequence[int], one: RegionAxis | None) -> tuple[int, ...]:
    """Return the chunks of the result along an axis: as large a share of it as those of the image."""
    if one is None:
        return tuple(own)
    total = max(1, sum(own))
    ends = [round(one.size * end / total) for end in itertools.accumulate(own)]
    return tuple(b - a for a, b in itertools.pairwise([0, *ends]) if b > a) or (0,)


def _blocks(
    image: Any, planned: RegionPlan, kernel: Any, mask: Any, missing: MissingOptions | None
) -> Any:
    """Return the Dask array whose blocks are computed one by one."""
    from dask import array, delayed  # optional

    filtered = {one.axis: one for one in planned.axes}
    dtype = planned.whole.problem.out
    chunks = [_chunks(own, filtered.get(axis)) for axis, own in enumerate(image.chunks)]
    bounds = [list(itertools.pairwise([0, *itertools.accumulate(c)])) for c in chunks]
    run = delayed(_run, pure=True)
    shared = delayed(planned)
    weights = delayed(kernel) if missing is not None or np.ma.isMA(image._meta) else None
    grid = np.empty([len(b) for b in bounds], object)
    for place in np.ndindex(*grid.shape):
        region = [slice(*bounds[axis][number]) for axis, number in enumerate(place)]
        shape = tuple(s.stop - s.start for s in region)
        if 0 in shape:
            grid[place] = array.zeros(shape, dtype=dtype)
            continue
        block = region_block(planned, region)
        own = None if mask is None else _taken(mask, block.index)
        task = run(shared, _taken(image, block.index), weights, own, missing, block)
        grid[place] = array.from_delayed(task, shape, dtype=dtype)
    return array.block(grid.tolist())


def _taken(values: Any, index: Sequence[slice | Array]) -> Any:
    """Return the samples of a block; an axis of one sample of a mask stays whole."""
    for axis, part in enumerate(index):
        if values.shape[axis] > 1:
            values = values[(slice(None),) * axis + (part,)]
    return values


def _run(
    planned: RegionPlan,
    image: Any,
    kernel: Any,
    mask: Any,
    missing: MissingOptions | None,
    block: RegionBlock,
) -> Array:
    """Compute one block of the result."""
    if missing is not None and mask is not None:
        wide = np.broadcast_to(np.asarray(mask), image.shape)
        missing = missing._replace(mask=wide)
    given = image if np.ma.isMA(image) else np.asarray(image)
    return run_part(planned, given, None, kernel=kernel, missing=missing, block=block)
