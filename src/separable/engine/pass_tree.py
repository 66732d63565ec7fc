"""Passes of a filter as a tree: terms that begin alike share their first passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.value import Value

__all__ = ["Pass", "share_passes"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Pass(Value):
    """A correlation along one kernel axis, or dense over several, and the passes that run on its output.

    Attributes
    ----------
    axes : tuple of int
        Kernel axes that the pass runs along.
    taps : ndarray
        Taps, one axis per kernel axis, trimmed of zeros.
    lefts : tuple of int
        Number of taps left of the output's sample, for each axis.
    then : tuple of Pass
        Passes that run on the output; if there are none, the output is added to the result.
    """

    ARRAYS = ("taps",)

    axes: tuple[int, ...]
    taps: Array
    lefts: tuple[int, ...]
    then: tuple[Pass, ...] = ()

    def walk(self) -> Iterator[Pass]:
        """Yield this pass and all that follow it."""
        yield self
        for child in self.then:
            yield from child.walk()


def share_passes(
    terms: Sequence[tuple[Array, ...]],
    groups: Sequence[tuple[int, ...]],
    lefts: tuple[int, ...],
    left_over: tuple[int, ...] | None = None,
) -> tuple[tuple[Pass, ...], int]:
    """Arrange terms as a tree of passes with the fewest taps; return it and its taps.

    The order of the factors is free, because passes along different axes commute. Each factor is
    tried as the first; terms whose first taps are proportional share that pass.
    """
    if left_over is None:
        left_over = tuple(range(len(groups)))
    best: tuple[tuple[Pass, ...], int] | None = None
    leads = left_over if len(terms) > 1 else left_over[-1:]
    for lead in reversed(leads):
        rest = tuple(k for k in left_over if k != lead)
        passes: list[Pass] = []
        count = 0
        for taps, members in _alike(terms, lead, rest):
            needed, factor = rest, 1.0
            if len(members) == 1:
                needed, factor = _without_identities(members[0], groups, lefts, rest)
                taps = taps * factor
            then, below = share_passes(members, groups, lefts, needed) if needed else ((), 0)
            trimmed, own_lefts = _trim(taps, tuple(lefts[a] for a in groups[lead]))
            if then and _is_identity(trimmed, own_lefts):
                passes.extend(_times(p, trimmed.ravel()[0]) for p in then)
                count += below
            else:
                passes.append(Pass(groups[lead], trimmed, own_lefts, then))
                count += below + trimmed.size
        if best is None or count < best[1]:
            best = (tuple(passes), count)
    assert best is not None
    return best


def _without_identities(
    term: tuple[Array, ...],
    groups: Sequence[tuple[int, ...]],
    lefts: tuple[int, ...],
    rest: tuple[int, ...],
) -> tuple[tuple[int, ...], Any]:
    """Leave out the factors of a term that only multiply; return the others and the product."""
    needed, product = [], 1.0
    for k in rest:
        taps, own_lefts = _trim(term[k], tuple(lefts[a] for a in groups[k]))
        if _is_identity(taps, own_lefts):
            product = product * taps.ravel()[0]
        else:
            needed.append(k)
    return tuple(needed), product


def _alike(
    terms: Sequence[tuple[Array, ...]], lead: int, rest: tuple[int, ...]
) -> list[tuple[Array, list[tuple[Array, ...]]]]:
    """Group terms whose `lead` taps are proportional; the ratio goes to a factor still to come."""
    groups: dict[Any, tuple[Array, list[tuple[Array, ...]]]] = {}
    for number, term in enumerate(terms):
        taps = term[lead]
        key = _direction(taps) if rest else number
        if key not in groups:
            groups[key] = (taps, [term])
            continue
        first, members = groups[key]
        ratio = _ratio(taps, first)
        if ratio is None:
            groups[number] = (taps, [term])
            continue
        moved = list(term)
        moved[rest[0]] = moved[rest[0]] * ratio
        members.append(tuple(moved))
    return list(groups.values())


def _direction(taps: Array) -> bytes:
    """Return a key that proportional taps have in common (nearly always: a miss only costs a pass)."""
    flat = taps.ravel()
    size = np.abs(flat)
    pivot = flat[int(np.argmax(size > 0.377 * size.max()))]
    return bytes((flat / pivot).round(10) + 0.0)


def _ratio(taps: Array, first: Array) -> Any:
    """Return the number c for which taps = c * first to rounding, or None."""
    at = np.unravel_index(int(np.argmax(np.abs(first))), first.shape)
    ratio = taps[at] / first[at]
    limit = 8 * np.finfo(np.float64).eps * float(np.max(np.abs(taps)))
    return ratio if float(np.max(np.abs(taps - ratio * first))) <= limit and ratio != 0 else None


def _trim(taps: Array, lefts: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """Cut off zeros at the ends, but never the sample under the output."""
    if taps.ndim == 1 and taps[0] != 0 and taps[-1] != 0 and 0 <= lefts[0] < len(taps):
        return np.ascontiguousarray(taps), lefts
    starts = []
    for axis, left in enumerate(lefts):
        other = tuple(a for a in range(taps.ndim) if a != axis)
        used = np.flatnonzero(np.any(taps != 0, axis=other))
        start, stop = min(int(used[0]), left), max(int(used[-1]), left) + 1
        taps = np.take(taps, range(start, stop), axis=axis)
        starts.append(start)
    return np.ascontiguousarray(taps), tuple(
        left - start for left, start in zip(lefts, starts, strict=True)
    )


def _is_identity(taps: Array, lefts: tuple[int, ...]) -> bool:
    """Return whether the pass only multiplies by a number."""
    return taps.size == 1 and not any(lefts)


def _times(p: Pass, factor: Any) -> Pass:
    return p if factor == 1 else Pass(p.axes, p.taps * factor, p.lefts, p.then)
