"""Read and write an image by the format that its name says."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from separable.errors import FileError
from separable.files.atomic_write import whole_or_nothing
from separable.files.chunked_io import read_whole, reason_of, remedy_of, write_whole
from separable.files.envi import ENVI
from separable.files.file_format import Array, Format, ImageInfo
from separable.files.hdf5 import HDF5
from separable.files.nifti import NIFTI, NIFTI_GZ
from separable.files.npy import NPY
from separable.files.pictures import BMP, JPEG, PNG
from separable.files.tiff import TIFF
from separable.files.zarr import ZARR

__all__ = [
    "FORMATS",
    "PathLike",
    "check_target",
    "is_image_path",
    "locate",
    "opened",
    "outer_file",
    "read_image",
    "what_is_lost",
    "write_image",
]

PathLike: TypeAlias = str | os.PathLike[str]

FORMATS: tuple[Format, ...] = (PNG, JPEG, BMP, TIFF, NPY, ZARR, NIFTI, NIFTI_GZ, HDF5, ENVI)
BY_SUFFIX = {suffix: f for f in FORMATS for suffix in f.suffixes}


def read_image(path: PathLike) -> tuple[Array, ImageInfo]:
    """Read an image or volume.

    Parameters
    ----------
    path : str or path
        PNG, JPEG, BMP, TIFF, OME-TIFF, NPY, NIfTI, Zarr, OME-Zarr, HDF5 or ENVI, by its suffix.
        What lies inside follows the path: ``in.zarr/labels/cells``, ``in.h5:/volume``.

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
    ...     _ = write_image(f"{folder}/ramp.npy", np.arange(4.0))
    ...     array, info = read_image(f"{folder}/ramp.npy")
    >>> array, info.format
    (array([0., 1., 2., 3.]), 'NPY')
    """
    file, inside, chosen = locate(path, "read")
    read = chosen.read
    if read is None:
        assert chosen.open is not None
        whole = read_whole(chosen.open)
        array, info = opened(file, inside, chosen, whole)
    else:
        array, info = opened(file, inside, chosen, lambda found, _: read(found))
    if array.dtype.kind not in "biufc":
        raise FileError(
            f"cannot read {path}: expected numbers; got {array.dtype}. Save a plain array"
        )
    return array, replace(info, format=chosen.name)


def locate(path: PathLike, verb: str) -> tuple[Path, str, Format]:
    """Return a file, what is named inside of it, and its format.

    Examples
    --------
    >>> file, inside, found = locate("scan.h5:/raw/volume", "read")
    >>> str(file), inside, found.name
    ('scan.h5', '/raw/volume', 'HDF5')
    """
    path = Path(path)
    for format in FORMATS:
        if not format.inner:
            continue
        if format.folder:
            for above in path.parents:
                inside = path.relative_to(above)
                if above.name.lower().endswith(format.suffixes) and ".." not in inside.parts:
                    return above, inside.as_posix(), format
            if any(os.path.isfile(path / name) for name in format.contents):
                return path, "", format
        elif ":" in path.as_posix():
            before, _, after = path.as_posix().rpartition(":")
            if before.lower().endswith(format.suffixes):
                return Path(before), after, format
    return path, "", _format_of(path, verb)


def outer_file(path: PathLike) -> Path:
    """Return a path without what it names inside a file; a folder within a store is one itself.

    Examples
    --------
    >>> str(outer_file("scan.h5:/raw/volume")), str(outer_file("scan.npy"))
    ('scan.h5', 'scan.npy')
    """
    try:
        file, _, format = locate(path, "read")
    except FileError:
        return Path(path)
    return Path(path) if format.folder else file


T = TypeVar("T")


def opened(file: Path, inside: str, chosen: Format, how: Callable[[Path, str], T]) -> T:
    """Open a file in some way, and say clearly why it cannot be."""
    path = file
    try:
        _check_source(path, chosen)
        return how(file, inside)
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
            raise FileError(f"cannot read {path}: {reason_of(error)}") from None
        raise FileError(
            f"cannot read {path}: it is truncated or damaged ({reason_of(error)}). "
            "Fetch or export it again"
        ) from None


def write_image(
    path: PathLike, array: Array, info: ImageInfo | None = None, *, overwrite: bool = False
) -> tuple[str, ...]:
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

    Returns
    -------
    notes : tuple of str
        What the file could not keep of what is known of the image, such as its spacing.

    Raises
    ------
    FileError
        If the type of file is unknown or cannot hold the array, the file exists, or the disk or
        the permissions do not allow it. Nothing is left behind then.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(f"{folder}/out.png", np.zeros((2, 2), "uint8"), ImageInfo(spacing=(2.0, 1.0)))
    ('PNG does not keep: the spacing (2.0, 1.0)',)
    """
    path = Path(path)
    array = np.asarray(array)
    chosen = check_target(path, array.shape, array.dtype, overwrite=overwrite)
    write = chosen.write
    if write is None:
        from separable.files.opening import create_target

        made = create_target(path, array.shape, array.dtype, info=info, overwrite=overwrite)
        write_whole(made, array)
        return made.notes
    try:
        with whole_or_nothing(path.resolve(), overwrite) as file:
            write(file, array, info or ImageInfo(), path)
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"cannot write {path}: {reason_of(error)}{remedy_of(error)}") from None
    return what_is_lost(info or ImageInfo(), chosen, array.shape, array.dtype, path)


