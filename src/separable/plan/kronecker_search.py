"""The Kronecker products with the fewest multiplications whose sum is a kernel within a tolerance.

For each split of the axes into blocks, the sum of r Kronecker products that is closest in the Frobenius norm follows from
the singular values of the rearranged kernel (C. Van Loan and N. Pitsianis, 1993, doi:10.1007/978-94-015-8196-7_17).
The tolerance of a plan bounds the 1-norm, so that the terms are counted up until their 1-norm is within it. Then
coarse and fine factors that are nearly products of vectors become one pass along each axis, as far as the tolerance allows it.

Only blocks that divide the axes are tried: with others the passes would reach beyond the kernel, and a NaN would spread
beyond its support.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import Kernel
from separable.engine.spread_passes import SpreadPass, trimmed_pass
from separable.factors import Factors
from separable.plan.kronecker_terms import (
    MOST_TERMS,
    ROUNDING,
    KroneckerTerms,
    block_sizes,
    kronecker_terms,
    rearranged,
    searchable,
    vector_passes,
    without_single_taps,
)

__all__ = ["kronecker_within"]

Array = NDArray[Any]

MOST_WORK = 1 << 23
"""Operations of all singular value decompositions together: some tens of milliseconds."""
SLACK = 1e-13
"""Rounding of the sums of errors, relative to the norm of the kernel."""


def kronecker_within(weights: Kernel, tol: float) -> KroneckerTerms | None:
    """Return the passes within a tolerance that have the fewest multiplications; None if none saves any.

    Parameters
    ----------
    weights : Kernel
        Kernel to correlate with. Factors with groups keep the split that they were given with.
    tol : float
        1-norm of the error relative to that of the kernel.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kernel = np.kron(rng.random((5, 5)), rng.random((3, 3))) + 0.01 * rng.random((15, 15))
    >>> found = kronecker_within(Kernel(kernel), 0.05)
    >>> found.multiplications, found.bound < 0.05
    (34, True)
    """
    exact = kronecker_terms(weights)
    given = weights.given
    if tol <= 0 or isinstance(given, Factors) or not searchable(weights):
        return exact
    if weights.dtype.kind == "c":  # the passes take real taps only
        return exact
    search = _Search(weights, tol, exact)
    work = 0
    for sizes in sorted(block_sizes(weights.shape), key=search.least):
        blocks, inside = search.outer(sizes), math.prod(sizes)
        work += weights.size * min(math.prod(blocks), inside)
        if work > MOST_WORK:
            break
        search.consider(sizes)
    return search.best


class _Search:
    """The best terms found so far, and what a better one has to undercut."""

    def __init__(self, weights: Kernel, tol: float, exact: KroneckerTerms | None) -> None:
        self.kernel, self.norm = weights.dense, weights.norm
        self.allowed = (tol - SLACK) * weights.norm
        self.best = exact
        # A compiled dense filter also multiplies the weights that are zero.
        self.most = min(weights.nonzeros, weights.size - 1)
        if exact is not None:
            self.most = min(self.most, exact.multiplications - 1)

    def outer(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of blocks along each axis."""
        return tuple(n // k for n, k in zip(self.kernel.shape, sizes, strict=True))

    def least(self, sizes: tuple[int, ...]) -> int:
        """Return the multiplications of one term that cannot be undercut, unless weights are zero."""
        return _fewest(self.outer(sizes)) + _fewest(sizes)

    def consider(self, sizes: tuple[int, ...]) -> None:
        """Look for better terms with blocks of these sizes."""
        matrix = rearranged(self.kernel, sizes)
        # Blocks of zeros, and places that are zero in every block, stay zero.
        rows, columns = matrix.any(axis=1), matrix.any(axis=0)
        least = 2 if not (rows.all() and columns.all()) else self.least(sizes)
        if least > self.most:
            return
        scale = float(np.max(np.abs(matrix)))
        u, s, vt = np.linalg.svd(matrix[np.ix_(rows, columns)] / scale, full_matrices=False)
        coarse, fine = np.zeros((s.size, rows.size)), np.zeros((s.size, columns.size))
        coarse[:, rows], fine[:, columns] = (u * s * scale).T, vt
        # A 1-norm is at least the Frobenius norm, so that fewer terms than these cannot be enough.
        tails = np.sqrt(np.cumsum(s[::-1] ** 2))[::-1] * scale
        first = int(np.argmax(np.append(tails, 0.0) <= self.allowed))
        able = min(MOST_TERMS, int(np.sum(s > ROUNDING * s[0])))
        for rank in range(max(1, first), able + 1):
            if rank * least > self.most:
                return
            terms = [_Term(coarse[r].reshape(self.outer(sizes)), fine[r].reshape(sizes))
                     for r in range(rank)]  # fmt: skip
            self._try(terms, sizes)

    def _try(self, terms: list[_Term], sizes: tuple[int, ...]) -> None:
        """Keep terms that are within the tolerance, and better ones with passes along single axes."""
        rest = self.kernel - sum(t.product for t in terms)
        error = float(np.sum(np.abs(rest)))
        if error > self.allowed:
            return
        for change in _changes(terms):
            number, changed = change.term, terms[change.term].with_vectors(change.part)
            left = rest + terms[number].product - changed.product
            size = float(np.sum(np.abs(left)))
            if size <= self.allowed:
                terms[number], rest, error = changed, left, size
        chains = tuple(t.chain(sizes) for t in terms)
        found = KroneckerTerms(chains, error / self.norm + SLACK)
        if found.multiplications <= self.most:
            self.best, self.most = found, found.multiplications - 1


@dataclass(frozen=True)
class _Term:
    """One Kronecker product; a part that runs as one pass along each axis has its vectors."""

    coarse: Array
    fine: Array
    vectors: tuple[tuple[Array, ...] | None, tuple[Array, ...] | None] = (None, None)

    @property
    def product(self) -> Array:
        """The term multiplied out."""
        return np.kron(self.coarse, self.fine)

    def with_vectors(self, part: int) -> _Term:
        """Return the term with the coarse (0) or the fine (1) part as the closest product of vectors."""
        vectors = _closest_vectors(self.fine if part else self.coarse)
        taps = functools.reduce(np.multiply.outer, vectors)
        if part:
            return _Term(self.coarse, taps, (self.vectors[0], vectors))
        return _Term(taps, self.fine, (vectors, self.vectors[1]))

    def chain(self, sizes: Sequence[int]) -> tuple[SpreadPass, ...]:
        """Return the passes, fine ones first."""
        ndim = self.fine.ndim
        passes: list[SpreadPass] = []
        parts = ((self.fine, self.vectors[1], [1] * ndim), (self.coarse, self.vectors[0], sizes))
        for taps, vectors, dilation in parts:
            if vectors is None:
                passes.append(trimmed_pass(range(ndim), taps, dilation, [0] * ndim))
            else:
                passes += vector_passes(vectors, dilation, [0] * ndim)
        return without_single_taps(passes)


@dataclass(frozen=True)
class _Change:
    """A part of a term that may become passes along single axes, and the multiplications that saves."""

    term: int
    part: int
    saved: int


def _changes(terms: Sequence[_Term]) -> Iterator[_Change]:
    """Yield the parts that passes along single axes would run with fewer multiplications, most savings first."""
    found = []
    for number, term in enumerate(terms):
        for part, taps in enumerate((term.coarse, term.fine)):
            saved = trimmed_pass(range(taps.ndim), taps, [1] * taps.ndim).multiplications
            saved -= _fewest(taps.shape)
            if saved > 0:
                found.append(_Change(number, part, saved))
    yield from sorted(found, key=lambda c: -c.saved)


def _closest_vectors(taps: Array) -> tuple[Array, ...]:
    """Return one vector for each axis whose product is close to the taps: the closest one of two axes.

    One singular value decomposition after the other takes an axis off, which is fast; what the error becomes is
    checked afterwards.
    """
    vectors = []
    while taps.ndim > 1:
        u, s, vt = np.linalg.svd(taps.reshape(taps.shape[0], -1), full_matrices=False)
        vectors.append(u[:, 0] * s[0])
        taps = vt[0].reshape(taps.shape[1:])
    return (*vectors, taps)


def _fewest(shape: Sequence[int]) -> int:
    """Return the fewer of the weights of an array and of those of one vector along each of its axes."""
    longer = [n for n in shape if n > 1]
    return min(math.prod(shape), sum(longer)) if longer else 1
