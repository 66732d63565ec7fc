"""Passes along one axis, by SciPy's ``correlate1d`` on slabs of the image.

The passes of the decomposition form a tree; every leaf is added to the result. Each pass runs over the
whole image, in place where its input is not needed again, cut into slabs across the pass for the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.borders import NEAREST, carried, extend
from separable.engine.base import (
    Decomposition,
    Pass,
    Problem,
    WorkEstimate,
    rounding_of,
    too_inexact,
)
from separable.engine.lazy_kernel import ldexp, within_range
from separable.engine.method import TERMS, TREE, CalibrationCase, Method, Progress, TermSizes
from separable.engine.methods import scipy_direct
from separable.engine.result_memory import empty
from separable.engine.symmetry import is_folding
from separable.engine.thread_count import in_parallel, slabs

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["ScipySeparable"]

Array = NDArray[Any]

SMALL = 1 << 16  # fewer outputs than this stay on one thread: a launch costs as much
SLABS = 8  # for each thread, so that progress is seen


class ScipySeparable(Method):
    """Passes along one axis by SciPy."""

    name = "passes"
    title = "SciPy's passes"
    explanation = (
        "runs one 1-D pass after the other over the whole image, by scipy.ndimage.correlate1d"
    )
    runs = (TERMS, TREE)
    own_candidate = False
    chunk_invariant = True
    exact_beside_small_weights = True
    runs_on_tensors = True
    scales_with: ClassVar[Mapping[str, str]] = {
        "call": "numpy_call",
        "element": "scalar",
        "strided element": "scalar",
        "added element": "convert",
        "tap": "scalar",
        "folded tap": "scalar",
        "dense tap": "scalar",
    }

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the passes should not be run, or an empty string."""
        return too_inexact(problem, decomposition)

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count the taps of all passes, and the additions of terms."""
        n = problem.size
        counts = {"call": float(len(decomposition.passes)), "element": 0.0, "strided element": 0.0}
        counts |= {"tap": 0.0, "folded tap": 0.0, "dense tap": 0.0, "added element": 0.0}
        leaves = sum(not p.then for p in decomposition.passes)
        counts["added element"] = float(n * max(0, leaves - 1))
        for p in decomposition.passes:
            if len(p.axes) > 1:
                counts["dense tap"] += n * int(np.count_nonzero(p.taps))
                continue
            last = problem.axes[p.axes[0]] == len(problem.shape) - 1
            counts["element" if last else "strided element"] += n
            counts["folded tap" if is_folding(p.taps) else "tap"] += n * p.taps.size
        size = problem.work.itemsize
        first = len(decomposition.roots) * problem.dtype.itemsize
        moved = (
            first
            + (2 * len(decomposition.passes) - len(decomposition.roots) + 3 * max(0, leaves - 1))
            * size
        )
        if n < SMALL:
            counts = {name: c * problem.threads for name, c in counts.items()}
        rounding = rounding_of(problem, decomposition)
        return WorkEstimate(
            len(decomposition.passes),
            decomposition.multiplications,
            float(moved * n),
            counts,
            rounding,
        )

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return the time of adding up the terms and, where they share nothing, of their taps."""
        n = float(problem.size)
        counts = {"call": float(sizes.terms), "added element": n * max(0, sizes.terms - 1)}
        n *= sizes.taps if kind == TERMS else 0
        return min(
            self.seconds(machine, problem, counts | own) for own in ({"tap": n}, {"folded tap": n})
        )

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Run the passes."""
        if not decomposition.roots:
            target[...] = 0
            progress(1.0)
            return
        runner = _Runner(problem, target, progress, 1.0 / len(decomposition.passes))
        runner.walk(decomposition.roots, image, problem.cval, None)
        runner.finish()

    def scratch_bytes(self, problem: Problem, decomposition: Decomposition) -> int:
        """Return the bytes per sample: one array per level of the tree of passes, and two more."""
        depth = max((_depth(p) for p in decomposition.roots), default=0)
        return (2 + depth) * problem.work.itemsize

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield each axis, few and many taps, several terms, volumes."""
        for dtype in ("float32", "float64"):
            for shape, kernel, axes in _cases():
                yield CalibrationCase(self.name, dtype, shape, kernel, axes)


