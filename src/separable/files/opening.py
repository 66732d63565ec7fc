"""Open files to read and write regions of them, in the format that the file name says."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from separable.errors import ArgumentError, FileError
from separable.files.chunked_io import Source, Target, draft_of, remove
from separable.files.diagnostics import errno_of, reason_of, remedy_of
from separable.files.file_format import CreateRequest, Format
from separable.files.format_registry import PathLike, is_image_path, locate, registered_formats
from separable.files.image_info import ImageInfo

__all__ = [
    "check_number",
    "check_target",
    "create_target",
    "explain_errors",
    "lost_metadata",
    "open_source",
    "reopen_target",
]


def open_source(path: PathLike, *, image: int | None = None) -> Source:
    """Open a file to read regions of it.

    Parameters
    ----------
    path : str or path
        Zarr, NPY, HDF5, NIfTI, TIFF or ENVI. An array inside a file follows the path:
        ``in.zarr/labels/cells``, ``in.h5:/volume``. It may be left out where the file holds only
        one array, and in OME-Zarr, where the finest resolution level is used.
    image : int, optional
        Number of the image in a file that holds several, from 1 to `count_images`. Default: 1, with a
        note.

    Returns
    -------
    Source
        With `shape`, `dtype`, `chunks`, `info` and `read`; a context manager.

    Raises
    ------
    FileError
        As `read_image`, except for the size: only the region being read is in memory.

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
    file, inside, format = locate(path, "read")
    if format.open is None:
        raise FileError(
            f"cannot read {path} by parts: {format.name} is read whole. Convert it to .zarr or .npy"
        )
    with explain_errors(file, format):
        if image not in (None, 1):
            check_number(file, image, 1 if format.count is None else format.count(file))
        source = format.open(file, inside if format.count is None else str(image or ""))
    reopen = open_source if image is None else partial(open_source, image=image)
    return replace(source, info=replace(source.info, format=format.name), reopen=reopen)


def check_number(path: Path, number: Any, count: int) -> None:
    """Refuse the number of an image that a file does not hold.

    Raises
    ------
    ArgumentError
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= count:
        raise ArgumentError(f"`image` must be 1 .. {count} for {path}; got {number!r}")


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
    """Create a file to write regions of it.

    It is written as ``NAME.partial`` and takes its name at the end (`Target.finish`).

    Parameters
    ----------
    path : str or path
        Zarr (OME-Zarr as .ome.zarr), NPY, HDF5, TIFF, uncompressed NIfTI or ENVI.
    shape : tuple of int
    dtype : dtype
    chunks : tuple of int, optional
        Chunk sizes, for formats that store chunks; default: those of `like`, else about 4 MiB.
    info : ImageInfo, optional
        Metadata to write; default: those of `like`.
    like : Source, optional
        A file whose compression and version are adopted if it has the same format.
    overwrite : bool
        Whether an existing file is replaced at the end.
    resume : bool
        Whether to continue the partial file of an earlier run, if there is one; `Target.resumed`
        says whether there was.

    Returns
    -------
    Target

    Raises
    ------
    FileError
        As `write_image`; if the disk is too small; or if the partial file holds another array.

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
    shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype).newbyteorder("=")
    known = info or (like.info if like is not None else ImageInfo())
    request, format = _request(path, shape, dtype, known, overwrite)
    request = replace(request, chunks=chunks, like=like, resume=resume and request.draft.exists())
    fresh = request.draft.with_name(request.draft.name + ".new")
    with _explain_create_errors(path, request, fresh):
        if not request.resume:
            # Prepare it under a third name: a partial file that exists is always complete enough
            # to be resumed.
            remove(request.draft)
            remove(fresh)
            _create(format, replace(request, draft=fresh)).abandon()
            if fresh.exists():
                os.replace(fresh, request.draft)
        target = _create(format, replace(request, resume=True))
    return _finished(target, request, format)


def reopen_target(path: Path, shape: Any, dtype: Any, info: ImageInfo, overwrite: bool) -> Target:
    """Open the partial file of a target that another process created; nothing in it is deleted."""
    if not draft_of(path).exists():
        raise FileError(
            f"cannot write {path}: its partial file is gone; it was finished or abandoned"
        )
    request, format = _request(path, shape, np.dtype(dtype), info, overwrite)
    request = replace(request, resume=True, joins=True)
    with _explain_create_errors(path, request, None):
        target = _create(format, request)
    return _finished(target, request, format)


