"""`Run`: a filter from file to file that is ready to run; interrupted runs can be resumed."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from separable.engine.result_memory import release
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.files.chunked_io import Source, Target, remove
from separable.files.image_filter import check_percentiles, opacity_note, opacity_of
from separable.files.opening import check_target, create_target, open_source
from separable.files.pyramid_levels import with_new_levels
from separable.files.several_images import ImageChoice, choice_note, count_images, one_image
from separable.filter_bank.magnitude import Magnitude, wide_type
from separable.filtering import NoData, missing_options
from separable.masked import STAYS_NAN, Opacity, fill_for
from separable.plan import Plan
from separable.volumes.absent_nan import look_for_nan
from separable.volumes.checkpoint import Journal, request_of, stage_path
from separable.volumes.cluster import check_client, run_stage_on, schedule_for
from separable.volumes.file_checks import check_claims, chunk_sizes, refuse_same
from separable.volumes.file_filters import file_filter, kernel_of, obeyed_options
from separable.volumes.halo import BlockFilter
from separable.volumes.missing_samples import is_missing, masked, missing_values
from separable.volumes.opacity_blocks import with_opacity
from separable.volumes.rescaled_file import middle_path, write_rescaled
from separable.volumes.run_parts import (
    check_part,
    chunk_stage,
    finish_part,
    open_run_journal,
    start_part,
)
from separable.volumes.slab_pipeline import Band, run_stage
from separable.volumes.slab_schedule import (
    Schedule,
    default_limit,
    make_schedule,
    read_amount,
    restored,
)
from separable.volumes.vanished_results import watched
from separable.volumes.warm_up import ready_memory

__all__ = ["Run"]

PathLike: TypeAlias = str | os.PathLike[str]


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
    late_notes : tuple of str
        Notes on the result, after the run.
    finished : bool
        False after the run of a part if other parts are not complete yet.
    without_nan : bool or None
        Whether the source has no NaN; None if nobody looked. Also a parameter.

    The parameter `waits` says that `start` will be called, after a schedule for several runs was chosen.

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

    _rescale: Callable[[], Target] | None = None
    _vanished: Callable[[], tuple[str, ...]] = staticmethod(tuple)
    late_notes: tuple[str, ...] = ()
    finished: bool = True
    journal: Journal

    def __init__(
        self,
        source: PathLike,
        target: PathLike,
        kernel: ArrayLike | Factors | Plan | Magnitude,
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
        rescale: tuple[float, float] | None = None,
        image: ImageChoice = "auto",
        part: str | tuple[int, int] | None = None,
        levels: int | None = None,
        without_nan: bool | None = None,
        waits: bool = False,
        **options: Any,
    ) -> None:
        self.client = client
        self.part = check_part(part, client=client, rescale=rescale, overwrite=overwrite)
        if client is not None:
            check_client(client)
        limit = None if memory is None else read_amount("memory", memory)
        wanted = chunk_sizes(chunks)
        # Step 1: open the source and plan for the whole volume.
        number = one_image(source, image)
        reopened = partial(open_source, Path(source), image=number)
        self.source: Source = reopened()
        try:
            self._note(self._choice(source, number))
            for read in (source, mask):
                refuse_same(read, target)
            missing = missing_options(mask, nan, fill, nodata)
            kernel = kernel_of(kernel, self.source, options)
            missing, info, note = obeyed_options(kernel, self.source, target, missing, options)
            self._note(note)
            self.without_nan = look_for_nan(kernel, missing, self.source, without_nan)
            missing = {} if self.without_nan else missing
            if levels is not None:
                info = with_new_levels(info, self.source.shape, levels, target)
            final = Path(os.path.realpath(target))  # a loop of links is refused below
            if rescale is not None:  # floats beside the target first
                check_percentiles(rescale)
                if client is not None:
                    raise ArgumentError(
                        "`rescale` needs all results in one process: leave out `client`"
                    )
                self.out = np.dtype(options.get("output") or self.source.dtype)
                check_target(final, self.source.shape, self.out, overwrite=overwrite)
                options = {**options, "output": wide_type(self.source.dtype)}
                values = missing_values(missing, self.source.dtype)
                fill = fill_for(missing.get("fill", fill), values)
                missing = {**missing, "fill": STAYS_NAN} if missing else missing
                target = middle_path(final)
            self.plan, volume_filter = file_filter(kernel, self.source, options, missing)
            self.volume_filter: BlockFilter = volume_filter
            axes = self.plan.problem.axes
            self._opacity = opacity_of(self.source.info, self.source.ndim, axes)
            if self._opacity is not None:
                self._obey_alpha(kernel, self._opacity, missing)
            elif mask is not None:
                self.source = masked(self.source, mask, axes)
            problem = volume_filter.problem
            replacing = overwrite or rescale is not None
            check_target(target, problem.shape, problem.out, overwrite=replacing)
            # Step 2: open the journal first, so that every partial file has one.
            name = Path(os.path.realpath(target))
            combined: dict[str, Any] = {} if levels is None else {"levels": levels}
            if isinstance(kernel, Magnitude):
                combined["magnitude"] = len(kernel.kernels)
            if number > 1:
                combined["image"] = number
            request = request_of(
                self.source, self.plan, problem.out, wanted, {**missing, **combined}
            )
            self.journal = open_run_journal(name, request, self.part, resume, overwrite)
            self.name = name
            with self._undone():
                # Step 3: open the partial file and choose the slabs.
                check_claims(self.source, name, problem.shape, problem.out)
                self.target: Target = create_target(
                    target, problem.shape, problem.out, chunks=wanted, info=info, like=self.source,
                    overwrite=replacing, resume=True,
                )  # fmt: skip
                self.schedule = self._schedule(volume_filter, limit)
                if not waits:
                    self.start()
            if rescale is not None:
                self._rescale = partial(
                    write_rescaled, reopened, final, self.out, rescale, fill=fill,
                    opacity=self._opacity, overwrite=overwrite)  # fmt: skip
                self.target.notes = ()
            alone = client is None and self.part is None
            integers = problem.out.kind in "biu" and not isinstance(kernel, Plan)
            if integers and alone and not self.journal.done and self._opacity is None:
                one = kernel.kernels[0] if isinstance(kernel, Magnitude) else kernel
                self._vanished = watched(self.target, one, reopened)
        except BaseException:
            self.source.close()
            raise

    @property
    def is_begun(self) -> bool:
        """True if slabs of an earlier run, or of another process, keep their schedule."""
        if self.part is not None:
            return self.journal.schedule is not None and self.target.resumed
        return bool(self.journal.done)

    @property
    def level_bytes(self) -> int:
        """Bytes of memory for coarser levels of the target."""
        return 0 if self.target.levels is None else int(self.target.levels.nbytes)

    def start(self, schedule: Schedule | None = None) -> None:
        """Take this part of the slabs, of its own schedule or of another one; do nothing if there are no parts."""
        self.schedule = schedule or self.schedule
        if self.part is not None:
            self.journal = start_part(self.journal, self.name, self.part, self.schedule.slabs)

    def _obey_alpha(self, kernel: Any, opacity: Opacity, missing: dict[str, Any]) -> None:
        """Read each sample together with the opacity of its pixel."""
        first = kernel.kernels[0] if isinstance(kernel, Magnitude) else kernel
        some = is_missing(missing, self.source.dtype)
        self._note(opacity_note(opacity, first, self.plan.problem.out, missing=some))
        self.source = with_opacity(self.source, opacity, missing, self.plan.problem.axes)

    def _choice(self, source: PathLike, number: int) -> str:
        """Return in words which of several images is filtered."""
        return choice_note((number,), count_images(source))

    def _note(self, note: str) -> None:
        if note:
            self.source.info = replace(self.source.info, notes=(*self.source.info.notes, note))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what the source says about its numbers."""
        return (*self.source.info.notes, *self.late_notes)

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
                    self._run_into(self.target, number, source, report_stage)
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
        self.complete()

    def _run_into(
        self, target: Target, number: int, source: Source, report: Callable[[float], None]
    ) -> None:
        stage = self.schedule.stages[number]
        run_stage(stage, number, source, [Band(stage.filter, target, self.journal)], report)

    def complete(self) -> None:
        """Give the target its final name, once all slabs are written.

        Raises
        ------
        FileError
            If the disk is full, or a file of that name was created meanwhile.
        """
        if self.part is not None:
            self.finished = finish_part(self.journal, self.target, self.name, self.part)
            return
        self.target.finish()
        for number in range(len(self.schedule.stages)):
            remove(stage_path(self.name, number))
        self.journal.remove()
        if self._rescale is not None:
            self.target = self._rescale()
        self.late_notes = (*self._vanished(), *self.target.late_notes)

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
            self._run_into(middle, number, source, report_stage)
            middle.finish()
        except BaseException:
            middle.abandon()
            raise

    def _schedule(self, volume_filter: BlockFilter, limit: int | None) -> Schedule:
        if not self.target.resumed:
            self.journal.done.clear()
        base = ready_memory(volume_filter)
        if self.client is not None:
            base = max(self.client.run(ready_memory, volume_filter).values(), default=base)
        base += self.level_bytes
        limit = default_limit(base) if limit is None else limit
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
        if self.part is not None:
            made = chunk_stage(made, self.target)
        self.journal.write(schedule=made.to_list())
        return made

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Discard the run on failure."""
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Close the files; remove the partial file and the journal, unless a slab was completed."""
        keep = bool(self.journal.done) or self.part is not None  # other processes write it too
        with contextlib.ExitStack() as files:  # the journal last: it locks the partial file
            files.callback(self.journal.close if keep else self.journal.remove)
            files.callback(self.source.close)
            if hasattr(self, "target"):
                self.target.abandon(keep=keep)
