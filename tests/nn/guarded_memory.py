"""Memory between pages that cannot be accessed, for the arrays and the scratch memory of compiled layers."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import torch

from separable.nn.fused.kernel_plan import RUN_FIELDS

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[mmap.mmap] = []


def guarded(size: int, at_end: bool) -> torch.Tensor:
    """Return ``size`` NaN of float32 that end or begin at a page that cannot be accessed."""
    pages = -(-size * 4 // PAGE)
    area = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for page in (0, pages + 1):
        assert _libc.mprotect(ctypes.c_void_p(base + page * PAGE), PAGE, 0) == 0
    _kept.append(area)
    start = PAGE + (pages * PAGE - size * 4 if at_end else 0)
    return torch.frombuffer(area, dtype=torch.float32, count=size, offset=start).fill_(float("nan"))


class GuardedRun:
    """A plan whose scratch memory lies between pages that cannot be accessed."""

    def __init__(self, plan: Any, at_end: bool) -> None:
        self.plan, self.function, self.threads = plan, plan.function, plan.threads
        self.scratch_size, self.shared_size = 64, 0
        self.scratch = guarded(plan.scratch_size // 4 * plan.threads, at_end)

    def fill(self, words: Any, source: Any, target: int, scratch: int) -> None:
        """Write the record of one run, with the guarded memory as scratch memory."""
        self.plan.fill(words, source, target, scratch)
        words[RUN_FIELDS - 1] = self.scratch.data_ptr()
