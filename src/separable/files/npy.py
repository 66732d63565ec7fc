"""The NPY format of NumPy, without pickled objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.chunked_io import Source, Target
from separable.files.file_format import CreateRequest, Format
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.image_info import ImageInfo
from separable.files.statements import STATEMENTS, answers_of

__all__ = ["NPY"]


def _open_npy(path: Path, inside: str = "") -> Source:
    shape, fortran, dtype, offset = _header(path)
    if dtype.hasobject:
        raise FileError(
            f"cannot read {path}: it holds Python objects; expected numbers. Save a plain array"
        )
    order = tuple(range(len(shape)))
    raw = Raw.open(path, dtype, shape, offset, order[::-1] if fortran else order)
    return raw_source(path, "", raw, ImageInfo())


def _header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise FileError(
                f"cannot read {path}: expected version 1 or 2 of NPY, those of plain numbers; "
                f"got {version[0]}.{version[1]}. Save a plain array"
            )
        return tuple(shape), bool(fortran), dtype, file.tell()


def _create_npy(request: CreateRequest) -> Target:
    if not request.resume:
        descr = np.lib.format.dtype_to_descr(request.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": request.shape}
        with request.draft.open("wb") as file:
            np.lib.format.write_array_header_2_0(file, header)
    shape, _, dtype, offset = _header(request.draft)
    request.check_draft(shape, dtype)
    return raw_target(request, Raw.open(request.draft, dtype, shape, offset, write=True))


NPY = Format(
    name="NPY",
    suffixes=(".npy",),
    signatures=(b"\x93NUMPY",),
    open=_open_npy,
    create=_create_npy,
    statements=answers_of(cannot_occur=", ".join(STATEMENTS)),  # it holds an array alone
)
