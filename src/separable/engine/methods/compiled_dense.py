"""Small dense kernels over two axes, by the compiled engine: nothing separates, vectors all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.base import Form, Problem, Work
from separable.engine.methods.compiled_separable import SMALL, dense_correlation, one_axis, unlike

__all__ = ["refuse", "run", "work"]

Array = NDArray[Any]

MOST_ROUNDING = 8.0  # halves of eps: sums of short sums, however many weights there are
LARGEST = 1 << 12  # weights; beyond, other methods are always faster


def refuse(problem: Problem, form: Form) -> str:
    """Say why the dense kernel cannot be run compiled, or nothing."""
    if form.weights.ndim > 2:
        return "the compiled dense filter takes kernels of one or two axes"
    if form.weights.size > LARGEST:
        return f"the compiled dense filter takes at most {LARGEST} weights"
    return unlike(problem)


def work(problem: Problem, form: Form) -> Work:
    """Count what the dense kernel does, zeros included."""
    n = float(problem.size)
    counts = {"call": 1.0, "element": n, "column": n * form.weights.shape[-1]}
    counts["dense tap"] = n * form.weights.size
    if problem.size < SMALL:
        counts = {kind: count * problem.threads for kind, count in counts.items()}
    moved = n * (problem.dtype.itemsize + problem.out.itemsize)
    # A sum of N products in the working type: the roundings of the partial sums.
    eps = float(np.finfo(problem.work).eps)
    rounding = eps / 2 * min(max(2.0, form.weights.size**0.5), MOST_ROUNDING)
    return Work(1, form.multiplications, moved, counts, rounding)


def run(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Run the dense kernel."""
    if not form.kernel.any():
        target[...] = 0
    else:
        dense = form.cached.get_or_build("dense", lambda: _dense(problem, form))
        dense(image, target, problem.threads)
    tick(1.0)


def _dense(problem: Problem, form: Form) -> Any:
    if form.kernel.ndim == 1:
        return one_axis(problem, form.kernel, problem.cval)
    return dense_correlation(problem, form.kernel, (0, 1), problem.lefts)
