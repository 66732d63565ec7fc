"""decide: which layers are converted, in which pattern and at which ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from separable.errors import ArgumentError, RankError
from separable.factorize.trees import matricise
from separable.nn.convert.choose import DENSE, hull, points_of
from separable.nn.convert.conversion import Conversion
from separable.nn.convert.layers import weights_of_conv
from separable.nn.convert.sites import Site
from separable.nn.dense import factor_weights
from separable.nn.scheme import Scheme

__all__ = ["decide"]

TRIES = 20


def decide(work: Conversion) -> dict[str, Scheme]:
    """Return the scheme of each layer that is to be converted, in the order in which they run.

    Raises
    ------
    ArgumentError
        If the budget cannot be met; the message says what can.
    """
    request = work.request
    if request.budget is not None:
        return _within_budget(work, request.budget)
    found = {}
    for site in work.open():
        scheme = _one(work, site)
        cost, dense = work.cost(site, scheme), work.dense(site)
        if request.min_saving * cost > dense or (request.min_saving >= 1 and cost == dense):
            rank = " ".join(f"{b}={int(np.max(r))}" for b, r in scheme.ranks.items())
            work.leave(site.name, f"{rank} takes {cost / dense:.2f} of its multiplications")
        else:
            found[site.name] = scheme
    return found


def _one(work: Conversion, site: Site) -> Scheme:
    """The scheme of a layer for itself: of a rank, a tolerance, or exact."""
    request = work.request
    if request.tol is not None and (
        work.calibration is not None or len(work.curves[site.name]) > 1
    ):
        return _within_tolerance(work, site, request.tol)
    scheme = work.schemes[site.name][0]
    rank = None if request.rank is None else _capped(scheme, request.rank)
    return factor_weights(scheme, weights_of_conv(site.conv), rank, request.tol)[0]


def _within_tolerance(work: Conversion, site: Site, tol: float) -> Scheme:
    """The cheapest point of all its curves within a tolerance."""
    best: tuple[float, Scheme] | None = None
    for made in work.curves[site.name]:
        at = made.first_within(tol)
        if at is not None and (best is None or made.costs[at] < best[0]):
            best = float(made.costs[at]), made.scheme.with_ranks(made.ranks(at))
    if best is None:  # the curves stop where dense is cheaper
        return factor_weights(work.schemes[site.name][0], weights_of_conv(site.conv), None, None)[0]
    return best[1]


def _capped(scheme: Scheme, rank: int | Mapping[str, int]) -> Any:
    """A rank for this layer: no larger than its weights can have."""
    largest = _largest(scheme)
    if not isinstance(rank, Mapping):
        return min(rank, max(largest.values()))
    if set(rank) != set(largest):
        raise RankError(
            f"`rank` must name the bonds {', '.join(largest)} of `{scheme.written}`; got {dict(rank)}"
        )
    return {b: min(r, largest[b]) for b, r in rank.items()}


def _largest(scheme: Scheme) -> dict[str, int]:
    """The largest rank of each bond."""
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
    """Ranks over all layers together."""
    assert work.trace is not None
    total = work.trace.total
    sites = list(work.open())
    rest = total - sum(work.dense(s) for s in sites)
    allowed = int(budget * total) - rest
    _check_reachable(work, budget, rest)
    limit = float(allowed)
    for _ in range(TRIES):
        chosen = {
            name: work.scheme_at(name, point)
            for name, point in work.allocation(limit).chosen.items()
            if point.curve != DENSE
        }
        spent = sum(
            work.cost(s, chosen[s.name]) if s.name in chosen else work.dense(s) for s in sites
        )
        if spent <= allowed:
            break
        limit -= spent - allowed  # ranks were raised, for groups are to be even
    else:
        raise _unreachable(budget, spent + rest, total)
    for site in sites:
        if site.name not in chosen:
            work.leave(site.name, "dense: the error saved is worth its multiplications")
    return chosen


def _check_reachable(work: Conversion, budget: float, rest: int) -> None:
    """Refuse a budget below the cheapest network."""
    assert work.trace is not None
    least = float(rest)
    for site in work.open():
        points = points_of(work.curves[site.name], work.dense(site), work.request.min_saving)
        least += hull(points)[0].cost
    if least > int(budget * work.trace.total):
        raise _unreachable(budget, least, work.trace.total, rest)


def _unreachable(budget: float, least: float, total: int, rest: int | None = None) -> ArgumentError:
    share = np.ceil(least / total * 1e4) / 1e4
    message = (
        f"`budget` {budget:g} cannot be met: the smallest that can is {share:g}, "
        f"{least:.4g} of {total:.4g} multiplications"
    )
    if rest:
        message += (
            f", of which {rest:.4g} are in layers that are left alone. Another `pattern` "
            '("auto" separates layers of kernel size 1 too) may reach further'
        )
    return ArgumentError(message)
