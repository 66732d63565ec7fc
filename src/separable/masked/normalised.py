"""The runs of a filter with missing samples, and what is made of them."""

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
from separable.masked.samples import Missing, MissingOptions, missing_of, without
from separable.masked.valid_weights import LIMITS, Weights, best, is_steady
from separable.plan import Candidate, Plan
from separable.request import FilterAxes
from separable.run import store

__all__ = ["Passes", "Planned", "Run", "filter_missing", "normalise"]

Array = NDArray[Any]
Progress = Callable[[float], None]

WORTH = 2.0  # a steady method may take so many times as long as one that has to be looked after
WIDE = 1e-20  # of the sum of the weights: smaller ones want double precision


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
        least: float,
        *,
        named: bool = True,
    ) -> Array:
        """Filter samples so exactly that the result may be divided by `least`.

        `named` says whether this is the kernel that a method may have been named for.
        """  # fmt: skip

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask with the sizes of the weights: below `half` only where nothing is valid."""


def filter_missing(
    image: Any,
    kernel: Any,
    output: Any,
    *,
    mask: Any = None,
    nan: str = "propagate",
    fill: Any = math.nan,
    progress: Progress | None = None,
    **options: Any,
) -> Array:
    """Filter an image with missing samples; parameters are those of `separable.convolve`."""
    array = np.asarray(array_of(image))
    out, kind = checked_output(array, output)
    made = cached_plan(array, kernel, kind, options)
    problem = made.problem
    outside = problem.cval if "constant" in problem.modes else 0.0
    asked = MissingOptions(mask, nan, fill)
    missing = missing_of(image, array, problem.axes, asked, problem.out, outside)
    if missing is None or problem.size == 0:
        return made(array, out, progress=progress)
    target = problem.out if out is None else out
    weights = Weights.of(kernel)
    part = None if progress is None else _share(progress, 4 if weights.signed else 2)
    run = Planned.of(made, options, part)
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
        With samples.
    weights : Weights
    missing : Missing
    target : ndarray or dtype
        Where to put the result, which may be the image itself; or its type.
    run : Run
        How the kernels run, and the value outside the image.
    nothing_valid : ndarray of bool, optional
        An array of the image's shape; set to True where nothing is valid.

    Returns
    -------
    ndarray
        `target`, or a new array.
    """
    # Step 1: settle the type of the intermediates, and have 0 stand for what is missing.
    kind = target.dtype if isinstance(target, np.ndarray) else target
    norm = np.full(1, weights.total / weights.scale, complex if weights.is_complex else float)
    dtype = work_dtype(image.dtype, kind, norm)
    if weights.smallest < WIDE:
        dtype = np.promote_types(dtype, np.float64)
    real = np.zeros(0, dtype).real.dtype
    cval, threads = run.cval if missing.outside else 0.0, run.threads
    samples = without(image, missing.valid, threads)

    # Step 2: weigh what is valid. A kernel of zeros has nothing to weigh.
    if weights.total == 0.0:
        return _put(run.data(samples, weights.kernel, dtype, cval, 1.0), target, threads)
    weight = run.weigh(missing.valid, weights, real, missing.outside)
    least = least_of(weight, weights, threads)

    # Step 3: filter what is valid; where the kernel has signs also its mean and its share.
    filtered = run.data(samples, weights.kernel, dtype, cval, least)
    mean = share = None
    if weights.signed:
        mean = run.data(samples, weights.sizes, dtype, cval, least, named=False)
        absent = (~missing.valid).view(np.uint8)
        own = dtype if weights.is_complex else real
        share = run.data(absent, weights.kernel, own, float(not missing.outside), least)

    # Step 4: put them together and round once.
    parts = Parts(filtered, weight, mean, share, weights)
    return parts.finish(target, missing.fill, nothing_valid, threads)


def _put(values: Array, target: Array | np.dtype[Any], threads: int) -> Array:
    out = target if isinstance(target, np.ndarray) else empty(values.shape, target)
    store(values, out, threads)
    return out


@dataclass(frozen=True, eq=False)
class Planned:
    """Runs by plans: dense kernels and `Factors`."""

    options: dict[str, Any]
    cval: Any
    threads: int
    tol: float | None = None
    method: str = "auto"
    progress: Progress | None = None

    @classmethod
    def of(cls, made: Plan, options: dict[str, Any], progress: Progress | None = None) -> Planned:
        """Take over the options of the plan for the plain filter."""
        request, problem = made.request, made.problem
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
        least: float,
        *,
        named: bool = True,
    ) -> Array:
        """Filter with the method asked for, or the fastest one that is exact enough."""  # fmt: skip
        tol = None
        if self.tol:  # at most three runs' errors, divided by `least`; few values, for few plans
            tol = 2.0 ** (math.frexp(self.tol * least / 4)[1] - 1)
        if named and self.method != "auto":
            made = self._plan(image, kernel, dtype, cval, tol=tol, method=self.method)
            return self._call(made, made.chosen, image)
        made = self._plan(image, kernel, dtype, cval, tol=tol)
        limit = max(tol or 0.0, LIMITS[made.problem.work.itemsize // _parts(dtype)] * least)
        return self._call(made, best(made, lambda c: _exact(c, limit)), image)

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask; a fast method that is not steady is looked after."""
        mask = valid.view(np.uint8)
        made = self._plan(mask, weights.sizes, dtype, float(outside))
        limit = LIMITS[made.problem.work.itemsize]
        exact = weights.smallest * (0.25 if weights.equal else limit)
        steady = best(made, lambda c: _exact(c, exact))
        quick = best(made, lambda c: True)
        if steady.seconds <= WORTH * quick.seconds:
            return self._call(made, steady, mask)
        found = self._call(made, quick, mask)
        nothing = self._nothing(mask, weights, outside)
        found[nothing] = math.inf
        low = float(found.min()) / weights.total
        if quick.bound > limit * low:
            return self._call(made, steady, mask)
        found[nothing] = 0.0
        return found

    def _nothing(self, mask: Array, weights: Weights, outside: bool) -> Array:
        """Where nothing is valid, by counting: whole numbers survive any method's rounding."""
        support = weights.support
        made = self._plan(mask, support, np.dtype(np.float64), float(outside))
        count = float(support.sum())
        chosen = best(made, lambda c: c.bound * count < 0.25)
        return np.asarray(self._call(made, chosen, mask) < 0.5)

    def _plan(
        self, image: Array, kernel: Any, dtype: np.dtype[Any], cval: Any, **more: Any
    ) -> Plan:
        return cached_plan(image, kernel, dtype, {**self.options, "cval": cval, **more})

    def _call(self, made: Plan, chosen: Candidate, image: Array) -> Array:
        return replace(made, chosen=chosen)(image, progress=self.progress)


@dataclass(frozen=True)
class Passes:
    """Runs of one term axis by axis: for kernels too large to be held as a dense array."""

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
        least: float,
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
            made = cached_plan(image, taps, dtype, options)
            image = replace(made, chosen=best(made, is_steady))(image)
            cval = carried(cval, taps)
        return image

    def weigh(self, valid: Array, weights: Weights, dtype: np.dtype[Any], outside: bool) -> Array:
        """Filter a mask."""
        return self.data(valid.view(np.uint8), weights.sizes, dtype, float(outside), 1.0)


def _exact(candidate: Candidate, limit: float) -> bool:
    return is_steady(candidate, limit) or candidate.bound <= limit


def _share(progress: Progress, runs: int) -> Progress:
    return lambda fraction: progress(fraction / runs)


def _parts(dtype: np.dtype[Any]) -> int:
    return 2 if dtype.kind == "c" else 1
