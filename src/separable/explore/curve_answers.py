"""Curves over the kernel size, and the roof that memory and arithmetic set for this computer."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.explore.limits import InputError
from separable.machine import Machine, current
from separable.plan import Candidate, Plan, plan, sweep_sizes
from separable.plan.size_sweep import SIZES, WAYS, kernel_of_rank

__all__ = ["LONGEST_SWEEP", "roof", "sweep"]

LONGEST_SWEEP = 101  # samples of the largest kernel of the curves
MEASURED = (3, 5, 9, 15, 31, 61, 101)  # kernel sizes whose times are measured
SECONDS = 0.4  # longest predicted time of one run of a measurement
SHAPES = {2: (1024, 1024), 3: (64, 256, 256)}  # images where the page has none of so many axes
LARGEST = 1 << 22  # samples of a measured image
DTYPES = ("uint8", "uint16", "float32", "float64")


def sweep(asked: dict[str, Any]) -> dict[str, Any]:
    """Predict dense sums, passes and FFTs over the kernel size; with `measure`, time them too.

    Parameters
    ----------
    asked : dict
        ``ndim`` 2 or 3, ``rank`` of the kernels, ``shape`` and ``dtype`` of the image, ``measure``.

    Returns
    -------
    dict
        That of `SizeSweep.to_dict`; with `measure`, points ``[size, seconds]`` of each way.
    """
    ndim, rank, dtype = asked.get("ndim"), asked.get("rank", 1), asked.get("dtype", "float32")
    if ndim not in SHAPES or dtype not in DTYPES:
        raise InputError(f"`ndim` must be 2 or 3, `dtype` a known type; got {ndim!r}, {dtype!r}")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= LONGEST_SWEEP:
        raise InputError(f"`rank` must be a whole number, 1 .. {LONGEST_SWEEP}; got {rank!r}")
    shape = _shape(asked.get("shape"), ndim)
    found = sweep_sizes(shape, dtype, rank=rank, sizes=[n for n in SIZES if n <= LONGEST_SWEEP])
    answer = {**found.to_dict(), "ndim": ndim, "note": ""}
    if asked.get("measure"):
        answer["measured"], answer["note"] = _measured(shape, dtype, rank)
    return answer


def _shape(asked: Any, ndim: int) -> tuple[int, ...]:
    """Return the shape of the image, or a usual one where the page shows none of so many axes."""
    if not isinstance(asked, list) or len(asked) != ndim:
        return SHAPES[ndim]
    if not all(isinstance(n, int) and 1 <= n <= 1 << 20 for n in asked):
        raise InputError(f"the image must have {ndim} sizes, each 1 .. 1048576; got {asked!r}")
    return tuple(asked)


def _measured(
    shape: tuple[int, ...], dtype: str, rank: int
) -> tuple[dict[str, list[list[float]]], str]:
    """Return the measured times of each way, where they are short enough to wait for."""
    if math.prod(shape) > LARGEST:
        return {}, f"Not measured: the image has more than {LARGEST:,} samples."
    noise = np.random.default_rng(0).random(shape)
    image = (noise * 200).astype(dtype)
    times: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    skipped = False
    for size in (n for n in MEASURED if n <= min(shape)):
        made = plan(kernel_of_rank(size, len(shape), rank), shape, dtype)
        for way, names in WAYS.items():
            best = _best(made, names)
            if best is None or best.seconds > SECONDS:
                skipped = skipped or best is not None
                continue
            times[way].append([size, _time(replace(made, chosen=best), image)])
    return times, "Runs that would take longer than 0.4 s are not measured." if skipped else ""


def _time(made: Plan, image: NDArray[Any]) -> float:
    """Return the shortest time of three runs after the one that warms up."""
    made(image)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        made(image)
        times.append(time.perf_counter() - start)
    return min(times)


def _best(made: Plan, names: tuple[str, ...]) -> Candidate | None:
    """Return the fastest of some candidates, as predicted; None if none of them runs."""
    found = [
        c
        for c in made.candidates
        if c.name in names and not c.refused and c.form is not None and not math.isnan(c.seconds)
    ]
    return min(found, key=lambda c: c.seconds, default=None)


def roof(threads: int, machine: Machine | None = None) -> dict[str, float] | None:
    """Return what memory and arithmetic allow: bytes and multiplications per second, or None.

    A copied byte is read and written, so it counts twice, as in the plan. Arithmetic grows with the
    threads; the copy was measured with one.
    """
    known = (current() if machine is None else machine).primitives
    if not (known.fma > 0 and known.memory_copy > 0):
        return None
    return {"multiplications": threads / known.fma, "bytes": 2 / known.memory_copy}
