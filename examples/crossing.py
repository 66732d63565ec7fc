"""An experiment with red and blue lines that one depthwise separable layer cannot learn.

    python examples/crossing.py                  # two detectors: depth multiplier 1 fails
    python examples/crossing.py --detectors 1    # one detector: nothing fails

The first detector must respond where a red vertical line crosses a blue horizontal one, the second
where a red horizontal line crosses a blue vertical one.  Each is an AND of two patterns in two
channels, that is a threshold on one 3x3 kernel per channel, so a dense 3x3 convolution can learn it.

**Ranks.**  For each colour the weights of the layer form a matrix, detectors by 9 taps.  A depthwise
separable layer with depth multiplier M can equal the dense layer if and only if no such matrix has a rank
above M.  Here each colour has a vertical and a horizontal line, so both ranks are 2.  With a
single detector they are 1, and the separable layer with multiplier 1 is as good as the dense one.

**No other kernels help.**  With multiplier 1 both detectors see red through the same kernel d, each multiplied by its own
factor.  The first responds to a vertical line but not to one without its middle, so its factor times
d(middle) is positive; likewise the second with a horizontal line: both factors have the same sign.  But
the first must prefer the vertical line to the horizontal one, and the second the reverse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
import training
from report import average_precision
from torch import Tensor, nn
from training import Data, Example

from separable.nn import SeparableConv2d

SIDE = 16
MOTIFS = 5
HIDDEN = 16


def scenes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return scenes of 0 and 1 ``(n, colour, y, x)``, red and blue: lines, broken lines and dots.

    Examples
    --------
    >>> scenes(2, np.random.default_rng(0)).shape
    (2, 2, 16, 16)
    """
    images = rng.random((count, 2, SIDE, SIDE)) < 0.02
    for image in images:
        for y, x in rng.integers(2, SIDE - 2, (MOTIFS, 2)):
            for plane in image:
                line = plane[y - 2 : y + 3, x] if rng.random() < 0.5 else plane[y, x - 2 : x + 3]
                line |= rng.random(5) < 0.9
    return images


def crossings(images: np.ndarray) -> np.ndarray:
    """Return where each detector must respond ``(n, detector, y, x)``.

    A line passes through a pixel if the pixel and its neighbours on both sides are set.

    Examples
    --------
    >>> image = np.zeros((1, 2, 5, 5), bool)
    >>> image[0, 0, 1:4, 2] = image[0, 1, 2, 1:4] = True  # red down, blue across
    >>> np.argwhere(crossings(image)).tolist()
    [[0, 0, 2, 2]]
    """
    wide = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down = wide[..., :-2, 1:-1] & wide[..., 1:-1, 1:-1] & wide[..., 2:, 1:-1]
    across = wide[..., 1:-1, :-2] & wide[..., 1:-1, 1:-1] & wide[..., 1:-1, 2:]
    return np.stack([down[:, 0] & across[:, 1], across[:, 0] & down[:, 1]], axis=1)


def data(seed: int, train: int, test: int, detectors: int) -> Data:
    """Return scenes and the correct responses of the detectors."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train, test):
        images = scenes(count, rng)
        wanted = crossings(images)[:, :detectors]
        parts.append(tuple(torch.from_numpy(a.astype(np.float32)) for a in (images, wanted)))
    return Data(*parts)


def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared hinge loss: 0 for a margin of 1; a crossing counts 20 times."""
    short = (1 - (2 * wanted - 1) * outputs).clamp(min=0)
    return ((1 + 19 * wanted) * short.square()).mean()


def networks(detectors: int) -> dict[str, Callable[[], nn.Module]]:
    """Return the dense layer and its replacements."""

    def two_layers() -> nn.Module:
        first, second = SeparableConv2d(2, HIDDEN, 3), SeparableConv2d(HIDDEN, detectors, 3)
        return nn.Sequential(first, nn.ReLU(), second)

    return {
        "dense": lambda: nn.Conv2d(2, detectors, 3, padding="same"),
        "separable, M = 1": lambda: SeparableConv2d(2, detectors, 3),
        "separable, M = 2": lambda: SeparableConv2d(2, detectors, 3, depth_multiplier=2),
        "two separable layers": two_layers,
    }


def converted(data: Data, dense: nn.Module) -> dict[str, float]:
    """Return the quality of the best approximation of the trained dense layer for each multiplier."""
    scenes, wanted = data.test
    found = {}
    for rank in range(1, wanted.shape[1] + 1):
        layer = SeparableConv2d.from_dense(dense, rank=rank)
        with torch.inference_mode():
            found[f"dense, cut to rank {rank}"] = average_precision(layer(scenes), wanted)
    return found


def example(asked: argparse.Namespace) -> Example:
    """Return the training for these options."""
    train, test = (100, 50) if asked.quick else (2000, 500)
    return Example(
        name=f"crossing-{asked.detectors}",
        title=f"Red and blue lines that cross, {train} scenes for training; detectors: {asked.detectors}",
        quality="average precision",
        networks=networks(asked.detectors),
        data=lambda seed: data(seed, train, test, asked.detectors),
        loss=loss,
        score=average_precision,
        baselines=converted,
        steps=1500,
        batch=64,
        rate=0.1,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = training.options(__doc__)
    read.add_argument(
        "--detectors", type=int, choices=(1, 2), default=2, help="number of detectors (2)"
    )
    return training.main(example, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
