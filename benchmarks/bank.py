"""Banks beside one call for each filter: ours, SciPy's and PyWavelets'.

    python benchmarks/bank.py             # a volume of 128x256x256
    python benchmarks/bank.py --side 96   # a small one

Contestants run in turn, round after round; medians count. "calls" are what one writes without a
bank: `sep.convolve` for each kernel, or SciPy's function for each sigma.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pywt
import scipy
import scipy.ndimage

import separable as sep
from separable import get_num_threads, kernels
from separable.system import processor_name

SIGMAS = (1, 2, 3, 4, 5)
ORDERS = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2), (0, 2, 0), (2, 0, 0)]
ORDERS += [(0, 1, 1), (1, 0, 1), (1, 1, 0)]


def peers(volume: np.ndarray) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Return the equivalent call of another library, by the name of the bank."""
    return {
        "five LoGs": (
            "SciPy",
            lambda: [scipy.ndimage.gaussian_laplace(volume, s) for s in SIGMAS],
        ),
        "ten Gaussian derivatives": (
            "SciPy",
            lambda: [scipy.ndimage.gaussian_filter(volume, 2, order=o) for o in ORDERS],
        ),
        "eight wavelet bands": ("PyWavelets", lambda: pywt.swtn(volume, "coif1", level=1)),
    }


def banks() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The kernels and options of each bank."""
    logs = {f"log {s}": kernels.laplacian_of_gaussian(s, ndim=3) for s in SIGMAS}
    derivatives = {str(o): kernels.gaussian(2, order=o) for o in ORDERS}
    return {
        "five LoGs": (logs, {}),
        "ten Gaussian derivatives": (derivatives, {}),
        "eight wavelet bands": (kernels.wavelet_bands("coif1"), {"mode": "wrap"}),
        "125 Laws textures": (kernels.laws_bands(), {}),
    }


def medians(runs: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Run all in turn and return the median seconds of each."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            own.append(time.perf_counter() - start)
    return [float(np.median(own)) for own in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    shape = (asked.side // 2, asked.side, asked.side)
    volume = np.random.default_rng(0).random(shape, dtype=np.float32)
    print(
        f"{processor_name()}, {get_num_threads()} threads; SciPy {scipy.__version__}, PyWavelets "
        f"{pywt.__version__}; {'x'.join(map(str, shape))} float32"
    )
    print(
        f"{'':<26} {'passes':>11} {'bank':>9} {'calls':>9} {'ratio':>6} {'peer':>20} {'ratio':>6}"
    )
    theirs = peers(volume)
    for name, (listed, options) in banks().items():
        bank = sep.bank(listed, shape, "float32", **options)
        out, one = np.empty(bank.shape, "float32"), np.empty(shape, "float32")
        runs: list[Callable[[], Any]] = [
            lambda bank=bank, out=out: bank(volume, out),
            lambda listed=listed, one=one, options=options: [
                sep.convolve(volume, k, output=one, **options) for k in listed.values()
            ],
        ]
        for run in runs:
            run()  # compiles, and plans
        mine, calls = medians(runs, asked.rounds)
        shared = sum(g.graph.passes if g.graph else 0 for g in bank.groups)
        alone = sum(p.chosen.rank * 3 for p in bank.plans)
        peer, ratio = "-", ""
        if name in theirs:
            program, run = theirs[name]
            (slow,) = medians([run], 1)
            peer, ratio = f"{program} {slow:.2f} s", f"{slow / mine:.1f}"
        print(
            f"{name:<26} {f'{shared} of {alone}':>11} {mine * 1e3:>6.1f} ms {calls * 1e3:>6.1f} ms "
            f"{calls / mine:>6.2f} {peer:>20} {ratio:>6}"
        )


if __name__ == "__main__":
    main()
