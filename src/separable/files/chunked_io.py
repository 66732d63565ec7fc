"""`Source` and `Target`: files that are read and written in regions.

A target is written as a partial file, ``NAME.partial``, and takes its final name once it is
complete; no incomplete file ever has the final name. An interrupted run leaves the partial file
behind, and `create_target(..., resume=True)` continues it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeAlias

import numpy as np

from separable.errors import FileError
from separable.files.atomic_write import take_name
from separable.files.diagnostics import check_claims, check_memory, memory_bytes, reason_of
from separable.files.image_info import Array, ImageInfo

__all__ = [
    "Region",
    "Source",
    "Target",
    "as_bounds",
    "boxes",
    "chunk_error",
    "describe",
    "draft_of",
    "read_whole",
    "write_whole",
]

Region: TypeAlias = tuple[slice, ...]
Bounds: TypeAlias = tuple[tuple[int, int], ...]
PART_BYTES = 64 << 20  # bytes that are written at a time when a whole array is written
NAME_BYTES = 215  # file systems allow 255, and partial files have further endings


def as_bounds(region: Region, shape: tuple[int, ...]) -> Bounds:
    """Return (first, last + 1) for every axis; a region may have fewer axes than the array.

    Examples
    --------
    >>> as_bounds((slice(2, 99), slice(None)), (5, 6, 7))
    ((2, 5), (0, 6), (0, 7))
    """
    full = tuple(region) + (slice(None),) * (len(shape) - len(region))
    found = [s.indices(n) for s, n in zip(full, shape, strict=True)]
    if any(step != 1 for _, _, step in found):
        raise ValueError(f"a region is made of slices with step 1; got {region}")
    return tuple((start, max(start, stop)) for start, stop, _ in found)


def describe(region: Region, shape: tuple[int, ...]) -> str:
    """Return a region as text.

    Examples
    --------
    >>> describe((slice(0, 2), slice(None)), (5, 6))
    '[0:2, 0:6]'
    """
    return "[" + ", ".join(f"{a}:{b}" for a, b in as_bounds(region, shape)) + "]"


def boxes(shape: tuple[int, ...], sides: tuple[int, ...]) -> Iterator[Region]:
    """Yield the regions of an array cut into boxes of this size; the last ones may be smaller.

    Examples
    --------
    >>> [tuple((s.start, s.stop) for s in r) for r in boxes((3, 2), (2, 2))]
    [((0, 2), (0, 2)), ((2, 3), (0, 2))]
    """
    cuts = (range(0, n, max(1, s)) for n, s in zip(shape, sides, strict=True))
    for corner in itertools.product(*cuts):
        yield tuple(
            slice(c, min(c + max(1, s), n)) for c, s, n in zip(corner, sides, shape, strict=True)
        )


def draft_of(path: Path) -> Path:
    """Return the path of the partial file of a file.

    Examples
    --------
    >>> draft_of(Path("out.zarr")).name, len(draft_of(Path(250 * "a" + ".npy")).name)
    ('out.zarr.partial', 223)
    """
    name = os.fsencode(path.name)
    if len(name) > NAME_BYTES:  # room for further endings
        digest = hashlib.sha256(name).hexdigest()[:16]
        kept = name[: NAME_BYTES - len(digest) - 1].decode(errors="ignore")
        return path.with_name(f"{kept}-{digest}.partial")
    return path.with_name(path.name + ".partial")


@dataclass
class Source:
    """A file that is read in regions, also by several threads at once.

    It is a context manager. Pickled, it becomes its path and is opened again.

    Attributes
    ----------
    path : Path
        Path as given, with the name of the array inside the file.
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Data type of the regions that `read` returns.
    chunks : tuple of int or None
        Chunk sizes of the file; None if any region can be read by itself.
    info : ImageInfo
    fetch : callable
        ``(region) -> ndarray`` reads a region; it may raise any exception.
    release : callable
        Closes the file.
    layout : dict
        Storage layout, such as chunks and compression, for a target like this file.
    slow : int
        Axis with the largest stride in the file. Slabs along it are contiguous.
    reopen : callable, optional
        ``(path) -> Source`` opens the file again in another process.

    Examples
    --------
    >>> import tempfile
    >>> from separable import files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/volume.npy", np.arange(24).reshape(2, 3, 4))
    ...     with files.open_source(f"{folder}/volume.npy") as source:
    ...         print(source.shape, source.read((slice(1, 2), slice(0, 1), slice(None))))
    (2, 3, 4) [[[12 13 14 15]]]
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    info: ImageInfo
    fetch: Callable[[Region], Array] = field(repr=False)
    release: Callable[[], None] = field(repr=False, default=lambda: None)
    layout: dict[str, Any] = field(repr=False, default_factory=dict)
    slow: int = 0
    reopen: Callable[[Path], Source] | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        """Refuse a header whose claims cannot be true, for any format."""
        check_claims(self.path, self.shape, self.dtype, self.chunks)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the whole array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, region: Region) -> Array:
        """Return a region of the array in native byte order.

        Raises
        ------
        FileError
            If the region cannot be read.
        """
        bounds = as_bounds(region, self.shape)
        try:
            needed = math.prod(b - a for a, b in bounds) * self.dtype.itemsize
            if 0 < memory_bytes() < needed:  # the system might promise it nevertheless
                raise MemoryError
            return self.fetch(tuple(slice(a, b) for a, b in bounds))
        except FileError:
            raise
        except MemoryError:
            raise FileError(
                f"cannot read {self.path}: its region {describe(region, self.shape)} does not fit "
                "into memory. Read smaller regions"
            ) from None
        except Exception as error:
            raise FileError(
                f"cannot read {self.path}: its region {describe(region, self.shape)} is damaged "
                f"({reason_of(error)}). Fetch or export it again"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self.release()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is None:
            raise TypeError(f"{self.path} cannot be pickled: open it with `files.open_source`")
        return self.reopen, (self.path,)


@dataclass
class Target:
    """A file that is written in regions, also by several threads at once.

    Regions within one chunk must be written together: two writers of one chunk overwrite each
    other's values. A process that unpickles a target writes into the same partial file; the
    process that created it finishes it.

    Attributes
    ----------
    path, draft : Path
        Final name of the file, and name of the partial file.
    shape : tuple of int
    dtype : dtype
    chunks : tuple of int or None
        Chunk sizes of the file; None if any region can be written by itself.
    store : callable
        ``(region, array)`` writes a region; it may raise any exception.
    flush : callable
        ``(since=0)`` flushes to the disk at least what this process wrote since a time.
    release : callable
        Closes the partial file.
    complete : callable
        Called once after the last region was flushed and the file was closed; it may return notes.
    parts : tuple of (Path, Path)
        Partial and final names, for formats with several files.
    info : ImageInfo
    overwrite : bool
        Whether an existing file is replaced.
    resumed : bool
        Whether this continues the partial file of an earlier run.
    notes : tuple of str
        Metadata of the image that the file cannot keep, in words.
    late_notes : tuple of str
        Notes on the numbers, once the file is finished.
    keep : bool
        Whether a failure keeps the partial file and mentions it.
    slow : int
        Axis with the largest stride in the file.
    levels : LevelWriter, optional
        Writer of the coarser levels of the image, if the file has any.
    reopen : callable, optional
        Opens the partial file in another process.

    Examples
    --------
    >>> import tempfile
    >>> from separable import files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = files.create_target(f"{folder}/out.npy", (2, 3), np.int64)
    ...     for at in (0, 1):
    ...         target.write((slice(at, at + 1), slice(None)), np.full((1, 3), at))
    ...     target.finish()
    ...     print(np.load(f"{folder}/out.npy").tolist())
    [[0, 0, 0], [1, 1, 1]]
    """

    path: Path
    draft: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    store: Callable[[Region, Array], None] = field(repr=False)
    flush: Callable[..., None] = field(repr=False, default=lambda since=0: None)
    release: Callable[[], None] = field(repr=False, default=lambda: None)
    complete: Callable[[], Any] = field(repr=False, default=tuple)
    parts: tuple[tuple[Path, Path], ...] = field(repr=False, default=())
    info: ImageInfo = field(repr=False, default_factory=ImageInfo)
    overwrite: bool = False
    resumed: bool = False
    notes: tuple[str, ...] = ()
    late_notes: tuple[str, ...] = ()
    keep: bool = field(repr=False, default=True)
    slow: int = 0
    levels: Any = field(repr=False, default=None)
    reopen: Callable[..., Target] | None = field(repr=False, default=None)

    def write(self, region: Region, array: Array) -> None:
        """Write a region.

        Raises
        ------
        FileError
            If the disk is full or fails. The partial file is kept.
        """
        bounds = as_bounds(region, self.shape)
        expected = tuple(b - a for a, b in bounds)
        if array.shape != expected:
            raise ValueError(
                f"the region {describe(region, self.shape)} has shape {expected}; got {array.shape}"
            )
        if not array.size:
            return
        with self._kept():
            self.store(tuple(slice(a, b) for a, b in bounds), array.astype(self.dtype, copy=False))

    @property
    def complete_levels(self) -> list[list[int]]:
        """Chunks of coarser levels that this process has written: level, and index along each axis."""
        return [] if self.levels is None else sorted(map(list, self.levels.complete))

    def know_levels(self, written: Iterable[list[list[int]]]) -> None:
        """Take chunks of coarser levels for complete that other processes have written."""
        if self.levels is not None:
            for chunks in written:
                self.levels.know(chunks)

    def finish(self) -> None:
        """Give the complete file its final name.

        Raises
        ------
        FileError
            If a file of that name was created meanwhile and may not be replaced, or the disk is
            full.
        """
        with self._kept():
            self.flush()
            self.release()
            self.late_notes = self.complete() or ()
            for draft, path in self.parts or ((self.draft, self.path),):
                take_name(draft, path, self.overwrite)

    def abandon(self, keep: bool = True) -> None:
        """Close the partial file; keep it to resume, or delete it. Do nothing once it is finished.

        Raises
        ------
        OSError
            If the system reports that closing failed or that written data is lost.
        """
        try:
            self.release()
        finally:
            if not keep:
                for draft, _ in self.parts or ((self.draft, self.path),):
                    remove(draft)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except FileError:
            raise
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        message = f"cannot write {self.path}: {reason_of(error)}"
        if self.keep:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "Free some space and resume. " if full else ""
            message += f". {remedy}What was written is kept as {self.draft.name}"
        raise FileError(message) from None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is None:
            raise TypeError(f"{self.path} cannot be pickled: make it with `files.create_target`")
        info = replace(self.info, notes=())
        return self.reopen, (self.path, self.shape, self.dtype, info, self.overwrite)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def chunk_error(
    path: Path,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    region: Region,
    error: Exception,
    read: Callable[[Region], Any],
    name: Callable[[tuple[int, ...]], str],
) -> FileError:
    """Return the error for a region, naming its unreadable chunk; read chunks one by one."""
    bounds = as_bounds(region, shape)
    grid = [range(a // s, -(-b // s)) for (a, b), s in zip(bounds, chunks, strict=True)]
    for place in itertools.product(*grid):
        ends = ((p * s, min((p + 1) * s, n)) for p, s, n in zip(place, chunks, shape, strict=True))
        box = tuple(slice(a, b) for a, b in ends)
        try:
            read(box)
        except Exception as found:
            return FileError(
                f"cannot read {path}: its chunk {name(place)}, {describe(box, shape)}, is "
                f"truncated or damaged ({reason_of(found)}). Fetch or export it again"
            )
    return FileError(
        f"cannot read {path}: its region {describe(region, shape)} could not be read "
        f"({reason_of(error)}). Try again"
    )


def read_whole(source: Source) -> tuple[Array, ImageInfo]:
    """Read all of a source and close it.

    Raises
    ------
    FileError
        If the array and a result of its size do not fit into memory.
    """
    with source:
        check_memory(source.path, source.shape, source.dtype)
        return np.asarray(source.read((slice(None),) * source.ndim)), source.info


def write_whole(target: Target, array: Array) -> None:
    """Write a whole array into a target and finish it; on failure, delete the partial file."""
    target.keep = False
    try:
        sides = target.chunks or target.shape
        if target.chunks is None and array.nbytes > PART_BYTES:
            rows = max(1, PART_BYTES * target.shape[0] // array.nbytes)
            sides = (rows, *target.shape[1:])
        for region in boxes(target.shape, sides):
            target.write(region, array[region])
        target.finish()
    except BaseException:
        target.abandon(keep=False)
        raise
