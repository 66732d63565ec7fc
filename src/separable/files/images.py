"""Read and write whole images and volumes, in the format that the file name says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from separable.errors import FileError
from separable.files.atomic_write import whole_or_nothing
from separable.files.chunked_io import write_whole
from separable.files.diagnostics import reason_of, remedy_of
from separable.files.file_format import first_of
from separable.files.format_registry import PathLike, locate
from separable.files.image_info import Array, ImageInfo
from separable.files.opening import (
    check_number,
    check_target,
    create_target,
    explain_errors,
    lost_metadata,
)

__all__ = ["read_image", "write_image"]


def read_image(path: PathLike, *, image: int | None = None) -> tuple[Array, ImageInfo]:
    """Read an image or volume.

    Parameters
    ----------
    path : str or path
        PNG, JPEG, BMP, GIF, TIFF, OME-TIFF, NPY, NIfTI, Zarr, OME-Zarr, HDF5 or ENVI, by its suffix.
        An array inside a file follows the path: ``in.zarr/labels/cells``, ``in.h5:/volume``.
    image : int, optional
        Number of the image in a file that holds several, from 1 to `count_images`. Default: 1, with a
        note.

    Returns
    -------
    array : ndarray
        Colours are on the last axis, ``(y, x, 3)``. Photographs are rotated upright as their
        metadata say.
    info : ImageInfo

    Raises
    ------
    ArgumentError
        If there is no image of this number.
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
    file, inside, format = locate(path, "read")
    number = 1 if image is None else image
    with explain_errors(file, format):
        count = 1 if format.count is None else format.count(file)
        check_number(file, number, count)
        array, info = format.read_all(file, inside, number)
    if array.dtype.kind not in "biufc":
        raise FileError(
            f"cannot read {path}: expected numbers; got {array.dtype}. Save a plain array"
        )
    notes = info.notes
    if image is None and count > 1:
        notes = (*notes, first_of(count))
    return array, replace(info, format=format.name, notes=notes)


def write_image(
    path: PathLike, array: Array, info: ImageInfo | None = None, *, overwrite: bool = False
) -> tuple[str, ...]:
    """Write an image or volume; the file appears only once it is complete.

    Parameters
    ----------
    path : str or path
        The format follows from the suffix.
    array : ndarray
        With a dtype that the format stores: uint8 for pictures (PNG also uint16 without colour),
        any dtype for TIFF and NPY.
    info : ImageInfo, optional
        Metadata as `read_image` returned them with an image of the same axes. The format keeps
        what it can.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    notes : tuple of str
        Metadata that the format cannot keep, such as the spacing, in words.

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
    format = check_target(path, array.shape, array.dtype, overwrite=overwrite)
    if format.write is None:
        target = create_target(path, array.shape, array.dtype, info=info, overwrite=overwrite)
        write_whole(target, array)
        return (*target.notes, *target.late_notes)
    try:
        with whole_or_nothing(path.resolve(), overwrite) as file:
            told = format.write(file, array, info or ImageInfo(), path) or ()
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"cannot write {path}: {reason_of(error)}{remedy_of(error)}") from None
    lost = lost_metadata(info or ImageInfo(), format, array.shape, array.dtype, path)
    return (*told, *lost)
