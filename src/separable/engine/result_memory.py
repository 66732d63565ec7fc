"""Reuse of memory for large results.

The system provides zeroed pages with a page fault each: for a fresh result of 64 MiB that takes as
long as filtering it. So large arrays are allocated in blocks aligned to huge pages, and a block is kept for the next
array after its array is freed. At most `KEPT_BYTES` are kept;
``SEPARABLE_KEEP_BYTES`` in the environment changes that, 0 turns it off.

An array owns its block, as any array owns its memory: NumPy itself requests and frees it
through a memory handler (NEP 49) that is installed for the one call of `numpy.empty`. The handler is
native code (`separable.engine.compiled.memory_blocks`) because arrays are freed wherever Python drops the last
reference, also while an exception is raised or the interpreter exits. Until the compiled engine is
loaded, and if NumPy does not accept the handler, arrays are allocated by NumPy as usual.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from separable.engine.availability import EngineError, available, compiling
from separable.process_cache import ProcessBound
from separable.system import HAS_PRIVATE_MAPPINGS, after_fork

__all__ = ["empty", "keep_limit", "kept_bytes", "release"]

LARGE = 1 << 21  # bytes; smaller arrays are allocated by NumPy as usual
LARGEST = 1 << 40
HUGE_PAGE = 1 << 21
KEPT_BYTES = 1 << 28  # one 256 MiB volume, or four pictures of 64 MiB
MAPPED = 1 << 26
"""Bytes from which on the C library maps memory for each array, and does not look for it in its heap."""
SET_HANDLER = 304
"""Index of ``PyDataMem_SetHandler`` in NumPy's C API, the same in all versions that have it."""


