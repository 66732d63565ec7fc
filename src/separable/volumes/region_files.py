"""Outputs of a region from file to file, at every n-th place, with their spacing and position."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import runs_of
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.files.chunked_io import Source
from separable.files.format_registry import in_parts
from separable.files.grid_change import info_on_grid
from separable.files.image_filter import opacity_of
from separable.files.image_grids import GridChange
from separable.files.image_info import ImageInfo
from separable.files.images import read_image, write_image
from separable.files.opening import check_target, open_source
from separable.filtering import missing_options
from separable.masked import MissingOptions
from separable.request import kernel_axes
from separable.resample.region_blocks import region_block, run_part
from separable.resample.region_plans import RegionPlan, plan_region
from separable.volumes.checkpoint import request_of_arrays
from separable.volumes.file_checks import refuse_same
from separable.volumes.file_filters import kernel_of, obeyed_options
from separable.volumes.grid_runs import GridJob, SlabCosts, bytes_per_row, run_in_slabs
from separable.volumes.missing_samples import as_valid, mask_reader
from separable.volumes.slab_schedule import read_amount

__all__ = ["RegionFile", "filter_region", "filter_region_file"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]
GAPS = 2  # a range of samples is read whole if it has at most so many times the samples that are needed


@dataclass(frozen=True)
class RegionFile:
    """The result of `filter_region_file`.

    Attributes
    ----------
    planned : RegionPlan
    info : ImageInfo
        Metadata of the result.
    slabs, resumed : int
        Number of slabs, and of those that an earlier run had completed.
    notes : tuple of str
        What was obeyed, and what the format of the target cannot keep.
    """

    planned: RegionPlan
    info: ImageInfo
    slabs: int
    resumed: int
    notes: tuple[str, ...]


def filter_region(
    image: PathLike,
    kernel: Any,
    output: Any,
    *,
    missing: MissingOptions | None = None,
    **options: Any,
) -> PathLike:
    """Filter a file where a region and a stride say, for `separable.convolve`; return `output`.

    Raises
    ------
    ArgumentError
        If `output` is not a path.
    SeparableError
        As `filter_region_file`.
    """
    if not isinstance(output, (str, os.PathLike)):
        raise ArgumentError(
            f"`output` must be the path of the file to write because the image is a file ({image}); got "
            f"{output!r}"
        )
    given = {} if missing is None else missing_options(*missing)
    filter_region_file(image, output, kernel, **given, **options)
    return output


def filter_region_file(
    source: PathLike,
    target: PathLike,
    kernel: Any,
    *,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
    memory: int | str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: Callable[[float], None] | None = None,
    image: int | None = None,
    **options: Any,
) -> RegionFile:
    """Filter a file where a region and a stride say, and write spacing and position of the outputs.

    Parameters
    ----------
    source, target : str or path
        The format follows from the suffix. They must differ.
    kernel : array_like, Factors or str
    output_region, stride
        As for `separable.convolve`.
    memory : int or str, optional
        Memory limit of the process, for formats that are read and written in regions.
    overwrite : bool
        Whether an existing target, or the partial file of another request, may be replaced.
    resume : bool
        Whether to resume the partial file of an interrupted run.
    progress : callable, optional
        Called with the fraction of the work just done.
    image : int, optional
        Number of the image in a file that holds several, from 1. Default: 1, with a note.
    **options
        Options of `separable.plan`, and `mask`, `nan`, `fill` and `nodata`, where the mask may be a file.

    Returns
    -------
    RegionFile

    Raises
    ------
    FileError
        If a file cannot be read or written.
    ArgumentError
        If the memory limit is too small, or the file has an opacity.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.arange(12.0).reshape(3, 4))
    ...     done = filter_region_file(f"{folder}/in.npy", f"{folder}/out.npy", np.ones((3, 3)) / 9,
    ...                               output_region="valid")
    ...     print(np.load(f"{folder}/out.npy"))
    [[5. 6.]]
    """
    refuse_same(source, target)
    where = {"output_region": output_region, "stride": stride}
    given = missing_options(*(options.pop(n, d) for n, d in MissingOptions()._asdict().items()))
    limit = None if memory is None else read_amount("memory", memory)
    if in_parts(source, target):
        with open_source(source, image=image) as opened:
            work = _prepared(opened, target, kernel, given, {**options, **where})
            done = run_in_slabs(opened, work, GridJob(target, limit, overwrite, resume, progress))
            work.close()
        notes = (*work.notes, *done.notes)
        return RegionFile(work.planned, work.info, done.slabs, done.resumed, notes)
    if limit is not None:
        raise ArgumentError(
            "`memory` limits files that are read and written in parts; here the image is in memory as a "
            "whole. Convert it to .zarr or .npy, or leave out `memory`"
        )
    array, info = read_image(source, image=image)
    whole = Source(
        Path(source), array.shape, array.dtype, None, info, array.__getitem__, lambda: None
    )
    work = _prepared(whole, target, kernel, given, {**options, **where})
    check_target(target, work.shape, work.dtype, overwrite=overwrite)
    result = work.slab(whole, 0, 0, work.shape[0])
    work.close()
    lost = write_image(target, result, work.info, overwrite=overwrite)
    if progress is not None:
        progress(1.0)
    return RegionFile(work.planned, work.info, 1, 0, (*work.notes, *lost))


def _prepared(
    source: Source, target: PathLike, kernel: Any, missing: dict[str, Any], options: dict[str, Any]
) -> _RegionWork:
    """Plan the outputs of a file, and the metadata of the result."""
    kernel = kernel_of(kernel, source, options)
    count = len(kernel.shape) if isinstance(kernel, Factors) else np.ndim(kernel)
    space = source.info.space(source.ndim)
    asked = options.pop("axes", None)
    axes = kernel_axes(
        space if asked is None and len(space) == count else asked, source.ndim, count
    )
    plain = {k: v for k, v in options.items() if k not in ("output_region", "stride")}
    obeyed, info, note = obeyed_options(kernel, source, target, missing, {**plain, "axes": axes})
    if opacity_of(source.info, source.ndim, axes) is not None:
        raise ArgumentError(
            f"{source.path} has an opacity, which `output_region` and `stride` do not take. Filter the whole "
            "image, and resample it with `separable resample`"
        )
    planned = plan_region(kernel, source.shape, source.dtype, axes=axes, **options)
    steps, firsts = [1.0] * source.ndim, [0.0] * source.ndim
    for one in planned.axes:
        steps[one.axis], firsts[one.axis] = float(one.stride), float(one.first)
    change = GridChange(source.shape, planned.shape, tuple(steps), tuple(firsts))
    moved = info_on_grid(info, change)
    mask = obeyed.pop("mask", None)
    marks = MissingOptions(**obeyed) if obeyed.keys() - {"fill"} or mask is not None else None
    reader = None if mask is None else mask_reader(mask, source.shape, axes)
    notes = (*moved.notes, *filter(None, [note]))
    return _RegionWork(planned, kernel, marks, moved, notes, reader, str(mask or ""))


@dataclass(frozen=True, eq=False)
class _RegionWork:
    """Outputs of a region of a file: a `GridWork`."""

    planned: RegionPlan
    kernel: Any
    missing: MissingOptions | None
    info: ImageInfo
    notes: tuple[str, ...]
    mask: Any = field(repr=False, default=None)
    mask_name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.planned.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result."""
        return self.planned.whole.problem.out

    def request(self, source: Source) -> dict[str, str]:
        """Return everything that the result depends on, as named texts."""
        problem = self.planned.whole.problem
        kernel = self.kernel
        arrays = (
            [v for t in kernel.terms for v in t]
            if isinstance(kernel, Factors)
            else [np.asarray(kernel)]
        )
        return request_of_arrays(
            source, arrays, operation=self.planned.whole.request.operation, axes=problem.axes,
            mode=",".join(border.name for border in problem.modes), cval=problem.cval,
            origin=problem.lefts, region=self.planned.region,
            stride=tuple(one.stride for one in self.planned.axes), type=self.dtype,
            missing=self.missing, mask=self.mask_name,
        )  # fmt: skip

    def costs(self, source: Source, axis: int) -> SlabCosts:
        """Return the memory of slabs along an axis."""
        problem = self.planned.whole.problem
        row_in = bytes_per_row(source.shape, axis, source.dtype)
        row_out = bytes_per_row(self.shape, axis, self.dtype)
        row_out += 2 * bytes_per_row(self.shape, axis, problem.work)
        if self.missing is not None:  # cleaned samples, masks, and up to four sums
            row_in, row_out = 4 * row_in, 3 * row_out
        one = next((one for one in self.planned.axes if one.axis == axis), None)
        if one is None:
            return SlabCosts(row_in, row_out)
        taps = problem.kernel_shape[self.planned.axes.index(one)]
        return SlabCosts(row_in, row_out, float(one.stride), taps)

    def slab(self, source: Source, axis: int, start: int, stop: int) -> Array:
        """Return some rows of the result."""
        region = [slice(0, n) for n in self.shape]
        region[axis] = slice(start, stop)
        block = region_block(self.planned, region)
        samples = _read(source.read, block.index)
        missing = self.missing
        if self.mask is not None and missing is not None:
            values = _read(self.mask[0], block.index)
            valid = np.broadcast_to(as_valid(values), samples.shape)
            missing = missing._replace(mask=valid)
        return run_part(
            self.planned, samples, None, kernel=self.kernel, missing=missing, block=block
        )  # fmt: skip

    def close(self) -> None:
        """Close the file of the mask."""
        if self.mask is not None:
            self.mask[1]()


