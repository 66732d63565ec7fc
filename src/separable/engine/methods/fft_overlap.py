"""Transforms of overlapping tiles (overlap-save), for kernels much smaller than the image.

For each tile of the output the transforms of the samples that it needs and of the kernel are multiplied;
outputs that wrapped around are dropped. Tiles fit the cache, and each is computed by one thread.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import extend
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.lazy_kernel import ldexp, within_range
from separable.engine.method import Progress, TermSizes
from separable.engine.methods.fft import (
    Fft,
    fast_length,
    spectrum_of,
    transform_dtype,
    transforms,
)
from separable.engine.thread_count import in_parallel

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["FftOverlap"]

Array = NDArray[Any]

TILE_POINTS = 1 << 17  # a float64 tile of 1 MiB and its spectrum fit a second-level cache or two
TILE_COST = 1 << 17  # what starting a tile costs, in points * log2(points): many tiny tiles lose
MULTIPLES = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16)


class FftOverlap(Fft):
    """Transforms of overlapping tiles."""

    name = "overlap"
    title = "overlap-add FFT"
    explanation = "multiplies Fourier transforms tile by tile"

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count the transforms of all tiles and their products."""
        lengths = _tile(problem)
        useful = _useful(problem, lengths)
        tiles = _tile_count(problem, useful)
        points = math.prod(lengths)
        logs = math.log2(max(2, points))
        elements = float(points * (2 * tiles + 1))
        size = transform_dtype(problem).itemsize
        multiplications = (elements * logs + 2 * points * tiles) / max(1, problem.size)
        counts = {
            "call": 1.0,
            "tile": float(tiles),
            "element": elements,
            "element log": elements * logs,
        }
        moved = 2.0 * problem.size * (size + problem.work.itemsize)
        eps = float(np.finfo(transform_dtype(problem)).eps)
        rounding = 2 * logs * eps + float(np.finfo(problem.work).eps) / 2
        return WorkEstimate(2, multiplications, moved, counts, rounding)

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return the time of transforms that cover every sample once, forth and back."""
        logs = math.log2(max(2, math.prod(problem.kernel_shape)))
        elements = 2.0 * problem.size
        counts = {"call": 1.0, "tile": 1.0, "element": elements, "element log": elements * logs}
        return self.seconds(machine, problem, counts)

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Extend the image once, then filter tile by tile."""
        dtype = transform_dtype(problem)
        kind = dtype if problem.fills else image.dtype
        extended = extend(
            image, problem.axes, problem.widths, problem.modes, problem.cval, np.dtype(kind)
        )
        extended, exponent = within_range(extended)
        lengths = _tile(problem)
        kernel = spectrum_of(decomposition.kernel, lengths, problem, image.ndim)
        forward, backward = transforms(problem)
        starts = _starts(problem, _useful(problem, lengths))

        def job(start: tuple[int, ...]) -> None:
            read: list[Any] = [slice(s, s + 1) for s in start]
            write: list[Any] = [slice(s, s + 1) for s in start]
            crop: list[Any] = [slice(None)] * image.ndim
            for axis, n, length in zip(problem.axes, problem.kernel_shape, lengths, strict=True):
                read[axis] = slice(start[axis], start[axis] + length)
                count = min(length - n + 1, problem.shape[axis] - start[axis])
                write[axis] = slice(start[axis], start[axis] + count)
                crop[axis] = slice(n - 1, n - 1 + count)
            tile = extended[tuple(read)].astype(dtype, copy=False)
            full = backward(
                forward(tile, lengths, axes=problem.axes) * kernel, lengths, axes=problem.axes
            )
            result = full[tuple(crop)]
            target[tuple(write)] = ldexp(result, exponent) if exponent else result
            progress(1.0 / len(starts))

        in_parallel(job, starts, problem.threads)


def _tile(problem: Problem) -> tuple[int, ...]:
    """Return the tile that fits the cache and costs least per useful output."""
    sizes = tuple(problem.shape[a] for a in problem.axes)
    return _best_tile(sizes, problem.kernel_shape)


@lru_cache(maxsize=256)
def _best_tile(sizes: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
    choices = []
    for size, n in zip(sizes, kernel, strict=True):
        whole = fast_length(size + n - 1)
        some = {fast_length(math.ceil(m * (n + 15))) for m in MULTIPLES}
        choices.append(sorted({c for c in some if n <= c < whole} | {whole}))
    best, least = tuple(c[-1] for c in choices), math.inf
    for lengths in itertools.product(*choices):
        points = math.prod(lengths)
        if points > max(TILE_POINTS, 4 * math.prod(kernel)):
            continue
        useful = math.prod(
            max(1, min(length - n + 1, size))
            for length, n, size in zip(lengths, kernel, sizes, strict=True)
        )
        cost = (points * math.log2(max(2, points)) + TILE_COST) / useful
        if cost < least:
            best, least = lengths, cost
    return best


def _useful(problem: Problem, lengths: tuple[int, ...]) -> dict[int, int]:
    """Return the number of outputs of one tile along each filtered axis."""
    return {
        axis: max(1, length - n + 1)
        for axis, n, length in zip(problem.axes, problem.kernel_shape, lengths, strict=True)
    }


def _starts(problem: Problem, useful: dict[int, int]) -> list[tuple[int, ...]]:
    steps = [range(0, n, useful.get(axis, 1)) for axis, n in enumerate(problem.shape)]
    return list(itertools.product(*steps))


def _tile_count(problem: Problem, useful: dict[int, int]) -> int:
    return math.prod(math.ceil(n / useful.get(axis, 1)) for axis, n in enumerate(problem.shape))
