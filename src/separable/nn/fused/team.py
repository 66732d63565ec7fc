"""The threads that fused layers run on: PyTorch's own, where they can be had.

Between PyTorch's operators a second pool of threads is a bad guest. PyTorch's workers spin for some
milliseconds after each operator, and what needs the same cores meanwhile waits: on two cores a layer
on threads of its own was seen to take as long as on one.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from separable.engine.availability import compiling

__all__ = ["run", "starter"]


@lru_cache(maxsize=1)
def starter() -> int:
    """Return the address of PyTorch's `GOMP_parallel`, or 0 where it cannot be found.

    GNU's, LLVM's and Intel's OpenMP have that function. Where several libraries are loaded it must be the one
    that PyTorch brought; a system that does not tell what is loaded (other than Linux) has none.
    """
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return 0
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    names = {line.split(maxsplit=5)[-1] for line in lines if "/" in line}
    found = [
        Path(n) for n in sorted(names) if Path(n).name.startswith(("libgomp", "libomp", "libiomp"))
    ]
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
        from separable.engine.compiled.threads import run

    run(schedule, source, target, threads, 0 if _forked else starter())


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
