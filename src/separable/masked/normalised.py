"""Filters with missing samples: the runs that they need, and the combination of their results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from separable.arrays import array_of
from separable.borders import carried
from separable.engine import work_dtype
from separable.engine.result_memory import empty
from separable.filtering import cached_plan, checked_output
from separable.masked.finish import Parts, least_of
from separable.masked.nodata import check_nodata, keep_distinct, nodata_values
from separable.masked.samples import Missing, MissingOptions, fill_for, missing_of, without
from separable.masked.valid_weights import LIMITS, Weights, best, is_steady
from separable.plan import Candidate, Plan
from separable.request import FilterAxes
from separable.run import store

__all__ = ["AxisByAxisRun", "PlannedRun", "Run", "filter_missing", "normalise"]

Array = NDArray[Any]
Progress = Callable[[float], None]

WORTH = 2.0  # a steady method may take so many times as long as one whose result must be checked
WIDE = 1e-20  # of the sum of the weights: smaller weights need double precision


class Run(Protocol):
    """A way to run the kernels of one filter."""

    @property
    def cval(self) -> Any:
        """Value outside the image where the mode is constant."""

    @property
    def threads(self) -> int:
        """Number of threads."""

    def data(
        self,
        image: Array,
        kernel: Any,
        dtype: np.dtype[Any],
        cval: Any,
        smallest: float,
        *,
        named: bool = True,
    ) -> Array:
        """Filter samples so exactly that the result may be divided by `smallest`.

        If `named` is true, use the method that the caller has named.
        """  # fmt: skip

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask with the absolute weights; the result is below `half` only where no sample is valid."""


