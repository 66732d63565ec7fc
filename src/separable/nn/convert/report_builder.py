"""Creation of the report of a conversion."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parameter import is_lazy

from separable.errors import ArgumentError
from separable.lowering.scheme import Scheme
from separable.nn.convert.conversion import Conversion, copied
from separable.nn.convert.conversion_report import ConvertedLayer, Report
from separable.nn.convert.factored_layers import measured, weight_error
from separable.nn.convert.layer_refs import LayerRef
from separable.nn.convert.network_times import LEVEL, NetworkDuration, timed_networks
from separable.nn.convert.user_score import metric_name
from separable.nn.factored_conv import FactoredConv
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.ties import ties_of, untied
from separable.nn.torch_convs import CONVS, TRANSPOSED, spec_of

__all__ = ["build_report"]

ELSEWHERE = 0.5  # seconds for a pair of networks in a runtime that was not named


def build_report(
    work: Conversion,
    model: nn.Module,
    result: nn.Module,
    chosen: Mapping[str, Scheme],
    *,
    output_errors: Mapping[str, float] | None = None,
    error: float = math.nan,
    plain_error: float = math.nan,
) -> Report:
    """Create the report of a conversion.

    Parameters
    ----------
    work : Conversion
    model, result : torch.nn.Module
        The network before and after the conversion.
    chosen : mapping of str to Scheme
    output_errors : mapping of str to float, optional
        Errors of the converted layers on the data.
    error, plain_error : float
        Errors of the network's output on the data, with fit and without.
    """
    errors = output_errors or {}
    rows = []
    for at, ref in enumerate(work.refs):
        work.tell(f"time of {ref.title}", at, len(work.refs))
        if ref.name in chosen:
            layer = result.get_submodule(ref.name)
            assert isinstance(layer, FactoredConv)
            rows.append(_converted(work, ref, layer, errors.get(ref.name, math.nan)))
        else:
            rows.append(_left(work, ref))
    after = before = None
    if work.trace is not None:
        before = work.trace.total
        after = before + sum(x.multiplications - x.multiplications_before for x in rows)
    return Report(
        model=type(model).__name__,
        request=_said(work),
        inputs=() if work.trace is None else work.trace.inputs,
        layers=tuple(rows),
        multiplications=after,
        multiplications_before=before,
        parameters=_parameters(result),
        parameters_before=_parameters(model),
        output_error=error,
        plain_output_error=plain_error,
        tradeoff=_tradeoff(work),
        untied=untied(ties_of(model), result),
        duration=_duration(work, result, chosen),
    )


def _duration(
    work: Conversion, result: nn.Module, chosen: Mapping[str, Scheme]
) -> NetworkDuration | None:
    """Return the time of the network before and after, measured unless that is unwanted or impossible."""
    prices, request = work.prices, work.request
    if prices is None:
        return None
    before = prices.network(work.timed_operations)
    converted = [ref for ref in work.refs if ref.name in chosen]
    after = before + sum(prices.cost(r, chosen[r.name]) - prices.original(r) for r in converted)
    goal = request.goal
    found = NetworkDuration(
        prices.runtime.name, torch.get_num_threads(), predicted=after, predicted_before=before,
        goal=goal.share if goal is not None and goal.in_time else math.nan,
    )  # fmt: skip
    if not request.repeats:
        return replace(found, reason="`repeats` is 0")
    work.tell("time of the network", len(work.refs), len(work.refs))
    try:
        networks = [work.timed_original, copied(result).eval()]
        times = timed_networks(prices.runtime, networks, work.sample_inputs())
    except ArgumentError as problem:
        return replace(found, reason=str(problem))
    slower = _slower_in(work, networks) if work.prefers_kernels and chosen else {}
    return replace(found, seconds_before=times[0], seconds=times[1], slower_in=slower)


def _slower_in(work: Conversion, networks: Sequence[nn.Module]) -> dict[str, float]:
    """Return the compiled runtimes in which the second network is slower, and the ratio of the times."""
    found = {}
    for name, runtime in RUNTIMES.items():
        if not runtime.is_compiled or runtime.why_not():
            continue
        with contextlib.suppress(ArgumentError):  # it does not run there
            before, after = timed_networks(runtime, networks, work.sample_inputs(), ELSEWHERE)
            if before < (1 - LEVEL) * after:
                found[name] = before / after
    return found


def _converted(
    work: Conversion, ref: LayerRef, layer: FactoredConv, output_error: float
) -> ConvertedLayer:
    scheme = layer.scheme
    seconds_before, seconds = _times(work, ref, layer)
    return ConvertedLayer(
        ref.name, ref.aliases, type(ref.conv).__name__, spec_of(ref.original).weight_shape, str(layer.pattern),
        layer.ranks, {b: int(r.sum()) for b, r in scheme.ranks.items()},
        multiplications=work.cost(ref, scheme), multiplications_before=work.before(ref),
        parameters=_parameters(layer), parameters_before=_parameters(ref.original),
        groups=layer.spec.groups, weight_error=weight_error(layer, ref.conv),
        output_error=output_error, seconds=seconds, seconds_before=seconds_before,
        spectrum=_spectrum(work, ref, str(layer.pattern)),
    )  # fmt: skip


def _left(work: Conversion, ref: LayerRef) -> ConvertedLayer:
    conv: Any = ref.original
    is_separable = isinstance(conv, FactoredConv)
    shape = conv.spec.weight_shape if is_separable else _shape(conv.weight)
    count = 0 if work.trace is None else work.trace.within(ref.name)
    if work.trace is None and type(conv) in (*CONVS.values(), *TRANSPOSED.values()):
        count = ref.spec.multiplications
    return ConvertedLayer(
        ref.name, ref.aliases, type(conv).__name__, shape, reason=ref.reason,
        multiplications=count, multiplications_before=count,
        parameters=_parameters(conv), parameters_before=_parameters(conv),
        spectrum=_spectrum(work, ref, ""),
    )  # fmt: skip


def _shape(weight: Any) -> tuple[int, ...]:
    """Return the shape of weights; empty for a lazy layer, which has none yet."""
    return () if is_lazy(weight) else tuple(weight.shape)


def _spectrum(work: Conversion, ref: LayerRef, pattern: str) -> Mapping[str, NDArray[Any]]:
    """Return the spectrum of the chosen pattern, or of the first one tried for a dense layer."""
    curves = work.curves.get(ref.name, [])
    for made in curves:
        if str(made.scheme.written) == pattern:
            return made.spectrum
    return curves[0].spectrum if curves else {}


def _times(work: Conversion, ref: LayerRef, layer: FactoredConv) -> tuple[float, float]:
    shapes = work.shapes(ref)
    times_layers = getattr(work.reference, "times_layers", True)
    if not shapes or not work.request.repeats or not times_layers:
        return math.nan, math.nan
    before, after = measured([ref.original, layer], shapes[0], work.request.repeats)
    return before, after


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if not is_lazy(p))


def _said(work: Conversion) -> str:
    """Return what was requested, as a short text."""
    request = work.request
    pattern = request.pattern
    words = ["patterns by layer" if isinstance(pattern, Mapping) else f"{pattern}"]
    for name in ("rank", "tol", "budget", "runtime"):
        value = getattr(request, name)
        if value is not None:
            words.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    if len(words) == 1:
        words.append("exact")
    if request.metric is not None:
        words.append(f"by the score {metric_name(request.metric)}")
    if work.calibration is not None:
        count = work.calibration.count
        words.append(f"fitted to {count} {'batch' if count == 1 else 'batches'} of data")
    return ", ".join(words)


def _tradeoff(work: Conversion) -> NDArray[np.float64]:
    """Return multiplications and mean error of the best networks, from the cheapest to the dense one."""
    if not work.curves:
        return np.zeros((0, 2))
    names = [s for s in work.refs if s.name in work.curves]
    path = np.array(work.path())
    rest = 0 if work.trace is None else work.trace.total - sum(work.before(s) for s in names)
    return np.stack([path[:, 0] + rest, np.sqrt(path[:, 1] / len(names))], axis=1)
