"""From the roles of the axes to a plan: sizes of tiles, bands and buffers, tables of borders.

Every size of scratch memory is fixed here, in one place, because compiled code checks no bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.process_cache import ProcessBound

from .axis_layout import Layout
from .dense_kernels import filter_direct
from .fma_blocks import EVEN, GENERAL, MIXED, MOST_PRODUCTS, ODD, OUTPUTS, is_long
from .jit import address
from .microkernels import filter_columns, filter_rows, finish_columns, load_tile
from .numba_api import types
from .simd import VECTOR_BYTES, lanes, pointer, taps_pointer
from .sweep_params import OUTSIDE, PLAN
from .tile_loop import band_direct, band_of_one, band_of_two, sweep, sweep_planes
from .z_pass import copy_slot, fill_slot, finish_planes

CACHE_BYTES = 1 << 19
"""Scratch memory of one thread that stays in its second-level cache."""
RING_BYTES = 24 << 20
"""Bound on the rings of filtered planes of all threads together."""
STREAM_BYTES = 8 << 20
"""Outputs from this size on are stored past the caches."""
THREAD_NANOSECONDS = 15_000
"""Work that justifies one more thread."""
BAND_ROWS, PLANE_ROWS = 128, 64
"""Rows of a band in two dimensions, and in each plane of three."""
TILE_COLUMNS, PLANE_COLUMNS = 128, 544
"""Columns loaded at a time: in three dimensions whole rows, so that memory is read on and on."""
STRETCH_COLUMNS = 512
RUN_COLUMNS = 64
"""Columns before the transposed buffer slides, and filtered along x at a time."""
OVERLAP_BYTES = 2 << 20
OVERLAP_TILES = 4
"""Sources and rows from this size on may be loaded a tile ahead of the work."""
SLAB_PLANES = 8
"""Planes that the z pass completes at a time."""


_I64 = types.int64
_SOURCE, _TARGET, _SCRATCH, _STREAM, _LEAD = (
    list(PLAN.names or ()).index(n) for n in ("source", "target", "scratch", "stream", "lead")
)


@dataclass(frozen=True)
class Pass:
    """The correlation along one axis: ``weights[term, tap]``, samples to the left, and the border."""

    weights: NDArray[np.float64]
    left: int
    border: NDArray[np.int64]

    @property
    def taps(self) -> int:
        """Return the number of taps."""
        return int(self.weights.shape[1])


@dataclass(frozen=True)
class Network:
    """What the terms of each axis read, and which of them are summed, as ``(first, last)``.

    The y terms read the image, the x terms a y term each; rings sum x terms (y terms where x is not
    filtered), z terms read a ring each, and the outputs, ``at`` bytes from the first array, sum the terms of the last axis.
    """

    x_from: tuple[int, ...] = ()
    rings: tuple[tuple[int, int], ...] = ()
    z_from: tuple[int, ...] = ()
    outputs: tuple[tuple[int, int], ...] = ((0, 1),)
    at: tuple[int, ...] = (0,)

    @classmethod
    def of_terms(cls, terms: int, axes: set[str]) -> Network:
        """Return that of a sum of terms, each with passes of its own."""
        each = tuple(range(terms))
        rings = tuple((t, t + 1) for t in each) if "z" in axes else ()
        return cls(each if "y" in axes else (0,) * terms, rings, each, ((0, terms),))


def up(number: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step


def kinds(weights: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each term whether its taps mirror to themselves, to their negative, or neither."""
    result = np.full(len(weights), GENERAL, np.int64)
    for t, taps in enumerate(weights):
        if taps.size > 1 and np.array_equal(taps, taps[::-1]):
            result[t] = EVEN
        elif taps.size > 2 and np.array_equal(taps, -taps[::-1]):
            result[t] = ODD
    return result


