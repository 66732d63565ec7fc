"""`separable filter` for files larger than memory: in slabs, from file to file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from separable.cli.console import StoppedError, enough_memory
from separable.cli.plan_command import show_plan
from separable.errors import ArgumentError, FileError
from separable.files.format_registry import locate
from separable.files.several_images import ImageChoice, chosen_images
from separable.plan import Plan
from separable.plan.plan_text import duration
from separable.volumes import Run
from separable.volumes.cluster import connected
from separable.volumes.file_checks import are_large
from separable.volumes.joined_images import JoinedImages
from separable.volumes.slab_schedule import amount

__all__ = [
    "FileJob",
    "Memory",
    "PartText",
    "SlabOptions",
    "bytes_done",
    "filter_images_in_slabs",
    "filter_in_slabs",
    "is_for_slabs",
    "kept_partial",
]

Memory = Annotated[
    str | None,
    typer.Option(
        help="Memory limit of the process, for example 2GiB. Larger files, Zarr and HDF5 are "
        "filtered in slabs within it; an interrupted run resumes when the command is repeated.",
        show_default=False,
        metavar="BYTES",
    ),
]
Chunks = Annotated[
    str | None,
    typer.Option(
        help="Chunk sizes of the output, for example 64,64,64; auto uses those of the input.",
        show_default=False,
        metavar="SIZES",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Run on a Dask cluster, for example tcp://host:8786. All workers must see the files "
        "under the same paths; --memory then limits each worker.",
        show_default=False,
        metavar="ADDRESS",
    ),
]
PartText = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="Compute a part of the slabs, for example 3/64: independent processes share one run, and "
        "the last one completes the output, a Zarr store.",
        show_default=False,
        metavar="PART",
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        "--levels",
        help="Number of resolution levels of an OME-Zarr output, each half the size of the one before.",
        show_default=False,
        metavar="COUNT",
    ),
]


@dataclass(frozen=True)
class FileJob:
    """The files of one command, and its options --explain and --force."""

    source: Path
    target: Path
    explain: bool
    force: bool


@dataclass(frozen=True)
class SlabOptions:
    """The options --memory, --chunks, --scheduler, --part and --levels as they were typed."""

    memory: Memory = None
    chunks: Chunks = None
    scheduler: Scheduler = None
    part: PartText = None
    levels: Levels = None


def is_for_slabs(job: FileJob, slabs: SlabOptions, copies: int = 1, image: ImageChoice = 1) -> bool:
    """Return whether a file is filtered in slabs: asked for, stored in chunks, or too large.

    `copies` is how many arrays of the size of each image would be in memory.
    """
    if slabs != SlabOptions():
        return True
    try:
        formats = locate(job.source, "read")[2], locate(job.target, "write")[2]
        if formats[0].open is None or formats[1].create is None:
            return False
        if any(f.inner for f in formats):
            return True
        return are_large(job.source, len(chosen_images(job.source, job.target, image)), copies)
    except (FileError, ArgumentError):  # reported in full by what reads and writes the file whole
        return False


def filter_in_slabs(
    console: Console,
    job: FileJob,
    slabs: SlabOptions,
    kernel: Any,
    options: dict[str, Any],
    report: Callable[[Plan, Any], None],
) -> None:
    """Filter from file to file within a memory limit, and print how.

    Parameters
    ----------
    console : Console
    job : FileJob
    slabs : SlabOptions
    kernel : array_like or Factors
    options : dict
        Options of `plan`, and those for missing samples.
    report : callable
        ``report(plan, dtype)`` prints which kernel was applied; `dtype` is that of the result.
    """
    scheduler = slabs.scheduler
    cluster = contextlib.nullcontext() if scheduler is None else connected(scheduler)
    with (
        enough_memory(job.source),
        cluster as client,
        Run(
            job.source, job.target, kernel, memory=slabs.memory, chunks=slabs.chunks or "auto",
            overwrite=job.force, client=client, part=slabs.part,
            levels=slabs.levels, **options,
        ) as run,
    ):  # fmt: skip
        if scheduler is not None:
            console.print(f"On {scheduler}, {_workers(client)}.")
        console.print(str(run.schedule), soft_wrap=True)
        _print_notes(console, (*run.notes, *run.target.notes))
        seconds = _timed(console, run)
        if job.explain:
            show_plan(run.plan, console)
            console.print()
        report(run.plan, run.target.dtype)
        console.print(_method_text(run, seconds))
        _print_notes(console, run.late_notes)
        if not run.finished:
            console.print(
                f"Part {slabs.part} is done; the last part completes {job.target}.", soft_wrap=True
            )
            return
        shape = "x".join(map(str, run.target.shape))
        console.print(f"Wrote {job.target}: {shape} {run.target.dtype}.", soft_wrap=True)


def _print_notes(console: Console, notes: Iterable[str]) -> None:
    for note in dict.fromkeys(notes):
        console.print(f"Note: {note}.", soft_wrap=True)


def _timed(console: Console, run: Run) -> float:
    """Run a filter, showing what is done, and return the seconds it took."""
    if run.resumed:
        console.print(
            f"Resuming {run.target.draft.name}: {run.resumed} of {run.schedule.slabs} slabs "
            "are done."
        )
    start = time.perf_counter()
    with kept_partial(run.target.draft.name), bytes_done(run.source.nbytes) as step:
        run(step)
    return time.perf_counter() - start


def _method_text(run: Run, seconds: float) -> str:
    size = run.source.nbytes
    return (
        f"Method: {run.plan.chosen.title}; {amount(size)} in {duration(seconds)}, "
        f"{amount(size / seconds)}/s."
    )


def filter_images_in_slabs(
    console: Console,
    job: FileJob,
    slabs: SlabOptions,
    numbers: tuple[int, ...],
    wanted: dict[str, Any],
    prepare: Callable[[int], tuple[Any, dict[str, Any], Callable[[Plan, Any], None]]],
) -> None:
    """Filter several images of a file into one file within a memory limit, and print how.

    Parameters
    ----------
    console : Console
    job : FileJob
    slabs : SlabOptions
    numbers : tuple of int
        Numbers of the images.
    wanted : dict
        All options as they were typed; an interrupted run is resumed by the same ones.
    prepare : callable
        ``prepare(number)`` returns the kernel, the options and the report of an image, as
        `filter_in_slabs` takes them.
    """
    shown = ""
    with (
        enough_memory(job.source),
        JoinedImages(job.source, job.target, numbers, wanted, overwrite=job.force) as joined,
    ):
        waiting = tuple(joined.waiting())
        if len(waiting) < len(numbers):
            console.print(
                f"Resuming {job.target}: {len(numbers) - len(waiting)} of {len(numbers)} images are done."
            )
        for number in waiting:
            kernel, options, report = prepare(number)
            given = {
                "memory": slabs.memory,
                "chunks": slabs.chunks or "auto",
                "levels": slabs.levels,
            }
            with joined.run(number, kernel, **given, **options) as run:
                slabs_text = str(run.schedule).partition("\nMemory")[0]
                if slabs_text != shown:
                    shown = slabs_text
                    console.print(str(run.schedule), soft_wrap=True)
                seconds = _timed(console, run)
                if number == waiting[0]:
                    report(run.plan, run.target.dtype)
                shape = "x".join(map(str, run.target.shape))
                console.print(
                    f"Image {number} of {numbers[-1]}: {shape}. {_method_text(run, seconds)}"
                )
            joined.record(number, run)
        joined.finish()
    _print_notes(console, joined.notes)
    console.print(f"Wrote {job.target}: {len(numbers)} images.", soft_wrap=True)


def _workers(client: Any) -> str:
    threads = client.nthreads().values()
    return f"{len(threads)} workers with {sum(threads)} threads"


@contextlib.contextmanager
def kept_partial(draft: str) -> Iterator[None]:
    """Report an interruption with the name of the partial file that resumes it."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"interrupted; what was written is kept as {draft}, and the same command resumes it"
        ) from None


@contextlib.contextmanager
def bytes_done(size: int) -> Iterator[Callable[[float], None] | None]:
    """Show bytes done, rate and time left on stderr if it is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (  # start-up time
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Filtering", total=size)
        yield lambda fraction: bar.advance(task, fraction * size)
