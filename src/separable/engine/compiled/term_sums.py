"""Sums of separable correlations of NumPy arrays in fused, threaded sweeps.

The result is the sum over terms of the successive correlations along the axes,

    out[i] = round(sum_t sum_j taps[t][0][j0] * taps[t][1][j1] * ... * x[i + j - left])

where samples outside the image come from the positions in the border maps.  :mod:`.tile_loop` describes the tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .axis_layout import arrange
from .prepared_filter import PreparedFilter, array_address, check_border
from .sweep_builder import Dtypes
from .thread_pool import run
from .tiling import Pass, TermSchedule

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

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Filter ``image`` into ``out``; see :class:`.PreparedFilter`."""
        if len(self.axes) > MOST_AXES:
            self._check(image, out)
            return self._compose(image, out, threads)
        return super().__call__(image, out, threads)

    def _run(
        self, prepared: TermSchedule, image: NDArray[Any], out: NDArray[Any], threads: int
    ) -> None:
        run(prepared, array_address(image), array_address(out), threads)

    def _prepare(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> TermSchedule:
        layout = arrange(self.shape, image.strides, out.strides, self.axes, self.inner_run)
        dtypes = Dtypes(image.dtype, out.dtype, self.work)
        return TermSchedule(layout, self.passes, self.cval, dtypes, threads)

    def _compose(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> NDArray[Any]:
        """Filter more axes than one sweep can, through whole intermediate arrays."""
        total = np.zeros(self.shape, self.work)
        for t in range(len(self.passes[0].weights)):
            step, cval = image, self.cval
            for start in range(0, len(self.axes), MOST_AXES):
                passes = self.passes[start : start + MOST_AXES]
                part = _part(passes, self.axes[start : start + MOST_AXES], t, cval, self)
                step = part(step, np.empty(self.shape, self.work), threads)
                cval *= float(np.prod([p.weights[t].sum() for p in passes]))
            total += step
        size = self.shape[-1]
        copy = Correlation(
            [[[1.0]]], (len(self.shape) - 1,), (0,), [np.arange(size)], 0.0, self.work, self.shape
        )
        return copy(total, out, threads)


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
        run_of_none = int(np.prod(self.shape)) + 1
        layout = arrange(self.shape, image.strides, out.strides, self.axes, run_of_none)
        dtypes = Dtypes(image.dtype, out.dtype, self.work)
        return TermSchedule(layout, self.passes, self.cval, dtypes, threads, self.kernel)


def _part(
    passes: list[Pass], axes: tuple[int, ...], term: int, cval: float, whole: Correlation
) -> Correlation:
    """Return one term of a correlation along some of its axes."""
    terms = [[p.weights[term] for p in passes]]
    lefts, borders = [p.left for p in passes], [p.border for p in passes]
    return Correlation(terms, axes, lefts, borders, cval, whole.work, whole.shape)


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
