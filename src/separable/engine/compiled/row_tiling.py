"""The record of a sweep along y and x, or x alone, that filters whole rows without transposing them.

It serves filters of few taps and results that stay in the caches; see :mod:`.row_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .axis_layout import Layout
from .fma_blocks import OUTPUTS
from .jit import address
from .row_kernels import band_of_rows, filter_lines, finish_lines, load_rows
from .simd import HAS_32_REGISTERS, VECTOR_BYTES, lanes, pointer
from .sweep_builder import WORD, Dtypes, is_dense, round_up
from .term_graph import Pass
from .tiling import STREAM_BYTES, TermSchedule

MOST_TAPS, MOST_TAPS_OF_SMALL = (7, 13) if HAS_32_REGISTERS else (4, 5)
"""Taps along x, of any image and of a small one: more take longer than transposing does."""
SMALL = 1 << 13
"""Samples of an image whose borders take much of the time; transposing loads more of them."""
ROW_BYTES = 1 << 9
"""Bytes of a row of a tile."""
TILE_BYTES = 20 << 10
"""Rows of a tile: with the lines that are filtered along y they stay in the first-level cache."""
LEAST_ROWS, MOST_ROWS = 16, 64
"""Rows of a band."""


class RowSchedule(TermSchedule):
    """The record of a sweep along whole rows; its arguments are those of :class:`.tiling.TermSchedule`."""

    @staticmethod
    def suits(layout: Layout, passes: Sequence[Pass], dtypes: Dtypes) -> bool:
        """Return whether a sum of terms can be filtered along whole rows, and is best filtered so."""
        x, c = layout.x, layout.channels
        if x.filtered < 0 or layout.z is not None or len(passes[0].weights) > 1:
            return False
        size = x.size * c.size * layout.y.size
        for axis in layout.batch:
            size *= axis.size
        return (
            passes[x.filtered].taps <= (MOST_TAPS_OF_SMALL if size <= SMALL else MOST_TAPS)
            and size * dtypes.target.itemsize < STREAM_BYTES
            and is_dense(dtypes.target.itemsize, x, c, x.target, c.target)
        )

    def _set_tiles(self, threads: int) -> None:
        size, flat, rows = lanes(self.dtypes.work), self._get("x_flat"), self._get("y_size")
        around = (self._taps("x") - 1) * self._get("channels")
        # Columns are loaded from the first one that a tap reads, not from a whole vector on.
        left = self.passes["x"].left * self._get("channels")
        item = self.dtypes.work.itemsize
        columns = max(ROW_BYTES // item, 4 * around)
        tile = round_up(-(-flat // max(1, round(flat / columns))), size)
        band = TILE_BYTES // ((tile + around) * item) // OUTPUTS * OUTPUTS
        band = min(max(band, LEAST_ROWS), MOST_ROWS, round_up(rows, OUTPUTS))
        # Bands of nearly equal height, at least two per thread where there are rows enough.
        bands = -(-rows // band)
        if threads > 1 and self._batch * bands < 2 * threads:
            bands = min(-(-rows // LEAST_ROWS), -(-2 * threads // self._batch))
        band = round_up(-(-rows // bands), OUTPUTS)
        bands = -(-rows // band)
        self._set(
            x_reach=left, halo=round_up(around, size), tile=tile, x_chunk=flat, x_chunks=1,
            y_band=band, y_bands=bands, items=bands * self._batch,
        )  # fmt: skip

    def _set_scratch(self) -> None:
        size, item = lanes(self.dtypes.work), self.dtypes.work.itemsize
        around = (self._taps("x") - 1) * self._get("channels")
        # An odd number of vectors: rows do not compete for the same sets of the cache.  A vector more than needed,
        # because the last vector of a line reads on beyond its columns.
        pitch = (round_up(self._get("tile") + around, size) // size + 1 | 1) * size
        rows = max(self._get("y_band"), OUTPUTS) + max(self._taps("y"), 1) - 1
        self._set(load_row=pitch)
        self._place_buffers({
            "at_rows": 8 * (rows + 1),
            "at_strips": rows * pitch * item + VECTOR_BYTES,
            "at_line": OUTPUTS * pitch * item + VECTOR_BYTES,
            "at_temp": OUTPUTS * size * item,
        })  # fmt: skip

    def _set_stages(self) -> None:
        source, target, work = (
            pointer(d.name) for d in (self.dtypes.source, self.dtypes.target, self.dtypes.work)
        )
        words, y, x = (WORD,) * 12, self._taps_type("y"), self._taps_type("x")
        finish = (WORD, work, work, target, x, *words[:5])
        self._set(
            load=address(load_rows, (WORD, source, work, *words[:4])),
            filter_rows=address(finish_lines, finish),
            band=address(band_of_rows, words),
        )
        if "y" in self.passes:
            self._set(filter_columns=address(filter_lines, (WORD, work, work, y, WORD)))

    def _can_stream(self, result_bytes: int, limit: int) -> bool:
        """Return False: results stay in the caches."""
        return False
