"""Shares of the work: the thread that takes each item.

Items are divided into as many *ranges* of neighbours as there are threads. A thread takes the items of its own range from
the front; when none is left it takes those of other ranges from the back, so no thread waits for a slow one. Neighbours
stay with one thread because they lie beside each other in memory: on two cores of a Zen 4 server, writing 16 MiB took
85 us where each thread wrote one half, and 500 to 1,500 us where they took turns every 4 to 16 KiB, because what
one core fetches ahead of its own part is what the other core writes. The same thread also finds in its cache what it wrote
in the call before.

The *counters* of a job fill one cache line, int64[8]. Word r holds how many items of range r are taken, those from the
front in its lower 32 bits and those from the back in its upper 32 bits; the last word is the number of ranges. More
threads than ranges share them.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .jit import inline, intrinsic, part
from .numba_api import types, without_literals
from .sweep_params import set_word, smaller, word

__all__ = ["RANGES", "RANGES_WORD", "next_work_item", "start_counters"]

RANGES = 7
"""Largest number of ranges: one cache line holds their counters."""
RANGES_WORD = 7
"""Word of the counters that holds the number of ranges."""
FRONT, BACK = 1, 1 << 32
"""What is added to a counter for an item taken from the front, and for one from the back."""

_WORD = ir.IntType(64)


@intrinsic
def _look(_typing: Any, address: Any) -> Any:
    """Return the int64 at ``address``, which other threads change."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.load_atomic(place, "monotonic", 8)

    return types.int64(types.int64), emit


@intrinsic
def _count(_typing: Any, address: Any, number: Any) -> Any:
    """Return the int64 at ``address`` and add a number to it, atomically."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        # Items are independent, so the order of other reads and writes around this does not matter.
        place = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), emit


@inline
def start_counters(counters, threads):
    """Set the counters of a job for a number of threads."""
    for r in range(RANGES):
        set_word(counters, r, 0)
    set_word(counters, RANGES_WORD, smaller(threads, RANGES))


@without_literals
@part
def next_work_item(counters, items, worker):
    """Take an item; return its number, or ``items`` if none is left.

    ``worker`` is the number of the thread. Every item is taken once: a counter whose two halves add up to k takes
    the k-th item of its range, and at most as many as the range has.
    """
    ranges = word(counters, RANGES_WORD)
    r = worker % ranges
    for turn in range(ranges):
        first = items * r // ranges
        count = items * (r + 1) // ranges - first
        # A range without items is only looked at, so that its counter does not grow.
        taken = _look(counters + 8 * r)
        if (taken & (BACK - 1)) + (taken >> 32) < count:
            taken = _count(counters + 8 * r, FRONT if turn == 0 else BACK)
            front, back = taken & (BACK - 1), taken >> 32
            if front + back < count:
                return first + front if turn == 0 else first + count - 1 - back
        r = r + 1 if r + 1 < ranges else 0
    return items
