"""Check output files in advance, and write several together, all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from separable.errors import FileError
from separable.files.atomic_write import new_beside, take_name

__all__ = ["check_output", "write_together"]


def check_output(path: Path, force: bool) -> None:
    """Refuse, before any work, an output file that cannot be written.

    Raises
    ------
    FileError
        If its folder does not exist, it is a folder, or it exists and `force` is false.
    """
    try:
        missing, taken = not path.parent.is_dir(), path.is_dir() or path.exists()
    except OSError as problem:  # a name that is too long
        raise FileError(f"cannot write {path}: {problem.strerror or problem}") from None
    if missing:
        raise FileError(f"cannot write {path}: there is no folder {path.parent}. Create it")
    if taken and (path.is_dir() or not force):
        raise FileError(
            f"{path} exists already. Choose another `--output`, or overwrite with --force"
        )


def write_together(contents: Sequence[tuple[Path, bytes]], overwrite: bool) -> None:
    """Write several files; on an error, no new file appears and all old files are unchanged.

    All files are written under temporary names and flushed to the disk, and the files that they
    replace are copied. Then each is renamed, in the given order; if one fails, the others are
    restored. Only a power failure between two renames can leave some of them, so the file that the
    others belong to should be last.

    Parameters
    ----------
    contents : sequence of (Path, bytes)
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    FileError
        If a file was created meanwhile and may not be replaced.
    OSError
        If a file cannot be written.
    """
    drafts: list[Path] = []
    kept: dict[Path, Path] = {}
    taken: list[Path] = []
    try:
        for path, content in contents:
            drafts.append(new_beside(path, ".part"))
            with drafts[-1].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, _ in contents:
            if overwrite and path.exists():
                kept[path] = new_beside(path, ".old")
                shutil.copy2(path, kept[path])
        for (path, _), draft in zip(contents, drafts, strict=True):
            take_name(draft, path, overwrite)
            taken.append(path)
    except BaseException:
        for path in reversed(taken):
            if path in kept:
                os.replace(kept[path], path)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        for left in (*drafts, *kept.values()):
            left.unlink(missing_ok=True)
