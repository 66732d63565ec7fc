"""Integer factors of integer kernels of rank 1, as people write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.pattern import Pattern

__all__ = ["integer_factors"]

LARGEST = 2.0**53  # float64 represents every integer up to this one


def integer_factors(tensor: NDArray[Any], pattern: Pattern) -> tuple[NDArray[np.int64], ...] | None:
    """Return the integer factors of a kernel, or None if it has none.

    Parameters
    ----------
    tensor : ndarray, shape (own letters of the first factor, of the second, ...)
        Kernel in float64.
    pattern : Pattern
        Pattern with one bond and no batch letters.

    Returns
    -------
    tuple of ndarray of int64, each flat, or None
        One vector per factor. Only the first has a common divisor, that of the kernel. Every
        factor has a positive sum or, if its sum is 0, a positive last element. A negative sign
        that remains goes to the first factor of sum 0 if there is one, else to the last.

    Examples
    --------
    >>> from separable.pattern import parse
    >>> kernel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    >>> [v.tolist() for v in integer_factors(kernel, parse("y,x"))]
    [[1, 2, 1], [-1, 0, 1]]
    """
    if np.iscomplexobj(tensor) or not tensor.any():
        return None
    if np.max(np.abs(tensor)) >= LARGEST or np.any(tensor != np.rint(tensor)):
        return None
    lengths = [math.prod(_own_shape(tensor, pattern, k)) for k in range(len(pattern.factors))]
    elements = tensor.astype(np.int64).reshape(lengths)
    pivot = np.unravel_index(int(np.argmax(np.abs(elements))), elements.shape)
    vectors = []
    for axis in range(elements.ndim):
        index: list[Any] = list(pivot)
        index[axis] = slice(None)
        line = elements[tuple(index)]
        vectors.append(_oriented(line // np.gcd.reduce(line)))
    return _with_scale(elements, vectors, pivot)


def _own_shape(tensor: NDArray[Any], pattern: Pattern, factor: int) -> tuple[int, ...]:
    start = sum(len(pattern.own(k)) for k in range(factor))
    return tensor.shape[start : start + len(pattern.own(factor))]


def _oriented(vector: NDArray[np.int64]) -> NDArray[np.int64]:
    total = int(vector.sum())
    decisive = total if total else int(vector[np.flatnonzero(vector)[-1]])
    return vector if decisive > 0 else -vector


def _with_scale(
    elements: NDArray[np.int64], vectors: list[NDArray[np.int64]], pivot: tuple[Any, ...]
) -> tuple[NDArray[np.int64], ...] | None:
    """Find the common divisor from the pivot, and check that the product is the kernel."""
    unit = math.prod(int(v[i]) for v, i in zip(vectors, pivot, strict=True))
    scale, rest = divmod(int(elements[pivot]), unit)
    if rest:
        return None
    # Primitive vectors whose product is the kernel have a product no larger than its elements.
    if abs(scale) * math.prod(int(np.max(np.abs(v))) for v in vectors) > LARGEST:
        return None
    if scale < 0:
        flipped = next((k for k, v in enumerate(vectors) if not v.sum()), len(vectors) - 1)
        vectors[flipped] = -vectors[flipped]
        scale = -scale
    vectors[0] = vectors[0] * scale
    product = vectors[0]
    for vector in vectors[1:]:
        product = np.multiply.outer(product, vector)
    return tuple(vectors) if np.array_equal(product, elements) else None
