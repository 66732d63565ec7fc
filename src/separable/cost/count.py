"""Cost: counts that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

__all__ = ["Cost", "mac_cost"]


@dataclass(frozen=True)
class Cost:
    """Counts of one computation, which can be added.

    Attributes
    ----------
    multiplications : int
        Multiplications of two numbers; a division counts as one.
    macs : int
        Multiplications whose product is added to a running sum ("multiply-adds"): convolutions,
        linear layers, matrix products.
    flops : int
        ``multiplications + macs``: every multiplication, and the addition of every MAC.
    parameters : int
    activation_bytes, weight_bytes : int
        Bytes moved: every operation reads its operands once and writes its result once.
    additions : int
        Additions outside MACs: biases, residual sums, means.
    others : int
        Other operations, one per element: comparisons (ReLU, maximum), exponentials, roots.

    Examples
    --------
    >>> from separable.cost import dense_filter
    >>> dense_filter((7, 7)) + dense_filter((7, 7)) == dense_filter((7, 7), outputs=2)
    False
    >>> (dense_filter((7, 7)) + dense_filter((7, 7))).multiplications
    98
    """

    multiplications: int = 0
    macs: int = 0
    flops: int = 0
    parameters: int = 0
    activation_bytes: int = 0
    weight_bytes: int = 0
    additions: int = 0
    others: int = 0

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def __sub__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Cost)))

    @property
    def bytes(self) -> int:
        """Number of bytes moved: activations and weights."""
        return self.activation_bytes + self.weight_bytes

    @property
    def multiplications_per_byte(self) -> float:
        """Arithmetic intensity: multiplications per byte moved; NaN if none is moved."""
        return self.multiplications / self.bytes if self.bytes else math.nan

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name.

        Examples
        --------
        >>> Cost(multiplications=6, macs=6, flops=12).to_dict()["flops"]
        12
        """
        return {f.name: getattr(self, f.name) for f in fields(Cost)}


def mac_cost(macs: int, parameters: int, moved: int, itemsize: int, *, additions: int = 0) -> Cost:
    """Return the cost of `macs` multiply-adds that move `moved` values besides the weights."""
    return Cost(
        multiplications=macs,
        macs=macs,
        flops=2 * macs,
        parameters=parameters,
        activation_bytes=moved * itemsize,
        weight_bytes=parameters * itemsize,
        additions=additions,
    )
