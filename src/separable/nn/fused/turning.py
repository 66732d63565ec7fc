"""Where the channels lie in memory: from first to last and back, faster than PyTorch copies."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine.availability import available, compiling
from separable.nn.fused.memory import empty
from separable.nn.fused.team import run

__all__ = ["to_first", "to_last"]

STRIP_VALUES = 1 << 13
"""Values that an item of work moves, at least."""


class _Turn:
    """The transposes of ``matrices`` matrices of one shape."""

    scratch_size = 64

    def __init__(self, matrices: int, rows: int, columns: int) -> None:
        with compiling:
            from separable.engine.compiled.kernel import address
            from separable.engine.compiled.numba_api import types
            from separable.nn.fused.compiled import turning, words, words_of_plan

        strips = -(-rows // words.LANES)
        each = max(1, STRIP_VALUES // (words.LANES * columns))
        tiles = matrices * strips
        values = {
            "channels": rows, "row_size": columns, "tiles_of_image": strips, "group_tiles": each,
            "tiles": tiles, "items": -(-tiles // each),
        }  # fmt: skip
        self._words = np.zeros(words_of_plan.COUNT, np.int64)
        for name, value in values.items():
            self._words[words_of_plan.PLACE[name]] = value
        self.threads = max(1, min(values["items"], matrices * rows * columns >> 14))
        self.function = address(turning.turn, (types.int64,) * 3)

    def fill(self, words: NDArray[np.int64], source: int, target: int, scratch: int) -> None:
        """Write the plan of one run."""
        words[: self._words.size] = self._words
        words[:2] = source, target


_turn = lru_cache(maxsize=512)(_Turn)


def _turned(x: Tensor, out: Tensor, matrices: int, rows: int, columns: int) -> None:
    run(_turn(matrices, rows, columns), x.data_ptr(), out.data_ptr(), torch.get_num_threads())


def to_last(x: Tensor) -> Tensor:
    """Return ``(n, channels, *space)`` with the channels last in memory."""
    plain = x.dtype is not torch.float32 or not x.is_contiguous() or x.numel() == 0
    if plain or not available():
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    out = empty((x.shape[0], *x.shape[2:], x.shape[1]))
    _turned(x, out, x.shape[0], x.shape[1], math.prod(x.shape[2:]))
    return out.movedim(-1, 1)


def to_first(x: Tensor) -> Tensor:
    """Return ``(n, channels, *space)``, channels last in memory, as PyTorch's default has it."""
    lines = x.movedim(1, -1)
    plain = x.dtype is not torch.float32 or not lines.is_contiguous() or x.numel() == 0
    if plain or not available():
        return x.contiguous()
    out = empty(x.shape)
    _turned(lines, out, x.shape[0], math.prod(x.shape[2:]), x.shape[1])
    return out
