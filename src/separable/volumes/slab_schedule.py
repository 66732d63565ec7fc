"""The schedule of a volume on disk: its stages and slabs, which print as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from separable.errors import ArgumentError
from separable.volumes.filter_stages import groupings
from separable.volumes.halo import BlockFilter
from separable.volumes.slab_planner import Sides, Stage, best_stage, smallest

__all__ = ["Schedule", "amount", "default_limit", "make_schedule", "read_amount", "restored"]

SCRATCH = 64 << 20  # bytes for the threads of the engine, the codecs and the interpreter
RESERVE = 20  # one 20th of the limit stays free because memory is only predicted
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


@dataclass(frozen=True)
class Schedule:
    """Stages and slabs of a volume that is filtered within a memory limit; prints as text.

    Attributes
    ----------
    stages : tuple of Stage
        Stages that run one after the other; each reads and writes the volume once.
    limit : int
        Memory limit of the process in bytes.
    base : int
        Bytes in use before filtering begins.

    Examples
    --------
    >>> import separable as sep
    >>> from separable.volumes.halo import block_filter
    >>> p = sep.plan(sep.kernels.gaussian(2, ndim=3), (512, 512, 512), "float32")
    >>> print(make_schedule(block_filter(p), (64, 64, 64), (64, 64, 64), 2 << 30, 180 << 20))
    8 slabs of 64x512x512 along axis 0, halo 8 + 8 kept in memory; everything is read once.
    Memory: ... MiB predicted, 2 GiB allowed.
    """

    stages: tuple[Stage, ...]
    limit: int
    base: int

    @property
    def memory(self) -> int:
        """Predicted peak memory of the process in bytes."""
        return self.base + SCRATCH + max((s.memory for s in self.stages), default=0)

    @property
    def slabs(self) -> int:
        """Number of slabs of all stages."""
        return sum(len(s.steps) for s in self.stages)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the choices as JSON values, from which `restored` rebuilds the schedule."""
        return [
            {"axes": list(s.filter.problem.axes), "along": s.along, "sides": list(s.sides)}
            for s in self.stages
        ]

    def __str__(self) -> str:
        lines = []
        for number, stage in enumerate(self.stages, 1):
            text = _described(stage)
            if len(self.stages) > 1:
                along = _listed(stage.filter.problem.axes)
                text = f"Stage {number} of {len(self.stages)}, along {along}: {text}"
            lines.append(text)
        lines.append(f"Memory: {amount(self.memory)} predicted, {amount(self.limit)} allowed")
        return ".\n".join(lines) + "."


def make_schedule(
    volume_filter: BlockFilter,
    source: Sides | None,
    target: Sides | None,
    limit: int,
    base: int,
    slow: int | None = None,
) -> Schedule:
    """Return the fastest schedule within a memory limit.

    Parameters
    ----------
    volume_filter : BlockFilter
    source, target : tuple of int or None
        Chunk sizes of the files; None for files without chunks.
    limit : int
        Memory limit of the process in bytes.
    base : int
        Bytes already in use.
    slow : int, optional
        Axis whose slabs are contiguous in a file without chunks.

    Raises
    ------
    ArgumentError
        If no schedule fits; the message contains the smallest limit that works.
    """
    available = limit - limit // RESERVE - base - SCRATCH
    best, best_seconds = None, float("inf")
    for filters in groupings(volume_filter):
        stages = []
        for number, (reads, writes) in enumerate(_files(len(filters), source, target)):
            stage = best_stage(filters[number], reads, writes, available, slow)
            if stage is None:
                break
            stages.append(stage)
        else:
            seconds = sum(s.seconds() for s in stages)
            if seconds < best_seconds:
                best, best_seconds = Schedule(tuple(stages), limit, base), seconds
    if best is None:
        wanted = base + SCRATCH + _smallest(volume_filter, source, target, slow)
        mebibytes = -(
            -wanted * 27 // 25 // (1 << 20)
        )  # 8 % more, because the memory in use differs between runs
        raise ArgumentError(
            f"`memory` must be at least {mebibytes} MiB for this volume and kernel: "
            f"{amount(base + SCRATCH)} are already in use, and a chunk with its halo has to fit; "
            f"got {amount(limit)}"
        )
    return best


