"""`separable features`: edges, vessels, blobs and textures of an image or volume, one file per result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from separable.borders import canonical_modes
from separable.cli.bank_command import make_folder, result_paths
from separable.cli.console import StoppedError, enough_memory, output
from separable.cli.image_options import ImageNumber
from separable.cli.missing_options import (
    MissingOptions,
    check_fill_used,
    obey_file,
    read_missing,
)
from separable.cli.option_groups import with_option_groups
from separable.cli.options import (
    Axes,
    Cval,
    Mode,
    SpacingText,
    file_spacing,
    integers,
    modes,
    read_spacing,
)
from separable.cli.volume_options import Levels, Memory, PartText, bytes_done
from separable.errors import ArgumentError, KernelError
from separable.features.feature_base import Feature, Grid
from separable.features.feature_blocks import field_names
from separable.features.feature_files import FeatureRun
from separable.features.feature_plans import plan_of_features
from separable.features.feature_run import FeatureOptions, compute
from separable.features.feature_values import (
    Coherence,
    GaussianSmoothing,
    GradientMagnitude,
    HessianEigenvalues,
    LocalMean,
    LocalVariance,
    StructureTensorEigenvalues,
)
from separable.features.ridge_values import BlobResponse, Frangi, Meijering, Sato
from separable.files import ImageInfo, check_target, read_image, write_image
from separable.files.format_registry import in_parts, locate
from separable.files.image_filter import opacity_of
from separable.files.opening import open_source
from separable.filter_bank.magnitude import wide_type
from separable.kernels.units import POWERS, SAMPLES, Lengths, read_lengths
from separable.plan.plan_text import axes_text, duration
from separable.request import check_axes

__all__ = ["FeatureTexts", "features_command"]

ONCE = "everything is read once"
TWICE = "everything is read twice, because a maximum over the volume comes first"
ALPHA = (
    "Note: alpha is not taken into account: features of transparent pixels are those of their hidden colours, "
    "and alpha itself has features too."
)


def _scales(help: str) -> Any:
    return typer.Option(help=help, show_default=False, metavar="SCALES")


@dataclass(frozen=True)
class FeatureTexts:
    """The features as they were typed: scales such as ``1mm,2mm``."""

    frangi: Annotated[
        str | None, _scales("Frangi's vesselness, the largest of several scales: 1mm,2mm.")
    ] = None
    sato: Annotated[str | None, _scales("Sato's tubeness, the largest of several scales.")] = None
    meijering: Annotated[
        str | None, _scales("Meijering's neuriteness, the largest of several scales.")
    ] = None
    hessian: Annotated[
        str | None, _scales("Eigenvalues of the Hessian, the largest first, for each scale.")
    ] = None
    structure_tensor: Annotated[
        str | None,
        _scales("Eigenvalues of the structure tensor: derivatives of each scale, smoothed by it."),
    ] = None
    coherence: Annotated[
        str | None, _scales("Coherence of the structure tensor, 0 to 1, for each scale.")
    ] = None
    gradient: Annotated[str | None, _scales("Length of the gradient, for each scale.")] = None
    gaussian: Annotated[str | None, _scales("Smoothed image, for each scale.")] = None
    log: Annotated[
        str | None,
        _scales("Response of the Laplacian of Gaussian to bright blobs, for each scale."),
    ] = None
    dog: Annotated[
        str | None, _scales("The same of the difference of Gaussians, for each scale.")
    ] = None
    doh: Annotated[
        str | None, _scales("The same of the determinant of the Hessian, for each scale.")
    ] = None
    mean: Annotated[
        str | None, _scales("Mean of the neighbours, weighted with a Gaussian of each scale.")
    ] = None
    variance: Annotated[
        str | None, _scales("Variance of the neighbours, weighted with a Gaussian of each scale.")
    ] = None

    def given(self) -> dict[str, str]:
        """Return the features that were asked for."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: text for name, text in every.items() if text is not None}


RIDGES: dict[str, Callable[..., Feature]] = {"frangi": Frangi, "sato": Sato, "meijering": Meijering}
SINGLE: dict[str, Callable[[Any], Feature]] = {
    "hessian": HessianEigenvalues,
    "structure_tensor": lambda s: StructureTensorEigenvalues(s, s),
    "coherence": lambda s: Coherence(s, s),
    "gradient": GradientMagnitude,
    "gaussian": GaussianSmoothing,
    "log": lambda s: BlobResponse(s, "log"),
    "dog": lambda s: BlobResponse(s, "dog"),
    "doh": lambda s: BlobResponse(s, "doh"),
    "mean": lambda s: LocalMean(None, s),
    "variance": lambda s: LocalVariance(None, s),
}