class Schedule(ProcessBound):
    """A plan with the tables it points to, for one shape, strides and dtypes."""

    def __init__(
        self,
        layout: Layout,
        passes: list[Pass],
        cval: float,
        dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]],
        threads: int,
        dense: NDArray[np.float64] | None = None,
        network: Network | None = None,
    ) -> None:
        self.dense = dense
        self.source, self.target, self.work = dtypes
        self.layout = layout
        self.record = np.zeros((), PLAN)
        self.kept: list[NDArray[Any]] = []
        roles = {"z": layout.z, "y": layout.y, "x": layout.x}
        self.passes = {
            name: passes[axis.filtered]
            for name, axis in roles.items()
            if axis is not None and axis.filtered >= 0
        }
        terms = len(passes[0].weights)
        self.network = network or Network.of_terms(terms, set(self.passes))
        self._strides()
        self._weights(cval)
        self._tiles(threads)
        self._borders()
        self._scratch()
        self._stages()
        self.may_stream = self._aligned()
        self.function = address(sweep_planes if "z" in self.passes else sweep, (_I64,) * 3)
        self.scratch_size = int(self.record["scratch_size"])
        self.threads = self._useful_threads(threads)
        self._words = self.record.reshape(1).view(np.int64)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self.record[name] = value

    def _keep(self, table: NDArray[Any]) -> int:
        """Keep a table alive with the plan; return its address."""
        held = np.ascontiguousarray(table)
        self.kept.append(held)
        return held.ctypes.data

    def _taps(self, name: str) -> int:
        return self.passes[name].taps if name in self.passes else 0

    def _strides(self) -> None:
        z, y = self.layout.z, self.layout.y
        x, c = self.layout.x, self.layout.channels
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
        if z is not None:
            self._set(z_size=z.size, z_source=z.source, z_target=z.target)
        batch = self.layout.batch
        rows = [[a.size for a in batch], [a.source for a in batch], [a.target for a in batch]]
        self._set(batch_dims=len(batch), batch_table=self._keep(np.array(rows, np.int64)))

    def _weights(self, cval: float) -> None:
        if self.dense is not None:
            order = [self.layout.x.filtered, self.layout.y.filtered]
            table = self.dense.transpose(order).astype(self.work)
            self._set(x_weights=self._keep(table), y_taps=table.shape[1], x_taps=table.shape[0])
            self._set(y_terms=1, outside=self._keep(np.full(1, cval).astype(self.work)))
            return
        network = self.network
        beyond = np.full(1, cval)
        for name in ("y", "x", "z"):
            if name not in self.passes:
                continue
            weights = self.passes[name].weights
            with np.errstate(invalid="ignore", over="ignore"):
                if name == "x":
                    beyond = beyond[list(network.x_from)]
                if name == "z":
                    beyond = np.array([beyond[first:last].sum() for first, last in network.rings])
                    self._set(z_outside=self._keep(beyond.astype(self.work)))
                    beyond = beyond[list(network.z_from)]
                beyond = beyond * weights.sum(axis=1)
                held = weights.astype(self.work)
            self._set(**{
                f"{name}_taps": weights.shape[1],
                f"{name}_weights": self._keep(held),
                f"{name}_kinds": self._keep(kinds(held)),
            })  # fmt: skip
        self._set(
            outside=self._keep(np.full(1, cval).astype(self.work)),
            y_terms=len(self.passes["y"].weights) if "y" in self.passes else 1,
            x_from=self._keep(np.array(network.x_from, np.int64)),
            rings=len(network.rings), ring_terms=self._ranges(network.rings),
            z_from=self._keep(np.array(network.z_from, np.int64)),
            outputs=len(network.outputs), out_terms=self._ranges(network.outputs),
            out_at=self._keep(np.array(network.at, np.int64)),
        )  # fmt: skip

    def _ranges(self, ranges: tuple[tuple[int, int], ...]) -> int:
        return self._keep(np.array([(first << 16) | last for first, last in ranges], np.int64))

    def _tiles(self, threads: int) -> None:
        r, size = self.record, lanes(self.work)
        step = max(size, OUTPUTS)
        rows, columns, shares = BAND_ROWS, TILE_COLUMNS, 3
        if "z" in self.passes:
            rows, columns, shares = PLANE_ROWS, PLANE_COLUMNS, 2
        band = min(up(rows, step), up(self.layout.y.size, step))
        batch = self._batch()
        while band > step and batch * -(-self.layout.y.size // band) < shares * threads > shares:
            band = up(band // 2, step)
        x_taps, channels = self._taps("x"), int(r["channels"])
        left = self.passes["x"].left * channels if x_taps else 0
        reach = up(left, size)
        halo = up(reach - left + max(x_taps - 1, 0) * channels, size)
        flat = int(r["x_flat"])
        tiles = max(1, round((halo + flat) / columns))
        if "z" in self.passes or tiles < OVERLAP_TILES:  # of equal width
            columns = -(-(halo + flat) // tiles)
        tile = up(columns, size)
        while tile > size and tile * self.work.itemsize * (band + self._taps("y")) > CACHE_BYTES:
            tile = up(tile // 2, size)
        self._set(x_reach=reach, x_phase=reach - left, halo=halo, tile=tile)
        self._set(y_band=band, x_chunk=flat)
        # Rows a multiple of a page apart compete for the same lines of the cache: ask for them later.
        late = self._is_crowded() and self.dense is None and not self._overlaps()
        self._set(foresight=tile if late else 2 * tile)
        if "z" in self.passes:
            self._ring(threads, band, step)
        else:
            self._chunks(threads, batch, size)
        band = int(r["y_band"])
        stretch = up(min(STRETCH_COLUMNS, flat), size)
        while (
            stretch > tile and stretch * band * self.work.itemsize * int(r["y_terms"]) > CACHE_BYTES
        ):
            stretch = up(stretch // 2, size)
        bands, chunks = -(-int(r["y_size"]) // band), -(-flat // int(r["x_chunk"]))
        items = bands * chunks * batch
        self._set(stretch=max(stretch, tile), y_bands=bands, x_chunks=chunks, items=items)

    def _batch(self) -> int:
        return int(np.prod([a.size for a in self.layout.batch], dtype=np.int64))

    def _chunks(self, threads: int, batch: int, size: int) -> None:
        """Cut rows into chunks where there are too few bands for all threads."""
        r = self.record
        items = batch * -(-int(r["y_size"]) // int(r["y_band"]))
        flat = int(r["x_flat"])
        if threads > 1 and items < 2 * threads:
            wanted = -(-2 * threads // items)
            least = max(4 * int(r["halo"]), 16 * size)
            self._set(x_chunk=max(up(-(-flat // wanted), size), min(least, flat)))

    def _ring(self, threads: int, band: int, step: int) -> None:
        """Size the ring of filtered planes so that all threads' rings stay within the bound."""
        r, item, size = self.record, self.work.itemsize, lanes(self.work)
        reach, flat = self._taps("z") - 1, int(r["x_flat"])
        slab = min(up(SLAB_PLANES, OUTPUTS), up(int(r["z_size"]), OUTPUTS))
        chunk = up(flat, size)
        while (slab + reach) * band * chunk * item * int(r["rings"]) * threads > RING_BYTES:
            if slab > max(OUTPUTS, reach // 4):
                slab = up(slab // 2, OUTPUTS)
            elif band > step:
                band = up(band // 2, step)
            elif slab > OUTPUTS:
                slab = up(slab // 2, OUTPUTS)
            elif chunk > size:
                chunk = up(chunk // 2, size)
            else:
                break
        slots = (
            slab + reach | 1
        )  # an odd number of lines apart, columns do not compete for the cache
        strip = slots * VECTOR_BYTES
        row = chunk // size * strip
        self._set(
            y_band=band, z_slab=slab, x_chunk=chunk,
            ring_pitch=slots * item, ring_strip=strip, ring_row=row, ring_term=row * band,
        )  # fmt: skip

    def _borders(self) -> None:
        r = self.record
        for name in ("y", "z"):
            if name in self.passes:
                self._set(**{f"{name}_map": self._keep(self.passes[name].border)})
        if "z" in self.passes:
            self._set(z_left=self.passes["z"].left)
        margin = int(r["halo"]) + 2 * lanes(self.work) + int(r["tile"])
        left = np.arange(-int(r["x_reach"]), 0)
        right = np.arange(int(r["x_flat"]), int(r["x_flat"]) + margin)
        self._set(left_table=self._offsets(left), right_table=self._offsets(right))

    def _offsets(self, flat: NDArray[np.int64]) -> int:
        """Keep the byte offsets within a row of flat columns outside the image."""
        r = self.record
        table = np.full(flat.shape, OUTSIDE, np.int64)
        if "x" in self.passes:
            column, channel = np.divmod(flat, int(r["channels"]))
            place = column + self.passes["x"].left
            border = self.passes["x"].border
            known = (place >= 0) & (place < border.size)
            sample = np.where(known, border[np.clip(place, 0, border.size - 1)], -1)
            offset = sample * int(r["x_source"]) + channel * int(r["c_source"])
            table = np.where(sample >= 0, offset, OUTSIDE)
        return self._keep(table)

    def _turns(self) -> bool:
        """Tell whether rows are transposed to be filtered along x."""
        return "x" in self.passes and self.dense is None

    def _is_crowded(self) -> bool:
        """Tell whether rows lie a multiple of a page apart, so that few sets of the cache hold them all."""
        return self.layout.y.source % 4096 == 0

    def _overlaps(self) -> bool:
        """Tell whether a tile is loaded while the one before it is filtered.

        That pays where prefetched rows do not stay in the cache, or where there is little to filter.
        """
        r = self.record
        size = self._samples() * self.source.itemsize
        hidden = self._is_crowded() or not self._taps("y")
        long = int(r["x_chunk"]) >= OVERLAP_TILES * int(r["tile"])
        return self._turns() and hidden and long and size >= OVERLAP_BYTES

    def _scratch(self) -> None:
        r, size, item = self.record, lanes(self.work), self.work.itemsize
        band, tile = int(r["y_band"]), int(r["tile"])
        rows = (band + max(self._taps("y"), 1) - 1) | 1
        run = up(RUN_COLUMNS, max(size, OUTPUTS) * int(r["channels"]))
        width = int(r["halo"]) + int(r["stretch"]) + run
        groups = -(-band // size)
        self._set(groups=groups, across_width=width | 1, run=run)
        strips = tile // size * rows * size
        if self.dense is None:
            self._set(load_row=size, load_strip=rows * size)
        else:
            row = ((tile + int(r["halo"])) // size + 1 | 1) * size
            self._set(load_row=row, load_strip=size)
            strips = row * (rows + OUTPUTS)
        slots = int(r["z_slab"]) + self._taps("z")
        overlap = self._overlaps()
        turned = int(r["y_terms"]) * groups * (width | 1) * size if self._turns() else 0
        sizes = {
            "at_rows": 8 * (rows + 1),
            "at_next": 8 * (rows + 1),
            "at_slots": 8 * slots,
            "at_strips": strips * item,
            "at_spare": strips * item if overlap else 0,
            "at_temp": max(band, size, OUTPUTS) * size * item,
            "at_across": turned * item,
            "at_line": run * size * item,
            "at_ring": int(r["rings"]) * int(r["ring_term"]),
        }
        position = 0
        for name, wanted in sizes.items():
            self._set(**{name: position})
            position = up(position + wanted, 64)
        self._set(overlap=overlap)
        if not overlap:
            self._set(at_spare=int(r["at_strips"]))
        self._set(scratch_size=up(position, 4096) + 64)

    def _stages(self) -> None:
        source, target, work = (pointer(d.name) for d in (self.source, self.target, self.work))
        last = work if "z" in self.passes else target
        words = (_I64,) * 16
        y, x, z = (self._taps_type(name) for name in "yxz")
        self._set(load=address(load_tile, (_I64, source, work, *words[:4])))
        if self.dense is not None:
            band = band_direct
            self._set(direct=address(filter_direct, (_I64, work, work, last, *words[:9])))
        elif self._turns():
            band = band_of_two
            self._set(columns=address(filter_columns, (_I64, work, work, y, *words[:12])))
            self._set(rows=address(filter_rows, (_I64, work, work, work, last, x, *words[:8])))
        else:
            band = band_of_one
            self._set(finish=address(finish_columns, (_I64, work, work, last, y, *words[:11])))
        self._set(band=address(band, words[:12]))
        if "z" in self.passes:
            self._set(fill_slot=address(fill_slot, (work, *words[:3])))
            self._set(copy_slot=address(copy_slot, (work, work, *words[:2])))
            self._set(z_finish=address(finish_planes, (_I64, work, work, target, z, *words[:9])))

    def _taps_type(self, name: str) -> Any:
        """Return the type of a pointer to the taps of one axis: their kind, and whether sums are long."""
        if name not in self.passes:
            return taps_pointer(GENERAL, self.work.name)
        weights = self.passes[name].weights
        found = set(kinds(weights.astype(self.work)).tolist())
        taps = weights.shape[1]
        long = weights.size > max(MOST_PRODUCTS, taps) or any(is_long(taps, k) for k in found)
        kind = found.pop() if len(found) == 1 else MIXED
        return taps_pointer(kind, self.work.name, long)

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
        r = self.record
        taps = sum(p.weights.size for p in self.passes.values())
        if self.dense is not None:
            taps = self.dense.size * 2
        nanoseconds = self._samples() / lanes(self.work) * (6 + taps / 6)
        return int(min(threads, int(r["items"]), max(1, nanoseconds // THREAD_NANOSECONDS)))

    def _samples(self) -> int:
        r = self.record
        return self._batch() * int(r["y_size"]) * int(r["x_flat"]) * max(int(r["z_size"]), 1)

    def _aligned(self) -> bool:
        """Tell whether stores may bypass the caches: a large output of whole, aligned vectors."""
        r, item = self.record, self.target.itemsize
        outer = [a for a in (self.layout.z, self.layout.y, *self.layout.batch) if a is not None]
        return (
            bool(r["target_dense"])
            and lanes(self.work) * item == VECTOR_BYTES
            and int(r["items"]) * int(r["y_band"]) * int(r["x_chunk"]) * item >= STREAM_BYTES
            and all(place % VECTOR_BYTES == 0 for place in self.network.at)
            and all(a.target % VECTOR_BYTES == 0 or a.size == 1 for a in outer)
        )
