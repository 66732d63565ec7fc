"""Take away what only Unix has, then read, write, filter and resume files of every format.

A program of its own, run in an empty folder: names cannot be given back to modules that are imported.
"""

from __future__ import annotations

import builtins
import importlib
import io
import mmap
import os
import pathlib
import sys
from typing import Any

NAMES = (
    "preadv", "pread", "pwrite", "pwritev", "preadv2", "pwritev2", "posix_fallocate", "posix_fadvise", "sysconf",
    "sysconf_names", "sched_getaffinity", "sched_setaffinity", "sched_yield", "register_at_fork",
    "fork", "forkpty", "statvfs", "fstatvfs", "getloadavg", "getuid", "geteuid", "fchmod", "fchown",
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "O_DSYNC",
)  # fmt: skip
MAPS = (
    "MAP_PRIVATE",
    "MAP_ANONYMOUS",
    "MAP_ANON",
    "MAP_SHARED",
    "MADV_HUGEPAGE",
    "PROT_READ",
    "PROT_WRITE",
)
MODULES = ("resource", "fcntl", "pwd", "grp", "termios")


def take_away() -> None:
    """Make this look like a system that is not Unix, as far as names go."""
    # These ask for the system's calls when they are imported, and have others on Windows.
    import shutil

    import platformdirs  # noqa: F401

    usage = shutil.disk_usage
    statvfs = os.statvfs
    hidden = ("/proc/", "/sys/")
    opened, looked = builtins.open, os.open

    def open_file(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(hidden):
            raise FileNotFoundError(2, "No such file or directory", path)
        return opened(path, *arguments, **options)

    def open_number(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if os.path.isdir(path) and not _from_library():
            raise PermissionError(13, "Permission denied", path)  # Windows opens no folder
        return looked(path, flags, *arguments, **options)

    def disk_usage(path: Any) -> Any:
        os.statvfs = statvfs
        try:
            return usage(path)
        finally:
            del os.statvfs

    builtins.open = io.open = open_file
    if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10 has looked `open` up already
        pathlib._NormalAccessor.open = staticmethod(open_file)
    os.open = open_number
    shutil.disk_usage = disk_usage
    for name in NAMES:
        if hasattr(os, name):
            delattr(os, name)
    for name in MAPS:
        if hasattr(mmap, name):
            delattr(mmap, name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


def _from_library() -> bool:
    """Return whether the standard library itself opens a folder, as `shutil.rmtree` does on Unix."""
    return "shutil" in sys._getframe(2).f_code.co_filename


class StopError(Exception):
    """The run was cut off."""


def use(suffix: str) -> None:
    """Write, read, filter from file to file, cut off and go on, in one format."""
    import numpy as np

    import separable as sep
    from separable import files, volumes

    kernel = np.ones((3, 3, 3)) / 27
    volume = np.arange(20 * 21 * 22, dtype=np.float32).reshape(20, 21, 22) % 97
    for left in (
        "in.img",
        "in.hdr",
        "out.img",
        "out.hdr",
    ):  # of the other format with these suffixes
        if os.path.exists(left):
            os.remove(left)
    files.write_image(f"in{suffix}", volume)
    read, _ = files.read_image(f"in{suffix}")
    assert np.array_equal(np.sort(read, axis=None), np.sort(volume, axis=None)), suffix
    with files.open_source(f"in{suffix}") as source:
        part = source.read((slice(3, 5), slice(4, 20), slice(1, 2)))
    assert np.array_equal(part, read[3:5, 4:20, 1:2]), suffix
    by_parts = (
        next(f for f in files.registered_formats() if suffix in f.suffixes).create is not None
    )
    target = f"out{suffix if by_parts else suffix + '.npy'}"

    def stop(_: float) -> None:
        raise StopError

    try:
        volumes.filter(f"in{suffix}", target, kernel, progress=stop)
    except StopError:
        pass
    else:
        raise AssertionError("it was not cut off")
    assert os.path.exists(f"{target}.partial")
    with volumes.Run(f"in{suffix}", target, kernel) as run:
        assert run.resumed == 1, suffix
        run()
    found, _ = files.read_image(target)
    expected = sep.convolve(read, kernel, method="separable")
    np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=suffix)
    volumes.filter(f"in{suffix}", target, kernel, overwrite=True)
    left = [name for name in os.listdir() if "partial" in name or name.startswith(".")]
    assert left == [], left


def main() -> None:
    """Try every format that can be read by parts, and whole pictures."""
    take_away()
    import numpy as np

    import separable as sep
    from separable import files, system
    from separable.engine.result_memory import empty

    assert sep.get_num_threads() >= 1
    assert system.physical_memory() == system.resident_memory() == 0  # nobody says
    assert empty((3 << 20,), "u1").nbytes == 3 << 20
    large = np.ones((600, 1000), np.float32)
    assert np.allclose(sep.convolve(large, np.ones((3, 3)) / 9), 1)
    for format in files.registered_formats():
        try:
            importlib.import_module(format.package or "numpy")
        except ImportError:
            print(f"{format.name}: not installed")
            continue
        if format.write is None and format.create is None:  # only read
            print(f"{format.name}: not installed")
        elif format.open is not None:
            use(format.suffixes[0])
        else:
            colours = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
            files.write_image(f"a{format.suffixes[0]}", colours)
            assert files.read_image(f"a{format.suffixes[0]}")[0].shape == (5, 6, 3)
        if format.write is not None or format.create is not None:
            print(f"{format.name}: right")


if __name__ == "__main__":
    main()