@with_option_groups
def features_command(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", readable=False, help="Input file, as for filter.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the results; created if needed.")
    ],
    texts: FeatureTexts,
    missing_options: MissingOptions,
    bright: Annotated[
        bool, typer.Option("--bright", help="Find bright ridges. Default: dark ones.")
    ] = False,
    axes: Axes = None,
    mode: Mode = "reflect",
    cval: Cval = 0.0,
    spacing: SpacingText = None,
    memory: Memory = None,
    part: PartText = None,
    number: ImageNumber = None,
    levels: Levels = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            help="Suffix of the results, for example .npy. Default: that of the input.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the sweeps and their multiplications.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing results.")] = False,
) -> None:
    """Compute edges, vessels, blobs and textures of an image or volume.

    Each result is FOLDER/INPUT_FEATURE with the suffix of the input. Files that can be read in parts
    are read once for all features (twice for --meijering, and for --frangi), in slabs within the
    memory limit; an interrupted run resumes when the command is repeated.
    """
    console = output()
    asked = texts.given()
    if not asked:
        raise ArgumentError(
            "say which features to compute, for instance --frangi 1mm,2mm or --hessian 1.5mm"
        )
    given = missing_options.given()
    check_fill_used(given)
    image: Any = None
    if locate(source, "read")[2].open is None:
        image, info = read_image(source, image=number)
        ndim, shape, dtype = image.ndim, image.shape, image.dtype
    else:
        with open_source(source, image=number) as opened:
            info, ndim = opened.info, opened.ndim
            shape, dtype = opened.shape, opened.dtype
    job = _planned(info, ndim, source, asked, Words(bright, axes, spacing))
    if opacity_of(info, ndim, job.axes) is not None:
        console.print(ALPHA, soft_wrap=True)
    names = field_names(tuple(job.features.items()), len(job.axes))
    paths = result_paths(source, folder, list(names), suffix)
    make_folder(folder)
    if suffix is None:
        paths = _held(console, paths, (source, folder), (shape, dtype))
    options: dict[str, Any] = {"mode": modes(mode), "cval": cval}
    if explain:
        borders = canonical_modes(options["mode"], len(job.axes))
        planned = plan_of_features(job.features, shape, dtype, Grid(job.spacing), borders)
        console.print(str(planned), soft_wrap=True)
        console.print()
    if all(in_parts(source, path) for path in paths.values()):
        _in_slabs(console, job, paths, {
            **options, **given, "memory": memory, "overwrite": force, "part": part, "image": number,
            "levels": levels,
        })  # fmt: skip
    else:
        asked_for = [n for n, v in (("--part", part), ("--levels", levels)) if v is not None]
        if asked_for:
            raise ArgumentError(
                f"`{asked_for[0]}` needs files that are read and written in parts: write .zarr"
            )
        if image is None:
            image, info = read_image(source, image=number)
        # What the file declares as missing is obeyed, as in slabs.
        kind = np.result_type(image.dtype, np.float32)
        first = next(iter(paths.values()))
        obeyed = obey_file(read_missing(given), image, info, (source, first), kind)
        common = FeatureOptions.of(
            options["mode"], cval, {**obeyed.missing, "axes": job.axes, "spacing": job.spacing}
        )
        for note in (*info.notes, *filter(None, [obeyed.note])):
            console.print(f"Note: {note}.", soft_wrap=True)
        _in_memory(console, job, paths, (image, obeyed.info), common, force)


@dataclass(frozen=True)
class _Job:
    """The features of one file, and its spacing."""

    source: Path
    features: dict[str, Feature]
    axes: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str


@dataclass(frozen=True)
class Words:
    """Options as they were typed."""

    bright: bool
    axes: str | None
    spacing: str | None


def _held(
    console: Console,
    paths: dict[str, Path],
    files: tuple[Path, Path],
    image: tuple[tuple[int, ...], np.dtype[Any]],
) -> dict[str, Path]:
    """Return paths of TIFF files where the format of the input is one of pictures that holds no floats."""
    first = next(iter(paths.values()))
    format, kind = locate(first, "write")[2], wide_type(image[1])
    if not format.refuse(image[0], kind) or format.refuse(image[0], np.dtype(np.uint8)):
        return paths
    console.print(
        f"Note: {format.name} holds no {kind.name}, so the results are TIFF files; --suffix chooses another format.",
        soft_wrap=True,
    )
    return result_paths(*files, list(paths), ".tif")


def _planned(info: ImageInfo, ndim: int, source: Path, asked: dict[str, str], words: Words) -> _Job:
    """Return the features with their scales in the unit of the spacing."""
    along = info.space(ndim)
    if words.axes is not None:
        along = tuple(sorted(check_axes(integers("--axes", words.axes, ","), ndim)))
    if not along:
        raise KernelError(
            f"{source} has no spatial axis, its axes are {info.axes}: say which ones to use, for "
            "instance --axes 0"
        )
    known = read_spacing(words.spacing) or file_spacing(info, source)
    steps = (1.0,) * len(along) if known is None else known.along(along, ndim)
    unit = "" if known is None else known.unit
    features: dict[str, Feature] = {}
    for name, text in asked.items():
        items = list(dict.fromkeys(item.strip() for item in text.split(",")))
        scales = [_length(name, item, steps, unit) for item in items]
        if name in RIDGES:
            made = {f"{name}_{'_'.join(items)}": RIDGES[name](tuple(scales), not words.bright)}
        else:
            made = {f"{name}_{w}": SINGLE[name](s) for s, w in zip(scales, items, strict=True)}
        for feature in made.values():
            _check_scales(name.replace("_", "-"), feature, Grid(steps))
        features |= made
    return _Job(source, features, along, steps, unit)


