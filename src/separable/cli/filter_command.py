"""`separable filter`: read an image, filter it by the cheapest method, write it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from separable.cli.console import enough_memory, output, progress
from separable.cli.missing_options import (
    Fill,
    MaskFile,
    Nan,
    filter_valid,
    read_missing,
    said_missing,
)
from separable.cli.options import (
    Axes,
    Cval,
    Kernel,
    KernelText,
    Method,
    Mode,
    Operation,
    SpacingText,
    Tol,
    file_spacing,
    integers,
    is_kernel_file,
    modes,
    named_kernel,
    read_kernel,
    read_spacing,
)
from separable.cli.plan_command import show_plan
from separable.cli.volume_options import Chunks, Memory, Scheduler, filter_parts, is_for_parts
from separable.errors import KernelError
from separable.files import ImageInfo, check_target, read_image, write_image
from separable.files.chunked_io import Source
from separable.files.opening import open_source
from separable.plan import Plan, plan
from separable.plan.plan_text import duration
from separable.request import check_axes, check_dtype, kernel_axes

__all__ = ["filter_command"]

Array = NDArray[Any]

LONG = 0.5  # seconds predicted from which a progress bar is shown


@dataclass(frozen=True)
class _Target:
    """What is filtered along which axes, and with what."""

    kernel: Kernel
    axes: tuple[int, ...]
    why: str


def filter_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            readable=False,
            help="Its suffix says the format: pictures, TIFF, NPY, NIfTI, Zarr, HDF5, ENVI.",
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", readable=False, help="Its suffix says the format.")
    ],
    kernel: KernelText,
    axes: Axes = None,
    mode: Mode = "reflect",
    cval: Cval = 0.0,
    tol: Tol = None,
    method: Method = "auto",
    operation: Operation = None,
    spacing: SpacingText = None,
    mask: MaskFile = None,
    nan: Nan = "propagate",
    fill: Fill = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="The output's type; the input's if not given.", show_default=False),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the plan and the time it took.")
    ] = False,
    memory: Memory = None,
    chunks: Chunks = None,
    scheduler: Scheduler = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
) -> None:
    """Filter an image or volume by the cheapest method and write the result."""
    console = output()
    kind = None if dtype is None else check_dtype(dtype, "--dtype")
    said = said_missing(mask, nan, fill)
    if is_for_parts(source, target, memory, chunks, scheduler):
        with open_source(source) as found:
            chosen = _settle(kernel, axes, operation, found, found.info, (spacing, source))
        filter_parts(
            console, source, target, chosen.kernel.values, memory=memory, chunks=chunks,
            scheduler=scheduler, force=force, explain=explain,
            report=lambda made: _report(console, made, chosen),
            options={
                "axes": chosen.axes, "mode": modes(mode), "cval": cval, "output": kind, "tol": tol,
                "method": method, "operation": chosen.kernel.operation, **said,
            },
        )  # fmt: skip
        return
    # Step 1: read.
    missing = read_missing(said)
    image, info = read_image(source)
    if image.ndim == 0:
        raise KernelError(f"{source} holds a single number: expected an image")

    with enough_memory(source):
        # Step 2: settle the axes and the kernel, plan, and see whether the result can be written.
        chosen = _settle(kernel, axes, operation, image, info, (spacing, source))
        made = plan(
            chosen.kernel.values, image.shape, image.dtype, axes=chosen.axes, mode=modes(mode),
            cval=cval, output=kind, tol=tol, method=method, operation=chosen.kernel.operation,
        )  # fmt: skip
        check_target(target, image.shape, made.problem.out, overwrite=force)

        # Step 3: run and write.
        result, seconds = _run(made, image, chosen.kernel, missing)
        if explain and seconds < LONG:
            # Once more, without what is loaded or compiled once.
            _, seconds = _run(made, image, chosen.kernel, missing)
        lost = write_image(target, result, info, overwrite=force)

    # Step 4: say what was done.
    for note in (*info.notes, *lost):
        console.print(f"Note: {note}.", soft_wrap=True)
    if explain:
        show_plan(made, console)
        console.print()
    _report(console, made, chosen)
    predicted = f" ({duration(made.chosen.seconds)} predicted)" if explain else " with start-up"
    console.print(f"Method: {made.chosen.title}; {duration(seconds)}{predicted}.")
    console.print(f"Wrote {target}: {_described(result)}.", soft_wrap=True)


def _settle(
    text: str,
    axes: str | None,
    operation: str | None,
    image: Array | Source,
    info: ImageInfo,
    spacing: tuple[str | None, Path],
) -> _Target:
    """Choose the axes and make the kernel for them; `spacing` is as asked for, and the file."""
    given = None if axes is None else integers("--axes", axes, ",")
    space = info.space(image.ndim)
    if is_kernel_file(text):
        kernel = read_kernel(text, operation, spacing[0])
        return _Target(kernel, *_axes_for(kernel, given, space, image))
    filtered = space if given is None else check_axes(given, image.ndim)
    asked, known = read_spacing(spacing[0]), file_spacing(info, spacing[1])
    kernel = named_kernel(text, filtered, image.ndim, operation, asked, known)
    return _Target(kernel, filtered, _reason(space, image, info) if given is None else "")


def _axes_for(
    kernel: Kernel, given: tuple[int, ...] | None, space: tuple[int, ...], image: Array | Source
) -> tuple[tuple[int, ...], str]:
    """The axes for a kernel that has as many as it has."""
    count = len(kernel.shape)
    if given is not None:
        return kernel_axes(given, image.ndim, count), "as asked for"
    if count == len(space):
        return space, ""
    if count < image.ndim:
        last = ",".join(map(str, range(image.ndim - count, image.ndim)))
        raise KernelError(
            f"{kernel.name} has {count} axes, the image {image.ndim}: say which ones to filter, "
            f"for instance --axes {last}"
        )
    return kernel_axes(None, image.ndim, count), ""


def _run(made: Plan, image: Array, kernel: Kernel, missing: dict[str, Any]) -> tuple[Array, float]:
    with progress("Filtering", shown=made.chosen.seconds > LONG) as step:
        start = time.perf_counter()
        if missing:
            result = filter_valid(made, kernel, image, missing, step)
        else:
            result = made(image, progress=step)
        return result, time.perf_counter() - start


def _reason(space: tuple[int, ...], image: Array | Source, info: ImageInfo) -> str:
    """Why these axes, where that is not plain."""
    if len(space) == image.ndim:
        return f"a volume, so the kernel has {image.ndim} axes" if image.ndim > 2 else ""
    names = {"S": "colours", "C": "channels", "T": "time"}
    others = [i for i in range(image.ndim) if i not in space]
    told = [f"axis {i} holds {names.get(info.axes[i], info.axes[i])}" for i in others]
    return ", ".join(told)


def _report(console: Console, made: Plan, chosen: _Target) -> None:
    """Say in a sentence what was done, and warn where signs were lost."""
    kernel, problem = chosen.kernel, made.problem
    borders = "/".join(dict.fromkeys(border.name for border in problem.modes))
    console.print(f"{_done(kernel)} along {_along(chosen)}, borders {borders}.")
    if kernel.spacing:
        console.print(f"Spacing: {kernel.spacing}.", soft_wrap=True)
    if problem.out.kind in "bu" and _is_derivative(kernel.dense):
        console.print(
            f"Note: {problem.out} holds no negative numbers; they became 0. To keep them write "
            ".tif or .npy with --dtype float32."
        )


def _done(kernel: Kernel) -> str:
    """What was done with the kernel, and why that."""
    size = "x".join(map(str, kernel.shape)) if len(kernel.shape) > 1 else f"{kernel.shape[0]} taps"
    usual, those = "correlate", "kernels of the catalogue"
    if is_kernel_file(kernel.name):
        usual, those = "convolve", "kernels from files"
    why = f"as {those} are" if kernel.operation == usual else "as asked for"
    return f"{kernel.operation.capitalize()}d with {kernel.name} ({size}), {why},"


def _along(chosen: _Target) -> str:
    *first, last = map(str, chosen.axes)
    which = f"axes {', '.join(first)} and {last}" if first else f"axis {last}"
    return f"{which} ({chosen.why})" if chosen.why else which


def _is_derivative(dense: Array) -> bool:
    """Whether about half of the results are negative: the elements cancel."""
    return bool(abs(dense.sum()) < 0.1 * np.abs(dense).sum())


def _described(array: Array) -> str:
    return f"{'x'.join(map(str, array.shape))} {array.dtype}"
