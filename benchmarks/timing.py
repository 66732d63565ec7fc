"""Measure calls in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Calls = Mapping[str, Callable[[], Any]]

BRIEF = 0.3
"""Seconds up to which a call is run once more before each measurement."""
SHORTEST = 2e-3
"""Seconds that a sample lasts at least: short calls are repeated within it."""
FAR = 15
"""A call that takes this many times the fastest one's time is measured only a few times."""
FEW = 2


def interleaved(calls: Calls, rounds: int) -> dict[str, float]:
    """Return the median seconds of each call, of `rounds` samples taken in turn."""
    repeats: dict[str, int] = {}
    typical: dict[str, float] = {}
    for name, call in calls.items():
        call()  # loads and compiles
        typical[name] = _sample(call, 1)
        if typical[name] < SHORTEST:  # the time of a single short call says little
            typical[name] = _sample(call, max(1, round(SHORTEST / max(typical[name], 1e-6))))
        repeats[name] = max(1, math.ceil(SHORTEST / max(typical[name], 1e-6)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            done = samples[name]
            fastest = min((min(s) for s in samples.values() if s), default=0.0)
            if turn >= FEW and min(done) > FAR * fastest:
                continue
            if typical[name] < BRIEF:
                # So that nobody pays for the caches and waiting threads of the one before.
                _sample(call, repeats[name])
            done.append(_sample(call, repeats[name]))
    return {name: statistics.median(done) for name, done in samples.items()}


def best_of(calls: Calls, rounds: int) -> dict[str, float]:
    """Return the least seconds of each call, of `rounds` taken in turn."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            samples[name].append(_sample(call, 1))
    return {name: min(done[1:]) for name, done in samples.items()}


def _sample(call: Callable[[], Any], repeats: int) -> float:
    """Return the seconds per call of `repeats` calls in a row."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
