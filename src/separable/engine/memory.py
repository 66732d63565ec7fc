"""Large results in memory that has been used before.

The system hands out zeroed pages at a page fault each: for a fresh result of 64 MiB that takes as
long as filtering it. So large results live in blocks of our own, aligned to huge pages, and a
block comes back when the last array that looks at it is gone. At most `KEPT_BYTES` wait for use;
``SEPARABLE_KEEP_BYTES`` in the environment changes that, 0 turns it off.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from separable.process_cache import ProcessBound

__all__ = ["empty", "kept_bytes", "release"]

LARGE = 1 << 21  # bytes; smaller arrays are NumPy's own business
HUGE_PAGE = 1 << 21
KEPT_BYTES = 1 << 28  # one 256 MiB volume, or four pictures of 64 MiB
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class _Block(ProcessBound):
    """A private mapping, and where its first huge page begins."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.mapping = mmap.mmap(-1, size + HUGE_PAGE, flags=_PRIVATE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self.mapping.madvise(mmap.MADV_HUGEPAGE)
        start = np.frombuffer(self.mapping, np.uint8).__array_interface__["data"][0]
        self.address = -(-start // HUGE_PAGE) * HUGE_PAGE


class _Lease(ProcessBound):
    """What an array's memory belongs to while the array, or a view of it, lives."""

    def __init__(self, block: _Block, count: int) -> None:
        self._block = block
        self.__array_interface__ = {
            "version": 3, "shape": (count,), "typestr": "|u1", "data": (block.address, False),
        }  # fmt: skip


_free: list[_Block] = []


def empty(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of arbitrary contents, as `numpy.empty` does.

    Parameters
    ----------
    shape : sequence of int
    dtype : dtype
        Of numbers.

    Raises
    ------
    MemoryError
        If the system does not give that much.

    Examples
    --------
    >>> empty((3, 4), "float32").shape
    (3, 4)
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < LARGE or not _PRIVATE or _limit() == 0:
        return np.empty(shape, kind)
    try:
        block = _take(-(-size // HUGE_PAGE) * HUGE_PAGE)
    except (OSError, OverflowError):
        raise MemoryError(
            f"there are no {size / 2**30:.0f} GiB for a result of shape {tuple(shape)}, {kind}"
        ) from None
    lease = _Lease(block, size)
    weakref.finalize(lease, _give, lease._block).atexit = False
    return np.asarray(lease).view(kind).reshape(shape)


def kept_bytes() -> int:
    """Return how many bytes wait to be used again."""
    return sum(block.size for block in tuple(_free))


def release() -> None:
    """Give the memory that waits back to the system."""
    _free.clear()


def _limit() -> int:
    asked = os.environ.get("SEPARABLE_KEEP_BYTES", "")
    return int(asked) if asked.isdigit() else KEPT_BYTES


def _take(size: int) -> _Block:
    """A waiting block of the size, or a little larger; or a new one."""
    for block in tuple(_free):
        if size <= block.size <= size + size // 4:
            try:
                _free.remove(block)
            except ValueError:  # another thread took it
                continue
            return block
    return _Block(size)


def _give(block: _Block) -> None:
    """Keep a block for the next result, the oldest going first where there are too many."""
    if block.size > _limit():
        return
    _free.append(block)
    while _free and kept_bytes() > _limit():
        del _free[:1]  # no error where another thread was first
