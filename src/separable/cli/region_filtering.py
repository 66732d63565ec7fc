"""`separable filter` with --output-region or --stride: from file to file, with the spacing of the outputs."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from rich.console import Console

from separable.cli.console import enough_memory, progress
from separable.cli.region_options import RegionOptions
from separable.cli.result_options import ResultOptions
from separable.cli.volume_options import FileJob, SlabOptions, kept_partial
from separable.errors import ArgumentError
from separable.files.chunked_io import draft_of
from separable.files.format_registry import in_parts
from separable.plan.plan_text import duration
from separable.volumes.region_files import RegionFile, filter_region_file

__all__ = ["filter_region_of_file", "outputs_text"]


def filter_region_of_file(
    console: Console,
    job: FileJob,
    kernel: Any,
    options: dict[str, Any],
    chosen: tuple[RegionOptions, ResultOptions, SlabOptions],
) -> RegionFile:
    """Filter a file where a region and a stride say, and print how.

    Parameters
    ----------
    console : Console
    job : FileJob
    kernel : array_like, Factors or Magnitude
    options : dict
        Options of `plan`, and those for missing samples.
    chosen : tuple of RegionOptions, ResultOptions, SlabOptions

    Raises
    ------
    ArgumentError
        If an option is given that needs all outputs.
    """
    region, results, slabs = chosen
    if slabs != SlabOptions(slabs.memory):
        raise ArgumentError(
            "`--output-region` and `--stride` are not combined with --chunks, --scheduler, --part and --levels"
        )
    start = time.perf_counter()
    resumable = in_parts(job.source, job.target)
    kept = kept_partial(draft_of(job.target).name) if resumable else contextlib.nullcontext()
    with (
        enough_memory(job.source),
        kept,
        progress("Filtering", shown=True) as step,
    ):
        done = filter_region_file(
            job.source, job.target, kernel, memory=slabs.memory, overwrite=job.force,
            progress=step, rescale=results.percentiles, **region.for_plan, **options,
        )  # fmt: skip
    for note in done.notes:
        console.print(f"Note: {note}.", soft_wrap=True)
    if job.explain:
        for number, planned in enumerate(done.plans, 1):
            if len(done.plans) > 1:
                console.print(f"Kernel {number} of {len(done.plans)}:")
            console.print(str(planned), soft_wrap=True)
        console.print()
    if done.resumed:
        console.print(f"Resumed: {done.resumed} of {done.slabs} slabs were done.")
    console.print(
        f"{outputs_text(done)}; {duration(time.perf_counter() - start)} including start-up.",
        soft_wrap=True,
    )
    return done


def outputs_text(done: RegionFile) -> str:
    """Return the outputs and their spacing in words."""
    head = str(done.planned).partition("\n")[0]
    if done.info.spacing is None or not any(done.info.spacing):
        return f"Computed {head}"
    steps = "x".join("?" if s is None else f"{s:.6g}" for s in done.info.spacing)
    return f"Computed {head}; spacing {steps}{done.info.unit}"
