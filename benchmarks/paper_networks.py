"""Networks of papers as one writes them in PyTorch, without a training: what `fused_work.py` measures as a whole.

The sizes are those of the papers. Weights are random, and `calibrated` gives normalisation layers the statistics of
their inputs: otherwise outputs of deep networks vanish or overflow, and errors would say nothing.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "ConvNeXt",
    "XceptionMiddle",
    "calibrated",
    "mobilenet_v2",
    "mobilenet_v3",
    "resnet_18",
]


def calibrated(net: nn.Module, x: Tensor) -> nn.Module:
    """Return a copy in evaluation mode whose normalisation layers have, nearly, the statistics of their inputs."""
    net = copy.deepcopy(net).train()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net(x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            # Layers that see one value per channel, as in squeeze-and-excitation, have no variance.
            norm.running_var.mul_(0.8 + 0.4 * torch.rand_like(norm.running_var)).clamp_(min=1e-3)
            if norm.affine:
                norm.weight.uniform_(0.8, 1.2)
                norm.bias.normal_(0, 0.1)
    return net.eval().requires_grad_(False)


def _conv(
    inputs: int, outputs: int, size: int, stride: int = 1, *, groups: int = 1, act: Any = None
) -> nn.Sequential:
    """Return a convolution, its normalisation, and perhaps an activation."""
    steps = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*steps, *([act()] if act is not None else []))


class Excitation(nn.Module):
    """Squeeze-and-excitation: a factor per channel, computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input times its factors."""
        means = nn.functional.adaptive_avg_pool2d(x, 1)
        factors = self.excite(nn.functional.relu(self.squeeze(means)))
        return x * nn.functional.hardsigmoid(factors)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, perhaps excite, project 1x1; plus the input where the shapes agree."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, size: int, stride: int, act: Any, *,
        excited: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        steps = [_conv(inputs, middle, 1, act=act)] if middle != inputs else []
        steps.append(_conv(middle, middle, size, stride, groups=middle, act=act))
        excitation = [Excitation(middle, _rounded(middle / 4))] if excited else []
        self.steps = nn.Sequential(*steps, *excitation, _conv(middle, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        return x + self.steps(x) if self.adds else self.steps(x)


def _rounded(channels: float) -> int:
    """Return a multiple of 8 close to a number of channels, as both papers round it."""
    made = max(8, int(channels + 4) // 8 * 8)
    return made + 8 if made < 0.9 * channels else made


def _classifier(*layers: nn.Module) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers]


def mobilenet_v2() -> nn.Module:
    """Return MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), table 2."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    layers: list[nn.Module] = [_conv(3, 32, 3, 2, act=nn.ReLU6)]
    inputs = 32
    for expansion, outputs, repeats, stride in stages:
        for i in range(repeats):
            layers.append(
                InvertedResidual(
                    inputs, expansion * inputs, outputs, 3, stride if i == 0 else 1, nn.ReLU6
                )
            )
            inputs = outputs
    layers.append(_conv(inputs, 1280, 1, act=nn.ReLU6))
    return nn.Sequential(*layers, *_classifier(nn.Linear(1280, 1000)))


def mobilenet_v3() -> nn.Module:
    """Return MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244), table 1."""
    blocks = (
        # size, middle, outputs, excited, hardswish, stride
        (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2),
        (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1),
        (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
        (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
    )  # fmt: skip
    layers: list[nn.Module] = [_conv(3, 16, 3, 2, act=nn.Hardswish)]
    inputs = 16
    for size, middle, outputs, excited, swish, stride in blocks:
        act = nn.Hardswish if swish else nn.ReLU
        layers.append(
            InvertedResidual(inputs, middle, outputs, size, stride, act, excited=bool(excited))
        )
        inputs = outputs
    layers.append(_conv(inputs, 960, 1, act=nn.Hardswish))
    head = (nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, 1000))
    return nn.Sequential(*layers, *_classifier(*head))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, 3, stride, act=nn.ReLU)
        self.second = _conv(outputs, outputs, 3)
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if is_same else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        return nn.functional.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet_18() -> nn.Module:
    """Return ResNet-18 (He et al. 2016, doi:10.1109/CVPR.2016.90), table 1: dense layers, for comparison."""
    layers: list[nn.Module] = [_conv(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, *_classifier(nn.Linear(512, 1000)))


class XceptionMiddle(nn.Module):
    """One of the eight middle blocks of Xception (Chollet 2017, doi:10.1109/CVPR.2017.195)."""

    def __init__(self, channels: int = 728) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for _ in range(3):
            steps += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            ]
        self.steps = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus what three separable convolutions make of it."""
        return x + self.steps(x)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of an image with channels first."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised image."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, normalisation, and two linear layers per pixel; plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(nn.functional.gelu(self.expand(y)))
        return x + self.scale * y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Sequential):
    """ConvNeXt-T (Liu et al. 2022, arXiv:2201.03545) with the given numbers of blocks and channels."""

    def __init__(
        self, depths: tuple[int, ...] = (3, 3, 9, 3), widths: tuple[int, ...] = (96, 192, 384, 768)
    ) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0], eps=1e-6)]
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i:
                before = widths[i - 1]
                layers += [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, 2)]
            layers += [ConvNeXtBlock(width) for _ in range(depth)]
        head = (nn.LayerNorm(widths[-1], eps=1e-6), nn.Linear(widths[-1], 1000))
        super().__init__(*layers, *_classifier(*head))