def _request(
    path: PathLike, shape: tuple[int, ...], dtype: np.dtype[Any], info: ImageInfo, overwrite: bool
) -> tuple[CreateRequest, Format]:
    format = check_target(path, shape, dtype, overwrite=overwrite)
    if format.create is None:
        raise FileError(
            f"cannot write {path} by parts: {format.name} is written whole. Write .zarr or .npy"
        )
    file, inside, _ = locate(path, "write")
    file = file.resolve()
    request = CreateRequest(
        file, draft_of(file), shape, dtype, None, info, None, False, inside, overwrite
    )
    return request, format


def _create(format: Format, request: CreateRequest) -> Target:
    assert format.create is not None  # checked by _request
    return format.create(request)


def _finished(target: Target, request: CreateRequest, format: Format) -> Target:
    """Return a format's target with what every target has."""
    lost = lost_metadata(request.info, format, request.shape, request.dtype, request.path)
    return replace(
        target, overwrite=request.overwrite, resumed=request.resume, notes=lost,
        reopen=reopen_target,
    )  # fmt: skip


@contextlib.contextmanager
def _explain_create_errors(
    path: PathLike, request: CreateRequest, fresh: Path | None
) -> Iterator[None]:
    """Remove what a failure left half made, and raise it as a `FileError`."""
    try:
        yield
    except Exception as error:
        if not request.resume:
            remove(request.draft)
        if fresh is not None:
            remove(fresh)
        if isinstance(error, FileError):
            raise
        if request.like is not None and errno_of(error) is None:
            raise FileError(
                f"cannot write {path}: the metadata of {request.like.path} cannot be kept "
                f"({reason_of(error)}). Write .npy, or correct that file"
            ) from None
        raise FileError(f"cannot write {path}: {reason_of(error)}{remedy_of(error)}") from None


def check_target(
    path: PathLike, shape: tuple[int, ...], dtype: DTypeLike, *, overwrite: bool = False
) -> Format:
    """Check before the work begins that an array can be written to a path.

    Returns
    -------
    Format
        The format of the file.

    Raises
    ------
    FileError
        As `write_image`.

    Examples
    --------
    >>> check_target("picture.png", (64, 64), "uint8").name
    'PNG'
    >>> check_target("picture.png", (64, 64), "float64")
    Traceback (most recent call last):
        ...
    separable.errors.FileError: cannot write picture.png: PNG holds uint8 or uint16 or bool; got float64. Write .tif or .npy, or make it uint8 (--dtype uint8)
    """
    path, inside, format = locate(path, "write")
    if inside and format.folder:
        raise FileError(f"cannot write {inside} into {path}: a store is written whole. Name it")
    if format.write is None and format.create is None:
        raise FileError(f"cannot write {path}: {format.name} is only read. Write .nrrd or .npy")
    reason = format.refuse(tuple(shape), np.dtype(dtype))
    if reason:
        raise FileError(f"cannot write {path}: {reason}")
    try:
        _check_place(path, format, overwrite)
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {path}: {reason_of(error)}") from None
    return format


