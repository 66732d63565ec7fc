"""Filters that are prepared for one shape and run again and again, and the checks of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.process_cache import ProcessCache

from .axis_layout import INNER_RUN
from .simd import ELEMENTS, HAS_HALF

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
    """

    inner_run = INNER_RUN

    def __init__(self, shape: tuple[int, ...], cval: float, work: Any) -> None:
        self.shape, self.cval, self.work = tuple(shape), float(cval), np.dtype(work)
        if self.work not in (np.float32, np.float64):
            raise TypeError(f"`work` must be float32 or float64; got {self.work}")
        self._schedules = ProcessCache(SCHEDULES_KEPT)

    def __call__(self, image: NDArray[Any], out: NDArray[Any], threads: int = 1) -> NDArray[Any]:
        """Filter ``image`` into ``out``, which must not overlap it, and return ``out``.

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
        key = (image.shape, image.strides, image.dtype, out.shape, out.strides, out.dtype, threads)
        prepared = self._schedules.get(key)
        if prepared is None:
            self._check(image, out)
            if image.size == 0:
                return out
            prepared = self._schedules.get_or_build(key, lambda: self._prepare(image, out, threads))
        self._run(prepared, image, out, threads)
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

    def _prepare(self, image: NDArray[Any], out: NDArray[Any], threads: int) -> Any:
        """Return the records of the sweeps for arrays of these strides and dtypes."""
        raise NotImplementedError

    def _run(self, prepared: Any, image: NDArray[Any], out: NDArray[Any], threads: int) -> None:
        """Run what `_prepare` returned."""
        raise NotImplementedError


def array_address(array: NDArray[Any]) -> int:
    """Return the address of the first element (ten times faster than ``array.ctypes.data``)."""
    return int(array.__array_interface__["data"][0])


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
