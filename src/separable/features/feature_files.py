"""Features from file to files within a memory limit, with one file per result; interrupted runs can be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.result_memory import release
from separable.errors import ArgumentError
from separable.features.feature_base import Feature
from separable.features.feature_blocks import FeatureFilter, feature_filter, field_names
from separable.features.feature_run import significant
from separable.features.joined_targets import JoinedTargets
from separable.files.chunked_io import Source, Target
from separable.files.declared_nodata import obey_nodata
from separable.files.format_registry import locate
from separable.files.image_info import ImageInfo
from separable.files.opening import check_target, create_target, open_source
from separable.files.pyramid_levels import with_new_levels
from separable.filtering import missing_options
from separable.system import resident_memory
from separable.volumes.checkpoint import Journal, request_of
from separable.volumes.file_checks import check_claims, chunk_sizes, refuse_same
from separable.volumes.halo import Block
from separable.volumes.missing_samples import masked
from separable.volumes.run_parts import (
    check_part,
    chunk_stage,
    finish_part,
    open_run_journal,
    start_part,
)
from separable.volumes.slab_pipeline import Band, run_stage
from separable.volumes.slab_planner import Stage
from separable.volumes.slab_schedule import (
    Schedule,
    default_limit,
    make_schedule,
    read_amount,
    restored,
)

__all__ = ["FeatureRun", "write_features"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]


def write_features(
    source: PathLike,
    targets: Mapping[str, PathLike],
    features: Mapping[str, Feature],
    *,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Schedule:
    """Compute features of a file in one reading, and write each result to a file.

    Parameters
    ----------
    source : str or path
        Zarr, NPY, HDF5, NIfTI, TIFF or ENVI.
    targets : mapping of str to path
        File of each result by its name: that of the feature, followed by ``_1``, ``_2`` ... if it has
        several (`feature_blocks.field_names`).
    features : mapping of str to Feature
        Features by name.
    progress : callable, optional
        Called with the fraction of the work just done.
    **options
        Options of `FeatureRun`.

    Returns
    -------
    Schedule
        The slabs that were used; prints as text.

    Raises
    ------
    SeparableError
        As `FeatureRun`.

    Examples
    --------
    >>> import tempfile
    >>> from separable.features.ridge_values import Frangi
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.eye(20, dtype="float32"))
    ...     done = write_features(
    ...         f"{folder}/in.npy", {"frangi": f"{folder}/out.npy"}, {"frangi": Frangi((1.0,), False)}
    ...     )
    ...     print(np.load(f"{folder}/out.npy").shape)
    (20, 20)
    """
    with FeatureRun(source, targets, features, **options) as run:
        run(progress)
        return run.schedule


class FeatureRun:
    """Features from file to files that are ready to be computed: files are open and slabs are chosen.

    Parameters
    ----------
    source : str or path
    targets : mapping of str to path
    features : mapping of str to Feature
    memory : int or str, optional
        Memory limit of the whole process, for example "2GiB". Default: 2 GiB more than is in use.
    chunks : "auto" or sequence of int
        Chunk sizes of the targets.
    resume : bool
        Whether to resume the partial files of an earlier run.
    overwrite : bool
        Whether existing targets, or partial files of another request, may be replaced.
    axes : sequence of int, optional
        Axes to filter; default: the spatial ones.
    spacing : float or sequence of float, optional
        Distance between samples along each filtered axis; default: that of the file, else 1.
    mode, cval, threads
        As for features of arrays.
    mask, nan, fill, nodata
        Missing samples, as for `separable.volumes.filter`.
    part : str or (int, int), optional
        Part of the slabs to compute, as for `separable.volumes.filter`.
    image : int, optional
        Number of the image in a file that holds several, from 1. Default: 1, with a note.
    levels : int, optional
        Number of levels of OME-Zarr targets, each the block means of the one before.

    Attributes
    ----------
    schedule : Schedule
    resumed : int
        Number of slabs that an earlier run has completed.
    finished : bool
        False after the run of a part if other parts are not complete yet.

    Examples
    --------
    >>> import tempfile
    >>> from separable.features.feature_values import HessianEigenvalues
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.ones((30, 40, 50), "float32"))
    ...     paths = {f"hessian_{k}": f"{folder}/{k}.npy" for k in (1, 2, 3)}
    ...     with FeatureRun(f"{folder}/in.npy", paths, {"hessian": HessianEigenvalues(2.0)}) as run:
    ...         run()
    ...         print(run.schedule.slabs, np.load(f"{folder}/1.npy").max() < 1e-5)
    1 True
    """

    def __init__(
        self,
        source: PathLike,
        targets: Mapping[str, PathLike],
        features: Mapping[str, Feature],
        *,
        memory: int | str | None = None,
        chunks: str | Sequence[int] = "auto",
        resume: bool = True,
        overwrite: bool = False,
        axes: Sequence[int] | None = None,
        spacing: Any = None,
        mask: Any = None,
        nan: str = "propagate",
        fill: Any = math.nan,
        nodata: Any = "auto",
        part: str | tuple[int, int] | None = None,
        image: int | None = None,
        levels: int | None = None,
        **options: Any,
    ) -> None:
        self.part = check_part(part, overwrite=overwrite)
        self.finished = True
        limit = None if memory is None else read_amount("memory", memory)
        wanted = chunk_sizes(chunks)
        # Step 1: open the source, and make the filter for the whole volume.
        self.source: Source = open_source(source, image=image)
        try:
            for read, target in itertools.product((source, mask), targets.values()):
                refuse_same(read, target)
            info, ndim = self.source.info, self.source.ndim
            along = tuple(info.space(ndim) if axes is None else axes)
            steps = _spacing_of(info, along) if spacing is None else spacing
            self.spacing = tuple(np.broadcast_to(np.asarray(steps, float), (len(along),)).tolist())
            missing, self.info = self._obeyed(
                missing_options(mask, nan, fill, nodata), next(iter(targets.values()))
            )
            for target in () if levels is None else targets.values():
                self.info = with_new_levels(self.info, self.source.shape, levels, target)
            self.filter: FeatureFilter = feature_filter(
                tuple(features.items()), self.source.shape, self.source.dtype, along, self.spacing,
                missing, **options,
            )  # fmt: skip
            names = field_names(tuple(features.items()), len(along))
            _check_names(names, targets)
            if mask is not None:
                self.source = masked(self.source, mask, along)
            work = self.filter.inner.problem.out
            self._dtype = np.dtype([(name, work) for name in names])
            for target in targets.values():
                check_target(target, self.source.shape, work, overwrite=overwrite)
            # Step 2: open the journal first, so that every partial file has one.
            paths = [targets[name] for name in names]
            self._first = first = Path(os.path.realpath(paths[0]))
            more = {"image": image, "levels": levels}
            more = {name: value for name, value in more.items() if value is not None}
            request = self._request(features, names, wanted, {**missing, **more})
            self.journal: Journal = open_run_journal(first, request, self.part, resume, overwrite)
            # Step 3: open the partial files and choose the slabs.
            self._open_targets(paths, work, wanted, overwrite, limit)
            if self.part is not None:
                self.journal = start_part(self.journal, first, self.part, self.schedule.slabs)
        except BaseException:
            self.source.close()
            raise

    def _obeyed(
        self, missing: dict[str, Any], target: PathLike
    ) -> tuple[dict[str, Any], ImageInfo]:
        """Return the options for missing samples with what the file declares, and the metadata of results."""
        source = self.source
        out = np.result_type(source.dtype.newbyteorder("="), np.float32)
        path, _, kind = locate(target, "write")
        obeyed = obey_nodata(missing, source.info, source.path, source.dtype, out, (kind, path))
        if obeyed.note:
            source.info = replace(source.info, notes=(*source.info.notes, obeyed.note))
        return obeyed.missing, obeyed.info

    def _request(
        self, features: Mapping[str, Feature], names: Sequence[str], chunks: Any, missing: Any
    ) -> dict[str, str]:
        """Return everything that the results depend on, as named texts."""
        text = repr([(name, feature) for name, feature in features.items()])
        more = {
            "features": f"{', '.join(names)} ({hashlib.sha256(text.encode()).hexdigest()[:16]})",
            "spacing": str(self.spacing),
        }
        problem = self.filter.inner.problem
        plan_like: Any = _Planned(problem, self.filter.form, self.filter.method)
        return request_of(self.source, plan_like, problem.out, chunks, {**missing, **more})

    def _open_targets(
        self, paths: Sequence[PathLike], work: Any, chunks: Any, overwrite: bool, limit: Any
    ) -> None:
        opened: list[Target] = []
        try:
            shape = self.source.shape
            for path in paths:
                check_claims(self.source, Path(os.path.realpath(path)), shape, work)
                opened.append(create_target(
                    path, shape, work, chunks=chunks, info=self.info, like=self.source,
                    overwrite=overwrite, resume=True,
                ))  # fmt: skip
            self.target = JoinedTargets(tuple(opened), self._dtype)
            if not self.target.resumed:
                self.journal.done.clear()
            release()
            base = resident_memory() + sum(t.levels.nbytes for t in opened if t.levels is not None)
            limit = default_limit(base) if limit is None else limit
            ends = (self.source.chunks, self.target.chunks)
            known = self.filter.with_maxima(_zeros(self.filter))
            if self.journal.schedule is not None and self.target.resumed:
                self.schedule = restored(known, *ends, self.journal.schedule, limit, base)
            else:
                ends_all: list[Any] = [self.source, *opened]
                slow = next((f.slow for f in ends_all if f.chunks is None), None)
                self.schedule = make_schedule(known, *ends, limit, base, slow)
                if self.part is not None:
                    self.schedule = chunk_stage(self.schedule, self.target)
                self.journal.write(schedule=self.schedule.to_list())
        except BaseException:
            keep = bool(self.journal.done) or self.part is not None
            with contextlib.ExitStack() as files:  # the journal last: it locks the partial files
                files.callback(self.journal.close if keep else self.journal.remove)
                for target in opened:
                    files.callback(target.abandon, keep=keep)
            raise

    @property
    def resumed(self) -> int:
        """Number of slabs that were on the disk already."""
        return len(self.journal.done)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what the source says about its numbers."""
        return self.source.info.notes

    def __call__(self, progress: Callable[[float], None] | None = None) -> None:
        """Compute the remaining slabs, and give the targets their final names.

        Raises
        ------
        FileError
            If a region cannot be read or written.
        """
        report = progress or (lambda fraction: None)
        (stage,) = self.schedule.stages
        passes = 2 if self.filter.needs_maxima else 1
        if self.filter.needs_maxima:
            maxima = self._maxima(stage, lambda fraction: report(fraction / passes))
        else:
            maxima = tuple(() for _ in self.filter.features)
        filters = self.filter.with_maxima(maxima)
        ready = Stage(filters, stage.along, stage.sides, stage.source, stage.target)
        target: Any = self.target
        bands = [Band(ready.filter, target, self.journal)]
        run_stage(ready, 0, self.source, bands, lambda fraction: report(fraction / passes))
        self.source.close()
        if self.part is not None:
            self.finished = finish_part(self.journal, target, self._first, self.part)
            return
        self.target.finish()
        self.journal.remove()

    def _maxima(
        self, stage: Stage, report: Callable[[float], None]
    ) -> tuple[tuple[float, ...], ...]:
        """Return the maxima over the volume: read it once."""
        filters = self.filter.with_maxima(None)
        most: dict[str, float] = {}
        steps = Stage(filters, stage.along, stage.sides, stage.source, stage.target).steps
        for step in steps:
            samples = _read_block(self.source, filters, step.block)
            found = filters.run(samples, step.block)
            for name in filters.names:
                most[name] = max(most.get(name, 0.0), float(found[name].flat[0]))
            report(1 / len(steps))
        return maxima_from(filters, most)

    def close(self) -> None:
        """Close the files. Incomplete partial files are kept."""
        with contextlib.ExitStack() as files:
            files.callback(self.journal.close)
            for target in self.target.targets:
                files.callback(target.abandon)
            files.callback(self.source.close)

    def __enter__(self) -> FeatureRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        release()


