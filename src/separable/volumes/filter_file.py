"""Filter a volume from file to file within a memory limit; interrupted runs can be resumed."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from separable.engine import METHODS
from separable.engine.result_memory import release
from separable.errors import ArgumentError, FileError, KernelError
from separable.factors import Factors
from separable.files.chunked_io import Source, Target, remove
from separable.files.declared_nodata import obey_nodata
from separable.files.format_registry import locate, outer_file
from separable.files.image_info import ImageInfo
from separable.files.opening import check_target, create_target, open_source
from separable.filtering import NoData, missing_options
from separable.plan import Plan, plan
from separable.run import run as run_method
from separable.system import resident_memory
from separable.volumes.checkpoint import Journal, open_journal, request_of, stage_path
from separable.volumes.cluster import check_client, run_stage_on, schedule_for
from separable.volumes.halo import BlockFilter, block_filter, chunkwise
from separable.volumes.missing_samples import is_missing, masked, valid_filter
from separable.volumes.slab_pipeline import run_stage
from separable.volumes.slab_schedule import Schedule, amount, make_schedule, read_amount, restored

__all__ = ["Run", "filter"]

PathLike: TypeAlias = str | os.PathLike[str]
MOST_CHUNKS = 1 << 20  # largest number of chunks along an axis; planning visits all of them
SPARSE = 1000  # how many times larger than the free disk space a result may be claimed to be
USUAL = 2 << 30  # default memory limit in bytes, beyond the memory already in use


def filter(
    source: PathLike,
    target: PathLike,
    kernel: ArrayLike | Factors | Plan,
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
    kernel : array_like, Factors or Plan
        Kernel with one axis per filtered axis. A plan contains all other options.
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
    **options
        Options of `plan`: axes, mode, cval, origin, output (dtype of the result), tol, method,
        operation, threads. Methods whose results depend on how the volume is cut are not used.

    Returns
    -------
    Schedule
        The slabs that were used; prints as text.

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
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.ones((30, 40, 50), "float32"))
    ...     done = filter(f"{folder}/in.npy", f"{folder}/out.npy", np.ones((8, 8, 8)) / 512)
    ...     print(np.load(f"{folder}/out.npy").mean(), len(done.stages))
    1.0 1
    """
    with Run(
        source, target, kernel, memory=memory, chunks=chunks, resume=resume, overwrite=overwrite,
        client=client, mask=mask, nan=nan, fill=fill, nodata=nodata, **options,
    ) as run:  # fmt: skip
        run(progress)
        return run.schedule


