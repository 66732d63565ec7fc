"""`factorize` writes a dense kernel as `Factors`.

* Two factors: one singular value decomposition for each batch value, the best possible in the
  Frobenius norm (Eckart and Young, 1936, doi:10.1007/BF02288367).
* Three or more factors on one bond: nested decompositions. They always exist, their terms are
  orthogonal to each other and never cancel, and terms share first factors, hence passes. The
  canonical polyadic decomposition (`polyadic.py`) is tried where an error is allowed.
* Bonds that form a tree (Tucker, tensor train): one truncated decomposition per bond, leaves first
  (Vannieuwenhoven et al., 2012, doi:10.1137/110836067; Oseledets, 2011, doi:10.1137/090752286).

All decompositions run in float64 or complex128, because kernels are small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError, RankError
from separable.factorize import nested, polyadic, trees
from separable.factorize.factorize_request import (
    FactorizeRequest,
    as_kernel,
    check_rank,
    check_tolerance,
    magnitude,
    parse_for,
)
from separable.factorize.group_sizes import fewest_parameters
from separable.factorize.integers import integer_factors
from separable.factors import Factors, kernel_errors
from separable.pattern import Pattern

__all__ = ["factorize", "finish", "oriented", "pad_batches", "stack_terms", "to_operands"]

Array = NDArray[Any]


def factorize(
    kernel: ArrayLike | str,
    pattern: str | Pattern | None = None,
    *,
    rank: int | Mapping[str, int] | None = None,
    tol: float | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Factors:
    """Write a kernel as a product of factors, or as a sum of such products.

    Parameters
    ----------
    kernel : array_like or str
        Kernel of any number of axes: integers, float or complex, not empty and finite; or its text, such as
        ``"1 2 1; 2 4 2"`` or ``"gaussian:2"``.
    pattern : str or Pattern, optional
        Axes of the kernel and its factors, for instance ``"yx -> y,x"`` or ``"ocyx -> oc,cyx"``. By
        default a filter's: one factor for each axis.
    rank : int or mapping of bond to int, optional
        Size of the bond: the number of terms (the depth multiplier of a depthwise separable
        layer). With several bonds an int is an upper limit for each of them.
    tol : float, optional
        Use the fewest terms for which ``|K - F| <= tol * |K|`` in the Frobenius norm; batch values
        get the ranks they need.
    sizes : mapping of letter to int, optional
        Sizes of the letters of groups, for instance ``{"y": 3, "x": 3}`` for
        ``"(Yy)(Xx) -> YX,yx"``. With `tol` they may be omitted: then those with
        the fewest parameters within the tolerance are used (`Factors.sizes` holds them).

    Returns
    -------
    Factors
        The factors; ``error`` and ``bound`` say what they leave out. With neither `rank` nor
        `tol` they are exact to the rounding of the kernel's own type. The factors of an integer
        kernel of rank 1 are integers. In all other kernels the factors of a term have equal
        norms. A kernel of zeros has rank 0.

    Raises
    ------
    PatternError
        If the pattern cannot be read or does not fit the kernel's shape.
    KernelError
        If the kernel is empty or not finite.
    RankError
        If no factorisation of this kernel has that rank.
    ArgumentError
        If `tol` is negative, or both `rank` and `tol` are given.

    Examples
    --------
    >>> factorize([[3, 6, 9], [4, 8, 12], [5, 10, 15]], "yx -> y,x")
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  3 4 5
      x  1 2 3

    A layer of 8 filters over 4 channels, depthwise separable with depth multiplier 2:

    >>> weights = np.random.default_rng(0).normal(size=(8, 4, 3, 3))
    >>> f = factorize(weights, "ocyx -> oc,cyx", rank=2)
    >>> [a.shape for a in f.arrays], round(f.error, 2)
    ([(2, 8, 4), (2, 4, 3, 3)], 0.61)
    """
    # Step 1: check the arguments.
    array = as_kernel(kernel, pattern)
    pattern = parse_for(pattern, array)
    tol = check_tolerance(tol)
    if rank is not None and tol is not None:
        raise ArgumentError(f"give `rank` or `tol`, not both; got rank={rank!r}, tol={tol!r}")
    if tol is not None and sizes is None and pattern.has_groups and array.ndim == pattern.ndim:
        return fewest_parameters(
            pattern, array.shape, lambda s: factorize(array, pattern, tol=tol, sizes=s)
        )
    shape = pattern.sizes(array.shape, sizes)
    request = FactorizeRequest(array, pattern, shape, rank, tol)

    # Step 2: factor integers of rank 1 into integers.
    if not pattern.batch and pattern.has_one_bond and rank in (None, 1):
        integers = integer_factors(request.tensor, pattern)
        if integers is not None:
            return finish(request, *stack_terms(request, [(1.0, integers)]))

    # Step 3: decompose.
    if not pattern.has_one_bond:
        return finish(request, *_factor_tree(request))
    if len(pattern.factors) == 2:
        return finish(request, *_factor_pair(request))
    return _factor_many(request)


def finish(request: FactorizeRequest, arrays: list[Array], ranks: dict[str, Any]) -> Factors:
    """Return the Factors, with the errors that they really have."""
    counts = {bond: np.asarray(r, dtype=np.intp) for bond, r in ranks.items()}
    draft = Factors(request.pattern, tuple(arrays), 0.0, 0.0, counts, request.sizes)
    error, bound = kernel_errors(request.kernel, draft.dense())
    return Factors(request.pattern, draft.arrays, error, bound, counts, request.sizes)


def _factor_pair(request: FactorizeRequest) -> tuple[list[Array], dict[str, Any]]:
    """Factor into two by a batched SVD that keeps terms by rank or tolerance."""
    matrices = request.matrices()  # (batch..., m, n)
    scale = magnitude(matrices)
    u, s, vt = np.linalg.svd(matrices / scale, full_matrices=False)
    ranks = _choose_ranks(request, s)
    width = int(ranks.max(initial=0))
    kept = np.arange(s.shape[-1]) < ranks[..., None]  # (batch..., k)
    share = np.sqrt(np.where(kept, s * scale, 0.0))[..., :width]
    first = u[..., :width] * share[..., None, :]  # (batch..., m, R)
    second = np.swapaxes(vt[..., :width, :], -1, -2) * share[..., None, :]  # (batch..., n, R)
    if not np.iscomplexobj(matrices):
        sign = oriented(first)
        first, second = first * sign, second * sign
    return to_operands(request, [first, second]), {request.pattern.bonds: ranks}


def oriented(vectors: Array) -> Array:
    """Return the signs that make each column's sum positive, or its last element if the sum is 0."""
    total = vectors.sum(axis=-2, keepdims=True)
    weight = np.abs(vectors).sum(axis=-2, keepdims=True)
    last = vectors[..., -1:, :]
    decisive = np.where(np.abs(total) > 1e-9 * weight, total, last)
    return np.where(decisive < 0, -1.0, 1.0)


