"""From the roles of the axes to the plan of a sweep of whole-line filters.

Every size of scratch memory is fixed here, in one place, because compiled code checks no bounds.
Sizes of tiles and bands depend on the problem alone, never on the threads: so do the results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.process_cache import ProcessBound

from .axis_layout import Layout
from .jit import address
from .line_loop import sweep_lines
from .line_microkernels import load_strips, put_rows, put_strips, turn
from .line_params import LINES
from .numba_api import types
from .simd import VECTOR_BYTES, lanes, pointer
from .sweep_params import OUTSIDE

STRIP_COLUMNS = 256
"""Columns that are loaded and filtered along y together."""
WHOLE_COLUMNS = 128
"""The same where whole columns are held,"""
WHOLE_BYTES = 8 << 20
"""unless they are longer than this allows."""
TILE_COLUMNS = 512
"""Columns that are filtered along x together, at least."""
BAND_ROWS = 64
"""Rows of a band, at least."""
BAND_WINDOWS = 3
"""How many windows high a band is, at least: the rows of one more are loaded twice."""
STRETCH_TILES = 2
"""How many tiles go into the transposed buffer before it slides."""
STREAM_BYTES = 24 << 20
"""Outputs from this size on are stored past the caches."""
THREAD_NANOSECONDS = 15_000
"""Work that justifies one more thread."""

_I64 = types.int64
_SOURCE, _TARGET, _SCRATCH, _STREAM, _LEAD = (
    list(LINES.fields or ()).index(n) for n in ("source", "target", "scratch", "stream", "lead")
)


@dataclass(frozen=True, eq=False)
class LineFilter:
    """What runs along the lines of one axis.

    Attributes
    ----------
    stage : compiled function
        ``(lines, extra, far, step, count, channels, n, taps, data)``: filter ``count`` times
        ``channels`` lines of ``n`` outputs in place.
    taps, left : int
        Its window; the border map has ``n + taps - 1`` entries.
    border : ndarray of int64
        The sample at each extended position, -1 for the constant.
    shift : int
        Where in its line, in positions, the filter leaves the first output.
    whole : bool
        Whether a line must be filtered in one piece,
    piece : int
        unless it has more outputs than this: then in pieces of this many (0: never), along x.
    data : ndarray
        Numbers for the stage, in the working dtype.
    operations : int
        For each output, to judge how many threads pay.
    """

    stage: Any
    taps: int
    left: int
    border: NDArray[np.int64]
    data: NDArray[Any]
    shift: int = 0
    whole: bool = False
    piece: int = 0
    operations: int = 3


def up(number: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step


class LineSchedule(ProcessBound):
    """A plan with the tables it points to, for one shape, strides and dtypes.

    Parameters
    ----------
    layout : Layout
        The roles of the axes; its ``z`` must be None.
    y, x : LineFilter or None
        What runs along the axes of these roles.
    cval, scale : float
        The value outside the image, and what all results are multiplied by.
    dtypes : tuple of dtype
        Of source, target and work.
    threads : int
    in_place : bool
        Whether the target is the source: then items must hold whole lines.
    strides : tuple of int
        Of the target.
    """

    def __init__(
        self,
        layout: Layout,
        y: LineFilter | None,
        x: LineFilter | None,
        cval: float,
        scale: float,
        dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]],
        threads: int,
        in_place: bool,
        strides: tuple[int, ...],
    ) -> None:
        self.source, self.target, self.work = dtypes
        self.layout, self.y, self.x = layout, y, x
        self.record = np.zeros((), LINES)
        self.kept: list[NDArray[Any]] = []
        self._axes()
        self._constants(cval, scale)
        self._tiles(in_place)
        self._items(threads)
        self._borders()
        self._scratch()
        self._stages()
        self.may_stream = not in_place and self._aligned(strides)
        self.function = address(sweep_lines, (_I64, _I64, _I64))
        self.scratch_size = int(self.record["scratch_size"])
        self.threads = self._useful_threads(threads)
        self._words = self.record.reshape(1).view(np.int64)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self.record[name] = value

    def _get(self, name: str) -> int:
        return int(self.record[name])

    def _keep(self, table: NDArray[Any]) -> int:
        """Keep a table alive with the plan; return its address."""
        held = np.ascontiguousarray(table)
        self.kept.append(held)
        return held.ctypes.data

    def _axes(self) -> None:
        y, x, c = self.layout.y, self.layout.x, self.layout.channels
        source, target = self.source.itemsize, self.target.itemsize

        def is_dense(item: int, along: int, inner: int) -> bool:
            return (c.size == 1 or inner == item) and (x.size == 1 or along == item * c.size)

        self._set(
            source_item=source, target_item=target, work_item=self.work.itemsize,
            lanes=lanes(self.work), channels=c.size, x_flat=x.size * c.size,
            y_size=y.size, y_source=y.source, y_target=y.target,
            x_source=x.source, x_target=x.target, c_source=c.source, c_target=c.target,
            source_dense=is_dense(source, x.source, c.source),
            target_dense=is_dense(target, x.target, c.target),
        )  # fmt: skip
        batch = self.layout.batch
        rows = [[a.size for a in batch], [a.source for a in batch], [a.target for a in batch]]
        self._set(batch_dims=len(batch), batch_table=self._keep(np.array(rows, np.int64)))

    def _constants(self, cval: float, scale: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            for name, value in (("outside", cval), ("scale", scale)):
                self._set(**{name: self._keep(np.full(1, value).astype(self.work))})
        for name, line in (("y", self.y), ("x", self.x)):
            if line is not None:
                self._set(**{
                    f"{name}_taps": line.taps,
                    f"{name}_filter_data": self._keep(line.data),
                    f"{name}_shift": line.shift,
                })  # fmt: skip

    def _tiles(self, in_place: bool) -> None:
        size, flat = lanes(self.work), self._get("x_flat")
        rows, band, strips = self._get("y_size"), BAND_ROWS, STRIP_COLUMNS
        if self.y is not None:
            band = max(band, up(BAND_WINDOWS * self.y.taps, size))
            if in_place or self.y.whole:
                column = (rows + self.y.taps) * self.work.itemsize
                band, strips = rows, min(WHOLE_COLUMNS, WHOLE_BYTES // column // size * size)
        elif self.x is not None and (self.x.whole or in_place):
            band = 2 * size
        strips = min(up(max(strips, 1), size), up(flat, size))
        self._set(y_band=min(band, rows), strip_columns=strips)
        if self.x is not None:
            self._tiles_along(self.x, in_place)

    def _tiles_along(self, x: LineFilter, in_place: bool) -> None:
        """Size the transposed buffer; in place all of a row is read before any is written."""
        size, channels, flat = lanes(self.work), self._get("channels"), self._get("x_flat")
        left, window = x.left * channels, x.taps * channels
        step = math.lcm(size, channels)
        tile = up(up(TILE_COLUMNS, window), step)
        if x.whole or in_place or tile > flat:
            tile = up(flat, step)
        if x.piece and not in_place:
            tile = min(tile, up(x.piece * channels, step))
        reach = up(left, size)
        halo = up(reach - left + window - channels, size)
        tiles = 1 if x.whole or tile >= flat else STRETCH_TILES
        stretch = size + tile * tiles
        self._set(
            x_reach=reach, x_phase=reach - left, x_tile=tile, x_shift=x.shift * channels,
            halo=halo, stretch=stretch, across_width=(stretch + halo + size) | 1,
        )  # fmt: skip

    def _items(self, threads: int) -> None:
        """Cut the image into bands, and rows into chunks where bands alone are too few."""
        flat, band = self._get("x_flat"), self._get("y_band")
        bands = -(-self._get("y_size") // max(band, 1))
        batch = math.prod(a.size for a in self.layout.batch)
        tile = self._get("x_tile") if self.x is not None else self._get("strip_columns")
        chunk = up(flat, tile)
        if threads > 1 and batch * bands < 4 * threads:
            wanted = -(-4 * threads // max(batch * bands, 1))
            chunk = max(up(-(-flat // wanted), tile), up(4 * self._get("halo"), tile))
        if self.x is not None and self.x.whole:
            chunk = tile
        chunks = -(-flat // max(chunk, 1))
        self._set(y_bands=bands, x_chunk=chunk, x_chunks=chunks, items=bands * chunks * batch)

    def _borders(self) -> None:
        if self.y is not None:
            self._set(y_map=self._keep(self.y.border))
        margin = self._get("halo") + 2 * lanes(self.work)
        flat = self._get("x_flat")
        left = self._offsets(np.arange(-self._get("x_reach"), 0))
        self._set(left_table=left, right_table=self._offsets(np.arange(flat, flat + margin)))

    def _offsets(self, flat: NDArray[np.int64]) -> int:
        """Keep the byte offsets within a row of flat columns outside the image."""
        table = np.full(flat.shape, OUTSIDE, np.int64)
        if self.x is not None:
            column, channel = np.divmod(flat, self._get("channels"))
            place = column + self.x.left
            border = self.x.border
            known = (place >= 0) & (place < border.size)
            sample = np.where(known, border[np.clip(place, 0, border.size - 1)], -1)
            offset = sample * self._get("x_source") + channel * self._get("c_source")
            table = np.where(sample >= 0, offset, OUTSIDE)
        return self._keep(table)

    def _scratch(self) -> None:
        size, item = lanes(self.work), self.work.itemsize
        band, columns = self._get("y_band"), self._get("strip_columns")
        groups = -(-band // size)
        taps = self.y.taps if self.y is not None else 1
        rows = max(band + taps - 1, groups * size + self._get("y_shift")) | 1
        extra = max(
            band if self.y is not None and self.y.whole else 0,
            self._get("x_tile") if self.x is not None and self.x.whole else 0,
        )
        self._set(strip_rows=rows, groups=groups)
        sizes = {
            "at_rows": 8 * (band + taps),
            "at_strips": columns * rows * item,
            "at_temp": size * size * item,
            "at_extra": extra * size * item,
            "at_across": groups * self._get("across_width") * size * item,
        }
        position = 0
        for name, wanted in sizes.items():
            self._set(**{name: position})
            position = up(position + wanted, 64)
        self._set(scratch_size=up(position, 4096) + 64)

    def _stages(self) -> None:
        source, target, work = (pointer(d.name) for d in (self.source, self.target, self.work))
        line = (work, work, *[_I64] * 6, work)
        put = (_I64, work, work, target, *[_I64] * 5)
        self._set(load=address(load_strips, (_I64, source, work, *[_I64] * 4)))
        if self.y is not None:
            self._set(y_filter=address(self.y.stage, line))
        if self.x is not None:
            self._set(x_filter=address(self.x.stage, line))
            self._set(turn=address(turn, (_I64, work, work, _I64, _I64)))
            self._set(put=address(put_rows, put))
        else:
            self._set(put_strips=address(put_strips, put))

    def fill(self, words: NDArray[np.int64], source: int, target: int, scratch: int) -> None:
        """Write the plan of one run, on the arrays at two addresses."""
        words[: self._words.size] = self._words
        words[_SOURCE] = source
        words[_TARGET] = target
        words[_SCRATCH] = scratch
        if self.may_stream and target % self.target.itemsize == 0:
            words[_STREAM] = 1
            words[_LEAD] = -target % VECTOR_BYTES // self.target.itemsize

    def _useful_threads(self, threads: int) -> int:
        """Return how many threads have work worth waking them for."""
        operations = sum(line.operations for line in (self.y, self.x) if line is not None)
        batch = math.prod(a.size for a in self.layout.batch)
        samples = batch * self._get("y_size") * self._get("x_flat")
        nanoseconds = samples / lanes(self.work) * (6 + operations / 2)
        return int(min(threads, self._get("items"), max(1, nanoseconds // THREAD_NANOSECONDS)))

    def _aligned(self, strides: tuple[int, ...]) -> bool:
        """Tell whether stores may bypass the caches: a large output of whole, aligned vectors."""
        item = self.target.itemsize
        samples = math.prod(a.size for a in self.layout.batch)
        samples *= self._get("y_size") * self._get("x_flat")
        inner = (item, self._get("x_target"))
        return (
            bool(self._get("target_dense"))
            and lanes(self.work) * item == VECTOR_BYTES
            and samples * item >= STREAM_BYTES
            and all(s % VECTOR_BYTES == 0 or s in inner for s in strides)
        )
