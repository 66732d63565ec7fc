"""The time that planning adds to a filter.

    python benchmarks/planning.py

A first `convolve` on a new shape beside a repeated one, a small file filtered beside the same array in
memory, the import of the package, and a repeated call of `ndimage.gaussian_filter` on a small image. The best of
several runs counts, for the question is what the program does, not what else the machine does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import separable as sep
from separable import kernels, ndimage, volumes

RNG = np.random.default_rng(0)
SHAPE = (200, 200)
NEW_SHAPES = 20
REPEATS = 5


def catalogue() -> dict[str, Any]:
    """Kernels of the catalogue, and a dense one of full rank."""
    return {
        "gaussian sigma 2": kernels.gaussian(2),
        "laplacian of gaussian": kernels.laplacian_of_gaussian(2),
        "box 9": kernels.box(9),
        "sobel": kernels.sobel(),
        "disk radius 10": kernels.disk(10),
        "gabor": kernels.gabor(6.0, 0.7),
    }


def seconds(call: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def first_beside_repeated(kernel: Callable[[], Any]) -> float:
    """Return what a first call on a new shape takes beyond a repeated one; the best of several shapes."""
    best = np.inf
    for more in range(NEW_SHAPES):
        image = RNG.random((SHAPE[0] + more, SHAPE[1]), dtype=np.float32)
        taps = kernel()
        first = seconds(lambda image=image, taps=taps: sep.convolve(image, taps))
        again = min(
            seconds(lambda image=image, taps=taps: sep.convolve(image, taps))
            for _ in range(REPEATS)
        )
        best = min(best, first - again)
    return best


def file_beside_memory(suffix: str, folder: Path) -> float:
    """Return what filtering a file of 640 KB takes beyond filtering the array."""
    image = RNG.random((40, 64, 64), dtype=np.float32)
    source, target = folder / f"in{suffix}", folder / f"out{suffix}"
    sep.files.write_image(source, image)
    best = np.inf
    for more in range(NEW_SHAPES):
        taps = kernels.gaussian(2 + more / 100, ndim=3)
        took = seconds(lambda taps=taps: volumes.filter(source, target, taps, overwrite=True))
        best = min(
            best,
            took
            - min(seconds(lambda taps=taps: sep.convolve(image, taps)) for _ in range(REPEATS)),
        )
    return best


def repeated_call() -> float:
    """Return what a repeated call of `ndimage.gaussian_filter` takes on 64x64 float32."""
    image = RNG.random((64, 64), dtype=np.float32)
    ndimage.gaussian_filter(image, 2)
    count = 50
    return min(
        seconds(lambda: [ndimage.gaussian_filter(image, 2) for _ in range(count)]) / count
        for _ in range(200)
    )


def import_beside_interpreter() -> float:
    """Return what `import separable` takes beyond the start of the interpreter."""

    def start(code: str) -> float:
        return min(
            seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))
            for _ in range(REPEATS)
        )

    return start("import separable") - start("pass")


def row(name: str, took: float, aim: float | None, unit: str) -> None:
    scale = {"ms": 1e3, "us": 1e6}[unit]
    most = "" if aim is None else f"   at most {aim * scale:g} {unit}"
    print(f"{name:<62}{took * scale:8.2f} {unit}{most}", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"{'what planning adds':<62}{'best':>11}   aim")
    worst = max((first_beside_repeated(lambda k=k: k), name) for name, k in catalogue().items())
    row(f"first convolve on a new shape beside a repeated one ({worst[1]})", worst[0], 1e-3, "ms")
    dense = first_beside_repeated(lambda: RNG.random((31, 31)))
    row("the same with a new dense kernel of 31x31 weights", dense, 4e-3, "ms")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".npy", ".tif"):
            took = file_beside_memory(suffix, Path(folder))
            row(f"volumes.filter on a {suffix} file of 640 KB beside memory", took, 20e-3, "ms")
    row("import separable beside the start of Python", import_beside_interpreter(), None, "ms")
    row("repeated ndimage.gaussian_filter on 64x64 float32", repeated_call(), 20e-6, "us")


if __name__ == "__main__":
    main()
