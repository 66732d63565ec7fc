"""Box filters whose cost does not depend on the width of the box.

Along each axis the result is ``out[i] = scale * sum_{j < width} x[i + j - left]``.  A line is cut into blocks of the
window's length.  Every window is the end of one block and the beginning of the next, so that two running sums that
start anew in every block give all windows (van Herk, 1992, doi:10.1016/0167-8655(92)90069-C): three additions per
output.  Nothing is ever subtracted: floats are as accurate as if each window were summed, sums of integers are exact, and
a sample outside a window cannot spoil it.

A running sum is the sum of the last few samples plus the sum of all groups of a few samples before them, which is kept
with its rounding error (W. Kahan, 1965, doi:10.1145/363707.363723): the error does not grow with the window.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .axis_layout import arrange
from .jit import inline, stage
from .line_tiling import LineFilter, LineSchedule
from .prepared_filter import PreparedFilter, check_border
from .simd import offset_pointer
from .sweep_builder import Dtypes
from .thread_pool import run_sweep
from .vector_blocks import load_vectors, minus, plus, store_block, zero_vectors

GROUP = 16
"""Samples that are summed on their own."""
MOST_FUSED_TAPS = 384
"""Wider windows along the outer of two axes get a sweep of their own."""


@inline
def _sum_short_windows(line, line_step, step, n, taps, count):
    """Do as :func:`_sum_windows`, with the same roundings, for windows of at most one group."""
    # x[begin + m] = (x[begin + m] + ... + x[begin + taps - 1]) + (x[begin + taps] + ... + x[begin + taps + m - 1])
    begin = 0
    while begin < n:
        block = offset_pointer(line, begin * step)
        inside = min(taps, n - begin)
        # Backwards through the block: the sums from each position to its end; only `inside` of them are outputs.
        total = zero_vectors(line, count)
        for m in range(taps - 1, inside - 1, -1):
            total = plus(total, load_vectors(offset_pointer(block, m * step), line_step, count))
        for m in range(inside - 1, -1, -1):
            here = offset_pointer(block, m * step)
            total = plus(total, load_vectors(here, line_step, count))
            store_block(here, line_step, total)
        # Forwards through the next one: the sums from its beginning, one sample behind.
        total = zero_vectors(line, count)
        following = offset_pointer(block, taps * step)
        for m in range(1, inside):
            here = offset_pointer(block, m * step)
            newest = offset_pointer(following, (m - 1) * step)
            total = plus(total, load_vectors(newest, line_step, count))
            store_block(here, line_step, plus(load_vectors(here, line_step, count), total))
        begin += taps


@inline
def _sum_windows(line, line_step, step, n, taps, count):
    """Replace the first ``n`` positions of ``count`` lines by the sums of the windows they begin.

    Lines lie ``line_step`` elements apart, positions of a line ``step``; each position is a vector.
    """
    # As for short windows, but a running sum is `before` + `total`: groups of GROUP samples are summed on their
    # own, and `before` is the sum of all complete groups with its rounding error in `compensation`:
    #   addend = total - compensation;  rounded = before + addend;  compensation = (rounded - before) - addend
    begin = 0
    while begin < n:
        block = offset_pointer(line, begin * step)
        inside = min(taps, n - begin)
        # Backwards through the block: the sums from each position to its end.
        before, compensation = zero_vectors(line, count), zero_vectors(line, count)
        for stop in range(taps, 0, -GROUP):
            total = zero_vectors(line, count)
            for m in range(stop - 1, max(stop - GROUP, 0) - 1, -1):
                here = offset_pointer(block, m * step)
                total = plus(total, load_vectors(here, line_step, count))
                if m < inside:
                    store_block(here, line_step, plus(before, total))
            addend = minus(total, compensation)
            rounded = plus(before, addend)
            compensation = minus(minus(rounded, before), addend)
            before = rounded
        # Forwards through the next one: the sums from its beginning.
        before, compensation = zero_vectors(line, count), zero_vectors(line, count)
        following = offset_pointer(block, taps * step)
        for start in range(1, inside, GROUP):
            total = zero_vectors(line, count)
            for m in range(start, min(start + GROUP, inside)):
                here = offset_pointer(block, m * step)
                newest = offset_pointer(following, (m - 1) * step)
                total = plus(total, load_vectors(newest, line_step, count))
                window = plus(load_vectors(here, line_step, count), plus(before, total))
                store_block(here, line_step, window)
            addend = minus(total, compensation)
            rounded = plus(before, addend)
            compensation = minus(minus(rounded, before), addend)
            before = rounded
        begin += taps


@stage
def sum_lines(lines, forward, line_step, step, count, channels, n, taps, data):
    """Sum windows along ``count`` times ``channels`` lines of ``n`` outputs, four lines at once.

    The signature is that of every line filter, see :class:`.line_tiling.LineFilter`.
    """
    # Additions of one line wait for each other; those of four lines do not.
    done = 0
    while done < count:
        together = 4 if done + 4 <= count else 1
        for c in range(channels):
            line = offset_pointer(lines, done * line_step + c * step)
            if taps <= GROUP and together == 4:  # the same sums, faster
                _sum_short_windows(line, line_step, channels * step, n, taps, 4)
            elif together == 4:
                _sum_windows(line, line_step, channels * step, n, taps, 4)
            else:
                _sum_windows(line, line_step, channels * step, n, taps, 1)
        done += together


def box_lines(
    shape: tuple[int, ...],
    axes: Sequence[int],
    widths: Sequence[int],
    lefts: Sequence[int],
    borders: Sequence[ArrayLike],
    cval: float = 0.0,
    scales: Sequence[float] | None = None,
    work: Any = np.float32,
) -> Lines:
    """Return a box filter along some axes for one shape: each output is a scaled sum over a window.

    Parameters
    ----------
    shape : tuple of int
        Shape of image and result.
    axes : sequence of int
        The filtered axes, all different, >= 0.
    widths, lefts : sequence of int
        For each of them the samples in a window, and how many of these lie left of the output.
    borders : sequence of array_like of int
        For each axis of size ``n`` the sample at each of the ``n + width - 1`` extended positions,
        the first being ``-left``; -1 is the constant value.
    cval : float
        The constant value outside the image.
    scales : sequence of float, optional
        Factors of the sums along each axis (1); their product is applied once, at the end.
    work : dtype
        float32 or float64, of all sums.  Sums of integers are exact while they fit it.

    Raises
    ------
    ValueError
        If an axis, a border map or a `left` does not fit.
    TypeError
        If `work` is not supported.

    Examples
    --------
    >>> image, out = np.arange(5, dtype=np.float32), np.empty(5, np.float32)
    >>> box_lines(image.shape, [0], [3], [1], [[-1, 0, 1, 2, 3, 4, -1]])(image, out)
    array([1., 3., 6., 9., 7.], dtype=float32)
    """
    scales = [1.0] * len(axes) if scales is None else scales
    if not len(axes) == len(widths) == len(lefts) == len(borders) == len(scales):
        raise ValueError(
            f"`widths`, `lefts`, `borders` and `scales` must describe {len(axes)} axes"
        )
    filters = []
    for axis, width, left, border in zip(axes, widths, lefts, borders, strict=True):
        places = check_line(shape, axis, width, left, border)
        line = LineFilter(sum_lines, int(width), int(left), places, np.zeros(1, work))
        filters.append((axis, line, float(width)))
    return Lines(shape, filters, cval, math.prod(float(s) for s in scales), work)


def check_line(
    shape: tuple[int, ...], axis: int, taps: int, left: int, border: ArrayLike
) -> NDArray[np.int64]:
    """Check the description of one axis; return its border map."""
    if not 0 <= axis < len(shape):
        raise ValueError(f"`axes` must lie within 0 .. {len(shape) - 1}; got {axis}")
    size = shape[axis]
    places = check_border(size, axis, taps, left, border)
    if not np.array_equal(places[left : left + size], np.arange(size)):
        raise ValueError(f"`borders` of axis {axis} must be 0 .. {size - 1} from entry {left} on")
    return places


class Lines(PreparedFilter):
    """Line filters along some axes of one shape, to be run again and again.

    Two inner axes are filtered in one sweep.  Others follow in place: in `out` where its dtype is `work`, else slab by
    slab in an array of that dtype, see :mod:`.slabs`.

    Parameters
    ----------
    shape : tuple of int
        Shape of image and result.
    filters : sequence of (int, LineFilter, float)
        For each filtered axis its number, its filter, and the result of that filter for a constant 1, which
        gives the constant value outside between two sweeps.
    cval, scale : float
        The constant value outside the image, and the factor of all results.
    work : dtype
        float32 or float64.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        filters: Sequence[tuple[int, LineFilter, float]],
        cval: float,
        scale: float,
        work: Any,
    ) -> None:
        super().__init__(shape, cval, work)
        self.scale = float(scale)
        self.filters = {axis: line for axis, line, _ in filters}
        self.gains = {axis: gain for axis, _, gain in filters}
        if len(self.filters) != len(filters) or not filters:
            raise ValueError(
                f"`axes` must be different, at least one; got {[f[0] for f in filters]}"
            )
        self.first: int | None = None

    # Slabs: in place, and where an intermediate array is needed.

    def border_map(self, axis: int) -> NDArray[np.int64] | None:
        """Return the border map of a filtered axis, None for another one."""
        line = self.filters.get(axis)
        return None if line is None else np.pad(line.border, line.memory, mode="edge")

    def reach(self, axis: int, image: NDArray[Any], out: NDArray[Any]) -> int | None:
        """Return how many more samples than outputs a slab reads along an axis; None if it cannot be cut."""
        if axis not in self.filters:
            return 0
        groups = self._groups(image, out)
        group = next(g for g in groups if axis in g)
        if group != groups[0] and len(groups[0]) > 1:  # two axes are not filtered in place
            return None
        layout = arrange(self.shape, image.strides, out.strides, group, self.inner_run)
        if layout.x.filtered == group.index(axis):
            return None
        return self.filters[axis].taps - 1 + 2 * self.filters[axis].memory

    def restricted(self, axis: int, start: int, stop: int) -> Lines:
        """Return the filter of the outputs ``start`` to ``stop`` along an axis, of the whole image."""
        part: Lines = super().restricted(axis, start, stop)
        if axis in self.filters:
            part.first = axis
            part.filters = {**self.filters, axis: self.filters[axis].part(start, stop)}
        return part

    def _uses_slabs(self, image: NDArray[Any], out: NDArray[Any]) -> bool:
        if self.is_slab:
            return False
        return self._needs_intermediate(image, out) or super()._uses_slabs(image, out)

    def _needs_intermediate(self, image: NDArray[Any], out: NDArray[Any]) -> bool:
        return out.dtype != self.work and len(self._groups(image, out)) > 1

    def _slab_arrays(self, out: NDArray[Any]) -> tuple[int, int]:
        """Return the bytes of a number of a slab's intermediate results, and how many of these there are."""
        return self.work.itemsize, int(out.dtype != self.work)

    def _run(
        self,
        prepared: tuple[bool, list[LineSchedule]],
        image: NDArray[Any],
        out: NDArray[Any],
        threads: int,
    ) -> None:
        needs_intermediate, schedules = prepared
        intermediate = self._intermediate(out) if needs_intermediate else out
        source = image
        for schedule in schedules:
            target = out if schedule is schedules[-1] else intermediate
            run_sweep(schedule, source, target, threads)
            source = target

    def _intermediate(self, out: NDArray[Any]) -> NDArray[Any]:
        """Return an array for the results of a sweep that another one reads."""
        return np.empty_like(out, dtype=self.work, subok=False)

    def _prepare(
        self, image: NDArray[Any], out: NDArray[Any], threads: int
    ) -> tuple[bool, list[LineSchedule]]:
        """Return whether an intermediate array is needed, and the sweeps."""
        groups = self._groups(image, out)
        needs_intermediate = self._needs_intermediate(image, out)
        intermediate = self._intermediate(out) if needs_intermediate else out
        source, cval = image, self.cval
        schedules: list[LineSchedule] = []
        for group in groups:
            last = len(schedules) == len(groups) - 1
            target = out if last else intermediate
            layout = arrange(self.shape, source.strides, target.strides, group, self.inner_run)
            filters = {
                name: self.filters[group[axis.filtered]]
                for name, axis in (("y", layout.y), ("x", layout.x))
                if axis.filtered >= 0
            }
            dtypes = Dtypes(source.dtype, target.dtype, self.work)
            scale, in_place = self.scale if last else 1.0, source is target
            schedules.append(LineSchedule(layout, filters, cval, scale, dtypes, threads, in_place))
            cval *= math.prod(self.gains[a] for a in group)
            source = target
        return needs_intermediate, schedules

    def _groups(self, image: NDArray[Any], out: NDArray[Any]) -> list[tuple[int, ...]]:
        """Group the axes into sweeps, inner ones first: two axes fused, or one."""
        size = np.abs(image.strides) + np.abs(out.strides)
        order = sorted(self.filters, key=lambda a: int(size[a]))
        groups: list[tuple[int, ...]] = []
        if len(order) >= 2:
            pair = tuple(sorted(order[:2]))
            outer = self.filters[order[1]]
            whole = any(self.filters[a].whole for a in pair)
            fits = arrange(self.shape, image.strides, out.strides, pair, self.inner_run).z is None
            if fits and not whole and outer.taps <= MOST_FUSED_TAPS:
                groups.append(pair)
                order = order[2:]
        groups += [(a,) for a in order]
        # A slab's first sweep filters the axis that is cut.
        return sorted(groups, key=lambda group: self.first is not None and self.first not in group)
