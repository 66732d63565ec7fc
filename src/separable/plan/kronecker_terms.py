"""Kernels as coarse and fine passes: given as Kronecker factors, dilated, or found to be a Kronecker product.

A kernel of ``Y ky`` by ``X kx`` samples is the Kronecker product of A (Y x X) and B (ky x kx) if its rearrangement,
the matrix with one row for each block of ky x kx samples, has rank 1 (C. Van Loan and N. Pitsianis, 1993,
doi:10.1007/978-94-015-8196-7_17). Every split of the axes into such blocks is tried, because it is cheap to see
that a matrix does not have a small rank.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import Kernel
from separable.engine.spread_passes import SpreadPass, spread_chains, trimmed_pass
from separable.factorize import factorize
from separable.factors import Factors
from separable.pattern import kronecker_pattern

__all__ = [
    "MOST_TERMS",
    "ROUNDING",
    "KroneckerTerms",
    "block_sizes",
    "kronecker_terms",
    "rearranged",
    "searchable",
    "vector_passes",
    "without_single_taps",
]

Array = NDArray[Any]
Chains = tuple[tuple[SpreadPass, ...], ...]

MOST_WEIGHTS = 1 << 14  # of a dense kernel that is searched
MOST_COMPARED = (
    1 << 20
)  # weights of all splits together; of larger kernels only equal blocks are tried
MOST_AXES = 3
MOST_TERMS = 4
ROUNDING = 1e-13  # of the largest weight: what rounding may leave of a small rank


@dataclass(frozen=True)
class KroneckerTerms:
    """Terms of coarse and fine passes whose sum is the kernel within `bound` (1-norm, relative)."""

    chains: Chains
    bound: float

    @property
    def multiplications(self) -> int:
        """Multiplications per output."""
        return sum(p.multiplications for chain in self.chains for p in chain)


def kronecker_terms(weights: Kernel) -> KroneckerTerms | None:
    """Return the passes of a kernel with the fewest multiplications; None if none saves any.

    Factors with groups keep the split that they were given with.

    Examples
    --------
    >>> cross = np.array([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
    >>> found = kronecker_terms(Kernel(np.kron(cross, cross)))
    >>> found.multiplications, [p.dilation for p in found.chains[0]]
    (18, [(1, 1), (3, 3)])
    """
    given = weights.given
    if isinstance(given, Factors):
        if not given.pattern.has_groups:
            return None
        chains = spread_chains(given.flipped() if weights.flip else given)
        return KroneckerTerms(chains, 0.0) if chains else None
    if not searchable(weights):
        return None
    found = [_dilated(weights.dense)]
    found += [_split(weights.dense, sizes) for sizes in block_sizes(weights.shape)]
    # A compiled dense filter also multiplies the weights that are zero.
    able = [f for f in found if f is not None and f.multiplications <= weights.nonzeros]
    able = [f for f in able if f.multiplications < weights.size]
    return min(able, key=lambda f: f.multiplications) if able else None


def searchable(weights: Kernel) -> bool:
    """Return whether a kernel is small enough to be searched for Kronecker products, and has weights to save."""
    small = 1 <= weights.ndim <= MOST_AXES and weights.size <= MOST_WEIGHTS
    return small and weights.nonzeros >= 4


def _dilated(kernel: Array) -> KroneckerTerms | None:
    """Return a kernel whose weights lie on a grid as one pass over the grid, or as one along each axis."""
    starts, steps = [], []
    for axis in range(kernel.ndim):
        others = tuple(a for a in range(kernel.ndim) if a != axis)
        used = np.flatnonzero(np.any(kernel != 0, axis=others))
        starts.append(int(used[0]))
        steps.append(math.gcd(*map(int, np.diff(used))) or 1)
    if max(steps) == 1:
        return None
    grid = kernel[tuple(slice(a, None, s) for a, s in zip(starts, steps, strict=True))]
    chain, bound = _passes_of(grid, steps, starts)
    return KroneckerTerms((chain,), bound)


def _passes_of(
    taps: Array, dilation: list[int], offset: list[int]
) -> tuple[tuple[SpreadPass, ...], float]:
    """Return one pass, or one for each axis if the taps are a product of vectors and that saves multiplications."""
    whole = trimmed_pass(range(taps.ndim), taps, dilation, offset)
    sizes = [n for n in whole.taps.shape if n > 1]
    if len(sizes) < 2 or sum(sizes) >= whole.multiplications or not _rank(_unfolded(taps), 1):
        return (whole,), 0.0
    factors = factorize(taps, rank=1)
    if factors.bound > ROUNDING:
        return (whole,), 0.0
    return vector_passes(factors.terms[0], dilation, offset), factors.bound


def vector_passes(
    vectors: Sequence[Array], dilation: Sequence[int], offset: Sequence[int]
) -> tuple[SpreadPass, ...]:
    """Return one pass along each axis for taps that are the product of vectors."""
    passes = [
        trimmed_pass((a,), v, (dilation[a],), (offset[a],))
        for a, v in enumerate(vectors)
        if v.size > 1 or offset[a]
    ]
    scale = math.prod(v.item() for a, v in enumerate(vectors) if v.size == 1 and not offset[a])
    first = passes[0]
    passes[0] = SpreadPass(first.axes, first.taps * scale, first.dilation, first.offset)
    return tuple(passes)


def _unfolded(taps: Array) -> Array:
    return taps.reshape(taps.shape[0], -1)


def block_sizes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the sizes of blocks that divide the kernel, and divide some axis into several shorter parts."""
    divisors = [[d for d in range(1, n + 1) if n % d == 0] for n in shape]
    found = [
        sizes
        for sizes in itertools.product(*divisors)
        if any(1 < k < n for k, n in zip(sizes, shape, strict=True))
    ]
    if len(found) * math.prod(shape) > MOST_COMPARED:  # a plan does not wait for all of them
        found = [sizes for sizes in found if len(set(sizes)) == 1]
    return found


def _split(kernel: Array, sizes: tuple[int, ...]) -> KroneckerTerms | None:
    """Return the Kronecker terms of one split of the axes, if they are few and save multiplications."""
    blocks = math.prod(n // k for n, k in zip(kernel.shape, sizes, strict=True))
    most = min(MOST_TERMS, np.count_nonzero(kernel) // (blocks + math.prod(sizes)) + 1)
    rank = _rank(rearranged(kernel, sizes), most)
    if not rank:
        return None
    inner = "zyx"[-kernel.ndim :]
    factors = factorize(
        kernel, kronecker_pattern(kernel.ndim), sizes=dict(zip(inner, sizes, strict=True))
    )
    chains, bound = [], factors.bound
    for coarse, fine in factors.terms:
        passes: list[SpreadPass] = []
        for taps, dilation in ((fine, [1] * kernel.ndim), (coarse, list(sizes))):
            some, extra = _passes_of(taps, dilation, [0] * kernel.ndim)
            passes += some
            bound += extra
        chains.append(without_single_taps(passes))
    return KroneckerTerms(tuple(chains), bound)


def without_single_taps(passes: list[SpreadPass]) -> tuple[SpreadPass, ...]:
    """Leave out passes of the one weight 1 at the origin."""
    kept = [
        p for p in passes if not (p.taps.size == 1 and p.taps.item() == 1 and not any(p.offset))
    ]
    return tuple(kept or passes[:1])


def rearranged(kernel: Array, sizes: tuple[int, ...]) -> Array:
    """Return the matrix with one row for each block of the kernel."""
    split = [
        n for pair in zip(kernel.shape, sizes, strict=True) for n in (pair[0] // pair[1], pair[1])
    ]
    outer, inner = range(0, len(split), 2), range(1, len(split), 2)
    return kernel.reshape(split).transpose([*outer, *inner]).reshape(-1, math.prod(sizes))


def _rank(matrix: Array, most: int) -> int:
    """Return the rank of a matrix if it is at most `most`, otherwise 0, by crosses through its largest elements."""
    rest = matrix.copy()
    largest = float(np.max(np.abs(rest), initial=0.0))
    for rank in range(1, most + 1):
        i, j = np.unravel_index(int(np.argmax(np.abs(rest))), rest.shape)
        rest = rest - np.multiply.outer(rest[:, j], rest[i] / rest[i, j])
        if float(np.max(np.abs(rest))) <= ROUNDING * largest:
            return rank
    return 0
