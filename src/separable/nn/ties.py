"""Ties: parameters that several modules of a network share, and their fate in a conversion.

A parameter is tied where it was assigned to two modules, ``b.weight = a.weight``: they train as one. A
module that occurs in several places is not a tie: it stays one module.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from torch import nn

from separable.nn.factored_conv import FactoredConv

__all__ = ["Ties", "share", "tie", "ties_of", "ties_text", "untied"]

Ties = tuple[tuple[str, ...], ...]
"""Names of parameters that are one and the same, group by group."""


def ties_of(model: nn.Module) -> Ties:
    """Return the parameters that several modules share.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    >>> net[1].weight = net[0].weight
    >>> ties_of(net)
    (('0.weight', '1.weight'),)
    """
    found: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for kind, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append(f"{name}.{kind}" if name else kind)
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def untied(before: Ties, model: nn.Module) -> Ties:
    """Return the ties that a network had before and no longer has.

    Separable layers that stand for two tied convolutions are tied if they share all their weights.
    """
    return tuple(n for n in before if len({_carrier(model, name) for name in n}) > 1)


def _carrier(model: nn.Module, name: str) -> Hashable:
    """Return the parameters that now hold a parameter's values."""
    owner, _, kind = name.rpartition(".")
    module = model.get_submodule(owner)
    inner = getattr(module, "conv", None)
    if kind not in module._parameters and isinstance(inner, nn.Module):
        module = inner  # a module of a fused network, which has the convolution itself inside
    if isinstance(module, FactoredConv):
        steps = module._convolutions()
        return tuple(id(s.weight) for s in steps) if kind == "weight" else (id(steps[-1].bias),)
    parameter = module._parameters.get(kind)
    return (id(module), kind) if parameter is None else id(parameter)


def share(layers: Iterable[tuple[nn.Module, Hashable]], kind: str = "weight") -> None:
    """Tie modules that were created from the same parameter with the same key.

    Parameters
    ----------
    layers : iterable of (module, key)
        Modules with equal keys have as many convolutions, of the same shapes. None is not a key.
    kind : str
        "weight" for the weights of all convolutions of a module, "bias" for the bias of its last.
    """
    first: dict[Hashable, list[Any]] = {}
    for layer, key in layers:
        if key is None:
            continue
        steps = layer._convolutions() if isinstance(layer, FactoredConv) else [layer]
        steps = steps if kind == "weight" else steps[-1:]
        for own, other in zip(steps, first.setdefault(key, steps), strict=True):
            setattr(own, kind, getattr(other, kind))


def tie(model: nn.Module, ties: Ties) -> None:
    """Tie parameters by name: each becomes the first one of its group."""
    for first, *others in ties:
        parameter = model.get_parameter(first)
        for name in others:
            owner, _, kind = name.rpartition(".")
            setattr(model.get_submodule(owner), kind, parameter)


def ties_text(lost: Ties) -> list[str]:
    """Return a sentence for each tie that a network no longer has."""
    return [f"Tied before, separate now: {', '.join(names)}." for names in lost]
