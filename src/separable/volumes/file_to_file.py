"""`filter`: one call from file to file, within a memory limit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from separable.factors import Factors
from separable.files.several_images import ImageChoice, chosen_images
from separable.filter_bank.magnitude import Magnitude
from separable.filtering import NoData
from separable.plan import Plan
from separable.volumes.filter_file import Run
from separable.volumes.joined_images import filter_images
from separable.volumes.slab_schedule import Schedule

__all__ = ["filter"]

PathLike: TypeAlias = str | os.PathLike[str]


def filter(
    source: PathLike,
    target: PathLike,
    kernel: ArrayLike | Factors | Plan | Magnitude,
    *,
    memory: int | str | None = None,
    chunks: str | Sequence[int] = "auto",
    resume: bool = True,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
    client: Any = None,
    mask: PathLike | ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: NoData = "auto",
    rescale: tuple[float, float] | None = None,
    image: ImageChoice = "auto",
    part: str | tuple[int, int] | None = None,
    levels: int | None = None,
    **options: Any,
) -> Schedule:
    """Filter a volume from file to file within a memory limit.

    The result is bit-identical to in-memory filtering by the same method. It is written as
    ``NAME.partial`` and takes its name when it is complete. If a run is interrupted, the same call
    resumes it after the last slab that was flushed to the disk.

    Parameters
    ----------
    source : str or path
        Zarr, NPY, HDF5, NIfTI, TIFF or ENVI.
    target : str or path
        Output file; the format follows from the suffix. It must not be the source.
    kernel : array_like, Factors, Plan or Magnitude
        Kernel with one axis per filtered axis. A plan contains all other options; a
        `separable.filter_bank.Magnitude` gives absolute values or the length of a gradient.
    memory : int or str, optional
        Memory limit of the whole process, for example "2GiB". Default: 2 GiB more than is already
        in use.
    chunks : "auto" or sequence of int
        Chunk sizes of the target; "auto" uses those of the source if it has any.
    resume : bool
        Whether to resume the partial file of an earlier run.
    overwrite : bool
        Whether an existing target, or the partial file of another request, may be replaced.
    progress : callable, optional
        Called with the fraction of the work just done.
    client : distributed.Client, optional
        Client of a Dask cluster to run on. All workers must see the files under the same paths;
        the target must be a Zarr store, and `memory` limits each worker.
    mask : path or array_like, optional
        File or array that is nonzero where the volume is valid; with the shape of the volume or of
        the filtered axes. Missing samples are ignored (`separable.masked`).
    nan : str
        "ignore" treats NaN as missing; "propagate" spreads it.
    fill : number
        Result where the kernel covers no valid sample. Default: the declared missing value.
    nodata : "auto", "none", number or sequence of numbers
        Value of samples that are missing. "auto" takes what the file declares: a data ignore
        value, `_FillValue`, NaN in NIfTI ... The result declares the same.
    rescale : (low, high), optional
        Percentiles of the result that become the ends of the range of its type (0 .. 1 for floats).
        The result is first written as floats beside the target.
    image : int, "all" or "auto"
        Number of the image in a file that holds several, from 1. "auto" takes all where the target
        holds several (TIFF), else the first. The result of each is first written beside the target.
    part : str or (int, int), optional
        Part of the slabs to compute, such as "3/64": independent processes share one run, each with
        its own number, and the one that ends last completes the target, which must be a Zarr store.
    levels : int, optional
        Number of levels of an OME-Zarr target, each the block means of the one before.
    **options
        Options of `plan`: axes, mode, cval, origin, output (dtype of the result), tol, method,
        operation, threads. Methods whose results depend on how the volume is cut are not used.

    Returns
    -------
    Schedule
        The slabs that were used, for the last image if there are several; prints as text.

    Raises
    ------
    FileError
        If a file cannot be read or written. The partial file is kept and can be resumed.
    ArgumentError
        If `memory` is too small; the message contains the smallest limit that works.
    ClusterError
        If the cluster has no workers, or they keep dying. The partial file is kept.
    SeparableError
        Other subclasses, as for `plan`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.ones((30, 40, 50), "float32"))
    ...     done = filter(f"{folder}/in.npy", f"{folder}/out.npy", np.ones((8, 8, 8)) / 512)
    ...     print(np.load(f"{folder}/out.npy").mean(), len(done.stages))
    1.0 1
    """
    given = {"memory": memory, "chunks": chunks, "resume": resume, "client": client}
    given |= {"mask": mask, "nan": nan, "fill": fill, "part": part, "levels": levels}
    given |= {"overwrite": overwrite, "rescale": rescale, "nodata": nodata}
    numbers = chosen_images(source, target, image, by_parts=True)
    if len(numbers) > 1:
        return filter_images(source, target, numbers, kernel, progress=progress, **given, **options)
    given["image"] = numbers[0]
    with Run(source, target, kernel, **given, **options) as run:
        run(progress)
        return run.schedule
