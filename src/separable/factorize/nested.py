"""Nested singular value decompositions write a tensor as a sum of orthogonal products of vectors.

    T[z, y, x]  =  sum_r u_r[z] * M_r[y, x]          (one decomposition, z against the rest)
                =  sum_r u_r[z] * sum_s v_rs[y] * w_rs[x]

Terms with the same r share ``u_r``, so a filter runs that pass once. The terms are orthogonal to
each other, hence the error of leaving some out is the root of the sum of their squares. A tensor of
rank 1 is not a special case: it has one term at every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Term", "TooManyTermsError", "coefficients", "decompose", "largest", "pass_count"]

Array = NDArray[Any]

LARGE = 1 << 18  # elements: for larger tensors only the shortest axis is tried as the first


class TooManyTermsError(Exception):
    """A tensor needs more terms than were allowed."""


@dataclass(frozen=True)
class Term:
    """Coefficient > 0 and one unit vector per axis."""

    coefficient: float
    vectors: tuple[Array, ...]


def decompose(tensor: Array, cut: float, max_terms: int | None = None) -> list[Term]:
    """Return the terms with coefficients above `cut`, from the axis order with fewest passes.

    Parameters
    ----------
    tensor : ndarray of float64 or complex128
        Tensor of at least one axis.
    cut : float
        Absolute size below which a coefficient is rounding.
    max_terms : int, optional
        Largest number of terms.

    Raises
    ------
    TooManyTermsError
        If more terms than `max_terms` are needed, whichever axis is separated first.
    """
    if tensor.ndim == 1:
        size = float(np.linalg.norm(tensor))
        return [Term(size, (tensor / size,))] if size > cut else []
    axes: Sequence[int] = range(tensor.ndim) if tensor.ndim > 2 else (0,)
    if tensor.ndim > 2 and tensor.size > LARGE:
        axes = (int(np.argmin(tensor.shape)),)
    found = [_few_along(tensor, axis, cut, max_terms) for axis in axes]
    candidates = [terms for terms in found if terms is not None]
    if not candidates:
        raise TooManyTermsError
    return min(candidates, key=pass_count)


def _few_along(tensor: Array, axis: int, cut: float, max_terms: int | None) -> list[Term] | None:
    """Call `_along`, but return None if there are too many terms."""
    try:
        return _along(tensor, axis, cut, max_terms)
    except TooManyTermsError:
        return None


def _along(tensor: Array, axis: int, cut: float, max_terms: int | None) -> list[Term]:
    """Separate one axis from the rest, then separate the rest."""
    front = np.moveaxis(tensor, axis, 0)
    scale = float(np.max(np.abs(front), initial=0.0))
    if scale <= cut:
        return []
    matrix = front.reshape(front.shape[0], -1) / scale
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    if max_terms is not None and int(np.sum(s * scale > cut)) > max_terms:
        raise TooManyTermsError
    terms: list[Term] = []
    for r in range(len(s)):
        size = float(s[r]) * scale
        if size <= cut:
            break
        rest = vt[r].reshape(front.shape[1:])
        left = None if max_terms is None else max_terms - len(terms)
        for inner in decompose(rest, cut / size, left):
            vectors = [*inner.vectors]
            vectors.insert(axis, u[:, r])
            terms.append(_oriented(Term(size * inner.coefficient, tuple(vectors))))
    return terms


def _oriented(term: Term) -> Term:
    """Give all vectors but the last a positive sum (a positive last element if the sum is 0)."""
    if any(np.iscomplexobj(v) for v in term.vectors):
        return term
    vectors, sign = [], 1.0
    for vector in term.vectors[:-1]:
        total = float(vector.sum())
        decisive = total if abs(total) > 1e-9 * float(np.abs(vector).sum()) else vector[-1]
        flip = -1.0 if decisive < 0 else 1.0
        sign *= flip
        vectors.append(vector * flip)
    return Term(term.coefficient, (*vectors, term.vectors[-1] * sign))


def pass_count(terms: list[Term]) -> int:
    """Return the number of one-dimensional passes if terms with equal first vectors share that pass."""
    if not terms:
        return 0
    ndim = len(terms[0].vectors)
    best = ndim * len(terms)
    for axis in range(ndim):
        distinct = {v.tobytes() for v in (t.vectors[axis].round(12) + 0.0 for t in terms)}
        best = min(best, len(distinct) + (ndim - 1) * len(terms))
    return best


def largest(terms: list[Term], count: int) -> list[Term]:
    """Return the `count` terms with the largest coefficients, in their order."""
    order = sorted(range(len(terms)), key=lambda i: -terms[i].coefficient)[:count]
    return [terms[i] for i in sorted(order)]


def coefficients(tensor: Array, cut: float) -> NDArray[np.float64]:
    """Return the coefficients of the nested terms in descending order; at least one."""
    values = sorted((t.coefficient for t in decompose(tensor, cut)), reverse=True)
    return np.array(values or [0.0])
