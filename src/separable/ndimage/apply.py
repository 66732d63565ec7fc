"""Correlation with a sum of terms: one kernel, one plan, one run.

A term is a product of one vector per filtered axis. The terms are planned as `Factors`, so nothing is
rounded between the axes. A kernel that is too large for a dense array runs axis by axis instead, with
the same intermediates.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from separable.borders import carried
from separable.engine import work_dtype
from separable.engine.thread_count import get_num_threads
from separable.factors import Factors
from separable.filtering import filter_with, planned
from separable.masked import Missing, blank
from separable.ndimage.missing_input import AnyMissing, LazyMissing, filtered_valid
from separable.ndimage.scipy_arguments import Array, Target, is_lazy, target_dtype
from separable.ndimage.sums_of_squares import squares_of
from separable.pattern import filter_pattern
from separable.repeated_calls import PlannedCall
from separable.request import FilterAxes
from separable.run import store

__all__ = [
    "Kernel",
    "by_chunks",
    "copied",
    "correlated",
    "correlation",
    "finished",
    "kernel_of",
    "magnitude_of",
    "unfiltered",
]

LARGEST = 1 << 20  # elements; a larger kernel runs axis by axis
DASK = "separable.volumes.dask_terms"  # imported by name: it stands above this package


Terms = tuple[tuple[Array, ...], ...]
Kernel = Array | Factors | Terms


def kernel_of(terms: Terms) -> Kernel:
    """Return the kernel of some terms in the form that is fastest to plan.

    That is the vector of a single axis. For more axes it is `Factors`, or the terms themselves if the
    dense kernel would be too large for memory.
    """
    if len(terms[0]) == 1:
        return terms[0][0]
    if math.prod(len(v) for v in terms[0]) > LARGEST:
        return terms
    return Factors.from_terms(filter_pattern(len(terms[0])), terms)


def correlated(
    image: Array,
    kernel: Kernel,
    filter_axes: FilterAxes,
    target: Target,
    missing: AnyMissing | None = None,
    nothing_valid: Array | None = None,
) -> Array:
    """Correlate an image with a kernel.

    `nothing_valid`, if given, is set to True where no valid sample lies below the kernel.
    """
    if isinstance(missing, LazyMissing):
        lazy: Array = _valid_lazily(image, (kernel,), filter_axes, target, missing)
        return lazy
    if missing is not None:
        return _valid(image, kernel, filter_axes, target, missing, nothing_valid)
    if isinstance(kernel, tuple):
        return _axis_by_axis(image, kernel, filter_axes, target)
    return filter_with(image, kernel, target, operation="correlate", **filter_axes.options)


def correlation(
    image: Array,
    kernel: Kernel,
    filter_axes: FilterAxes,
    target: Target,
    missing: AnyMissing | None = None,
) -> Array | PlannedCall:
    """Return the plan that `correlated` runs; its result where it runs several, or none."""
    if missing is not None or isinstance(kernel, tuple):
        return correlated(image, kernel, filter_axes, target, missing)
    return planned(image, kernel, target, operation="correlate", **filter_axes.options)


def _valid(
    image: Array,
    kernel: Kernel,
    filter_axes: FilterAxes,
    target: Target,
    missing: Missing,
    nothing_valid: Array | None,
) -> Array:
    """Correlate the valid samples: each term is a filter with weights of its own."""
    terms = () if isinstance(kernel, np.ndarray) else _terms(kernel)
    if len(terms) <= 1:
        return filtered_valid(
            image, kernel, filter_axes, target, missing, "correlate", nothing_valid
        )
    out = target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    nothing = np.zeros(image.shape, bool) if nothing_valid is None else nothing_valid
    part = np.empty(image.shape, work_dtype(image.dtype, out.dtype, np.array([_norm(terms)])))
    total = np.zeros_like(part)
    for term in terms:
        filtered_valid(
            image,
            kernel_of((term,)),
            filter_axes,
            part,
            replace(missing, fill=0),
            nothing_valid=nothing,
        )
        with np.errstate(over="ignore", invalid="ignore"):
            total += part
    finished(total, out)
    np.copyto(out, missing.fill, where=nothing, casting="unsafe")
    return out


def _valid_lazily(
    image: Any,
    kernels: Sequence[Kernel],
    filter_axes: FilterAxes,
    target: Target,
    missing: LazyMissing,
) -> Any:
    """Correlate the valid samples of a Dask array: with one product of vectors by its own filter, else by terms."""
    first = kernels[0]
    single = isinstance(first, np.ndarray) or (isinstance(first, Factors) and len(first.terms) == 1)
    if len(kernels) == 1 and single:
        return filtered_valid(image, first, filter_axes, target, missing)
    return importlib.import_module(DASK).filter_valid_terms(
        image, kernels, filter_axes, target_dtype(target), missing.given
    )


def magnitude_of(
    image: Array,
    kernels: Sequence[Kernel],
    filter_axes: FilterAxes,
    target: Target,
    missing: AnyMissing | None = None,
) -> Array:
    """Return the root of the sum of the squares of the results of several kernels.

    Examples
    --------
    >>> from separable.borders import REFLECT
    >>> axes = FilterAxes((0,), (REFLECT,), 0.0, (0,))
    >>> slope = np.array([-0.5, 0.0, 0.5])
    >>> magnitude_of(np.arange(4.0), [slope], axes, np.dtype(float))
    array([0.5, 1. , 1. , 0.5])
    """
    if isinstance(missing, LazyMissing):
        found: Array = _valid_lazily(image, kernels, filter_axes, target, missing)
        return found
    work = work_dtype(image.dtype, target_dtype(target), np.ones(1))
    squares = squares_of(image)
    nothing = None if missing is None else np.zeros(image.shape, bool)
    silent = None if missing is None else replace(missing, fill=0)
    for kernel in kernels:
        squares.add(correlated(image, kernel, filter_axes, work, silent, nothing))
    result = finished(squares.root(), target)
    if missing is not None and nothing is not None:
        np.copyto(result, missing.fill, where=nothing, casting="unsafe")
    return result


def unfiltered(image: Array, target: Target, missing: AnyMissing | None) -> Array:
    """Return the result of a filter along no axis: a copy, with missing samples replaced."""
    if not isinstance(missing, LazyMissing):
        return blank(copied(image, target), missing)
    one = FilterAxes.of((0,), ("nearest",))
    return filtered_valid(image, np.ones(1), one, target, missing)


def _terms(kernel: Factors | Terms) -> Terms:
    return kernel.terms if isinstance(kernel, Factors) else kernel


def _norm(terms: Terms) -> float:
    return sum(math.prod(float(np.sum(np.abs(v))) for v in t) for t in terms)


def _axis_by_axis(image: Array, terms: Terms, filter_axes: FilterAxes, target: Target) -> Array:
    """Run every term as one plan per axis; nothing is rounded to integers between them."""
    work = work_dtype(image.dtype, target_dtype(target), np.array([_norm(terms)]))
    total: Array | None = None
    for term in terms:
        part, outside = image, filter_axes.cval
        for taps, axis, mode, origin in zip(
            term, filter_axes.axes, filter_axes.modes, filter_axes.origins, strict=True
        ):
            single = FilterAxes((axis,), (mode,), outside, (origin,))
            fresh = part is image or is_lazy(part)
            part = correlated(part, taps, single, work if fresh else part)
            outside = carried(outside, taps)
        if total is None or is_lazy(part):
            total = part if total is None else total + part
        else:
            np.add(total, part, out=total)
    assert total is not None
    return finished(total, target)


def by_chunks(function: Callable[..., Any], image: Any, dtype: np.dtype[Any]) -> Any:
    """Apply ``function(chunk, dtype)`` to every chunk of a Dask array; the result is lazy.

    Examples
    --------
    >>> import dask.array as da
    >>> by_chunks(np.ndarray.astype, da.arange(3, chunks=2), np.dtype(bool)).compute()
    array([False,  True,  True])
    """
    meta = np.empty((0,) * image.ndim, dtype)
    return image.map_blocks(function, dtype, dtype=dtype, meta=meta)


def finished(values: Array, target: Target) -> Array:
    """Return a result in the type or the array of the target, rounded once."""
    if not isinstance(target, np.ndarray):
        if values.dtype == target:
            return values
        if is_lazy(values):
            return by_chunks(finished, values, target)  # type: ignore[no-any-return]
        target = np.empty(values.shape, target)
    store(np.atleast_1d(values), np.atleast_1d(target), get_num_threads())
    return target


def copied(image: Array, target: Target) -> Array:
    """Return a copy of the image: the result of a filter along no axis."""
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
