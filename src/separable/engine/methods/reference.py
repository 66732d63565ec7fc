"""The slow oracle: the definition, in float64, one weight at a time. Never planned."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import extend
from separable.engine.base import Form, Problem, Work

__all__ = ["refuse", "run", "work"]

Array = NDArray[Any]


def refuse(problem: Problem, form: Form) -> str:
    """Say why the reference cannot be run; it always can."""
    return ""


def work(problem: Problem, form: Form) -> Work:
    """Count what the definition does."""
    taps = form.weights.size
    moved = float(3 * 8 * taps * problem.size)
    return Work(1, taps, moved, {"call": 1.0}, float(np.finfo(problem.work).eps))


def run(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Compute ``out[i] = sum_j taps[j] * x[i + j - left]``."""
    kind = np.dtype(np.complex128 if problem.work.kind == "c" else np.float64)
    extended = extend(image, problem.axes, problem.widths, problem.modes, problem.cval, kind)
    total = np.zeros(problem.shape, kind)
    for j in itertools.product(*(range(n) for n in form.kernel.shape)):
        if form.kernel[j] == 0:
            continue
        window: list[Any] = [slice(None)] * image.ndim
        for axis, shift in zip(problem.axes, j, strict=True):
            window[axis] = slice(shift, shift + problem.shape[axis])
        total += form.kernel[j] * extended[tuple(window)]
    target[...] = total
    tick(1.0)
