"""Conversions between a ConvSpec and the `torch.nn` convolution that it describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.conv import _ConvTransposeNd

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.conv_spec import ConvSpec

__all__ = ["CONVS", "TRANSPOSED", "build_conv", "set_weights", "spec_of", "weights_in_order"]

CONVS: dict[int, Any] = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
"""The convolution class of each number of spatial axes."""

TRANSPOSED: dict[int, Any] = {
    1: torch.nn.ConvTranspose1d,
    2: torch.nn.ConvTranspose2d,
    3: torch.nn.ConvTranspose3d,
}
"""The transposed convolution class of each number of spatial axes."""

Array = NDArray[Any]


def weights_in_order(weight: Array, groups: int, transposed: bool) -> Array:
    """Return weights in the other of two orders if transposed, else as they are.

    PyTorch has the weights of transposed convolutions as ``(in, out / groups, *kernel)``, patterns
    have all weights as ``(out, in / groups, *kernel)``. The change between the two is its own inverse.

    Examples
    --------
    >>> weights_in_order(np.zeros((6, 4, 3, 3)), 2, True).shape
    (8, 3, 3, 3)
    """
    if not transposed:
        return weight
    split = weight.reshape(groups, -1, *weight.shape[1:])
    turned = np.swapaxes(split, 1, 2)
    return np.ascontiguousarray(turned).reshape(-1, turned.shape[2], *weight.shape[2:])


def set_weights(conv: Any, weight: Array) -> None:
    """Copy weights in the order of patterns into a convolution, transposed or not."""
    transposed = isinstance(conv, _ConvTransposeNd)
    ordered = weights_in_order(weight, conv.groups, transposed)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(ordered).reshape(conv.weight.shape))


def spec_of(conv: Any) -> ConvSpec:
    """Read the arguments of a `torch.nn` convolution over 1 to 3 axes, transposed or not.

    Raises
    ------
    ArgumentTypeError
        If it is another module.

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
    kinds: tuple[Any, ...] = (*CONVS.values(), *TRANSPOSED.values())
    if not isinstance(conv, kinds):
        raise ArgumentTypeError(
            "`conv` must be a torch.nn.Conv1d, Conv2d or Conv3d, or ConvTranspose1d, 2d or 3d; got "
            f"{type(conv).__name__}, which has no kernel that these patterns describe"
        )
    more: dict[str, Any] = {}
    if isinstance(conv, _ConvTransposeNd):
        more = {"transposed": True, "output_padding": conv.output_padding}
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
        **more,
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
    if spec.transposed:
        module: torch.nn.Module = TRANSPOSED[spec.ndim](
            spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, spec.padding,
            spec.output_padding, spec.groups, spec.bias, spec.dilation, device=device, dtype=dtype,
        )  # fmt: skip
        return module
    made: torch.nn.Module = CONVS[spec.ndim](
        spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, spec.padding,
        spec.dilation, spec.groups, spec.bias, spec.padding_mode, device=device, dtype=dtype,
    )  # fmt: skip
    return made
