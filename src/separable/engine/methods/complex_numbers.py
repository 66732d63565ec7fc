"""Complex images and kernels, as real filters of their real and imaginary parts.

With a kernel ``R + i M`` and an image ``x``, the result is ``R x + i (M x)``.  Real weights treat the real and the
imaginary parts of a complex image as two channels that lie side by side, so that one real filter does all the work.
Products of complex vectors are sums of products of their real and imaginary parts, for example
``(a + i b)(c + i d) = (a c - b d) + i (a d + b c)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from separable.engine.base import (
    Decomposition,
    Problem,
    WorkEstimate,
    dense_decomposition,
    pass_decomposition,
)
from separable.engine.lazy_kernel import Kernel
from separable.engine.result_memory import empty
from separable.engine.thread_count import in_parallel, slabs
from separable.factors import Factors

__all__ = ["complex_estimate", "kernel_parts", "real_problems", "refuse_parts", "run_parts"]

Array = NDArray[Any]
Run = Callable[[Problem, Decomposition, Array, Array], None]

REAL = (
    4 * np.finfo(np.float64).eps
)  # imaginary parts up to so much of the largest number are rounding
CHUNK = 1 << 16  # samples combined at a time, so that they stay in the cache


def refuse_parts(
    problem: Problem,
    decomposition: Decomposition,
    refuse: Callable[[Problem, Decomposition], str],
) -> str:
    """Return why a complex filter cannot be run as real ones, or an empty string."""
    if problem.dtype.kind != "c" and problem.fills and complex(problem.cval).imag:
        return "the constant outside a real image is complex"
    inner = real_problems(problem)[0]
    reasons = (refuse(inner, part) for part in kernel_parts(problem, decomposition) if part)
    return next(filter(None, reasons), "")


def complex_estimate(
    problem: Problem,
    decomposition: Decomposition,
    estimate: Callable[[Problem, Decomposition], WorkEstimate],
) -> WorkEstimate:
    """Return the work of all real filters of a complex one."""
    problems, parts = real_problems(problem), kernel_parts(problem, decomposition)
    used = [part for part in parts if part]
    works = [estimate(inner, part) for inner in problems for part in used]
    if not works:
        return WorkEstimate(0, 0.0, 0.0, {"call": 1.0}, 0.0)
    # Rates of complex images count their samples, which are two numbers each.
    share = 0.5 if problem.dtype.kind == "c" else 1.0
    counts: dict[str, float] = {}
    for work in works:
        for kind, count in work.counts.items():
            counts[kind] = counts.get(kind, 0.0) + share * count
    eps = float(np.finfo(problem.work).eps)
    norm = decomposition.weights.norm or 1.0
    rounding = sum(
        work.rounding * (part.weights.norm / norm if len(used) > 1 else 1.0)
        for part, work in zip(used, works, strict=False)
    )
    return WorkEstimate(
        sum(work.passes for work in works),
        float(decomposition.multiplications),
        sum(work.bytes for work in works),
        counts,
        rounding + (eps if len(used) > 1 else 0.0),
    )


def real_problems(problem: Problem) -> list[Problem]:
    """Return the real problems that a complex one consists of, for each real part of the kernel.

    A real image is one.  A complex image is one too, whose samples are pairs along a last axis, unless the constant
    outside it has two different parts: then its real and imaginary parts are filtered one after the other.
    """
    work = np.dtype(f"f{problem.work.itemsize // 2}")
    outside = complex(problem.cval)
    plain = replace(problem, out=work, work=work, cval=outside.real)
    if problem.dtype.kind != "c":
        return [plain]
    plain = replace(plain, dtype=np.dtype(f"f{problem.dtype.itemsize // 2}"))
    if not problem.fills or outside.real == outside.imag:
        return [replace(plain, shape=(*problem.shape, 2), pairs=True)]
    return [plain, replace(plain, cval=outside.imag)]


def kernel_parts(
    problem: Problem, decomposition: Decomposition
) -> tuple[Decomposition | None, Decomposition | None]:
    """Return the decompositions of the real and the imaginary part of a kernel; None for zeros.

    They are built once for each decomposition: every method of a plan asks for them.
    """
    parts: tuple[Decomposition | None, Decomposition | None] = decomposition.cached.get_or_build(
        ("parts", problem.lefts), lambda: _split(problem, decomposition)
    )
    return parts


def _split(
    problem: Problem, decomposition: Decomposition
) -> tuple[Decomposition | None, Decomposition | None]:
    if decomposition.weights.dtype.kind != "c":
        empty_kernel = decomposition.separated and not decomposition.terms
        return (None if empty_kernel else decomposition), None
    if not decomposition.separated:
        kernel = decomposition.kernel
        dense = [np.ascontiguousarray(part) for part in (kernel.real, kernel.imag)]
        real, imaginary = (dense_decomposition(p) if p.any() else None for p in dense)
        return real, imaginary
    real, imaginary = (
        _terms_part(problem, decomposition, imaginary=which) for which in (False, True)
    )
    return real, imaginary


def _terms_part(
    problem: Problem, decomposition: Decomposition, *, imaginary: bool
) -> Decomposition | None:
    """Return the real or imaginary part of a sum of products of complex vectors as a sum of products."""
    terms = []
    for term in decomposition.terms:
        pieces = [
            (np.ascontiguousarray(v.real), np.ascontiguousarray(v.imag)) for v in _turned(term)
        ]
        for chosen in itertools.product((0, 1), repeat=len(term)):
            # i**power is 1, i, -1, -i: even powers are real, odd ones imaginary.
            power = sum(chosen)
            if power % 2 != imaginary:
                continue
            vectors = [piece[k] for piece, k in zip(pieces, chosen, strict=True)]
            if all(np.any(v) for v in vectors):
                sign = -1.0 if power % 4 >= 2 else 1.0
                terms.append((sign * vectors[0], *vectors[1:]))
    if not terms:
        return None
    weights = _part_of_weights(decomposition, terms, imaginary=imaginary)
    return pass_decomposition(
        terms, decomposition.groups, weights, problem.lefts, decomposition.bound
    )


def _turned(term: tuple[Array, ...]) -> list[Array]:
    """Multiply the vectors of a product by phases whose product is 1, so that real ones become real."""
    vectors, phase = [], np.complex128(1.0)
    for vector in term[:-1]:
        largest = vector.ravel()[int(np.argmax(np.abs(vector)))]
        turn = largest / abs(largest)
        turned, phase = vector / turn, phase * turn
        if float(np.max(np.abs(turned.imag))) <= REAL * abs(largest):
            turned = turned.real + 0j
        vectors.append(turned)
    return [*vectors, term[-1] * phase]


def _part_of_weights(
    decomposition: Decomposition, terms: Sequence[tuple[Array, ...]], *, imaginary: bool
) -> Kernel:
    """Return the real or imaginary part of the weights, not multiplied out where there are many."""
    given = decomposition.weights.given
    ordered = decomposition.groups == tuple((k,) for k in range(decomposition.weights.ndim))
    if decomposition.weights.is_product and isinstance(given, Factors) and ordered:
        return Kernel(Factors.from_terms(given.pattern, terms))
    kernel = decomposition.kernel
    return Kernel(np.ascontiguousarray(kernel.imag if imaginary else kernel.real))


def run_parts(
    problem: Problem, decomposition: Decomposition, image: Array, target: Array, run: Run
) -> None:
    """Filter with `run`, which takes a real problem, a decomposition, an image and a target."""
    steps = decomposition.cached.get_or_build(
        "real parts", lambda: _steps(problem, decomposition, run)
    )
    if np.may_share_memory(image, target) and (len(steps) > 1 or steps[0][1].part is not None):
        image = image.copy()  # it is read again after a first part of the result is written
    if problem.dtype.kind != "c":
        ((real, imaginary),) = steps
        real.fill_half(image, target.real)
        imaginary.fill_half(image, target.imag)
    elif len(steps) == 1:
        # out = R x, then out += i (M x): its pairs (u, v) become (-v, u).
        ((real, imaginary),) = steps
        real(_pairs(image), _pairs(target))
        if imaginary.part is not None:
            other = imaginary.result(_pairs(image))
            _add(target.real, other[..., 1], -1.0, problem.threads)
            _add(target.imag, other[..., 0], 1.0, problem.threads)
    else:
        # out.real = R x.real - M x.imag and out.imag = R x.imag + M x.real
        (real, imaginary), (real_of_imag, imaginary_of_imag) = steps
        real(image.real, target.real)
        real_of_imag(image.imag, target.imag)
        if imaginary.part is not None:
            _add(target.real, imaginary_of_imag.result(image.imag), -1.0, problem.threads)
            _add(target.imag, imaginary.result(image.real), 1.0, problem.threads)


@dataclass(frozen=True)
class _Step:
    """The real filter of one array by the real or the imaginary part of a kernel (None: zeros)."""

    problem: Problem
    part: Decomposition | None
    run: Run

    def __call__(self, image: Array, target: Array) -> None:
        if self.part is None:
            target[...] = 0
        else:
            self.run(self.problem, self.part, image, target)

    def result(self, image: Array) -> Array:
        """Return the filtered array."""
        target = empty(self.problem.shape, self.problem.work)
        self(image, target)
        return target

    def fill_half(self, image: Array, half: Array) -> None:
        """Filter a real image into every other number of a complex result."""
        if self.part is None:
            half[...] = 0
        else:
            _rowwise(np.copyto, half, self.result(image), self.problem.threads)


def _steps(problem: Problem, decomposition: Decomposition, run: Run) -> list[tuple[_Step, _Step]]:
    """Return the filters by both parts of the kernel, for each real problem."""
    parts = kernel_parts(problem, decomposition)
    found = []
    for inner in real_problems(problem):
        # Each filter has a cache of its own, for what is prepared for its problem.
        real, imaginary = (_Step(inner, replace(p) if p else None, run) for p in parts)
        found.append((real, imaginary))
    return found


def _add(target: Array, values: Array, sign: float, threads: int) -> None:
    operation = np.add if sign > 0 else np.subtract
    _rowwise(lambda rows, more: operation(rows, more, out=rows), target, values, threads)


def _rowwise(
    operation: Callable[[Array, Array], Any], target: Array, values: Array, threads: int
) -> None:
    """Combine two arrays of one shape part by part, on several threads."""
    parts = slabs(len(target), math.ceil(target.size / CHUNK))
    in_parallel(lambda part: operation(target[part], values[part]), parts, threads)


def _pairs(array: Array) -> Array:
    """Return a complex array as real numbers, with a last axis of real and imaginary part."""
    real = array.real
    return as_strided(real, (*array.shape, 2), (*array.strides, real.itemsize))
