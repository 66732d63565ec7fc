"""Canonical polyadic decomposition by TensorLy, for kernels that then need fewer passes.

It can need fewer terms than nested decompositions, but a best one need not exist: terms may grow
without limit and cancel (de Silva and Lim, 2008, doi:10.1137/06066518X). So it is tried only if an
error is allowed, and rejected if its terms cancel.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factorize.nested import Term, pass_count
from separable.factors import Factors, kernel_errors

__all__ = ["improve"]

Array = NDArray[Any]

MOST_TERMS = 8  # fitting more terms takes minutes and has never reduced the number of passes
SWEEPS = 300
LARGE = 1 << 15  # elements: larger tensors get fewer sweeps, in proportion,
LARGEST = 1 << 20  # and none beyond this


def improve(
    tensor: Array, plain: Factors, fixed_rank: bool, tol: float | None, eps: float
) -> list[tuple[float, tuple[Array, ...]]] | None:
    """Look for polyadic terms better than the nested ones.

    Parameters
    ----------
    tensor : ndarray
        Kernel with one axis per factor.
    plain : Factors
        Its nested terms.
    fixed_rank : bool
        If true, look for a smaller error with as many terms; else for fewer passes within `tol`.
    tol : float or None
        Largest relative Frobenius error.
    eps : float
        Rounding unit of the kernel's type.

    Returns
    -------
    list of (1.0, vectors) or None
        None if the nested terms are as good.
    """
    if tensor.size > LARGEST:
        return None
    if np.iscomplexobj(tensor) or plain.rank == 0 or (fixed_rank and plain.error <= 64 * eps):
        return None
    scale = float(np.max(np.abs(tensor)))
    if fixed_rank:
        if plain.rank > MOST_TERMS:
            return None
        terms, error = _fit(tensor / scale, plain.rank)
        better = error < plain.error and not _cancels(terms, tensor / scale, eps, max(error, eps))
        return _scaled(terms, scale) if better else None
    passes = pass_count([Term(1.0, _unit(t)) for t in plain.terms])
    for rank in range(1, min(MOST_TERMS, (passes - 1) // tensor.ndim) + 1):
        terms, error = _fit(tensor / scale, rank)
        if tol is not None and error <= tol and not _cancels(terms, tensor / scale, eps, tol):
            return _scaled(terms, scale)
    return None


def _fit(tensor: Array, rank: int) -> tuple[list[tuple[Array, ...]], float]:
    """Fit terms by alternating least squares; return them and the relative Frobenius error."""
    from tensorly.decomposition import parafac  # start-up: its import takes longer than most fits

    sweeps = min(SWEEPS, max(1, SWEEPS * LARGE // tensor.size))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            weights, factors = parafac(
                tensor, rank, n_iter_max=sweeps, init="svd", svd=_thin_svd, tol=1e-9, random_state=0
            )
        except np.linalg.LinAlgError:
            return [], float("inf")
    terms = []
    for r in range(rank):
        vectors = [np.asarray(f[:, r]) for f in factors]
        vectors[0] = vectors[0] * weights[r]
        terms.append(_shared(vectors))
    return terms, kernel_errors(tensor, _sum(terms, tensor.shape))[0]


def _thin_svd(matrix: Array, n_eigenvecs: int, **_: Any) -> tuple[Array, Array, Array]:
    """Return the leading singular vectors and values.

    TensorLy 0.9 computes all singular vectors if the rank exceeds a size, which needs gigabytes for
    the long unfolding of a large kernel.
    """
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :n_eigenvecs], s[:n_eigenvecs], v[:n_eigenvecs]


def _shared(vectors: list[Array]) -> tuple[Array, ...]:
    """Give every vector of a term the same norm."""
    norms = [float(np.linalg.norm(v)) for v in vectors]
    if not all(norms):
        return tuple(vectors)
    share = float(np.prod(norms)) ** (1 / len(norms))
    return tuple(v * (share / n) for v, n in zip(vectors, norms, strict=True))


def _sum(terms: list[tuple[Array, ...]], shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape)
    for vectors in terms:
        product = vectors[0]
        for vector in vectors[1:]:
            product = np.multiply.outer(product, vector)
        total += product
    return total


def _cancels(terms: list[tuple[Array, ...]], tensor: Array, eps: float, tol: float) -> bool:
    """Return whether rounding the terms costs more than the tolerance."""
    weight = sum(float(np.prod([np.sum(np.abs(v)) for v in vectors])) for vectors in terms)
    return weight * eps > tol * float(np.sum(np.abs(tensor)))


def _scaled(terms: list[tuple[Array, ...]], scale: float) -> list[tuple[float, tuple[Array, ...]]]:
    share = scale ** (1 / len(terms[0]))
    return [(1.0, tuple(v * share for v in vectors)) for vectors in terms]


def _unit(vectors: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(v / (np.linalg.norm(v) or 1.0) for v in vectors)
