"""Small dense kernels over one to three axes, by the compiled engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.method import DENSE, CalibrationCase
from separable.engine.methods.compiled_sweeps import (
    SWEEP_AXES,
    CompiledMethod,
    dense_correlation,
    one_axis,
)

__all__ = ["CompiledDense"]

Array = NDArray[Any]

MOST_ROUNDING = 8.0  # halves of eps: sums of short sums, however many weights there are
LARGEST = 1 << 12  # weights; beyond, other methods are always faster
DTYPES = ("float32", "float64", "uint8", "uint16")


class CompiledDense(CompiledMethod):
    """The dense kernel in one compiled loop."""

    name = "dense"
    title = "compiled, dense"
    explanation = "multiplies every sample below the kernel by its weight, in one compiled loop"
    runs = (DENSE,)
    own_candidate = False
    chunk_invariant = True
    exact_beside_small_weights = True
    runs_on_tensors = True
    overwrites = True
    fallback = "correlate"
    scales_with: ClassVar[Mapping[str, str]] = {
        "call": "numpy_call",
        "element": "memory_copy",
        "column": "fma",
        "dense tap": "fma",
    }

    def refuse_real(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the dense kernel cannot be run compiled, or an empty string."""
        if decomposition.weights.ndim > SWEEP_AXES:
            return "the compiled dense filter takes kernels of one to three axes"
        if decomposition.weights.size > LARGEST:
            return f"the compiled dense filter takes at most {LARGEST} weights"
        return ""

    def estimate_real(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count all weights, zeros included."""
        n = float(problem.size)
        shape = decomposition.weights.shape
        columns = shape[-1] * (shape[0] if len(shape) == SWEEP_AXES else 1)
        counts = {"call": 1.0, "element": n, "column": n * columns}
        counts["dense tap"] = n * decomposition.weights.size
        moved = n * (problem.dtype.itemsize + problem.out.itemsize)
        # A sum of N products in the working type: the roundings of the partial sums.
        eps = float(np.finfo(problem.work).eps)
        rounding = eps / 2 * min(max(2.0, decomposition.weights.size**0.5), MOST_ROUNDING)
        return WorkEstimate(1, decomposition.multiplications, moved, counts, rounding)

    def build(self, problem: Problem, decomposition: Decomposition) -> Any:
        """Return the compiled dense filter, or None if all weights are 0."""
        kernel = decomposition.kernel
        if not kernel.any():
            return None
        if kernel.ndim == 1:
            return one_axis(problem, kernel, problem.cval)
        return dense_correlation(problem, kernel, range(kernel.ndim), problem.lefts)

    def scratch_bytes(self, problem: Problem, decomposition: Decomposition) -> int:
        """Return 0: the loop reads the image and writes the result."""
        return 0

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield small and large images and kernels."""
        for dtype in DTYPES:
            for size in (3, 5, 9, 15):
                yield CalibrationCase(self.name, dtype, (700, 800), ("general", size, size), (0, 1))
            for side, size in ((64, 5), (2000, 5), (2500, 9)):
                yield CalibrationCase(
                    self.name, dtype, (side, side), ("general", size, size), (0, 1)
                )
            for volume, size in (((40, 60, 60), 5), ((64, 128, 128), 3), ((64, 128, 128), 7)):
                kernel = ("general", size, size, size)
                yield CalibrationCase(self.name, dtype, volume, kernel, (0, 1, 2))
