"""What the formats of files share: `Format`, `ImageInfo`, and the check of a header's claims."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError

__all__ = ["Array", "Format", "ImageInfo", "check_memory"]

Array: TypeAlias = NDArray[Any]

SPACE = frozenset("ZYXQI")  # the letters of TIFF axes that a filter runs along; Q and I: unknown


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about an image besides its numbers.

    Attributes
    ----------
    axes : str
        One letter an axis, as TIFF has them: Z Y X space, S colour samples, C channels, T time,
        Q and I unknown. Empty where the file does not say.
    options : dict
        What the format of that name needs to write the same again, such as the resolution.
    format : str
        The name of the format it was read from.
    notes : tuple of str
        What a reader should know, for instance that the file holds more than this image.
    """

    axes: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    notes: tuple[str, ...] = ()

    def space(self, ndim: int) -> tuple[int, ...]:
        """Return the axes that are space: neither colour nor channels nor time.

        Examples
        --------
        >>> ImageInfo("YXS").space(3), ImageInfo().space(3)
        ((0, 1), (0, 1, 2))
        """
        if len(self.axes) != ndim:
            return tuple(range(ndim))
        return tuple(i for i, letter in enumerate(self.axes) if letter in SPACE)


@dataclass(frozen=True)
class Format:
    """A type of files.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        Of its files; the first is the usual one.
    signatures : tuple of bytes
        How its files begin.
    read : callable
        (path) -> (array, info); may raise anything.
    write : callable
        (file, array, info): writes to an open file; may raise anything.
    refuse : callable
        (shape, dtype) -> why it cannot hold such an array, with the remedy; empty if it can.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    read: Callable[[Path], tuple[Array, ImageInfo]]
    write: Callable[[BinaryIO, Array, ImageInfo], None]
    refuse: Callable[[tuple[int, ...], np.dtype[Any]], str]


def check_memory(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what the header of a file claims if no result of that size would fit."""
    needed = math.prod(map(int, shape)) * dtype.itemsize
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory // 2:
        size = "x".join(map(str, shape))
        raise FileError(
            f"cannot read {path}: its header says {size} {dtype}, {needed / 2**30:.1f} GiB, and "
            f"this computer has {memory / 2**30:.1f} GiB of memory for it and the result. "
            "Cut it into parts, or fetch it again if that is wrong"
        )
