"""Few long lines: each is cut into segments that vectors run across, and the samples near the seams are redone.

The result is that of :class:`.term_sums.Correlation` along one axis where too few lines lie side by side to fill a
vector: a signal, or the channels of a recording.  A line is seen as a matrix of `ROWS` segments and filtered along its
rows, one vector across as many segments as it has lanes.  Near the ends of a segment that is wrong because the
samples beyond them belong to its neighbours; there the samples are gathered, through the line's own border map, into
windows that are the rows of a second, small matrix.
Each output is computed by the same operations in the same order as without segments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .axis_layout import INNER_RUN
from .prepared_filter import PreparedFilter
from .slabs import overwrites
from .term_sums import Correlation, Taps

__all__ = ["LongAndShortCorrelation", "SegmentedCorrelation", "pays", "pays_for_both"]

ROWS = 64  # a multiple of the lanes of any vector
SHORTEST = 512  # samples of a segment, so that the work at the seams stays small
MOST_LINES = 8
MOST_BYTES = 48 << 20  # of an intermediate result
WINDOWS = 8  # a segment is at least as many windows long


def pays(shape: Sequence[int], axis: int, taps: int) -> bool:
    """Return whether the lines are few, and long enough to be cut."""
    size = shape[axis]
    few = math.prod(shape) <= MOST_LINES * size
    return few and taps > 1 and size >= ROWS * max(SHORTEST, WINDOWS * 2 * (taps - 1))


def pays_for_both(
    shape: Sequence[int], axes: Sequence[int], terms: Taps, borders: Sequence[ArrayLike], work: Any
) -> bool:
    """Return whether a product along two axes is faster as two sweeps: along few long lines, and across them."""
    if len(axes) != 2 or len(terms) != 1 or math.prod(shape) * np.dtype(work).itemsize > MOST_BYTES:
        return False
    # A constant outside would be filtered by the first sweep in another order than by one sweep.
    inside = all(np.min(border) >= 0 for border in borders)
    return inside and pays(shape, axes[0], np.size(terms[0][0]))


class _FilterWithSeams:
    """Attributes of filters whose seams NumPy gathers; they mean what they mean in :class:`.PreparedFilter`."""

    compiled_throughout = False
    inner_run = INNER_RUN
    most_threads = PreparedFilter.most_threads


class SegmentedCorrelation(_FilterWithSeams):
    """A correlation along one axis of few long lines, to be run again and again.

    The arguments are those of :class:`.term_sums.Correlation`.

    Examples
    --------
    >>> line, out = np.ones(1 << 16, np.float32), np.empty(1 << 16, np.float32)
    >>> border = np.clip(np.arange(-1, line.size + 1), 0, line.size - 1)
    >>> three = SegmentedCorrelation([[[1, 1, 1]]], (0,), (1,), [border], 0.0, "float32", line.shape)
    >>> set(three(line, out).tolist())
    {3.0}
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
        (axis,), (left,), (border,) = axes, lefts, borders
        taps = np.size(terms[0][0])
        length = shape[axis] // ROWS
        self._axis, self._lines, trail = axis, shape[:axis], shape[axis + 1 :]
        self._count, self._cut = ROWS * length, (ROWS, length, *trail)
        self._cval, self._work = float(cval), np.dtype(work)
        self._rows = _along_rows(terms, left, work, self._cut)
        # Step 1: positions of the outputs near seams, whose windows leave their segment; (window, output)
        reach = taps - 1
        ends = np.arange(ROWS * length, shape[axis] + reach, reach)
        starts = np.r_[np.arange(ROWS) * length, ends] - (reach - left)
        places = starts[:, None] + np.arange(reach)
        self._known = (places >= 0) & (places < shape[axis])
        self._places = places[self._known]
        # Step 2: positions of the samples that they read; (window, sample)
        samples = starts[:, None] + np.arange(2 * reach)
        self._samples = np.asarray(border, np.int64)[np.clip(samples, 0, shape[axis] + reach - 1)]
        self._middle = slice(left, left + reach)
        self._windows = _along_rows(terms, left, work, (*self._samples.shape, *trail))

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Run on ``image`` into ``out``, which is the image or does not overlap it."""
        threads = min(threads, self.most_threads)
        if overwrites(image, out):
            image = image.copy()
        for line in np.ndindex(self._lines):
            self._filter(image[line], out[line], threads)
        return out

    def _filter(self, source: NDArray[Any], target: NDArray[Any], threads: int) -> None:
        count = self._count
        self._rows(source[:count].reshape(self._cut), target[:count].reshape(self._cut), threads)
        gathered = source[self._samples].astype(self._work)
        gathered[self._samples < 0] = self._cval
        seams = np.empty(gathered.shape, target.dtype)
        self._windows(gathered, seams, threads)
        target[self._places] = seams[:, self._middle][self._known]


def _along_rows(terms: Taps, left: int, work: Any, shape: tuple[int, ...]) -> Correlation:
    """Return the correlation along axis 1; samples beyond its ends do not matter."""
    beyond = np.arange(shape[1] + np.size(terms[0][0]) - 1) - left
    inside = np.clip(beyond, 0, shape[1] - 1)
    return Correlation(terms, (1,), (left,), [inside], 0.0, work, shape)


class LongAndShortCorrelation(_FilterWithSeams):
    """A product of correlations along few long lines and along the short rows that they form, as two sweeps.

    The arguments are those of :class:`.term_sums.Correlation` for two axes.
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
        self._shape, self._work = shape, np.dtype(work)
        first, second = (
            ([[terms[0][k]]], axes[k : k + 1], [lefts[k]], [borders[k]], cval, work, shape)
            for k in range(2)
        )
        self._along, self._across = SegmentedCorrelation(*first), Correlation(*second)

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Run on ``image`` into ``out``, which is the image or does not overlap it."""
        threads = min(threads, self.most_threads)
        between = np.empty(self._shape, self._work)
        self._along(image, between, threads)
        self._across(between, out, threads)
        return out
