"""Findings about layers and Fourier transforms, in words."""

from __future__ import annotations

import math

from separable.cost.cost_text import quantity, ratio
from separable.nn.audit.audit_data import AuditedLayer, Finding, Form
from separable.nn.audit.kernel_forms import POOLING
from separable.nn.audit.observed_calls import ObservedTransform

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
    text = " ".join([text, *layer.notes, *_remedy(layer, form)])
    return Finding("layer", (layer.title,), text, layer.multiplications, form.multiplications)


def _remedy(layer: AuditedLayer, form: Form) -> list[str]:
    """Return how to use a form, if `convert` can write it."""
    if layer.where or not form.pattern or form.pattern == POOLING or form.groups > layer.groups:
        return []
    what = f'{{"{layer.name}": "{form.pattern}"}}' if layer.name else f'"{form.pattern}"'
    return [f"`nn.convert(model, {what}, tol=1e-5)` writes it so."]


def fourier_finding(seen: ObservedTransform) -> Finding:
    """Return the finding of a Fourier transform of values that are products of 1-D factors."""
    count = math.prod(seen.size)
    before = seen.count * round(2 * count * math.log2(count))
    after = seen.count * (round(sum(2 * n * math.log2(n) for n in seen.size)) + count)
    size = "x".join(map(str, seen.size))
    title = " ".join(t for t in (seen.name, seen.where) if t) or "the program"
    text = (
        f"The Fourier transform of {size} at {title} gets a product of one factor per axis: "
        f"{len(seen.size)} 1-D transforms and their outer product give the same, with "
        f"{before / after:.3g} times fewer multiplications."
    )
    return Finding("fft", (title,), text, before, after)
