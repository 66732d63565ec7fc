"""Notice integer results that were all rounded to 0, while a file is written in regions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from separable.files.chunked_io import Region, Target, boxes
from separable.files.image_filter import VANISHED, leaves_something
from separable.files.image_info import Array
from separable.files.opening import open_source

__all__ = ["watched"]

PART_BYTES = 32 << 20  # samples of the source that are read at a time


def watched(target: Target, kernel: Any, source: Path) -> Callable[[], tuple[str, ...]]:
    """Watch what is written into a target; return a function that returns a note, or nothing.

    Parameters
    ----------
    target : Target
        Target whose regions are written by this process; its `store` is replaced.
    kernel : array_like or Factors
    source : Path
        File that is filtered. It is read again, up to its first sample that matters, only if all
        results are 0.
    """
    store, seen = target.store, [False]

    def watching(region: Region, array: Array) -> None:
        seen[0] = seen[0] or bool(array.any())
        store(region, array)

    def note() -> tuple[str, ...]:
        if seen[0]:
            return ()
        with open_source(source) as image:
            rows = max(1, PART_BYTES * image.shape[0] // max(1, image.nbytes))
            parts = boxes(image.shape, (rows, *image.shape[1:]))
            lost = any(leaves_something(image.read(part), kernel) for part in parts)
        return (VANISHED.format(target.dtype),) if lost else ()

    target.store = watching
    return note
