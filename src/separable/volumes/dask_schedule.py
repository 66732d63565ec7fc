"""Choose the tasks of a filter of a Dask array.

Two choices are made by predicted cost. First: one task runs all passes on a region, with a halo on
all sides whose results are discarded; or there is one layer of tasks per stage (`filter_stages`),
with a halo along the axes of that stage only. Layers compute less twice, but each one gathers and
stores its samples again. Second: a region may span several chunks. If chunks are small relative to
the halo, or so small that scheduling a task takes longer than running it, neighbours are joined,
and the result is cut into chunks at the end.

For a Gaussian of sigma 2 (17 taps) and regions of 128^3 the halo adds 42 % to what one task computes,
which is cheaper than two layers more; for a sigma of 8 (65 taps) it more than doubles it, and is not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from separable.engine import METHODS, Problem
from separable.volumes.filter_stages import groupings
from separable.volumes.halo import BlockFilter

__all__ = ["Grid", "Layer", "schedule"]

Chunks = tuple[tuple[int, ...], ...]

# Costs in nanoseconds, only to compare schedules; measured on float32 with one thread per task:
GATHER = 0.6  # per sample: copy it into the block of a region, and its result out of it
SWEEP = 0.5  # per sample: read and write it in the filter
TAP = 0.023  # per sample and weight
TASK = 5e5  # per task
EDGE = 1e4  # per chunk that a task takes samples from
LARGEST = 1 << 24  # bytes of the largest region of joined chunks
MOST = 1 << 28  # bytes of a block from which its size costs extra


@dataclass(frozen=True)
class Grid:
    """Regions of a volume: their sizes along each axis."""

    chunks: Chunks

    @property
    def count(self) -> int:
        """Number of regions."""
        return math.prod(len(sizes) for sizes in self.chunks)

    def regions(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield the index of each region in the grid, and its slices in the volume."""
        ends = [itertools.accumulate(sizes, initial=0) for sizes in self.chunks]
        cuts = [list(itertools.pairwise(e)) for e in ends]
        for index in np.ndindex(*(len(c) for c in cuts)):
            yield index, tuple(slice(*cut[i]) for cut, i in zip(cuts, index, strict=True))


@dataclass(frozen=True)
class Layer:
    """One layer of tasks: a filter of the whole volume, and the regions that it runs on."""

    filter: BlockFilter
    grid: Grid


def schedule(volume_filter: BlockFilter, chunks: Chunks) -> tuple[Layer, ...]:
    """Return the layers of tasks with the lowest predicted cost.

    Parameters
    ----------
    volume_filter : BlockFilter
    chunks : tuple of tuple of int
        Chunk sizes of the image.

    Examples
    --------
    >>> import separable as sep
    >>> from separable.volumes.halo import block_filter
    >>> def axes_of_layers(sigma, side):
    ...     p = sep.plan(sep.kernels.gaussian(sigma, ndim=3), (512, 512, 512), "float32")
    ...     layers = schedule(block_filter(p), ((side,) * (512 // side),) * 3)
    ...     return [layer.filter.problem.axes for layer in layers]
    >>> axes_of_layers(1, 128)
    [(0, 1, 2)]
    >>> axes_of_layers(30, 128)
    [(1,), (2,), (0,)]
    """
    best: tuple[Layer, ...] = ()
    best_cost = math.inf
    for filters in groupings(volume_filter):
        for grid in (Grid(chunks), *_joinings(Grid(chunks), volume_filter.problem)):
            cost = _cost(filters, grid, chunks)
            if not best or cost < best_cost:
                best, best_cost = tuple(Layer(f, grid) for f in filters), cost
    return best


def _cost(filters: Sequence[BlockFilter], grid: Grid, chunks: Chunks) -> float:
    """Return the predicted time of all tasks in nanoseconds."""
    total, before = 0.0, chunks
    for f in filters:
        samples, edges, largest = _extent(f.problem, grid.chunks, before)
        taps = sum(f.problem.kernel_shape) * max(1, len(f.form.terms))
        if not METHODS[f.method].separated:
            taps = f.form.weights.size
        total += samples * (GATHER + SWEEP + taps * TAP) + grid.count * TASK + edges * EDGE
        if largest * f.problem.work.itemsize > MOST:
            total += samples * GATHER * largest * f.problem.work.itemsize / MOST
        before = grid.chunks
    if grid.chunks != chunks:
        pieces = math.prod(len(sizes) for sizes in chunks)
        total += filters[0].problem.size * GATHER + pieces * TASK
    return total


def _extent(problem: Problem, chunks: Chunks, source_chunks: Chunks) -> tuple[float, float, float]:
    """Return samples of all blocks, chunks they are taken from, and samples of the largest block."""
    reach = dict(zip(problem.axes, (n - 1 for n in problem.kernel_shape), strict=True))
    samples, edges, largest = 1.0, 1.0, 1.0
    for axis, (sizes, sources) in enumerate(zip(chunks, source_chunks, strict=True)):
        n, width = problem.shape[axis], reach.get(axis, 0)
        extended = [min(n, size + width) for size in sizes]
        samples *= sum(extended)
        edges *= max(len(sizes), len(sources) * sum(extended) / n)
        largest *= max(extended)
    return samples, edges, largest


def _joinings(grid: Grid, problem: Problem) -> Iterator[Grid]:
    """Yield larger and larger regions, joined along the axis that is shortest for the kernel."""
    reach = dict(zip(problem.axes, problem.kernel_shape, strict=True))
    chunks = list(grid.chunks)
    itemsize = max(problem.dtype.itemsize, problem.work.itemsize)
    while True:
        several = [a for a, sizes in enumerate(chunks) if len(sizes) > 1]
        if not several:
            return
        axis = min(several, key=lambda a: max(chunks[a]) / reach.get(a, 1))
        chunks[axis] = _pairs(chunks[axis])
        if math.prod(max(sizes) for sizes in chunks) * itemsize > LARGEST:
            return
        yield Grid(tuple(chunks))


def _pairs(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Join pairs of neighbours.

    Examples
    --------
    >>> _pairs((4, 4, 2))
    (8, 2)
    """
    return tuple(sum(sizes[i : i + 2]) for i in range(0, len(sizes), 2))
