"""MobileNet V1 (Howard et al. 2017, arXiv:1704.04861)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from separable.nn.models._blocks import (
    Classifier,
    StridedConv2d,
    above_zero,
    each_stage,
    initialise_network,
    separable_or_dense,
)
from separable.nn.models._image_classifier import ImageClassifier

__all__ = ["MobileNetV1"]

STEM = 32
# Table 1 of the paper: channels and stride of each separable convolution. The table prints
# stride 2 for the last one too, with 7x7 before and after it, which only stride 1 gives.
STAGES = (
    (64, 1),
    (128, 2), (128, 1),
    (256, 2), (256, 1),
    (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(ImageClassifier):
    """Image classifier of 13 depthwise separable convolutions in a chain.

    Parameters
    ----------
    width : float
        The width multiplier: every layer has ``int(width * channels)`` channels, at least 8.
    resolution : int
        Height and width of the usual image, the resolution multiplier times 224. It changes the
        multiplications, not the parameters, and images of any other size are taken as well.
    classes, in_channels : int
    dropout : float
        Before the last layer; 0.001 as in the authors' code.
    dense : bool or sequence of bool
        Build the twin of Table 4 of the paper: a 3x3 convolution for each separable one. Five
        values choose for each resolution, the finest first: a block with stride 2 begins the next.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits.

    References
    ----------
    Howard et al. (2017), "MobileNets: Efficient convolutional neural networks for mobile vision
    applications", arXiv:1704.04861.

    Examples
    --------
    >>> import torch
    >>> net = MobileNetV1(width=0.25, classes=10).eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])

    >>> f"{MobileNetV1().parameter_count():,} {MobileNetV1(dense=True).parameter_count():,}"
    '4,231,976 29,294,088'
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        resolution: int = 224,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.001,
        dense: bool | Sequence[bool] = False,
    ) -> None:
        super().__init__(
            resolution,
            width=width, resolution=resolution, classes=classes, in_channels=in_channels,
            dropout=dropout, dense=dense,
        )  # fmt: skip
        above_zero(width=width)
        channels = _scaled(STEM, width)
        self.stem = nn.Sequential(
            StridedConv2d(in_channels, channels, 3, 2, bias=False), *_norm(channels)
        )
        blocks: list[nn.Module] = []
        chosen = each_stage(dense, 5)
        stages = itertools.accumulate(int(stride == 2) for _, stride in STAGES)
        for (wide, stride), stage in zip(STAGES, stages, strict=True):
            before, channels = channels, _scaled(wide, width)
            blocks.append(_SeparableBlock(before, channels, stride, chosen[stage]))
        self.stages = nn.Sequential(*blocks)
        self.head = Classifier(channels, classes, dropout)
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images)
        logits: Tensor = self.head(self.stages(self.stem(images)))
        return logits


def _scaled(channels: int, width: float) -> int:
    return max(8, int(channels * width))


def _norm(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels, eps=1e-3), nn.ReLU()


class _SeparableBlock(nn.Sequential):
    """Depthwise, norm, ReLU, pointwise, norm, ReLU: the right half of figure 3."""

    def __init__(self, before: int, channels: int, stride: int, dense: bool) -> None:
        conv = separable_or_dense(
            2, before, channels, 3, stride=stride, dense=dense,
            intermediate=nn.Sequential(*_norm(before)),
        )  # fmt: skip
        super().__init__(conv, *_norm(channels))
