"""The journal of a run: the request, the schedule, and which slabs are on the disk.

It is the file ``NAME.partial.journal`` beside the partial file, with one line of JSON per event,
and is locked while a run writes it. An incomplete last line, left by a killed run, is ignored. A
slab is recorded after it was flushed to the disk.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from separable.distribution import VERSION
from separable.engine import Decomposition
from separable.errors import FileError
from separable.files.chunked_io import Source, Target, draft_of, remove
from separable.files.diagnostics import reason_of
from separable.files.format_registry import outer_file
from separable.plan import Plan
from separable.system import NO_SUCH_LOCK, Handle

__all__ = [
    "Journal",
    "bring_to_disk",
    "image_path",
    "journal_of",
    "locked_journal",
    "now",
    "open_journal",
    "request_of",
    "request_of_arrays",
    "stage_path",
    "state_of",
    "text_of_arrays",
]

FORMAT = 1


class Journal:
    """The journal of one run, open and locked.

    Attributes
    ----------
    path : Path
    schedule : list or None
        Schedule as `Schedule.to_list` returned it.
    done : set of (int, int)
        Stage and slab numbers of the slabs on the disk; number of an image and 0, where images are joined.
    notes : list of str
        Notes of the images that are complete.
    """

    def __init__(self, file: Handle, events: list[dict[str, Any]]) -> None:
        self.path, self._file = file.path, file
        again = [number for number, event in enumerate(events) if event.get("again")]
        events = events[again[-1] :] if again else events
        found = [e["schedule"] for e in events if "schedule" in e]
        self.schedule: Any = found[-1] if found else None
        self.done = {(int(e["done"][0]), int(e["done"][1])) for e in events if "done" in e}
        self.notes = [str(note) for event in events for note in event.get("notes", ())]

    def write(self, **event: Any) -> None:
        """Append an event and flush it to the disk."""
        line = json.dumps(event, separators=(",", ":")) + "\n"
        try:
            self._file.append(line.encode())
            self._file.flush()
        except OSError as error:
            raise FileError(
                f"cannot write {self.path}: {reason_of(error)}. Free some space and resume"
            ) from None

    def restart(self, schedule: Any) -> None:
        """Begin again with another schedule: no slab counts as written."""
        self.write(again=True)
        self.write(schedule=schedule)
        self.schedule = schedule
        self.done.clear()

    def record(self, stage: int, step: int) -> None:
        """Record that a slab is on the disk."""
        self.write(done=[stage, step])
        self.done.add((stage, step))

    def close(self) -> None:
        """Close and unlock the journal, so that other processes can resume the partial file."""
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: the run is complete."""
        self._file.remove()


def open_journal(target: Path, request: dict[str, str], *, resume: bool, force: bool) -> Journal:
    """Open the journal of a target, or create one.

    Parameters
    ----------
    target : Path
        Final name of the target.
    request : dict of str
        Everything that the result depends on, by name.
    resume : bool
        Whether to resume the partial file of an earlier run.
    force : bool
        Whether to delete the partial file of another request.

    Raises
    ------
    FileError
        If another process is writing the target, or the partial file belongs to another request.
    """
    path, draft = journal_of(target), draft_of(target)
    file = _locked(path, target)
    try:
        events, end = _events(file)
        differs = _difference(events, request) if draft.exists() else ""
        if differs and resume and not force:
            raise FileError(
                f"{draft} was left by another request: {differs}. Delete it and {path.name}, or "
                "overwrite it (overwrite=True, --force)"
            )
        if not resume or differs or not draft.exists():
            _clear(target)
            file.truncate(0)
            journal = Journal(file, [])
            journal.write(separable=FORMAT, request=request)
            return journal
        file.truncate(end)
        return Journal(file, events)
    except BaseException as error:
        file.close()
        if isinstance(error, FileError) or not isinstance(error, OSError):
            raise
        raise FileError(f"cannot write {path}: {reason_of(error)}") from None


def locked_journal(path: Path, target: Path) -> Journal:
    """Open and lock a journal at a path, with the events that it holds.

    Raises
    ------
    FileError
        If another process has locked it.
    """
    file = _locked(path, target)
    try:
        events, end = _events(file)
        file.truncate(end)
    except OSError as error:
        file.close()
        raise FileError(f"cannot write {path}: {reason_of(error)}") from None
    return Journal(file, events)


def journal_of(target: Path) -> Path:
    """Return the path of the journal of a target."""
    draft = draft_of(target)
    return draft.with_name(draft.name + ".journal")


def stage_path(target: Path, number: int) -> Path:
    """Return the path of the file between two stages."""
    draft = draft_of(target)
    return draft.with_name(f"{draft.name}.stage{number}.npy")


def image_path(target: Path, number: int) -> Path:
    """Return the path of the result of one of several images that are joined.

    Examples
    --------
    >>> image_path(Path("out.ome.tif"), 2).name
    'out.ome.tif.partial.image2.ome.tif'
    """
    ending = "".join(target.suffixes[-2:])
    draft = draft_of(target)
    return draft.with_name(f"{draft.name}.image{number}{ending}")


