"""Box filters whose cost does not depend on the width of the box.

What is computed: ``out[i] = scale * sum_{j < width} x[i + j - left]`` along each axis.  How: a line is
cut into blocks of the window's length.  Every window is the end of one block and the beginning of the
next, so that two running sums that start anew in every block give all windows (van Herk, 1992,
doi:10.1016/0167-8655(92)90069-C): three additions for each output.  Nothing is ever subtracted: floats are as
accurate as by summing each window, sums of integers are exact, and a sample far from a window cannot spoil it.
A running sum is that of the last few samples plus that of all groups of a few before them, which is kept
with what rounds off (W. Kahan, 1965, doi:10.1145/363707.363723): the error does not grow with the window.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.process_cache import ProcessCache

from .axis_layout import arrange
from .jit import inline, stage
from .line_tiling import LineFilter, LineSchedule
from .simd import ELEMENTS, HAS_HALF, ahead
from .sweep_builder import Dtypes
from .term_sums import SCHEDULES_KEPT
from .thread_pool import run
from .vector_blocks import load_vectors, minus, plus, store_block, zero_vectors

GROUP = 16
"""Samples that are summed on their own."""
MOST_FUSED_TAPS = 384
"""Wider windows along the outer of two axes get a sweep of their own."""


@inline
def _sum_short_windows(line, far, step, n, taps, count):
    """Do as :func:`_sum_windows`, in the same order, for windows of at most one group."""
    begin = 0
    while begin < n:
        block = ahead(line, begin * step)
        inside = min(taps, n - begin)
        total = zero_vectors(line, count)
        for m in range(taps - 1, inside - 1, -1):
            total = plus(total, load_vectors(ahead(block, m * step), far, count))
        for m in range(inside - 1, -1, -1):
            here = ahead(block, m * step)
            total = plus(total, load_vectors(here, far, count))
            store_block(here, far, total)
        total = zero_vectors(line, count)
        following = ahead(block, taps * step)
        for m in range(1, inside):
            here = ahead(block, m * step)
            total = plus(total, load_vectors(ahead(following, (m - 1) * step), far, count))
            store_block(here, far, plus(load_vectors(here, far, count), total))
        begin += taps


@inline
def _sum_windows(line, far, step, n, taps, count):
    """Replace the first ``n`` positions of ``count`` lines by the sums of the windows they begin."""
    begin = 0
    while begin < n:
        block = ahead(line, begin * step)
        inside = min(taps, n - begin)
        # Backwards through the block: the sums from each position to its end.
        before, lost = zero_vectors(line, count), zero_vectors(line, count)
        for stop in range(taps, 0, -GROUP):
            total = zero_vectors(line, count)
            for m in range(stop - 1, max(stop - GROUP, 0) - 1, -1):
                here = ahead(block, m * step)
                total = plus(total, load_vectors(here, far, count))
                if m < inside:
                    store_block(here, far, plus(before, total))
            right = minus(total, lost)
            more = plus(before, right)
            lost = minus(minus(more, before), right)
            before = more
        # Forwards through the next one: the sums from its beginning.
        before, lost = zero_vectors(line, count), zero_vectors(line, count)
        following = ahead(block, taps * step)
        for start in range(1, inside, GROUP):
            total = zero_vectors(line, count)
            for m in range(start, min(start + GROUP, inside)):
                here = ahead(block, m * step)
                total = plus(total, load_vectors(ahead(following, (m - 1) * step), far, count))
                store_block(here, far, plus(load_vectors(here, far, count), plus(before, total)))
            right = minus(total, lost)
            more = plus(before, right)
            lost = minus(minus(more, before), right)
            before = more
        begin += taps


@stage
def sum_lines(lines, extra, far, step, count, channels, n, taps, data):
    """Sum windows along ``count`` times ``channels`` lines of ``n`` outputs, four lines at once."""
    done = 0
    while done < count:
        together = 4 if done + 4 <= count else 1
        for c in range(channels):
            line = ahead(lines, done * far + c * step)
            if taps <= GROUP and together == 4:  # the same sums, sooner
                _sum_short_windows(line, far, channels * step, n, taps, 4)
            elif together == 4:
                _sum_windows(line, far, channels * step, n, taps, 4)
            else:
                _sum_windows(line, far, channels * step, n, taps, 1)
        done += together


def box(
    image: NDArray[Any],
    out: NDArray[Any],
    axes: Sequence[int],
    widths: Sequence[int],
    lefts: Sequence[int],
    borders: Sequence[ArrayLike],
    cval: float = 0.0,
    scales: Sequence[float] | None = None,
    work: Any = np.float32,
    threads: int = 1,
) -> NDArray[Any]:
    """Filter with boxes along some axes: each output is a scaled sum over a window.

    Parameters
    ----------
    image : ndarray
        The samples, of any strides; float16, float32, float64 or integers of 8 to 32 bits.
    out : ndarray
        Where the result goes: of the same shape and any of those dtypes; must not overlap `image`.
        Integers are rounded half to even and saturated, once.
    axes : sequence of int
        The filtered axes, all different, >= 0.
    widths, lefts : sequence of int
        For each of them the samples in a window, and how many of these lie left of the output.
    borders : sequence of array_like of int
        For each axis of size ``n`` the sample at each of the ``n + width - 1`` extended positions,
        the first being ``-left``; -1 is the constant value.
    cval : float
        The value of the image outside its edges, where a border map says -1.
    scales : sequence of float, optional
        What the sums along each axis are multiplied by (1); the product is applied once, at the end.
    work : dtype
        float32 or float64, of all sums.  Sums of integers are exact while they fit it.
    threads : int
        How many threads share the work.  The result does not depend on it.

    Returns
    -------
    ndarray
        The array `out`.

    Raises
    ------
    ValueError
        A shape, a border map or a `left` does not fit.
    TypeError
        A dtype is not supported.

    Notes
    -----
    Two inner axes are filtered in one sweep.  Others follow in place: in `out` where its dtype is
    `work`, else in an array of that dtype and the image's shape.

    Examples
    --------
    >>> image, out = np.arange(5, dtype=np.float32), np.empty(5, np.float32)
    >>> box(image, out, [0], [3], [1], [[-1, 0, 1, 2, 3, 4, -1]])
    array([1., 3., 6., 9., 7.], dtype=float32)
    """
    made = box_lines(image.shape, axes, widths, lefts, borders, cval, scales, work)
    return made(image, out, threads)


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
    """Return the filter of :func:`box` for one shape, to be run again and again."""
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
    if not 0 <= left < taps:
        raise ValueError(f"`lefts` of axis {axis} must lie within 0 .. {taps - 1}; got {left}")
    places, size = np.asarray(border, np.int64), shape[axis]
    if places.shape != (size + taps - 1,):
        wanted = f"`borders` of axis {axis} must have {size + taps - 1} entries"
        raise ValueError(f"{wanted}; got shape {places.shape}")
    if size and not (places.min() >= -1 and places.max() < size):
        raise ValueError(f"`borders` of axis {axis} must lie within -1 .. {size - 1}")
    if not np.array_equal(places[left : left + size], np.arange(size)):
        raise ValueError(f"`borders` of axis {axis} must be 0 .. {size - 1} from entry {left} on")
    return places


def check_arrays(image: NDArray[Any], out: NDArray[Any], work: np.dtype[Any]) -> None:
    """Check shapes and dtypes."""
    if work not in (np.float32, np.float64):
        raise TypeError(f"`work` must be float32 or float64; got {work}")
    for name, array in (("image", image), ("out", out)):
        known = array.dtype.name in ELEMENTS and (HAS_HALF or array.dtype != np.float16)
        if not known or not array.dtype.isnative:
            raise TypeError(f"`{name}` has dtype {array.dtype}; known are {', '.join(ELEMENTS)}")
    if image.shape != out.shape:
        raise ValueError(f"`out` must have shape {image.shape}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("`out` is read-only; pass a writable array")


def _address(array: NDArray[Any]) -> int:
    """Return where the first element lies (ten times faster than ``array.ctypes.data``)."""
    return int(array.__array_interface__["data"][0])


class Lines:
    """Line filters along some axes of one shape, to be run again and again.

    What depends on strides and dtypes is prepared at the first call and kept.  One object may be called from
    several threads at once.

    Parameters
    ----------
    shape : tuple of int
    filters : sequence of (int, LineFilter, float)
        Each axis, what runs along it, and what that makes of a constant 1 (what lies outside the
        image is carried along).
    cval, scale : float
        The value outside the image, and what all results are multiplied by.
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
        self.shape, self.work = tuple(shape), np.dtype(work)
        self.cval, self.scale = float(cval), float(scale)
        self.filters = {axis: line for axis, line, _ in filters}
        self.gains = {axis: gain for axis, _, gain in filters}
        if self.work not in (np.float32, np.float64):
            raise TypeError(f"`work` must be float32 or float64; got {self.work}")
        if len(self.filters) != len(filters) or not filters:
            raise ValueError(
                f"`axes` must be different, at least one; got {[f[0] for f in filters]}"
            )
        self._schedules = ProcessCache(SCHEDULES_KEPT)

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Run on ``image`` into ``out``, which must not overlap it."""
        key = (image.shape, image.strides, image.dtype, out.shape, out.strides, out.dtype, threads)
        found = self._schedules.get(key)
        if found is None:
            self._check(image, out)
            if image.size == 0:
                return out
            found = self._schedules.get_or_build(key, lambda: self._prepare(image, out, threads))
        apart, schedules = found
        between = self._between(image) if apart else out
        source = image
        for schedule in schedules:
            target = out if schedule is schedules[-1] else between
            run(schedule, _address(source), _address(target), threads)
            source = target
        return out

    def _check(self, image: NDArray[Any], out: NDArray[Any]) -> None:
        for name, array in (("image", image), ("out", out)):
            if array.shape != self.shape:
                raise ValueError(f"`{name}` must have shape {self.shape}; got {array.shape}")
            known = array.dtype.name in ELEMENTS and (HAS_HALF or array.dtype != np.float16)
            if not known or not array.dtype.isnative:
                raise TypeError(
                    f"`{name}` has dtype {array.dtype}; known are {', '.join(ELEMENTS)}"
                )
        if not out.flags.writeable:
            raise ValueError("`out` is read-only; pass a writable array")

    def _between(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return an array for what one sweep leaves to the next."""
        return np.empty_like(image, dtype=self.work, subok=False)

    def _prepare(
        self, image: NDArray[Any], out: NDArray[Any], threads: int
    ) -> tuple[bool, list[LineSchedule]]:
        """Return whether an array between is needed, and the sweeps."""
        groups = self._groups(image, out)
        apart = len(groups) > 1 and out.dtype != self.work
        between = self._between(image) if apart else out
        source, cval = image, self.cval
        schedules: list[LineSchedule] = []
        for group in groups:
            last = len(schedules) == len(groups) - 1
            target = out if last else between
            layout = arrange(self.shape, source.strides, target.strides, group)
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
        return apart, schedules

    def _groups(self, image: NDArray[Any], out: NDArray[Any]) -> list[tuple[int, ...]]:
        """Group the axes into sweeps, inner ones first: two axes fused, or one."""
        size = np.abs(image.strides) + np.abs(out.strides)
        order = sorted(self.filters, key=lambda a: int(size[a]))
        groups: list[tuple[int, ...]] = []
        if len(order) >= 2:
            pair = tuple(sorted(order[:2]))
            outer = self.filters[order[1]]
            whole = any(self.filters[a].whole for a in pair)
            fits = arrange(self.shape, image.strides, out.strides, pair).z is None
            if fits and not whole and outer.taps <= MOST_FUSED_TAPS:
                groups.append(pair)
                order = order[2:]
        return groups + [(a,) for a in order]
