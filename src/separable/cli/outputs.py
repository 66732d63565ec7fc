"""The files that a command writes together: all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from separable.files.atomic_write import new_beside, take_name

__all__ = ["write_together"]


def write_together(contents: Sequence[tuple[Path, bytes]], overwrite: bool) -> None:
    """Write several files so that an error leaves none of the new ones, and all of the old.

    All are written under other names, flushed to the disk, and what they replace is kept; only
    then does each take its name, in the order given. If one cannot, those before it go back. What
    is left to chance is a failure of power between two renames: put the file last that the others
    belong to.

    Parameters
    ----------
    contents : sequence of (Path, bytes)
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    FileError
        If a file came to exist meanwhile and may not be replaced.
    OSError
        If one cannot be written.
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
