"""Blocks of the networks: choice of separable or dense, normalisation, initial weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.step import SamePadding
from separable.nn.depthwise import DepthwiseConv2d
from separable.nn.depthwise_separable import SeparableConv1d, SeparableConv2d, SeparableConv3d

__all__ = [
    "ChannelNorm",
    "Classifier",
    "StridedConv2d",
    "StridedConv3d",
    "above_zero",
    "centred_conv",
    "centred_depthwise",
    "depthwise_or_dense",
    "each_stage",
    "initialise_network",
    "make_norm",
    "positive",
    "rounded_channels",
    "separable_or_dense",
    "share",
]


class Classifier(nn.Sequential):
    """Mean over space, dropout and one linear layer: the usual end of an image classifier."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            nn.Dropout(dropout),
            nn.Linear(channels, classes),
        )


class ChannelNorm(nn.LayerNorm):
    """Normalisation over the channels of each position: ``(N, c, ...)`` over c."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class _Strided(_ConvNd):
    """Dense convolution with the padding of Keras's 'same', also for strides."""

    def forward(self, x: Tensor) -> Tensor:
        sizes = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        pads = [SamePadding(k - 1, stride).amounts(n) for n, k, stride in sizes]
        padded = functional.pad(x, [bound for pair in reversed(pads) for bound in pair])
        out: Tensor = self._conv_forward(padded, self.weight, self.bias)
        return out


class StridedConv2d(_Strided, nn.Conv2d):
    """`torch.nn.Conv2d` with the padding of Keras's 'same', which PyTorch lacks for strides."""


class StridedConv3d(_Strided, nn.Conv3d):
    """`torch.nn.Conv3d` with the padding of Keras's 'same', which PyTorch lacks for strides."""


_DENSE = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_SEPARABLE = {1: SeparableConv1d, 2: SeparableConv2d, 3: SeparableConv3d}
_BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def separable_or_dense(
    ndim: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    dense: bool,
    stride: int = 1,
    dilation: int = 1,
    padding: str = "same",
    order: Literal["depthwise_first", "pointwise_first"] = "depthwise_first",
    intermediate: nn.Module | None = None,
) -> nn.Module:
    """Return a depthwise separable convolution, or the dense one of the same shape.

    Neither has a bias, because a norm always follows. `intermediate` runs between the two parts of
    the separable convolution; the dense one ignores it.
    """
    if dense and stride > 1:
        return StridedConv2d(in_channels, out_channels, kernel_size, stride, bias=False)
    if dense:
        return _DENSE[ndim](
            in_channels, out_channels, kernel_size, 1, padding, dilation, bias=False
        )
    return _SEPARABLE[ndim](
        in_channels, out_channels, kernel_size, stride, padding, dilation,
        bias=False, order=order, intermediate=intermediate,
    )  # fmt: skip


def depthwise_or_dense(
    channels: int, kernel_size: int, *, dense: bool, stride: int = 1
) -> nn.Module:
    """Return a depthwise convolution of images, or the dense one with as many channels."""
    if dense:
        return separable_or_dense(2, channels, channels, kernel_size, stride=stride, dense=True)
    return DepthwiseConv2d(channels, kernel_size, stride, bias=False)


def centred_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, *, dense: bool
) -> nn.Module:
    """Return a convolution with the same padding on both sides, dense or depthwise separable."""
    kind = nn.Conv2d if dense else SeparableConv2d
    return kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)


def centred_depthwise(channels: int, kernel_size: int, stride: int) -> nn.Module:
    """Return a depthwise convolution with the same padding on both sides."""
    return DepthwiseConv2d(channels, kernel_size, stride, kernel_size // 2, bias=False)


def each_stage(dense: bool | Sequence[bool], count: int) -> tuple[bool, ...]:
    """Return for each stage of a network whether it is dense.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If it is neither a bool nor as many bools as there are stages.
    """
    if isinstance(dense, bool):
        return (dense,) * count
    if not isinstance(dense, Sequence) or not all(isinstance(v, bool) for v in dense):
        raise ArgumentTypeError(
            f"`dense` must be True, False or one of them per stage; got {dense!r}"
        )
    if len(dense) != count:
        raise ArgumentError(
            f"`dense` must have one value for each of {count} stages; got {len(dense)}, {dense!r}"
        )
    return tuple(dense)


def rounded_channels(wanted: float) -> int:
    """Round channels to the nearest multiple of 8, but never down by more than a tenth."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def make_norm(name: str, ndim: int, channels: int) -> nn.Module:
    """Return a normalisation by name: "batch", or "group" for small batches and several processes.

    "group" takes at most 8 groups, of at least 4 channels each.
    """
    if name == "batch":
        return _BATCH[ndim](channels)
    if name == "group":
        return nn.GroupNorm(math.gcd(8, max(1, channels // 4)), channels)
    raise ArgumentError(f'`norm` must be "batch" or "group"; got {name!r}')


def positive(**values: Any) -> None:
    """Raise an error that names the argument unless it is an integer >= 1.

    Raises
    ------
    ArgumentTypeError, ArgumentError
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ArgumentTypeError(f"`{name}` must be a whole number; got {value!r}")
        if value < 1:
            raise ArgumentError(f"`{name}` must be >= 1; got {value}")


def above_zero(**values: Any) -> None:
    """Raise an error that names the argument unless it is a number > 0.

    Raises
    ------
    ArgumentTypeError, ArgumentError
    """
    for name, value in values.items():
        _number(name, value)
        if not 0 < value < math.inf:
            raise ArgumentError(f"`{name}` must be > 0 and finite; got {value!r}")


def share(**values: Any) -> None:
    """Raise an error that names the argument unless it is a probability below 1.

    Raises
    ------
    ArgumentTypeError, ArgumentError
    """
    for name, value in values.items():
        _number(name, value)
        if not 0 <= value < 1:
            raise ArgumentError(f"`{name}` must be in [0, 1); got {value!r}")


def _number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"`{name}` must be a number; got {value!r}")


def initialise_network(model: nn.Module) -> None:
    """Set the initial weights of a network, from PyTorch's random state.

    Convolutions: normal with variance ``2 / fan_out``, where ``fan_out`` is the number of outputs
    that one input value reaches: kernel size times output channels over groups, which is the
    kernel size alone for a depthwise convolution (He et al. 2015, doi:10.1109/ICCV.2015.123;
    backwards, so that gradients keep their size; EfficientNet's choice). Linear layers: normal
    with standard deviation 0.01, so that the first loss is that of guessing. Biases 0. Norms and
    embeddings keep PyTorch's 1, 0 and unit normal.
    """
    for module in model.modules():
        if isinstance(module, _ConvNd):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
