"""Frangi's filter from file to file: time, and the memory of the whole process.

    python benchmarks/feature_files.py                       # 828x882x871, 4 scales, at most 4 GiB
    python benchmarks/feature_files.py --shape 414 441 436   # an eighth
    python benchmarks/feature_files.py --folder /data        # where 5 GiB are free

The volume (float32) is generated slab by slab: bright tubes along three directions, and noise. The filter runs as
`separable features` does, in a process of its own, whose largest resident memory the system reports. scilpy's pull
request 1343 reports 320 GB and 4.5 h for the same work with scikit-image.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPE = (828, 882, 871)
SCALES = "1,2,3,4"
PERIOD = 48  # voxels between tubes
RUN = """
import resource, sys, time
from separable.cli import run
start = time.perf_counter()
code = run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
seconds = time.perf_counter() - start
print(f"RESULT {code} {seconds} {used.ru_utime + used.ru_stime} {used.ru_maxrss}")
"""


def write_volume(path: Path, shape: tuple[int, ...]) -> None:
    """Write a volume with tubes, some planes at a time."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    waves = [np.cos(2 * np.pi * np.arange(n, dtype=np.float32) / PERIOD) for n in shape]
    for start in range(0, shape[0], 32):
        z = waves[0][start : start + 32, None, None]
        y, x = waves[1][:, None], waves[2]
        part = np.maximum(np.maximum(z + y, y + x), z + x)
        part = 100 * (part > 1.9) + rng.standard_normal(part.shape, dtype=np.float32) * 10
        file[start : start + 32] = part


def measure(shape: tuple[int, ...], memory: str, folder: str | None) -> tuple[float, float, float]:
    """Return the seconds of the run, those of the processors, and the largest resident memory in GiB."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source = Path(name, "in.npy")
        write_volume(source, shape)
        words = ["features", str(source), str(Path(name, "out")), "--frangi", SCALES, "--bright"]
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words, "--memory", memory], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not found or found[0].split()[1] != "0":
            raise SystemExit(f"the run failed:\n{done.stdout}\n{done.stderr}")
        _, _, seconds, processors, peak = found[0].split()
        (result,) = Path(name, "out").iterdir()
        values = np.load(result, mmap_mode="r")
        assert values.shape == shape
        assert float(values[shape[0] // 2].max()) > 0.1  # the tubes are found
        return float(seconds), float(processors), int(peak) / 2**20


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--folder", default=None)
    asked = parser.parse_args()
    shape = tuple(asked.shape)
    start = time.strftime("%Y-%m-%d %H:%M")
    seconds, processors, peak = measure(shape, asked.memory, asked.folder)
    sizes, voxels = "x".join(map(str, shape)), math.prod(shape)
    print(
        f"{start}: Frangi, scales {SCALES}, {sizes} float32, file to file, --memory {asked.memory}: "
        f"{seconds:.0f} s ({processors:.0f} s of processor time), {voxels / seconds / 1e6:.1f} million voxels/s, "
        f"at most {peak:.2f} GiB resident"
    )


if __name__ == "__main__":
    main()
