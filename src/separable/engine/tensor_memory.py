"""Reuse of memory for large PyTorch tensors.

PyTorch returns the memory of large tensors to the system and requests it again, zeroed, with a page fault per 4 KiB:
for a result that is written once, that takes as long as computing it. So this module keeps a reference to the memory
of the last results and uses it again once nothing else refers to it.

A result is still an ordinary tensor: PyTorch's own allocator made its storage, which is as large as
the tensor and belongs to it. This module keeps a second reference to that storage. PyTorch itself counts the other
references, in C++ and in Python; a storage that was resized or moved to shared memory is discarded. At most
``SEPARABLE_KEEP_BYTES`` are referred to, in use or not. This module is imported only if PyTorch is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine import result_memory
from separable.process_cache import ProcessBound
from separable.system import after_fork, ask_huge_pages

__all__ = [
    "array_of",
    "dense_strides",
    "empty",
    "empty_strided",
    "kept_bytes",
    "like_dense",
    "owned",
    "release",
]


class _BlockRef(NamedTuple):
    """A reference to the storage of a result, with its address and size when it was made."""

    storage: Any
    address: int
    size: int


_blocks: list[_BlockRef] = []  # the oldest first
_lock = threading.Lock()


def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor of arbitrary contents on the CPU, its last axis innermost.

    Examples
    --------
    >>> empty((2, 3)).dtype
    torch.float32
    """
    return empty_strided(shape, dense_strides(shape), dtype)


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a dense array whose last axis is innermost.

    Examples
    --------
    >>> dense_strides((4, 2, 3))
    (6, 3, 1)
    """
    strides, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def empty_strided(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor of arbitrary contents on the CPU with given strides, which leave no gaps.

    Examples
    --------
    >>> empty_strided((2, 3), (1, 2), torch.float64).is_contiguous()
    False
    """
    size = dtype.itemsize
    for n in shape:
        size *= n
    limit = result_memory.keep_limit() if size >= result_memory.LARGE else 0
    if not limit:
        return torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
    storage = _take(size)
    if storage is not None:
        return torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, shape, strides)
    made = torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
    _ask_huge_pages(made.data_ptr(), size)
    if size <= limit and _FREE is not None:
        _keep(_BlockRef(made.untyped_storage(), made.data_ptr(), size), limit)
    return made


