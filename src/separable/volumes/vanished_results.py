"""Notice integer results that lost what the exact ones hold, while a file is written in regions.

All may have been rounded to 0, or most cut off at the largest value of their type. The notes are those
of images that are filtered whole (`separable.files.image_filter.integer_notes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np

from separable.files.chunked_io import Region, Source, Target, boxes
from separable.files.image_filter import SATURATED, VANISHED, leaves_something
from separable.files.image_info import Array

__all__ = ["watched"]

PART_BYTES = 32 << 20  # samples of the source that are read at a time


def watched(
    target: Target, kernel: Any, source: Callable[[], Source]
) -> Callable[[], tuple[str, ...]]:
    """Watch what is written into a target; return a function that returns notes, or nothing.

    Parameters
    ----------
    target : Target
        Target of integers whose regions are written by this process; its `store` is replaced.
    kernel : array_like or Factors
    source : callable
        Opens the file that is filtered. It is read again only if all results are 0, or most are the largest
        value of their type.
    """
    watch = _Watch(target)
    store = target.store

    def watching(region: Region, array: Array) -> None:
        watch.count(array)
        store(region, array)

    target.store = watching
    return lambda: watch.notes(kernel, source)


class _Watch:
    """Counts of the results that were written into a target."""

    def __init__(self, target: Target) -> None:
        self.dtype = target.dtype
        self.largest = None if self.dtype.kind == "b" else np.iinfo(self.dtype).max
        self.total = self.at_largest = 0
        self.something = False
        self._lock = Lock()

    def count(self, array: Array) -> None:
        """Count the results of a region."""
        something = bool(array.any())
        cut_off = 0 if self.largest is None else int(np.count_nonzero(array == self.largest))
        with self._lock:
            self.something = self.something or something
            self.total += array.size
            self.at_largest += cut_off

    def notes(self, kernel: Any, source: Callable[[], Source]) -> tuple[str, ...]:
        """Return a note if all results are 0 or most are the largest value, and the source is not so."""
        if not self.something:
            lost = any(leaves_something(part, kernel) for part in _parts(source))
            return (VANISHED.format(self.dtype),) if lost else ()
        if 2 * self.at_largest <= self.total:
            return ()
        before = sum(int(np.count_nonzero(part == self.largest)) for part in _parts(source))
        if 2 * before > self.total:
            return ()
        return (SATURATED.format(self.largest, self.dtype),)


def _parts(source: Callable[[], Source]) -> Iterator[Array]:
    with source() as image:
        rows = max(1, PART_BYTES * image.shape[0] // max(1, image.nbytes))
        for part in boxes(image.shape, (rows, *image.shape[1:])):
            yield image.read(part)
