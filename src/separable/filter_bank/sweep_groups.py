"""Groups of the kernels of a bank that run in one sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from separable.engine import METHODS, Decomposition, Problem
from separable.engine.availability import why_not
from separable.engine.methods.compiled_sweeps import stores_type
from separable.engine.methods.fused_terms import FusedTerms
from separable.filter_bank.bank_sweep import MOST_AXES, order_of, work_of
from separable.filter_bank.pass_graph import Graph, families, graph_of
from separable.machine import Machine
from separable.plan import Plan
from separable.plan.candidates import STORE
from separable.process_cache import ProcessCache
from separable.value import Value

__all__ = ["Group", "groups_of", "seconds_alone", "widest"]

MOST_RINGS = 10  # sums between two layers: more do not stay in the cache


@dataclass(frozen=True, eq=False)
class Group(Value):
    """Bands that run together.

    Attributes
    ----------
    members : tuple of int
        Numbers of the bands.
    graph : Graph or None
        Passes that they share in one sweep; None for a band that runs by its own plan.
    seconds : float
        Predicted time.
    cached : ProcessCache
        The compiled sweep of this process.

    Examples
    --------
    >>> import separable as sep
    >>> [g.members for g in sep.bank(["gaussian:1", "log:1"], (64, 64), "float32").groups]
    [(0, 1)]
    """

    members: tuple[int, ...]
    graph: Graph | None = field(repr=False)
    seconds: float
    cached: ProcessCache = field(
        default_factory=ProcessCache, init=False, repr=False, compare=False
    )


def groups_of(plans: Sequence[Plan], machine: Machine) -> tuple[Group, ...]:
    """Return groups of kernels; they share a sweep if it is predicted to be faster than single filters."""
    forms = {band: form for band, p in enumerate(plans) if (form := _exact(p)) is not None}
    alone = [Group((band,), None, seconds_alone(p)) for band, p in enumerate(plans)]
    found = {band: group for band, group in enumerate(alone) if band not in forms}
    bands = list(forms)
    if bands:
        problem = plans[bands[0]].problem
        order = order_of(problem.shape, problem.axes)
        terms = [forms[band].terms for band in bands]
        lefts = [plans[band].problem.lefts for band in bands]
        for family in families(terms, lefts, order):
            for members in _small(family, terms, lefts, order):
                graph = graph_of([terms[k] for k in members], [lefts[k] for k in members], order)
                numbers = tuple(bands[k] for k in members)
                seconds = _predicted([plans[band].problem for band in numbers], graph, machine)
                if seconds < sum(alone[band].seconds for band in numbers):
                    found[numbers[0]] = Group(numbers, graph, seconds)
                else:
                    found.update({band: alone[band] for band in numbers})
    return tuple(found[band] for band in sorted(found))


def seconds_alone(p: Plan) -> float:
    """Return the predicted seconds of one kernel; for nested passes those of its terms in one sweep.

    The two are measured apart, and a difference of their rates should not decide here, where the
    choice is between sweeps.
    """
    other = METHODS[p.chosen.method].compared_as
    if other and p.request.method == "auto":
        flat = (c.seconds for c in p.candidates if c.method == other and c.is_exact and c.rank > 1)
        return next(flat, p.chosen.seconds)
    return p.chosen.seconds


def _exact(p: Plan) -> Decomposition | None:
    """Return the terms of a kernel that a sweep can run, or None."""
    if (
        p.problem.exponent
        or p.problem.size == 0
        or len(p.problem.axes) > MOST_AXES
        or p.problem.work.kind == "c"
        or why_not()
    ):
        return None
    for candidate in p.candidates:
        form = candidate.form
        if candidate.is_exact and not candidate.refused and form is not None and form.terms:
            return form if all(len(group) == 1 for group in form.groups) else None
    return None


def _small(family: list[int], terms: Any, lefts: Any, order: Any) -> list[list[int]]:
    """Split a family whose sums between the layers do not fit into the cache."""
    if len(order) < MOST_AXES:
        return [family]

    def sums(members: list[int]) -> Graph:
        return graph_of([terms[k] for k in members], [lefts[k] for k in members], order)

    graph = sums(family)
    if len(graph.layers[-2].sums) <= MOST_RINGS:
        return [family]
    # Sort kernels so that those which read the same sums are next to each other.
    last, middle = graph.layers[-1], graph.layers[-2]

    def place(number: int) -> Any:
        start, stop = last.sums[number]
        rings = last.sources[start:stop]
        return sorted((middle.sources[middle.sums[ring][0]], ring) for ring in rings)

    ordered = sorted(range(len(family)), key=place)
    parts: list[list[int]] = [[]]
    for number in ordered:
        more = sorted([*parts[-1], family[number]])
        if parts[-1] and len(sums(more).layers[-2].sums) > MOST_RINGS:
            parts.append([family[number]])
        else:
            parts[-1] = more
    return parts


def _predicted(problems: Sequence[Problem], graph: Graph, machine: Machine) -> float:
    problem = widest(problems)
    counts = work_of(problem, graph).counts
    seconds = FusedTerms().seconds(machine, problem, counts)
    if not stores_type(problem.out):
        elements = {"element": float(problem.size * len(problems))}
        seconds += machine.predict(STORE, problem.out, elements, problem.threads)
    return math.inf if math.isnan(seconds) else seconds


def widest(problems: Sequence[Problem]) -> Problem:
    """Return the problem whose intermediates are the most precise."""
    return max(problems, key=lambda p: p.work.itemsize)
