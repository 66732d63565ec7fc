"""Filters on a GPU: all passes in one kernel against a device copy, PyTorch's passes, kornia and CuPy.

    python benchmarks/gpu.py --only filters      # on a CUDA device, at most 3 minutes

Each row is checked first: the error is relative to sum|kernel| * max|input|, against float64 on the same device. Times
are medians of CUDA events, with all contestants in turn.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import separable as sep
from separable import kernels
from separable.gpu import interpreting

SIX = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]
TARGETS = {"copy": 2.0, "PyTorch's passes": 4.0, "six calls": 3.0}
BUDGET = 170.0  # seconds for all rows


@dataclass
class Work:
    """One row: an image, a filter, and the ways to run it.

    Attributes
    ----------
    name : str
    image : torch.Tensor
    ways : dict
        Ways to run it by name; "fused" is ours, "copy" is the floor.
    exact : callable
        Function that returns the result in float64.
    scale : float
        ``sum|kernel| * max|input|``.
    """

    name: str
    image: torch.Tensor
    ways: dict[str, Callable[[], Any]]
    exact: Callable[[], torch.Tensor]
    scale: float
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


def works(device: torch.device, toy: bool) -> list[Work]:
    """Return the rows of the issue, or small ones."""
    plane = (24, 40) if toy else (4096, 4096)
    volume = (6, 7, 20) if toy else (512, 512, 512)
    sigma = 0.5 if toy else 2.0
    return [
        _gaussian("Gaussian, plane, float32", plane, sigma, device),
        _gaussian("Gaussian, volume, float32", volume, sigma, device),
        _bank("six derivatives, plane, float32", plane, sigma, device),
    ]


def _image(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device)


def _gaussian(name: str, shape: tuple[int, ...], sigma: float, device: torch.device) -> Work:
    image = _image(shape, device)
    kernel = kernels.gaussian(sigma, ndim=len(shape))
    target = torch.empty_like(image)
    ways: dict[str, Callable[[], Any]] = {
        "copy": lambda: target.copy_(image),
        "fused": lambda: sep.convolve(image, kernel, method="triton"),
        "PyTorch's passes": lambda: sep.convolve(image, kernel, method="torch"),
    }
    ways |= _others(image, kernel, sigma)
    return Work(
        f"{name}, {'x'.join(map(str, kernel.shape))} on {'x'.join(map(str, shape))}", image, ways,
        lambda: sep.convolve(image.double(), kernel, method="torch"), float(image.abs().max()),
    )  # fmt: skip


def _others(image: torch.Tensor, kernel: Any, sigma: float) -> dict[str, Callable[[], Any]]:
    """Return kornia's and CuPy's filters, where they are installed and take the image."""
    found: dict[str, Callable[[], Any]] = {}
    size = kernel.shape[0]
    if image.ndim == 2 and importlib.util.find_spec("kornia"):
        from kornia.filters import gaussian_blur2d

        batch = image[None, None]
        found["kornia"] = lambda: gaussian_blur2d(batch, (size, size), (sigma, sigma), "reflect")[
            0, 0
        ]
    if image.device.type == "cuda" and importlib.util.find_spec("cupyx"):
        import cupy
        from cupyx.scipy import ndimage

        array = cupy.from_dlpack(image)
        found["cupyx"] = lambda: torch.from_dlpack(
            ndimage.gaussian_filter(array, sigma, truncate=4.0, mode="reflect")
        )
    return found


def _bank(name: str, shape: tuple[int, ...], sigma: float, device: torch.device) -> Work:
    image = _image(shape, device)
    named = {f"order {y}{x}": kernels.gaussian(sigma, order=(y, x)) for y, x in SIX}
    bank = sep.bank(named, shape, "float32")
    target = torch.empty((len(SIX), *shape), device=device)
    source = torch.zeros_like(target)
    ways: dict[str, Callable[[], Any]] = {
        "copy": lambda: target.copy_(source),  # reads six images, of which the bank reads one
        "fused": lambda: bank(image),
        "six calls": lambda: torch.stack(
            [sep.convolve(image, k, method="triton") for k in named.values()]
        ),
        "PyTorch's passes": lambda: torch.stack(
            [sep.convolve(image, k, method="torch") for k in named.values()]
        ),
    }
    norm = max(float(abs(k.dense()).sum()) for k in named.values())
    return Work(
        f"{name}, {'x'.join(map(str, shape))}", image, ways,
        lambda: torch.stack(
            [sep.convolve(image.double(), k, method="torch") for k in named.values()]
        ),
        norm * float(image.abs().max()),
    )  # fmt: skip


def check(work: Work) -> bool:
    """Compare every way with float64 and return whether ours is right; a way that fails is left out and named."""
    exact = work.exact()
    for name in list(work.ways):
        if name == "copy":
            continue
        try:
            found = work.ways[name]()
        except (RuntimeError, ValueError) as error:
            print(f"  {name} cannot run: {str(error).splitlines()[0][:100]}")
            del work.ways[name]
            continue
        work.errors[name] = float((found.double() - exact).abs().max()) / work.scale
    return work.errors.get("fused", float("inf")) <= 1e-6


def measure(work: Work, until: float) -> None:
    """Time all ways in turn by CUDA events; the medians count."""
    times: dict[str, list[float]] = {name: [] for name in work.ways}
    for run in work.ways.values():
        run()
    for _ in range(40):
        for name, run in work.ways.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            stop.record()
            stop.synchronize()
            times[name].append(start.elapsed_time(stop) / 1e3)
        if time.monotonic() > until:
            break
    work.seconds = {name: sorted(own)[len(own) // 2] for name, own in times.items()}


def report(work: Work) -> None:
    """Print one line per way: time, ratio to ours, bytes per second of ours, and error."""
    print(work.name)
    mine = work.seconds.get("fused")
    for name in work.ways:
        cells = [f"  {name:18s}"]
        if mine is not None:
            ratio = work.seconds[name] / mine
            cells.append(f"{work.seconds[name] * 1e6:9.1f} us {ratio:6.2f} of fused")
            wanted = TARGETS.get(name)
            if wanted is not None:
                reached = 1 / ratio <= wanted if name == "copy" else ratio >= wanted
                goal = (
                    f"at most {wanted:g} copies"
                    if name == "copy"
                    else f"at least {wanted:g} times faster"
                )
                cells.append(f"target: {goal}, {'reached' if reached else 'missed'}")
        if name in work.errors:
            cells.append(f"error {work.errors[name]:.1e}")
        print("  ".join(cells))


def run_filters(toy: bool) -> int:
    """Check and measure all rows; return 1 if a result is wrong, which is not measured."""
    device = torch.device("cpu" if toy else "cuda")
    start, wrong = time.monotonic(), 0
    with interpreting() if toy else contextlib.nullcontext(), torch.no_grad():
        rows = works(device, toy)
        for number, work in enumerate(rows, 1):
            if not check(work):
                print(f"{work.name}: WRONG, errors {work.errors}")
                wrong = 1
                continue
            if not toy:
                measure(work, start + BUDGET * number / len(rows))
            report(work)
    return wrong
