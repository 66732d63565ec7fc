"""Filter blocks of a volume; results are bit-identical to filtering the whole, for every border mode.

A block is the part of the image that ``plan(image)[region]`` depends on. It is filtered with the
method and the form of the plan for the whole volume. At an edge of the image, the block ends at
that edge and the engine applies the border mode. Elsewhere the block extends beyond the region by
the reach of the kernel (the halo), and the results in the halo are discarded. For ``wrap``, samples
from the other end of an axis are gathered by index.

Results are bit-identical because each output is summed in the same order wherever it is. This is
not true for running sums, recursions and transforms (`INVARIANT` lists the methods for which it is
true), nor for a choice by size: `chunkwise` chooses the fastest method of a plan whose results do
not depend on how the volume is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
"""Methods that sum every output in the same order, wherever it is in a block."""
INNER_RUN = 32  # `engine.compiled.layout`: from so many inner samples on, two axes change turns
FORMS_KEPT = 32  # number of block shapes whose prepared forms are cached


def chunkwise(plan: Plan) -> Plan:
    """Return the plan with its fastest method whose results do not depend on the blocks.

    Parameters
    ----------
    plan : Plan
        Plan for the whole volume.

    Raises
    ------
    ArgumentError
        If the requested method depends on where a block begins.

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
    """The samples that a region of the result is computed from.

    Attributes
    ----------
    starts, stops : tuple of int
        First and last + 1 of the samples along each axis. Values below 0 or beyond the size mean
        samples from the other end of the axis.
    modes : tuple of str
        Border modes for the engine, one per axis of the kernel.
    crop : tuple of slice
        Position of the region in the block.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    modes: tuple[str, ...]
    crop: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return tuple(b - a for a, b in zip(self.starts, self.stops, strict=True))


class BlockFilter:
    """The filter of one volume, which runs on its blocks; small, and can be pickled.

    Parameters
    ----------
    problem : Problem
        Problem of the whole volume.
    method : str
        Name of the engine method, one of `INVARIANT`.
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
        self.form = replace(form)  # with a separate cache
        self._turning = _turning(problem, method, form)
        self._forms = ProcessCache(FORMS_KEPT)

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """Filters that run on a block: this filter, or those that it consists of."""
        return (self,)

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block in addition to those of its `filters`."""
        return 0

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        dense = None if self.form.separated else self.form.kernel
        return self.problem, self.method, dense, self.form.terms

    def __dask_tokenize__(self) -> Any:
        """Return the values that Dask derives task names from."""
        return type(self).__qualname__, *self.token

    def with_threads(self, threads: int) -> BlockFilter:
        """Return the same filter with another number of threads."""
        return BlockFilter(replace(self.problem, threads=threads), self.method, self.form)

    def block(self, region: Region) -> Block:
        """Return the block that a region of the result is computed from.

        Raises
        ------
        ArgumentError
            If the region is empty or not within the volume.
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

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block.

        Parameters
        ----------
        samples : ndarray
            Samples with the shape of the block and the dtype of the volume.
        block : Block
        out : ndarray, optional
            Output array with the shape of the block and the dtype of the result.

        Returns
        -------
        ndarray
            The region as a view of `out` or of a new array.
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
            return inner  # the array itself, because a view would not own its memory
        return inner[block.crop]

    def _form(self, local: Problem) -> Form:
        """Return the form for blocks of this shape and these border modes, with its own cache."""
        key = (local.shape, local.modes)
        found: Form = self._forms.get_or_build(key, lambda: replace(self.form))
        return found

    # The engine chooses the order of two axes by the number of samples inside the inner one, and it
    # skips passes along axes of length 1. A block must lead to the same choices as the whole volume.

    def least(self, axis: int, reach: int) -> int:
        """Return the smallest number of samples of a block along a filtered axis."""
        if reach == 0:
            return 1
        return INNER_RUN if any(axis > last for last in self._turning) else 2

    def _padded(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a block, enlarged until the engine orders its axes as for the whole."""
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
    """Return the inner axis of each sweep along two axes, whose order depends on the shape."""
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
    """Return the filter of a plan for a whole volume, which runs on its blocks.

    Raises
    ------
    ArgumentError
        If results of the method depend on how a volume is cut; `chunkwise` chooses another.
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
    """Return indices of the samples that a region of the result is computed from, per axis.

    Parameters
    ----------
    plan : Plan or BlockFilter
        Plan for the whole volume.
    region : sequence of slice
        One slice per axis.

    Returns
    -------
    tuple of slice or ndarray
        A slice if the samples are contiguous, indices if some are from the other end of the axis.

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
    """Return the index of the samples ``start .. stop - 1`` of a periodic axis."""
    if start >= 0 and stop <= n:
        return slice(start, stop)
    return np.arange(start, stop) % n


def filter_block(plan: Plan | BlockFilter, block: Array, region: Region) -> Array:
    """Filter a block and return its region of the result.

    Parameters
    ----------
    plan : Plan or BlockFilter
        Plan for the whole volume.
    block : ndarray
        The samples that `needs` returns.
    region : sequence of slice

    Returns
    -------
    ndarray
        Bit-identical to ``plan(image)[region]`` for a C-contiguous image.

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
            f"got {block.shape}, {block.dtype}. Use image[needs(plan, region)]"
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
