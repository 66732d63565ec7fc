"""Images with their border written out, and the constant outside them after a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders.border_modes import OUTSIDE, Border

__all__ = ["carried", "extend"]


def extend(
    image: NDArray[Any],
    axes: Sequence[int],
    widths: Sequence[tuple[int, int]],
    borders: Sequence[Border],
    cval: complex,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return a copy of an image with its border written out.

    Parameters
    ----------
    image : ndarray
    axes : sequence of int
        The axes to extend.
    widths : sequence of (before, after)
        The numbers of samples to add along each of them.
    borders : sequence of Border
        The border mode of each of them.
    cval : number
        The constant, for modes that fill one in.
    dtype : dtype
        The type of the result.

    Examples
    --------
    >>> from separable.borders import REFLECT
    >>> extend(np.array([1, 2, 3]), [0], [(2, 1)], [REFLECT], 0, np.dtype(int))
    array([2, 1, 1, 2, 3, 3])
    """
    for axis, (before, after), border in zip(axes, widths, borders, strict=True):
        if not before and not after:
            continue
        index = border.extension(image.shape[axis], before, after)
        taken = np.take(image.astype(dtype, copy=False), index, axis=axis)
        if border.fills:
            at: list[Any] = [slice(None)] * image.ndim
            at[axis] = index == OUTSIDE
            taken[tuple(at)] = cval
        image = taken
    return np.ascontiguousarray(image, dtype=dtype)


def carried(cval: complex, taps: NDArray[Any]) -> complex:
    """Return what lies outside after a pass with these taps over an image with `cval` outside.

    The products are summed one by one, so that an infinite or NaN `cval` gives what the pass would.

    Examples
    --------
    >>> carried(2.0, np.array([1, 2, 1]))
    8.0
    """
    if cval == 0:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(np.ravel(taps) * cval)
    return complex(total) if np.iscomplexobj(total) else float(total)
