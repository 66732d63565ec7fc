"""Coarser levels of an image that are written while the finest one is, from the samples in memory."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.files.chunked_io import Region, boxes
from separable.resample.band_passes import run_bands
from separable.resample.pyramids import mean_band

__all__ = ["LevelWriter", "block_means"]

Array = NDArray[Any]
Index = tuple[int, ...]

MOST_BYTES = 32 << 20
"""Bytes of chunks that are not complete yet and stay in memory; the others wait in the store."""


@dataclass
class _Chunk:
    """A chunk of a coarser level that is not complete yet."""

    box: Region
    values: Array | None  # None: they are in the store
    pieces: dict[Any, int] = field(
        default_factory=dict
    )  # number of samples of each region that it has

    @property
    def size(self) -> int:
        """Number of samples."""
        return math.prod(s.stop - s.start for s in self.box)

    @property
    def is_complete(self) -> bool:
        """True if all samples are known."""
        return sum(self.pieces.values()) >= self.size


class LevelWriter:
    """Coarser levels of an image, of which each consists of block means of the level before.

    Each chunk is written once, when all samples below it have been written. The samples are those in memory. What
    no single region determines, and what an earlier process has written, is computed from the stored levels by `finish`.

    Parameters
    ----------
    open_level : callable
        ``(number) -> array`` opens a level for reading and writing, by regions.
    shapes : sequence of tuple of int
        Shape of each level, the finest first.

    Examples
    --------
    >>> levels = [np.arange(8.0), np.zeros(4), np.zeros(2)]
    >>> writer = LevelWriter(levels.__getitem__, [(8,), (4,), (2,)], chunks=[(8,), (4,), (2,)])
    >>> for start in (0, 4):
    ...     writer.add((slice(start, start + 4),), levels[0][start : start + 4])
    >>> levels[1].tolist(), levels[2].tolist(), sorted(writer.complete)
    ([0.5, 2.5, 4.5, 6.5], [1.5, 5.5], [(1, 0), (2, 0)])
    """

    def __init__(
        self,
        open_level: Callable[[int], Any],
        shapes: Sequence[tuple[int, ...]],
        *,
        chunks: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        self._arrays = [open_level(number) for number in range(len(shapes))]
        if chunks is None:
            chunks = [tuple(array.shards or array.chunks) for array in self._arrays]
        self.chunks = [tuple(chunk) for chunk in chunks]
        self.factors = [
            tuple(max(1, round(a / b)) for a, b in zip(fine, coarse, strict=True))
            for fine, coarse in itertools.pairwise(self.shapes)
        ]
        self.complete: set[Index] = set()
        self._waiting: dict[Index, _Chunk] = {}
        self._mutex = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that incomplete chunks need at most."""
        item = self._arrays[0].dtype.itemsize
        return int(min(MOST_BYTES, sum(math.prod(shape) for shape in self.shapes[1:]) * item))

    def add(self, region: Region, values: Array) -> None:
        """Take samples of the finest level that have just been written.

        Parameters
        ----------
        region : tuple of slice
        values : ndarray
        """
        with self._mutex:
            self._feed(0, region, values)

    def know(self, complete: Iterable[Sequence[int]]) -> None:
        """Take chunks (level, index along each axis) for complete that another process has written."""
        self.complete |= {tuple(int(i) for i in index) for index in complete}

    def finish(self) -> None:
        """Compute the chunks that are not complete, from the level before each."""
        with self._mutex:
            self._waiting.clear()
            for number in range(1, len(self.shapes)):
                for box in boxes(self.shapes[number], self.chunks[number]):
                    if self._index(number, box) in self.complete:
                        continue
                    below = self._below(number, box)
                    fine = np.asarray(self._arrays[number - 1][below])
                    self._arrays[number][box] = self._means(number, box, fine)

    def _feed(self, number: int, region: Region, values: Array) -> None:
        """Compute the samples of the next level that a region of a level determines."""
        if number + 1 >= len(self.shapes):
            return
        factors, fine, coarse = self.factors[number], self.shapes[number], self.shapes[number + 1]
        box, inner = [], []
        for part, factor, n, m in zip(region, factors, fine, coarse, strict=True):
            start = -(-part.start // factor)
            stop = m if part.stop == n else min(part.stop // factor, m)
            if stop <= start:
                return
            box.append(slice(start, stop))
            inner.append(slice(start * factor - part.start, None))
        found = self._means(number + 1, tuple(box), values[tuple(inner)])
        self._put(number + 1, tuple(box), found)

    def _put(self, number: int, region: Region, values: Array) -> None:
        """Take samples of a coarser level, and write the chunks that they complete."""
        sides, shape = self.chunks[number], self.shapes[number]
        grid = [
            range(r.start // side, -(-r.stop // side))
            for r, side in zip(region, sides, strict=True)
        ]
        for place in itertools.product(*grid):
            index = (number, *place)
            if index in self.complete:
                continue
            box = tuple(
                slice(p * side, min((p + 1) * side, n))
                for p, side, n in zip(place, sides, shape, strict=True)
            )
            common = tuple(
                slice(max(r.start, b.start), min(r.stop, b.stop))
                for r, b in zip(region, box, strict=True)
            )
            piece = values[_relative(common, region)]
            if common == box:
                self._write(index, box, piece)
                continue
            chunk = self._chunk(index, box, values.dtype)
            assert chunk.values is not None
            chunk.values[_relative(common, box)] = piece
            chunk.pieces[tuple((s.start, s.stop) for s in common)] = piece.size
            if chunk.is_complete:
                del self._waiting[index]
                self._write(index, box, chunk.values)

    def _write(self, index: Index, box: Region, values: Array) -> None:
        """Write a complete chunk, and compute what follows from it."""
        self._arrays[index[0]][box] = values
        self.complete.add(index)
        self._feed(index[0], box, values)

    def _chunk(self, index: Index, box: Region, dtype: np.dtype[Any]) -> _Chunk:
        """Return an incomplete chunk with its values in memory; the one that waits longest makes way for it."""
        chunk = self._waiting.pop(index, None) or _Chunk(box, None)
        if chunk.values is None:
            self._make_way(chunk.size * dtype.itemsize)
            array = self._arrays[index[0]]
            stored = np.array(array[box]) if chunk.pieces else None
            shape = tuple(s.stop - s.start for s in box)
            chunk.values = np.zeros(shape, dtype) if stored is None else stored
        self._waiting[index] = chunk  # the last one
        return chunk

    def _make_way(self, needed: int) -> None:
        held = [(i, c) for i, c in self._waiting.items() if c.values is not None]
        total = needed + sum(c.values.nbytes for _, c in held if c.values is not None)
        for index, chunk in held:
            if total <= MOST_BYTES or chunk.values is None:
                return
            self._arrays[index[0]][chunk.box] = chunk.values
            total -= chunk.values.nbytes
            chunk.values = None

    def _index(self, number: int, box: Region) -> Index:
        return (
            number,
            *(s.start // side for s, side in zip(box, self.chunks[number], strict=True)),
        )

    def _below(self, number: int, box: Region) -> Region:
        """Return the samples of the level before that a region reads."""
        return tuple(
            slice(min(r.start * f, n - 1), max(min(r.stop * f, n), min(r.start * f, n - 1) + 1))
            for r, f, n in zip(box, self.factors[number - 1], self.shapes[number - 1], strict=True)
        )

    def _means(self, number: int, box: Region, fine: Array) -> Array:
        return block_means(fine, self.factors[number - 1], [s.stop - s.start for s in box])


def _relative(region: Region, origin: Region) -> Region:
    """Return a region counted from the start of another one."""
    return tuple(
        slice(r.start - o.start, r.stop - o.start) for r, o in zip(region, origin, strict=True)
    )


def block_means(array: Array, factors: Sequence[int], shape: Sequence[int]) -> Array:
    """Return the means of blocks; the last block along an axis may be smaller.

    Integers are rounded half to even.

    Parameters
    ----------
    array : ndarray
    factors : sequence of int
        Size of a block along each axis.
    shape : sequence of int
        Number of blocks along each axis. Samples beyond the last block do not count, and blocks
        beyond the last sample repeat it.

    Examples
    --------
    >>> block_means(np.arange(5.0), (2,), (3,))
    array([0.5, 2.5, 4. ])
    """
    used = array[tuple(slice(0, f * n) for f, n in zip(factors, shape, strict=True))]
    fits = all(-(-n // f) == m for n, f, m in zip(used.shape, factors, shape, strict=True))
    exact = array.dtype.kind == "f" or all(f & (f - 1) == 0 for f in factors)
    plain = array.dtype.kind in "iuf" and array.dtype.itemsize <= 4 and array.dtype.isnative
    if fits and exact and plain:
        bands = {a: mean_band(used.shape[a], f) for a, f in enumerate(factors) if f > 1}
        return run_bands(used, bands, np.empty(shape, array.dtype))
    return _sums_of_blocks(array, factors, shape)


def _sums_of_blocks(array: Array, factors: Sequence[int], shape: Sequence[int]) -> Array:
    """Return the means of blocks of any type, axis by axis in float64."""
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    result = array.astype(wide)
    for axis, (factor, count) in enumerate(zip(factors, shape, strict=True)):
        starts = np.minimum(np.arange(count) * factor, result.shape[axis] - 1)
        stops = np.clip(starts + factor, starts + 1, result.shape[axis])
        used = np.take(result, np.arange(int(stops[-1])), axis=axis)
        sums = np.add.reduceat(used, starts, axis=axis)
        lengths = (stops - starts).reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        result = sums / lengths
    if array.dtype.kind in "biu":
        result = np.rint(result)
    return np.asarray(result.astype(array.dtype))
