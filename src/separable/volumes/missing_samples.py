"""Missing samples of volumes: normalised convolution, block by block.

What is computed: what `separable.masked` defines. How: the runs that it is put together from, two or
four, each by a method that is exact beside small sums of weights and that gives the same bits for any cut;
all on one block, then one division. A mask travels beside the samples: what reads both gives pairs.
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
from separable.masked import Weights, check_fill, check_nan, mask_of
from separable.masked.finish import Parts
from separable.masked.normalised import WIDE
from separable.masked.valid_weights import is_steady
from separable.plan import Plan, plan
from separable.plan.planned_filter import fastest
from separable.request import mask_shape
from separable.run import store
from separable.volumes.halo import Block, BlockFilter, block_filter, chunkwise

__all__ = [
    "ValidFilter",
    "as_valid",
    "is_missing",
    "mask_place",
    "masked",
    "pair_dtype",
    "paired",
    "pairs_of_masked",
    "valid_filter",
]

Array = NDArray[Any]


class ValidFilter(BlockFilter):
    """A filter of what is valid of a volume, to be run on its blocks as `BlockFilter` is.

    Parameters
    ----------
    parts : tuple of BlockFilter
        On the samples with the kernel; on the mask with the sizes of its weights; and, where it has
        several signs, on the samples with these sizes and on what is missing with the kernel.
    dtype, out : dtype
        Of the samples as they come (pairs, where there is a mask), and of the result.
    weights : Weights
    fill : number
        The result where nothing below the kernel is valid.
    ignoring : bool
        Whether NaN is missing.
    """

    def __init__(
        self,
        parts: tuple[BlockFilter, ...],
        dtype: np.dtype[Any],
        out: np.dtype[Any],
        weights: Weights,
        fill: Any,
        ignoring: bool,
    ) -> None:
        first = parts[0]
        super().__init__(replace(first.problem, dtype=dtype, out=out), first.method, first.form)
        self._parts, self.weights, self.fill, self.ignoring = parts, weights, fill, ignoring
        self._turning = tuple(sorted({axis for part in parts for axis in part._turning}))

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """What runs on a block."""
        return self._parts

    @property
    def own_bytes(self) -> int:
        """For each sample of a block: the samples without what is missing, the mask, the runs."""
        work = self.problem.work.itemsize
        return self._values.itemsize + 2 + (len(self._parts) + 1) * work + self.problem.out.itemsize

    @property
    def token(self) -> tuple[Any, ...]:
        """What tells this filter from others."""
        return (*super().token, "valid", repr(self.fill), self.ignoring)

    def with_threads(self, threads: int) -> ValidFilter:
        """Return the same filter with so many threads."""
        parts = tuple(part.with_threads(threads) for part in self._parts)
        given = (self.problem.dtype, self.problem.out, self.weights, self.fill, self.ignoring)
        return ValidFilter(parts, *given)

    @property
    def _values(self) -> np.dtype[Any]:
        return self._parts[0].problem.dtype

    def run(self, samples: Array, block: Block, room: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        # Step 1: have 0 stand for what is missing.
        values, valid = self._taken(samples)
        clean = np.zeros(block.shape, self._values)
        np.copyto(clean, values, where=valid)
        mask = valid.view(np.uint8)

        # Step 2: run the parts. A kernel of zeros has nothing to weigh.
        data, *others = self._parts
        filtered = np.ascontiguousarray(data.run(clean, block))
        if not others:
            result = np.empty(filtered.shape, self.problem.out)
            store(filtered, result, self.problem.threads)
            return self._put(result, block, room)
        weight = np.ascontiguousarray(others[0].run(mask, block))
        mean = share = None
        if len(others) > 1:
            mean = np.ascontiguousarray(others[1].run(clean, block))
            share = np.ascontiguousarray(others[2].run(1 - mask, block))

        # Step 3: put them together and round once.
        found = Parts(filtered, weight, mean, share, self.weights)
        result = found.finish(self.problem.out, self.fill, None, self.problem.threads)
        return self._put(result, block, room)

    def _taken(self, samples: Array) -> tuple[Array, Array]:
        """The values, and where they are valid."""
        values, valid = samples, None
        if samples.dtype.names:
            values, valid = samples["value"], samples["valid"] != 0
        if self.ignoring:
            known = ~np.isnan(values)
            valid = known if valid is None else known & valid
        assert valid is not None
        return values, np.ascontiguousarray(valid)

    def _put(self, result: Array, block: Block, room: Array | None) -> Array:
        if room is None:
            return result
        room[block.crop] = result
        return room[block.crop]


def is_missing(missing: dict[str, Any], dtype: np.dtype[Any]) -> bool:
    """Whether samples of this type can be missing by what was said (`filtering.given`)."""
    ignoring = check_nan(missing.get("nan", "propagate")) == "ignore"
    return "mask" in missing or (ignoring and dtype.kind in "fc")


def valid_filter(made: Plan, kernel: Any, missing: dict[str, Any]) -> tuple[Plan, ValidFilter]:
    """Return the filter of what is valid of a volume, and the plan of its run on the samples.

    Parameters
    ----------
    made : Plan
        For the plain filter. Its tolerance is not used up: where few samples are valid the result
        is divided by a small sum of weights, so all runs are exact.
    kernel : array_like or Factors
        As it was given.
    missing : dict
        Of `mask`, `nan` and `fill` those that were said.

    Raises
    ------
    ArgumentError
        If no method does it block by block, or the result's type does not hold the fill.
    """
    # Step 1: the types, and what lies outside: as `normalised.normalise` settles them.
    problem, request = made.problem, made.request
    ignoring = missing.get("nan", "propagate") == "ignore" and problem.dtype.kind in "fc"
    fill = check_fill(missing.get("fill", math.nan), problem.out)
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

    # Step 2: a plan for each run.
    def part(kernel: Any, dtype: Any, out: np.dtype[Any], cval: complex, method: str) -> Plan:
        return _steady(
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
        kind = work if weights.is_complex else real
        plans.append(part(weights.sizes, own, work, cval, "auto"))
        plans.append(part(weights.kernel, np.uint8, kind, float(not outside), "auto"))
    dtype = pair_dtype(own) if "mask" in missing else problem.dtype
    filters = tuple(block_filter(p) for p in plans)
    return data, ValidFilter(filters, dtype, problem.out, weights, fill, ignoring)


def _steady(made: Plan) -> Plan:
    """The plan with a method that is exact beside small sums of weights, and for any cut."""
    if made.request.method != "auto":
        return chunkwise(made)
    admitted = [
        c
        for c in made.candidates
        if not c.refused
        and c.form is not None
        and METHODS[c.method].chunk_invariant
        and is_steady(c)
    ]
    if not admitted:
        raise ArgumentError(
            "no method filters this volume with missing samples block by block: the kernel has "
            f"{made.request.weights.size} weights and is no sum of a few products of one sign. "
            "Take a smaller kernel, or one that separates"
        )
    return replace(made, chosen=fastest(admitted))


# A mask beside a volume


def pair_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a sample beside whether it is valid."""
    return np.dtype([("value", dtype), ("valid", "u1")])


