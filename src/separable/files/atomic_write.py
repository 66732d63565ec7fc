"""Write a file under a temporary name and rename it once it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from separable.errors import FileError
from separable.system import Handle, exchange, rename_new

__all__ = ["new_beside", "take_name", "whole_or_nothing"]


@contextlib.contextmanager
def whole_or_nothing(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file beside the target, which becomes the target on success."""
    draft = new_beside(target, ".part")
    try:
        with draft.open("wb") as file:  # opened by name, which tifffile needs
            try:
                yield file
            except OSError as error:
                _reason_why(file, error)
                raise
            file.flush()
            os.fsync(file.fileno())
        take_name(draft, target, overwrite)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def new_beside(path: Path, suffix: str) -> Path:
    """Create an empty temporary file beside a file, with its permissions or the default ones.

    The default permissions are those of a newly created file; reading them with `os.umask` would
    change them for other threads.
    """
    while True:
        found = path.with_name(f".separable-{secrets.token_hex(4)}{suffix}")
        try:
            Handle(found, new=True).close()
        except FileExistsError:
            continue
        if path.exists():  # a copy must not be readable for more users
            os.chmod(found, path.stat().st_mode & 0o777 | 0o600)
        return found


def _reason_why(file: BinaryIO, error: OSError) -> None:
    """Raise the error of the system where NumPy only reports the number of missing bytes."""
    if error.errno is None and "requested and" in str(error):
        file.seek(0, os.SEEK_END)
        file.write(bytes(1 << 20))
        file.flush()


def take_name(draft: Path, target: Path, overwrite: bool) -> None:
    """Rename a draft, a file or a folder; an existing target is replaced if `overwrite` is true."""
    if draft.is_dir():
        _rename_folder(draft, target, overwrite)
        return
    os.chmod(draft, (target if target.exists() else draft).stat().st_mode & 0o777)
    if overwrite:
        os.replace(draft, target)
        return
    try:
        rename_new(draft, target)
    except FileExistsError:
        raise _came_meanwhile(target) from None


def _came_meanwhile(target: Path) -> FileError:
    return FileError(f"{target} was created meanwhile. Choose another name")


def _rename_folder(draft: Path, target: Path, overwrite: bool) -> None:
    """Rename a folder; an existing target is exchanged with it, or moved aside first.

    It is moved aside first where the system cannot exchange directories atomically. The exchange
    happens in a folder of another name: if the run were killed at that moment, the old contents
    would otherwise look like a draft.
    """
    if not target.exists():
        os.rename(draft, target)
        return
    if not overwrite:
        raise _came_meanwhile(target)
    mine = draft.stat()
    side = Path(tempfile.mkdtemp(prefix=".separable-", suffix=".old", dir=target.parent))
    ready, old = side / draft.name, side / "old"
    try:
        os.rename(draft, ready)
        if not exchange(ready, target):
            os.rename(target, old)
            os.rename(ready, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        if ready.exists() and os.path.samestat(ready.stat(), mine):
            os.rename(ready, draft)
        with contextlib.suppress(OSError):  # keep what could not be moved back
            side.rmdir()
        raise
    shutil.rmtree(side, ignore_errors=True)
