"""Features of derivatives that are arrays, at each sample: compiled if possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import EngineError, available, compiling
from separable.engine.result_memory import empty
from separable.features.pointwise import WORKS

__all__ = ["COUNTED", "REDUCES", "apply_work", "padded", "pointwise", "pointwise_within"]

Array = NDArray[Any]

SAMPLES = 1 << 18  # samples whose features NumPy computes at a time
COUNTED = ("length", "copies", "products", "variance", "sum", "difference")
"""Works of any number of derivatives; the others are of matrices."""
REDUCES = "largest_"
"""Beginning of the names of works that return a maximum."""


def pointwise(
    work: str,
    numbers: tuple[float, ...],
    arrays: Array,
    out: Array | None,
    threads: int,
    *,
    accumulate: bool = False,
) -> Array:
    """Compute features of flat derivatives.

    Parameters
    ----------
    work : str
        Name in `pointwise.WORKS`.
    numbers : tuple of float
        Numbers of the work.
    arrays : ndarray, shape (derivatives, samples)
        Memory of `padded`.
    out : ndarray, shape (features, samples)
        Result; None if the work returns a maximum.
    threads : int
        Largest number of threads.
    accumulate : bool
        Whether the result is the larger of the feature and what `out` contains.

    Returns
    -------
    ndarray
        `out`, or the maximum as an array of one element.
    """
    counted = work in COUNTED
    count = len(arrays)
    size = {3: 2, 6: 3}.get(count, 0)
    if work == "gaussian_features":
        size = {6: 2, 10: 3}.get(count, 0)
    if (
        (counted or size)
        and arrays.size
        and arrays.dtype.name in ("float32", "float64")
        and available()
    ):
        try:
            with compiling:
                from separable.features.compiled.feature_tiling import FeatureWork, run_pointwise
            row = f"{work}_row" + ("" if counted else f"_{size}")
            own = FeatureWork(row, numbers, accumulate, work.startswith(REDUCES))
            found = run_pointwise(arrays, out, own, threads)
            return np.max(found, keepdims=True).reshape(1) if out is None else out
        except EngineError:
            pass
    return apply_work(work, numbers, list(arrays), out, accumulate)


def pointwise_within(
    work: str, numbers: tuple[float, ...], arrays: Array, out: Array, threads: int
) -> bool:
    """Compute features of a part of derivatives straight into a part of the result, if that is compiled.

    Parameters
    ----------
    work, numbers, threads
        As for `pointwise`.
    arrays : ndarray, shape (derivatives, ...)
        Part of memory of `padded`, of two or three axes.
    out : ndarray, shape (features, ...)
        Part of the result.

    Returns
    -------
    bool
        Whether it was computed.
    """
    size = {3: 2, 6: 3}.get(len(arrays), 0)
    plain = arrays.dtype == out.dtype and arrays.dtype.name in ("float32", "float64")
    counted = work in COUNTED
    contiguous = arrays.strides[-1] == out.strides[-1] == arrays.itemsize
    if not (plain and contiguous and (counted or size) and arrays.ndim in (3, 4) and out.size):
        return False
    if arrays.ndim == 3:
        arrays, out = arrays[:, None], out[:, None]
    try:
        with compiling:
            from separable.features.compiled.feature_tiling import FeatureWork, run_rows
        row = f"{work}_row" + ("" if counted else f"_{size}")
        run_rows(arrays, out, FeatureWork(row, numbers), threads)
    except EngineError:
        return False
    return True


def padded(count: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return an array (count, *shape) behind which a whole vector can be read."""
    size = count * math.prod(shape)
    return empty((size + 64 // dtype.itemsize,), dtype)[:size].reshape(count, *shape)


def apply_work(
    work: str,
    numbers: Sequence[float],
    derivatives: Sequence[Array],
    out: Array | None,
    accumulate: bool = False,
) -> Array:
    """Compute features of flat arrays of derivatives by NumPy, some samples at a time.

    Returns
    -------
    ndarray
        `out`, of shape (features, samples), or the maximum as an array of one element.
    """
    function, size = WORKS[work], derivatives[0].size
    largest = np.zeros(1, derivatives[0].dtype)
    for start in range(0, size, SAMPLES):
        part = slice(start, min(start + SAMPLES, size))
        found = function([d[part] for d in derivatives], numbers)
        if out is None:
            np.fmax(largest, found[0], out=largest)
            continue
        for target, values in zip(out, found, strict=True):
            if accumulate:
                values = np.fmax(target[part], values)
            target[part] = values
    return largest if out is None else out