@dataclass(frozen=True)
class _Planned:
    """The properties of a plan that `request_of` reads."""

    problem: Any
    form: Any
    method: str

    @property
    def chosen(self) -> _Planned:
        """The same: it has the decomposition."""
        return self

    @property
    def name(self) -> str:
        """Name of the method."""
        return "features"


def maxima_from(filters: FeatureFilter, most: Mapping[str, float]) -> tuple[tuple[float, ...], ...]:
    """Return the maxima of each feature from the results of a filter that computes them."""
    found = []
    dtype = filters.inner.problem.dtype
    for number, (_, feature) in enumerate(filters.features):
        steps = feature.reductions(filters.grid)
        found.append(tuple(
            significant(most[f"{number}.{k}"], step.norm, most["largest"], dtype)
            for k, step in enumerate(steps)
        ))  # fmt: skip
    return tuple(found)


def _zeros(filters: FeatureFilter) -> tuple[tuple[float, ...], ...]:
    """Return maxima for a filter whose slabs are chosen before they are known."""
    return tuple(
        tuple(0.0 for _ in feature.reductions(filters.grid)) for _, feature in filters.features
    )


def _spacing_of(info: ImageInfo, axes: Sequence[int]) -> tuple[float, ...]:
    """Return the spacing that a file declares along some axes; 1 where it does not."""
    if not info.spacing or not any(info.spacing):
        return (1.0,) * len(axes)
    return tuple(info.spacing[axis] or 1.0 for axis in axes)


def _check_names(names: Sequence[str], targets: Mapping[str, PathLike]) -> None:
    if set(names) != set(targets) or len(set(names)) != len(names):
        raise ArgumentError(
            f"`targets` must name a file for each of {', '.join(names)}; got {', '.join(targets)}"
        )


def _read_block(source: Source, filters: FeatureFilter, block: Block) -> Array:
    """Read the samples of a block, of which some may lie outside the volume."""
    samples = np.empty(block.shape, source.dtype)
    runs = []
    for axis, (a, b) in enumerate(zip(block.starts, block.stops, strict=True)):
        place, found = 0, []
        for first, last in filters.runs(axis, a, b):
            found.append((slice(first, last), slice(place, place + last - first)))
            place += last - first
        runs.append(found)
    for box in itertools.product(*runs):
        samples[tuple(at for _, at in box)] = source.read(tuple(region for region, _ in box))
    return samples
