"""Missing samples of volumes: normalised convolution block by block, as `separable.masked` defines it.

A block is filtered two or four times, each time by a method that is exact for small sums of weights
and whose results do not depend on how the volume is cut; one division combines them. A mask is
read together with the samples: sources return (value, valid) pairs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import METHODS, work_dtype
from separable.errors import ArgumentError, ArgumentTypeError
from separable.files.chunked_io import Region, Source
from separable.files.opening import open_source
from separable.masked import (
    Weights,
    check_fill,
    check_nan,
    check_nodata,
    fill_for,
    mask_of,
    nodata_values,
    valid_samples,
)
from separable.masked.finish import Parts
from separable.masked.normalised import WIDE
from separable.masked.valid_weights import is_steady
from separable.plan import Plan, plan
from separable.plan.candidate_choice import fastest
from separable.request import mask_shape
from separable.run import store
from separable.volumes.halo import Block, BlockFilter, block_filter, chunkwise

__all__ = [
    "ValidFilter",
    "as_valid",
    "is_missing",
    "mask_place",
    "mask_reader",
    "masked",
    "missing_values",
    "pair_dtype",
    "paired",
    "pairs_of_masked",
    "steady_plan",
    "valid_filter",
]

Array = NDArray[Any]


class ValidFilter(BlockFilter):
    """A filter of the valid samples of a volume, which runs on blocks as `BlockFilter` does.

    Parameters
    ----------
    parts : tuple of BlockFilter
        Filters of the samples with the kernel, and of the mask with the absolute weights. For a
        kernel with several signs also of the samples with the absolute weights, and of the
        inverted mask with the kernel.
    dtype, out : dtype
        Data type of the input (pairs if there is a mask), and of the result.
    weights : Weights
    fill : number
        Result where the kernel covers no valid sample.
    nodata : tuple of numbers
        Values of samples that are missing, NaN among them.
    distinct : bool
        Whether results of valid samples must differ from `fill`.
    """

    def __init__(
        self,
        parts: tuple[BlockFilter, ...],
        dtype: np.dtype[Any],
        out: np.dtype[Any],
        weights: Weights,
        fill: Any,
        nodata: tuple[Any, ...],
        distinct: bool = False,
    ) -> None:
        first = parts[0]
        super().__init__(replace(first.problem, dtype=dtype, out=out), first.method, first.form)
        self._parts, self.weights, self.fill, self.nodata = parts, weights, fill, nodata
        self.distinct = distinct
        self._turning = tuple(sorted({axis for part in parts for axis in part._turning}))

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """Filters that run on a block."""
        return self._parts

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block for the cleaned samples, the mask and the results."""
        work = self.problem.work.itemsize
        return self._values.itemsize + 2 + (len(self._parts) + 1) * work + self.problem.out.itemsize

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        return (*super().token, "valid", repr(self.fill), repr(self.nodata), self.distinct)

    def with_threads(self, threads: int) -> ValidFilter:
        """Return the same filter with another number of threads."""
        parts = tuple(part.with_threads(threads) for part in self._parts)
        given = (self.problem.dtype, self.problem.out, self.weights, self.fill, self.nodata)
        return ValidFilter(parts, *given, self.distinct)

    @property
    def _values(self) -> np.dtype[Any]:
        return self._parts[0].problem.dtype

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        # Step 1: replace missing samples by 0.
        values, valid = self._taken(samples)
        clean = np.zeros(block.shape, self._values)
        np.copyto(clean, values, where=valid)
        mask = valid.view(np.uint8)

        # Step 2: run the filters. A kernel of zeros has no weights to divide by.
        data, *others = self._parts
        filtered = np.ascontiguousarray(data.run(clean, block))
        if not others:
            result = np.empty(filtered.shape, self.problem.out)
            store(filtered, result, self.problem.threads)
            return self._put(result, block, out)
        weight = np.ascontiguousarray(others[0].run(mask, block))
        mean = share = None
        if len(others) > 1:
            mean = np.ascontiguousarray(others[1].run(clean, block))
            share = np.ascontiguousarray(others[2].run(1 - mask, block))

        # Step 3: combine the results and round once.
        found = Parts(filtered, weight, mean, share, self.weights)
        threads = self.problem.threads
        result = found.finish(self.problem.out, self.fill, None, threads, distinct=self.distinct)
        return self._put(result, block, out)

    def _taken(self, samples: Array) -> tuple[Array, Array]:
        """Return the values, and where they are valid."""
        values, valid = samples, None
        if samples.dtype.names:
            values, valid = samples["value"], samples["valid"] != 0
        if self.nodata:
            known = valid_samples(values, self.nodata)
            valid = known if valid is None else known & valid
        assert valid is not None
        return values, np.ascontiguousarray(valid)

    def _put(self, result: Array, block: Block, out: Array | None) -> Array:
        if out is None:
            return result
        out[block.crop] = result
        return out[block.crop]


