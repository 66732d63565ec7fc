"""Allocation of ranks over all layers, by the error that each multiplication saves.

Each layer has points (multiplications, error): those of its curves, and the dense layer without
error. Only points on the lower convex hull are useful. From each of them to the next, a
multiplication saves a certain error, and this rate falls along the hull. Taking the steps of all
layers in the order of their rates is optimal for every budget that is reached exactly
(Shoham and Gersho, 1988, doi:10.1109/29.90373).

Between two such budgets something is left over, and points above the hull may use it better. Dynamic
programming over the budget in steps finds them (multiple-choice knapsack).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from separable.nn.convert.error_curves import Curve

__all__ = ["DENSE", "Allocation", "Point", "allocate", "allocate_in_time", "hull", "points_of"]

DENSE = -1
STEPS = 2000  # of the budget in the knapsack; costs are rounded up to whole steps
WEIGHTS = (0.0, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0)
"""Weights of a part of the time beside the same part of the multiplications."""
HALVINGS = 14  # of the limit on their weighted sum
BETTER = 0.999  # the knapsack's choice replaces the other if it has at most this part of its error


@dataclass(frozen=True)
class Point:
    """One choice for a layer.

    Attributes
    ----------
    cost : float
        Multiplications.
    error : float
        Squared relative error.
    curve : int
        Index of the layer's curve; `DENSE` for the dense layer.
    at : int
        Index of the point on that curve.
    """

    cost: float
    error: float
    curve: int = DENSE
    at: int = 0


@dataclass(frozen=True)
class Allocation:
    """Chosen points, and all choices from the cheapest network to the dense one.

    Attributes
    ----------
    chosen : mapping of str to Point
    path : tuple of (float, float)
        Multiplications and the sum of the layers' errors, from the cheapest network to the dense
        one, including points beyond the budget.
    """

    chosen: Mapping[str, Point]
    path: tuple[tuple[float, float], ...]


def points_of(curves: Sequence[Curve], dense: float, min_saving: float) -> list[Point]:
    """Return the points of a layer that save enough, and the dense point."""
    limit = dense / min_saving if min_saving > 0 else np.inf
    found = [Point(dense, 0.0)]
    for k, curve in enumerate(curves):
        count = int(np.searchsorted(curve.costs, limit, side="right"))
        found += [Point(float(curve.costs[i]), float(curve.errors[i]), k, i) for i in range(count)]
    return found


def hull(points: Sequence[Point]) -> list[Point]:
    """Return the points of the lower convex hull, from the cheapest to the one without error.

    Examples
    --------
    >>> [p.cost for p in hull([Point(9, 0), Point(1, 1), Point(3, 0.2), Point(2, 0.9)])]
    [1, 3, 9]
    """
    kept: list[Point] = []
    for p in sorted(points, key=lambda p: (p.cost, p.error)):
        if kept and p.error >= kept[-1].error:
            continue
        while len(kept) > 1 and _rate(kept[-2], kept[-1]) <= _rate(kept[-1], p):
            kept.pop()
        if len(kept) == 1 and p.cost == kept[0].cost:
            kept.pop()
        kept.append(p)
    return kept


def _rate(first: Point, second: Point) -> float:
    """Return the error saved per multiplication between a point and a more expensive one."""
    step = second.cost - first.cost
    return (first.error - second.error) / step if step > 0 else np.inf


def allocate(layers: Mapping[str, Sequence[Point]], budget: float) -> Allocation:
    """Choose a point for each layer so that all together cost no more than the budget.

    Parameters
    ----------
    layers : mapping of str to sequence of Point
    budget : float
        Multiplications for these layers; at least those of the cheapest points.

    Returns
    -------
    Allocation

    Examples
    --------
    >>> layers = {"a": [Point(1, 0.5), Point(4, 0)], "b": [Point(1, 0.1), Point(4, 0)]}
    >>> [p.cost for p in allocate(layers, 6).chosen.values()]
    [4, 1]
    """
    hulls = {name: hull(points) for name, points in layers.items()}
    at = dict.fromkeys(hulls, 0)
    cost = sum(h[0].cost for h in hulls.values())
    error = sum(h[0].error for h in hulls.values())
    chosen = {name: h[0] for name, h in hulls.items()}
    path = [(cost, error)]
    spent = cost
    stuck: set[str] = set()
    queue = [(-_rate(h[0], h[1]), name) for name, h in hulls.items() if len(h) > 1]
    heapq.heapify(queue)
    while queue:
        _, name = heapq.heappop(queue)
        points, i = hulls[name], at[name] + 1
        before, after = points[i - 1], points[i]
        at[name] = i
        cost += after.cost - before.cost
        error -= before.error - after.error
        path.append((cost, max(error, 0.0)))
        if name not in stuck and spent + after.cost - before.cost <= budget:
            spent += after.cost - before.cost
            chosen[name] = after
        else:
            stuck.add(name)
        if i + 1 < len(points):
            heapq.heappush(queue, (-_rate(after, points[i + 1]), name))
    if stuck:
        packed = _packed({name: _front(points) for name, points in layers.items()}, budget)
        if packed and _error(packed) <= BETTER * _error(chosen):
            chosen = packed
    return Allocation(chosen, tuple(path))


def allocate_in_time(
    layers: Mapping[str, Sequence[Point]],
    seconds: Mapping[str, Sequence[float]],
    budget: float,
    limit: float,
    most_error: float = math.inf,
) -> Allocation:
    """Choose a point for each layer within a budget of multiplications that also takes no longer than a limit.

    Points are chosen by multiplications and, as far as the limit requires, by a weighted sum with the
    time (Lagrangian relaxation; the weights are a few fixed ones). Each choice spends as much of the budget of
    multiplications as it can. If no weight meets the limit, the fastest of these choices is returned.

    Parameters
    ----------
    layers : mapping of str to sequence of Point
        Points with their multiplications.
    seconds : mapping of str to sequence of float
        Time of each point.
    budget : float
        Multiplications for these layers; at least those of the cheapest points.
    limit : float
        Seconds for these layers.
    most_error : float
        Largest sum of errors, relative to that of the choice by multiplications alone; choices beyond it are not
        taken for their time.

    Examples
    --------
    The slow point of the first layer has few multiplications; a shorter limit excludes it.

    >>> layers = {"a": [Point(9, 0.0), Point(2, 0.01, 0), Point(3, 0.1, 1)],
    ...           "b": [Point(9, 0.0), Point(4, 0.1)]}
    >>> seconds = {"a": [9.0, 12.0, 3.0], "b": [9.0, 4.0]}
    >>> [allocate_in_time(layers, seconds, 12, limit).chosen["a"].cost for limit in (22, 13)]
    [2, 3]
    """
    whole = sum(max(p.cost for p in points) for points in layers.values())
    time = sum(max(known) for known in seconds.values())
    best: tuple[float, Allocation] | None = None
    first = allocate(layers, budget)
    for weight in WEIGHTS:
        found = first
        if weight:
            mixed = {
                name: [
                    Point(p.cost / whole + weight * t / time, p.error, at)
                    for at, (p, t) in enumerate(zip(points, seconds[name], strict=True))
                ]
                for name, points in layers.items()
            }
            chosen = _cheap_enough(layers, mixed, budget)
            if chosen is None or _error(chosen) > most_error * _error(first.chosen):
                continue
            found = Allocation(chosen, found.path)
        taken = sum(seconds[n][layers[n].index(p)] for n, p in found.chosen.items())
        if best is None or taken < best[0]:
            best = taken, found
        if taken <= limit:
            break
    assert best is not None
    return best[1]


def _cheap_enough(
    layers: Mapping[str, Sequence[Point]], mixed: Mapping[str, Sequence[Point]], budget: float
) -> dict[str, Point] | None:
    """Return the choice by mixed costs that spends most of a budget; None if all of them exceed it.

    The field `curve` of a mixed point is the index of its layer's point.
    """
    low = sum(min(p.cost for p in points) for points in mixed.values())
    high = sum(max(p.cost for p in points) for points in mixed.values())
    best = None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        chosen = {n: layers[n][p.curve] for n, p in allocate(mixed, middle).chosen.items()}
        if sum(p.cost for p in chosen.values()) <= budget:
            best, low = chosen, middle
        else:
            high = middle
    return best


def _error(chosen: Mapping[str, Point]) -> float:
    return sum(p.error for p in chosen.values())


def _front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no cheaper or equal one improves, from the cheapest."""
    kept: list[Point] = []
    for p in sorted(points, key=lambda p: (p.cost, p.error)):
        if not kept or p.error < kept[-1].error:
            kept.append(p)
    return kept


