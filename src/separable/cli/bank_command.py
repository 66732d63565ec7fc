"""`separable bank`: filter an image with several kernels, one file per kernel."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from separable.cli.console import enough_memory, output
from separable.cli.filter_command import Setup, applied_text, set_up
from separable.cli.image_options import ImageNumber
from separable.cli.missing_options import MissingOptions, filter_valid, obey_file, read_missing
from separable.cli.option_groups import FilterOptions, with_option_groups
from separable.cli.options import Axes, Cval, Mode, Operation, SpacingText
from separable.cli.volume_options import (
    FileJob,
    Levels,
    Memory,
    PartText,
    SlabOptions,
    bytes_done,
    is_for_slabs,
    kept_partial,
)
from separable.errors import ArgumentError, FileError
from separable.files import ImageInfo, check_target, filter_image, read_image, write_image
from separable.files.format_registry import is_image_path, locate, outer_file
from separable.files.image_filter import integer_notes, opacity_of
from separable.files.opening import open_source
from separable.filter_bank import bank
from separable.plan import plan
from separable.plan.plan_text import axes_text, duration
from separable.request import check_dtype
from separable.volumes import BankRun
from separable.volumes.slab_schedule import amount

__all__ = ["BankOptions", "bank_command", "make_folder", "result_paths"]

Array = NDArray[Any]

KernelTexts = Annotated[
    list[str],
    typer.Option(
        "--kernel",
        "-k",
        help="Kernel; repeat the option for more: -k log:1mm -k log:2mm.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class BankOptions:
    """Options of a bank, as they were typed."""

    kernel: KernelTexts
    axes: Axes = None
    mode: Mode = "reflect"
    cval: Cval = 0.0
    operation: Operation = None
    spacing: SpacingText = None

    def single(self, kernel: str) -> FilterOptions:
        """Return the options of one filter of the bank."""
        return FilterOptions(
            kernel, self.axes, self.mode, self.cval, operation=self.operation, spacing=self.spacing
        )


@with_option_groups
def bank_command(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", readable=False, help="Input file, as for filter.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the results; created if needed.")
    ],
    options: BankOptions,
    missing_options: MissingOptions,
    memory: Memory = None,
    number: ImageNumber = None,
    part: PartText = None,
    levels: Levels = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            help="Suffix of the results, for example .npy. Default: that of the input.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Data type of the output. Default: that of the input.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing results.")] = False,
) -> None:
    """Filter an image or volume with several kernels; passes that they share run once.

    Each result is FOLDER/INPUT_KERNEL with the suffix of the input. Files larger than memory are
    filtered in slabs, each of which is read once for all kernels.
    """
    console = output()
    out_dtype = None if dtype is None else check_dtype(dtype, "--dtype")
    targets = result_paths(source, folder, options.kernel, suffix)
    make_folder(folder)
    slabs, first = SlabOptions(memory, part=part, levels=levels), next(iter(targets.values()))
    if is_for_slabs(FileJob(source, first, False, force), slabs, copies=len(targets) + 1):
        job = _SlabJob(source, targets, slabs, force)
        given = {**missing_options.given(), "image": number or 1}
        _in_slabs(console, job, options, given, out_dtype)
        return
    # Step 1: read, and make the kernels.
    missing = read_missing(missing_options.given())
    image, info = read_image(source, image=number)
    obeyed = obey_file(missing, image, info, (source, first), out_dtype)
    with enough_memory(source):
        setups = {text: set_up(options.single(text), image, info, source) for text in targets}
        kind = image.dtype if out_dtype is None else out_dtype
        for target in targets.values():
            check_target(target, image.shape, kind, overwrite=force)
        for note in (*info.notes, *filter(None, [obeyed.note])):
            console.print(f"Note: {note}.", soft_wrap=True)
        # Step 2: filter and write.
        if any(opacity_of(info, image.ndim, one.axes) is not None for one in setups.values()):
            bands = _opaque_bands(console, options, setups, (image, info), missing, out_dtype)
        elif obeyed.note or not _only_nan(obeyed.missing):
            bands = _valid_bands(options, setups, image, obeyed.missing, out_dtype)
        else:
            bands = _shared_bands(console, options, setups, image, out_dtype)
        for text, band in bands:
            _print_notes(console, integer_notes(image, setups[text].kernel.values, band))
            _write(console, targets[text], band, obeyed.info, setups[text], force)


def _only_nan(missing: dict[str, Any]) -> bool:
    """Return whether nothing but NaN can mark samples of the image as missing."""
    return missing.keys() <= {"nodata", "fill"} and all(v != v for v in missing.get("nodata", ()))


def result_paths(
    source: Path, folder: Path, kernels: list[str], suffix: str | None
) -> dict[str, Path]:
    """Return the file of the result of each kernel.

    Raises
    ------
    ArgumentError
        If two kernels are equal.

    Examples
    --------
    >>> paths = result_paths(Path("in.nii.gz"), Path("out"), ["log:1mm", "log:2mm"], None)
    >>> [path.as_posix() for path in paths.values()]
    ['out/in_log_1mm.nii.gz', 'out/in_log_2mm.nii.gz']
    """
    twice = next((k for k in kernels if kernels.count(k) > 1), None)
    if twice is not None:
        raise ArgumentError(f"`--kernel` must be different kernels; got {twice} twice")
    file, _, format = locate(source, "read")
    name = file.name
    own = max((s for s in format.suffixes if name.lower().endswith(s)), key=len, default="")
    stem = name[: len(name) - len(own)] if own else name
    own = name[len(stem) :]
    if stem.lower().endswith(".ome"):
        stem, own = stem[:-4], stem[-4:] + own
    able = format.write is not None or format.create is not None
    folder_ending = next(iter(format.folders), ".nrrd")  # of the slices of a series
    ending = suffix or (own if able and own else folder_ending)
    found: dict[str, Path] = {}
    for text in kernels:
        base = Path(text).stem if Path(text).name != text else text
        words = re.sub(r"[^\w.+-]+", "_", base).strip("_")
        path = folder / f"{stem}_{words}{ending}"
        number = 2
        while path in found.values():
            path = folder / f"{stem}_{words}_{number}{ending}"
            number += 1
        found[text] = path
    return found


def make_folder(folder: Path) -> None:
    """Create the folder of the results, if it does not exist."""
    if outer_file(folder, "write") != folder or (folder.exists() and not folder.is_dir()):
        raise FileError(f"cannot write into {folder}: expected a folder. Name another one")
    if not folder.exists() and is_image_path(folder.name):
        raise FileError(
            f"cannot write into {folder}: expected a folder, because each result is a file of its own; "
            f"got the name of a file. Name a folder, for example {folder.with_suffix('')}"
        )
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot create the folder {folder}: {reason}") from None


def _shared_bands(
    console: Console, options: BankOptions, setups: dict[str, Setup], image: Array, out: Any
) -> Any:
    """Yield the results of kernels along the same axes, filtered together."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for text, setup in setups.items():
        groups.setdefault((setup.axes, setup.kernel.operation), []).append(text)
    for (axes, operation), texts in groups.items():
        filters = bank(
            {text: setups[text].kernel.values for text in texts}, image.shape, image.dtype,
            axes=axes, operation=operation, output=out, mode=options.single(texts[0]).for_plan["mode"],
            cval=options.cval,
        )  # fmt: skip
        start = time.perf_counter()
        results = filters(image)
        seconds = time.perf_counter() - start
        console.print(
            f"{len(texts)} kernels along {axes_text(axes)}: {filters.multiplications:g} "
            f"multiplications per sample together, {filters.multiplications_alone:g} one by one; "
            f"{duration(seconds)} including start-up."
        )
        yield from zip(texts, results, strict=True)


