"""Conversion: the state of one call of `convert`, step by step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.lower import lower
from separable.lowering.scheme import Scheme
from separable.machine import vector_bits
from separable.nn.convert.axis_roles import Letters
from separable.nn.convert.calibration import Calibration, ErrorTally, run_until, watched_run
from separable.nn.convert.convert_request import Request
from separable.nn.convert.covariances import Collector, Moments
from separable.nn.convert.error_curves import Curve, curve, curves
from separable.nn.convert.factored_layers import built, fitted, plain, weights_of_conv
from separable.nn.convert.layer_prices import LayerPrices
from separable.nn.convert.layer_refs import LayerRef, put
from separable.nn.convert.least_squares import FitTarget, fit, fit_target, matrices, metric_of
from separable.nn.convert.rank_allocation import Point, allocate, points_of
from separable.nn.convert.trace import Trace, dense_multiplications, steps_multiplications
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.ties import share
from separable.nn.torch_convs import CONVS, spec_of

__all__ = ["Conversion", "Progress"]

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

TOGETHER = 2**29  # bytes of moments collected in one pass
LARGEST = 2**29  # bytes of moments of one layer; above, only its last step is fitted
PROBES = 5  # points per curve whose error is measured on the data
ROUNDING = 1e-12  # squared error at the level of rounding


@dataclass(eq=False)
class Conversion:
    """State of a network that is being converted.

    Attributes
    ----------
    request : Request
    reference : torch.nn.Module
        The original network in evaluation mode.
    refs : list of LayerRef
    schemes : dict of str to tuple of Scheme
        Schemes that each layer may have.
    calibration : Calibration or None
    trace : Trace or None
    single : Trace or None
        Trace of one sample of the data, if that differs from `trace`.
    prices : LayerPrices or None
        Times of layers in the runtime; None where they are neither the goal nor asked for.
    inputs : tuple
        Inputs of a call of the network, to measure its time; empty if none are known.
    original : torch.nn.Module or None
        The network as it was, to measure its time; None if that is `reference`.
    curves : dict of str to list of Curve
    seconds : dict of str to list of float
        Predicted times of the points that `budget_allocation` chose from, by layer.
    by_score : bool
        True if the curves have expected losses of the user's score for errors.
    """

    request: Request
    reference: nn.Module
    refs: list[LayerRef]
    schemes: dict[str, tuple[Scheme, ...]]
    calibration: Calibration | None
    trace: Trace | None
    progress: Progress | None
    single: Trace | None = None
    prices: LayerPrices | None = None
    inputs: tuple[Any, ...] = ()
    original: nn.Module | None = None
    curves: dict[str, list[Curve]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    by_score: bool = False

    def open(self) -> Iterator[LayerRef]:
        """Yield the layers that may be converted, in the order in which they run."""
        refs = [s for s in self.refs if not s.reason]
        if self.trace is None:
            return iter(refs)
        order = {name: at for at, name in enumerate(self.trace.shapes)}
        return iter(sorted(refs, key=lambda s: order[s.name]))

    def shapes(self, ref: LayerRef) -> Sequence[tuple[int, ...]] | None:
        """Return the shapes of a layer's inputs in each call, empty if they are unknown."""
        return None if self.trace is None else self.trace.shapes.get(ref.name, ())

    def dense(self, ref: LayerRef) -> int:
        """Return the multiplications of the dense layer."""
        return dense_multiplications(ref.spec, self.shapes(ref))

    def before(self, ref: LayerRef) -> int:
        """Return the multiplications of the layer as the network has it."""
        return dense_multiplications(spec_of(ref.original), self.shapes(ref))

    def cost(self, ref: LayerRef, scheme: Scheme) -> int:
        """Return the multiplications of a layer written as factors."""
        return steps_multiplications(ref.spec, lower(scheme)[1], self.shapes(ref))

    def leave(self, name: str, reason: str) -> None:
        """Record why a layer is left alone."""
        self.refs = [s.left(reason) if s.name == name else s for s in self.refs]

    def tell(self, activity: str, done: int, count: int) -> None:
        """Report the progress of the conversion."""
        if self.progress is not None:
            self.progress(activity, done, count)

    # Step 1: error curves of all layers.

    def draw_curves(self) -> None:
        """Compute the error curves of all layers; with the data if ranks depend on them."""
        refs = list(self.open())
        uses_data = self.request.budget is not None or self.request.tol is not None
        if self.calibration is None or not uses_data:
            for ref in refs:
                self._draw(ref, None)
            return
        small = [s for s in refs if Collector.size(s.conv) <= LARGEST]
        for ref in refs:
            if ref not in small:
                self._draw(ref, None)
        for group in _batches(small):
            for name, moments in self._moments(group).items():
                self._draw(next(s for s in group if s.name == name), moments)

    def _draw(self, ref: LayerRef, moments: Moments | None) -> None:
        self.tell(f"spectrum of {ref.title}", len(self.curves), len(self.schemes))
        self.curves[ref.name] = [
            made for scheme in self.schemes[ref.name] for made in self._curves(ref, scheme, moments)
        ]

    def _moments(self, group: Sequence[LayerRef]) -> dict[str, Moments]:
        """Return the moments of some layers of the original network, in one pass over the data."""
        assert self.calibration is not None
        layers = {s.name: self.reference.get_submodule(s.name) for s in group}
        collectors = {name: Collector(layer) for name, layer in layers.items()}
        for batch in self.calibration:
            self.tell(f"statistics of {len(group)} layers", batch.at, self.calibration.count)
            watched_run(self.reference, batch, layers, lambda n, x, y: collectors[n].add(x, y))
        return {name: collectors.pop(name).moments() for name in list(collectors)}

    def _curves(self, ref: LayerRef, scheme: Scheme, moments: Moments | None) -> list[Curve]:
        weights = weights_of_conv(ref.conv)
        kernel = scheme.kernel_of(weights)
        price, limit, width = self._pricing(ref)
        letters, metric, aim = Letters(scheme), None, None
        if moments is not None:
            aim = fit_target(letters.matrix(weights), moments, self.request.ridge)
            metric = metric_of(letters, aim)
        even = bool(getattr(self.reference, "even_ranks", False))
        if self.prefers_kernels and not even:
            found = curves(scheme, kernel, price, metric, vector_bits() // 64)
        else:
            found = [curve(scheme, kernel, price, metric, width, even=even)]
        if moments is None or aim is None:
            return found
        first, *others = (made.limited(limit) for made in found)
        right = _measured(first, scheme, aim, moments)
        return [right, *(_corrected(made, first, right) for made in others)]

    @property
    def prefers_kernels(self) -> bool:
        """True if multiplications are the goal, without a runtime or a score: ranks suit kernels where that costs little."""
        goal, request = self.request.goal, self.request
        by_score = self.by_score or request.metric is not None
        return goal is not None and not goal.in_time and request.runtime is None and not by_score

    def _pricing(self, ref: LayerRef) -> tuple[Callable[[Scheme], float], float, int]:
        """Return the price of a scheme of a layer, the price of the dense layer, and the width of vectors.

        The width is 0 where no runtime was named, so that any ranks do.
        """
        goal, prices = self.request.goal, self.prices
        in_time = goal is not None and goal.in_time
        width = vector_bits() // 32 if in_time or self.request.runtime else 0
        if prices is None or not in_time:
            return lambda found: float(self.cost(ref, found)), float(self.dense(ref)), width
        return lambda found: prices.cost(ref, found), prices.dense(ref), width

    def price(self, ref: LayerRef) -> float:
        """Return what the dense layer costs: seconds for a goal in time, else multiplications."""
        return self._pricing(ref)[1]

    @property
    def timed_operations(self) -> list[RecordedOperation]:
        """Operations of the network whose time can be predicted.

        Those of a graph that is read from a file are known for its convolutions alone; what the other nodes
        multiply is recorded as one product of the model itself.
        """
        known = () if self.trace is None else self.trace.operations
        is_file = hasattr(self.reference, "onnx_bytes")
        return [o for o in known if o.layer or not is_file]

    @property
    def timed_original(self) -> nn.Module:
        """The original network in evaluation mode."""
        return self.reference if self.original is None else self.original

    def sample_inputs(self) -> tuple[Any, ...]:
        """Return inputs for one call of the network.

        Raises
        ------
        ArgumentError
            If none are known.
        """
        if not self.inputs:
            raise ArgumentError("no input is known: give `data` or `input_shape`")
        return self.inputs

    # Step 2: choice of ranks; see `rank_decision`.

    def path(self) -> tuple[tuple[float, float], ...]:
        """Return multiplications and summed errors of all layers with a curve, for every budget."""
        layers = {
            s.name: points_of(self.curves[s.name], self.dense(s), 1.0)
            for s in self.refs
            if s.name in self.curves
        }
        return allocate(layers, math.inf).path

    def scheme_at(self, name: str, point: Point) -> Scheme:
        """Return the scheme of a point, with ranks raised where groups must be even."""
        chosen = self.curves[name][point.curve]
        return lower(chosen.scheme.with_ranks(chosen.ranks(point.at)))[0]

    # Step 3: conversion.

    def convert_plain(self, chosen: dict[str, Scheme], result: nn.Module) -> nn.Module:
        """Factorise the weights of each layer independently."""
        new: dict[int, nn.Module] = {}
        weights: list[tuple[nn.Module, Any]] = []
        biases: list[tuple[nn.Module, Any]] = []
        for at, (name, scheme) in enumerate(chosen.items()):
            self.tell(f"factors of {name or '(model)'}", at, len(chosen))
            conv: Any = result.get_submodule(name)
            layer = built(*plain(scheme, conv), conv)
            new[id(conv)] = layer
            form = (str(layer.pattern), str(layer.ranks), layer.spec.weight_shape)
            weights.append((layer, (id(conv.weight), *form)))
            biases.append((layer, None if conv.bias is None else id(conv.bias)))
        share(weights)  # tied parameters with the same scheme are tied again
        share(biases, "bias")
        return put(result, new)

    def convert_with_data(self, chosen: dict[str, Scheme], result: nn.Module) -> nn.Module:
        """Fit one layer after the other: inputs from the converted network, targets from the original."""
        modes = {m: m.training for m in result.modules()}
        made: dict[FactoredConv, bool] = {}
        result.eval()
        for at, (name, scheme) in enumerate(chosen.items()):
            self.tell(f"fit of {name or '(model)'}", at, len(chosen))
            conv = result.get_submodule(name)
            layer = self._fitted(name, scheme, conv, result)
            made[layer] = modes[conv]
            result = put(result, {id(conv): layer})
            if Collector.size(conv) > LARGEST:
                self._fit_last_step(name, layer, result)
        for module, mode in modes.items():
            module.training = mode
        for layer, mode in made.items():
            layer.train(mode)
        return result

    def _fitted(
        self, name: str, scheme: Scheme, conv: nn.Module, result: nn.Module
    ) -> FactoredConv:
        """Fit a layer to its moments, or factorise its weights if the moments are too large."""
        own: Any = conv
        if Collector.size(conv) > LARGEST:
            bias = np.zeros(own.out_channels) if own.bias is None else as_array(own.bias)
            return built(*plain(scheme, conv), conv, bias)
        return self._fitted_to(self._moments_between(name, conv, result), scheme, conv)

    def _fitted_to(self, moments: Moments, scheme: Scheme, conv: nn.Module) -> FactoredConv:
        weights = Letters(scheme).matrix(weights_of_conv(conv))
        aim = fit_target(weights, moments, self.request.ridge)
        found, arrays, bias = fitted(scheme, conv, moments, aim, self.request.sweeps)
        return built(found, arrays, conv, bias)

    def independent_layers(
        self, wanted: Mapping[str, Sequence[Scheme]]
    ) -> Iterator[tuple[str, Scheme, FactoredConv]]:
        """Yield layers fitted to their inputs in the original network, or factorised without data."""
        refs = [s for s in self.open() if s.name in wanted]
        has_data = self.calibration is not None
        small = [s for s in refs if has_data and Collector.size(s.conv) <= LARGEST]
        for ref in refs:
            for scheme in wanted[ref.name] if ref not in small else ():
                yield ref.name, scheme, built(*plain(scheme, ref.conv), ref.conv)
        for group in _batches(small):
            convs = {s.name: s.conv for s in group}
            for name, moments in self._moments(group).items():
                for scheme in wanted[name]:
                    yield name, scheme, self._fitted_to(moments, scheme, convs[name])

    def _fit_last_step(self, name: str, layer: FactoredConv, result: nn.Module) -> None:
        """Fit the last step, which has far fewer inputs than the layer, to what reaches it."""
        last: Any = layer._convolutions()[-1]
        if type(last) not in CONVS.values() or Collector.size(last) > LARGEST:
            return
        moments = self._moments_between(name, last, result)
        before = weights_of_conv(last).reshape(moments.cross.shape)
        after = fit_target(before, moments, self.request.ridge).target
        best = after if moments.error(after) < moments.error(before) else before
        with torch.no_grad():
            last.weight.copy_(torch.from_numpy(best.reshape(last.weight.shape)))
            last.bias.copy_(torch.from_numpy(moments.bias(best)))

    def _moments_between(self, name: str, conv: nn.Module, result: nn.Module) -> Moments:
        """Return moments of a layer's inputs in the converted and outputs in the original network."""
        assert self.calibration is not None
        assert self.trace is not None
        calls = len(self.trace.shapes[name])
        collector = Collector(conv)
        for batch in self.calibration:
            wanted: list[torch.Tensor] = []
            run_until(
                self.reference, batch, self.reference.get_submodule(name), calls,
                lambda _, y: wanted.append(y),  # type: ignore[arg-type]  # noqa: B023
            )  # fmt: skip
            run_until(
                result, batch, conv, calls,
                lambda x, _: collector.add(x, wanted.pop(0)),  # noqa: B023
                inputs_only=True,
            )  # fmt: skip
        return collector.moments()

    # Step 4: errors.

    @torch.no_grad()
    def output_errors(
        self, result: nn.Module, names: Sequence[str]
    ) -> tuple[dict[str, float], float]:
        """Measure the errors of layers and of the whole network on the data.

        Returns
        -------
        layers : dict of str to float
        network : float
        """
        assert self.calibration is not None
        tallies = {name: ErrorTally() for name in [*names, None]}
        mode = {m: m.training for m in result.modules()}
        result.eval()
        for batch in self.calibration:
            self.tell("errors on the data", batch.at, self.calibration.count)
            kept: dict[str, list[torch.Tensor]] = {name: [] for name in names}
            wanted = watched_run(
                self.reference, batch, {n: self.reference.get_submodule(n) for n in names},
                lambda n, _, y: kept[n].append(y),  # noqa: B023
            )  # fmt: skip
            got = watched_run(
                result, batch, {n: result.get_submodule(n) for n in names},
                lambda n, _, y: tallies[n].add(kept[n].pop(0), y),  # noqa: B023
            )  # fmt: skip
            for first, second in zip(wanted, got, strict=True):
                tallies[None].add(first, second)
        for module, training in mode.items():
            module.training = training
        return {n: tallies[n].error for n in names}, tallies[None].error


def _batches(refs: Sequence[LayerRef]) -> Iterator[list[LayerRef]]:
    """Yield layers whose moments fit into memory together."""
    group: list[LayerRef] = []
    size = 0
    for ref in refs:
        own = Collector.size(ref.conv)
        if group and size + own > TOGETHER:
            yield group
            group, size = [], 0
        group.append(ref)
        size += own
    if group:
        yield group


def _measured(estimated: Curve, scheme: Scheme, aim: FitTarget, moments: Moments) -> Curve:
    """Correct a curve by the errors that fits at a few of its points really leave."""
    count = len(estimated.costs)
    probes = np.unique(np.geomspace(1, count, min(PROBES, count)).round().astype(int)) - 1
    ratios = []
    for at in probes:
        found = fit(scheme.with_ranks(estimated.ranks(int(at))), aim, 0)
        real = moments.error(matrices(*found)) ** 2
        ratios.append(real / estimated.errors[at] if estimated.errors[at] > ROUNDING else 1.0)
    between = np.interp(np.arange(count), probes, ratios)
    errors = np.minimum.accumulate(estimated.errors * between)
    return replace(estimated, errors=errors)


def _corrected(made: Curve, estimated: Curve, measured: Curve) -> Curve:
    """Correct a curve as another curve of the same pattern was, at the same multiplications."""
    known = np.maximum(estimated.errors, ROUNDING)
    ratios = np.where(estimated.errors > ROUNDING, measured.errors / known, 1.0)
    errors = made.errors * np.interp(made.costs, measured.costs, ratios)
    return replace(made, errors=np.minimum.accumulate(errors))


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter."""
    found = next(model.parameters(), None)
    return torch.device("cpu") if found is None else found.device


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model, or raise an error that says why it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as problem:
        raise ArgumentTypeError(
            f"`model` {type(model).__name__} cannot be copied, which converting needs: {problem}. "
            "Take out of it what `copy.deepcopy` cannot copy"
        ) from problem
