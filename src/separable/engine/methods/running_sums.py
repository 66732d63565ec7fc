"""Running sums: a box filter whose cost does not depend on its width.

The sums are restarted so often that no rounding accumulates: the result is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import compiling
from separable.engine.base import Decomposition, Problem, WorkEstimate, sum_rounding
from separable.engine.method import TERMS, CalibrationCase
from separable.engine.methods.compiled_sweeps import CompiledMethod, in_samples, taps_per_axis
from separable.engine.methods.line_filters import (
    LINE_SCALES,
    line_estimate,
    line_parameters,
    line_refusal,
)

__all__ = ["RunningSums"]

Array = NDArray[Any]

UNEQUAL = 16 * np.finfo(np.float64).eps  # taps of a factored box differ by rounding


class RunningSums(CompiledMethod):
    """Running sums along each axis."""

    name = "box"
    title = "running sums"
    kernels = "boxes: kernels of one term with equal weights along every axis"
    explanation = "joins partial sums of blocks: three additions per output and axis for any width"
    runs = (TERMS,)
    most_terms = 1
    overwrites = True
    fallback = "passes"
    scales_with = LINE_SCALES

    def decompose(
        self, problem: Problem, decomposition: Decomposition, tol: float | None
    ) -> Decomposition | None:
        """Return the decomposition itself if all taps along each axis are equal."""
        if not decomposition.terms or self.refuse(problem, decomposition):
            return None
        return decomposition

    def refuse_real(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why running sums cannot be used, or an empty string."""
        if line_refusal(problem, decomposition):
            return line_refusal(problem, decomposition)
        for _, taps, _ in taps_per_axis(problem, decomposition):
            if float(np.ptp(taps)) > UNEQUAL * float(np.max(np.abs(taps))):
                return "the taps are not all equal"
        return ""

    def estimate_real(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count three additions per output and axis, whatever the width."""

        def counts(stacks: list[tuple[int, Array, int]]) -> dict[str, float]:
            return {"line element": float(len(stacks))}

        # A running sum rounds as often as a sum of its few samples and of their groups.
        return line_estimate(
            problem, decomposition, counts, 1.0, lambda taps: 2.0 + sum_rounding(taps)
        )

    def build(self, problem: Problem, decomposition: Decomposition) -> Any:
        """Return the compiled running sums along all axes."""
        with compiling:
            from separable.engine.compiled.box_filter import box_lines
        axes, lefts, borders, taps = line_parameters(problem, decomposition)
        widths, scales = [len(t) for t in taps], [float(np.mean(t)) for t in taps]
        outside = float(np.real(problem.cval))
        box = box_lines(problem.shape, axes, widths, lefts, borders, outside, scales, problem.work)
        return in_samples(box, problem)

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield small and large images, one axis, a volume."""
        for dtype in ("float32", "float64", "uint8"):
            for size in (64, 300, 1000, 2500):
                yield CalibrationCase(self.name, dtype, (size, size), ("box", 51, 51), (0, 1))
            yield CalibrationCase(self.name, dtype, (1500, 1500), ("box", 9), (1,))
            yield CalibrationCase(self.name, dtype, (60, 100, 100), ("box", 15, 15, 15), (0, 1, 2))
