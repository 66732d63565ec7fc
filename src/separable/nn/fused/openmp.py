"""Kernel plans of fused layers, and the threads that run them: PyTorch's own if possible.

A second pool of threads slows PyTorch down. PyTorch's workers spin for some milliseconds after each
operator, and other threads wait for the same cores meanwhile: on two cores, a layer on threads of its
own was measured to take as long as on one thread.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from separable.engine.availability import compiling
from separable.process_cache import ProcessBound
from separable.system import after_fork, loaded_libraries

__all__ = ["KernelPlan", "gomp_parallel_address", "run"]

RUN_FIELDS = 7
"""Fields at the start of each record that change from run to run: six arrays and the scratch memory."""


class KernelPlan(ProcessBound):
    """Record of one compiled layer for one shape of input, and the tables that it refers to.

    Attributes
    ----------
    function : int
        Address of the compiled kernel.
    scratch_size : int
        Bytes of scratch memory per thread.
    threads : int
        Number of threads that have work worth waking them for.
    """

    function: int
    scratch_size: int
    threads: int

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._record = np.zeros(1, dtype)
        self._words = self._record.view(np.int64)
        self._tables: list[NDArray[Any]] = []

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._record[name] = value

    def _add_table(self, table: NDArray[Any]) -> int:
        """Keep a table alive with the plan; return its address."""
        contiguous = np.ascontiguousarray(table)
        self._tables.append(contiguous)
        return int(contiguous.ctypes.data)

    def fill(
        self, words: NDArray[np.int64], source: tuple[int, ...], target: int, scratch: int
    ) -> None:
        """Write the record of one run.

        Parameters
        ----------
        words : ndarray of int64
            Memory for the record.
        source : tuple of int
            Addresses of the input and of the arrays of weights, in the order of the record's fields.
        target, scratch : int
            Addresses of the output and of the scratch memory.
        """
        words[: self._words.size] = self._words
        words[:RUN_FIELDS] = (source[0], target, *source[1:], scratch)


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
    with compiling:
        from separable.engine.compiled.thread_pool import run

    run(plan, source, target, threads, 0 if _forked else gomp_parallel_address())


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


after_fork(_after_fork)
