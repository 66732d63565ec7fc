"""Filters beside their peers, and the planner's regret, in one run.

    python benchmarks/filters.py            # everything, several minutes
    python benchmarks/filters.py regret     # only how well the planner chooses
    python benchmarks/filters.py peers      # only the table of speed

Every contestant runs in turn, round after round, so that a machine that slows down slows all of
them; medians count. Errors are the largest differences from a float64 reference, relative to
``max|input| * sum|kernel|``. Peers that are not installed are left out, with a word.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import peers
from page import version

import separable as sep
from separable import calibrate, get_num_threads, kernels, machine
from separable.engine.compile_ahead import warmup
from separable.plan.plan_text import duration
from separable.system import processor_name

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Work:
    """A filter on an image whose candidates are all measured."""

    name: str
    image: np.ndarray
    kernel: Any
    options: dict[str, Any] = field(default_factory=dict)


def picture(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A smooth picture with noise, in the range of its type."""
    image = RNG.random(shape, dtype=np.float32)
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    return (image * top).astype(dtype)


def works(size: int, side: int) -> list[Work]:
    """The table of regret; `size` is the edge of pictures, `side` of volumes."""
    listed = []
    for dtype in ("float32", "uint8", "uint16", "float64"):
        image = picture((size, size), dtype)
        listed.append(Work(f"gaussian sigma 2, {size}^2 {dtype}", image, kernels.gaussian(2)))
    half = picture((size // 2, size // 2), "float32")
    dense = {
        "31x31 separable (not told)": kernels.gaussian(5, radius=15).dense(),
        "31x31 LoG": kernels.laplacian_of_gaussian(3.5, radius=15).dense(),
        "disk radius 15": kernels.disk(15).astype(float),
        "5x5 random": RNG.random((5, 5)),
        "gabor 25x25": kernels.gabor(9.0, 0.6, sigma=4.0, radius=12),
        "box 21x21": kernels.box(21),
    }
    for name, kernel in dense.items():
        listed.append(Work(f"{name}, {size // 2}^2 float32", half, kernel))
    turned, tolerance = _turned_gaussian(41), {"tol": 1e-2}
    listed.append(Work(f"turned gaussian, tol 1e-2, {size // 2}^2", half, turned, tolerance))
    wide = kernels.gaussian(12)
    listed.append(Work(f"gaussian sigma 12, tol 1e-2, {size // 2}^2", half, wide, tolerance))
    volume = picture((side // 2, side, side), "float32")
    name = f"gaussian sigma 2, {side // 2}x{side}^2 float32"
    listed.append(Work(name, volume, kernels.gaussian(2, ndim=3)))
    cube = picture((side // 2,) * 3, "float32")
    listed.append(
        Work(f"ball radius 5, {side // 2}^3 float32", cube, kernels.ball(5).astype(float))
    )
    return listed


def _turned_gaussian(n: int) -> np.ndarray:
    """Sigmas 6 and 2, turned by 45 degrees."""
    y, x = np.mgrid[-(n // 2) : n // 2 + 1, -(n // 2) : n // 2 + 1] / np.sqrt(2)
    kernel = np.exp(-((x + y) ** 2) / 72 - (x - y) ** 2 / 8)
    return np.asarray(kernel / kernel.sum())


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


def header() -> None:
    names = [
        "numpy",
        "scipy",
        "opencv-python-headless",
        "diplib",
        "SimpleITK",
        "scikit-image",
        "torch",
        "numba",
    ]
    versions = [version(name) for name in names]
    print(f"separable {sep.__version__} on {processor_name()}, {get_num_threads()} threads")
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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--shipped", action="store_true", help="rates as they are before `separable machine`"
    )
    chosen = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # the user's own profile stays as it is
        if not chosen.shipped:
            warmup()
            start = time.perf_counter()
            machine.keep(calibrate.measure())
            print(f"rates: measured just now, in {duration(time.perf_counter() - start)}")
        print(f"rates: {machine.current().origin}")
    if chosen.part in ("all", "regret"):
        regret_table(works(1024, 128) + works(2048, 192), 3)
    if chosen.part in ("all", "peers"):
        peers.table(chosen.rounds)


if __name__ == "__main__":
    main()
