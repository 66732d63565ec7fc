"""Decision which layers are converted, in which pattern and at which ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from separable.errors import ArgumentError, RankError
from separable.factorize.trees import matricise
from separable.lowering.scheme import Scheme
from separable.nn.convert.budget_allocation import budget_allocation
from separable.nn.convert.conversion import Conversion
from separable.nn.convert.conversion_goal import Goal
from separable.nn.convert.factored_layers import weights_of_conv
from separable.nn.convert.layer_refs import LayerRef, refusal
from separable.nn.convert.patterns import AUTO, candidates
from separable.nn.convert.rank_allocation import DENSE, hull, points_of
from separable.nn.convert.time_decision import decide_in_time
from separable.nn.convert.trace import dense_multiplications
from separable.nn.dense_weights import factor_weights
from separable.nn.torch_convs import spec_of

__all__ = ["chosen_within", "decide", "leave_dense", "smallest_share"]

TRIES = 20  # attempts to meet a budget after lowering raised ranks
SHOWN = 3  # number of reasons in a message


def decide(work: Conversion) -> dict[str, Scheme]:
    """Return the scheme of each layer to convert, in the order in which they run.

    Raises
    ------
    ArgumentError
        If the budget cannot be met; the message says what can.
    """
    request = work.request
    goal = request.goal
    if goal is not None:
        chosen = chosen_within(work, goal)
        leave_dense(work, chosen, "time" if goal.in_time else "multiplications")
        return chosen
    found = {}
    for ref in list(work.open()):
        if not work.schemes[ref.name]:
            work.leave(ref.name, "groups alone")
            continue
        scheme = _evened(work, _one(work, ref))
        cost, dense = work.cost(ref, scheme), work.dense(ref)
        if request.min_saving * cost > dense or (request.min_saving >= 1 and cost == dense):
            rank = " ".join(f"{b}={int(np.max(r))}" for b, r in scheme.ranks.items())
            work.leave(ref.name, f"{rank} takes {cost / dense:.2f} times as many multiplications")
        else:
            found[ref.name] = scheme
    return found


def chosen_within(work: Conversion, goal: Goal) -> dict[str, Scheme]:
    """Return the scheme of each layer to convert within a goal, by the errors of the curves.

    Raises
    ------
    ArgumentError
        If the goal cannot be met; the message says what can.
    """
    return decide_in_time(work, goal) if goal.in_time else _within_budget(work, goal.share)


def leave_dense(work: Conversion, chosen: Mapping[str, Scheme], resource: str) -> None:
    """Record why the layers that were not chosen stay dense."""
    reason = f"dense: the error saved is worth its {resource}"
    if resource == "time":
        reason = "dense: faster, or the error saved is worth its time"
    for ref in list(work.open()):
        if ref.name not in chosen:
            work.leave(ref.name, reason)


def smallest_share(work: Conversion) -> float:
    """Return the smallest share of the multiplications that the curves reach."""
    least = sum(
        hull(points_of(work.curves[r.name], work.dense(r), work.request.min_saving))[0].cost
        for r in work.open()
    )
    return max((least * share + rest) / total for total, rest, share in _counts(work))


def _one(work: Conversion, ref: LayerRef) -> Scheme:
    """Return the scheme of one layer for a rank, for a tolerance, or without error."""
    request = work.request
    if request.tol is not None and (work.calibration is not None or len(work.curves[ref.name]) > 1):
        return _within_tolerance(work, ref, request.tol)
    scheme = work.schemes[ref.name][0]
    rank = None if request.rank is None else _capped(scheme, request.rank)
    return factor_weights(scheme, weights_of_conv(ref.conv), rank, request.tol)[0]


def _evened(work: Conversion, scheme: Scheme) -> Scheme:
    """Return a scheme with the largest rank for all batch values, for networks that need that."""
    if not getattr(work.reference, "even_ranks", False) or not scheme.pattern.has_one_bond:
        return scheme
    return scheme.with_ranks({b: max(1, int(r.max())) for b, r in scheme.ranks.items()})


def _within_tolerance(work: Conversion, ref: LayerRef, tol: float) -> Scheme:
    """Return the cheapest point of all curves of a layer within a tolerance."""
    best: tuple[float, Scheme] | None = None
    for made in work.curves[ref.name]:
        at = made.first_within(tol)
        if at is not None and (best is None or made.costs[at] < best[0]):
            best = float(made.costs[at]), made.scheme.with_ranks(made.ranks(at))
    if best is None:  # curves end where dense is cheaper
        return factor_weights(work.schemes[ref.name][0], weights_of_conv(ref.conv), None, None)[0]
    return best[1]


def _capped(scheme: Scheme, rank: int | Mapping[str, int]) -> Any:
    """Return a rank for this layer, at most the largest that its weights can have."""
    largest = _largest(scheme)
    if not isinstance(rank, Mapping):
        return min(rank, max(largest.values()))
    if set(rank) != set(largest):
        raise RankError(
            f"`rank` must name the bonds {', '.join(largest)} of `{scheme.written}`; got {dict(rank)}"
        )
    return {b: min(r, largest[b]) for b, r in rank.items()}


def _largest(scheme: Scheme) -> dict[str, int]:
    """Return the largest rank of each bond."""
    pattern, count = scheme.pattern, len(scheme.pattern.factors)
    lengths = [
        int(np.prod([scheme.size(a) for a in pattern.own(k)], initial=1)) for k in range(count)
    ]
    if pattern.has_one_bond:
        return {scheme.bonds: int(np.prod(lengths)) // max(lengths)}
    letters = pattern.batch + "".join(pattern.own(k) for k in range(count))
    empty = np.broadcast_to(0.0, [scheme.size(a) for a in letters])
    return {b: min(matricise(empty, pattern, b, scheme.sizes).shape[-2:]) for b in scheme.bonds}


def _within_budget(work: Conversion, budget: float) -> dict[str, Scheme]:
    """Choose the ranks of all layers together within a budget."""
    refs = list(work.open())
    allowed = _allowed(work, budget)
    _check_reachable(work, budget, allowed)
    limit = float(allowed)
    for _ in range(TRIES):
        chosen = {
            name: work.scheme_at(name, point)
            for name, point in budget_allocation(work, limit).chosen.items()
            if point.curve != DENSE
        }
        spent = sum(
            work.cost(s, chosen[s.name]) if s.name in chosen else work.dense(s) for s in refs
        )
        if spent <= allowed:
            break
        limit -= spent - allowed  # lowering raised ranks to make groups even
    else:
        raise _unreachable(work, budget, spent)
    return chosen


def _counts(work: Conversion) -> Iterator[tuple[float, float, float]]:
    """Yield multiplications of the network, and those outside the convertible layers, per known input.

    Yields
    ------
    total, rest : float
        Multiplications of the whole network, and of all but the convertible layers.
    share : float
        Multiplications of the convertible layers on this input, relative to the counted input.
    """
    assert work.trace is not None
    refs = list(work.open())
    here = sum(work.before(s) for s in refs)
    yield work.trace.total, work.trace.total - here, 1.0
    if work.single is not None:
        one = sum(
            dense_multiplications(spec_of(s.original), work.single.shapes.get(s.name, ()))
            for s in refs
        )
        yield work.single.total, work.single.total - one, one / max(here, 1)


def _allowed(work: Conversion, budget: float) -> float:
    """Return the multiplications that the convertible layers may have so that every input meets the budget."""
    return min(
        (int(budget * total) - rest) / share if share else math.inf
        for total, rest, share in _counts(work)
    )


def _check_reachable(work: Conversion, budget: float, allowed: float) -> None:
    """Raise an error if the budget is below the cheapest network."""
    least = 0.0
    for ref in work.open():
        points = points_of(work.curves[ref.name], work.dense(ref), work.request.min_saving)
        least += hull(points)[0].cost
    if least > allowed:
        raise _unreachable(work, budget, least)


def _unreachable(work: Conversion, budget: float, smallest: float) -> ArgumentError:
    """Return an error that says how far the network can be reduced."""
    total, rest, needed = max(
        ((total, rest, smallest * share + rest) for total, rest, share in _counts(work)),
        key=lambda found: found[2] / found[0],
    )
    message = (
        f"`budget` {budget:g} cannot be met: the smallest that can is "
        f"{np.ceil(needed / total * 1e4) / 1e4:g}, {needed:.4g} of {total:.4g} multiplications"
    )
    if rest:
        message += f", of which {rest:.4g} are left alone: {_what_is_left(work)}"
    return ArgumentError(f"{message}. {_remedy(work)}")


def _what_is_left(work: Conversion) -> str:
    """Return as text which multiplications no layer can save, the largest share first."""
    assert work.trace is not None
    counts: dict[str, int] = {}
    for ref in work.refs:
        if ref.reason:
            many = work.trace.within(ref.name)
            counts[ref.reason] = counts.get(ref.reason, 0) + many
    rest = work.trace.total - sum(work.before(s) for s in work.open())
    counts["outside convolutions"] = rest - sum(counts.values())
    most = sorted(((n, why) for why, n in counts.items() if n > 0), reverse=True)[:SHOWN]
    return "; ".join(f"{n / work.trace.total:.1%} of the network ({why})" for n, why in most)


def _remedy(work: Conversion) -> str:
    """Return advice on what may reduce the network further."""
    request = work.request
    asked = request.pattern
    patterns = asked.values() if isinstance(asked, Mapping) else [asked]
    free = [
        s for s in work.refs
        if not refusal(s.conv) and s.reason != "does not run" and candidates(s.spec)
    ]  # fmt: skip
    if not free:
        return "There is no convolution that could be converted: begin with a smaller network"
    if any(pattern != AUTO for pattern in patterns):
        return 'Another `pattern` may reach further: "auto" separates pointwise and depthwise layers too'
    if any("`exclude`" in s.reason or "`include`" in s.reason for s in free):
        return "`include` and `exclude` leave layers out that could be converted"
    if request.min_saving > 1 and any(_is_dense(work, s) for s in work.open()):
        return f"A `min_saving` below {request.min_saving:g} may reach further"
    return "No pattern reaches further: give that budget, or begin with a smaller network"


def _is_dense(work: Conversion, ref: LayerRef) -> bool:
    """Return True if no point of a layer saves as much as `min_saving` requires."""
    points = points_of(work.curves[ref.name], work.dense(ref), work.request.min_saving)
    return hull(points)[0].curve == DENSE
