"""Outputs of a region from file to file, at every n-th place, with their spacing and position."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import get_num_threads
from separable.errors import ArgumentError
from separable.files.chunked_io import Source
from separable.files.format_registry import in_parts
from separable.files.image_filter import check_percentiles, rescaled
from separable.files.image_info import ImageInfo
from separable.files.images import read_image, write_image
from separable.files.opening import check_target, open_source
from separable.filtering import missing_options
from separable.masked import MissingOptions, check_fill
from separable.resample.region_plans import RegionPlan
from separable.run import store
from separable.volumes.file_checks import refuse_same
from separable.volumes.grid_runs import GridDone, GridJob, run_in_slabs
from separable.volumes.region_work import RegionWork, prepared_region
from separable.volumes.rescaled_file import middle_path, write_rescaled
from separable.volumes.slab_schedule import read_amount

__all__ = ["RegionFile", "filter_region", "filter_region_file"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class RegionFile:
    """The result of `filter_region_file`.

    Attributes
    ----------
    plans : tuple of RegionPlan
        The plan of each kernel: one, or those of a magnitude.
    info : ImageInfo
        Metadata of the result.
    slabs, resumed : int
        Number of slabs, and of those that an earlier run had completed.
    notes : tuple of str
        What was obeyed, and what the format of the target cannot keep.
    dtype : dtype
        Type of the result.
    """

    plans: tuple[RegionPlan, ...]
    info: ImageInfo
    slabs: int
    resumed: int
    notes: tuple[str, ...]
    dtype: np.dtype[Any]

    @property
    def planned(self) -> RegionPlan:
        """Plan of the only, or the first, kernel."""
        return self.plans[0]


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
    rescale: tuple[float, float] | None = None,
    **options: Any,
) -> RegionFile:
    """Filter a file where a region and a stride say, and write spacing and position of the outputs.

    Parameters
    ----------
    source, target : str or path
        The format follows from the suffix. They must differ.
    kernel : array_like, Factors, str or Magnitude
        A `separable.filter_bank.Magnitude` for the absolute value of a result, or the length of a gradient.
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
    rescale : (low, high), optional
        Percentiles of the result that become the ends of the range of its type (0 .. 1 for floats).
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
        If the memory limit is too small.

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
    if rescale is not None:
        check_percentiles(rescale)
    if in_parts(source, target):
        with open_source(source, image=image) as opened:
            work = prepared_region(opened, target, kernel, given, {**options, **where}, rescale)
            job = GridJob(target, limit, overwrite, resume, progress)
            if rescale is None:
                done = run_in_slabs(opened, work, job)
                work.close()
            else:
                done = _stretched(
                    opened, work, job, rescale, partial(open_source, source, image=image)
                )
        notes = (*work.notes, *done.notes)
        return RegionFile(work.plans, work.info, done.slabs, done.resumed, notes, work.out)
    if limit is not None:
        raise ArgumentError(
            "`memory` limits files that are read and written in parts; here the image is in memory as a "
            "whole. Convert it to .zarr or .npy, or leave out `memory`"
        )
    array, info = read_image(source, image=image)
    whole = Source(
        Path(source), array.shape, array.dtype, None, info, array.__getitem__, lambda: None
    )
    work = prepared_region(whole, target, kernel, given, {**options, **where}, rescale)
    check_target(target, work.shape, work.out, overwrite=overwrite)
    result = work.slab(whole, 0, 0, work.shape[0])
    work.close()
    if rescale is not None:
        result = _in_range(result, work, rescale)
    lost = write_image(target, result, work.info, overwrite=overwrite)
    if progress is not None:
        progress(1.0)
    return RegionFile(work.plans, work.info, 1, 0, (*work.notes, *lost), work.out)


def _stretched(
    source: Source,
    work: RegionWork,
    job: GridJob,
    percentiles: tuple[float, float],
    reopened: Callable[[], Source],
) -> GridDone:
    """Compute floats beside the target, and write them stretched to the range of its type."""
    final = Path(os.path.realpath(job.target))
    check_target(final, work.shape, work.out, overwrite=job.overwrite)
    done = run_in_slabs(source, work, replace(job, target=middle_path(final), overwrite=True))
    work.close()
    made = write_rescaled(
        lambda: replace(reopened(), info=work.info), final, work.out, percentiles, fill=work.fill,
        opacity=work.opacity, overwrite=job.overwrite,
    )  # fmt: skip
    return replace(done, notes=tuple(made.notes))


def _in_range(result: Array, work: RegionWork, percentiles: tuple[float, float]) -> Array:
    """Return floats in memory, stretched to the range of the type of the target, except for the opacity."""
    scaled = rescaled(result, work.out, percentiles, work.opacity)
    if work.opacity is not None:
        at = work.opacity.place
        scaled[at] = result[at]
    if work.out.kind in "iu" or not math.isnan(np.real(work.fill)):
        np.copyto(scaled, check_fill(work.fill, work.out), where=np.isnan(scaled))
    whole = np.empty(scaled.shape, work.out)
    store(np.ascontiguousarray(scaled), whole, get_num_threads())
    return whole
