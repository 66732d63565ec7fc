"""Filter an image in foreign byte order slab by slab, without a copy of the whole in native order."""

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

SLAB_BYTES = 16 << 20  # converted at a time
RUN_BYTES = 16 << 10  # that lie side by side in a slab, at least
REACHES = 4  # a slab is at least so many times as thick as what it reads beyond itself


def filter_by_slabs(
    problem: Problem,
    method: str,
    form: Decomposition,
    image: Array,
    out: Array,
    progress: Callable[[float], None] | None,
) -> bool:
    """Filter an image into an array, if that can be done slab by slab with the same result.

    Parameters
    ----------
    problem, form, image, progress
        As of `separable.run.run`.
    method : str
        By its name.
    out : ndarray
        Does not overlap the image.

    Returns
    -------
    bool
        Whether it was done. The results of some methods depend on where a block begins, and an
        image may be too thin to cut.
    """
    if not METHODS[method].chunk_invariant:
        return False
    axis, side = _cut(problem, image)
    size = image.shape[axis]
    if 2 * side > size:
        return False
    dtype, kind = (t.newbyteorder("=") for t in (problem.dtype, problem.out))
    whole = BlockFilter(replace(problem, dtype=dtype, out=kind), method, form)
    blocks = []
    for start in range(0, size, side):
        region = _along(axis, start, min(start + side, size), image.shape)
        blocks.append((region, whole.block(region)))
    largest = max(math.prod(block.shape) for _, block in blocks)
    memory, room = empty((largest,), dtype), empty((largest,), kind)
    for region, block in blocks:
        count, place = math.prod(block.shape), 0
        samples = memory[:count].reshape(block.shape)
        for first, last in whole.runs(axis, block.starts[axis], block.stops[axis]):
            there = _along(axis, place, place + last - first, block.shape)
            samples[there] = image[_along(axis, first, last, image.shape)]
            place += last - first
        out[region] = whole.run(samples, block, room[:count].reshape(block.shape))
        if progress is not None:
            progress((region[axis].stop - region[axis].start) / size)
    return True


def _cut(problem: Problem, image: Array) -> tuple[int, int]:
    """The axis to cut, and how thick the slabs are.

    The slowest in memory along which a slab of the wanted size is thick enough; else the slowest,
    with slabs as thick as need be.
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
    """A part of one axis, of the others all."""
    return tuple(slice(start, stop) if a == axis else slice(0, n) for a, n in enumerate(shape))
