"""All passes of all terms in one sweep, by the compiled engine.

What is computed: the sum of the terms, each the successive correlations along the axes, written once
in the output's own type. How: `engine/compiled/`, which is imported when it first runs, for Numba takes
a third of a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from separable.engine.base import (
    Decomposition,
    Problem,
    WorkEstimate,
    rounding_of,
    too_inexact,
)
from separable.engine.method import TERMS, CalibrationCase, TermSizes
from separable.engine.methods.compiled_sweeps import (
    SWEEP_AXES,
    CompiledMethod,
    correlation,
    taps_per_axis,
    turning,
)
from separable.engine.methods.complex_numbers import kernel_parts
from separable.engine.symmetry import count_folding

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["FusedTerms"]

Array = NDArray[Any]

MOST_TERMS = 1 << 12
# Three taps along the last axis are filtered along whole rows, which takes half of the time (measured with vectors of
# 512 and of 256 bits); see `separable.engine.compiled.row_tiling`.
ROWS_TAPS, ROWS_BYTES, ROWS_SHARE = 3, 8 << 20, 0.25
DTYPES = ("float32", "float64", "uint8", "uint16")


class FusedTerms(CompiledMethod):
    """All terms in one sweep of the compiled engine."""

    name = "fused"
    title = "compiled"
    explanation = "runs all 1-D passes of all terms tile by tile, in one compiled sweep"
    runs = (TERMS,)
    own_candidate = False
    chunk_invariant = True
    exact_beside_small_weights = True
    runs_on_tensors = True
    splits_into_stages = True
    overwrites = True
    fallback = "passes"
    scales_with: ClassVar[Mapping[str, str]] = {
        "call": "numpy_call",
        "element": "memory_copy",
        "axis element": "fma",
        "plane": "cached_copy",
        "tap": "fma",
        "folded tap": "folded_fma",
    }

    def refuse_real(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the terms cannot be run in one sweep, or an empty string."""
        if any(len(group) > 1 for group in decomposition.groups):
            return "a factor has several axes"
        if len(decomposition.terms) > MOST_TERMS:
            return f"{len(decomposition.terms)} terms are too many for one sweep"
        return too_inexact(problem, decomposition)

    def estimate_real(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count the taps of all terms along each axis; one sweep filters along up to three axes."""
        n = float(problem.size)
        passes = len(decomposition.passes)
        rounding = rounding_of(problem, decomposition, compiled=True)
        multiplications = decomposition.multiplications
        if any(len(group) > 1 for group in decomposition.groups):  # refused: nothing to predict
            return WorkEstimate(passes, multiplications, math.nan, {}, rounding)
        stacks = taps_per_axis(problem, decomposition)
        terms = max(1, len(decomposition.terms))
        axes = _axes_that_count(problem, stacks, terms)
        counts = {"call": 1.0, "element": n, "axis element": n * terms * axes}
        counts |= {"tap": 0.0, "folded tap": 0.0, "plane": 0.0}
        if len(stacks) > 2:
            counts["plane"] = n * terms
        for _, taps, _ in stacks:
            folding, size = count_folding(taps), taps.shape[1]
            counts["folded tap"] += n * (folding * size)
            counts["tap"] += n * ((len(taps) - folding) * size)
        sweeps = math.ceil(len(stacks) / SWEEP_AXES) or 1
        moved = n * (problem.dtype.itemsize + problem.out.itemsize) * sweeps
        return WorkEstimate(passes, multiplications, moved, counts, rounding)

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return the time of the taps, all mirrored or none."""
        n = float(problem.size)
        axes = sizes.terms if sizes.terms > 1 else ROWS_SHARE
        counts = {"call": 1.0, "element": n, "axis element": n * axes}
        taps = ({"tap": n * sizes.taps}, {"folded tap": n * sizes.taps})
        return min(self.seconds(machine, problem, counts | own) for own in taps)

    def build(self, problem: Problem, decomposition: Decomposition) -> Any:
        """Return the compiled sweep of all terms, or None if there are none."""
        if not decomposition.terms:
            return None
        stacks = taps_per_axis(problem, decomposition)
        terms = [[taps[t] for _, taps, _ in stacks] for t in range(len(decomposition.terms))]
        return correlation(
            problem, terms, [s[0] for s in stacks], [s[2] for s in stacks], problem.cval
        )

    def scratch_bytes(self, problem: Problem, decomposition: Decomposition) -> int:
        """Return the bytes per sample: one sweep needs tiles only, several sweeps arrays of a slab."""
        return 3 * problem.work.itemsize if len(problem.axes) > SWEEP_AXES else 0

    def turning_axes(self, problem: Problem, decomposition: Decomposition) -> tuple[int, ...]:
        """Return the inner axis of a sweep along two axes."""
        parts = [part for part in kernel_parts(problem, decomposition) if part]
        return turning(
            [{problem.axes[axis] for axis, _, _ in taps_per_axis(problem, part)} for part in parts]
        )

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield small and large images, few and many taps, each axis, several terms, volumes."""
        for dtype in DTYPES:
            for shape, kernel, axes in _cases():
                yield CalibrationCase(self.name, dtype, shape, kernel, axes)


def _axes_that_count(problem: Problem, stacks: list[tuple[int, Array, int]], terms: int) -> float:
    """Return the number of axes that take time beside their taps: less than all where nothing is transposed."""
    axes = float(max(1, len(stacks)))
    if terms > 1 or not 0 < len(stacks) < SWEEP_AXES:
        return axes
    axis, taps, _ = stacks[-1]
    last = len(problem.shape) - (2 if problem.pairs else 1)
    along_rows = problem.axes[axis] == last and taps.shape[1] <= ROWS_TAPS
    small = problem.size * problem.out.itemsize < ROWS_BYTES
    return axes * ROWS_SHARE if along_rows and small else axes


def _cases() -> Iterator[tuple[Any, Any, Any]]:
    """Yield image shapes, kernels and filtered axes."""
    for shape in ((64, 64), (300, 300), (1000, 1000), (2500, 2500)):
        for kind, taps in (("even", 3), ("even", 17), ("general", 31), ("even", 101)):
            if shape[0] < 2500 or taps < 30:
                yield shape, (kind, taps, taps), (0, 1)
    for taps in (51, 241):
        yield (600, 600), ("even", taps, taps), (0, 1)
        yield (1500, 1500), ("even", taps, taps), (0, 1)
    for axis in (0, 1):
        yield (1500, 1500), ("even", 17), (axis,)
        yield (1500, 1500), ("general", 5), (axis,)
    yield (1200, 1200), ("rank2", 21, 21), (0, 1)
    yield (300, 300), ("rank2", 9, 9), (0, 1)
    yield (300, 300), ("full", 10, 31), (0, 1)
    yield (1000, 1000), ("full", 10, 31), (0, 1)
    for volume in ((40, 60, 60), (100, 160, 160)):
        yield volume, ("even", 17, 17, 17), (0, 1, 2)
        yield volume, ("general", 5, 5, 5), (0, 1, 2)
