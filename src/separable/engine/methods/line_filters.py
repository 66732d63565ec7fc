"""Shared parts of running sums and recursions: one term, at a cost that does not depend on its length."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import why_not
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.methods.compiled_sweeps import taps_per_axis

__all__ = ["LINE_SCALES", "line_estimate", "line_parameters", "line_refusal"]

Array = NDArray[Any]

VECTOR_BYTES = 64
LINE_SCALES = {
    "call": "numpy_call",
    "element": "memory_copy",
    "line element": "cached_copy",
    "state": "fma",
}
"""Primitive that each kind of operation is proportional to."""


def line_refusal(problem: Problem, decomposition: Decomposition) -> str:
    """Return why lines cannot be filtered one by one, or an empty string."""
    if any(len(group) > 1 for group in decomposition.groups) or len(decomposition.terms) != 1:
        return "there is more than one term"
    return why_not()


def line_estimate(
    problem: Problem,
    decomposition: Decomposition,
    count: Callable[[list[tuple[int, Array, int]]], dict[str, float]],
    multiplications: float,
    rounding_of_axis: Callable[[int], float],
) -> WorkEstimate:
    """Count operations per sample and axis.

    `count` returns those of one sample from the taps of each axis, `rounding_of_axis` the rounding of
    so many taps in halves of eps.
    """
    stacks = (
        taps_per_axis(problem, decomposition) if not line_refusal(problem, decomposition) else []
    )
    n = float(problem.size)
    counts = {"call": 1.0, "element": n, **{k: n * v for k, v in count(stacks).items()}}
    counts = {kind: c * _idle(problem, stacks) for kind, c in counts.items()}
    sweeps = max(1, math.ceil(len(stacks) / 2))
    moved = n * (problem.dtype.itemsize + problem.out.itemsize) * sweeps
    axes = [rounding_of_axis(taps.shape[1]) for _, taps, _ in stacks]
    rounding = math.hypot(1.0, *axes) * float(np.finfo(problem.work).eps) / 2
    return WorkEstimate(len(stacks), multiplications, moved, counts, rounding)


def _idle(problem: Problem, stacks: list[tuple[int, Array, int]]) -> float:
    """Return the slowdown where there are fewer lines than threads or SIMD lanes."""
    if not problem.size:
        return 1.0
    lanes = VECTOR_BYTES // problem.work.itemsize
    lines = min(
        (problem.size // problem.shape[problem.axes[a]] for a, _, _ in stacks), default=lanes
    )
    return problem.threads * lanes / lines if lines < lanes else 1.0


def line_parameters(
    problem: Problem, decomposition: Decomposition
) -> tuple[list[int], list[int], list[Any], list[Array]]:
    """Return the axes, lefts, border maps and taps of the filtered axes."""
    stacks = taps_per_axis(problem, decomposition)
    axes = [problem.axes[a] for a, _, _ in stacks]
    lefts = [left for _, _, left in stacks]
    borders = [
        problem.modes[a].extension(problem.shape[axis], left, taps.shape[1] - 1 - left)
        for (a, taps, left), axis in zip(stacks, axes, strict=True)
    ]
    return axes, lefts, borders, [taps[0] for _, taps, _ in stacks]
