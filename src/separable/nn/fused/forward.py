"""Choice between the compiled kernels and PyTorch's convolutions, for layers and fused modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from separable.engine.availability import EngineError
from separable.gpu.kernel_support import is_interpreting, serves, why_no_kernels
from separable.lowering.step import SamePadding, Step
from separable.nn.fused import autograd as _autograd  # noqa: F401
from separable.nn.fused.kernel_use import HOOKS, are_observed, can_use_fused_kernel, has_no_hooks
from separable.nn.fused.norm_operator import OPERATOR
from separable.nn.fused.operators import out_sizes, settings_of
from separable.nn.fused.packed_layer import Settings, cached_layer, channels_are_last, is_served
from separable.nn.fused.repeated_layer import RepeatingLayer

__all__ = [
    "is_depthwise",
    "is_pointwise",
    "padding_of",
    "run_depthwise",
    "run_separable",
    "run_separable_norm",
]

LEAST_TRAINING_WORK = {
    (True, True, False): 100_000_000,
    (True, True, True): 200_000_000,
    (True, False, False): 200_000_000,
    (True, False, True): 200_000_000,
    (False, True, False): 0,
    (False, True, True): 30_000_000,
    (False, False, False): 30_000_000,
    (False, False, True): 30_000_000,
}
"""Multiplications of a forward pass from which on layers train by the operators (measured on AMD Zen 4).

