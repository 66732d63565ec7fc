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


def peak_of(call: Callable[[], Any]) -> int:
    """Return by how many bytes the peak of resident memory grows during a call."""
    from separable.engine.result_memory import release
    from separable.system import resident_memory

    release()  # memory kept for the next result
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident_memory()
    call()
    with open("/proc/self/status") as file:
        peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    return int(peak) * 1024 - before


def measure(side: int, peer_side: int, rounds: int) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    for shape in ((48, 128, 128), (side,) * 3):
        volume = rng.standard_normal(shape).astype("float32")
        found = least(derivatives(volume), rounds)
        bank = found["bank"]
        print(
            f"six second derivatives {'x'.join(map(str, shape))}: {bank * 1e3:.1f} ms; SciPy "
            f"{found['SciPy'] / bank:.1f}x, our six calls {found['six calls'] / bank:.1f}x"
        )
    volume = rng.standard_normal((side,) * 3).astype("float32")
    part = np.ascontiguousarray(volume[:peer_side, :peer_side, :peer_side])
    ratio = volume.size / part.size
    for name, call in ours().items():
        theirs = peers()[name]
        call(volume)
        found = least({"ours": partial(call, volume), "theirs": partial(theirs, part)}, rounds)
        beside = peak_of(partial(call, volume))
        result = call(volume).nbytes
        print(
            f"{name} {side}^3: {found['ours'] * 1e3:.0f} ms; scikit-image "
            f"{found['theirs'] * ratio:.1f} s, {found['theirs'] * ratio / found['ours']:.0f}x; memory "
            f"beside image and result {max(0, beside - result) / 2**20:.0f} MiB"
        )


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--peer-side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--avx2", action="store_true", help="limit the compiled code to AVX2")
    options = parser.parse_args()
    if options.avx2 and os.environ.get("NUMBA_CPU_NAME") != AVX2["NUMBA_CPU_NAME"]:
        subprocess.run([sys.executable, *sys.argv], env={**os.environ, **AVX2}, check=True)
        return
    print("limited to AVX2" if options.avx2 else "natively")
    measure(options.side, min(options.peer_side, options.side), options.rounds)


if __name__ == "__main__":
    main()
