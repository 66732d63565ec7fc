"""Read and write an image by the format that its name says."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from separable.errors import FileError
from separable.files.atomic import whole_or_nothing
from separable.files.formats import Array, Format, ImageInfo
from separable.files.npy import NPY
from separable.files.pictures import BMP, JPEG, PNG
from separable.files.tiff import TIFF

__all__ = ["FORMATS", "check_target", "is_image_path", "read_image", "write_image"]

PathLike: TypeAlias = str | os.PathLike[str]

FORMATS: tuple[Format, ...] = (PNG, JPEG, BMP, TIFF, NPY)
BY_SUFFIX = {suffix: f for f in FORMATS for suffix in f.suffixes}


def read_image(path: PathLike) -> tuple[Array, ImageInfo]:
    """Read an image or volume.

    Parameters
    ----------
    path : str or path
        PNG, JPEG, BMP, TIFF (also volumes) or NPY, by its suffix.

    Returns
    -------
    array : ndarray
        Colours last, as ``(y, x, 3)``. Photographs are turned upright as their file asks.
    info : ImageInfo

    Raises
    ------
    FileError
        If the file is missing, unreadable, truncated, of an unknown type, of another type than
        its suffix says, or larger than this computer's memory.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(f"{folder}/ramp.npy", np.arange(4.0))
    ...     array, info = read_image(f"{folder}/ramp.npy")
    >>> array, info.format
    (array([0., 1., 2., 3.]), 'NPY')
    """
    path = Path(path)
    try:
        _check_source(path)
        chosen = _format_of(path, "read")
        _check_signature(path, chosen)
        array, info = chosen.read(path)
    except FileError:
        raise
    except PermissionError:
        raise FileError(
            f"cannot read {path}: permission denied. Ask its owner, or copy it"
        ) from None
    except MemoryError:
        raise FileError(f"cannot read {path}: it does not fit into memory") from None
    except Exception as error:  # the libraries raise whatever they meet in a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise FileError(f"cannot read {path}: {_reason(error)}") from None
        raise FileError(
            f"cannot read {path}: it is truncated or damaged ({_reason(error)}). "
            "Fetch or export it again"
        ) from None
    if array.dtype.kind not in "biufc":
        raise FileError(
            f"cannot read {path}: expected numbers; got {array.dtype}. Save a plain array"
        )
    return array, replace(info, format=chosen.name)


def write_image(
    path: PathLike, array: Array, info: ImageInfo | None = None, *, overwrite: bool = False
) -> None:
    """Write an image or volume, whole or not at all.

    Parameters
    ----------
    path : str or path
        The suffix says the format.
    array : ndarray
        Of a type that the format holds: uint8 for pictures (PNG also uint16 without colour),
        anything for TIFF and NPY.
    info : ImageInfo, optional
        As read with an image of the same axes; what the format can keep is kept.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileError
        If the type of file is unknown or cannot hold the array, the file exists, or the disk or
        the permissions do not allow it. Nothing is left behind then.
    """
    path = Path(path)
    array = np.asarray(array)
    chosen = check_target(path, array.shape, array.dtype, overwrite=overwrite)
    try:
        with whole_or_nothing(path.resolve(), overwrite) as file:
            chosen.write(file, array, info or ImageInfo())
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"cannot write {path}: {_reason(error)}") from None


def check_target(
    path: PathLike, shape: tuple[int, ...], dtype: DTypeLike, *, overwrite: bool = False
) -> Format:
    """Say before the work begins whether an array can be written to a path.

    Returns
    -------
    Format
        That it would be written in.

    Raises
    ------
    FileError
        As `write_image`.
    """
    path = Path(path)
    chosen = _format_of(path, "write")
    reason = chosen.refuse(tuple(shape), np.dtype(dtype))
    if reason:
        raise FileError(f"cannot write {path}: {reason}")
    try:
        folder = path.resolve().parent
        if path.is_dir():
            raise FileError(f"cannot write {path}: it is a folder. Name a file in it")
        if path.exists() and not path.is_file():
            raise FileError(f"cannot write {path}: it is a device, not a file")
        if path.exists() and not overwrite:
            raise FileError(
                f"{path} exists. Choose another name, or overwrite it (overwrite=True, --force)"
            )
        if not folder.is_dir():
            raise FileError(f"cannot write {path}: there is no folder {folder}. Create it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise FileError(f"cannot write {path}: no permission to write in the folder {folder}")
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {path}: {_reason(error)}") from None
    return chosen


def is_image_path(text: str) -> bool:
    """Return whether a text ends like the name of a file that can be read.

    Examples
    --------
    >>> is_image_path("psf.npy"), is_image_path("gaussian:2.5")
    (True, False)
    """
    return Path(text).suffix.lower() in BY_SUFFIX


def _check_source(path: Path) -> None:
    if path.is_dir():
        raise FileError(f"cannot read {path}: it is a folder. Name a file in it")
    if not path.exists():
        folder = path.parent.iterdir() if path.parent.is_dir() else ()
        names = [p.name for p in folder if is_image_path(p.name)]
        close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
        hint = f". Did you mean {path.parent / close[0]}?" if close else ""
        raise FileError(f"cannot read {path}: there is no such file{hint}")
    if not path.is_file():
        raise FileError(f"cannot read {path}: it is a device, not a file")


def _format_of(path: Path, verb: str) -> Format:
    found = BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        known = " ".join(s for f in FORMATS for s in f.suffixes)
        got = f"got {path.suffix!r}" if path.suffix else "got a name without one"
        raise FileError(f"cannot {verb} {path}: its suffix must be one of {known}; {got}")
    return found


def _check_signature(path: Path, chosen: Format) -> None:
    """Refuse a file whose first bytes are not those of the format its name says."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise FileError(f"cannot read {path}: the file is empty. Fetch or export it again")
    if any(start.startswith(s) for s in chosen.signatures):
        return
    other = next((f for f in FORMATS if any(start.startswith(s) for s in f.signatures)), None)
    if other is None:
        raise FileError(
            f"cannot read {path}: it does not begin like a {chosen.name} file. "
            "It is damaged, or of another type"
        )
    raise FileError(
        f"cannot read {path}: expected {chosen.name} by its name; got {other.name}. "
        f"Rename it to {path.with_suffix(other.suffixes[0]).name}"
    )


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return text or type(error).__name__
