"""Layout and precision of tensors as the kernels need them."""

from __future__ import annotations

import torch
from torch import Tensor

from separable.gpu.kernel_support import is_interpreting
from separable.gpu.layer_sizes import strides_of

__all__ = ["channels_lie_last", "layer_precision", "named_strides", "rate_name"]


def channels_lie_last(x: Tensor) -> bool:
    """Return True if neighbouring channels are neighbours in memory, and neighbouring columns are not."""
    return x.stride(1) == 1 and x.shape[1] > 1 and not x.is_contiguous()


def layer_precision(dtype: torch.dtype) -> str:
    """Return the precision of products: that of the numbers, for float32 TF32 if PyTorch's convolutions may use it.

    Otherwise float32 numbers are multiplied as three products of TF32, whose errors are about those of float32.
    """
    if dtype is not torch.float32:
        return "interpreted" if is_interpreting() else "ieee"
    if is_interpreting():
        return "ieee"
    return "tf32" if _allows_tf32() else "tf32x3"


def _allows_tf32() -> bool:
    """Return True if PyTorch lets convolutions of float32 round their factors to TF32."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    asked = getattr(convolutions, "fp32_precision", None)
    if asked in ("ieee", "tf32"):
        return bool(asked == "tf32")
    return bool(torch.backends.cudnn.allow_tf32)


def rate_name(dtype: torch.dtype) -> str:
    """Return the name of the rate of products in a `Device`."""
    if dtype is torch.float32:
        return "tf32" if _allows_tf32() else "tf32x3"
    return str(dtype).removeprefix("torch.")


def named_strides(name: str, t: Tensor) -> dict[str, int]:
    """Return the strides of a tensor by the names of a kernel's parameters."""
    return {f"{name}_{axis}": s for axis, s in zip("nczyx", strides_of(t), strict=True)}
