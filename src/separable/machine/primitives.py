"""Primitives: the time of a few elementary operations on one thread, by which rates are adjusted to a computer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from separable.value import Value

__all__ = ["Primitives", "measure_with_numpy", "shortest", "thread_clock"]

COMPILED = ("fma", "folded_fma", "cached_copy", "copy", "stream_copy")
"""Primitives that only the compiled engine can measure."""
RUNS = 7
"""Runs of each measurement, of which the shortest counts."""


@dataclass(frozen=True, eq=False)
class Primitives(Value):
    """Times of elementary operations of one thread; NaN where they are unknown.

    Attributes
    ----------
    numpy_call : float
        Seconds of a call of a NumPy function on one number.
    scalar : float
        Seconds of compiled code without vectors: of NumPy's FFT, per point and log2 of its length.
    convert : float
        Seconds per sample that NumPy rounds and converts to another type, in the cache.
    fma : float
        Seconds per float32 multiply-add of the compiled engine.
    folded_fma : float
        The same with an addition before it, as for two mirrored taps. Some processors add beside multiply-adds at
        no cost, on others it takes as long as a multiply-add.
    cached_copy : float
        Seconds per byte copied within the second-level cache.
    copy, stream_copy : float
        Seconds per byte copied in memory, with normal stores and with stores past the caches.
    """

    numpy_call: float = math.nan
    scalar: float = math.nan
    convert: float = math.nan
    fma: float = math.nan
    folded_fma: float = math.nan
    cached_copy: float = math.nan
    copy: float = math.nan
    stream_copy: float = math.nan

    @property
    def memory_copy(self) -> float:
        """Seconds per byte copied in memory, with the faster kind of stores."""
        return min(self.copy, self.stream_copy)

    @property
    def is_complete(self) -> bool:
        """Return whether the compiled engine has measured its part."""
        return not any(math.isnan(getattr(self, name)) for name in COMPILED)

    def ratio(self, name: str, other: Primitives) -> float:
        """Return how many times as long a primitive takes as on another computer; NaN if unknown."""
        return float(getattr(self, name, math.nan)) / float(getattr(other, name, math.nan))

    def distance(self, other: Primitives) -> float:
        """Return how different two computers are, apart from one of them being faster in all.

        This is the standard deviation of the logarithms of the ratios of all primitives known of both.
        """
        ratios = [self.ratio(f.name, other) for f in fields(self)]
        logs = [math.log(r) for r in ratios if r > 0]  # not NaN
        return float(np.std(logs)) if logs else 0.0

    def fastest(self, other: Primitives) -> Primitives:
        """Return the shorter of two measured times of each primitive of one computer."""
        names = [f.name for f in fields(self)]
        return Primitives(*(float(np.fmin(getattr(self, n), getattr(other, n))) for n in names))

    def with_compiled(self, values: Mapping[str, float]) -> Primitives:
        """Return these primitives with those that the compiled engine measured."""
        return replace(self, **{name: float(values[name]) for name in COMPILED})

    def to_dict(self) -> dict[str, float]:
        """Return what is known as JSON values."""
        return {
            name: float(f"{value:.4g}")
            for name, value in ((f.name, getattr(self, f.name)) for f in fields(self))
            if not math.isnan(value)
        }

    @classmethod
    def from_dict(cls, values: Any) -> Primitives:
        """Read primitives from JSON values; raise ValueError if a time is not a positive number."""
        known = {f.name for f in fields(cls)}
        found = {str(k): float(v) for k, v in dict(values).items() if k in known}
        if not all(0 < v < math.inf for v in found.values()):
            raise ValueError("times must be positive")
        return cls(**found)


def measure_with_numpy() -> Primitives:
    """Measure what can be measured without the compiled engine, in a few milliseconds.

    Examples
    --------
    >>> found = measure_with_numpy()
    >>> 0 < found.scalar < 1e-6, found.is_complete
    (True, False)
    """
    one, points = np.ones(1), 4096
    signal = np.linspace(0.0, 1.0, points)
    samples, whole = np.linspace(0.0, 200.0, 1 << 14, dtype=np.float32), np.empty(1 << 14, np.uint8)

    def calls() -> None:
        for _ in range(100):
            np.add(one, one, one)

    def convert() -> None:
        np.copyto(whole, np.rint(samples), casting="unsafe")

    return Primitives(
        numpy_call=_best(calls) / 100,
        scalar=_best(lambda: np.fft.rfft(signal)) / (points * math.log2(points)),
        convert=_best(convert) / samples.size,
    )


def _best(run: Callable[[], object]) -> float:
    """Return the shortest time of a few runs in seconds; the first one, which fills caches, does not count."""
    run()
    return shortest(run, RUNS)


def shortest(run: Callable[[], object], runs: int) -> float:
    """Return the shortest time of a few runs on this thread in seconds."""
    clock, best = thread_clock(), math.inf
    for _ in range(runs):
        start = clock()
        run()
        best = min(best, clock() - start)
    return best


def thread_clock() -> Callable[[], float]:
    """Return a clock of the time that this thread runs, without the turns of other processes.

    It is an ordinary clock on systems where the former counts in steps too long for a probe.
    """
    fine = hasattr(time, "thread_time") and time.get_clock_info("thread_time").resolution < 1e-6
    return time.thread_time if fine else time.perf_counter