def _valid_bands(
    options: BankOptions, setups: dict[str, Setup], image: Array, missing: dict[str, Any], out: Any
) -> Any:
    """Yield the results for an image with missing samples, one kernel after the other."""
    for text, setup in setups.items():
        filter_plan = plan(
            setup.kernel.values, image.shape, image.dtype, axes=setup.axes, output=out,
            operation=setup.kernel.operation, **options.single(text).for_plan,
        )  # fmt: skip
        yield text, filter_valid(filter_plan, setup.kernel, image, missing, None)


def _opaque_bands(
    console: Console,
    options: BankOptions,
    setups: dict[str, Setup],
    image: tuple[Array, ImageInfo],
    missing: dict[str, Any],
    out: Any,
) -> Any:
    """Yield the results for an image with alpha, by which the colours are weighted."""
    shown: set[str] = set()
    for text, setup in setups.items():
        done = filter_image(
            image[0], replace(image[1], notes=()), setup.kernel.values, output=out, axes=setup.axes,
            operation=setup.kernel.operation, **missing, **options.single(text).for_plan,
        )  # fmt: skip
        _print_notes(console, [note for note in done.info.notes if note not in shown])
        shown |= set(done.info.notes)
        yield text, done.image


def _write(
    console: Console, target: Path, band: Array, info: ImageInfo, setup: Setup, force: bool
) -> None:
    lost = write_image(target, np.asarray(band), info, overwrite=force)
    for note in lost:
        console.print(f"Note: {note}.", soft_wrap=True)
    shape = "x".join(map(str, band.shape))
    console.print(
        f"{applied_text(setup.kernel)}; wrote {target}: {shape} {band.dtype}.", soft_wrap=True
    )


