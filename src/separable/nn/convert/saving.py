"""Saving of converted networks: blueprints, networks rebuilt from them, and dense networks."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.conv_spec import ConvSpec
from separable.nn.convert.layer_refs import LayerRef, find_layers, nearest, put
from separable.nn.factored_conv import FactoredConv
from separable.nn.factored_transpose import factored_layer
from separable.nn.ties import Ties, share, tie, ties_of
from separable.pattern import Pattern

__all__ = ["blueprint", "merge", "rebuild"]

FORMAT = "separable blueprint"
VERSION = 1


def blueprint(model: nn.Module) -> str:
    """Return the patterns and ranks of a network's separable layers as JSON.

    Together with the `state_dict` it restores a converted network: see `rebuild`.

    Parameters
    ----------
    model : torch.nn.Module
        Network with separable layers, for instance from `convert`.

    Returns
    -------
    str

    Notes
    -----
    Separable layers with a module between their steps are not in it: `convert` makes none, and
    where the network's own class has them `rebuild` finds them there.

    Examples
    --------
    >>> import torch
    >>> from separable import nn
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3))
    >>> converted, _ = nn.convert(net, rank=2, repeats=0)
    >>> json.loads(nn.blueprint(converted))["layers"]["0"]["ranks"]
    {'R': 2}
    """
    layers = {}
    for ref in find_layers(model):
        layer = ref.conv
        if isinstance(layer, FactoredConv) and getattr(layer, "intermediate", None) is None:
            layers[ref.name] = _entry(layer)
    found: dict[str, Any] = {"format": FORMAT, "version": VERSION, "layers": layers}
    inside = tuple(f"{name}." if name else "" for name in layers)
    ties = [list(n) for n in ties_of(model) if all(name.startswith(inside) for name in n)]
    if ties:
        found["ties"] = ties
    return json.dumps(found, indent=1)


def _entry(layer: FactoredConv) -> dict[str, Any]:
    letters = set("".join(a for axis in layer.pattern.axes if len(axis) > 1 for a in axis))
    return {
        "pattern": str(layer.pattern),
        "ranks": layer.ranks,
        "sizes": {a: int(layer.scheme.sizes[a]) for a in sorted(letters)},
        "weight_shape": list(layer.spec.weight_shape),
        "groups": layer.spec.groups,
        "bias": layer.spec.bias,
    }


def rebuild(model: nn.Module, plan: str | Mapping[str, Any]) -> nn.Module:
    """Create the separable layers of a blueprint in a network, with random weights.

    Parameters
    ----------
    model : torch.nn.Module
        The network as it was before it was converted, with any weights; also on "meta". It is
        left as it is.
    plan : str or mapping
        Result of `blueprint`.

    Returns
    -------
    torch.nn.Module
        Network for ``load_state_dict``.

    Raises
    ------
    ArgumentError
        If the text is not a blueprint, or not one of such a network.

    Examples
    --------
    >>> import torch
    >>> from separable import nn
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3))
    >>> converted, _ = nn.convert(net, rank=2, repeats=0)
    >>> plan, weights = nn.blueprint(converted), converted.state_dict()
    >>> again = nn.rebuild(torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3)), plan)
    >>> again.load_state_dict(weights)
    <All keys matched successfully>
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    layers, ties = _read(plan)
    result = copy.deepcopy(model)
    refs = {name: ref for ref in find_layers(result) for name in ref.names}
    new = {}
    for name, entry in layers.items():
        if name not in refs:
            raise ArgumentError(
                f"`plan` has a layer {name!r}, which is not a convolution of {type(model).__name__}. "
                f"{nearest(name, list(refs.values()))}"
            )
        new[id(refs[name].conv)] = _layer(refs[name], entry)
    result = put(result, new)
    try:
        tie(result, ties)
    except (AttributeError, TypeError, ValueError) as problem:
        raise ArgumentError(f"`plan`: its ties are not of such a network: {problem}") from problem
    return result


