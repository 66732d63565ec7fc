"""Results on another grid, from file to file in slabs within a memory limit; an interrupted run resumes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from separable.engine.result_memory import release
from separable.errors import ArgumentError
from separable.files.chunked_io import Source, Target
from separable.files.image_info import ImageInfo
from separable.files.opening import check_target, create_target
from separable.system import resident_memory
from separable.volumes.checkpoint import Journal, bring_to_disk, now, open_journal
from separable.volumes.slab_schedule import amount, default_limit

__all__ = ["GridDone", "GridJob", "GridWork", "SlabCosts", "bytes_per_row", "run_in_slabs"]

Array = NDArray[Any]

RESERVE = 128 << 20  # bytes for intermediate results, tables and libraries
SLAB = 256 << 20  # bytes of a slab at most: larger ones are not faster


@dataclass(frozen=True)
class SlabCosts:
    """Memory of slabs along one axis.

    Attributes
    ----------
    row_in, row_out : int
        Bytes per row of the image and of the result, with intermediate results.
    step : float
        Rows of the image from one row of the result to the next.
    halo : int
        Rows of the image that a slab reads in addition.
    """

    row_in: int
    row_out: int
    step: float = 1.0
    halo: int = 0


class GridWork(Protocol):
    """A result on another grid, computed in slabs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result."""

    @property
    def info(self) -> ImageInfo:
        """Metadata of the result."""

    def request(self, source: Source) -> dict[str, str]:
        """Return everything that the result depends on, as named texts."""

    def costs(self, source: Source, axis: int) -> SlabCosts:
        """Return the memory of slabs along an axis."""

    def slab(self, source: Source, axis: int, start: int, stop: int) -> Array:
        """Return the rows ``start`` to ``stop - 1`` of the result."""


@dataclass(frozen=True)
class GridJob:
    """The target of a run, and how it runs.

    Attributes
    ----------
    target : str or path
    limit : int, optional
        Memory limit of the process in bytes. Default: 2 GiB more than is in use.
    overwrite : bool
        Whether an existing target, or the partial file of another request, may be replaced.
    resume : bool
        Whether to resume the partial file of an earlier run.
    progress : callable, optional
        Called with the fraction of the work just done.
    """

    target: str | os.PathLike[str]
    limit: int | None = None
    overwrite: bool = False
    resume: bool = True
    progress: Callable[[float], None] | None = None


@dataclass(frozen=True)
class GridDone:
    """The result of a run.

    Attributes
    ----------
    slabs, resumed : int
        Number of slabs, and of those that an earlier run had completed.
    notes : tuple of str
        What the format of the target cannot keep.
    """

    slabs: int
    resumed: int
    notes: tuple[str, ...]


def run_in_slabs(source: Source, work: GridWork, job: GridJob) -> GridDone:
    """Compute a result from a file in slabs along its slowest axis, and write it to another.

    It is written as ``NAME.partial``. If the run is interrupted, the same call resumes it after the last
    slab that was flushed to the disk.

    Raises
    ------
    FileError
        If a file cannot be read or written, or the partial file belongs to another request.
    ArgumentError
        If the memory limit is too small.
    """
    # Step 1: check the target, choose the slabs and open the journal.
    check_target(job.target, work.shape, work.dtype, overwrite=job.overwrite)
    axis = source.slow
    rows = _rows(source, work, axis, job.limit)
    final = Path(os.path.realpath(job.target))
    journal = open_journal(final, work.request(source), resume=job.resume, force=job.overwrite)
    made: Target | None = None
    try:
        # Step 2: open the partial file.
        made = create_target(
            job.target, work.shape, work.dtype, chunks=_chunks(source, work.shape), info=work.info,
            like=replace(source, info=work.info), overwrite=job.overwrite, resume=True,
        )  # fmt: skip
        if not made.resumed or journal.schedule is None:
            journal.done.clear()
            rows = _whole_chunks(rows, made.chunks, axis, work.shape)
            journal.write(schedule=[axis, rows])
        else:
            axis, rows = journal.schedule
        # Step 3: compute the slabs that are missing.
        resumed = len(journal.done)
        slabs = _write_slabs(source, work, job, (made, journal), axis, rows)
        made.finish()
    except BaseException as error:
        keep = bool(journal.done) or isinstance(error, KeyboardInterrupt)
        (journal.close if keep else journal.remove)()
        if made is not None:
            made.abandon(keep=keep)
        raise
    journal.remove()
    return GridDone(slabs, resumed, tuple(made.notes))


def _write_slabs(
    source: Source,
    work: GridWork,
    job: GridJob,
    opened: tuple[Target, Journal],
    axis: int,
    rows: int,
) -> int:
    """Compute the slabs that are not on the disk yet; return the number of all."""
    target, journal = opened
    count = work.shape[axis]
    starts = range(0, count, rows)
    for number, start in enumerate(starts):
        stop = min(start + rows, count)
        if (0, number) not in journal.done:
            since = now()
            place = tuple(
                slice(start, stop) if a == axis else slice(0, n) for a, n in enumerate(work.shape)
            )
            target.write(place, work.slab(source, axis, start, stop))
            bring_to_disk(target, since)
            journal.record(0, number)
        if job.progress is not None:
            job.progress((stop - start) / count)
    return len(starts)


def _rows(source: Source, work: GridWork, axis: int, limit: int | None) -> int:
    """Return the rows of a slab that fit the memory limit."""
    release()
    used = resident_memory() + RESERVE
    limit = default_limit(used) if limit is None else limit
    costs = work.costs(source, axis)
    row = costs.row_out + costs.step * costs.row_in
    free = min(limit - used, SLAB) - costs.halo * costs.row_in
    rows = int(free / row)
    if rows < 1:
        least = used + int(costs.halo * costs.row_in + row) + (1 << 20)
        if limit >= least:  # one row is larger than a usual slab
            return 1
        raise ArgumentError(
            f"`memory` must be at least {amount(least)} for this volume: {amount(used)} are in use or "
            f"reserved, and one row with what it reads has to fit; got {amount(limit)}"
        )
    return min(rows, work.shape[axis])


def _whole_chunks(
    rows: int, chunks: tuple[int, ...] | None, axis: int, shape: tuple[int, ...]
) -> int:
    """Return rows that are a multiple of the chunks, if they are as many as one has.

    Examples
    --------
    >>> _whole_chunks(70, (32, 32), 0, (500, 500)), _whole_chunks(20, (32, 32), 0, (500, 500))
    (64, 20)
    """
    side = chunks[axis] if chunks else 1
    return rows - rows % side if side <= rows < shape[axis] else rows


def _chunks(source: Source, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the chunks of the source, as far as they fit."""
    if source.chunks is None or len(source.chunks) != len(shape):
        return None
    return tuple(max(1, min(c, n)) for c, n in zip(source.chunks, shape, strict=True))


def bytes_per_row(shape: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> int:
    """Return the bytes of one row of an array along an axis.

    Examples
    --------
    >>> bytes_per_row((4, 5, 6), 0, np.dtype("f4"))
    120
    """
    return math.prod(n for a, n in enumerate(shape) if a != axis) * dtype.itemsize