The key says whether there are two spatial axes (which PyTorch's own convolutions are made for), whether channels are
last, and whether batch normalisation stands between the steps. Below, calls from Python take too large a part.
"""


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


def run_depthwise(
    step: Step, module: nn.Module | None, x: Tensor, layer: RepeatingLayer
) -> Tensor | None:
    """Run a depthwise layer by its operator, or return None if PyTorch must run it."""
    if x.dim() != len(step.kernel_size) + 2 or module is None or not has_no_hooks(module):
        return None
    weight: Any = module._parameters["weight"]
    bias: Any = module._parameters["bias"]
    settings = (step.stride, padding_of(step, x.shape), step.dilation)
    on_gpu = _gpu_tensors(x, weight, bias)
    if on_gpu is not None:
        made: Tensor = torch.ops.separable.depthwise(*on_gpu, *settings, "none")
        return made
    if not _serves(x, weight, bias):
        return None
    if _records(x, weight, bias):
        if not channels_are_last(x):
            return None
        found: Tensor = torch.ops.separable.depthwise(x, weight, bias, *settings, "none")
        return found
    with suppress(EngineError):
        packed = settings_of(*settings, "none", "none")
        return _packed_result((weight, bias, None, None), packed, x, layer, (module,))
    return None


def run_separable(
    steps: tuple[Step, Step],
    modules: tuple[nn.Module | None, nn.Module | None],
    x: Tensor,
    layer: RepeatingLayer,
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
    step = steps[0]
    settings = (step.stride, padding_of(step, x.shape), step.dilation)
    operator = torch.ops.separable.depthwise_separable
    on_gpu = _gpu_tensors(x, weight, between, pointwise, bias)
    if on_gpu is not None:
        made: Tensor = operator(*on_gpu, *settings, "none", "none")
        return made
    if not _serves(x, weight, between, pointwise, bias):
        return None
    if _records(x, weight, between, pointwise, bias):
        if not _training_pays(step, x, pointwise.shape[0], norm=False):
            return None
        found: Tensor = operator(x, weight, between, pointwise, bias, *settings, "none", "none")
        return found
    with suppress(EngineError):
        packed = settings_of(*settings, "none", "none")
        tensors = (weight, between, pointwise, bias)
        return _packed_result(tensors, packed, x, layer, (first, second))
    return None


def _packed_result(
    tensors: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
    settings: Settings,
    x: Tensor,
    layer: RepeatingLayer,
    modules: Sequence[nn.Module],
) -> Tensor:
    """Return the result of a layer with packed weights; later calls like this one are repeated."""
    packed = cached_layer(tensors, x.shape[1], settings)
    layer._repeated.keep((layer, *modules), [t for t in tensors if t is not None], x, packed)
    return packed(x)


_NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_ACTIVATIONS: dict[Any, str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
}


def _is_plain(module: nn.Module) -> bool:
    return not any(getattr(module, name) for name in HOOKS)


def norm_and_activation(module: nn.Module | None, ndim: int) -> tuple[Any, str] | None:
    """Return the batch normalisation that a module consists of, and the name of the activation after it.

    The result is None for every other module, for those with hooks, and outside of training.
    """
    parts = [module]
    if type(module) is nn.Sequential:
        parts = list(module)
        if not (_is_plain(module) and 1 <= len(parts) <= 2):
            return None
    norm: Any = parts[0]
    if type(norm) is not _NORMS[ndim] or not norm.training or not _is_plain(norm):
        return None
    if len(parts) == 1:
        return norm, "none"
    name = _ACTIVATIONS.get(type(parts[1]))
    return (norm, name) if name is not None and _is_plain(cast(nn.Module, parts[1])) else None


def run_separable_norm(
    steps: tuple[Step, Step], modules: tuple[nn.Module | None, ...], x: Tensor
) -> Tensor | None:
    """Run a depthwise step, batch normalisation in training, an activation and a pointwise step by one operator.

    `modules` are the depthwise, the intermediate and the pointwise one. The result is None if PyTorch must run them.
    """
    first, intermediate, second = modules
    ndim, step = len(steps[0].kernel_size), steps[0]
    if x.dim() != ndim + 2 or first is None or second is None:
        return None
    found = norm_and_activation(intermediate, ndim)
    if found is None or not (has_no_hooks(first) and has_no_hooks(second)):
        return None
    norm, act = found
    parameters: Any = norm._parameters
    if norm.num_features != steps[0].outputs or "weight" not in parameters:
        return None
    tensors: list[Any] = [first._parameters["weight"], first._parameters["bias"], parameters["weight"],
                          parameters["bias"], second._parameters["weight"], second._parameters["bias"]]  # fmt: skip
    if x.shape[0] == 0:
        return None
    on_gpu = _gpu_norm_tensors(x, tensors)
    if on_gpu is not None:
        x, *tensors = on_gpu
    elif not (x.dtype is torch.float32 and _serves(x, *tensors)) or not _training_pays(
        step, x, tensors[4].shape[0], norm=True
    ):
        return None
    operator = getattr(torch.ops.separable, OPERATOR)
    window = (step.stride, padding_of(step, x.shape), step.dilation)
    out, mean, var, *_ = operator(x, *tensors, *window, norm.eps, act)
    _update_averages(norm, mean, var, out.numel() // out.shape[1])
    return cast(Tensor, out)


def _training_pays(step: Step, x: Tensor, outputs: int, *, norm: bool) -> bool:
    """Return True if a training step has enough multiplications to be faster by the operator than by PyTorch."""
    ndim, last = len(step.kernel_size), channels_are_last(x)
    if torch.compiler.is_compiling() and not norm:
        return last
    sizes = out_sizes(
        x.shape[2:], step.kernel_size, step.stride, padding_of(step, x.shape), step.dilation
    )
    each = step.outputs * (math.prod(step.kernel_size) + outputs)
    return x.shape[0] * math.prod(sizes) * each >= LEAST_TRAINING_WORK[ndim == 2, last, norm]


def _update_averages(norm: Any, mean: Tensor, var: Tensor, count: int) -> None:
    """Update the running averages of a batch normalisation, as PyTorch does."""
    if not norm.track_running_stats:
        return
    weight: Any = 0.0 if norm.momentum is None else norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:  # a plain average over all batches
            weight = norm.num_batches_tracked.to(mean.dtype).reciprocal()
    with torch.no_grad():
        if norm.running_mean is not None:
            norm.running_mean.lerp_(mean, weight)
        if norm.running_var is not None:
            norm.running_var.lerp_(var * (count / (count - 1)), weight)


def _gpu_tensors(x: Tensor, *weights: Tensor | None) -> tuple[Tensor | None, ...] | None:
    """Return the tensors in the type in which the GPU kernels run a call, or None if they do not.

    Autocast converts them, as it does for PyTorch's convolutions.
    """
    if torch.compiler.is_compiling():
        return (x, *weights) if _compiles_for_gpu(x, *weights) else None
    if x.is_cpu and not is_interpreting():
        return None
    tensors: tuple[Tensor | None, ...] = (x, *weights)
    if not can_use_fused_kernel(x) or are_observed():
        return None
    if x.is_cuda and torch.is_autocast_enabled("cuda") and x.is_floating_point():
        dtype = torch.get_autocast_dtype("cuda")
        tensors = tuple(None if t is None else t.to(dtype) for t in tensors)
    return tensors if serves(*tensors) else None  # type: ignore[arg-type]


def _gpu_norm_tensors(x: Tensor, tensors: list[Any]) -> list[Any] | None:
    """Return the input and the parameters of a layer with a normalisation, or None if the GPU kernels do not run it.

    The parameters of the normalisation (the third and the fourth) keep their type.
    """
    if torch.compiler.is_compiling():
        return [x, *tensors] if _compiles_for_gpu(x, *tensors) else None
    steps = _gpu_tensors(x, *tensors[:2], *tensors[4:])
    if steps is None or any(t is not None and t.device != x.device for t in tensors[2:4]):
        return None
    return [*steps[:3], *tensors[2:4], *steps[3:]]


GPU_KERNELS = not why_no_kernels()
"""Whether Triton is there, found out at import, so that torch.compile finds a constant."""


def _compiles_for_gpu(x: Tensor, *weights: Tensor | None) -> bool:
    """Return True if compiled code calls the operators; they run PyTorch's convolutions for what they do not serve."""
    return (
        GPU_KERNELS
        and x.is_cuda
        and not torch.is_autocast_enabled("cuda")
        and not torch.compiler.is_exporting()
        and all(t is None or t.dtype is x.dtype for t in weights)
    )


def _serves(x: Tensor, *weights: Tensor | None) -> bool:
    if torch.compiler.is_compiling():
        plain = not torch.compiler.is_exporting() and not torch.is_autocast_enabled("cpu")
        return plain and channels_are_last(x) and is_served(x, *weights)
    return is_served(x, *weights) and can_use_fused_kernel(x) and not are_observed()


def _records(*tensors: Tensor | None) -> bool:
    """Return True if the call must go through the operator: for autograd and the compiler."""
    if torch.compiler.is_compiling():
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
