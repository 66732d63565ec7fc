"""`Format`: one type of files, with all that the library knows about it, and `CreateRequest`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import ArgumentError, FileError
from separable.files.chunked_io import Source, Target, read_whole
from separable.files.image_grids import GridChange
from separable.files.image_info import Array, ImageInfo
from separable.files.statements import Answer, check_answers

__all__ = ["CreateRequest", "Format", "first_of", "metadata_kept"]


@dataclass(frozen=True)
class CreateRequest:
    """The file that a format is asked to create.

    Attributes
    ----------
    path : Path
        Final name of the file.
    draft : Path
        Name of the partial file. With `resume`, the format finds an earlier one there.
    shape : tuple of int
    dtype : dtype
    chunks : tuple of int or None
        Chunk sizes asked for; None leaves the choice to the format.
    info : ImageInfo
        Metadata to write.
    like : Source or None
        A file whose compression and version are adopted if it has the same format.
    resume : bool
        Whether to continue the partial file that is there.
    inside : str
        Name of the array inside the file, for formats that hold several.
    overwrite : bool
        Whether an existing file of that name is replaced.
    joins : bool
        Whether another process created the partial file and others may be writing to it. Nothing
        in it is deleted or written again then.

    Examples
    --------
    >>> request = CreateRequest(
    ...     Path("a.npy"), Path("a.npy.partial"), (3, 4), np.dtype("uint8"), None, ImageInfo(),
    ...     like=None, resume=False,
    ... )
    >>> request.check_draft((3, 4), np.dtype("uint8"))  # the same array: no error
    """

    path: Path
    draft: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    info: ImageInfo
    like: Source | None
    resume: bool
    inside: str = ""
    overwrite: bool = False
    joins: bool = False

    def like_layout(self, name: str) -> dict[str, Any]:
        """Return the storage layout of `like` if it is a file of this format, else nothing."""
        return self.like.layout if self.like is not None and self.like.info.format == name else {}

    def check_draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Refuse to resume a partial file that holds another array."""
        if tuple(shape) != self.shape or dtype.newbyteorder("=") != self.dtype:
            raise FileError(
                f"cannot resume {self.path}: {self.draft.name} holds {dtype.name} of shape "
                f"{tuple(shape)}; expected {self.dtype.name} of shape {self.shape}. "
                "Delete it, or start without resuming"
            )


def first_of(count: int) -> str:
    """Return a note on a file that holds several images, of which nobody has chosen one.

    Examples
    --------
    >>> first_of(3)
    'this is image 1 of 3; choose with --image N (image=N)'
    """
    return f"this is image 1 of {count}; choose with --image N (image=N)"


