"""Blocks of a volume, filtered as the whole would be: bit for bit, for every border.

What is computed: ``plan(image)[region]`` from as few samples of the image as it depends on. How: the
block goes through the method and the form that the plan for the whole has chosen. At an edge of the
image the block has that edge and the engine its border mode, for what lies outside is carried through
the passes; elsewhere the block reaches as far as the kernel does, and what was computed without
neighbours is cut off. Where ``wrap`` takes samples from the other side they are gathered by index.

That gives the same bits because each output is summed in the same order wherever it stands. Running
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

from separable.engine import METHODS, Decomposition, Problem
from separable.engine.result_memory import empty
from separable.errors import ArgumentError
from separable.plan import Plan
from separable.plan.planned_filter import fastest
from separable.process_cache import ProcessCache
from separable.run import run

__all__ = [
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
    """What a region of the result is computed from.

    Attributes
    ----------
    starts, stops : tuple of int
        The samples along each axis; below 0 or beyond the size they are those of the other side.
    modes : tuple of str
        The border modes that the engine gets, for each axis of the kernel.
    crop : tuple of slice
        Where the region stands in the block.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    modes: tuple[str, ...]
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
            least = self.least(axis, left + right)
            if problem.modes[k] == "wrap":
                around = _around(n, start - left, stop + right, least)
                starts[axis], stops[axis], modes[k] = *around, _open_mode(n, around)
                continue
            inside = _inside(n, start, stop, left, right, problem.modes[k])
            starts[axis], stops[axis] = _at_least(n, inside, least)
        crop = tuple(slice(b[0] - a, b[1] - a) for a, b in zip(starts, bounds, strict=True))
        return Block(tuple(starts), tuple(stops), tuple(modes), crop)

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

    def _form(self, local: Problem) -> Decomposition:
        """The form for blocks of this shape and these borders, with what is prepared for them."""
        key = (local.shape, local.modes)
        found: Decomposition = self._forms.get_or_build(key, lambda: replace(self.form))
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
    return tuple(
        index_of(a, b, n)
        for a, b, n in zip(block.starts, block.stops, found.problem.shape, strict=True)
    )


def index_of(start: int, stop: int, n: int) -> Index:
    """Return how to take the samples ``start .. stop - 1`` of an axis that goes round and round."""
    if start >= 0 and stop <= n:
        return slice(start, stop)
    return np.arange(start, stop) % n


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


def _around(n: int, start: int, stop: int, least: int) -> tuple[int, int]:
    """The samples ``start .. stop - 1`` of an axis that wraps; the axis itself if that is less."""
    stop = max(stop, start + least)
    return (start, stop) if stop - start < n else (0, n)


def _open_mode(n: int, around: tuple[int, int]) -> str:
    """The border mode for such a block: what it gives beyond a gathered one is cut off."""
    return "wrap" if around == (0, n) else "nearest"


def _inside(n: int, start: int, stop: int, left: int, right: int, mode: str) -> tuple[int, int]:
    """The samples within the image for ``start .. stop - 1``, those that a border mirrors included."""
    low, high = max(0, start - left), min(n, stop + right)
    once = {"reflect": 0, "mirror": 1}.get(mode)
    if once is not None:
        if start - left < 0:
            high = max(high, min(n, left - start + once))
        if stop + right > n:
            low = min(low, max(0, n - (stop + right - n) - once))
    return low, high


def _at_least(n: int, inside: tuple[int, int], least: int) -> tuple[int, int]:
    """Widen a range within the image to a number of samples."""
    low, high = inside
    high = min(n, max(high, low + least))
    return max(0, min(low, high - least)), high
