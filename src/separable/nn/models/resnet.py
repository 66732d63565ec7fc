"""ResNet (He et al. 2016, doi:10.1109/CVPR.2016.90), dense as in the paper or separable."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.models._blocks import (
    Classifier,
    centred_conv,
    each_stage,
    initialise_network,
)
from separable.nn.models._image_classifier import ImageClassifier

__all__ = ["ResNet"]

WIDTHS = (64, 128, 256, 512)
# Table 1 of the paper: blocks of each stage; from 50 layers on, blocks are bottlenecks.
LAYOUTS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


class ResNet(ImageClassifier):
    """Image classifier of residual blocks.

    Parameters
    ----------
    depth : int
        18, 34, 50, 101 or 152: the networks of table 1 of the paper.
    resolution : int
        Height and width of the usual image; images of any other size are taken as well.
    classes, in_channels : int
    dropout : float
        Before the last layer; 0 as in the paper.
    dense : bool or sequence of bool
        True, the default, is the network of the paper. False replaces every 3x3 convolution by a
        depthwise separable one. Four values choose for each stage, the finest first:
        ``(True, True, False, False)`` has dense early and separable late stages. The 7x7
        convolution of the image is always dense.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits. Shortcuts that change the size
    are 1x1 convolutions (option B of the paper). A bottleneck has its stride in the first 1x1
    convolution as in the paper; later implementations often have it in the 3x3 convolution, at 6 %
    more multiplications for 50 layers.

    References
    ----------
    He, Zhang, Ren and Sun (2016), "Deep residual learning for image recognition",
    doi:10.1109/CVPR.2016.90.

    Examples
    --------
    >>> import torch
    >>> net = ResNet(18, classes=10, dense=False).eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])

    >>> f"{ResNet(18).parameter_count():,} {ResNet(18, dense=False).parameter_count():,}"
    '11,689,512 1,955,176'
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        resolution: int = 224,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.0,
        dense: bool | Sequence[bool] = True,
    ) -> None:
        if depth not in LAYOUTS:
            known = ", ".join(map(str, LAYOUTS))
            raise ArgumentError(f"`depth` must be one of {known}; got {depth!r}")
        super().__init__(
            resolution,
            depth=depth, resolution=resolution, classes=classes, in_channels=in_channels,
            dropout=dropout, dense=dense,
        )  # fmt: skip
        counts, bottleneck = LAYOUTS[depth]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        channels = 64
        stages: list[nn.Module] = []
        block = _Bottleneck if bottleneck else _Basic
        for at, (width, count, is_dense) in enumerate(
            zip(WIDTHS, counts, each_stage(dense, 4), strict=True)
        ):
            blocks: list[nn.Module] = []
            for k in range(count):
                blocks.append(block(channels, width, 2 if at and not k else 1, is_dense))
                channels = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = Classifier(channels, classes, dropout)
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images)
        logits: Tensor = self.head(self.stages(self.stem(images)))
        return logits


class _Residual(nn.Module):
    """Body and shortcut, whose sum passes a ReLU."""

    expansion = 1
    body: nn.Sequential
    shortcut: nn.Module

    def _shortcut(self, before: int, after: int, stride: int) -> nn.Module:
        if stride == 1 and before == after:
            return nn.Identity()
        conv = nn.Conv2d(before, after, 1, stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.functional.relu(self.body(x) + self.shortcut(x))
        return out


class _Basic(_Residual):
    """Two 3x3 convolutions: figure 5, left."""

    def __init__(self, before: int, width: int, stride: int, dense: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            centred_conv(before, width, 3, stride, dense=dense), nn.BatchNorm2d(width), nn.ReLU(),
            centred_conv(width, width, 3, 1, dense=dense), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut = self._shortcut(before, width, stride)


class _Bottleneck(_Residual):
    """A 3x3 convolution between two 1x1 convolutions: figure 5, right."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, dense: bool) -> None:
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            centred_conv(width, width, 3, 1, dense=dense), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut = self._shortcut(before, after, stride)
