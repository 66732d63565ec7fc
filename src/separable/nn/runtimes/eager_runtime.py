"""EagerRuntime: PyTorch runs the operations of a network one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from separable.nn.runtimes.profile_cases import JOINED_KIND, ProfileCase
from separable.nn.runtimes.runtime import Runtime, in_turns
from separable.nn.step_times.operation_folding import PlacedStep
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.step_times.step_work import work_of

__all__ = ["EagerRuntime", "timed_call", "warmed"]

WARM_SECONDS = 1.0
"""The first second of a process is 10 to 50 times slower: its memory is given to it page by page."""


class EagerRuntime(Runtime):
    """PyTorch's operators, one by one, without compilation."""

    name, title = "torch", "PyTorch (eager)"
    is_compiled = False
    profile_seconds = 9.0

    def why_not(self) -> str:
        """Return an empty string: PyTorch is always there."""
        return ""

    def steps(self, operations: Sequence[RecordedOperation]) -> list[PlacedStep]:
        """Return one step per operation."""
        return [PlacedStep(o.layer, work_of(o)) for o in operations]

    def measure(self, cases: Sequence[ProfileCase], seconds: float) -> list[float]:
        """Return the time of each case, called as a module."""
        own = [c for c in cases if c.work.kind != JOINED_KIND]
        with torch.no_grad():
            times = iter(in_turns([partial(_case, c) for c in own], seconds))
        return [math.nan if c.work.kind == JOINED_KIND else next(times) for c in cases]

    def prepared(self, network: nn.Module, inputs: Sequence[Any]) -> Callable[[], Any]:
        """Return a call of the network."""

        def run() -> Any:
            with torch.no_grad():
                return network(*inputs)

        return run


def _case(case: ProfileCase) -> Callable[[], float]:
    return timed_call(case.module(), case.inputs())


def timed_call(module: Callable[..., Any], inputs: Sequence[Tensor]) -> Callable[[], float]:
    """Return a function that calls a module once and returns the seconds.

    The inputs are written before each call, as the layer before would do, so that what fits is in the cache.
    """

    def run() -> float:
        for tensor in inputs:
            tensor.mul_(1.0)
        begun = time.perf_counter()
        module(*inputs)
        return time.perf_counter() - begun

    return run


def warmed() -> None:
    """Compute for about a second, so that times of a new process are those of a running one."""
    conv, x = nn.Conv2d(32, 32, 3), torch.rand(1, 32, 64, 64)
    begun = time.perf_counter()
    with torch.no_grad():
        while time.perf_counter() - begun < WARM_SECONDS:
            conv(x)
