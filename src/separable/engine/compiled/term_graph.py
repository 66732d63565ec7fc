"""Description of the sums of a sweep: the taps along each axis, their symmetry, and which terms are summed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fma_blocks import EVEN, GENERAL, MOST_PRODUCTS, ODD, is_long


@dataclass(frozen=True)
class Pass:
    """The correlation along one axis: ``weights[term, tap]``, the number of samples to the left, and the border map."""

    weights: NDArray[np.float64]
    left: int
    border: NDArray[np.int64]

    @property
    def taps(self) -> int:
        """Number of taps."""
        return int(self.weights.shape[1])


@dataclass(frozen=True)
class TermGraph:
    """Graph of a sweep: the result that each term reads, and the ranges of terms that are summed.

    The y terms read the image, each x term reads a y term; rings sum x terms (y terms where x is not filtered), each z
    term reads a ring, and the outputs sum the terms of the last axis.

    Attributes
    ----------
    x_from : tuple of int
        The y term that each x term reads.
    rings : tuple of (int, int)
        First and last (exclusive) term that each ring sums.
    z_from : tuple of int
        The ring that each z term reads.
    outputs : tuple of (int, int)
        First and last (exclusive) term that each output sums.
    at : tuple of int
        Bytes from the first output array to each.
    """

    x_from: tuple[int, ...] = ()
    rings: tuple[tuple[int, int], ...] = ()
    z_from: tuple[int, ...] = ()
    outputs: tuple[tuple[int, int], ...] = ((0, 1),)
    at: tuple[int, ...] = (0,)

    @classmethod
    def of_terms(cls, terms: int, axes: set[str]) -> TermGraph:
        """Return the graph of a sum of terms, each with passes of its own."""
        each = tuple(range(terms))
        rings = tuple((t, t + 1) for t in each) if "z" in axes else ()
        return cls(each if "y" in axes else (0,) * terms, rings, each, ((0, terms),))


def kinds(weights: NDArray[Any]) -> NDArray[np.int64]:
    """Return the symmetry of each term's taps: EVEN, ODD or GENERAL."""
    result = np.full(len(weights), GENERAL, np.int64)
    for t, taps in enumerate(weights):
        if taps.size > 1 and np.array_equal(taps, taps[::-1]):
            result[t] = EVEN
        elif taps.size > 2 and np.array_equal(taps, -taps[::-1]):
            result[t] = ODD
    return result


def is_long_stack(weights: NDArray[Any], found: Iterable[int]) -> bool:
    """Return whether the sums of terms with taps ``weights[term, tap]`` of these kinds are made of short sums."""
    taps = weights.shape[1]
    return weights.size > max(MOST_PRODUCTS, taps) or any(is_long(taps, k) for k in found)
