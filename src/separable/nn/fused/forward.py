"""Choice between the compiled kernels and PyTorch's convolutions, for layers and fused modules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from separable.engine.availability import EngineError
from separable.lowering.step import SamePadding, Step
from separable.nn.fused import autograd as _autograd  # noqa: F401
from separable.nn.fused.operators import settings_of
from separable.nn.fused.packed_layer import cached_layer, channels_are_last, is_served

__all__ = [
    "can_use_fused_kernel",
    "has_no_hooks",
    "is_depthwise",
    "is_pointwise",
    "padding_of",
    "run_depthwise",
    "run_separable",
]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def can_use_fused_kernel(x: Tensor) -> bool:
    """Return True for a plain CPU tensor outside of tracing and dispatch modes."""
    return (
        type(x) is Tensor
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._is_torch_function_mode_enabled()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._is_tracing()
        and not torch.is_autocast_enabled("cpu")
    )


def padding_of(step: Step, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the padding before and after each spatial axis for the shape of an input."""
    sizes = shape[-len(step.padding) :]
    found: list[int] = []
    for pad, size in zip(step.padding, sizes, strict=True):
        found += pad.amounts(size) if isinstance(pad, SamePadding) else pad
    return tuple(found)


def is_depthwise(step: Step) -> bool:
    """Return True if the operators can run this step: each channel alone, padded with zeros."""
    whole = step.gather is None and step.scatter is None and step.shared == 1
    zeros = step.padding_mode == "zeros" or all(p == (0, 0) for p in step.padding)
    return whole and zeros and step.groups == step.in_channels


def is_pointwise(step: Step) -> bool:
    """Return True if a step only combines the channels of each position."""
    ones = all(k == 1 for k in step.kernel_size) and all(s == 1 for s in step.stride)
    return step.plain and ones and step.groups == 1 and all(p == (0, 0) for p in step.padding)


def has_no_hooks(module: nn.Module) -> bool:
    """Return True if a module is an unmodified convolution without hooks."""
    return (
        isinstance(module, nn.modules.conv._ConvNd)
        and "weight" in module._parameters
        and not any(getattr(module, name) for name in _HOOKS)
    )


def run_depthwise(step: Step, module: nn.Module | None, x: Tensor) -> Tensor | None:
    """Run a depthwise layer by its operator, or return None if PyTorch must run it."""
    if x.dim() != len(step.kernel_size) + 2 or module is None or not has_no_hooks(module):
        return None
    weight: Any = module._parameters["weight"]
    bias: Any = module._parameters["bias"]
    if not _serves(x, weight, bias):
        return None
    settings = (step.stride, padding_of(step, x.shape), step.dilation)
    if _records(x, weight, bias):
        if not channels_are_last(x):
            return None
        found: Tensor = torch.ops.separable.depthwise(x, weight, bias, *settings, "none")
        return found
    packed = settings_of(*settings, "none", "none")
    with suppress(EngineError):
        return cached_layer((weight, bias, None, None), x.shape[1], packed)(x)
    return None


def run_separable(
    steps: tuple[Step, Step], modules: tuple[nn.Module | None, nn.Module | None], x: Tensor
) -> Tensor | None:
    """Run a depthwise and a pointwise step by one operator, or return None if PyTorch must run them."""
    first, second = modules
    if x.dim() != len(steps[0].kernel_size) + 2 or first is None or second is None:
        return None
    if not (has_no_hooks(first) and has_no_hooks(second)):
        return None
    weight: Any = first._parameters["weight"]
    between: Any = first._parameters["bias"]
    pointwise: Any = second._parameters["weight"]
    bias: Any = second._parameters["bias"]
    if not _serves(x, weight, between, pointwise, bias):
        return None
    step = steps[0]
    settings = (step.stride, padding_of(step, x.shape), step.dilation)
    if _records(x, weight, between, pointwise, bias):
        if not channels_are_last(x):
            return None
        operator = torch.ops.separable.depthwise_separable
        found: Tensor = operator(x, weight, between, pointwise, bias, *settings, "none", "none")
        return found
    packed = settings_of(*settings, "none", "none")
    with suppress(EngineError):
        return cached_layer((weight, between, pointwise, bias), x.shape[1], packed)(x)
    return None


def _serves(x: Tensor, *weights: Tensor | None) -> bool:
    if torch.compiler.is_compiling():
        return not torch.compiler.is_exporting() and channels_are_last(x) and is_served(x, *weights)
    return is_served(x, *weights) and can_use_fused_kernel(x)


def _records(*tensors: Tensor | None) -> bool:
    """Return True if the call must go through the operator: for autograd and the compiler."""
    if torch.compiler.is_compiling():
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
