"""Work on several threads: jobs that let go of the interpreter's lock.

The pool is made when it is first needed and forgotten in a forked child, where its threads would
not exist.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["default_threads", "in_parallel", "slabs"]

T = TypeVar("T")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def default_threads() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def in_parallel(job: Callable[[T], object], parts: Iterable[T], threads: int) -> None:
    """Run a job for each part, on the calling thread if there is only one thread or one part.

    The first error is raised after all jobs have ended.
    """
    parts = list(parts)
    if threads <= 1 or len(parts) <= 1:
        for part in parts:
            job(part)
        return
    with _lock:
        pool = _pools.get(threads)
        if pool is None:
            pool = _pools[threads] = ThreadPoolExecutor(threads, "separable")
    futures = [pool.submit(job, part) for part in parts]
    try:
        errors = [f.exception() for f in futures]
    except BaseException:  # interrupted: what has not begun need not
        for future in futures:
            future.cancel()
        raise
    for error in errors:
        if error is not None:
            raise error


def slabs(n: int, parts: int) -> list[slice]:
    """Cut ``range(n)`` into at most `parts` slices of nearly equal length.

    Examples
    --------
    >>> slabs(7, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    parts = max(1, min(parts, n))
    ends = [i * n // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(ends) if b > a]
