"""All passes of all terms in one sweep, by the compiled engine.

What is computed: the sum of the terms, each the successive correlations along the axes, written once
in the output's own type. How: `engine/compiled/`, which this file imports when it first runs, for
Numba takes a third of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import OUTSIDE, carried
from separable.engine.availability import compiling, why_not
from separable.engine.base import (
    Form,
    Pass,
    Problem,
    Work,
    rounding_of,
    too_inexact,
)
from separable.engine.result_memory import empty
from separable.engine.symmetry import is_folding

__all__ = [
    "TYPES",
    "dense_correlation",
    "one_axis",
    "refuse",
    "refuse_nested",
    "run",
    "run_nested",
    "stacks_of",
    "supports",
    "unlike",
    "work",
    "work_nested",
]

Array = NDArray[Any]

TYPES = frozenset(
    ("float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "uint32")
)  # what the compiled engine reads and writes
MOST_TERMS = 1 << 12
SMALL = 1 << 15  # fewer outputs stay on one thread
SWEEP_AXES = 3  # what one sweep filters along at most


def supports(dtype: np.dtype[Any]) -> bool:
    """Whether the compiled engine writes this type itself."""
    return dtype.name in TYPES and dtype.isnative


def unlike(problem: Problem) -> str:
    """Say why the compiled engine cannot take this problem, or nothing."""
    if why_not():
        return why_not()
    if problem.work.kind == "c":
        return "the compiled engine takes no complex numbers"
    if problem.dtype.kind in "iu" and problem.dtype.itemsize > 4:
        return f"the compiled engine takes no {problem.dtype}"
    return ""


def refuse(problem: Problem, form: Form) -> str:
    """Say why the terms cannot be run in one sweep, or nothing."""
    if any(len(group) > 1 for group in form.groups):
        return "a factor has several axes"
    if len(form.terms) > MOST_TERMS:
        return f"{len(form.terms)} terms are too many for one sweep"
    return unlike(problem) or too_inexact(problem, form)


def work(problem: Problem, form: Form) -> Work:
    """Count what the sweep does."""
    n = float(problem.size)
    if any(len(group) > 1 for group in form.groups):  # refused: nothing to predict
        return Work(
            len(form.passes),
            form.multiplications,
            math.nan,
            {},
            rounding_of(problem, form, compiled=True),
        )
    stacks = stacks_of(problem, form)
    terms = max(1, len(form.terms))
    counts = {"call": 1.0, "element": n, "axis element": n * terms * max(1, len(stacks))}
    counts |= {"tap": 0.0, "folded tap": 0.0, "plane": 0.0}
    if len(stacks) > 2:
        counts["plane"] = n * terms
    for _, taps, _ in stacks:
        for row in taps:
            counts["folded tap" if is_folding(row) else "tap"] += n * row.size
    sweeps = math.ceil(len(stacks) / SWEEP_AXES) or 1
    moved = n * (problem.dtype.itemsize + problem.out.itemsize) * sweeps
    return Work(
        len(form.passes), form.multiplications, moved, _shared_out(counts, problem),
        rounding_of(problem, form, compiled=True),
    )  # fmt: skip


def run(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Run the sweep."""
    if not form.terms:
        target[...] = 0
    else:
        sweep = form.cached.get_or_build("sweep", lambda: _sweep(problem, form))
        sweep(image, target, problem.threads)
    tick(1.0)


# Nested terms: a pass that several terms begin with is run once, then the rest of them in one sweep.


def refuse_nested(problem: Problem, form: Form) -> str:
    """Say why the tree of passes cannot be run, or nothing."""
    followers = [p for root in form.roots for p in root.walk() if p is not root]
    if any(len(p.axes) > 1 for p in followers) or any(len(r.axes) > 2 for r in form.roots):
        return "a factor has too many axes"
    return unlike(problem) or too_inexact(problem, form)


def work_nested(problem: Problem, form: Form) -> Work:
    """Count the shared passes, the sweeps that follow them and the additions."""
    n = float(problem.size)
    counts = {"call": 2.0 * len(form.roots), "element": 2.0 * n * len(form.roots)}
    counts |= {"axis element": 0.0, "tap": 0.0, "folded tap": 0.0}
    counts["dense tap"] = n * sum(r.taps.size for r in form.roots if len(r.axes) > 1)
    for root in form.roots:
        for p in root.walk():
            if len(p.axes) > 1:
                continue
            counts["axis element"] += n
            counts["folded tap" if is_folding(p.taps) else "tap"] += n * p.taps.size
    counts["added element"] = n * max(0, len(form.roots) - 1)
    moved = n * problem.work.itemsize * 7 * len(form.roots)
    return Work(
        len(form.passes), form.multiplications, moved, _shared_out(counts, problem),
        rounding_of(problem, form, compiled=True),
    )  # fmt: skip


