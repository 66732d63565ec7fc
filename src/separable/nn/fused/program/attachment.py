"""Executors for the largest modules of a network whose operators can be recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from separable.nn.fused.program.executor import NO_KERNEL, Executor
from separable.nn.fused.program.measurement import SegmentTime, segment_times
from separable.nn.fused.program.prediction import predicted_times
from separable.nn.fused.program.whole_modules import is_kept_whole
from separable.nn.step_times.layer_profile import LayerProfile

__all__ = ["Compiled", "attach", "inputs_of"]


@dataclass(frozen=True)
class Compiled:
    """A module that programs run.

    Attributes
    ----------
    name : str
        Name of the module in the network; empty for the network itself.
    executor : Executor
    inputs : tuple of Tensor
        Its inputs in the example.
    """

    name: str
    executor: Executor
    inputs: tuple[Tensor, ...]

    def times(self, names: dict[int, str]) -> list[SegmentTime]:
        """Return the times of its segments; `names` are those of layers by the addresses of their weights."""
        return segment_times(self.executor.execution(*self.inputs), self.inputs, names)

    def predicted(self, names: dict[int, str], profile: LayerProfile) -> list[SegmentTime]:
        """Return the times of its segments as a profile of this computer predicts them."""
        return predicted_times(self.executor.execution(*self.inputs), names, profile)

    def leave_to_torch(self, nodes: Iterable[str]) -> None:
        """Let PyTorch run operators from now on."""
        self.executor.leave_to_torch(nodes)


def attach(
    network: nn.Module, inputs: Sequence[Any], *, exact: bool = False
) -> tuple[list[Compiled], list[tuple[str, str]]]:
    """Give executors to a network, or to the largest modules in it that can have one.

    Parameters
    ----------
    network : torch.nn.Module
        Network in evaluation mode, which is changed.
    inputs : sequence
        Arguments of one call.
    exact : bool
        See `fuse`.

    Returns
    -------
    compiled : list of Compiled
        Modules with an executor.
    left : list of (str, str)
        Names of modules whose operators cannot be recorded as a whole, and the reasons.
    """
    compiled: list[Compiled] = []
    left: list[tuple[str, str]] = []
    recorded: dict[nn.Module, tuple[Any, ...]] | None = None
    waiting = [("", network)]
    while waiting:
        name, module = waiting.pop()
        if name and recorded is None:
            recorded = inputs_of(network, inputs)
        given = inputs if not name else (recorded or {}).get(module)
        reason = _compile(Executor(module, exact=exact), given, name, compiled)
        if reason:
            if given is not None and not name and reason != NO_KERNEL:
                left.append((name, reason))
            waiting += [(f"{name}.{n}" if name else n, m) for n, m in module.named_children()]
    return compiled, left


def _compile(
    executor: Executor, inputs: Sequence[Any] | None, name: str, compiled: list[Compiled]
) -> str:
    """Give a module an executor; return why that is impossible, or an empty string."""
    module = executor.module
    if inputs is None:
        return "it is not called"
    if is_kept_whole(module):
        return NO_KERNEL
    if "forward" in module.__dict__:
        return "its method forward was replaced"
    if not inputs or not all(type(x) is Tensor for x in inputs):
        return "its inputs are not only tensors"
    reason = executor.why_not(*inputs)
    if not reason:
        compiled.append(Compiled(name, executor, tuple(inputs)))
        module.forward = executor
    return reason


def inputs_of(network: nn.Module, inputs: Sequence[Any]) -> dict[nn.Module, tuple[Any, ...]]:
    """Return the positional inputs of the first call of each module; modules called by keywords have none."""
    found: dict[nn.Module, tuple[Any, ...]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if not options:
            found.setdefault(module, args)

    handles = [m.register_forward_pre_hook(note, with_kwargs=True) for m in network.modules()]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
