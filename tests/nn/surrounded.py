"""Tensors in the middle of memory full of NaN: reads outside spoil results, writes outside are found."""

from __future__ import annotations

import math

import torch

MARGIN = 4096


class Surrounded:
    """Memory of NaN with a dense channels-last tensor ``(n, channels, *space)`` in the middle."""

    def __init__(self, shape):
        n, channels, *space = shape
        count = n * channels * math.prod(space)
        self._all = torch.full((count + 2 * MARGIN,), float("nan"))
        inner = self._all[MARGIN : MARGIN + count].view(n, *space, channels)
        self.tensor = inner.movedim(-1, 1)

    def is_untouched_outside(self):
        """Return True if all memory around the tensor still is NaN."""
        ends = torch.cat([self._all[:MARGIN], self._all[-MARGIN:]])
        return bool(ends.isnan().all())


def surrounded(x):
    """Return a copy of a tensor in memory full of NaN."""
    made = Surrounded(x.shape)
    made.tensor.copy_(x)
    return made.tensor
