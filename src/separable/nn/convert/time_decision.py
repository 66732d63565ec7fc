"""Decision which layers are converted, in which pattern and at which ranks, within a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from separable.errors import ArgumentError
from separable.lowering.scheme import Scheme
from separable.nn.convert.conversion import Conversion
from separable.nn.convert.conversion_goal import Goal
from separable.nn.convert.error_curves import Curve
from separable.nn.convert.layer_prices import structure_of
from separable.nn.convert.layer_refs import LayerRef, put
from separable.nn.convert.network_times import LEVEL, timed_networks
from separable.nn.convert.rank_allocation import DENSE, Point, allocate, hull

__all__ = ["decide_in_time"]

CANDIDATES = 3  # patterns of each layer that are measured, and the dense layer
ROUNDS = 4  # networks that are measured
TRIAL_SECONDS = 1.0  # for each of them and the original
CLOSE = (
    0.93  # a network that takes less than this part of the goal's time has room for better ranks
)
ROOM = (0.25, 4.0)  # limits of a correction of the predictions


def decide_in_time(work: Conversion, goal: Goal) -> dict[str, Scheme]:
    """Return the scheme of each layer to convert, in the order in which they run.

    Raises
    ------
    ArgumentError
        If the goal cannot be met and no `tol` was given, or the time cannot be measured.
    """
    return _Search(work, goal).found()


class _Search:
    """Choice of points by predicted times that measurements correct step by step."""

    def __init__(self, work: Conversion, goal: Goal) -> None:
        assert work.prices is not None
        self.work, self.goal, self.prices = work, goal, work.prices
        self.refs = list(work.open())
        self.measures = work.request.repeats > 0
        self.dense = {ref.name: self.prices.dense(ref) for ref in self.refs}
        predicted = self.prices.network(work.timed_operations)
        self.before, self.scale = predicted, 1.0
        layers = sum(self.prices.original(ref) for ref in self.refs)
        self.rest = max(predicted - layers, 0.0)
        if self.measures:
            self._measured_share({})  # raises an error before all work if that is impossible

    def found(self) -> dict[str, Scheme]:
        """Return the schemes of the best network that is fast enough."""
        limit = self.goal.share * self.before
        if self.measures:
            self._correct_curves(self._chosen(limit))
        fastest = self.rest + sum(hull(self._points(r))[0].cost for r in self.refs)
        if fastest > limit * (1 + LEVEL) and self.work.request.tol is None:
            raise self._unreachable(fastest)
        chosen = self._chosen(limit)
        return self._tuned(chosen, limit) if self.measures else self._schemes(chosen)

    def _tuned(self, chosen: Mapping[str, Point], wanted: float) -> dict[str, Scheme]:
        """Measure whole networks beside the original, and correct the limit by what they really take."""
        best: tuple[bool, float, dict[str, Scheme]] | None = None
        limit = wanted
        for _ in range(ROUNDS):
            schemes = self._schemes(chosen)
            seconds = self._measured_share(schemes) * self.before
            meets = seconds <= wanted * (1 + LEVEL)
            # Of networks that are fast enough the slowest has the best ranks; of the others the fastest is nearest.
            score = seconds if meets else -seconds
            if best is None or (meets, score) > best[:2]:
                best = meets, score, schemes
            if CLOSE * wanted <= seconds <= wanted * (1 + LEVEL):
                break
            taken = self.rest + sum(p.cost for p in chosen.values())
            limit = taken * wanted / seconds
            following = self._chosen(limit)
            if following == chosen:
                break
            chosen = following
        assert best is not None
        meets, score, schemes = best
        # A network that is no faster than the original has nothing for the error that it makes.
        return schemes if meets or -score < self.before else {}

    def _points(self, ref: LayerRef) -> list[Point]:
        """Return the points of a layer that are faster than it and within the tolerance."""
        dense = self.dense[ref.name] * self.scale
        limit = dense / self.work.request.min_saving if self.work.request.min_saving else math.inf
        tol = self.work.request.tol
        most = math.inf if tol is None else tol**2 * (1 + 1e-9)
        found = [Point(dense, 0.0)]
        for k, curve in enumerate(self.work.curves[ref.name]):
            found += [
                Point(float(cost) * self.scale, float(error), k, at)
                for at, (cost, error) in enumerate(zip(curve.costs, curve.errors, strict=True))
                if cost * self.scale < limit and error <= most
            ]
        return found

    def _chosen(self, limit: float) -> dict[str, Point]:
        """Return a point for each layer so that the network takes no longer than a limit."""
        points = {ref.name: self._points(ref) for ref in self.refs}
        return dict(allocate(points, limit - self.rest).chosen)

    def _schemes(self, chosen: Mapping[str, Point]) -> dict[str, Scheme]:
        return {n: self.work.scheme_at(n, p) for n, p in chosen.items() if p.curve != DENSE}

    def _correct_curves(self, chosen: Mapping[str, Point]) -> None:
        """Measure the best candidates of each layer, and correct the times of their curves."""
        for at, ref in enumerate(self.refs):
            self.work.tell(f"time of {ref.title}", at, len(self.refs))
            candidates = self._candidates(ref, chosen[ref.name])
            schemes = [self.work.scheme_at(ref.name, p) for p in candidates]
            times = self.prices.measured(ref, [None, *schemes])
            if math.isnan(times[0]):
                continue
            curves = self.work.curves[ref.name]
            for point, seconds in zip(candidates, times[1:], strict=True):
                curve = curves[point.curve]
                factor = float(np.clip(seconds / curve.costs[point.at], *ROOM))
                curves[point.curve] = Curve(
                    curve.scheme, curve.costs * factor, curve.errors, curve.ranks, curve.spectrum
                )
            self.dense[ref.name] = times[0]
        if self.refs:
            self._rescale()

    def _rescale(self) -> None:
        """Let the measured times of the layers add up to their part of the network's time.

        A layer alone and a layer in a network are measured at different moments. On a busy computer that would
        otherwise be attributed to the rest of the network.
        """
        layers = sum(self.dense.values())
        whole = sum(self.prices.dense(ref) for ref in self.refs)
        self.scale = whole / layers if layers else 1.0

    def _candidates(self, ref: LayerRef, chosen: Point) -> list[Point]:
        """Return the fastest points, one per pattern, whose error is about that of the chosen one."""
        points = [p for p in self._points(ref) if p.curve != DENSE]
        if not points:
            return []
        smallest = min(p.error for p in points)
        if chosen.curve != DENSE:
            error = chosen.error
        else:
            error = max(smallest, float(np.median([p.error for p in points])))
        best: dict[int, Point] = {}
        for point in points:
            if point.error <= error * 1.05 + 1e-12:
                known = best.get(point.curve)
                if known is None or point.cost < known.cost:
                    best[point.curve] = point
        return sorted(best.values(), key=lambda p: p.cost)[:CANDIDATES]

    def _measured_share(self, schemes: Mapping[str, Scheme]) -> float:
        """Return the time of the network with the structure of some schemes, relative to the original.

        Both run in turns, so that other work on the computer affects both.
        """
        network = copy.deepcopy(self.work.reference)  # with groups for blocks of channels
        new: dict[int, nn.Module] = {}
        for name, scheme in schemes.items():
            conv: Any = network.get_submodule(name)
            new[id(conv)] = structure_of(scheme, conv)
        network = put(network, new).eval()
        self.work.tell("time of the network", 0, 1)
        try:
            before, after = timed_networks(
                self.prices.runtime, [self.work.timed_original, network], self.work.sample_inputs(),
                TRIAL_SECONDS if schemes else 0.0,
            )  # fmt: skip
        except ArgumentError as problem:
            raise ArgumentError(
                f"`budget` {str(self.goal)!r} needs the time of "
                f"{type(self.work.reference).__name__}, which cannot be measured: {problem}"
            ) from problem
        return after / before

    def _unreachable(self, fastest: float) -> ArgumentError:
        """Return an error that says how fast the network can become."""
        gain = self.before / fastest
        # Of files the other operations have no predicted time: nothing is said of them.
        outside = (
            f"; {self.rest / self.before:.0%} of the time is outside the layers that can be converted"
            if self.rest > 0.005 * self.before
            else ""
        )
        return ArgumentError(
            f"`budget` {str(self.goal)!r} cannot be met in {self.prices.runtime.title}: at most "
            f"{gain:#.3g} times as fast is possible ({_ms(fastest)} instead of "
            f"{_ms(self.before)} per call{outside}). Give a smaller factor, or `tol`, which stops at that"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
