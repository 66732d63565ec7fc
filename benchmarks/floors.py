"""Compute the least time that this machine needs for a filter, from rates measured in the same run.

Three rates, of all threads together:

* bytes per second of a copy, with the better of ordinary stores and stores past the caches, in our vectors or NumPy's;
* multiply-adds per second, without any access to memory;
* pairs of an addition and a multiply-add per second, likewise.

The floor of a filter is the longer of two times: reading the image and writing the result once, and the multiply-adds of its
passes. A symmetric pass of `n` taps needs `n` multiply-adds, or, with mirrored samples added first, `n // 2` pairs and a
multiply-add; the cheaper one counts. Integers are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from timing import best_of

from separable.engine.compiled import simd

UNROLLED = 36
"""Multiply-adds per turn of a probe's loop, so that the loop itself costs nothing."""
TURNS = 1_000_000
"""Turns of a probe: several milliseconds."""
LINE = 64
"""Bytes of a cache line."""
COPIES = 4
"""Copies in a row of one measurement, so that the start of the threads hardly counts."""
WORK = ("float32", "float64")


@dataclass(frozen=True)
class Rates:
    """Rates of this machine, per second.

    Attributes
    ----------
    copy : dict of int to float
        Bytes read and written, by the bytes of the array copied.
    stores : dict of int to str
        What copied fastest, likewise.
    multiply_adds, pairs : dict of str to float
        Multiply-adds, and multiply-adds with an addition each, by working dtype.
    """

    copy: dict[int, float]
    stores: dict[int, str]
    multiply_adds: dict[str, float]
    pairs: dict[str, float]

    def floor(
        self, arrays: Sequence[np.ndarray], passes: Sequence[tuple[int, bool]]
    ) -> tuple[float, str]:
        """Return the least seconds, and which rate decides.

        Parameters
        ----------
        arrays : sequence of arrays
            Image and result.
        passes : sequence of (taps, symmetric)
            Passes over all samples.
        """
        image = arrays[0]
        nearest = min(self.copy, key=lambda size: abs(np.log(size / image.nbytes)))
        moved = sum(a.nbytes for a in arrays) / self.copy[nearest]
        work = "float64" if image.dtype == np.float64 else "float32"
        once, pair = 1 / self.multiply_adds[work], 1 / self.pairs[work]
        computed = 0.0
        for taps, symmetric in passes:
            folded = (taps // 2) * pair + (taps % 2) * once
            computed += image.size * (min(taps * once, folded) if symmetric else taps * once)
        return (moved, "copy") if moved >= computed else (computed, "multiply-adds")


def measure(sizes: Sequence[int], threads: int, rounds: int = 5) -> Rates:
    """Measure the rates with `threads` threads; `sizes` are the bytes of the arrays copied."""
    with ThreadPoolExecutor(threads) as pool:
        copy, stores = {}, {}
        for size in sizes:
            best = best_of(_copies(size, threads, pool), rounds)
            stores[size] = min(best, key=lambda name: best[name])
            copy[size] = 2 * size * COPIES / best[stores[size]]
        multiply_adds, pairs = {}, {}
        for work in WORK:
            best = best_of(_sums(work, threads, pool), rounds)
            count = threads * TURNS * UNROLLED * simd.lanes(work)
            multiply_adds[work], pairs[work] = count / best["alone"], count / best["pairs"]
    return Rates(copy, stores, multiply_adds, pairs)


def _copies(size: int, threads: int, pool: ThreadPoolExecutor) -> dict[str, Callable[[], Any]]:
    """Return the ways to copy an array of `size` bytes in equal parts, each `COPIES` times."""
    part = size // threads // LINE * LINE
    sources = [_aligned(part) for _ in range(threads)]
    targets = [_aligned(part) for _ in range(threads)]

    def all_parts(copy: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: list(pool.map(copy, sources, targets))

    return {
        "ordinary stores": all_parts(_copy),
        "stores past the caches": all_parts(_copy_stream),
        "NumPy": all_parts(_copy_numpy),
    }


def _sums(work: str, threads: int, pool: ThreadPoolExecutor) -> dict[str, Callable[[], Any]]:
    """Return the probes of multiply-adds alone, and with an addition each."""
    out = [np.full(64, 0.5, work) for _ in range(threads)]
    turns = [TURNS] * threads
    return {
        "alone": lambda: list(pool.map(_multiply_adds, out, turns)),
        "pairs": lambda: list(pool.map(_pairs, out, turns)),
    }


def _aligned(size: int) -> np.ndarray:
    memory = np.ones(size // 4 + LINE, np.float32)
    first = -memory.ctypes.data % LINE // 4
    return memory[first : first + size // 4]


def _copy_numpy(source: np.ndarray, target: np.ndarray) -> None:
    for _ in range(COPIES):
        np.copyto(target, source)


# --- compiled probes, in the vectors of the engine ------------------------------------------------


@intrinsic
def _pointer(_typing: Any, array: Any) -> Any:
    """Return the address of the first element of an array."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), emit


def _probe(chains: int, additions: int) -> Any:
    """Return an intrinsic that runs `UNROLLED` multiply-adds per turn, and as many additions if any.

    `chains` multiply-adds and `additions` additions do not depend on each other: enough to hide their latency, and few
    enough to stay in registers. Both numbers divide `UNROLLED`, so that all chains are equally long.
    """

    @intrinsic
    def probe(_typing: Any, out: Any, turns: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            vector = simd.native(out.dtype)
            factor = simd.emit_splat(builder, builder.load(pointer), vector.lanes)
            kind = factor.type
            sums = [cgutils.alloca_once_value(builder, factor) for _ in range(chains + additions)]
            with cgutils.for_range(builder, arguments[1]):
                for step in range(UNROLLED):
                    own = sums[step % chains]
                    builder.store(
                        simd.emit_fma(builder, vector, builder.load(own), factor, factor), own
                    )
                    if additions:
                        own = sums[chains + step % additions]
                        builder.store(builder.fadd(builder.load(own), factor), own)
            total = ir.Constant(kind, [0.0] * vector.lanes)
            for own in sums:
                total = builder.fadd(total, builder.load(own))
            # Past the first element, which is the factor of the next call.
            second = builder.gep(pointer, [ir.IntType(64)(1)])
            simd.emit_store(builder, total, second, 1)
            return context.get_dummy_value()

        return types.none(out, turns), emit

    return probe


_multiply_add_probe = _probe(12, 0)
_pair_probe = _probe(12, 12) if simd.HAS_32_REGISTERS else _probe(9, 6)


@numba.njit(nogil=True)
def _multiply_adds(out: np.ndarray, turns: int) -> None:
    _multiply_add_probe(out, turns)


@numba.njit(nogil=True)
def _pairs(out: np.ndarray, turns: int) -> None:
    _pair_probe(out, turns)


@numba.njit(nogil=True)
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    a, b = _pointer(source), _pointer(target)
    step = simd.lanes_of(a)
    for _ in range(COPIES):
        for i in range(0, source.size, step):
            simd.store(simd.offset_pointer(b, i), simd.load(simd.offset_pointer(a, i)))


@numba.njit(nogil=True)
def _copy_stream(source: np.ndarray, target: np.ndarray) -> None:
    a, b = _pointer(source), _pointer(target)
    step = simd.lanes_of(a)
    for _ in range(COPIES):
        for i in range(0, source.size, step):
            simd.store_stream(simd.offset_pointer(b, i), simd.load(simd.offset_pointer(a, i)))
        simd.fence()
