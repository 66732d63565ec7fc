"""Factorisations whose bonds form a tree (Tucker, tensor train), by successive truncated SVDs.

A leaf (a factor with one bond left) is split off the core, its bond becomes an axis of the core,
and so on until one factor is left. Each cut is an orthogonal projection, so the squares of the
errors add up, and the error is at most the root of the number of bonds times the smallest one
(Vannieuwenhoven et al., 2012, doi:10.1137/110836067; Oseledets, 2011, doi:10.1137/090752286).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentTypeError, RankError
from separable.pattern import Pattern

__all__ = ["TreeFactors", "decompose", "equal_shares", "matricise"]

Array = NDArray[Any]


@dataclass(frozen=True)
class TreeFactors:
    """One array per factor, with its axes as written (no batch letters), and the size of each bond."""

    arrays: tuple[Array, ...]
    ranks: dict[str, int]


def decompose(
    tensor: Array,
    pattern: Pattern,
    sizes: Mapping[str, int],
    rank: int | Mapping[str, int] | None,
    tol: float | None,
    noise: Callable[[Any], Any],
) -> TreeFactors:
    """Cut every bond of the tree once, leaves first.

    Parameters
    ----------
    tensor : ndarray
        One batch value. Its axes are the own letters of the first factor, of the second, and so
        on.
    pattern : Pattern
        The axes of each factor.
    sizes : mapping of letter to int
        Size of each axis.
    rank : int, mapping of bond to int, or None
        Size of each bond; an int is an upper limit for every bond.
    tol : float or None
        Largest relative Frobenius error in total. Each cut may use an equal part of what remains.
    noise : callable
        Function of the largest singular value that returns the size below which one is
        rounding.
    """
    inner = [_without(operand, pattern.batch) for operand in pattern.operands]
    core_letters = "".join(pattern.own(k) for k in range(len(inner)))
    scale = float(np.max(np.abs(tensor)))
    if scale == 0.0 and rank is None:
        return _nothing(inner, pattern, sizes)
    core = tensor / (scale or 1.0)  # so that no square under- or overflows
    budget = (tol * float(np.linalg.norm(core))) ** 2 if tol else 0.0
    open_bonds = {k: [a for a in operand if a in pattern.bonds] for k, operand in enumerate(inner)}
    arrays: dict[int, Array] = {}
    ranks: dict[str, int] = {}
    left = len(pattern.bonds)
    while len(open_bonds) > 1:
        leaf = next(k for k, bonds in open_bonds.items() if len(bonds) == 1)
        bond = open_bonds.pop(leaf)[0]
        letters = [a for a in core_letters if a in inner[leaf]]
        rest = [a for a in core_letters if a not in letters]
        matrix, shape, rest_shape = _unfold(core, core_letters, letters, rest)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        r, spent = _cut(s, bond, pattern, rank, tol, budget / left, noise)
        budget, left = budget - spent, left - 1
        leaf_letters = "".join(letters) + bond
        leaf_array = u[:, :r].reshape(*shape, r)
        arrays[leaf] = np.transpose(leaf_array, [leaf_letters.index(a) for a in inner[leaf]])
        core = (s[:r, None] * vt[:r]).reshape(r, *rest_shape)
        core_letters = bond + "".join(rest)
        ranks[bond] = r
        for bonds in open_bonds.values():
            if bond in bonds:
                bonds.remove(bond)
    root = next(iter(open_bonds))
    arrays[root] = np.transpose(core, [core_letters.index(a) for a in inner[root]])
    balanced = _balanced([arrays[k] for k in range(len(inner))])
    shares = equal_shares(scale or 1.0, len(inner))
    return TreeFactors(tuple(a * s for a, s in zip(balanced, shares, strict=True)), ranks)


def equal_shares(size: float, count: int) -> tuple[float, ...]:
    """Split a size > 0 into equal factors; the last one makes their product exact."""
    share = size ** (1 / count)
    return (*[share] * (count - 1), size / share ** (count - 1))


def _nothing(inner: list[str], pattern: Pattern, sizes: Mapping[str, int]) -> TreeFactors:
    """Return the factors of a kernel of zeros, whose bonds have size 0."""
    arrays = tuple(np.zeros([sizes.get(a, 0) for a in operand]) for operand in inner)
    return TreeFactors(arrays, dict.fromkeys(pattern.bonds, 0))


def matricise(tensor: Array, pattern: Pattern, bond: str, sizes: Mapping[str, int]) -> Array:
    """Return the kernel as matrices (batch..., one side of the bond, the other side)."""
    side = {next(k for k, f in enumerate(pattern.factors) if bond in f)}
    while True:
        reached = {
            k
            for k, f in enumerate(pattern.factors)
            for j in side
            if any(b in f and b in pattern.factors[j] for b in pattern.bonds if b != bond)
        }
        if reached <= side:
            break
        side |= reached
    count = len(pattern.factors)
    letters = pattern.batch + "".join(pattern.own(k) for k in range(count))
    first = "".join(pattern.own(k) for k in range(count) if k in side)
    second = "".join(pattern.own(k) for k in range(count) if k not in side)
    order = [letters.index(a) for a in pattern.batch + first + second]
    batch = [sizes[a] for a in pattern.batch]
    return np.transpose(tensor, order).reshape(*batch, math.prod(sizes[a] for a in first), -1)


def _without(text: str, letters: str) -> str:
    return "".join(a for a in text if a not in letters)


def _unfold(
    core: Array, core_letters: str, letters: list[str], rest: list[str]
) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    ordered = np.transpose(core, [core_letters.index(a) for a in [*letters, *rest]])
    shape, rest_shape = ordered.shape[: len(letters)], ordered.shape[len(letters) :]
    return ordered.reshape(math.prod(shape), -1), shape, rest_shape


def _cut(
    s: Array,
    bond: str,
    pattern: Pattern,
    rank: int | Mapping[str, int] | None,
    tol: float | None,
    budget: float,
    noise: Callable[[Any], Any],
) -> tuple[int, float]:
    """Return the number of singular values to keep, and the squared error of this cut."""
    exact = max(1, int(np.sum(s > noise(s[0]))))
    wanted = rank.get(bond) if isinstance(rank, Mapping) else rank
    if wanted is not None:
        if isinstance(wanted, bool) or not isinstance(wanted, (int, np.integer)):
            raise ArgumentTypeError(f"`rank` must be an integer; got {wanted!r} for bond {bond}")
        if wanted < 1 or (isinstance(rank, Mapping) and wanted > len(s)):
            raise RankError(
                f"`rank` of bond {bond} must be 1 .. {len(s)} for `{pattern}`; got {wanted}"
            )
        kept = min(int(wanted), len(s))
    elif tol:
        tails = np.cumsum((s**2)[::-1])[::-1]
        kept = max(1, min(exact, int(np.sum(tails > budget))))
    else:
        kept = exact
    return kept, float(np.sum(s[kept:] ** 2))


def _balanced(arrays: list[Array]) -> tuple[Array, ...]:
    """Give every factor the same Frobenius norm."""
    norms = [float(np.linalg.norm(a)) for a in arrays]
    if not all(norms):
        return tuple(arrays)
    share = math.exp(sum(map(math.log, norms)) / len(norms))
    return tuple(a * (share / n) for a, n in zip(arrays, norms, strict=True))
