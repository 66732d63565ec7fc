"""UserScore: calls of a user's metric on networks, checked and counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["Metric", "ScoreChange", "UserScore", "metric_name"]

Metric = Callable[[nn.Module], Any]
LONGEST = 200  # characters of a user's value or exception in a message


@dataclass(frozen=True)
class ScoreChange:
    """Score of a network before and after a conversion, by the user's metric.

    Attributes
    ----------
    name : str
        Name of the metric.
    before, after : float
        Scores of the original and of the converted network; higher is better.
    evaluations : int
        Number of calls of the metric.
    noise : float
        Difference of the scores of two calls on the original network.
    tol : float
        Largest loss that was allowed; NaN if none was given.
    missed_budget : str
        Budget that could not be met within `tol`; empty if it was met or none was given.

    Examples
    --------
    >>> ScoreChange("accuracy", 0.992, 0.981, 37).text()
    'accuracy 0.981 instead of 0.992'
    """

    name: str
    before: float
    after: float
    evaluations: int
    noise: float = 0.0
    tol: float = math.nan
    missed_budget: str = ""

    @property
    def loss(self) -> float:
        """Score that the conversion cost; negative if the converted network is better."""
        return self.before - self.after

    def text(self) -> str:
        """Return both scores."""
        return f"{self.name} {self.after:.4g} instead of {self.before:.4g}"

    def sentence(self) -> str:
        """Return how the score was searched with, and how far it can be trusted."""
        said = f"`{self.name}` was called {self.evaluations} times to choose layers and ranks"
        if self.noise:
            said += f"; two calls on the original differ by {self.noise:.2g}"
        if self.missed_budget:
            said += (
                f". The budget {self.missed_budget} was not met: it would cost more than the "
                f"{self.tol:g} that `tol` allows"
            )
        return f"{said}."

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, None for NaN."""
        return {k: None if v != v else v for k, v in asdict(self).items()}


class UserScore:
    """Metric of a user, called on networks; its values are checked and its calls counted.

    Parameters
    ----------
    metric : function
        Function of a network in evaluation mode that returns one number; higher is better.
    limit : int
        Number of calls that are planned, for the progress.
    tell : function
        Function of an activity, the calls done and their limit.
    """

    def __init__(self, metric: Metric, limit: int, tell: Callable[[str, int, int], None]) -> None:
        self.metric, self.limit, self._tell = metric, limit, tell
        self.name = metric_name(metric)
        self.count = 0

    @property
    def left(self) -> int:
        """Number of calls that are left."""
        return max(self.limit - self.count, 0)

    def of(self, network: nn.Module, described: str) -> float:
        """Return the score of a network.

        Parameters
        ----------
        network : torch.nn.Module
            The metric may change it, so it must not be used again.
        described : str
            What the network is, for messages: "the original network".

        Raises
        ------
        ArgumentError
            If the metric raises an exception, or returns NaN or an infinite number.
        ArgumentTypeError
            If it does not return one number.
        """
        self._tell(f"score of {described}", self.count, self.limit)
        self.count += 1
        try:
            with torch.no_grad():
                value = self.metric(network)
        except Exception as problem:  # a user's function may raise anything
            text = (str(problem).strip() or "no message").splitlines()[0][:LONGEST]
            raise ArgumentError(
                f"`metric` {self.name} raised {type(problem).__name__} for {described}: {text}. It "
                "is called with the network in evaluation mode, and returns one number"
            ) from problem
        return self._number(value, described)

    def _number(self, value: Any, described: str) -> float:
        found = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        if isinstance(found, np.ndarray) and found.size == 1:
            found = found.item()
        if isinstance(found, (bool, np.bool_)) or not isinstance(found, (int, float, np.number)):
            raise ArgumentTypeError(
                f"`metric` {self.name} must return one number, higher is better; got "
                f"{repr(value)[:LONGEST]} for {described}"
            )
        if isinstance(found, (complex, np.complexfloating)) or not math.isfinite(found):
            raise ArgumentError(
                f"`metric` {self.name} returned {found} for {described}; expected a finite number"
            )
        return float(found)


def metric_name(metric: Any) -> str:
    """Return the name of a metric for messages.

    Examples
    --------
    >>> metric_name(max), metric_name(lambda net: 0)
    ('max', 'metric')
    """
    name = getattr(metric, "__name__", None) or type(metric).__name__
    return "metric" if name == "<lambda>" else str(name)