def _check_place(path: Path, format: Format, overwrite: bool) -> None:
    """Refuse a path where no file of this format can be created."""
    folder = path.resolve().parent
    if path.is_dir() and not format.writes_folder(path):
        raise FileError(f"cannot write {path}: it is a folder. Name a file in it")
    if path.is_dir() and format.folders and overwrite:
        _check_replaced(path, format)
    if path.is_file() and format.folders and format.writes_folder(path):
        raise FileError(
            f"cannot write {path}: expected a folder; it is a file. Choose another name"
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileError(f"cannot write {path}: it is a device, not a file")
    if path.exists() and not overwrite:
        raise FileError(
            f"{path} exists. Choose another name, or overwrite it (overwrite=True, --force)"
        )
    if not folder.is_dir():
        raise FileError(f"cannot write {path}: there is no folder {folder}. Create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"cannot write {path}: no permission to write in the folder {folder}")


def _check_replaced(path: Path, format: Format) -> None:
    """Refuse to replace a folder that holds other files than those of the format."""
    for file in path.iterdir():
        if format.is_series is None or not format.is_series(path) or not _is_one_of(file, format):
            raise FileError(
                f"cannot replace the folder {path}: it holds {file.name}, which is not such a result. "
                "Choose another name"
            )


def _is_one_of(file: Path, format: Format) -> bool:
    return file.is_file() and file.name.lower().endswith(format.suffixes)


def lost_metadata(
    info: ImageInfo, format: Format, shape: tuple[int, ...], dtype: DTypeLike, path: PathLike
) -> tuple[str, ...]:
    """Return in words which metadata of an image a format cannot keep.

    Examples
    --------
    >>> info = ImageInfo("ZYX", spacing=(2.0, 1.0, 1.0), unit="mm")
    >>> lost_metadata(info, check_target("a.npy", (3, 4, 5), "uint8"), (3, 4, 5), "uint8", "a.npy")
    ('NPY does not keep: the axes ZYX, the spacing (2.0, 1.0, 1.0) mm',)
    """
    lost, keeps = [], format.keeps(info, shape, np.dtype(dtype), Path(path))
    if len(info.axes) == len(shape) and "axes" not in keeps:
        lost.append(f"the axes {info.axes}")
    if info.spacing is not None and "spacing" not in keeps:
        lost.append(f"the spacing {info.spacing} {info.unit}".rstrip())
    if info.affine is not None and "affine" not in keeps:
        lost.append("the affine")
    if any(v == v for v in info.nodata) and "nodata" not in keeps:
        lost.append(f"the missing value {info.nodata[0]:g}")
    if info.options and info.format and (info.format != format.name or format.selective):
        described = {key: words for f in registered_formats() for key, words in f.options.items()}
        found = sorted(set(info.options) & set(described))
        lost += [described[key] for key in found if key not in keeps]
    return (f"{format.name} does not keep: {', '.join(lost)}",) if lost else ()


@contextlib.contextmanager
def explain_errors(path: Path, format: Format) -> Iterator[None]:
    """Check a file before it is opened, and raise every failure in it as a `FileError`."""
    try:
        _check_source(path, format)
        yield
    except (FileError, ArgumentError):
        raise
    except PermissionError:
        raise FileError(
            f"cannot read {path}: permission denied. Ask its owner, or copy it"
        ) from None
    except MemoryError:
        raise FileError(f"cannot read {path}: it does not fit into memory") from None
    except Exception as error:  # the libraries raise whatever they meet in a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise FileError(f"cannot read {path}: {reason_of(error)}") from None
        raise FileError(
            f"cannot read {path}: it is truncated or damaged ({reason_of(error)}). "
            "Fetch or export it again"
        ) from None


def _check_source(path: Path, format: Format) -> None:
    """Refuse a path where no file of this format can be read."""
    if os.path.islink(path) and not path.exists():
        raise FileError(
            f"cannot read {path}: it is a link to {os.readlink(path)}, where there is no file"
        )
    if not path.exists():
        folder = path.parent.iterdir() if path.parent.is_dir() else ()
        names = [p.name for p in folder if is_image_path(p.name)]
        close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
        hint = f". Did you mean {path.parent / close[0]}?" if close else ""
        raise FileError(f"cannot read {path}: there is no such file{hint}")
    if format.folder and path.is_file():
        raise FileError(
            f"cannot read {path}: expected a folder, as {format.name} has it; got a file. "
            "Unpack it, or name the store itself"
        )
    if path.is_dir() and not (format.folder or format.is_series):
        raise FileError(f"cannot read {path}: it is a folder. Name a file in it")
    if not (path.is_file() or path.is_dir()):
        raise FileError(f"cannot read {path}: it is a device, not a file")
    if path.is_file():
        _check_signature(path, format)


def _check_signature(path: Path, format: Format) -> None:
    """Refuse a file whose first bytes do not belong to the format of its suffix."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise FileError(f"cannot read {path}: the file is empty. Fetch or export it again")
    if not format.signatures or format.begins(start):
        return
    # The signature of a compressed format is that of the compression alone. It says which format
    # it is only where the file's name says what was compressed.
    others = (f for f in registered_formats() if f.begins(start) and f.compresses in (None, format))
    other = next(others, None)
    if other is None:
        raise FileError(
            f"cannot read {path}: it does not begin like a {format.name} file. "
            "It is damaged, or of another type"
        )
    ending = next(s for s in format.suffixes if path.name.lower().endswith(s))
    raise FileError(
        f"cannot read {path}: expected {format.name} by its name; got {other.name}. "
        f"Rename it to {path.name[: -len(ending)]}{other.suffixes[0]}"
    )
