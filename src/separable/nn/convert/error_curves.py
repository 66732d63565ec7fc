"""Error curves: the error that a layer in one pattern has for each number of multiplications."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factorize import factorize, spectrum
from separable.factorize.trees import matricise
from separable.lowering.scheme import Rank, Scheme
from separable.nn.convert.decompose import chain_of
from separable.nn.convert.least_squares import Metric

__all__ = ["Curve", "curve", "curves", "kernel_ranks"]

Array = NDArray[Any]
Costs = Callable[[Scheme], float]

NARROW = 3  # ranks up to a vector are a half, a quarter, an eighth of it; above, whole vectors
LEVELS = 24  # points of a curve of several bonds
ROUNDING = 1e-12  # squared error at the level of the weights' rounding


@dataclass(frozen=True, eq=False)
class Curve:
    """Costs and errors of a layer written in one pattern, from few terms to many.

    Attributes
    ----------
    scheme : Scheme
        Layer and pattern, with rank 1.
    costs : ndarray, shape (points,)
        Multiplications, ascending.
    errors : ndarray, shape (points,)
        Squares of the relative error, descending.
    ranks : function
        Function of a point that returns the ranks for `Scheme.with_ranks`.
    spectrum : ndarray
        Squares of the singular values of all batch values relative to their sum, descending, per
        bond.
    suits_kernels : bool
        True if its ranks are equal for all batch values and not too many to predict the time of each. False for
        curves of all ranks, which waste the fewest multiplications.
    """

    scheme: Scheme
    costs: Array
    errors: Array
    ranks: Callable[[int], Rank]
    spectrum: Mapping[str, Array]
    suits_kernels: bool = True

    def first_within(self, error: float) -> int | None:
        """Return the cheapest point whose relative error is at most `tol`, or None."""
        found = np.flatnonzero(self.errors <= error**2 * (1 + 1e-9))
        return int(found[0]) if len(found) else None

    def limited(self, cost: float) -> Curve:
        """Return the part of the curve up to a cost; at least one point."""
        kept = max(1, int(np.searchsorted(self.costs, cost, side="right")))
        return replace(self, costs=self.costs[:kept], errors=self.errors[:kept])


def kernel_ranks(limit: int, width: int) -> list[int]:
    """Return the ranks up to a limit that kernels with vectors of some width like.

    Examples
    --------
    >>> kernel_ranks(50, 16)
    [2, 4, 8, 16, 32, 48]
    >>> kernel_ranks(3, 16)
    [2, 3]
    """
    below = [width >> k for k in range(NARROW, 0, -1) if width >> k > 1]
    many = max(1, limit // width // LEVELS) * width  # no more points than other curves have
    found = [r for r in [*below, *range(width, limit + 1, many)] if r <= limit]
    return found if limit > width and found else sorted({*found, limit})


def curve(
    scheme: Scheme,
    kernel: Array,
    cost: Costs,
    metric: Metric | None,
    width: int = 0,
    *,
    even: bool = False,
) -> Curve:
    """Compute the curve of a layer.

    Parameters
    ----------
    scheme : Scheme
    kernel : ndarray
        The weights, one axis per axis of the pattern.
    cost : function
        Function that returns the multiplications of a scheme.
    metric : Metric, optional
        Metric of errors of the weights; the Frobenius norm if not given.
    width : int
        Numbers in a vector of the processor, if ranks are to suit its kernels: equal for all
        batch values and multiples of it. 0 allows any ranks.
    even : bool
        Give all batch values the same rank, for runtimes without layers of uneven ranks.
    """
    pattern = scheme.pattern
    flat = _weighted(scheme, kernel, metric)
    if pattern.has_one_bond and len(pattern.factors) == 2:
        squares = _squares(scheme, flat)
        if even or width:
            return _of_even_pair(scheme, squares, cost, width)
        return _of_pair(scheme, squares, cost)
    if pattern.has_one_bond:
        return _of_terms(scheme, flat, cost)
    chain = chain_of(scheme)
    if chain is not None:
        return _of_core(scheme, flat, cost, chain, width)
    return _of_tree(scheme, flat, cost)


def curves(
    scheme: Scheme, kernel: Array, cost: Costs, metric: Metric | None, width: int
) -> list[Curve]:
    """Compute the curve of a layer at ranks that suit kernels and, for two factors, the one of all ranks.

    The parameters are those of `curve`, with the multiplications as costs. Of patterns with several bonds there is one
    curve, because they have equal ranks and few points in any case.
    """
    pattern = scheme.pattern
    if not pattern.has_one_bond or len(pattern.factors) != 2:
        return [curve(scheme, kernel, cost, metric)]
    squares = _squares(scheme, _weighted(scheme, kernel, metric))
    every = replace(_of_pair(scheme, squares, cost), suits_kernels=False)
    return [_of_even_pair(scheme, squares, cost, width), every]


def _weighted(scheme: Scheme, kernel: Array, metric: Metric | None) -> Array:
    """Return the weights in double precision and in the metric of their errors."""
    array = kernel.astype(np.float64).reshape([scheme.size(a) for a in scheme.pattern.letters])
    if metric is not None:
        array = metric.weighted(array)
    found: Array = array.reshape(scheme.kernel_shape)
    return found


def _of_pair(scheme: Scheme, squares: Array, cost: Costs) -> Curve:
    """Return the curve of two factors: the largest singular values, equally many per group.

    Filters with factors of their own run as depthwise steps, which may have any number of terms
    per filter.
    """
    pattern, bond = scheme.pattern, scheme.bonds
    batch = tuple(scheme.size(a) for a in pattern.batch)
    squares = squares.reshape(*batch, -1)
    groups = scheme.size("g") if "g" in pattern.batch and not _has_own_factors(scheme) else 1
    rows = squares.reshape(groups, -1)  # (groups, batch values * terms)
    order = np.argsort(-rows, axis=1, kind="stable")
    ranked = np.take_along_axis(rows, order, axis=1)
    total = max(float(rows.sum()), np.finfo(float).tiny)
    errors = np.cumsum(ranked.sum(axis=0)[::-1])[::-1] / total
    errors = np.append(errors[1:], 0.0)
    errors[errors < ROUNDING] = 0.0
    values = rows.shape[1] // squares.shape[-1]
    unit = cost(scheme.with_ranks(1)) / values
    counts = np.arange(1, rows.shape[1] + 1)

    def ranks(point: int) -> Rank:
        kept = order[:, : point + 1] // squares.shape[-1]
        found = np.stack([np.bincount(row, minlength=values) for row in kept])
        return {bond: found.reshape(batch) if batch else int(found.sum())}

    flat = np.sort(rows.ravel())[::-1] / total
    return Curve(scheme, counts * unit, errors, ranks, {bond: flat})


def _has_own_factors(scheme: Scheme) -> bool:
    """Return True if each filter reads one channel and has factors of its own."""
    return all(a in scheme.pattern.batch for a in scheme.inputs + scheme.outputs)


def _of_even_pair(scheme: Scheme, squares: Array, cost: Costs, width: int) -> Curve:
    """Return the curve of two factors with one rank for all batch values.

    With a width, the ranks are those that kernels with such vectors like.
    """
    bond = scheme.bonds
    rows = squares.reshape(-1, squares.shape[-1])  # (batch values, terms)
    total = max(float(rows.sum()), np.finfo(float).tiny)
    terms = rows.shape[1]
    # With batch values the channels between both factors are a multiple of theirs already.
    kept = list(range(1, terms + 1)) if len(rows) > 1 or not width else kernel_ranks(terms, width)
    left = np.append(np.cumsum(rows.sum(axis=0)[::-1])[::-1], 0.0) / total
    errors = left[kept]
    errors[errors < ROUNDING] = 0.0
    costs = np.array([cost(scheme.with_ranks(r)) for r in kept])
    flat = np.sort(rows.ravel())[::-1] / total
    return Curve(
        scheme, np.maximum.accumulate(costs), errors, lambda p: {bond: kept[p]}, {bond: flat}
    )


def _squares(scheme: Scheme, kernel: Array) -> Array:
    """Return the squares of the singular values, (batch..., k), descending."""
    pattern = scheme.pattern
    first, second = pattern.own(0), pattern.own(1)
    split = kernel.reshape([scheme.size(a) for a in pattern.letters])
    order = [pattern.letters.index(a) for a in pattern.batch + first + second]
    batch = [scheme.size(a) for a in pattern.batch]
    rows = int(np.prod([scheme.size(a) for a in first]))
    matrix = np.transpose(split, order).reshape(*batch, rows, -1)
    return _gram_values(matrix)


def _gram_values(matrix: Array) -> Array:
    """Return squares of singular values from the smaller product with the transpose."""
    turned = np.swapaxes(matrix, -1, -2)
    gram = matrix @ turned if matrix.shape[-2] <= matrix.shape[-1] else turned @ matrix
    found: Array = np.maximum(np.linalg.eigvalsh(gram)[..., ::-1], 0.0)
    return found


def _of_terms(scheme: Scheme, kernel: Array, cost: Costs) -> Curve:
    """Return the curve of three or more factors on one bond: one rank for all batch values."""
    bond = scheme.bonds
    known = spectrum(kernel, scheme.pattern, sizes=scheme.sizes)
    counts = np.arange(1, known.values.shape[-1] + 1)
    unit = cost(scheme.with_ranks(1))
    flat = np.sort((known.values**2).ravel())[::-1]
    flat = flat / max(float(flat.sum()), np.finfo(float).tiny)
    return Curve(
        scheme, counts * unit, known.errors[1:] ** 2, lambda p: {bond: p + 1}, {bond: flat}
    )


def _of_core(
    scheme: Scheme, kernel: Array, cost: Costs, chain: tuple[int, int, int], width: int
) -> Curve:
    """Return the curve of a core between two leaves (Tucker-2), from the errors of all rank pairs.

    In the bases of the leaves' singular vectors the core of ranks R and S is the first R x S of
    the whole core, and what is left out is the error (De Lathauwer et al., 2000,
    doi:10.1137/S0895479896305696).
    """
    pattern = scheme.pattern
    first, middle, last = chain
    leaves = (first, last)
    bonds = [next(b for b in scheme.operands[k] if b in scheme.bonds) for k in leaves]
    split = kernel.reshape([scheme.size(a) for a in pattern.letters])
    batch = pattern.batch
    order = batch + pattern.own(leaves[0]) + pattern.own(middle) + pattern.own(leaves[1])
    sizes = [int(np.prod([scheme.size(a) for a in pattern.own(k)])) for k in (leaves[0], middle)]
    moved = np.transpose(split, [pattern.letters.index(a) for a in order])
    cube = moved.reshape(
        -1, sizes[0], sizes[1], int(moved.size // _size(scheme, batch)) // (sizes[0] * sizes[1])
    )
    energy = np.sum([_rotated_energy(c) for c in cube], axis=0)
    total = max(float(energy.sum()), np.finfo(float).tiny)
    left = np.maximum(1 - np.cumsum(np.cumsum(energy, axis=0), axis=1) / total, 0.0)
    limits = (min(sizes[0], sizes[1] * cube.shape[3]), min(cube.shape[3], sizes[1] * sizes[0]))
    if width:
        points = _path(
            left, _direct_costs(scheme, bonds, cost), [kernel_ranks(n, width) for n in limits],
            sizes[1],
        )  # fmt: skip
    else:
        steps = [max(1, n // LEVELS) for n in limits]
        grids = [[*range(1, n, step), n] for n, step in zip(limits, steps, strict=True)]
        points = _path(left, _pair_costs(scheme, bonds, cost), grids, sizes[1])
    values = {
        bonds[0]: energy.sum(axis=1) / total,
        bonds[1]: energy.sum(axis=0) / total,
    }
    return Curve(
        scheme,
        np.maximum.accumulate(np.array([p[2] for p in points])),
        np.array([p[3] for p in points]),
        lambda i: {bonds[0]: points[i][0], bonds[1]: points[i][1]},
        values,
    )


def _size(scheme: Scheme, letters: str) -> int:
    return int(np.prod([scheme.size(a) for a in letters], initial=1))


def _rotated_energy(cube: Array) -> Array:
    """Return the squares of a core (first, middle, last) in the bases of its leaves, summed over the middle."""
    m, t, n = cube.shape
    first, last = cube.reshape(m, t * n), cube.reshape(m * t, n)
    u = np.linalg.eigh(first @ first.T)[1][:, ::-1]
    v = np.linalg.eigh(last.T @ last)[1][:, ::-1]
    turned = (u.T @ first).reshape(m * t, n) @ v
    found: Array = (turned.reshape(m, t, n) ** 2).sum(axis=1)
    return found


def _pair_costs(scheme: Scheme, bonds: list[str], cost: Costs) -> Callable[[int, int], float]:
    """Return the cost of each pair of ranks, ``a R + b S + c R S``, from three known pairs."""

    def at(r: int, s: int) -> float:
        return cost(scheme.with_ranks({bonds[0]: r, bonds[1]: s}))

    one, two, other = at(1, 1), at(2, 1), at(1, 2)
    both = at(2, 2)
    c = both - two - other + one
    a, b = two - one - c, other - one - c
    return lambda r, s: a * r + b * s + c * r * s + (one - a - b - c)


def _direct_costs(scheme: Scheme, bonds: list[str], cost: Costs) -> Callable[[int, int], float]:
    """Return the cost of each pair of ranks, computed one by one because times are no polynomial of them."""

    @cache
    def at(r: int, s: int) -> float:
        return cost(scheme.with_ranks({bonds[0]: r, bonds[1]: s}))

    return at


def _path(
    left: Array, cost: Callable[[int, int], float], grids: Sequence[Sequence[int]], middle: int
) -> list[tuple[int, int, float, float]]:
    """Raise one rank or the other on its grid, whichever saves more error per cost.

    The core, (R, middle, S), has at most rank R * middle along S and S * middle along R: larger ranks do not exist.
    """
    first, second = grids
    i = j = 0
    points = []
    while True:
        r, s = first[i], second[j]
        now, price = float(left[r - 1, s - 1]), cost(r, s)
        points.append((r, s, price, now))
        up, right = min(i + 1, len(first) - 1), min(j + 1, len(second) - 1)
        tries = {
            (a, b)
            for a, b in {(up, j), (i, right), (up, right)} - {(i, j)}
            if first[a] <= middle * second[b] and second[b] <= middle * first[a]
        }
        if not tries:
            return points

        def rate(t: tuple[int, int], now: float = now, price: float = price) -> float:
            a, b = first[t[0]], second[t[1]]
            step = cost(a, b) - price
            saved = float(now - left[a - 1, b - 1])
            return saved / step if step > 0 else math.inf

        i, j = max(sorted(tries), key=rate)


def _of_tree(scheme: Scheme, kernel: Array, cost: Costs) -> Curve:
    """Return the curve of any other tree of bonds: one limit for all ranks."""
    pattern, sizes = scheme.pattern, scheme.sizes
    letters = pattern.batch + "".join(pattern.own(k) for k in range(len(pattern.factors)))
    split = kernel.reshape([scheme.size(a) for a in pattern.letters])
    turned = np.transpose(split, [pattern.letters.index(a) for a in letters])
    values = {b: _gram_values(matricise(turned, pattern, b, sizes)) for b in scheme.bonds}
    largest = max(v.shape[-1] for v in values.values())
    points = []
    for limit in np.unique(np.ceil(largest * np.arange(1, LEVELS + 1) / LEVELS).astype(int)):
        factors = factorize(kernel, pattern, rank=int(limit), sizes=sizes)
        ranks = {b: max(1, int(r.max())) for b, r in factors.ranks.items()}
        points.append((ranks, cost(scheme.with_ranks(ranks)), factors.error**2))
    spectra = {}
    for bond, found in values.items():
        flat = np.sort(found.ravel())[::-1]
        spectra[bond] = flat / max(float(flat.sum()), np.finfo(float).tiny)
    errors = np.minimum.accumulate(np.array([p[2] for p in points]))
    return Curve(scheme, np.array([p[1] for p in points]), errors, lambda i: points[i][0], spectra)
