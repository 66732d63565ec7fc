"""Ask the operating system: files in ``/proc`` on Linux, functions of Windows and macOS."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["is_windows", "lines_of", "sysctl", "windows_library"]


def lines_of(path: Path, most: int = -1) -> list[str]:
    """Return the lines of a small file, or of its first `most` characters; none if it does not exist."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(most).splitlines()
    except OSError:
        return []


def is_windows() -> bool:
    """Return whether this is Windows."""
    return os.name == "nt"


def windows_library(name: str) -> Any:
    """Return a new handle of a Windows library, separate from those of other modules."""
    return getattr(ctypes, "WinDLL")(name)  # noqa: B009 - known on Windows only


def sysctl(name: str) -> bytes:
    """Return a `sysctl` value of macOS as bytes; no bytes on other systems."""
    if platform.system() != "Darwin":
        return b""
    library, size = ctypes.CDLL(None), ctypes.c_size_t(256)
    value = ctypes.create_string_buffer(size.value)
    if library.sysctlbyname(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return b""
    return value.raw[: size.value]
