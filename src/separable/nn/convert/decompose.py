"""Factorisation of weights at given ranks, through products with the transpose if they are large.

A truncated decomposition needs the leading singular vectors of one side only, which are eigenvectors
of the matrix times its transpose. The projection on them is exact whatever their rounding. For the
wide matrices of spatial and Tucker patterns this is about ten times faster than a singular value
decomposition. Small matrices, as of depthwise patterns, are left to `factorize`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from separable.factorize import factorize
from separable.lowering.scheme import Scheme

__all__ = ["chain_of", "decomposed", "masked", "multiplied"]

Array = NDArray[Any]

LARGE = 96  # fewest rows for which products with the transpose are faster


def decomposed(scheme: Scheme, kernel: Array) -> list[Array]:
    """Factorise a kernel at a scheme's ranks; terms beyond a batch value's rank are zero.

    Parameters
    ----------
    scheme : Scheme
    kernel : ndarray, in the shape that the pattern has it
    """
    pattern = scheme.pattern
    if not pattern.has_one_bond:
        leaves = chain_of(scheme)
        if leaves is not None and not pattern.batch and min(kernel.shape[:2]) >= LARGE:
            return _chain(scheme, kernel, leaves)
        ranks = {b: scheme.size(b) for b in scheme.bonds}
        return list(factorize(kernel, pattern, rank=ranks, sizes=scheme.sizes).arrays)
    rows = min(_count(scheme, pattern.own(k)) for k in range(2))
    if len(pattern.factors) == 2 and not pattern.batch and rows >= LARGE:
        return _pair(scheme, kernel)
    rank = scheme.size(scheme.bonds)
    return masked(scheme, factorize(kernel, pattern, rank=rank, sizes=scheme.sizes).arrays)


def multiplied(scheme: Scheme, arrays: Sequence[Array]) -> Array:
    """Multiply the factors; return the kernel with one axis per letter."""
    dense = np.einsum(scheme.pattern.einsum, *arrays, optimize=True)
    return np.ascontiguousarray(dense)


def masked(scheme: Scheme, arrays: Sequence[Array]) -> list[Array]:
    """Set terms to zero that a batch value of lower rank does not have."""
    found = [np.array(a) for a in arrays]
    for bond, ranks in scheme.ranks.items():
        if ranks.min() == ranks.max():
            continue
        letters = scheme.pattern.batch + bond
        for k, operand in enumerate(scheme.operands):
            if not all(a in operand for a in letters):
                continue
            sizes = dict(zip(operand, found[k].shape, strict=True))
            kept = np.arange(sizes[bond]) < ranks[..., None]
            order = [letters.index(a) for a in operand if a in letters]
            shape = [n if a in letters else 1 for a, n in sizes.items()]
            found[k] *= np.transpose(kept, order).reshape(shape)
    return found


def chain_of(scheme: Scheme) -> tuple[int, int, int] | None:
    """Return leaf, core and leaf of a pattern of three factors, or None."""
    cores = [k for k, f in enumerate(scheme.operands) if all(b in f for b in scheme.bonds)]
    if len(scheme.operands) != 3 or len(scheme.bonds) != 2 or len(cores) != 1:
        return None
    first, last = (k for k in range(3) if k != cores[0])
    return first, cores[0], last


def _pair(scheme: Scheme, kernel: Array) -> list[Array]:
    """Factorise into two factors without batch letters."""
    pattern, bond = scheme.pattern, scheme.bonds
    rows, columns = pattern.own(0), pattern.own(1)
    matrix = _turned(scheme, kernel, rows + columns).reshape(_count(scheme, rows), -1)
    basis = _leading(matrix, scheme.size(bond))
    rest = basis.T @ matrix
    # both factors of a term share its scale equally
    share = np.sqrt(np.linalg.norm(rest, axis=1))
    scale = np.where(share > 0, share, 1.0)
    return [
        _placed(scheme, 0, basis * share, rows + bond),
        _placed(scheme, 1, rest / scale[:, None], bond + columns),
    ]


def _chain(scheme: Scheme, kernel: Array, chain: tuple[int, int, int]) -> list[Array]:
    """Factorise into a core between two leaves, by projection on leading singular vectors."""
    first, core, last = chain
    own = scheme.pattern.own
    bonds = [next(b for b in scheme.operands[k] if b in scheme.bonds) for k in (first, last)]
    cube = _turned(scheme, kernel, own(first) + own(core) + own(last))
    rows, columns = _count(scheme, own(first)), _count(scheme, own(last))
    u = _leading(cube.reshape(rows, -1), scheme.size(bonds[0]))
    inner = (u.T @ cube.reshape(rows, -1)).reshape(-1, columns)
    v = _leading(inner.T, scheme.size(bonds[1]))
    arrays = {
        first: _placed(scheme, first, u, own(first) + bonds[0]),
        core: _placed(scheme, core, inner @ v, bonds[0] + own(core) + bonds[1]),
        last: _placed(scheme, last, v, own(last) + bonds[1]),
    }
    sizes = [float(np.linalg.norm(arrays[k])) for k in range(3)]
    if not all(sizes):
        return [arrays[k] for k in range(3)]
    mean = float(np.exp(np.mean(np.log(sizes))))
    return [arrays[k] * (mean / n) for k, n in enumerate(sizes)]


def _leading(matrix: Array, rank: int) -> Array:
    """Return the leading left singular vectors of a matrix, (rows, rank)."""
    rows, columns = matrix.shape
    if rows <= columns:
        found: Array = scipy.linalg.eigh(
            matrix @ matrix.T, subset_by_index=(rows - rank, rows - 1), check_finite=False
        )[1]
        return found[:, ::-1]
    right = _leading(matrix.T, rank)
    basis: Array = np.linalg.qr(matrix @ right)[0]
    return basis


def _turned(scheme: Scheme, kernel: Array, letters: str) -> Array:
    known = scheme.pattern.letters
    split = kernel.reshape([scheme.size(a) for a in known])
    return np.ascontiguousarray(np.transpose(split, [known.index(a) for a in letters]))


def _placed(scheme: Scheme, factor: int, matrix: Array, letters: str) -> Array:
    split = matrix.reshape([scheme.size(a) for a in letters])
    return np.transpose(split, [letters.index(a) for a in scheme.operands[factor]])


def _count(scheme: Scheme, letters: str) -> int:
    return int(np.prod([scheme.size(a) for a in letters], initial=1))
