"""Leading terms of a large kernel, without computing all of them.

A full singular value decomposition of an ``m x n`` kernel takes some ``20 m n min(m, n)`` operations,
minutes for a kernel of a few thousand samples squared. The product of the kernel with a few random
vectors is enough to know whether a few terms represent it (Halko, Martinsson and Tropp, 2011,
doi:10.1137/090771806). The reported error is measured on the terms themselves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factorize import nested
from separable.factorize.factorization import (
    finish,
    oriented,
    pad_batches,
    stack_terms,
    to_operands,
)
from separable.factorize.factorize_request import FactorizeRequest, as_kernel, magnitude, parse_for
from separable.factorize.integers import integer_factors
from separable.factors import Factors

__all__ = ["factorize_few"]

Array = NDArray[Any]

OVERSAMPLING = 8  # random vectors in addition to one per term
CHUNK = 1 << 18  # elements of the error that are computed together


def factorize_few(
    kernel: Array, pattern: str, max_terms: int, tol: float | None = None
) -> Factors | None:
    """Return the factors of a kernel that has at most `max_terms` terms, or None.

    Parameters
    ----------
    kernel : ndarray
        The dense kernel.
    pattern : str
        Pattern with one axis in each factor and one bond.
    max_terms : int
        Largest number of terms.
    tol : float, optional
        Relative Frobenius error. With two factors the leading `max_terms` terms are then
        returned, whatever they leave out. With more factors the terms are returned that the error
        may need, if they are at most `max_terms`.

    Examples
    --------
    >>> grid = np.hypot(*np.mgrid[-40:41, -40:41])
    >>> factorize_few(np.exp(-grid), "yx -> y,x", 3) is None
    True
    >>> factorize_few(np.exp(-grid**2 / 200), "yx -> y,x", 3).rank
    1
    """
    array = as_kernel(kernel)
    parsed = parse_for(pattern, array)
    request = FactorizeRequest(array, parsed, parsed.sizes(array.shape, None), None, tol)
    integers = integer_factors(request.tensor, parsed)
    if integers is not None:
        return finish(request, *stack_terms(request, [(1.0, integers)]))
    if array.ndim == 2:
        return _pair(request, max_terms, exact=tol is None)
    tensor = request.tensor
    cut = request.rounding(tensor)
    if tol is not None:
        # Smaller terms are not needed: all of them together are within the tolerance.
        scale = magnitude(tensor)
        count = math.prod(request.lengths) // max(request.lengths)
        size = float(np.linalg.norm(tensor / scale)) * scale
        cut = max(cut, tol * size / math.sqrt(count))
    try:
        terms = nested.decompose(tensor, cut, max_terms)
    except nested.TooManyTermsError:
        return None
    return finish(request, *pad_batches(request, [terms]))


def _pair(request: FactorizeRequest, max_terms: int, *, exact: bool) -> Factors | None:
    """Factor into two by an SVD within the range of a few random vectors."""
    matrix = request.matrices()
    scale = magnitude(matrix)
    matrix = matrix / scale
    first, rest = _range_of(matrix, max_terms + OVERSAMPLING)
    u, s, vt = np.linalg.svd(rest, full_matrices=False)
    rank = int(np.sum(s > request.noise(s[:1])))
    if exact:
        noise = float(request.noise(s[:1])[0]) * math.sqrt(min(matrix.shape))
        if rank > max_terms or _residual(matrix, first, rest) > noise:
            return None
    rank = min(rank, max_terms)
    share = np.sqrt(s[:rank] * scale)
    columns = [(first @ u[:, :rank]) * share, vt[:rank].T * share]
    if not np.iscomplexobj(matrix):
        sign = oriented(columns[0])
        columns = [c * sign for c in columns]
    return finish(request, to_operands(request, columns), {request.pattern.bonds: rank})


def _range_of(matrix: Array, count: int) -> tuple[Array, Array]:
    """Return an orthonormal basis of nearly the range of a matrix, and the matrix in it."""
    count = min(count, *matrix.shape)
    probe = np.random.default_rng(0).standard_normal((matrix.shape[1], count))
    basis = np.linalg.qr(matrix @ probe)[0]
    basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.conj().T @ basis)[0])[0]
    return basis, basis.conj().T @ matrix


def _residual(matrix: Array, first: Array, rest: Array) -> float:
    """Return the Frobenius norm of the part outside the basis."""
    step = max(1, CHUNK // matrix.shape[1])
    squares = 0.0
    for start in range(0, len(matrix), step):
        rows = slice(start, start + step)
        squares += float(np.linalg.norm(matrix[rows] - first[rows] @ rest)) ** 2
    return math.sqrt(squares)
