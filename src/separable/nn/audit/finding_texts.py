"""Findings about layers and Fourier transforms, in words."""

from __future__ import annotations

import math

from separable.cost.cost_text import quantity, ratio
from separable.nn.audit.audit_data import AuditedLayer, Finding
from separable.nn.audit.kernel_forms import POOLING
from separable.nn.audit.observed_calls import ObservedTransform
from separable.nn.convert.runtime_comparison import duration

__all__ = ["fourier_finding", "layer_finding"]


def layer_finding(layer: AuditedLayer) -> Finding | None:
    """Return the finding of a layer that is exactly separable, or None."""
    form = layer.exact
    if form is None:
        return None
    rank = ", ".join(
        f"{b} = {r if isinstance(r, int) else f'{min(r)}..{max(r)}'}" for b, r in form.ranks.items()
    )
    text = f"{layer.title} ({'x'.join(map(str, layer.weight_shape))}) is exactly separable"
    if form.pattern == POOLING:
        text = f"{layer.title} ({'x'.join(map(str, layer.weight_shape))}) is average pooling"
    elif form.groups > layer.groups:
        text += f" into {form.groups} groups of channels"
        text += f" and by '{form.pattern}' with {rank}" if form.pattern else ""
    else:
        text += f" by '{form.pattern}' with {rank}"
    before, after = quantity(layer.multiplications), quantity(form.multiplications)
    times = ratio(layer.multiplications, form.multiplications)
    text += f": {after} instead of {before} multiplications, {times} times fewer."
    text = " ".join([text, *layer.notes, *_measured(layer)])
    return Finding("layer", (layer.title,), text, layer.multiplications, form.multiplications)


def _measured(layer: AuditedLayer) -> list[str]:
    """Return the measured times as a sentence, where the exact form is the one that was measured."""
    if math.isnan(layer.seconds_before) or layer.close is not None:
        return []
    before, after, fused = (
        duration(t) for t in (layer.seconds_before, layer.seconds, layer.seconds_fused)
    )
    text = f"Measured {before}, then {after}"
    if not math.isnan(layer.seconds_fused):
        text += f" and {fused} after nn.fuse"
    if min(t for t in (layer.seconds, layer.seconds_fused) if t == t) >= layer.seconds_before:
        text += ": not faster on this computer"
    return [f"{text}."]


def fourier_finding(seen: ObservedTransform) -> Finding:
    """Return the finding of a Fourier transform of values that are products of 1-D factors."""
    count = math.prod(seen.size)
    before = seen.count * round(2 * count * math.log2(count))
    after = seen.count * (round(sum(2 * n * math.log2(n) for n in seen.size)) + count)
    size = "x".join(map(str, seen.size))
    title = " ".join(t for t in (seen.name, seen.where) if t) or "the program"
    text = (
        f"The {'' if seen.forward else 'inverse '}Fourier transform of {size} at {title} is that of "
        f"a product of one factor per axis: {len(seen.size)} 1-D transforms and their outer "
        f"product give the same, with "
        f"{before / after:.3g} times fewer multiplications."
    )
    return Finding("fft", (title,), text, before, after)
