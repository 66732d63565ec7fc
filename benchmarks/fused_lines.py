"""The lines of the table of fused layers, with their targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import paper_networks
from fused_networks import mobilenet, network
from fused_work import (
    FACTORED,
    Aim,
    Pair,
    Peers,
    Work,
    factored,
    hyperspectral,
    in_two_passes,
    of_pair,
    textbook,
    training,
)

from separable import nn

__all__ = ["Line", "all_lines"]

PAIRS = ((112, 32, 64, 1), (112, 64, 128, 2), (56, 128, 128, 1), (28, 256, 256, 1),
         (14, 512, 512, 1), (7, 1024, 1024, 1))  # fmt: skip


@dataclass(frozen=True)
class Line:
    """Line of the table: `make` prepares what is measured."""

    name: str
    aim: Aim
    make: Callable[[Peers], Work]


def all_lines() -> list[Line]:
    """Return the lines of the table."""
    return [*_pairs(), *_networks(), *_other_layers(), *_factored(), *_trainings()]


def _pair(name: str, aim: Aim, pair: Pair) -> Line:
    return Line(name, aim, lambda peers: of_pair(pair, peers))


def _pairs() -> list[Line]:
    aim = Aim(peer=1.05, torch=1.7, part=0.85, group="3x3 pairs")
    lines = []
    for side, inputs, outputs, stride in PAIRS:
        name = f"3x3 {side}² {inputs}→{outputs}{' stride 2' if stride == 2 else ''}"
        lines.append(
            _pair(name, aim, Pair(inputs, outputs, 3, (side, side), stride))
        )  # fmt: skip
    return lines


def _networks() -> list[Line]:
    mobile, other, image = (
        Aim(peer=1.1, torch=2.2, part=0.85),
        Aim(peer=1.0, torch=1.5),
        (1, 3, 224, 224),
    )
    made = [
        Line(f"MobileNetV1 224, batch {batch}", mobile, lambda peers, b=batch: mobilenet(b, peers))
        for batch in (1, 8)
    ]
    named = {
        "EfficientNet-B0 224": nn.models.EfficientNet,
        "MobileNetV2 224": paper_networks.mobilenet_v2,
        "MobileNetV3-Large 224": paper_networks.mobilenet_v3,
        "ConvNeXt-T 224": paper_networks.ConvNeXt,
    }
    made += [
        Line(name, other, lambda peers, make=make: network(make, image, peers))
        for name, make in named.items()
    ]
    block = (1, 728, 19, 19)
    made.append(
        Line("Xception middle block 19² 728", other,
             lambda peers: network(paper_networks.XceptionMiddle, block, peers))
    )  # fmt: skip
    made.append(
        Line("ResNet-18 224 (dense)", Aim(),
             lambda peers: network(paper_networks.resnet_18, image, peers))
    )  # fmt: skip
    return made


def _other_layers() -> list[Line]:
    seven = Pair(96, 0, 7, (56, 56), padding=3, clamp=False)
    large = Pair(128, 0, 31, (32, 32), padding=15, clamp=False)
    series = Pair(64, 64, 9, (512,), padding=4, batch=32, clamp=False)
    volume = Pair(32, 64, 3, (32,) * 3, clamp=False)
    return [
        _pair("depthwise 7x7 96 56²", Aim(peer=1.3, torch=1.3), seven),
        _pair("depthwise 31x31 128 32²", Aim(peer=1.3, torch=1.4), large),
        Line("depthwise 31x31 of rank 1, two passes", Aim(dense=5.0),
             lambda peers: in_two_passes(128, 31, 32, peers)),
        _pair("1-D k=9 64→64 512 batch 32", Aim(peer=1.2, torch=1.8, part=0.8), series),
        _pair("3-D 3³ 32→64 32³", Aim(peer=1.5, torch=1.5, part=0.8), volume),
        Line("hyperspectral 1→1, 1→16", Aim(peer=1.5, torch=4.0),
             lambda peers: hyperspectral(wide=False, peers=peers)),
        Line("hyperspectral 1→16, depthwise", Aim(peer=2.5, torch=10.0),
             lambda peers: hyperspectral(wide=True, peers=peers)),
        Line("textbook 12x12x3 5x5 256", Aim(peer=0.6, torch=3.0, dense=1.0),
             lambda peers: textbook(1, peers)),
        Line("textbook batch 256", Aim(peer=1.2, torch=1.2, dense=1.0),
             lambda peers: textbook(256, peers)),
    ]  # fmt: skip


def _factored() -> list[Line]:
    aim = Aim(peer=1.1, torch=1.4, part=0.8)
    return [
        Line(f"{kind} {side}² {channels}", aim,
             lambda peers, k=kind, c=channels, s=side: factored(k, c, s, peers))
        for kind in FACTORED
        for side, channels in ((56, 64), (28, 128), (14, 256))
    ]  # fmt: skip


def _trainings() -> list[Line]:
    aim = Aim(peer=1.6, torch=1.6, part=0.7)
    return [
        Line("training 56² 128 batch 16", aim, lambda peers: training(norm=False, peers=peers)),
        Line("training with normalisation", aim, lambda peers: training(norm=True, peers=peers)),
    ]
