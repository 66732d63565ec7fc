"""Limits of time that a busy machine does not exceed: they count the processor time of one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["cpu_limit", "least_cpu_seconds"]


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Fail if a block takes more processor time of this thread than `seconds`.

    Other programs and other threads of this process are not counted. What they evict from the caches, and a
    processor that runs two threads on one core, make a block a few times slower: `seconds` is at least ten
    times what the block takes alone.
    """
    start = time.thread_time()
    yield
    taken = time.thread_time() - start
    assert taken < seconds, f"{taken:.2f} s of processor time, more than {seconds} s"


def least_cpu_seconds(call: Callable[[], object], times: int = 5) -> float:
    """Return the least processor time of this thread that `call` took in so many calls."""
    found = []
    for _ in range(times):
        start = time.thread_time()
        call()
        found.append(time.thread_time() - start)
    return min(found)
