"""Sums of separable correlations of NumPy arrays in fused, threaded sweeps.

What is computed: the sum over terms of the successive correlations along the axes,

    out[i] = round(sum_t sum_j taps[t][0][j0] * taps[t][1][j1] * ... * x[i + j - left])

where samples beyond the edges come from where the border maps say.  How it is tiled: see :mod:`.tile_loop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.process_cache import ProcessCache

from .axis_layout import arrange
from .simd import ELEMENTS, HAS_HALF
from .sweep_builder import Dtypes
from .thread_pool import run
from .tiling import Pass, TermSchedule

Taps = Sequence[Sequence[ArrayLike]]
MOST_AXES = 3
SCHEDULES_KEPT = 64  # by one correlation: for as many layouts, dtypes and numbers of threads
"""A sweep filters along one to three axes; more are filtered in several sweeps."""


def correlate_terms(
    image: NDArray[Any],
    out: NDArray[Any],
    terms: Taps,
    axes: Sequence[int],
    lefts: Sequence[int],
    borders: Sequence[ArrayLike],
    cval: float = 0.0,
    work: Any = np.float32,
    threads: int = 1,
) -> NDArray[Any]:
    """Correlate an array with a sum of separable kernels.

    Parameters
    ----------
    image
        The samples, of any strides; float16, float32, float64 or integers of 8 to 32 bits.
    out
        Where the result goes: of the same shape and any of those dtypes; must not overlap `image`.
        Integers are rounded half to even and saturated, once.
    terms
        For each term one sequence of correlation taps per filtered axis.  On one axis all terms have
        equally many taps.
    axes
        The filtered axes, ascending.
    lefts
        For each filtered axis how many samples to the left of the output the first tap stands.
    borders
        For each filtered axis of size ``n`` the sample at each of the ``n + taps - 1`` extended positions,
        the first being ``-left``; -1 is the constant value.
    cval
        The value of the image outside its edges, where a border map says -1.
    work
        float32 or float64: the dtype of intermediates and sums.
    threads
        How many threads share the work.  The result does not depend on it.

    Returns
    -------
    The array `out`.

    Raises
    ------
    ValueError
        A shape, a border map or a `left` does not fit.
    TypeError
        A dtype is not supported.

    Examples
    --------
    >>> image, out = np.eye(3, dtype=np.float32), np.empty((3, 3), np.float32)
    >>> border = [-1, 0, 1, 2, -1]
    >>> correlate_terms(image, out, [[[1, 1, 1], [1, 1, 1]]], (0, 1), (1, 1), [border, border])
    array([[2., 2., 1.],
           [2., 3., 2.],
           [1., 2., 2.]], dtype=float32)
    """
    return Correlation(terms, axes, lefts, borders, cval, work, image.shape)(image, out, threads)


def correlate_dense(
    image: NDArray[Any],
    out: NDArray[Any],
    kernel: ArrayLike,
    axes: Sequence[int],
    lefts: Sequence[int],
    borders: Sequence[ArrayLike],
    cval: float = 0.0,
    work: Any = np.float32,
    threads: int = 1,
) -> NDArray[Any]:
    """Correlate an array directly with a small kernel over two axes that does not separate.

    The arguments are those of :func:`correlate_terms` but for `kernel`: an array with the filtered axes,
    in ascending order.  It costs as many multiplications for each sample as the kernel has entries.

    Examples
    --------
    >>> image, out = np.eye(3, dtype=np.float32), np.empty((3, 3), np.float32)
    >>> border = [-1, 0, 1, 2, -1]
    >>> correlate_dense(image, out, np.ones((3, 3)), (0, 1), (1, 1), [border, border])
    array([[2., 2., 1.],
           [2., 3., 2.],
           [1., 2., 2.]], dtype=float32)
    """
    return DenseCorrelation(kernel, axes, lefts, borders, cval, work, image.shape)(
        image, out, threads
    )


class Correlation:
    """A sum of separable correlations for one shape, to be run again and again.

    The arguments are those of :func:`correlate_terms`.  What depends on strides and dtypes is prepared
    at the first call and kept.  One object may be called from several threads at once.
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
        self.shape = tuple(shape)
        self.axes = tuple(int(a) for a in axes)
        self.work = np.dtype(work)
        self.cval = float(cval)
        if self.work not in (np.float32, np.float64):
            raise TypeError(f"`work` must be float32 or float64; got {self.work}")
        if list(self.axes) != sorted(set(self.axes) & set(range(len(shape)))) or not self.axes:
            raise ValueError(f"`axes` must ascend within the {len(shape)} axes; got {self.axes}")
        self.passes = _passes(self.shape, self.axes, terms, lefts, borders)
        self._schedules = ProcessCache(SCHEDULES_KEPT)

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Run on ``image`` into ``out``, which must not overlap it."""
        key = (image.shape, image.strides, image.dtype, out.shape, out.strides, out.dtype, threads)
        schedule = self._schedules.get(key)
        if schedule is None:
            self._check(image, out)
            if len(self.axes) > MOST_AXES:
                return self._compose(image, out, threads)
            schedule = self._schedules.get_or_build(key, lambda: self._prepare(image, out, threads))
        if image.size:
            source = image.__array_interface__["data"][0]
            run(schedule, source, out.__array_interface__["data"][0], threads)
        return out

    def _check(self, image: NDArray[Any], out: NDArray[Any]) -> None:
        for name, array in (("image", image), ("out", out)):
            if array.shape != self.shape:
                raise ValueError(f"`{name}` must have shape {self.shape}; got {array.shape}")
            known = array.dtype.name in ELEMENTS and (HAS_HALF or array.dtype != np.float16)
            if not known or not array.dtype.isnative:
                raise TypeError(f"`{name}` has dtype {array.dtype}; known are {list(ELEMENTS)}")
        if not out.flags.writeable:
            raise ValueError("`out` is read-only; pass a writable array")

    def _prepare(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> TermSchedule:
        layout = arrange(self.shape, image.strides, out.strides, self.axes)
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
    """A direct correlation with a small kernel over two axes, to be run again and again."""

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
        if self.kernel.ndim != 2 or len(axes) != 2:
            raise ValueError(f"`kernel` must have two axes; got {self.kernel.ndim} for {axes}")
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
        places = np.array(border, np.int64)
        size, taps = shape[axis], weights.shape[1]
        if places.shape != (size + taps - 1,):
            wanted = f"`borders` of axis {axis} must have {size + taps - 1} entries"
            raise ValueError(f"{wanted}; got {places.shape}")
        if places.size and size and not (places.min() >= -1 and places.max() < size):
            raise ValueError(f"`borders` of axis {axis} must lie within -1 .. {size - 1}")
        if not 0 <= left < taps:
            raise ValueError(f"`lefts` of axis {axis} must be within 0 .. {taps - 1}; got {left}")
        result.append(Pass(weights, int(left), places))
    if len(axes) == 1:
        only = result[0]
        result = [Pass(only.weights.sum(axis=0, keepdims=True), only.left, only.border)]
    return result
