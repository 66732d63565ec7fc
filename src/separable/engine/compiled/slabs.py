"""Filters run slab by slab, so that what they need beside image and result is small.

Two cases need memory of their own: an intermediate result between two sweeps, and a result that overwrites the image
(``image is out``).  Then the result is cut along one axis into slabs:

- An axis that is not filtered is cut as it is.
- Along a filtered axis a slab reads its neighbours' samples too, through its part of the border map.  That axis must
  be filtered by the first sweep, because only the image is there as a whole, and not as ``x``, whose borders are
  tables of columns.

In place a finished slab waits until no later one reads the samples that it replaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .sweep_builder import round_up
from .sweep_params import array_address

SLAB_BYTES = 20 << 20
"""Bound on the intermediate results of a slab, and on the results that wait."""
FEW_ROWS = 32
"""Slabs of fewer rows do not fill the vectors."""


class Sliceable(Protocol):
    """A prepared filter that can be restricted to a part of its result."""

    shape: tuple[int, ...]

    def reach(self, axis: int, image: NDArray[Any], out: NDArray[Any]) -> int | None:
        """Return how many more samples than outputs a slab reads along an axis; None if it cannot be cut."""

    def restricted(self, axis: int, start: int, stop: int) -> Any:
        """Return the filter of the outputs ``start`` to ``stop`` along an axis, of the whole image."""

    def border_map(self, axis: int) -> NDArray[np.int64] | None:
        """Return the border map of a filtered axis, with all that a slab reads; None for another axis."""


def overwrites(image: NDArray[Any], out: NDArray[Any]) -> bool:
    """Return whether two arrays begin at one address: the result overwrites the image."""
    if not np.may_share_memory(image, out):  # ten times faster than to ask for both addresses
        return False
    return array_address(image) == array_address(out)


def choose_slabs(
    whole: Sliceable, image: NDArray[Any], out: NDArray[Any], item: int, arrays: int
) -> tuple[int, int] | None:
    """Return the axis to cut and the rows of a slab with the least work, or None if no axis can be cut.

    Parameters
    ----------
    whole : Sliceable
    image, out : ndarray
    item, arrays : int
        Bytes of a number, and the number of arrays of a slab's size that are needed.
    """
    in_place = overwrites(image, out)
    best: tuple[float, int, int] | None = None
    for axis, size in enumerate(whole.shape):
        reach = whole.reach(axis, image, out)
        if reach is None:
            continue
        row = item * math.prod(whole.shape) // max(size, 1)
        waiting = reach * row if in_place else 0
        rows = max(1, (SLAB_BYTES - waiting) // max(row * arrays, 1))
        if rows >= size:
            rows = size
        elif rows > FEW_ROWS:
            rows = round_up(rows - FEW_ROWS + 1, FEW_ROWS)
        cost = (rows + reach) / rows * max(1.0, min(FEW_ROWS, size) / rows)
        if best is None or cost < best[0]:
            best = cost, axis, rows
    return best[1:] if best else None


def run_in_slabs(
    whole: Sliceable,
    image: NDArray[Any],
    out: NDArray[Any],
    threads: int,
    cut: tuple[int, int],
) -> None:
    """Run a filter slab by slab, see :func:`choose_slabs`."""
    (axis, rows), in_place = cut, overwrites(image, out)
    last = _last_use(whole, axis) if in_place else None
    waiting: list[tuple[slice, NDArray[Any]]] = []
    for part in _slabs(whole.shape[axis], rows):
        place = (slice(None),) * axis + (part,)
        source = image[place] if whole.border_map(axis) is None else image
        result = np.empty_like(out[place], order="K") if in_place else out[place]
        whole.restricted(axis, part.start, part.stop)(source, result, threads)
        if last is not None:
            waiting.append((part, result))
            done = [w for w in waiting if last[w[0]].max() < part.stop]
            waiting = [w for w in waiting if last[w[0]].max() >= part.stop]
            _write(out, axis, done)
    _write(out, axis, waiting)


def _write(out: NDArray[Any], axis: int, results: list[tuple[slice, NDArray[Any]]]) -> None:
    for part, result in results:
        out[(slice(None),) * axis + (part,)] = result


def _slabs(size: int, rows: int) -> Iterator[slice]:
    for start in range(0, size, rows):
        yield slice(start, min(start + rows, size))


def _last_use(whole: Sliceable, axis: int) -> NDArray[np.int64]:
    """Return for each sample of an axis the last output that reads it; its own where the axis is not filtered."""
    size = whole.shape[axis]
    last = np.arange(size)
    places = whole.border_map(axis)
    if places is not None:
        # The extended position e is read by the outputs e - (taps - 1) to e.
        inside = places >= 0
        outputs = np.minimum(np.arange(places.size), size - 1)
        np.maximum.at(last, places[inside], outputs[inside])
    return last