class Run:
    """A filter from file to file that is ready to run: files are open and slabs are chosen.

    The parameters are those of `filter`. It is a context manager.

    Attributes
    ----------
    source : Source
    target : Target
    plan : Plan
    schedule : Schedule
    resumed : int
        Number of slabs that an earlier run has completed.

    Examples
    --------
    Print how the volume will be filtered, then filter it:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.ones((30, 40, 50), "float32"))
    ...     with Run(f"{folder}/in.npy", f"{folder}/out.npy", np.ones((8, 8, 8)) / 512) as run:
    ...         print(run.plan.chosen.name, run.schedule.slabs, run.resumed)
    ...         run()
    separable 1 0
    """

    def __init__(
        self,
        source: PathLike,
        target: PathLike,
        kernel: ArrayLike | Factors | Plan,
        *,
        memory: int | str | None = None,
        chunks: str | Sequence[int] = "auto",
        resume: bool = True,
        overwrite: bool = False,
        client: Any = None,
        mask: PathLike | ArrayLike | None = None,
        nan: str = "propagate",
        fill: complex = math.nan,
        nodata: NoData = "auto",
        **options: Any,
    ) -> None:
        self.client = client
        if client is not None:
            check_client(client)
        limit = None if memory is None else read_amount("memory", memory)
        wanted = _chunks(chunks)
        # Step 1: open the source and plan for the whole volume.
        self.source: Source = open_source(source)
        try:
            for read in (source, mask):
                _refuse_same(read, target)
            missing = missing_options(mask, nan, fill, nodata)
            missing, info = self._obeyed(kernel, target, missing, options.get("output"))
            self.plan, volume_filter = _planned(kernel, self.source, options, missing)
            if mask is not None:
                self.source = masked(self.source, mask, self.plan.problem.axes)
            problem = volume_filter.problem
            check_target(target, problem.shape, problem.out, overwrite=overwrite)
            # Step 2: open the journal first, so that every partial file has one.
            name = Path(target).resolve()
            request = request_of(self.source, self.plan, volume_filter.problem.out, wanted, missing)
            self.journal: Journal = open_journal(name, request, resume=resume, force=overwrite)
            self.name = name
            with self._undone():
                # Step 3: open the partial file and choose the slabs.
                _check_claims(self.source, name, problem.shape, problem.out)
                self.target: Target = create_target(
                    target, problem.shape, problem.out, chunks=wanted, info=info, like=self.source,
                    overwrite=overwrite, resume=True,
                )  # fmt: skip
                self.schedule = self._schedule(volume_filter, limit)
        except BaseException:
            self.source.close()
            raise

    def _obeyed(
        self, kernel: Any, target: PathLike, missing: dict[str, Any], output: Any
    ) -> tuple[dict[str, Any], ImageInfo]:
        """Return the options for missing samples, and the metadata of the target."""
        source, info = self.source, self.source.info
        if isinstance(kernel, Plan) and not any(v == v for v in info.nodata):
            return missing, info
        out = source.dtype if output is None else np.dtype(output)
        path, _, format = locate(target, "write")
        obeyed = obey_nodata(missing, info, source.path, source.dtype, out, (format, path))
        if obeyed.note:
            source.info = replace(info, notes=(*info.notes, obeyed.note))
        return obeyed.missing, obeyed.info

    @property
    def resumed(self) -> int:
        """Number of slabs that were on the disk already."""
        return len(self.journal.done)

    def __call__(self, progress: Callable[[float], None] | None = None) -> None:
        """Filter the remaining slabs, and give the target its final name.

        Raises
        ------
        FileError
            If a region cannot be read or written.
        """
        stages = self.schedule.stages

        def report_stage(part: float) -> None:
            if progress is not None:
                progress(part / len(stages))

        source = self.source
        try:
            for number, stage in enumerate(stages):
                if self.client is not None:
                    run_stage_on(
                        self.client, stage, number, source, self.target, self.journal, report_stage
                    )
                    break
                if number == len(stages) - 1:
                    run_stage(stage, number, source, self.target, self.journal, report_stage)
                    break
                file = stage_path(self.name, number)
                if file.exists():
                    report_stage(1.0)
                else:
                    self._run_stage(number, source, report_stage)
                if number:
                    source.close()
                    remove(stage_path(self.name, number - 1))
                source = open_source(file)
        finally:
            source.close()
        self.target.finish()
        for number in range(len(stages)):
            remove(stage_path(self.name, number))
        self.journal.remove()

    def close(self) -> None:
        """Close the files. An incomplete partial file is kept."""
        with contextlib.ExitStack() as files:  # each is closed, whatever happens to the others
            files.callback(self.journal.close)
            files.callback(self.target.abandon)
            files.callback(self.source.close)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        release()

    def _run_stage(
        self, number: int, source: Source, report_stage: Callable[[float], None]
    ) -> None:
        """Run a stage that writes a file for the next stage."""
        stage = self.schedule.stages[number]
        problem = stage.filter.problem
        middle = create_target(
            stage_path(self.name, number), problem.shape, problem.out, overwrite=True, resume=True
        )
        if not middle.resumed:
            self.journal.done -= {(n, step) for n, step in self.journal.done if n == number}
        try:
            run_stage(stage, number, source, middle, self.journal, report_stage)
            middle.finish()
        except BaseException:
            middle.abandon()
            raise

    def _schedule(self, volume_filter: BlockFilter, limit: int | None) -> Schedule:
        if not self.target.resumed:
            self.journal.done.clear()
        base = _ready(volume_filter)
        if self.client is not None:
            base = max(self.client.run(_ready, volume_filter).values(), default=base)
        limit = base + USUAL if limit is None else limit
        ends = (self.source.chunks, self.target.chunks)
        if self.journal.schedule is not None and self.target.resumed:
            found = restored(volume_filter, *ends, self.journal.schedule, limit, base)
            if self.client is not None and len(found.stages) > 1:
                raise ArgumentError(
                    "the partial file was begun in several stages, which run only on one machine: "
                    "resume it without a cluster, or start without resuming"
                )
            return found
        if self.client is None:
            plain = next((f for f in (self.source, self.target) if f.chunks is None), None)
            made = make_schedule(volume_filter, *ends, limit, base, plain.slow if plain else None)
        else:
            made = schedule_for(self.client, volume_filter, self.source, self.target, limit, base)
        self.journal.write(schedule=made.to_list())
        return made

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Remove the partial file and the journal on failure, unless a slab was completed."""
        try:
            yield
        except BaseException:
            with contextlib.ExitStack() as files:  # the journal last: it locks the partial file
                files.callback(self.journal.close if self.journal.done else self.journal.remove)
                if hasattr(self, "target"):
                    self.target.abandon(keep=bool(self.journal.done))
            raise


def _check_claims(source: Source, target: Path, shape: tuple[int, ...], out: np.dtype[Any]) -> None:
    """Refuse a header that claims too many chunks, or a result far larger than the disk."""
    grid = [-(-n // c) for n, c in zip(source.shape, source.chunks or source.shape, strict=True)]
    if max(grid) > MOST_CHUNKS:
        axis = grid.index(max(grid))
        raise FileError(
            f"cannot filter {source.path}: its header says {grid[axis]} chunks along axis {axis}; "
            f"expected at most {MOST_CHUNKS}. Store it in larger chunks, or fetch it again if that "
            "is wrong"
        )
    needed = math.prod(shape) * out.itemsize
    space = shutil.disk_usage(target.parent).free
    if needed > SPARSE * space:
        raise FileError(
            f"cannot filter {source.path}: its header says {'x'.join(map(str, source.shape))}, so "
            f"the result takes {amount(needed)}, and the disk of {target} has {amount(space)} left. "
            "Write elsewhere, or fetch it again if that is wrong"
        )


def _ready(volume_filter: BlockFilter) -> int:
    """Compile the filter, free unused memory, and return the memory then in use."""
    release()
    _warm_up(volume_filter)
    return resident_memory()


def _planned(
    kernel: Any, source: Source, options: dict[str, Any], missing: dict[str, Any]
) -> tuple[Plan, BlockFilter]:
    """Return the plan for the whole volume, with a method that is independent of the slabs."""
    if isinstance(kernel, Plan) and missing:
        raise ArgumentError(
            f"a plan is for samples that are all valid; got {', '.join(missing)}. Give the kernel "
            'and the options of the plan, or nodata="none" to filter all samples'
        )
    if isinstance(kernel, Plan):
        if options:
            raise ArgumentError(f"a plan says all options; got {', '.join(sorted(options))}")
        problem = kernel.problem
        if (problem.shape, problem.dtype) != (source.shape, source.dtype):
            raise ArgumentError(
                f"this plan is for shape {problem.shape}, {problem.dtype}; {source.path} has shape "
                f"{source.shape}, {source.dtype}. Make a plan for it"
            )
        filter_plan = kernel
    else:
        if options.get("axes") is None:
            options = {**options, "axes": _space(kernel, source)}
        filter_plan = plan(kernel, source.shape, source.dtype, **options)
    if not filter_plan.problem.size:
        raise KernelError(f"{source.path} is empty, shape {source.shape}: there is nothing to do")
    if is_missing(missing, source.dtype):
        return valid_filter(filter_plan, kernel, missing)
    filter_plan = chunkwise(filter_plan)
    return filter_plan, block_filter(filter_plan)


def _space(kernel: Any, source: Source) -> tuple[int, ...] | None:
    """Return the spatial axes of the file if the kernel has as many axes."""
    space = source.info.space(source.ndim)
    shape = kernel.shape if isinstance(kernel, Factors) else np.shape(kernel)
    return space if len(shape) == len(space) else None


def _warm_up(volume_filter: BlockFilter) -> None:
    """Load or compile the code of the filter, so that it counts as memory in use."""
    for one in volume_filter.filters:
        problem = one.problem
        small = replace(problem, shape=tuple(min(n, 4) for n in problem.shape), threads=1)
        form = replace(one.form)
        run_method(small, METHODS[one.method], form, np.zeros(small.shape, small.dtype))


def _chunks(chunks: Any) -> tuple[int, ...] | None:
    if isinstance(chunks, str):
        if chunks == "auto":
            return None
        chunks = chunks.replace("x", ",").split(",")
    try:
        found = tuple(int(n) for n in chunks)
    except (TypeError, ValueError):
        found = (0,)
    if any(n < 1 for n in found):
        raise ArgumentError(f"`chunks` must be auto or sizes such as 64,64,64; got {chunks!r}")
    return found


def _refuse_same(source: Any, target: PathLike) -> None:
    """Refuse to write into a source file."""
    if not isinstance(source, (str, os.PathLike)):
        return
    one, other = (os.path.realpath(outer_file(p)) for p in (source, target))
    if one == other or one.startswith(other + os.sep) or other.startswith(one + os.sep):
        raise FileError(
            f"cannot write {target}: it is the input, or lies in it. Choose another name"
        )
