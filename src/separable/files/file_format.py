"""What the formats of files share: `Format`, `ImageInfo`, and the check of a header's claims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError
from separable.system import physical_memory

if TYPE_CHECKING:
    from separable.files.chunked_io import Source, Target, Wanted

__all__ = [
    "Array",
    "Format",
    "ImageInfo",
    "affine_of",
    "check_claims",
    "check_memory",
    "check_packed",
    "keeping",
    "memory_bytes",
]

Array: TypeAlias = NDArray[Any]

DEFLATE_RATIO = 1032  # no deflated file becomes larger by more; JPEG and BMP stay below that
MOST_AXES = 32  # of NumPy 1
SPACE = frozenset("ZYXQI")  # the letters of TIFF axes that a filter runs along; Q and I: unknown


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about an image besides its numbers.

    Attributes
    ----------
    axes : str
        One letter an axis, as TIFF has them: Z Y X space, S colour samples, C channels, T time,
        L spectrum, Q and I unknown. Empty where the file does not say.
    options : dict
        What the format of that name needs to write the same again, such as the resolution.
    format : str
        The name of the format it was read from.
    notes : tuple of str
        What a reader should know, for instance that the file holds more than this image.
    spacing : tuple of float or None
        From one sample to the next, one an axis, in `unit`; None for an axis that is not space
        or of which the file does not say it. None where it says nothing at all.
    unit : str
        Of `spacing`: mm, um, m ...; empty where the file does not say.
    affine : ndarray, optional
        From indices to places, ``(4, 4)``, in `unit`, as NIfTI has it.
    names : tuple of str
        Of the axes, where the file has longer ones than letters.

    Examples
    --------
    >>> ImageInfo("ZYX", spacing=(3.0, 1.0, 1.0), unit="mm").spacing
    (3.0, 1.0, 1.0)
    """

    axes: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    notes: tuple[str, ...] = ()
    spacing: tuple[float | None, ...] | None = None
    unit: str = ""
    affine: NDArray[np.float64] | None = field(default=None, compare=False)
    names: tuple[str, ...] = ()

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


def affine_of(found: Any) -> NDArray[np.float64] | None:
    """Return what an attribute of that name holds, if it is one."""
    try:
        made = np.array(found, np.float64)
    except (TypeError, ValueError):
        return None
    return made if made.shape == (4, 4) else None


def keeping(*what: str) -> Callable[..., frozenset[str]]:
    """Return what says for any image that this is kept."""
    return lambda *image: frozenset(what)


keeps_nothing = keeping()


@dataclass(frozen=True)
class Format:
    """A type of files.

    A format says how it reads and writes files whole, by parts, or both ways; what it can do by
    parts it does whole as well.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        Of its files; the first is the usual one.
    signatures : tuple of bytes
        How its files begin; empty where that says nothing.
    read : callable, optional
        (path) -> (array, info); may raise anything.
    write : callable, optional
        (file, array, info, path): writes to an open file, of another name; may raise anything.
    refuse : callable
        (shape, dtype) -> why it cannot hold such an array, with the remedy; empty if it can.
    open : callable, optional
        (path, inside) -> Source, to read by parts.
    create : callable, optional
        (wanted) -> Target, to write by parts.
    folder : bool
        Whether its files are folders.
    contents : tuple of str
        Of which such a folder has at least one, whatever its own name.
    inner : bool
        Whether its files hold several arrays, named by what follows the path.
    package : str
        Which package it needs beyond those that are always there.
    keeps : callable
        (info, shape, dtype, path) -> what it keeps of an `ImageInfo`: axes, spacing, affine, and
        names of options.

    Examples
    --------
    >>> from separable.files import FORMATS
    >>> [f.suffixes for f in FORMATS if f.name == "NIfTI"]
    [('.nii',)]
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    read: Callable[[Path], tuple[Array, ImageInfo]] | None
    write: Callable[[BinaryIO, Array, ImageInfo, Path], None] | None
    refuse: Callable[[tuple[int, ...], np.dtype[Any]], str]
    open: Callable[[Path, str], Source] | None = None
    create: Callable[[Wanted], Target] | None = None
    folder: bool = False
    contents: tuple[str, ...] = ()
    inner: bool = False
    package: str = ""
    keeps: Callable[[ImageInfo, tuple[int, ...], np.dtype[Any], Path], frozenset[str]] = (
        keeps_nothing
    )


def memory_bytes() -> int:
    """Return the memory of this computer; 0 where it does not say."""
    return physical_memory()


def check_claims(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...] | None
) -> None:
    """Refuse a header whose claims nothing can fulfil, whatever the format.

    Raises
    ------
    FileError
        If a size is negative, a chunk has a side of 0 or does not fit into memory, or the array is
        larger than any disk.
    """
    wrong = f"cannot read {path}: it is damaged or not for this computer: its header says"
    if len(shape) > MOST_AXES or any(n < 0 for n in shape):
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
    """Refuse a header that claims more bytes than a compressed file can hold.

    Parameters
    ----------
    path : Path
    needed : int
        Bytes that the header claims.
    stored : int, optional
        Bytes that are stored; default: the size of the file.
    ratio : int
        By how much at most a codec makes data smaller.
    """
    size = path.stat().st_size if stored is None else stored
    if needed > ratio * size + 64:
        raise FileError(
            f"cannot read {path}: it is truncated; its header says {needed} bytes and its {size} "
            "cannot hold them. Fetch or export it again"
        )


def check_memory(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what the header of a file claims if no result of that size would fit."""
    needed = math.prod(map(int, shape)) * dtype.itemsize
    memory = memory_bytes()
    if memory and needed > memory // 2:
        size = "x".join(map(str, shape))
        raise FileError(
            f"cannot read {path}: its header says {size} {dtype}, {needed / 2**30:.1f} GiB, and "
            f"this computer has {memory / 2**30:.1f} GiB of memory for it and the result. "
            "Cut it into parts, or fetch it again if that is wrong"
        )
