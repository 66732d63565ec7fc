"""Filter pictures exactly and with a few terms, and compare the results."""

from __future__ import annotations

import base64
import io
import time
from functools import lru_cache
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

__all__ = ["SAMPLES", "as_png", "compare", "preview", "sample"]

Array = NDArray[Any]

SAMPLES = {
    "camera": "photographer",
    "astronaut": "astronaut, in colour",
    "rings": "rings, computed",
}


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
        Four pictures as PNG data URLs (``first`` is after the first pass of the first term), errors in grey levels, times in seconds.
    """
    if chosen.values.ndim != 2:
        raise InputError("pictures need a kernel with two axes; this one has "
                         f"{chosen.values.ndim}")  # fmt: skip
    run = correlate if chosen.operation == "correlate" else convolve
    source = image.astype(np.float32)
    axes = (0, 1)
    start = time.perf_counter()
    exact = run(source, chosen.values, axes=axes, mode=mode)
    seconds = time.perf_counter() - start
    factors = factorize(chosen.values, filter_pattern(2))
    kept = max(0, min(rank, factors.rank))
    if kept == factors.rank or kept == 0:
        part = exact if kept else np.zeros_like(exact)
        bound = 0.0 if kept else 1.0
        part_seconds = seconds
    else:
        part_of = _first_terms(factors.terms[:kept])
        bound = kernel_errors(chosen.values, part_of)[1]
        start = time.perf_counter()
        part = run(source, part_of, axes=axes, mode=mode)
        part_seconds = time.perf_counter() - start
    first = run(source, factors.terms[0][0][:, None], axes=axes, mode=mode) if kept else part
    difference = part.astype(np.float64) - exact
    weight = float(np.abs(chosen.values).sum())
    low, high = _range(exact, image)
    return {
        "rank": kept,
        "exact": as_png(_shown(exact, low, high)),
        "first": as_png(_shown(first, *_range(first, image))),
        "approximate": as_png(_shown(part, low, high)),
        "difference": as_png(_signed(difference)),
        "worst": float(np.max(np.abs(difference), initial=0.0)),
        "rms": float(np.sqrt(np.mean(difference**2))),
        "bound": bound * weight * float(np.max(np.abs(source), initial=0.0)),
        "scale": float(np.max(np.abs(exact), initial=0.0)),
        "seconds": seconds,
        "approximate_seconds": part_seconds,
        "shape": list(image.shape),
    }


def preview(image: Array) -> str:
    """Return a picture as a PNG data URL, in its own range of grey levels."""
    return as_png(_shown(image, *_range(image, image)))


def _first_terms(terms: tuple[tuple[Array, ...], ...]) -> Array:
    total: Array = sum(np.multiply.outer(t[0], t[1]) for t in terms)  # type: ignore[assignment]
    return np.asarray(total, np.float64)


def _range(exact: Array, image: Array) -> tuple[float, float]:
    """Return the values of black and white: 0 and 255 if they fit, else the range of the result."""
    if image.dtype == np.uint8 and exact.min() >= 0 and exact.max() <= 255.5:
        return 0.0, 255.0
    return float(exact.min()), float(exact.max())


def _shown(values: Array, low: float, high: float) -> Array:
    if low < 0 < high:
        return _signed(values, max(-low, high))
    width = (high - low) or 1.0
    scaled: Array = np.clip((values - low) * (255 / width), 0, 255).astype(np.uint8)
    return scaled


def _signed(values: Array, reach: float | None = None) -> Array:
    """Colour values: white at zero, red above, blue below."""
    plane = values.mean(axis=2) if values.ndim == 3 else values
    if reach is None:
        reach = float(np.percentile(np.abs(plane), 99.8))
    t = np.clip(plane / (reach or 1.0), -1, 1)[..., None]
    white, red, blue = (
        np.array(c, float) for c in ((250, 250, 250), (178, 24, 43), (33, 102, 172))
    )
    mixed = np.where(t >= 0, white + (red - white) * t, white + (blue - white) * -t)
    coloured: Array = np.rint(mixed).astype(np.uint8)
    return coloured


def as_png(values: Array) -> str:
    """Return a picture as a PNG data URL."""
    from PIL import Image  # optional

    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
