"""Find the one stolen card in a hundred, in synthetic series of transactions.

    python examples/fraud.py
    torchrun --nproc-per-node 2 examples/fraud.py

A thief first tries the card with small charges a minute or two apart, then buys something expensive.
Owners do all of that too, but not in this order: they buy several cheap things, they buy
expensive things, and after an expensive one its accessories.  So neither the amounts nor the pauses
are informative, only their order, which a convolution along time can detect.

With 1 % fraud the accuracy is not informative: predicting no fraud at all is correct 99 times in 100.  The
quality is the average precision, the area under the curve of precision over recall.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
import training
from report import average_precision
from torch import Tensor, nn
from training import Data, Example

from separable.nn.models import SeriesClassifier

LENGTH = 48  # transactions of one card
CHANNELS = ("log amount", "log pause", "online", "abroad", "sine of hour", "cosine of hour")
HONEST = ("errands", "dear", "dear, then its accessories", "journey")
SHARE = 0.01


def transactions(cards: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return series ``(cards, channel, LENGTH)`` and whether each card was stolen ``(cards,)``.

    Examples
    --------
    >>> series, stolen = transactions(1000, np.random.default_rng(0))
    >>> series.shape, int(stolen.sum())
    ((1000, 6, 48), 10)
    """
    stolen = np.zeros(cards, dtype=bool)
    stolen[rng.permutation(cards)[: round(cards * SHARE)]] = True
    # Step 1: draw the usual amounts, pauses, kinds of payment and times of day of each owner.
    one, all_ = (cards, 1), (cards, LENGTH)
    amount = rng.normal(3, 0.5, one) + rng.normal(0, 0.9, all_)  # log of money
    pause = rng.normal(6.5, 0.6, one) + rng.normal(0, 1.3, all_)  # log of minutes
    online = rng.random(all_) < rng.beta(2, 3, one)
    abroad = rng.random(all_) < rng.beta(1, 20, one)
    series = np.stack([amount, pause, online, abroad], axis=1)
    # Step 2: add up to three events of the owner and the theft, each at its own position.
    for card, theft in zip(series, stolen, strict=True):
        honest = rng.choice(list(HONEST), rng.integers(0, 4)).tolist()
        places = rng.permutation(np.arange(1, LENGTH - 8, 8)).tolist()
        for event, start in zip(["theft"] * int(theft) + honest, places, strict=False):
            _write(event, card[:, start : start + 8], rng)
    # Step 3: compute the time of day from the pauses.
    amount, pause, online, abroad = series.swapaxes(0, 1)
    clock = 2 * np.pi * (rng.uniform(8, 20, one) + np.cumsum(np.exp(pause), axis=1) / 60) / 24
    channels = (amount - 3, pause - 6.5, online, abroad, np.sin(clock), np.cos(clock))
    return np.stack(channels, axis=1).astype(np.float32), stolen


def _write(event: str, card: np.ndarray, rng: np.random.Generator) -> None:
    """Overwrite the first of some transactions ``(channel, t)`` of a card with an event."""
    small, dear = [-1.5] * rng.integers(2, 5), [1.5] * rng.integers(1, 3)
    change = {
        "theft": [*small, *dear],
        "dear, then its accessories": [*dear, *small],
        "errands": [*small, *small[:2]],
        "dear": dear,
        "journey": [0.0] * 6,
    }[event]
    amount, pause, online, abroad = card[:, : len(change)]
    amount[:] = 3 + np.array(change) + rng.normal(0, 0.6, len(change))
    pause[1:] = rng.normal(2, 1, len(change) - 1)
    if event == "journey":
        abroad[:] = 1
    else:
        online[:] = rng.random(len(change)) < 0.7


def data(seed: int, cards: int) -> Data:
    """Return equal numbers of cards for training and for the test."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(2):
        series, stolen = transactions(cards, rng)
        parts.append((torch.from_numpy(series), torch.from_numpy(stolen.astype(np.float32))))
    return Data(*parts)


def loss(outputs: Tensor, stolen: Tensor) -> Tensor:
    """Return the cross-entropy, in which a theft counts ten times."""
    weight = torch.tensor(10.0)
    return nn.functional.binary_cross_entropy_with_logits(
        outputs.squeeze(1), stolen, pos_weight=weight
    )


def linear(data: Data, _: nn.Module) -> dict[str, float]:
    """Return the average precision of chance and of a logistic regression on all values."""
    from sklearn.linear_model import LogisticRegression

    (series, stolen), (test, wanted) = data.train, data.test
    model = LogisticRegression(max_iter=300).fit(series.flatten(1), stolen)
    outputs = torch.from_numpy(model.decision_function(test.flatten(1)))
    return {
        "linear": average_precision(outputs, wanted),
        "chance": wanted.mean().item(),
    }


def network(*, dense: bool) -> nn.Module:
    """Return the classifier of series with a single output."""
    return SeriesClassifier(len(CHANNELS), 1, width=32, depth=2, dropout=0, dense=dense)


def example(asked: argparse.Namespace) -> Example:
    """Return the training for these options."""
    cards = 2_000 if asked.quick else 20_000
    return Example(
        name="fraud",
        title=f"Cards of which 1 % are stolen, {cards:,} for training",
        quality="average precision",
        networks={"dense": lambda: network(dense=True), "separable": lambda: network(dense=False)},
        data=lambda seed: data(seed, cards),
        loss=loss,
        score=average_precision,
        baselines=linear,
        steps=1000,
        batch=128,
        rate=2e-3,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return training.main(example, training.options(__doc__), arguments)


if __name__ == "__main__":
    sys.exit(main())
