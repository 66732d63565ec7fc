"""Nested singular value decompositions: a tensor as a sum of orthogonal products of vectors.

    T[z, y, x]  =  sum_r u_r[z] * M_r[y, x]          (one decomposition, z against the rest)
                =  sum_r u_r[z] * sum_s v_rs[y] * w_rs[x]

Terms with the same r share ``u_r``, so a filter runs that pass once. The terms are orthogonal to
each other, hence the error of leaving some out is the root of the sum of their squares, and a
tensor of rank 1 is found by the same code: one term at every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Term", "TooManyTermsError", "coefficients", "decompose", "largest", "pass_count"]

Array = NDArray[Any]

LARGE = 1 << 18  # elements: of larger tensors only the shortest axis is tried as the first


class TooManyTermsError(Exception):
    """A tensor needs more terms than were allowed."""


@dataclass(frozen=True)
class Term:
    """A coefficient > 0 and one unit vector for each axis."""

    coefficient: float
    vectors: tuple[Array, ...]


def decompose(tensor: Array, cut: float, most: int | None = None) -> list[Term]:
    """Return the terms with coefficients above `cut`, from the axis order with fewest passes.

    Parameters
    ----------
    tensor : ndarray of float64 or complex128, at least one axis
    cut : float
        The absolute size below which a coefficient is rounding.
    most : int, optional
        The number of terms allowed.

    Raises
    ------
    TooManyTermsError
        If it takes more terms than `most`, whichever axis is separated first.
    """
    if tensor.ndim == 1:
        size = float(np.linalg.norm(tensor))
        return [Term(size, (tensor / size,))] if size > cut else []
    leads: Sequence[int] = range(tensor.ndim) if tensor.ndim > 2 else (0,)
    if tensor.ndim > 2 and tensor.size > LARGE:
        leads = (int(np.argmin(tensor.shape)),)
    found = [_few_along(tensor, lead, cut, most) for lead in leads]
    candidates = [terms for terms in found if terms is not None]
    if not candidates:
        raise TooManyTermsError
    return min(candidates, key=pass_count)


def _few_along(tensor: Array, lead: int, cut: float, most: int | None) -> list[Term] | None:
    """As `_along`, or None where there are too many terms."""
    try:
        return _along(tensor, lead, cut, most)
    except TooManyTermsError:
        return None


def _along(tensor: Array, lead: int, cut: float, most: int | None) -> list[Term]:
    """Separate one axis from the rest, then the rest."""
    front = np.moveaxis(tensor, lead, 0)
    scale = float(np.max(np.abs(front), initial=0.0))
    if scale <= cut:
        return []
    matrix = front.reshape(front.shape[0], -1) / scale
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    if most is not None and int(np.sum(s * scale > cut)) > most:
        raise TooManyTermsError
    terms: list[Term] = []
    for r in range(len(s)):
        size = float(s[r]) * scale
        if size <= cut:
            break
        rest = vt[r].reshape(front.shape[1:])
        left = None if most is None else most - len(terms)
        for inner in decompose(rest, cut / size, left):
            vectors = [*inner.vectors]
            vectors.insert(lead, u[:, r])
            terms.append(_oriented(Term(size * inner.coefficient, tuple(vectors))))
    return terms


def _oriented(term: Term) -> Term:
    """Give all vectors but the last a positive sum (a positive last element if the sum is nil)."""
    if any(np.iscomplexobj(v) for v in term.vectors):
        return term
    vectors, sign = [], 1.0
    for vector in term.vectors[:-1]:
        total = float(vector.sum())
        decisive = total if abs(total) > 1e-9 * float(np.abs(vector).sum()) else vector[-1]
        own = -1.0 if decisive < 0 else 1.0
        sign *= own
        vectors.append(vector * own)
    return Term(term.coefficient, (*vectors, term.vectors[-1] * sign))


def pass_count(terms: list[Term]) -> int:
    """How many one-dimensional passes the terms need when equal first vectors are run once."""
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
