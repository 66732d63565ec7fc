"""Recognise handwritten digits: real images, dense and depthwise separable layers.

python examples/digits.py                    # scikit-learn's 1797 digits of 8x8
python examples/digits.py --mnist FOLDER     # MNIST's idx files, plain or .gz
torchrun --nproc-per-node 2 examples/digits.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import training
from idx import read_mnist
from report import accuracy
from torch import Tensor, nn
from training import Data, Example

from separable.nn import SeparableConv2d

CLASSES = 10


class Digits(nn.Module):
    """Three 3x3 layers, the first dense as in MobileNet: one channel has nothing to separate."""

    def __init__(self, *, dense: bool) -> None:
        super().__init__()
        layer = nn.Conv2d if dense else SeparableConv2d
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding="same"), nn.GroupNorm(4, 16), nn.ReLU(),
            layer(16, 32, 3, padding="same"), nn.GroupNorm(8, 32), nn.ReLU(),
            nn.MaxPool2d(2),
            layer(32, 64, 3, padding="same"), nn.GroupNorm(8, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(n, 10)`` of images ``(n, 1, y, x)``."""
        return self.head(self.body(images).amax((2, 3)))


def split_digits(seed: int) -> Data:
    """Return scikit-learn's digits, a third of them for the test, with equal shares of the classes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=1 / 3, stratify=labels, random_state=seed)
    return _data(*(p.reshape(-1, 8, 8) / 16 if p.ndim == 2 else p for p in parts))


def mnist(folder: Path) -> Data:
    """Return MNIST, split as by its authors."""
    train, train_labels = read_mnist(folder, "train")
    test, test_labels = read_mnist(folder, "test")
    return _data(train / 255, test / 255, train_labels, test_labels)


def _data(train: np.ndarray, test: np.ndarray, *labels: np.ndarray) -> Data:
    images = (torch.tensor(a, dtype=torch.float32)[:, None] for a in (train, test))
    return Data(*zip(images, (torch.tensor(a, dtype=torch.int64) for a in labels), strict=True))


def linear(data: Data, _: nn.Module) -> dict[str, float]:
    """Return the accuracy of logistic regression on the pixels."""
    from sklearn.linear_model import LogisticRegression

    (images, labels), (test, wanted) = data.train, data.test
    model = LogisticRegression(max_iter=1000).fit(images[:5000].flatten(1), labels[:5000])
    return {"linear": float(model.score(test.flatten(1), wanted))}


def example(asked: argparse.Namespace) -> Example:
    """Return the training for these options."""
    given = None if asked.mnist is None else mnist(asked.mnist)
    title = f"MNIST in {asked.mnist}" if given else "Digits of scikit-learn, 8x8"
    return Example(
        name="digits",
        title=title,
        quality="accuracy",
        networks={"dense": lambda: Digits(dense=True), "separable": lambda: Digits(dense=False)},
        data=lambda seed: given or split_digits(seed),
        loss=nn.functional.cross_entropy,
        score=accuracy,
        baselines=linear,
        steps=600,
        batch=32,
        rate=5e-3,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = training.options(__doc__)
    read.add_argument(
        "--mnist", type=Path, metavar="FOLDER", help="train on the idx files in this folder"
    )
    return training.main(example, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
