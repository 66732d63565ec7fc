"""A filter as several, one after the other: the same bits with a smaller halo each.

What is computed: the passes of one separable term in the order in which the engine runs them, cut into
stages with intermediates of the working type, as the engine's own are. Where the halo of all axes
together would not fit into the memory, that of one axis does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import NEAREST
from separable.engine import METHODS, Decomposition, Kernel, Problem
from separable.engine.methods.compiled_sweeps import SWEEP_AXES, taps_per_axis
from separable.factors import Factors
from separable.plan.candidates import filter_pattern
from separable.run import run
from separable.volumes.halo import BlockFilter

__all__ = ["groupings", "pass_order"]

Array = NDArray[Any]
Stack = tuple[int, Array, int]  # an axis of the kernel, its taps, how many of them lie left


def groupings(whole: BlockFilter) -> Iterator[tuple[BlockFilter, ...]]:
    """Yield the ways to run a filter in stages, the filter itself first.

    Parameters
    ----------
    whole : BlockFilter

    Examples
    --------
    >>> import separable as sep
    >>> from separable.volumes.halo import block_filter
    >>> p = sep.plan(sep.kernels.gaussian(1, ndim=3), (64, 64, 64), "uint8")
    >>> for stages in groupings(block_filter(p)):
    ...     print([f.problem.axes for f in stages])
    [(0, 1, 2)]
    [(1, 2), (0,)]
    [(1,), (2,), (0,)]
    """
    yield (whole,)
    problem, form = whole.problem, whole.form
    if (
        not METHODS[whole.method].splits_into_stages
        or len(form.terms) != 1
        or whole.filters != (whole,)
    ):
        return
    stacks = [(axis, taps[0], left) for axis, taps, left in taps_per_axis(problem, form)]
    if len(stacks) > SWEEP_AXES:  # more than one sweep, each told anew what lies outside
        return
    order = [k for k, _ in _passes(problem.shape, [problem.axes[a] for a, _, _ in stacks])]
    for lengths in _cuts(len(order)):
        ends = np.cumsum([0, *lengths]).tolist()
        groups = [order[a:b] for a, b in itertools.pairwise(ends)]
        if len(groups) > 1 and all(_is_a_sweep(problem, stacks, g, order) for g in groups):
            yield tuple(_stages(whole.method, problem, stacks, groups))


def pass_order(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return the order in which the engine filters one to three ascending axes of an array in C order.

    Examples
    --------
    >>> pass_order((64, 64, 64), (0, 1, 2)), pass_order((64, 64, 64), (0, 1))
    ([1, 2, 0], [1, 0])
    """
    return [axes[k] for k, _ in _passes(shape, axes)]


def _passes(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """The passes of a sweep: which axis, and whether it streams through a ring of planes."""
    from separable.engine.compiled.axis_layout import arrange

    strides = tuple(math.prod(shape[a + 1 :]) for a in range(len(shape)))
    roles = arrange(tuple(shape), strides, strides, tuple(axes))
    parts = ((roles.y, False), (roles.x, False), (roles.z, True))
    return [(r.filtered, z) for r, z in parts if r is not None and r.filtered >= 0]


def _cuts(count: int) -> Iterator[tuple[int, ...]]:
    """The ways to cut so many passes into stages, few stages first."""
    found = [
        tuple(len(part) for part in bits.split("|"))
        for bits in (
            "".join("." + ("|" if cut >> i & 1 else "") for i in range(count - 1)) + "."
            for cut in range(1 << max(0, count - 1))
        )
    ]
    yield from sorted(found, key=lambda lengths: (len(lengths), [-n for n in lengths]))


def _is_a_sweep(
    problem: Problem, stacks: Sequence[Stack], group: Sequence[int], order: Sequence[int]
) -> bool:
    """Whether the engine runs these passes, alone, in the same order and with the same borders."""
    ascending = sorted(group)
    passes = _passes(problem.shape, [problem.axes[stacks[k][0]] for k in ascending])
    if [ascending[k] for k, _ in passes] != list(group):
        return False
    # A ring is told what lies outside as it was before the first pass: that must be among these.
    told = len(group) > 1 and any(ring for _, ring in passes)
    return not told or group[0] == order[0] or not _constant(problem)


def _constant(problem: Problem) -> bool:
    return problem.cval != 0 and problem.fills


def _stages(
    method: str, problem: Problem, stacks: Sequence[Stack], groups: Sequence[Sequence[int]]
) -> Iterator[BlockFilter]:
    outside = _carried(method, problem, stacks)
    for number, group in enumerate(groups):
        ascending = sorted(group)
        taps = [stacks[k][1] for k in ascending]
        axes = [stacks[k][0] for k in ascending]
        part = replace(
            problem,
            dtype=problem.work if number else problem.dtype,
            out=problem.work if number < len(groups) - 1 else problem.out,
            axes=tuple(problem.axes[a] for a in axes),
            kernel_shape=tuple(t.size for t in taps),
            lefts=tuple(stacks[k][2] for k in ascending),
            modes=tuple(problem.modes[a] for a in axes),
            cval=outside[group[0]],
            exponent=problem.exponent if number == len(groups) - 1 else 0,
        )
        given = Factors.from_terms(filter_pattern(len(taps)), [taps]) if taps[1:] else taps[0]
        factors = tuple((k,) for k in range(len(taps)))
        yield BlockFilter(
            part,
            method,
            Decomposition(Kernel(given), terms=(tuple(taps),), separated=True, groups=factors),
        )


def _carried(method: str, problem: Problem, stacks: Sequence[Stack]) -> dict[int, complex]:
    """What lies outside before each pass, to the last bit as in the sweeps of the whole filter.

    A sweep sees it as samples of a plane that are filtered like any other; a ring is told it.
    """
    outside: dict[int, complex] = dict.fromkeys(range(len(stacks)), problem.cval)
    if not _constant(problem):
        return outside
    told, seen = np.full(1, np.real(problem.cval)), np.full(1, np.real(problem.cval))
    seen = seen.astype(problem.work)
    for k, ring in _passes(problem.shape, [problem.axes[a] for a, _, _ in stacks]):
        outside[k] = float(told[0] if ring else seen[0])
        with np.errstate(invalid="ignore", over="ignore"):
            told = told * stacks[k][1].sum()
        seen = _filtered(method, problem, stacks[k], seen)
    return outside


def _filtered(method: str, problem: Problem, stack: Stack, value: Array) -> Array:
    """What the engine makes of samples that all have this value."""
    _, taps, left = stack
    form = Decomposition(Kernel(taps), terms=((taps,),), separated=True, groups=((0,),))
    line = replace(
        problem, shape=(2,), dtype=problem.work, out=problem.work, axes=(0,),
        kernel_shape=taps.shape, lefts=(left,), modes=(NEAREST,), cval=0.0, threads=1,
        exponent=0,
    )  # fmt: skip
    return run(line, METHODS[method], form, np.repeat(value, 2))[:1]
