"""Passes whose taps lie apart: the coarse and fine passes of Kronecker products, and dilated kernels.

A kernel that is a Kronecker product, ``K[Y * ky + y] = A[Y] * B[y]`` along each axis, is a correlation with the
fine factor B and then with the coarse factor A, whose taps lie ``ky`` samples apart (its *dilation*). A dilated
kernel is the same with a fine factor of one tap, which needs no pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.lazy_kernel import to_float
from separable.factors import Factors
from separable.value import Value

__all__ = ["SpreadPass", "chain_text", "spread_chains", "trimmed_pass"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class SpreadPass(Value):
    """A correlation along some kernel axes with taps a constant distance apart.

    Attributes
    ----------
    axes : tuple of int
        Kernel axes that the pass runs along.
    taps : ndarray
        Taps for correlation, one axis per kernel axis, without zeros around them.
    dilation : tuple of int
        Distance between neighbouring taps in samples, for each axis.
    offset : tuple of int
        Position of the first tap in the kernel in samples, for each axis.
    """

    ARRAYS = ("taps",)

    axes: tuple[int, ...]
    taps: Array
    dilation: tuple[int, ...]
    offset: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Number of samples from the first tap to the last one, for each axis."""
        return tuple(d * (n - 1) for d, n in zip(self.dilation, self.taps.shape, strict=True))

    @property
    def multiplications(self) -> int:
        """Multiplications per output: one for each tap, as of other passes."""
        return int(self.taps.size)

    @property
    def nonzeros(self) -> int:
        """Number of taps that are not zero; the others take no time."""
        return int(np.count_nonzero(self.taps))

    def __str__(self) -> str:
        size = "x".join(map(str, self.taps.shape))
        along = "" if len(self.axes) > 1 else f" along kernel axis {self.axes[0]}"
        steps = sorted({d for d, n in zip(self.dilation, self.taps.shape, strict=True) if n > 1})
        if steps in ([], [1]):
            return f"{size}{along}"
        apart = "x".join(map(str, self.dilation)) if len(steps) > 1 else str(steps[0])
        return f"{size}{along} with taps {apart} samples apart"


def chain_text(chains: Sequence[Sequence[SpreadPass]]) -> str:
    """Return the passes of Kronecker terms in words.

    Examples
    --------
    >>> fine = SpreadPass((0, 1), np.ones((3, 3)), (1, 1), (0, 0))
    >>> coarse = SpreadPass((0, 1), np.ones((5, 5)), (3, 3), (0, 0))
    >>> chain_text([[fine, coarse]])
    '3x3, then 5x5 with taps 3 samples apart'
    """
    texts = list(dict.fromkeys(", then ".join(map(str, chain)) for chain in chains))
    if len(texts) == 1 and len(chains) > 1:
        return f"{texts[0]}, for each of {len(chains)} terms"
    return "; plus ".join(texts)


def spread_chains(factors: Factors) -> tuple[tuple[SpreadPass, ...], ...]:
    """Return the passes of each term of factors whose pattern has groups, fine passes first.

    Parameters
    ----------
    factors : Factors
        Factors for correlation, with one bond and no batch letters.

    Examples
    --------
    >>> import separable as sep
    >>> f = sep.factorize(np.kron([1, 2, 1], [1, 1]), "(Xx) -> X,x", sizes={"x": 2})
    >>> [[(p.taps.tolist(), p.dilation) for p in chain] for chain in spread_chains(f)]
    [[([1.0, 1.0], (1,)), ([1.0, 2.0, 1.0], (2,))]]
    """
    steps = _steps(factors)
    chains = []
    for term in factors.terms:
        passes = [
            _pass_of(to_float(array), factors.pattern.own(k), steps) for k, array in enumerate(term)
        ]
        if all(p.taps.any() for p in passes):
            chains.append(_without_identities(passes))
    return tuple(chains)


