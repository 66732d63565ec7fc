"""`spectrum` measures how far a kernel is from being separable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError
from separable.factorize import nested, trees
from separable.factorize.factorize_request import (
    FactorizeRequest,
    as_kernel,
    check_tolerance,
    magnitude,
    parse_for,
)
from separable.pattern import Pattern
from separable.value import Value

__all__ = ["Spectrum", "spectrum"]

Array = NDArray[Any]

HEADING = "  rank   singular value   error"
LEGEND = "  error: |K - F| / |K| for the kernel K and its best factors F (Frobenius norm)"


@dataclass(frozen=True, eq=False)
class Spectrum(Value):
    """Singular values of a kernel under a pattern, its rank, and the error of each rank.

    Attributes
    ----------
    pattern : Pattern
        The axes of the kernel and its factors.
    values : ndarray, shape (batch..., k)
        Singular values in descending order. For three and more factors they are the coefficients
        of the nested terms, whose squares also add up to ``|K|**2``.
    rank : int
        Number of terms that represent the kernel exactly; the largest one of all batch values.
    errors : ndarray, shape (k + 1,)
        Relative Frobenius error ``|K - F| / |K|`` of the best factors of rank 0, 1, .. k.

    Examples
    --------
    >>> s = spectrum(np.eye(3), "yx -> y,x")
    >>> s.rank, s.errors.round(3).tolist()
    (3, [1.0, 0.816, 0.577, 0.0])
    """

    ARRAYS = ("values", "errors")

    pattern: Pattern
    values: NDArray[np.float64]
    rank: int
    errors: NDArray[np.float64]

    @property
    def separable(self) -> bool:
        """True if one term represents the kernel exactly."""
        return self.rank <= 1

    def rank_for(self, tol: float) -> int:
        """Return the smallest rank whose relative Frobenius error is at most `tol`."""
        check_tolerance(tol)
        return min(int(np.argmax(self.errors <= tol)) if tol > 0 else self.rank, self.rank)

    def __str__(self) -> str:
        verdict = "separable" if self.separable else "not separable"
        if self.values.ndim > 1:
            verdict += f", {math.prod(self.values.shape[:-1])} batch values"
        lines = [f"'{self.pattern}': rank {self.rank}, {verdict}", HEADING]
        largest = self.values.reshape(-1, self.values.shape[-1]).max(axis=0, initial=0.0)
        shown = min(self.rank + 1, 12, largest.size)
        values = [
            v if r < self.rank else 0.0 for r, v in enumerate(largest)
        ]  # the rest is rounding
        lines += [
            f"  {r:>4}   {values[r - 1]:<14.6g}   {self.errors[r]:.3g}" for r in range(1, shown + 1)
        ]
        if shown < largest.size:
            lines.append(f"  ... {largest.size} values")
        if self.values.ndim > 1:
            lines.append("  singular value: the largest one of all batch values")
        return "\n".join([*lines, LEGEND])


def spectrum(
    kernel: ArrayLike | str,
    pattern: str | Pattern | None = None,
    *,
    bond: str | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Spectrum:
    """Return the singular values of a kernel under a pattern, its rank, and the error of each rank.

    Parameters
    ----------
    kernel : array_like or str
        Kernel of any number of axes: integers, float or complex, not empty and finite; or its text, such as
        ``"1 2 1; 2 4 2"`` or ``"gaussian:2"``.
    pattern : str or Pattern, optional
        Axes of the kernel and its factors, as for `factorize`.
    bond : str, optional
        The bond to cut, for patterns with several of them. The others are not cut.
    sizes : mapping of letter to int, optional
        Sizes of the letters of groups.

    Returns
    -------
    Spectrum

    Raises
    ------
    PatternError, KernelError
        If the pattern does not fit the kernel, or the kernel is empty or not finite.
    ArgumentError
        If the pattern has several bonds and `bond` names none of them.

    Examples
    --------
    >>> print(spectrum([[1, 2, 1], [2, 4, 2], [1, 2, 1]], "yx -> y,x"))
    'yx -> y,x': rank 1, separable
      rank   singular value   error
         1   6                0
         2   0                0
      ... 3 values
      error: |K - F| / |K| for the kernel K and its best factors F (Frobenius norm)
    """
    array = as_kernel(kernel, pattern)
    pattern = parse_for(pattern, array)
    request = FactorizeRequest(array, pattern, pattern.sizes(array.shape, sizes), None, None)
    if pattern.has_one_bond and len(pattern.factors) > 2:
        values = request.per_batch(lambda t: nested.coefficients(t, request.rounding(t)))
    elif pattern.has_one_bond:
        values = np.linalg.svd(request.matrices(), compute_uv=False)
    else:
        if bond is None or bond not in pattern.bonds:
            raise ArgumentError(
                f"`{pattern}` has several bonds: `bond` must be one of {', '.join(pattern.bonds)}; "
                f"got {bond!r}"
            )
        cut = trees.matricise(request.tensor, pattern, bond, request.sizes)
        values = np.linalg.svd(cut, compute_uv=False)
    if not array.any():
        values = np.zeros_like(values)
    return _spectrum_of(request, values)


def _spectrum_of(request: FactorizeRequest, values: Array) -> Spectrum:
    """Return the spectrum; the error of each rank is the root of the squares of the other values."""
    scale = magnitude(values)
    squares = (values.reshape(-1, values.shape[-1]) / scale) ** 2
    tails = np.concatenate([np.cumsum(squares.sum(axis=0)[::-1])[::-1], [0.0]])
    total = tails[0] if tails[0] > 0 else 1.0
    rank = int(np.max(np.sum(values > request.noise(values[..., :1]), axis=-1), initial=0))
    errors = np.sqrt(tails / total)
    errors[rank:] = 0.0  # below the rounding of the kernel
    return Spectrum(request.pattern, values, rank, errors)