def _read(plan: str | Mapping[str, Any]) -> tuple[dict[str, Any], Ties]:
    try:
        found = json.loads(plan) if isinstance(plan, str) else dict(plan)
        layers = dict(found["layers"])
        ties = tuple(tuple(names) for names in found.get("ties", ()))
        known = found["format"] == FORMAT and found["version"] == VERSION
    except (ValueError, TypeError, KeyError) as problem:
        raise ArgumentError(f"`plan` must be what `blueprint` gives: {problem!r}") from problem
    if not known:
        raise ArgumentError(
            f"`plan` must be a {FORMAT!r} of version {VERSION}; got {found['format']!r} of version "
            f"{found['version']!r}"
        )
    return layers, ties


def _layer(ref: LayerRef, entry: Mapping[str, Any]) -> nn.Module:
    conv: Any = ref.conv
    spec: ConvSpec = conv.spec if isinstance(conv, FactoredConv) else ref.spec
    try:
        shape, pattern = tuple(entry["weight_shape"]), entry["pattern"]
        ranks, sizes, bias = dict(entry["ranks"]), dict(entry["sizes"]), bool(entry["bias"])
    except (KeyError, TypeError) as problem:
        raise ArgumentError(f"`plan`: layer {ref.title!r} lacks {problem}") from problem
    spec = replace(spec, groups=_groups(ref, entry, spec))
    if shape != spec.weight_shape:
        raise ArgumentError(
            f"`plan`: layer {ref.title!r} has weights {shape}; the model's are {spec.weight_shape}"
        )
    like = next(conv.parameters())
    return factored_layer(
        replace(spec, bias=bias), _pattern(pattern), rank=ranks or 1, sizes=sizes or None,
        device=like.device, dtype=like.dtype,
    ).train(conv.training)  # fmt: skip


def _groups(ref: LayerRef, entry: Mapping[str, Any], spec: ConvSpec) -> int:
    """Return the groups of a layer: those of the model's, or more, one for each block of its channels."""
    found = entry.get("groups", spec.groups)
    if (
        not isinstance(found, int)
        or found < 1
        or spec.in_channels % found
        or spec.out_channels % found
    ):
        raise ArgumentError(
            f"`plan`: layer {ref.title!r} has {found!r} groups, which do not divide its "
            f"{spec.in_channels} and {spec.out_channels} channels"
        )
    return found


def _pattern(text: str) -> str | Pattern:
    """Return a pattern; that of one factor is a layer with groups and cannot be read as a text."""
    before, _, after = (part.strip() for part in str(text).partition("->"))
    return Pattern(tuple(before), (after,)) if before and before == after else text


def merge(model: nn.Module) -> nn.Module:
    """Multiply the factors of all separable layers out: an equivalent dense network.

    Parameters
    ----------
    model : torch.nn.Module
        It is left as it is.

    Returns
    -------
    torch.nn.Module
        Network with a `torch.nn` convolution in place of each separable layer. A layer that no convolution
        equals, for there is a module between its steps or its padding depends on the input's size,
        is kept.

    Examples
    --------
    >>> import torch
    >>> from separable import nn
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3))
    >>> converted, _ = nn.convert(net, rank=2, repeats=0)
    >>> nn.merge(converted)
    Sequential(
      (0): Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1))
    )
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    result = copy.deepcopy(model)
    new: dict[int, nn.Module] = {}
    weights: list[tuple[nn.Module, Any]] = []
    biases: list[tuple[nn.Module, Any]] = []
    for ref in find_layers(result):
        if isinstance(ref.conv, FactoredConv):
            try:
                dense = ref.conv.to_dense()
            except ArgumentError:
                continue
            new[id(ref.conv)] = dense
            steps = ref.conv._convolutions()
            weights.append((dense, tuple(id(s.weight) for s in steps)))
            biases.append((dense, None if dense.bias is None else id(steps[-1].bias)))
    share(weights)  # layers that share all their factors
    share(biases, "bias")
    return put(result, new)
