"""The builder of a sweep's record: what sums of terms and whole-line filters have in common.

A :class:`SweepSchedule` fills one record of :mod:`.sweep_params` and keeps the tables alive to which it
points.  Its subclasses, :class:`.tiling.TermSchedule`, :class:`.row_tiling.RowSchedule` and :class:`.line_tiling.LineSchedule`,
choose the sizes of tiles and the stages.

Every size of scratch memory is fixed in these four modules because compiled code checks no bounds.  Sizes of
tiles and bands change the time, never the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from separable.process_cache import ProcessBound

from .axis_layout import Axis, Layout
from .numba_api import types
from .processor_speed import primitives
from .simd import LINE_BYTES, VECTOR_BYTES, lanes
from .sweep_params import ITEM_WORDS, OUTSIDE, SWEEP

WORD = types.int64
SCRATCH_ALIGNMENT = 64
"""Each buffer begins on a cache line of its own."""
NEAR_BYTES = 3 << 20
"""Bytes of the rings of a thread, if there are several."""


@dataclass(frozen=True)
class Dtypes:
    """The element types of a sweep: of the image, of the result and of all arithmetic."""

    source: np.dtype[Any]
    target: np.dtype[Any]
    work: np.dtype[Any]


class AxisFilter(Protocol):
    """Description of a filter along one axis, as far as borders need it."""

    @property
    def left(self) -> int:
        """Number of samples to the left of the output."""

    @property
    def border(self) -> NDArray[np.int64]:
        """The sample at each extended position, the first at ``-left``; -1 is the constant value."""


def round_up(number: int, step: int) -> int:
    """Return the smallest multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step


