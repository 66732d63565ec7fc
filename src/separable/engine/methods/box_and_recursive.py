"""Filters whose cost does not depend on the kernel's length: running sums and recursions.

`box`: equal taps are a running sum, restarted so often that nothing drifts: exact.
`recursive`: the taps of a Gaussian are nearly a few damped oscillations: only within a tolerance, by
an error that is measured for the very taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import compiling
from separable.engine.base import Form, Problem, Work, sum_rounding
from separable.engine.gaussian_fit import fit_within
from separable.engine.methods.compiled_separable import SMALL, stacks_of, unlike

__all__ = [
    "recursive_form",
    "refuse_box",
    "refuse_recursive",
    "run_box",
    "run_recursive",
    "work_box",
    "work_recursive",
]

Array = NDArray[Any]

UNEQUAL = 16 * np.finfo(np.float64).eps  # taps of a factored box differ by rounding
VECTOR_BYTES = 64
SHORT = 15  # taps: shorter passes are faster as they are


def refuse_box(problem: Problem, form: Form) -> str:
    """Say why running sums cannot be used, or nothing."""
    if _why_no_line(problem, form):
        return _why_no_line(problem, form)
    for _, taps, _ in stacks_of(problem, form):
        if float(np.ptp(taps)) > UNEQUAL * float(np.max(np.abs(taps))):
            return "the taps are not all equal"
    return ""


def work_box(problem: Problem, form: Form) -> Work:
    """Count what running sums do: three additions an output and axis, whatever the width."""

    def counts(stacks: list[tuple[int, Array, int]]) -> dict[str, float]:
        return {"line element": float(len(stacks))}

    # A running sum rounds as often as a sum of its few samples and of their groups.
    return _work(problem, form, counts, 1.0, lambda taps: 2.0 + sum_rounding(taps))


def run_box(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Run the running sums."""
    box = form.cached.get_or_build("box", lambda: _box(problem, form))
    box(image, target, problem.threads)
    tick(1.0)


def refuse_recursive(problem: Problem, form: Form) -> str:
    """Say why a recursion cannot be used, or nothing."""
    if _why_no_line(problem, form):
        return _why_no_line(problem, form)
    if not form.recursions:
        return "the taps are no Gaussian's, or the tolerance is too small"
    if not np.isfinite(problem.cval):
        return "cval is not finite"
    return ""


def work_recursive(problem: Problem, form: Form) -> Work:
    """Count what the recursions do: a few multiplications for each state, both ways."""
    steps = float(sum(c.operations for c in form.recursions))

    def counts(stacks: list[tuple[int, Array, int]]) -> dict[str, float]:
        return {"line element": float(len(stacks)), "state": steps}

    # Measured with sigma up to 2000, on ramps, which add up what is rounded of the coefficients.
    return _work(problem, form, counts, steps, lambda taps: 16.0 + taps / 16)


def run_recursive(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Run the recursions."""
    lines = form.cached.get_or_build("recursive", lambda: _recursive(problem, form))
    lines(image, target, problem.threads)
    tick(1.0)


def recursive_form(problem: Problem, form: Form, tol: float) -> Form | None:
    """Fit a recursion to each axis of a separable form, within a tolerance of the output.

    Returns
    -------
    Form or None
        With the fitted recursions and the bound they reach; None where there are none.
    """
    if _why_no_line(problem, form):
        return None
    stacks = stacks_of(problem, form)
    if max(taps.shape[1] for _, taps, _ in stacks) < SHORT:
        return None
    limit = (1.0 + tol) ** (1.0 / len(stacks)) - 1.0
    fitted, growth = [], 1.0
    for _, taps, left in stacks:
        if taps.shape[1] != 2 * left + 1:
            return None
        found = fit_within(taps[0], limit)
        if found is None:
            return None
        fitted.append(found[0])
        growth *= 1.0 + found[1]
    bound = form.bound + growth - 1.0
    return replace(form, bound=bound, recursions=tuple(fitted)) if bound <= tol else None


def _why_no_line(problem: Problem, form: Form) -> str:
    if any(len(group) > 1 for group in form.groups) or len(form.terms) != 1:
        return "there is more than one term"
    return unlike(problem)


def _work(
    problem: Problem,
    form: Form,
    count: Callable[[list[tuple[int, Array, int]]], dict[str, float]],
    multiplications: float,
    rounding_of_axis: Callable[[int], float],
) -> Work:
    stacks = stacks_of(problem, form) if not _why_no_line(problem, form) else []
    n = float(problem.size)
    counts = {"call": 1.0, "element": n, **{k: n * v for k, v in count(stacks).items()}}
    counts = {kind: c * _idle(problem, stacks) for kind, c in counts.items()}
    sweeps = max(1, math.ceil(len(stacks) / 2))
    moved = n * (problem.dtype.itemsize + problem.out.itemsize) * sweeps
    axes = [rounding_of_axis(taps.shape[1]) for _, taps, _ in stacks]
    rounding = math.hypot(1.0, *axes) * float(np.finfo(problem.work).eps) / 2
    return Work(len(stacks), multiplications, moved, counts, rounding)


def _idle(problem: Problem, stacks: list[tuple[int, Array, int]]) -> float:
    """How much longer the work takes where threads or lanes of the vectors have no line to run."""
    if problem.size < SMALL:
        return float(problem.threads)
    lanes = VECTOR_BYTES // problem.work.itemsize
    lines = min(
        (problem.size // problem.shape[problem.axes[a]] for a, _, _ in stacks), default=lanes
    )
    return problem.threads * lanes / lines if lines < lanes else 1.0


def _lines(problem: Problem, form: Form) -> tuple[list[int], list[int], list[Any], list[Array]]:
    """Axes, lefts, border maps and taps of the filtered axes."""
    stacks = stacks_of(problem, form)
    axes = [problem.axes[a] for a, _, _ in stacks]
    lefts = [left for _, _, left in stacks]
    borders = [
        problem.modes[a].extension(problem.shape[axis], left, taps.shape[1] - 1 - left)
        for (a, taps, left), axis in zip(stacks, axes, strict=True)
    ]
    return axes, lefts, borders, [taps[0] for _, taps, _ in stacks]


def _box(problem: Problem, form: Form) -> Any:
    with compiling:
        from separable.engine.compiled.box_filter import box_lines
    axes, lefts, borders, taps = _lines(problem, form)
    widths, scales = [len(t) for t in taps], [float(np.mean(t)) for t in taps]
    outside = float(np.real(problem.cval))
    return box_lines(problem.shape, axes, widths, lefts, borders, outside, scales, problem.work)


def _recursive(problem: Problem, form: Form) -> Any:
    with compiling:
        from separable.engine.compiled.recursive_filter import recursive_lines
    axes, lefts, borders, _ = _lines(problem, form)
    outside = float(np.real(problem.cval))
    return recursive_lines(
        problem.shape, axes, form.recursions, lefts, borders, outside, problem.work
    )
