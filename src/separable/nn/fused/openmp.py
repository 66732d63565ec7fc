"""The threads that fused layers run on: PyTorch's own, where they can be had.

Between PyTorch's operators a second pool of threads is a bad guest. PyTorch's workers spin for some
milliseconds after each operator, and what needs the same cores meanwhile waits: on two cores a layer
on threads of its own was seen to take as long as on one.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from separable.engine.availability import compiling
from separable.system import after_fork, loaded_libraries

__all__ = ["run", "starter"]


@lru_cache(maxsize=1)
def starter() -> int:
    """Return the address of PyTorch's `GOMP_parallel`, or 0 where it cannot be found.

    GNU's, LLVM's and Intel's OpenMP have that function. Where several libraries are loaded it must be the one
    that PyTorch brought; a system that does not tell what is loaded (other than Linux) has none.
    """
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return 0
    found = [p for p in loaded_libraries() if p.name.startswith(("libgomp", "libomp", "libiomp"))]
    home = Path(torch.__file__).resolve().parent
    own = [p for p in found if home in p.parents or home.with_name("torch.libs") in p.parents]
    chosen = own or found
    if len(chosen) != 1:
        return 0
    try:
        function = ctypes.CDLL(str(chosen[0])).GOMP_parallel
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def run(schedule: Any, source: int, target: int, threads: int) -> None:
    """Run a prepared job on PyTorch's threads.

    In a process that was forked the engine's own serve: OpenMP's threads did not come along.
    """
    with compiling:
        from separable.engine.compiled.thread_pool import run

    run(schedule, source, target, threads, 0 if _forked else starter())


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


after_fork(_after_fork)