def _choose_ranks(request: FactorizeRequest, s: Array) -> NDArray[np.intp]:
    """Return the rank of each batch value, from its singular values (batch..., k)."""
    if request.rank is not None:
        rank = check_rank(request.rank, s.shape[-1], request.pattern)
        return np.full(s.shape[:-1], rank, dtype=np.intp)
    exact = np.sum(s > request.noise(s[..., :1]), axis=-1)
    if not request.tol:
        return np.asarray(exact, dtype=np.intp)
    # Over all batch values together: drop the smallest values while their squares fit the budget.
    squares = (s**2).ravel()
    kept = _needed(squares, request.tol**2 * squares.sum()).reshape(s.shape)
    return np.asarray(np.minimum(np.sum(kept, axis=-1), exact), dtype=np.intp)


def _needed(squares: Array, budget: float) -> NDArray[np.bool_]:
    """Return the squares to keep: the smallest are dropped while their sum is within the budget."""
    order = np.argsort(squares, kind="stable")
    dropped = int(np.searchsorted(np.cumsum(squares[order]), budget, side="right"))
    kept = np.ones(squares.shape, dtype=np.bool_)
    kept[order[:dropped]] = False  # by index: equal values need not go together
    return kept


def to_operands(request: FactorizeRequest, columns: list[Array]) -> list[Array]:
    """Reshape columns (batch..., own letters flattened, bond) to the axes of each operand."""
    pattern, arrays = request.pattern, []
    for k, operand in enumerate(pattern.operands):
        letters = pattern.batch + pattern.own(k) + pattern.bonds
        bond_size = int(columns[k].shape[-1])
        shape = [request.sizes.get(a, bond_size) for a in letters]
        arrays.append(
            np.ascontiguousarray(
                np.transpose(columns[k].reshape(shape), [letters.index(a) for a in operand])
            )
        )
    return arrays


