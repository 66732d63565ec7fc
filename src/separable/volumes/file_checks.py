"""Checks before a file is filtered: claims of headers, chunk sizes, and targets that are the source."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import ArgumentError, FileError
from separable.files.chunked_io import Source
from separable.files.format_registry import PathLike, outer_file
from separable.files.opening import open_source
from separable.volumes.slab_schedule import amount

__all__ = ["are_large", "check_claims", "chunk_sizes", "refuse_same"]

MOST_CHUNKS = 1 << 20  # largest number of chunks along an axis; planning visits all of them
LARGE = 2 << 30  # bytes from which files are filtered in slabs without being asked
SPARSE = 1000  # how many times larger than the free disk space a result may be claimed to be


def are_large(source: PathLike, images: int = 1, copies: int = 1) -> bool:
    """Return whether images of a file, times the copies of them in memory, take more than 2 GiB.

    All images of the file are taken to be as large as the first one.
    """
    with open_source(source) as opened:
        return images * copies * opened.nbytes > LARGE


def check_claims(source: Source, target: Path, shape: tuple[int, ...], out: np.dtype[Any]) -> None:
    """Refuse a header that claims too many chunks, or a result far larger than the disk."""
    grid = [-(-n // c) for n, c in zip(source.shape, source.chunks or source.shape, strict=True)]
    if max(grid) > MOST_CHUNKS:
        axis = grid.index(max(grid))
        raise FileError(
            f"cannot filter {source.path}: its header says {grid[axis]} chunks along axis {axis}; "
            f"expected at most {MOST_CHUNKS}. Store it in larger chunks, or fetch it again if that "
            "is wrong"
        )
    needed = math.prod(shape) * out.itemsize
    space = shutil.disk_usage(target.parent).free
    if needed > SPARSE * space:
        raise FileError(
            f"cannot filter {source.path}: its header says {'x'.join(map(str, source.shape))}, so "
            f"the result takes {amount(needed)}, and the disk of {target} has {amount(space)} left. "
            "Write elsewhere, or fetch it again if that is wrong"
        )


def chunk_sizes(chunks: Any) -> tuple[int, ...] | None:
    """Return the chunk sizes that an argument names, or None for "auto".

    Raises
    ------
    ArgumentError
    """
    if isinstance(chunks, str):
        if chunks == "auto":
            return None
        chunks = chunks.replace("x", ",").split(",")
    try:
        found = tuple(int(n) for n in chunks)
    except (TypeError, ValueError):
        found = (0,)
    if any(n < 1 for n in found):
        raise ArgumentError(f"`chunks` must be auto or sizes such as 64,64,64; got {chunks!r}")
    return found


def refuse_same(source: Any, target: PathLike) -> None:
    """Refuse to write into a source file."""
    if not isinstance(source, (str, os.PathLike)):
        return
    one, other = (os.path.realpath(outer_file(p)) for p in (source, target))
    if one == other or one.startswith(other + os.sep) or other.startswith(one + os.sep):
        raise FileError(
            f"cannot write {target}: it is the input, or lies in it. Choose another name"
        )
