"""The record of a sweep that computes sums of separable terms: taps, tiles, rings and stages.

What this shares with whole-line filters is in :mod:`.sweep_builder`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axis_layout import Layout
from .dense_kernels import filter_direct
from .dense_loop import planes_direct
from .exact_rounding import sum_again
from .fma_blocks import GENERAL, MIXED, OUTPUTS
from .jit import address
from .load_store import load_tile
from .microkernels import filter_columns, filter_rows, finish_columns
from .rounding_bounds import NEVER, ExactResults, Sums
from .short_taps import BUFFER_VECTORS, EDGE_STRIPS, band_of_short, filter_short
from .simd import LINE_BYTES, LINE_VECTORS, VECTOR_BYTES, lanes, pointer, taps_pointer
from .sweep_builder import WORD, Dtypes, SweepSchedule, near_rows, round_up
from .sweep_loop import sweep_ahead, sweep_items
from .term_graph import Pass, TermGraph, is_long_stack, kinds
from .tile_loop import band_direct, band_of_one, band_of_two, stream_planes
from .z_pass import copy_slot, fill_slot, finish_planes

CACHE_BYTES = 1 << 19
"""Scratch memory of one thread that stays in its second-level cache."""
RING_BYTES = 24 << 20
"""Bound on the rings of filtered planes of all threads together."""
STREAM_BYTES = 8 << 20
"""Outputs from this size on are stored past the caches."""
SHORT_TAPS = 7
"""Most taps of filters whose rows are filtered where they lie, without strips."""
BAND_ROWS, PLANE_ROWS = 128, 64
"""Rows of a band in two dimensions, and in each plane of three."""
TILE_COLUMNS, PLANE_COLUMNS = 128, 544
"""Columns loaded at a time: in three dimensions whole rows, so that memory is read on and on."""
SLIDE_COLUMNS = 512
"""Output columns that the transposed buffer takes before it slides."""
RUN_COLUMNS = 64
"""Columns filtered along x at a time."""
OVERLAP_BYTES = 2 << 20
OVERLAP_TILES = 4
"""Sources and rows from this size on may be loaded a tile ahead of the work."""
SLAB_PLANES = 8
"""Planes that the z pass completes at a time."""


class TermSchedule(SweepSchedule):
    """The record of a sweep of separable terms, or of a small dense kernel, with its tables.

    Parameters
    ----------
    layout : Layout
        Roles of the axes.
    passes : list of Pass
        The correlation along each filtered axis.
    cval : float
        The constant value outside the image.
    dtypes : Dtypes
        Element types of image, result and arithmetic.
    threads : int
        Largest number of threads.
    dense : ndarray, optional
        A kernel over two or three axes; the passes then only describe the borders.
    network : TermGraph, optional
        What the terms read and which are summed; by default each term has passes of its own.
    """

    def __init__(
        self,
        layout: Layout,
        passes: list[Pass],
        cval: float,
        dtypes: Dtypes,
        threads: int,
        dense: NDArray[np.float64] | None = None,
        network: TermGraph | None = None,
    ) -> None:
        self.layout, self.dense = layout, dense
        roles = {"z": layout.z, "y": layout.y, "x": layout.x}
        self.passes = {
            name: passes[axis.filtered]
            for name, axis in roles.items()
            if axis is not None and axis.filtered >= 0
        }
        terms = len(passes[0].weights)
        self.network = network or TermGraph.of_terms(terms, set(self.passes))
        self.exact = ExactResults(self._sums, self._outside(cval), dtypes)
        super().__init__(layout, replace(dtypes, work=self.exact.work))
        if dense is None:
            self._set_weights(cval)
        else:
            self._set_dense_weights(dense, cval)
        self._set_tiles(threads)
        self._set_borders()
        self._set_exact(cval)
        self._set_scratch()
        self._set_stages()
        bands = self._get("items") * self._get("y_band") * self._get("x_chunk")
        aligned = all(place % LINE_BYTES == 0 for place in self.network.at)
        self.may_stream = aligned and self._can_stream(
            bands * self.dtypes.target.itemsize, STREAM_BYTES
        )
        loop = sweep_items if "z" in self.passes else sweep_ahead
        self.function = address(loop, (WORD,) * 3)
        self._complete(threads)

    def _taps(self, name: str) -> int:
        return self.passes[name].taps if name in self.passes else 0

    # --- correctly rounded integers ------------------------------------------------------------------

    def _sums(self, work: np.dtype[Any]) -> Sums:
        """Return the sums of this sweep as they are computed in a working dtype."""
        stacks = {name: p.weights for name, p in self.passes.items()}
        with np.errstate(invalid="ignore", over="ignore"):
            found = {name: kinds(w.astype(work)).tolist() for name, w in stacks.items()}
        long = {name: is_long_stack(w, found[name]) for name, w in stacks.items()}
        dense = None if self.dense is None else self.dense.transpose(self._dense_order())
        return Sums(stacks, found, long, self.network, dense)

    def _outside(self, cval: float) -> float | None:
        """Return the constant value outside the image, None if no output reads it."""
        return cval if any((p.border < 0).any() for p in self.passes.values()) else None

    def _set_exact(self, cval: float) -> None:
        exact, double = self.exact, np.dtype(np.float64)
        if self.dense is not None:
            self._set(outputs=1, out_terms=self._add_ranges(((0, 1),)))
        self._set(
            half_limit=self._add_table(np.full(1, exact.limit, self.dtypes.work)),
            snap=self._add_table(np.full(1, exact.snap, double)),
            exact_outside=self._add_table(np.full(1, cval, double)),
        )
        if not exact.sums_again:
            return
        weights = exact.weights(self._get("channels"))
        _, planes, rows, width = weights.shape
        self._set(
            exact_weights=self._add_table(weights),
            window_planes=planes, window_rows=rows, window_width=width,
            window_columns=exact.kernel_shape[2],
            window_left=self.passes["x"].left if "x" in self.passes else 0,
        )  # fmt: skip

    # --- taps ----------------------------------------------------------------------------------------

    def _set_dense_weights(self, dense: NDArray[np.float64], cval: float) -> None:
        table = dense.transpose(self._dense_order()).astype(self.dtypes.work)
        self._set(
            x_weights=self._add_table(table), x_taps=table.shape[-2], y_taps=table.shape[-1],
            z_taps=self._taps("z"), kernel_columns=table.size // table.shape[-1],
            y_terms=1, outside=self._add_number(cval),
        )  # fmt: skip

    def _dense_order(self) -> list[int]:
        """Return the axes of a dense kernel as (z, x, y): the taps down each column lie together."""
        z = [self.layout.z.filtered] if self.layout.z is not None else []
        return [*z, self.layout.x.filtered, self.layout.y.filtered]

    def _add_column_table(self) -> int:
        """Return the address of the offsets of the kernel's columns, for each slot that can hold the first plane."""
        slots = max(self._get("z_taps"), 1)
        slot, x = np.arange(slots), np.arange(self._get("x_taps")) * self._get("channels")
        # (first slot, plane of the kernel, column of the plane)
        planes = (slot[:, None, None] + slot[:, None]) % slots
        return self._add_table(planes * self._get("plane_step") + x)

    def _set_weights(self, cval: float) -> None:
        network = self.network
        for name in self.passes:
            weights = self.passes[name].weights
            with np.errstate(invalid="ignore", over="ignore"):
                working = weights.astype(self.dtypes.work)
            self._set(**{
                f"{name}_taps": weights.shape[1],
                f"{name}_weights": self._add_table(working),
                f"{name}_kinds": self._add_table(kinds(working)),
            })  # fmt: skip
        if "z" in self.passes:
            with np.errstate(invalid="ignore", over="ignore"):
                outside = self._outside_of_rings(cval).astype(self.dtypes.work)
            self._set(z_outside=self._add_table(outside))
        self._set(
            outside=self._add_number(cval),
            y_terms=len(self.passes["y"].weights) if "y" in self.passes else 1,
            x_from=self._add_table(np.array(network.x_from, np.int64)),
            rings=len(network.rings), ring_terms=self._add_ranges(network.rings),
            z_from=self._add_table(np.array(network.z_from, np.int64)),
            outputs=len(network.outputs), out_terms=self._add_ranges(network.outputs),
            out_at=self._add_table(np.array(network.at, np.int64)),
        )  # fmt: skip

    def _outside_of_rings(self, cval: float) -> NDArray[np.float64]:
        """Return the constant value outside the image as it stands in each ring, filtered along y and x."""
        network, outside = self.network, np.full(1, cval)
        if "y" in self.passes:
            outside = outside * self.passes["y"].weights.sum(axis=1)
        if "x" in self.passes:
            outside = outside[list(network.x_from)] * self.passes["x"].weights.sum(axis=1)
        return np.array([outside[first:last].sum() for first, last in network.rings])

    def _add_ranges(self, ranges: tuple[tuple[int, int], ...]) -> int:
        return self._add_table(np.array([(first << 16) | last for first, last in ranges], np.int64))

    # --- tiles ---------------------------------------------------------------------------------------

    def _set_tiles(self, threads: int) -> None:
        size = lanes(self.dtypes.work)
        band = self._band_rows(threads)
        self._set_halo()
        tile = self._tile_columns(band)
        flat = self._get("x_flat")
        self._set(y_band=band, x_chunk=flat, tile=tile)
        # Rows a multiple of a page apart compete for the same lines of the cache: ask for them later.
        late = self._is_crowded() and self.dense is None and not self._overlaps()
        self._set(prefetch_distance=tile if late else 2 * tile)
        if "z" in self.passes and self.dense is None:
            self._set_ring(threads)
        else:
            self._set_chunks(threads)
        # The transposed buffer of a band: as long as the second-level cache allows, at least a tile.
        column = self._get("y_band") * self.dtypes.work.itemsize * self._get("y_terms")
        slide_after = round_up(min(SLIDE_COLUMNS, flat), size)
        while slide_after > tile and slide_after * column > CACHE_BYTES:
            slide_after = round_up(slide_after // 2, size)
        bands = -(-self._get("y_size") // self._get("y_band"))
        chunks = -(-flat // self._get("x_chunk"))
        self._set(
            slide_after=max(slide_after, tile),
            y_bands=bands, x_chunks=chunks, items=bands * chunks * self._batch,
        )  # fmt: skip

    def _band_rows(self, threads: int) -> int:
        """Return the rows of a band: fewer where the image is too small for a few bands per thread."""
        step, size = self._row_step, self.layout.y.size
        rows, shares = (PLANE_ROWS, 2) if "z" in self.passes else (BAND_ROWS, 3)
        band = min(round_up(rows, step), round_up(size, step))
        while band > step and self._batch * -(-size // band) < shares * threads > shares:
            band = round_up(band // 2, step)
        return band

    @property
    def _row_step(self) -> int:
        """Rows that the micro-kernels complete together."""
        return max(lanes(self.dtypes.work), OUTPUTS)

    def _set_halo(self) -> None:
        # Whole cache lines, so that rows are loaded on whole lines where results are stored on such.
        line = lanes(self.dtypes.work) * LINE_VECTORS
        channels, taps = self._get("channels"), self._taps("x")
        left = self.passes["x"].left * channels if taps else 0
        reach = round_up(left, line)
        halo = round_up(reach - left + max(taps - 1, 0) * channels, line)
        self._set(x_reach=reach, x_phase=reach - left, halo=halo)

    def _tile_columns(self, band: int) -> int:
        """Return the columns of a tile, whose strips fit the second-level cache."""
        size, total = lanes(self.dtypes.work), self._get("halo") + self._get("x_flat")
        rings = "z" in self.passes and self.dense is None
        columns = PLANE_COLUMNS if rings else TILE_COLUMNS
        tiles = max(1, round(total / columns))
        if rings or tiles < OVERLAP_TILES:  # of equal width
            columns = -(-total // tiles)
        step = size * LINE_VECTORS
        tile = round_up(columns, step)
        column = self.dtypes.work.itemsize * (band + self._taps("y"))
        if self.dense is not None:
            column *= max(self._taps("z"), 1)
        while tile > step and tile * column > CACHE_BYTES:
            tile = round_up(tile // 2, step)
        return tile

    def _set_chunks(self, threads: int) -> None:
        """Cut rows into chunks where there are too few bands for all threads."""
        items = self._batch * -(-self._get("y_size") // self._get("y_band"))
        flat, size = self._get("x_flat"), lanes(self.dtypes.work)
        if threads > 1 and items < 2 * threads:
            wanted = -(-2 * threads // items)
            narrowest = max(4 * self._get("halo"), 16 * size)
            chunk = round_up(max(-(-flat // wanted), narrowest), size * LINE_VECTORS)
            self._set(x_chunk=min(chunk, flat))

    def _set_ring(self, threads: int) -> None:
        """Size the ring of filtered planes so that all threads' rings stay within the bound."""
        item, size, step = self.dtypes.work.itemsize, lanes(self.dtypes.work), self._row_step
        reach, band = self._taps("z") - 1, self._get("y_band")
        slab = min(round_up(SLAB_PLANES, OUTPUTS), round_up(self._get("z_size"), OUTPUTS))
        line, chunk = size * LINE_VECTORS, round_up(self._get("x_flat"), size)
        band = near_rows(band, step, (slab + reach) * chunk * item, self._get("rings"))
        while (slab + reach) * band * chunk * item * self._get("rings") * threads > RING_BYTES:
            if slab > max(OUTPUTS, reach // 4):
                slab = round_up(slab // 2, OUTPUTS)
            elif band > step:
                band = round_up(band // 2, step)
            elif slab > OUTPUTS:
                slab = round_up(slab // 2, OUTPUTS)
            elif chunk > line:
                chunk = round_up(chunk // 2, line)
            else:
                break
        # An odd number of cache lines apart, columns do not compete for the same sets of the cache.
        slots = slab + reach | 1
        strip = slots * VECTOR_BYTES
        row = chunk // size * strip
        self._set(
            y_band=band, z_slab=slab, x_chunk=chunk,
            ring_pitch=slots * item, ring_strip=strip, ring_row=row, ring_term=row * band,
        )  # fmt: skip

    def _set_borders(self) -> None:
        for name in ("y", "z"):
            if name in self.passes:
                self._set(**{f"{name}_map": self._add_table(self.passes[name].border)})
        if "z" in self.passes:
            self._set(z_left=self.passes["z"].left)
        margin = self._get("halo") + 2 * lanes(self.dtypes.work) + self._get("tile")
        self._set_column_tables(self.passes.get("x"), margin)

    # --- scratch memory and stages -------------------------------------------------------------------

    def _is_transposed(self) -> bool:
        """Return whether rows are transposed to be filtered along x."""
        return "x" in self.passes and self.dense is None

    @cached_property
    def _is_short(self) -> bool:
        """Return whether taps are so few that rows are filtered where they lie; see :mod:`.short_taps`."""
        if set(self.passes) != {"x", "y"} or self.dense is not None:
            return False
        y, x, size = self.passes["y"], self.passes["x"], lanes(self.dtypes.work)
        reach = max(x.left, x.taps - 1 - x.left) * self._get("channels")
        rows, left = self._get("y_size"), y.left
        return (
            self.exact.limit == NEVER
            and len(self.network.outputs) == 1
            and self._get("y_terms") == 1 == len(x.weights)
            and max(x.taps, y.taps) <= SHORT_TAPS
            and reach <= size
            and self.dtypes.source == self.dtypes.work
            and self._get("source_dense") == 1 == self._get("target_dense")
            and self.layout.y.source % self.dtypes.work.itemsize == 0
            and self._get("x_flat") >= 8 * size
            and self._get("tile") >= EDGE_STRIPS * size
            and np.array_equal(y.border[left : left + rows], np.arange(rows))
        )

    def _is_crowded(self) -> bool:
        """Return whether rows lie a multiple of a page apart, so that few sets of the cache hold them all."""
        return self.layout.y.source % 4096 == 0

    def _overlaps(self) -> bool:
        """Return whether a tile is loaded while the one before it is filtered.

        That pays where prefetched rows do not stay in the cache, or where there is little to filter.
        """
        size = self._samples * self.dtypes.source.itemsize
        hidden = self._is_crowded() or not self._taps("y")
        long = self._get("x_chunk") >= OVERLAP_TILES * self._get("tile")
        return self._is_transposed() and hidden and long and size >= OVERLAP_BYTES

    def _set_scratch(self) -> None:
        size, item = lanes(self.dtypes.work), self.dtypes.work.itemsize
        band, tile, halo = self._get("y_band"), self._get("tile"), self._get("halo")
        # Odd numbers of rows and columns: strips and groups do not compete for the same sets of the cache.
        rows = (band + max(self._taps("y"), 1) - 1) | 1
        run = round_up(RUN_COLUMNS, self._row_step * self._get("channels"))
        width = (halo + self._get("slide_after") + run) | 1
        groups, overlap = -(-band // size), self._overlaps()
        # (strip, row, lane), or whole rows for a dense kernel, which reads unaligned vectors.
        row_step, strip_step, strips = size, rows * size, tile // size * rows * size
        if self.dense is not None:
            row_step, strip_step = ((tile + halo) // size + 1 | 1) * size, size
            plane = row_step * (rows + OUTPUTS)
            strips = plane * max(self._taps("z"), 1)
            self._set(plane_step=plane)
            self._set(column_table=self._add_column_table())
        across = self._get("y_terms") * groups * width * size if self._is_transposed() else 0
        self._set(
            groups=groups, across_width=width, run=run,
            load_row=row_step, load_strip=strip_step, overlap=overlap,
        )  # fmt: skip
        self._place_buffers({
            "at_window": 8 * self._get("window_planes") * self._get("window_rows"),
            "at_rows": 8 * (rows + 1),
            "at_next": 8 * (rows + 1),
            "at_slots": 8 * (self._get("z_slab") + self._taps("z")),
            "at_strips": strips * item,
            "at_spare": strips * item if overlap else 0,
            "at_temp": max(band, size, OUTPUTS) * size * item,
            "at_across": across * item,
            "at_buffer": BUFFER_VECTORS * OUTPUTS * size * item if self._is_short else 0,
            "at_line": run * size * item,
            "at_ring": self._get("rings") * self._get("ring_term"),
        })  # fmt: skip
        if not overlap:
            self._set(at_spare=self._get("at_strips"))

    def _set_stages(self) -> None:
        d, words = self.dtypes, (WORD,) * 16
        source, target, work = (pointer(t.name) for t in (d.source, d.target, d.work))
        last = work if "z" in self.passes else target
        y, x, z = (self._taps_type(name) for name in "yxz")
        self._set(load=address(load_tile, (WORD, source, work, *words[:4])))
        if self.exact.limit < NEVER:
            again = (WORD, source, work, pointer("float64"), *words[:6])
            self._set(sum_again=address(sum_again, again))
        if self.dense is not None:
            band = band_direct
            self._set(filter_direct=address(filter_direct, (WORD, work, work, target, *words[:10])))
        elif self._is_transposed():
            band, rows = band_of_two, (WORD, work, work, work, last, x, *words[:8])
            self._set(filter_columns=address(filter_columns, (WORD, work, work, y, *words[:12])))
            self._set(filter_rows=address(filter_rows, rows))
            if self._is_short:
                self._set(edge_band=address(band, words[:12]), y_left=self.passes["y"].left)
                filter_types = (WORD, WORD, source, work, target, y, x, *words[:5])
                self._set(filter_short=address(filter_short, filter_types))
                band = band_of_short
        else:
            band, columns = band_of_one, (WORD, work, work, last, y, *words[:11])
            self._set(finish_columns=address(finish_columns, columns))
        self._set(band=address(band, words[:12]))
        if "z" in self.passes and self.dense is not None:
            self._set(item=address(planes_direct, words[:8]))
        elif "z" in self.passes:
            planes = (WORD, work, work, target, z, *words[:9])
            self._set(
                item=address(stream_planes, words[:8]),
                fill_slot=address(fill_slot, (work, *words[:3])),
                copy_slot=address(copy_slot, (work, work, *words[:2])),
                finish_planes=address(finish_planes, planes),
            )

    def _taps_type(self, name: str) -> Any:
        """Return the type of a pointer to the taps of one axis: their kind, and whether sums are long."""
        if name not in self.passes:
            return taps_pointer(GENERAL, self.dtypes.work.name)
        weights = self.passes[name].weights
        found = set(kinds(weights.astype(self.dtypes.work)).tolist())
        long = is_long_stack(weights, found)
        kind = found.pop() if len(found) == 1 else MIXED
        return taps_pointer(kind, self.dtypes.work.name, long)
