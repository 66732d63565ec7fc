"""The schedule of a decimating sweep: what it can do, how it is cut into work items, and its record.

Sizes of blocks change the time, never the result: each output is summed in the order of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.compiled.jit import address
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.simd import LINE_BYTES, lanes, pointer
from separable.resample.band_matrix import Band

from .band_record import SPAN_WORDS
from .band_schedule import STREAM_BYTES
from .block_means import items_means, mean_rows
from .decimation_loop import MOST_AHEAD, items_decimated
from .decimation_record import DECIMATION
from .few_rows import rows_pointer, sum_few_rows
from .line_phases import GROUP_VECTORS, extend_line, finish_line, phases_pointer
from .pass_schedule import PassSchedule
from .row_sums import sum_row_pairs, sum_rows

WORD = types.int64
FEW_TAPS = 8
"""Weights along y up to which rows are summed where they lie in the image."""
MOST_UNROLLED = {1: 32, 2: 32, 3: 8, 4: 8}
"""Weights along rows up to which code is made for their number, by the product of stride and channels."""
ROW_BYTES = 16 << 10
"""Bytes of a line at most: it stays in the first-level cache."""
ROW_BLOCK = 32
"""Rows of a work item where rows are summed in the image."""
PLANE_BLOCK = 8
"""Planes of a work item: those that two outputs share are read from the second-level cache."""
ITEMS_PER_THREAD = 4
PAGE = 4096
MEAN_TYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")
"""Types whose means of 2x2 samples have code of their own."""
MEAN_ROWS = 64
"""Rows of a work item of such means."""


class DecimationSchedule(PassSchedule):
    """A sweep over two or three axes, for arrays of one shape and type.

    Parameters
    ----------
    bands : mapping of int to Band
        The band of each filtered axis.
    order : sequence of int
        The filtered axes in the order of their passes.
    arrays : tuple of ndarray
        Packed arrays of native types, like the image and the result that will be computed.
    work : dtype
        float32 or float64.
    outside : float
        Value of samples outside the image.
    threads : int
        Largest number of threads.
    snap : float
        Distance from a half within which a float64 sum counts as that half.
    """

    def __init__(
        self,
        bands: Mapping[int, Band],
        order: Sequence[int],
        arrays: tuple[NDArray[Any], NDArray[Any]],
        work: np.dtype[Any],
        outside: float,
        threads: int,
        snap: float = 0.0,
    ) -> None:
        super().__init__(DECIMATION)
        self.work = work
        source, target = arrays
        *_, y, x = order
        self._channels, self._row = math.prod(source.shape[x + 1 :]), source.shape[x]
        self._set(
            lanes=lanes(work), channels=self._channels, work_item=work.itemsize,
            source_item=source.itemsize, target_item=target.itemsize,
            outside=self._add(np.full(1, outside).astype(work)), one=self._add(np.ones(1, work)),
            z_outputs=1, z_block=1, z_blocks=1,
        )  # fmt: skip
        self.record["snap"] = snap
        for name, axis in zip("zyx"[-len(order) :], order, strict=True):
            self._set_axis(name, bands[axis], source.strides[axis], target.strides[axis])
        outer = [a for a in range(x) if a not in order]
        rows = [
            [target.shape[a] for a in outer],
            [source.strides[a] for a in outer],
            [target.strides[a] for a in outer],
        ]
        self._set(batch_dims=len(outer), batch_table=self._add(np.array(rows, np.int64)))
        first, last = bands[x].common_outputs
        self._set(regular_first=first, regular_last=last)
        z = bands[order[0]] if len(order) == 3 else None
        batch = math.prod(rows[0])
        self.means = z is None and not snap and self._are_means(source, target, bands[y], bands[x])
        self.fits = self.means or self._set_blocks(z, bands[y], bands[x], batch, threads)
        if self.means:
            self._set_means(source.dtype, target, batch, threads)
        elif self.fits:
            self._set_stages(source.dtype, target.dtype, bands[x].stride)
        self.scratch_size = int(self.record["scratch_size"])
        self.threads = max(1, min(threads, int(self.record["items"])))

    def _are_means(self, source: NDArray[Any], target: NDArray[Any], y: Band, x: Band) -> bool:
        """Return whether outputs are means of 2x2 samples of a type that has code for them."""
        return (
            source.dtype == target.dtype
            and source.dtype.name in MEAN_TYPES
            and self._channels == 1
            and all(_is_halving(band) for band in (y, x))
        )

    def _set_means(
        self, dtype: np.dtype[Any], target: NDArray[Any], batch: int, threads: int
    ) -> None:
        """Set the work items and the stage of means of 2x2 samples: whole rows, without scratch memory."""
        outputs = int(self.record["y_outputs"])
        rows = max(1, min(MEAN_ROWS, -(-outputs // -(-ITEMS_PER_THREAD * threads // batch))))
        blocks = -(-outputs // rows)
        place, work = pointer(dtype.name), pointer(self.work.name)
        self._set(
            y_block=rows, y_blocks=blocks, items=batch * blocks,
            regular_last=self._row // 2,
            stream=int(target.nbytes >= STREAM_BYTES), scratch_size=LINE_BYTES,
            finish=address(mean_rows, (WORD, place, place, work, *(WORD,) * 4)),
        )  # fmt: skip
        self.function = address(items_means, (WORD,) * 3)

    def _set_axis(self, name: str, band: Band, source_step: int, target_step: int) -> None:
        values = {
            "outputs": band.size, "block": band.size, "blocks": 1, "taps": band.taps,
            "starts": self._add(band.starts), "samples": self._add(band.samples),
            "weights": self._add(band.weights.astype(self.work)),
            "source_step": source_step, "target_step": target_step,
        }  # fmt: skip
        self._set(**{f"{name}_{key}": value for key, value in values.items()})

    def _set_blocks(self, z: Band | None, y: Band, x: Band, batch: int, threads: int) -> bool:
        """Choose blocks of planes, rows and columns; return False if a block reads border samples that it does not hold."""
        item = self.work.itemsize * self._channels  # bytes of a position
        # Rows of the buffer lie an odd number of cache lines apart: many rows of an image compete for the same sets.
        buffered = z is not None or y.taps > FEW_TAPS
        columns = min(x.size, max(1, ROW_BYTES // item // x.stride))
        spans = x.spans(columns)
        if len(spans) > 1 and not _holds_border(spans, x):
            columns, spans = x.size, x.spans(x.size)
        if not _holds_border(spans, x):
            return False
        wide = int((spans[:, 1] - spans[:, 0]).max()) * self._channels
        lines = -(-wide * self.work.itemsize // LINE_BYTES)
        pitch = (lines + 1 + lines % 2) * LINE_BYTES  # an odd number of cache lines
        rows = max(ROW_BLOCK, 4 * y.taps // y.stride)  # few rows are read by two blocks
        planes = z.size if z is not None else 1
        depth = min(planes, PLANE_BLOCK)
        others = batch * -(-planes // depth) * len(spans)
        wanted = -(-ITEMS_PER_THREAD * threads // others)
        rows = max(1, min(rows, -(-y.size // wanted)))
        self._set(
            z_block=depth, z_blocks=-(-planes // depth),
            y_block=rows, y_blocks=-(-y.size // rows), x_block=columns, x_blocks=len(spans),
            x_spans=self._add(spans), pitch=pitch, buffered=int(buffered),
            pairs=int(buffered and y.taps > FEW_TAPS), slots=y.taps + y.stride,
        )  # fmt: skip
        self._set(items=others * int(self.record["y_blocks"]))
        spare = (GROUP_VECTORS * 2 + 8) * lanes(self.work) * self.work.itemsize
        taps = max(b.taps for b in (z, y, x) if b is not None)
        held = y.taps + y.stride if buffered else 0
        line = pitch + 2 * spare
        sizes = {
            "at_rows": held * pitch + spare, "at_line": 2 * line, "at_table": 8 * (taps + y.stride),
            "at_ahead": 8 * MOST_AHEAD, "at_temp": spare,
        }  # fmt: skip
        self._set(line_size=line)
        position = 0
        for name, needed in sizes.items():
            self._set(**{name: position})
            position += -(-needed // LINE_BYTES) * LINE_BYTES
        # Scratch memories of threads are not a multiple of a page apart: they share no cache sets.
        self._set(scratch_size=-(-position // PAGE) * PAGE + LINE_BYTES)
        return True

    def _set_stages(self, source: np.dtype[Any], target: np.dtype[Any], stride: int) -> None:
        s, t, w = (pointer(d.name) for d in (source, target, self.work))
        taps = int(self.record["x_taps"])
        most = MOST_UNROLLED.get(stride * self._channels, 0)
        few = taps if taps <= most else 0
        phases = phases_pointer(stride, self._channels, few, self.work.name)
        between = w if self.record["buffered"] else s
        self._set(
            fill=address(sum_rows, (WORD, s, w, *(WORD,) * 7)),
            combine=address(sum_rows, (WORD, between, w, *(WORD,) * 7)),
            fill_few=self._few(s, int(self.record["z_taps"]) or 1),
            combine_few=self._few(between, int(self.record["y_taps"])),
            combine_pairs=self._pairs(),
            extend=address(extend_line, (WORD, w, WORD)),
            finish=address(finish_line, (WORD, w, t, phases, w, *(WORD,) * 4)),
        )
        self.function = address(items_decimated, (WORD,) * 3)

    def _pairs(self) -> int:
        """Return the address of the stage for two outputs together, or 0."""
        if not self.record["pairs"]:
            return 0
        work = pointer(self.work.name)
        return address(sum_row_pairs, (WORD, work, work, *(WORD,) * 8))

    def _few(self, source: Any, taps: int) -> int:
        """Return the address of the stage for sums of as many rows, or 0 if they are many."""
        if taps > FEW_TAPS:
            return 0
        work, rows = pointer(self.work.name), rows_pointer(taps, self.work.name)
        return address(sum_few_rows, (WORD, source, work, rows, *(WORD,) * 8))


def _is_halving(band: Band) -> bool:
    """Return whether outputs are means of two samples that follow each other, the last one perhaps of one sample."""
    pairs = 2 * np.arange(band.size)[:, None] + np.arange(2)
    return (
        band.taps == 2
        and band.size == -(-band.length // 2)
        and bool((band.weights == 0.5).all())
        and bool((band.gathered == np.minimum(pairs, band.length - 1)).all())
    )


def _holds_border(spans: NDArray[np.int64], band: Band) -> bool:
    """Return whether the border samples that blocks read are among the neighbouring samples that they hold."""
    for first, last, start, stop, sample in spans.tolist():
        outer = np.concatenate((band.samples[first:start], band.samples[stop:last]))
        loaded = outer - sample
        if ((outer >= 0) & ((loaded < 0) | (loaded >= stop - start))).any():
            return False
    return True


assert SPAN_WORDS == 5  # the columns of `Band.spans`
