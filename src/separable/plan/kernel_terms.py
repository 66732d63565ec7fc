"""The decompositions of a kernel: found once per kernel, whatever the image, and only when they are asked for.

Nothing here depends on the shape or type of an image. A plan for another image of the same kernel finds
its terms, their norms and their passes in a cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from separable.engine import Decomposition, Kernel, pass_decomposition
from separable.engine.lazy_kernel import counted_sum, folded, is_small, row_slices
from separable.engine.method import TermSizes
from separable.factorize import factorize, factorize_few
from separable.factors import Factors, kernel_errors
from separable.pattern import filter_pattern
from separable.plan.kronecker_search import kronecker_within
from separable.plan.kronecker_terms import KroneckerTerms, kronecker_terms
from separable.process_cache import ProcessCache

__all__ = ["KernelTerms", "Terms", "terms_of"]

Array = NDArray[Any]
_Found = TypeVar("_Found")

MANY = 256  # terms: beyond, what a tolerance would save is not worked out unless one is given
SLACK = 1e-9  # rounding of 1-norms
NEARLY = 1e-6  # of the largest weight: what rounding may leave of a kernel of rank one
HINT = 0.01  # tolerance for which a plan says how many terms it would save
SURELY = 1e-9  # of the largest tap of a vector: a tap above this is not removed as rounding

# Kernels that take seconds to decompose are looked at for a few terms only: with more of them a
# transform is faster.
LARGE = 1 << 15  # weights on three axes and more
LARGE_PRODUCT = 1 << 28  # weights times the shorter side, on two
MOST_LEADING = 64  # terms on two axes

KERNELS_KEPT = 64
RESULTS_KEPT = 32  # for each kernel: decompositions for several origins, types and tolerances


@dataclass(frozen=True)
class Terms:
    """Terms that stand for the kernel within `bound` (1-norm, relative)."""

    terms: tuple[tuple[Array, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    bound: float


def terms_of(weights: Kernel) -> KernelTerms:
    """Return the decompositions of a kernel: the same object for equal kernels, if they are small."""
    if not is_small(weights):
        return KernelTerms(weights)
    found: KernelTerms = _known.get_or_build(weights, lambda: KernelTerms(weights))
    return found


_known = ProcessCache(KERNELS_KEPT)


class KernelTerms:
    """Decompositions of one kernel, each found when it is first asked for.

    Parameters
    ----------
    weights : Kernel
        The weights to correlate with.

    Examples
    --------
    >>> kernel = terms_of(Kernel(np.outer([1.0, 2, 1], [1, 0, -1])))
    >>> len(kernel.exact(1e-16).terms), kernel.exact(1e-16) is kernel.exact(1e-16)
    (1, True)
    """

    def __init__(self, weights: Kernel) -> None:
        self.weights = weights
        self._found = ProcessCache(RESULTS_KEPT)

    @property
    def most_terms(self) -> int:
        """The number of terms beyond which a large kernel is not decomposed."""
        return MANY if self.weights.ndim > 2 else MOST_LEADING

    @property
    def too_many(self) -> bool:
        """True if the kernel is large and needs more than `most_terms` terms."""
        return math.isinf(self.every.bound)

    @property
    def may_share(self) -> bool:
        """True if several terms may begin with the same pass.

        The terms of a dense kernel of two axes are singular vectors, no two of them proportional.
        """
        return self.weights.ndim > 2 or self.weights.product is not None

    @property
    def every(self) -> Terms:
        """All terms, largest first; infinite `bound` and no terms where they are too many."""
        return self._once("every", lambda: _all_terms(self.weights))

    def exact(self, limit: float) -> Terms:
        """Return the fewest terms within a 1-norm error of `limit`, a rounding of the image's type."""
        return self._once(
            ("within", limit), lambda: _truncate_terms(self.every, self.weights, limit)
        )

    @property
    def first_alone(self) -> Terms:
        """The largest term alone, with the bound it reaches."""
        return self._once("first", lambda: _first_alone(self.every, self.weights))

    @property
    def hint(self) -> Terms:
        """The terms that a tolerance of one percent would keep."""
        return self.exact(HINT) if len(self.every.terms) <= MANY else self.every

    def within(self, tol: float) -> Terms:
        """Return the fewest terms within a tolerance."""
        return self._once(("tolerance", tol), lambda: _within(self.every, self.weights, tol))

    def few(self, tol: float) -> Terms | None:
        """Return a few terms of a kernel that needs too many, if they are within a tolerance."""
        return self._once(("few", tol), lambda: _few(self.weights, self.most_terms, tol))

    @property
    def partial(self) -> Terms | None:
        """One axis apart from the others, where that is exact; None elsewhere."""
        return self._once("partial", lambda: _partial(self.weights))

    @property
    def kronecker(self) -> KroneckerTerms | None:
        """Coarse and fine passes with the fewest multiplications; None if none saves any."""
        return self._once("kronecker", lambda: kronecker_terms(self.weights))

    def kronecker_within(self, tol: float) -> KroneckerTerms | None:
        """Return coarse and fine passes within a tolerance with the fewest multiplications; None if none saves any."""
        if not tol:
            return self.kronecker
        return self._once(("kronecker", tol), lambda: kronecker_within(self.weights, tol))

    def passes(self, terms: Terms, lefts: tuple[int, ...], *, shared: bool) -> Decomposition:
        """Return terms as passes; `shared` says whether passes that terms begin with are run once."""
        groups, bound = terms.groups, terms.bound
        return self._once(
            ("passes", id(terms), lefts, shared),
            lambda: (
                terms,  # which keeps its id
                pass_decomposition(terms.terms, groups, self.weights, lefts, bound, shared=shared),
            ),
        )[1]

    def sizes(self, terms: Terms, shape: Sequence[int]) -> TermSizes:
        """Return how many terms there are and how many taps they surely have.

        `shape` holds the size of the image along each kernel axis: where it is one sample, the taps
        are added up.
        """
        extents = self._once(("extents", id(terms)), lambda: (terms, _extents(terms)))[1]
        taps = sum(e for e, n in zip(extents, shape, strict=True) if n > 1)
        return TermSizes(len(terms.terms), taps)

    def _once(self, key: Any, find: Callable[[], _Found]) -> _Found:
        found: _Found = self._found.get_or_build(key, find)
        return found


