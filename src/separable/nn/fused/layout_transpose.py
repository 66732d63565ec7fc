"""Conversion between channels-first and channels-last layout, faster than a copy by PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from separable.engine.availability import available
from separable.engine.tensor_memory import empty, empty_strided
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.openmp import Job, ready, run

__all__ = ["TransposePlan", "known_last_strides", "last_strides", "to_first", "to_last"]

STRIP_VALUES = 1 << 13
"""Minimum number of values that a work item moves."""


FEW_STRIPS = 16
"""Fewest strips of rows that are not divided."""


class TransposePlan(KernelPlan):
    """Plan of the transposes of ``matrices`` matrices of one shape, from [row][column] to [column][row].

    Channels first is [image][channel][position], channels last [image][position][channel]: a matrix per image. Arrays
    of a run: source; target.
    """

    scratch_size = 64

    def __init__(self, matrices: int, rows: int, columns: int) -> None:
        compiled = kernels()
        strips = -(-rows // compiled.lanes)
        # Few strips, as of the three channels of a photograph, are divided so that all threads have some.
        parts = 1
        if matrices * strips < FEW_STRIPS:
            parts = max(1, min(rows, compiled.lanes) * columns // STRIP_VALUES)
        each = max(1, STRIP_VALUES * parts // (compiled.lanes * columns))
        tiles = matrices * strips * parts
        super().__init__(compiled.constant("LAYER"))
        items = -(-tiles // each)
        self._set(
            channels=rows, row_size=columns, tiles_of_image=strips, group_tiles=each, tiles=tiles,
            items=items, parts=parts, scratch_size=self.scratch_size,
        )  # fmt: skip
        self.threads = max(1, min(items, matrices * rows * columns >> 14))
        self.function = compiled.address("transpose_matrices")


_transpose_plan = lru_cache(maxsize=512)(TransposePlan)


@lru_cache(maxsize=512)
def _transpose_job(matrices: int, rows: int, columns: int, threads: int) -> Job:
    """Return a function that transposes matrices at one address to another address."""
    plan, constants = _transpose_plan(matrices, rows, columns), (0, 0, 0, 0)

    def by_plan(source: int, target: int) -> None:
        run(plan, (source, *constants), target, threads)

    return ready(plan, constants, threads, by_plan)


def _transpose(x: Tensor, out: Tensor, matrices: int, rows: int, columns: int) -> None:
    job = _transpose_job(matrices, rows, columns, torch.get_num_threads())
    job(x.data_ptr(), out.data_ptr())


def _can_transpose(x: Tensor, rows: Tensor) -> bool:
    """Return True if the kernels can transpose a tensor; `rows` is its view with contiguous rows."""
    return x.dtype is torch.float32 and rows.is_contiguous() and x.numel() > 0 and available()


def to_last(x: Tensor) -> Tensor:
    """Return ``(n, channels, *space)`` with the channels last in memory; `x` itself if they are."""
    shape = x.shape
    strides = known_last_strides(shape)
    if x.stride() == strides or (1 in shape and x.movedim(1, -1).is_contiguous()):
        return x
    out = empty_strided(shape, strides, x.dtype)
    if not _can_transpose(x, x):
        return out.copy_(x)
    _transpose(x, out, shape[0], shape[1], math.prod(shape[2:]))
    return out


def last_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a dense tensor ``(n, channels, *space)`` with the channels last."""
    strides, step = [0] * len(shape), 1
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


# The compiler of PyTorch traces `last_strides`, but not functions with a cache.
known_last_strides = lru_cache(maxsize=512)(last_strides)


def to_first(x: Tensor) -> Tensor:
    """Return ``(n, channels, *space)`` in PyTorch's default layout; `x` itself if it has that."""
    if x.is_contiguous():
        return x
    lines = x.movedim(1, -1)
    out = empty(x.shape, x.dtype)
    if not _can_transpose(x, lines):
        return out.copy_(x)
    _transpose(lines, out, x.shape[0], math.prod(x.shape[2:]), x.shape[1])
    return out
