"""Mirrored taps, which share their multiplications.

A decomposition returns the vectors of a symmetric kernel as symmetric up to rounding, and the rounding
differs between processors. Only taps that mirror exactly share multiplications, so this module makes them exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_folding", "is_folding", "mirrored"]

Array = NDArray[Any]

ROUNDINGS = 64 * float(np.finfo(np.float64).eps)  # of a decomposition, relative to the kernel


def is_folding(taps: Array) -> bool:
    """Return whether mirrored taps can share a multiplication: odd length, even or odd symmetry.

    Examples
    --------
    >>> is_folding(np.array([1, 2, 1])), is_folding(np.array([-1, 0, 1])), is_folding(np.ones(4))
    (True, True, False)
    """
    if len(taps) % 2 == 0 or np.iscomplexobj(taps):
        return False
    return bool(np.array_equal(taps, taps[::-1]) or np.array_equal(taps, -taps[::-1]))


def count_folding(rows: Array) -> int:
    """Return how many rows of taps can share multiplications, as `is_folding` says of each.

    Examples
    --------
    >>> count_folding(np.array([[1, 2, 1], [-1, 0, 1], [1, 2, 3]]))
    2
    """
    if rows.shape[1] % 2 == 0 or np.iscomplexobj(rows):
        return 0
    turned = rows[:, ::-1]
    return int(np.sum(np.all(rows == turned, axis=1) | np.all(rows == -turned, axis=1)))


def mirrored(
    terms: Sequence[tuple[Array, ...]], total: float
) -> tuple[list[tuple[Array, ...]], float]:
    """Return terms in which vectors that mirror up to rounding mirror exactly.

    Parameters
    ----------
    terms : sequence of tuple of ndarray
        Vectors and blocks of float64 or complex128.
    total : float
        1-norm of the sum of the terms.

    Returns
    -------
    list of tuple of ndarray
        The terms.
    float
        Bound on the change, in the 1-norm relative to `total`.

    Examples
    --------
    >>> nearly = np.array([1.0, 2.0, 1.0 + 1e-15])
    >>> terms, change = mirrored([(nearly, np.ones(3))], 12.0)
    >>> bool(terms[0][0][0] == terms[0][0][2]), change < 1e-15
    (True, True)
    """
    result, change = [], 0.0
    for term in terms:
        sizes = [float(np.sum(np.abs(v))) for v in term]
        own = list(term)
        for k, vector in enumerate(term):
            if vector.ndim != 1 or is_folding(vector):
                continue
            others = math.prod(sizes[:k] + sizes[k + 1 :])
            for sign in (1.0, -1.0):
                even = (vector + sign * vector[::-1]) / 2
                moved = float(np.sum(np.abs(even - vector))) * others
                if moved <= ROUNDINGS * total and np.any(even):
                    own[k], change = even, change + moved
                    break
        result.append(tuple(own))
    return result, change / total if total else 0.0
