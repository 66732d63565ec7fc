"""MobileNetV2 (Sandler et al. 2018) and MobileNetV3 (Howard et al. 2019): inverted residuals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.models._blocks import (
    above_zero,
    centred_conv,
    centred_depthwise,
    each_stage,
    initialise_network,
    rounded_channels,
)
from separable.nn.models._image_classifier import ImageClassifier

__all__ = ["MobileNetV2", "MobileNetV3"]


@dataclass(frozen=True)
class Bottleneck:
    """One inverted residual: 1x1 to `wide` channels, depthwise `kernel`, 1x1 to `channels`."""

    kernel: int
    wide: int
    channels: int
    excite: bool
    activation: type[nn.Module]
    stride: int


# Table 2 of MobileNetV2: expansion, channels, repeats and stride of each stage.
STAGES_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
RE, HS = nn.ReLU, nn.Hardswish
# Tables 1 and 2 of MobileNetV3.
BLOCKS_V3 = {
    "large": (
        Bottleneck(3, 16, 16, False, RE, 1),
        Bottleneck(3, 64, 24, False, RE, 2), Bottleneck(3, 72, 24, False, RE, 1),
        Bottleneck(5, 72, 40, True, RE, 2), Bottleneck(5, 120, 40, True, RE, 1),
        Bottleneck(5, 120, 40, True, RE, 1),
        Bottleneck(3, 240, 80, False, HS, 2), Bottleneck(3, 200, 80, False, HS, 1),
        Bottleneck(3, 184, 80, False, HS, 1), Bottleneck(3, 184, 80, False, HS, 1),
        Bottleneck(3, 480, 112, True, HS, 1), Bottleneck(3, 672, 112, True, HS, 1),
        Bottleneck(5, 672, 160, True, HS, 2), Bottleneck(5, 960, 160, True, HS, 1),
        Bottleneck(5, 960, 160, True, HS, 1),
    ),
    "small": (
        Bottleneck(3, 16, 16, True, RE, 2),
        Bottleneck(3, 72, 24, False, RE, 2), Bottleneck(3, 88, 24, False, RE, 1),
        Bottleneck(5, 96, 40, True, HS, 2), Bottleneck(5, 240, 40, True, HS, 1),
        Bottleneck(5, 240, 40, True, HS, 1),
        Bottleneck(5, 120, 48, True, HS, 1), Bottleneck(5, 144, 48, True, HS, 1),
        Bottleneck(5, 288, 96, True, HS, 2), Bottleneck(5, 576, 96, True, HS, 1),
        Bottleneck(5, 576, 96, True, HS, 1),
    ),
}  # fmt: skip
LAST_V3 = {"large": 1280, "small": 1024}


class MobileNetV2(ImageClassifier):
    """Image classifier of inverted residuals with linear bottlenecks.

    Parameters
    ----------
    width : float
        The width multiplier of all layers; the last convolution is not narrowed below 1280.
    resolution : int
        Height and width of the usual image; images of any other size are taken as well.
    classes, in_channels : int
    dropout : float
        Before the last layer.
    dense : bool or sequence of bool
        True builds the dense twin: a dense 3x3 convolution for each expanding 1x1 and depthwise
        3x3 pair. Seven values choose for each row of table 2, the finest first.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits.

    References
    ----------
    Sandler, Howard, Zhu, Zhmoginov and Chen (2018), "MobileNetV2: Inverted residuals and linear
    bottlenecks", arXiv:1801.04381.

    Examples
    --------
    >>> import torch
    >>> net = MobileNetV2(0.25, classes=10).eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])

    >>> f"{MobileNetV2().parameter_count():,}"
    '3,504,872'
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        resolution: int = 224,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        dense: bool | Sequence[bool] = False,
    ) -> None:
        super().__init__(
            resolution,
            width=width, resolution=resolution, classes=classes, in_channels=in_channels,
            dropout=dropout, dense=dense,
        )  # fmt: skip
        above_zero(width=width)
        channels = rounded_channels(32 * width)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU6(),
        )  # fmt: skip
        blocks: list[nn.Module] = []
        for (expand, wide, repeats, stride), is_dense in zip(
            STAGES_V2, each_stage(dense, len(STAGES_V2)), strict=True
        ):
            after = rounded_channels(wide * width)
            for k in range(repeats):
                block = Bottleneck(3, channels * expand, after, False, nn.ReLU6, 1 if k else stride)
                blocks.append(_InvertedResidual(channels, block, 1e-5, is_dense))
                channels = after
        self.blocks = nn.Sequential(*blocks)
        top = rounded_channels(1280 * max(1.0, width))
        self.top = nn.Sequential(
            nn.Conv2d(channels, top, 1, bias=False), nn.BatchNorm2d(top), nn.ReLU6()
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(dropout), nn.Linear(top, classes)
        )
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images)
        logits: Tensor = self.head(self.top(self.blocks(self.stem(images))))
        return logits


