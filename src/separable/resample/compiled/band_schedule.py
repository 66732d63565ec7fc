"""The schedule of one banded pass: how lines and outputs are cut into work items, and its record.

Sizes of tiles and blocks change the time, never the result: each output is summed in the order of its weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.compiled.jit import address
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import LINE_BYTES, lanes, pointer
from separable.engine.compiled.sweep_params import array_address
from separable.resample.band_matrix import Band

from .band_kernels import (
    TILE_VECTORS,
    items_along,
    items_between,
    load_along,
    load_between,
    sum_along,
    sum_between,
)
from .band_record import BAND, SPAN_WORDS
from .few_taps import items_direct, items_halves, sum_direct, sum_halves
from .pass_schedule import PassSchedule

WORD = types.int64
STRIP_BYTES = 192 << 10
"""Bytes of the strip of a block: it stays in the second-level cache."""
LEAST_BLOCK = 16
"""Outputs of a block at least, whatever the number of taps."""
CHUNK_TILES = 8
"""Tiles of a work item between rows, which lie side by side."""
LEAST_SHARE = 8
"""Outputs of a block in windows, at least: rows that two blocks share are loaded twice."""
ROW_BLOCK = 128
"""Outputs of a block along rows, at least: long runs of a row are read."""
FEW_TAPS = 8
"""Taps up to which a pass between rows reads them where they are."""
HALVES_ROWS = 8
"""Rows of a work item that computes every second sample."""
DIRECT_TILES = 32
"""Tiles of a work item of such a pass."""
STREAM_BYTES = 24 << 20
"""Results from this size on are stored past the caches."""
FEW_LINES = 16
"""Neighbours in memory below which they are taken as channels of a pass along rows."""
PAGE = 4096


class BandSchedule(PassSchedule):
    """One pass of a band along an axis, for arrays of one shape, layout and type.

    Parameters
    ----------
    band : Band
        The weights.
    axis : int
        The axis of the pass.
    source, target : ndarray
        Arrays like those that will be filtered: of native types, and contiguous along the axes after `axis`.
    work : dtype
        float32 or float64.
    outside : float
        Value of samples outside the image.
    threads : int
        Largest number of threads.
    slab : int
        Outputs of a run, if not all: a multiple of 16.
    """

    def __init__(
        self,
        band: Band,
        axis: int,
        source: NDArray[Any],
        target: NDArray[Any],
        work: np.dtype[Any],
        outside: float,
        threads: int,
        slab: int = 0,
    ) -> None:
        super().__init__(BAND)
        self.work, self.band = work, band
        inner, middle = _neighbours(axis, source, target)
        self.along = not middle and inner < FEW_LINES and _is_row(axis, inner, source, target)
        tile = TILE_VECTORS * lanes(work)
        self.direct = not self.along and band.taps <= FEW_TAPS and inner >= tile
        self._set(
            outputs=band.size, taps=band.taps, lanes=lanes(work),
            source_item=source.itemsize, target_item=target.itemsize,
            source_step=source.strides[axis], target_step=target.strides[axis],
            starts=self._add(band.starts), samples=self._add(band.samples),
            weights=self._add(band.weights.astype(work)),
            outside=self._add(np.full(1, outside).astype(work)),
        )  # fmt: skip
        outer = [*range(axis), *middle]
        rows = [
            [target.shape[a] for a in outer],
            [source.strides[a] for a in outer],
            [target.strides[a] for a in outer],
        ]
        self._set(batch_dims=len(outer), batch_table=self._add(np.array(rows, np.int64)))
        batch = math.prod(rows[0])
        lines, channels = (batch, inner) if self.along else (inner, 1)
        chunk = tile if self.along else min(CHUNK_TILES, -(-lines // tile)) * tile
        tiles = -(-lines // chunk)
        if self.direct:
            chunk = min(DIRECT_TILES, lines // tile) * tile
            tiles = max(1, lines // chunk)
        self._set(
            tile_lines=tile, chunk_lines=chunk, lines=lines, channels=channels, tiles=tiles
        )  # fmt: skip
        self._set(row_samples=source.shape[axis] * channels)
        self.halves = self.along and channels == 1 and not slab and self._set_regular(band)
        if self.halves:
            tile, tiles = HALVES_ROWS, -(-lines // HALVES_ROWS)
            self._set(tile_lines=tile)
        self._columns = tiles * (1 if self.along else batch)
        self._set_blocks(slab, threads, channels)
        self._set_stages(source.dtype, target.dtype)
        self._set(stream=self._can_stream(target, [*outer] if self.along else [*outer, axis]))
        self.scratch_size = int(self.record["scratch_size"])
        self._most_threads = threads
        self.threads = max(1, min(threads, int(self.record["items"])))

    def run_slab(self, source: NDArray[Any], target: NDArray[Any], start: int, stop: int) -> None:
        """Run the pass for the outputs ``start`` to ``stop - 1``; `start` is a multiple of the slab."""
        block = int(self.record["block"])
        blocks = -(-(stop - start) // block)
        self._set(first_block=start // block, blocks=blocks, items=blocks * self._columns)
        self.threads = max(1, min(self._most_threads, blocks * self._columns))
        self.run(source, target)

    def _set_blocks(self, slab: int, threads: int, channels: int) -> None:
        """Cut the outputs into blocks whose samples fit a strip, and at least four items for each thread."""
        size, row = (
            lanes(self.work),
            TILE_VECTORS * lanes(self.work) * self.work.itemsize * channels,
        )
        rate = self.band.positions_per_output + (1.0 if self.along else 0.0)
        block = int((STRIP_BYTES / row - self.band.taps) / rate)
        # Few taps need few rows: short strips stay in the first-level cache.
        few = math.ceil(LEAST_SHARE * self.band.taps / self.band.positions_per_output)
        block = min(block, max(few, ROW_BLOCK) if self.along else few)
        columns, outputs = self._columns, slab or self.band.size
        wanted = -(-4 * threads // max(columns, 1))
        block = min(block, -(-outputs // wanted))
        block = max(block, LEAST_BLOCK)
        if self.halves:
            block = outputs
        block = -(-block // LEAST_BLOCK) * LEAST_BLOCK  # whole vectors of results along rows
        while slab and slab % block:
            block -= LEAST_BLOCK
        spans = self.band.spans(block)
        longest = int((spans[:, 1] - spans[:, 0]).max())
        self._set(block=block, blocks=len(spans), spans=self._add(spans))
        self._set(items=len(spans) * columns)
        sizes = {
            "at_strip": longest * row + size * row,
            "at_sums": (block * row + size * row) if self.along else 0,
            "at_rows": 16 * TILE_VECTORS * size if self.along else 0,
            "at_temp": TILE_VECTORS * size * self.work.itemsize,
        }
        position = 0
        for name, needed in sizes.items():
            self._set(**{name: position})
            position += -(-needed // LINE_BYTES) * LINE_BYTES
        # Scratch memories of threads are not a multiple of a page apart: they share no cache sets.
        self._set(scratch_size=-(-position // PAGE) * PAGE + LINE_BYTES)

    def _set_regular(self, band: Band) -> bool:
        """Note which outputs have the same weights for neighbouring samples; return whether most do, two samples apart."""
        if band.taps > FEW_TAPS or band.size < 2:
            return False
        places = band.gathered
        common = (band.weights == band.weights[band.size // 2]).all(axis=1)
        inside = common & (places[:, 0] >= 0) & (np.diff(places, axis=1) == 1).all(axis=1)
        found = np.flatnonzero(inside)
        if len(found) < band.size // 2:
            return False
        first, last = int(found[0]), int(found[-1]) + 1
        self._set(regular_first=first, regular_last=last)
        return bool(inside[first:last].all() and (np.diff(places[first:last, 0]) == 2).all())

    def _set_stages(self, source: np.dtype[Any], target: np.dtype[Any]) -> None:
        s, t, w = (pointer(d.name) for d in (source, target, self.work))
        if self.halves:
            self._set(sum=address(sum_halves, (WORD, s, t, w, WORD, WORD)), stream=0)
            self.function = address(items_halves, (WORD,) * 3)
            return
        if self.direct:
            self._set(sum=address(sum_direct, (WORD, s, t, w, *(WORD,) * 4)))
            self.function = address(items_direct, (WORD,) * 3)
            return
        if self.along:
            loads, sums, items = load_along, sum_along, items_along
            types_of_sum = (WORD, w, w, t, WORD, WORD, WORD)
        else:
            loads, sums, items = load_between, sum_between, items_between
            types_of_sum = (WORD, w, t, w, WORD, WORD, WORD)
        words = (WORD,) * (3 if self.along else 4)
        self._set(load=address(loads, (WORD, s, w, *words)))
        self._set(sum=address(sums, types_of_sum))
        self.function = address(items, (WORD,) * 3)

    def _can_stream(self, target: NDArray[Any], axes: list[int]) -> bool:
        """Return whether stores may bypass the caches: large results whose stores are whole, aligned cache lines."""
        vector = int(self.record["lanes"]) * target.itemsize
        whole = vector == LINE_BYTES if self.along else vector * TILE_VECTORS % LINE_BYTES == 0
        return (
            target.nbytes >= STREAM_BYTES
            and whole
            and vector == int(self.record["lanes"]) * self.work.itemsize
            and (self.direct or array_address(target) % LINE_BYTES == 0)
            and array_address(target) % target.itemsize == 0
            and all(target.strides[a] % LINE_BYTES == 0 for a in axes)
        )


def _neighbours(axis: int, source: NDArray[Any], target: NDArray[Any]) -> tuple[int, list[int]]:
    """Return how many lines after an axis are neighbours in memory, and the axes between it and them."""
    run, last = 1, target.ndim - 1
    while last > axis and all(
        a.shape[last] == 1 or a.strides[last] == run * a.itemsize for a in (source, target)
    ):
        run *= target.shape[last]
        last -= 1
    return run, list(range(axis + 1, last + 1))


def _is_row(axis: int, inner: int, source: NDArray[Any], target: NDArray[Any]) -> bool:
    """Return whether the positions along an axis, each with `inner` samples, are neighbours in memory."""
    return all(
        a.shape[axis] == 1 or a.strides[axis] == inner * a.itemsize for a in (source, target)
    )


assert SPAN_WORDS == 5  # the columns of `Band.spans`
