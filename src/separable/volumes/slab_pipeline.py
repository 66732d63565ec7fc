"""Run a stage: while one slab is filtered, the next is read and the previous one is written.

Two input buffers and two output buffers are used in turn; nothing else of their size is allocated.
Samples that two successive slabs share are copied from one input buffer to the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.result_memory import empty, kept_bytes, release
from separable.files.chunked_io import Source, Target
from separable.system import return_free_memory
from separable.volumes.checkpoint import Journal, bring_to_disk, now
from separable.volumes.halo import BlockFilter
from separable.volumes.slab_planner import PIECE, Sides, Stage, Step, working_bytes

__all__ = ["Band", "run_stage"]

Array = NDArray[Any]
Region = tuple[slice, ...]


@dataclass(frozen=True)
class Band:
    """One of the results of a stage.

    Attributes
    ----------
    filter : BlockFilter
    target : Target
    journal : Journal
        Journal of the target.
    """

    filter: BlockFilter
    target: Target
    journal: Journal


@dataclass
class _Buffer:
    """Memory for arrays of different shapes, one at a time."""

    memory: Array
    step: Step | None = field(default=None)  # the slab whose samples it contains

    @classmethod
    def of(cls, size: int) -> _Buffer:
        return cls(empty((size,), np.uint8))

    def shaped(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Return a C-contiguous array that uses the first bytes of the buffer."""
        size = math.prod(shape) * dtype.itemsize
        return self.memory[:size].view(dtype).reshape(shape)


def run_stage(
    stage: Stage,
    number: int,
    source: Source,
    bands: Sequence[Band],
    progress: Callable[[float], None],
) -> None:
    """Filter the slabs that are not yet on the disk; each is read once for all results.

    Parameters
    ----------
    stage : Stage
    number : int
        Number of the stage, for the journals.
    source : Source
    bands : sequence of Band
        The results: one, or one per filter of a `BankFilter`.
    progress : callable
        Called with the fraction of the stage just done, slabs of an earlier run included.

    Raises
    ------
    FileError
        If a region cannot be read or written; the partial file is kept.
    """
    size = math.prod(stage.shape) * len(bands)
    steps, done = [], 0
    for index, step in enumerate(stage.steps):
        complete = [(number, index) in band.journal.done for band in bands]
        done += _samples(step.region) * sum(complete)
        if not all(complete):
            steps.append((index, step))
    if done:
        progress(done / size)
    if not steps:
        return
    release()  # the buffers of the stage before
    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        pipeline = _Pipeline(stage, number, source, bands)
        try:
            for fraction in pipeline.run(steps, reading, writing):
                progress(fraction)
        except BaseException:
            pipeline.stopped = True
            reading.shutdown(wait=True, cancel_futures=True)
            writing.shutdown(wait=True, cancel_futures=True)
            raise


