"""Request: the checked arguments of `convert`, and the schemes that each layer may have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError, PatternError, RankError
from separable.lowering.scheme import Scheme
from separable.nn.convert.conversion_goal import Budget, Goal, goal_of
from separable.nn.convert.layer_refs import LayerRef, check_known, matching
from separable.nn.convert.patterns import AUTO, adapted, candidates, if_it_fits, scheme_of
from separable.nn.convert.user_score import Metric
from separable.nn.runtimes.known_runtimes import runtime_named
from separable.pattern import Pattern, parse

__all__ = ["Request", "schemes_for", "without_pattern"]

FEWEST = 8  # evaluations: the original twice, two layers, three choices, the result
Patterns = str | Pattern | Mapping[str, str | Pattern | None]


@dataclass(frozen=True)
class Request:
    """Arguments of `convert` that decide how far to go.

    Attributes
    ----------
    pattern : str, Pattern or mapping of layer name to those or None
    rank : int or mapping of bond to int, or None
    tol : float or None
    budget : float, str or None
    runtime : str or None
    min_saving, ridge : float
    sweeps, repeats : int
    metric : function or None
    evaluations : int
    """

    pattern: Patterns
    rank: int | Mapping[str, int] | None
    tol: float | None
    budget: Budget | None
    min_saving: float
    ridge: float
    sweeps: int
    repeats: int
    runtime: str | None = None
    metric: Metric | None = None
    evaluations: int = 60

    @property
    def goal(self) -> Goal | None:
        """Part of the network that may be left; None without a budget."""
        return None if self.budget is None else goal_of(self.budget)

    def check(self) -> None:
        """Raise an error for arguments that no conversion can satisfy.

        Raises
        ------
        ArgumentError, ArgumentTypeError, RankError, PatternError
        """
        goal = self.goal
        given = {n: v for n in ("rank", "tol", "budget") if (v := getattr(self, n)) is not None}
        self._check_metric(given)
        both = self.metric is not None or (goal is not None and goal.in_time)
        if len(given) > 1 and not (both and set(given) == {"tol", "budget"}):
            said = ", ".join(f"{n}={v!r}" for n, v in given.items())
            raise ArgumentError(
                f"give one of `rank`, `tol` and `budget`; got {said}. A budget in time, such as "
                "'2x faster', may have a `tol`, and so may one with a `metric`"
            )
        if self.runtime is not None:
            runtime_named(self.runtime)
        _number("min_saving", self.min_saving, 0, math.inf)
        _number("ridge", self.ridge, 0, math.inf)
        _whole("sweeps", self.sweeps, 0)
        _whole("repeats", self.repeats, 0)
        if self.tol is not None:
            _number("tol", self.tol, 0, math.inf)
        if self.rank is not None:
            ranks = self.rank.values() if isinstance(self.rank, Mapping) else [self.rank]
            for rank in ranks:
                _whole("rank", rank, 1)
        values = self.pattern.values() if isinstance(self.pattern, Mapping) else [self.pattern]
        for value in values:
            if value is not None and value != AUTO and not isinstance(value, Pattern):
                parse(value)
        if AUTO in values and self.tol is None and self.budget is None:
            raise ArgumentError(
                '`pattern="auto"` compares patterns by what they cost: give `budget` (a share of '
                f"the multiplications) or `tol`; got rank={self.rank!r}"
            )

    def _check_metric(self, given: Mapping[str, object]) -> None:
        """Raise an error if the metric is not a function, or if there is nothing to choose from."""
        _whole("evaluations", self.evaluations, FEWEST)
        if self.metric is None:
            return
        if isinstance(self.metric, nn.Module) or not callable(self.metric):
            raise ArgumentTypeError(
                "`metric` must be a function of a network that returns its score, higher is "
                f"better; got {type(self.metric).__name__}"
            )
        if "rank" in given or not given:
            got = f"rank={self.rank!r}" if given else "neither"
            raise ArgumentError(
                "`metric` chooses layers and ranks: give `budget`, or as `tol` the largest loss of "
                f"the score, or both; got {got}"
            )


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise ArgumentTypeError(f"`{name}` must be a number; got {value!r}")
    if not (low <= float(value) <= high and math.isfinite(float(value))):
        limits = f"{low:g} .. {high:g}" if math.isfinite(high) else f">= {low:g}"
        raise ArgumentError(f"`{name}` must be {limits}; got {value!r}")


def _whole(name: str, value: object, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"`{name}` must be an integer; got {value!r}")
    if value < minimum:
        raise (RankError if name == "rank" else ArgumentError)(
            f"`{name}` must be >= {minimum}; got {value!r}"
        )


def schemes_for(
    refs: Sequence[LayerRef], pattern: Patterns
) -> tuple[list[LayerRef], dict[str, tuple[Scheme, ...]]]:
    """Return the schemes that each layer may have, and why the other layers have none.

    Raises
    ------
    ArgumentError
        If a name in `pattern` stands for no convolution.
    """
    if isinstance(pattern, Mapping):
        check_known("pattern", pattern, refs)
    found: list[LayerRef] = []
    schemes: dict[str, tuple[Scheme, ...]] = {}
    for ref in refs:
        if not ref.reason:
            wanted = _wanted(ref, pattern)
            if wanted is None:
                ref = ref.left("no pattern given")
            else:
                try:
                    schemes[ref.name] = _fitted(ref, wanted)
                except PatternError as error:
                    if ref.whole is None:
                        ref = ref.left(_short(str(error)))
                    else:
                        schemes[ref.name] = ()  # groups alone
        found.append(ref)
    return found, schemes


def without_pattern(refs: Sequence[LayerRef], pattern: Patterns) -> list[LayerRef]:
    """Mark the layers to which a mapping gives no pattern as left alone."""
    return [
        ref.left("no pattern given") if not ref.reason and _wanted(ref, pattern) is None else ref
        for ref in refs
    ]


def _wanted(ref: LayerRef, pattern: Patterns) -> str | Pattern | None:
    if not isinstance(pattern, Mapping):
        return pattern
    for name in ref.names:
        if name in pattern:
            return pattern[name]
    return next(
        (v for k, v in pattern.items() if any(matching(name, k) for name in ref.names)), None
    )


def _fitted(ref: LayerRef, wanted: str | Pattern) -> tuple[Scheme, ...]:
    spec = ref.spec
    if wanted != AUTO:
        return (scheme_of(adapted(wanted, spec.ndim), spec),)
    found = [scheme for p in candidates(spec) if (scheme := if_it_fits(p, spec)) is not None]
    if not found:
        raise PatternError("depthwise already" if spec.is_depthwise else "nothing to separate")
    return tuple(found)


def _short(message: str) -> str:
    """Return an error message in one line, without the name of the layer's class."""
    first = message.splitlines()[0]
    return first.removeprefix("FactoredConv: ").rstrip(".")