def _cases() -> Iterator[tuple[Any, Any, Any]]:
    """Yield image shapes, kernels and filtered axes."""
    for shape in ((96, 96), (700, 1000)):
        yield shape, ("even", 9, 9), (0, 1)
    for taps in (3, 31, 101):
        yield (700, 700), ("even", taps), (0,)
        yield (700, 700), ("even", taps), (1,)
        yield (700, 700), ("general", taps), (1,)
    yield (64, 128, 128), ("general", 7, 7, 7), (0, 1, 2)
    yield (900, 900), ("rank2", 9, 9), (0, 1)
    yield (500, 500), ("rank2", 9, 9), (0, 1)
    yield (40, 60, 60), ("partial", 5, 5, 5), (0, 1, 2)


def _depth(root: Pass) -> int:
    """Return the number of passes from a root to its farthest leaf."""
    return 1 + max((_depth(child) for child in root.then), default=0)


class _Runner:
    """Buffers of one run."""

    def __init__(
        self, problem: Problem, target: Array, progress: Callable[[float], None], share: float
    ) -> None:
        self.problem, self.target, self.progress, self.share = problem, target, progress, share
        self.spare: list[Array] = [target]
        self.total: Array | None = None

    def walk(self, passes: Sequence[Pass], source: Array, cval: complex, own: Array | None) -> None:
        """Run passes over one source; `own` is its buffer if the last of them may overwrite it."""
        for k, p in enumerate(passes):
            in_place = own is not None and k == len(passes) - 1 and len(p.axes) == 1
            buffer = own if in_place and own is not None else self.take()
            self.correlate(p, source, cval, buffer)
            if p.then:
                self.walk(p.then, buffer, carried(cval, p.taps), buffer)
            else:
                self.add(buffer)
            if own is not None and k == len(passes) - 1 and not in_place:
                self.spare.append(own)

    def take(self) -> Array:
        """Return a free buffer; the first one is the target itself."""
        if self.spare:
            return self.spare.pop()
        return empty(self.problem.shape, self.problem.work)

    def add(self, buffer: Array) -> None:
        """Add a finished term to the result; the first one becomes the result."""
        if self.total is None:
            self.total = buffer
            return
        total = self.total

        def job(part: tuple[Any, ...]) -> None:
            np.add(total[part], buffer[part], out=total[part])

        parts = _cut(self.problem, None)
        in_parallel(job, parts, self.problem.threads)
        self.spare.append(buffer)

    def finish(self) -> None:
        if self.total is not self.target:
            self.target[...] = self.total

    def correlate(self, p: Pass, source: Array, cval: complex, out: Array) -> None:
        """Run one pass over all slabs."""
        axis = self.problem.axes[p.axes[0]]
        parts = _cut(self.problem, axis if len(p.axes) == 1 else -1)
        share = self.share / len(parts)

        def job(part: tuple[Any, ...]) -> None:
            if len(p.axes) == 1:
                _correlate1d(self.problem, p, source[part], cval, out[part])
            else:
                _correlate(self.problem, p, source, cval, out)
            self.progress(share)

        in_parallel(job, parts, self.problem.threads)


def _cut(problem: Problem, along: int | None) -> list[tuple[Any, ...]]:
    """Return slabs of the image that a pass along this axis does not cross (-1: it crosses all)."""
    whole: tuple[Any, ...] = (slice(None),) * len(problem.shape)
    across = [a for a in range(len(problem.shape)) if a != along]
    if along == -1 or not across or problem.size < SMALL:
        return [whole]
    axis = max(across, key=lambda a: (problem.shape[a], -a))
    parts = SLABS * problem.threads
    return [(*whole[:axis], s, *whole[axis + 1 :]) for s in slabs(problem.shape[axis], parts)]


