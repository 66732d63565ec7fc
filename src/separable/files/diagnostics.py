"""Diagnose why a file cannot be read or written.

Errors of the system in words, optional packages that are not installed, and headers whose claims
cannot be true.
"""

from __future__ import annotations

import errno
import importlib
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from separable.distribution import install_command
from separable.errors import FileError
from separable.system import physical_memory

__all__ = [
    "DEFLATE_RATIO",
    "check_claims",
    "check_memory",
    "check_packed",
    "errno_of",
    "import_package",
    "memory_bytes",
    "reason_of",
    "remedy_of",
]

DEFLATE_RATIO = 1032  # largest compression ratio of deflate; JPEG and BMP stay below it
MAX_AXES = 32  # limit of NumPy 1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def remedy_of(error: BaseException) -> str:
    """Return the remedy for an error in writing, as the end of a message; may be empty."""
    full = errno_of(error) in FULL
    return ". Free some space, or write elsewhere" if full else ""


def errno_of(error: BaseException) -> int | None:
    """Return the `errno` of an error, which HDF5 gives only in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"errno = (\d+), error message", str(error))
    return int(found[1]) if found else None


def reason_of(error: BaseException) -> str:
    """Return the innermost cause of an error in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    number = errno_of(error)
    if number:
        return os.strerror(number).lower()
    text = " ".join(str(error).split())
    return text or type(error).__name__


def import_package(name: str, path: Path) -> Any:
    """Import a package of the extra `volumes`, or raise an error that says how to install it."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise FileError(
            f"cannot open {path}: it needs the package {name}. Install it: "
            f"{install_command('volumes')}"
        ) from None
    if name == "zarr" and int(module.__version__.partition(".")[0]) < 3:
        raise FileError(
            f"cannot open {path}: expected zarr 3 or later; got {module.__version__}. "
            "Install it, on Python 3.11 or later: pip install 'zarr>=3'"
        )
    return module


def memory_bytes() -> int:
    """Return the memory of this computer in bytes; 0 if it is unknown."""
    return physical_memory()


def check_claims(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...] | None
) -> None:
    """Refuse a header whose claims cannot be true, for any format.

    Raises
    ------
    FileError
        If a size is negative, a chunk has a side of 0 or does not fit into memory, or the array is
        larger than any disk.
    """
    wrong = f"cannot read {path}: it is damaged or not for this computer: its header says"
    if len(shape) > MAX_AXES or any(n < 0 for n in shape):
        raise FileError(f"{wrong} the shape {_sizes(shape)}")
    if math.prod(shape) * dtype.itemsize >= 1 << 63:
        raise FileError(
            f"{wrong} the shape {_sizes(shape)} of {dtype}, which is more than any disk holds"
        )
    if chunks is None:
        return
    if len(chunks) != len(shape) or any(n < 1 for n in chunks):
        raise FileError(
            f"{wrong} the chunks {_sizes(chunks)} for an array of shape {_sizes(shape)}; expected "
            "sizes >= 1"
        )
    needed = math.prod(chunks) * dtype.itemsize
    if 0 < memory_bytes() < needed:
        raise FileError(
            f"{wrong} the chunks {_sizes(chunks)} of {dtype}, {needed / 2**30:.4g} GiB each, and a "
            "chunk is read whole"
        )


def _sizes(sizes: tuple[int, ...]) -> str:
    text = "x".join(map(str, sizes)) or "()"
    return text if len(text) < 80 else text[:76] + " ..."


def check_packed(
    path: Path, needed: int, stored: int | None = None, ratio: int = DEFLATE_RATIO
) -> None:
    """Refuse a header that claims more bytes than the compressed file can contain.

    Parameters
    ----------
    path : Path
    needed : int
        Number of bytes that the header claims.
    stored : int, optional
        Number of stored bytes; default: the size of the file.
    ratio : int
        Largest compression ratio of the codec.
    """
    size = path.stat().st_size if stored is None else stored
    if needed > ratio * size + 64:
        raise FileError(
            f"cannot read {path}: it is truncated; its header says {needed} bytes and its {size} "
            "cannot hold them. Fetch or export it again"
        )


def check_memory(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array that does not fit into memory together with a result of its size."""
    needed = math.prod(map(int, shape)) * dtype.itemsize
    memory = memory_bytes()
    if memory and needed > memory // 2:
        size = "x".join(map(str, shape))
        raise FileError(
            f"cannot read {path}: its header says {size} {dtype}, {needed / 2**30:.1f} GiB, and "
            f"this computer has {memory / 2**30:.1f} GiB of memory for it and the result. "
            "Cut it into parts, or fetch it again if that is wrong"
        )