def _all_terms(weights: Kernel) -> Terms:
    """Return all terms of a kernel, largest first; a kernel of one axis is one term."""
    if weights.ndim == 1:
        dense = weights.dense
        return Terms(((dense,),) if dense.any() else (), ((0,),), 0.0)
    factors = _tap_factors(weights)
    if factors is None:
        return _decomposed(weights)
    if factors.rank > min(weights.shape) and not weights.is_product:
        again = factorize(weights.array, filter_pattern(weights.ndim))
        if again.rank < factors.rank:
            return _sorted(again)
    return _sorted(factors)


def _tap_factors(weights: Kernel) -> Factors | None:
    """Return the factors of the kernel to correlate with."""
    factors = weights.product
    if factors is None:
        return None
    return factors.flipped() if weights.flip else factors


def _decomposed(weights: Kernel) -> Terms:
    """Return the terms of a dense kernel; none if it is large and needs too many of them.

    The `bound` is infinite then: no terms are exact. A kernel that large is filtered by transforms.
    """
    pattern = filter_pattern(weights.ndim)
    if weights.ndim > 2 and weights.size > LARGE:
        most = MANY
    elif weights.ndim == 2 and weights.size * min(weights.shape) > LARGE_PRODUCT:
        most = MOST_LEADING
    else:
        return _sorted(factorize(weights.array, pattern))
    few = factorize_few(weights.array, pattern, most)
    if few is None:
        groups = tuple((k,) for k in range(weights.ndim))
        return Terms((), groups, math.inf)
    return _sorted(few)


def _sorted(factors: Factors) -> Terms:
    letters = factors.pattern.letters
    groups = tuple(
        tuple(letters.index(a) for a in factors.pattern.own(k))
        for k in range(len(factors.pattern.factors))
    )
    sizes = [math.prod(float(np.linalg.norm(v)) for v in t) for t in factors.terms]
    order = sorted(range(len(sizes)), key=lambda r: -sizes[r])
    return Terms(tuple(factors.terms[r] for r in order), groups, factors.bound)


def _product(term: tuple[Array, ...], groups: Sequence[tuple[int, ...]]) -> Array:
    """Multiply one term out."""
    product = term[0]
    for vector in term[1:]:
        product = np.multiply.outer(product, vector)
    return np.transpose(product, np.argsort([a for g in groups for a in g]))


def _first_alone(every: Terms, weights: Kernel) -> Terms:
    """Return the largest term alone, with the bound it reaches."""
    if weights.is_product:
        bound = every.bound + _left_out(every, weights)[1]
    else:
        one = _product(every.terms[0], every.groups)
        bound = kernel_errors(weights.array, one)[1]
    return Terms(every.terms[:1], every.groups, bound)


