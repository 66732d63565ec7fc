"""NPY, by NumPy; never with pickled objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.formats import Array, Format, ImageInfo, check_memory

__all__ = ["NPY"]


def _read_npy(path: Path) -> tuple[Array, ImageInfo]:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # compares sizes before reading
    except ValueError as error:
        if "object" not in str(error).lower():
            raise
        raise FileError(
            f"cannot read {path}: it holds Python objects; expected numbers. Save a plain array"
        ) from None
    check_memory(path, mapped.shape, mapped.dtype)
    return np.array(mapped), ImageInfo()


def _write_npy(file: BinaryIO, array: Array, info: ImageInfo) -> None:
    np.save(file, array, allow_pickle=False)


def _refuse_npy(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return ""


NPY = Format("NPY", (".npy",), (b"\x93NUMPY",), _read_npy, _write_npy, _refuse_npy)