def trimmed_pass(
    axes: Sequence[int], taps: Array, dilation: Sequence[int], offset: Sequence[int] = ()
) -> SpreadPass:
    """Return a pass without the zeros around its taps; taps of zeros alone are kept as one zero."""
    start = list(offset) or [0] * taps.ndim
    for axis in range(taps.ndim):
        others = tuple(a for a in range(taps.ndim) if a != axis)
        used = np.flatnonzero(np.any(taps != 0, axis=others))
        first, last = (int(used[0]), int(used[-1])) if used.size else (0, 0)
        taps = np.take(taps, range(first, last + 1), axis=axis)
        start[axis] += first * dilation[axis]
    return SpreadPass(tuple(axes), np.ascontiguousarray(taps), tuple(dilation), tuple(start))


def _steps(factors: Factors) -> dict[str, tuple[int, int]]:
    """Return for each letter its kernel axis, and the distance of its neighbours in samples."""
    found = {}
    for axis, group in enumerate(factors.pattern.axes):
        for place, letter in enumerate(group):
            inner = math.prod(factors.sizes[a] for a in group[place + 1 :])
            found[letter] = (axis, inner)
    return found


def _pass_of(array: Array, letters: str, steps: dict[str, tuple[int, int]]) -> SpreadPass:
    """Return the pass of one factor; letters of the same group become one axis of taps."""
    # Step 1: order the letters by kernel axis, the slow one of a group first.
    order = sorted(range(len(letters)), key=lambda k: (steps[letters[k]][0], -steps[letters[k]][1]))
    array = np.transpose(array, order)
    placed = [steps[letters[k]] for k in order]
    axes = sorted({axis for axis, _ in placed})
    # Step 2: several letters of one axis: write their taps out, a greatest common distance apart.
    taps, dilation, at = array, [], 0
    for axis in axes:
        own = [step for a, step in placed if a == axis]
        sizes = taps.shape[at : at + len(own)]
        step = math.gcd(*own)
        where = np.zeros(sizes, int)
        for k, one in enumerate(own):
            shape = [1] * len(own)
            shape[k] = -1
            where = where + (np.arange(sizes[k]) * (one // step)).reshape(shape)
        flat = taps.reshape(*taps.shape[:at], where.size, *taps.shape[at + len(own) :])
        wide = np.zeros((*flat.shape[:at], int(where.max()) + 1, *flat.shape[at + 1 :]), flat.dtype)
        wide[(slice(None),) * at + (where.ravel(),)] = flat
        taps, at = wide, at + 1
        dilation.append(step)
    return trimmed_pass(axes, taps, dilation)


def _without_identities(passes: Sequence[SpreadPass]) -> tuple[SpreadPass, ...]:
    """Order the passes of a term, fine ones first, and multiply those of one tap into another one."""
    ordered = sorted(passes, key=lambda p: (max(p.dilation), p.axes))
    kept = [p for p in ordered if p.taps.size > 1] or ordered[-1:]
    left_out = [p for p in ordered if all(p is not k for k in kept)]
    factor: Any = math.prod(p.taps.ravel()[0].item() for p in left_out)
    start: dict[int, int] = {}
    for p in ordered:
        if all(p is not k for k in kept):
            for axis, shift in zip(p.axes, p.offset, strict=True):
                start[axis] = start.get(axis, 0) + shift
    made = []
    for p in kept:
        offset = tuple(o + start.pop(a, 0) for a, o in zip(p.axes, p.offset, strict=True))
        made.append(SpreadPass(p.axes, p.taps, p.dilation, offset))
    if start and any(
        start.values()
    ):  # axes that no other pass runs along: a shift is a pass of one tap
        axes = tuple(sorted(start))
        moved = SpreadPass(
            axes, np.ones((1,) * len(axes)), (1,) * len(axes), tuple(start[a] for a in axes)
        )
        made.append(moved)
    first = made[0]
    if factor != 1.0:
        made[0] = SpreadPass(first.axes, first.taps * factor, first.dilation, first.offset)
    return tuple(made)
