"""Compare our filters with those of other libraries, one line per filter.

For every line all libraries take turns, round after round, each twice in a row; the second run counts,
and the medians are printed. "floor" is the least time that this machine needs, from rates measured in the same run: reading and writing the
image once, or the multiplications and additions of the passes (folded where taps are symmetric),
whichever is longer. "error" is the largest difference from float64, relative to
``max|input| * sum|kernel|``, in a corner of the image.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage as scipy_ndimage
from scipy import signal

import separable as sep
from separable import kernels, ndimage
from separable.plan.plan_text import duration

RNG = np.random.default_rng(1)
BRIEF = 0.3  # seconds
Calls = dict[str, Callable[[], Any]]


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


cv2, dip, sitk, torch = (optional(n) for n in ("cv2", "diplib", "SimpleITK", "torch"))


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    name: str
    image: np.ndarray
    kernel: Any
    ours: Callable[[], Any]
    others: Calls
    aim: str
    taps: int = 0  # multiply-adds an output once folded, for the floor
    axes: tuple[int, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    exact: bool = True


def picture(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    return (RNG.random(shape, dtype=np.float32) * top).astype(dtype)


def _installed(calls: dict[str, tuple[Any, Callable[[], Any]]]) -> Calls:
    return {name: call for name, (module, call) in calls.items() if module is not None}


def gaussians() -> list[Line]:
    lines = []
    aims = {"float32": "3x OpenCV, floor x 2", "uint8": "2.8x", "uint16": "5x", "float64": "3x"}
    for dtype, aim in aims.items():
        x = picture((4096, 4096), dtype)
        others = _installed({
            "scipy": (True, lambda x=x: scipy_ndimage.gaussian_filter(x, 2)),
            "OpenCV": (cv2, lambda x=x: cv2.GaussianBlur(x, (17, 17), 2, borderType=2)),
            "DIPlib": (dip, lambda x=x: dip.Gauss(x, 2, truncation=4.0)),
        })  # fmt: skip
        lines.append(Line(
            f"gaussian sigma 2, 4096^2 {dtype}", x, kernels.gaussian(2),
            lambda x=x: ndimage.gaussian_filter(x, 2), others, aim, 2 * 9,
        ))  # fmt: skip
    x = picture((4096, 4096))
    wide = kernels.gaussian(30)
    blur = {"OpenCV": (cv2, lambda: cv2.GaussianBlur(x, (241, 241), 30, borderType=2))}
    lines.append(Line("gaussian sigma 30, 4096^2, exact", x, wide,
        lambda: ndimage.gaussian_filter(x, 30), _installed(blur), "15x OpenCV", 2 * 121))  # fmt: skip
    exact = sep.plan(wide, x.shape, x.dtype)
    lines.append(Line("the same, tol 1e-3", x, wide, lambda: sep.convolve(x, wide, tol=1e-3),
        {"exact": lambda: exact(x)}, "2x exact", options={"tol": 1e-3}))  # fmt: skip
    return lines


def pictures() -> list[Line]:
    x, half = picture((4096, 4096)), picture((2048, 2048))
    colour = picture((2048, 2048, 3))
    sobel = {"OpenCV": (cv2, lambda: cv2.Sobel(x, cv2.CV_32F, 1, 0, ksize=3)),
             "scipy": (True, lambda: scipy_ndimage.sobel(x, 1))}  # fmt: skip
    lines = [Line("Sobel, 4096^2", x, kernels.sobel(), lambda: ndimage.sobel(x, 1),
                  _installed(sobel), "2x OpenCV")]  # fmt: skip
    dense = {
        "31x31 separable (not told), 2048^2": (kernels.gaussian(5, radius=15).dense(), "10x best"),
        "31x31 LoG, 2048^2": (kernels.laplacian_of_gaussian(3.5, radius=15).dense(), "8x best"),
        "disk radius 15, 2048^2": (kernels.disk(15) / 709.0, "1.5x best"),
    }
    for name, (kernel, aim) in dense.items():
        others = {
            "fftconvolve": (True, lambda k=kernel: signal.fftconvolve(half, k, "same")),
            "OpenCV": (cv2, lambda k=kernel: cv2.filter2D(half, -1, k, borderType=2)),
        }
        lines.append(Line(name, half, kernel, lambda k=kernel: sep.convolve(half, k),
                          _installed(others), aim))  # fmt: skip
    box = {"OpenCV": (cv2, lambda: cv2.blur(x, (51, 51), borderType=2)),
           "scipy": (True, lambda: scipy_ndimage.uniform_filter(x, 51))}  # fmt: skip
    lines.append(Line("box 51x51, 4096^2", x, kernels.box(51),
                      lambda: ndimage.uniform_filter(x, 51), _installed(box), "3x OpenCV"))  # fmt: skip
    blur = {"OpenCV": (cv2, lambda: cv2.GaussianBlur(colour, (17, 17), 2, borderType=2))}
    lines.append(Line("gaussian sigma 2, 2048^2 x 3", colour, kernels.gaussian(2),
                      lambda: ndimage.gaussian_filter(colour, 2, axes=(0, 1)), _installed(blur),
                      "2.5x OpenCV", 2 * 9, axes=(0, 1)))  # fmt: skip
    taps = kernels.gaussian1d(2).reshape(-1)
    for axis, aim in ((0, "2x OpenCV"), (1, "2.5x OpenCV")):
        size = (taps if axis else np.ones(1), np.ones(1) if axis else taps)
        one = {"OpenCV": (cv2, lambda s=size: cv2.sepFilter2D(x, -1, *s, borderType=2)),
               "scipy": (True, lambda a=axis: scipy_ndimage.gaussian_filter1d(x, 2, a))}  # fmt: skip
        lines.append(Line(f"{('first', 'last')[axis]} axis only, 4096^2", x, taps,
                          lambda a=axis: ndimage.gaussian_filter1d(x, 2, a), _installed(one), aim,
                          9, axes=(axis,)))  # fmt: skip
    return lines


def volumes() -> list[Line]:
    v, cube = picture((256, 512, 512)), picture((192, 192, 192))
    others = _installed({
        "scipy": (True, lambda: scipy_ndimage.gaussian_filter(v, 2)),
        "DIPlib": (dip, lambda: dip.Gauss(v, 2, truncation=4.0)),
        "SimpleITK": (sitk, lambda: sitk.GetArrayViewFromImage(
            sitk.DiscreteGaussian(sitk.GetImageFromArray(v), 4.0, 17))),
    })  # fmt: skip
    lines = [Line("gaussian sigma 2, 256x512x512", v, kernels.gaussian(2, ndim=3),
                  lambda: ndimage.gaussian_filter(v, 2), others,
                  "17x DIPlib, 55x SciPy, floor x 2.2", 3 * 9)]  # fmt: skip
    kernel = kernels.gaussian(1.6, ndim=3, radius=5).dense()
    best = {"DIPlib": (dip, lambda: dip.Convolution(cube, kernel.astype("f4"), method="best"))}
    lines.append(Line("dense separable 11^3, 192^3", cube, kernel,
                      lambda: sep.convolve(cube, kernel), _installed(best), "15x DIPlib", 3 * 6))  # fmt: skip
    return lines


def interleaved(calls: Calls, rounds: int) -> dict[str, float]:
    """Median seconds of each; those much slower than the fastest run fewer times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            done = times[name]
            quickest = min((min(t) for t in times.values() if t), default=0.0)
            if turn > 2 and min(done) > 15 * quickest:
                continue
            if not done or min(done) < BRIEF:
                call()  # so that nobody pays for the caches and waiting threads of the one before
            start = time.perf_counter()
            call()
            done.append(time.perf_counter() - start)
    return {name: float(np.median(t[1:] or t)) for name, t in times.items()}


