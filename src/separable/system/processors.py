"""Number of processors that a process may use, and other facts about processes."""

from __future__ import annotations

import math
import os
import platform
import signal
import sys
import threading
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
    "last_level_cache",
    "loaded_libraries",
    "process_exists",
    "processor_features",
    "processor_limit",
    "processor_name",
    "processor_vendor",
    "signal_main_thread",
    "yield_function",
]


FIRST_PROCESSOR = (
    1 << 13
)  # characters of ``/proc/cpuinfo`` that describe the first processor, and more


def available_processors() -> int:
    """Return the number of processors that this process may use, at least 1.

    This is the minimum of the processors of the computer, those that the process is bound to, and
    the limit of the control group of a container, rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    limit = processor_limit()
    return max(1, count if limit is None else min(count, math.ceil(limit)))


@lru_cache(maxsize=4)
def processor_limit(root: Path = Path("/")) -> float | None:
    """Return the processor limit of the control groups of this process, or None.

    A group is also limited by its parent groups. The result is cached.

    Parameters
    ----------
    root : Path
        Root of the file system with ``proc/self`` and the control groups.
    """
    found = [limit for folder in _control_groups(root) for limit in _limits(folder)]
    return min(found, default=None)


def _limits(folder: Path) -> Iterator[float]:
    """Yield the limit of a control group: version 2 has one file for it, version 1 two."""
    values = " ".join(lines_of(folder / "cpu.max")).split()
    if not values:
        names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
        values = [text for name in names for text in lines_of(folder / name)]
    if len(values) == 2 and all(text.isdigit() and int(text) for text in values):
        yield int(values[0]) / int(values[1])  # "max" and -1 mean no limit


def _control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, with their parents."""
    paths = {}  # controller -> path of the group; "" is version 2
    for line in lines_of(root / "proc/self/cgroup"):
        controllers, _, path = line.partition(":")[2].partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in lines_of(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, mounted = before.split(), after.split()  # mounted: type, source, options
        if len(fields) < 5 or len(mounted) < 2:
            continue
        if mounted[0] == "cgroup2":
            group = paths.get("")
        elif mounted[0] == "cgroup" and "cpu" in mounted[-1].split(","):
            group = paths.get("cpu")
        else:
            continue
        # In a container, the mount begins at the group of the container, while the path may be that
        # of the host.
        inside, top = fields[3].rstrip("/"), root / fields[4].lstrip("/")
        if group is None or ".." in group.split("/") or not f"{group}/".startswith(f"{inside}/"):
            group = inside
        folder = top / group[len(inside) :].lstrip("/")
        yield from (p for p in (folder, *folder.parents) if p == top or top in p.parents)


def processor_name() -> str:
    """Return the name of the processor."""
    name = _of_linux("model name")
    if name:
        return name
    name = (
        sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode(errors="replace") or _of_windows()
    )
    numbers = _of_linux("CPU implementer"), _of_linux("CPU part")  # of Arm
    return name or " ".join(filter(None, (platform.machine(), *numbers))) or "unknown processor"


def processor_vendor() -> str:
    """Return the vendor of the processor as it stands in names of processors; "" if unknown."""
    text = f"{_of_linux('vendor_id')} {_of_windows()} {processor_name()}"
    for vendor, names in (("AMD", ("AuthenticAMD", "AMD ")), ("Intel", ("GenuineIntel", "Intel"))):
        if any(name in text for name in names):
            return vendor
    return "Apple" if "Apple" in text else ""


def processor_features() -> frozenset[str]:
    """Return the instruction sets of the processor as Linux names them; none if unknown."""
    return frozenset((_of_linux("flags") or _of_linux("Features")).split())


def last_level_cache(root: Path = Path("/")) -> int:
    """Return the size of the last-level cache of one processor in bytes; 0 if unknown.

    Parameters
    ----------
    root : Path
        Root of the file system with ``sys/devices/system/cpu``.
    """
    folder, largest = root / "sys/devices/system/cpu/cpu0/cache", 0
    for index in range(8):
        text = "".join(lines_of(folder / f"index{index}" / "size")).strip()
        number, unit = text.rstrip("KMG"), text[-1:]
        if number.isdigit():
            factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(unit, 1)
            largest = max(largest, int(number) * factor)
    of_macos = (sysctl(name) for name in ("hw.l3cachesize", "hw.perflevel0.l2cachesize"))
    return max(largest, *(int.from_bytes(value, sys.byteorder) for value in of_macos))


def _of_windows() -> str:
    """Return family, model and vendor of the processor on Windows; "" on other systems."""
    return platform.processor() if is_windows() else ""  # elsewhere it would start a process


def _of_linux(field: str) -> str:
    """Return a field of the first processor in ``/proc/cpuinfo``; "" if there is none."""
    # Linux asks every processor while the file is read: the first one is enough.
    for line in lines_of(Path("/proc/cpuinfo"), FIRST_PROCESSOR):
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def yield_function() -> str:
    """Return the name of the C function that lets other threads run; "" if there is none."""
    return "sched_yield" if hasattr(os, "sched_yield") else ""


def process_exists(number: int) -> bool:
    """Return whether a process of that number runs on this computer."""
    if is_windows():
        library = windows_library("kernel32")
        handle = library.OpenProcess(0x1000, False, number)  # permission to query only
        if not handle:
            return False
        library.CloseHandle(handle)
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # process of another user
        return True
    return True


def signal_main_thread(number: signal.Signals) -> None:
    """Send a signal to this process; where it can be, to the main thread, so that no wait holds it up."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def after_fork(function: Callable[[], None]) -> None:
    """Call a function in every process forked from this one, on systems that fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def hold_while_forking(take: Callable[[], object], give_back: Callable[[], object]) -> None:
    """Acquire a lock before every fork, and release it afterwards in both processes."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=take, after_in_parent=give_back, after_in_child=give_back)


def group_of_its_own() -> dict[str, Any]:
    """Return the options of `subprocess.Popen` for a process that Ctrl-C does not reach."""
    if is_windows():
        import subprocess  # start-up time

        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def loaded_libraries() -> tuple[Path, ...]:
    """Return the files that are mapped into this process; none if unknown."""
    lines = lines_of(Path("/proc/self/maps"))
    return tuple(Path(n) for n in sorted({s.split(maxsplit=5)[-1] for s in lines if "/" in s}))
