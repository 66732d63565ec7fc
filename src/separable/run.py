"""`run` filters an array by one method: checks, buffers, and one rounding at the end."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import METHODS, Decomposition, Method, Problem
from separable.engine.availability import EngineError
from separable.engine.lazy_kernel import ldexp
from separable.engine.result_memory import LARGE, empty
from separable.engine.thread_count import in_parallel, slabs
from separable.errors import ArgumentError, ArgumentTypeError, OutputError
from separable.request import check_output_shape

__all__ = ["PreparedRun", "all_finite", "readable", "run", "store"]

Array = NDArray[Any]

CHUNK = 1 << 18  # outputs rounded at a time, so that they stay in the cache
SLABBED = 64 << 20  # bytes: larger images in foreign byte order are converted slab by slab
SLABS = "separable.volumes.foreign_byte_order"  # imported by name: it stands above this module
SNAP = (
    2.0**-30
)  # 8- and 16-bit results: distance within which float64 cannot tell a sum from a half
CHECKED = 1 << 20  # samples checked together; a thread stops early if another one found NaN


def run(
    problem: Problem,
    method: Method,
    form: Decomposition,
    image: Array,
    out: Array | None = None,
    progress: Callable[[float], None] | None = None,
) -> Array:
    """Filter an image.

    Parameters
    ----------
    problem : Problem
    method : Method
    form : Decomposition
    image : ndarray
        Array of the problem's shape and type, with any strides. It may be read-only.
    out : ndarray, optional
        Array of the problem's shape and output type. It may be the image itself or overlap it.
    progress : callable, optional
        Called, from any thread, with the fraction of the work just done.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    ArgumentError
        If the image does not have the problem's shape and type.
    OutputError
        If `out` has another shape or type, or is read-only.
    """
    # Step 1: check the image and the output.
    if image.shape != problem.shape or image.dtype != problem.dtype:
        raise ArgumentError(
            f"this plan is for shape {problem.shape}, {problem.dtype}; "
            f"got shape {image.shape}, {image.dtype}. Make a plan for this image"
        )
    apart = out is None
    if out is None:
        out = empty(problem.shape, problem.out)
    else:
        _check_output(problem, out)
        out = np.asarray(out)
        apart = not np.may_share_memory(image, out)
    if problem.size == 0:
        return out

    # Step 2: the methods take native numbers of the usual types.
    if not image.dtype.isnative and image.nbytes >= SLABBED and apart:
        by_slabs = importlib.import_module(SLABS).filter_by_slabs
        if by_slabs(problem, method.name, form, image, out, progress):
            return out
    source = readable(image, problem)

    # Step 3: filter into the output itself where that is safe, else into an array of our own.
    native = out if out.dtype.isnative else out.view(out.dtype.newbyteorder("="))
    truth = native.dtype == bool and apart
    native = native.view(np.uint8) if truth else native
    direct = (apart or _overwrites(method, source, native)) and not problem.exponent
    stored = problem.work.kind != "c" and method.stores(native.dtype)
    direct = direct and (native.dtype == problem.work or stored)
    target = native if direct else empty(problem.shape, problem.work)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            method.run(problem, form, source, target, progress or (lambda _: None))
    except EngineError:  # found at a first run, with nothing lost: the image is as it was
        return run(problem, METHODS[method.fallback], form, image, out, progress)

    # Step 4: scale back, round, saturate and store, once.
    if not direct:
        store(target, out, problem.threads, problem.exponent)
    elif truth:  # stored as 0 .. 255
        np.minimum(native, 1, out=native)
    elif not out.dtype.isnative:
        native.byteswap(inplace=True)
    return out


class PreparedRun:
    """The filter of one plan without the checks and steps that plain arrays do not need.

    Parameters
    ----------
    problem, method, form
        Arguments of `run`.
    """

    __slots__ = ("_dtype", "_filter", "_is_small", "_out", "_shape", "_threads")

    def __init__(self, problem: Problem, method: Method, form: Decomposition) -> None:
        self._shape, self._dtype, self._out = problem.shape, problem.dtype, problem.out
        self._threads, self._filter = problem.threads, _one_call(problem, method, form)
        self._is_small = problem.size * problem.out.itemsize < LARGE

    def __call__(self, image: Any, out: Any = None) -> Array | None:
        """Filter an image as `run` does, or return None if `run` must look at it."""
        if (
            self._filter is None
            or type(image) is not np.ndarray
            or image.shape != self._shape
            or image.dtype != self._dtype
        ):
            return None
        if out is None:
            make = np.empty if self._is_small else empty
            out = make(self._shape, self._out)
        elif (
            type(out) is not np.ndarray
            or out.shape != self._shape
            or out.dtype != self._out
            or not out.flags.writeable
            or np.may_share_memory(image, out)
        ):
            return None
        try:
            self._filter(image, out, self._threads)
        except EngineError:  # found at a first run, with nothing lost: `run` uses another method
            return None
        return out  # type: ignore[no-any-return]


def _one_call(
    problem: Problem, method: Method, form: Decomposition
) -> Callable[[Array, Array, int], Any] | None:
    """Return the compiled code that does all of a filter, from the image to the output, if there is such."""
    source, out = problem.dtype, problem.out
    if problem.size == 0 or problem.exponent or source.kind == "b" or source == np.float16:
        return None
    if method.spreads_nan:  # the plan looks for NaN in each image, and may take another method
        return None
    if not (source.isnative and out.isnative and (out == problem.work or method.stores(out))):
        return None
    try:
        return method.prepared(problem, form)
    except EngineError:
        return None


def all_finite(image: Array, threads: int = 1) -> bool:
    """Return whether an array has neither NaN nor infinity."""
    if image.dtype.kind in "biu" or image.size == 0:
        return True
    axis = int(np.argmax(image.shape))
    rows = np.moveaxis(image, axis, 0)
    step = max(1, CHECKED * len(rows) // image.size)
    spoilt: list[bool] = []

    def look(part: slice) -> None:
        for start in range(part.start, part.stop, step):
            if spoilt:
                return
            if not np.isfinite(rows[start : min(start + step, part.stop)]).all():
                spoilt.append(True)

    in_parallel(look, slabs(len(rows), threads if len(rows) > step else 1), threads)
    return not spoilt


def _overwrites(method: Method, source: Array, target: Array) -> bool:
    """Return whether the target is the image itself, and the method can work in place."""
    places = (source.__array_interface__["data"], target.__array_interface__["data"])
    same = places[0][0] == places[1][0] and source.strides == target.strides
    return method.overwrites and same and source.dtype == target.dtype


def _check_output(problem: Problem, out: Array) -> None:
    if not isinstance(out, np.ndarray):
        raise ArgumentTypeError(f"`out` must be an ndarray; got {type(out).__name__}")
    check_output_shape(out, problem.shape, "out")
    if out.dtype != problem.out:
        raise OutputError(f"`out` must have dtype {problem.out}, as planned; got {out.dtype}")
    if not out.flags.writeable:
        raise OutputError("`out` is read-only; give a writeable array, for instance out.copy()")


def readable(image: Array, problem: Problem) -> Array:
    """Return an image in a type that the methods read: native numbers of the usual sizes."""
    if image.dtype.kind == "b":
        return image.view(np.uint8)
    if image.dtype == np.float16:
        return image.astype(np.float32)
    if not image.dtype.isnative:
        return image.astype(image.dtype.newbyteorder("="))
    return image


def store(values: Array, out: Array, threads: int, exponent: int = 0) -> None:
    """Store values times 2**exponent; integers are rounded half to even and saturated."""
    axis = int(np.argmax(out.shape))
    rows, target = np.moveaxis(values, axis, 0), np.moveaxis(out, axis, 0)
    parts = max(1, values.size // CHUNK)

    def job(part: slice) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = ldexp(rows[part], exponent) if exponent else rows[part]
            target[part] = _converted(scaled, out.dtype)

    in_parallel(job, slabs(len(rows), parts), threads)


def _converted(values: Array, dtype: np.dtype[Any]) -> Array:
    if values.dtype.kind == "c" and dtype.kind != "c":
        values = values.real
    if dtype.kind not in "biu":
        return values.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if dtype.itemsize <= 2 and values.dtype == np.float64:
        # As in the compiled engine: a sum this close to a half counts as that half.
        half = 0.5 * np.rint(2.0 * values)
        values = np.where(np.abs(values - half) <= SNAP, half, values)
    rounded = np.rint(values)
    if dtype.itemsize < 8:
        np.clip(rounded, low, high, out=rounded)
        return np.nan_to_num(rounded, copy=False, nan=0.0).astype(dtype)
    # float64 cannot represent the largest 64-bit integers: saturate values beyond them explicitly.
    whole = np.nan_to_num(rounded, nan=0.0)
    inside = (whole >= float(low)) & (whole < float(high))
    result = np.where(inside, whole, 0.0).astype(dtype)
    result[whole >= float(high)] = high
    result[whole < float(low)] = low
    return result
