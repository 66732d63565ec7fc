"""Measure this processor with the engine's own vectors: multiply-adds, copies, stores past the caches.

The times are primitives (see :mod:`separable.machine`): the rates of a reference computer are adjusted by them.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from separable.machine import Primitives, known_primitives, record_primitives, shortest
from separable.system import last_level_cache

from .jit import address, stage
from .numba_api import types
from .simd import (
    add,
    fence,
    fma,
    lanes,
    lanes_of,
    load,
    offset_pointer,
    pointer,
    splat,
    store,
    store_stream,
)

CHAINS = 10
"""Sums that do not depend on each other: enough to fill the pipelines of a processor."""
OPERANDS, REPEATS = 24, 150
"""Vectors that each sum reads, all in the first-level cache, and how often: a run takes 20 to 40 microseconds."""
RUNS = 5
"""Runs of each measurement, of which the shortest counts."""
CACHED_BYTES = 96 << 10
"""Size of the arrays that are copied within the second-level cache."""
LEAST_BYTES, MOST_BYTES = 8 << 20, 24 << 20
"""Bounds of the size of the arrays that are copied in memory."""


@stage
def multiply_adds(data, elements, repeats):
    """Add up products in ten sums, which are stored; operands are read from the first-level cache."""
    size = lanes_of(data)
    factor = splat(data, data[0])
    a, b, c, d, e = factor, factor, factor, factor, factor
    f, g, h, i, j = factor, factor, factor, factor, factor
    for _ in range(repeats):
        for k in range(0, elements, 10 * size):
            p = offset_pointer(data, k)
            a, b = fma(load(p), factor, a), fma(load(offset_pointer(p, size)), factor, b)
            c = fma(load(offset_pointer(p, 2 * size)), factor, c)
            d = fma(load(offset_pointer(p, 3 * size)), factor, d)
            e = fma(load(offset_pointer(p, 4 * size)), factor, e)
            f = fma(load(offset_pointer(p, 5 * size)), factor, f)
            g = fma(load(offset_pointer(p, 6 * size)), factor, g)
            h = fma(load(offset_pointer(p, 7 * size)), factor, h)
            i = fma(load(offset_pointer(p, 8 * size)), factor, i)
            j = fma(load(offset_pointer(p, 9 * size)), factor, j)
    total = add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h)))
    store(data, add(total, add(i, j)))


@stage
def folded_multiply_adds(data, elements, repeats):
    """Add up products of sums, as for the mirrored taps of a symmetric kernel; otherwise as :func:`multiply_adds`."""
    size = lanes_of(data)
    factor = splat(data, data[0])
    other = splat(data, data[1])
    a, b, c, d, e = factor, factor, factor, factor, factor
    f, g, h, i, j = factor, factor, factor, factor, factor
    for _ in range(repeats):
        for k in range(0, elements, 10 * size):
            p = offset_pointer(data, k)
            a = fma(add(load(p), other), factor, a)
            b = fma(add(load(offset_pointer(p, size)), other), factor, b)
            c = fma(add(load(offset_pointer(p, 2 * size)), other), factor, c)
            d = fma(add(load(offset_pointer(p, 3 * size)), other), factor, d)
            e = fma(add(load(offset_pointer(p, 4 * size)), other), factor, e)
            f = fma(add(load(offset_pointer(p, 5 * size)), other), factor, f)
            g = fma(add(load(offset_pointer(p, 6 * size)), other), factor, g)
            h = fma(add(load(offset_pointer(p, 7 * size)), other), factor, h)
            i = fma(add(load(offset_pointer(p, 8 * size)), other), factor, i)
            j = fma(add(load(offset_pointer(p, 9 * size)), other), factor, j)
    total = add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h)))
    store(data, add(total, add(i, j)))


@stage
def copy_cached(source, target, elements):
    """Copy vectors with stores to the cache."""
    for k in range(0, elements, lanes_of(source)):
        store(offset_pointer(target, k), load(offset_pointer(source, k)))


@stage
def copy_past_cache(source, target, elements):
    """Copy vectors with stores past the caches, in order, so that whole cache lines are written."""
    for k in range(0, elements, lanes_of(source)):
        store_stream(offset_pointer(target, k), load(offset_pointer(source, k)))
    fence()


@lru_cache(maxsize=1)
def primitives() -> Primitives:
    """Return the primitives of this computer; at the first use of the engine on it they are measured, in 20 ms."""
    known = known_primitives()
    if known.is_complete:
        return known
    try:
        complete = known.with_compiled(measure())
    except MemoryError:
        return known
    record_primitives(complete)
    return complete


def measure() -> dict[str, float]:
    """Return the primitives of the compiled engine, on one thread: seconds per operation, and per byte of copies."""
    size = OPERANDS * CHAINS * lanes("float32")
    data = _aligned(4 * size)
    data[:] = 1e-9
    found = {}
    for name, function in (("fma", multiply_adds), ("folded_fma", folded_multiply_adds)):
        run = partial(_callable(function, 1), data.ctypes.data, size, REPEATS)
        found[name] = shortest(run, RUNS) / (size * REPEATS)
    to_cache, past_cache = _callable(copy_cached, 2), _callable(copy_past_cache, 2)
    # Together larger than the last-level cache, if that is not very large.
    size = min(max(last_level_cache() * 3 // 4 & -4096, LEAST_BYTES), MOST_BYTES)
    source, target = _aligned(size), _aligned(size)
    source[:] = 1.0
    s, t = source.ctypes.data, target.ctypes.data
    to_cache(s, t, target.size)  # the system now gives the pages
    found["cached_copy"] = shortest(lambda: to_cache(s, t, CACHED_BYTES // 4), RUNS) / CACHED_BYTES
    found["copy"] = shortest(lambda: to_cache(s, t, target.size), 2) / size
    found["stream_copy"] = shortest(lambda: past_cache(s, t, target.size), 2) / size
    return found


def _aligned(size: int) -> Any:
    """Return an array of float32 of so many bytes that begins at a cache line."""
    memory = np.empty(size + 64, np.uint8)
    skip = -memory.ctypes.data % 64
    return memory[skip : skip + size].view(np.float32)


def _callable(function: Any, pointers: int) -> Callable[..., None]:
    """Return a compiled stage as a function of Python."""
    signature = (pointer("float32"),) * pointers + (types.int64,) * (3 - pointers)
    arguments = (ctypes.c_void_p,) * pointers + (ctypes.c_int64,) * (3 - pointers)
    return ctypes.CFUNCTYPE(None, *arguments)(address(function, signature))
