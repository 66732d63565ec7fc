"""Two border modes that nobody has: what is true of every border is tried with them too."""

from __future__ import annotations

import numpy as np

from separable.borders import OUTSIDE, Border


class FarEdge(Border):
    """The sample of the far edge: the last one on the left of a line, the first one on the right."""

    name, aliases = "far-edge", ("opposite",)
    help = "the last sample on the left, the first one on the right"
    picture = "d d d d | a b c d | a a a a"

    def extension(self, n: int, before: int, after: int) -> np.ndarray:
        return np.concatenate([np.full(before, n - 1), np.arange(n), np.zeros(after, int)])


class EdgeOnce(Border):
    """The sample at the edge once more, then the constant."""

    name, help = "edge-once", "the sample at the edge once, then the constant"
    picture = "k k a | a b c d | d k k"
    fills = True

    def extension(self, n: int, before: int, after: int) -> np.ndarray:
        at = np.arange(-before, n + after)
        return np.where((at < -1) | (at > n), OUTSIDE, np.clip(at, 0, n - 1))
