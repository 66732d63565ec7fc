"""Runtime: a way to run a network, with the steps that it runs and how they are measured."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from separable.errors import ArgumentError
from separable.nn.runtimes.profile_cases import ProfileCase
from separable.nn.step_times.operation_folding import PlacedStep
from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["GROUP", "Runtime", "in_turns"]


class Runtime(abc.ABC):
    """A way to run a network.

    Attributes
    ----------
    name : str
        Name of the argument ``runtime``.
    title : str
        Name in sentences.
    profile_seconds : float
        Time that its part of a profile takes on a quiet computer, with setting up the cases.
    is_compiled : bool
        True if it compiles whole networks: such networks are faster than operators one by one, so that budgets of
        multiplications look at their times. Channels of different ranks run as if all had the largest one there.
    """

    name: str
    title: str
    profile_seconds: float
    is_compiled: bool = True

    @abc.abstractmethod
    def why_not(self) -> str:
        """Return why this computer cannot use the runtime; an empty string if it can."""

    @abc.abstractmethod
    def steps(self, operations: Sequence[RecordedOperation]) -> list[PlacedStep]:
        """Return the steps that the runtime runs for the operations of a network."""

    @abc.abstractmethod
    def measure(self, cases: Sequence[ProfileCase], seconds: float) -> list[float]:
        """Return the shortest time of each case in seconds, NaN if it cannot run it.

        Parameters
        ----------
        cases : sequence of ProfileCase
        seconds : float
            Time for all of them; they run in turns until it is over.
        """

    @abc.abstractmethod
    def prepared(self, network: nn.Module, inputs: Sequence[Any]) -> Callable[[], Any]:
        """Return a function that runs a network on inputs.

        Raises
        ------
        ArgumentError
            If the runtime cannot run the network.
        """

    def check(self) -> None:
        """Raise ArgumentError if this computer cannot use the runtime."""
        reason = self.why_not()
        if reason:
            raise ArgumentError(f"`runtime` {self.name!r} cannot be used: {reason}")


GROUP = 32  # cases that run in turns, about as many as a network has layers
FEWEST_ROUNDS = 4


def in_turns(makers: Sequence[Callable[[], Callable[[], float]]], seconds: float) -> list[float]:
    """Return the shortest time that each case reports.

    Groups of cases are set up and then run in turns. Between two runs of a case the others of its group run, so
    that its weights and code are as cold as in a network; with all cases in one group, PyTorch's caches of
    compiled kernels would overflow, which they do not in a network.

    Parameters
    ----------
    makers : sequence of function
        Functions that set up a case and return a function that runs it once and returns the seconds.
    seconds : float
        Time for all cases, with setting them up; each runs a few times in any case.
    """
    found: list[float] = []
    groups = [makers[at : at + GROUP] for at in range(0, len(makers), GROUP)]
    for group in groups:
        begun, done = time.perf_counter(), 0
        runs = [make() for make in group]
        times = [float("inf")] * len(runs)
        while done < FEWEST_ROUNDS or time.perf_counter() - begun < seconds / len(groups):
            times = [min(t, run()) for t, run in zip(times, runs, strict=True)]
            done += 1
        found += times
    return found
