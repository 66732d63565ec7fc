"""Times of programs beside PyTorch's own operators, on the example that a network is fused with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from separable.nn.fused.operators import Window, activate, by_torch, depthwise_by_torch
from separable.nn.fused.program.executor import Execution, RunSegment
from separable.nn.fused.program.operations import NetworkOperation
from separable.nn.fused.program.translation import TorchCall, Translated
from separable.nn.fused.program.whole_modules import module_of

__all__ = [
    "NetworkTimes",
    "SegmentTime",
    "interleaved",
    "name_of",
    "names_of",
    "operators_of",
    "segment_times",
]

STEADY_ROUNDS, STEADY = 4, 0.97
"""Rounds without a time below this part of the shortest before, after which times count as steady."""
FEWEST_ROUNDS = 8
SECONDS, FEWEST_SECONDS = 3.0, 0.1
"""Longest time that a comparison takes, but for the first round; many segments share four times as much."""
CALLS_FROM = 2e-3
"""Seconds below which several calls are timed together."""


@dataclass(frozen=True)
class SegmentTime:
    """Time of one segment of a network.

    Attributes
    ----------
    name : str
        First and last layer.
    steps : int
        Number of steps of its program.
    seconds, torch_seconds : float
        Time of the program, and of PyTorch's operators with channels last.
    nodes : frozenset of str
        Names of its operators in the recorded graph.
    is_predicted : bool
        True if the times are predicted from the profile of this computer, False if they were measured.
    """

    name: str
    steps: int
    seconds: float
    torch_seconds: float
    nodes: frozenset[str] = frozenset()
    is_predicted: bool = False

    @property
    def kept(self) -> bool:
        """True if the program runs it; PyTorch does where it is faster."""
        return self.seconds <= self.torch_seconds

    def __str__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        how = " predicted" if self.is_predicted else ""
        text = f"{self.name}: {steps}, {_ms(self.seconds)}{how} (PyTorch {_ms(self.torch_seconds)})"
        return text if self.kept else f"{text}; left to PyTorch, which is faster"


@dataclass(frozen=True)
class NetworkTimes:
    """Times of a network on the example.

    Attributes
    ----------
    seconds : float
        Of the fused network.
    eager, eager_last : float
        Of the network as it was given, in PyTorch's default layout and with channels last.
    threads : int
    """

    seconds: float
    eager: float
    eager_last: float
    threads: int

    @property
    def gain(self) -> float:
        """Time of PyTorch in its faster layout, divided by that of the fused network."""
        return min(self.eager, self.eager_last) / self.seconds

    def __str__(self) -> str:
        last = self.eager_last < self.eager
        best = f"{_ms(min(self.eager, self.eager_last))} of PyTorch" + (
            " with channels last" if last else ""
        )
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        if self.gain >= 1:
            return (
                f"{self.gain:.2f} times as fast: {_ms(self.seconds)} instead of {best}, {threads}"
            )
        return (
            f"slower than the network as it was: {_ms(self.seconds)} instead of {best}, {threads}; "
            "keep the original network"
        )


def _ms(seconds: float) -> str:
    """Return a time as text."""
    return f"{seconds * 1e3:.3g} ms"


def interleaved(runs: Sequence[Callable[[], Any]], limit: float = SECONDS) -> list[float]:
    """Return the shortest time of each call, in turn: other work on the machine only makes times longer.

    Parameters
    ----------
    runs : sequence of callable
    limit : float
        Seconds after which no further round begins.
    """
    for run in runs:
        run()  # plans are made, memory is taken
    # A new process is slow at first: its memory is given to it page by page.
    found = [math.inf for _ in runs]
    begun, rounds, waited = time.perf_counter(), 0, 0
    while waited < STEADY_ROUNDS or rounds < FEWEST_ROUNDS:
        waited, rounds = waited + 1, rounds + 1
        for i, run in enumerate(runs):
            # Counted anew in each round: the first calls wait for threads that other programs keep from running.
            count = 1 if found[i] is math.inf else max(1, int(CALLS_FROM / max(found[i], 1e-7)))
            start = time.perf_counter()
            for _ in range(count):
                run()
            seconds = (time.perf_counter() - start) / count
            if seconds < STEADY * found[i]:
                waited = 0
            found[i] = min(found[i], seconds)
        if time.perf_counter() - begun > limit:
            break
    return found


def segment_times(
    execution: Execution, inputs: Sequence[Tensor], names: dict[int, str]
) -> list[SegmentTime]:
    """Return the time of each segment of an execution beside PyTorch's operators.

    Parameters
    ----------
    execution : Execution
    inputs : sequence of Tensor
    names : dict of int to str
        Names of modules by the addresses of their weights.
    """
    translated = execution.translated
    assert translated is not None
    values: dict[fx.Node, Any] = dict(zip(translated.inputs, inputs, strict=True))
    found: list[SegmentTime] = []
    count = sum(isinstance(part, RunSegment) for part in execution.parts)
    limit = min(SECONDS, max(FEWEST_SECONDS, 4 * SECONDS / max(count, 1)))
    for part in execution.parts:
        if isinstance(part, RunSegment):
            nodes = operators_of(part, translated)
            by_hand: list[TorchCall] = [_ByTorch(n, translated.constants) for n in nodes]

            def program(part: RunSegment = part) -> None:
                part.run(dict(values))

            def pytorch(calls: list[TorchCall] = by_hand) -> None:
                own = dict(values)
                for call in calls:
                    call.run(own)

            times = interleaved([program, pytorch], limit)
            name, kept = name_of(part.segment.operations, names), frozenset(n.name for n in nodes)
            found.append(SegmentTime(name, len(part.program.steps), times[0], times[1], kept))
        part.run(values)
    return found


def operators_of(part: RunSegment, translated: Translated) -> list[fx.Node]:
    """Return the recorded operators that compute what a segment writes from what it reads."""
    needed: set[fx.Node] = set()
    waiting = list(part.segment.writes)
    while waiting:
        node = waiting.pop()
        if node in needed or node in part.segment.reads or node in translated.constants:
            continue
        if node.op == "call_function":
            needed.add(node)
            waiting += node.all_input_nodes
    return [n for n in part.segment.writes[0].graph.nodes if n in needed]


class _ByTorch(TorchCall):
    """An operator of a segment as PyTorch alone would run it."""

    @property
    def function(self) -> Any:
        """The function to call in place of an operator of this library."""
        own = torch.ops.separable
        known: dict[Any, Any] = {
            own.depthwise_separable.default: _layer,
            own.depthwise.default: _depthwise,
            torch.ops.separable_recorded.fused_module.default: _module,
        }
        return known.get(self.node.target, self.node.target)


def _module(x: Tensor, number: int) -> Any:
    module: Any = module_of(number)
    return module.by_torch(x)


def _layer(x: Tensor, a: Any, b: Any, c: Any, d: Any, *more: Any) -> Tensor:
    stride, padding, dilation, between, act = more
    return by_torch(x, (a, b, c, d), Window(stride, padding, dilation), between, act)


def _depthwise(x: Tensor, weight: Any, bias: Any, *more: Any) -> Tensor:
    stride, padding, dilation, act = more
    return activate(depthwise_by_torch(x, weight, bias, stride, padding, dilation), act)


def names_of(network: nn.Module) -> dict[int, str]:
    """Return the names of modules by the addresses of their weights."""
    found: dict[int, str] = {}
    for name, module in network.named_modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                found.setdefault(tensor.data_ptr(), name.removesuffix(".conv"))
    return found


def name_of(operations: Sequence[NetworkOperation], names: dict[int, str]) -> str:
    """Return the first and the last layer of a segment."""
    tensors = [t for o in operations for t in o.tensors if t is not None]
    known = [name for t in tensors if (name := names.get(t.data_ptr()))]
    if not known:
        return str(operations[0].node.name)
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
