"""Times of whole networks before and after a conversion, in the runtime that will run them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from separable.errors import ArgumentError, SeparableError
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.runtimes.runtime import Runtime

__all__ = ["NetworkDuration", "shortest_times", "timed_networks"]

SECONDS = 1.0  # for a pair of networks
WARM_RUNS = 2
FEWEST_RUNS, MOST_RUNS = 3, 150
LEVEL = 0.02  # relative difference of times that is not told from noise


@dataclass(frozen=True)
class NetworkDuration:
    """Times of a network before and after a conversion.

    Attributes
    ----------
    runtime : str
        Name of the runtime.
    threads : int
    seconds, seconds_before : float
        Shortest measured times of a call; NaN if they were not measured.
    predicted, predicted_before : float
        Times predicted from the profile of layers; NaN if the input shape is unknown.
    goal : float
        Part of the time that was to be left; NaN without a goal in time.
    reason : str
        Reason why times were not measured; empty if they were.
    slower_in : mapping of str to float
        Other runtimes in which the converted network was measured to be slower, and the time before divided by the time
        after. They are measured for budgets of multiplications without a runtime.
    """

    runtime: str
    threads: int = 1
    seconds: float = math.nan
    seconds_before: float = math.nan
    predicted: float = math.nan
    predicted_before: float = math.nan
    goal: float = math.nan
    reason: str = ""
    slower_in: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Runtime and threads as text."""
        title = RUNTIMES[self.runtime].title if self.runtime in RUNTIMES else self.runtime
        return f"{title}, {self.threads} thread{'s' if self.threads != 1 else ''}"

    @property
    def is_measured(self) -> bool:
        """True if both networks were measured."""
        return not math.isnan(self.seconds) and not math.isnan(self.seconds_before)

    @property
    def best(self) -> tuple[float, float]:
        """Times before and after: measured if possible, else predicted."""
        if self.is_measured:
            return self.seconds_before, self.seconds
        return self.predicted_before, self.predicted

    @property
    def gain(self) -> float:
        """Time before divided by time after; NaN if unknown."""
        before, after = self.best
        return before / after if after > 0 else math.nan

    @property
    def is_slower(self) -> bool:
        """True if the converted network takes longer."""
        return self.gain < 1 - LEVEL

    @property
    def misses_goal(self) -> bool:
        """True if the converted network takes longer than was asked for."""
        return not math.isnan(self.goal) and not self.gain * self.goal >= 1 - LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, None for NaN."""
        return {k: None if v != v else v for k, v in asdict(self).items()}


def shortest_times(
    runs: Sequence[Callable[[], Any]], seconds: float, *, repeated: bool = False
) -> list[float]:
    """Return the shortest time of each function; they run in turns for some time, but not hundreds of times.

    Parameters
    ----------
    runs : sequence of callable
    seconds : float
    repeated : bool
        Whether each runs once more before it is timed, so that what it needs is in the cache as far as it fits,
        as in calls one after another, and not what the other functions left there.
    """
    for run in runs:
        for _ in range(WARM_RUNS):
            run()
    found = [math.inf] * len(runs)
    begun, rounds = time.perf_counter(), 0
    while rounds < FEWEST_RUNS or (rounds < MOST_RUNS and time.perf_counter() - begun < seconds):
        rounds += 1
        for at, run in enumerate(runs):
            if repeated:
                run()
            start = time.perf_counter()
            run()
            found[at] = min(found[at], time.perf_counter() - start)
    return found


def timed_networks(
    runtime: Runtime,
    networks: Sequence[nn.Module],
    inputs: Sequence[Any],
    seconds: float = SECONDS,
) -> list[float]:
    """Return the shortest time of a call of each network; each runs twice in turn, and the second call counts.

    Raises
    ------
    ArgumentError
        If a network cannot run in this runtime, or not on the processor; the message says why.
    """
    for network in networks:
        device = next((p.device.type for p in network.parameters()), "cpu")
        if device != "cpu":
            raise ArgumentError(f"the model is on {device!r}; times are those of the processor")
    try:
        with torch.no_grad():
            runs = [runtime.prepared(n, inputs) for n in networks]
            return shortest_times(runs, seconds, repeated=True)
    except SeparableError as problem:
        raise ArgumentError(str(problem)) from problem
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as problem:
        text = str(problem).strip().splitlines()
        raise ArgumentError(
            f"it does not run in {runtime.title}: {text[0] if text else type(problem).__name__}"
        ) from problem
