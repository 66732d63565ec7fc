"""The checked arguments of a factorisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import complete_array_of
from separable.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    KernelError,
    PatternError,
    RankError,
)
from separable.factors import Factors
from separable.pattern import Pattern, filter_pattern, parse

__all__ = [
    "FactorizeRequest",
    "accept_text",
    "as_kernel",
    "check_rank",
    "check_tolerance",
    "magnitude",
    "parse_for",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class FactorizeRequest:
    """Kernel, pattern and accuracy of a factorisation, checked."""

    kernel: Array
    pattern: Pattern
    sizes: dict[str, int]
    rank: int | Mapping[str, int] | None
    tol: float | None

    @property
    def eps(self) -> float:
        """Rounding unit of the kernel's own type, which "exact" refers to."""
        if self.kernel.dtype.kind in "fc":
            own = float(np.finfo(self.kernel.dtype).eps)
            return max(own, float(np.finfo(np.float64).eps))
        return float(np.finfo(np.float64).eps)

    @property
    def tensor(self) -> Array:
        """Kernel in float64 or complex128 with one axis per letter, batch letters in front."""
        dtype = np.complex128 if self.kernel.dtype.kind == "c" else np.float64
        letters = self.pattern.letters
        split = self.kernel.astype(dtype).reshape([self.sizes[a] for a in letters])
        order = self.pattern.batch + "".join(self.pattern.own(k) for k in range(self.factor_count))
        return np.transpose(split, [letters.index(a) for a in order])

    @property
    def factor_count(self) -> int:
        """Number of factors."""
        return len(self.pattern.factors)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Sizes of the batch letters."""
        return tuple(self.sizes[a] for a in self.pattern.batch)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of elements of each factor for one term and batch value."""
        return tuple(
            math.prod(self.sizes[a] for a in self.pattern.own(k)) for k in range(self.factor_count)
        )

    def matrices(self) -> Array:
        """Return the kernel as one matrix per batch value: (batch..., first factor, second)."""
        return self.tensor.reshape(*self.batch_shape, *self.lengths)

    def per_batch(self, function: Any) -> Array:
        """Stack the results of a function of one batch value's tensor, padded with zeros."""
        flat = self.tensor.reshape(-1, *self.lengths)
        rows = [function(t) for t in flat]
        width = max(len(r) for r in rows)
        stacked = np.stack([np.pad(r, (0, width - len(r))) for r in rows])
        return stacked.reshape(*self.batch_shape, width)

    def noise(self, largest: Any) -> Array:
        """Return the size below which a singular value is rounding of the kernel's elements."""
        longest = max(*self.lengths, 8) if self.pattern.has_one_bond else max(self.kernel.shape)
        return np.asarray(longest * self.eps * largest)

    def rounding(self, tensor: Array) -> float:
        """Return the size below which a coefficient of nested terms is rounding."""
        scale = magnitude(tensor)
        return float(self.noise(np.linalg.norm(tensor / scale) * scale))


_readers: list[Callable[[str, int | None], Any]] = []  # the one that reads kernels as text


def accept_text(reader: Callable[[str, int | None], Any]) -> None:
    """Let kernels be given as text.

    Parameters
    ----------
    reader : callable
        Returns the kernel, an array or `Factors`, for a text and the number of axes (None: not known). The catalogue
        of kernels, which needs this package, gives its own.
    """
    _readers[:] = [reader]


def as_kernel(kernel: ArrayLike, pattern: object = None) -> Array:
    """Return the kernel as an array of numbers, or raise an error that says why it is not one.

    Parameters
    ----------
    kernel : array_like or str
        Numbers, or a text such as ``"1 2 1; 2 4 2"`` or ``"gaussian:2"``.
    pattern : str or Pattern, optional
        Pattern that says how many axes a kernel of the catalogue has; default: those of the kernel itself.

    Raises
    ------
    DTypeError
        If its elements are not numbers.
    KernelError
        If it is empty, has no axes or is not finite.
    """
    if isinstance(kernel, str) and _readers:
        found = _readers[0](kernel, _axis_count(pattern))
        kernel = found.dense() if isinstance(found, Factors) else found
    array = complete_array_of(kernel, "kernel")
    if array.dtype.kind not in "biufc":
        raise DTypeError(
            f"`kernel` must hold numbers; got dtype {array.dtype}, shape {array.shape}"
        )
    if array.ndim == 0 or array.size == 0:
        raise KernelError(
            f"`kernel` must have at least one element on one axis; got shape {array.shape}"
        )
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        first = tuple(map(int, bad[0]))
        raise KernelError(
            f"`kernel` must be finite; got {len(bad)} NaN or infinite of {array.size} elements, "
            f"shape {array.shape}, the first at index {first}. Replace them, for instance with numpy.nan_to_num"
        )
    return array


def _axis_count(pattern: object) -> int | None:
    """Return the number of kernel axes of a pattern; None if it does not say."""
    found = parse(pattern) if isinstance(pattern, str) and "->" in pattern else pattern
    return found.ndim if isinstance(found, Pattern) else None


def parse_for(pattern: str | Pattern | None, array: Array) -> Pattern:
    """Return the pattern, by default that of all axes; error messages show the kernel's shape."""
    if pattern is None:
        if array.ndim == 1:
            raise PatternError(
                "a kernel of one axis is a single pass: there is nothing to separate; got shape "
                f"{array.shape}"
            )
        pattern = filter_pattern(array.ndim)
    return pattern if isinstance(pattern, Pattern) else parse(pattern, array.shape)


def check_tolerance(tol: object) -> float | None:
    """Return a tolerance as a float, or None for none.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If it is not a number, negative or not finite.
    """
    if tol is None:
        return None
    if not isinstance(tol, (int, float, np.number)) or isinstance(tol, bool):
        raise ArgumentTypeError(f"`tol` must be a number; got {tol!r}")
    if not (math.isfinite(tol) and tol >= 0):
        raise ArgumentError(f"`tol` must be finite and >= 0; got {tol!r}")
    return float(tol)


def check_rank(rank: object, largest: int, pattern: Pattern) -> int:
    """Return the rank of the only bond.

    Raises
    ------
    ArgumentTypeError, RankError
        If it is not an integer, or not in ``1 .. largest``.
    """
    if isinstance(rank, Mapping):
        if set(rank) != {pattern.bonds}:
            raise RankError(f"`rank` must name the bond {pattern.bonds!r}; got {dict(rank)}")
        rank = rank[pattern.bonds]
    if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)):
        raise ArgumentTypeError(f"`rank` must be an integer; got {rank!r}")
    if not 1 <= rank <= largest:
        raise RankError(
            f"`rank` must be 1 .. {largest} for `{pattern}` and this kernel; got {rank}"
        )
    return int(rank)


def magnitude(array: Array) -> float:
    """Return the largest magnitude: after a division by it no square under- or overflows."""
    largest = float(np.max(np.abs(array), initial=0.0))
    return largest if largest > 0 else 1.0
