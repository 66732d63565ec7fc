"""The record of a sweep of whole-line filters: tiles, bands and stages of box filters and recursions.

Such a filter runs down lines of vectors in memory, in place; it may look as far along its line as it likes.  What
this shares with sums of separable terms is in :mod:`.sweep_builder`.

Sizes of tiles and bands depend on the problem alone, never on the threads: so do the results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axis_layout import Layout
from .jit import address
from .line_loop import band_along, band_down
from .line_microkernels import store_across, store_strips, transpose_strips
from .load_store import load_tile
from .simd import lanes, pointer
from .sweep_builder import WORD, Dtypes, SweepSchedule, round_up
from .sweep_loop import sweep_items

STRIP_COLUMNS = 256
"""Columns that are loaded and filtered along y together."""
WHOLE_COLUMNS = 128
"""The same where a strip holds whole columns of the image,"""
WHOLE_BYTES = 8 << 20
"""unless they are longer than this allows."""
RUN_COLUMNS = 512
"""Columns that are filtered along x together, at least."""
BAND_ROWS = 64
"""Rows of a band, at least."""
BAND_WINDOWS = 3
"""Height of a band in windows, at least: the rows of one more window are loaded twice."""
SLIDE_RUNS = 2
"""Runs that go into the transposed buffer before it slides."""
STREAM_BYTES = 24 << 20
"""Outputs from this size on are stored past the caches."""


@dataclass(frozen=True, eq=False)
class LineFilter:
    """A filter along the lines of one axis.

    Attributes
    ----------
    stage : compiled function
        ``(lines, forward, line_step, step, count, channels, n, taps, data)``: filter ``count`` times ``channels`` lines
        of ``n`` outputs in place.  Lines lie ``line_step`` elements apart, channels ``step``; ``forward`` is a buffer of
        ``n`` vectors.
    taps, left : int
        Its window, and how many samples of it lie left of the output; the border map has ``n + taps - 1`` entries.
    border : ndarray of int64
        The sample at each extended position, -1 for the constant.
    data : ndarray
        Numbers for the stage, in the working dtype.
    shift : int
        Position in its line at which the filter leaves the first output.
    whole : bool
        True if a line must be filtered in one piece.
    piece : int
        Largest number of outputs of such a piece along x (0: no limit).
    memory : int
        Samples beyond the window on each side that a piece of a line needs, if it is not filtered as a whole.
    """

    stage: Any
    taps: int
    left: int
    border: NDArray[np.int64]
    data: NDArray[Any]
    shift: int = 0
    whole: bool = False
    piece: int = 0
    memory: int = 0

    def part(self, start: int, stop: int) -> LineFilter:
        """Return the filter of the outputs ``start`` to ``stop`` of a line."""
        more = self.memory
        border = np.pad(self.border, more, mode="edge") if more else self.border
        taps = self.taps + 2 * more
        return replace(
            self, taps=taps, left=self.left + more, border=border[start : stop + taps - 1],
            shift=self.shift + more, memory=0,
        )  # fmt: skip


class LineSchedule(SweepSchedule):
    """The record of a sweep of whole-line filters with its tables.

    Parameters
    ----------
    layout : Layout
        Roles of the axes; its ``z`` must be None.
    filters : dict of LineFilter
        The filters along ``"y"`` and ``"x"``: one or both.
    cval, scale : float
        The constant value outside the image, and the factor of all results.
    dtypes : Dtypes
        Element types of image, result and arithmetic.
    threads : int
        Largest number of threads.
    in_place : bool
        True if the result overwrites the image: then items hold whole lines.
    """

    def __init__(
        self,
        layout: Layout,
        filters: dict[str, LineFilter],
        cval: float,
        scale: float,
        dtypes: Dtypes,
        threads: int,
        in_place: bool,
    ) -> None:
        super().__init__(layout, dtypes)
        self.filters, self.y, self.x = filters, filters.get("y"), filters.get("x")
        self._set(outside=self._add_number(cval), scale=self._add_number(scale), y_terms=1)
        self._set_filters()
        self._set_tiles(in_place)
        self._set_items(threads)
        if self.y is not None:
            self._set(y_map=self._add_table(self.y.border))
        self._set_column_tables(self.x, self._get("halo") + 2 * lanes(dtypes.work))
        self._set_scratch()
        self._set_stages()
        result_bytes = self._samples * dtypes.target.itemsize
        self.may_stream = not in_place and self._can_stream(result_bytes, STREAM_BYTES)
        self.function = address(sweep_items, (WORD,) * 3)
        self._complete(threads)

    def _set_filters(self) -> None:
        for name, line in self.filters.items():
            self._set(**{
                f"{name}_taps": line.taps,
                f"{name}_filter_data": self._add_table(line.data),
            })  # fmt: skip
        if self.y is not None:
            self._set(y_shift=self.y.shift)
        if self.x is not None:
            self._set(x_shift=self.x.shift * self._get("channels"))

    # --- tiles ---------------------------------------------------------------------------------------

    def _set_tiles(self, in_place: bool) -> None:
        size, rows = lanes(self.dtypes.work), self._get("y_size")
        band, tile = BAND_ROWS, STRIP_COLUMNS
        if self.y is not None:
            band = max(band, round_up(BAND_WINDOWS * self.y.taps, size))
            if in_place or self.y.whole:
                column = (rows + self.y.taps) * self.dtypes.work.itemsize
                band, tile = rows, min(WHOLE_COLUMNS, WHOLE_BYTES // column // size * size)
        elif self.x is not None and (self.x.whole or in_place):
            band = 2 * size
        tile = min(round_up(max(tile, 1), size), round_up(self._get("x_flat"), size))
        self._set(y_band=min(band, rows), tile=tile)
        if self.x is not None:
            self._set_runs(self.x, in_place)

    def _set_runs(self, x: LineFilter, in_place: bool) -> None:
        """Size the transposed buffer; in place all of a row is read before any is written."""
        size, channels, flat = lanes(self.dtypes.work), self._get("channels"), self._get("x_flat")
        left, window = x.left * channels, x.taps * channels
        step = math.lcm(size, channels)
        run = round_up(round_up(RUN_COLUMNS, window), step)
        if x.whole or in_place or run > flat:
            run = round_up(flat, step)
        if x.piece and not in_place:
            run = min(run, round_up(x.piece * channels, step))
        reach = round_up(left, size)
        halo = round_up(reach - left + window - channels, size)
        runs = 1 if x.whole or run >= flat else SLIDE_RUNS
        slide_after = size + run * runs
        self._set(
            x_reach=reach, x_phase=reach - left, run=run, halo=halo,
            slide_after=slide_after, across_width=(slide_after + halo + size) | 1,
        )  # fmt: skip

    def _set_items(self, threads: int) -> None:
        """Cut the image into bands, and rows into chunks where bands alone are too few."""
        flat, band = self._get("x_flat"), self._get("y_band")
        bands = -(-self._get("y_size") // max(band, 1))
        step = self._get("run") if self.x is not None else self._get("tile")
        chunk = round_up(flat, step)
        if threads > 1 and self._batch * bands < 4 * threads:
            wanted = -(-4 * threads // max(self._batch * bands, 1))
            chunk = max(round_up(-(-flat // wanted), step), round_up(4 * self._get("halo"), step))
        if self.x is not None and self.x.whole:
            chunk = step
        chunks = -(-flat // max(chunk, 1))
        self._set(y_bands=bands, x_chunk=chunk, x_chunks=chunks, items=bands * chunks * self._batch)

    # --- scratch memory and stages -------------------------------------------------------------------

    def _set_scratch(self) -> None:
        size, item, band = lanes(self.dtypes.work), self.dtypes.work.itemsize, self._get("y_band")
        groups = -(-band // size)
        taps = self.y.taps if self.y is not None else 1
        # An odd number of rows: strips do not compete for the same sets of the cache.
        rows = max(band + taps - 1, groups * size + self._get("y_shift")) | 1
        # The forward run of a recursion along each axis.
        line = max(
            band if self.y is not None and self.y.whole else 0,
            self._get("run") if self.x is not None and self.x.whole else 0,
        )
        self._set(load_row=size, load_strip=rows * size, groups=groups, prefetch_right=1)
        self._place_buffers({
            "at_rows": 8 * (band + taps),
            "at_strips": self._get("tile") * rows * item,
            "at_temp": size * size * item,
            "at_line": line * size * item,
            "at_across": groups * self._get("across_width") * size * item,
        })  # fmt: skip

    def _set_stages(self) -> None:
        d = self.dtypes
        source, target, work = (pointer(t.name) for t in (d.source, d.target, d.work))
        run = (work, work, *[WORD] * 6, work)
        store = (WORD, work, work, target, *[WORD] * 5)
        self._set(load=address(load_tile, (WORD, source, work, *[WORD] * 4)))
        for name, line in self.filters.items():
            self._set(**{f"{name}_filter": address(line.stage, run)})
        if self.x is not None:
            self._set(
                item=address(band_along, (WORD,) * 8),
                transpose_strips=address(transpose_strips, (WORD, work, work, WORD, WORD)),
                store_across=address(store_across, store),
            )
        else:
            self._set(
                item=address(band_down, (WORD,) * 8), store_strips=address(store_strips, store)
            )
