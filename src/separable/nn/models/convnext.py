"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): a residual network of 7x7 depthwise layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.models._blocks import (
    ChannelNorm,
    each_stage,
    initialise_network,
)
from separable.nn.models._image_classifier import ImageClassifier
from separable.nn.models.efficientnet import drop_path as dropped

__all__ = ["ConvNeXt"]

# Section 3 of the paper: blocks and channels of each stage.
LAYOUTS = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
SCALE = 1e-6  # initial value of the factor of each channel


class ConvNeXt(ImageClassifier):
    """Image classifier of depthwise 7x7 convolutions and channel mixing by two linear layers.

    Parameters
    ----------
    variant : str
        "tiny", "small", "base" or "large".
    resolution : int
        Height and width of the usual image; other sizes from 32 on are taken as well.
    classes, in_channels : int
    drop_path : float
        Probability, in training, that a sample skips the last block; earlier blocks have a share of
        it in proportion to their depth.
    dense : bool or sequence of bool
        True builds the dense twin: a dense 7x7 convolution for each depthwise one. Four values
        choose for each stage, the finest first.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits.

    References
    ----------
    Liu, Mao, Wu, Feichtenhofer, Darrell and Xie (2022), "A ConvNet for the 2020s",
    arXiv:2201.03545.

    Examples
    --------
    >>> import torch
    >>> net = ConvNeXt("tiny", classes=10).eval()
    >>> net(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])

    >>> f"{ConvNeXt().parameter_count():,}"
    '28,589,128'
    """

    def __init__(
        self,
        variant: str = "tiny",
        *,
        resolution: int = 224,
        classes: int = 1000,
        in_channels: int = 3,
        drop_path: float = 0.1,
        dense: bool | Sequence[bool] = False,
    ) -> None:
        if variant not in LAYOUTS:
            raise ArgumentError(f"`variant` must be one of {', '.join(LAYOUTS)}; got {variant!r}")
        super().__init__(
            resolution,
            variant=variant, resolution=resolution, classes=classes, in_channels=in_channels,
            drop_path=drop_path, dense=dense,
        )  # fmt: skip
        counts, widths = LAYOUTS[variant]
        stages: list[nn.Module] = []
        channels, done = in_channels, 0
        for at, (count, width, is_dense) in enumerate(
            zip(counts, widths, each_stage(dense, 4), strict=True)
        ):
            rates = [drop_path * (done + k) / (sum(counts) - 1) for k in range(count)]
            stages.append(
                nn.Sequential(
                    _reduced(channels, width, first=at == 0),
                    *(_Block(width, rate, is_dense) for rate in rates),
                )
            )
            channels, done = width, done + count
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ChannelNorm(channels, eps=1e-6), nn.Flatten(1),
            nn.Linear(channels, classes),
        )  # fmt: skip
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images, minimum=32)
        logits: Tensor = self.head(self.stages(images))
        return logits


def _reduced(before: int, after: int, *, first: bool) -> nn.Module:
    """Return the convolution without overlap that begins a stage, with its normalisation."""
    if first:
        return nn.Sequential(nn.Conv2d(before, after, 4, 4), ChannelNorm(after, eps=1e-6))
    return nn.Sequential(ChannelNorm(before, eps=1e-6), nn.Conv2d(before, after, 2, 2))


class _Block(nn.Module):
    """Depthwise 7x7, normalisation, and two pointwise layers with four times the channels."""

    def __init__(self, channels: int, drop: float, dense: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=1 if dense else channels),
            ChannelNorm(channels, eps=1e-6),
            nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.full((channels, 1, 1), SCALE))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scale * self.body(x)
        return x + (dropped(out, self.drop) if self.training else out)
