"""`Handle`: an open file with one owner."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NoReturn

from separable.errors import FileError
from separable.system.asking import is_windows
from separable.system.descriptors import (
    allocate,
    lock_exclusively,
    open_descriptor,
    read_at,
    write_at,
)

__all__ = ["Handle"]


class Handle:
    """An open file, the only owner of its descriptor.

    The descriptor is closed once, however often `close` is called and by any thread: closing a
    number twice may close another file of the program. If another thread is reading or writing at
    that moment, the file is closed when that thread is done. A handle cannot be copied or pickled;
    its owner opens the file again.

    It is a context manager.

    Parameters
    ----------
    path : path
    write : bool
        Whether the file is also opened for writing.
    create : bool
        Whether the file is created if it does not exist.
    new : bool
        Whether the file is created and must not exist before; it is opened for writing.
    append : bool
        Whether the file is opened for `append`, which writes to its end.

    Raises
    ------
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Handle(Path(folder) / "numbers", write=True, create=True) as file:
    ...         file.write(b"0123456789", 0)
    ...         part = bytearray(3)
    ...         file.read(part, 4)
    ...     file.close()
    >>> part, file.closed
    (bytearray(b'456'), True)
    """

    def __init__(
        self,
        path: Path,
        *,
        write: bool = False,
        create: bool = False,
        new: bool = False,
        append: bool = False,
    ) -> None:
        self.path = path
        self._lock, self._place = (
            Lock(),
            Lock(),
        )  # for the attributes below, and for the position in the file
        self._users, self._ended, self._number = 0, False, -1
        flags = os.O_RDWR if write or new or append else os.O_RDONLY
        flags |= os.O_CREAT if create or new else 0
        flags |= (os.O_EXCL if new else 0) | (os.O_APPEND if append else 0)
        self._number = open_descriptor(path, flags)

    @classmethod
    def locked(cls, path: Path) -> Handle:
        """Open a file to append to it, create it if necessary, and lock it until it is closed.

        Raises
        ------
        BlockingIOError
            If another process, or another handle, has locked it.
        OSError
            If the file cannot be opened.
        """
        while True:
            handle = cls(path, append=True, create=True)
            try:
                with handle._used() as number:
                    if not lock_exclusively(number):
                        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
                    if _bears(path, number):
                        return handle
            except BaseException:
                handle.close()
                raise
            handle.close()  # its former owner has deleted it meanwhile

    @property
    def closed(self) -> bool:
        """True if the file was closed."""
        return self._ended

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        with self._used() as number:
            return os.fstat(number).st_size

    def read(self, buffer: object, place: int) -> None:
        """Fill a buffer from an offset of the file.

        Raises
        ------
        EOFError
            If the file is too short.
        """
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        with self._used() as number:
            while view:
                count = read_at(number, view, place, self._place)
                if count == 0:
                    raise EOFError("the file ends before its data")
                view, place = view[count:], place + count

    def write(self, buffer: object, place: int) -> None:
        """Write a buffer at an offset of the file."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        with self._used() as number:
            while view:
                count = write_at(number, view, place, self._place)
                view, place = view[count:], place + count

    def append(self, text: bytes) -> None:
        """Write to the end of a file that was opened to append."""
        view = memoryview(text)
        with self._used() as number:
            while view:
                view = view[os.write(number, view) :]

    def map(self, place: int, length: int, write: bool) -> mmap.mmap:
        """Map a part of the file into memory; the map stays valid when the file is closed.

        Parameters
        ----------
        place : int
            Offset in bytes, a multiple of `mmap.ALLOCATIONGRANULARITY`.
        length : int
        write : bool
        """
        access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
        with self._used() as number:
            return mmap.mmap(number, length, access=access, offset=place)

    def allocate(self, size: int) -> None:
        """Extend the file to a size, and reserve its disk space.

        Raises
        ------
        OSError
            If there is not enough space.
        """
        with self._used() as number:
            allocate(number, self.path, size)

    def truncate(self, size: int) -> None:
        """Truncate the file."""
        with self._used() as number:
            os.ftruncate(number, size)

    def flush(self) -> None:
        """Flush the file to the disk."""
        with self._used() as number:
            os.fsync(number)

    def close(self) -> None:
        """Close the file, once.

        Raises
        ------
        OSError
            If the descriptor is not open, or written data is lost.
        """
        with self._lock:
            self._ended = True
            number = self._take()
        if number >= 0:
            os.close(number)

    def remove(self) -> None:
        """Delete the file and close it, so that no other process can lock it in between.

        A file that was closed before is kept, because another process may own it by now.
        """
        if self._ended:
            return
        if is_windows():  # which cannot delete an open file
            self.close()
            with contextlib.suppress(PermissionError):  # another process has opened it
                self.path.unlink(missing_ok=True)
            return
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def _take(self) -> int:
        """Return the descriptor to close if it is no longer used, else -1."""
        if not self._ended or self._users:
            return -1
        number, self._number = self._number, -1
        return number

    @contextlib.contextmanager
    def _used(self) -> Iterator[int]:
        """Yield the descriptor, which is not closed before the context ends."""
        with self._lock:
            if self._ended:
                raise FileError(f"cannot use {self.path}: it has been closed. Open it again")
            self._users += 1
        try:
            yield self._number
        finally:
            with self._lock:
                self._users -= 1
                number = self._take()
            if number >= 0:
                os.close(number)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)
            warnings.warn(f"{self.path} was not closed", ResourceWarning, 2, source=self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"an open file cannot be copied or pickled: {self.path}")

    def __repr__(self) -> str:
        return f"Handle({str(self.path)!r}{', closed' if self._ended else ''})"


def _bears(path: Path, number: int) -> bool:
    """Return whether a path still refers to an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False
