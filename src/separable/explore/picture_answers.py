"""Filter pictures exactly and with a few terms, and compare the results."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Mode
from separable.explore.kernel_answers import Chosen
from separable.explore.limits import InputError
from separable.factorize import factorize
from separable.factors import kernel_errors
from separable.filtering import convolve, correlate
from separable.pattern import filter_pattern

__all__ = ["SAMPLES", "Scale", "as_png", "compare", "preview", "sample", "scale_of"]

Array = NDArray[Any]

SAMPLES = {
    "camera": "photographer",
    "astronaut": "astronaut, in colour",
    "rings": "rings, computed",
}
PHOTOGRAPH = (
    0.1  # smallest sum of the weights, relative to their magnitudes, that keeps a photograph
)
DENSE_PRODUCTS = 1 << 28  # largest number of products that are computed with all weights at once
SHOWN_PERCENT = 99.7  # of the samples have colours of their own; the few largest share the last one


@dataclass(frozen=True)
class Scale:
    """Values that the ends of a scale of grey levels or colours stand for.

    Attributes
    ----------
    low, high : float
    signed : bool
        True for results that are negative in places: blue below and red above zero, with ``low``
        equal to ``-high``. False for photographs: black to white.
    """

    low: float
    high: float
    signed: bool

    def picture(self, values: Array) -> dict[str, Any]:
        """Return a picture for the page: PNG of the grey levels 0 .. 255, and this scale."""
        if self.signed and values.ndim == 3:
            values = values.mean(axis=2)
        width = (self.high - self.low) or 1.0
        levels = np.clip((values - self.low) * (255 / width), 0, 255)
        return {
            "png": as_png(np.rint(levels).astype(np.uint8)),
            "low": self.low,
            "high": self.high,
            "signed": self.signed,
        }


def scale_of(weights: Array, image: Array, result: Array) -> Scale:
    """Return the scale of an image that some weights have filtered.

    Weights whose sum is a good part of the sum of their magnitudes keep a photograph a photograph, even
    if the result is slightly negative by rounding or by ringing; others find differences, which have signs.
    """
    total, size = float(weights.sum()), float(np.abs(weights).sum())
    if image.min() < 0 or total < PHOTOGRAPH * size or not size:
        reach = float(np.percentile(np.abs(result), SHOWN_PERCENT)) or float(np.abs(result).max())
        return Scale(-reach, reach, True)
    if image.dtype == np.uint8:
        return Scale(0.0, 255.0 * total, False)
    return Scale(float(image.min()) * total, float(image.max()) * total, False)


@lru_cache(maxsize=8)
def sample(name: str) -> Array:
    """Return a sample picture; most come with scikit-image."""
    if name not in SAMPLES:
        raise InputError(f"there is no picture `{name}`; choose one of {', '.join(SAMPLES)}")
    if name != "rings":
        try:
            from skimage import data  # optional
        except ImportError:
            raise InputError(
                "this picture comes with scikit-image, which is not installed. Choose the computed "
                "rings, or upload a picture"
            ) from None
        found: Array = np.asarray(getattr(data, name)())
        return found
    y, x = np.mgrid[-1:1:384j, -1:1:384j]
    wave = np.cos(60 * (x**2 + y**2))
    steps = np.where(np.abs(x) + np.abs(y) < 0.4, 1.0, 0.0)
    rings: Array = np.rint(np.clip(110 + 70 * wave + 70 * steps, 0, 255)).astype(np.uint8)
    return rings


def compare(chosen: Chosen, image: Array, rank: int, mode: Mode) -> dict[str, Any]:
    """Filter a picture exactly and with the first terms of the kernel.

    Parameters
    ----------
    chosen : Chosen
        Kernel with two axes.
    image : ndarray, shape (y, x) or (y, x, 3)
    rank : int
        Number of terms.
    mode : str or Border
        Border mode.

    Returns
    -------
    dict
        Five pictures with their scales (``first`` is after the first pass of the first term; ``exact``
        and ``approximate`` have one scale), errors in grey levels, times in seconds.
    """
    if chosen.values.ndim != 2:
        raise InputError("pictures need a kernel with two axes; this one has "
                         f"{chosen.values.ndim}")  # fmt: skip
    run = partial(
        correlate if chosen.operation == "correlate" else convolve, axes=(0, 1), mode=mode
    )
    source = image.astype(np.float32)
    factors = factorize(chosen.values, filter_pattern(2))
    kept = max(0, min(rank, factors.rank))
    start = time.perf_counter()
    dense = chosen.values.size * source.size <= DENSE_PRODUCTS
    exact = run(source, chosen.values, method="direct" if dense else "auto")
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    part = np.zeros(source.shape, np.float64)
    for down, across in factors.terms[:kept]:  # two passes for each term
        part += run(run(source, down[:, None]), across[None, :])
    part_seconds = time.perf_counter() - start
    bound = 0.0
    if kept < factors.rank:
        bound = kernel_errors(chosen.values, _first_terms(chosen, factors.terms[:kept]))[1]
    column = factors.terms[0][0] if kept else np.zeros(chosen.values.shape[0])
    first = run(source, column[:, None])
    difference = part - exact
    worst = float(np.max(np.abs(difference), initial=0.0))
    weight = float(np.abs(chosen.values).sum())
    scale = scale_of(chosen.values, image, exact)
    return {
        "rank": kept,
        "source": scale_of(np.ones(1), image, image).picture(image),
        "exact": scale.picture(exact),
        "first": scale_of(column, image, first).picture(first),
        "approximate": scale.picture(part),
        "difference": Scale(-worst, worst, True).picture(difference),
        "worst": worst,
        "rms": float(np.sqrt(np.mean(difference**2))),
        "bound": bound * weight * float(np.max(np.abs(source), initial=0.0)),
        "scale": float(np.max(np.abs(exact), initial=0.0)),
        "seconds": seconds,
        "approximate_seconds": part_seconds,
        "shape": list(image.shape),
    }


def preview(image: Array) -> str:
    """Return a picture as a PNG data URL, in its own range of grey levels."""
    own = scale_of(np.ones(1), image, image)
    shown: str = Scale(own.low, own.high, own.signed).picture(image)["png"]
    return shown


def _first_terms(chosen: Chosen, terms: tuple[tuple[Array, ...], ...]) -> Array:
    total = np.zeros(chosen.values.shape)
    for down, across in terms:
        total += np.multiply.outer(down, across)
    return total


def as_png(values: Array) -> str:
    """Return a picture as a PNG data URL."""
    from PIL import Image  # optional

    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
