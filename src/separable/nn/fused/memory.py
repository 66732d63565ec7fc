"""Where results go: large ones into memory that has been used before.

PyTorch gives large tensors back to the system and gets them anew, zeroed, with a page fault for every 4 KiB:
for a result that is written once, that takes as long as computing it. The engine's blocks are kept, and lie in huge
pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from separable.engine import memory

__all__ = ["empty", "empty_strided"]


def empty(shape: Sequence[int]) -> Tensor:
    """Return a float32 tensor of arbitrary contents, its last axis innermost."""
    if math.prod(shape) * 4 < memory.LARGE:
        return torch.empty(shape)
    return torch.from_numpy(memory.empty(shape, "float32"))


def empty_strided(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a dense tensor of arbitrary contents with given strides."""
    size = math.prod(shape)
    if size * dtype.itemsize < memory.LARGE:
        return torch.empty_strided(shape, strides, dtype=dtype)
    flat = torch.from_numpy(memory.empty((size * dtype.itemsize,), "uint8")).view(dtype)
    return flat.as_strided(shape, strides)
