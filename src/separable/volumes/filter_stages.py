"""Split a filter into several that run one after the other, with smaller halos and equal results.

The passes of one separable term run in the order in which the engine runs them, cut into stages.
Intermediate results have the working dtype, as they do within the engine. If the halo of all axes
together does not fit into memory, the halo of one axis does.
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
from separable.pattern import filter_pattern
from separable.run import run
from separable.volumes.halo import BlockFilter

__all__ = ["groupings", "pass_order"]

Array = NDArray[Any]
Stack = tuple[int, Array, int]  # (axis of the kernel, taps, number of taps left of the centre)


def groupings(volume_filter: BlockFilter) -> Iterator[tuple[BlockFilter, ...]]:
    """Yield the ways to run a filter in stages, the filter itself first.

    Parameters
    ----------
    volume_filter : BlockFilter

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
    yield (volume_filter,)
    problem, form = volume_filter.problem, volume_filter.form
    if (
        not METHODS[volume_filter.method].splits_into_stages
        or len(form.terms) != 1
        or form.weights.dtype.kind == "c"  # one complex term is a sum of real ones
        or volume_filter.filters != (volume_filter,)
    ):
        return
    stacks = [(axis, taps[0], left) for axis, taps, left in taps_per_axis(problem, form)]
    if len(stacks) > SWEEP_AXES:  # more than one sweep, each with its own border value
        return
    order = [k for k, _ in _passes(problem.shape, [problem.axes[a] for a, _, _ in stacks])]
    for lengths in _cuts(len(order)):
        ends = np.cumsum([0, *lengths]).tolist()
        groups = [order[a:b] for a, b in itertools.pairwise(ends)]
        if len(groups) > 1 and all(_is_a_sweep(problem, stacks, g, order) for g in groups):
            yield tuple(_stages(volume_filter.method, problem, stacks, groups))


def pass_order(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Return the order in which the engine filters one to three axes of an array in C order.

    The axes must be ascending.

    Examples
    --------
    >>> pass_order((64, 64, 64), (0, 1, 2)), pass_order((64, 64, 64), (0, 1))
    ([1, 2, 0], [1, 0])
    """
    return [axes[k] for k, _ in _passes(shape, axes)]


def _passes(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """Return the passes of a sweep: (axis, whether it streams through a ring of planes)."""
    # Imported here for start-up time: this module is imported without the compiled engine.
    from separable.engine.compiled.axis_layout import arrange

    strides = tuple(math.prod(shape[a + 1 :]) for a in range(len(shape)))
    roles = arrange(tuple(shape), strides, strides, tuple(axes))
    parts = ((roles.y, False), (roles.x, False), (roles.z, True))
    return [(r.filtered, z) for r, z in parts if r is not None and r.filtered >= 0]


def _cuts(count: int) -> Iterator[tuple[int, ...]]:
    """Yield the ways to cut `count` passes into stages, few stages first."""
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
    """Return whether the engine runs these passes alone in the same order with equal borders."""
    ascending = sorted(group)
    passes = _passes(problem.shape, [problem.axes[stacks[k][0]] for k in ascending])
    if [ascending[k] for k, _ in passes] != list(group):
        return False
    # A ring uses the border value from before the first pass, so the group must contain that pass.
    uses_first_value = len(group) > 1 and any(ring for _, ring in passes)
    return not uses_first_value or group[0] == order[0] or not _constant(problem)


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
    """Return the border value before each pass, bit-identical to the sweeps of the whole filter.

    Within a plane the border value is filtered like any other sample; for a ring it is computed
    as ``value * sum(taps)``.
    """
    outside: dict[int, complex] = dict.fromkeys(range(len(stacks)), problem.cval)
    if not _constant(problem):
        return outside
    in_ring, in_plane = (np.full(1, np.real(problem.cval)) for _ in range(2))
    in_plane = in_plane.astype(problem.work)
    for k, ring in _passes(problem.shape, [problem.axes[a] for a, _, _ in stacks]):
        outside[k] = float(in_ring[0] if ring else in_plane[0])
        with np.errstate(invalid="ignore", over="ignore"):
            in_ring = in_ring * stacks[k][1].sum()
        in_plane = _filtered(method, problem, stacks[k], in_plane)
    return outside


def _filtered(method: str, problem: Problem, stack: Stack, value: Array) -> Array:
    """Return the result of the engine for samples that all have this value."""
    _, taps, left = stack
    form = Decomposition(Kernel(taps), terms=((taps,),), separated=True, groups=((0,),))
    line = replace(
        problem, shape=(2,), dtype=problem.work, out=problem.work, axes=(0,),
        kernel_shape=taps.shape, lefts=(left,), modes=(NEAREST,), cval=0.0, threads=1,
        exponent=0,
    )  # fmt: skip
    return run(line, METHODS[method], form, np.repeat(value, 2))[:1]
