"""Volumes on disk: out of core beside plain copying, beside filtering in memory, beside dask-image.

    python benchmarks/volumes.py                    # 256 MiB, some minutes
    python benchmarks/volumes.py --shape 1024x1024x1024 --memory 2GiB

Each line runs in a process of its own, in turn, round after round; medians count. "copied" reads and
writes every chunk once, by the same stores, with nothing between, and waits for the disk as the
filter does: with the time in memory it is what the filter from file to file is held against.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import separable as sep
from separable import kernels, volumes
from separable.calibrate import processor
from separable.files.parts import boxes
from separable.files.stores import create_target, open_source
from separable.volumes.blocks import chunkwise
from separable.volumes.drafts import bring_to_disk

SIGMA = 2.0


def make_volume(path: Path, shape: tuple[int, ...], chunk: int, dtype: str) -> None:
    """A smooth field with noise, as a scanner gives: it compresses a little."""
    import zarr

    array = zarr.create_array(str(path), shape=shape, chunks=(chunk,) * len(shape), dtype=dtype)
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(*(np.linspace(0, 6, n) for n in shape[1:]), indexing="ij")
    for top in range(0, shape[0], chunk):
        depth = min(chunk, shape[0] - top)
        field = 2000 + 1000 * np.sin(y + 0.01 * top) * np.cos(x)
        noise = rng.normal(0, 40, (depth, *shape[1:]))
        array[top : top + depth] = np.rint(field + noise).astype(dtype)


def copied(source: str, target: str, memory: str) -> float:
    """Every chunk read and written once."""
    with open_source(source) as found:
        start = time.perf_counter()
        made = create_target(target, found.shape, found.dtype, like=found, overwrite=True)
        assert made.chunks is not None
        for region in boxes(found.shape, (made.chunks[0], *found.shape[1:])):
            since = time.time_ns() - 100_000_000
            made.write(region, found.read(region))
            bring_to_disk(made, since)
        made.finish()
        return time.perf_counter() - start


def in_memory(source: str, target: str, memory: str) -> float:
    """Filtered, without the files."""
    with open_source(source) as found:
        image = found.read((slice(None),) * found.ndim)
    plan = chunkwise(sep.plan(kernels.gaussian(SIGMA, ndim=3), image.shape, image.dtype))
    plan(image)
    start = time.perf_counter()
    plan(image)
    return time.perf_counter() - start


def from_file_to_file(source: str, target: str, memory: str) -> float:
    """Filtered within the limit of memory; the time without loading and compiling."""
    kernel = kernels.gaussian(SIGMA, ndim=3)
    with volumes.Run(source, target, kernel, memory=memory, overwrite=True) as run:
        print(run.schedule, file=sys.stderr)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def by_dask_image(source: str, target: str, memory: str) -> float:
    """The peer, on the same chunks, with Dask's threads."""
    import dask.array as da
    from dask_image import ndfilters

    shutil.rmtree(target, ignore_errors=True)
    image = da.from_zarr(source)
    start = time.perf_counter()
    ndfilters.gaussian_filter(image, SIGMA).to_zarr(target)
    return time.perf_counter() - start


CONTESTANTS = {
    "copied": copied,
    "in memory": in_memory,
    "file to file": from_file_to_file,
    "dask-image": by_dask_image,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="256x512x512")
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where the files are put; a temporary one")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)  # the child's arguments
    options = parser.parse_args()
    if options.only:
        name, source, target = options.only
        seconds = CONTESTANTS[name](source, target, options.memory)
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak": peak}))
        return
    shape = tuple(int(n) for n in options.shape.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare(Path(folder), shape, options)


def compare(folder: Path, shape: tuple[int, ...], options: argparse.Namespace) -> None:
    """Run all contestants in turn and print the table."""
    source = folder / "in.zarr"
    make_volume(source, shape, options.chunk, options.dtype)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for turn in range(options.rounds):
        for name in CONTESTANTS:
            if name == "dask-image" and turn:  # slow, and slow enough to be sure of
                continue
            arguments = ["--only", name, str(source), str(folder / "out.zarr")]
            arguments += ["--memory", options.memory]
            told = subprocess.run(
                [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True
            )
            found[name].append(json.loads(told.stdout))
    size = np.prod(shape) * np.dtype(options.dtype).itemsize
    stored = sum(p.stat().st_size for p in source.rglob("*") if p.is_file())
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("zarr", "dask-image"))
    print(
        f"\n{processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {versions}"
    )
    print(
        f"gaussian sigma {SIGMA:g} on {options.shape} {options.dtype}, {size / 2**20:.0f} MiB "
        f"({stored / 2**20:.0f} MiB stored), chunks {options.chunk}^3, memory {options.memory}\n"
    )
    medians = {n: statistics.median(r["seconds"] for r in runs) for n, runs in found.items()}
    floor = max(medians["copied"], medians["in memory"])
    print(f"{'':<14}{'seconds':>9}{'MiB/s':>9}{'peak MiB':>10}{'over the longer':>17}")
    for name, seconds in medians.items():
        peak = max(r["peak"] for r in found[name])
        rate = size / seconds / 2**20
        print(f"{name:<14}{seconds:>9.2f}{rate:>9.0f}{peak:>10.0f}{seconds / floor:>16.2f}x")
    ratio = medians["dask-image"] / medians["file to file"]
    print(f"\ndask-image takes {ratio:.1f} times as long as file to file.")


if __name__ == "__main__":
    main()