@dataclass(frozen=True)
class _SlabJob:
    """The files of a bank that is filtered in slabs."""

    source: Path
    targets: dict[str, Path]
    slabs: SlabOptions
    force: bool


def _in_slabs(
    console: Console, job: _SlabJob, options: BankOptions, given: dict[str, Any], out_dtype: Any
) -> None:
    """Filter from file to file; each slab is read once for all kernels."""
    source = job.source
    with open_source(source, image=given["image"]) as opened:
        setups = {t: set_up(options.single(t), opened, opened.info, source) for t in job.targets}
    results = []
    for text, setup in setups.items():
        for_plan = {
            **options.single(text).for_plan, "output": out_dtype, "axes": setup.axes,
            "operation": setup.kernel.operation, "overwrite": job.force, "levels": job.slabs.levels,
            **given,
        }  # fmt: skip
        results.append((job.targets[text], setup.kernel.values, for_plan))
    with (
        enough_memory(source),
        BankRun(source, results, memory=job.slabs.memory, part=job.slabs.part) as run,
    ):
        for group, schedule in zip(run.groups, run.schedules, strict=True):
            count = f"{len(group)} kernels, read together" if len(group) > 1 else "1 kernel"
            console.print(f"{count}: {schedule}", soft_wrap=True)
        _print_notes(
            console, [note for one in run.runs for note in (*one.notes, *one.target.notes)]
        )
        if run.resumed:
            slabs = sum(one.schedule.slabs for one in run.runs)
            console.print(f"Resuming: {run.resumed} of {slabs} slabs are done.")
        size = run.runs[0].source.nbytes
        start = time.perf_counter()
        with kept_partial(run.runs[0].target.draft.name), bytes_done(size * len(results)) as step:
            run(step)
        seconds = time.perf_counter() - start
        if not run.finished:
            console.print(f"Part {job.slabs.part} is done; the last part completes the files.")
            return
        _print_notes(console, [note for one in run.runs for note in one.late_notes])
        for (text, setup), one in zip(setups.items(), run.runs, strict=True):
            shape = "x".join(map(str, one.target.shape))
            console.print(
                f"{applied_text(setup.kernel)} along {axes_text(setup.axes)}; wrote "
                f"{job.targets[text]}: {shape} {one.target.dtype}.",
                soft_wrap=True,
            )
        console.print(
            f"{amount(size)} filtered with {len(results)} kernels in {duration(seconds)}."
        )


def _print_notes(console: Console, notes: Iterable[str]) -> None:
    for note in dict.fromkeys(notes):
        console.print(f"Note: {note}.", soft_wrap=True)
