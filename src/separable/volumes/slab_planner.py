"""Which slabs a volume on disk is filtered in: as few bytes read twice as the memory limit allows.

A stage filters the volume from one file to another. Its slabs follow each other along one axis, and
what two of them read is kept in memory; so is the rest of a chunk that was read. Where whole planes do not fit,
columns are streamed one after the other, and what two of them share is read for each. Where the kernel's
halo does not fit at all, there is one stage after the other (`stages`), with a file between them.
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
# Only to compare schedules; bytes a second:
RAW, CODED = 2e9, 0.6e9
STEP = 5e-3  # seconds to hand a slab on and to record it
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # that an axis across is cut into
FINE = (48, 64, 96, 128, 256, 512, 1024, 1 << 62)  # where these do not do
MOST_CUTS = 256  # ways to cut the axes across that are looked at
THINNER = 4  # times that a slab is halved, to see whether thinner ones are faster


@dataclass(frozen=True)
class Step:
    """One slab.

    Attributes
    ----------
    column : int
        Which stream it is part of.
    region : tuple of slice
        Of the result.
    block : Block
        What that is computed from.
    held : (int, int)
        What is in memory then along the axis of the slabs: the block, what later slabs need of
        what came before, and the rest of the chunks that were read.
    """

    column: int
    region: tuple[slice, ...]
    block: Block
    held: tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """One reading of a volume, and one writing.

    Attributes
    ----------
    filter : BlockFilter
    along : int
        The axis that slabs follow each other on.
    sides : tuple of int
        Of a slab of the result.
    source, target : tuple of int or None
        The chunks of the files; None where any part can be read or written alone.
    """

    filter: BlockFilter
    along: int
    sides: Sides
    source: Sides | None
    target: Sides | None

    @property
    def shape(self) -> Sides:
        """Of the volume."""
        return self.filter.problem.shape

    @property
    def columns(self) -> int:
        """The number of streams."""
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
        held = _held(self.filter, self.along, self.sides[self.along], chunk)
        return [
            Step(column, region, self.filter.block(region), kept)
            for region, kept in zip(regions, held, strict=True)
        ]

    # What it takes

    @cached_property
    def held_bytes(self) -> int:
        """Of one of the two buffers that samples are read into."""
        chunk = self.source[self.along] if self.source else 1
        held = max(b - a for a, b in _held(self.filter, self.along, self.sides[self.along], chunk))
        across = math.prod(n for a, n in enumerate(self._extents) if a != self.along)
        return held * across * self.filter.problem.dtype.itemsize

    @property
    def block_samples(self) -> int:
        """Of the largest block."""
        return math.prod(self._extents)

    @cached_property
    def _extents(self) -> list[int]:
        """Of the largest block along each axis."""
        return [
            max(b - a for a, b in _ranges(self.filter, axis, side))
            for axis, side in enumerate(self.sides)
        ]

    @property
    def room_bytes(self) -> int:
        """Of one of the two buffers that blocks are filtered into."""
        return self.block_samples * self.filter.problem.out.itemsize

    @property
    def gathers(self) -> bool:
        """Whether what is held has to be copied to lie as a block does."""
        return math.prod(self.shape[: self.along]) > 1

    @property
    def memory(self) -> int:
        """Bytes, beside what the process takes anyhow."""
        problem, samples = self.filter.problem, self.block_samples
        copy = samples * problem.dtype.itemsize if self.gathers else 0
        own = samples * working_bytes(self.filter)
        passing = _passing(self.source, problem.dtype, self.columns)
        passing += _passing(self.target, problem.out, self.columns)
        return 2 * (self.held_bytes + self.room_bytes) + copy + own + passing

    @cached_property
    def samples_read(self) -> int:
        """Decoded in all."""
        total = 1
        for axis, side in enumerate(self.sides):
            chunk = self.source[axis] if self.source else 1
            total *= _decoded(self.filter, axis, side, chunk, axis == self.along)
        return total

    @property
    def reread(self) -> float:
        """How often a sample is decoded, on average."""
        return self.samples_read / max(1, self.filter.problem.size)

    @property
    def transfer_seconds(self) -> tuple[float, float]:
        """Predicted times to read and to write."""
        problem = self.filter.problem
        reading = self.samples_read * problem.dtype.itemsize / (CODED if self.source else RAW)
        return reading, problem.size * problem.out.itemsize / (CODED if self.target else RAW)

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
def _ranges(whole: BlockFilter, axis: int, side: int) -> tuple[tuple[int, int], ...]:
    """The samples that blocks of such a side begin and end with along an axis."""
    n = whole.problem.shape[axis]
    region = [slice(0, 1)] * len(whole.problem.shape)
    found = []
    for start in range(0, n, side):
        region[axis] = slice(start, min(start + side, n))
        block = whole.block(region)
        found.append((block.starts[axis], block.stops[axis]))
    return tuple(found)


@lru_cache(maxsize=4096)
def _held(whole: BlockFilter, axis: int, side: int, chunk: int) -> tuple[tuple[int, int], ...]:
    """The same with what later blocks need of what came before, and the rest of the chunks."""
    n = whole.problem.shape[axis]
    ranges = _ranges(whole, axis, side)
    lows = list(itertools.accumulate((low for low, _ in reversed(ranges)), min))[::-1]
    ends = (high if high >= n else min(n, -(-high // chunk) * chunk) for _, high in ranges)
    return tuple(zip(lows, itertools.accumulate(ends, max), strict=True))


@lru_cache(maxsize=4096)
def _decoded(whole: BlockFilter, axis: int, side: int, chunk: int, kept: bool) -> int:
    """How many samples of an axis are decoded for slabs of such sides, together if they are kept."""
    n = whole.problem.shape[axis]
    ranges = _ranges(whole, axis, side)
    if kept:
        ranges = ((min(low for low, _ in ranges), max(high for _, high in ranges)),)
    return sum(
        min(n, -(-b // chunk) * chunk) - a // chunk * chunk
        for low, high in ranges
        for a, b in whole.runs(axis, low, high)
    )


@lru_cache(maxsize=64)
def working_bytes(whole: BlockFilter) -> int:
    """Return the bytes for each sample of a block that the filter itself allocates."""
    return whole.own_bytes + max(_allocated(f) for f in whole.filters)


def _allocated(whole: BlockFilter) -> int:
    """Return the bytes per sample that the method and the conversions around it allocate."""
    problem, method = whole.problem, METHODS[whole.method]
    stores = method.stores(problem.out) or problem.out == problem.work
    own = 0 if stores else problem.work.itemsize
    if problem.dtype == np.float16:
        own += 4
    return own + method.scratch_bytes(problem, whole.form)


@lru_cache(maxsize=64)
def seconds_a_sample(whole: BlockFilter) -> float:
    """Return what the filter takes for a sample, predicted."""
    return sum(_seconds_a_sample(f) for f in whole.filters)


def _seconds_a_sample(whole: BlockFilter) -> float:
    problem = whole.problem
    method = METHODS[whole.method]
    counts = method.estimate(problem, whole.form).counts
    seconds = method.seconds(current(), problem, counts)
    return seconds / max(1, problem.size) if math.isfinite(seconds) else 1e-8


def _passing(chunks: Sides | None, dtype: np.dtype[np.generic], columns: int) -> int:
    """What is in memory of chunks on their way: coded, decoded and put together."""
    if chunks is None:  # short runs go through a window into the file
        return PIECE if columns == 1 else PIECE + WINDOW_BYTES
    return 3 * max(PIECE, math.prod(chunks) * dtype.itemsize)


def best_stage(
    whole: BlockFilter,
    source: Sides | None,
    target: Sides | None,
    limit: int,
    slow: int | None = None,
) -> Stage | None:
    """Return the stage that takes the least time within a limit of memory, if any does.

    `slow` is the axis whose slabs lie together in a plain file.
    """
    best, least = None, math.inf
    # One slab that holds everything computes and reads least. More slabs only save waiting for the first
    # reading and the last writing, and each takes STEP seconds more.
    along = _slab_axis(whole.problem.shape, source, slow)
    only = Stage(whole, along, whole.problem.shape, source, target)
    if whole.problem.size and sum(only.transfer_seconds) <= STEP and only.memory <= limit:
        return only
    for parts in (PARTS, FINE):
        for across in _cuts_across(whole, source, target, parts, slow):
            thick = _thickest(across, limit)
            for stage in (
                _with_thickness(across, thick >> k) for k in range(THINNER) if thick >> k
            ):
                seconds = stage.seconds()
                if seconds < least:
                    best, least = stage, seconds
        if best is not None:
            break
    return best


def smallest(
    whole: BlockFilter, source: Sides | None, target: Sides | None, slow: int | None = None
) -> int:
    """Return the least memory that a stage takes."""
    finest = _cuts_across(whole, source, target, FINE[-1:], slow)
    return min(_with_thickness(s, 1).memory for s in finest)


def _cuts_across(
    whole: BlockFilter,
    source: Sides | None,
    target: Sides | None,
    parts: Sequence[int],
    slow: int | None,
) -> Iterator[Stage]:
    """Yield stages whose slabs are cut across in all ways that are worth a look."""
    shape = whole.problem.shape
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
        yield Stage(whole, along, sides, source, target)


def _slab_axis(shape: Sides, chunks: Sides | None, slow: int | None) -> int:
    """The slow axis of a plain file, else the first one that has several chunks.

    Examples
    --------
    >>> _slab_axis((1, 8, 9), None, 0), _slab_axis((7, 8, 9), None, 2)
    (1, 2)
    """
    sides = chunks or (1,) * len(shape)
    several = [a for a, (n, c) in enumerate(zip(shape, sides, strict=True)) if n > c]
    return slow if slow in several else next(iter(several), 0)


def _unit(stage: Stage) -> int:
    """How thick a slab is at least: a slab writes whole chunks."""
    return stage.target[stage.along] if stage.target else 1


def _with_thickness(stage: Stage, count: int) -> Stage:
    n = stage.shape[stage.along]
    sides = list(stage.sides)
    sides[stage.along] = min(n, count * _unit(stage))
    return Stage(stage.filter, stage.along, tuple(sides), stage.source, stage.target)


def _thickest(stage: Stage, limit: int) -> int:
    """The most chunks a slab can be thick, 0 if not even one."""
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
