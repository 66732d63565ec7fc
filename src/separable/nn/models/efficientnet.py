"""EfficientNet (Tan and Le 2019, arXiv:1905.11946): one network and the rule that scales it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.depthwise import PointwiseConv
from separable.nn.models._blocks import (
    Classifier,
    StridedConv2d,
    above_zero,
    depthwise_or_dense,
    each_stage,
    initialise_network,
    positive,
    rounded_channels,
    separable_or_dense,
    share,
)
from separable.nn.models._image_classifier import ImageClassifier

__all__ = ["SCALINGS", "EfficientNet", "Scaling", "compound_scaling"]


@dataclass(frozen=True)
class Stage:
    """Row of table 1 of the paper: `repeats` blocks, the first of them with the stride."""

    expand: int
    kernel: int
    stride: int
    channels: int
    repeats: int


@dataclass(frozen=True)
class Scaling:
    """Width and depth relative to B0, and the size of the images of a network.

    Examples
    --------
    >>> SCALINGS["b3"]
    Scaling(width=1.2, depth=1.4, resolution=300, dropout=0.3)
    """

    width: float = 1.0
    depth: float = 1.0
    resolution: int = 224
    dropout: float = 0.2


STEM, TOP = 32, 1280
STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
# From the authors' code: the rule at hand-picked phi, rounded by hand.
SCALINGS = {
    "b0": Scaling(1.0, 1.0, 224, 0.2),
    "b1": Scaling(1.0, 1.1, 240, 0.2),
    "b2": Scaling(1.1, 1.2, 260, 0.3),
    "b3": Scaling(1.2, 1.4, 300, 0.3),
    "b4": Scaling(1.4, 1.8, 380, 0.4),
    "b5": Scaling(1.6, 2.2, 456, 0.4),
    "b6": Scaling(1.8, 2.6, 528, 0.5),
    "b7": Scaling(2.0, 3.1, 600, 0.5),
}


def compound_scaling(phi: float, *, dropout: float = 0.2) -> Scaling:
    """Return the compound scaling of B0 for ``2**phi`` times its multiplications.

    Depth grows by 1.2, width by 1.1 and resolution by 1.15 for each unit of `phi`: they cost
    ``1.2 * 1.1**2 * 1.15**2 = 1.92`` times as much, close to 2 (section 3.3 of the paper).

    Parameters
    ----------
    phi : float
        Number of times that the multiplications may double; 0 is B0.
    dropout : float

    Examples
    --------
    >>> compound_scaling(0) == SCALINGS["b0"]
    True
    >>> compound_scaling(1)
    Scaling(width=1.1, depth=1.2, resolution=258, dropout=0.2)
    """
    if not math.isfinite(phi):
        raise ArgumentError(f"`phi` must be finite; got {phi!r}")
    return Scaling(1.1**phi, 1.2**phi, round(224 * 1.15**phi), dropout)


class EfficientNet(ImageClassifier):
    """Image classifier of inverted bottlenecks (MBConv) with squeeze and excitation.

    Parameters
    ----------
    scaling : str or Scaling
        "b0" ... "b7", or a `Scaling`, for instance of `compound_scaling`.
    classes, in_channels : int
    dropout : float, optional
        Before the last layer; as the scaling says if not given.
    drop_path : float
        Probability, in training, that a sample skips the last block; earlier blocks have a share of
        it in proportion to their depth. 0.2 as in the authors' code.
    dense : bool or sequence of bool
        Build the dense twin: a kxk convolution for each 1x1 and depthwise kxk pair, which is the
        Fused-MBConv of EfficientNetV2 (Tan and Le 2021, arXiv:2104.00298) with squeeze and
        excitation. Seven values choose for each row of the paper's table 1, the finest first.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits. Expanding 1x1 and depthwise
    kxk together are one separable convolution, the pointwise part first.

    References
    ----------
    Tan and Le (2019), "EfficientNet: Rethinking model scaling for convolutional neural networks",
    arXiv:1905.11946; https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet

    Examples
    --------
    >>> import torch
    >>> net = EfficientNet("b0", classes=10).eval()
    >>> net(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])

    >>> f"{EfficientNet().parameter_count():,}"
    '5,288,548'
    """

    def __init__(
        self,
        scaling: str | Scaling = "b0",
        *,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float | None = None,
        drop_path: float = 0.2,
        dense: bool | Sequence[bool] = False,
    ) -> None:
        scale = _scaling(scaling)
        super().__init__(
            scale.resolution,
            scaling=scaling, classes=classes, in_channels=in_channels, dropout=dropout,
            drop_path=drop_path, dense=dense,
        )  # fmt: skip
        dropout = scale.dropout if dropout is None else dropout
        share(dropout=dropout)
        channels = rounded_channels(STEM * scale.width)
        self.stem = nn.Sequential(
            StridedConv2d(in_channels, channels, 3, 2, bias=False), _norm(channels), nn.SiLU()
        )
        plan = [
            (stage, stage.stride if first else 1, is_dense)
            for stage, is_dense in zip(STAGES, each_stage(dense, len(STAGES)), strict=True)
            for first in [True] + [False] * (math.ceil(stage.repeats * scale.depth) - 1)
        ]
        blocks = []
        for i, (stage, stride, is_dense) in enumerate(plan):
            after = rounded_channels(stage.channels * scale.width)
            rate = drop_path * i / len(plan)
            blocks.append(_MBConv(channels, after, stage, stride, rate, is_dense))
            channels = after
        self.blocks = nn.Sequential(*blocks)
        top = rounded_channels(TOP * scale.width)
        self.top = nn.Sequential(PointwiseConv(channels, top, bias=False), _norm(top), nn.SiLU())
        self.head = Classifier(top, classes, dropout)
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images)
        logits: Tensor = self.head(self.top(self.blocks(self.stem(images))))
        return logits


class _MBConv(nn.Module):
    """Block that expands, filters, weighs and projects the channels, with a shortcut where it fits."""

    def __init__(
        self, before: int, after: int, stage: Stage, stride: int, drop: float, dense: bool
    ) -> None:
        super().__init__()
        wide = before * stage.expand
        conv = (
            depthwise_or_dense(before, stage.kernel, stride=stride, dense=dense)
            if stage.expand == 1
            else separable_or_dense(
                2, before, wide, stage.kernel, stride=stride, dense=dense,
                order="pointwise_first", intermediate=nn.Sequential(_norm(wide), nn.SiLU()),
            )
        )  # fmt: skip
        self.filter = nn.Sequential(conv, _norm(wide), nn.SiLU())
        self.excite = _SqueezeExcite(wide, max(1, before // 4))
        self.project = nn.Sequential(PointwiseConv(wide, after, bias=False), _norm(after))
        self.shortcut = stride == 1 and before == after
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.excite(self.filter(x)))
        if not self.shortcut:
            return out
        return x + (drop_path(out, self.drop) if self.training else out)


class _SqueezeExcite(nn.Module):
    """Scaling of each channel by a function of all channel means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), PointwiseConv(channels, squeezed), nn.SiLU(),
            PointwiseConv(squeezed, channels), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.weigh(x)
        return out


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Set samples to 0 with probability `rate`, and scale the others so that the mean stays.

    Huang et al. (2016), "Deep networks with stochastic depth", arXiv:1603.09382.
    """
    if rate == 0:
        return x
    keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device) >= rate
    return x * keep / (1 - rate)


def _scaling(scaling: str | Scaling) -> Scaling:
    if isinstance(scaling, str):
        if scaling.lower() not in SCALINGS:
            raise ArgumentError(
                f"`scaling` must be one of {', '.join(SCALINGS)} or a Scaling; got {scaling!r}"
            )
        return SCALINGS[scaling.lower()]
    if not isinstance(scaling, Scaling):
        raise ArgumentTypeError(
            f'`scaling` must be a name such as "b0" or a Scaling; got {scaling!r}'
        )
    above_zero(**{"scaling.width": scaling.width, "scaling.depth": scaling.depth})
    positive(**{"scaling.resolution": scaling.resolution})
    return scaling


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3)
