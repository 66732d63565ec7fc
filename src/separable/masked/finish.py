"""Combination of the filtered samples and weights into the result: one division or correction, one rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import EngineError, available, compiling
from separable.engine.result_memory import empty
from separable.engine.thread_count import in_parallel
from separable.masked.nodata import keep_distinct
from separable.masked.samples import Rows, chunks, flat, rows_of
from separable.masked.valid_weights import Weights
from separable.run import store

__all__ = ["Parts", "least_of"]

Array = NDArray[Any]

FULL = (
    8  # rounding errors by which the valid weight may differ from the total if all of it is valid
)


@dataclass(frozen=True, eq=False)
class Parts:
    """Results of the runs of one filter; `finish` overwrites them.

    Attributes
    ----------
    filtered : ndarray
        Valid samples filtered with the kernel; has the image's shape.
    weight : ndarray
        Mask filtered with the absolute weights. Its length is 1 along axes where that of the mask is.
    mean : ndarray or None
        Valid samples filtered with the absolute weights, for a kernel of both signs.
    share : ndarray or None
        Mask of the missing samples filtered with the kernel, for a kernel of both signs.
    weights : Weights
        Weights of the kernel.
    """

    filtered: Array
    weight: Array
    mean: Array | None
    share: Array | None
    weights: Weights

    def finish(
        self,
        target: Array | np.dtype[Any],
        fill: Any,
        nothing_valid: Array | None,
        threads: int,
        *,
        distinct: bool = False,
    ) -> Array:
        """Combine the parts into an array, or a new one of a type; set `nothing_valid` where it is `fill`.

        If `distinct` is true, results of valid samples differ from `fill`.
        """
        values = self.filtered
        if isinstance(target, np.ndarray):
            out = target
        else:
            out = values if target == values.dtype else empty(values.shape, target)
        compiled = values.dtype.kind == "f" and available()

        def job(rows: Rows) -> None:
            part, place = values[rows], out[rows]
            filling = fill if out is values else 0
            try:
                empty_count = self._compiled(rows, filling) if compiled else None
            except EngineError:
                empty_count = None
            if empty_count is None:
                empty_count = self._by_numpy(rows, filling)
            if out is not values:
                _settled(part, place)
            if empty_count and (out is not values or nothing_valid is not None):
                nothing = self._weight(rows, part.shape) < self.weights.half
                np.copyto(place, fill, where=nothing, casting="unsafe")
                if nothing_valid is not None:
                    nothing_valid[rows] |= nothing
            if distinct:
                keep_distinct(place, fill, self._weight(rows, part.shape) < self.weights.half)

        in_parallel(job, chunks(values.shape), threads)
        return out

    def _compiled(self, rows: Rows, fill: Any) -> int:
        """Combine the parts in place; return the number of samples with nothing valid below them."""
        with compiling:
            from separable.engine.compiled.masked_kernels import add_masked_mean, normalise

        values = self.filtered[rows]
        shape, dtype, whole = values.shape, values.dtype, self.weights.total
        weight = flat(rows_of(self.weight, rows), shape).astype(dtype, copy=False)
        full = whole * (1 - FULL * float(np.finfo(dtype).eps))
        numbers = np.array([whole, full, self.weights.half, self.weights.unit], dtype)
        filling = dtype.type(fill)
        if self.mean is None or self.share is None:
            with compiling:
                return int(normalise(values.reshape(-1), weight, numbers, filling))
        mean = self.mean[rows].reshape(-1)
        share = flat(rows_of(self.share, rows), shape).astype(dtype, copy=False)
        with compiling:
            return int(add_masked_mean(values.reshape(-1), mean, share, weight, numbers, filling))

    def _by_numpy(self, rows: Rows, fill: Any) -> int:
        """Do the same for complex numbers, and without the compiled engine."""
        values = self.filtered[rows]
        weight, whole = self._weight(rows, values.shape), self.weights.total
        nothing = weight < self.weights.half
        with np.errstate(all="ignore"):
            if self.mean is None or self.share is None:
                result = values * (whole / weight)
            else:
                share = np.broadcast_to(rows_of(self.share, rows), values.shape)
                result = np.where(share == 0, values, values + self.mean[rows] / weight * share)
        values[...] = np.where(nothing, fill, result)
        return int(np.count_nonzero(nothing))

    def _weight(self, rows: Rows, shape: tuple[int, ...]) -> Array:
        weight = np.broadcast_to(rows_of(self.weight, rows), shape)
        unit = self.weights.unit
        return np.rint(weight / unit) * unit if unit else weight


def _settled(values: Array, place: Array) -> None:
    """Round and store; compiled code does it for integers of 8 and 16 bits."""
    kind = place.dtype
    small = kind.kind in "iu" and kind.itemsize <= 2 and kind.isnative
    if not small or values.dtype.kind != "f" or not place.flags.c_contiguous or not available():
        store(values, place, 1)
        return
    limits = np.iinfo(kind)
    low, high = values.dtype.type(limits.min), values.dtype.type(limits.max)
    try:
        with compiling:
            from separable.engine.compiled.masked_kernels import round_and_clip

            round_and_clip(values.reshape(-1), place.reshape(-1), low, high)
    except EngineError:
        store(values, place, 1)


def least_of(weight: Array, weights: Weights, threads: int) -> float:
    """Return the smallest valid weight that is not 0, relative to all weights."""
    bits = np.dtype(f"u{weight.itemsize}")
    limits = np.array([weights.half, weights.total], weight.dtype).view(bits)
    found: list[int] = []

    def job(rows: Rows) -> None:
        part = flat(weight[rows]).view(bits)
        try:
            with compiling:
                from separable.engine.compiled.masked_kernels import smallest_weight

                found.append(smallest_weight(part, *limits))
        except EngineError:
            found.append(np.min(part, where=part >= limits[0], initial=limits[1]))

    in_parallel(job, chunks(weight.shape), threads)
    smallest = np.array([min(found)], bits).view(weight.dtype)[0]
    return max(float(smallest) / weights.total, weights.smallest)
