"""Shared parts of the methods of the compiled engine: types, taps per axis, and the sweeps they build."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import OUTSIDE
from separable.engine.availability import compiling, why_not
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.method import Method, Progress
from separable.engine.methods.complex_numbers import complex_estimate, refuse_parts, run_parts
from separable.machine import Machine, current

__all__ = [
    "SWEEP_AXES",
    "TYPES",
    "CompiledMethod",
    "correlation",
    "dense_correlation",
    "in_samples",
    "one_axis",
    "stores_type",
    "taps_per_axis",
    "turning",
    "worthwhile_threads",
]

Array = NDArray[Any]

TYPES = frozenset(
    ("float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64")
)  # what the compiled engine reads and writes
THREAD_SECONDS = 8e-6  # work that justifies one more thread: a few times what waking it takes
SWEEP_AXES = 3  # most axes that one sweep filters along


def stores_type(dtype: np.dtype[Any]) -> bool:
    """Return whether the compiled engine writes this type itself."""
    return dtype.name in TYPES and dtype.isnative


class CompiledMethod(Method):
    """Base class of the methods of the compiled engine.

    A subclass filters real numbers; complex ones are filtered as real ones, see
    `separable.engine.methods.complex_numbers`.  A method whose work is one compiled filter implements `build`, others
    `run_real`.
    """

    def build(self, problem: Problem, decomposition: Decomposition) -> Any:
        """Return the compiled filter, ``build(...)(image, target, threads)``; None if the result is 0."""
        raise NotImplementedError

    def prepared(
        self, problem: Problem, decomposition: Decomposition
    ) -> Callable[[Array, Array, int], Any] | None:
        """Return the compiled filter if it does without NumPy's operations on samples."""
        if type(self).build is CompiledMethod.build or problem.work.kind == "c":
            return None
        own = self._filter(problem, decomposition)
        return own if own is not None and own.compiled_throughout else None

    def _filter(self, problem: Problem, decomposition: Decomposition) -> Any:
        def build() -> Any:
            own = self.build(problem, decomposition)
            if own is not None:
                own.most_threads = self.threads(problem, decomposition)
            return own

        return decomposition.cached.get_or_build(self.name, build)

    def seconds(self, machine: Machine, problem: Problem, counts: Mapping[str, float]) -> float:
        """Predict the time: on one thread up to the work that justifies two, and never less with more work."""
        alone = machine.predict(self.name, problem.dtype, counts, 1)
        return max(alone / problem.threads, min(alone, 2 * THREAD_SECONDS))

    def threads(
        self,
        problem: Problem,
        decomposition: Decomposition,
        counts: Mapping[str, float] | None = None,
    ) -> int:
        """Return how many threads share the work on this computer, as its profile predicts."""
        if counts is None:
            counts = self.estimate(problem, decomposition).counts
        alone = current().predict(self.name, problem.dtype, counts, 1)
        return worthwhile_threads(alone, problem.threads)

    def timed_counts(self, problem: Problem, decomposition: Decomposition) -> dict[str, float]:
        """Return counts as they take time: fewer threads do more of them each."""
        counts = self.estimate(problem, decomposition).counts
        idle = problem.threads / self.threads(problem, decomposition, counts)
        return {kind: count * idle for kind, count in counts.items()}

    def unavailable(self) -> str:
        """Return why the compiled engine cannot be used, or an empty string."""
        return why_not()

    def stores(self, dtype: np.dtype[Any]) -> bool:
        """Return whether the compiled engine writes this type itself."""
        return stores_type(dtype)

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the compiled engine cannot run a decomposition, or an empty string."""
        if why_not():
            return why_not()
        if problem.work.kind == "c":
            return refuse_parts(problem, decomposition, self.refuse_real)
        return self.refuse_real(problem, decomposition)

    def refuse_real(self, problem: Problem, decomposition: Decomposition) -> str:
        """Do as `refuse` for real numbers, where the compiled engine is available."""
        return ""

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count what the method does for real numbers, for all parts of complex ones."""
        if problem.work.kind == "c" and not refuse_parts(problem, decomposition, self.refuse_real):
            return complex_estimate(problem, decomposition, self.estimate_real)
        return self.estimate_real(problem, decomposition)

    def estimate_real(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Do as `estimate` for real numbers."""
        raise NotImplementedError

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Filter an image; complex numbers part by part."""
        if problem.work.kind != "c":
            self.run_real(problem, decomposition, image, target, progress)
            return

        def part(inner: Problem, form: Decomposition, source: Array, out: Array) -> None:
            self.run_real(inner, form, source, out, lambda _: None)

        run_parts(problem, decomposition, image, target, part)
        progress(1.0)

    def run_real(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Run the compiled filter, which is kept with the decomposition."""
        own = self._filter(problem, decomposition)
        if own is None:
            target[...] = 0
        else:
            own(image, target, problem.threads)
        progress(1.0)


def worthwhile_threads(seconds: float, most: int) -> int:
    """Return how many threads share work that takes one thread so many seconds.

    Examples
    --------
    >>> worthwhile_threads(4e-6, 2), worthwhile_threads(40e-6, 2), worthwhile_threads(40e-6, 64)
    (1, 2, 5)
    """
    return most if math.isnan(seconds) else int(min(most, max(1, seconds // THREAD_SECONDS)))


def turning(sweeps: Sequence[set[int]]) -> tuple[int, ...]:
    """Return the inner axis of each sweep along two axes, after which the number of samples counts."""
    # Of five axes the inner three are one sweep, the outer two another.
    return tuple(sorted({sorted(s)[1] for s in sweeps if len(s) % SWEEP_AXES == 2}))


def taps_per_axis(problem: Problem, decomposition: Decomposition) -> list[tuple[int, Array, int]]:
    """Return for each axis that is filtered: kernel axis, taps of all terms (terms, taps), left."""
    found = []
    scale: Any = 1.0
    for k, (axis,) in enumerate(decomposition.groups):
        taps = (
            np.stack([term[k] for term in decomposition.terms])
            if decomposition.terms
            else np.zeros((0, 1))
        )
        left = problem.lefts[axis]
        if problem.shape[problem.axes[axis]] == 1 and not problem.cval:
            # All samples along this axis are the same one, or the constant, which is 0.
            border = problem.modes[axis]
            if border.fills:
                index = border.extension(1, left, taps.shape[1] - 1 - left)
                taps = taps[:, index != OUTSIDE]
            taps, left = taps.sum(axis=1, keepdims=True), 0
        used = np.flatnonzero(np.any(taps != 0, axis=0))
        if used.size:
            start, stop = min(int(used[0]), left), max(int(used[-1]), left) + 1
            taps, left = taps[:, start:stop], left - start
        if taps.shape[1] == 1:
            scale = scale * taps
        else:
            found.append((axis, taps, left))
    if not isinstance(scale, float):
        if not found:
            return [(decomposition.groups[-1][0], scale, 0)]
        axis, taps, left = found[0]
        found[0] = (axis, taps * scale, left)
    return sorted(found, key=lambda f: problem.axes[f[0]])


def correlation(
    problem: Problem, terms: Any, kernel_axes: Sequence[int], lefts: Sequence[int], cval: complex
) -> Any:
    """Return the compiled sum of terms: for each term its taps along each of the kernel axes."""
    with compiling:
        from separable.engine.compiled.long_signals import (
            LongAndShortCorrelation,
            SegmentedCorrelation,
            pays,
            pays_for_both,
        )
        from separable.engine.compiled.term_sums import Correlation
    axes = [problem.axes[a] for a in kernel_axes]
    borders = [
        problem.modes[a].extension(problem.shape[axis], left, len(taps) - 1 - left)
        for a, axis, left, taps in zip(kernel_axes, axes, lefts, terms[0], strict=True)
    ]
    outside = float(np.real(cval))
    kind: Any = Correlation
    if len(axes) == 1 and pays(problem.shape, axes[0], len(terms[0][0])):
        kind = SegmentedCorrelation
    elif pays_for_both(problem.shape, axes, terms, borders, problem.work):
        kind = LongAndShortCorrelation
    sweep = kind(terms, axes, lefts, borders, outside, problem.work, problem.shape)
    return in_samples(sweep, problem)


def in_samples(prepared: Any, problem: Problem) -> Any:
    """Return a prepared filter whose choice of the order of passes counts samples, not numbers.

    So it is the same for complex samples as pairs and as two arrays.
    """
    if problem.pairs:
        prepared.inner_run *= 2
    return prepared


def dense_correlation(
    problem: Problem, taps: Array, kernel_axes: Sequence[int], lefts: Sequence[int]
) -> Any:
    """Return the compiled dense filter over two or three axes of the problem's image."""
    with compiling:
        from separable.engine.compiled.term_sums import DenseCorrelation
    order = sorted(range(taps.ndim), key=lambda k: problem.axes[kernel_axes[k]])
    axes = [problem.axes[kernel_axes[k]] for k in order]
    own = [lefts[k] for k in order]
    kernel = np.transpose(taps, order)
    borders = [
        problem.modes[kernel_axes[k]].extension(problem.shape[a], left, n - 1 - left)
        for k, a, left, n in zip(order, axes, own, kernel.shape, strict=True)
    ]
    outside = float(np.real(problem.cval))
    return DenseCorrelation(kernel, axes, own, borders, outside, problem.work, problem.shape)


def one_axis(problem: Problem, taps: Array, cval: complex) -> Any:
    """Return the compiled pass for a kernel of one axis."""
    return correlation(problem, [[taps]], (0,), problem.lefts, cval)
