"""The one count of a filter kernel: multiplications per output, dense and as it is run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["KernelCount", "count_kernel"]


@dataclass(frozen=True)
class KernelCount:
    """Multiplications per output of one kernel, which every screen prints in the same words.

    Attributes
    ----------
    dense : int
        One for each weight.
    nonzero : int
        One for each weight that is not zero: a program that knows them can leave the others out.
    needed : float
        Multiplications of the way that is compared: of all passes of all terms, or of a method.
    passes : int
        Number of passes; 0 if the way does not consist of passes.
    way : str
        Name of a way that does not consist of passes.

    Examples
    --------
    >>> KernelCount(9, 6, 6, 2).sentence
    'multiplications per output: 9 dense (6 of its weights are not zero), 6 in 2 passes: 1.5 times fewer'
    >>> KernelCount(9, 9, 12, 4).sentence
    'multiplications per output: 9 dense, 12 in 4 passes: 1.3 times more'
    >>> KernelCount(75, 75, 3.3, 0, "separable").sentence
    'multiplications per output: 75 dense, 3.3 separable: 22.7 times fewer'
    """

    dense: int
    nonzero: int
    needed: float
    passes: int
    way: str = ""

    @property
    def ratio(self) -> float:
        """Dense over needed multiplications; infinite if none is needed."""
        return self.dense / self.needed if self.needed else float("inf")

    @property
    def sentence(self) -> str:
        """The counts in words, without a full stop."""
        zeros = ""
        if self.nonzero != self.dense:
            zeros = f" ({self.nonzero} of its weights are not zero)"
        needed = f"{self.needed:.0f}" if self.needed == int(self.needed) else f"{self.needed:.1f}"
        way = f" {self.way}" if self.way else ""
        if self.passes:
            way = f" in {self.passes} pass{'' if self.passes == 1 else 'es'}"
        return (
            f"multiplications per output: {self.dense} dense{zeros}, {needed}{way}{self._verdict()}"
        )

    def _verdict(self) -> str:
        if not self.needed:
            return ""
        if self.ratio >= 1.05:
            return f": {self.ratio:.1f} times fewer"
        return f": {1 / self.ratio:.1f} times more" if self.ratio < 1 / 1.05 else ": as many"


def count_kernel(kernel: ArrayLike, rank: int) -> KernelCount:
    """Count a dense kernel, and the sum of `rank` products of one vector per axis.

    Parameters
    ----------
    kernel : array_like
        Dense kernel.
    rank : int
        Number of separable terms; each takes one pass along every axis.

    Examples
    --------
    >>> count_kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], rank=1)
    KernelCount(dense=9, nonzero=6, needed=6, passes=2, way='')
    """
    dense = np.asarray(kernel)
    return KernelCount(
        dense.size, int(np.count_nonzero(dense)), rank * sum(dense.shape), rank * dense.ndim
    )
