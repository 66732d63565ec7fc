"""Read the idx files in which MNIST and similar data sets are published, plain or gzipped.

The format (Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits"): two
zero bytes, a byte for the type (8 is unsigned bytes, all that these data sets use), a byte for the
number of axes, a big-endian 32-bit length of each axis, and then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from separable.errors import FileError

__all__ = ["read_idx", "read_mnist"]

PARTS = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> np.ndarray:
    """Return the array of unsigned bytes in an idx file.

    Raises
    ------
    FileError
        The file is missing, damaged, truncated or too long, or not an idx file of bytes.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as problem:
        raise FileError(f"{path} cannot be read: {problem}") from problem
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise FileError(
            f"{path} is no idx file of unsigned bytes: expected it to begin with 00 00 08 and "
            f"the number of axes; got {content[:4].hex(' ') or 'an empty file'}"
        )
    begin = 4 + 4 * content[3]
    if len(content) < begin:
        raise FileError(f"{path} is cut short: it ends within the lengths of its axes")
    shape = struct.unpack(f">{content[3]}I", content[4:begin])
    if len(content) - begin != math.prod(shape):
        raise FileError(
            f"{path} is damaged: {'x'.join(map(str, shape))} values are "
            f"{math.prod(shape)} bytes; got {len(content) - begin}"
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def read_mnist(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(n, y, x)`` and labels ``(n,)`` of the part ``"train"`` or ``"test"``.

    Raises
    ------
    FileError
        A file is missing or damaged, or images and labels do not fit each other.
    """
    images = read_idx(_find(folder, f"{PARTS[part]}-images", 3))
    labels = read_idx(_find(folder, f"{PARTS[part]}-labels", 1))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or images.size == 0:
        raise FileError(
            f"the {part} part in {folder} does not fit together: expected images (n, y, x) and "
            f"labels (n,); got {images.shape} and {labels.shape}"
        )
    if labels.max() > 9:
        raise FileError(f"labels in {folder} must be 0 ... 9; got {labels.max()}")
    return images, labels


def _find(folder: Path, stem: str, ndim: int) -> Path:
    """Return the file of that name, in one of its usual spellings."""
    names = [f"{stem}{mark}idx{ndim}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder}")
    raise FileError(f"the folder {folder} holds none of {', '.join(names)}")