def _left_out(every: Terms, weights: Kernel) -> list[float]:
    """Return, for each term, the relative 1-norm of the sum of it and all smaller terms.

    A large kernel is multiplied out in parts. For very many terms the sum of their norms is returned,
    which is an upper bound.
    """
    count = len(every.terms)
    if count > MANY:
        norms = [math.prod(float(np.sum(np.abs(v))) for v in t) for t in every.terms]
        sums = np.cumsum(norms[::-1])[::-1]
    else:
        assert weights.product is not None
        half, counts = folded(Factors.from_terms(weights.product.pattern, every.terms))
        lead = next(k for k, group in enumerate(every.groups) if group[0] == 0)
        sums = np.zeros(count)
        for rows in row_slices(half.shape):
            total: Any = 0.0
            for r in range(count - 1, -1, -1):
                part = tuple(v[rows] if k == lead else v for k, v in enumerate(half.terms[r]))
                total = total + _product(part, every.groups)
                sums[r] += counted_sum(np.abs(total), counts, rows)
    return [float(s) / weights.norm for s in sums]


def _truncate_terms(every: Terms, weights: Kernel, limit: float) -> Terms:
    """Leave out the smallest terms while the 1-norm of their sum stays within `limit`."""
    total = weights.norm
    if total == 0:  # a kernel of zeros, whatever its factors are
        return Terms((), every.groups, 0.0)
    kept, bound = len(every.terms), every.bound
    if kept and _least(every) / total > limit + SLACK:
        return every  # not even the smallest one can be left out
    if weights.is_product:
        errors = _left_out(every, weights)
        while kept > 0 and errors[kept - 1] + every.bound <= limit:
            kept, bound = kept - 1, errors[kept - 1] + every.bound
        return Terms(every.terms[:kept], every.groups, bound)
    left_out: Any = 0.0
    while kept > 0:
        left_out = left_out + _product(every.terms[kept - 1], every.groups)
        error = float(np.sum(np.abs(left_out))) / total + every.bound
        if error > limit:
            break
        kept, bound = kept - 1, error
    return Terms(every.terms[:kept], every.groups, bound)


def _least(every: Terms) -> float:
    """Return the 1-norm of the smallest term."""
    return math.prod(float(np.sum(np.abs(v))) for v in every.terms[-1])


def _within(every: Terms, weights: Kernel, tol: float) -> Terms:
    """Return the fewest terms within a tolerance, polyadic ones if they are fewer."""
    some = _truncate_terms(every, weights, tol)
    if weights.ndim > 2 and weights.product is None:
        fewer = factorize(weights.array, filter_pattern(weights.ndim), tol=tol)
        if fewer.bound <= tol and fewer.rank < len(some.terms):
            return _sorted(fewer)
    return some


def _few(weights: Kernel, most: int, tol: float) -> Terms | None:
    """Return at most so many terms, if they are within a tolerance."""
    few = factorize_few(weights.array, filter_pattern(weights.ndim), most, tol)
    return None if few is None or few.bound > tol else _sorted(few)


def _partial(weights: Kernel) -> Terms | None:
    """Return a dense kernel of three axes and more as one axis apart from the others."""
    if weights.ndim < 3 or weights.product is not None:
        return None
    letters = filter_pattern(weights.ndim).split(" ")[0]
    for lead, letter in enumerate(letters):
        matrix = np.moveaxis(weights.array, lead, 0).reshape(weights.shape[lead], -1)
        if not _may_have_rank_one(matrix):
            continue
        values = np.linalg.svd(matrix.astype(np.result_type(matrix, np.float64)), compute_uv=False)
        if np.sum(values > max(matrix.shape) * np.finfo(np.float64).eps * values[0]) != 1:
            continue
        rest = letters.replace(letter, "")
        factors = factorize(weights.array, f"{letters} -> {letter},{rest}", rank=1)
        return _sorted(factors)
    return None


def _may_have_rank_one(matrix: Array) -> bool:
    """Return whether a matrix is near the product of the row and column through its largest element.

    This test is cheap; a singular value decomposition of a large kernel is not.
    """
    at = np.unravel_index(int(np.argmax(np.abs(matrix))), matrix.shape)
    peak = matrix[at].astype(np.result_type(matrix, np.float64))
    cross = np.multiply.outer(matrix[:, at[1]] / peak, matrix[at[0]])
    return bool(np.max(np.abs(matrix - cross)) <= NEARLY * abs(peak))


def _extents(terms: Terms) -> tuple[int, ...]:
    """Return for each kernel axis how many taps all terms have together, ends of rounding cut off."""
    ndim = sum(len(group) for group in terms.groups)
    found = [0] * ndim
    for k, group in enumerate(terms.groups):
        if len(group) > 1 or not terms.terms:
            continue
        size = np.abs(np.stack([term[k] for term in terms.terms]))  # (terms, taps)
        used = size > SURELY * size.max(axis=1, keepdims=True)
        count = used.shape[1] - used[:, ::-1].argmax(axis=1) - used.argmax(axis=1)
        found[group[0]] = int(np.where(used.any(axis=1), count, 0).sum())
    return tuple(found)
