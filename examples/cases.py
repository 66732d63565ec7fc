"""Cases of `conversion.py`: networks, training data, numbers of steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pictures
import tumours
from convnets import VGG, ResNet
from report import accuracy
from torch import Tensor, nn
from training import Data, Example

from separable.nn.ledger import ledger
from separable.nn.models import UNet

__all__ = ["CASES", "Case", "multiplications"]


@dataclass(frozen=True)
class Case:
    """Dense network that is trained and then converted.

    Attributes
    ----------
    name, title, quality : str
        As for a training.
    network : callable
        ``network(width, dense)``: the dense network, or the separable one to train from scratch.
    width : int
        Width of the dense network. The separable one is as wide as its budget permits.
    data : callable
        ``data(seed, few)``: the training and test data.
    loss, score : callable
        As for a training.
    steps, batch, rate
        Number of steps, batch size and learning rate of the trainings.
    budgets : tuple of float
        Fractions of the dense network's multiplications.
    calibration : int
        Number of unlabelled samples given to the conversion.
    tuning : int
        Steps of fine-tuning, with the batch size of the training.
    grain : int
        What the widths of the separable network are multiples of.
    """

    name: str
    title: str
    quality: str
    network: Callable[[int, bool], nn.Module]
    width: int
    data: Callable[[int, bool], Data]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    steps: int = 250
    batch: int = 64
    rate: float = 3e-3
    budgets: tuple[float, ...] = (0.5, 0.25, 0.1)
    calibration: int = 256
    tuning: int = 100
    grain: int = 1

    def training(self, widths: dict[str, int]) -> Example:
        """Return the training of the dense network, and of separable ones of these widths."""
        networks = {"dense": functools.partial(self.network, self.width, True)}
        for name, width in widths.items():
            networks[name] = functools.partial(self.network, width, False)
        return Example(
            name=f"conversion-{self.name}", title=self.title, quality=self.quality,
            networks=networks, data=lambda seed: self.data(seed, False), loss=self.loss,
            score=self.score, baselines=lambda data, dense: {}, steps=self.steps,
            batch=self.batch, rate=self.rate,
        )  # fmt: skip

    def widest(self, shape: tuple[int, ...], limit: float) -> int:
        """Return the width of the widest separable network within a number of multiplications."""

        def cost(grains: int) -> int:
            return multiplications(self.network(grains * self.grain, False), shape)

        # Multiplications grow almost as the square of the width: the guess is close.
        known = self.width // self.grain
        best = max(1, int(known * (limit / cost(known)) ** 0.5))
        while best > 1 and cost(best) > limit:
            best -= 1
        while cost(best + 1) <= limit:
            best += 1
        return best * self.grain


def multiplications(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the multiplications of a network for one sample of a shape, in evaluation mode.

    The network is left in evaluation mode: in training mode the sums of normalisation would count too.
    """
    return ledger(model.eval(), (1, *shape)).total.multiplications


def _classifier(name: str, what: str, kind: type[VGG | ResNet], data: object) -> Case:
    return Case(
        name=name,
        title=f"{kind.__name__}, {what}",
        quality="accuracy",
        network=lambda width, dense: kind(10, width=width, dense=dense),
        width=24,
        data=lambda seed, few: data(seed, few=few),  # type: ignore[operator]
        loss=nn.functional.cross_entropy,
        score=accuracy,
    )


def _unet(width: int, dense: bool) -> UNet:
    widths = (width, 2 * width, 4 * width)
    return UNet(3, classes=1, widths=widths, norm="group", dense=dense)


def _volumes(seed: int, few: bool) -> Data:
    side, train, test = (8, 8, 4) if few else (24, 200, 50)
    return tumours.data(seed, (side,) * 3, train, test)


CASES = {
    case.name: case
    for case in (
        _classifier("resnet-digits", "digits", ResNet, pictures.digits),
        _classifier("vgg-digits", "digits", VGG, pictures.digits),
        _classifier("resnet-patches", "patches of pictures", ResNet, pictures.patches),
        _classifier("vgg-patches", "patches of pictures", VGG, pictures.patches),
        Case(
            name="unet-volumes",
            title="U-Net of volumes, tumours",
            quality="Dice",
            network=_unet,
            width=8,
            data=_volumes,
            loss=tumours.loss,
            score=tumours.dice,
            steps=200,
            batch=4,
            rate=1e-2,
            budgets=(1 / 6, 1 / 8),
            calibration=8,
            tuning=50,
            grain=2,
        ),
    )
}
