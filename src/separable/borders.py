"""Borders: what lies outside an image, by names and as maps of indices.

The names are SciPy's. For the samples ``a b c d`` the extensions are::

    reflect   d c b a | a b c d | d c b a      (alias grid-mirror)
    mirror      d c b | a b c d | c b a
    nearest   a a a a | a b c d | d d d d
    wrap      a b c d | a b c d | a b c d      (alias grid-wrap)
    constant  k k k k | a b c d | k k k k      (alias grid-constant), k = cval

An extension along one axis is a map of indices, hence it commutes with a pass along another axis.
Two passes on one axis commute for reflect (with symmetric taps), mirror (likewise) and wrap only.
``constant`` is no map of indices: after a pass with taps w, what lies outside is ``cval * sum(w)``
(`carried`), so the next pass takes that for its own ``cval``, and no image is ever shifted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, ModeError

__all__ = ["MODES", "canonical", "canonical_modes", "carried", "extend", "extension"]

MODES = {
    "reflect": "reflect",
    "grid-mirror": "reflect",
    "mirror": "mirror",
    "nearest": "nearest",
    "wrap": "wrap",
    "grid-wrap": "wrap",
    "constant": "constant",
    "grid-constant": "constant",
}

OUTSIDE = -1  # in a map of indices: the constant


def canonical(mode: str) -> str:
    """Return the one name of a border mode.

    Raises
    ------
    ModeError
        If there is no such mode; the message suggests the nearest name.

    Examples
    --------
    >>> canonical("grid-wrap")
    'wrap'
    """
    if isinstance(mode, str) and mode in MODES:
        return MODES[mode]
    near = difflib.get_close_matches(str(mode), MODES, n=1)
    hint = f'. Did you mean "{near[0]}"?' if near else ""
    raise ModeError(f"`mode` must be one of {', '.join(sorted(MODES))}; got {mode!r}{hint}")


def canonical_modes(mode: str | Sequence[str], ndim: int) -> tuple[str, ...]:
    """Return one mode for each of `ndim` filtered axes.

    Raises
    ------
    ArgumentError
        If a sequence has another length.
    """
    if isinstance(mode, str) or not isinstance(mode, Iterable):
        return (canonical(mode),) * ndim
    modes = tuple(canonical(m) for m in mode)
    if len(modes) != ndim:
        raise ArgumentError(
            f"`mode` must be one name, or one for each of the {ndim} filtered axes; "
            f"got {len(modes)}: {list(mode)}"
        )
    return modes


def extension(n: int, before: int, after: int, mode: str) -> NDArray[np.intp]:
    """Return, for the positions ``-before .. n + after - 1``, the samples they take.

    Parameters
    ----------
    n : int
        The number of samples, at least 1.
    before, after : int
        How many positions to add; they may exceed `n`.
    mode : str
        A canonical name.

    Returns
    -------
    ndarray of int, shape (before + n + after,)
        Indices in ``0 .. n - 1``, or -1 for the constant.

    Examples
    --------
    >>> extension(4, 3, 2, "mirror").tolist()
    [3, 2, 1, 0, 1, 2, 3, 2, 1]
    """
    at = np.arange(-before, n + after)
    if mode == "reflect":
        at = np.mod(at, 2 * n)
        return np.where(at < n, at, 2 * n - 1 - at)
    if mode == "mirror":
        period = max(1, 2 * (n - 1))
        at = np.mod(at, period)
        return np.where(at < n, at, period - at)
    if mode == "nearest":
        return np.clip(at, 0, n - 1)
    if mode == "wrap":
        return np.mod(at, n)
    return np.where((at < 0) | (at >= n), OUTSIDE, at)


def extend(
    image: NDArray[Any],
    axes: Sequence[int],
    widths: Sequence[tuple[int, int]],
    modes: Sequence[str],
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
        How far, for each of them.
    modes : sequence of str
        Canonical names.
    cval : number
        What ``constant`` fills in.
    dtype : dtype
        Of the result.
    """
    for axis, (before, after), mode in zip(axes, widths, modes, strict=True):
        if not before and not after:
            continue
        index = extension(image.shape[axis], before, after, mode)
        taken = np.take(image.astype(dtype, copy=False), index, axis=axis)
        if mode == "constant":
            at: list[Any] = [slice(None)] * image.ndim
            at[axis] = index == OUTSIDE
            taken[tuple(at)] = cval
        image = taken
    return np.ascontiguousarray(image, dtype=dtype)


def carried(cval: complex, taps: NDArray[Any]) -> complex:
    """Return what lies outside after a pass with these taps over an image with `cval` outside.

    Summed product by product, so that an infinite or NaN `cval` gives what the pass would.
    """
    if cval == 0:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(np.ravel(taps) * cval)
    return complex(total) if np.iscomplexobj(total) else float(total)
