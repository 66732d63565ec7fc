"""The sizes of groups for which a factorisation within a tolerance has the fewest parameters.

A pattern such as ``(Yy)(Xx) -> YX,yx`` splits axes of the kernel, and the sizes of its parts are a choice. Every
way to divide the axes is tried: kernels are small, and their sizes have few divisors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

from separable.errors import PatternError
from separable.factors import Factors
from separable.pattern import Pattern

__all__ = ["MOST_SPLITS", "fewest_parameters", "splits"]

MOST_SPLITS = 512  # ways to divide all axes; with more of them the sizes have to be given


def splits(pattern: Pattern, shape: tuple[int, ...]) -> Iterator[dict[str, int]]:
    """Yield the sizes of all letters, for every way to divide the axes of groups.

    Ways that leave every group whole, with all letters but one of size 1, divide nothing and are left out
    where there is another one.

    Examples
    --------
    >>> from separable.pattern import parse
    >>> list(splits(parse("(Yy)x -> Yx,y"), (4, 3)))
    [{'Y': 2, 'y': 2, 'x': 3}]
    """
    ways = [
        [dict(zip(axis, sizes, strict=True)) for sizes in _divisions(n, len(axis))]
        for axis, n in zip(pattern.axes, shape, strict=True)
    ]
    every = [
        {letter: n for part in parts for letter, n in part.items()}
        for parts in itertools.product(*ways)
    ]
    groups = [axis for axis in pattern.axes if len(axis) > 1]
    divided = [s for s in every if any(sum(s[a] > 1 for a in group) > 1 for group in groups)]
    yield from divided or every


def _divisions(n: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write n as an ordered product of so many numbers."""
    if parts == 1:
        yield (n,)
        return
    for first in (d for d in range(1, n + 1) if n % d == 0):
        for rest in _divisions(n // first, parts - 1):
            yield (first, *rest)


def fewest_parameters(
    pattern: Pattern,
    shape: tuple[int, ...],
    factors_of: Callable[[Mapping[str, int]], Factors],
) -> Factors:
    """Return the factors with the fewest parameters over all sizes of the groups, the closest of equals.

    Parameters
    ----------
    pattern : Pattern
        Pattern with groups.
    shape : tuple of int
        Shape of the kernel.
    factors_of : callable
        Returns the factors for given sizes.

    Raises
    ------
    PatternError
        If there are more ways to divide the axes than `MOST_SPLITS`.
    """
    count = math.prod(
        sum(1 for _ in _divisions(n, len(axis)))
        for axis, n in zip(pattern.axes, shape, strict=True)
    )
    if count > MOST_SPLITS:
        raise PatternError(
            f"`{pattern}` can divide a kernel of shape {shape} in {count} ways, which is too many to try; "
            f"give the sizes of its groups with `sizes`"
        )
    found = (factors_of(sizes) for sizes in splits(pattern, shape))
    return min(found, key=lambda f: (f.parameters, f.error))
