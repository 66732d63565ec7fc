"""Products of the taps of chains of passes, computed without the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["products_of"]


def products_of(chain: Sequence[Any], ndim: int) -> dict[tuple[int, ...], float]:
    """Return the sum of all products of taps of a chain of passes at each place of the kernel, from its first place."""
    found = {(0,) * ndim: 1.0}
    for p in chain:
        more: dict[tuple[int, ...], float] = {}
        for place, value in found.items():
            for at in np.ndindex(p.taps.shape):
                moved = list(place)
                for k, axis in enumerate(p.axes):
                    moved[axis] += p.offset[k] + p.dilation[k] * at[k]
                key = tuple(moved)
                more[key] = more.get(key, 0.0) + value * p.taps[at]
        found = more
    return found
