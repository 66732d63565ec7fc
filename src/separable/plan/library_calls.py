"""Calls of SciPy and OpenCV that compute the same filter as a plan, and their times beside its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from separable.errors import SeparableError
from separable.factorize import factorize
from separable.factors import Factors
from separable.plan.plan_text import duration, render, wrapped
from separable.plan.planned_filter import Plan, plan

__all__ = ["PASSES", "Comparison", "TimedCall", "compare_calls", "library_calls", "shortest_times"]

Array: TypeAlias = NDArray[Any]
Call: TypeAlias = Callable[[], Array]

DENSE, PASSES, OPENCV = "SciPy, dense", "SciPy, passes", "OpenCV"
DIRECT = "direct"
"""Name of the method of this library that applies the dense kernel."""
MOST_TERMS = 4
"""Products that SciPy's passes add up at most: more take as long as the dense kernel."""
MOST_PRODUCTS = 3e8
"""Multiplications of the dense kernel that are timed: about a quarter of a second in SciPy."""
REPEATS, PATIENCE = 5, 0.6
"""Runs of a call, and seconds after which it is not repeated."""
OPENCV_TYPES = ("uint8", "uint16", "int16", "float32", "float64")
LEGEND = (
    "SciPy, dense: scipy.ndimage.convolve or correlate; SciPy, passes: correlate1d along each axis, as "
    "gaussian_filter, sobel and gaussian_laplace do; OpenCV: sepFilter2D for a product, else filter2D."
)


@dataclass(frozen=True)
class TimedCall:
    """Time of one way to run a filter.

    Attributes
    ----------
    name : str
        Library and way, or the name of a method of this library.
    seconds : float
        Measured time.
    predicted : float
        Predicted time; NaN for other libraries.
    """

    name: str
    seconds: float
    predicted: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """Times of other libraries and of this one for the same samples; prints as a table.

    Attributes
    ----------
    shape : tuple of int
        Shape of the samples: the whole image, or a part in its centre if the dense kernel would take long.
    whole : bool
        Whether it is the whole image.
    others : tuple of TimedCall
        SciPy's and OpenCV's calls; empty if they do not have this filter.
    dense : TimedCall or None
        Dense method of this library, unless it is the chosen one.
    chosen : TimedCall
        Chosen method.
    """

    shape: tuple[int, ...]
    whole: bool
    others: tuple[TimedCall, ...]
    dense: TimedCall | None
    chosen: TimedCall

    def __str__(self) -> str:
        ours = (self.chosen,) if self.dense is None else (self.dense, self.chosen)
        rows = [
            (
                "*" if call is self.chosen else "",
                call.name,
                duration(call.predicted),
                duration(call.seconds),
                "chosen" if call is self.chosen else self._beside(call),
            )
            for call in (*self.others, *ours)
        ]
        sizes = "x".join(map(str, self.shape))
        where = f"the image, {sizes}" if self.whole else f"{sizes} samples in the image's centre"
        heads = f"Measured on {where}: the shortest of up to {REPEATS} runs, without start-up."
        notes = (
            LEGEND if self.others else "SciPy and OpenCV have no function for this filter and type."
        )
        table = render(("", "method", "predicted", "measured", ""), rows)
        return "\n".join([wrapped(heads), table, wrapped(notes)])

    def _beside(self, call: TimedCall) -> str:
        ratio = call.seconds / self.chosen.seconds
        return f"{ratio:.1f}x slower" if ratio >= 1 else f"{1 / ratio:.1f}x faster"


def compare_calls(filter_plan: Plan, image: Array) -> Comparison:
    """Time the calls of other libraries, the dense method and the chosen one, in turns on the same samples.

    Parameters
    ----------
    filter_plan : Plan
    image : ndarray
        Image of the planned shape and type.

    Returns
    -------
    Comparison
    """
    # Step 1: take a part for which the dense kernel does not take long.
    part = np.ascontiguousarray(image[_centre(filter_plan)])
    is_whole = part.shape == image.shape
    ours = filter_plan if is_whole else _planned_for(filter_plan, part, filter_plan.chosen.name)
    dense = None if ours.chosen.name == DIRECT else _planned_for(filter_plan, part, DIRECT)

    # Step 2: run everything in turns. The first run of a plan includes loading and compilation.
    own: dict[str, Call] = {ours.chosen.name: lambda: ours(part)}
    if dense is not None:
        direct = dense
        own[DIRECT] = lambda: direct(part)
    for call in own.values():
        call()
    calls = library_calls(ours, part)
    if part.size * math.prod(ours.problem.kernel_shape) > 4 * MOST_PRODUCTS:
        calls.pop(DENSE, None)
    times = shortest_times({**calls, **own})
    return Comparison(
        part.shape,
        is_whole,
        tuple(TimedCall(name, times[name]) for name in calls),
        None if dense is None else TimedCall(DIRECT, times[DIRECT], dense.chosen.seconds),
        TimedCall(ours.chosen.name, times[ours.chosen.name], ours.chosen.seconds),
    )


