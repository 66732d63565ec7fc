"""The slow oracle: the definition, in float64, one weight at a time. Never planned."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import extend
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.method import DENSE, Method, Progress

__all__ = ["Reference"]

Array = NDArray[Any]


class Reference(Method):
    """The definition of a filter."""

    name = "reference"
    title = "reference"
    explanation = "adds up shifted copies of the image, one per weight, in double precision"
    runs = (DENSE,)
    planned = False
    chunk_invariant = True
    exact_beside_small_weights = True

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count one shifted copy of the image per weight."""
        taps = decomposition.weights.size
        moved = float(3 * 8 * taps * problem.size)
        return WorkEstimate(1, taps, moved, {"call": 1.0}, float(np.finfo(problem.work).eps))

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Compute ``out[i] = sum_j taps[j] * x[i + j - left]``."""
        kind = np.dtype(np.complex128 if problem.work.kind == "c" else np.float64)
        extended = extend(image, problem.axes, problem.widths, problem.modes, problem.cval, kind)
        total = np.zeros(problem.shape, kind)
        for j in itertools.product(*(range(n) for n in decomposition.kernel.shape)):
            if decomposition.kernel[j] == 0:
                continue
            window: list[Any] = [slice(None)] * image.ndim
            for axis, shift in zip(problem.axes, j, strict=True):
                window[axis] = slice(shift, shift + problem.shape[axis])
            total += decomposition.kernel[j] * extended[tuple(window)]
        target[...] = total
        progress(1.0)
