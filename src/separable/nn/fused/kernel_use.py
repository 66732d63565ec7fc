"""Conditions under which a compiled kernel may run in place of PyTorch's modules and operators."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module

__all__ = [
    "HOOKS",
    "are_observed",
    "autocast_in_float32",
    "can_use_fused_kernel",
    "has_no_hooks",
]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _multiplies_bfloat16() -> bool:
    """Return whether PyTorch's convolutions multiply numbers of bfloat16 by instructions of this processor."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if any(getattr(torch.cpu, name, bool)() for name in names):
        return True
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    return is_arm and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


BFLOAT16_PRODUCTS = _multiplies_bfloat16()
"""True if PyTorch's convolutions over two axes are faster in bfloat16 than ours are in float32."""
_GLOBAL_HOOKS = tuple(getattr(_module, f"_global{name}") for name in HOOKS)


def can_use_fused_kernel(x: Tensor) -> bool:
    """Return True for a plain CPU tensor outside of tracing and dispatch modes."""
    return (
        type(x) is Tensor
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._is_torch_function_mode_enabled()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and not x.is_neg()  # a view that negates its values when they are read
    )


def are_observed() -> bool:
    """Return True if hooks for all modules are registered, which must see the modules inside a layer too."""
    return any(_GLOBAL_HOOKS)


def has_no_hooks(module: nn.Module) -> bool:
    """Return True if a module is an unmodified convolution without hooks."""
    return (
        isinstance(module, nn.modules.conv._ConvNd)
        and "weight" in module._parameters
        and "forward" not in module.__dict__
        and not any(getattr(module, name) for name in HOOKS)
    )


def autocast_in_float32(x: Tensor, ndim: int) -> torch.dtype | None:
    """Return the dtype of autocast if a layer is faster in float32 by the compiled kernels, else None.

    PyTorch's convolutions of bfloat16 are several times slower than that over one and three axes, and over two axes on
    processors without instructions for bfloat16 (measured on AMD Zen 4, see `docs/fused.md`).
    """
    if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
        return None
    dtype = torch.get_autocast_dtype("cpu")
    if (ndim == 2 and BFLOAT16_PRODUCTS) or x.dtype not in (torch.float32, dtype):
        return None
    return dtype
