"""From terms to the result: one kernel, one plan, one run.

What is computed: the correlation with a sum of terms, each a product of one vector a filtered axis.
How: as `Factors` through the planner, so that nothing is rounded between the axes; a kernel too
large to be held as a dense array runs axis by axis instead, with the same numbers between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from separable.borders import canonical, carried
from separable.engine import work_dtype
from separable.engine.thread_count import get_num_threads, in_parallel, slabs
from separable.errors import ModeError
from separable.factors import Factors
from separable.filtering import filter_with, remembered
from separable.masked import Missing
from separable.ndimage.lazy import LazySquares, by_chunks
from separable.ndimage.missing_input import filtered_valid
from separable.ndimage.scipy_arguments import Array, Target, is_lazy, target_dtype
from separable.plan import Plan
from separable.plan.candidates import filter_pattern
from separable.run import store

__all__ = [
    "Border",
    "SumOfSquares",
    "copied",
    "correlated",
    "finished",
    "kernel_of",
    "plan_of",
    "squares_of",
]

LARGEST = 1 << 20  # elements of a dense kernel that a plan is made of
CHUNK = 1 << 16  # outputs added at a time: they stay in the cache


@dataclass(frozen=True)
class Border:
    """Where a filter runs and what lies outside: one value for each filtered axis."""

    axes: tuple[int, ...]
    modes: tuple[str, ...]
    cval: Any
    origins: tuple[int, ...]

    @classmethod
    def of(
        cls, axes: Sequence[int], modes: Sequence[str], cval: Any, origins: Sequence[int] = ()
    ) -> Border:
        """Check the modes; no origins are zeros."""
        try:
            names = tuple(canonical(m) for m in modes)
        except ModeError as error:  # with SciPy's words
            raise ModeError(f"boundary mode not supported: {error}") from None
        return cls(tuple(axes), names, cval, tuple(origins) or (0,) * len(names))


Terms = tuple[tuple[Array, ...], ...]
Kernel = Array | Factors | Terms


def kernel_of(terms: Terms) -> Kernel:
    """Return the kernel that terms stand for, in the form that is fastest to plan.

    One axis: its vector. More: `Factors`, or the terms themselves where the dense kernel would be
    too large to hold.
    """
    if len(terms[0]) == 1:
        return terms[0][0]
    if math.prod(len(v) for v in terms[0]) > LARGEST:
        return terms
    return Factors.from_terms(filter_pattern(len(terms[0])), terms)


def correlated(
    image: Array,
    kernel: Kernel,
    border: Border,
    target: Target,
    missing: Missing | None = None,
    void: Array | None = None,
) -> Array:
    """Correlate an image with a kernel; `void` is set where nothing valid lies below it."""
    if missing is not None:
        return _valid(image, kernel, border, target, missing, void)
    if isinstance(kernel, tuple):
        return _axis_by_axis(image, kernel, border, target)
    return filter_with(
        image, kernel, target, operation="correlate", axes=border.axes, mode=border.modes,
        cval=border.cval, origin=border.origins,
    )  # fmt: skip


def plan_of(image: Array, kernel: Kernel, border: Border, target: Target) -> Plan | None:
    """Return the plan that `correlated` runs; None if it runs several, or into a given array."""
    if isinstance(kernel, tuple) or isinstance(target, np.ndarray):
        return None
    options = {
        "operation": "correlate", "axes": border.axes, "mode": border.modes, "cval": border.cval,
        "origin": border.origins,
    }  # fmt: skip
    return remembered(image, kernel, target, options)


def _valid(
    image: Array,
    kernel: Kernel,
    border: Border,
    target: Target,
    missing: Missing,
    void: Array | None,
) -> Array:
    """Correlate what is valid. A sum of terms is that of filters, each with its own weights."""
    terms = () if isinstance(kernel, np.ndarray) else _terms(kernel)
    if len(terms) <= 1:
        return filtered_valid(image, kernel, border, target, missing, "correlate", void)
    out = target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    nothing = np.zeros(image.shape, bool) if void is None else void
    part = np.empty(image.shape, work_dtype(image.dtype, out.dtype, np.array([_norm(terms)])))
    total = np.zeros_like(part)
    for term in terms:
        filtered_valid(
            image, kernel_of((term,)), border, part, replace(missing, fill=0), void=nothing
        )
        with np.errstate(over="ignore", invalid="ignore"):
            total += part
    finished(total, out)
    np.copyto(out, missing.fill, where=nothing, casting="unsafe")
    return out


def _terms(kernel: Factors | Terms) -> Terms:
    return kernel.terms if isinstance(kernel, Factors) else kernel


def _norm(terms: Terms) -> float:
    return sum(math.prod(float(np.sum(np.abs(v))) for v in t) for t in terms)


def _axis_by_axis(image: Array, terms: Terms, border: Border, target: Target) -> Array:
    """Run every term as one plan an axis; between them nothing is rounded to whole numbers."""
    work = work_dtype(image.dtype, target_dtype(target), np.array([_norm(terms)]))
    total: Array | None = None
    for term in terms:
        part, outside = image, border.cval
        for taps, axis, mode, origin in zip(
            term, border.axes, border.modes, border.origins, strict=True
        ):
            single = Border((axis,), (mode,), outside, (origin,))
            fresh = part is image or is_lazy(part)
            part = correlated(part, taps, single, work if fresh else part)
            outside = carried(outside, taps)
        if total is None or is_lazy(part):
            total = part if total is None else total + part
        else:
            np.add(total, part, out=total)
    assert total is not None
    return finished(total, target)


def finished(values: Array, target: Target) -> Array:
    """Convert a result to the type or into the array asked for: one rounding."""
    if not isinstance(target, np.ndarray):
        if values.dtype == target:
            return values
        if is_lazy(values):
            return by_chunks(finished, values, target)  # type: ignore[no-any-return]
        target = np.empty(values.shape, target)
    store(np.atleast_1d(values), np.atleast_1d(target), get_num_threads())
    return target


def copied(image: Array, target: Target) -> Array:
    """Return the image itself as a new array: what a filter along no axis gives."""
    if is_lazy(image):
        return by_chunks(copied, image, target_dtype(target))  # type: ignore[no-any-return]
    out = target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    kinds = image.dtype.kind + out.dtype.kind
    if np.can_cast(image.dtype, out.dtype, "safe"):
        out[...] = image
    elif set(kinds) <= set("iu"):
        here, there = np.iinfo(image.dtype), np.iinfo(out.dtype)
        out[...] = np.clip(image, max(here.min, there.min), min(here.max, there.max))
    elif image.size:
        store(np.atleast_1d(image), np.atleast_1d(out), get_num_threads())
    return out


def squares_of(image: Array) -> SumOfSquares | LazySquares:
    """Return what adds up the squares of arrays like this one."""
    return LazySquares() if is_lazy(image) else SumOfSquares(image.shape)


class SumOfSquares:
    """The sum of the squares of several arrays.

    In double precision: it neither wraps nor overflows where the arrays are narrower.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.total: Array = np.zeros(shape, np.float64)

    def add(self, part: Array) -> None:
        """Add the squares of an array; complex ones stay complex, as in SciPy."""
        if part.dtype.kind == "c" and self.total.dtype.kind != "c":
            self.total = self.total.astype(np.complex128)
        total = self.total

        def job(rows: slice) -> None:
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                total[rows] += np.square(part[rows], dtype=total.dtype)

        self._in_parallel(job)

    def root(self) -> Array:
        """Return the square root of the sum; the sum is used up."""
        total = self.total

        def job(rows: slice) -> None:
            with np.errstate(invalid="ignore"):
                np.sqrt(total[rows], out=total[rows])

        self._in_parallel(job)
        return total

    def _in_parallel(self, job: Any) -> None:
        if self.total.ndim == 0:
            job(())
        elif self.total.size:
            parts = slabs(self.total.shape[0], self.total.size // CHUNK)
            in_parallel(job, parts, get_num_threads())