def accept_all(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return no reason against any array."""
    return ""


def metadata_kept(*names: str) -> Callable[..., frozenset[str]]:
    """Return a `keeps` callback that preserves these fields for every image.

    Examples
    --------
    >>> keeps = metadata_kept("axes", "spacing")
    >>> sorted(keeps(ImageInfo("YX"), (3, 4), np.dtype("uint8"), Path("a.tif")))
    ['axes', 'spacing']
    """
    return lambda *image: frozenset(names)


KEEPS_NOTHING = metadata_kept()


@dataclass(frozen=True, kw_only=True)
class Format:
    """One type of files: its suffixes, how it is read and written, and what metadata it keeps.

    A format reads files whole (`read`), in regions (`open`), or both; and likewise writes them
    (`write`, `create`). A format that works in regions needs no functions for whole files.
    Register a new one with `register_format`.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        File name suffixes in small letters; the first is the usual one.
    signatures : tuple of bytes
        First bytes of its files; empty if they do not identify the format.
    read : callable, optional
        ``(path) -> (array, info)`` reads a whole file. It may raise any exception: `read_image`
        reports it as a `FileError`.
    write : callable, optional
        ``(file, array, info, path)`` writes to the open binary `file`, which becomes `path` once
        it is complete. It may return notes on what was lost, and raise any exception.
    count : callable, optional
        ``(path) -> int`` returns the number of images in a file, for formats that hold several.
    read_one : callable, optional
        ``(path, number) -> (array, info)`` reads one of several images; numbers begin with 1. `open`
        gets the number as its second argument.
    write_several : callable, optional
        ``(file, [(array, info), ...], path)`` writes several images; it may return notes.
    join : callable, optional
        ``(draft, sources, path)`` writes the images of several open sources into the file `draft`, in
        regions; `draft` becomes `path`. For formats that hold several images and are written by parts.
    refuse : callable
        ``(shape, dtype) -> str`` returns why the format cannot hold such an array, with a remedy;
        an empty string if it can.
    open : callable, optional
        ``(path, inside) -> Source`` opens a file to read regions of it.
    create : callable, optional
        ``(request) -> Target`` creates a file to write regions of it; `request` is a
        `CreateRequest`.
    folder : bool
        Whether its files are folders.
    folders : tuple of str
        Suffixes with which a folder of files is written, for a format whose files are not folders.
    contents : tuple of str
        File names of which such a folder contains at least one, whatever its own name.
    inner : bool
        Whether its files hold several arrays, named by what follows the path.
    compresses : Format, optional
        The format that this one compresses. Its signature is that of the compression alone.
    is_series : callable, optional
        ``(folder) -> bool`` returns whether a folder holds the slices of one volume, a file each.
    other_format : callable, optional
        ``(path) -> str`` returns the name of the format of a file that has the same suffix but
        other contents; an empty string if it is of this format.
    package : str
        Optional package that it needs.
    keeps : callable
        ``(info, shape, dtype, path) -> frozenset of str`` returns what it keeps of an
        `ImageInfo`: "axes", "spacing", "affine", "names", "nodata" and names of options.
    options : dict of str
        Entries of `ImageInfo.options` that this format reads and that no other format may keep,
        each with its description for users.
    selective : bool
        Whether `keeps` also names which of its own `options` are kept; otherwise all are.
    on_grid : callable, optional
        ``(info, change) -> (options, note)`` returns the options of an image on another grid, where they hold
        positions or lengths in samples; `note` says what cannot be kept. None if no option does.
    statements : dict of Answer
        What it does with every statement that such a file can make about its numbers; the keys are
        those of `separable.files.STATEMENTS`. `docs/files.md` and the tests are made from it.

    Examples
    --------
    >>> from separable.files import registered_formats
    >>> [f.suffixes for f in registered_formats() if f.name == "NIfTI"]
    [('.nii',)]
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...] = ()
    read: Callable[[Path], tuple[Array, ImageInfo]] | None = None
    write: Callable[[BinaryIO, Array, ImageInfo, Path], tuple[str, ...] | None] | None = None
    count: Callable[[Path], int] | None = None
    read_one: Callable[[Path, int], tuple[Array, ImageInfo]] | None = None
    write_several: (
        Callable[[BinaryIO, Sequence[tuple[Array, ImageInfo]], Path], tuple[str, ...] | None] | None
    ) = None
    join: Callable[[Path, Sequence[Source], Path], None] | None = None
    refuse: Callable[[tuple[int, ...], np.dtype[Any]], str] = accept_all
    open: Callable[[Path, str], Source] | None = None
    create: Callable[[CreateRequest], Target] | None = None
    folder: bool = False
    folders: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    inner: bool = False
    compresses: Format | None = None
    is_series: Callable[[Path], bool] | None = None
    other_format: Callable[[Path], str] | None = None
    package: str = ""
    keeps: Callable[[ImageInfo, tuple[int, ...], np.dtype[Any], Path], frozenset[str]] = (
        KEEPS_NOTHING
    )
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    selective: bool = False
    on_grid: Callable[[ImageInfo, GridChange], tuple[dict[str, Any], str]] | None = None
    statements: Mapping[str, Answer] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a format that could not be read or found."""
        if self.read is None and self.open is None:
            raise ArgumentError(f"the format {self.name} must have `read` or `open`; got neither")
        if not self.suffixes or any(s != s.lower() or s[:1] != "." for s in self.suffixes):
            raise ArgumentError(
                f"`suffixes` of the format {self.name} must be in small letters with a dot, such "
                f"as .txt; got {self.suffixes}"
            )
        check_answers(self.name, self.statements)

    def read_all(self, path: Path, inside: str = "", number: int = 1) -> tuple[Array, ImageInfo]:
        """Read a whole file, or one of its images, by `read` or else through `open`."""
        if number != 1 and self.read_one is not None:
            return self.read_one(path, number)
        if self.read is not None:
            return self.read(path)
        assert self.open is not None  # checked above
        return read_whole(self.open(path, inside))

    def writes_folder(self, path: Path) -> bool:
        """Return whether a folder is written under this name."""
        return self.folder or path.name.lower().endswith(self.folders or ("\0",))

    def begins(self, start: bytes) -> bool:
        """Return whether a file that begins with these bytes may be of this format."""
        return any(start.startswith(signature) for signature in self.signatures)