def floors() -> tuple[float, float]:
    """Bytes a second of a copy, and multiply-adds a second of a matrix product, both threads."""
    a, b = np.ones(1 << 26, np.float32), np.empty(1 << 26, np.float32)
    copy = sep.plan([1.0], a.shape, a.dtype, method="fused")
    m = np.ones((2048, 2048), np.float32)
    best = interleaved({"copy": lambda: copy(a, b), "numpy": lambda: np.copyto(b, a),
                        "product": lambda: m @ m}, 7)  # fmt: skip
    rate = 2 * a.nbytes / min(best["copy"], best["numpy"])
    return rate, 2048.0**3 / best["product"]


def error_of(line: Line, result: Any) -> float:
    """The largest error in a corner of the result, against the definition's in float64."""
    kernel = (
        line.kernel.dense() if isinstance(line.kernel, sep.Factors) else np.asarray(line.kernel)
    )
    axes = line.axes or tuple(range(line.image.ndim))
    reach = dict(zip(axes, kernel.shape, strict=True))
    corner = tuple(slice(0, 2 * reach.get(a, 1) + 40) for a in range(line.image.ndim))
    inner = tuple(slice(0, reach.get(a, 1) + 40) for a in range(line.image.ndim))
    part = line.image[corner].astype(np.float64)
    operation = sep.correlate if "Sobel" in line.name else sep.convolve
    exact = operation(part, kernel, axes=axes, method="fft")[inner]
    scale = float(np.max(np.abs(part))) * float(np.sum(np.abs(kernel)))
    return float(np.max(np.abs(np.asarray(result)[inner].astype(np.float64) - exact))) / scale


def table(rounds: int) -> None:
    """Print the table, and what memory a volume takes."""
    rate, products = floors()
    print(f"\nfloors: copy {rate / 1e9:.1f} GB/s, multiply-add {2 * products / 1e9:.0f} GFLOP/s")
    print(
        f"{'work':<36}{'ours':>8} {'method':<13}{'error':>6} {'floor':>8}  times the others take; aim"
    )
    for make in (gaussians, pictures, volumes):
        for line in make():
            seconds = interleaved({"ours": line.ours, **line.others}, rounds)
            mine = seconds.pop("ours")
            floor = max(2 * line.image.nbytes / rate, line.image.size * line.taps / products)
            plan = sep.plan(
                line.kernel, line.image.shape, line.image.dtype, axes=line.axes, **line.options
            )
            ratios = ", ".join(f"{n} {s / mine:.1f}" for n, s in seconds.items())
            print(f"{line.name:<36}{duration(mine):>8} {plan.chosen.title:<13}"
                  f"{error_of(line, line.ours()):6.0e} x{mine / floor:<6.1f}  {ratios}; aim {line.aim}",
                  flush=True)  # fmt: skip
    memory()


MEASURED = """
import numpy as np
from separable import ndimage
def peak():  # of this program; getrusage would tell the parent's where that was larger
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
v = np.ones(({planes}, 512, 512), np.{dtype}); out = np.ones_like(v)
ndimage.gaussian_filter(v[:8], 2)
before = peak()
ndimage.gaussian_filter(v, 2, output=out)
print(peak() - before)
"""


def memory() -> None:
    """Return the growth of the peak resident size beyond input and output, in a separate process."""
    if not sys.platform.startswith("linux"):
        return
    for dtype, planes in (("float32", 256), ("uint8", 256), ("uint8", 1024)):
        code = MEASURED.format(dtype=dtype, planes=planes)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        print(
            f"memory beyond input and output, {planes}x512x512 {dtype}: {int(done.stdout) / 1024:.0f} MiB"
        )