def restored(
    volume_filter: BlockFilter,
    source: Sides | None,
    target: Sides | None,
    stored: Sequence[dict[str, Any]],
    limit: int,
    base: int,
) -> Schedule:
    """Rebuild the schedule that `Schedule.to_list` described.

    Raises
    ------
    ArgumentError
        If it needs more memory than the limit.
    """
    axes = [tuple(s["axes"]) for s in stored]
    for filters in groupings(volume_filter):
        if [f.problem.axes for f in filters] == axes:
            break
    stages = tuple(
        Stage(f, int(s["along"]), tuple(s["sides"]), reads, writes)
        for f, s, (reads, writes) in zip(
            filters, stored, _files(len(filters), source, target), strict=True
        )
    )
    found = Schedule(stages, limit, base)
    needed = base + SCRATCH + max(s.memory for s in stages)
    if needed * 10 > limit * 11:
        raise ArgumentError(
            f"the partial file was planned for more memory: resuming it needs {amount(needed)}; "
            f"`memory` is {amount(limit)}. Allow that much, or start without resuming"
        )
    return found


def _files(
    count: int, source: Sides | None, target: Sides | None
) -> list[tuple[Sides | None, Sides | None]]:
    """Return source and target chunks of each stage; files between stages have no chunks."""
    ends = [source, *(None,) * (count - 1), target]
    return [(ends[i], ends[i + 1]) for i in range(count)]


def _smallest(
    volume_filter: BlockFilter, source: Sides | None, target: Sides | None, slow: int | None
) -> int:
    return min(
        max(
            smallest(f, reads, writes, slow)
            for f, (reads, writes) in zip(
                filters, _files(len(filters), source, target), strict=True
            )
        )
        for filters in groupings(volume_filter)
    )


def _described(stage: Stage) -> str:
    problem = stage.filter.problem
    sides = list(stage.sides)
    slabs = -(-stage.shape[stage.along] // sides[stage.along])
    columns = f"{stage.columns} columns of " if stage.columns > 1 else ""
    size = "x".join(map(str, sides))
    text = f"{columns}{slabs} slabs of {size} along axis {stage.along}"
    if slabs == 1:
        text = f"{columns}1 slab of {size}"
    left, right = dict(zip(problem.axes, problem.widths, strict=True)).get(stage.along, (0, 0))
    if slabs > 1 and left + right:
        text += f", halo {left} + {right} kept in memory"
    if stage.samples_read == problem.size:
        return f"{text}; everything is read once"
    cut = [a for a, (n, s) in enumerate(zip(stage.shape, sides, strict=True)) if n > s]
    along = _listed([a for a in cut if a != stage.along] or [stage.along])
    return f"{text}; the volume is read {stage.reread:.2f} times because of halos along {along}"


def _listed(axes: Sequence[int]) -> str:
    *first, last = map(str, axes)
    return f"axes {', '.join(first)} and {last}" if first else f"axis {last}"


def amount(size: float) -> str:
    """Return a number of bytes as text with a unit.

    Examples
    --------
    >>> amount(512 * 2**20), amount(3 * 2**30)
    ('512 MiB', '3 GiB')
    """
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= step:
            return (
                f"{size / step:.3g} {unit}" if size < 1000 * step else f"{size / step:.0f} {unit}"
            )
    return f"{size:.0f} bytes"


def default_limit(base: int) -> int:
    """Return the memory limit of a process that uses `base` bytes, where the user gave none.

    2 GiB more than the process already uses: enough for slabs that the disk reads at full speed.
    """
    return base + (2 << 30)


def read_amount(name: str, value: int | str) -> int:
    """Read a number of bytes such as "2GiB".

    Raises
    ------
    ArgumentError
        If the value is not a positive number with a unit of bytes.

    Examples
    --------
    >>> read_amount("memory", "1.5GiB"), read_amount("memory", 10**9)
    (1610612736, 1000000000)
    """
    text = str(value).strip().upper()
    number = text.rstrip("KMGTIB ")
    unit = text[len(number) :].strip() or "B"
    try:
        found = int(float(number) * UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        found = 0
    if found <= 0:
        raise ArgumentError(
            f"`{name}` must be a number of bytes such as 2GiB or 512MiB; got {value!r}"
        )
    return found
