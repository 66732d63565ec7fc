"""Resample from file to file, in slabs where the formats are read and written in regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from separable.arrays import ImageShape
from separable.borders import Modes, canonical_modes
from separable.errors import ArgumentError
from separable.files.chunked_io import Source
from separable.files.declared_nodata import obey_nodata
from separable.files.format_registry import PathLike, in_parts, locate
from separable.files.grid_change import info_on_grid
from separable.files.image_filter import opacity_of
from separable.files.image_grids import GridChange
from separable.files.image_info import ImageInfo
from separable.files.images import read_image, write_image
from separable.files.opening import check_target, open_source
from separable.kernels.units import POWERS, unit_of
from separable.masked import MissingOptions, Opacity
from separable.request import check_axes, check_dtype, real_per_axis, whole_per_axis
from separable.resample.axis_grids import Grid, check_align, check_antialias, grid_of_shape
from separable.resample.band_matrix import Band
from separable.resample.interpolations import InterpolationName, interpolation_of
from separable.resample.resampled_arrays import BandRequest, Sampling, bands_on, run_request
from separable.resample.resampling_plans import ResamplingPlan
from separable.resample.resizing import factor_grids, spacing_grids
from separable.volumes.checkpoint import request_of_arrays
from separable.volumes.file_checks import refuse_same
from separable.volumes.grid_runs import GridJob, SlabCosts, bytes_per_row, run_in_slabs
from separable.volumes.slab_schedule import read_amount

__all__ = ["FileGrid", "FileResampling", "describe", "resample_file"]


@dataclass(frozen=True)
class FileGrid:
    """A new grid as it is asked for: one of `shape`, `spacing` and `scale`.

    Attributes
    ----------
    shape : sequence of int, optional
    spacing : float or sequence of float, optional
        New distance between samples, in `unit`.
    scale : float or sequence of float, optional
        Factor of the number of samples.
    unit : str
        Unit of `spacing`; empty for that of the file.

    Examples
    --------
    >>> FileGrid(scale=0.5).scale
    0.5
    """

    shape: int | Sequence[int] | None = None
    spacing: float | Sequence[float] | None = None
    scale: float | Sequence[float] | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        """Refuse no grid, and several."""
        given = [n for n in ("shape", "spacing", "scale") if getattr(self, n) is not None]
        if len(given) != 1:
            got = " and ".join(f"`{n}`" for n in given) or "none"
            raise ArgumentError(f"give one of `shape`, `spacing` and `scale`; got {got}")

    def grids(
        self, info: ImageInfo, shape: tuple[int, ...], axes: tuple[int, ...], align: str, path: Any
    ) -> dict[int, Grid]:
        """Return the grid of each axis for an image of a file.

        Raises
        ------
        ArgumentError
            If the values do not fit the axes, or the file has no spacing in a unit that fits.
        """
        count = len(axes)
        if self.shape is not None:
            sizes = whole_per_axis("shape", self.shape, count, 1, 1 << 31)
            return {a: grid_of_shape(shape[a], n, align) for a, n in zip(axes, sizes, strict=True)}
        lengths = {a: shape[a] for a in axes}
        if self.scale is not None:
            factors = real_per_axis("scale", self.scale, count)
            return factor_grids(lengths, factors, align, name="scale")
        after = real_per_axis("spacing", self.spacing, count)
        known = info.spacing if len(info.spacing or ()) == len(shape) else None
        steps = [known[a] if known is not None else None for a in axes]
        if any(s is None for s in steps):
            without = ", ".join(str(a) for a, s in zip(axes, steps, strict=True) if s is None)
            raise ArgumentError(
                f"`spacing` needs the spacing of the file, and {path} has none along axis {without}. Give "
                "`shape` or `scale`, or name other `axes`"
            )
        before = [float(s) * self._factor(info, path) for s in steps if s is not None]
        return spacing_grids(lengths, before, after, align, name="spacing")

    def _factor(self, info: ImageInfo, path: Any) -> float:
        """Return the factor from the unit of a file to that of `spacing`."""
        if not self.unit:
            return 1.0
        own = unit_of(info.unit)
        if own not in POWERS or self.unit not in POWERS:
            raise ArgumentError(
                f"`spacing` is in {self.unit}, and the spacing of {path} has "
                f"{'no unit of length' if own not in POWERS else f'the unit {info.unit}'}. Give it without a "
                "unit"
            )
        return float(f"1e{POWERS[own] - POWERS[self.unit]}")


@dataclass(frozen=True)
class FileResampling:
    """The result of `resample_file`.

    Attributes
    ----------
    before, shape : tuple of int
    dtype : dtype
    info : ImageInfo
        Metadata of the result.
    slabs : int
        Number of parts in which it was computed; 1 if the image was in memory as a whole.
    notes : tuple of str
        What was obeyed, converted and lost, in words.
    resumed : int
        Number of slabs that an earlier run had completed.
    planned : ResamplingPlan, optional
        The passes.
    """

    before: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    info: ImageInfo
    slabs: int
    notes: tuple[str, ...]
    resumed: int = 0
    planned: ResamplingPlan | None = None


def resample_file(
    source: PathLike,
    target: PathLike,
    grid: FileGrid,
    *,
    axes: int | Sequence[int] | None = None,
    interpolation: InterpolationName = "linear",
    antialias: bool | str = True,
    align: str = "edges",
    mode: Modes = "reflect",
    cval: complex = 0.0,
    output: Any = None,
    memory: int | str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: Callable[[float], None] | None = None,
    image: int | None = None,
) -> FileResampling:
    """Resample an image or volume from file to file, with its spacing and position.

    Formats that are read and written in regions are resampled in slabs within a memory limit. Samples
    that the file declares as missing do not count, and the result declares the same value.

    Parameters
    ----------
    source, target : str or path
        The format follows from the suffix. They must differ.
    grid : FileGrid
        The new shape, spacing or scale of the resampled axes.
    axes : int or sequence of int, optional
        Axes to resample. Default is the axes of space.
    interpolation, antialias, align, mode, cval
        As for `separable.resample.resize`.
    output : dtype, optional
        Type of the result. Default is that of the file.
    memory : int or str, optional
        Memory limit of the process, for example "2GiB". Default: 2 GiB more than is in use.
    overwrite : bool
        Whether an existing target, or the partial file of another request, may be replaced.
    resume : bool
        Whether to resume the partial file of an interrupted run; it is kept where a slab is complete.
    progress : callable, optional
        Called with the fraction of the work just done.
    image : int, optional
        Number of the image in a file that holds several, from 1. Default: 1, with a note.

    Returns
    -------
    FileResampling

    Raises
    ------
    FileError
        If a file cannot be read or written, or the partial file belongs to another request.
    ArgumentError
        If the limit is too small, or the grid does not fit the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.arange(8.0).reshape(2, 4))
    ...     done = resample_file(f"{folder}/in.npy", f"{folder}/out.npy", FileGrid(scale=0.5),
    ...                          interpolation="area")
    ...     print(np.load(f"{folder}/out.npy"), done.shape)
    [[2.5 4.5]] (1, 2)
    """
    refuse_same(source, target)
    limit = None if memory is None else read_amount("memory", memory)
    how = Sampling(interpolation_of(interpolation), check_antialias(antialias), (), cval)
    job = _Job(
        grid, axes, how, check_align(align), mode, output, limit, overwrite, resume, progress
    )
    if in_parts(source, target):
        with open_source(source, image=image) as opened:
            return job.in_slabs(opened, target)
    if limit is not None:
        names = [locate(p, v)[2].name for p, v in ((source, "read"), (target, "write"))]
        raise ArgumentError(
            f"`memory` limits files that are read and written in parts; from {names[0]} to {names[1]} an "
            "image is in memory as a whole. Convert it to .zarr or .npy, or leave out `memory`"
        )
    array, info = read_image(source, image=image)
    return job.whole(array, info, source, target)


@dataclass(frozen=True)
class _Job:
    """The arguments of one run."""

    grid: FileGrid
    axes: int | Sequence[int] | None
    how: Sampling
    align: str
    mode: Modes
    output: Any
    limit: int | None
    overwrite: bool
    resume: bool
    progress: Callable[[float], None] | None

    def _prepared(self, shape: Any, dtype: Any, info: ImageInfo, path: Any) -> _Prepared:
        axes = info.space(len(shape)) if self.axes is None else check_axes(self.axes, len(shape))
        if not axes:
            raise ArgumentError(
                f"{path} has no axis of space, its axes are {info.axes}: say which ones to resample with `axes`"
            )
        grids = self.grid.grids(info, shape, axes, self.align, path)
        out = dtype if self.output is None else check_dtype(self.output, "output")
        how = replace(self.how, modes=canonical_modes(self.mode, len(axes)))
        bands = bands_on(grids, how, dtype, out)
        obeyed = obey_nodata({}, info, "the file", dtype, out)
        change = _change(shape, grids)
        moved = info_on_grid(obeyed.info, change)
        notes = tuple(filter(None, [obeyed.note]))
        missing = MissingOptions(**obeyed.missing)
        how = replace(how, align=self.align)
        request = BandRequest(bands, how.cval, missing, None, how.interpolation.votes, how.title)
        return _Prepared(request, change.shape, np.dtype(out), moved, notes)

    def whole(
        self, image: Any, info: ImageInfo, source: PathLike, target: PathLike
    ) -> FileResampling:
        """Resample an image in memory and write it."""
        ready = self._prepared(image.shape, image.dtype, info, source)
        check_target(target, ready.shape, ready.dtype, overwrite=self.overwrite)
        opacity = opacity_of(info, image.ndim, tuple(ready.bands.bands))
        if opacity is None or ready.bands.votes:
            result = run_request(image, ready.bands, ready.dtype)
        else:
            result = _with_opacity(image, opacity, ready)
        lost = write_image(target, result, ready.info, overwrite=self.overwrite)
        if self.progress:
            self.progress(1.0)
        notes = (*ready.info.notes, *ready.notes, *lost)
        return FileResampling(
            image.shape, ready.shape, ready.dtype, ready.info, 1, notes, 0, ready.planned(image)
        )

    def in_slabs(self, source: Source, target: PathLike) -> FileResampling:
        """Resample a file in slabs along its slowest axis."""
        ready = self._prepared(source.shape, source.dtype, source.info, source.path)
        opacity = opacity_of(source.info, source.ndim, tuple(ready.bands.bands))
        if opacity is not None and not ready.bands.votes:
            check_target(target, ready.shape, ready.dtype, overwrite=self.overwrite)
            image = source.read((slice(None),) * source.ndim)
            return self.whole(image, source.info, source.path, target)
        job = GridJob(target, self.limit, self.overwrite, self.resume, self.progress)
        done = run_in_slabs(source, ready, job)
        notes = (*ready.info.notes, *ready.notes, *done.notes)
        return FileResampling(
            source.shape,
            ready.shape,
            ready.dtype,
            ready.info,
            done.slabs,
            notes,
            done.resumed,
            ready.planned(source),
        )


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Bands and metadata for the image of a file: a `GridWork`."""

    bands: BandRequest
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    info: ImageInfo
    notes: tuple[str, ...]

    def planned(self, image: Any) -> ResamplingPlan:
        """Return the plan for an image, or a file, of this shape and type."""
        shape = ImageShape(tuple(image.shape), np.dtype(image.dtype))
        return ResamplingPlan(shape, self.bands, self.dtype)

    def request(self, source: Source) -> dict[str, str]:
        """Return everything that the result depends on, as named texts."""
        arrays = [
            array
            for _, band in sorted(self.bands.bands.items())
            for array in (band.starts, band.weights, band.samples)
        ]
        return request_of_arrays(
            source, arrays, axes=tuple(sorted(self.bands.bands)), shape=self.shape, type=self.dtype,
            how=self.bands.title, cval=self.bands.cval, missing=self.bands.missing,
        )  # fmt: skip

    def costs(self, source: Source, axis: int) -> SlabCosts:
        """Return the memory of slabs along an axis."""
        band = self.bands.bands.get(axis)
        row_in = bytes_per_row(source.shape, axis, source.dtype)
        row_out = bytes_per_row(self.shape, axis, self.dtype)
        if self.bands.missing != MissingOptions():  # masks, and sums of valid samples
            row_in, row_out = 4 * row_in, 8 * row_out
        if band is None:
            return SlabCosts(row_in, row_out)
        return SlabCosts(row_in, row_out, band.positions_per_output, band.taps)

    def slab(self, source: Source, axis: int, start: int, stop: int) -> Any:
        """Return some rows of the result."""
        region = [slice(None)] * source.ndim
        bands: dict[int, Band] = dict(self.bands.bands)
        if axis in bands:
            part = bands[axis].part(start, stop)
            first, last = part.needs(0, part.size)
            bands[axis] = part.of_block(first, last)
            region[axis] = slice(first, last)
        else:
            region[axis] = slice(start, stop)
        image = source.read(tuple(region))
        return run_request(image, replace(self.bands, bands=bands), self.dtype)


