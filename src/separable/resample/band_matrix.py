"""`Band`: a banded matrix that maps the samples of one axis to outputs along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import OUTSIDE, Border

__all__ = ["Band", "composed", "cropped", "extended_band", "trimmed"]

Array = NDArray[Any]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Band:
    """Weights of each output along one axis, and where the samples begin that it reads.

    ``out[i] = sum_j weights[i, j] * x[samples[starts[i] + j]]``, where the sample -1 is the constant
    outside the image.

    Attributes
    ----------
    starts : ndarray of int64, shape (m,)
        First position that each output reads.
    weights : ndarray of float64, shape (m, taps)
    samples : ndarray of int64, shape (positions,)
        The sample at each position of the extended axis.
    length : int
        Number of samples of the axis.
    growth : float
        Outputs for each sample of the whole axis, of which this band may be a part; 0 for those of this
        band. It decides the order of passes.

    Examples
    --------
    >>> band = Band(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]]), np.arange(3), 3)
    >>> band.dense().tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """

    starts: Indices
    weights: Array
    samples: Indices
    length: int
    growth: float = 0.0

    @property
    def outputs_per_sample(self) -> float:
        """Outputs for each sample of the whole axis."""
        return self.growth or self.size / max(self.length, 1)

    @property
    def size(self) -> int:
        """Number of outputs."""
        return len(self.starts)

    @property
    def taps(self) -> int:
        """Number of weights of each output."""
        return int(self.weights.shape[1])

    @property
    def positions_per_output(self) -> float:
        """Number of positions from one output to the next, on average."""
        if self.size < 2:
            return 1.0
        return max(float(np.abs(np.diff(self.starts)).mean()), 0.1)

    @cached_property
    def is_identity(self) -> bool:
        """True if the outputs are the samples."""
        if self.size != self.length or self.taps != 1 or not (self.weights == 1).all():
            return False
        return bool((self.samples[self.starts] == np.arange(self.length)).all())

    @cached_property
    def gathered(self) -> Indices:
        """Sample of every weight, shape (m, taps)."""
        found: Indices = self.samples[self.starts[:, None] + np.arange(self.taps)]
        return found

    @cached_property
    def stride(self) -> int:
        """Number of positions between the starts of neighbouring outputs; 0 if they are not equally far apart.

        Examples
        --------
        >>> Band(np.array([0, 2, 4]), np.ones((3, 1)), np.arange(5), 5).stride
        2
        """
        if self.size < 2:
            return 1
        steps = np.diff(self.starts)
        step = int(steps[0])
        return step if step > 0 and (steps == step).all() else 0

    @cached_property
    def common_outputs(self) -> tuple[int, int]:
        """Range of outputs around the middle one that have its weights.

        Examples
        --------
        >>> Band(np.arange(3), np.array([[1.0], [1.0], [2.0]]), np.arange(3), 3).common_outputs
        (0, 2)
        """
        middle = self.size // 2
        others = np.flatnonzero((self.weights != self.weights[middle : middle + 1]).any(axis=1))
        place = int(np.searchsorted(others, middle))
        first = int(others[place - 1]) + 1 if place else 0
        last = int(others[place]) if place < len(others) else self.size
        return first, last

    def matrix(self) -> Any:
        """Return the weights of samples within the image as a `scipy.sparse.csr_array`, shape (m, length)."""
        from scipy import sparse  # start-up time

        places = self.gathered
        inside = places >= 0
        rows = np.broadcast_to(np.arange(self.size)[:, None], places.shape)[inside]
        shape = (self.size, self.length)
        return sparse.csr_array((self.weights[inside], (rows, places[inside])), shape=shape)

    def dense(self) -> Array:
        """Return the weights of samples within the image as an array, shape (m, length)."""
        found: Array = self.matrix().toarray()
        return found

    @cached_property
    def weight_outside(self) -> Array:
        """Sum of the weights of the constant outside the image, shape (m,)."""
        total: Array = np.where(self.gathered == OUTSIDE, self.weights, 0.0).sum(axis=1)
        return total

    def absolute(self) -> Band:
        """Return the band of the absolute weights."""
        return Band(self.starts, np.abs(self.weights), self.samples, self.length, self.growth)

    def part(self, start: int, stop: int) -> Band:
        """Return the band of the outputs ``start`` to ``stop - 1``, of the whole axis.

        Examples
        --------
        >>> band = Band(np.arange(4), np.ones((4, 1)), np.arange(4), 4)
        >>> band.part(1, 3).dense().tolist()
        [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
        """
        starts, weights = self.starts[start:stop], self.weights[start:stop]
        return cropped(Band(starts, weights, self.samples, self.length, self.outputs_per_sample))

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of samples that the outputs ``start`` to ``stop - 1`` read; at least one sample."""
        places = self.gathered[start:stop]
        inside = places[places >= 0]
        if not inside.size:
            return 0, min(1, self.length)
        return int(inside.min()), int(inside.max()) + 1

    def of_block(self, first: int, last: int) -> Band:
        """Return this band for the samples ``first`` to ``last - 1`` of its axis, which are all that it reads."""
        moved = np.where(self.samples >= 0, self.samples - first, OUTSIDE)
        unread = (self.samples >= 0) & ((moved < 0) | (moved >= last - first))
        samples = np.where(unread, 0, moved)
        return Band(self.starts, self.weights, samples, last - first, self.outputs_per_sample)

    def adjoint(self) -> Any:
        """Return the transposed matrix, of the gradient, shape (length, m)."""
        return self.matrix().T.tocsr()

    def spans(self, block: int) -> Indices:
        """Return what blocks of outputs read, one row for each block.

        The columns are the first position, the one after the last, the first and the one after the last of
        the longest run of positions with neighbouring samples, and the sample of the first of these.
        """
        found = []
        for start in range(0, self.size, block):
            starts = self.starts[start : start + block]
            first, last = int(starts.min()), int(starts.max()) + self.taps
            samples = self.samples[first:last]
            cuts = np.flatnonzero((np.diff(samples) != 1) | (samples[1:] < 1)) + 1
            edges = np.concatenate(([0], cuts, [len(samples)]))
            longest = int(np.argmax(np.diff(edges)))
            a, b = int(edges[longest]), int(edges[longest + 1])
            sample = int(samples[a])
            if sample < 0:
                a = b = sample = 0
            found.append((first, last, first + a, first + b, sample))
        return np.array(found, np.int64).reshape(-1, 5)


def extended_band(
    firsts: Indices,
    weights: Array,
    length: int,
    samples_of: Border | Callable[[int, int], Indices],
) -> Band:
    """Return the band whose outputs read the positions from `firsts` on of an extended axis.

    Parameters
    ----------
    firsts : ndarray of int
        First position of each output; it may lie outside the axis.
    weights : ndarray of float64, shape (m, taps)
    length : int
        Number of samples of the axis.
    samples_of : Border or callable
        The border mode, or ``(start, stop) -> samples`` at these positions.

    Examples
    --------
    >>> from separable.borders import REFLECT
    >>> extended_band(np.array([-1, 1]), np.ones((2, 2)), 3, REFLECT).dense().tolist()
    [[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    first, last = int(firsts.min()), int(firsts.max()) + weights.shape[1]
    if isinstance(samples_of, Border):
        samples = samples_of.samples(length, first, last)
    else:
        samples = samples_of(first, last)
    return Band(firsts - first, weights, np.asarray(samples, np.int64), length)


def composed(outer_firsts: Indices, outer: Array, taps: Array, left: int) -> tuple[Indices, Array]:
    """Return the first positions and weights of a band after a correlation of the extended axis.

    Parameters
    ----------
    outer_firsts, outer : ndarray
        First positions and weights of the band that reads the correlated axis.
    taps : ndarray
        Taps of the correlation.
    left : int
        Number of taps left of the output.

    Examples
    --------
    >>> composed(np.array([3]), np.array([[1.0, 1.0]]), np.array([1.0, 2.0, 1.0]), 1)
    (array([2]), array([[1., 3., 3., 1.]]))
    """
    size = outer.shape[1] + len(taps) - 1
    weights = np.zeros((len(outer), size))
    for j in range(outer.shape[1]):
        weights[:, j : j + len(taps)] += outer[:, j : j + 1] * taps
    return outer_firsts - left, weights


def trimmed(firsts: Indices, weights: Array, least: float) -> tuple[Indices, Array]:
    """Return a band without the outer columns whose weights are all at most `least`.

    Examples
    --------
    >>> trimmed(np.array([0, 5]), np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.0]]), 0.0)
    (array([1, 6]), array([[1. ],
           [0.5]]))
    """
    used = np.flatnonzero((np.abs(weights) > least).any(axis=0))
    if not used.size:
        return firsts, weights[:, :1]
    first, last = int(used[0]), int(used[-1]) + 1
    return firsts + first, weights[:, first:last]


def cropped(band: Band) -> Band:
    """Return a band without the positions that no output reads."""
    if not band.size:
        return band
    first, last = int(band.starts.min()), int(band.starts.max()) + band.taps
    samples = band.samples[first:last]
    return Band(band.starts - first, band.weights, samples, band.length, band.growth)
