"""Search for layers, patterns and ranks by the user's own score.

Step 1: each layer alone is converted at one or two costs, and the network is scored.
Step 2: between and beyond these points the loss of the score is interpolated in the squared error of
the layer, so that every point of every curve has an expected loss. These losses take the place of the
errors in the choice of ranks (`rank_allocation`), which minimises their sum for a cost.
Step 3: losses of layers do not simply add up, and small ones are noise. Whole networks are therefore
scored: chosen by the losses, by the errors, and by their geometric mean; then networks in which one
layer counts more. The best is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from separable.lowering.scheme import Scheme
from separable.nn.convert.conversion import Conversion
from separable.nn.convert.conversion_goal import Goal
from separable.nn.convert.error_curves import Curve
from separable.nn.convert.layer_refs import LayerRef, put
from separable.nn.convert.rank_allocation import DENSE, Point, hull, points_of
from separable.nn.convert.rank_decision import chosen_within, leave_dense, smallest_share
from separable.nn.convert.report_text import ranks_text
from separable.nn.convert.user_score import ScoreChange, UserScore
from separable.nn.factored_conv import FactoredConv

__all__ = ["ScoreSearch"]

Array = NDArray[Any]
WHOLE = 14  # evaluations kept for whole networks
LEVELS = 2  # costs at which a layer alone is scored, if the evaluations suffice
PRIOR = 0.1  # weight of the loss that the error suggests beside the measured one
BLENDS = (1.0, 0.5, 0.0)  # exponent of the loss beside that of the error
POWERS = (0.5, 2.0)  # limits of the power of the squared error that losses grow with
BOOST = 4.0  # factor by which one layer counts more in a trial
BISECTIONS = 8
FINE = 0.01  # relative difference of shares that ends the bisection


@dataclass(frozen=True)
class _Losses:
    """Loss of the score that a layer's squared error is expected to cost.

    Attributes
    ----------
    errors, losses : tuple of float
        Squared errors that were scored, ascending from 0, and the losses there.
    power : float
        Power of the squared error in which losses are interpolated.
    """

    errors: tuple[float, ...]
    losses: tuple[float, ...]
    power: float = 1.0

    def at(self, errors: Array) -> Array:
        """Interpolate; beyond the last point the loss grows in proportion to the power of the error."""
        known, wanted = np.asarray(self.errors) ** self.power, errors**self.power
        inside = np.interp(wanted, known, self.losses)
        return np.where(wanted > known[-1], wanted * (self.losses[-1] / known[-1]), inside)


class ScoreSearch:
    """Search of one conversion.

    Parameters
    ----------
    work : Conversion
        Its request has a metric, and a budget, a tolerance or both; its curves are drawn.
    """

    def __init__(self, work: Conversion) -> None:
        self.work, self.request = work, work.request
        assert self.request.metric is not None
        self.score = UserScore(self.request.metric, self.request.evaluations, work.tell)
        self.refs = list(work.open())
        self.tol = math.inf if self.request.tol is None else float(self.request.tol)
        self.measured: dict[str, list[tuple[Point, float]]] = {}
        self._layers: dict[Any, FactoredConv] = {}
        self._known: dict[Any, float] = {}
        self._expected: dict[str, _Losses] = {}
        self._slope = 1.0
        self.before = self.noise = 0.0
        self.after = math.nan
        self.missed = ""

    def chosen(self) -> dict[str, Scheme]:
        """Return the scheme of each layer to convert.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If the budget cannot be met, or the metric raises an exception or returns no finite
            number.
        """
        first, second = (self._original() for _ in range(2))
        self.before, self.noise = first, abs(first - second)
        self._probe()
        goal = self.request.goal
        if goal is None:
            found = self._cheapest(smallest_share(self.work), in_time=False)
        else:
            found = self._best_within(goal)
            if self.before - self._scored(found) > self.tol:
                self.missed = f"{self.request.budget}"
                found = self._cheapest(goal.share, in_time=goal.in_time)
        resource = "time" if goal is not None and goal.in_time else "multiplications"
        leave_dense(self.work, found, resource)
        return found

    def _original(self) -> float:
        return self.score.of(copy.deepcopy(self.work.reference), "the original network")

    # Step 1: each layer alone.

    def _probe(self) -> None:
        """Score the network with one layer converted, as many layers and costs as there are evaluations."""
        free = max(self.score.left - WHOLE, self.score.left // 3, 1)
        candidates = {r.name: self._probe_points(r) for r in self.refs}
        refs = [r for r in self.refs if candidates[r.name]]
        levels = LEVELS if LEVELS * len(refs) <= free else 1
        refs = sorted(refs, key=lambda r: -self.work.price(r))[:free]
        schemes = [
            {r.name: self.work.scheme_at(r.name, p)} for r in refs for p in candidates[r.name]
        ]
        self._fit(schemes)
        for ref in refs:
            for point in candidates[ref.name][:levels]:
                chosen = {ref.name: self.work.scheme_at(ref.name, point)}
                loss = self.before - self._scored(chosen)
                self.measured.setdefault(ref.name, []).append((point, loss))
        self._interpolate()

    def _probe_points(self, ref: LayerRef) -> list[Point]:
        """Return points at the share of the cost that shall be left, and half-way to the dense layer."""
        dense = self.work.price(ref)
        points = hull(points_of(self.work.curves[ref.name], dense, self.request.min_saving))
        points = [p for p in points if p.curve != DENSE and p.error > 0]
        goal = self.request.goal
        share = 0.25 if goal is None else goal.share
        found: list[Point] = []
        for wanted in (share, math.sqrt(share)):
            nearest = min(points, key=lambda p: abs(p.cost - wanted * dense), default=None)
            if nearest is not None and nearest not in found:
                found.append(nearest)
        return found

    # Step 2: the expected loss at every point.

    def _interpolate(self) -> None:
        """Turn the measured losses into losses at every error."""
        pairs = [(p.error, max(loss, 0.0)) for m in self.measured.values() for p, loss in m]
        errors, losses = sum(e for e, _ in pairs), sum(x for _, x in pairs)
        self._slope = losses / errors if errors and losses else 1.0
        power = self._power()
        for ref in self.refs:
            known = sorted(self.measured.get(ref.name, []), key=lambda pair: pair[0].error)
            at, loss = [0.0], [0.0]
            for point, measured in known:
                # Losses below zero and differences within the noise say nothing about larger errors.
                own = (1 - PRIOR) * max(measured, 0.0) + PRIOR * self._slope * point.error
                at.append(point.error)
                loss.append(max(own, loss[-1]))
            if len(at) == 1:
                at, loss = [0.0, 1.0], [0.0, self._slope]
            self._expected[ref.name] = _Losses(tuple(at), tuple(loss), power)

    def _power(self) -> float:
        """Return the power of the squared error that losses grow with, from layers with two probes."""
        found = []
        for probes in self.measured.values():
            known = sorted((p.error, loss) for p, loss in probes if loss > self.noise)
            if len(known) == 2 and known[1][0] > 1.2 * known[0][0]:
                (e, x), (f, y) = known
                found.append(math.log(y / x) / math.log(f / e))
        return float(np.clip(np.median(found), *POWERS)) if found else 1.0

    def _weighted(self, blend: float, boosts: Mapping[str, float], in_time: bool) -> Conversion:
        """Return a copy of the conversion whose curves have expected losses for errors."""
        curves: dict[str, list[Curve]] = {}
        for name, known in self.work.curves.items():
            curves[name] = [
                replace(made, errors=self._loss(name, made.errors, blend) * boosts.get(name, 1.0))
                for made in known
            ]
        # No layer has a tolerance of its own. An infinite one lets a goal in time be missed.
        tol = math.inf if in_time and math.isfinite(self.tol) else None
        request = replace(self.request, metric=None, tol=tol)
        return replace(self.work, request=request, curves=curves, seconds={}, by_score=True)

    def _loss(self, name: str, errors: Array, blend: float) -> Array:
        by_error = self._slope * errors
        if name not in self._expected:
            return by_error
        by_score = self._expected[name].at(errors)
        return np.asarray(by_score**blend * by_error ** (1 - blend))

    # Step 3: whole networks.

    def _best_within(self, goal: Goal) -> dict[str, Scheme]:
        """Return the choice with the best score within a goal."""
        best: dict[str, Scheme] = {}
        top, blend = -math.inf, BLENDS[0]
        for tried in BLENDS:
            found = self._proposed(goal, tried, {})
            score = self._scored(found)
            if score > top:
                best, top, blend = found, score, tried
        boosts: dict[str, float] = {}
        for name in self._by_expected_loss(best):
            if self.score.left <= 2:
                break
            trial = {**boosts, name: BOOST}
            found = self._proposed(goal, blend, trial)
            if self._key(found) in self._known:
                continue
            score = self._scored(found)
            if score > top + self.noise:
                best, top, boosts = found, score, trial
        return best

    def _by_expected_loss(self, chosen: Mapping[str, Scheme]) -> list[str]:
        """Return the layers in the order of the losses that their probes had, the largest first."""
        losses = {name: max(x for _, x in m) for name, m in self.measured.items() if name in chosen}
        return sorted(losses, key=lambda name: -losses[name])

    def _cheapest(self, share: float, in_time: bool) -> dict[str, Scheme]:
        """Return the cheapest choice whose loss is within the tolerance, or an empty choice if there is none."""
        low, high, best = min(share, 1.0), 1.0, dict[str, Scheme]()
        tried = low
        for _ in range(BISECTIONS):
            found = self._within_tolerance(Goal(tried, in_time))
            if found is None:
                low = tried
            else:
                best, high = found, tried
            if high <= low * (1 + FINE) or self.score.left <= len(BLENDS):
                break
            tried = math.sqrt(low * high)
        return best

    def _within_tolerance(self, goal: Goal) -> dict[str, Scheme] | None:
        """Return the first choice within a goal whose loss is within the tolerance, or None.

        Where the loss of a layer hardly grows beyond a small error, its losses are worth most at the
        cheapest ranks, and the choices by the errors are the ones between.
        """
        for blend in BLENDS:
            found = self._proposed(goal, blend, {})
            if self.before - self._scored(found) <= self.tol:
                return found
        return None

    def _proposed(self, goal: Goal, blend: float, boosts: Mapping[str, float]) -> dict[str, Scheme]:
        return chosen_within(self._weighted(blend, boosts, goal.in_time), goal)

    def _scored(self, chosen: Mapping[str, Scheme]) -> float:
        """Return the score of the network with some layers converted, each fitted to the original's inputs."""
        if not chosen:
            return self.before
        key = self._key(chosen)
        if key not in self._known:
            self._known[key] = self.score.of(self.network(chosen), self._described(chosen))
        return self._known[key]

    def network(self, chosen: Mapping[str, Scheme], model: nn.Module | None = None) -> nn.Module:
        """Return the original network, or a copy of it in its mode, with layers converted independently."""
        self._fit([chosen])
        result = copy.deepcopy(self.work.reference if model is None else model)
        new: dict[int, nn.Module] = {}
        for name, scheme in chosen.items():
            conv = result.get_submodule(name)
            layer = copy.deepcopy(self._layers[_layer_key(name, scheme)])
            new[id(conv)] = layer.train(conv.training)
        return put(result, new)

    def _fit(self, choices: Iterable[Mapping[str, Scheme]]) -> None:
        """Build the layers of some choices that were not built before."""
        missing: dict[str, list[Scheme]] = {}
        for chosen in choices:
            for name, scheme in chosen.items():
                if _layer_key(name, scheme) not in self._layers:
                    missing.setdefault(name, []).append(scheme)
        for name, scheme, layer in self.work.independent_layers(missing):
            self._layers[_layer_key(name, scheme)] = layer

    def _key(self, chosen: Mapping[str, Scheme]) -> Any:
        return tuple(sorted(_layer_key(name, scheme) for name, scheme in chosen.items()))

    def _described(self, chosen: Mapping[str, Scheme]) -> str:
        titles = {r.name: r.title for r in self.refs}
        if len(chosen) == 1:
            (name, scheme), *_ = chosen.items()
            return f"the network with layer {titles[name]!r} converted ({_form(scheme)})"
        names = ", ".join(repr(titles[n]) for n in list(chosen)[:3])
        more = f" and {len(chosen) - 3} more" if len(chosen) > 3 else ""
        return f"the network with the layers {names}{more} converted"

    # Step 4: the result.

    def better(
        self, fitted: nn.Module, chosen: Mapping[str, Scheme], model: nn.Module
    ) -> nn.Module:
        """Return the network fitted layer after layer, or the one that was scored, whichever is better."""
        score, known = math.nan, self._scored(chosen)
        if chosen:
            score = self.score.of(copy.deepcopy(fitted).eval(), "the converted network")
        if score >= known:
            self.after = score
            return fitted
        self.after = known
        return self.network(chosen, model)

    def change(self) -> ScoreChange:
        """Return the scores for the report."""
        return ScoreChange(
            self.score.name, self.before, self.after, self.score.count, self.noise,
            math.nan if self.request.tol is None else self.tol, self.missed,
        )  # fmt: skip

    def loss_alone(self, name: str) -> float:
        """Return the loss of the score with one layer alone converted; NaN if that was not scored."""
        known = self.measured.get(name, [])
        return max((loss for _, loss in known), default=math.nan)


def _form(scheme: Scheme) -> str:
    """Return the factors and ranks of a layer as text."""
    ranks = {
        b: int(r.flat[0]) if r.min() == r.max() else r.ravel().tolist()
        for b, r in scheme.ranks.items()
    }
    return f"{str(scheme.written).partition('-> ')[2]}, rank {ranks_text(ranks)}"


def _layer_key(name: str, scheme: Scheme) -> tuple[str, ...]:
    ranks = (f"{b}{r.ravel().tolist()}" for b, r in sorted(scheme.ranks.items()))
    return (name, str(scheme.written), *ranks)
