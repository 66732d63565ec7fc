"""`separable filter` for files that are larger than memory: by parts, from file to file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from separable.cli.console import StoppedError, enough_memory
from separable.cli.plan_command import show_plan
from separable.errors import FileError
from separable.files.format_registry import locate
from separable.files.opening import open_source
from separable.plan.plan_text import duration
from separable.volumes import Run
from separable.volumes.cluster import connected
from separable.volumes.slab_schedule import amount

__all__ = ["Chunks", "Memory", "Scheduler", "filter_parts", "is_for_parts"]

LARGE = 2 << 30  # bytes of a file that is not filtered whole unasked

Memory = Annotated[
    str | None,
    typer.Option(
        help="What the process may take, as 2GiB. Files that are larger, Zarr and HDF5 are filtered "
        "by parts within it, and a run that was cut off goes on where it was.",
        show_default=False,
        metavar="BYTES",
    ),
]
Chunks = Annotated[
    str | None,
    typer.Option(
        help="Chunks of the output, as 64,64,64; auto takes those of the input.",
        show_default=False,
        metavar="SIZES",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Run on a Dask cluster, as tcp://host:8786; its workers open the files by their names, "
        "and each may take --memory.",
        show_default=False,
        metavar="ADDRESS",
    ),
]


def is_for_parts(
    source: Path,
    target: Path,
    memory: str | None,
    chunks: str | None,
    scheduler: str | None,
) -> bool:
    """Return whether a file is filtered by parts: asked for, stored by parts, or too large."""
    if memory is not None or chunks is not None or scheduler is not None:
        return True
    try:
        formats = locate(source, "read")[2], locate(target, "write")[2]
        if formats[0].open is None or formats[1].create is None:
            return False
        if any(f.inner for f in formats):
            return True
        with open_source(source) as found:
            return found.nbytes > LARGE
    except FileError:  # said in full by what reads and writes it whole
        return False


def filter_parts(
    console: Console,
    source: Path,
    target: Path,
    kernel: Any,
    *,
    memory: str | None,
    chunks: str | None,
    scheduler: str | None,
    force: bool,
    explain: bool,
    report: Callable[[Any], None],
    options: dict[str, Any],
) -> None:
    """Filter from file to file, and say how.

    Parameters
    ----------
    report : callable
        (plan): says what is done.
    options : dict
        Those of `plan`, and what is said about missing samples.
    """
    cluster = contextlib.nullcontext() if scheduler is None else connected(scheduler)
    with (
        enough_memory(source),
        cluster as client,
        Run(
            source, target, kernel, memory=memory, chunks=chunks or "auto",
            overwrite=force, client=client, **options,
        ) as run,
    ):  # fmt: skip
        if scheduler is not None:
            console.print(f"On {scheduler}, {_workers(client)}.")
        console.print(str(run.schedule), soft_wrap=True)
        for note in (*run.source.info.notes, *run.target.notes):
            console.print(f"Note: {note}.", soft_wrap=True)
        if run.resumed:
            console.print(
                f"Going on with {run.target.draft.name}: {run.resumed} of {run.schedule.slabs} slabs "
                "were done."
            )
        size = run.source.nbytes
        start = time.perf_counter()
        with _kept(run.target.draft.name), _bytes_done(size) as step:
            run(step)
        seconds = time.perf_counter() - start
        if explain:
            show_plan(run.plan, console)
            console.print()
        report(run.plan)
        console.print(
            f"Method: {run.plan.chosen.title}; {amount(size)} in {duration(seconds)}, "
            f"{amount(size / seconds)}/s."
        )
        problem = run.plan.problem
        shape = "x".join(map(str, problem.shape))
        console.print(f"Wrote {target}: {shape} {problem.out}.", soft_wrap=True)


def _workers(client: Any) -> str:
    threads = client.nthreads().values()
    return f"{len(threads)} workers with {sum(threads)} threads"


@contextlib.contextmanager
def _kept(draft: str) -> Iterator[None]:
    """Say of what is interrupted that it is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"interrupted; what was written is kept as {draft}, and the same command goes on with it"
        ) from None


@contextlib.contextmanager
def _bytes_done(size: int) -> Iterator[Callable[[float], None] | None]:
    """Show bytes done, rate and time left on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (
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
