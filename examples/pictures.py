"""Images to classify from scikit-learn and scikit-image: digits and patches of pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from training import Data

__all__ = ["PICTURES", "SIDE", "digits", "patches", "tiles"]

SIDE = 16  # pixels of an image
TILE = 64  # pixels of a region that is used either for training or for the test
PICTURES = (
    "astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "moon", "rocket",
)  # fmt: skip


def digits(seed: int, *, few: bool = False) -> Data:
    """Return scikit-learn's 1797 digits, 8x8 enlarged to 16x16, a third of them for the test."""
    from digits import split_digits

    split = split_digits(seed)
    parts = [(_doubled(images), labels) for images, labels in (split.train, split.test)]
    return Data(*((i[:128], c[:128]) for i, c in parts)) if few else Data(*parts)


def _doubled(images: Tensor) -> Tensor:
    return functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear") - 0.5


def patches(seed: int, *, few: bool = False) -> Data:
    """Return grey patches of scikit-image's pictures; the class is the picture.

    Each picture is divided into tiles, and a third of the tiles, selected by the seed, is used for the
    test. A patch lies within one tile, so no pixel of the test is used for training.
    """
    rng = np.random.default_rng(seed)
    count = 16 if few else 960
    train, test = [], []
    for label, name in enumerate(PICTURES):
        regions = rng.permutation(tiles(_grey(name)))
        third = len(regions) // 3
        train.append((_cut(regions[third:], count, rng), label))
        test.append((_cut(regions[:third], count // 2, rng), label))
    return Data(_joined(train), _joined(test))


def tiles(image: np.ndarray, side: int = TILE) -> np.ndarray:
    """Divide an image ``(y, x)`` into squares ``(n, side, side)``; the remainder is not used.

    Examples
    --------
    >>> tiles(np.arange(12).reshape(3, 4), 2).tolist()
    [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    """
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return whole.swapaxes(1, 2).reshape(-1, side, side)


def _grey(name: str) -> np.ndarray:
    """Return one of scikit-image's pictures as grey values from 0 to 1."""
    import skimage

    image = getattr(skimage.data, name)()
    return skimage.util.img_as_float32(image if image.ndim == 2 else skimage.color.rgb2gray(image))


def _cut(regions: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return patches ``(count, y, x)`` at random positions of the regions, at half their resolution."""
    wide = 2 * SIDE
    at = rng.integers(0, regions.shape[1] - wide + 1, (count, 2))
    chosen = regions[rng.integers(0, len(regions), count)]
    cut = [r[y : y + wide, x : x + wide] for r, (y, x) in zip(chosen, at, strict=True)]
    return np.stack(cut).reshape(count, SIDE, 2, SIDE, 2).mean((2, 4))


def _joined(parts: list[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    """Return images ``(n, 1, y, x)`` and their classes."""
    images = np.concatenate([p for p, _ in parts]).astype(np.float32) - 0.5
    labels = np.concatenate([np.full(len(p), label) for p, label in parts])
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels)
