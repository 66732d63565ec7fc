"""The number of threads, and a pool for Python jobs that release the interpreter's lock.

The pool is made when it is first needed and discarded in a forked child, where its threads do
not exist.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from separable.errors import ArgumentError, ArgumentTypeError
from separable.system import after_fork, available_processors

__all__ = [
    "check_threads",
    "get_num_threads",
    "in_parallel",
    "recent_num_threads",
    "set_num_threads",
    "slabs",
]

T = TypeVar("T")

VARIABLE = "SEPARABLE_NUM_THREADS"
AGAIN = 0.01  # seconds after which the system is asked again for the processors of this process

_lock = threading.Lock()
_chosen: int | None = None
_pools: dict[int, ThreadPoolExecutor] = {}


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


after_fork(_forget)


def get_num_threads() -> int:
    """Return the default number of threads of a filter.

    This is the number set by `set_num_threads`, else ``SEPARABLE_NUM_THREADS`` in the environment, else the number of
    processors that this process may use: those it is bound to, and no more than the limit of its container, rounded
    up.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    if _chosen is not None:
        return _chosen
    asked = os.environ.get(VARIABLE, "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return available_processors()


# Where `os.environ` keeps its variables: asking it for a missing one takes a microsecond.
_variables: Any = getattr(os.environ, "_data", None)
_encoded: Any = os.environ.encodekey(VARIABLE) if isinstance(_variables, dict) else None
_recent: tuple[float, int] = (-1.0, 1)


def recent_num_threads() -> int:
    """Return the default number of threads as `get_num_threads` does, but faster.

    A change of the processors that this process is bound to is noticed within 10 ms. It changes the time of a filter,
    never its result.
    """
    global _recent
    if _chosen is not None:
        return _chosen
    if _encoded is None or _variables.get(_encoded):
        return get_num_threads()
    now = time.monotonic()
    if now > _recent[0]:
        _recent = now + AGAIN, get_num_threads()
    return _recent[1]


def set_num_threads(count: int | None) -> None:
    """Set the default number of threads of a filter; None restores the original default.

    Existing plans keep their number.

    Parameters
    ----------
    count : int or None
        Number of threads; >= 1.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If `count` is not an integer, or below 1.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _chosen
    _chosen = None if count is None else check_threads(count)


def check_threads(threads: object) -> int:
    """Return a valid number of threads; raise an error otherwise."""
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise ArgumentTypeError(f"`threads` must be an integer; got {threads!r}")
    if threads < 1:
        raise ArgumentError(f"`threads` must be >= 1; got {threads}")
    return int(threads)


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
    except BaseException:  # interrupted: cancel jobs that have not begun
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
