"""Choice between the compiled kernels and PyTorch's operators, by measured or by predicted times."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from separable.nn.fused.fused_modules import Fused, FusedDepthwise, FusedSeparable
from separable.nn.fused.fused_split import FusedSplit
from separable.nn.fused.kernel_use import BFLOAT16_PRODUCTS
from separable.nn.fused.program import Compiled
from separable.nn.fused.program.attachment import inputs_of
from separable.nn.fused.program.measurement import (
    NetworkTimes,
    SegmentTime,
    interleaved,
    names_of,
)
from separable.nn.step_times.layer_profile import current_profile

__all__ = [
    "Choice",
    "Choose",
    "copied",
    "finished",
    "kernels_everywhere",
    "last",
    "lay_last",
    "measured",
    "predicted",
]


class Choice(NamedTuple):
    """Times by which kernels or PyTorch were chosen.

    Attributes
    ----------
    segments : tuple of SegmentTime
    times : NetworkTimes or None
        Times of the whole network, if they were measured.
    origin : str
        Where predicted times come from; empty if there are none.
    """

    segments: tuple[SegmentTime, ...] = ()
    times: NetworkTimes | None = None
    origin: str = ""


Choose = Callable[[nn.Module, nn.Module, tuple[Any, ...], Sequence[Compiled]], Choice]
"""Function of the network as it was, the fused one, the inputs of a call, and the modules that programs run."""


def kernels_everywhere(
    model: nn.Module, network: nn.Module, inputs: tuple[Any, ...], compiled: Sequence[Compiled]
) -> Choice:
    """Let programs run all that they have kernels for."""
    return Choice()


def predicted(
    model: nn.Module, network: nn.Module, inputs: tuple[Any, ...], compiled: Sequence[Compiled]
) -> Choice:
    """Let PyTorch run what the profile of this computer predicts it to be faster at."""
    profile, names = current_profile(), names_of(network)
    if not compiled:
        for module in network.modules():
            # Such kernels convert to float32, where PyTorch multiplies numbers of bfloat16.
            if isinstance(module, FusedSeparable) and BFLOAT16_PRODUCTS and not _is_float32(module):
                module.left_to_torch = True
        return Choice()
    segments: list[SegmentTime] = []
    with torch.no_grad():
        for each in compiled:
            found = each.predicted(names, profile)
            each.leave_to_torch(n for s in found if not s.kept for n in s.nodes)
            segments += found
    return Choice(tuple(segments), None, f"{profile.threads} threads {profile.origin}")


def measured(
    model: nn.Module, network: nn.Module, inputs: tuple[Any, ...], compiled: Sequence[Compiled]
) -> Choice:
    """Let PyTorch run what it was measured to be faster at on the example."""
    names = names_of(network)
    segments: list[SegmentTime] = []
    with torch.no_grad():
        for each in compiled:
            found = each.times(names)
            each.leave_to_torch(n for s in found if not s.kept for n in s.nodes)
            segments += found
        if not compiled:
            segments += _module_times(network, inputs)
            if not segments:
                return Choice()
        in_last = copy.deepcopy(model)
        lay_last(in_last)
        given = tuple(last(x) if isinstance(x, Tensor) else x for x in inputs)
        ours, eager, eager_last = interleaved([
            lambda: finished(network(*copied(inputs))),
            lambda: finished(model(*copied(inputs))),
            lambda: finished(in_last(*copied(given))),
        ])  # fmt: skip
    times = NetworkTimes(ours, eager, eager_last, torch.get_num_threads())
    return Choice(tuple(segments), times)


def _is_float32(module: nn.Module) -> bool:
    return all(t.dtype is torch.float32 for t in module.buffers())


def _module_times(network: nn.Module, inputs: tuple[Any, ...]) -> list[SegmentTime]:
    """Time each fused layer by its kernel and by PyTorch, and keep the faster; for networks without programs."""
    given, found = inputs_of(network, inputs), []
    for name, module in network.named_modules():
        if (
            not isinstance(module, FusedDepthwise | FusedSeparable | FusedSplit)
            or module not in given
        ):
            continue
        x = given[module][0]
        if not (module.runs_kernel(x) or module.runs_gpu_kernel(x)):
            continue
        own, by_torch = interleaved(
            [partial(_run, module, x, False), partial(_run, module, x, True)]
        )
        found.append(SegmentTime(name, 1, own, by_torch))
        module.left_to_torch = not found[-1].kept
    return found


def _run(module: Fused, x: Tensor, by_torch: bool) -> None:
    module.left_to_torch = by_torch
    finished(module(x))


def finished(result: Any) -> Any:
    """Return a result after waiting for a GPU, which computes while Python goes on."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result


def copied(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Return inputs for one call: a model may change them."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)


def last(x: Tensor) -> Tensor:
    """Return an input with its channels last in memory, if it has two or three spatial axes."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last_3d) if x.dim() == 5 else x


def lay_last(network: nn.Module) -> None:
    """Convert all weights to channels-last layout; parameters that are shared stay shared."""
    made: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.dim() in (4, 5):
                if id(parameter) not in made:
                    fresh = nn.Parameter(last(parameter.data), requires_grad=False)
                    made[id(parameter)] = made[id(fresh)] = fresh
                module._parameters[name] = made[id(parameter)]