def _change(shape: tuple[int, ...], grids: dict[int, Grid]) -> GridChange:
    sizes = tuple(grids[a].size if a in grids else n for a, n in enumerate(shape))
    steps = tuple(float(grids[a].step) if a in grids else 1.0 for a in range(len(shape)))
    firsts = tuple(float(grids[a].first) if a in grids else 0.0 for a in range(len(shape)))
    return GridChange(tuple(shape), sizes, steps, firsts)


def _with_opacity(image: Any, opacity: Opacity, ready: _Prepared) -> Any:
    """Resample colours weighted by their opacity, and the opacity itself."""
    work = np.float32 if image.dtype.itemsize <= 2 else np.float64
    at = (slice(None),) * opacity.axis + (slice(opacity.index, opacity.index + 1),)
    alpha = image[at].astype(work)
    weighted = image.astype(work) if opacity.premultiplied else image * alpha
    share = run_request(alpha, ready.bands, np.dtype(work))
    sums = run_request(weighted, ready.bands, np.dtype(work))
    with np.errstate(invalid="ignore", divide="ignore"):
        colours = sums if opacity.premultiplied else np.where(share > 0, sums / share, 0)
    colours[at] = share
    if ready.dtype.kind in "iu":
        ends = np.iinfo(ready.dtype)
        colours = np.clip(np.rint(colours), ends.min, ends.max)
    return colours.astype(ready.dtype)


def describe(done: FileResampling) -> str:
    """Return the shapes and the spacing of a result in words."""
    sizes = " -> ".join("x".join(map(str, shape)) for shape in (done.before, done.shape))
    if done.info.spacing is None:
        return sizes
    steps = "x".join("?" if s is None else f"{s:.6g}" for s in done.info.spacing)
    return f"{sizes}; spacing {steps}{done.info.unit}"