def library_calls(filter_plan: Plan, image: Array) -> dict[str, Call]:
    """Return the calls of other libraries that run the filter of a plan, by the name that is printed.

    Parameters
    ----------
    filter_plan : Plan
    image : ndarray
        Image of the planned shape and type.

    Returns
    -------
    dict of str to callable
        "SciPy, dense"; "SciPy, passes" if the kernel is a sum of a few products; "OpenCV" if it is installed and has the
        filter. Empty if SciPy does not have the border mode or the type.
    """
    request, problem = filter_plan.request, filter_plan.problem
    kernel, modes = request.kernel, {border.scipy_name for border in problem.modes}
    if len(modes) != 1 or "" in modes or any(request.origins) or 0 in image.shape:
        return {}
    if problem.dtype.kind not in "uif" or problem.dtype.itemsize not in (1, 2, 4, 8):
        return {}
    if problem.dtype == np.float16 or problem.out.kind not in "uif" or np.iscomplexobj(kernel):
        return {}
    options = {"mode": modes.pop(), "cval": np.real(problem.cval), "output": problem.out}
    function = getattr(ndimage, request.operation)
    shaped = _on_all_axes(kernel, problem.axes, image.ndim)
    calls: dict[str, Call] = {DENSE: lambda: function(image, shaped, **options)}
    factors = _few_products(filter_plan)
    # Between SciPy's passes a constant lies outside too: only zero stays what it was.
    if factors is not None and not (problem.cval and any(b.fills for b in problem.modes)):
        calls[PASSES] = lambda: _passes(factors, request.operation, problem.axes, image, options)
    opencv = _opencv(filter_plan, factors, image)
    if opencv is not None:
        calls[OPENCV] = opencv
    return calls


def shortest_times(calls: Mapping[str, Call]) -> dict[str, float]:
    """Run all calls in turns, and return the shortest time of each in seconds.

    A call that has taken more than `PATIENCE` seconds in all is not repeated.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            if sum(times[name]) > PATIENCE:
                continue
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in times.items()}


def _centre(filter_plan: Plan) -> tuple[slice, ...]:
    """Return a part in the centre of the image, halved along its longest axis as often as it takes."""
    problem = filter_plan.problem
    sizes = list(problem.shape)
    least = [1] * len(sizes)
    for axis, taps in zip(problem.axes, problem.kernel_shape, strict=True):
        least[axis] = 2 * taps
    while math.prod(sizes) * math.prod(problem.kernel_shape) > MOST_PRODUCTS:
        able = [i for i, n in enumerate(sizes) if n // 2 >= least[i]]
        if not able:
            break
        sizes[max(able, key=sizes.__getitem__)] //= 2
    starts = [(whole - n) // 2 for whole, n in zip(problem.shape, sizes, strict=True)]
    return tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))


def _planned_for(filter_plan: Plan, part: Array, method: str) -> Plan:
    """Plan the same filter for another image by a method; by the fastest one if that cannot run there."""
    request, problem = filter_plan.request, filter_plan.problem
    options: dict[str, Any] = {
        "axes": problem.axes, "mode": problem.modes, "cval": problem.cval, "origin": request.origins,
        "output": problem.out, "tol": request.tol, "operation": request.operation,
    }  # fmt: skip
    try:
        return plan(request.given, part.shape, part.dtype, method=method, **options)
    except SeparableError:
        return plan(request.given, part.shape, part.dtype, **options)


def _few_products(filter_plan: Plan) -> Factors | None:
    """Return the kernel as a sum of so few products that SciPy's passes are worth it, else None."""
    exact = [c.rank for c in filter_plan.candidates if c.is_exact and not c.refused]
    kernel = filter_plan.request.kernel
    if kernel.ndim < 2 or not any(0 < rank <= MOST_TERMS for rank in exact):
        return None
    factors = factorize(kernel)
    return factors if factors.rank <= MOST_TERMS else None


def _on_all_axes(kernel: Array, axes: tuple[int, ...], ndim: int) -> Array:
    """Return the kernel with one axis for each of the image's, of length 1 where it does not filter."""
    shape = [1] * ndim
    for axis, taps in zip(axes, kernel.shape, strict=True):
        shape[axis] = taps
    return kernel.transpose(np.argsort(axes)).reshape(shape)


def _passes(
    factors: Factors, operation: str, axes: tuple[int, ...], image: Array, options: dict[str, Any]
) -> Array:
    """Add up the products, each by one call of SciPy per axis, as its own functions do."""
    line = getattr(ndimage, f"{operation}1d")
    total: Array | None = None
    for term in factors.terms:
        value = image
        for axis, taps in zip(axes, term, strict=True):
            value = line(value, np.ravel(taps), axis, **options)
        total = value if total is None else np.add(total, value, out=total)
    assert total is not None
    return total


def _opencv(filter_plan: Plan, factors: Factors | None, image: Array) -> Call | None:
    """Return OpenCV's call: two passes for a product, else the dense kernel. None if it does not have the filter."""
    problem = filter_plan.problem
    border = problem.modes[0].opencv_name
    # Images may have channels along their last axis.
    planes = problem.axes == (0, 1) and (
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] <= 4)
    )
    same = problem.dtype == problem.out and problem.dtype.name in OPENCV_TYPES
    odd = all(taps % 2 for taps in problem.kernel_shape)  # the centre of even sizes is another one
    if not (planes and same and odd and border) or find_spec("cv2") is None:
        return None
    cv2: Any = import_module("cv2")
    step = -1 if filter_plan.request.operation == "convolve" else 1  # OpenCV correlates
    own = getattr(cv2, border)
    if factors is not None and factors.rank == 1:
        column, row = (
            np.ascontiguousarray(np.ravel(v)[::step], np.float64) for v in factors.terms[0]
        )
        return lambda: cv2.sepFilter2D(image, -1, row, column, borderType=own)
    turned = np.ascontiguousarray(filter_plan.request.kernel[::step, ::step], np.float64)
    return lambda: cv2.filter2D(image, -1, turned, borderType=own)