def is_missing(missing: dict[str, Any], dtype: np.dtype[Any]) -> bool:
    """Return whether the options can mark samples of this dtype as missing."""
    return "mask" in missing or bool(missing_values(missing, dtype))


def missing_values(missing: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the values that mark samples of this dtype as missing, by the options `nan` and `nodata`.

    Examples
    --------
    >>> missing_values({"nan": "ignore", "nodata": 0}, np.dtype("uint8"))
    (0,)
    >>> missing_values({"nan": "ignore"}, np.dtype("float32"))
    (nan,)
    """
    values = check_nodata(nodata_values(missing.get("nodata", "auto")), dtype)
    ignoring = check_nan(missing.get("nan", "propagate")) == "ignore" and dtype.kind in "fc"
    if ignoring and not any(v != v for v in values):
        values = (*values, math.nan)
    return values


def valid_filter(
    filter_plan: Plan, kernel: Any, missing: dict[str, Any]
) -> tuple[Plan, ValidFilter]:
    """Return the filter of the valid samples of a volume, and the plan for its samples.

    Parameters
    ----------
    filter_plan : Plan
        Plan of the plain filter. Its tolerance is not used: where few samples are valid, the
        result is divided by a small sum of weights, so all runs must be exact.
    kernel : array_like or Factors
        Kernel as given.
    missing : dict
        The options `mask`, `nan`, `fill` and `nodata` that were given.

    Raises
    ------
    ArgumentError
        If no method can run block by block, or the dtype of the result cannot hold the fill.
    """
    # Step 1: dtypes and border value, as in `masked.normalised`.
    problem, request = filter_plan.problem, filter_plan.request
    values = missing_values(missing, problem.dtype)
    ignoring = any(v != v for v in values)
    fill = check_fill(fill_for(missing.get("fill", math.nan), values), problem.out)
    weights = Weights.of(kernel)
    own = problem.dtype.newbyteorder("=")
    norm = np.full(1, weights.total / weights.scale, complex if weights.is_complex else float)
    work = work_dtype(own, problem.out, norm)
    if weights.smallest < WIDE:
        work = np.promote_types(work, np.float64)
    real = np.zeros(0, work).real.dtype
    cval = problem.cval if problem.fills else 0.0
    outside = not (ignoring and bool(np.isnan(cval)))
    cval = cval if outside else 0.0

    # Step 2: a plan for each filter.
    def part(kernel: Any, dtype: Any, out: np.dtype[Any], cval: complex, method: str) -> Plan:
        return steady_plan(
            plan(
                kernel, problem.shape, dtype, output=out, operation=request.operation,
                axes=problem.axes, mode=problem.modes, cval=cval, origin=request.origins,
                method=method, threads=problem.threads,
            )
        )  # fmt: skip

    data = part(weights.kernel, own, work, cval, request.method)
    plans = [data]
    if weights.total:
        plans.append(part(weights.sizes, np.uint8, real, float(outside), "auto"))
    if weights.signed:
        plan_dtype = work if weights.is_complex else real
        plans.append(part(weights.sizes, own, work, cval, "auto"))
        plans.append(part(weights.kernel, np.uint8, plan_dtype, float(not outside), "auto"))
    distinct = bool(nodata_values(missing.get("nodata", "auto")))
    dtype = pair_dtype(own) if "mask" in missing else problem.dtype
    filters = tuple(block_filter(p) for p in plans)
    return data, ValidFilter(filters, dtype, problem.out, weights, fill, values, distinct)


def steady_plan(filter_plan: Plan) -> Plan:
    """Return the plan with a method that is exact for small sums of weights and for any cut."""
    if filter_plan.request.method != "auto":
        return chunkwise(filter_plan)
    admitted = [
        c
        for c in filter_plan.candidates
        if not c.refused
        and c.form is not None
        and METHODS[c.method].chunk_invariant
        and is_steady(c)
    ]
    if not admitted:
        raise ArgumentError(
            "no method filters this volume with missing samples block by block: the kernel has "
            f"{filter_plan.request.weights.size} weights and is not a sum of a few products of one sign. "
            "Use a smaller kernel, or a separable one"
        )
    return replace(filter_plan, chosen=fastest(admitted))


# A mask beside a volume


def pair_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a (value, valid) pair."""
    return np.dtype([("value", dtype), ("valid", "u1")])


def pairs_of_masked(values: Array, mask: Array | None = None) -> Array:
    """Return samples of a masked array as pairs: valid where neither mask excludes them.

    Examples
    --------
    >>> pairs_of_masked(np.ma.masked_equal([1, 2], 2))["valid"]
    array([1, 0], dtype=uint8)
    """
    valid = ~np.ma.getmaskarray(values)
    return paired(np.ma.getdata(values), valid if mask is None else valid & as_valid(mask))


def paired(values: Array, mask: Array) -> Array:
    """Return samples and a mask as pairs; the mask may have length 1 along some axes.

    Examples
    --------
    >>> paired(np.array([1.5, 2.5]), np.array([0, 7]))["valid"]
    array([0, 1], dtype=uint8)
    """
    pairs = np.empty(values.shape, pair_dtype(values.dtype.newbyteorder("=")))
    pairs["value"] = values
    pairs["valid"] = as_valid(mask)
    return pairs


def as_valid(mask: Array) -> Array:
    """Return where a mask is nonzero and not NaN."""
    return mask if mask.dtype.kind == "b" else (mask != 0) & (mask == mask)


def mask_place(mask: Any, shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a mask relative to a volume: 1 along axes where it is repeated.

    Raises
    ------
    ArgumentError
        If the mask does not fit.
    ArgumentTypeError
        If the mask is not numeric.

    Examples
    --------
    >>> mask_place(np.ones((4, 5)), (3, 4, 5), (1, 2))
    (1, 4, 5)
    """
    if mask.dtype.kind not in "biuf":
        raise ArgumentTypeError(
            f"`mask` must hold numbers or bool, nonzero where the image is valid; got {mask.dtype}"
        )
    return mask_shape(mask.shape, shape, axes)


@dataclass
class _Pairs(Source):
    """A source of pairs, which is pickled as its path and the path or values of its mask."""

    mask: Any = field(repr=False, default=None)
    axes: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.path, self.mask, self.axes)


def _opened(path: Path, mask: Any, axes: tuple[int, ...]) -> Source:
    source = open_source(path)
    try:
        return masked(source, mask, axes)
    except BaseException:
        source.close()
        raise


def masked(source: Source, mask: Any, axes: Sequence[int]) -> Source:
    """Return a source of pairs: the samples of a source and a mask.

    Parameters
    ----------
    source : Source
        Source of the samples; closed together with the returned source.
    mask : path or array_like
        Mask with the shape of the volume or of the filtered axes.
    axes : sequence of int
        Filtered axes.

    Raises
    ------
    FileError
        If the mask cannot be read.
    ArgumentError
        If it does not fit.
    """
    read, close = mask_reader(mask, source.shape, axes)

    def fetch(region: Region) -> Array:
        return paired(source.read(region), read(region))

    def release() -> None:
        source.close()
        close()

    is_file = isinstance(mask, (str, os.PathLike))
    return _Pairs(
        source.path, source.shape, pair_dtype(source.dtype), source.chunks, source.info, fetch,
        release, source.layout, source.slow, axes=tuple(axes),
        mask=Path(mask).absolute() if is_file else mask_of(mask),
    )  # fmt: skip


def mask_reader(
    mask: Any, shape: Sequence[int], axes: Sequence[int]
) -> tuple[Callable[[Region], Array], Callable[[], None]]:
    """Return a function that reads the mask of a region of a volume, and one that closes its file.

    The mask of a region has as many axes as the volume, and length 1 along axes where it is repeated.

    Raises
    ------
    FileError
        If the mask cannot be read.
    ArgumentError
        If it does not fit.
    """
    is_file = isinstance(mask, (str, os.PathLike))
    beside: Any = open_source(mask) if is_file else mask_of(mask)
    close: Callable[[], None] = beside.close if is_file else lambda: None
    try:
        place = mask_place(beside, shape, axes)
    except BaseException:
        close()
        raise
    read: Callable[[Region], Array] = beside.read if is_file else beside.__getitem__
    dropped = len(beside.shape) < len(shape)

    def fetch(region: Region) -> Array:
        own = [s if n > 1 else slice(0, 1) for s, n in zip(region, place, strict=True)]
        wanted = tuple(s for a, s in enumerate(own) if not dropped or a in axes)
        return np.asarray(read(wanted)).reshape([s.stop - s.start for s in own])

    return fetch, close
