"""Dense filter of Intel's Integrated Performance Primitives (IPP), an optional peer.

    pip install ipp        # a package of libraries, under Intel's Simplified Software License

OpenCV contains a part of IPP, but calls it only for some filters and sizes. Here `ippiFilterBorder_32f_C1R` is
called directly, on a band of rows per thread. The library for one instruction set is loaded
without IPP's own dispatcher, which chooses the widest that the processor has.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

# Constants of ipptypes.h
FLOAT32, ROUND_NEAR = 13, 1
MIRROR = 3  # 21012...: SciPy's "mirror", because this filter does not support "reflect"
IN_MEMORY_TOP, IN_MEMORY_BOTTOM = 0x10, 0x20  # rows beyond this edge of the band are in memory
ALIGNMENT = 64


class _Size(ctypes.Structure):
    _fields_ = (("width", ctypes.c_int), ("height", ctypes.c_int))


@lru_cache(maxsize=1)
def library(bits: int) -> Any:
    """Return the image library for vectors of 512 or 256 bits, or None if it is not installed."""
    name = {512: "k0", 256: "l9"}.get(bits)
    try:
        files = importlib.metadata.files("ipp") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = {f.name: f for f in files}
    parts = ("libippcore.so.12", f"libippi{name}.so.12")
    if any(part not in found for part in parts):
        return None
    loaded = [ctypes.CDLL(str(found[part].locate()), mode=ctypes.RTLD_GLOBAL) for part in parts]
    return loaded[-1]


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT :][:size]


def _checked(status: int) -> None:
    if status < 0:
        raise RuntimeError(f"IPP returned the error {status}")


def correlate(image: np.ndarray, kernel: np.ndarray, bits: int, threads: int) -> Callable[[], Any]:
    """Return a function that correlates a float32 image with a dense kernel of odd size.

    Memory for the work is allocated here, and the result in each call, as for the other libraries.
    """
    ippi = library(bits)
    rows, columns = image.shape
    weights = np.ascontiguousarray(kernel, np.float32)
    reach = _Size(kernel.shape[1], kernel.shape[0])
    spec_size, buffer_size = ctypes.c_int(), ctypes.c_int()
    sizes = ctypes.byref(spec_size), ctypes.byref(buffer_size)
    _checked(ippi.ippiFilterBorderGetSize(reach, _Size(columns, rows), FLOAT32, FLOAT32, 1, *sizes))
    spec = _aligned(spec_size.value)
    address, pointer = ctypes.c_void_p(spec.ctypes.data), ctypes.c_void_p(weights.ctypes.data)
    _checked(ippi.ippiFilterBorderInit_32f(pointer, reach, FLOAT32, 1, ROUND_NEAR, address))
    bounds = np.linspace(0, rows, threads + 1).astype(int)
    buffers = [_aligned(buffer_size.value) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)
    memory = (spec, weights)  # addresses alone do not keep it

    def band(number: int, out: np.ndarray) -> None:
        first, last = int(bounds[number]), int(bounds[number + 1])
        border = MIRROR | (IN_MEMORY_TOP if first else 0)
        border |= IN_MEMORY_BOTTOM if last < rows else 0
        source, target = (ctypes.c_void_p(a[first:].ctypes.data) for a in (image, out))
        step, work = image.strides[0], ctypes.c_void_p(buffers[number].ctypes.data)
        size = _Size(columns, last - first)
        _checked(ippi.ippiFilterBorder_32f_C1R(
            source, step, target, out.strides[0], size, border, None, address, work,
        ))  # fmt: skip

    def call() -> np.ndarray:
        assert memory
        out = np.empty_like(image)
        list(pool.map(band, range(threads), [out] * threads))
        return out

    return call
