"""Filters with a mask beside the plain ones, and beside peers where these are installed.

    python benchmarks/masks.py

Each pair runs in turn, round after round; medians count. A tenth of the samples is missing, and a hole.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import separable as sep
from separable import kernels, ndimage

RNG = np.random.default_rng(0)
Call = Callable[[], Any]


def timed(calls: list[Call], rounds: int) -> list[float]:
    """Median seconds of each, after one run to warm up."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for call, own in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                own.append(time.perf_counter() - start)
    return [statistics.median(t) for t in taken]


def works(size: int) -> list[tuple[str, Callable[..., Any]]]:
    image = RNG.random((size, size), dtype=np.float32)
    grey = (image * 255).astype(np.uint8)
    disk = kernels.disk(7).astype(float)
    return [
        ("gaussian sigma 2, float32", lambda **k: ndimage.gaussian_filter(image, 2, **k)),
        ("gaussian sigma 2, uint8", lambda **k: ndimage.gaussian_filter(grey, 2, **k)),
        ("gaussian sigma 5, float32", lambda **k: ndimage.gaussian_filter(image, 5, **k)),
        ("box 21x21, float32", lambda **k: ndimage.uniform_filter(image, 21, **k)),
        ("disk radius 7, float32", lambda **k: sep.convolve(image, disk, **k)),
        ("sobel, float32", lambda **k: ndimage.sobel(image, **k)),
        ("LoG sigma 2, float32", lambda **k: ndimage.gaussian_laplace(image, 2, **k)),
    ]


def peers(mask: np.ndarray, rounds: int) -> None:
    """A Gaussian of sigma 2 in float64, missing samples interpolated."""
    image = np.where(mask, RNG.random(mask.shape), np.nan)
    kernel = kernels.gaussian(2).dense()
    options: dict[str, Any] = {"nan": "ignore", "mode": "constant"}
    calls: dict[str, Call] = {"separable": lambda: sep.convolve(image, kernel, **options)}
    if importlib.util.find_spec("astropy"):
        from astropy import convolution

        calls["astropy"] = lambda: convolution.convolve(image, kernel, boundary="fill")
        calls["astropy, FFT"] = lambda: convolution.convolve_fft(image, kernel)
    if importlib.util.find_spec("diplib"):
        import diplib

        filled = np.nan_to_num(image)
        calls["DIPlib"] = lambda: diplib.NormalizedConvolution(filled, mask, [2.0, 2.0])
    seconds = timed(list(calls.values()), rounds)
    print(f"\ngaussian sigma 2, NaN ignored, {mask.shape[0]}^2 float64")
    for name, taken in zip(calls, seconds, strict=True):
        print(f"  {name:<14}{taken * 1e3:9.1f} ms  {taken / seconds[0]:6.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    mask = RNG.random((chosen.size,) * 2) > 0.1
    mask[chosen.size // 4 : chosen.size // 3, chosen.size // 4 : chosen.size // 3] = False
    print(f"{sep.get_num_threads()} threads, {chosen.size}^2")
    print(f"{'work':<30}{'plain':>10}{'mask':>10}  {'ratio':>6}")
    for name, run in works(chosen.size):
        plain, masked = timed([run, lambda run=run: run(mask=mask, fill=0)], chosen.rounds)
        print(f"{name:<30}{plain * 1e3:7.1f} ms{masked * 1e3:7.1f} ms  {masked / plain:6.2f}")
    peers(mask[:1024, :1024], min(3, chosen.rounds))


if __name__ == "__main__":
    main()