def like_dense(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor of arbitrary contents with the shape of another, and its order of axes in memory."""
    steps = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: (-steps[axis], axis))
    strides, step = [0] * x.dim(), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(x.shape[axis], 1)
    return empty_strided(x.shape, strides, dtype)


def owned(x: Tensor) -> Tensor:
    """Return a tensor that owns its memory, copied only if necessary; nothing else may refer to `x`.

    The result is not a view, and its storage holds nothing else. It has no gradient.

    Examples
    --------
    >>> part = owned(torch.arange(6.0)[2:4])
    >>> part, part.untyped_storage().nbytes()
    (tensor([2., 3.]), 8)
    """
    if x.untyped_storage().nbytes() != x.numel() * x.element_size():
        made = like_dense(x, x.dtype) if x.is_cpu else torch.empty_like(x)
        return made.copy_(x.detach())
    if not x._is_view():
        return x
    fresh = torch.empty(0, dtype=x.dtype, device=x.device)
    return fresh.set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())


class _Memory(ProcessBound):
    """The memory of a tensor as NumPy's array interface describes it."""

    def __init__(self, x: Tensor, dtype: np.dtype[Any]) -> None:
        self._x = x  # stays alive with the array
        self.__array_interface__ = {
            "version": 3, "shape": tuple(x.shape), "typestr": dtype.str,
            "data": (x.data_ptr(), False),
            "strides": tuple(n * dtype.itemsize for n in x.stride()),
        }  # fmt: skip


def array_of(x: Tensor) -> NDArray[Any]:
    """Return a CPU tensor as an array on the same memory.

    `Tensor.numpy` does the same, but then the storage can no longer be resized.

    Examples
    --------
    >>> x = torch.zeros(2)
    >>> array_of(x)[0] = 1
    >>> x.resize_(3)[0]
    tensor(1.)
    """
    dtype = np.dtype(str(x.dtype).removeprefix("torch."))
    if not x.numel():
        return np.empty(tuple(x.shape), dtype)
    return np.asarray(_Memory(x.detach(), dtype))


def kept_bytes() -> int:
    """Return the number of bytes that are kept for reuse."""
    with _lock:
        return sum(found.size for found in _blocks if _is_free(found))


def release() -> None:
    """Discard all references: memory not in use returns to the system."""
    with _lock:
        _blocks.clear()


def _take(size: int) -> Any:
    """Return an unused storage of this size, or None."""
    with _lock:
        for at in range(len(_blocks) - 1, -1, -1):
            found = _blocks[at]
            if found.size != size or _count(found) != _FREE:
                continue
            _blocks.append(_blocks.pop(at))  # the youngest now
            if _is_intact(found):
                return found.storage
            del _blocks[-1]
    return None


def _keep(made: _BlockRef, limit: int) -> None:
    """Keep a reference to a new storage; the oldest ones are discarded if they exceed the limit."""
    with _lock:
        _blocks.append(made)
        total = sum(found.size for found in _blocks)
        while total > limit:
            total -= _blocks.pop(0).size


def _is_intact(found: _BlockRef) -> bool:
    """Return whether a storage is unchanged: not resized, not moved, not exported to NumPy for good."""
    storage = found.storage
    same = storage.nbytes() == found.size and storage.data_ptr() == found.address
    return bool(same and storage.resizable())


def _is_free(found: _BlockRef) -> bool:
    """Return whether nothing but this module refers to a storage."""
    return _count(found) == _FREE and _is_intact(found)


def _count(found: _BlockRef) -> tuple[int, int]:
    """Return how many references a storage has in C++, where all of Python counts as one, and in Python.

    The argument is the block, not the storage: while PyTorch's compiler watches calls of Python functions, every
    argument has one reference more.
    """
    count: Any = torch._C._storage_Use_Count  # type: ignore[attr-defined,unused-ignore]
    return int(count(found.storage._cdata)), sys.getrefcount(found.storage)


def _counts_if_free() -> tuple[int, int] | None:
    """Return the reference counts of an unused storage, or None if they cannot be told from those of a used one.

    They depend on PyTorch's version, so they are measured: a tensor, a view, and a storage that Python refers to
    must each change them.
    """
    if not hasattr(torch._C, "_storage_Use_Count"):
        return None
    first = torch.empty(16, dtype=torch.uint8, device="cpu")
    found = _BlockRef(first.untyped_storage(), first.data_ptr(), 16)
    used = [_count(found)]
    del first
    free = _count(found)
    again = torch.empty(0, dtype=torch.uint8, device="cpu").set_(found.storage, 0, (16,), (1,))
    used.append(_count(found))
    view = again[3:].numpy()
    del again
    used.append(_count(found))
    del view
    again = torch.empty(0, dtype=torch.uint8, device="cpu").set_(found.storage, 0, (16,), (1,))
    held = again.untyped_storage()
    del again
    used.append(_count(found))
    del held
    return free if free not in used and _count(found) == free else None


try:
    _FREE = _counts_if_free()
except (RuntimeError, TypeError, AttributeError):
    _FREE = None  # no memory is reused


def _ask_huge_pages(address: int, size: int) -> None:
    """Ask for pages of 2 MiB before memory is touched for the first time, as NumPy does for its arrays."""
    start = -(-address // result_memory.HUGE_PAGE) * result_memory.HUGE_PAGE
    length = (address + size) // result_memory.HUGE_PAGE * result_memory.HUGE_PAGE - start
    ask_huge_pages(start, length)


def _after_fork() -> None:
    """Replace the lock, which another thread may have held during the fork."""
    global _lock
    _lock = threading.Lock()


after_fork(_after_fork)
