"""Bounds on the rounding error of a sweep of terms, and the weights of one output for the sums done again.

A bound follows the operations of :mod:`.fma_blocks` in their order.  Each rounds to the nearest number, so its error
is at most half a unit in the last place of the largest value that it can give; the taps' own rounding to the working
dtype is added.  Sums of numbers that are multiples of one power of two are exact while they fit the significand: with
taps that are whole numbers times a power of two, and small enough, the bound is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dense_kernels import SHORT_SUMS as DENSE_SHORT_SUMS
from .exact_rounding import SAMPLES, SNAP
from .fma_blocks import GENERAL, MOST_STEPS, SHORT_SUMS, STEPS, is_long
from .simd import HAS_FMA
from .term_graph import TermGraph

SNAP_BITS = 46
"""Sums larger than 2**16 are known less closely: the distance is at least 2**-46 of the largest sum."""
KAHAN = 4
"""Units of rounding of a compensated sum, relative to the sum of its absolute addends; 2 to first order."""
MOST_WEIGHTS = 1 << 16
"""Larger kernels are not summed again: their weights would not fit the second-level cache."""
# Cycles per output, measured on Zen 4: of a sum done again, of each step of it, of an output in float64 instead of float32 and of each of its taps.
AGAIN_CYCLES, STEP_CYCLES, WIDE_CYCLES, WIDE_TAP_CYCLES = 100.0, 12.0, 0.8, 0.05
NEVER = 2.0
"""A distance to the nearest integer that no sum has."""


@dataclass(frozen=True)
class Bounds:
    """Bounds on a number that compiled code computes.

    Attributes
    ----------
    size : float
        Bound on the absolute value of the exact number.
    error : float
        Bound on the difference between the computed and the exact number.
    grid : float
        Power of two of which the computed number is a multiple; 0 if none is known.
    """

    size: float = 0.0
    error: float = 0.0
    grid: float = math.inf


@dataclass(frozen=True)
class Tap:
    """A tap in the working dtype, or two mirrored ones that multiply the sum of two samples.

    Attributes
    ----------
    near : float
        The tap as it is used.
    error : float
        Distance to the exact tap; of two the sum.
    size : float
        Absolute value of the exact tap; of two the sum.
    folded : bool
        Whether it stands for two.
    """

    near: float
    error: float
    size: float
    folded: bool = True


class Arithmetic:
    """Bounds on sums of products in one working dtype."""

    def __init__(self, work: np.dtype[Any]) -> None:
        self.work = work
        self.bits = np.finfo(work).nmant + 1

    def rounding(self, size: float, grid: float) -> float:
        """Return the largest error of rounding a number of at most this size, a multiple of ``grid``."""
        if size == 0 or (grid > 0 and size <= math.ldexp(grid, self.bits)):
            return 0.0
        return math.ldexp(1.0, math.frexp(size)[1] - 1 - self.bits)

    def add(self, a: Bounds, b: Bounds) -> Bounds:
        """Return the bounds of ``a + b``, rounded."""
        size, grid = a.size + b.size, min(a.grid, b.grid)
        error = a.error + b.error
        own = self.rounding(size + error, grid)
        return Bounds(size, error + own, 0.0 if own else grid)

    def multiply_add(self, acc: Bounds, tap: Tap, x: Bounds) -> Bounds:
        """Return the bounds of ``acc + tap * x``, or of ``acc + tap * (x + x)`` for a folded tap."""
        if tap.near == 0 and tap.size == 0:
            return acc
        size, read = tap.size * x.size, self.add(x, x) if tap.folded else x
        error = abs(tap.near) * read.error + tap.error * x.size
        product = Bounds(size, error, read.grid * _grid(tap.near) if tap.near else math.inf)
        if not HAS_FMA:
            own = self.rounding(size + error, product.grid)
            product = replace(product, error=error + own, grid=0.0 if own else product.grid)
        return self.add(acc, product)

    def taps(self, weights: NDArray[np.float64], kind: int) -> tuple[list[Tap], list[Tap]]:
        """Return the taps in the order in which they are used: all, or the folded ones and the middle one."""
        with np.errstate(over="ignore", invalid="ignore"):
            near = weights.astype(self.work).astype(np.float64)
        sizes, errors = np.abs(weights), np.abs(near - weights)
        count = weights.size
        if kind == GENERAL:
            single = zip(near, errors, sizes, strict=True)
            return [Tap(float(n), float(e), float(w), folded=False) for n, e, w in single], []
        pairs = [
            Tap(float(near[j]), float(errors[j] + errors[-1 - j]), float(sizes[j] + sizes[-1 - j]))
            for j in range(count // 2)
        ]
        m = count // 2
        middle = Tap(float(near[m]), float(errors[m]), float(sizes[m]), folded=False)
        # The middle one of antisymmetric taps is 0 in the working dtype, and is left out.
        return pairs, [middle] if count & 1 else []

    def multiply_all(self, acc: Bounds, taps: Iterable[Tap], x: Bounds) -> Bounds:
        """Return the bounds of ``acc`` after one multiply-add per tap."""
        for tap in taps:
            acc = self.multiply_add(acc, tap, x)
        return acc

    def correlate(
        self, acc: Bounds, weights: NDArray[np.float64], kind: int, x: Bounds, long: bool
    ) -> Bounds:
        """Return the bounds of what :func:`.fma_blocks.correlate` computes."""
        steps, middle = self.taps(weights, kind)
        if not long or not is_long(weights.size, kind):
            return self.multiply_all(self.multiply_all(acc, steps, x), middle, x)
        acc = self.multiply_all(acc, middle, x)
        if len(steps) <= STEPS * SHORT_SUMS:
            return self._short_sums(acc, steps, x)
        for j in range(0, len(steps), STEPS * SHORT_SUMS):
            part = self._short_sums(Bounds(), steps[j : j + STEPS * SHORT_SUMS], x)
            acc = Bounds(acc.size + part.size, acc.error + part.error, 0.0)
        return replace(acc, error=acc.error + math.ldexp(KAHAN * acc.size, -self.bits))

    def _short_sums(self, acc: Bounds, steps: list[Tap], x: Bounds) -> Bounds:
        for j in range(0, len(steps), STEPS):
            acc = self.add(acc, self.multiply_all(Bounds(), steps[j : j + STEPS], x))
        return acc

    def correlate_terms(
        self,
        weights: NDArray[np.float64],
        kinds: Sequence[int],
        sources: Sequence[Bounds],
        long: bool,
    ) -> Bounds:
        """Return the bounds of what :func:`.fma_blocks.correlate_terms` computes."""
        few = max(1, 2 * STEPS // weights.shape[1]) if long else len(weights)
        total = Bounds()
        for begin in range(0, len(weights), few):
            block = Bounds()
            for t in range(begin, min(begin + few, len(weights))):
                block = self.correlate(block, weights[t], kinds[t], sources[t], long)
            total = self.add(total, block)
        return total

    def correlate_dense(self, kernel: NDArray[np.float64], x: Bounds) -> Bounds:
        """Return the bounds of what :mod:`.dense_kernels` computes with a kernel ``[x, y]`` or ``[z, x, y]``."""
        rows = kernel.shape[-1]
        # Short sums are whole columns of the kernel, or parts of a long one.
        longest = rows if rows <= MOST_STEPS else STEPS
        pieces = [
            self.taps(column[j : j + longest], GENERAL)[0]
            for column in kernel.reshape(-1, rows)
            for j in range(0, rows, longest)
        ]
        together = max(1, MOST_STEPS // rows)
        some, total = Bounds(), Bounds()
        for number, k in enumerate(range(0, len(pieces), together), 1):
            block = Bounds()
            for piece in pieces[k : k + together]:
                block = self.multiply_all(block, piece, x)
            some = self.add(some, block)
            if number % DENSE_SHORT_SUMS == 0:
                total, some = self.add(total, some), Bounds()
        return self.add(total, some)


def _grid(number: float) -> float:
    """Return the largest power of two of which a number is a multiple."""
    if not math.isfinite(number):
        return 0.0
    numerator, denominator = number.as_integer_ratio()
    return float(numerator & -numerator) / denominator


@dataclass(frozen=True)
class Sums:
    """The sums of one sweep, as far as their rounding matters.

    Attributes
    ----------
    stacks : dict of str to ndarray
        The taps ``[term, tap]`` along each filtered axis: "z", "y" or "x".
    kinds : dict of str to sequence of int
        The symmetry of each term's taps in the working dtype.
    long : dict of str to bool
        Whether sums along an axis are made of short sums.
    network : TermGraph
        What each term reads and which ones are summed.
    dense : ndarray or None
        A kernel ``[x, y]`` or ``[z, x, y]`` that takes the place of all this.
    """

    stacks: dict[str, NDArray[np.float64]]
    kinds: dict[str, Sequence[int]]
    long: dict[str, bool]
    network: TermGraph
    dense: NDArray[np.float64] | None = None

    def bounds(self, work: np.dtype[Any], x: Bounds) -> list[Bounds]:
        """Return the bounds of each result for samples with the bounds ``x``."""
        rules = Arithmetic(work)
        if self.dense is not None:
            return [rules.correlate_dense(self.dense, x)]

        def along(name: str, terms: tuple[int, int], sources: Sequence[Bounds]) -> Bounds:
            first, last = terms
            weights, kinds = self.stacks[name][first:last], self.kinds[name][first:last]
            return rules.correlate_terms(weights, kinds, sources, self.long[name])

        down = [x]
        if "y" in self.stacks:
            count = len(self.stacks["y"])
            down = [along("y", (t, t + 1), [x]) for t in range(count)]

        def planar(terms: tuple[int, int]) -> Bounds:
            if "x" not in self.stacks:
                return along("y", terms, [x] * (terms[1] - terms[0]))
            return along("x", terms, [down[self.network.x_from[t]] for t in range(*terms)])

        if "z" not in self.stacks:
            return [planar(terms) for terms in self.network.outputs]
        rings = [planar(terms) for terms in self.network.rings]
        # The constant outside is filtered in float64 and rounded once.
        rings = [replace(r, error=max(r.error, rules.rounding(r.size, r.grid))) for r in rings]
        return [
            along("z", terms, [rings[self.network.z_from[t]] for t in range(*terms)])
            for terms in self.network.outputs
        ]

    def kernels(self) -> NDArray[np.float64]:
        """Return the kernel ``[z, y, x]`` of each result."""
        if self.dense is not None:
            return np.swapaxes(self.dense, -1, -2).reshape(1, *self.kernel_shape())
        return np.stack([self._kernel(terms) for terms in self.network.outputs])

    def kernel_shape(self) -> tuple[int, int, int]:
        """Return the shape of these kernels."""
        if self.dense is not None:
            *planes, columns, rows = self.dense.shape
            return (planes[0] if planes else 1), rows, columns
        z, y, x = (self.stacks[n].shape[1] if n in self.stacks else 1 for n in "zyx")
        return z, y, x

    def _kernel(self, terms: tuple[int, int]) -> NDArray[np.float64]:
        if "z" not in self.stacks:
            return self._planar(terms)[None]
        parts = [
            np.multiply.outer(
                self.stacks["z"][t], self._planar(self.network.rings[self.network.z_from[t]])
            )
            for t in range(*terms)
        ]
        return np.asarray(np.sum(parts, axis=0))

    def _planar(self, terms: tuple[int, int]) -> NDArray[np.float64]:
        """Return the kernel ``[y, x]`` of a range of x terms, or of y terms where x is not filtered."""
        if "x" not in self.stacks:
            return np.asarray(self.stacks["y"][slice(*terms)].sum(axis=0)[:, None])
        one = np.ones(1)
        parts = [
            np.multiply.outer(
                self.stacks["y"][self.network.x_from[t]] if "y" in self.stacks else one,
                self.stacks["x"][t],
            )
            for t in range(*terms)
        ]
        return np.asarray(np.sum(parts, axis=0))


class ExactResults:
    """Correct rounding of the integer results of a sweep: the working dtype, and which sums are done again.

    Parameters
    ----------
    sums : callable
        Returns the :class:`Sums` for a working dtype.
    outside : float or None
        The constant value outside the image; None if no output reads it.
    dtypes : Dtypes
        Element types of image, result and arithmetic as asked for.

    Attributes
    ----------
    work : dtype
        float64 in place of float32 where that takes less time than to sum again.
    limit : float
        Distance to the nearest integer above which a sum is rounded exactly; ``NEVER`` if none need be.
    snap : float
        Distance to a half within which an exact sum counts as that half.
    sums_again : bool
        Whether such sums are done again; otherwise they are exact enough to be rounded as they are.
    """

    def __init__(
        self, sums: Callable[[np.dtype[Any]], Sums], outside: float | None, dtypes: Any
    ) -> None:
        self.work, self.limit, self.snap, self.sums_again = dtypes.work, NEVER, SNAP, False
        if not _is_short(dtypes.target):
            return
        if not _is_short(dtypes.source):
            # Parts of a filter in float64, such as the seams of long signals: their sums are exact enough.
            if self.work == np.float64:
                self.limit = 0.5 - 1.001 * SNAP
            return
        # Step 1: float32 passes, unless float64 ones take less time than to sum again.
        for work in (np.dtype(np.float32), np.dtype(np.float64)):
            self.work, self._sums = work, sums(work)
            self.kernel_shape = self._sums.kernel_shape()
            found = self._sums.bounds(work, _samples(dtypes.source, outside, work))
            error, size = max(b.error for b in found), max(b.size for b in found)
            if not self._is_slow(error):
                break
        if error == 0 or not math.isfinite(error):
            return
        # Step 2: the limit, rounded down, so that no sum within the bounds of a half is missed.
        self.snap = max(SNAP, math.ldexp(size, -SNAP_BITS))
        self.sums_again = self.work == np.float32
        limit = max(0.5 - error - 1.001 * self.snap, 0.0)
        self.limit = float(np.nextafter(self.work.type(limit), self.work.type(-1)))

    def _is_slow(self, error: float) -> bool:
        """Return whether float64 passes take less time than float32 passes and the sums done again."""
        planes, rows, columns = self.kernel_shape
        if planes * rows * columns > MOST_WEIGHTS:
            return error > 0
        if self._sums.dense is not None:
            taps = float(planes * rows * columns)
        else:
            taps = float(sum(s.size for s in self._sums.stacks.values()))
        share = min(2 * error, 1.0)
        steps = planes * rows * -(-columns // SAMPLES)
        again = share * (AGAIN_CYCLES + STEP_CYCLES * steps)
        return again > WIDE_CYCLES + WIDE_TAP_CYCLES * taps

    def weights(self, channels: int) -> NDArray[np.float64]:
        """Return the weights of each result, ``[output, plane, row, flat column]``, with zeros up to whole vectors."""
        kernels = self._sums.kernels()
        *outer, columns = kernels.shape
        flat = (columns - 1) * channels + 1
        table = np.zeros((*outer, -(-flat // SAMPLES) * SAMPLES))
        table[..., :flat:channels] = kernels
        return table


def _is_short(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is an integer of at most 16 bits."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _samples(dtype: np.dtype[Any], outside: float | None, work: np.dtype[Any]) -> Bounds:
    """Return the bounds of the samples of an integer image and of the constant value outside it."""
    info = np.iinfo(dtype)
    size = float(max(-info.min, info.max))
    if outside is None:
        return Bounds(size, 0.0, 1.0)
    near = float(work.type(outside))
    grid = min(1.0, _grid(near)) if near and math.isfinite(near) else 1.0
    return Bounds(max(size, abs(outside)), abs(near - outside), grid)
