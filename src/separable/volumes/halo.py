"""Filter blocks of a volume, with results bit-identical to filtering the whole, for every border mode.

A block holds the samples that ``plan(image)[region]`` depends on, and few others. It is filtered by the
method that the plan for the whole has chosen. At an edge of the image the border mode decides what the
block consists of (`Border.block`): it keeps that edge and the mode, or holds the samples outside as its
own. Elsewhere the block extends as far as the kernel does: this margin is the halo. Outputs whose
neighbours are missing from the block are cut off.

Results are bit-identical because each output is summed in the same order wherever it is. Running
sums, recursions and transforms are not like that (`Method.chunk_invariant` says so), and neither is a choice by
size: `chunkwise` takes from a plan's candidates the fastest that does not depend on the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border, runs_of
from separable.engine import METHODS, Decomposition, Problem
from separable.engine.result_memory import empty
from separable.errors import ArgumentError
from separable.plan import Plan
from separable.plan.candidate_choice import fastest
from separable.process_cache import ProcessCache
from separable.resample.region_blocks import region_block, run_part
from separable.resample.region_plans import RegionPlan
from separable.run import run

__all__ = [
    "Block",
    "BlockFilter",
    "Index",
    "Region",
    "block_filter",
    "chunkwise",
    "filter_block",
    "needs",
]

Array = NDArray[Any]
Region = Sequence[slice]
Index = slice | NDArray[np.intp]

INNER_RUN = 32  # `engine.compiled.axis_layout`: with so many inner samples two axes change turns
FORMS_KEPT = 32  # shapes of blocks whose tables are kept


def chunkwise(plan: Plan) -> Plan:
    """Return the plan with the fastest of its candidates that gives the same bits block by block.

    Parameters
    ----------
    plan : Plan
        The plan for the whole volume.

    Raises
    ------
    ArgumentError
        If the user asked for a method whose results depend on where a block begins.

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> p = sep.plan(np.ones((101, 101)), (4096, 4096))
    >>> p.chosen.name, chunkwise(p).chosen.name
    ('box', 'separable')
    """
    if METHODS[plan.chosen.method].chunk_invariant:
        return plan
    if plan.request.method != "auto":
        raise ArgumentError(
            f"`method` {plan.request.method!r} gives results that depend on how a volume is cut; "
            "take separable, direct, nested or auto"
        )
    admitted = [c for c in plan.candidates if not c.refused and METHODS[c.method].chunk_invariant]
    if not admitted:
        raise ArgumentError(
            "no method filters this volume block by block: the kernel has "
            f"{plan.request.weights.size} weights and does not separate. Give a tolerance (`tol`)"
        )
    return replace(plan, chosen=fastest(admitted))


@dataclass(frozen=True)
class Block:
    """The samples that a region of the result is computed from.

    Attributes
    ----------
    starts, stops : tuple of int
        The positions along each axis. Those outside the volume hold the samples that its border
        mode names (`BlockFilter.samples`).
    modes : tuple of Border
        The border modes that the engine gets, one per kernel axis.
    crop : tuple of slice
        The region's place in the block.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    modes: tuple[Border, ...]
    crop: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return tuple(b - a for a, b in zip(self.starts, self.stops, strict=True))


