"""The registry of file formats, and finding the format that a path names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from separable.errors import ArgumentError, FileError
from separable.files.dicom import DICOM
from separable.files.envi import ENVI
from separable.files.file_format import Format
from separable.files.gif_pictures import GIF
from separable.files.hdf5 import HDF5
from separable.files.metaimage import METAIMAGE
from separable.files.netcdf import NETCDF
from separable.files.nifti import NIFTI, NIFTI_GZ
from separable.files.nifti_pairs import NIFTI_PAIR
from separable.files.npy import NPY
from separable.files.nrrd import NRRD
from separable.files.pictures import BMP, JPEG, PNG
from separable.files.tiff import TIFF
from separable.files.zarr import ZARR

__all__ = [
    "PathLike",
    "in_parts",
    "is_image_path",
    "locate",
    "outer_file",
    "register_format",
    "registered_formats",
    "unregister_format",
]

PathLike: TypeAlias = str | os.PathLike[str]

_BUILT_IN = (
    PNG,
    JPEG,
    BMP,
    GIF,
    TIFF,
    NPY,
    ZARR,
    NIFTI,
    NIFTI_GZ,
    HDF5,
    NETCDF,
    ENVI,
    NIFTI_PAIR,
    METAIMAGE,
    NRRD,
    DICOM,
)
_formats: dict[str, Format] = {format.name: format for format in _BUILT_IN}


def register_format(format: Format) -> Format:
    """Add a file format, so that every function and command that takes a path knows it.

    Parameters
    ----------
    format : Format

    Returns
    -------
    Format
        The same object.

    Raises
    ------
    ArgumentError
        If another format has the same name or one of the suffixes.

    Examples
    --------
    >>> import numpy as np
    >>> from separable import files
    >>> def read(path):
    ...     return np.loadtxt(path, ndmin=2), files.ImageInfo("YX")
    >>> def write(file, array, info, path):
    ...     np.savetxt(file, array)
    >>> table = files.register_format(
    ...     files.Format(name="text table", suffixes=(".tbl",), read=read, write=write)
    ... )
    >>> files.is_image_path("heights.tbl")
    True
    >>> files.unregister_format(table)
    """
    for known in _formats.values():
        shared = sorted(set(known.suffixes) & set(format.suffixes))
        if known.name == format.name or shared:
            same = f"the suffix {shared[0]}" if shared else "that name"
            raise ArgumentError(
                f"cannot register the format {format.name}: {known.name} has {same} already"
            )
    _formats[format.name] = format
    return format


def unregister_format(format: Format | str) -> None:
    """Remove a file format that `register_format` added.

    Parameters
    ----------
    format : Format or str
        The format, or its name.

    Raises
    ------
    ArgumentError
        If it is not registered, or is one of the package.

    Examples
    --------
    >>> unregister_format("PNG")
    Traceback (most recent call last):
        ...
    separable.errors.ArgumentError: the format PNG of the package cannot be removed
    """
    name = format if isinstance(format, str) else format.name
    if name not in _formats:
        raise ArgumentError(f"`format` must be a registered format; got {name!r}")
    if any(known.name == name for known in _BUILT_IN):
        raise ArgumentError(f"the format {name} of the package cannot be removed")
    del _formats[name]


def registered_formats() -> tuple[Format, ...]:
    """Return all file formats, those of the package first.

    Examples
    --------
    >>> [format.name for format in registered_formats()][:5]
    ['PNG', 'JPEG', 'BMP', 'GIF', 'TIFF']
    """
    return tuple(_formats.values())


def locate(path: PathLike, verb: str) -> tuple[Path, str, Format]:
    """Return the file of a path, the name of the array inside of it, and its format.

    Parameters
    ----------
    path : str or path
    verb : str
        "read" or "write", for messages.

    Raises
    ------
    FileError
        If no format has its suffix.

    Examples
    --------
    >>> file, inside, format = locate("scan.h5:/raw/volume", "read")
    >>> str(file), inside, format.name
    ('scan.h5', '/raw/volume', 'HDF5')
    """
    path = Path(path)
    for format in _formats.values():
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
    series = _series_of(path) if verb == "read" else None
    return series or (path, "", _format_of(path, verb))


def _series_of(path: Path) -> tuple[Path, str, Format] | None:
    """Return the folder of a series, and the name of one of several in it."""
    for format in _formats.values():
        if format.is_series is None:
            continue
        if os.path.isdir(path) and format.is_series(path):
            return path, "", format
        named = not os.path.exists(path) and os.path.isdir(path.parent) and not _by_suffix(path)
        if named and path.parent != Path() and format.is_series(path.parent):
            return path.parent, path.name, format
    return None


def in_parts(source: PathLike, target: PathLike) -> bool:
    """Return whether a file can be filtered in parts: read and written in regions.

    Examples
    --------
    >>> in_parts("in.npy", "out.tif"), in_parts("in.png", "out.npy")
    (True, False)
    """
    return locate(source, "read")[2].open is not None and (
        locate(target, "write")[2].create is not None
    )


def outer_file(path: PathLike, verb: str = "read") -> Path:
    """Return a path without the name of an array in a file; a folder in a store stays as it is.

    Examples
    --------
    >>> str(outer_file("scan.h5:/raw/volume")), str(outer_file("scan.npy"))
    ('scan.h5', 'scan.npy')
    """
    try:
        file, _, format = locate(path, verb)
    except FileError:
        return Path(path)
    return Path(path) if format.folder else file


def is_image_path(text: str) -> bool:
    """Return whether a text ends like the name of a file that can be read.

    Examples
    --------
    >>> is_image_path("psf.npy"), is_image_path("gaussian:2.5")
    (True, False)
    """
    lower = text.lower()
    if not any(suffix in lower for format in _formats.values() for suffix in format.suffixes):
        return False
    try:
        locate(text, "read")
    except FileError:
        return False
    return True


def _by_suffix(path: Path) -> dict[str, Format]:
    name = path.name.lower()
    return {s: f for f in _formats.values() for s in f.suffixes if name.endswith(s)}


def _format_of(path: Path, verb: str) -> Format:
    """Return the format with the longest suffix that ends this name."""
    by_suffix = _by_suffix(path)
    if by_suffix:
        found = by_suffix[max(by_suffix, key=len)]
        other = found.other_format(path) if found.other_format and verb == "read" else ""
        return _formats.get(other, found)
    if path.is_dir() and verb == "read":
        raise FileError(f"cannot read {path}: it is a folder. Name a file in it")
    known = " ".join(s for f in _formats.values() for s in f.suffixes)
    got = f"got {path.suffix!r}" if path.suffix else "got a name without one"
    folders = [f"{f.name} folder ends in {s}" for f in _formats.values() for s in f.folders]
    hint = (
        f". A {' and a '.join(folders)}" if folders and verb == "write" and not path.suffix else ""
    )
    raise FileError(f"cannot {verb} {path}: its suffix must be one of {known}; {got}{hint}")
