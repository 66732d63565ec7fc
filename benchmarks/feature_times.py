"""Features beside scikit-image and SciPy: times of calls in turn, and memory beside image and result.

    python benchmarks/feature_times.py              # 256^3, natively
    python benchmarks/feature_times.py --avx2       # limited to AVX2, in a process of its own
    python benchmarks/feature_times.py --side 64    # a small volume

Minima of calls in turn count, two threads. scikit-image takes a minute per call at 256^3, so it is measured on a part of
the volume (``--peer-side``, 128^3) and its time is multiplied by the ratio of the samples, which favours it: its arrays fit
the caches better there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import scipy.ndimage

AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
SIGMA = 2.0
ORDERS = [
    tuple(int(a == k) + int(b == k) for k in range(3))
    for a, b in combinations_with_replacement(range(3), 2)
]
FRANGI = (1.0, 2.0, 3.0)

Call = Callable[[np.ndarray], Any]


def ours() -> dict[str, Call]:
    """Return our calls by the name of the work."""
    from separable import features

    return {
        "Hessian eigenvalues": lambda v: features.hessian_eigenvalues(v, SIGMA),
        "Frangi, 3 scales": lambda v: features.frangi(v, FRANGI),
        "structure tensor": lambda v: features.structure_tensor_eigvals_of(v, SIGMA),
    }


def peers() -> dict[str, Call]:
    """Return scikit-image's calls by the name of the work."""
    from skimage import feature, filters

    return {
        "Hessian eigenvalues": lambda v: feature.hessian_matrix_eigvals(
            feature.hessian_matrix(v, SIGMA, mode="reflect", use_gaussian_derivatives=True)
        ),
        "Frangi, 3 scales": lambda v: filters.frangi(v, FRANGI),
        "structure tensor": lambda v: feature.structure_tensor_eigenvalues(
            feature.structure_tensor(v, SIGMA)
        ),
    }


def derivatives(volume: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return the calls for six second derivatives: one bank, six calls of ours, six of SciPy's."""
    import separable as sep

    kernels = {str(o): sep.kernels.gaussian(SIGMA, order=o) for o in ORDERS}
    bank = sep.bank(kernels, volume.shape, volume.dtype, operation="correlate")
    out = np.empty(bank.shape, volume.dtype)
    rows = list(out)
    return {
        "bank": lambda: bank(volume, out),
        "six calls": lambda: [
            sep.correlate(volume, k, output=row)
            for k, row in zip(kernels.values(), rows, strict=True)
        ],
        "SciPy": lambda: [
            scipy.ndimage.gaussian_filter(volume, SIGMA, order=o, output=row)
            for o, row in zip(ORDERS, rows, strict=True)
        ],
    }


def least(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Run all in turn; return the least seconds of each. A call of more than 3 s runs only once."""
    best: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            if turn and best[name] > 3:
                continue
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
            best[name] = (
                seconds
                if (turn <= 1 and seconds < 3) or name not in best
                else min(best[name], seconds)
            )
    return best


def memory_beside(name: str, side: int) -> int:
    """Return the bytes beside image and result at the peak of a call, in a fresh process."""
    words = [sys.executable, __file__, "--memory", name, "--side", str(side)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def print_memory(name: str, side: int) -> None:
    """Print the bytes beside image and result at the peak of a call."""
    from separable.system import resident_memory

    volume = np.random.default_rng(0).standard_normal((side,) * 3).astype("float32")
    call = ours()[name]
    call(volume[:32, :32, :32])  # loads the compiled code
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident_memory()
    result = call(volume)
    with open("/proc/self/status") as file:
        peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    print(int(peak) * 1024 - before - result.nbytes)


def measure(side: int, peer_side: int, rounds: int, only: str) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    for shape in ((48, 128, 128), (side,) * 3):
        if not "six second derivatives".startswith(only):
            continue
        volume = rng.standard_normal(shape).astype("float32")
        calls = derivatives(volume)
        calls["bank"](), calls["six calls"]()  # load or compile
        found = least(calls, rounds)
        bank = found["bank"]
        print(
            f"six second derivatives {'x'.join(map(str, shape))}: {bank * 1e3:.1f} ms; SciPy "
            f"{found['SciPy'] / bank:.1f}x, our six calls {found['six calls'] / bank:.1f}x"
        )
    volume = rng.standard_normal((side,) * 3).astype("float32")
    part = np.ascontiguousarray(volume[:peer_side, :peer_side, :peer_side])
    ratio = volume.size / part.size
    for name, call in ours().items():
        if not name.startswith(only):
            continue
        theirs = peers()[name]
        call(volume)
        found = least({"ours": partial(call, volume), "theirs": partial(theirs, part)}, rounds)
        beside = memory_beside(name, side)
        print(
            f"{name} {side}^3: {found['ours'] * 1e3:.0f} ms; scikit-image "
            f"{found['theirs'] * ratio:.1f} s, {found['theirs'] * ratio / found['ours']:.0f}x; memory "
            f"beside image and result {beside / 2**20:.0f} MiB"
        )


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--peer-side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the features whose names begin so")
    parser.add_argument("--memory", default="", help="print the memory of one feature only")
    parser.add_argument("--avx2", action="store_true", help="limit the compiled code to AVX2")
    options = parser.parse_args()
    if options.avx2 and os.environ.get("NUMBA_CPU_NAME") != AVX2["NUMBA_CPU_NAME"]:
        subprocess.run([sys.executable, *sys.argv], env={**os.environ, **AVX2}, check=True)
        return
    if options.memory:
        print_memory(options.memory, options.side)
        return
    print("limited to AVX2" if options.avx2 else "natively", flush=True)
    peer_side = min(options.peer_side, options.side)
    measure(options.side, peer_side, options.rounds, options.only)


if __name__ == "__main__":
    main()