def near_rows(band: int, step: int, row_bytes: int, rings: int) -> int:
    """Return the rows of a band whose rings stay near the second-level cache; one ring keeps its rows.

    A bank of six derivatives has six rings of filtered planes. Larger bands load fewer rows twice, but read the rings
    from memory that is further away.
    """
    while rings > 1 and band > step and band * row_bytes * rings > NEAR_BYTES:
        band = round_up(band // 2, step)
    return band


class SweepSchedule(ProcessBound):
    """The record of one sweep and its tables, for one shape, strides and dtypes.

    Parameters
    ----------
    layout : Layout
        Roles of the axes.
    dtypes : Dtypes
        Element types of image, result and arithmetic.

    Attributes
    ----------
    record : ndarray
        The fields of :mod:`.sweep_params`. Those that differ from run to run, the addresses of the arrays and of
        scratch memory, are set in a copy.
    address : int
        Address of the record.
    function : int
        Address of the compiled loop over all work items.
    scratch_size : int
        Bytes of scratch memory of one thread.
    threads : int
        Number of threads that there are work items for.
    may_stream : bool
        Whether results may be stored past the caches.
    """

    address: int
    function: int
    may_stream: bool
    scratch_size: int
    threads: int

    def __init__(self, layout: Layout, dtypes: Dtypes) -> None:
        self.layout, self.dtypes = layout, dtypes
        primitives()  # measured once on each computer, for the rates of plans
        self.record = np.zeros((), SWEEP)
        self._tables: list[NDArray[Any]] = []
        self._set_axes()

    # --- fields and tables ---------------------------------------------------------------------------

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self.record[name] = value

    def _get(self, name: str) -> int:
        return int(self.record[name])

    def _add_table(self, table: NDArray[Any]) -> int:
        """Keep a table alive with the record; return its address."""
        contiguous = np.ascontiguousarray(table)
        self._tables.append(contiguous)
        return contiguous.ctypes.data

    def _add_number(self, value: float) -> int:
        """Keep one number in the working dtype; return its address."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._add_table(np.full(1, value).astype(self.dtypes.work))

    # --- axes ----------------------------------------------------------------------------------------

    def _set_axes(self) -> None:
        z, y = self.layout.z, self.layout.y
        x, c = self.layout.x, self.layout.channels
        source, target, work = (
            d.itemsize for d in (self.dtypes.source, self.dtypes.target, self.dtypes.work)
        )
        self._set(
            source_item=source, target_item=target, work_item=work,
            lanes=lanes(self.dtypes.work), channels=c.size, x_flat=x.size * c.size,
            y_size=y.size, y_source=y.source, y_target=y.target,
            x_source=x.source, x_target=x.target, c_source=c.source, c_target=c.target,
            source_dense=is_dense(source, x, c, x.source, c.source),
            target_dense=is_dense(target, x, c, x.target, c.target),
        )  # fmt: skip
        if z is not None:
            self._set(z_size=z.size, z_source=z.source, z_target=z.target)
        batch = self.layout.batch
        # (size, source stride, target stride) x axis: how a work item's number becomes an address.
        rows = [[a.size for a in batch], [a.source for a in batch], [a.target for a in batch]]
        self._set(batch_dims=len(batch), batch_table=self._add_table(np.array(rows, np.int64)))

    @property
    def _batch(self) -> int:
        """Number of batch elements."""
        return math.prod(a.size for a in self.layout.batch)

    @property
    def _samples(self) -> int:
        """Number of samples of the image."""
        planes = max(self._get("z_size"), 1)
        return self._batch * planes * self._get("y_size") * self._get("x_flat")

    # --- borders -------------------------------------------------------------------------------------

    def _set_column_tables(self, along_x: AxisFilter | None, margin: int) -> None:
        """Tabulate where the flat columns outside a row lie: ``x_reach`` on the left, ``margin`` on the right."""
        flat = self._get("x_flat")
        left, right = np.arange(-self._get("x_reach"), 0), np.arange(flat, flat + margin)
        self._set(
            left_table=self._add_table(self._offsets(along_x, left)),
            right_table=self._add_table(self._offsets(along_x, right)),
        )

    def _offsets(self, along_x: AxisFilter | None, flat: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return byte offsets within a row of flat columns outside the image; `OUTSIDE` for the constant."""
        if along_x is None:
            return np.full(flat.shape, OUTSIDE, np.int64)
        column, channel = np.divmod(flat, self._get("channels"))
        place = column + along_x.left
        border = along_x.border
        known = (place >= 0) & (place < border.size)
        sample = np.where(known, border[np.clip(place, 0, border.size - 1)], -1)
        offset = sample * self._get("x_source") + channel * self._get("c_source")
        return np.where(sample >= 0, offset, OUTSIDE)

    # --- scratch memory ------------------------------------------------------------------------------

    def _place_buffers(self, sizes: dict[str, int]) -> None:
        """Set the offset of each buffer in a thread's scratch memory, and the size of that memory."""
        position = 0
        for name, size in {"at_item": 8 * ITEM_WORDS, **sizes}.items():
            self._set(**{name: position})
            position = round_up(position + size, SCRATCH_ALIGNMENT)
        # Scratch memories of threads are not a multiple of a page apart: they share no cache sets.
        self._set(scratch_size=round_up(position, 4096) + SCRATCH_ALIGNMENT)

    # --- runs ----------------------------------------------------------------------------------------

    def _complete(self, threads: int) -> None:
        """Derive what a run needs once all fields are set."""
        self.threads = max(1, min(threads, self._get("items")))
        self.scratch_size = self._get("scratch_size")
        self._set(stream=self.may_stream)
        self.address = self.record.ctypes.data

    def _can_stream(self, result_bytes: int, limit: int) -> bool:
        """Return whether stores may bypass the caches: a large output whose rows are whole, aligned cache lines."""
        outer = [a for a in (self.layout.z, self.layout.y, *self.layout.batch) if a is not None]
        return (
            bool(self._get("target_dense"))
            and lanes(self.dtypes.work) * self.dtypes.target.itemsize == VECTOR_BYTES
            and result_bytes >= limit
            and all(a.target % LINE_BYTES == 0 or a.size == 1 for a in outer)
        )


def is_dense(item: int, x: Axis, c: Axis, x_stride: int, c_stride: int) -> bool:
    """Return whether flat columns are neighbours in memory."""
    return (c.size == 1 or c_stride == item) and (x.size == 1 or x_stride == item * c.size)