def filter_missing(
    image: Any,
    kernel: Any,
    output: Any,
    *,
    mask: Any = None,
    nan: str = "propagate",
    fill: Any = math.nan,
    nodata: Any = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> Array:
    """Filter an image with missing samples; parameters are those of `separable.convolve`."""
    array = np.asarray(array_of(image))
    out, dtype = checked_output(array, output)
    plan = cached_plan(array, kernel, dtype, options)
    problem = plan.problem
    outside = problem.cval if problem.fills else 0.0
    asked = MissingOptions(mask, nan, fill, nodata)
    missing = missing_of(image, array, problem.axes, asked, problem.out, outside)
    if missing is None or problem.size == 0:
        result = plan(array, out, progress=progress)
        values = check_nodata(nodata_values(nodata), array.dtype)
        return keep_distinct(result, fill_for(fill, values)) if values else result
    target = problem.out if out is None else out
    weights = Weights.of(kernel)
    part = None if progress is None else _share(progress, 4 if weights.signed else 2)
    run = PlannedRun.of(plan, options, part)
    return normalise(array, weights, missing, target, run)


def normalise(
    image: Array,
    weights: Weights,
    missing: Missing,
    target: Array | np.dtype[Any],
    run: Run,
    nothing_valid: Array | None = None,
) -> Array:
    """Filter an image with missing samples.

    Parameters
    ----------
    image : ndarray
        The samples.
    weights : Weights
        Weights of the kernel.
    missing : Missing
        The valid samples.
    target : ndarray or dtype
        Array to write the result into, which may be the image itself, or the type of a new one.
    run : Run
        How the kernels run, and the value outside the image.
    nothing_valid : ndarray of bool, optional
        An array of the image's shape; set to True where nothing is valid.

    Returns
    -------
    ndarray
        `target`, or a new array.
    """
    # Step 1: choose the type of the intermediates, and set missing samples to 0.
    out = target.dtype if isinstance(target, np.ndarray) else target
    norm = np.full(1, weights.total / weights.scale, complex if weights.is_complex else float)
    dtype = work_dtype(image.dtype, out, norm)
    if weights.smallest < WIDE:
        dtype = np.promote_types(dtype, np.float64)
    real = np.zeros(0, dtype).real.dtype
    cval, threads = run.cval if missing.outside else 0.0, run.threads
    samples = without(image, missing.valid, threads)

    # Step 2: compute the weight of the valid samples. A kernel of zeros has none.
    if weights.total == 0.0:
        return _put(run.data(samples, weights.kernel, dtype, cval, 1.0), target, threads)
    weight = run.weigh(missing.valid, weights, real, missing.outside)
    smallest = least_of(weight, weights, threads)

    # Step 3: filter the valid samples; for a kernel of both signs also compute their mean and share.
    filtered = run.data(samples, weights.kernel, dtype, cval, smallest)
    mean = share = None
    if weights.signed:
        mean = run.data(samples, weights.sizes, dtype, cval, smallest, named=False)
        absent = (~missing.valid).view(np.uint8)
        own = dtype if weights.is_complex else real
        share = run.data(absent, weights.kernel, own, float(not missing.outside), smallest)

    # Step 4: combine them and round once.
    parts = Parts(filtered, weight, mean, share, weights)
    distinct = missing.distinct
    return parts.finish(target, missing.fill, nothing_valid, threads, distinct=distinct)


def _put(values: Array, target: Array | np.dtype[Any], threads: int) -> Array:
    out = target if isinstance(target, np.ndarray) else empty(values.shape, target)
    store(values, out, threads)
    return out


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """Runs of dense kernels and `Factors`, each by a plan."""

    options: dict[str, Any]
    cval: Any
    threads: int
    tol: float | None = None
    method: str = "auto"
    progress: Progress | None = None

    @classmethod
    def of(
        cls, plan: Plan, options: dict[str, Any], progress: Progress | None = None
    ) -> PlannedRun:
        """Return runs with the options of the plan for the same filter without missing samples."""
        request, problem = plan.request, plan.problem
        own = {**options, "axes": problem.axes, "mode": problem.modes, "threads": problem.threads}
        for name in ("tol", "method", "cval"):
            own.pop(name, None)
        return cls(own, problem.cval, problem.threads, request.tol, request.method, progress)

    def data(
        self,
        image: Array,
        kernel: Any,
        dtype: np.dtype[Any],
        cval: Any,
        smallest: float,
        *,
        named: bool = True,
    ) -> Array:
        """Filter with the method that the caller asked for, or with the fastest one that is exact enough."""  # fmt: skip
        tol = None
        if self.tol:  # errors of at most three runs, divided by `smallest`; a power of two, so that plans repeat
            tol = 2.0 ** (math.frexp(self.tol * smallest / 4)[1] - 1)
        if named and self.method != "auto":
            plan = self._plan(image, kernel, dtype, cval, tol=tol, method=self.method)
            return self._call(plan, plan.chosen, image)
        plan = self._plan(image, kernel, dtype, cval, tol=tol)
        limit = max(tol or 0.0, LIMITS[plan.problem.work.itemsize // _parts(dtype)] * smallest)
        return self._call(plan, best(plan, lambda c: _exact(c, limit)), image)

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask with the absolute weights; the result of a method that may be too inexact is checked."""
        mask = valid.view(np.uint8)
        plan = self._plan(mask, weights.sizes, dtype, float(outside))
        limit = LIMITS[plan.problem.work.itemsize]
        exact = weights.smallest * (0.25 if weights.equal else limit)
        steady = best(plan, lambda c: _exact(c, exact))
        quick = best(plan, lambda c: True)
        if steady.seconds <= WORTH * quick.seconds:
            return self._call(plan, steady, mask)
        found = self._call(plan, quick, mask)
        nothing = self._nothing(mask, weights, outside)
        found[nothing] = math.inf
        low = float(found.min()) / weights.total
        if quick.bound > limit * low:
            return self._call(plan, steady, mask)
        found[nothing] = 0.0
        return found

    def _nothing(self, mask: Array, weights: Weights, outside: bool) -> Array:
        """Return where nothing is valid, by counting: integers survive the rounding of any method."""
        support = weights.support
        plan = self._plan(mask, support, np.dtype(np.float64), float(outside))
        count = float(support.sum())
        chosen = best(plan, lambda c: c.bound * count < 0.25)
        return np.asarray(self._call(plan, chosen, mask) < 0.5)

    def _plan(
        self, image: Array, kernel: Any, dtype: np.dtype[Any], cval: Any, **more: Any
    ) -> Plan:
        return cached_plan(image, kernel, dtype, {**self.options, "cval": cval, **more})

    def _call(self, plan: Plan, chosen: Candidate, image: Array) -> Array:
        return replace(plan, chosen=chosen)(image, progress=self.progress)


@dataclass(frozen=True)
class AxisByAxisRun:
    """Runs of one term axis by axis, for kernels that are too large for a dense array."""

    filter_axes: FilterAxes
    threads: int

    @property
    def cval(self) -> Any:
        """Value outside the image."""
        return self.filter_axes.cval

    def data(
        self,
        image: Array,
        kernel: Any,
        dtype: np.dtype[Any],
        cval: Any,
        smallest: float,
        *,
        named: bool = True,
    ) -> Array:
        """Filter with the fastest steady method along each axis."""  # fmt: skip
        (term,) = kernel
        w = self.filter_axes
        for taps, axis, mode, origin in zip(term, w.axes, w.modes, w.origins, strict=True):
            options = {
                "operation": "correlate", "axes": axis, "mode": mode, "cval": cval, "origin": origin
            }  # fmt: skip
            plan = cached_plan(image, taps, dtype, options)
            image = replace(plan, chosen=best(plan, is_steady))(image)
            cval = carried(cval, taps)
        return image

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask with the absolute weights, by the steady methods of `data`."""
        return self.data(valid.view(np.uint8), weights.sizes, dtype, float(outside), 1.0)


def _exact(candidate: Candidate, limit: float) -> bool:
    return is_steady(candidate, limit) or candidate.bound <= limit


def _share(progress: Progress, runs: int) -> Progress:
    return lambda fraction: progress(fraction / runs)


def _parts(dtype: np.dtype[Any]) -> int:
    return 2 if dtype.kind == "c" else 1
