"""Goal: how much a conversion shall save, of multiplications or of time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["Budget", "Goal", "goal_of"]

Budget = float | str
_FASTER = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(?:x|times)\s*(?:faster|as fast)\s*")
_TIME = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(?:of the )?time\s*")
_SHARE = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class Goal:
    """Part of a network that may be left.

    Attributes
    ----------
    share : float
        Part of the multiplications or of the time that may be left, above 0 and at most 1.
    in_time : bool
        True if it is a part of the time.
    """

    share: float
    in_time: bool = False

    def __str__(self) -> str:
        return f"{1 / self.share:.4g}x faster" if self.in_time else f"{self.share:g}"


def goal_of(budget: object) -> Goal:
    """Read the argument ``budget``.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If it is neither a share nor such a text.

    Examples
    --------
    >>> goal_of(0.5), goal_of("2x faster")
    (Goal(share=0.5, in_time=False), Goal(share=0.5, in_time=True))
    >>> goal_of("0.25 time").share
    0.25
    >>> goal_of("fast")
    Traceback (most recent call last):
    separable.errors.ArgumentError: `budget` must be a share of the multiplications such as 0.5, or of the time such as '2x faster' or '0.5 time'; got 'fast'
    """
    if isinstance(budget, str):
        return _goal_of_text(budget)
    if isinstance(budget, bool) or not isinstance(budget, (int, float, np.number)):
        raise ArgumentTypeError(f"`budget` must be a number or a text; got {budget!r}")
    share = float(budget)
    if not 0 <= share <= 1:
        raise ArgumentError(f"`budget` must be 0 .. 1; got {budget!r}")
    if share == 0:
        raise ArgumentError(
            "`budget` is the share of the multiplications that may stay, > 0; got 0"
        )
    return Goal(share)


def _goal_of_text(text: str) -> Goal:
    for pattern, in_time in ((_FASTER, True), (_TIME, True), (_SHARE, False)):
        found = pattern.fullmatch(text)
        if found is None:
            continue
        try:
            value = float(found[1])
        except ValueError:
            break
        if pattern is _SHARE:
            return goal_of(value)
        if pattern is _FASTER:
            if not (value > 1 and math.isfinite(value)):
                raise ArgumentError(f"`budget` {text!r}: faster means a factor above 1")
            return Goal(1 / value, in_time)
        if not 0 < value <= 1:
            raise ArgumentError(f"`budget` {text!r}: a part of the time is > 0 and at most 1")
        return Goal(value, in_time)
    raise ArgumentError(
        "`budget` must be a share of the multiplications such as 0.5, or of the time such as "
        f"'2x faster' or '0.5 time'; got {text!r}"
    )
