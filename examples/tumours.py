"""Segment tumours in noise with a U-Net: synthetic images, or volumes, with known ground truth.

    python examples/tumours.py
    python examples/tumours.py --volumes
    torchrun --nproc-per-node 2 examples/tumours.py

A tumour is a bright body with an irregular rim.  Vessels are as bright and longer, the brightness of the
tissue varies by as much, and everything has noise, so no threshold finds the tumours, not even
after smoothing.  The quality is the Dice coefficient, ``2 |A and B| / (|A| + |B|)``, over all
pixels (or voxels) of the test set.
"""

from __future__ import annotations

import argparse
import functools
import sys

import numpy as np
import torch
import training
from torch import Tensor, nn
from training import Data, Example

from separable import ndimage
from separable.nn.models import UNet

WIDTHS = {2: (16, 32, 64), 3: (8, 16, 32)}


def scene(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image or volume of a shape and the mask of its tumours.

    Examples
    --------
    >>> image, mask = scene((64, 64), np.random.default_rng(0))
    >>> image.shape, image.dtype, mask.dtype, bool(mask.any())
    ((64, 64), dtype('float32'), dtype('bool'), True)
    """
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    tissue = _wandering(shape, 8, rng) + 0.5 * _wandering(shape, 2, rng)
    bodies = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 4)):
        bodies |= _tumour(at, rng)
    vessels = np.zeros(shape, bool)
    for _ in range(rng.integers(2, 5)):
        vessels |= _vessel(at, rng)
    clean = 0.5 * tissue + 1.5 * (bodies | vessels)
    return (clean + rng.normal(0, 0.8, shape)).astype(np.float32), bodies


def _wandering(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise with standard deviation 1."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return smooth / smooth.std()


def _tumour(at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an ellipsoid whose rim is displaced by smooth noise."""
    shape = at.shape[1:]
    column = (-1,) + (1,) * len(shape)
    center = rng.uniform(0.1, 0.9, len(shape)) * shape
    radii = rng.uniform(3, 9, len(shape))
    distance = np.sqrt(((at - center.reshape(column)) ** 2 / radii.reshape(column) ** 2).sum(0))
    return distance + 0.2 * _wandering(shape, 2, rng) < 1


def _vessel(at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a straight tube through the whole image."""
    shape = at.shape[1:]
    column = (-1,) + (1,) * len(shape)
    along = rng.standard_normal(len(shape))
    along /= np.linalg.norm(along)
    away = at - (rng.uniform(0.1, 0.9, len(shape)) * shape).reshape(column)
    away = away - np.tensordot(along, away, 1) * along.reshape(column)
    return np.sqrt((away**2).sum(0)) < rng.uniform(1.2, 3)


def data(seed: int, shape: tuple[int, ...], train: int, test: int) -> Data:
    """Return images ``(n, 1, ...)`` and masks of the same shape."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train, test):
        pairs = [scene(shape, rng) for _ in range(count)]
        images, masks = (np.stack(p)[:, None].astype(np.float32) for p in zip(*pairs, strict=True))
        parts.append((torch.from_numpy(images), torch.from_numpy(masks)))
    return Data(*parts)


def loss(outputs: Tensor, masks: Tensor) -> Tensor:
    """Return the cross-entropy of the pixels plus 1 - Dice of each image, averaged over images."""
    entropy = nn.functional.binary_cross_entropy_with_logits(outputs, masks)
    found, wanted = outputs.sigmoid().flatten(1), masks.flatten(1)
    overlap = 2 * (found * wanted).sum(1) / (found.sum(1) + wanted.sum(1))
    return entropy + 1 - overlap.mean()


def dice(outputs: Tensor, masks: Tensor) -> float:
    """Return the Dice coefficient of the pixels above 0 and the masks.

    Examples
    --------
    >>> dice(torch.tensor([1.0, 1.0, -1.0]), torch.tensor([1.0, 0.0, 0.0]))
    0.6666666666666666
    """
    found, wanted = outputs > 0, masks > 0.5
    return 2 * (found & wanted).sum().item() / (found.sum() + wanted.sum()).item()


def threshold(data: Data, _: nn.Module) -> dict[str, float]:
    """Return the Dice coefficient of the best threshold of the smoothed training images."""
    (images, masks), (test, wanted) = (
        (torch.from_numpy(ndimage.gaussian_filter(x.numpy(), 1, axes=range(2, x.ndim))), y)
        for x, y in (data.train, data.test)
    )
    levels = np.quantile(images[:50], np.linspace(0.5, 0.99, 50))
    best = max(levels, key=lambda level: dice(images[:50] - level, masks[:50]))
    return {"best threshold": dice(test - best, wanted)}


def example(asked: argparse.Namespace) -> Example:
    """Return the training for these options."""
    ndim, shape = (3, (24, 24, 24)) if asked.volumes else (2, (64, 64))
    train, test = (16, 4) if asked.quick else (200, 50) if asked.volumes else (400, 100)
    what = f"{'volumes' if asked.volumes else 'images'} {'x'.join(map(str, shape))}"
    network = functools.partial(UNet, ndim, classes=1, widths=WIDTHS[ndim], norm="group")
    return Example(
        name=f"tumours-{ndim}d",
        title=f"Tumours in noise, {train} {what} for training",
        quality="Dice",
        networks={
            "dense": functools.partial(network, dense=True),
            "separable": functools.partial(network, dense=False),
        },
        data=lambda seed: data(seed, shape, train, test),
        loss=loss,
        score=dice,
        baselines=threshold,
        steps=300 if asked.volumes else 800,
        batch=4 if asked.volumes else 8,
        rate=1e-2,
        quick_steps=4,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = training.options(__doc__)
    read.add_argument(
        "--volumes", action="store_true", help="use volumes of 24x24x24 instead of images of 64x64"
    )
    return training.main(example, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
