"""Filters that are prepared for one shape and run again and again, and the checks of their arguments."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.process_cache import ProcessCache

from .axis_layout import INNER_RUN
from .simd import ELEMENTS, HAS_HALF
from .slabs import choose_slabs, overwrites, run_in_slabs

SCHEDULES_KEPT = 64
"""Records kept by one filter: for as many layouts, dtypes and numbers of threads."""


class PreparedFilter:
    """Base class of filters of arrays of one shape.

    What depends on strides and dtypes is prepared at the first call and kept.  One object may be called from
    several threads at once.

    Parameters
    ----------
    shape : tuple of int
        Shape of image and result.
    cval : float
        The constant value outside the image, where a border map says -1.
    work : dtype
        float32 or float64: the dtype of intermediates and sums.

    Attributes
    ----------
    inner_run : int
        Number of inner samples from which vectors run along them, see :mod:`.axis_layout`.
    is_slab : bool
        Whether this is a part of another filter, see :mod:`.slabs`.
    source_shape : tuple of int
        Shape of the image; that of a slab is larger than the result along a filtered axis.
    """

    compiled_throughout = True
    """Whether a run is compiled code only, without NumPy's operations on samples."""

    most_threads = 1 << 30
    """Threads that have work worth waking them for; the methods that build a filter predict it."""

    inner_run = INNER_RUN
    is_slab = False

    def __init__(self, shape: tuple[int, ...], cval: float, work: Any) -> None:
        self.shape, self.cval, self.work = tuple(shape), float(cval), np.dtype(work)
        self.source_shape = self.shape
        if self.work not in (np.float32, np.float64):
            raise TypeError(f"`work` must be float32 or float64; got {self.work}")
        self._schedules = ProcessCache(SCHEDULES_KEPT)

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Filter ``image`` into ``out``, which is the image or does not overlap it, and return ``out``.

        Parameters
        ----------
        image : ndarray
            The samples, of any strides; float16, float32, float64 or integers of 8 to 64 bits.
        out : ndarray
            Destination, of the same shape and any of those dtypes.  Integers are rounded half to even and
            saturated, once.
        threads : int
            Largest number of threads that share the work.  The result does not depend on it.

        Raises
        ------
        ValueError
            If a shape does not fit, or `out` is read-only.
        TypeError
            If a dtype is not supported.
        """
        threads = min(threads, self.most_threads)
        key = (image.shape, image.strides, image.dtype, out.shape, out.strides, out.dtype, threads)
        prepared = self._schedules.get(key)
        if prepared is None:
            self._check(image, out)
            if out.size == 0:
                return out
            if self._uses_slabs(image, out):
                return self._in_slabs(image, out, threads)
            with np.errstate(over="ignore", invalid="ignore"):  # taps in a narrower type
                prepared = self._schedules.get_or_build(
                    key, lambda: self._prepare(image, out, threads)
                )
        elif overwrites(image, out):
            return self._in_slabs(image, out, threads)
        self._run(prepared, image, out, threads)
        return out

    def _uses_slabs(self, image: NDArray[Any], out: NDArray[Any]) -> bool:
        """Return whether the filter runs slab by slab, see :mod:`.slabs`."""
        return overwrites(image, out)

    def _in_slabs(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> NDArray[Any]:
        """Filter slab by slab."""
        item, arrays = self._slab_arrays(out)
        cut = choose_slabs(self, image, out, item, arrays + overwrites(image, out))
        if cut is not None:
            run_in_slabs(self, image, out, threads, cut)
        else:
            whole = copy(self)
            whole.is_slab, whole._schedules = True, ProcessCache(1)
            out[...] = whole(image, np.empty_like(out), threads)
        return out

    def _slab_arrays(self, out: NDArray[Any]) -> tuple[int, int]:
        """Return the bytes of a number of a slab's intermediate results, and how many of these there are."""
        return out.dtype.itemsize, 0

    def _check(self, image: NDArray[Any], out: NDArray[Any]) -> None:
        for name, array, shape in (("image", image, self.source_shape), ("out", out, self.shape)):
            if array.shape != shape:
                raise ValueError(f"`{name}` must have shape {shape}; got {array.shape}")
            known = array.dtype.name in ELEMENTS and (HAS_HALF or array.dtype != np.float16)
            if not known or not array.dtype.isnative:
                raise TypeError(
                    f"`{name}` has dtype {array.dtype}; known are {', '.join(ELEMENTS)}"
                )
        if not out.flags.writeable:
            raise ValueError("`out` is read-only; pass a writable array")

    def border_map(self, axis: int) -> NDArray[np.int64] | None:
        """Return the border map of a filtered axis, None for another one."""
        raise NotImplementedError

    def reach(self, axis: int, image: NDArray[Any], out: NDArray[Any]) -> int | None:
        """Return how many more samples than outputs a slab reads along an axis; None if it cannot be cut."""
        raise NotImplementedError

    def restricted(self, axis: int, start: int, stop: int) -> Any:
        """Return the filter of the outputs ``start`` to ``stop`` along an axis, of the whole image."""
        part = copy(self)
        part._schedules = ProcessCache(1)
        part.shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        part.is_slab = True
        if self.border_map(axis) is None:
            part.source_shape = part.shape
        return part

    def _prepare(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> Any:
        """Return the records of the sweeps for arrays of these strides and dtypes."""
        raise NotImplementedError

    def _run(self, prepared: Any, image: NDArray[Any], out: NDArray[Any], threads: int) -> None:
        """Run what `_prepare` returned."""
        raise NotImplementedError


def check_border(
    size: int, axis: int, taps: int, left: int, border: ArrayLike
) -> NDArray[np.int64]:
    """Check the window and the border map of one axis of ``size`` samples; return the map.

    Parameters
    ----------
    size, axis : int
        Size of the axis, and its number for messages.
    taps, left : int
        Samples in a window, and how many of them lie left of the output.
    border : array_like of int
        The sample at each of the ``size + taps - 1`` extended positions, the first being ``-left``; -1 is the
        constant value.
    """
    if not 0 <= left < taps:
        raise ValueError(f"`lefts` of axis {axis} must lie within 0 .. {taps - 1}; got {left}")
    places = np.array(border, np.int64)
    if places.shape != (size + taps - 1,):
        wanted = f"`borders` of axis {axis} must have {size + taps - 1} entries"
        raise ValueError(f"{wanted}; got shape {places.shape}")
    if size and not (places.min() >= -1 and places.max() < size):
        raise ValueError(f"`borders` of axis {axis} must lie within -1 .. {size - 1}")
    return places
