"""Normal equations of the factors of a layer, and their solution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

__all__ = ["filter_equations", "solved"]

Array = NDArray[Any]
BLOCK = 2**26  # bytes of the products of one block of outputs


def filter_equations(
    rows: Array, product: Array, flat: Array, block: int = BLOCK
) -> Iterator[tuple[tuple[int, int], Array, Array]]:
    """Yield the range of some outputs, and the normal equations of their factors.

    Each block of outputs reads all moments once. One output at a time would read them from memory as often as there
    are outputs, which is 500 times 170 MB in a 3x3 layer of 512 channels.

    Parameters
    ----------
    rows : ndarray, shape (o, m, M)
        Features that the other factors compute.
    product : ndarray, shape (o, L, M)
        Targets times moments.
    flat : ndarray, shape (M, L * L * M)
        Second moments of the inputs, with the letters of the fitted factor L and the others M.
    block : int
        Bytes of the products of one block.

    Yields
    ------
    part : tuple of int
    normals : ndarray, shape (o, L, m, L, m)
    right : ndarray, shape (o, L, m)
    """
    (many, terms, tail), count = rows.shape, product.shape[1]
    step = max(1, block // max(8 * terms * flat.shape[1], 1))
    for at in range(0, many, step):
        r = rows[at : at + step]
        turned = r.swapaxes(1, 2)  # (o, M, m)
        half = (r.reshape(-1, tail) @ flat).reshape(len(r), -1, tail) @ turned
        normals = half.reshape(len(r), terms, count, count, terms).swapaxes(1, 2)
        yield (at, at + len(r)), normals, product[at : at + step] @ turned


def solved(matrix: Array, right: Array) -> Array:
    """Solve a positive definite system, by least squares if it is numerically singular."""
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return np.asarray(scipy.linalg.lstsq(matrix, right, check_finite=False)[0])
    return np.asarray(scipy.linalg.cho_solve(factor, right, check_finite=False))
