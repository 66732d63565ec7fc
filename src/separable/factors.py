"""Factors: the result of a factorisation, however it was computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError, PatternError
from separable.pages import table_fragment
from separable.pattern import Pattern, parse
from separable.value import Value

__all__ = ["Factors", "kernel_errors"]

Array = NDArray[Any]

LEGEND = (
    "  error: |K - F| / |K| for the kernel K and these factors F (Frobenius norm);\n"
    "  bound: sum|K - F| / sum|K|"
)
TOGETHER = 1 << 22  # elements of all factors but the first that are multiplied at a time


@dataclass(frozen=True, eq=False, repr=False)
class Factors(Value):
    """Kernel written as a product of factors, or as a sum of such products.

    Attributes
    ----------
    pattern : Pattern
        Axes of the kernel and of each factor.
    arrays : tuple of ndarray
        One array per factor, with the axes of ``pattern.operands``: the letters as written and, if no bond
        is written, the bond (of size ``rank``) in front. If batch values have different ranks, the
        arrays are padded with zeros.
    error : float
        Relative Frobenius error, ``|K - F| / |K|``.
    bound : float
        Relative 1-norm error, ``sum|K - F| / sum|K|``. A filter run with these factors
        differs from the exact one by at most ``bound * sum|K| * max|input|``.
    ranks : mapping of str to ndarray of int
        Rank of each batch value, for every bond (arrays without axes if there are no batch letters).
    sizes : mapping of str to int
        Size of every letter of the kernel.

    Notes
    -----
    Two objects are equal, and have equal hashes, if all of these are equal, arrays bit by bit. The arrays
    are read-only.

    Examples
    --------
    >>> import separable as sep
    >>> sep.factorize([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "yx -> y,x")
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  1 2 1
      x  -1 0 1
    """

    ARRAYS = ("arrays", "ranks")

    pattern: Pattern
    arrays: tuple[Array, ...]
    error: float
    bound: float
    ranks: Mapping[str, NDArray[np.intp]]
    sizes: Mapping[str, int]

    @classmethod
    def from_terms(cls, pattern: str | Pattern, terms: Sequence[Sequence[ArrayLike]]) -> Factors:
        """Build the factors of a kernel that is a known sum of terms, exactly.

        Parameters
        ----------
        pattern : str or Pattern
            Pattern with one bond and no batch letters.
        terms : sequence of sequences of array_like
            One array per factor for each term; all terms have the same shapes.

        Raises
        ------
        PatternError
            If the pattern has batch letters or several bonds, or the arrays do not fit it.

        Examples
        --------
        >>> Factors.from_terms("yx -> y,x", [([1, 2, 1], [-1, 0, 1])]).dense()
        array([[-1,  0,  1],
               [-2,  0,  2],
               [-1,  0,  1]])
        """
        pattern = parse(pattern) if isinstance(pattern, str) else pattern
        if pattern.batch or not pattern.has_one_bond:
            raise PatternError(
                f"terms need a pattern of one bond and no batch letter; got `{pattern}`"
            )
        stacks = [_stack(pattern, terms, k) for k in range(len(pattern.factors))]
        sizes: dict[str, int] = {}
        arrays = []
        for k, stack in enumerate(stacks):
            own = pattern.own(k)
            if stack.ndim != len(own) + 1:
                raise PatternError(
                    f"factor `{own}` of `{pattern}` needs arrays of {len(own)} axes; "
                    f"got shape {stack.shape[1:]}"
                )
            sizes.update(zip(own, stack.shape[1:], strict=True))
            arrays.append(_place_bond(stack, pattern.bonds, own, pattern.operands[k]))
        ranks = {pattern.bonds: np.array(len(terms))}
        return cls(pattern, tuple(arrays), 0.0, 0.0, ranks, sizes)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kernel."""
        return tuple(math.prod(self.sizes[a] for a in axis) for axis in self.pattern.axes)

    @property
    def rank(self) -> int:
        """Number of terms: the size of the bond, or of the largest bond if there are several."""
        return max(int(np.max(r, initial=0)) for r in self.ranks.values())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Common data type of all factors."""
        return np.result_type(*self.arrays)

    @property
    def parameters(self) -> int:
        """Number of elements of all factors, without the zeros that pad different ranks."""
        total = 0
        for operand in self.pattern.operands:
            own = math.prod(
                self.sizes[a] for a in operand if a in self.sizes and a not in self.pattern.batch
            )
            per_batch = np.ones((), dtype=np.int64)
            for bond in self.pattern.bonds:
                if bond in operand:
                    per_batch = per_batch * self.ranks[bond]
            total += own * int(np.sum(per_batch))
        return total

    @cached_property
    def terms(self) -> tuple[tuple[Array, ...], ...]:
        """Products whose sum is the kernel, one tuple of arrays each.

        Raises
        ------
        PatternError
            If the pattern has batch letters or several bonds, so that the kernel is not a plain sum.
        """
        if self.pattern.batch or not self.pattern.has_one_bond:
            raise PatternError(f"`{self.pattern}` is not a plain sum of terms: use `arrays`")
        bond = self.pattern.bonds
        stacks = [
            np.moveaxis(a, operand.index(bond), 0)
            for a, operand in zip(self.arrays, self.pattern.operands, strict=True)
        ]
        return tuple(tuple(s[r] for s in stacks) for r in range(self.rank))

    def dense(self) -> Array:
        """Multiply the factors and return the kernel, in its own shape (read-only)."""
        return self._product

    @cached_property
    def _product(self) -> Array:
        if self.pattern.has_one_bond and not self.pattern.batch and len(self.arrays) > 2:
            product = self._summed_terms()
        else:
            product = np.einsum(self.pattern.einsum, *self.arrays, optimize=len(self.arrays) > 2)
        dense: Array = product.reshape(self.shape)
        dense.flags.writeable = False
        return dense

    def _summed_terms(self) -> Array:
        """Multiply many terms of many axes, a few at a time: an einsum would hold all of them."""
        bond = self.pattern.bonds
        stacks = [
            np.moveaxis(a, operand.index(bond), 0)
            for a, operand in zip(self.arrays, self.pattern.operands, strict=True)
        ]
        rest = math.prod(math.prod(s.shape[1:]) for s in stacks[1:])
        step = max(1, TOGETHER // max(1, rest))
        total: Array = np.zeros((math.prod(stacks[0].shape[1:]), rest), self.dtype)
        for start in range(0, self.rank, step):
            first, *others = (s[start : start + step].reshape(-1, s[0].size) for s in stacks)
            product = others[0]
            for other in others[1:]:
                product = (product[:, :, None] * other[:, None, :]).reshape(len(product), -1)
            total += first.T @ product
        letters = [a for k in range(len(stacks)) for a in self.pattern.own(k)]
        split = total.reshape([self.sizes[a] for a in letters])
        return np.transpose(split, [letters.index(a) for a in self.pattern.letters])

    def flipped(self) -> Factors:
        """Return the factors of the kernel reversed along all its axes.

        An axis that is a group is reversed by reversing each of its letters.
        """
        arrays = tuple(
            np.flip(a, tuple(i for i, letter in enumerate(operand) if letter in self.sizes))
            for a, operand in zip(self.arrays, self.pattern.operands, strict=True)
        )
        return Factors(self.pattern, arrays, self.error, self.bound, self.ranks, self.sizes)

    def truncated(self, rank: int, error: float, bound: float) -> Factors:
        """Return factors with the first `rank` terms; the caller supplies their errors.

        Raises
        ------
        PatternError
            If the pattern has several bonds.
        ArgumentError
            If there are fewer terms.
        """
        if not self.pattern.has_one_bond:
            raise PatternError(
                f"`{self.pattern}` has several bonds: it has no list of terms to cut"
            )
        if not 0 <= rank <= self.rank:
            raise ArgumentError(f"`rank` must be 0 .. {self.rank}; got {rank}")
        bond = self.pattern.bonds
        arrays = tuple(
            np.take(a, range(rank), axis=operand.index(bond))
            for a, operand in zip(self.arrays, self.pattern.operands, strict=True)
        )
        ranks = {bond: np.minimum(self.ranks[bond], rank)}
        return Factors(self.pattern, arrays, error, bound, ranks, self.sizes)

    def _repr_html_(self) -> str:
        head, *_ = repr(self).splitlines()
        rows = [
            (operand, "x".join(map(str, array.shape)), f"{array.size:,}", str(array.dtype))
            for operand, array in zip(self.pattern.factors, self.arrays, strict=True)
        ]
        return table_fragment(head, ("factor", "shape", "numbers", "type"), rows)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        exact = self.error <= 16 * np.finfo(np.float64).eps
        error = "exact" if exact else f"error {self.error:.2g}, bound {self.bound:.2g}"
        if len(self.pattern.bonds) == 1:
            rank = f"rank {_span(self.ranks[self.pattern.bonds])}"
        else:
            rank = "ranks " + ", ".join(f"{b}={_span(r)}" for b, r in self.ranks.items())
        lines = [f"Factors '{self.pattern}' of a kernel {size}: {rank}, {error}"]
        for operand, array in zip(self.pattern.factors, self.arrays, strict=True):
            lines.append(f"  {operand}  {_abridge(array)}")
        if not exact:
            lines.append(LEGEND)
        return "\n".join(lines)


def kernel_errors(kernel: Array, approximation: Array) -> tuple[float, float]:
    """Return the relative Frobenius and 1-norm errors of an approximation of a kernel.

    A kernel of zeros has error 0 if the approximation is zero too, and infinity otherwise.
    The kernel is converted to double precision, because small integer types overflow (and have no
    -(-128)), and divided by its largest element, so that no square underflows.
    """
    kernel = kernel.astype(np.complex128 if kernel.dtype.kind == "c" else np.float64)
    scale = float(np.max(np.abs(kernel), initial=0.0))
    if scale == 0.0:
        worst = float(np.max(np.abs(approximation), initial=0.0))
        return (0.0, 0.0) if worst == 0.0 else (math.inf, math.inf)
    reference = kernel / scale
    residual = reference - approximation / scale
    frobenius = float(np.linalg.norm(residual.ravel()) / np.linalg.norm(reference.ravel()))
    return frobenius, float(np.sum(np.abs(residual)) / np.sum(np.abs(reference)))


def _stack(pattern: Pattern, terms: Sequence[Sequence[ArrayLike]], factor: int) -> Array:
    """Stack one factor of all terms, shape (bond, own...)."""
    counts = {len(t) for t in terms}
    if counts != {len(pattern.factors)}:
        raise PatternError(
            f"`{pattern}` needs one term or more of {len(pattern.factors)} arrays each; "
            f"got {len(terms)} terms of {sorted(counts)} arrays"
        )
    arrays = [np.asarray(t[factor]) for t in terms]
    shapes = list(dict.fromkeys(a.shape for a in arrays))
    if len(shapes) > 1:
        raise PatternError(
            f"factor `{pattern.factors[factor]}` of `{pattern}` must have one shape in all terms; "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    return np.stack(arrays)


def _place_bond(stack: Array, bond: str, own: str, operand: str) -> Array:
    """Reorder a stack of terms, shape (bond, *own), to the letters of the operand."""
    letters = bond + own
    return np.transpose(stack, [letters.index(a) for a in operand])


def _span(ranks: NDArray[np.intp]) -> str:
    low, high = int(np.min(ranks, initial=np.max(ranks, initial=0))), int(np.max(ranks, initial=0))
    return str(high) if low == high else f"{low}..{high}"


def _abridge(array: Array) -> str:
    """Return a short vector as text, and anything else by its shape."""
    flat = array.ravel()
    if flat.size > 12 or flat.size < max(array.shape, default=1):
        return f"shape {array.shape}"
    if array.ndim > 2 or (array.ndim == 2 and array.shape[0] > 1):
        return f"shape {array.shape}"
    if np.issubdtype(array.dtype, np.integer):
        return " ".join(str(int(v)) for v in flat)
    return " ".join(f"{v:.4g}" for v in flat)
