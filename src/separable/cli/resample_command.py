"""`separable resample`: another spacing, shape or scale, from file to file."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from separable.cli.console import enough_memory, output, progress
from separable.cli.image_options import ImageNumber
from separable.cli.option_groups import with_option_groups
from separable.cli.options import Cval, Mode, integers, modes
from separable.cli.volume_options import kept_partial
from separable.errors import ArgumentError
from separable.files.chunked_io import draft_of
from separable.files.format_registry import in_parts
from separable.kernels.units import read_lengths
from separable.plan.plan_text import duration
from separable.request import check_dtype
from separable.resample.interpolations import interpolation_of
from separable.volumes.resampled_files import FileGrid, describe, resample_file

__all__ = ["GridOptions", "SamplingOptions", "resample_command"]

ResampledAxes = Annotated[
    str | None,
    typer.Option(
        "--axes",
        help="Image axes to resample, for example 0,1. Default: the axes of space.",
        show_default=False,
    ),
]
NewSpacing = Annotated[
    str | None,
    typer.Option(
        "--spacing",
        help="New distance between samples, for example 1mm or 3x1x1mm; without a unit in that of the "
        "file.",
        show_default=False,
    ),
]
NewShape = Annotated[
    str | None,
    typer.Option("--shape", help="New number of samples, for example 512x512.", show_default=False),
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="Factor of the number of samples, for example 0.5 or 1x0.5x0.5.",
        show_default=False,
    ),
]
InterpolationText = Annotated[
    str,
    typer.Option(
        "--interpolation",
        "-i",
        help="nearest, linear, cubic, cubic-sharp, spline2 .. spline5, lanczos2 .. lanczos4, area, or "
        "majority for labels.",
    ),
]
Antialias = Annotated[
    str,
    typer.Option(
        help="Filter for axes that shrink: gaussian, stretch (of the interpolation) or none."
    ),
]
Align = Annotated[
    str,
    typer.Option(help="What stays in place: the outer edges, or the centres of the first samples."),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="Memory limit of the process, for example 2GiB, for formats that are read in parts.",
        show_default=False,
        metavar="BYTES",
    ),
]


@dataclass(frozen=True)
class GridOptions:
    """The options --spacing, --shape and --scale as they were typed: one of them."""

    spacing: NewSpacing = None
    shape: NewShape = None
    scale: Scale = None

    def grid(self) -> FileGrid:
        """Return the grid that they ask for.

        Raises
        ------
        ArgumentError
            If none or several are given, or one cannot be read.
        """
        given = [n for n in ("spacing", "shape", "scale") if getattr(self, n) is not None]
        if len(given) != 1:
            got = " and ".join(f"--{n}" for n in given) or "none"
            raise ArgumentError(f"give one of --spacing, --shape and --scale; got {got}")
        if self.shape is not None:
            sizes = integers("--shape", self.shape, "x")
            return FileGrid(shape=sizes if len(sizes) > 1 else sizes[0])
        if self.scale is not None:
            return FileGrid(scale=_numbers("--scale", self.scale))
        assert self.spacing is not None
        try:
            found = read_lengths(self.spacing.strip())
            unit = found.units[-1]
            values = found.within(unit)
        except ValueError:
            unit, values = "px", 0.0
        if unit == "px":
            raise ArgumentError(
                f"`--spacing` must be lengths such as 1mm or 3x1x1mm; got {self.spacing!r}"
            )
        return FileGrid(spacing=values, unit=unit)


@dataclass(frozen=True)
class SamplingOptions:
    """Options of how values between samples are computed, as they were typed."""

    axes: ResampledAxes = None
    interpolation: InterpolationText = "linear"
    antialias: Antialias = "gaussian"
    align: Align = "edges"
    mode: Mode = "reflect"
    cval: Cval = 0.0


@with_option_groups
def resample_command(  # the help of its arguments: `option_groups.list_registered`
    source: Annotated[Path, typer.Argument(metavar="INPUT", readable=False)],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", readable=False)],
    grid: GridOptions,
    options: SamplingOptions,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Data type of the output. Default: that of the input.", show_default=False
        ),
    ] = None,
    memory: MemoryLimit = None,
    image: ImageNumber = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the passes and their multiplications.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
) -> None:
    """Resample an image or volume to another spacing, shape or scale.

    Spacing and position are written as the format of the output keeps them.
    """
    console = output()
    asked = grid.grid()
    out_dtype = None if dtype is None else check_dtype(dtype, "--dtype")
    axes = None if options.axes is None else integers("--axes", options.axes, ",")
    kind: str | int = options.interpolation
    kind = int(kind) if isinstance(kind, str) and kind.isdecimal() else kind
    start = time.perf_counter()
    resumable = in_parts(source, target)
    kept = kept_partial(draft_of(target).name) if resumable else contextlib.nullcontext()
    with (
        enough_memory(source),
        kept,
        progress("Resampling", shown=True) as step,
    ):
        done = resample_file(
            source, target, asked, axes=axes, interpolation=kind, antialias=options.antialias,
            align=options.align, mode=modes(options.mode), cval=options.cval, output=out_dtype,
            memory=memory, overwrite=force, progress=step, image=image,
        )  # fmt: skip
    for note in done.notes:
        console.print(f"Note: {note}.", soft_wrap=True)
    if explain:
        console.print(str(done.planned), soft_wrap=True)
        console.print()
    if done.resumed:
        console.print(f"Resumed: {done.resumed} of {done.slabs} slabs were done.")
    parts = f", in {done.slabs} slabs" if done.slabs > 1 else ""
    console.print(
        f"Resampled {describe(done)}; {interpolation_of(kind).name}, "
        f"{duration(time.perf_counter() - start)} including start-up{parts}.",
        soft_wrap=True,
    )
    console.print(f"Wrote {target}: {'x'.join(map(str, done.shape))} {done.dtype}.", soft_wrap=True)


def _numbers(name: str, text: str) -> float | tuple[float, ...]:
    """Read numbers such as ``0.5`` or ``1x0.5x0.5``."""
    try:
        found = tuple(float(part) for part in text.strip().split("x"))
    except ValueError:
        raise ArgumentError(
            f"`{name}` must be numbers such as 0.5 or 1x0.5; got {text!r}"
        ) from None
    return found if len(found) > 1 else found[0]