def _read(read: Callable[[Any], Array], index: Sequence[Any]) -> Array:
    """Read the samples of a block: ranges of samples, joined; an axis of one sample of a mask stays so."""
    runs: list[list[tuple[int, int]]] = []
    taken: list[Array | None] = []
    for part in index:
        if isinstance(part, slice):
            runs.append([(part.start, part.stop)])
            taken.append(None)
            continue
        first, last = int(part[0]), int(part[-1]) + 1
        if last - first <= GAPS * len(part):
            runs.append([(first, last)])
            taken.append(part - first)
        else:
            runs.append(runs_of(part))
            taken.append(None)
    found = _joined(read, runs, [])
    for axis, places in enumerate(taken):
        if places is not None and found.shape[axis] > 1:
            found = np.take(found, places, axis)
    return found


def _joined(
    read: Callable[[Any], Array], runs: Sequence[Sequence[tuple[int, int]]], before: list[slice]
) -> Array:
    """Read all combinations of ranges along the axes, and join them."""
    axis = len(before)
    if axis == len(runs):
        return read(tuple(before))
    parts = [_joined(read, runs, [*before, slice(a, b)]) for a, b in runs[axis]]
    if len(parts) == 1 or (parts[0].shape[axis] == 1 and all(b - a > 1 for a, b in runs[axis])):
        return parts[0]
    return np.concatenate(parts, axis)
