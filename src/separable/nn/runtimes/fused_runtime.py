"""FusedRuntime: the compiled programs of this library, as `separable.nn.fuse` makes them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from separable.engine.availability import why_not
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.program.executor import Executor
from separable.nn.runtimes.profile_cases import ProfileCase
from separable.nn.runtimes.runtime import Runtime, in_turns
from separable.nn.step_times.operation_folding import PROGRAM_RULES, PlacedStep, folded_steps
from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["FusedRuntime"]

SMALLEST_SHARE = 0.1  # of a program's time; a difference below it is mostly noise


class FusedRuntime(Runtime):
    """Programs of fused layers."""

    name, title = "fused", "fused programs"
    profile_seconds = 15.0

    def why_not(self) -> str:
        """Return why the compiled engine is missing, or an empty string."""
        reason = why_not()
        return f"it needs the compiled engine: {reason}" if reason else ""

    def steps(self, operations: Sequence[RecordedOperation]) -> list[PlacedStep]:
        """Return the steps of a program."""
        return folded_steps([_of_three(o) for o in operations], PROGRAM_RULES)

    def measure(self, cases: Sequence[ProfileCase], seconds: float) -> list[float]:
        """Return the time of each case as the last step of a program.

        The program has an activation before it, which writes the input as a layer before would do. The time of the same
        program without the case is subtracted: a call of a program takes longer than many a step.
        """
        makers: list[Callable[[], Callable[[], float]]] = []
        for case in cases:
            makers += [partial(_program, case, alone=True), partial(_program, case, alone=False)]
        with torch.no_grad():
            times = in_turns(makers, seconds)
        pairs = zip(times[0::2], times[1::2], strict=True)
        return [_difference(before, both) for before, both in pairs]

    def prepared(self, network: nn.Module, inputs: Sequence[Any]) -> Callable[[], Any]:
        """Return a call of the fused network; programs run all that they have kernels for."""
        fused, _ = fuse_without_choice(network, *inputs)

        def run() -> Any:
            with torch.no_grad():
                return fused(*inputs)

        return run


def _of_three(operation: RecordedOperation) -> RecordedOperation:
    """Return a convolution of one channel, which the kernel for few channels runs, as one of three.

    The profile in the package was measured when a depthwise kernel ran such layers, in up to 6 times the time.
    """
    conv = operation.convolution
    if conv is None or conv.transposed or not conv.channels == conv.groups == 1 < conv.filters:
        return operation
    return replace(operation, convolution=replace(conv, channels=3))


def _difference(before: float, both: float) -> float:
    """Return the time of a step, or NaN if it is too short beside the other one to be known."""
    step = both - before
    return step if step > SMALLEST_SHARE * both else math.nan


class _Second(nn.Module):
    """Module after an activation of its first input."""

    def __init__(self, module: nn.Module | None) -> None:
        super().__init__()
        self.before, self.module = nn.ReLU(), module

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run both, or the activation alone."""
        first: Tensor = self.before(inputs[0])
        if self.module is not None:
            first = self.module(first, *inputs[1:])
        return first


def _program(case: ProfileCase, *, alone: bool) -> Callable[[], float]:
    """Return a function that runs the program of a case once and returns the seconds."""
    last = [_last(x) for x in case.inputs()]
    module = _Second(None if alone else case.module()).eval()
    network = fuse_without_choice(module, *last)[0] if len(last) == 1 else module
    executor = network.__dict__.get("forward")
    if not isinstance(executor, Executor):
        executor = Executor(network)
    execution = executor.execution(*last)
    run_network: Callable[[], Any] = (
        partial(network, *last) if execution.reason else partial(execution, last)
    )

    def run() -> float:
        begun = time.perf_counter()
        run_network()
        return time.perf_counter() - begun

    return run


def _last(x: Tensor) -> Tensor:
    """Return an input with its channels innermost, in the memory of the given one."""
    if x.dim() not in (4, 5):
        return x
    batch, channels, *space = x.shape
    flat = torch.as_strided(x, (math.prod(x.shape),), (1,))
    return flat.view(batch, *space, channels).movedim(-1, 1)
