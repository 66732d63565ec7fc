"""Resampling and pyramids beside SciPy, PyTorch and OpenCV, and strided filters beside our own unstrided ones.

    python benchmarks/resampling.py               # as it is after installation
    python benchmarks/resampling.py --avx2        # the same, limited to AVX2
    python benchmarks/resampling.py --quick       # small images, to test this program

All libraries of a row take turns, round after round; medians count. *memory* is what the peak resident size grows by beyond
input and output.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import limits
import numpy as np
from filters import environment
from scipy import ndimage as scipy_ndimage
from timing import interleaved

import separable
import separable.volumes
from separable import get_num_threads, kernels, ndimage, resample, set_num_threads
from separable.system import processor_name

CHILD = "SEPARABLE_BENCHMARK_CHILD"
RNG = np.random.default_rng(1)
Call = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One line of the table: our call, and the call that it is compared with; `goal` is the ratio to reach."""

    name: str
    ours: Call
    peer: str
    theirs: Call | None
    goal: float
    error: float = 1e-5  # largest difference between the two results


def optional(name: str) -> Any:
    """Return a module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch, cv2 = optional("torch"), optional("cv2")


def rows(smaller: int) -> Iterator[Row]:
    """Yield all rows; arrays live only as long as their row."""
    edge, side = 4096 // smaller, 256 // smaller
    volume = RNG.random((side,) * 3, dtype=np.float32)
    yield Row(
        f"zoom 1.5, {side}^3 float32, order 3", partial(ndimage.zoom, volume, 1.5), "SciPy",
        partial(scipy_ndimage.zoom, volume, 1.5), 25,
    )  # fmt: skip
    larger = (side * 3 // 2,) * 3
    linear = None
    if torch is not None:
        tensor = torch.from_numpy(volume)[None, None]

        def linear() -> Any:
            return torch.nn.functional.interpolate(
                tensor, larger, mode="trilinear", align_corners=True
            )[0, 0].numpy()

    yield Row(
        f"zoom 1.5, {side}^3 float32, order 1", partial(ndimage.zoom, volume, 1.5, order=1),
        "PyTorch", linear, 1, 1e-4,  # PyTorch computes places in float32
    )  # fmt: skip
    yield from picture_rows(edge)
    yield from volume_rows(512 // smaller)


def picture_rows(edge: int) -> Iterator[Row]:
    """Yield the rows of pictures: means, one step and all steps of a pyramid, and strided Gaussians."""
    picture = RNG.random((edge, edge), dtype=np.float32)
    kernel = kernels.gaussian(2)
    for name, largest in (("float32", 1), ("uint8", 255), ("uint16", 65535)):
        image = (picture * largest).astype(name)
        half = (edge // 2, edge // 2)
        area = step = gaussian = None
        if cv2 is not None:
            area = partial(cv2.resize, image, half, interpolation=cv2.INTER_AREA)
            step = partial(cv2.pyrDown, image)
            gaussian = partial(_opencv_pyramid, image)
        error = 1e-5 if name == "float32" else 1.01  # OpenCV rounds halves up
        yield Row(
            f"means of 2x2, {edge}^2 {name}", partial(resample.downsample, image), "OpenCV", area, 3,
            error,
        )  # fmt: skip
        yield Row(
            f"Gaussian pyramid, 1 step, {edge}^2 {name}",
            partial(resample.downsample, image, method="gaussian"), "OpenCV", step, 3, error,
        )  # fmt: skip
        yield Row(
            f"Gaussian pyramid, 4 levels, {edge}^2 {name}",
            partial(_pyramid, image), "OpenCV", gaussian, 3, 4 * error,
        )  # fmt: skip
        if name != "uint16":
            yield Row(
                f"Gaussian sigma 2, stride 2, {edge}^2 {name}",
                partial(separable.convolve, image, kernel, stride=2), "stride 1",
                partial(_every_second, image, kernel), 1.6, error,
            )  # fmt: skip


def volume_rows(side: int) -> Iterator[Row]:
    """Yield the rows of volumes: means and one step of a Gaussian pyramid."""
    volume = RNG.random((side,) * 3, dtype=np.float32)
    yield Row(
        f"means of 2x2x2, {side}^3 float32", partial(resample.downsample, volume), "NumPy",
        partial(_means, volume), 3,
    )  # fmt: skip
    yield Row(
        f"Gaussian pyramid, 1 step, {side}^3 float32",
        partial(resample.downsample, volume, method="gaussian"), "SciPy",
        partial(_scipy_step, volume), 25,
    )  # fmt: skip


def _means(volume: np.ndarray) -> Any:
    half = volume.shape[0] // 2
    return volume.reshape(half, 2, half, 2, half, 2).mean(axis=(1, 3, 5))


def _scipy_step(volume: np.ndarray) -> Any:
    for axis in range(3):
        volume = scipy_ndimage.correlate1d(
            volume, np.array([1, 4, 6, 4, 1]) / 16, axis, mode="mirror"
        )
    return volume[::2, ::2, ::2]


def _every_second(image: np.ndarray, kernel: Any) -> Any:
    return separable.convolve(image, kernel)[::2, ::2]


def _pyramid(image: np.ndarray) -> Any:
    return resample.pyramid(image, 4, method="gaussian")[-1]


def _opencv_pyramid(image: np.ndarray) -> Any:
    for _ in range(3):
        image = cv2.pyrDown(image)
    return image


MEASURED = """
import numpy as np
from separable import ndimage
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
v = np.ones(({side},) * 3, np.float32); out = np.ones(({side} * 3 // 2,) * 3, np.float32)
ndimage.zoom(v[:32, :32, :32].copy(), 1.5, order={order})
before = peak()
ndimage.zoom(v, 1.5, order={order}, output=out)
print(peak() - before)
"""


def memory(order: int, side: int) -> float:
    """Return the growth of the peak resident size by a zoom of a volume, in MiB."""
    code = MEASURED.format(order=order, side=side)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def table(smaller: int, rounds: int, chosen: list[str]) -> None:
    """Measure and print all rows."""
    print(f"{'':44}{'ms':>8}{'peer':>10}{'ms':>9}{'ratio':>7}{'goal':>6}{'error':>9}")
    for row in rows(smaller):
        if chosen and not any(part in row.name for part in chosen):
            continue
        if row.theirs is None:
            print(f"{row.name:44}{'':8}{row.peer:>10}  not installed")
            continue
        ours, theirs = np.asarray(row.ours()), np.asarray(row.theirs())
        error = float(np.abs(ours.astype(float) - theirs.astype(float)).max())
        del ours, theirs
        assert error <= row.error, (row.name, error)
        found = interleaved({"ours": row.ours, "theirs": row.theirs}, rounds)
        mine, other = found["ours"] * 1e3, found["theirs"] * 1e3
        print(
            f"{row.name:44}{mine:8.1f}{row.peer:>10}{other:9.1f}{other / mine:7.1f}{row.goal:6g}"
            f"{error:9.1e}", flush=True,
        )  # fmt: skip
    if not chosen or "levels" in chosen:
        print_levels(512 // smaller)
    if sys.platform.startswith("linux") and not chosen:
        for order in (3, 1):
            grown = memory(order, 256 // smaller)
            print(f"memory beyond input and output, zoom 1.5, order {order}: {grown:.0f} MiB")


def print_levels(side: int, levels: int = 5, rounds: int = 3) -> None:
    """Filter a volume from file to OME-Zarr with one level and with several, in turn; print the least times."""
    volume = np.round(RNG.random((side,) * 3, dtype=np.float32) * 4096) / 4096
    seconds: dict[int, list[float]] = {1: [], levels: []}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/in.npy", volume)
        del volume
        for _ in range(rounds):
            for count, done in seconds.items():
                target = f"{folder}/{count}.ome.zarr"
                start = time.perf_counter()
                separable.volumes.filter(
                    f"{folder}/in.npy", target, kernels.gaussian(1.5, ndim=3), levels=count,
                    overwrite=True,
                )  # fmt: skip
                done.append(time.perf_counter() - start)
    one, all_levels = min(seconds[1]), min(seconds[levels])
    print(
        f"Gaussian of {side}^3 to OME-Zarr: level 0 alone {one:.2f} s, {levels} levels {all_levels:.2f} s, "
        f"{all_levels / one:.2f} times (goal 1.2)"
    )


def main() -> None:
    """Run the table, in a process limited to AVX2 if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--avx2", action="store_true", help="limit everything to AVX2")
    parser.add_argument("--quick", action="store_true", help="small images, to test this program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="+", default=[], help="only rows whose names contain these")
    chosen = parser.parse_args()
    width = "avx2" if chosen.avx2 else "native"
    if CHILD not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            prepared = {**environment(width, folder), CHILD: "1"}
            done = subprocess.run([sys.executable, *sys.argv], env=prepared, check=False)
        sys.exit(done.returncode)
    limits.check(width, cv2)
    set_num_threads(chosen.threads)
    if cv2 is not None:
        cv2.setNumThreads(chosen.threads)
    if torch is not None:
        torch.set_num_threads(chosen.threads)
    print(f"{processor_name()}, {get_num_threads()} threads, {limits.WIDTHS[width]}")
    table(8 if chosen.quick else 1, chosen.rounds, chosen.rows)


if __name__ == "__main__":
    main()
