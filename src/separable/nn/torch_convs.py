"""Conversions between a ConvSpec and the `torch.nn` convolution that it describes."""

from __future__ import annotations

from typing import Any

import torch

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.conv_spec import ConvSpec

__all__ = ["CONVS", "build_conv", "spec_of"]

CONVS: dict[int, Any] = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
"""The convolution class of each number of spatial axes."""


def spec_of(conv: Any) -> ConvSpec:
    """Read the arguments of a `torch.nn.Conv1d`, `Conv2d` or `Conv3d`.

    Raises
    ------
    ArgumentTypeError
        If it is another module, for instance a transposed convolution.

    Examples
    --------
    >>> spec = spec_of(torch.nn.Conv2d(8, 16, 3, stride=2, padding=1))
    >>> spec.weight_shape, spec.stride, spec.multiplications
    ((16, 8, 3, 3), (2, 2), 1152)
    """
    if isinstance(conv, torch.nn.modules.lazy.LazyModuleMixin):
        raise ArgumentTypeError(
            f"`conv` has no weights yet: run {type(conv).__name__} once on an input"
        )
    if not isinstance(conv, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
        raise ArgumentTypeError(
            "`conv` must be a torch.nn.Conv1d, Conv2d or Conv3d; got "
            f"{type(conv).__name__}: a transposed convolution or another layer has no "
            "kernel that these patterns describe"
        )
    return ConvSpec.make(
        type(conv).__name__,
        len(conv.kernel_size),
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )


def build_conv(
    spec: ConvSpec, device: Any = None, dtype: torch.dtype | None = None
) -> torch.nn.Module:
    """Create the `torch.nn` convolution that a specification describes.

    Raises
    ------
    ArgumentError
        If no standard convolution has this padding: with a stride, the amount of 'same' padding
        depends on the size of the input.

    Examples
    --------
    >>> build_conv(ConvSpec(8, 16, (3,), (1,), "same", (1,), 1, True, "zeros"))
    Conv1d(8, 16, kernel_size=(3,), stride=(1,), padding=same)
    """
    if spec.padding == "same" and max(spec.stride) > 1:
        raise ArgumentError(
            f"no torch.nn.Conv{spec.ndim}d pads 'same' with stride {spec.stride}: the amount "
            "depends on the input's size. Give the padding as integers"
        )
    made: torch.nn.Module = CONVS[spec.ndim](
        spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, spec.padding,
        spec.dilation, spec.groups, spec.bias, spec.padding_mode, device=device, dtype=dtype,
    )  # fmt: skip
    return made