def pairs_of_masked(values: Array, mask: Array | None = None) -> Array:
    """Return samples that may be masked as pairs: valid where they are not, and where a mask says so.

    Examples
    --------
    >>> pairs_of_masked(np.ma.masked_equal([1, 2], 2))["valid"]
    array([1, 0], dtype=uint8)
    """
    valid = ~np.ma.getmaskarray(values)
    return paired(np.ma.getdata(values), valid if mask is None else valid & as_valid(mask))


def paired(values: Array, mask: Array) -> Array:
    """Return samples and a mask, which may have length 1 along some axes, as pairs.

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
    """Return where a mask is nonzero; NaN is no number to be nonzero."""
    return mask if mask.dtype.kind == "b" else (mask != 0) & (mask == mask)


def mask_place(mask: Any, shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that a mask takes beside a volume: 1 along axes where it is the same.

    Raises
    ------
    ArgumentError
        If it does not fit.
    ArgumentTypeError
        If it holds no numbers.

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
    """A source of pairs; it travels by the paths of both files, or with its mask."""

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
    """Return a source of pairs: the samples of one beside a mask.

    Parameters
    ----------
    source : Source
        Closed with the one returned.
    mask : path or array_like
        Of the volume's shape, or of that of the filtered axes.
    axes : sequence of int
        The filtered ones.

    Raises
    ------
    FileError
        If the mask cannot be read.
    ArgumentError
        If it does not fit.
    """
    is_file = isinstance(mask, (str, os.PathLike))
    beside: Any = open_source(mask) if is_file else mask_of(mask)
    try:
        place = mask_place(beside, source.shape, axes)
    except BaseException:
        if is_file:
            beside.close()
        raise
    read: Callable[[Region], Array] = beside.read if is_file else beside.__getitem__
    dropped = len(beside.shape) < len(source.shape)

    def fetch(region: Region) -> Array:
        own = [s if n > 1 else slice(0, 1) for s, n in zip(region, place, strict=True)]
        wanted = tuple(s for a, s in enumerate(own) if not dropped or a in axes)
        shape = [s.stop - s.start for s in own]
        return paired(source.read(region), np.asarray(read(wanted)).reshape(shape))

    def release() -> None:
        source.close()
        if is_file:
            beside.close()

    return _Pairs(
        source.path, source.shape, pair_dtype(source.dtype), source.chunks, source.info, fetch,
        release, source.layout, source.slow, mask=Path(mask).absolute() if is_file else beside,
        axes=tuple(axes),
    )  # fmt: skip