def stack_terms(
    request: FactorizeRequest, terms: list[tuple[float, tuple[Array, ...]]]
) -> tuple[list[Array], dict[str, Any]]:
    """Return the operands of a kernel without batch letters; factors share each coefficient."""
    columns = []
    for k, length in enumerate(request.lengths):
        rows = [v[k] if c == 1.0 else v[k] * abs(c) ** (1 / len(v)) for c, v in terms]
        columns.append(np.stack(rows, axis=-1) if rows else np.zeros((length, 0)))
    return to_operands(request, columns), {request.pattern.bonds: len(terms)}


def _factor_many(request: FactorizeRequest) -> Factors:
    """Factor into three or more on one bond: nested decompositions, or fewer polyadic terms."""
    flat = request.tensor.reshape(-1, *request.lengths)
    all_terms = [nested.decompose(t, request.rounding(t)) for t in flat]
    kept = _choose_terms(request, all_terms, magnitude(flat))
    plain = finish(request, *pad_batches(request, kept))
    if request.pattern.batch or (request.rank is None and not request.tol):
        return plain
    other = polyadic.improve(flat[0], plain, request.rank is not None, request.tol, request.eps)
    if other is None:
        return plain
    return finish(request, *stack_terms(request, other))


def _choose_terms(
    request: FactorizeRequest, all_terms: list[list[nested.Term]], scale: float
) -> list[list[nested.Term]]:
    """Return the largest terms of each batch value: they are orthogonal, so this is the best choice."""
    if request.rank is not None:
        largest = math.prod(request.lengths) // max(request.lengths)
        rank = check_rank(request.rank, largest, request.pattern)
        return [nested.largest(terms, rank) for terms in all_terms]
    if not request.tol:
        return all_terms
    squares = np.array([(t.coefficient / scale) ** 2 for terms in all_terms for t in terms])
    kept = iter(_needed(squares, request.tol**2 * squares.sum()))
    return [[t for t in terms if next(kept)] for terms in all_terms]


def pad_batches(
    request: FactorizeRequest, batches: list[list[nested.Term]]
) -> tuple[list[Array], dict[str, Any]]:
    """Return the operands of every batch value, padded with zeros to the largest rank."""
    width = max((len(terms) for terms in batches), default=0)
    count = request.factor_count
    dtype = request.tensor.dtype
    columns = [np.zeros((len(batches), n, width), dtype=dtype) for n in request.lengths]
    for b, terms in enumerate(batches):
        for r, term in enumerate(terms):
            for k, share in enumerate(trees.equal_shares(term.coefficient, count)):
                columns[k][b, :, r] = term.vectors[k] * share
    shaped = [c.reshape(*request.batch_shape, *c.shape[1:]) for c in columns]
    ranks = np.array([len(terms) for terms in batches]).reshape(request.batch_shape)
    return to_operands(request, shaped), {request.pattern.bonds: ranks}


def _factor_tree(request: FactorizeRequest) -> tuple[list[Array], dict[str, Any]]:
    """Factor along bonds that form a tree (Tucker, tensor train), each batch value on its own."""
    if isinstance(request.rank, Mapping):
        unknown = sorted(set(request.rank) - set(request.pattern.bonds))
        if unknown:
            raise RankError(
                f"`rank` names {unknown}; the bonds of `{request.pattern}` are "
                f"{', '.join(request.pattern.bonds)}"
            )
    batches = math.prod(request.batch_shape)
    own_shape = request.tensor.shape[len(request.batch_shape) :]
    flat = request.tensor.reshape(batches, *own_shape)
    results = [
        trees.decompose(t, request.pattern, request.sizes, request.rank, request.tol, request.noise)
        for t in flat
    ]
    ranks = {
        bond: np.array([r.ranks[bond] for r in results]).reshape(request.batch_shape)
        for bond in request.pattern.bonds
    }
    widths = {bond: int(np.max(r, initial=0)) for bond, r in ranks.items()}
    arrays = []
    for k, operand in enumerate(request.pattern.operands):
        inner = "".join(a for a in operand if a not in request.pattern.batch)
        shape = [request.sizes.get(a, widths.get(a, 0)) for a in inner]
        block = np.zeros((batches, *shape), dtype=flat.dtype)
        for b, result in enumerate(results):
            part = result.arrays[k]
            corner: tuple[Any, ...] = (b, *(slice(n) for n in part.shape))
            block[corner] = part
        block = block.reshape(*request.batch_shape, *shape)
        letters = request.pattern.batch + inner
        arrays.append(
            np.ascontiguousarray(np.transpose(block, [letters.index(a) for a in operand]))
        )
    return arrays, ranks
