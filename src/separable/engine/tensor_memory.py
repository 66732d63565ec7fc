"""Large tensors in memory that has been used before, for everything that returns a tensor of PyTorch.

PyTorch gives large tensors back to the system and gets them anew, zeroed, with a page fault for every 4 KiB:
for a result that is written once, that takes as long as computing it. So the memory of the last results is
remembered here, and is used again once nothing else refers to it.

A result is an ordinary tensor all the same: PyTorch's own allocator made its storage, which is as large as
the tensor and belongs to it. What is remembered is a second reference to that storage. Whether there are others
is what PyTorch itself counts, in C++ and in Python; a storage that was resized or moved to shared memory
is forgotten. At most ``SEPARABLE_KEEP_BYTES`` are remembered, whether in use or not, so no more than that can
wait. This module is imported only where PyTorch is.
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

__all__ = ["array_of", "empty", "empty_strided", "kept_bytes", "like_dense", "owned", "release"]


class _Remembered(NamedTuple):
    """The memory of a result: a reference to it, and what it was."""

    storage: Any
    address: int
    size: int


_remembered: list[_Remembered] = []  # the oldest first
_lock = threading.Lock()


def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor of arbitrary contents on the CPU, its last axis innermost.

    Examples
    --------
    >>> empty((2, 3)).dtype
    torch.float32
    """
    strides, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return empty_strided(shape, strides, dtype)


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
        _remember(_Remembered(made.untyped_storage(), made.data_ptr(), size), limit)
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
    """Return a tensor that nobody else refers to as one that owns its memory, copied only if need be.

    It is no view, and its storage holds nothing else. No gradient is followed.

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
    """The memory of a tensor in the words of NumPy's array interface."""

    def __init__(self, x: Tensor, dtype: np.dtype[Any]) -> None:
        self._x = x  # stays alive with the array
        self.__array_interface__ = {
            "version": 3, "shape": tuple(x.shape), "typestr": dtype.str,
            "data": (x.data_ptr(), False),
            "strides": tuple(n * dtype.itemsize for n in x.stride()),
        }  # fmt: skip


def array_of(x: Tensor) -> NDArray[Any]:
    """Return a tensor of the CPU as an array on the same memory.

    `Tensor.numpy` does so too, but marks the storage as one that cannot be resized any more.

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
    """Return how many bytes wait to be used again."""
    with _lock:
        return sum(found.size for found in _remembered if _is_free(found))


def release() -> None:
    """Give the memory that waits back to the system, and forget what is in use."""
    with _lock:
        _remembered.clear()


def _take(size: int) -> Any:
    """Return a storage of this size that nobody uses, which is not remembered until it is made a result."""
    with _lock:
        for at in range(len(_remembered) - 1, -1, -1):
            found = _remembered[at]
            if found.size != size or _count(found.storage) != _FREE:
                continue
            _remembered.append(_remembered.pop(at))  # the youngest now
            if _is_intact(found):
                return found.storage
            del _remembered[-1]
    return None


def _remember(made: _Remembered, limit: int) -> None:
    """Remember a new storage; the oldest are forgotten where there are too many."""
    with _lock:
        _remembered.append(made)
        total = sum(found.size for found in _remembered)
        while total > limit:
            total -= _remembered.pop(0).size


def _is_intact(found: _Remembered) -> bool:
    """Return whether a storage still is what it was: not resized, not moved, not lent to NumPy for good."""
    storage = found.storage
    same = storage.nbytes() == found.size and storage.data_ptr() == found.address
    return bool(same and storage.resizable())


def _is_free(found: _Remembered) -> bool:
    """Return whether nothing refers to a storage but what is remembered here."""
    return _count(found.storage) == _FREE and _is_intact(found)


def _count(storage: Any) -> tuple[int, int]:
    """Return how many refer to a storage in C++, where all of Python is one, and in Python."""
    count: Any = torch._C._storage_Use_Count  # type: ignore[attr-defined,unused-ignore]
    return int(count(storage._cdata)), sys.getrefcount(storage)


def _counts_if_free() -> tuple[int, int] | None:
    """Return the counts of a storage that is remembered and not used, or None if they tell nothing.

    They depend on PyTorch's version, so they are looked at: a tensor, a view, and a storage that Python holds
    must each make a difference.
    """
    if not hasattr(torch._C, "_storage_Use_Count"):
        return None
    first = torch.empty(16, dtype=torch.uint8, device="cpu")
    found = _Remembered(first.untyped_storage(), first.data_ptr(), 16)
    used = [_count(found.storage)]
    del first
    free = _count(found.storage)
    again = torch.empty(0, dtype=torch.uint8, device="cpu").set_(found.storage, 0, (16,), (1,))
    used.append(_count(found.storage))
    view = again[3:].numpy()
    del again
    used.append(_count(found.storage))
    del view
    again = torch.empty(0, dtype=torch.uint8, device="cpu").set_(found.storage, 0, (16,), (1,))
    held = again.untyped_storage()
    del again
    used.append(_count(found.storage))
    del held
    return free if free not in used and _count(found.storage) == free else None


try:
    _FREE = _counts_if_free()
except (RuntimeError, TypeError, AttributeError):
    _FREE = None  # nothing is used again, then


def _ask_huge_pages(address: int, size: int) -> None:
    """Ask for pages of 2 MiB where some memory is touched for the first time, as NumPy does for its arrays."""
    start = -(-address // result_memory.HUGE_PAGE) * result_memory.HUGE_PAGE
    length = (address + size) // result_memory.HUGE_PAGE * result_memory.HUGE_PAGE - start
    ask_huge_pages(start, length)


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked off."""
    global _lock
    _lock = threading.Lock()


after_fork(_after_fork)
