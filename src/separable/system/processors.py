"""How many processors a process may use, and what else is asked about processes."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from separable.system.asking import is_windows, lines_of, sysctl, windows_library

__all__ = [
    "after_fork",
    "available_processors",
    "group_of_its_own",
    "hold_while_forking",
    "loaded_libraries",
    "process_exists",
    "processor_limit",
    "processor_name",
    "yield_function",
]


def available_processors() -> int:
    """Return how many processors this process may use: 1 or more.

    Those of the computer, or those that the process is bound to, or what the control group of a
    container allows, rounded up; the least of them.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    limit = processor_limit()
    return max(1, count if limit is None else min(count, math.ceil(limit)))


@lru_cache(maxsize=4)
def processor_limit(root: Path = Path("/")) -> float | None:
    """Return how many processors' time the control groups of this process allow, if they limit it.

    A group is also limited by those that it lies in. The answer is remembered.

    Parameters
    ----------
    root : Path
        Where ``proc/self`` and the control groups are looked for.
    """
    found = [limit for folder in _control_groups(root) for limit in _limits(folder)]
    return min(found, default=None)


def _limits(folder: Path) -> Iterator[float]:
    """What a control group allows: version 2 says it in one file, version 1 in two."""
    values = " ".join(lines_of(folder / "cpu.max")).split()
    if not values:
        names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
        values = [text for name in names for text in lines_of(folder / name)]
    if len(values) == 2 and all(text.isdigit() and int(text) for text in values):
        yield int(values[0]) / int(values[1])  # "max" and -1 say that there is no limit


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of the groups of this process that may limit processors, with those above."""
    paths = {}  # of the group in each hierarchy, by what it controls; "" is version 2
    for line in lines_of(root / "proc/self/cgroup"):
        controllers, _, path = line.partition(":")[2].partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in lines_of(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, mounted = before.split(), after.split()  # the latter: kind, what, options
        if len(fields) < 5 or len(mounted) < 2:
            continue
        if mounted[0] == "cgroup2":
            group = paths.get("")
        elif mounted[0] == "cgroup" and "cpu" in mounted[-1].split(","):
            group = paths.get("cpu")
        else:
            continue
        # In a container the mount shows the container's group at its top, while the path may be
        # the one that the computer outside has.
        inside, top = fields[3].rstrip("/"), root / fields[4].lstrip("/")
        if group is None or ".." in group.split("/") or not f"{group}/".startswith(f"{inside}/"):
            group = inside
        folder = top / group[len(inside) :].lstrip("/")
        yield from (p for p in (folder, *folder.parents) if p == top or top in p.parents)


def processor_name() -> str:
    """Return the name of the processor, as the system tells it."""
    for line in lines_of(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    name = sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode(errors="replace")
    return name or platform.processor() or platform.machine() or "unknown processor"


def yield_function() -> str:
    """Return the name of the C function that lets other threads run; "" where there is none."""
    return "sched_yield" if hasattr(os, "sched_yield") else ""


def process_exists(number: int) -> bool:
    """Return whether a process of that number runs on this computer."""
    if is_windows():
        library = windows_library("kernel32")
        handle = library.OpenProcess(0x1000, False, number)  # only to ask about it
        if not handle:
            return False
        library.CloseHandle(handle)
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def after_fork(function: Callable[[], None]) -> None:
    """Have a function called in every process that is forked off this one, where that is done."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def hold_while_forking(take: Callable[[], object], give_back: Callable[[], object]) -> None:
    """Have a lock taken before every fork, and given back after it in both processes."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=take, after_in_parent=give_back, after_in_child=give_back)


def group_of_its_own() -> dict[str, Any]:
    """Return the options of `subprocess.Popen` for a process that Ctrl-C does not reach."""
    if is_windows():
        import subprocess

        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def loaded_libraries() -> tuple[Path, ...]:
    """Return the files that are mapped into this process; none where the system does not tell."""
    lines = lines_of(Path("/proc/self/maps"))
    return tuple(Path(n) for n in sorted({s.split(maxsplit=5)[-1] for s in lines if "/" in s}))
