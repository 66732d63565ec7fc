"""Filter several images of one file in slabs, one after the other, and join the results in one file.

Each result is written to a file of its own beside the target, ``NAME.partial.image2.tif``. Once all are
complete they are copied into the target, in regions, and deleted. The journal of the target records which
are complete, so that an interrupted run continues with the next image.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from separable.distribution import VERSION
from separable.errors import ArgumentError, FileError
from separable.factors import Factors
from separable.files.atomic_write import take_name
from separable.files.chunked_io import draft_of, remove
from separable.files.diagnostics import reason_of, remedy_of
from separable.files.format_registry import PathLike, locate
from separable.files.opening import check_target, open_source
from separable.files.several_images import choice_note
from separable.filter_bank.magnitude import Magnitude
from separable.plan import Plan
from separable.volumes.checkpoint import image_path, open_journal, state_of, text_of_arrays
from separable.volumes.file_checks import refuse_same
from separable.volumes.filter_file import Run
from separable.volumes.slab_schedule import Schedule

__all__ = ["JoinedImages", "filter_images"]


class _OneOfAll(Run):
    """A run on one of several images, all of which are filtered."""

    def _choice(self, source: PathLike, number: int) -> str:
        return ""


class JoinedImages:
    """Filters of several images of one file, whose results become one file; a context manager.

    Parameters
    ----------
    source, target : path
    numbers : tuple of int
        Numbers of the images, from 1.
    wanted : mapping
        Kernel and options of the filters, from which an earlier run of the same request is recognised.
    resume : bool
        Whether to continue an earlier run.
    overwrite : bool
        Whether an existing target, or an earlier run of another request, may be replaced.

    Attributes
    ----------
    notes : list of str
        Notes on the images that are complete.

    Raises
    ------
    FileError
        If the target cannot be written, or an earlier run had another request.

    Examples
    --------
    >>> import tempfile
    >>> from separable import files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = [(np.full((4, 5), n, "uint8"), files.ImageInfo("YX")) for n in (3, 7)]
    ...     _ = files.write_images(f"{folder}/in.tif", images)
    ...     with JoinedImages(f"{folder}/in.tif", f"{folder}/out.tif", (1, 2), {"kernel": "box:3"}) as joined:
    ...         for number in joined.waiting():
    ...             with joined.run(number, "box:3") as run:
    ...                 run()
    ...             joined.record(number, run)
    ...         joined.finish()
    ...     print(files.count_images(f"{folder}/out.tif"), joined.notes)
    2 ['filtered all 2 images of the file']
    """

    def __init__(
        self,
        source: PathLike,
        target: PathLike,
        numbers: tuple[int, ...],
        wanted: Mapping[str, Any],
        *,
        resume: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.source, self.numbers, self.overwrite = Path(source), numbers, overwrite
        refuse_same(source, target)
        self.target = Path(os.path.realpath(target))
        self.format = locate(target, "write")[2]
        check_target(self.target, (2, 2), np.uint8, overwrite=overwrite)
        request = {"source": str(self.source.resolve()), "its state": state_of(source),
                   "images": ",".join(map(str, numbers)), "version": VERSION}  # fmt: skip
        request |= {name: _as_text(value) for name, value in wanted.items()}
        self.journal = open_journal(self.target, request, resume=resume, force=overwrite)
        try:
            draft_of(self.target).touch()
        except BaseException:
            self.journal.remove()
            raise
        self.notes = list(self.journal.notes)

    def path_of(self, number: int) -> Path:
        """Return the file of the result of one image."""
        return image_path(self.target, number)

    def waiting(self) -> Iterator[int]:
        """Yield the numbers of the images that are not complete."""
        for number in self.numbers:
            if (number, 0) not in self.journal.done or not self.path_of(number).exists():
                yield number

    def run(self, number: int, kernel: Any, **options: Any) -> Run:
        """Return the filter of one image, ready to run; the parameters are those of `Run`."""
        return _OneOfAll(
            self.source, self.path_of(number), kernel, image=number, overwrite=True, **options
        )

    def record(self, number: int, run: Run) -> None:
        """Record that the result of an image is complete, and what was noted about it."""
        notes = [*run.notes, *run.target.notes]
        self.journal.write(notes=notes)
        self.journal.record(number, 0)
        self.notes += notes

    def finish(self) -> None:
        """Join the results in the target.

        Raises
        ------
        FileError
            If the disk is full; the results are kept.
        """
        join = self.format.join
        assert join is not None  # `chosen_images` checks it
        draft, paths = draft_of(self.target), [self.path_of(number) for number in self.numbers]
        needed, space = sum(p.stat().st_size for p in paths), shutil.disk_usage(draft.parent).free
        if needed > space:
            raise FileError(
                f"cannot write {self.target}: it takes {needed >> 20} MiB and the disk has {space >> 20} "
                "MiB left. The results of its images are kept; free some space and resume"
            )
        try:
            with contextlib.ExitStack() as opened:
                join(draft, [opened.enter_context(open_source(p)) for p in paths], self.target)
            take_name(draft, self.target, self.overwrite)
        except FileError:
            raise
        except Exception as error:
            raise FileError(
                f"cannot write {self.target}: {reason_of(error)}{remedy_of(error)}"
            ) from None
        for path in paths:
            remove(path)
        self.journal.remove()
        everything = choice_note(self.numbers, len(self.numbers))
        self.notes = list(dict.fromkeys((*self.notes, everything)))

    def __enter__(self) -> JoinedImages:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.journal.close()
        if error is not None and not any(self._begun()):  # nothing is worth keeping
            remove(draft_of(self.target))
            remove(self.journal.path)

    def _begun(self) -> Iterator[bool]:
        for number in self.numbers:
            path = self.path_of(number)
            yield path.exists() or draft_of(path).exists()


def filter_images(
    source: PathLike,
    target: PathLike,
    numbers: tuple[int, ...],
    kernel: Any,
    *,
    resume: bool = True,
    overwrite: bool = False,
    memory: int | str | None = None,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Schedule:
    """Filter several images of a file into one file, in slabs; return the schedule of the last one.

    The parameters are those of `separable.volumes.filter`. If an earlier run completed all images, the
    schedule has no stages.
    """
    if isinstance(kernel, Plan):
        raise ArgumentError(
            "a plan is for one image: give the kernel and the options, or choose an image (image=N)"
        )
    schedule = Schedule((), 0, 0)
    wanted = {"kernel": kernel, **options}

    def report(part: float) -> None:
        if progress is not None:
            progress(part / len(numbers))

    with JoinedImages(
        source, target, numbers, wanted, resume=resume, overwrite=overwrite
    ) as joined:
        waiting = list(joined.waiting())
        if len(waiting) < len(numbers):
            report(len(numbers) - len(waiting))
        for number in waiting:
            with joined.run(number, kernel, memory=memory, resume=resume, **options) as run:
                run(report)
                schedule = run.schedule
            joined.record(number, run)
        joined.finish()
    return schedule


def _as_text(value: Any) -> str:
    """Return a text that is equal for equal values: arrays become digests, files their state."""
    if isinstance(value, Magnitude):
        return "magnitude of " + ", ".join(map(_as_text, value.kernels))
    if isinstance(value, Factors):
        return f"{value.pattern} {text_of_arrays(*value.arrays)}"
    if isinstance(value, np.ndarray):
        return text_of_arrays(value)
    if isinstance(value, os.PathLike):
        return f"{Path(value).resolve()} {state_of(value)}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_as_text, value)) + "]"
    return str(value)
