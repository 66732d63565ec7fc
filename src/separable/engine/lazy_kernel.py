"""Kernel: the weights of a filter, dense or as factors that are multiplied out only when needed.

Planning asks for sizes, norms and counts. A kernel given as `Factors` computes these from
its factors, so that planning a Gaussian of 241x241x241 samples needs only its three vectors.

Kernels of extreme scale are multiplied by a power of two first (`normalised`), which is exact:
then no product of a sample and a weight over- or underflows, and the result is scaled back once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factors import Factors
from separable.process_cache import ProcessCache
from separable.value import Value, freeze

__all__ = [
    "LARGEST_KEPT",
    "Kernel",
    "counted_sum",
    "folded",
    "is_small",
    "ldexp",
    "normalised_once",
    "row_slices",
    "to_float",
    "within_range",
]

Array = NDArray[Any]

SMALL = 1 << 16  # elements: factors of kernels up to this size are multiplied out at once
PART = 1 << 18  # elements of a larger one that are multiplied out at a time
FAR = 700  # binary orders of magnitude: samples up to 2**700 may be summed in double precision
LARGEST_KEPT = 1 << 15  # numbers that a kernel was given as: larger ones are not kept
ORDINARY = 40  # binary orders of magnitude: sums of weights within 2**-40 .. 2**40 stay as they are


@dataclass(frozen=True, eq=False)
class Kernel(Value):
    """The weights of a filter.

    Attributes
    ----------
    given : ndarray or Factors
        The weights as they were given.
    flip : bool
        True if the weights are those of `given` reversed along all axes.

    Examples
    --------
    >>> import separable as sep
    >>> kernel = Kernel(sep.kernels.gaussian(30, ndim=3))
    >>> kernel.shape, kernel.nonzeros, round(kernel.norm, 6)
    ((241, 241, 241), 13997521, 1.0)
    """

    given: Array | Factors
    flip: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.given, np.ndarray):
            freeze(self.given)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of weights along each axis."""
        return self.given.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the weights as they were given."""
        return self.given.dtype

    @property
    def product(self) -> Factors | None:
        """The factors that the kernel was given as, if each has axes of its own; otherwise None.

        Kronecker factors share the axes of the kernel: they are None here.
        """
        given = self.given
        return given if isinstance(given, Factors) and not given.pattern.has_groups else None

    @property
    def is_product(self) -> bool:
        """True for factors with too many dense weights to be multiplied out for planning."""
        return self.product is not None and self.size > SMALL

    @property
    def array(self) -> Array:
        """Dense weights in the dtype in which they were given."""
        array = self.given.dense() if isinstance(self.given, Factors) else self.given
        return np.flip(array) if self.flip else array

    @cached_property
    def dense(self) -> Array:
        """Dense weights in float64 or complex128, contiguous and read-only."""
        array = to_float(self.array)
        # PyTorch accepts no negative strides, not even along axes of one sample.
        flipped = any(s < 0 for s in array.strides)
        weights = array.copy() if flipped else np.ascontiguousarray(array).view()
        weights.setflags(write=False)
        return weights

    @cached_property
    def norm(self) -> float:
        """Sum of the absolute weights; infinite if it is too large for float64."""
        with np.errstate(over="ignore"):
            if self._is_single:
                return math.prod(float(np.sum(np.abs(v))) for v in self._term)
            if not self.is_product:
                return float(np.sum(np.abs(self.dense)))
            return self._sum_of(np.abs)

    @cached_property
    def nonzeros(self) -> int:
        """Number of weights that are not zero."""
        if self._is_single:
            return math.prod(int(np.count_nonzero(v)) for v in self._term)
        if not self.is_product:
            return int(np.count_nonzero(self.dense))
        return round(self._sum_of(lambda part: (part != 0).astype(float)))

    def _sum_of(self, measure: Callable[[Array], Array]) -> float:
        """Return the sum of a measure of every weight that is the same for w and -w.

        The weights of a sum of terms are multiplied out, some rows at a time: sums of their absolute
        values do not follow from products of the vectors, as sums of their squares do. Of an axis along
        which the kernel is even or odd only one half is needed.
        """
        assert isinstance(self.given, Factors)
        half, counts = folded(self.given)
        total = 0.0
        for rows in row_slices(half.shape):
            total += counted_sum(measure(_rows(half, rows).dense()), counts, rows)
        return total

    def normalised(self) -> tuple[Kernel, int]:
        """Return the kernel times a power of two, and the exponent to scale the result back by.

        An extreme sum of absolute weights becomes 0.5 .. 1, and so does that of each vector of a product.
        Kernels of ordinary scale are returned as they are.

        Examples
        --------
        >>> kernel, exponent = Kernel(np.array([2.0, 3.0]) * 2.0**500).normalised()
        >>> kernel.dense.tolist(), exponent
        ([0.25, 0.375], 503)
        """
        if isinstance(self.given, Factors):
            return self._balanced(self.given)
        if self.given.dtype.kind in "biu" or not np.any(self.given):
            return self, 0  # 64-bit integers are far from the limits of float64
        exponent = int(_exponents(to_float(self.given).reshape(1, -1))[0])
        if abs(exponent) <= ORDINARY:
            return self, 0
        return replace(self, given=ldexp(self.given, -exponent)), exponent

    def _balanced(self, factors: Factors) -> tuple[Kernel, int]:
        """Return the result of `normalised` for factors, each vector scaled on its own."""
        if factors.rank == 0:  # a kernel of zeros
            return self, 0
        bond = factors.pattern.bonds
        stacks = [
            np.moveaxis(a, operand.index(bond), 0).reshape(factors.rank, -1)
            for a, operand in zip(factors.arrays, factors.pattern.operands, strict=True)
        ]
        if any(not s.size for s in stacks):
            return self, 0
        # exponents[factor, term] of the vectors' 1-norms; zeros have none
        found = np.array([_exponents(to_float(stack)) for stack in stacks])
        used = np.all(found > _NOTHING, axis=0)
        if not used.any():
            return self, 0
        terms = found[:, used].sum(axis=0)
        exponent = int(terms.max())
        if max(int(np.max(np.abs(found[:, used]))), abs(exponent)) <= ORDINARY:
            return self, 0
        kept = 0 if abs(exponent) <= ORDINARY else exponent
        shifts = np.where(used, -found, 0)
        shifts[0, used] += terms - kept  # the first vector carries the size of its term
        arrays = []
        for a, operand, shift in zip(factors.arrays, factors.pattern.operands, shifts, strict=True):
            at = [1] * a.ndim
            at[operand.index(bond)] = -1
            arrays.append(ldexp(to_float(a), shift.reshape(at)))
        balanced = Factors(
            factors.pattern, tuple(arrays), factors.error, factors.bound, factors.ranks,
            factors.sizes,
        )  # fmt: skip
        return replace(self, given=balanced), kept

    @property
    def _is_single(self) -> bool:
        return isinstance(self.given, Factors) and self.given.rank == 1

    @property
    def _term(self) -> Sequence[Array]:
        assert isinstance(self.given, Factors)
        return [to_float(v) for v in self.given.terms[0]]


_normalised = ProcessCache(64)


def is_small(kernel: Kernel) -> bool:
    """Return whether what is found out about a kernel may be kept for the whole process."""
    given = kernel.given
    size = sum(a.size for a in given.arrays) if isinstance(given, Factors) else given.size
    return size <= LARGEST_KEPT


def normalised_once(kernel: Kernel) -> tuple[Kernel, int]:
    """Return `Kernel.normalised`: for a small kernel the same object each time.

    The same object keeps its norm, its counts and its hash. Of a product of many weights another one
    is returned each time, so that the dense weights, where a method asks for them, are not kept.
    """
    if not is_small(kernel):
        return kernel.normalised()
    found, exponent = _normalised.get_or_build(kernel, kernel.normalised)
    return (replace(found) if found.is_product else found), exponent


def row_slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of the first axis of a kernel, each small enough to be multiplied out."""
    step = max(1, PART * shape[0] // math.prod(shape))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def folded(factors: Factors) -> tuple[Factors, tuple[NDArray[np.float64], ...]]:
    """Return one half of a kernel along every axis along which it is even or odd.

    The second value holds, for each axis, how many samples of the kernel each kept sample stands for:
    2, or 1 at the centre and along axes that are kept whole.

    Examples
    --------
    >>> half, counts = folded(Factors.from_terms("yx -> y,x", [([1, 2, 1], [-1, 1])]))
    >>> half.dense().tolist(), [c.tolist() for c in counts]
    ([[2], [1]], [[1.0, 2.0], [2.0]])
    """
    arrays, sizes = list(factors.arrays), dict(factors.sizes)
    counts = []
    for letter in factors.pattern.letters:
        k, operand = next(f for f in enumerate(factors.pattern.operands) if letter in f[1])
        axis, n = operand.index(letter), sizes[letter]
        values = to_float(arrays[k])  # whose sign can be changed, unlike that of uint8
        mirrored = np.flip(values, axis)
        count = np.ones(n)
        if n > 1 and (np.array_equal(values, mirrored) or np.array_equal(values, -mirrored)):
            arrays[k] = np.take(arrays[k], range(n // 2, n), axis)
            sizes[letter] = n - n // 2
            count = np.full(sizes[letter], 2.0)
            count[: n % 2] = 1.0
        counts.append(count)
    half = Factors(
        factors.pattern, tuple(arrays), factors.error, factors.bound, factors.ranks, sizes
    )
    return half, tuple(counts)


def counted_sum(values: Array, counts: Sequence[NDArray[np.float64]], rows: slice) -> float:
    """Return the sum of some rows of values, each times the counts of its position."""
    for count in reversed(counts[1:]):
        values = values @ count
    return float(values @ counts[0][rows])


_NOTHING = -(1 << 20)  # the exponent of a vector of zeros


def _exponents(rows: Array) -> NDArray[np.int64]:
    """Return the exponent e of each row: its 1-norm is 2**e times 0.5 .. 1."""
    parts = [rows.real, rows.imag] if rows.dtype.kind == "c" else [rows]
    largest = np.max([np.max(np.abs(p), axis=1) for p in parts], axis=0)
    first = np.frexp(largest)[1]
    norms = np.sum(np.abs(ldexp(rows, -first[:, None])), axis=1)
    found = first.astype(np.int64) + np.frexp(norms)[1]
    return np.where(largest > 0, found, _NOTHING)


def _rows(factors: Factors, rows: slice) -> Factors:
    """Return the factors of some rows of a kernel."""
    letter = factors.pattern.letters[0]
    arrays = tuple(
        a[tuple(rows if x == letter else slice(None) for x in operand)].copy()
        for a, operand in zip(factors.arrays, factors.pattern.operands, strict=True)
    )
    sizes = {**factors.sizes, letter: rows.stop - rows.start}
    return Factors(factors.pattern, arrays, factors.error, factors.bound, factors.ranks, sizes)


def to_float(array: Array) -> Array:
    """Return an array in float64 or complex128, without a copy if it already is."""
    kind = np.complex128 if array.dtype.kind == "c" else np.float64
    return array.astype(kind, copy=False)


def ldexp(taps: Array, exponent: Any) -> Array:
    """Multiply real or complex numbers by a power of two, exactly.

    Examples
    --------
    >>> ldexp(np.array([1.0, 3.0]), 2).tolist(), ldexp(np.array([1.0 + 2.0j]), -1).tolist()
    ([4.0, 12.0], [(0.5+1j)])
    """
    with np.errstate(over="ignore", under="ignore"):
        if taps.dtype.kind != "c":
            return np.asarray(np.ldexp(taps, exponent))
        made = np.empty(np.broadcast_shapes(taps.shape, np.shape(exponent)), taps.dtype)
        made.real, made.imag = np.ldexp(taps.real, exponent), np.ldexp(taps.imag, exponent)
        return made


def within_range(samples: Array) -> tuple[Array, int]:
    """Return samples divided by a power of two, so that sums of many neither over- nor underflow.

    Only double precision has samples that large or that small; all others are returned as they are, with an
    exponent of 0.

    Examples
    --------
    >>> samples, exponent = within_range(np.array([1.5e300, 1.0]))
    >>> float(samples[0]) * 2.0**exponent, exponent
    (1.5e+300, 998)
    """
    if samples.dtype.itemsize // (2 if samples.dtype.kind == "c" else 1) < 8 or not samples.size:
        return samples, 0
    if samples.dtype.kind not in "fc":
        return samples, 0
    parts = (samples.real, samples.imag) if samples.dtype.kind == "c" else (samples,)
    largest = max(max(float(np.max(p)), -float(np.min(p))) for p in parts)
    if not np.isfinite(largest) or largest == 0.0:
        return samples, 0
    exponent = math.frexp(largest)[1]
    if abs(exponent) <= FAR:
        return samples, 0
    return ldexp(samples, -exponent), exponent
