"""The record of a sweep that computes features of derivatives, and its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.compiled.axis_layout import Axis, Layout, arrange
from separable.engine.compiled.jit import address
from separable.engine.compiled.simd import LINE_VECTORS, VECTOR_BYTES, lanes, pointer
from separable.engine.compiled.sweep_builder import WORD, Dtypes, SweepSchedule, round_up
from separable.engine.compiled.sweep_loop import sweep_items
from separable.engine.compiled.term_graph import Pass, TermGraph
from separable.engine.compiled.thread_pool import run_sweep
from separable.engine.compiled.tiling import TermSchedule

from . import feature_rows, maximum_rows, row_access
from .feature_loop import (
    features_of_arrays,
    features_of_band,
    features_of_planes,
    features_of_rows,
)

__all__ = ["FeatureWork", "run_features", "run_pointwise", "run_rows"]

Array = NDArray[Any]
CHUNK_COLUMNS = 1024
"""Columns of a tile in two dimensions, so that all derivatives stay in the cache."""
BAND = 64
"""Rows of a tile."""


@dataclass(frozen=True)
class FeatureWork:
    """The pointwise part of a sweep.

    Attributes
    ----------
    row : str
        Name of the stage of `feature_rows` or `maximum_rows`.
    numbers : tuple of float
        The numbers that it reads.
    accumulate : bool
        Whether results are the larger of the feature and what the result contains.
    reduces : bool
        Whether the stage stores one number per row of a tile.
    """

    row: str
    numbers: tuple[float, ...] = (1.0,)
    accumulate: bool = False
    reduces: bool = False


class _FeatureSchedule(TermSchedule):
    """The record; results of the passes go into the tile, whose strides are those of the record's result."""

    _is_short = False

    def __init__(
        self,
        layout: Layout,
        passes: list[Pass],
        cval: float,
        dtypes: Dtypes,
        threads: int,
        network: TermGraph,
        work: FeatureWork,
    ) -> None:
        self._feature_work = work
        super().__init__(layout, passes, cval, dtypes, threads, None, network)
        item = features_of_planes if "z" in self.passes else features_of_band
        self._set(item=address(item, (WORD,) * 8))
        self.function = address(sweep_items, (WORD,) * 3)

    def _can_stream(self, result_bytes: int, limit: int) -> bool:
        return False  # the tile stays in the cache

    def _band_rows(self, threads: int) -> int:
        return min(super()._band_rows(threads), round_up(BAND, self._row_step))

    def _set_chunks(self, threads: int) -> None:
        super()._set_chunks(threads)
        step = lanes(self.dtypes.work) * LINE_VECTORS
        narrowest = round_up(max(CHUNK_COLUMNS, 4 * self._get("halo")), step)
        self._set(x_chunk=min(self._get("x_chunk"), narrowest))

    def _place_buffers(self, sizes: dict[str, int]) -> None:
        """Add the tile, and set the strides of the result to its own."""
        item, size = self.dtypes.work.itemsize, lanes(self.dtypes.work)
        # An odd number of cache lines, so that rows do not compete for the same sets of the cache.
        lines = round_up(self._get("x_chunk"), size * LINE_VECTORS) // (size * LINE_VECTORS) | 1
        row = lines * size * LINE_VECTORS * item
        plane = row * self._get("y_band")
        planes = self._get("z_slab") if "z" in self.passes else 1
        outputs = self._get("outputs")
        at = np.arange(outputs, dtype=np.int64) * planes * plane
        self._set(y_target=row, z_target=plane, out_at=self._add_table(at))
        self._tile_step = planes * plane
        super()._place_buffers({**sizes, "at_tile": outputs * planes * plane})

    def set_features(self, features: Array) -> None:
        """Set the strides of the result ``features[feature][z][y][x]``, or of its maxima."""
        count = self._get("outputs")
        table = _table(self._feature_work, self.dtypes.work, features, self._tile_step, count)
        table[row_access.NUMBERS] = self._add_table(
            np.array(self._feature_work.numbers, self.dtypes.work)
        )
        self._set(feature_data=self._add_table(table))

    @property
    def chunks(self) -> int:
        """Number of chunks of a row."""
        return self._get("x_chunks")


