"""Open files to read and to write them by parts, by the format that their name says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from separable.errors import FileError
from separable.files.chunked_io import Source, Target, Wanted, draft_of, remove
from separable.files.error_reasons import errno_of, reason_of, remedy_of
from separable.files.file_format import ImageInfo
from separable.files.images import PathLike, check_target, locate, opened, what_is_lost

__all__ = ["create_target", "open_source", "reopen_target"]


def open_source(path: PathLike) -> Source:
    """Open a file to read it by parts.

    Parameters
    ----------
    path : str or path
        Zarr, NPY, HDF5, NIfTI, TIFF or ENVI. What lies inside follows the path:
        ``in.zarr/labels/cells``, ``in.h5:/volume``; it may be left out where there is only one
        array, and in OME-Zarr, where the finest level is taken.

    Returns
    -------
    Source
        With `shape`, `dtype`, `chunks`, `info` and `read`; a context manager.

    Raises
    ------
    FileError
        As `read_image`, but for the size: no more is in memory than the part that is read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/ramp.npy", np.arange(12.0).reshape(3, 4))
    ...     with open_source(f"{folder}/ramp.npy") as source:
    ...         part = source.read((slice(1, 3), slice(0, 2)))
    >>> part
    array([[4., 5.],
           [8., 9.]])
    """
    file, inside, chosen = locate(path, "read")
    if chosen.open is None:
        raise FileError(
            f"cannot read {path} by parts: {chosen.name} is read whole. Convert it to .zarr or .npy"
        )
    source = opened(file, inside, chosen, chosen.open)
    return replace(source, info=replace(source.info, format=chosen.name))


def create_target(
    path: PathLike,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    chunks: tuple[int, ...] | None = None,
    info: ImageInfo | None = None,
    like: Source | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Target:
    """Create a file to write it by parts.

    It is written as ``NAME.partial`` and takes its name at the end (`Target.finish`).

    Parameters
    ----------
    path : str or path
        Zarr (OME-Zarr as .ome.zarr), NPY, HDF5, TIFF, uncompressed NIfTI or ENVI.
    shape : tuple of int
    dtype : dtype
    chunks : tuple of int, optional
        That the file stores each for itself, where it can; default: those of `like`, else ours.
    info : ImageInfo, optional
        What the file says besides; default: what `like` says.
    like : Source, optional
        Whose compression and version is taken, if it is of the same format.
    overwrite : bool
        Whether an existing file may be replaced, at the end.
    resume : bool
        Whether to go on with the draft that an earlier run left, if there is one; the target
        says so in `resumed`.

    Returns
    -------
    Target

    Raises
    ------
    FileError
        As `write_image`; if the disk is too small; or if the draft is of something else.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = create_target(f"{folder}/a.npy", (4, 2), "float32")
    ...     target.write((slice(0, 2),), np.ones((2, 2)))
    ...     print(os.listdir(folder))
    ...     target.write((slice(2, 4),), np.zeros((2, 2)))
    ...     target.finish()
    ...     print(os.listdir(folder))
    ['a.npy.partial']
    ['a.npy']
    """
    return _target(
        path, shape, dtype, chunks=chunks, info=info, like=like, overwrite=overwrite, resume=resume
    )


def _target(
    path: PathLike,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    chunks: tuple[int, ...] | None = None,
    info: ImageInfo | None = None,
    like: Source | None = None,
    overwrite: bool = False,
    resume: bool = False,
    joins: bool = False,
) -> Target:
    """As `create_target`; who joins a draft that another process created deletes nothing."""
    shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype).newbyteorder("=")
    chosen = check_target(path, shape, dtype, overwrite=overwrite)
    create = chosen.create
    if create is None:
        raise FileError(
            f"cannot write {path} by parts: {chosen.name} is written whole. Write .zarr or .npy"
        )
    file, inside, _ = locate(path, "write")
    file = file.resolve()
    draft = draft_of(file)
    known = info or (like.info if like is not None else ImageInfo())
    wanted = Wanted(file, draft, shape, dtype, chunks, known, like, True, inside, overwrite, joins)
    resume = joins or (resume and draft.exists())
    fresh = draft.with_name(draft.name + ".new")
    try:
        if not resume:
            remove(draft)
            remove(fresh)
            create(replace(wanted, draft=fresh, resume=False)).abandon()
            if fresh.exists():
                os.replace(fresh, draft)
        target = create(wanted)
    except Exception as error:
        if not resume:
            remove(draft)
        if not joins:
            remove(fresh)
        if isinstance(error, FileError):
            raise
        if like is not None and errno_of(error) is None:
            raise FileError(
                f"cannot write {path}: what {like.path} says besides its numbers cannot be kept "
                f"({reason_of(error)}). Write .npy, or mend that file"
            ) from None
        raise FileError(f"cannot write {path}: {reason_of(error)}{remedy_of(error)}") from None
    lost = what_is_lost(known, chosen, shape, dtype, file)
    return replace(target, overwrite=overwrite, resumed=resume, notes=lost)


def reopen_target(path: Path, shape: Any, dtype: Any, info: ImageInfo, overwrite: bool) -> Target:
    """Open the draft of a target that another process created."""
    if not draft_of(path).exists():
        raise FileError(f"cannot write {path}: its draft is gone; it was finished or abandoned")
    return _target(path, shape, dtype, info=info, overwrite=overwrite, joins=True)
