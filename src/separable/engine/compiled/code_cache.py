"""Keep compiled code on disk, one file per function and types of arguments.

A filter never fails because of this cache: an entry that cannot be read is compiled again, one that cannot be
written is kept in memory. Each entry is a file of its own, written under a temporary name and renamed, so
that processes which compile at the same time never see incomplete entries. An entry begins with its key and carries a
checksum: a damaged one is compiled and written again.

Entries lie in a folder per version of the engine (a hash of its code, of Numba's version and of
the vector width). The folders of old versions are removed when a new one is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .numba_api import VERSIONS, CompileResult, dumps

LOG = logging.getLogger("separable")
MAGIC = b"separable 1\n"
SUFFIX = ".nbc"
VERSIONS_KEPT = 4
"""Number of folders of each kind that are kept, the most recently used ones."""
UNUSED_SECONDS = 7 * 24 * 3600
"""Folders used within this time are always kept: another process may run that version."""
VERSION_FOLDER = re.compile(r"[a-z]+-[0-9a-f]{16}")
OURS = re.compile(r".*\.(nbc|nbi)(\.tmp.*)?|\.[^.]+\.tmp")


def root() -> Path | None:
    """Return the folder that holds compiled code of every version, or None where there is no home."""
    explicit = os.environ.get("SEPARABLE_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if explicit:
        return Path(os.path.abspath(explicit))
    from platformdirs import user_cache_path

    try:
        found = Path(user_cache_path("separable"))
    except (OSError, RuntimeError, KeyError):
        return None
    # Without a home the name of the folder begins with "~".
    return found if found.is_absolute() else None


def state(folder: Path | None) -> str:
    """Return the access to a folder of compiled code: "writable", "read-only" or "none".

    A folder that does not exist is writable if it can be made.
    """
    if folder is None:
        return "none"
    try:
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"0")
            return "writable"
        above = next(p for p in folder.parents if p.exists())
        return "writable" if above.is_dir() and os.access(above, os.W_OK | os.X_OK) else "none"
    except OSError:
        return "read-only" if has_entries(folder) else "none"


def has_entries(folder: Path | None) -> bool:
    """Return whether a folder holds compiled code."""
    if folder is None:
        return False
    try:
        return any(name.endswith(SUFFIX) for name in os.listdir(folder))
    except OSError:
        return False


def size(folder: Path | None) -> int:
    """Return the total size of a folder's entries in bytes."""
    total = 0
    if folder is not None:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    total += (folder / name).stat().st_size if name.endswith(SUFFIX) else 0
    return total


class Cache:
    """Cache of the compiled versions of one function, with the interface of Numba's own.

    Parameters
    ----------
    function : callable
        The function that is compiled.
    folder : callable
        Returns the folder of this version, or None.
    on_miss : callable
        Called before something is compiled.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        folder: Callable[[], Path | None],
        on_miss: Callable[[], None],
    ) -> None:
        self._function, self._folder, self._on_miss = function, folder, on_miss
        code = function.__code__
        self._name = f"{Path(code.co_filename).stem}.{function.__qualname__}"
        self._name = re.sub(r"[^\w.]", "", self._name)
        # No line number: an edited comment moves a function but leaves its machine code as it is.
        self._code = hashlib.sha256(code.co_code).hexdigest()

    @property
    def cache_path(self) -> str | None:
        """The folder, for Numba's statistics."""
        folder = self._folder()
        return None if folder is None else str(folder)

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    def disable(self) -> None:
        """Do nothing: the cache is always on."""

    def flush(self) -> None:
        """Do nothing: entries of other sources are never read."""

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the compiled function for a signature, or None."""
        target_context.refresh()
        key = self._key(signature, target_context.codegen())
        path = self._path(key)
        if path is not None:
            try:
                data = _read(path, key)
                if data is not None:
                    return CompileResult._rebuild(target_context, *pickle.loads(data))
            except MemoryError:
                raise
            except Exception as error:  # damaged, but with a valid checksum
                LOG.info("separable: %s cannot be used and is compiled again: %s", path, error)
        self._on_miss()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write a compiled function; a failure is logged and otherwise ignored."""
        path = self._path(key := self._key(signature, result.library._codegen))
        if path is None or result.lifted or result.library.has_dynamic_globals:
            return
        try:
            data = dumps(result._reduce())
            _make(path.parent)
            _write(path, key, data)
        except Exception as error:
            _log_failure(path.parent, error)

    def _key(self, signature: Any, codegen: Any) -> bytes:
        python = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
        parts = (self._name, self._code, signature, codegen.magic_tuple(), python, VERSIONS)
        return repr(parts).encode("utf-8", "backslashreplace")

    def _path(self, key: bytes) -> Path | None:
        folder = self._folder()
        if folder is None:
            return None
        return folder / f"{self._name}-{hashlib.sha256(key).hexdigest()[:24]}{SUFFIX}"


def _read(path: Path, key: bytes) -> bytes | None:
    """Return the data of an entry, or None if there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(MAGIC) + 32
    body = content[head:]
    whole = (
        content[: len(MAGIC)] == MAGIC
        and hashlib.sha256(body).digest() == content[head - 32 : head]
    )
    if not whole or not body.startswith(key):
        LOG.info("separable: %s is damaged and is compiled again", path)
        return None
    return body[len(key) :]


def _write(path: Path, key: bytes, data: bytes) -> None:
    """Write an entry whole or not at all."""
    body = key + data
    draft = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(draft, "xb") as file:
            file.write(MAGIC + hashlib.sha256(body).digest() + body)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


_used: set[Path] = set()
_logged = False


def _make(folder: Path) -> None:
    """Make the folder of this version if it does not exist, and remove folders not used for long."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    prune(folder)


def mark_used(folder: Path) -> None:
    """Record on disk, once per process, that this version is in use."""
    if folder not in _used:
        _used.add(folder)
        with contextlib.suppress(OSError):
            os.utime(folder)


def prune(current: Path) -> None:
    """Remove folders of versions like `current` that have not been used for long."""
    with contextlib.suppress(OSError):
        kind, now = current.name.rsplit("-", 1)[0], time.time()
        others = sorted(_versions(current.parent, kind), reverse=True)
        for used, folder in others[VERSIONS_KEPT:]:
            if folder != current and now - used > UNUSED_SECONDS:
                _remove(folder)


def _versions(parent: Path, kind: str) -> Iterator[tuple[float, Path]]:
    for name in os.listdir(parent):
        folder = parent / name
        ours = VERSION_FOLDER.fullmatch(name) and name.rsplit("-", 1)[0] == kind
        if ours and folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(OSError):
                yield folder.stat().st_mtime, folder


def _remove(folder: Path) -> None:
    """Remove the compiled code of a folder, and the folder if nothing else is in it."""
    for name in os.listdir(folder):
        if OURS.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(folder / name)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _log_failure(folder: Path, error: Exception) -> None:
    """Log, once per process, that compiled code is not kept.

    A log message instead of a warning: results are correct, and a program that turns warnings into errors
    must not stop because of a full disk.
    """
    global _logged
    if not _logged:
        _logged = True
        LOG.warning(
            "separable: compiled code cannot be kept in %s (%s); each process compiles it again, for some "
            "seconds. Choose another folder with SEPARABLE_CACHE_DIR",
            folder,
            error,
        )