class _ArraySchedule(SweepSchedule):
    """The record of the features of derivatives that are arrays."""

    def __init__(self, arrays: Array, features: Array, work: FeatureWork, threads: int) -> None:
        count, size = arrays.shape
        item = arrays.itemsize
        one, x = Axis(1, 0, 0), Axis(size, item, item)
        layout = Layout(None, one, x, one)
        super().__init__(layout, Dtypes(arrays.dtype, arrays.dtype, arrays.dtype))
        chunks = -(-size // CHUNK_COLUMNS)
        self._set(
            y_band=1, y_bands=1, x_chunk=CHUNK_COLUMNS, x_chunks=chunks, items=chunks,
            item=address(features_of_arrays, (WORD,) * 8),
        )  # fmt: skip
        self._place_buffers({"at_temp": 2 * VECTOR_BYTES})
        table = _table(work, arrays.dtype, features, arrays.strides[0], count)
        table[row_access.NUMBERS] = self._add_table(np.array(work.numbers, arrays.dtype))
        self._set(feature_data=self._add_table(table))
        self.may_stream, self.function = False, address(sweep_items, (WORD,) * 3)
        self._complete(threads)


class _RowSchedule(SweepSchedule):
    """The record of the features of derivatives that are arrays of planes."""

    def __init__(self, arrays: Array, features: Array, work: FeatureWork, threads: int) -> None:
        count, planes, rows, columns = arrays.shape
        item = arrays.itemsize
        y = Axis(planes * rows, arrays.strides[2], features.strides[2])
        layout = Layout(None, y, Axis(columns, item, item), Axis(1, 0, 0))
        super().__init__(layout, Dtypes(arrays.dtype, arrays.dtype, arrays.dtype))
        bands = -(-planes * rows // BAND)
        self._set(
            y_band=BAND, y_bands=bands, x_chunk=columns, x_chunks=1, items=bands,
            z_source=arrays.strides[1], item=address(features_of_rows, (WORD,) * 8),
        )  # fmt: skip
        self._place_buffers({"at_temp": 2 * VECTOR_BYTES})
        table = _table(work, arrays.dtype, features, arrays.strides[0], count)
        table[row_access.NUMBERS] = self._add_table(np.array(work.numbers, arrays.dtype))
        table[row_access.ROWS] = rows
        self._set(feature_data=self._add_table(table))
        self.may_stream, self.function = False, address(sweep_items, (WORD,) * 3)
        self._complete(threads)


def run_rows(arrays: Array, out: Array, work: FeatureWork, threads: int) -> Array:
    """Compute features of derivatives that are arrays of planes, of any strides but along the rows.

    Parameters
    ----------
    arrays : ndarray, shape (derivatives, planes, rows, columns)
        Derivatives, behind which a whole vector can be read.
    out : ndarray, shape (features, planes, rows, columns)
        Result, of the same dtype.
    work : FeatureWork
    threads : int

    Returns
    -------
    ndarray
        `out`.
    """
    run_sweep(_RowSchedule(arrays, out, work, threads), arrays, out, threads)
    return out


def _table(
    work: FeatureWork, dtype: np.dtype[Any], features: Array, tile_step: int, count: int
) -> NDArray[np.int64]:
    """Return the table of a sweep without the address of its numbers."""
    strides = features.strides
    table = np.zeros(row_access.TABLE_WORDS, np.int64)
    stages = maximum_rows if hasattr(maximum_rows, work.row) else feature_rows
    stage = getattr(stages, work.row)
    table[row_access.ROW] = address(stage, (WORD, WORD, pointer(dtype.name), WORD, WORD, WORD))
    table[row_access.TILE_STEP] = tile_step
    table[row_access.FEATURE_STEP] = strides[0]
    table[row_access.PLANE_STEP] = strides[1] if features.ndim == 4 else 0
    table[row_access.ROW_STEP] = strides[-2] if features.ndim > 2 else 0
    table[row_access.COLUMN_STEP] = 0 if work.reduces else strides[-1]
    table[row_access.CHUNK_STEP] = strides[-1] if work.reduces else 0
    table[row_access.ACCUMULATE] = work.accumulate
    table[row_access.COUNT] = count
    return table


def run_pointwise(arrays: Array, out: Array | None, work: FeatureWork, threads: int) -> Array:
    """Compute features of derivatives that are arrays.

    Parameters
    ----------
    arrays : ndarray, shape (derivatives, samples)
        Derivatives, behind which a whole vector can be read.
    out : ndarray, shape (features, samples)
        Result, of the same dtype; None if the work reduces.
    work : FeatureWork
    threads : int

    Returns
    -------
    ndarray
        `out`, or an array of maxima.
    """
    if out is None:
        out = np.zeros((1, -(-arrays.shape[1] // CHUNK_COLUMNS)), arrays.dtype)
    run_sweep(_ArraySchedule(arrays, out, work, threads), arrays, out, threads)
    return out


def run_features(
    image: Array,
    out: Array | None,
    passes: Sequence[Pass],
    network: TermGraph,
    cval: float,
    work: FeatureWork,
    dtype: np.dtype[Any],
    threads: int,
) -> Array:
    """Compute features of the derivatives of a C-contiguous image of two or three axes.

    Parameters
    ----------
    image : ndarray
        Image of a dtype that the engine knows.
    out : ndarray, shape (features, *image.shape)
        Result, of the working dtype; None if the work reduces.
    passes, network
        The passes along each axis and which of them are summed; the outputs are the derivatives.
    cval : float
        The constant value outside the image.
    work : FeatureWork
        The features of the derivatives.
    dtype : dtype
        The working dtype, float32 or float64.
    threads : int
        Largest number of threads.

    Returns
    -------
    ndarray
        `out`, or an array of maxima, one per row of each tile.
    """
    strides = tuple(dtype.itemsize * int(np.prod(image.shape[d + 1 :])) for d in range(image.ndim))
    layout = arrange(image.shape, image.strides, strides, tuple(range(image.ndim)))
    dtypes = Dtypes(image.dtype, dtype, dtype)
    schedule = _FeatureSchedule(layout, list(passes), cval, dtypes, threads, network, work)
    if out is None:
        out = np.zeros((1, *image.shape[:-1], schedule.chunks), dtype)
    schedule.set_features(out)
    run_sweep(schedule, image, out, threads)
    return out