class _Pipeline:
    """The buffers of a stage and the functions that fill and empty them."""

    def __init__(self, stage: Stage, number: int, source: Source, bands: Sequence[Band]) -> None:
        self.stage, self.number = stage, number
        self.source, self.bands = source, bands
        self.buffers = [_Buffer.of(stage.input_bytes) for _ in range(2)]
        self.out_buffers = [_Buffer.of(stage.output_bytes) for _ in range(2)]
        copied = stage.block_samples * stage.filter.problem.dtype.itemsize
        self.copy = _Buffer.of(copied if stage.gathers else 0)
        self.stopped = False

    def run(
        self,
        steps: list[tuple[int, Step]],
        reading: ThreadPoolExecutor,
        writing: ThreadPoolExecutor,
    ) -> Iterator[float]:
        """Run the steps; yield the fraction of the stage that each brings to the disk."""
        size = math.prod(self.stage.shape) * len(self.bands)
        written: list[tuple[Future[None], Step]] = []
        out_buffers = itertools.cycle(self.out_buffers)
        coming = reading.submit(self.read, steps[0][1], self.buffers[0], self.buffers[1])
        for turn, (index, step) in enumerate(steps):
            coming.result()
            here, other = self.buffers[turn % 2], self.buffers[1 - turn % 2]
            if turn + 1 < len(steps):
                coming = reading.submit(self.read, steps[turn + 1][1], other, here)
            for band in self.bands:
                if (self.number, index) in band.journal.done:
                    continue
                if len(written) == 2:  # its output buffer is needed
                    future, before = written.pop(0)
                    future.result()
                    yield _samples(before.region) / size
                result = self.filter(step, band.filter, here, next(out_buffers))
                written.append((writing.submit(self.write, band, index, step, result), step))
        for future, before in written:
            future.result()
            yield _samples(before.region) / size

    def read(self, step: Step, into: _Buffer, before: _Buffer) -> None:
        """Fill a buffer: copy shared samples from the buffer before, read the rest from the file."""
        shape = self._buffer_shape(step)
        samples = into.shaped(shape, self.stage.filter.problem.dtype)
        low, high = step.buffered
        last = before.step
        into.step = None
        if (
            last is not None
            and last.column == step.column
            and last.buffered[0] <= low < last.buffered[1]
        ):
            shared = min(last.buffered[1], high)
            kept = before.shaped(self._buffer_shape(last), samples.dtype)
            start = low - last.buffered[0]
            samples[self._along(0, shared - low)] = kept[self._along(start, start + shared - low)]
            low = shared
        starts, stops = list(step.block.starts), list(step.block.stops)
        starts[self.stage.along], stops[self.stage.along] = low, high
        if low < high:
            at = samples[self._along(low - step.buffered[0], high - step.buffered[0])]
            self._fetch(starts, stops, at)
        into.step = step

    def filter(
        self, step: Step, volume_filter: BlockFilter, buffer: _Buffer, out_buffer: _Buffer
    ) -> Array:
        """Filter a block that is in memory; return the result for its region."""
        problem = volume_filter.problem
        samples = buffer.shaped(self._buffer_shape(step), problem.dtype)
        own = step.block
        if volume_filter is not self.stage.filter:  # one of several, whose block is smaller
            own = volume_filter.block(step.region)
        firsts = list(step.block.starts)
        firsts[self.stage.along] = step.buffered[0]
        place = zip(own.starts, own.stops, firsts, strict=True)
        block = samples[tuple(slice(a - first, b - first) for a, b, first in place)]
        if not block.flags.c_contiguous:
            flat = self.copy.shaped(block.shape, problem.dtype)
            np.copyto(flat, block)
            block = flat
        result = volume_filter.run(block, own, out_buffer.shaped(own.shape, problem.out))
        if kept_bytes() > self.stage.block_samples * working_bytes(self.stage.filter):
            release()  # memory kept for slabs of other sizes
        return result

    def write(self, band: Band, index: int, step: Step, result: Array) -> None:
        """Write a region, flush it to the disk and record it."""
        since, target = now(), band.target
        for part in _pieces(step.region, target.chunks, target.dtype.itemsize):
            if self.stopped:
                return
            inner = tuple(
                slice(p.start - r.start, p.stop - r.start)
                for p, r in zip(part, step.region, strict=True)
            )
            target.write(part, result[inner])
        bring_to_disk(target, since)
        band.journal.record(self.number, index)
        return_free_memory()  # memory that the codecs freed

    def _buffer_shape(self, step: Step) -> tuple[int, ...]:
        shape = list(step.block.shape)
        shape[self.stage.along] = step.buffered[1] - step.buffered[0]
        return tuple(shape)

    def _along(self, start: int, stop: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self.stage.along, slice(start, stop))

    def _fetch(self, starts: Sequence[int], stops: Sequence[int], out: Array) -> None:
        """Read the samples at some positions, of which some may lie outside the volume."""
        runs = []
        for axis, (a, b) in enumerate(zip(starts, stops, strict=True)):
            place = 0
            found = []
            for first, last in self.stage.filter.runs(axis, a, b):
                found.append((first, last, place))
                place += last - first
            runs.append(found)
        for box in itertools.product(*runs):
            region = tuple(slice(first, last) for first, last, _ in box)
            for part in _pieces(region, self.source.chunks, self.source.dtype.itemsize):
                if self.stopped:
                    return
                inner = tuple(
                    slice(p.start - first + at, p.stop - first + at)
                    for p, (first, _, at) in zip(part, box, strict=True)
                )
                out[inner] = self.source.read(part)


def _samples(region: Region) -> int:
    return math.prod(s.stop - s.start for s in region)


def _pieces(region: Region, chunks: Sides | None, itemsize: int) -> Iterator[Region]:
    """Cut a region at chunk borders into pieces of a few megabytes.

    Examples
    --------
    >>> list(_pieces((slice(3, 9),), (4,), PIECE // 4))
    [(slice(3, 4, None),), (slice(4, 8, None),), (slice(8, 9, None),)]
    """
    units = list(chunks or (1,) * len(region))
    counts = [-(-s.stop // u) - s.start // u for s, u in zip(region, units, strict=True)]
    budget = max(1, PIECE // (itemsize * math.prod(units)))  # chunks per piece
    sides = [1] * len(units)
    for axis in reversed(range(len(units))):  # the last axis is completed first
        sides[axis] = max(1, min(counts[axis], budget))
        budget //= sides[axis]
    cuts = []
    for part, unit, side in zip(region, units, sides, strict=True):
        first, step = part.start // unit * unit, side * unit
        ends = [part.start, *range(first + step, part.stop, step), part.stop]
        cuts.append([slice(a, b) for a, b in itertools.pairwise(ends)])
    yield from itertools.product(*cuts)
