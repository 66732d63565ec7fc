"""Filter an image in foreign byte order in slabs, without a native copy of the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from separable.engine import METHODS, Decomposition, Problem
from separable.engine.result_memory import empty
from separable.volumes.halo import BlockFilter

__all__ = ["filter_by_slabs"]

Array = NDArray[Any]

SLAB_BYTES = 16 << 20  # size of a slab that is converted to native byte order
RUN_BYTES = 16 << 10  # smallest contiguous run in a slab
REACHES = 4  # smallest thickness of a slab, relative to its halo


def filter_by_slabs(
    problem: Problem,
    method: str,
    form: Decomposition,
    image: Array,
    out: Array,
    progress: Callable[[float], None] | None,
) -> bool:
    """Filter an image into an array in slabs, if the result is the same.

    Parameters
    ----------
    problem, form, image, progress
        As for `separable.run.run`.
    method : str
        Name of the engine method.
    out : ndarray
        Output array, which must not overlap the image.

    Returns
    -------
    bool
        False, with `out` unchanged, if the results of the method depend on where a block begins or
        the image is too thin to cut.
    """
    if not METHODS[method].chunk_invariant:
        return False
    axis, side = _cut(problem, image)
    size = image.shape[axis]
    if 2 * side > size:
        return False
    dtype, out_dtype = (t.newbyteorder("=") for t in (problem.dtype, problem.out))
    volume_filter = BlockFilter(replace(problem, dtype=dtype, out=out_dtype), method, form)
    blocks = []
    for start in range(0, size, side):
        region = _along(axis, start, min(start + side, size), image.shape)
        blocks.append((region, volume_filter.block(region)))
    largest = max(math.prod(block.shape) for _, block in blocks)
    memory, results = empty((largest,), dtype), empty((largest,), out_dtype)
    for region, block in blocks:
        count, place = math.prod(block.shape), 0
        samples = memory[:count].reshape(block.shape)
        for first, last in volume_filter.runs(axis, block.starts[axis], block.stops[axis]):
            there = _along(axis, place, place + last - first, block.shape)
            samples[there] = image[_along(axis, first, last, image.shape)]
            place += last - first
        out[region] = volume_filter.run(samples, block, results[:count].reshape(block.shape))
        if progress is not None:
            progress((region[axis].stop - region[axis].start) / size)
    return True


def _cut(problem: Problem, image: Array) -> tuple[int, int]:
    """Return the axis to cut and the thickness of the slabs.

    This is the axis with the largest stride along which a slab of the usual size is thick enough;
    else the axis with the largest stride, with thicker slabs.
    """
    reach = dict.fromkeys(range(image.ndim), 0)
    reach |= {a: sum(w) for a, w in zip(problem.axes, problem.widths, strict=True)}
    slowest = sorted(reach, key=lambda a: (image.shape[a] == 1, -abs(image.strides[a])))
    for axis in slowest:
        side = SLAB_BYTES * image.shape[axis] // image.nbytes
        if side >= max(1, REACHES * reach[axis]) and side * abs(image.strides[axis]) >= RUN_BYTES:
            return axis, side
    return slowest[0], max(1, REACHES * reach[slowest[0]])


def _along(axis: int, start: int, stop: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return a range of one axis and all of the other axes."""
    return tuple(slice(start, stop) if a == axis else slice(0, n) for a, n in enumerate(shape))
