"""Classify the material of every pixel of a synthetic hyperspectral cube with known end-members.

    python examples/cubes.py
    torchrun --nproc-per-node 2 examples/cubes.py

Every pixel is a mixture of five materials, whose spectra (the end-members) are the same in every
cube; their shares change smoothly over the ground.  Sun and shade scale whole spectra,
and every band has noise.  Two of the materials differ only in the wavelength of one absorption, as
minerals do.  The class of a pixel is the material with the largest share; the quality is the
share of correctly classified pixels.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
import training
from report import accuracy
from torch import Tensor, nn
from training import Data, Example

from separable import ndimage
from separable.nn.models import SpatialSpectralNet

BANDS = 32
SIDE = 16
ABSORPTIONS = (  # per material: (center, width, depth); wavelengths are scaled to 0 .. 1
    ((0.30, 0.05, 0.5), (0.75, 0.08, 0.3)),
    ((0.36, 0.05, 0.5), (0.75, 0.08, 0.3)),
    ((0.30, 0.05, 0.2), (0.55, 0.06, 0.5)),
    ((0.15, 0.10, 0.4), (0.85, 0.05, 0.4)),
    ((0.50, 0.30, 0.3),),
)
SLOPES = (0.1, 0.1, 0.0, -0.1, 0.1)
NOISE = 0.15


def end_members() -> np.ndarray:
    """Return the spectra ``(material, band)``: a slope with absorptions.

    Examples
    --------
    >>> end_members().shape
    (5, 32)
    """
    wavelength = np.linspace(0, 1, BANDS)
    spectra = []
    for slope, absorptions in zip(SLOPES, ABSORPTIONS, strict=True):
        spectrum = 0.7 + slope * (wavelength - 0.5)
        for center, width, depth in absorptions:
            spectrum *= 1 - depth * np.exp(-0.5 * ((wavelength - center) / width) ** 2)
        spectra.append(spectrum)
    return np.array(spectra)


def cube(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a cube ``(band, y, x)`` and the shares of the materials ``(material, y, x)``.

    Examples
    --------
    >>> seen, shares = cube(np.random.default_rng(0))
    >>> seen.shape, shares.shape, bool(np.allclose(shares.sum(0), 1))
    ((32, 16, 16), (5, 16, 16), True)
    """
    fields = np.stack([_smooth(2.0, rng) for _ in SLOPES])
    shares = np.exp(2.5 * fields)
    shares /= shares.sum(0)
    light = np.exp(0.3 * _smooth(1.5, rng))
    seen = light * np.einsum("ml,myx->lyx", end_members(), shares)
    return seen + rng.normal(0, NOISE, seen.shape), shares


def _smooth(sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise ``(y, x)`` with standard deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), sigma, mode="wrap")
    return field / field.std()


def data(seed: int, train: int, test: int) -> Data:
    """Return cubes ``(n, band, y, x)`` and the main material of each pixel ``(n, y, x)``."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train, test):
        cubes, shares = zip(*(cube(rng) for _ in range(count)), strict=True)
        seen = torch.from_numpy(np.stack(cubes).astype(np.float32))
        parts.append((seen, torch.from_numpy(np.stack(shares).argmax(1))))
    return Data(*parts)


def baselines(data: Data, _: nn.Module) -> dict[str, float]:
    """Return the accuracy of classifying each pixel alone, without its neighbours."""
    from sklearn.linear_model import LogisticRegression

    spectra, named = (_pixels(cubes) for cubes in (data.train[0], data.test[0]))
    materials, wanted = (m.flatten().numpy() for m in (data.train[1], data.test[1]))
    known = end_members()
    angles = (named / np.linalg.norm(named, axis=1, keepdims=True)) @ (
        known / np.linalg.norm(known, axis=1, keepdims=True)
    ).T
    linear = LogisticRegression(max_iter=300).fit(spectra[:20000], materials[:20000])
    return {
        "nearest end-member": float((angles.argmax(1) == wanted).mean()),
        "linear, one pixel": float(linear.score(named, wanted)),
    }


def _pixels(cubes: Tensor) -> np.ndarray:
    """Return the spectra ``(n * y * x, band)`` of cubes ``(n, band, y, x)``."""
    return cubes.permute(0, 2, 3, 1).reshape(-1, BANDS).numpy()


def network(*, dense: bool) -> nn.Module:
    """Return the network of spectral and spatial convolutions."""
    return SpatialSpectralNet(BANDS, len(SLOPES), width=4, dense=dense)


def example(asked: argparse.Namespace) -> Example:
    """Return the training for these options."""
    train, test = (16, 4) if asked.quick else (400, 100)
    return Example(
        name="cubes",
        title=f"Materials in cubes of {BANDS} bands, {train} cubes {SIDE}x{SIDE} for training",
        quality="accuracy",
        networks={"dense": lambda: network(dense=True), "separable": lambda: network(dense=False)},
        data=lambda seed: data(seed, train, test),
        loss=nn.functional.cross_entropy,
        score=accuracy,
        baselines=baselines,
        steps=600,
        batch=8,
        rate=5e-3,
        quick_steps=4,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return training.main(example, training.options(__doc__), arguments)


if __name__ == "__main__":
    sys.exit(main())
