"""Memory of the computer and of this process, and constants for native memory mappings."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from separable.system.asking import is_windows, lines_of, sysctl, windows_library

__all__ = [
    "HAS_PRIVATE_MAPPINGS",
    "HUGE_PAGES_ADVICE",
    "MAPPING_FLAGS",
    "MAPPING_PROTECTION",
    "ask_huge_pages",
    "peak_memory",
    "physical_memory",
    "resident_memory",
    "return_free_memory",
]

# Arguments of the C functions `mmap` and `madvise` for private memory; 0 if not available.
MAPPING_PROTECTION = getattr(mmap, "PROT_READ", 0) | getattr(mmap, "PROT_WRITE", 0)
MAPPING_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
HUGE_PAGES_ADVICE = getattr(mmap, "MADV_HUGEPAGE", 0)
HAS_PRIVATE_MAPPINGS = MAPPING_FLAGS != 0


def physical_memory() -> int:
    """Return the memory of this computer in bytes; 0 if unknown."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        pages = size = -1
    if pages > 0 < size:
        return pages * size
    if is_windows():
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        found = windows_library("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.physical) if found else 0
    return int.from_bytes(sysctl("hw.memsize"), sys.byteorder)


def resident_memory() -> int:
    """Return the memory in use by this process in bytes, or its peak if only that is known."""
    status = _status_of_linux()
    if "VmRSS" in status:
        return status["VmRSS"]
    return _counters_of_windows().resident if is_windows() else peak_memory()


def peak_memory() -> int:
    """Return the peak memory of this process in bytes; 0 if unknown."""
    status = _status_of_linux()
    if "VmHWM" in status:
        return status["VmHWM"]
    if is_windows():
        return int(_counters_of_windows().peak)
    try:
        import resource  # Unix only
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024  # macOS: bytes, others: KiB


def ask_huge_pages(address: int, size: int) -> None:
    """Request huge pages for memory that is not yet in use, if the system has them.

    Parameters
    ----------
    address, size : int
        Address and size in bytes, both multiples of the page size.
    """
    function = _madvise()
    if function is not None and size > 0:
        function(address, size, HUGE_PAGES_ADVICE)


@lru_cache(maxsize=1)
def _madvise() -> Any:
    """Return `madvise` of the C library, or None."""
    if not HUGE_PAGES_ADVICE:
        return None
    try:
        found = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found


def return_free_memory() -> None:
    """Return freed memory to the system, which glibc would keep per thread."""
    trim = _trimming()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trimming() -> Callable[[int], object] | None:
    """Return `malloc_trim` of glibc, or None with another C library."""
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found


def _status_of_linux() -> dict[str, int]:
    """Return the sizes in ``/proc/self/status`` in bytes."""
    fields = (line.split() for line in lines_of(Path("/proc/self/status")))
    return {f[0].rstrip(":"): int(f[1]) * 1024 for f in fields if len(f) == 3 and f[2] == "kB"}


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("physical", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    )


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of Windows."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("faults", ctypes.c_uint32),
        ("peak", ctypes.c_size_t),
        ("resident", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 6),
    )


def _counters_of_windows() -> _Counters:
    found = _Counters(length=ctypes.sizeof(_Counters))
    library = windows_library("kernel32")
    library.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(library.GetCurrentProcess())
    library.K32GetProcessMemoryInfo(process, ctypes.byref(found), found.length)
    return found
