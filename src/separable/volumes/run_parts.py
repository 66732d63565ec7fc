"""One run shared by independent processes: each computes a part of the slabs, and the last one finishes.

No process talks to another. All see the same folder: the journal ``NAME.partial.journal`` has the request and the schedule, and is
locked while a process creates the partial file or finishes it. Each part has a journal of its own,
``NAME.partial.journal.3of64``, locked while it runs. So an array of jobs (SLURM, a shell loop) filters one
volume, and a part that was killed is run again by itself.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from separable.errors import ArgumentError, ArgumentTypeError, FileError
from separable.files.chunked_io import Target
from separable.files.format_registry import locate
from separable.volumes.checkpoint import Journal, journal_of, locked_journal, open_journal
from separable.volumes.slab_planner import Sides, Stage
from separable.volumes.slab_schedule import SCRATCH, Schedule

__all__ = [
    "Part",
    "check_part",
    "chunk_stage",
    "finish_part",
    "open_run_journal",
    "read_part",
    "start_part",
]

WAIT = 600.0  # seconds to wait for another process that creates or finishes the partial file
LOOK = 0.2  # seconds between two looks at a lock
MOST_PARTS = 1 << 16
ONLY_ZARR = "cannot write {} in parts from several processes: only Zarr stores each chunk separately. Write .zarr"


class Part:
    """One of several parts of a run.

    Parameters
    ----------
    number : int
        Number of the part, 1 .. count.
    count : int
        Number of parts.

    Examples
    --------
    >>> Part(3, 64), [k for k in range(10) if Part(2, 4).has(k, 10)]
    (Part 3/64, [3, 4])
    """

    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count

    def __repr__(self) -> str:
        return f"Part {self.number}/{self.count}"

    def has(self, step: int, steps: int) -> bool:
        """Return whether a slab belongs to this part: parts are runs of slabs that follow each other."""
        return step * self.count // max(steps, 1) == self.number - 1

    def journal(self, target: Path, number: int | None = None) -> Path:
        """Return the path of the journal of a part."""
        main = journal_of(target)
        return main.with_name(f"{main.name}.{number or self.number}of{self.count}")


def read_part(value: Any) -> Part:
    """Return the part that a text such as ``3/64``, or a pair of numbers, names.

    Raises
    ------
    ArgumentError
        If it is not a number of a part, from 1 on, and the number of parts.

    Examples
    --------
    >>> read_part("3/64"), read_part((1, 2))
    (Part 3/64, Part 1/2)
    """
    text = value if isinstance(value, str) else "/".join(map(str, value))
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count <= MOST_PARTS:
        raise ArgumentError(
            f"`part` must be the number of a part and the number of parts, such as 3/64; got {value!r}"
        )
    return Part(number, count)


def open_run_journal(
    target: Path, request: dict[str, str], part: Part | None, resume: bool, force: bool
) -> Journal:
    """Open the journal of a run; if several processes share it, wait while another one has it.

    Raises
    ------
    FileError
        If another process has it for ten minutes, or the partial file belongs to another request.
    """
    if part is None:
        return open_journal(target, request, resume=resume, force=force)
    if not locate(target, "write")[2].folder:
        raise FileError(ONLY_ZARR.format(target))
    request = {**request, "parts": str(part.count)}
    since = time.monotonic()
    while True:
        try:
            return open_journal(target, request, resume=True, force=False)
        except FileError as error:
            if "another process is writing it" not in str(error) or time.monotonic() - since > WAIT:
                raise
        time.sleep(LOOK)


def start_part(shared: Journal, target: Path, part: Part, steps: int) -> Journal:
    """Unlock the shared journal, and return the journal of a part; slabs of other parts count as done.

    Raises
    ------
    FileError
        If another process computes this part.
    """
    own = locked_journal(part.journal(target), target)
    own.schedule = shared.schedule
    shared.close()
    own.done |= {(0, step) for step in range(steps) if not part.has(step, steps)}
    return own


def finish_part(own: Journal, target: Target, final: Path, part: Part) -> bool:
    """Record that a part is complete; finish the target if all parts are, and return whether they are.

    Parameters
    ----------
    own : Journal
        Journal of the part.
    target : Target
    final : Path
        Name of the complete file.
    part : Part
    """
    target.flush()
    own.write(levels=target.complete_levels)
    own.write(finished=True)
    own.close()
    # One process at a time looks whether it was the last one.
    since = time.monotonic()
    while True:
        try:
            shared = locked_journal(journal_of(final), final)
            break
        except FileError:
            if time.monotonic() - since > WAIT:
                raise
            time.sleep(LOOK)
    if not target.draft.exists():  # another process was the last one, and finished
        target.abandon()
        shared.remove()
        return True
    paths = [part.journal(final, number) for number in range(1, part.count + 1)]
    if not all(path.exists() and _is_finished(path) for path in paths):
        target.abandon()
        shared.close()
        return False
    target.know_levels([_levels_of(path) for path in paths])
    target.finish()
    for path in paths:
        path.unlink(missing_ok=True)
    shared.remove()
    return True


def _levels_of(path: Path) -> Any:
    """Return the chunks of coarser levels that the journal of a part says are written."""
    found: Any = []
    for line in path.read_bytes().splitlines():
        if line.startswith(b'{"levels":'):
            found = json.loads(line)["levels"]
    return found


def _is_finished(path: Path) -> bool:
    """Return whether the journal of a part says that the part is complete."""
    return b'{"finished":true}\n' in path.read_bytes()


def chunk_stage(schedule: Schedule, target: Any) -> Schedule:
    """Return a schedule whose slabs consist of whole chunks, so that no two processes write one chunk.

    Raises
    ------
    FileError
        If the target is not a Zarr store, the only format whose chunks are files of their own.
    ArgumentError
        If the filter needs several stages, or the slabs do not fit into the memory limit.
    """
    if len(schedule.stages) > 1:
        raise ArgumentError("`part` needs a filter that runs in one stage: allow more `memory`")
    (stage,), limit = schedule.stages, schedule.limit
    available = limit - schedule.base - SCRATCH
    if target.chunks is None or not target.draft.is_dir():
        raise FileError(ONLY_ZARR.format(target.path))
    sides = _whole(stage.sides, target.chunks, stage.shape)
    whole = Stage(stage.filter, stage.along, sides, stage.source, stage.target)
    if whole.memory > max(available, stage.memory):
        raise ArgumentError(
            f"`memory` must be at least {-(-(limit - available + whole.memory) // (1 << 20))} MiB: slabs "
            f"of several processes consist of whole chunks; got {limit >> 20} MiB"
        )
    return Schedule((whole,), limit, schedule.base)


def _whole(sides: Sides, chunks: Sides, shape: Sides) -> Sides:
    """Return sides that are multiples of those of the chunks: smaller if possible, else one chunk.

    Examples
    --------
    >>> _whole((70, 10, 500), (64, 64, 64), (512, 512, 500))
    (64, 64, 500)
    """
    return tuple(
        n if side >= n else min(n, max(chunk, side // chunk * chunk))
        for side, chunk, n in zip(sides, chunks, shape, strict=True)
    )


def check_part(part: Any, **others: Any) -> Part | None:
    """Return the part that was asked for, and refuse options that need one process.

    Raises
    ------
    ArgumentError, ArgumentTypeError
    """
    if part is None:
        return None
    if not isinstance(part, (str, tuple, list)):
        raise ArgumentTypeError(f"`part` must be a text such as 3/64; got {part!r}")
    wrong = next((name for name, value in others.items() if value not in (None, False)), None)
    if wrong is not None:
        raise ArgumentError(f"`part` cannot be combined with `{wrong}`")
    return read_part(part)
