"""Allocation of a budget of multiplications over the layers of a network, with their predicted times in mind.

Fewer multiplications are not always less time: the dense 3x3 layers of a runtime do a third of the multiplications that are
counted (Winograd's filtering), and channels with different ranks are filled up with zeros to equal ones. A budget of
multiplications therefore also limits the predicted time, as far as the error allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from separable.errors import MachineError
from separable.nn.convert.conversion import Conversion
from separable.nn.convert.layer_prices import LayerPrices
from separable.nn.convert.layer_refs import LayerRef
from separable.nn.convert.rank_allocation import (
    DENSE,
    Allocation,
    Point,
    allocate,
    allocate_in_time,
    points_of,
)
from separable.nn.runtimes.known_runtimes import RUNTIMES

__all__ = ["budget_allocation"]

REALISED = 0.8
"""Part of the saved multiplications' time that is to be saved in a runtime that was named."""
REALISED_ANYWHERE = 0.8
"""The same on average over the compiled runtimes where none was named."""
MOST_ERROR = 1.25
"""Largest ratio of summed squared errors that time may cost where no runtime was named."""
WASTED = 0.7
"""Ranks that suit kernels are chosen unless other ranks have less than this part of their error."""


def budget_allocation(work: Conversion, allowance: float) -> Allocation:
    """Choose a point for each layer within a limit on their multiplications.

    In a runtime that was named, the network is also to save most of the time that the saved multiplications are of. Where
    none was named, the network is to be faster in both compiled runtimes, at ranks that suit kernels, unless that costs
    much of the error.
    """
    points = {
        s.name: points_of(work.curves[s.name], work.dense(s), work.request.min_saving)
        for s in work.open()
    }
    if work.prices is None or work.trace is None or not points:
        return allocate(points, allowance)
    dense = sum(work.dense(ref) for ref in work.open())
    saved = max(0.0, (dense - allowance) / work.trace.total)
    if work.request.runtime is not None:
        return _in_one_runtime(work, work.prices, points, allowance, saved)
    every = allocate(points, allowance)
    if not work.prefers_kernels:
        return every
    suited = {
        ref.name: [p for p in points[ref.name] if _suits_kernels(work, ref, p)]
        for ref in work.open()
    }
    if sum(min(p.cost for p in found) for found in suited.values()) > allowance:
        return every
    if _error(every) < WASTED * _error(allocate(suited, allowance)):
        return every
    found = _in_all_runtimes(work, suited, allowance, saved)
    return Allocation(found.chosen, every.path)


def _in_one_runtime(
    work: Conversion,
    prices: LayerPrices,
    points: Mapping[str, Sequence[Point]],
    allowance: float,
    saved: float,
) -> Allocation:
    """Limit the time in the runtime that was named."""
    for ref in work.open():
        if ref.name not in work.seconds:
            work.seconds[ref.name] = _seconds_of(work, prices, ref, points[ref.name])
    whole = prices.network(work.timed_operations)
    limit = sum(prices.dense(ref) for ref in work.open()) - REALISED * saved * whole
    return allocate_in_time(points, {n: work.seconds[n] for n in points}, allowance, limit)


def _in_all_runtimes(
    work: Conversion, points: Mapping[str, Sequence[Point]], allowance: float, saved: float
) -> Allocation:
    """Limit the mean of the times in all compiled runtimes, each relative to its dense network."""
    refs = [ref for ref in work.open() if ref.name in points]
    if any(ref.name not in work.seconds for ref in refs):
        tables = _relative_times(work, refs, points)
        if not tables:
            return allocate(points, allowance)
        for ref in refs:
            work.seconds[ref.name] = [
                sum(t) / len(t) for t in zip(*(t[ref.name] for t in tables), strict=True)
            ]
    dense = sum(work.seconds[ref.name][0] for ref in refs)  # the first point is the dense layer
    limit = dense - REALISED_ANYWHERE * saved
    return allocate_in_time(
        points, {n: work.seconds[n] for n in points}, allowance, limit, MOST_ERROR
    )


def _relative_times(
    work: Conversion, refs: Sequence[LayerRef], points: Mapping[str, Sequence[Point]]
) -> list[dict[str, list[float]]]:
    """Return the predicted times of all points in each compiled runtime, relative to the whole dense network there."""
    assert work.prices is not None
    tables = []
    for runtime in RUNTIMES.values():
        if not runtime.is_compiled:
            continue
        prices = LayerPrices(runtime, work.prices.shapes, work.prices.profile)
        try:
            whole = prices.network(work.timed_operations)
            tables.append({
                ref.name: [t / whole for t in _seconds_of(work, prices, ref, points[ref.name])]
                for ref in refs
            })  # fmt: skip
        except MachineError:  # the profile of this computer has no times of that runtime
            continue
    return tables


def _seconds_of(
    work: Conversion, prices: LayerPrices, ref: LayerRef, points: Sequence[Point]
) -> list[float]:
    """Return the predicted time of each point of a layer."""
    return [
        prices.dense(ref) if p.curve == DENSE
        else prices.cost(ref, work.scheme_at(ref.name, p))
        for p in points
    ]  # fmt: skip


def _suits_kernels(work: Conversion, ref: LayerRef, point: Point) -> bool:
    return point.curve == DENSE or work.curves[ref.name][point.curve].suits_kernels


def _error(found: Allocation) -> float:
    return sum(p.error for p in found.chosen.values())