def _packed(layers: Mapping[str, Sequence[Point]], budget: float) -> dict[str, Point]:
    """Choose a point for each layer by dynamic programming; empty if rounded costs exceed the budget."""
    least = sum(points[0].cost for points in layers.values())
    if not budget > least:
        return {}
    unit = (budget - least) / STEPS  # of what is spent beyond the cheapest points
    best = np.zeros(STEPS + 1)  # smallest error by steps spent, over the layers so far
    taken: list[np.ndarray[Any, np.dtype[np.intp]]] = []
    for points in layers.values():
        found, index = np.full(STEPS + 1, np.inf), np.zeros(STEPS + 1, np.intp)
        for at, p in enumerate(points):
            steps = int(np.ceil((p.cost - points[0].cost) / unit * (1 - 1e-12)))
            if steps > STEPS:
                break
            tried = best[: STEPS + 1 - steps] + p.error
            better = tried < found[steps:]
            found[steps:][better] = tried[better]
            index[steps:][better] = at
        best = found
        taken.append(index)
    spent, chosen = STEPS, dict[str, Point]()
    for (name, points), index in zip(reversed([*layers.items()]), reversed(taken), strict=True):
        chosen[name] = points[index[spent]]
        cost = points[index[spent]].cost - points[0].cost
        spent -= int(np.ceil(cost / unit * (1 - 1e-12)))
    return {name: chosen[name] for name in layers}