def _check_scales(name: str, feature: Feature, grid: Grid) -> None:
    """Refuse scales that are too small for the samples; the message names the option."""
    if not feature.least_axes <= grid.ndim <= feature.most_axes:
        return  # reported with the number of axes
    try:
        feature.steps(grid, (1.0,) * len(feature.reductions(grid)))
    except ArgumentError as error:
        text = str(error).replace("`sigma`", f"`--{name}`").partition(". Take a larger")[0]
        raise ArgumentError(f"{text}. Take a larger scale") from None


def _length(name: str, text: str, steps: tuple[float, ...], unit: str) -> Any:
    """Return a scale in the unit of the spacing: a number, or one per axis."""
    option = f"--{name.replace('_', '-')}"
    try:
        found: Lengths = read_lengths(text)
        values = found.within(unit)
    except ValueError:
        raise ArgumentError(f"`{option}` must be scales such as 1mm,2mm; got {text!r}") from None
    every = values if isinstance(values, tuple) else (values,)
    if len(every) not in (1, len(steps)):
        raise ArgumentError(
            f"`{option}` must have one length, or one for each of {len(steps)} axes; got {text!r}"
        )
    if not all(np.isfinite(v) and v > 0 for v in every):
        raise ArgumentError(f"`{option}` must be scales > 0; got {text!r}")
    if found.units[0] in POWERS and unit not in POWERS:
        raise ArgumentError(
            f"`{option}` {text} is in {found.units[0]}, and the spacing of the image is not known in a "
            "unit of length. Give --spacing 3x1x1mm, or write scales in px"
        )
    if found.units[0] == SAMPLES:
        wide = np.broadcast_to(every, (len(steps),)) * np.asarray(steps)
        return float(wide[0]) if len(set(wide.tolist())) == 1 else tuple(wide.tolist())
    return values


def _described(job: _Job) -> str:
    at = "x".join(f"{step:.6g}" for step in job.spacing) + job.unit
    where = f", samples {at} apart" if job.unit or set(job.spacing) != {1.0} else ""
    names = ", ".join(job.features)
    return f"Features along {axes_text(job.axes)}{where}: {names}."


def _in_slabs(console: Console, job: _Job, paths: dict[str, Path], options: dict[str, Any]) -> None:
    """Compute from file to files within a memory limit."""
    with (
        enough_memory(job.source),
        FeatureRun(
            job.source, paths, job.features, axes=job.axes, spacing=job.spacing, **options
        ) as run,
    ):
        console.print(_described(job), soft_wrap=True)
        schedule = str(run.schedule)
        if run.filter.needs_maxima:
            schedule = schedule.replace(ONCE, TWICE)
        console.print(schedule, soft_wrap=True)
        for note in (*run.notes, *run.target.targets[0].notes):
            console.print(f"Note: {note}.", soft_wrap=True)
        if run.resumed:
            console.print(f"Resuming: {run.resumed} of {run.schedule.slabs} slabs are done.")
        start = time.perf_counter()
        try:
            with bytes_done(run.source.nbytes) as step:
                run(step)
        except KeyboardInterrupt:
            raise StoppedError(
                "interrupted; what was written is kept in partial files, and the same command resumes "
                "them"
            ) from None
        console.print(f"Computed in {duration(time.perf_counter() - start)}.")
        if not run.finished:
            console.print(f"Part {options['part']} is done; the last part completes the files.")
            return
        for target in run.target.targets:
            shape = "x".join(map(str, target.shape))
            console.print(f"Wrote {target.path}: {shape} {target.dtype}.", soft_wrap=True)


def _in_memory(
    console: Console,
    job: _Job,
    paths: dict[str, Path],
    read: tuple[Any, ImageInfo],
    options: FeatureOptions,
    force: bool,
) -> None:
    """Compute the features of a file that is read and written whole."""
    image, info = read
    with enough_memory(job.source):
        kind = np.result_type(image.dtype, np.float32)
        for path in paths.values():
            check_target(path, image.shape, kind, overwrite=force)
        console.print(_described(job), soft_wrap=True)
        for name, feature in job.features.items():
            own = field_names([(name, feature)], len(job.axes))
            for label, values in zip(own, compute(feature, image, options), strict=True):
                for note in write_image(paths[label], values, info, overwrite=force):
                    console.print(f"Note: {note}.", soft_wrap=True)
                shape = "x".join(map(str, values.shape))
                console.print(f"Wrote {paths[label]}: {shape} {values.dtype}.", soft_wrap=True)
