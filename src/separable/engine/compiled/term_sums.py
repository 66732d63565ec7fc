"""Sums of separable correlations of NumPy arrays in fused, threaded sweeps.

The result is the sum over terms of the successive correlations along the axes,

    out[i] = round(sum_t sum_j taps[t][0][j0] * taps[t][1][j1] * ... * x[i + j - left])

where samples outside the image come from the positions in the border maps.  :mod:`.tile_loop` describes the tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.process_cache import ProcessCache

from .axis_layout import Layout, arrange
from .prepared_filter import PreparedFilter, check_border
from .rounding_bounds import NEVER
from .row_tiling import RowSchedule
from .sweep_builder import Dtypes
from .term_graph import Pass
from .thread_pool import run_sweep
from .tiling import TermSchedule

Taps = Sequence[Sequence[ArrayLike]]
MOST_AXES = 3
"""A sweep filters along one to three axes; more are filtered in several sweeps."""


class Correlation(PreparedFilter):
    """A sum of separable correlations for one shape, to be run again and again.

    Parameters
    ----------
    terms : sequence of sequence of array_like
        For each term one sequence of correlation taps per filtered axis.  On one axis all terms have equally
        many taps.
    axes : sequence of int
        The filtered axes, ascending.
    lefts : sequence of int
        For each filtered axis how many samples to the left of the output the first tap lies.
    borders : sequence of array_like of int
        For each filtered axis of size ``n`` the sample at each of the ``n + taps - 1`` extended positions, the
        first being ``-left``; -1 is the constant value.
    cval : float
        The constant value outside the image.
    work : dtype
        float32 or float64: the dtype of intermediates and sums.
    shape : tuple of int
        Shape of image and result.

    Raises
    ------
    ValueError
        If an axis, a border map or a `left` does not fit.
    TypeError
        If `work` is not supported.

    Examples
    --------
    >>> image, out = np.eye(3, dtype=np.float32), np.empty((3, 3), np.float32)
    >>> term, border = [[1, 1, 1], [1, 1, 1]], [-1, 0, 1, 2, -1]
    >>> box = Correlation([term], (0, 1), (1, 1), [border, border], 0.0, "float32", image.shape)
    >>> box(image, out)
    array([[2., 2., 1.],
           [2., 3., 2.],
           [1., 2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        terms: Taps,
        axes: Sequence[int],
        lefts: Sequence[int],
        borders: Sequence[ArrayLike],
        cval: float,
        work: Any,
        shape: tuple[int, ...],
    ) -> None:
        super().__init__(shape, cval, work)
        self.axes = tuple(int(a) for a in axes)
        if list(self.axes) != sorted(set(self.axes) & set(range(len(shape)))) or not self.axes:
            raise ValueError(f"`axes` must ascend within the {len(shape)} axes; got {self.axes}")
        self.passes = _passes(self.shape, self.axes, terms, lefts, borders)
        self.compiled_throughout = len(self.axes) <= MOST_AXES

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Filter ``image`` into ``out``; see :class:`.PreparedFilter`."""
        if self.is_slab and len(self.axes) > MOST_AXES:
            self._check(image, out)
            self._compose(image, out, threads)
            return out
        return super().__call__(image, out, threads)

    def _run(
        self, prepared: TermSchedule, image: NDArray[Any], out: NDArray[Any], threads: int
    ) -> None:
        run_sweep(prepared, image, out, threads)

    def _prepare(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> TermSchedule:
        layout = self._layout(image, out, self.axes)
        dtypes = Dtypes(image.dtype, out.dtype, self.work)
        arguments = (layout, self.passes, self.cval, dtypes, threads)
        if RowSchedule.suits(layout, self.passes, dtypes):
            rows = RowSchedule(*arguments)
            if rows.exact.limit == NEVER:  # whole rows have no stage that sums results again
                return rows
        return TermSchedule(*arguments)

    # Slabs: in place, and where more axes are filtered than one sweep can.

    def border_map(self, axis: int) -> NDArray[np.int64] | None:
        """Return the border map of a filtered axis, None for another one."""
        return self.passes[self.axes.index(axis)].border if axis in self.axes else None

    def reach(self, axis: int, image: NDArray[Any], out: NDArray[Any]) -> int | None:
        """Return how many more samples than outputs a slab reads along an axis; None if it cannot be cut."""
        if axis not in self.axes:
            return 0
        first = self.axes[-MOST_AXES:]
        if axis not in first:
            return None
        x = self._layout(image, out, first).x
        return (
            None if x.filtered == first.index(axis) else self.passes[self.axes.index(axis)].taps - 1
        )

    def restricted(self, axis: int, start: int, stop: int) -> Correlation:
        """Return the filter of the outputs ``start`` to ``stop`` along an axis, of the whole image."""
        part: Correlation = super().restricted(axis, start, stop)
        if axis in self.axes:
            number = self.axes.index(axis)
            p = self.passes[number]
            border = p.border[start : stop + p.taps - 1]
            part.passes = [
                *self.passes[:number],
                replace(p, border=border),
                *self.passes[number + 1 :],
            ]
        return part

    def _layout(self, image: NDArray[Any], out: NDArray[Any], axes: tuple[int, ...]) -> Layout:
        return arrange(self.shape, image.strides, out.strides, axes, self.inner_run)

    def _uses_slabs(self, image: NDArray[Any], out: NDArray[Any]) -> bool:
        if self.is_slab:
            return False
        return len(self.axes) > MOST_AXES or super()._uses_slabs(image, out)

    def _slab_arrays(self, out: NDArray[Any]) -> tuple[int, int]:
        """Return the bytes of a number of a slab's intermediate results, and how many of these there are."""
        if len(self.axes) <= MOST_AXES:
            return super()._slab_arrays(out)
        terms = len(self.passes[0].weights)
        return self.work.itemsize, 1 if terms == 1 and len(self.axes) <= 2 * MOST_AXES else 3

    def _sweeps(self, term: int) -> list[Correlation]:
        """Return the sweeps of one term along more axes than one can: the inner axes first."""
        found, cval, shape = [], self.cval, self.source_shape
        for stop in range(len(self.axes), 0, -MOST_AXES):
            part = slice(max(0, stop - MOST_AXES), stop)
            sweep = copy(self)
            sweep._schedules = ProcessCache(1)
            sweep.axes, sweep.cval, sweep.source_shape = self.axes[part], cval, shape
            sweep.is_slab = True
            sweep.passes = [
                replace(p, weights=p.weights[term : term + 1]) for p in self.passes[part]
            ]
            found.append(sweep)
            shape = self.shape
            cval *= float(np.prod([p.weights.sum() for p in sweep.passes]))
        return found

    def _compose(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> None:
        """Filter more axes than one sweep can, through intermediate arrays."""
        terms = len(self.passes[0].weights)
        total = np.zeros(self.shape, self.work) if terms > 1 else out
        buffers: list[NDArray[Any]] = []
        for t in range(terms):
            sweeps, step = self._sweeps(t), image
            for number, sweep in enumerate(sweeps):
                last = number == len(sweeps) - 1 and terms == 1
                if not last and number == len(buffers):
                    buffers.append(np.empty(self.shape, self.work))
                step = sweep(step, out if last else buffers[number], threads)
            if terms > 1:
                total += step
        if terms > 1:
            self._store(total, out, threads)

    def _store(self, total: NDArray[Any], out: NDArray[Any], threads: int) -> None:
        """Round and store a sum of terms."""
        size = self.shape[-1]
        last = (len(self.shape) - 1,)
        copied = [np.arange(size)]
        Correlation([[[1.0]]], last, (0,), copied, 0.0, self.work, self.shape)(total, out, threads)


class DenseCorrelation(Correlation):
    """A direct correlation with a small kernel over two or three axes that does not separate.

    The arguments are those of :class:`Correlation`, but `kernel` is an array with the filtered axes in
    ascending order.  One output costs as many multiplications as the kernel has entries.
    """

    def __init__(
        self,
        kernel: ArrayLike,
        axes: Sequence[int],
        lefts: Sequence[int],
        borders: Sequence[ArrayLike],
        cval: float,
        work: Any,
        shape: tuple[int, ...],
    ) -> None:
        self.kernel = np.array(kernel, np.float64)
        if self.kernel.ndim not in (2, 3) or len(axes) != self.kernel.ndim:
            raise ValueError(
                f"`kernel` must have two or three axes; got {self.kernel.ndim} for {axes}"
            )
        ones = [[np.ones(n) for n in self.kernel.shape]]
        super().__init__(ones, axes, lefts, borders, cval, work, shape)

    def _prepare(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> TermSchedule:
        layout = self._layout(image, out, self.axes)
        dtypes = Dtypes(image.dtype, out.dtype, self.work)
        return TermSchedule(layout, self.passes, self.cval, dtypes, threads, self.kernel)

    def _layout(self, image: NDArray[Any], out: NDArray[Any], axes: tuple[int, ...]) -> Layout:
        run_of_none = int(np.prod(self.shape)) + 1
        return arrange(self.shape, image.strides, out.strides, axes, run_of_none)


def _passes(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    terms: Taps,
    lefts: Sequence[int],
    borders: Sequence[ArrayLike],
) -> list[Pass]:
    """Check the description of each axis and gather it."""
    if not len(axes) == len(lefts) == len(borders) or any(len(t) != len(axes) for t in terms):
        raise ValueError(f"`terms`, `lefts` and `borders` must describe {len(axes)} axes")
    if not 1 <= len(terms) < 1 << 15:
        raise ValueError(f"`terms` must hold 1 to 32767 terms; got {len(terms)}")
    result = []
    for number, (axis, left, border) in enumerate(zip(axes, lefts, borders, strict=True)):
        counts = {np.size(term[number]) for term in terms}
        if len(counts) != 1 or counts == {0}:
            raise ValueError(f"`terms` need as many taps each on axis {axis}; got {sorted(counts)}")
        weights = np.array([np.ravel(term[number]) for term in terms], np.float64)
        places = check_border(shape[axis], axis, weights.shape[1], left, border)
        result.append(Pass(weights, int(left), places))
    if len(axes) == 1:
        only = result[0]
        result = [Pass(only.weights.sum(axis=0, keepdims=True), only.left, only.border)]
    return result