def _clear(target: Path) -> None:
    """Delete the files of an earlier run except the journal."""
    draft = draft_of(target)
    remove(draft)
    for pattern in (".stage*.npy*", ".journal.*of*", ".image*"):
        for found in draft.parent.glob(f"{glob.escape(draft.name)}{pattern}"):
            remove(found)


NO_LOCKS = "the file system has no locks, so two runs could write the same file. Write elsewhere"


def _locked(path: Path, target: Path) -> Handle:
    try:
        return Handle.locked(path)
    except BlockingIOError:
        why = "another process is writing it. Wait for that, or choose another name"
    except OSError as error:
        why = f"{reason_of(error)}. Name a folder that can be written to"
        if error.errno in NO_SUCH_LOCK:
            why = NO_LOCKS
    raise FileError(f"cannot write {target}: {why}")


def _events(file: Handle) -> tuple[list[dict[str, Any]], int]:
    """Return the events of the complete lines of a journal, and the position where they end."""
    text = bytearray(file.size)
    file.read(text, 0)
    events, end = [], 0
    for line in text.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            events.append(json.loads(line))
        except ValueError:
            break
        end += len(line)
    return events, end


def _difference(events: list[dict[str, Any]], request: dict[str, str]) -> str:
    """Describe how the stored request differs, or return ""."""
    if not events or events[0].get("separable") != FORMAT:
        return "it has no journal of this version"
    left = events[0].get("request", {})
    return ", ".join(
        f"{name} was {left.get(name)}, is {request.get(name)}"
        for name in request | left
        if left.get(name) != request.get(name)
    )


def request_of(
    source: Source,
    filter_plan: Plan,
    out: np.dtype[Any],
    chunks: tuple[int, ...] | None,
    missing: dict[str, Any],
) -> dict[str, str]:
    """Return everything that a result depends on, as named texts.

    Parameters
    ----------
    source : Source
    filter_plan : Plan
        Plan of the run on the samples.
    out : dtype
        Data type of the result.
    chunks : tuple of int, optional
        Chunk sizes as requested.
    missing : dict
        Options for missing samples.
    """
    problem, form = filter_plan.problem, filter_plan.chosen.form
    assert form is not None
    found = {
        "source": str(Path(source.path).resolve()),
        "its state": state_of(source.path, (source.shape, source.dtype.str, source.chunks)),
        "kernel": text_of_arrays(*_arrays(form), np.int64(problem.exponent)),
        "method": f"{filter_plan.chosen.name} ({filter_plan.chosen.method})",
        "axes": str(problem.axes),
        "mode": ",".join(border.name for border in problem.modes),
        "cval": str(problem.cval),
        "origin": str(problem.lefts),
        "type": f"{out} by {problem.work}",
        "chunks": str(chunks or "auto"),
        "version": VERSION,
    }
    found |= {name: str(value) for name, value in missing.items() if name != "mask"}
    if "mask" in missing:
        mask = missing["mask"]
        is_file = isinstance(mask, (str, os.PathLike))
        found["mask"] = str(Path(mask).resolve()) if is_file else text_of_arrays(np.asarray(mask))
        found["its mask's state"] = state_of(mask) if is_file else ""
    return found


def request_of_arrays(source: Source, arrays: Iterable[Any], **texts: Any) -> dict[str, str]:
    """Return everything that a result depends on, as named texts: the source, arrays of weights, and texts.

    Parameters
    ----------
    source : Source
    arrays : iterable of ndarray
    **texts
        Further values by name.
    """
    found = {
        "source": str(Path(source.path).resolve()),
        "its state": state_of(source.path, (source.shape, source.dtype.str, source.chunks)),
        "weights": text_of_arrays(*arrays),
        "version": VERSION,
    }
    return found | {name: str(value) for name, value in texts.items()}


def _arrays(form: Decomposition) -> Iterator[Any]:
    """Yield the weights that a form runs: those of its terms, or the dense kernel."""
    if not form.separated:
        yield form.kernel
    for term in form.terms:
        yield from term


def text_of_arrays(*arrays: Any) -> str:
    """Return a digest of the values, shapes and types of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    return digest.hexdigest()[:16]


def state_of(path: Any, layout: Any = ()) -> str:
    """Return a digest that changes with a file: of its size and time, or a store's metadata."""
    digest = hashlib.sha256(repr(layout).encode())
    place = outer_file(path)
    if place.is_file():
        found = place.stat()
        digest.update(repr((found.st_size, found.st_mtime_ns)).encode())
    if place.is_dir():  # the slices of a series
        for file in sorted(place.iterdir()):
            found = file.stat() if file.exists() else file.lstat()  # a link to nowhere
            digest.update(repr((file.name, found.st_size, found.st_mtime_ns)).encode())
    for name in ("zarr.json", ".zarray", ".zattrs"):
        file = place / name
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def bring_to_disk(target: Target, since: int) -> None:
    """Flush what this process wrote to a target since a time that `now` returned."""
    try:
        target.flush(since)
    except OSError as error:
        raise FileError(
            f"cannot write {target.path}: {reason_of(error)}. What was written is kept as "
            f"{target.draft.name}"
        ) from None


def now() -> int:
    """Return the current time for `bring_to_disk`, in nanoseconds."""
    return time.monotonic_ns()
