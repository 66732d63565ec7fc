"""Nested terms: a pass that several terms begin with is run once, then the rest of them in one sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.borders import carried
from separable.engine.base import (
    Decomposition,
    Pass,
    Problem,
    WorkEstimate,
    rounding_of,
    too_inexact,
)
from separable.engine.method import TERMS, TREE, CalibrationCase, Progress, TermSizes
from separable.engine.methods.compiled_sweeps import (
    CompiledMethod,
    correlation,
    dense_correlation,
    turning,
)
from separable.engine.methods.complex_numbers import kernel_parts
from separable.engine.result_memory import empty
from separable.engine.symmetry import is_folding

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["NestedTerms"]

Array = NDArray[Any]

DTYPES = ("float32", "float64", "uint8", "uint16")


class NestedTerms(CompiledMethod):
    """Shared first passes, then one sweep of the compiled engine for what follows each of them."""

    name = "nested"
    title = "compiled, nested"
    explanation = "runs a pass that several terms begin with once, then their other passes"
    runs = (TERMS, TREE)
    own_candidate = False
    chunk_invariant = True
    exact_beside_small_weights = True
    runs_on_tensors = True
    fallback = "passes"
    compared_as = "fused"
    scales_with: ClassVar[Mapping[str, str]] = {
        "call": "numpy_call",
        "element": "memory_copy",
        "axis element": "fma",
        "added element": "memory_copy",
        "tap": "fma",
        "folded tap": "folded_fma",
        "dense tap": "fma",
    }

    def refuse_real(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the tree of passes cannot be run, or an empty string."""
        roots = decomposition.roots
        followers = [p for root in roots for p in root.walk() if p is not root]
        if any(len(p.axes) > 1 for p in followers) or any(len(r.axes) > 2 for r in roots):
            return "a factor has too many axes"
        return too_inexact(problem, decomposition)

    def estimate_real(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count the shared passes, the sweeps that follow them and the additions."""
        n = float(problem.size)
        roots = decomposition.roots
        counts = {"call": 2.0 * len(roots), "element": 2.0 * n * len(roots)}
        counts |= {"axis element": 0.0, "tap": 0.0, "folded tap": 0.0}
        counts["dense tap"] = n * sum(r.taps.size for r in roots if len(r.axes) > 1)
        for root in roots:
            for p in root.walk():
                if len(p.axes) > 1:
                    continue
                counts["axis element"] += n
                counts["folded tap" if is_folding(p.taps) else "tap"] += n * p.taps.size
        counts["added element"] = n * max(0, len(roots) - 1)
        moved = n * problem.work.itemsize * 7 * len(roots)
        return WorkEstimate(
            len(decomposition.passes),
            decomposition.multiplications,
            moved,
            counts,
            rounding_of(problem, decomposition, compiled=True),
        )

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return the time of one root that all terms share, or of one root per term."""
        n = float(problem.size)
        roots = 1 if kind == TREE else max(1, sizes.terms)
        counts = {"call": 2.0 * roots, "element": 2.0 * n * roots, "axis element": n * sizes.terms}
        return self.seconds(machine, problem, counts)

    def run_real(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Run each root once, then what follows it in one sweep, and add."""
        if not decomposition.roots:
            target[...] = 0
            progress(1.0)
            return
        total = empty(problem.shape, problem.work) if target.dtype != problem.work else target
        shared = empty(problem.shape, problem.work)
        rest = empty(problem.shape, problem.work)
        cached = decomposition.cached.get_or_build
        threads = cached("threads", lambda: self.threads(problem, decomposition))
        for k, root in enumerate(decomposition.roots):
            out = rest if k else total
            first = cached(f"root {k}", partial(_one_pass, problem, root, problem.cval))
            if root.then:
                follow = cached(f"rest {k}", partial(_followers, problem, root))
                first(image, shared, threads)
                follow(shared, out, threads)
            else:
                first(image, out, threads)
            if k:
                np.add(total, rest, out=total)
            progress(1.0 / len(decomposition.roots))

    def stores(self, dtype: np.dtype[Any]) -> bool:
        """Return False: the roots are added in the working type."""
        return False

    def scratch_bytes(self, problem: Problem, decomposition: Decomposition) -> int:
        """Return the bytes per sample: the output of the shared pass and that of one root."""
        return 2 * problem.work.itemsize

    def turning_axes(self, problem: Problem, decomposition: Decomposition) -> tuple[int, ...]:
        """Return the inner axes of the sweeps along two axes."""
        return turning(
            [
                {problem.axes[a] for p in root.walk() if p is not root for a in p.axes}
                for part in kernel_parts(problem, decomposition)
                if part
                for root in part.roots
            ]
        )

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield volumes of several sizes; the passes of a ball are folded."""
        for dtype in DTYPES:
            for volume, kernel in (
                ((40, 60, 60), ("full", 5, 3, 7)),
                ((40, 60, 60), ("partial", 5, 5, 5)),
                ((100, 160, 160), ("full", 5, 3, 7)),
                ((100, 160, 160), ("partial", 5, 5, 5)),
                ((40, 60, 60), ("full", 3, 3, 3)),
                ((20, 300, 300), ("full", 3, 9, 9)),
                ((40, 60, 60), ("ball", 3)),
                ((64, 64, 64), ("ball", 5)),
            ):
                yield CalibrationCase(self.name, dtype, volume, kernel, (0, 1, 2))


def _one_pass(problem: Problem, p: Pass, cval: complex) -> Any:
    if len(p.axes) > 1:
        return dense_correlation(problem, p.taps, p.axes, p.lefts)
    return correlation(problem, [[p.taps]], p.axes, p.lefts, cval)


def _flattened(root: Pass) -> list[list[Pass]]:
    """Return the chains of passes from below a root to each leaf."""
    chains: list[list[Pass]] = []

    def follow(p: Pass, before: list[Pass]) -> None:
        if not p.then:
            chains.append([*before, p])
        for child in p.then:
            follow(child, [*before, p])

    for child in root.then:
        follow(child, [])
    return chains or [[]]


def _followers(problem: Problem, root: Pass) -> Any:
    """Return one sweep for all chains below a root.

    Along each axis all taps get the same length; a chain without a pass there gets the identity.
    """
    chains = _flattened(root)
    axes = sorted({p.axes[0] for c in chains for p in c}, key=lambda a: problem.axes[a])
    lefts = [max(p.lefts[0] for c in chains for p in c if p.axes[0] == a) for a in axes]
    terms = []
    sizes = []
    for a, left in zip(axes, lefts, strict=True):
        own = [p for c in chains for p in c if p.axes[0] == a]
        sizes.append(max(left - p.lefts[0] + p.taps.size for p in own))
    for chain in chains:
        by_axis = {p.axes[0]: p for p in chain}
        row = []
        for a, left, size in zip(axes, lefts, sizes, strict=True):
            taps = np.zeros(size)
            if a in by_axis:
                p = by_axis[a]
                taps[left - p.lefts[0] : left - p.lefts[0] + p.taps.size] = p.taps
            else:
                taps[left] = 1.0
            row.append(taps)
        terms.append(row)
    return correlation(problem, terms, axes, lefts, carried(problem.cval, root.taps))
