"""Recursive Gaussians: their cost does not depend on sigma, their error is small and measured.

:mod:`separable.engine.gaussian_fit` gives the formula and finds the coefficients of a recursion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.engine.gaussian_fit import ORDERS, Coefficients, fit, fit_within

from .box_filter import Lines, check_line
from .line_tiling import LineFilter
from .recursive_microkernels import recur_4, recur_5, recur_6

__all__ = ["ORDERS", "Coefficients", "fit", "fit_within", "recursive_lines"]

_STAGES = {4: recur_4, 5: recur_5, 6: recur_6}
PIECE = 1 << 14
"""Longer lines along the innermost axis are filtered in pieces, which bounds the memory."""


def recursive_lines(
    shape: tuple[int, ...],
    axes: Sequence[int],
    coefficients: Sequence[Coefficients],
    lefts: Sequence[int],
    borders: Sequence[ArrayLike],
    cval: float = 0.0,
    work: Any = np.float32,
) -> Lines:
    """Return a filter by the recursions that :func:`fit` found, along some axes of one shape.

    Parameters
    ----------
    shape : tuple of int
        Shape of image and result; samples must be finite.
    axes : sequence of int
        The filtered axes, all different, >= 0.
    coefficients : sequence of Coefficients
        The recursion along each of them.
    lefts : sequence of int
        For each of them how many taps lie left of the output: ``reach`` unless the filter is shifted.
    borders : sequence of array_like of int
        For each axis of size ``n`` the sample at each of the ``n + 2 * reach`` extended positions,
        the first being ``-left``; -1 is the constant value.
    cval : float
        The constant value outside the image.
    work : dtype
        float32 or float64, of all arithmetic.

    Raises
    ------
    ValueError
        If an axis, a border map or a `left` does not fit.
    TypeError
        If `work` is not supported.

    Notes
    -----
    Both runs begin ``reach`` samples outside, on the extended line, as if the first sample there were repeated
    for ever.  That is long enough for any border: the difference from the taps is a sum of
    ``(response - taps) * sample`` over samples that all occur in the image (or `cval`), so the measured
    error times the largest of them bounds it everywhere, and a flat image stays flat.  A sample that is not
    finite spoils all of its line.
    """
    if not len(axes) == len(coefficients) == len(lefts) == len(borders):
        raise ValueError(f"`coefficients`, `lefts` and `borders` must describe {len(axes)} axes")
    filters = []
    for axis, one, left, border in zip(axes, coefficients, lefts, borders, strict=True):
        places = check_line(shape, axis, 2 * one.reach + 1, left, border)
        filters.append((axis, _line(one, left, places, shape[axis], work), one.gain))
    return Lines(shape, filters, cval, 1.0, work)


def _line(
    one: Coefficients, left: int, places: NDArray[np.int64], size: int, work: Any
) -> LineFilter:
    """Describe the filter of one axis; pieces of a long line overlap by the filter's memory."""
    reach, piece = one.reach, 0
    more = max(0, one.memory - reach)
    if size > 2 * PIECE:
        places = np.pad(places, more, mode="edge")
        reach, left = reach + more, left + more
        piece, more = max(PIECE, 4 * reach), 0
    return LineFilter(
        _STAGES[one.order], 2 * reach + 1, left, places, one.numbers().astype(work),
        shift=reach, whole=True, piece=piece, memory=more,
    )  # fmt: skip
