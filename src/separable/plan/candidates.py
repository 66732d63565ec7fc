"""Candidate: one way to run a filter, what it costs, and why it may not be taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from separable.engine import METHODS, Decomposition
from separable.engine.registry import CANDIDATES
from separable.plan.kernel_terms import filter_pattern
from separable.value import Value

__all__ = ["STORE", "Candidate", "filter_pattern"]

STORE = "store"  # in a machine profile: rounding and converting the result


@dataclass(frozen=True, eq=False)
class Candidate(Value):
    """One way to run a filter.

    Attributes
    ----------
    name : str
        "direct", "separable", "low-rank", "nested", "truncated" or "partial" for a decomposition of
        the kernel; otherwise the name of the method ("box", "recursive", "fft", "overlap" ...).
    method : str
        Name of the engine's method that runs it.
    rank : int
        Number of separable terms; 0 for those that take the dense kernel.
    passes : int
        Sweeps over the image.
    multiplications : float
        Multiplications per output.
    bytes : float
        Bytes read and written in all.
    seconds : float
        Predicted time; NaN where the candidate cannot run.
    bound : float
        ``max|out - exact| / (sum|kernel| * max|input|)`` is at most this, to first order.
    refused : str
        Reason why it cannot be taken; empty if it can.
    form : Decomposition or None
        The kernel as the method wants it.
    is_exact : bool
        Whether its terms add up to the whole kernel, each with passes of its own.
    """

    name: str
    method: str
    rank: int
    passes: int
    multiplications: float
    bytes: float
    seconds: float
    bound: float
    refused: str = ""
    form: Decomposition | None = field(default=None, compare=False, repr=False)
    is_exact: bool = field(default=False, compare=False, repr=False)

    @property
    def title(self) -> str:
        """The name for people."""
        if self.name not in CANDIDATES:
            method = METHODS.get(self.name)
            return method.title if method is not None else self.name
        return f"{self.name} {self.rank}" if self.rank > 1 else self.name

    @property
    def explanation(self) -> str:
        """One line that says how the method computes the result."""
        method = METHODS.get(self.method)
        return method.explanation if method is not None else ""
