"""Blocks of a volume, filtered as the whole would be: bit for bit, for every border.

What is computed: ``plan(image)[region]`` from as few samples of the image as it depends on. How: the
block goes through the method and the form that the plan for the whole has chosen. At an edge of the
image the border mode decides what the block consists of (`Border.block`): it keeps that edge and the
mode, or holds the samples outside as its own. Elsewhere the block reaches as far as the kernel does,
and what was computed without neighbours is cut off.

That gives the same bits because each output is summed in the same order wherever it stands. Running
sums, recursions and transforms are not like that (`INVARIANT` lists what is), and neither is a choice by
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
from separable.engine import METHODS, Form, Problem
from separable.engine.methods.compiled_separable import SWEEP_AXES, stacks_of
from separable.engine.result_memory import empty
from separable.errors import ArgumentError
from separable.plan import Plan
from separable.plan.planned_filter import fastest
from separable.process_cache import ProcessCache
from separable.run import run

__all__ = [
    "INVARIANT",
    "Block",
    "BlockFilter",
    "block_filter",
    "chunkwise",
    "filter_block",
    "needs",
]

Array = NDArray[Any]
Region = Sequence[slice]
Index = slice | NDArray[np.intp]

INVARIANT = frozenset(("fused", "nested", "dense", "passes", "correlate", "reference"))
"""The methods whose every output is summed in one order, wherever it stands."""
INNER_RUN = 32  # `engine.compiled.layout`: from so many inner samples on, two axes change turns
FORMS_KEPT = 32  # shapes of blocks whose tables are kept


def chunkwise(plan: Plan) -> Plan:
    """Return the plan with the fastest of its candidates that gives the same bits block by block.

    Parameters
    ----------
    plan : Plan
        For the whole volume.

    Raises
    ------
    ArgumentError
        If a method was asked for that depends on where a block begins.

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> p = sep.plan(np.ones((101, 101)), (4096, 4096))
    >>> p.chosen.name, chunkwise(p).chosen.name
    ('box', 'separable')
    """
    if plan.chosen.method in INVARIANT:
        return plan
    if plan.request.method != "auto":
        raise ArgumentError(
            f"`method` {plan.request.method!r} gives results that depend on how a volume is cut; "
            "take separable, direct, nested or auto"
        )
    admitted = [c for c in plan.candidates if not c.refused and c.method in INVARIANT]
    if not admitted:
        raise ArgumentError(
            "no method filters this volume block by block: the kernel has "
            f"{plan.request.weights.size} weights and does not separate. Give a tolerance (`tol`)"
        )
    return replace(plan, chosen=fastest(admitted))


@dataclass(frozen=True)
class Block:
    """What a region of the result is computed from.

    Attributes
    ----------
    starts, stops : tuple of int
        The positions along each axis. Those outside the volume hold the samples that its border
        mode names (`BlockFilter.samples`).
    modes : tuple of Border
        The border modes that the engine gets, one per kernel axis.
    crop : tuple of slice
        Where the region stands in the block.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    modes: tuple[Border, ...]
    crop: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the block."""
        return tuple(b - a for a, b in zip(self.starts, self.stops, strict=True))


class BlockFilter:
    """One filter of one volume, to be run on its blocks; small, and it can be sent to other processes.

    Parameters
    ----------
    problem : Problem
        Of the whole volume.
    method : str
        One of `INVARIANT`.
    form : Form

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> own = block_filter(sep.plan([1, 2, 1], (100,)))
    >>> block = own.block((slice(10, 13),))
    >>> own.run(np.arange(100.0)[block.starts[0] : block.stops[0]], block)
    array([40., 44., 48.])
    """

    def __init__(self, problem: Problem, method: str, form: Form) -> None:
        self.problem, self.method = problem, method
        self.form = replace(form)  # with a cache of its own
        self._turning = _turning(problem, method, form)
        self._forms = ProcessCache(FORMS_KEPT)

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """What runs on a block: this filter itself, or those that it is put together from."""
        return (self,)

    @property
    def own_bytes(self) -> int:
        """What it takes for each sample of a block beside what its `filters` take."""
        return 0

    @property
    def token(self) -> tuple[Any, ...]:
        """What tells this filter from others."""
        dense = None if self.form.separated else self.form.kernel
        return self.problem, self.method, dense, self.form.terms

    def __dask_tokenize__(self) -> Any:
        """Return what Dask names tasks by."""
        return type(self).__qualname__, *self.token

    def with_threads(self, threads: int) -> BlockFilter:
        """Return the same filter with so many threads."""
        return BlockFilter(replace(self.problem, threads=threads), self.method, self.form)

    def block(self, region: Region) -> Block:
        """Return what a region of the result is computed from.

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

    def run(self, samples: Array, block: Block, room: Array | None = None) -> Array:
        """Filter a block.

        Parameters
        ----------
        samples : ndarray
            Of the block's shape and the volume's type.
        block : Block
        room : ndarray, optional
            Of the block's shape and the type of the result: where it is put.

        Returns
        -------
        ndarray
            The region's part of `room` or of a new array, or all of that array.
        """
        wide = self._padded(block.shape)
        fits = room is not None and wide == block.shape
        inner = room if room is not None and fits else empty(wide, self.problem.out)
        source = np.ascontiguousarray(samples)
        if wide != block.shape:
            source = np.zeros(wide, samples.dtype)
            source[tuple(map(slice, block.shape))] = samples
        local = replace(self.problem, shape=wide, modes=block.modes)
        run(local, METHODS[self.method], self._form(local), source, inner)
        if room is not None and inner is not room:
            room[block.crop] = inner[block.crop]
            inner = room
        if all(part == slice(0, n) for part, n in zip(block.crop, inner.shape, strict=True)):
            return inner  # which owns its memory, as a part of it would not
        return inner[block.crop]

    def _form(self, local: Problem) -> Form:
        """The form for blocks of this shape and these borders, with what is prepared for them."""
        key = (local.shape, local.modes)
        found: Form = self._forms.get_or_build(key, lambda: replace(self.form))
        return found

    # Of two axes the engine filters the inner one first where many samples lie inside of it, and it
    # leaves out passes along axes of one sample: a block must not be another case than the whole.

    def least(self, axis: int, reach: int) -> int:
        """How many samples a block needs along a filtered axis."""
        if reach == 0:
            return 1
        return INNER_RUN if any(axis > last for last in self._turning) else 2

    def _padded(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a block with as many inner samples as make no difference."""
        whole = self.problem.shape
        wide = list(shape)
        for last in self._turning:
            for axis in range(last + 1, len(shape)):
                count = math.prod(wide[last + 1 :])
                if count < INNER_RUN <= math.prod(whole[last + 1 :]):
                    wanted = -(-INNER_RUN * wide[axis] // max(1, count))
                    wide[axis] = max(wide[axis], min(wanted, whole[axis]))
        return tuple(wide)


def _turning(problem: Problem, method: str, form: Form) -> tuple[int, ...]:
    """The inner axis of each sweep along two axes, after which the number of samples counts."""
    if method == "fused" and form.terms:
        sweeps = [{problem.axes[axis] for axis, _, _ in stacks_of(problem, form)}]
    elif method == "nested":
        sweeps = [
            {problem.axes[a] for p in root.walk() if p is not root for a in p.axes}
            for root in form.roots
        ]
    else:
        return ()
    return tuple(sorted({max(s) for s in sweeps if len(s) % SWEEP_AXES == 2}))


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
    if chosen.method not in INVARIANT:
        raise ArgumentError(
            f"{chosen.title} gives results that depend on how a volume is cut; take chunkwise(plan)"
        )
    form = chosen.form
    assert form is not None
    found: BlockFilter = form.cached.get_or_build(
        "blocks", lambda: BlockFilter(plan.problem, chosen.method, form)
    )
    return found


def needs(plan: Plan | BlockFilter, region: Region) -> tuple[Index, ...]:
    """Return the samples that a region of the result is computed from, for each axis.

    Parameters
    ----------
    plan : Plan or BlockFilter
        For the whole volume.
    region : sequence of slice
        One an axis.

    Returns
    -------
    tuple of slice or ndarray
        A slice where the samples lie side by side, indices where some come from the other side.

    Examples
    --------
    >>> import separable as sep
    >>> p = sep.plan([1, 2, 1], (100,))
    >>> needs(p, (slice(10, 20),)), needs(p, (slice(0, 20),))
    ((slice(9, 21, None),), (slice(0, 21, None),))
    >>> needs(sep.plan([1, 2, 1], (100,), mode="wrap"), (slice(98, 100),))
    (array([97, 98, 99,  0]),)
    """
    found = block_filter(plan)
    block = found.block(region)
    bounds = zip(block.starts, block.stops, strict=True)
    return tuple(found.samples(axis, a, b) for axis, (a, b) in enumerate(bounds))


def filter_block(plan: Plan | BlockFilter, block: Array, region: Region) -> Array:
    """Return a region of the result.

    Parameters
    ----------
    plan : Plan or BlockFilter
        For the whole volume.
    block : ndarray
        The samples that `needs` names.
    region : sequence of slice

    Returns
    -------
    ndarray
        The bits of ``plan(image)[region]`` (of a C-contiguous image).

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
    found = block_filter(plan)
    wanted = found.block(region)
    if block.shape != wanted.shape or block.dtype != found.problem.dtype:
        raise ArgumentError(
            f"`block` must have shape {wanted.shape}, {found.problem.dtype}, for this region; "
            f"got {block.shape}, {block.dtype}. Take what needs(plan, region) names"
        )
    return found.run(block, wanted)


def _paired(problem: Problem, region: Region) -> list[tuple[slice, int]]:
    if len(region) != len(problem.shape):
        raise ArgumentError(
            f"`region` must have one slice for each of {len(problem.shape)} axes; got {len(region)}"
        )
    return list(zip(region, problem.shape, strict=True))


def _bounds(axis: int, part: slice, n: int) -> tuple[int, int]:
    start, stop, step = part.indices(n)
    inside = part.start is None or 0 <= part.start <= n
    if step != 1 or stop <= start or not inside or (part.stop is not None and part.stop > n):
        raise ArgumentError(
            f"`region` must hold slices of step 1 within the axis, none empty; got {part} for axis "
            f"{axis} of {n} samples"
        )
    return start, stop
