"""Choose the slabs of a volume on disk: as few bytes read twice as the memory limit allows.

A stage filters the volume from one file to another. Its slabs follow each other along one axis.
Samples that two successive slabs need are kept in memory, and so is the rest of a chunk that was
read. If whole planes do not fit, the volume is cut into columns that are processed one after the
other; samples that two columns share are read twice. If the halo of the kernel does not fit at
all, several stages run one after the other (`filter_stages`), with a file between them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from separable.engine import METHODS
from separable.files.flat_binary import WINDOW_BYTES
from separable.machine import current
from separable.volumes.halo import Block, BlockFilter

__all__ = ["PIECE", "Stage", "Step", "best_stage", "smallest"]

Sides = tuple[int, ...]

PIECE = 8 << 20  # bytes that are read or written at a time, unless a chunk is larger
# Rates that only serve to compare schedules, in bytes per second:
RAW, CODED = 2e9, 0.6e9  # plain and compressed files
STEP = 5e-3  # seconds to pass a slab on and to record it
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # numbers of parts of an axis across the slabs
FINE = (48, 64, 96, 128, 256, 512, 1024, 1 << 62)  # tried if none of these fits
MOST_CUTS = 256  # largest number of ways to cut the axes across the slabs
THINNER = 4  # slab thicknesses that are compared, each half of the one before


@dataclass(frozen=True)
class Step:
    """One slab.

    Attributes
    ----------
    column : int
        Number of the column of slabs that it belongs to.
    region : tuple of slice
        Region of the result.
    block : Block
        Samples that the region is computed from.
    buffered : (int, int)
        First and last + 1 of the samples in memory along the axis of the slabs: the block,
        samples that later slabs need, and the rest of the chunks that were read.
    """

    column: int
    region: tuple[slice, ...]
    block: Block
    buffered: tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """One pass over a volume: it is read once, filtered, and written once.

    Attributes
    ----------
    filter : BlockFilter
    along : int
        Axis along which the slabs follow each other.
    sides : tuple of int
        Size of a slab of the result along each axis.
    source, target : tuple of int or None
        Chunk sizes of the files; None for files without chunks.
    """

    filter: BlockFilter
    along: int
    sides: Sides
    source: Sides | None
    target: Sides | None

    @property
    def shape(self) -> Sides:
        """Shape of the volume."""
        return self.filter.problem.shape

    @property
    def columns(self) -> int:
        """Number of columns of slabs."""
        counts = [-(-n // s) for n, s in zip(self.shape, self.sides, strict=True)]
        return math.prod(counts) // counts[self.along]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All slabs, in order."""
        cuts = [
            [slice(a, min(a + s, n)) for a in range(0, n, s)]
            for n, s in zip(self.shape, self.sides, strict=True)
        ]
        slabs = cuts.pop(self.along)
        found: list[Step] = []
        for column, across in enumerate(itertools.product(*cuts)):
            regions = [(*across[: self.along], s, *across[self.along :]) for s in slabs]
            found += self._stream(column, regions)
        return tuple(found)

    def _stream(self, column: int, regions: Sequence[tuple[slice, ...]]) -> list[Step]:
        chunk = self.source[self.along] if self.source else 1
        buffered = _buffered(self.filter, self.along, self.sides[self.along], chunk)
        return [
            Step(column, region, self.filter.block(region), kept)
            for region, kept in zip(regions, buffered, strict=True)
        ]

    # Memory and time

    @cached_property
    def input_bytes(self) -> int:
        """Size of one of the two buffers that samples are read into."""
        chunk = self.source[self.along] if self.source else 1
        buffered = max(
            b - a for a, b in _buffered(self.filter, self.along, self.sides[self.along], chunk)
        )
        across = math.prod(n for a, n in enumerate(self._extents) if a != self.along)
        return buffered * across * self.filter.problem.dtype.itemsize

    @property
    def block_samples(self) -> int:
        """Number of samples of the largest block."""
        return math.prod(self._extents)

    @cached_property
    def _extents(self) -> list[int]:
        """Size of the largest block along each axis."""
        return [
            max(b - a for a, b in _ranges(self.filter, axis, side))
            for axis, side in enumerate(self.sides)
        ]

    @property
    def output_bytes(self) -> int:
        """Size of one of the two buffers that blocks are filtered into."""
        return self.block_samples * self.filter.problem.out.itemsize

    @property
    def gathers(self) -> bool:
        """True if a block must be copied because it is not contiguous in the buffer."""
        return self.filter.bands > 1 or math.prod(self.shape[: self.along]) > 1

    @property
    def memory(self) -> int:
        """Bytes needed in addition to those already in use."""
        problem, samples = self.filter.problem, self.block_samples
        copy = samples * problem.dtype.itemsize if self.gathers else 0
        own = samples * working_bytes(self.filter)
        passing = _passing(self.source, problem.dtype, self.columns)
        passing += _passing(self.target, problem.out, self.columns)
        return 2 * (self.input_bytes + self.output_bytes) + copy + own + passing

    @cached_property
    def samples_read(self) -> int:
        """Total number of samples decoded."""
        total = 1
        for axis, side in enumerate(self.sides):
            chunk = self.source[axis] if self.source else 1
            total *= _decoded(self.filter, axis, side, chunk, axis == self.along)
        return total

    @property
    def reread(self) -> float:
        """Average number of times that a sample is decoded."""
        return self.samples_read / max(1, self.filter.problem.size)

    @property
    def transfer_seconds(self) -> tuple[float, float]:
        """Predicted times to read and to write."""
        problem = self.filter.problem
        reading = self.samples_read * problem.dtype.itemsize / (CODED if self.source else RAW)
        written = self.filter.bands * problem.size * problem.out.itemsize
        return reading, written / (CODED if self.target else RAW)

    def seconds(self) -> float:
        """Predict the time, only to compare schedules."""
        problem = self.filter.problem
        reach = dict(zip(problem.axes, problem.kernel_shape, strict=True))
        counts = [-(-n // s) for n, s in zip(self.shape, self.sides, strict=True)]
        computed = math.prod(
            n + (c - 1) * (reach.get(a, 1) - 1)
            for a, (n, c) in enumerate(zip(self.shape, counts, strict=True))
        )
        filtering = seconds_a_sample(self.filter) * computed
        reading, writing = self.transfer_seconds
        steps = math.prod(counts)
        total = filtering + reading + writing
        alone = (reading + writing) / steps  # the first reading and the last writing
        return max(filtering, reading + writing) + 0.25 * total + alone + STEP * steps


@lru_cache(maxsize=4096)
def _ranges(volume_filter: BlockFilter, axis: int, side: int) -> tuple[tuple[int, int], ...]:
    """Return first and last + 1 of the samples of each block of this size along an axis."""
    n = volume_filter.problem.shape[axis]
    region = [slice(0, 1)] * len(volume_filter.problem.shape)
    found = []
    for start in range(0, n, side):
        region[axis] = slice(start, min(start + side, n))
        block = volume_filter.block(region)
        found.append((block.starts[axis], block.stops[axis]))
    return tuple(found)


@lru_cache(maxsize=4096)
def _buffered(
    volume_filter: BlockFilter, axis: int, side: int, chunk: int
) -> tuple[tuple[int, int], ...]:
    """Return the same as `_ranges`, extended to samples kept for later slabs and to whole chunks."""
    n = volume_filter.problem.shape[axis]
    ranges = _ranges(volume_filter, axis, side)
    lows = list(itertools.accumulate((low for low, _ in reversed(ranges)), min))[::-1]
    ends = (high if high >= n else min(n, -(-high // chunk) * chunk) for _, high in ranges)
    return tuple(zip(lows, itertools.accumulate(ends, max), strict=True))


@lru_cache(maxsize=4096)
def _decoded(volume_filter: BlockFilter, axis: int, side: int, chunk: int, kept: bool) -> int:
    """Return the number of samples of an axis that are decoded; `kept`: once for all slabs."""
    n = volume_filter.problem.shape[axis]
    ranges = _ranges(volume_filter, axis, side)
    if kept:
        ranges = ((min(low for low, _ in ranges), max(high for _, high in ranges)),)
    return sum(
        min(n, -(-b // chunk) * chunk) - a // chunk * chunk
        for low, high in ranges
        for a, b in volume_filter.runs(axis, low, high)
    )


@lru_cache(maxsize=64)
def working_bytes(volume_filter: BlockFilter) -> int:
    """Return the bytes for each sample of a block that the filter itself allocates."""
    return volume_filter.own_bytes + max(_allocated(f) for f in volume_filter.filters)


def _allocated(volume_filter: BlockFilter) -> int:
    """Return the bytes per sample that the method and the conversions around it allocate."""
    problem, method = volume_filter.problem, METHODS[volume_filter.method]
    stores = method.stores(problem.out) or problem.out == problem.work
    own = 0 if stores else problem.work.itemsize
    if problem.dtype == np.float16:
        own += 4
    return own + method.scratch_bytes(problem, volume_filter.form)


@lru_cache(maxsize=64)
def seconds_a_sample(volume_filter: BlockFilter) -> float:
    """Return the predicted time of the filter per sample."""
    return sum(_seconds_a_sample(f) for f in volume_filter.filters)


def _seconds_a_sample(volume_filter: BlockFilter) -> float:
    problem = volume_filter.problem
    method = METHODS[volume_filter.method]
    counts = method.estimate(problem, volume_filter.form).counts
    seconds = method.seconds(current(), problem, counts)
    return seconds / max(1, problem.size) if math.isfinite(seconds) else 1e-8


def _passing(chunks: Sides | None, dtype: np.dtype[np.generic], columns: int) -> int:
    """Return the bytes of chunks being read or written: encoded, decoded and assembled."""
    if chunks is None:  # short runs go through a window into the file
        return PIECE if columns == 1 else PIECE + WINDOW_BYTES
    return 3 * max(PIECE, math.prod(chunks) * dtype.itemsize)


def best_stage(
    volume_filter: BlockFilter,
    source: Sides | None,
    target: Sides | None,
    limit: int,
    slow: int | None = None,
) -> Stage | None:
    """Return the fastest stage within a memory limit, or None if none fits.

    `slow` is the axis whose slabs are contiguous in a file without chunks.
    """
    best, best_seconds = None, math.inf
    # A single slab computes and reads least. More slabs only overlap the first read and the last write
    # with the work, and each costs STEP seconds.
    along = _slab_axis(volume_filter.problem.shape, source, slow)
    only = Stage(volume_filter, along, volume_filter.problem.shape, source, target)
    if volume_filter.problem.size and sum(only.transfer_seconds) <= STEP and only.memory <= limit:
        return only
    for parts in (PARTS, FINE):
        for across in _cuts_across(volume_filter, source, target, parts, slow):
            thick = _thickest(across, limit)
            for stage in (
                _with_thickness(across, thick >> k) for k in range(THINNER) if thick >> k
            ):
                seconds = stage.seconds()
                if seconds < best_seconds:
                    best, best_seconds = stage, seconds
        if best is not None:
            break
    return best


def smallest(
    volume_filter: BlockFilter, source: Sides | None, target: Sides | None, slow: int | None = None
) -> int:
    """Return the smallest memory that a stage needs, in bytes."""
    finest = _cuts_across(volume_filter, source, target, FINE[-1:], slow)
    return min(_with_thickness(s, 1).memory for s in finest)


def _cuts_across(
    volume_filter: BlockFilter,
    source: Sides | None,
    target: Sides | None,
    parts: Sequence[int],
    slow: int | None,
) -> Iterator[Stage]:
    """Yield stages with slabs of full length, for all useful ways to cut the other axes."""
    shape = volume_filter.problem.shape
    along = _slab_axis(shape, source, slow)
    units = target or (1,) * len(shape)
    choices = []
    for axis, (n, unit) in enumerate(zip(shape, units, strict=True)):
        count = -(-n // unit)
        found = {n} if axis == along else {min(n, -(-count // p) * unit) for p in parts}
        choices.append(sorted(found, reverse=True))
    while math.prod(map(len, choices)) > MOST_CUTS:
        longest = max(range(len(choices)), key=lambda a: len(choices[a]))
        choices[longest] = choices[longest][::2]
    for sides in itertools.product(*choices):
        yield Stage(volume_filter, along, sides, source, target)


def _slab_axis(shape: Sides, chunks: Sides | None, slow: int | None) -> int:
    """Return the slow axis of a file without chunks, else the first axis with several chunks.

    Examples
    --------
    >>> _slab_axis((1, 8, 9), None, 0), _slab_axis((7, 8, 9), None, 2)
    (1, 2)
    """
    sides = chunks or (1,) * len(shape)
    several = [a for a, (n, c) in enumerate(zip(shape, sides, strict=True)) if n > c]
    return slow if slow in several else next(iter(several), 0)


def _unit(stage: Stage) -> int:
    """Return the smallest thickness of a slab, one chunk of the target."""
    return stage.target[stage.along] if stage.target else 1


def _with_thickness(stage: Stage, count: int) -> Stage:
    n = stage.shape[stage.along]
    sides = list(stage.sides)
    sides[stage.along] = min(n, count * _unit(stage))
    return Stage(stage.filter, stage.along, tuple(sides), stage.source, stage.target)


def _thickest(stage: Stage, limit: int) -> int:
    """Return the largest thickness of a slab in chunks that fits, or 0."""
    low, high = 0, -(-stage.shape[stage.along] // _unit(stage))
    if high and _with_thickness(stage, high).memory <= limit:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if _with_thickness(stage, middle).memory <= limit:
            low = middle
        else:
            high = middle - 1
    return low
