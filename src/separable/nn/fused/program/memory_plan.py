"""Places of values in one block of memory: values that are never needed at the same time share bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Lifetime", "places"]

ALIGNMENT = 128
"""Bytes: two cache lines, which processors fetch together."""


class Lifetime(NamedTuple):
    """Size of a value in bytes, the step that writes it, and the last step that reads it."""

    size: int
    first: int
    last: int


def places(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Return the offset of each value, and the size of the memory that holds them all.

    Larger values are placed first, each at the lowest offset where no value of an overlapping lifetime
    is: the usual greedy plan, within a few per cent of the best one for chains of layers.

    Examples
    --------
    >>> places([Lifetime(256, 0, 1), Lifetime(128, 1, 2), Lifetime(256, 2, 3)])
    ([0, 256, 0], 384)
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    total = 0
    for i in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, lifetimes[i].first)):
        mine = lifetimes[i]
        size = -(-mine.size // ALIGNMENT) * ALIGNMENT
        taken = sorted(
            (offsets[j], offsets[j] + lifetimes[j].size)
            for j in placed
            if lifetimes[j].first <= mine.last and mine.first <= lifetimes[j].last
        )
        at = 0
        for begin, end in taken:
            if at + size <= begin:
                break
            at = max(at, -(-end // ALIGNMENT) * ALIGNMENT)
        offsets[i] = at
        placed.append(i)
        total = max(total, at + size)
    return offsets, total