def _correlate1d(problem: Problem, p: Pass, source: Array, cval: complex, out: Array) -> None:
    from scipy import ndimage  # imported when first used: half of the package's import time

    if p.taps.size == 1:
        np.multiply(source, p.taps[0], out=out, casting="unsafe", dtype=problem.work)
        return
    taps, scale = _rescaled(p)
    origin = p.lefts[0] - len(taps) // 2
    border = problem.modes[p.axes[0]]
    axis = problem.axes[p.axes[0]]
    if not border.scipy_name:
        _correlate_extended(problem, p, source, cval, out)
        return
    mode = border.scipy_name
    if taps.dtype.kind == "c":
        taps = taps.conj()  # SciPy conjugates complex weights when it correlates: undo that
        if np.may_share_memory(source, out):
            source = source.copy()  # and it reads the real part again after writing it
    mixes = taps.dtype.kind == "c" and not isinstance(cval, complex)
    if out.dtype.kind == "c" and source.dtype.kind != "c" and not mixes:
        source = source.astype(out.dtype)  # SciPy makes complex of real with complex taps only
    if scale == 1.0:
        ndimage.correlate1d(source, taps, axis, out, mode, _fit(cval, source), origin)
        return
    # Scaled up, results might overflow single precision, and large samples double precision.
    wide = np.result_type(out, np.float64)
    source, exponent = within_range(source.astype(wide))
    result = np.empty(out.shape, wide)
    outside = complex(cval) * 2.0**-exponent if cval else 0.0
    ndimage.correlate1d(source, taps, axis, result, mode, _fit(outside, source), origin)
    out[...] = ldexp(result * scale, exponent)


def _correlate_extended(
    problem: Problem, p: Pass, source: Array, cval: complex, out: Array
) -> None:
    """Run one pass over lines with their border written out: of a border mode that SciPy lacks."""
    border, axis = problem.modes[p.axes[0]], problem.axes[p.axes[0]]
    left, n = p.lefts[0], source.shape[axis]
    widths = ((left, p.taps.size - 1 - left),)
    kind = scipy_direct.extended_dtype(source.dtype, problem.work, (border,), cval)
    wide = extend(source, (axis,), widths, (border,), cval, kind)
    inner = replace(problem, modes=(NEAREST,) * len(problem.modes))
    result = np.empty(wide.shape, out.dtype)
    _correlate1d(inner, p, wide, 0.0, result)
    part = (slice(None),) * axis + (slice(left, left + n),)
    out[...] = result[part]


def _correlate(problem: Problem, p: Pass, source: Array, cval: complex, out: Array) -> None:
    """Run a dense pass over several axes."""
    axes = tuple(problem.axes[a] for a in p.axes)
    borders = tuple(problem.modes[a] for a in p.axes)
    scipy_direct.correlate(problem, source, p.taps, axes, p.lefts, borders, cval, out)


def _fit(cval: complex, source: Array) -> Any:
    """Return `cval` as a real number for real data, which SciPy requires."""
    return cval if np.iscomplexobj(source) else float(np.real(cval))


@lru_cache(maxsize=512)
def _rescaled(p: Pass) -> tuple[Array, float]:
    """Guard taps against SciPy's test for symmetry, which is absolute (1 eps), by a power of two.

    Returns the taps to use and the number to multiply the output by.
    """
    taps = p.taps
    parts = (taps.real, taps.imag) if np.iscomplexobj(taps) else (taps,)
    if len(taps) % 2 == 0 or not any(_misread(part) for part in parts):
        return taps, 1.0
    _, exponent = np.frexp(float(np.max(np.abs(taps))))
    return ldexp(taps, 20 - exponent), float(np.ldexp(1.0, exponent - 20))


def _misread(taps: Array) -> bool:
    """Return whether SciPy would take taps for even or odd that are neither."""
    middle = len(taps) // 2
    left, right = taps[:middle][::-1], taps[middle + 1 :]
    for difference in (right - left, right + left):
        worst = float(np.max(np.abs(difference), initial=0.0))
        if worst <= np.finfo(np.float64).eps:
            return worst != 0
    return False
