"""Passes of plans, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from separable.plan.plan_text import render

__all__ = ["BandPass", "passes_table"]

COLUMNS = ("pass", "axis", "samples", "weights", "result", "multiplications")


@dataclass(frozen=True)
class BandPass:
    """One pass along an axis.

    Attributes
    ----------
    axis : int
    length, size : int
        Number of samples along the axis before and after.
    weights : int
        Largest number of weights of an output that are not zero.
    shape : tuple of int
        Shape of the result of the pass.
    multiplications : int
        Number of multiplications of all its outputs.
    """

    axis: int
    length: int
    size: int
    weights: int
    shape: tuple[int, ...]
    multiplications: int


def passes_table(passes: Sequence[BandPass]) -> str:
    """Return passes as a table.

    Examples
    --------
    >>> print(passes_table([BandPass(0, 4, 2, 3, (2, 5), 30)]))
    pass  axis  samples  weights  result  multiplications
    ─────────────────────────────────────────────────────
       1     0   4 -> 2        3     2x5               30
    """
    rows = [
        (
            str(number + 1), str(one.axis), f"{one.length} -> {one.size}", str(one.weights),
            "x".join(map(str, one.shape)), str(one.multiplications),
        )
        for number, one in enumerate(passes)
    ]  # fmt: skip
    return render(COLUMNS, rows)