def what_is_lost(
    info: ImageInfo, chosen: Format, shape: tuple[int, ...], dtype: DTypeLike, path: PathLike
) -> tuple[str, ...]:
    """Return what a format cannot keep of what is known of an image.

    Examples
    --------
    >>> info = ImageInfo("ZYX", spacing=(2.0, 1.0, 1.0), unit="mm")
    >>> what_is_lost(info, NPY, (3, 4, 5), "uint8", "a.npy")
    ('NPY does not keep: the axes ZYX, the spacing (2.0, 1.0, 1.0) mm',)
    """
    lost, keeps = [], chosen.keeps(info, shape, np.dtype(dtype), Path(path))
    if len(info.axes) == len(shape) and "axes" not in keeps:
        lost.append(f"the axes {info.axes}")
    if info.spacing is not None and "spacing" not in keeps:
        lost.append(f"the spacing {info.spacing} {info.unit}".rstrip())
    if info.affine is not None and "affine" not in keeps:
        lost.append("the affine")
    if info.options and info.format and info.format != chosen.name:
        known = sorted(set(info.options) & {"nifti", "envi", "ome", "imagej", "attributes"})
        words = {"nifti": "the NIfTI header", "envi": "the ENVI header", "ome": "OME's metadata",
                 "imagej": "ImageJ's metadata", "attributes": "the attributes"}  # fmt: skip
        lost += [words[k] for k in known if k not in keeps]
    return (f"{chosen.name} does not keep: {', '.join(lost)}",) if lost else ()


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

    Examples
    --------
    >>> check_target("picture.png", (64, 64), "uint8").name
    'PNG'
    >>> check_target("picture.png", (64, 64), "float64")
    Traceback (most recent call last):
        ...
    separable.errors.FileError: cannot write picture.png: PNG holds uint8 or uint16 or bool; got float64. Write .tif or .npy, or make it uint8 (--dtype uint8)
    """
    path, inside, chosen = locate(path, "write")
    if inside and chosen.folder:
        raise FileError(f"cannot write {inside} into {path}: a store is written whole. Name it")
    reason = chosen.refuse(tuple(shape), np.dtype(dtype))
    if reason:
        raise FileError(f"cannot write {path}: {reason}")
    try:
        folder = path.resolve().parent
        if path.is_dir() and not chosen.folder:
            raise FileError(f"cannot write {path}: it is a folder. Name a file in it")
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
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {path}: {reason_of(error)}") from None
    return chosen


def is_image_path(text: str) -> bool:
    """Return whether a text ends like the name of a file that can be read.

    Examples
    --------
    >>> is_image_path("psf.npy"), is_image_path("gaussian:2.5")
    (True, False)
    """
    if not any(suffix in text.lower() for suffix in BY_SUFFIX):
        return False
    try:
        locate(text, "read")
    except FileError:
        return False
    return True


def _check_source(path: Path, chosen: Format) -> None:
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
    if chosen.folder and path.is_file():
        raise FileError(
            f"cannot read {path}: expected a folder, as {chosen.name} has it; got a file. "
            "Unpack it, or name the store itself"
        )
    if path.is_dir() and not chosen.folder:
        raise FileError(f"cannot read {path}: it is a folder. Name a file in it")
    if not (path.is_file() or path.is_dir()):
        raise FileError(f"cannot read {path}: it is a device, not a file")
    if path.is_file():
        _check_signature(path, chosen)


def _format_of(path: Path, verb: str) -> Format:
    name = path.name.lower()
    found = BY_SUFFIX.get(max((s for s in BY_SUFFIX if name.endswith(s)), key=len, default=""))
    if found is None:
        if path.is_dir() and verb == "read":
            raise FileError(f"cannot read {path}: it is a folder. Name a file in it")
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
    if not chosen.signatures or any(start.startswith(s) for s in chosen.signatures):
        return
    likely = [f for f in FORMATS if any(start.startswith(s) for s in f.signatures)]
    other = next((f for f in likely if f is not NIFTI_GZ or chosen is NIFTI), None)
    if other is None:
        raise FileError(
            f"cannot read {path}: it does not begin like a {chosen.name} file. "
            "It is damaged, or of another type"
        )
    ending = next(s for s in chosen.suffixes if path.name.lower().endswith(s))
    raise FileError(
        f"cannot read {path}: expected {chosen.name} by its name; got {other.name}. "
        f"Rename it to {path.name[: -len(ending)]}{other.suffixes[0]}"
    )
