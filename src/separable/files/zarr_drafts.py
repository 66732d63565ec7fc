"""The partial file of a Zarr store, which several processes write at once.

A chunk is written under a temporary name in a folder of the draft and then renamed::

    NAME.partial/.separable-writing-TOKEN/HOST-PID-NUMBER/CHUNK   one folder per process, its owner

Each process locks its folder while it runs. A folder whose lock is free is stale: its process has
ended or was killed. The token is drawn when the partial file is created. A process that opened an
older partial file of the same name finds no folder with its token, so it cannot write into the new
one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import platform
import secrets
import shutil
import stat
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.system import Handle, flush_path

__all__ = ["ChunkWriter", "draft_store", "read_store"]

WRITING = ".separable-writing-"
LOCK = "lock"


@dataclass(frozen=True)
class _Owner:
    """The folder in which one process writes its temporary chunks, locked."""

    folder: Path
    process: int
    close: Any  # a weakref.finalize: it runs once, however often it is called


class ChunkWriter:
    """Writer of one process: each chunk appears in the partial file once it is complete.

    It never creates the partial file, nor deletes what another process may be writing.

    Parameters
    ----------
    draft : Path
        The folder of the store.
    first : bool
        Whether this process prepares the draft for the others: it removes the temporary chunks of
        processes that have ended. A process that joins removes nothing.

    Raises
    ------
    FileError
        If the draft has no folder for temporary chunks and this is not the first process.
    """

    def __init__(self, draft: Path, *, first: bool) -> None:
        self.draft = draft
        self._mutex = threading.Lock()  # of the owner
        self._flushing = threading.Lock()  # a flush returns when all it is asked for is on the disk
        self._written: dict[Path, int] = {}  # path -> time of writing
        self._owner: _Owner | None = None
        found = sorted(draft.glob(f"{WRITING}*"))
        if first:
            self._remove_stale(found)
            if not found:
                _remove_old(draft)
                found = [draft / f"{WRITING}{secrets.token_hex(8)}"]
                found[0].mkdir()
        elif not found:
            raise FileError(
                f"cannot write into {draft}: it is not a partial file of this library, or was finished. "
                "Start again from the process that creates the target"
            )
        self.folder = found[0]

    def write(self, key: str, values: memoryview) -> None:
        """Write a chunk under a temporary name and rename it."""
        path = self.draft / key
        try:
            self._replace(path, values)
        except FileNotFoundError:
            # The first process took this owner for dead, or the partial file is another one now.
            self.close()
            self._replace(path, values)
        self._written[path] = time.monotonic_ns()

    def delete(self, key: str) -> None:
        """Delete a chunk: it holds nothing but the fill value."""
        path = self.draft / key
        path.unlink(missing_ok=True)
        self._written[path] = time.monotonic_ns()

    def flush(self, since: int = 0) -> None:
        """Flush to the disk what this process wrote since a time, including the file names."""
        with self._flushing:
            paths = [path for path, when in list(self._written.items()) if when >= since]
            for path in paths:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    flush_path(path)
            for folder in {path.parent for path in paths}:
                with contextlib.suppress(FileNotFoundError):
                    flush_path(folder)
            for path in paths:
                self._written.pop(path, None)

    def finish(self) -> None:
        """Remove all temporary chunks: no process has anything left to write."""
        self.close()
        gone = self.folder.with_name(f".separable-written-{self.folder.name.removeprefix(WRITING)}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.folder, gone)  # from here on a late writer fails
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Release the folder of this process; another write creates a new one."""
        with self._mutex:
            owner, self._owner = self._owner, None
        if owner is not None:
            owner.close()

    def _replace(self, path: Path, values: memoryview) -> None:
        temporary = self._folder() / f"{path.name}-{secrets.token_hex(8)}"
        try:
            with temporary.open("wb") as file:
                file.write(values)
            _make_folders(path.parent, self.draft)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _folder(self) -> Path:
        """Return the folder of this process; a forked process gets its own."""
        with self._mutex:
            if self._owner is None or self._owner.process != os.getpid():
                self._owner = self._register()
            return self._owner.folder

    def _register(self) -> _Owner:
        name = f"{platform.node() or 'host'}-{os.getpid()}-{secrets.token_hex(4)}"
        folder = self.folder / name
        folder.mkdir()  # not its parents: the folder of another draft is another one
        handle = Handle.locked(folder / LOCK)
        close = weakref.finalize(self, _give_up, handle, folder, os.getpid())
        return _Owner(folder, os.getpid(), close)

    @staticmethod
    def _remove_stale(folders: list[Path]) -> None:
        """Remove the folders of processes that have ended; those that live keep theirs."""
        for owner in (owner for folder in folders for owner in folder.iterdir()):
            if not (owner / LOCK).exists():  # just being created; removed at the end
                continue
            try:
                Handle.locked(owner / LOCK).close()
            except OSError:  # its process is running
                continue
            shutil.rmtree(owner, ignore_errors=True)


def _give_up(handle: Handle, folder: Path, process: int) -> None:
    """Close and remove the folder of an owner; a forked process leaves that of its parent."""
    handle.close()
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def _remove_old(draft: Path) -> None:
    """Remove the temporary chunks that versions before 0.2 left, which zarr itself wrote."""
    for found in draft.rglob("*.partial"):
        if found.is_file():
            found.unlink(missing_ok=True)


def _make_folders(folder: Path, root: Path) -> None:
    """Create a folder and its parents, but not the root, which exists or is gone for good."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    except FileNotFoundError:
        if root == folder or root not in folder.parents:
            raise
        _make_folders(folder.parent, root)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()


@functools.cache
def _store_classes() -> tuple[Any, Any]:
    """Return two local stores of zarr: a read-only one, and one that writes by a `ChunkWriter`."""
    from zarr.storage import LocalStore  # optional

    class FileStore(LocalStore):  # type: ignore[misc]  # of an optional package
        """Local store that refuses pipes and devices in place of files: reading them may block."""

        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            _refuse_devices(self.root / key)
            return await super().get(key, *arguments, **options)

        def get_sync(self, key: str, **options: Any) -> Any:
            _refuse_devices(self.root / key)
            return super().get_sync(key, **options)

    class DraftStore(FileStore):
        def __init__(self, root: Any, *, read_only: bool = False, writer: Any = None) -> None:
            super().__init__(root, read_only=read_only)
            self.writer = writer

        def with_read_only(self, read_only: bool = False) -> Any:
            return type(self)(self.root, read_only=read_only, writer=self.writer)

        def set_sync(self, key: str, value: Any) -> None:
            self._check_writable()
            self.writer.write(key, np.ascontiguousarray(value.as_numpy_array()).data)

        async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
            await asyncio.to_thread(self.set_sync, key, value)

        def delete_sync(self, key: str) -> None:
            self._check_writable()
            self.writer.delete(key)

        async def delete(self, key: str) -> None:
            await asyncio.to_thread(self.delete_sync, key)

    return FileStore, DraftStore


def _refuse_devices(path: Path) -> None:
    try:
        kind = path.stat().st_mode
    except OSError:  # reported by the function that opens it
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(f"{path.name} is a device, not a file")


def read_store(path: Path) -> Any:
    """Return the zarr store that reads a folder."""
    return _store_classes()[0](path, read_only=True)


def draft_store(writer: ChunkWriter) -> Any:
    """Return the zarr store that writes its chunks with a writer."""
    return _store_classes()[1](writer.draft, writer=writer)
