"""Run a stage on many machines: slabs are the tasks of a Dask cluster.

All workers open the files under the same paths. A slab is recorded in the journal when its task
has ended, that is after it was flushed to the disk. A cluster can therefore resume the run of a
single machine, and the other way round. If a worker dies, its slabs are given to other workers and
written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.distribution import NAME, install_command
from separable.engine.result_memory import empty
from separable.errors import ArgumentError, ArgumentTypeError, ClusterError, FileError
from separable.files.chunked_io import Source, Target, describe
from separable.files.opening import open_source
from separable.volumes.checkpoint import Journal, bring_to_disk, now
from separable.volumes.halo import Block, BlockFilter
from separable.volumes.missing_samples import masked
from separable.volumes.slab_planner import Sides, Stage
from separable.volumes.slab_schedule import SCRATCH, Schedule, amount

__all__ = ["check_client", "connected", "run_stage_on", "schedule_for"]

Array = NDArray[Any]
Region = tuple[slice, ...]

AHEAD = 2  # submitted slabs per thread of the cluster: one running, one waiting
SHARES = 4  # smallest number of slabs per thread, so that no worker is idle for long at the end
CODED, TASK = 0.6e9, 5e-3  # only to compare schedules: bytes decoded per second, seconds per task
LOOK = 5.0  # seconds between checks for live workers
PATIENCE = 60.0  # seconds without workers, after which the run gives up


@contextlib.contextmanager
def connected(address: str, timeout: float = 5.0) -> Iterator[Any]:
    """Connect to a Dask scheduler; disconnect when the context ends.

    Parameters
    ----------
    address : str
        Address of the scheduler, for example ``tcp://host:8786``.
    timeout : float
        Seconds to wait for an answer.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClusterError
        If the package is missing, the scheduler does not answer, or there are no workers.
    """
    try:  # distributed is optional
        from distributed import Client
    except ImportError:
        raise ClusterError(
            f"{address} is a Dask scheduler, and the package distributed is not installed. "
            f"Install it: {install_command('volumes')}"
        ) from None
    make: Any = Client
    try:
        client = make(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(
            f"cannot reach a Dask scheduler at {address} within {timeout:g} s: {reason}. "
            "Start one with `dask scheduler` and name the address that it prints"
        ) from None
    try:
        _await_workers(client, timeout)
        yield client
    finally:
        client.close()


def check_client(client: Any) -> None:
    """Refuse anything but a client of a cluster with workers.

    Raises
    ------
    ArgumentTypeError
        If it is not a `distributed.Client`, or an asynchronous one.
    ClusterError
        If the cluster has no workers.
    """
    if not all(hasattr(client, name) for name in ("submit", "scheduler_info", "nthreads")):
        raise ArgumentTypeError(
            f"`client` must be a distributed.Client; got {type(client).__name__}. "
            'Make one, for instance distributed.Client("tcp://host:8786")'
        )
    if client.asynchronous:
        raise ArgumentTypeError("`client` must not be asynchronous: leave out asynchronous=True")
    _await_workers(client, 5.0)


def _threads_of(client: Any) -> dict[str, int]:
    """Return the number of threads of each worker."""
    try:
        return dict(client.nthreads())
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"the cluster does not answer any more: {_one_line(error)}") from None


def _await_workers(client: Any, timeout: float) -> None:
    end = time.monotonic() + timeout
    while not _threads_of(client):
        if time.monotonic() > end:
            address = client.scheduler.address
            raise ClusterError(
                f"the Dask scheduler at {address} has no workers. Start some with "
                f"`dask worker {address}`"
            )
        time.sleep(0.1)


def schedule_for(
    client: Any, volume_filter: BlockFilter, source: Source, target: Target, limit: int, base: int
) -> Schedule:
    """Return the schedule of a volume for a cluster: one task per slab of whole chunks.

    Parameters
    ----------
    client : distributed.Client
    volume_filter : BlockFilter
    source, target
        As for `run_stage_on`.
    limit : int
        Memory limit of each worker in bytes, shared by its threads.
    base : int
        Bytes already in use by a worker.

    Raises
    ------
    FileError
        If the target is not a Zarr store: in other files, two machines would write to one page.
    ArgumentError
        If a chunk with its halo does not fit.
    """
    if target.chunks is None or not target.draft.is_dir():
        raise FileError(
            f"cannot write {target.path} from several machines: only Zarr stores each chunk "
            "separately. Write .zarr"
        )
    threads = _threads_of(client).values()
    available = (limit - base - SCRATCH) // max(threads)
    best, best_seconds = None, math.inf
    for sides in _sides(volume_filter, target.chunks):
        stage = Stage(volume_filter, 0, sides, source.chunks, target.chunks)
        seconds, count = _seconds(stage, source), _count(stage)
        if best is not None and (count < SHARES * sum(threads) or stage.memory > available):
            break
        if seconds < best_seconds:
            best, best_seconds = stage, seconds
    assert best is not None
    if best.memory > available:
        wanted = base + SCRATCH + best.memory * max(threads)
        raise ArgumentError(
            f"`memory` must be at least {-(-wanted // (1 << 20))} MiB for each worker: "
            f"{amount(base + SCRATCH)} are already in use, and a chunk with its halo has to fit for "
            f"each of {max(threads)} threads; got {amount(limit)}"
        )
    return Schedule((best,), limit, base)


def _sides(volume_filter: BlockFilter, chunks: Sides) -> Iterator[Sides]:
    """Yield larger and larger slabs: double the side that is shortest relative to the kernel."""
    shape = volume_filter.problem.shape
    reach = dict(zip(volume_filter.problem.axes, volume_filter.problem.kernel_shape, strict=True))
    sides = [min(c, n) for c, n in zip(chunks, shape, strict=True)]
    while True:
        yield tuple(sides)
        shorter = [a for a, n in enumerate(shape) if sides[a] < n]
        if not shorter:
            return
        axis = min(shorter, key=lambda a: sides[a] / reach.get(a, 1))
        sides[axis] *= 2
        if sides[axis] >= shape[axis]:
            sides[axis] = shape[axis]


def _count(stage: Stage) -> int:
    return math.prod(-(-n // s) for n, s in zip(stage.shape, stage.sides, strict=True))


def _seconds(stage: Stage, source: Source) -> float:
    """Predict the time to read the slabs, whose halos are read and decoded again."""
    problem = stage.filter.problem
    reach = dict(zip(problem.axes, problem.kernel_shape, strict=True))
    read = 1.0
    for axis, (n, side) in enumerate(zip(stage.shape, stage.sides, strict=True)):
        chunk = source.chunks[axis] if source.chunks else 1
        wide = side + (reach.get(axis, 1) - 1 if side < n else 0)
        read *= -(-n // side) * min(n, -(-wide // chunk) * chunk + (chunk if wide > side else 0))
    return read * problem.dtype.itemsize / CODED + _count(stage) * TASK


def run_stage_on(
    client: Any,
    stage: Stage,
    number: int,
    source: Source,
    target: Target,
    journal: Journal,
    progress: Callable[[float], None],
) -> None:
    """Filter on a cluster the slabs that are not yet on the disk.

    Parameters
    ----------
    client : distributed.Client
        Checked by `check_client`.
    stage, number, source, target, journal, progress
        As for `slab_pipeline.run_stage`.

    Raises
    ------
    FileError
        If a worker cannot read or write a region; the partial file is kept.
    ClusterError
        If workers keep dying, or the cluster does not answer.
    """
    steps = list(enumerate(stage.steps))
    left = [(i, step.region, step.block) for i, step in steps if (number, i) not in journal.done]
    done = math.prod(stage.shape) - sum(_samples(region) for _, region, _ in left)
    if done:
        progress(done / math.prod(stage.shape))
    if left:
        run = _Run(client, stage, source, target)
        for index, region in run.results(left):
            journal.record(number, index)
            progress(_samples(region) / math.prod(stage.shape))


@dataclass(frozen=True)
class _Job:
    """Filter and open files that the tasks of a stage share, once in each worker."""

    filter: BlockFilter
    source: Source
    target: Target

    def __del__(self) -> None:
        """Close the files when the worker drops the job; it gives no other notice."""
        self.source.close()
        self.target.abandon()


class _Run:
    """The futures of one stage, of which a limited number exists at a time."""

    def __init__(self, client: Any, stage: Stage, source: Source, target: Target) -> None:
        self.client, self.shape = client, stage.shape
        self.name = f"separable-{uuid.uuid4().hex}"
        # A separate task: the kernel is sent once to each worker, and if the worker that holds it
        # dies it is created again.
        alone = stage.filter.with_threads(1)
        path, reopen = Path(source.path).absolute(), target.__reduce__()
        _, (_, *beside) = source.__reduce__()
        self.job = client.submit(_opened, alone, path, reopen, *beside, key=f"{self.name}-files")
        self.flying: dict[Any, tuple[int, Region]] = {}

    def results(self, left: list[tuple[int, Region, Block]]) -> Iterator[tuple[int, Region]]:
        """Run all slabs; yield each when it is on the disk."""
        # Imported here because distributed is optional.
        from distributed import wait

        wait_for: Any = wait
        coming = iter(left)
        try:
            while True:
                free_slots = AHEAD * max(1, sum(_threads_of(self.client).values())) - len(
                    self.flying
                )
                for index, region, block in itertools.islice(coming, max(0, free_slots)):
                    future = self.client.submit(
                        _filter_slab, self.job, region, block, key=f"{self.name}-{index}"
                    )
                    self.flying[future] = (index, region)
                if not self.flying:
                    return
                self._await_one(wait_for)
                for future in [f for f in self.flying if f.done()]:
                    index, region = self.flying.pop(future)
                    self._check(future, region)
                    future.release()
                    yield index, region
        finally:
            with contextlib.suppress(Exception):  # nothing to cancel if the cluster is gone
                self.client.cancel([*self.flying, self.job], force=True)

    def _await_one(self, wait_for: Any) -> None:
        """Wait until a slab has ended; give up if there are no workers for a while."""
        alone = 0.0
        while True:
            try:
                with self.client.as_current():
                    wait_for(list(self.flying), timeout=LOOK, return_when="FIRST_COMPLETED")
                return
            except asyncio.TimeoutError:  # TimeoutError, but for Python 3.10
                alone = 0.0 if _threads_of(self.client) else alone + LOOK
            if alone >= PATIENCE:
                raise ClusterError(
                    f"the cluster has had no workers for {PATIENCE:g} s. Start some and run again: "
                    "what is on the disk is kept"
                )

    def _check(self, future: Any, region: Region) -> None:
        """Raise the error of a slab."""
        if future.status == "finished":
            return
        where = describe(region, self.shape)
        if future.status != "error":
            raise ClusterError(
                f"the cluster dropped the region {where}: its status is {future.status}. Run again: "
                "what is on the disk is kept"
            )
        error = future.exception()
        if isinstance(error, FileError):
            raise error
        if type(error).__name__ == "KilledWorker":
            raise ClusterError(
                f"workers died on the region {where}, one after the other, perhaps because they ran "
                "out of memory. Give them more, or reduce `memory`, and run again: what is on "
                "the disk is kept"
            ) from None
        if isinstance(error, ImportError):
            raise ClusterError(
                f"the workers cannot import what they need: {_one_line(error)}. Install there "
                f"what is installed here, {NAME}[volumes] included"
            ) from None
        raise ClusterError(
            f"a worker failed on the region {where}: {_one_line(error)}. What is on the disk is kept"
        ) from error


def _one_line(error: Any) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _samples(region: Region) -> int:
    return math.prod(s.stop - s.start for s in region)


# Functions that run on the workers


def _opened(volume_filter: BlockFilter, path: Path, reopen: tuple[Any, ...], *beside: Any) -> _Job:
    """Open the files on a worker; `beside` is a mask and its axes, if there is one."""
    make, arguments = reopen
    try:
        with contextlib.ExitStack() as files:
            source = files.enter_context(open_source(path))
            if beside:
                source = files.enter_context(masked(source, *beside))
            job = _Job(volume_filter, source, make(*arguments))
            files.pop_all()
            return job
    except FileError as error:
        raise FileError(
            f"{error} (on the worker {platform.node()}: all machines must see the files under the "
            "same names)"
        ) from None


def _filter_slab(job: _Job, region: Region, block: Block) -> None:
    """Read the block of a slab, filter it, write the region and flush it to the disk."""
    samples = _read(job.source, job.filter, block)
    since = now()
    job.target.write(region, job.filter.run(samples, block))
    bring_to_disk(job.target, since)


def _read(source: Source, whole: BlockFilter, block: Block) -> Array:
    """Read the samples of a block, of which some may lie outside the volume."""
    samples = empty(block.shape, source.dtype)
    bounds = zip(block.starts, block.stops, strict=True)
    runs = [whole.runs(axis, a, b) for axis, (a, b) in enumerate(bounds)]
    places = [np.cumsum([0, *(b - a for a, b in run)]).tolist() for run in runs]
    for index in np.ndindex(*(len(run) for run in runs)):
        inner, outer = [], []
        for k, run, ends in zip(index, runs, places, strict=True):
            inner.append(slice(ends[k], ends[k + 1]))
            outer.append(slice(*run[k]))
        samples[tuple(inner)] = source.read(tuple(outer))
    return samples
