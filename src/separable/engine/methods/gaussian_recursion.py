"""Recursions: a Gaussian filter whose cost does not depend on its width.

The taps of a Gaussian are nearly a sum of a few damped oscillations. The method is offered only within a
tolerance; its error is measured for the very taps that it replaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import compiling
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.gaussian_fit import fit_within
from separable.engine.method import TERMS, CalibrationCase, TermSizes
from separable.engine.methods.compiled_sweeps import (
    CompiledMethod,
    in_samples,
    taps_per_axis,
)
from separable.engine.methods.line_filters import (
    LINE_SCALES,
    line_estimate,
    line_parameters,
    line_refusal,
)

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["GaussianRecursion"]

Array = NDArray[Any]

LEAST_OPERATIONS = 21  # multiply-adds per sample of a recursion of order 4, forth and back
SHORT = 15  # taps: shorter passes are faster as they are


class GaussianRecursion(CompiledMethod):
    """Recursions along each axis."""

    name = "recursive"
    title = "Gaussian recursion"
    kernels = "long Gaussians, where `tol` is given and allows their approximation"
    explanation = "approximates Gaussian taps by damped oscillations, each a recursion both ways"
    runs = (TERMS,)
    most_terms = 1
    overwrites = True
    fallback = "passes"
    scales_with: ClassVar[Mapping[str, str]] = {**LINE_SCALES, "line element": "fma"}
    spreads_nan = True

    def decompose(
        self, problem: Problem, decomposition: Decomposition, tol: float | None
    ) -> Decomposition | None:
        """Fit a recursion to each axis of a separable decomposition, within a tolerance of the output.

        Returns
        -------
        Decomposition or None
            Decomposition with the fitted recursions and their bound; None if there are none.
        """
        if not tol or not decomposition.terms or line_refusal(problem, decomposition):
            return None
        if decomposition.weights.dtype.kind == "c":
            return None
        stacks = taps_per_axis(problem, decomposition)
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
        bound = decomposition.bound + growth - 1.0
        if bound > tol:
            return None
        return replace(decomposition, bound=bound, recursions=tuple(fitted))

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return the time of a recursion of the lowest order along one axis."""
        n = float(problem.size)
        counts = {"call": 1.0, "element": n, "line element": n, "state": n * LEAST_OPERATIONS}
        return self.seconds(machine, problem, counts)

    def refuse_real(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why a recursion cannot be used, or an empty string."""
        if line_refusal(problem, decomposition):
            return line_refusal(problem, decomposition)
        if not decomposition.recursions:
            return "the taps are not those of a Gaussian, or the tolerance is too small"
        if not np.isfinite(problem.cval):
            return "cval is not finite"
        return ""

    def estimate_real(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count a few multiplications per state of the recursion, forth and back."""
        steps = float(sum(c.operations for c in decomposition.recursions))

        def counts(stacks: list[tuple[int, Array, int]]) -> dict[str, float]:
            return {"line element": float(len(stacks)), "state": steps}

        # Measured with sigma up to 2000, on ramps, which add up what is rounded of the coefficients.
        return line_estimate(problem, decomposition, counts, steps, lambda taps: 16.0 + taps / 16)

    def build(self, problem: Problem, decomposition: Decomposition) -> Any:
        """Return the compiled recursions along all axes."""
        with compiling:
            from separable.engine.compiled.recursive_filter import recursive_lines
        axes, lefts, borders, _ = line_parameters(problem, decomposition)
        outside = float(np.real(problem.cval))
        lines = recursive_lines(
            problem.shape, axes, decomposition.recursions, lefts, borders, outside, problem.work
        )
        return in_samples(lines, problem)

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield small and large images, one axis, a volume."""
        for dtype in ("float32", "float64", "uint8"):
            for size in (64, 300, 1000, 2500):
                yield CalibrationCase(self.name, dtype, (size, size), ("gaussian", 8, 8), (0, 1))
            yield CalibrationCase(self.name, dtype, (1500, 1500), ("gaussian", 20), (1,))
            yield CalibrationCase(
                self.name, dtype, (60, 100, 100), ("gaussian", 6, 6, 6), (0, 1, 2)
            )
