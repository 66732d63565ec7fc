"""`is_separable` answers whether a kernel is a product of one vector per axis, and gives the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError
from separable.factorize.factorization import factorize
from separable.factorize.factorize_request import as_kernel, check_tolerance
from separable.factorize.spectrum import Spectrum, spectrum
from separable.factors import Factors
from separable.value import Value

__all__ = ["Separability", "is_separable"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Separability(Value):
    """Answer of `is_separable`: true or false, and the vectors of the best product.

    Attributes
    ----------
    separable : bool
        True if the product is the kernel, to its rounding or to the tolerance. The answer itself
        has the same truth value.
    factors : Factors
        The kernel if it is separable, otherwise the best product of one vector per axis in the
        Frobenius norm (for three and more axes the best one of nested decompositions).
    spectrum : Spectrum
        Singular values, rank, and the error of each rank.
    tol : float
        Largest error that counts as separable, relative and in the Frobenius norm.

    Examples
    --------
    >>> answer = is_separable([[3, 6, 9], [4, 8, 12], [5, 10, 15]])
    >>> if answer:
    ...     print(answer.column, answer.row)
    [3 4 5] [1 2 3]
    """

    separable: bool
    factors: Factors
    spectrum: Spectrum
    tol: float

    def __bool__(self) -> bool:
        return self.separable

    @property
    def vectors(self) -> tuple[Array, ...]:
        """Vectors along the axes in memory order; for a kernel of zeros, zeros."""
        if not self.factors.rank:
            return tuple(np.zeros(n, self.factors.dtype) for n in self.factors.shape)
        return self.factors.terms[0]

    @property
    def column(self) -> Array:
        """Vector along y of a kernel of two axes."""
        return self._plane()[0]

    @property
    def row(self) -> Array:
        """Vector along x of a kernel of two axes."""
        return self._plane()[1]

    @property
    def rank(self) -> int:
        """Number of terms that represent the kernel exactly."""
        return self.spectrum.rank

    @property
    def error(self) -> float:
        """Relative Frobenius error ``|K - F| / |K|`` of the product."""
        return self.factors.error

    def _plane(self) -> tuple[Array, ...]:
        if len(self.vectors) != 2:
            raise ArgumentError(
                f"`column` and `row` are of kernels of two axes; this one has {len(self.vectors)}. "
                "Use `vectors`"
            )
        return self.vectors

    def __repr__(self) -> str:
        lines = str(self.factors).splitlines()[1:]
        if self.separable:
            first = "separable: the product of one vector per axis"
            first += f", with an error of {self.error:.2g}" if self.rank > 1 else ""
        else:
            first = (
                f"not separable: rank {self.rank}; the best product of one vector per axis has an "
                f"error of {self.error:.2g}"
            )
        return "\n".join([first, *lines])


def is_separable(kernel: ArrayLike | str, *, tol: float | None = None) -> Separability:
    """Answer whether a kernel is a product of one vector per axis, and give the vectors.

    Parameters
    ----------
    kernel : array_like or str
        Kernel of two or more axes: integers, float or complex, not empty and finite; or its text, such as
        ``"3 6 9; 4 8 12; 5 10 15"``.
    tol : float, optional
        Largest error ``|K - F| / |K|`` in the Frobenius norm that counts as separable; by default
        the rounding of the kernel's own type.

    Returns
    -------
    Separability
        It is true or false like a bool, and has `column`, `row`, `vectors`, `factors`, `rank` and
        `error`.

    Raises
    ------
    PatternError
        If the kernel has one axis: there is nothing to separate.
    KernelError, DTypeError
        If it is empty, not finite or holds no numbers.
    ArgumentError
        If `tol` is negative.

    Examples
    --------
    >>> is_separable([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    separable: the product of one vector per axis
      y  1 2 1
      x  1 2 1
    >>> print(is_separable([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).rank)
    2
    """
    array = as_kernel(kernel)
    most = check_tolerance(tol) or 0.0
    found = spectrum(array)
    factors = factorize(array) if found.rank <= 1 else factorize(array, rank=1)
    return Separability(found.rank <= 1 or factors.error <= most, factors, found, most)
