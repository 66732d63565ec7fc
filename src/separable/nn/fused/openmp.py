"""Threads that run fused layers: PyTorch's own if possible.

A second pool of threads slows PyTorch down. PyTorch's workers spin for some milliseconds after each
operator, and other threads wait for the same cores meanwhile: on two cores, a layer on threads of its
own was measured to take as long as on one thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from separable.nn.fused.kernel_plan import kernels
from separable.system import after_fork, loaded_libraries

__all__ = ["Job", "gomp_parallel_address", "ready", "run"]

Job = Callable[[int, int], None]
"""Function that runs a plan on the addresses of its input and its result."""


@lru_cache(maxsize=1)
def gomp_parallel_address() -> int:
    """Return the address of PyTorch's `GOMP_parallel`, or 0 if it cannot be found.

    The OpenMP libraries of GNU, LLVM and Intel have this function. If several of them are loaded, the one that
    PyTorch was installed with is taken. Systems that do not list loaded libraries (other than Linux) have none.
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


def run(plan: Any, source: Any, target: int, threads: int) -> None:
    """Run a plan on PyTorch's threads.

    A forked process uses the engine's own threads, because OpenMP's threads do not survive a fork.
    """
    kernels().run(plan, source, target, threads, 0 if _forked else gomp_parallel_address())


def ready(plan: Any, constants: tuple[int, ...], threads: int, otherwise: Job) -> Job:
    """Return a function that runs a plan with the same weights on an input and a result, given by their addresses.

    Parameters
    ----------
    plan : KernelPlan
    constants : tuple of int
        Addresses of the weights.
    threads : int
        Largest number of threads.
    otherwise : callable
        The same by `run`, which plans for several threads use.
    """
    if min(threads, plan.threads) > 1:
        return otherwise
    job: Job = kernels().ready(plan, constants)
    return job


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


after_fork(_after_fork)