class BlockFilter:
    """Filter of one volume, to be run on its blocks. It is small and can be sent to other processes.

    Parameters
    ----------
    problem : Problem
        The filtering of the whole volume.
    method : str
        Name of a method that is `chunk_invariant`.
    form : Decomposition

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> own = block_filter(sep.plan([1, 2, 1], (100,)))
    >>> block = own.block((slice(10, 13),))
    >>> own.run(np.arange(100.0)[block.starts[0] : block.stops[0]], block)
    array([40., 44., 48.])
    """

    def __init__(self, problem: Problem, method: str, form: Decomposition) -> None:
        self.problem, self.method = problem, method
        self.form = replace(form)  # with a cache of its own
        self._turning = METHODS[method].turning_axes(problem, form)
        self._forms = ProcessCache(FORMS_KEPT)

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """The filters that run on a block: this one, or those that it consists of."""
        return (self,)

    @property
    def bands(self) -> int:
        """Number of results."""
        return 1

    @property
    def own_bytes(self) -> int:
        """Bytes that it allocates per sample of a block, beside those of its `filters`."""
        return 0

    @property
    def token(self) -> tuple[Any, ...]:
        """Everything that this filter depends on."""
        dense = None if self.form.separated else self.form.kernel
        return self.problem, self.method, dense, self.form.terms

    def __dask_tokenize__(self) -> Any:
        """Return the value from which Dask derives the names of tasks."""
        return type(self).__qualname__, *self.token

    def with_threads(self, threads: int) -> BlockFilter:
        """Return the same filter with another number of threads."""
        return BlockFilter(replace(self.problem, threads=threads), self.method, self.form)

    def block(self, region: Region) -> Block:
        """Return the block that a region of the result is computed from.

        Raises
        ------
        ArgumentError
            If the region does not lie within the volume, or is empty.
        """
        problem = self.problem
        bounds = [_bounds(axis, part, n) for axis, (part, n) in enumerate(_paired(problem, region))]
        starts, stops = [b[0] for b in bounds], [b[1] for b in bounds]
        modes = list(problem.modes)
        for k, axis in enumerate(problem.axes):
            start, stop = bounds[axis]
            n, (left, right) = problem.shape[axis], problem.widths[k]
            starts[axis], stops[axis], modes[k] = problem.modes[k].block(
                n, start - left, stop + right, self.least(axis, left + right)
            )
        crop = tuple(slice(b[0] - a, b[1] - a) for a, b in zip(starts, bounds, strict=True))
        return Block(tuple(starts), tuple(stops), tuple(modes), crop)

    def samples(self, axis: int, start: int, stop: int) -> Index:
        """Return the samples at the positions ``start .. stop - 1`` of an axis."""
        n = self.problem.shape[axis]
        if start >= 0 and stop <= n:
            return slice(start, stop)
        return self.problem.modes[self.problem.axes.index(axis)].samples(n, start, stop)

    def runs(self, axis: int, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges of samples at the positions ``start .. stop - 1`` of an axis.

        Examples
        --------
        >>> import separable as sep
        >>> block_filter(sep.plan([1, 2, 1], (10,), mode="wrap")).runs(0, -2, 4)
        [(8, 10), (0, 4)]
        """
        found = self.samples(axis, start, stop)
        return [(start, stop)] if isinstance(found, slice) else runs_of(found)

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block.

        Parameters
        ----------
        samples : ndarray
            The samples of the block, of the volume's type.
        block : Block
        out : ndarray, optional
            Memory for the result, of the block's shape and the result's type.

        Returns
        -------
        ndarray
            The region's part of `out` or of a new array, or all of that array.
        """
        wide = self._padded(block.shape)
        fits = out is not None and wide == block.shape
        inner = out if out is not None and fits else empty(wide, self.problem.out)
        source = np.ascontiguousarray(samples)
        if wide != block.shape:
            source = np.zeros(wide, samples.dtype)
            source[tuple(map(slice, block.shape))] = samples
        local = replace(self.problem, shape=wide, modes=block.modes)
        run(local, METHODS[self.method], self._form(local), source, inner)
        if out is not None and inner is not out:
            out[block.crop] = inner[block.crop]
            inner = out
        if all(part == slice(0, n) for part, n in zip(block.crop, inner.shape, strict=True)):
            return inner  # which owns its memory, as a part of it would not
        return inner[block.crop]

    def _form(self, local: Problem) -> Decomposition:
        """Return the decomposition for blocks of this shape and these borders, with its own cache."""
        key = (local.shape, local.modes)
        found: Decomposition = self._forms.get_or_build(key, lambda: replace(self.form))
        return found

    # The engine filters the inner one of two axes first if it has many samples inside, and leaves out
    # passes along axes of one sample. Blocks must be large enough to be treated like the whole.

    def least(self, axis: int, reach: int) -> int:
        """Return the number of samples that a block needs along a filtered axis."""
        if reach == 0:
            return 1
        return INNER_RUN if any(axis > last for last in self._turning) else 2

    def _padded(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a block with enough inner samples to be treated like the whole."""
        whole = self.problem.shape
        wide = list(shape)
        for last in self._turning:
            for axis in range(last + 1, len(shape)):
                count = math.prod(wide[last + 1 :])
                if count < INNER_RUN <= math.prod(whole[last + 1 :]):
                    wanted = -(-INNER_RUN * wide[axis] // max(1, count))
                    wide[axis] = max(wide[axis], min(wanted, whole[axis]))
        return tuple(wide)


def block_filter(plan: Plan | BlockFilter) -> BlockFilter:
    """Return the filter of a plan for a whole volume, to be run on its blocks.

    Raises
    ------
    ArgumentError
        If the plan's method depends on how a volume is cut; `chunkwise` makes another choice.
    """
    if isinstance(plan, BlockFilter):
        return plan
    chosen = plan.chosen
    if not METHODS[chosen.method].chunk_invariant:
        raise ArgumentError(
            f"{chosen.title} gives results that depend on how a volume is cut; take chunkwise(plan)"
        )
    form = chosen.form
    assert form is not None
    found: BlockFilter = form.cached.get_or_build(
        "blocks", lambda: BlockFilter(plan.problem, chosen.method, form)
    )
    return found


def needs(plan: Plan | RegionPlan | BlockFilter, region: Region) -> tuple[Index, ...]:
    """Return the samples that a region of the result is computed from, for each axis.

    Parameters
    ----------
    plan : Plan, RegionPlan or BlockFilter
        The filter of the whole volume; of a `separable.resample.RegionPlan` the region is one of its outputs.
    region : sequence of slice
        One slice per axis.

    Returns
    -------
    tuple of slice or ndarray
        A slice along axes where the samples follow each other, indices where some are those outside.

    Examples
    --------
    >>> import separable as sep
    >>> p = sep.plan([1, 2, 1], (100,))
    >>> needs(p, (slice(10, 20),)), needs(p, (slice(0, 20),))
    ((slice(9, 21, None),), (slice(0, 21, None),))
    >>> needs(sep.plan([1, 2, 1], (100,), mode="wrap"), (slice(98, 100),))
    (array([97, 98, 99,  0]),)
    >>> needs(sep.plan([1, 2, 1], (100,), stride=4), (slice(2, 4),))
    (array([ 7,  8,  9, 11, 12, 13]),)
    """
    if isinstance(plan, RegionPlan):
        return region_block(plan, _inside(plan, region)).index
    found = block_filter(plan)
    block = found.block(region)
    bounds = zip(block.starts, block.stops, strict=True)
    return tuple(found.samples(axis, a, b) for axis, (a, b) in enumerate(bounds))


def filter_block(plan: Plan | RegionPlan | BlockFilter, block: Array, region: Region) -> Array:
    """Return a region of the result.

    Parameters
    ----------
    plan : Plan, RegionPlan or BlockFilter
        The filter of the whole volume.
    block : ndarray
        The samples that `needs` returns the indices of.
    region : sequence of slice

    Returns
    -------
    ndarray
        An array that is bit-identical to ``plan(image)[region]`` of a C-contiguous image.

    Raises
    ------
    ArgumentError
        If the block does not have the shape and type that the region needs.

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> image, region = np.arange(100.0) ** 2, (slice(10, 13),)
    >>> p = sep.plan([1, 2, 1], image.shape)
    >>> filter_block(p, image[needs(p, region)], region).tolist() == p(image)[region].tolist()
    True
    """
    if isinstance(plan, RegionPlan):
        part = region_block(plan, _inside(plan, region))
        shape = tuple(len(range(*i.indices(n))) if isinstance(i, slice) else len(i)
                      for i, n in zip(part.index, plan.whole.problem.shape, strict=True))  # fmt: skip
        _check_block(block, shape, plan.whole.problem.dtype)
        return run_part(plan, block, None, block=part)
    found = block_filter(plan)
    wanted = found.block(region)
    _check_block(block, wanted.shape, found.problem.dtype)
    return found.run(block, wanted)


def _check_block(block: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if block.shape != shape or block.dtype != dtype:
        raise ArgumentError(
            f"`block` must have shape {shape}, {dtype}, for this region; got {block.shape}, {block.dtype}. Take "
            "what needs(plan, region) names"
        )


def _inside(plan: RegionPlan, region: Region) -> list[slice]:
    """Return the slices of a region of the outputs, with both ends."""
    outputs = replace(plan.whole.problem, shape=plan.shape)
    pairs = enumerate(_paired(outputs, region))
    return [slice(*_bounds(axis, part, n)) for axis, (part, n) in pairs]


def _paired(problem: Problem, region: Region) -> list[tuple[slice, int]]:
    """Return the slice and the size of each axis."""
    if len(region) != len(problem.shape):
        raise ArgumentError(
            f"`region` must have one slice for each of {len(problem.shape)} axes; got {len(region)}"
        )
    return list(zip(region, problem.shape, strict=True))


def _bounds(axis: int, part: slice, n: int) -> tuple[int, int]:
    """Return the start and stop of a slice that lies within an axis of `n` samples."""
    start, stop, step = part.indices(n)
    inside = part.start is None or 0 <= part.start <= n
    if step != 1 or stop <= start or not inside or (part.stop is not None and part.stop > n):
        raise ArgumentError(
            f"`region` must hold slices of step 1 within the axis, none empty; got {part} for axis "
            f"{axis} of {n} samples"
        )
    return start, stop
