"""Volumes on disk: out of core beside plain copying, beside filtering in memory, beside dask-image.

    python benchmarks/volumes.py                    # 256 MiB, a minute
    python benchmarks/volumes.py --shape 1024x1024x1024 --memory 2GiB

Each runs in a process of its own, in turn, round after round; the engine beside the call in memory and
Dask arrays beside dask-image's share one and take turns in it. Medians count. "copied" reads and
writes every chunk once, by the same stores, with nothing between, and waits for the disk as the
filter does: with the time in memory it is what the filter from file to file is held against.
"Dask array" and "dask-image" are arrays of the same chunks, in memory and in chunks before and after.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import separable as sep
from separable import kernels, volumes
from separable.files.chunked_io import boxes
from separable.files.opening import create_target, open_source
from separable.system import processor_name
from separable.volumes.checkpoint import bring_to_disk
from separable.volumes.halo import chunkwise

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


def copied(source: str, target: str, memory: str) -> dict[str, float]:
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
        return {"copied": time.perf_counter() - start}


def read_whole(source: str) -> np.ndarray:
    with open_source(source) as found:
        return np.asarray(found.read((slice(None),) * found.ndim))


def medians(runs: dict[str, Callable[[], Any]], times: int) -> dict[str, float]:
    """The median of each, in turn, after a run to load and compile."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in taken.items()}


def in_memory(source: str, target: str, memory: str) -> dict[str, float]:
    """The array engine alone, and what users call."""
    image, kernel = read_whole(source), kernels.gaussian(SIGMA, ndim=3)
    plan = chunkwise(sep.plan(kernel, image.shape, image.dtype))
    runs = {"array engine": lambda: plan(image), "in memory": lambda: sep.convolve(image, kernel)}
    return medians(runs, 15)


def on_dask_arrays(source: str, target: str, memory: str) -> dict[str, float]:
    """The same call with a Dask array, and the peer's; the results stay in chunks."""
    import dask.array as da
    from dask_image import ndfilters

    with open_source(source) as found:
        chunks = found.chunks
    image, kernel = (
        da.from_array(read_whole(source), chunks=chunks),
        kernels.gaussian(SIGMA, ndim=3),
    )
    image = image.persist()
    runs = {
        "Dask array": lambda: sep.convolve(image, kernel).persist(),
        "dask-image": lambda: ndfilters.gaussian_filter(image, SIGMA).persist(),
    }
    return medians(runs, 3)


def from_file_to_file(source: str, target: str, memory: str) -> dict[str, float]:
    """Filtered within the limit of memory; the time without loading and compiling."""
    kernel = kernels.gaussian(SIGMA, ndim=3)
    with volumes.Run(source, target, kernel, memory=memory, overwrite=True) as run:
        print(run.schedule, file=sys.stderr)
        start = time.perf_counter()
        run()
        return {"file to file": time.perf_counter() - start}


def dask_image_files(source: str, target: str, memory: str) -> dict[str, float]:
    """The peer from file to file, with Dask's threads."""
    import dask.array as da
    from dask_image import ndfilters

    shutil.rmtree(target, ignore_errors=True)
    image = da.from_zarr(source)
    start = time.perf_counter()
    ndfilters.gaussian_filter(image, SIGMA).to_zarr(target)
    return {"dask-image, files": time.perf_counter() - start}


CONTESTANTS: dict[str, Callable[[str, str, str], dict[str, float]]] = {
    "in memory": in_memory,
    "Dask array": on_dask_arrays,
    "copied": copied,
    "file to file": from_file_to_file,
    "dask-image, files": dask_image_files,
}


def peak() -> float:
    """The most memory that this process took, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` is inherited from the process that started this one
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
        print(json.dumps({"seconds": seconds, "peak": peak() if len(seconds) == 1 else None}))
        return
    shape = tuple(int(n) for n in options.shape.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare(Path(folder), shape, options)


def compare(folder: Path, shape: tuple[int, ...], options: argparse.Namespace) -> None:
    """Run all contestants in turn and print the table."""
    source = folder / "in.zarr"
    make_volume(source, shape, options.chunk, options.dtype)
    found: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for turn in range(options.rounds):
        for name in CONTESTANTS:
            if name == "dask-image, files" and turn:  # slow, and slow enough to be sure of
                continue
            arguments = ["--only", name, str(source), str(folder / "out.zarr")]
            arguments += ["--memory", options.memory]
            told = subprocess.run(
                [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True
            )
            result = json.loads(told.stdout)
            for one, seconds in result["seconds"].items():
                found.setdefault(one, []).append(seconds)
                if result["peak"] is not None:
                    peaks[one] = max(result["peak"], peaks.get(one, 0.0))
    size = np.prod(shape) * np.dtype(options.dtype).itemsize
    stored = sum(p.stat().st_size for p in source.rglob("*") if p.is_file())
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("zarr", "dask-image"))
    print(
        f"\n{processor_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {versions}"
    )
    print(
        f"gaussian sigma {SIGMA:g} on {options.shape} {options.dtype}, {size / 2**20:.0f} MiB "
        f"({stored / 2**20:.0f} MiB stored), chunks {options.chunk}^3, memory {options.memory}\n"
    )
    typical = {name: statistics.median(seconds) for name, seconds in found.items()}
    floor = max(typical["copied"], typical["in memory"])
    print(f"{'':<18}{'seconds':>9}{'MiB/s':>9}{'peak MiB':>10}")
    for name, seconds in typical.items():
        most = f"{peaks[name]:.0f}" if name in peaks else "-"
        print(f"{name:<18}{seconds:>9.3f}{size / seconds / 2**20:>9.0f}{most:>10}")
    print()
    for text, one, other in (
        ("file to file over the longer of copied and in memory", typical["file to file"], floor),
        ("in memory over the array engine", typical["in memory"], typical["array engine"]),
        ("dask-image over our Dask array", typical["dask-image"], typical["Dask array"]),
        ("dask-image over ours, files", typical["dask-image, files"], typical["file to file"]),
    ):
        print(f"{text:<54}{one / other:>6.2f}")


if __name__ == "__main__":
    main()
