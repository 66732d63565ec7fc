"""Predicted time and multiplications against kernel size: where passes, dense sums and FFTs cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from separable.engine.registry import LOW_RANK, SEPARABLE
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.machine import Machine
from separable.pattern import filter_pattern
from separable.plan.plan_text import count_text, duration, render, wrapped
from separable.plan.planned_filter import Plan, plan
from separable.value import Value

__all__ = ["SIZES", "WAYS", "SizeSweep", "kernel_of_rank", "sweep_sizes"]

SIZES = (3, 5, 7, 9, 11, 15, 21, 31, 41, 51, 71, 101, 151, 201, 301)
WAYS = {"dense": ("direct",), "passes": (SEPARABLE, LOW_RANK, "nested"), "FFT": ("fft", "overlap")}
"""What is compared, and the candidates of a plan that belong to it."""

SUBJECTS = {"passes": "Passes are", "FFT": "The FFT is"}  # of sentences about them

COLUMNS = ("kernel", "dense", "passes", "FFT", "dense", "passes", "FFT", "")


@dataclass(frozen=True, eq=False)
class SizeSweep(Value):
    """Predictions for kernels of one rank and growing size.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image.
    dtype : dtype
        Type of the image.
    rank : int
        Number of separable terms of the kernels (fewer, where a kernel is smaller than that).
    sizes : tuple of int
        Samples of the kernel along each axis.
    seconds : dict of str to tuple of float
        Predicted time of each way of `WAYS`; infinite where it cannot run.
    multiplications : dict of str to tuple of float
        Multiplications per output.
    machine : str
        Whose rates the predictions are made with.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rank: int
    sizes: tuple[int, ...]
    seconds: dict[str, tuple[float, ...]]
    multiplications: dict[str, tuple[float, ...]]
    machine: str

    def crossing(self, first: str = "passes", then: str = "FFT") -> int | None:
        """Return the smallest size from which on `then` is faster than `first`; None if there is none."""
        found = None
        for size, a, b in zip(self.sizes, self.seconds[first], self.seconds[then], strict=True):
            found = (size if found is None else found) if b < a else None
        return found

    def __str__(self) -> str:
        image = "x".join(map(str, self.shape))
        terms = f"{self.rank} separable term{'' if self.rank == 1 else 's'}"
        rows = []
        for k, size in enumerate(self.sizes):
            times = {way: self.seconds[way][k] for way in WAYS}
            rows.append(
                (
                    "x".join([str(size)] * len(self.shape)),
                    *(_count(self.multiplications[way][k]) for way in WAYS),
                    *("-" if math.isinf(t) else duration(t) for t in times.values()),
                    min(times, key=times.__getitem__),
                )
            )
        return "\n".join(
            [
                wrapped(f"kernels of {terms} on {image} {self.dtype}"),
                "columns 2 to 4: multiplications per output; 5 to 7: predicted time",
                render(COLUMNS, rows),
                *map(wrapped, self._remarks()),
            ]
        )

    def _remarks(self) -> list[str]:
        sides = " x ".join(["K"] * len(self.shape))
        remarks = []
        for first, then in (("dense", "passes"), ("passes", "FFT"), ("dense", "FFT")):
            size = self.crossing(first, then)
            where = f"from K = {size} on" if size else f"at no size up to {self.sizes[-1]}"
            remarks.append(
                f"{SUBJECTS[then]} predicted to be faster than {first} {where} (kernel {sides})."
            )
        return [*remarks, f"Rates: {self.machine}."]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values; None for a way that cannot run."""
        return {
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "rank": self.rank,
            "sizes": list(self.sizes),
            "seconds": {
                w: [None if math.isinf(t) else t for t in s] for w, s in self.seconds.items()
            },
            "multiplications": {
                w: [None if math.isinf(t) else t for t in m]
                for w, m in self.multiplications.items()
            },
            "crossing": self.crossing(),
            "machine": self.machine,
        }


def sweep_sizes(
    shape: Sequence[int],
    dtype: DTypeLike = np.float32,
    *,
    rank: int = 1,
    sizes: Sequence[int] = SIZES,
    machine: Machine | None = None,
    threads: int | None = None,
) -> SizeSweep:
    """Predict dense sums, passes and FFTs for kernels of one rank and growing size.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image; all axes are filtered.
    dtype : dtype
        Type of the image; by default float32, that of most images in memory.
    rank : int
        Number of separable terms of the kernels; 1 for a separable kernel.
    sizes : sequence of int
        Samples of the kernel along each axis, ascending. Sizes beyond the image are left out.
    machine : Machine, optional
        Computer whose rates the predictions are made with; by default this one.
    threads : int, optional
        Number of threads; by default all processors that this process may use.

    Returns
    -------
    SizeSweep
        Print it, or draw it with `separable.plot.crossing`.

    Raises
    ------
    ArgumentError
        If `rank` or a size is not positive, or `shape` has less than 2 axes or more than 4.

    Examples
    --------
    >>> found = sweep_sizes((512, 512), sizes=(3, 31))
    >>> found.multiplications["dense"], found.multiplications["passes"]
    ((9.0, 961.0), (6.0, 62.0))
    """
    if rank < 1 or not sizes or min(sizes) < 1:
        raise ArgumentError(f"`rank` and `sizes` must be >= 1; got {rank} and {tuple(sizes)}")
    if not 2 <= len(shape) <= 4:
        raise ArgumentError(f"`shape` must have 2 to 4 axes; got {tuple(shape)}")
    used = [n for n in sorted(set(sizes)) if n <= max(3, min(shape))]
    plans = [
        plan(kernel_of_rank(n, len(shape), rank), shape, dtype, machine=machine, threads=threads)
        for n in used
    ]
    best = {way: [_best(p, names) for p in plans] for way, names in WAYS.items()}
    seconds, counts = ({way: tuple(b[k] for b in best[way]) for way in best} for k in (0, 1))
    return SizeSweep(
        tuple(shape), np.dtype(dtype), rank, tuple(used), seconds, counts, plans[0].machine
    )


def kernel_of_rank(size: int, ndim: int, rank: int) -> Factors:
    """Return a kernel of random vectors, which nothing but its rank makes cheap."""
    rng = np.random.default_rng(0)
    terms = [[rng.uniform(0.5, 1.5, size) for _ in range(ndim)] for _ in range(min(rank, size))]
    return Factors.from_terms(filter_pattern(ndim), terms)


def _best(made: Plan, names: Sequence[str]) -> tuple[float, float]:
    """Return the time and the multiplications of the fastest of some candidates."""
    found = [
        (c.seconds, float(c.multiplications))
        for c in made.candidates
        if c.name in names and not c.refused and not math.isnan(c.seconds)
    ]
    return min(found, default=(math.inf, math.inf))


def _count(value: float) -> str:
    return "-" if math.isinf(value) else count_text(value)
