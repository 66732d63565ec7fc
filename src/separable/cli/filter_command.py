"""`separable filter`: read an image, filter it by the fastest method, write it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from separable.cli.console import enough_memory, output, progress
from separable.cli.image_options import ImageText, read_choice
from separable.cli.missing_options import (
    MissingOptions,
    check_fill_used,
    filter_valid,
    obey_file,
    read_missing,
)
from separable.cli.option_groups import FilterOptions, with_option_groups
from separable.cli.options import (
    Kernel,
    file_spacing,
    is_kernel_file,
    named_kernel,
    read_kernel,
    read_spacing,
)
from separable.cli.plan_command import show_plan
from separable.cli.region_filtering import filter_region_of_file
from separable.cli.region_options import RegionOptions
from separable.cli.result_options import ResultOptions
from separable.cli.volume_options import (
    FileJob,
    SlabOptions,
    filter_images_in_slabs,
    filter_in_slabs,
    is_for_slabs,
)
from separable.errors import ArgumentError, KernelError
from separable.files import (
    FilteredImage,
    ImageInfo,
    check_target,
    count_images,
    filter_image,
    read_image,
    write_image,
    write_images,
)
from separable.files.chunked_io import Source
from separable.files.declared_nodata import obey_nodata
from separable.files.format_registry import locate
from separable.files.image_filter import integer_notes, opacity_of
from separable.files.opening import open_source
from separable.files.several_images import ImageChoice, choice_note, chosen_images, one_image
from separable.filter_bank.magnitude import Magnitude, gradient_specs
from separable.plan import Plan, plan
from separable.plan.library_calls import compare_calls
from separable.plan.plan_text import axes_text, duration
from separable.request import check_axes, check_dtype, kernel_axes

__all__ = ["Setup", "applied_text", "filter_command", "set_up"]

Array = NDArray[Any]

LONG = 0.5  # predicted seconds from which a progress bar is shown


AXIS_NAMES = {"S": "colour", "C": "the channel", "T": "time", "L": "the spectrum"}


@dataclass(frozen=True)
class Setup:
    """A kernel, the image axes it is applied along, and which axes are left out."""

    kernel: Kernel
    axes: tuple[int, ...]
    left_out: str = ""
    combined: Magnitude | None = None

    @property
    def applied(self) -> Any:
        """Kernel, or kernels whose results are combined."""
        return self.kernel.values if self.combined is None else self.combined


@with_option_groups
def filter_command(  # the help of its arguments: `option_groups.list_registered`
    source: Annotated[Path, typer.Argument(metavar="INPUT", readable=False)],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", readable=False)],
    options: FilterOptions,
    missing_options: MissingOptions,
    results: ResultOptions,
    region: RegionOptions,
    slabs: SlabOptions,
    image_text: ImageText = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Data type of the output. Default: that of the input.", show_default=False
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print the plan, and predicted and measured times beside those of SciPy and OpenCV.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
) -> None:
    """Filter an image or volume by the fastest method and write the result."""
    console = output()
    out_dtype = None if dtype is None else check_dtype(dtype, "--dtype")
    given = missing_options.given()
    job = FileJob(source, target, explain, force)
    for_plan = {**options.for_plan, "output": out_dtype}
    choice = read_choice(image_text)
    if region.is_given:
        wanted = (
            for_plan | given | {"image": None if choice == "auto" else one_image(source, choice)}
        )
        _filter_region(console, job, options, wanted, (region, results, slabs))
        return
    if is_for_slabs(job, slabs, image=choice):
        _in_slabs(console, job, slabs, choice, (options, results), for_plan | given)
        return
    # Step 1: read.
    missing = read_missing(given)
    numbers = chosen_images(source, target, choice)
    if len(numbers) > 1:
        with enough_memory(source):
            _filter_several(console, job, numbers, (options, results), for_plan | missing)
        return
    image, info = read_image(source, image=numbers[0])
    chosen = choice_note(numbers, count_images(source))
    obeyed = obey_file(missing, image, info, (source, target), out_dtype)
    missing, result_info = obeyed.missing, obeyed.info

    with enough_memory(source):
        # Step 2: choose the axes, make the kernel, plan, and check that the result can be written.
        setup = _combined(results, options, image, info, source)
        filter_plan = plan(
            setup.kernel.values, image.shape, image.dtype, axes=setup.axes,
            operation=setup.kernel.operation, **for_plan,
        )  # fmt: skip
        check_target(target, image.shape, filter_plan.problem.out, overwrite=force)

        # Step 3: run and write. The first run includes start-up and compilation; where a run is
        # short, --explain times a second one.
        extra = missing | {"rescale": results.percentiles}
        done, seconds = _run(filter_plan, image, result_info, setup, extra)
        start_up = None
        if explain and filter_plan.chosen.seconds < LONG:
            first = seconds
            _, seconds = _run(filter_plan, image, result_info, setup, extra)
            start_up = max(0.0, first - seconds)
        result = done.image
        lost = write_image(target, result, done.info, overwrite=force)

    # Step 4: report.
    if opacity_of(info, image.ndim, setup.axes) is not None:  # whose note tells of missing pixels
        obeyed = replace(obeyed, note="")
    for note in (*done.info.notes, *filter(None, [obeyed.note, chosen]), *lost):
        console.print(f"Note: {note}.", soft_wrap=True)
    if explain:
        show_plan(filter_plan, console)
        console.print()
        if setup.combined is None and not missing and results.rescale is None:
            console.print(str(compare_calls(filter_plan, image)), end="\n\n", soft_wrap=True)
    _report(console, filter_plan, setup, filter_plan.problem.out, results)
    _report_time(console, filter_plan, seconds, start_up, explain)
    console.print(f"Wrote {target}: {_described(result)}.", soft_wrap=True)


def _in_slabs(
    console: Console,
    job: FileJob,
    slabs: SlabOptions,
    choice: ImageChoice,
    wanted: tuple[FilterOptions, ResultOptions],
    for_plan: dict[str, Any],
) -> None:
    """Filter one image of a file, or several one after the other, from file to file."""
    options, results = wanted
    given = {k: v for k, v in for_plan.items() if k in ("mask", "nan", "fill", "nodata")}

    def prepare(
        number: int,
    ) -> tuple[Any, dict[str, Any], Callable[[Plan, np.dtype[Any]], None]]:
        """Return the kernel of an image, its options, and what prints which kernel was applied."""
        with open_source(job.source, image=number) as opened:
            setup = _combined(results, options, opened, opened.info, job.source)
            declared = obey_nodata(given, opened.info, job.source, opened.dtype, opened.dtype)
            check_fill_used(declared.missing)
        own = {"axes": setup.axes, "operation": setup.kernel.operation}
        return (
            setup.applied,
            for_plan | own | {"rescale": results.percentiles},
            lambda filter_plan, out: _report(console, filter_plan, setup, out, results),
        )

    numbers = chosen_images(job.source, job.target, choice, by_parts=True)
    if len(numbers) == 1:
        kernel, own, report = prepare(numbers[0])
        one = {"image": choice if choice == "auto" else numbers[0]}
        filter_in_slabs(console, job, slabs, kernel, own | one, report)
        return
    as_typed = {"options": options, "results": results, "chunks": slabs.chunks}
    files_ = {"kernel": Path(options.kernel)} if is_kernel_file(options.kernel) else {}
    filter_images_in_slabs(
        console, job, slabs, numbers, {**as_typed, **files_, **for_plan}, prepare
    )


def _filter_region(
    console: Console,
    job: FileJob,
    options: FilterOptions,
    for_plan: dict[str, Any],
    chosen: tuple[RegionOptions, ResultOptions, SlabOptions],
) -> None:
    """Filter where a region and a stride say."""
    if locate(job.source, "read")[2].open is None:
        image, info = read_image(job.source, image=for_plan["image"])
        setup = _combined(chosen[1], options, image, info, job.source)
    else:
        with open_source(job.source, image=for_plan["image"]) as opened:
            setup = _combined(chosen[1], options, opened, opened.info, job.source)
    asked = {**for_plan, "axes": setup.axes, "operation": setup.kernel.operation}
    done = filter_region_of_file(console, job, setup.applied, asked, chosen)
    _report(console, done.planned.whole, setup, done.dtype, chosen[1])
    sizes = "x".join(map(str, done.planned.shape))
    console.print(f"Wrote {job.target}: {sizes} {done.dtype}.", soft_wrap=True)


def _filter_several(
    console: Console,
    job: FileJob,
    numbers: tuple[int, ...],
    wanted: tuple[FilterOptions, ResultOptions],
    for_plan: dict[str, Any],
) -> None:
    """Filter several images of a file one after the other, and write all results into one file."""
    options, results = wanted
    done: list[FilteredImage] = []
    texts: list[str] = []
    for number in numbers:
        image, info = read_image(job.source, image=number)
        setup = _combined(results, options, image, info, job.source)
        check_target(
            job.target, image.shape, for_plan["output"] or image.dtype, overwrite=job.force
        )
        done.append(
            filter_image(
                image, info, setup.applied, rescale=results.percentiles, axes=setup.axes,
                operation=setup.kernel.operation, **for_plan,
            )
        )  # fmt: skip
        texts.append(f"{applied_text(setup.kernel)} along {axes_text(setup.axes)}.")
    lost = write_images(job.target, [(one.image, one.info) for one in done], overwrite=job.force)
    notes = [note for one in done for note in one.info.notes]
    for note in dict.fromkeys((*notes, choice_note(numbers, len(numbers)), *lost)):
        console.print(f"Note: {note}.", soft_wrap=True)
    for text in dict.fromkeys(texts):
        console.print(text, soft_wrap=True)
    sizes = ", ".join(dict.fromkeys(_described(one.image) for one in done))
    console.print(f"Wrote {job.target}: {len(done)} images, {sizes}.", soft_wrap=True)


def set_up(options: FilterOptions, image: Array | Source, info: ImageInfo, source: Path) -> Setup:
    """Choose the axes and make the kernel for them; `info` is what the file `source` says."""
    text, asked_axes = options.kernel, options.image_axes
    if image.ndim == 0:
        raise KernelError(f"{source} holds a single number: expected an image")
    space = info.space(image.ndim)
    if is_kernel_file(text):
        kernel = read_kernel(text, options.operation, options.spacing)
        if asked_axes is not None and len(asked_axes) == 1:
            kernel = kernel.as_line()
        return Setup(kernel, _axes_for(kernel, asked_axes, space, image))
    if asked_axes is None and not space:
        raise KernelError(
            f"{source} has no spatial axis, its axes are {info.axes}: say which ones to filter, for "
            "instance --axes 0"
        )
    filtered = space if asked_axes is None else check_axes(asked_axes, image.ndim)
    asked, known = read_spacing(options.spacing), file_spacing(info, source)
    kernel = named_kernel(text, filtered, image.ndim, options.operation, asked, known)
    left_out = _left_out(space, image, info) if asked_axes is None else ""
    return Setup(kernel, filtered, left_out)


def _combined(
    results: ResultOptions,
    options: FilterOptions,
    image: Array | Source,
    info: ImageInfo,
    source: Path,
) -> Setup:
    """Set up a filter whose results become absolute values or the length of a gradient, if asked for."""
    if results.absolute and results.magnitude:
        raise ArgumentError("give `--abs` or `--magnitude`, not both: a magnitude has no sign")
    if not results.magnitude:
        setup = set_up(options, image, info, source)
        one = Magnitude((setup.kernel.values,)) if results.absolute else None
        return replace(setup, combined=one)
    if is_kernel_file(options.kernel):
        raise ArgumentError(
            f"`--magnitude` needs a named derivative such as sobel or gaussian:2; got {options.kernel!r}"
        )
    space = info.space(image.ndim)
    axes = space if options.image_axes is None else check_axes(options.image_axes, image.ndim)
    specs = gradient_specs(options.kernel, len(axes))
    setups = [set_up(replace(options, kernel=spec), image, info, source) for spec in specs]
    kernel = replace(setups[0].kernel, name=f"the gradient magnitude of {options.kernel}")
    combined = Magnitude(tuple(setup.kernel.values for setup in setups))
    return replace(setups[0], kernel=kernel, combined=combined)


def _axes_for(
    kernel: Kernel, asked: tuple[int, ...] | None, space: tuple[int, ...], image: Array | Source
) -> tuple[int, ...]:
    """Return the axes for a kernel file, whose number of axes is fixed."""
    count = len(kernel.shape)
    if asked is None and count == len(space):
        return space
    if asked is None and count < image.ndim:
        last = ",".join(map(str, range(image.ndim - count, image.ndim)))
        raise KernelError(
            f"{kernel.name} has {count} axes, the image {image.ndim}: say which ones to filter, "
            f"for instance --axes {last}"
        )
    return kernel_axes(asked, image.ndim, count)


def _run(
    filter_plan: Plan, image: Array, info: ImageInfo, setup: Setup, extra: dict[str, Any]
) -> tuple[FilteredImage, float]:
    """Run a plan; return the result and the seconds it took."""
    with progress("Filtering", shown=filter_plan.chosen.seconds > LONG) as step:
        start = time.perf_counter()
        missing = {k: v for k, v in extra.items() if k != "rescale"}
        special = setup.combined is not None or extra["rescale"] is not None
        if special or opacity_of(info, image.ndim, filter_plan.problem.axes) is not None:
            done = filter_image(
                image, info, setup.applied, output=filter_plan.problem.out,
                **_as_options(filter_plan), **extra,
            )  # fmt: skip
        else:
            if missing:
                result = filter_valid(filter_plan, setup.kernel, image, missing, step)
            else:
                result = filter_plan(image, progress=step)
            lost = integer_notes(image, setup.kernel.values, result)
            done = FilteredImage(result, replace(info, notes=(*info.notes, *lost)))
        return done, time.perf_counter() - start


def _as_options(filter_plan: Plan) -> dict[str, Any]:
    """Return the options that a plan was made with."""
    request, problem = filter_plan.request, filter_plan.problem
    return {
        "operation": request.operation, "axes": problem.axes, "mode": problem.modes,
        "cval": problem.cval, "origin": request.origins, "tol": request.tol,
        "method": request.method,
    }  # fmt: skip


def _left_out(space: tuple[int, ...], image: Array | Source, info: ImageInfo) -> str:
    """Return in words which axes are not filtered because they are not space."""
    others = [i for i in range(image.ndim) if i not in space]
    return ", ".join(f"axis {i} is {AXIS_NAMES.get(info.axes[i], info.axes[i])}" for i in others)


def _report(
    console: Console, filter_plan: Plan, setup: Setup, out: np.dtype[Any], results: ResultOptions
) -> None:
    """Print which kernel was applied, and a note where negative values were clipped."""
    kernel, problem = setup.kernel, filter_plan.problem
    rescaled = results.rescale is not None
    along = axes_text(setup.axes)
    left_out = f" ({setup.left_out})" if setup.left_out else ""
    mode = "/".join(dict.fromkeys(border.name for border in problem.modes))
    console.print(
        f"{applied_text(kernel)} along {along}{left_out}; border mode {mode}.", soft_wrap=True
    )
    if kernel.spacing:
        console.print(f"Spacing: {kernel.spacing}.", soft_wrap=True)
    signed = setup.combined is None and not rescaled
    if out.kind in "bu" and signed and _is_derivative(kernel.dense):
        console.print(
            f"Note: {out} cannot represent negative values; they were clipped to 0. To "
            "keep them, write .tif or .npy with --dtype float32."
        )


def _report_time(
    console: Console, filter_plan: Plan, seconds: float, start_up: float | None, explain: bool
) -> None:
    """Print the method, its time and, with --explain, the predicted time."""
    text = f"Method: {filter_plan.chosen.title}, {duration(seconds)}"
    if start_up is None:
        text += " including start-up"
    if explain:
        text += f" (predicted {duration(filter_plan.chosen.seconds)})"
    text += "."
    if start_up is not None:
        text += f" Start-up and compilation took {duration(start_up)}."
    console.print(text, soft_wrap=True)


def applied_text(kernel: Kernel) -> str:
    """Describe the kernel and whether it was flipped."""
    size = "x".join(map(str, kernel.shape)) if len(kernel.shape) > 1 else f"{kernel.shape[0]} taps"
    flipped = "flipped" if kernel.operation == "convolve" else "not flipped"
    return f"Filtered with {kernel.name} ({size}, {flipped})"


def _is_derivative(dense: Array) -> bool:
    """Return whether the weights nearly cancel, so that about half of the results are negative."""
    return bool(abs(dense.sum()) < 0.1 * np.abs(dense).sum())


def _described(array: Array) -> str:
    return f"{'x'.join(map(str, array.shape))} {array.dtype}"
