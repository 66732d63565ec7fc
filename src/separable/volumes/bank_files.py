"""Filter a volume with several kernels, from one file to one file per kernel; the source is read once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from separable.engine.result_memory import release
from separable.errors import ArgumentError
from separable.system import resident_memory
from separable.volumes.bank_blocks import BankFilter
from separable.volumes.filter_file import Run
from separable.volumes.run_parts import chunk_stage
from separable.volumes.slab_pipeline import Band, run_stage
from separable.volumes.slab_schedule import (
    Schedule,
    default_limit,
    make_schedule,
    read_amount,
    restored,
)

__all__ = ["BankRun", "bank"]

PathLike: TypeAlias = str | os.PathLike[str]


def bank(
    source: PathLike,
    targets: Mapping[PathLike, Any],
    *,
    memory: int | str | None = None,
    part: str | tuple[int, int] | None = None,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> tuple[Schedule, ...]:
    """Filter a volume with several kernels, from file to file; the source is read once.

    Each result is bit-identical to that of `filter` with its kernel, and an interrupted run is resumed
    by the same call.

    Parameters
    ----------
    source : str or path
        As for `filter`.
    targets : mapping of path to kernel
        File of each result, and its kernel.
    memory : int or str, optional
        Memory limit of the process. Where it is too small for the blocks of all kernels together, the
        kernels run one after the other.
    part : str or (int, int), optional
        Part of the slabs to compute, such as "3/64", as for `filter`.
    progress : callable, optional
        Called with the fraction of the work just done.
    **options
        Other options of `filter`, except `client` and `rescale`.

    Returns
    -------
    tuple of Schedule
        Slabs of all kernels together, or of each kernel that ran alone.

    Raises
    ------
    SeparableError
        As `filter`.

    Examples
    --------
    >>> import tempfile, numpy as np, separable as sep
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.ones((30, 40, 50), "float32"))
    ...     kernels = {f"{folder}/{s}.npy": sep.kernels.gaussian(s, ndim=3) for s in (1, 2)}
    ...     done = bank(f"{folder}/in.npy", kernels)
    ...     print(len(done), np.load(f"{folder}/2.npy").mean().round(3))
    1 1.0
    """
    made = [(target, kernel, options) for target, kernel in targets.items()]
    with BankRun(source, made, memory=memory, part=part) as run:
        run(progress)
        return run.schedules


class BankRun:
    """Filters of one file that are ready to run: files are open and slabs are chosen.

    It is a context manager.

    Parameters
    ----------
    source : path
    results : sequence of (path, kernel, dict)
        File of each result, its kernel, and its options of `filter`.
    memory : int or str, optional
    part : str or (int, int), optional
        Part of the slabs to compute, as for `filter`.

    Attributes
    ----------
    runs : tuple of Run
        Run of each kernel.
    groups : tuple of tuple of Run
        Runs whose blocks are read together; a run that is alone in its group has its own slabs.
    schedules : tuple of Schedule
        Slabs of each group.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/in.npy", np.ones((30, 40, 50), "float32"))
    ...     results = [(f"{folder}/{n}.npy", np.ones((n, n, n)), {}) for n in (3, 5)]
    ...     with BankRun(f"{folder}/in.npy", results) as run:
    ...         print(len(run.groups), run.resumed)
    ...         run()
    1 0
    """

    def __init__(
        self,
        source: PathLike,
        results: Sequence[tuple[PathLike, Any, Mapping[str, Any]]],
        *,
        memory: int | str | None = None,
        part: str | tuple[int, int] | None = None,
    ) -> None:
        if not results:
            raise ArgumentError("`targets` must hold at least one kernel; got none")
        self._limit = None if memory is None else read_amount("memory", memory)
        with contextlib.ExitStack() as opened:
            runs: list[Run] = []
            for target, kernel, options in results:
                known = next((r.without_nan for r in runs if r.without_nan is not None), None)
                given = {**options, "memory": memory, "without_nan": known, "part": part}
                runs.append(Run(source, target, kernel, waits=True, **given))
                opened.callback(runs[-1].discard)
            self.runs = tuple(runs)
            self._plan_groups()
            opened.pop_all()

    def _plan_groups(self) -> None:
        """Choose which runs read their blocks together."""
        by_axes: dict[Any, list[Run]] = {}
        for run in self.runs:
            problem = run.volume_filter.problem
            by_axes.setdefault((problem.axes, problem.modes, problem.out), []).append(run)
        groups: list[tuple[Run, ...]] = []
        schedules = []
        for runs in by_axes.values():
            joint = self._joint(runs) if len(runs) > 1 else None
            if joint is None:
                groups += [(run,) for run in runs]
                schedules += [run.schedule for run in runs]
                for run in runs:
                    run.start()
                continue
            groups.append(tuple(runs))
            schedules.append(joint)
            for run in runs:
                if run.schedule.to_list() != joint.to_list():
                    run.journal.restart(joint.to_list())
                run.start(joint)
        self.groups, self.schedules = tuple(groups), tuple(schedules)

    def _joint(self, runs: Sequence[Run]) -> Schedule | None:
        """Return slabs for all runs together, or None if the memory does not allow any."""
        together = BankFilter([run.volume_filter for run in runs])
        first = runs[0]
        ends = (first.source.chunks, first.target.chunks)
        release()
        base = resident_memory() + sum(run.level_bytes for run in runs)
        limit = default_limit(base) if self._limit is None else self._limit
        begun = [run.schedule for run in runs if run.is_begun]
        if first.part is not None and len({str(one.to_list()) for one in begun}) > 1:
            return None  # other processes compute parts of each kernel alone
        try:
            if begun and len(begun[0].stages) == 1:
                return restored(together, *ends, begun[0].to_list(), limit, base)
            plain = next((f for f in (first.source, first.target) if f.chunks is None), None)
            made = make_schedule(together, *ends, limit, base, plain.slow if plain else None)
            return made if first.part is None else chunk_stage(made, first.target)
        except ArgumentError:  # one after the other
            return None

    @property
    def finished(self) -> bool:
        """False after the run of a part if other parts are not complete yet."""
        return all(run.finished for run in self.runs)

    @property
    def resumed(self) -> int:
        """Number of slabs that were on the disk already."""
        return sum(run.resumed for run in self.runs)

    def __call__(self, progress: Callable[[float], None] | None = None) -> None:
        """Filter the remaining slabs, and give the results their final names.

        Raises
        ------
        FileError
            If a region cannot be read or written; the partial files are kept.
        """
        for group, schedule in zip(self.groups, self.schedules, strict=True):
            share = len(group) / len(self.runs)

            def report(part: float, share: float = share) -> None:
                if progress is not None:
                    progress(part * share)

            if len(group) == 1:
                group[0](report)
                continue
            bands = [Band(run.volume_filter, run.target, run.journal) for run in group]
            run_stage(schedule.stages[0], 0, group[0].source, bands, report)
            for run in group:
                run.source.close()
                run.complete()

    def close(self) -> None:
        """Close the files. Incomplete partial files are kept."""
        with contextlib.ExitStack() as files:
            for run in self.runs:
                files.callback(run.close)

    def __enter__(self) -> BankRun:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        release()
