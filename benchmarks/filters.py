"""Filters beside their peers, and the planner's regret, in one run.

    python benchmarks/filters.py            # everything, several minutes
    python benchmarks/filters.py regret     # only how well the planner chooses
    python benchmarks/filters.py peers --quick

Every contestant runs in turn, round after round, so that a machine that slows down slows all of
them; medians count. Errors are the largest differences from a float64 reference, relative to
``max|input| * sum|kernel|``. Peers that are not installed are left out, with a word.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import separable as sep
from separable import calibrate, get_num_threads, kernels, machine, ndimage
from separable.calibrate import processor
from separable.plan.table import duration

RNG = np.random.default_rng(0)
Peers = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Work:
    """One line of the table: what we run, what the peers run on the same data."""

    name: str
    image: np.ndarray
    kernel: Any
    ours: Callable[[np.ndarray], Any]
    peers: Peers
    options: dict[str, Any] = field(default_factory=dict)


def picture(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A smooth picture with noise, in the range of its type."""
    image = RNG.random(shape, dtype=np.float32)
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    return (image * top).astype(dtype)


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _peers_2d(image: np.ndarray, sigma: float, taps: int) -> Peers:
    """Gaussian blur as the others do it."""
    from scipy import ndimage as scipy_ndimage

    found: Peers = {"scipy": lambda: scipy_ndimage.gaussian_filter(image, sigma)}
    if (cv2 := optional("cv2")) is not None:
        found["opencv"] = lambda: cv2.GaussianBlur(
            image, (taps, taps), sigma, borderType=cv2.BORDER_REFLECT
        )
    if (dip := optional("diplib")) is not None:
        found["diplib"] = lambda: dip.Gauss(image, sigma, truncation=4.0)
    return found


def _dense_peers(image: np.ndarray, kernel: np.ndarray) -> Peers:
    """Dense kernels as the others do it."""
    from scipy import signal

    found: Peers = {"fftconvolve": lambda: signal.fftconvolve(image, kernel, "same")}
    if kernel.size < 100:
        from scipy import ndimage as scipy_ndimage

        found["scipy"] = lambda: scipy_ndimage.convolve(image, kernel)
    if (cv2 := optional("cv2")) is not None:
        flipped = np.ascontiguousarray(np.flip(kernel))
        found["opencv"] = lambda: cv2.filter2D(image, -1, flipped, borderType=cv2.BORDER_REFLECT)
    return found