class MobileNetV3(ImageClassifier):
    """Image classifier of inverted residuals found by search, with squeeze and excitation.

    Parameters
    ----------
    variant : str
        "large" or "small": tables 1 and 2 of the paper.
    width : float
        The width multiplier of all layers but the last hidden one.
    resolution : int
        Height and width of the usual image; images of any other size are taken as well.
    classes, in_channels : int
    dropout : float
        Before the last layer.
    dense : bool or sequence of bool
        True builds the dense twin: a dense convolution for each expanding 1x1 and depthwise pair.
        Five values choose for each resolution, the finest first: a block with stride 2 begins
        the next one.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits.

    References
    ----------
    Howard et al. (2019), "Searching for MobileNetV3", arXiv:1905.02244.

    Examples
    --------
    >>> import torch
    >>> net = MobileNetV3("small", classes=10).eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])

    >>> f"{MobileNetV3('large').parameter_count():,} {MobileNetV3('small').parameter_count():,}"
    '5,483,032 2,542,856'
    """

    def __init__(
        self,
        variant: str = "large",
        *,
        width: float = 1.0,
        resolution: int = 224,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        dense: bool | Sequence[bool] = False,
    ) -> None:
        if variant not in BLOCKS_V3:
            raise ArgumentError(f'`variant` must be "large" or "small"; got {variant!r}')
        super().__init__(
            resolution,
            variant=variant, width=width, resolution=resolution, classes=classes,
            in_channels=in_channels, dropout=dropout, dense=dense,
        )  # fmt: skip
        above_zero(width=width)
        channels = rounded_channels(16 * width)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels, eps=1e-3), nn.Hardswish(),
        )  # fmt: skip
        blocks: list[nn.Module] = []
        rows = BLOCKS_V3[variant]
        stages = itertools.accumulate(int(row.stride == 2) for row in rows)
        chosen = each_stage(dense, 5)
        for row, stage in zip(rows, stages, strict=True):
            block = Bottleneck(
                row.kernel, rounded_channels(row.wide * width),
                rounded_channels(row.channels * width), row.excite, row.activation, row.stride,
            )  # fmt: skip
            blocks.append(_InvertedResidual(channels, block, 1e-3, chosen[stage]))
            channels = block.channels
        self.blocks = nn.Sequential(*blocks)
        top, last = rounded_channels(6 * channels), LAST_V3[variant]
        self.top = nn.Sequential(
            nn.Conv2d(channels, top, 1, bias=False), nn.BatchNorm2d(top, eps=1e-3), nn.Hardswish()
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(top, last), nn.Hardswish(),
            nn.Dropout(dropout), nn.Linear(last, classes),
        )  # fmt: skip
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images)
        logits: Tensor = self.head(self.top(self.blocks(self.stem(images))))
        return logits


class _InvertedResidual(nn.Module):
    """Expand, filter, weigh and project the channels, with a shortcut where it fits."""

    def __init__(self, before: int, block: Bottleneck, eps: float, dense: bool) -> None:
        super().__init__()
        wide = block.wide
        act = block.activation
        parts: list[nn.Module] = []
        if dense:
            parts.append(centred_conv(before, wide, block.kernel, block.stride, dense=True))
        else:
            if wide != before:
                parts += [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide, eps), act()]
            parts.append(centred_depthwise(wide, block.kernel, block.stride))
        parts += [nn.BatchNorm2d(wide, eps), act()]
        if block.excite:
            parts.append(_HardExcite(wide, rounded_channels(wide / 4)))
        project = nn.Conv2d(wide, block.channels, 1, bias=False)
        self.body = nn.Sequential(*parts, project, nn.BatchNorm2d(block.channels, eps))
        self.shortcut = block.stride == 1 and before == block.channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.shortcut else out


class _HardExcite(nn.Module):
    """Scaling of each channel by a function of all channel means, with a hard sigmoid."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.weigh(x)
        return out
