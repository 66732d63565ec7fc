"""Xception (Chollet 2017, doi:10.1109/CVPR.2017.195)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from separable.nn.models._blocks import (
    Classifier,
    initialise_network,
    separable_or_dense,
)
from separable.nn.models._image_classifier import ImageClassifier

__all__ = ["Xception"]

# Figure 5 of the paper: the channels after each separable convolution of each block.
ENTRY = ((128, 128), (256, 256), (728, 728))  # each halves the image
MIDDLE = ((728, 728, 728),) * 8
EXIT = (728, 1024)  # halves the image
LAST = (1536, 2048)  # without a shortcut


class Xception(ImageClassifier):
    """Image classifier of 34 depthwise separable convolutions with shortcuts around them.

    There is no activation between the two parts of a separable convolution: the paper finds
    that one there makes it learn worse.

    Parameters
    ----------
    resolution : int
        Height and width of the usual image; any other size from 7 on is taken as well.
    classes, in_channels : int
    dropout : float
        Before the last layer; 0.5 as in the paper.
    dense : bool
        Build the dense twin: a 3x3 convolution for each separable one.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, y, x)``, output ``(N, classes)``: logits.

    References
    ----------
    Chollet (2017), "Xception: Deep learning with depthwise separable convolutions",
    doi:10.1109/CVPR.2017.195, arXiv:1610.02357.

    Examples
    --------
    >>> import torch
    >>> f"{Xception().parameter_count():,}"
    '22,855,952'

    >>> net = Xception(classes=10, resolution=71).eval()
    >>> net(torch.zeros(1, 3, 71, 71)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        *,
        resolution: int = 299,
        classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
        dense: bool = False,
    ) -> None:
        super().__init__(
            resolution,
            resolution=resolution, classes=classes, in_channels=in_channels,
            dropout=dropout, dense=dense,
        )  # fmt: skip
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 32, 3, 2, bias=False), _norm(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, bias=False), _norm(64), nn.ReLU(),
        )  # fmt: skip
        channels = 64
        blocks: list[nn.Module] = []
        for widths in (*ENTRY, *MIDDLE, EXIT):
            halve, first = widths not in MIDDLE, not blocks
            blocks.append(_Block(channels, widths, halve=halve, relu_first=not first, dense=dense))
            channels = widths[-1]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(*_chain(channels, LAST, dense), nn.ReLU())
        self.head = Classifier(LAST[-1], classes, dropout)
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of images ``(N, in_channels, y, x)``."""
        self.check(images, minimum=7)
        logits: Tensor = self.head(self.last(self.blocks(self.stem(images))))
        return logits


class _Block(nn.Module):
    """Separable convolutions and a shortcut around them; a halving block pools and projects."""

    def __init__(
        self, before: int, widths: tuple[int, ...], *, halve: bool, relu_first: bool, dense: bool
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *([nn.ReLU()] if relu_first else []), *_chain(before, widths, dense)
        )
        self.pool: nn.Module = _SamePool() if halve else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if halve:
            project = nn.Conv2d(before, widths[-1], 1, 2, bias=False)
            self.shortcut = nn.Sequential(project, _norm(widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.body(x)) + self.shortcut(x)
        return out


class _SamePool(nn.Module):
    """Maximum of 3x3, stride 2, with the padding of Keras's 'same': before an odd size only."""

    def forward(self, x: Tensor) -> Tensor:
        y_size, x_size = x.shape[2:]
        return functional.max_pool2d(x, 3, 2, padding=(y_size % 2, x_size % 2), ceil_mode=True)


def _chain(before: int, widths: tuple[int, ...], dense: bool) -> list[nn.Module]:
    """Return separable convolutions with their norms and a ReLU between them."""
    layers: list[nn.Module] = []
    for wide in widths:
        layers += [nn.ReLU()] if layers else []
        layers += [separable_or_dense(2, before, wide, 3, dense=dense), _norm(wide)]
        before = wide
    return layers


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3)
