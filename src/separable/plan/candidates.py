"""Candidate: one way to run a filter, its cost, and the reason if it cannot run."""

from __future__ import annotations

from dataclasses import dataclass, field

from separable.engine import METHODS, Decomposition
from separable.engine.registry import CANDIDATES, LOW_RANK, SEPARABLE
from separable.value import Value

__all__ = ["STORE", "Candidate"]

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
        Reason why it cannot run; empty if it can.
    form : Decomposition or None
        The kernel in the form that the method runs.
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
        """The name that ``method=`` takes and, in parentheses, what it stands for."""
        if self.name in CANDIDATES:
            return f"{self.name} ({self.rank} terms)" if self.rank > 1 else self.name
        method = METHODS.get(self.name)
        same = method is None or method.title.lower() == self.name
        return self.name if same or method is None else f"{self.name} ({method.title})"

    def answers_to(self, method: str) -> bool:
        """Return whether ``method=`` with this name asks for the candidate.

        A kernel of rank 1 is also a sum of separable terms, of one: "low-rank" asks for "separable" then.
        """
        one_term = method == LOW_RANK and self.name == SEPARABLE and self.is_exact
        return method in (self.name, self.method) or one_term

    @property
    def explanation(self) -> str:
        """One line that says how the method computes the result."""
        method = METHODS.get(self.method)
        return method.explanation if method is not None else ""