class _Functions(ctypes.Structure):
    """``PyDataMemAllocator`` of NumPy's C API."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")
    )


class _Handler(ctypes.Structure):
    """``PyDataMem_Handler``."""

    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("with_", _Functions))


class _Blocks(ProcessBound):
    """The memory handler and its table of waiting blocks.

    An array refers to the handler as long as it exists and may outlive this module: nothing that the
    native code reads is ever freed.
    """

    NAME = b"mem_handler"  # the name that NumPy requires

    def __init__(self) -> None:
        with compiling:
            from separable.engine.compiled import memory_blocks as native
            from separable.engine.compiled.jit import address
            from separable.engine.compiled.numba_api import types

        word = types.int64
        self._first, self._limit = native.FIRST, native.LIMIT
        self._table = _immortal((ctypes.c_int64 * native.TABLE_WORDS)())
        # NumPy's own large arrays lie at one place relative to a cache line; the memory of this one is never used.
        self.shift = -np.empty(MAPPED, np.uint8).ctypes.data % native.MOST_SHIFT
        self._table[native.SHIFT] = self.shift
        functions = [
            address(native.allocate, (word,) * 2, word),
            address(native.allocate_zeros, (word,) * 3, word),
            address(native.allocate_again, (word,) * 3, word),
            address(native.give_back, (word,) * 3),
        ]
        table = ctypes.addressof(self._table)
        handler = _immortal(_Handler(b"separable", 1, _Functions(table, *functions)))
        name = _immortal(ctypes.create_string_buffer(self.NAME))
        self._capsule = _python("PyCapsule_New", ctypes.py_object, *[ctypes.c_void_p] * 3)(
            ctypes.addressof(handler), ctypes.addressof(name), None
        )
        unmap = ctypes.CFUNCTYPE(None, ctypes.c_int64)(address(native.unmap_all, (word,)))
        self.release: Callable[[], None] = lambda: unmap(table)
        self._set = _set_handler()

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], limit: int) -> NDArray[Any]:
        """Return an array that owns a block."""
        self._table[self._limit] = limit
        others = self._set(self._capsule)
        try:
            return np.empty(shape, dtype)
        finally:
            self._set(others)

    def kept_bytes(self) -> int:
        """Return the number of waiting bytes."""
        total: int = sum(waiting % HUGE_PAGE for waiting in self._table[self._first :]) * HUGE_PAGE
        return total


def empty(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of arbitrary contents, like `numpy.empty`.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    dtype : dtype
        A dtype of numbers.

    Returns
    -------
    ndarray
        An array that owns its memory.

    Raises
    ------
    MemoryError
        If the system does not provide that much memory.

    Examples
    --------
    >>> empty((3, 4), "float32").shape
    (3, 4)
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < LARGE:
        return np.empty(shape, kind)
    limit = keep_limit()
    blocks = _blocks() if limit and size <= LARGEST else None
    try:
        return np.empty(shape, kind) if blocks is None else blocks.empty(shape, kind, limit)
    except (MemoryError, ValueError):  # ValueError: more than an address can express
        raise MemoryError(
            f"there are no {size / 2**30:.0f} GiB for a result of shape {tuple(shape)}, {kind}"
        ) from None


def kept_bytes() -> int:
    """Return the number of bytes that are kept for reuse."""
    return _instances[0].kept_bytes() if _instances and _instances[0] is not None else 0


def release() -> None:
    """Return all kept memory to the system."""
    if _instances and _instances[0] is not None:
        _instances[0].release()


def keep_limit() -> int:
    """Return the largest number of bytes to keep: ``SEPARABLE_KEEP_BYTES``."""
    asked = os.environ.get("SEPARABLE_KEEP_BYTES", "")
    return int(asked) if asked.isdigit() else KEPT_BYTES


_instances: list[_Blocks | None] = []
_lock = threading.Lock()


def _blocks() -> _Blocks | None:
    """Return the blocks, or None if arrays are allocated by NumPy as usual.

    They are made once the compiled engine is loaded: nothing is imported or compiled for them alone.
    """
    if _instances:
        return _instances[0]
    if not HAS_PRIVATE_MAPPINGS or "separable.engine.compiled.jit" not in sys.modules:
        return None
    if (
        not available()
    ):  # asked last, so that this module does not cause the warning that the engine is missing
        return None
    if not _lock.acquire(blocking=False):  # another thread makes them
        return None
    try:
        if not _instances:
            _instances.append(_working_blocks())
    finally:
        _lock.release()
    return _instances[0]


_UNSUITABLE = (
    ImportError, AttributeError, OSError, RuntimeError, TypeError, ValueError, IndexError,
)  # fmt: skip


def _working_blocks() -> _Blocks | None:
    """Return blocks if a trial shows that NumPy uses them, else None."""
    try:
        get_handler_name: Any = _interface_of_numpy().get_handler_name
        blocks = _Blocks()
        tried = blocks.empty((HUGE_PAGE,), np.dtype(np.uint8), KEPT_BYTES)
        place = tried.ctypes.data + blocks.shift
        works = get_handler_name(tried) == "separable" and place % HUGE_PAGE == 0
        works = works and get_handler_name(np.empty(1)) != "separable"
        del tried
        blocks.release()
    except (EngineError, *_UNSUITABLE):
        return None
    return blocks if works else None


def _interface_of_numpy() -> Any:
    """Return the module that has NumPy's C API."""
    try:
        return importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:  # NumPy 1
        return importlib.import_module("numpy.core._multiarray_umath")


def _set_handler() -> Any:
    """Return NumPy's function that installs a handler and returns the previous one."""
    pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    place = pointer(_interface_of_numpy()._ARRAY_API, None)
    functions = ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[SET_HANDLER])


def _python(name: str, returns: Any, *arguments: Any) -> Any:
    """Return a function of Python's C API, independent of the types that other modules declared for it."""
    return ctypes.PYFUNCTYPE(returns, *arguments)((name, ctypes.pythonapi))


def _immortal(value: Any) -> Any:
    """Return a value after making sure that it is never freed."""
    increase: Any = _python("Py_IncRef", None, ctypes.py_object)
    increase(value)
    return value


def _after_fork() -> None:
    """Replace the lock, which another thread may have held during the fork."""
    global _lock
    _lock = threading.Lock()


after_fork(_after_fork)
