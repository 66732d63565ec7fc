"""Where the channels lie in memory: from first to last and back, faster than PyTorch copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine.availability import available, compiling
from separable.engine.tensor_memory import empty, empty_strided
from separable.nn.fused.openmp import run
from separable.process_cache import ProcessBound

__all__ = ["last_strides", "to_first", "to_last"]

STRIP_VALUES = 1 << 13
"""Values that an item of work moves, at least."""


class _Turn(ProcessBound):
    """The transposes of ``matrices`` matrices of one shape."""

    scratch_size = 64

    def __init__(self, matrices: int, rows: int, columns: int) -> None:
        with compiling:
            from separable.engine.compiled.jit import address
            from separable.engine.compiled.numba_api import types
            from separable.nn.fused.compiled import layer_params, layout_kernels, simd_ops

        strips = -(-rows // simd_ops.LANES)
        each = max(1, STRIP_VALUES // (simd_ops.LANES * columns))
        tiles = matrices * strips
        values = {
            "channels": rows, "row_size": columns, "tiles_of_image": strips, "group_tiles": each,
            "tiles": tiles, "items": -(-tiles // each),
        }  # fmt: skip
        self._words = np.zeros(layer_params.COUNT, np.int64)
        for name, value in values.items():
            self._words[layer_params.PLACE[name]] = value
        self.threads = max(1, min(values["items"], matrices * rows * columns >> 14))
        self.function = address(layout_kernels.turn, (types.int64,) * 3)

    def fill(self, words: NDArray[np.int64], source: int, target: int, scratch: int) -> None:
        """Write the plan of one run."""
        words[: self._words.size] = self._words
        words[:2] = source, target


_turn = lru_cache(maxsize=512)(_Turn)


def _turned(x: Tensor, out: Tensor, matrices: int, rows: int, columns: int) -> None:
    run(_turn(matrices, rows, columns), x.data_ptr(), out.data_ptr(), torch.get_num_threads())


def _is_turned(x: Tensor, rows: Tensor) -> bool:
    """Return whether the kernels turn a tensor whose matrices lie in rows."""
    return x.dtype is torch.float32 and rows.is_contiguous() and x.numel() > 0 and available()


def to_last(x: Tensor) -> Tensor:
    """Return ``(n, channels, *space)`` with the channels last in memory: `x` itself if it has them so."""
    if x.movedim(1, -1).is_contiguous():
        return x
    out = empty_strided(x.shape, last_strides(x.shape), x.dtype)
    if not _is_turned(x, x):
        return out.copy_(x)
    _turned(x, out, x.shape[0], x.shape[1], math.prod(x.shape[2:]))
    return out


def last_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a dense tensor ``(n, channels, *space)`` with the channels last in memory."""
    strides, step = [0] * len(shape), 1
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def to_first(x: Tensor) -> Tensor:
    """Return ``(n, channels, *space)`` as PyTorch's default has it in memory: `x` itself if it is so."""
    if x.is_contiguous():
        return x
    lines = x.movedim(1, -1)
    out = empty(x.shape, x.dtype)
    if not _is_turned(x, lines):
        return out.copy_(x)
    _turned(lines, out, x.shape[0], math.prod(x.shape[2:]), x.shape[1])
    return out