def run_nested(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Run each root once, then what follows it in one sweep, and add."""
    if not form.roots:
        target[...] = 0
        tick(1.0)
        return
    total = empty(problem.shape, problem.work) if target.dtype != problem.work else target
    shared = empty(problem.shape, problem.work)
    rest = empty(problem.shape, problem.work)
    cached = form.cached.get_or_build
    for k, root in enumerate(form.roots):
        out = rest if k else total
        if root.then:
            first = cached(f"root {k}", partial(_one_pass, problem, root, problem.cval))
            follow = cached(f"rest {k}", partial(_followers, problem, root))
            first(image, shared, problem.threads)
            follow(shared, out, problem.threads)
        else:
            first = cached(f"root {k}", partial(_one_pass, problem, root, problem.cval))
            first(image, out, problem.threads)
        if k:
            np.add(total, rest, out=total)
        tick(1.0 / len(form.roots))


def _shared_out(counts: dict[str, float], problem: Problem) -> dict[str, float]:
    """Small images run on one thread: as much work as if each thread did all of it."""
    if problem.size >= SMALL:
        return counts
    return {kind: count * problem.threads for kind, count in counts.items()}


def stacks_of(problem: Problem, form: Form) -> list[tuple[int, Array, int]]:
    """Return for each axis that is filtered: kernel axis, taps of all terms (terms, taps), left."""
    found = []
    scale: Any = 1.0
    for k, (axis,) in enumerate(form.groups):
        taps = np.stack([term[k] for term in form.terms]) if form.terms else np.zeros((0, 1))
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
            return [(form.groups[-1][0], scale, 0)]
        axis, taps, left = found[0]
        found[0] = (axis, taps * scale, left)
    return sorted(found, key=lambda f: problem.axes[f[0]])


def _sweep(problem: Problem, form: Form) -> Any:
    """Return the compiled sweep of all terms."""
    stacks = stacks_of(problem, form)
    terms = [[taps[t] for _, taps, _ in stacks] for t in range(len(form.terms))]
    return _correlation(
        problem, terms, [s[0] for s in stacks], [s[2] for s in stacks], problem.cval
    )


def _correlation(
    problem: Problem, terms: Any, kernel_axes: Sequence[int], lefts: Sequence[int], cval: complex
) -> Any:
    with compiling:
        from separable.engine.compiled.long_signals import SegmentedCorrelation, pays
        from separable.engine.compiled.term_sums import Correlation
    axes = [problem.axes[a] for a in kernel_axes]
    borders = [
        problem.modes[a].extension(problem.shape[axis], left, len(taps) - 1 - left)
        for a, axis, left, taps in zip(kernel_axes, axes, lefts, terms[0], strict=True)
    ]
    outside = float(np.real(cval))
    long = len(axes) == 1 and pays(problem.shape, axes[0], len(terms[0][0]))
    kind = SegmentedCorrelation if long else Correlation
    return kind(terms, axes, lefts, borders, outside, problem.work, problem.shape)


def _one_pass(problem: Problem, p: Pass, cval: complex) -> Any:
    if len(p.axes) > 1:
        return dense_correlation(problem, p.taps, p.axes, p.lefts)
    return _correlation(problem, [[p.taps]], p.axes, p.lefts, cval)


def dense_correlation(
    problem: Problem, taps: Array, kernel_axes: Sequence[int], lefts: Sequence[int]
) -> Any:
    """Return the compiled dense filter over two axes of the problem's image."""
    with compiling:
        from separable.engine.compiled.term_sums import DenseCorrelation
    order = sorted(range(2), key=lambda k: problem.axes[kernel_axes[k]])
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
    return _correlation(problem, [[taps]], (0,), problem.lefts, cval)


def _flattened(root: Pass) -> list[list[Pass]]:
    """The chains of passes from below a root to each leaf."""
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
    """One sweep for all chains below a root: taps of one length an axis, identity where none is."""
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
    return _correlation(problem, terms, axes, lefts, carried(problem.cval, root.taps))
