"""Weights of a kernel, and the methods that compute the valid weight exactly enough.

`k * m` may be far below `sum(k)`, so the error relative to it matters. Two kinds of method are exact:
*steady* ones, which add up products of the weights themselves (nothing cancels, so 0 is 0 and a small
sum is as exact as a large one), and any other method whose error is small relative to the smallest
weight. Transforms and terms that cancel are neither if the weights differ by much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import METHODS
from separable.factors import Factors
from separable.pattern import filter_pattern
from separable.plan import Candidate, Plan

__all__ = ["LIMITS", "Weights", "best", "is_steady"]

Array = NDArray[Any]

# Errors that count as rounding, relative to sum|k| max|x|, by the type of the intermediates.
LIMITS = {4: 2e-6, 8: 1e-12}
TINY = 1e-300  # least value assumed for the smallest relative weight: results are divided by it
EPS = float(np.finfo(np.float64).eps)
UNEQUAL = 64 * EPS  # weights of a factored box differ by rounding

Terms = tuple[tuple[Array, ...], ...]


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of a kernel, their absolute values, and facts about them.

    Attributes
    ----------
    kernel : ndarray, Factors or terms
        The kernel as it was given.
    sizes : ndarray, Factors or terms
        ``|kernel|`` in the same form, times a power of two that makes its sum 0.5 .. 1.
    scale : float
        That power of two.
    total : float
        Sum of `sizes`.
    smallest : float
        Smallest of the sizes that is not 0, relative to `total`.
    signed : bool
        Whether the weights have both signs.
    equal : bool
        Whether all weights that are not 0 are equal.
    """

    kernel: Any
    sizes: Any
    scale: float
    total: float
    smallest: float
    signed: bool
    equal: bool

    @classmethod
    def of(cls, kernel: Any) -> Weights:
        """Return the weights of a kernel: dense, `Factors`, or one term as a tuple of a tuple of vectors."""
        kernel = _as_product(kernel)
        terms = _single(kernel)
        parts = terms if terms is not None else (_dense(kernel),)
        sums = [float(np.sum(np.abs(p))) for p in parts]
        norm = math.prod(sums)
        if norm == 0.0:
            return cls(kernel, kernel, 1.0, 0.0, 0.0, False, True)
        scales = [2.0 ** -math.frexp(s)[1] for s in sums]
        sizes = tuple(np.abs(p) * s for p, s in zip(parts, scales, strict=True))
        smallest = math.prod(float(np.min(p[p != 0])) / float(np.sum(p)) for p in sizes)
        largest = math.prod(float(np.max(p)) / float(np.sum(p)) for p in sizes)
        return cls(
            kernel,
            _like(kernel, sizes),
            math.prod(scales),
            math.prod(float(np.sum(p)) for p in sizes),
            max(smallest, TINY),
            not all(_one_sign(p) for p in parts),
            largest - smallest <= UNEQUAL * largest,
        )

    @property
    def is_complex(self) -> bool:
        """True if the kernel has complex weights."""
        parts = _single(self.kernel) or (_dense(self.kernel),)
        return any(p.dtype.kind == "c" for p in parts)

    @property
    def support(self) -> Array:
        """Array that is 1 where the dense kernel is not 0."""
        return np.asarray(_dense(self.kernel) != 0, np.float64)

    @property
    def unit(self) -> float:
        """Number that all sums of weights are multiples of if the weights are equal; else 0."""
        return self.smallest * self.total if self.equal else 0.0

    @property
    def half(self) -> float:
        """Half the smallest weight: a smaller valid weight means that nothing is valid."""
        return self.smallest * self.total / 2


def is_steady(candidate: Candidate, limit: float = math.inf) -> bool:
    """Return whether a method's error is relative to the sum of its products, not to all weights.

    Its terms may differ from the kernel by `limit`.
    """
    form = candidate.form
    if form is None or not METHODS[candidate.method].exact_beside_small_weights:
        return False
    if not form.separated:
        return True
    if form.bound > limit:
        return False
    return len(form.terms) <= 1 or all(np.all(np.real(v) >= 0) for t in form.terms for v in t)


def best(plan: Plan, admit: Callable[[Candidate], bool]) -> Candidate:
    """Return the fastest candidate that can run and is admitted, else the fastest that is steady."""
    able = [c for c in plan.candidates if not c.refused and c.form is not None]
    admitted = [c for c in able if admit(c)] or [c for c in able if is_steady(c)] or able
    return min(admitted, key=lambda c: math.inf if math.isnan(c.seconds) else c.seconds)


def _as_product(kernel: Any) -> Any:
    """Return a dense kernel that is a product of vectors as `Factors`, exact in every weight.

    A decomposition is exact only relative to the largest weight, which is not enough where only
    small weights are valid.
    """
    if isinstance(kernel, (tuple, Factors)) or np.ndim(kernel) < 2:
        return kernel
    dense = _dense(kernel)
    at = np.unravel_index(int(np.argmax(np.abs(dense))), dense.shape)
    peak = dense[at]
    if peak == 0:
        return kernel
    lines = [
        dense[tuple(slice(None) if a == b else at[b] for b in range(dense.ndim))]
        for a in range(dense.ndim)
    ]
    lines = [lines[0], *(line / peak for line in lines[1:])]
    product = lines[0]
    for line in lines[1:]:
        product = np.multiply.outer(product, line)
    if np.all(np.abs(product - dense) <= 8 * dense.ndim * EPS * np.abs(dense)):
        return Factors.from_terms(filter_pattern(dense.ndim), (tuple(lines),))
    return kernel


def _single(kernel: Any) -> tuple[Array, ...] | None:
    """Return the vectors of a kernel that is one product, or None."""
    if isinstance(kernel, tuple):
        (term,) = kernel
    elif isinstance(kernel, Factors) and kernel.rank == 1:
        (term,) = kernel.terms
    else:
        return None
    return tuple(_wide(v) for v in term)


def _dense(kernel: Any) -> Array:
    return _wide(kernel.dense() if isinstance(kernel, Factors) else np.asarray(kernel))


def _wide(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _like(kernel: Any, sizes: tuple[Array, ...]) -> Any:
    """Return sizes in the form of the kernel."""
    if isinstance(kernel, tuple):
        return (sizes,)
    if isinstance(kernel, Factors) and kernel.rank == 1:
        return Factors.from_terms(kernel.pattern, (sizes,))
    return sizes[0]


def _one_sign(part: Array) -> bool:
    """Return whether all weights have the same sign."""
    if part.dtype.kind == "c":
        return False
    return bool(np.all(part >= 0) or np.all(part <= 0))
