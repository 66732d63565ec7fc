"""Operations on file descriptors and file names that differ between systems."""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import shutil
from pathlib import Path
from threading import Lock
from typing import Any

from separable.system.asking import is_windows

__all__ = [
    "NO_SUCH_LOCK",
    "allocate",
    "exchange",
    "flush_path",
    "lock_exclusively",
    "open_descriptor",
    "read_at",
    "rename_new",
    "write_at",
]

ONE_READ = 16 << 20  # bytes read at a time where they have to be copied
LOCK_PLACE = 1 << 30  # the byte that is locked on Windows: far beyond the data
NO_SUCH_CALL = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
NO_SUCH_LOCK = (*NO_SUCH_CALL, errno.ENOLCK)
AT_FDCWD = -100  # `renameat2`: paths are relative to the current folder
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # of Linux
RENAME_SWAP, RENAME_EXCL = 2, 4  # of macOS


def open_descriptor(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """Open a file in binary mode, also on Windows, and return its descriptor."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), mode)


def read_at(number: int, view: memoryview, place: int, lock: Lock) -> int:
    """Read at an offset of a file into a buffer, and return the number of bytes read.

    Parameters
    ----------
    number : int
        File descriptor.
    view : memoryview
        Buffer of bytes, which may be filled only partly.
    place : int
        Offset in bytes.
    lock : Lock
        Lock of this descriptor, held if the system can only read at the current position.
    """
    if hasattr(os, "preadv"):
        return os.preadv(number, [view], place)
    if hasattr(os, "pread"):
        found = os.pread(number, min(len(view), ONE_READ), place)
    else:
        with lock:
            os.lseek(number, place, os.SEEK_SET)
            found = os.read(number, min(len(view), ONE_READ))
    view[: len(found)] = found
    return len(found)


def write_at(number: int, view: memoryview, place: int, lock: Lock) -> int:
    """Write a buffer at an offset of a file, and return the number of bytes written.

    The parameters are those of `read_at`.
    """
    if hasattr(os, "pwrite"):
        return os.pwrite(number, view, place)
    with lock:
        os.lseek(number, place, os.SEEK_SET)
        return os.write(number, view)


def allocate(number: int, path: str | os.PathLike[str], size: int) -> None:
    """Extend a file to a size, and reserve its disk space if the system can.

    Writing to a memory-mapped file on a full disk kills the process, so a full disk must be detected
    here.

    Raises
    ------
    OSError
        If there is not enough space.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(number, 0, size)
        except OSError as error:
            if error.errno not in NO_SUCH_CALL:  # a file system without it
                raise
        else:
            return
    more = size - os.fstat(number).st_size
    if more <= 0:
        return
    if more > shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
    os.ftruncate(number, size)


def flush_path(path: str | os.PathLike[str]) -> None:
    """Flush a file or folder to the disk, if the system can do that for a folder."""
    folder = os.path.isdir(path)
    if folder and is_windows():
        return  # Windows cannot open a folder, and writes its entries by itself
    # Windows flushes only what is open for writing; elsewhere reading is enough, and more often allowed.
    try:
        number = open_descriptor(path, os.O_RDWR if is_windows() else os.O_RDONLY)
    except PermissionError:
        if folder:  # writable, but not readable
            return
        raise
    try:
        os.fsync(number)
    except OSError as error:
        if not folder or error.errno not in NO_SUCH_CALL:  # a file system that does so by itself
            raise
    finally:
        os.close(number)


def lock_exclusively(number: int) -> bool:
    """Lock a file until its descriptor is closed; return False if another process has locked it.

    A killed process releases its locks. On a system without locks, always return True.

    Raises
    ------
    OSError
        With an `errno` of `NO_SUCH_LOCK` if the file system has no locks.
    """
    try:
        _lock(number)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _lock(number: int) -> None:
    try:
        import fcntl  # Unix only
    except ImportError:
        pass
    else:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        windows: Any = importlib.import_module("msvcrt")
    except ImportError:
        return
    place = os.lseek(number, 0, os.SEEK_CUR)
    os.lseek(number, LOCK_PLACE, os.SEEK_SET)
    try:
        windows.locking(number, windows.LK_NBLCK, 1)
    finally:
        os.lseek(number, place, os.SEEK_SET)


def rename_new(old: Path, new: Path) -> None:
    """Rename a file, unless the new name is taken.

    Raises
    ------
    FileExistsError
        If it is. If neither the file system nor the system can check this while renaming, it is
        checked just before.
    """
    if is_windows():
        os.rename(old, new)  # which fails there if the new name is taken
        return
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if _rename_by_flags(old, new, RENAME_NOREPLACE, RENAME_EXCL):
            return
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        os.replace(old, new)
    else:
        os.unlink(old)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one step, and return whether the system can."""
    return _rename_by_flags(one, other, RENAME_EXCHANGE, RENAME_SWAP)


def _rename_by_flags(one: Path, other: Path, linux: int, mac: int) -> bool:
    """Rename as Linux's `renameat2` or macOS's `renamex_np`; False where there is neither."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):  # Windows has no library of that name
        return False
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):
        here = ctypes.c_int(AT_FDCWD)
        failed = library.renameat2(here, names[0], here, names[1], ctypes.c_uint(linux))
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, ctypes.c_uint(mac))
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in NO_SUCH_CALL:  # an old kernel, or a file system without it
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
