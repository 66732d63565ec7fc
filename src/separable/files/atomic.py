"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from separable.errors import FileError

__all__ = ["take_name", "whole_or_nothing"]


@contextlib.contextmanager
def whole_or_nothing(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file beside the target that becomes the target if all goes well."""
    handle, name = tempfile.mkstemp(prefix=".separable-", suffix=".part", dir=target.parent)
    os.close(handle)
    draft = Path(name)
    try:
        with draft.open("wb") as file:  # by its name, which tifffile asks for
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


def _reason_why(file: BinaryIO, error: OSError) -> None:
    """Raise what the system says where NumPy only says how many bytes it could not write."""
    if error.errno is None and "requested and" in str(error):
        file.seek(0, os.SEEK_END)
        file.write(bytes(1 << 20))
        file.flush()


def take_name(draft: Path, target: Path, overwrite: bool) -> None:
    """Give a draft, a file or a folder, its name; what stood there is replaced if that is told."""
    if draft.is_dir():
        _rename_folder(draft, target, overwrite)
        return
    os.chmod(draft, _permissions(target))
    _rename(draft, target, overwrite)


def _permissions(target: Path) -> int:
    """Those of the file that is replaced, else what any new file gets."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _rename(draft: Path, target: Path, overwrite: bool) -> None:
    """Give the draft its name; a file that came to be meanwhile is kept unless told."""
    if not overwrite:
        try:
            os.link(draft, target)
        except FileExistsError:
            raise FileError(f"{target} came to exist meanwhile. Choose another name") from None
        except OSError:  # a file system without links
            if target.exists():
                raise FileError(f"{target} came to exist meanwhile. Choose another name") from None
        else:
            draft.unlink()
            return
    os.replace(draft, target)


def _rename_folder(draft: Path, target: Path, overwrite: bool) -> None:
    """As `_rename`; a folder that is replaced goes aside first, for want of a way to swap them."""
    old = None
    if target.exists():
        if not overwrite:
            raise FileError(f"{target} came to exist meanwhile. Choose another name")
        old = Path(tempfile.mkdtemp(prefix=".separable-", suffix=".old", dir=target.parent))
        os.rename(target, old / target.name)
    try:
        os.rename(draft, target)
    except BaseException:
        if old is not None:
            os.rename(old / target.name, target)
            old.rmdir()
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