def works(size: int, side: int) -> list[Work]:
    """The table; `size` is the edge of pictures, `side` of volumes."""
    listed = []
    for dtype in ("float32", "uint8", "uint16", "float64"):
        image = picture((size, size), dtype)
        listed.append(
            Work(
                f"gaussian sigma 2, {size}^2 {dtype}", image, kernels.gaussian(2),
                lambda x: ndimage.gaussian_filter(x, 2), _peers_2d(image, 2, 17),
            )
        )  # fmt: skip
    half = picture((size // 2, size // 2), "float32")
    dense = {
        "31x31 separable (not told)": kernels.gaussian(5, radius=15).dense(),
        "31x31 LoG": kernels.laplacian_of_gaussian(3.5, radius=15).dense(),
        "disk radius 15": kernels.disk(15).astype(float),
        "5x5 random": RNG.random((5, 5)),
        "gabor 25x25": kernels.gabor(9.0, 0.6, sigma=4.0, radius=12),
    }
    for name, kernel in dense.items():
        array = np.asarray(kernel.dense() if isinstance(kernel, sep.Factors) else kernel)
        listed.append(
            Work(
                f"{name}, {size // 2}^2 float32", half, array,
                lambda x, k=array: sep.convolve(x, k), _dense_peers(half, array),
            )
        )  # fmt: skip
    turned = _turned_gaussian(41)
    listed.append(
        Work(
            f"turned gaussian 41x41, tol 1e-2, {size // 2}^2", half, turned,
            lambda x: sep.convolve(x, turned, tol=1e-2), _dense_peers(half, turned), {"tol": 1e-2},
        )
    )  # fmt: skip
    volume = picture((side // 2, side, side), "float32")
    from scipy import ndimage as scipy_ndimage

    listed.append(
        Work(
            f"gaussian sigma 2, {side // 2}x{side}^2 float32", volume,
            kernels.gaussian(2, ndim=3), lambda x: ndimage.gaussian_filter(x, 2),
            {"scipy": lambda: scipy_ndimage.gaussian_filter(volume, 2)},
        )
    )  # fmt: skip
    cube = picture((side // 2, side // 2, side // 2), "float32")
    ball = kernels.ball(5).astype(float)
    listed.append(
        Work(
            f"ball radius 5, {side // 2}^3 float32", cube, ball,
            lambda x: sep.convolve(x, ball), _dense_peers(cube, ball) if False else {},
        )
    )  # fmt: skip
    return listed


def _turned_gaussian(n: int) -> np.ndarray:
    """Sigmas 6 and 2, turned by 45 degrees."""
    y, x = np.mgrid[-(n // 2) : n // 2 + 1, -(n // 2) : n // 2 + 1] / np.sqrt(2)
    kernel = np.exp(-((x + y) ** 2) / 72 - (x - y) ** 2 / 8)
    return np.asarray(kernel / kernel.sum())


def interleaved(contestants: Peers, rounds: int) -> dict[str, float]:
    """Median seconds of each; those much slower than the fastest run fewer times."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, call in contestants.items():
            done = times[name]
            quickest = min((min(t) for t in times.values() if t), default=0.0)
            if len(done) > 1 and min(done) > 20 * quickest and turn > 2:
                continue
            start = time.perf_counter()
            call()
            done.append(time.perf_counter() - start)
    return {name: float(np.median(t[1:] or t)) for name, t in times.items()}


def error_of(work: Work, result: np.ndarray) -> float:
    """The largest error of a corner of the result, against the definition in float64."""
    kernel = work.kernel.dense() if isinstance(work.kernel, sep.Factors) else work.kernel
    corner = tuple(
        slice(0, min(n, 2 * k + 40)) for n, k in zip(work.image.shape, kernel.shape, strict=True)
    )
    inner = tuple(slice(0, s.stop - k) for s, k in zip(corner, kernel.shape, strict=True))
    exact = sep.convolve(work.image[corner].astype(np.float64), kernel, method="fft")[inner]
    scale = float(np.max(np.abs(work.image[corner].astype(float)))) * float(np.sum(np.abs(kernel)))
    got = np.asarray(result)[inner].astype(np.float64)
    return float(np.max(np.abs(got - exact))) / scale


def peers_table(listed: list[Work], rounds: int) -> None:
    print(f"\n{'work':<46}{'ours':>9}  {'method':<14}{'error':>8}   times the others take")
    for work in listed:
        contestants: Peers = {"ours": lambda work=work: work.ours(work.image), **work.peers}
        seconds = interleaved(contestants, rounds)
        kind = sep.plan(
            work.kernel, work.image.shape, work.image.dtype, **work.options
        ).chosen.title
        ratios = "  ".join(
            f"{name} {s / seconds['ours']:.1f}" for name, s in seconds.items() if name != "ours"
        )
        error = error_of(work, work.ours(work.image))
        print(
            f"{work.name:<46}{duration(seconds['ours']):>9}  {kind:<14}{error:8.0e}   {ratios}",
            flush=True,
        )


def regret_table(listed: list[Work], rounds: int) -> None:
    """Every candidate of every plan, measured; the choice over the best."""
    print(
        f"\n{'work':<46}{'chosen':<16}{'predicted':>10}{'measured':>10}{'best':>10}  {'regret':>6}"
    )
    regrets = []
    for work in listed:
        p = sep.plan(work.kernel, work.image.shape, work.image.dtype, **work.options)
        m = p.measure(work.image, repeats=rounds)
        regrets.append(m.regret)
        mine = m.seconds[[c.name for c in m.candidates].index(p.chosen.name)]
        print(
            f"{work.name:<46}{p.chosen.title:<16}{duration(p.chosen.seconds):>10}{duration(mine):>10}"
            f"{duration(min(m.seconds)):>10}  {m.regret:6.2f}", flush=True,
        )  # fmt: skip
    good = sum(r <= 1.3 for r in regrets)
    print(f"regret at most 1.3 in {good} of {len(regrets)} cases (the aim: 9 of 10)")


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name} not installed"


def header() -> None:
    names = ["numpy", "scipy", "opencv-python-headless", "diplib", "scikit-image", "torch"]
    versions = [_version(name) for name in names]
    print(f"separable {sep.__version__} on {processor()}, {get_num_threads()} threads")
    print(", ".join(versions))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import separable"], check=True)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    took = (bare - start) - (time.perf_counter() - bare)
    print(f"import separable: {duration(took)} beyond the interpreter's own start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["all", "peers", "regret"], default="all")
    parser.add_argument("--quick", action="store_true", help="smaller images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shipped", action="store_true", help="the shipped profile, not a new one")
    chosen = parser.parse_args()
    header()
    if not chosen.shipped:
        start = time.perf_counter()
        profile = calibrate.measure()
        machine.current.cache_clear()
        machine.current = lambda: profile  # type: ignore[assignment]
        for module in (sys.modules["separable.plan.core"], sys.modules["separable.filtering"]):
            module.current = machine.current  # type: ignore[attr-defined]
        print(f"rates: measured just now, in {duration(time.perf_counter() - start)}")
    listed = works(1024, 128) if chosen.quick else works(4096, 256)
    if chosen.part in ("all", "regret"):
        regret_table(works(1024, 128) + works(2048, 192) if not chosen.quick else listed, 3)
    if chosen.part in ("all", "peers"):
        peers_table(listed, chosen.rounds)


if __name__ == "__main__":
    main()
