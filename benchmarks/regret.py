"""Planner regret: every method that can run a kernel is measured, and the choice compared with the best.

    python benchmarks/regret.py               # the library as it is after installation
    python benchmarks/regret.py --avx2        # the same, limited to AVX2
    python benchmarks/regret.py --measured    # with the rates of this computer, as by `separable machine`

Regret is the time of the chosen method divided by that of the fastest one.
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

import limits
import numpy as np
from filters import environment

import separable as sep
from separable import calibrate, get_num_threads, kernels, machine
from separable.engine.compile_ahead import warmup
from separable.plan.plan_text import duration
from separable.system import processor_name

RNG = np.random.default_rng(0)
CHILD = "SEPARABLE_REGRET"
"""Variable that marks the process that measures, whose environment is prepared."""


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--avx2", action="store_true", help="limit everything to AVX2")
    parser.add_argument(
        "--measured", action="store_true", help="measure the rates of this computer"
    )
    parser.add_argument("--quick", action="store_true", help="small images, to test this program")
    chosen = parser.parse_args()
    width = "avx2" if chosen.avx2 else "native"
    if CHILD not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            prepared = {**environment(width, folder), CHILD: "1"}
            done = subprocess.run([sys.executable, *sys.argv], env=prepared, check=False)
        sys.exit(done.returncode)
    limits.check(width, None)
    warmup()
    print(f"{processor_name()}, {get_num_threads()} threads, {limits.WIDTHS[width]}")
    if chosen.measured:
        start = time.perf_counter()
        machine.keep(calibrate.measure())
        print(f"rates: measured just now, in {duration(time.perf_counter() - start)}")
    else:
        print(f"rates: {machine.current().origin}")
    regret_table(works(256, 32) if chosen.quick else works(1024, 128) + works(2048, 192), 3)


if __name__ == "__main__":
    main()
