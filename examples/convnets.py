"""Two small classifiers to convert: one like VGG, one like ResNet, dense or separable."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from separable.nn import SeparableConv2d

__all__ = ["VGG", "ResNet"]


def layer(inputs: int, outputs: int, stride: int, *, dense: bool) -> nn.Module:
    """Return a 3x3 convolution and its normalisation; the first one of a network is always dense."""
    kind = nn.Conv2d if dense or inputs == 1 else SeparableConv2d
    return nn.Sequential(
        kind(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class VGG(nn.Module):
    """Pairs of 3x3 layers with pooling between the pairs, after Simonyan and Zisserman (2015).

    Examples
    --------
    >>> import torch
    >>> VGG(10)(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int, *, width: int = 24, dense: bool = True) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        before = 1
        for channels in (width, 2 * width, 4 * width):
            for _ in range(2):
                parts += [layer(before, channels, 1, dense=dense), nn.ReLU()]
                before = channels
            parts.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(4 * before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(n, classes)`` of images ``(n, 1, y, x)``, 16x16 or larger."""
        return self.head(functional.adaptive_avg_pool2d(self.body(images), 2).flatten(1))


class Block(nn.Module):
    """Two 3x3 layers with a residual connection."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, dense: bool) -> None:
        super().__init__()
        self.first = layer(inputs, outputs, stride, dense=dense)
        self.second = layer(outputs, outputs, 1, dense=dense)
        self.short = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.short = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the images with `outputs` channels."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.short(x))


class ResNet(nn.Module):
    """A stem and three blocks with residual connections, after He et al. (2016).

    Examples
    --------
    >>> import torch
    >>> ResNet(10)(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int, *, width: int = 24, dense: bool = True) -> None:
        super().__init__()
        self.stem = layer(1, width, 1, dense=dense)
        self.blocks = nn.Sequential(
            Block(width, width, 1, dense=dense),
            Block(width, 2 * width, 2, dense=dense),
            Block(2 * width, 4 * width, 2, dense=dense),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(n, classes)`` of images ``(n, 1, y, x)``."""
        return self.head(self.blocks(functional.relu(self.stem(images))).mean((2, 3)))
