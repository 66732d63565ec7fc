"""Dense layers whose weights are zero between blocks of channels, as layers with groups.

A kernel whose weights are a block diagonal matrix over the channels mixes channels within blocks alone.
The layer with one group per block has the same outputs, with as many times fewer multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from separable.lowering.conv_spec import ConvSpec
from separable.lowering.scheme import Scheme
from separable.nn.convert.layer_refs import LayerRef, put
from separable.nn.dense_weights import as_array
from separable.nn.torch_convs import build_conv, set_weights, weights_in_order
from separable.pattern import Pattern

__all__ = ["blocks_of", "diagonal_blocks", "grouped_scheme", "split_refs", "with_groups"]

Array = NDArray[Any]


def blocks_of(weight: Array, spec: ConvSpec) -> int:
    """Return into how many groups of channels that do not mix the weights of each group fall.

    Examples
    --------
    >>> spec = ConvSpec.make("layer", 1, in_channels=6, out_channels=6, kernel_size=3)
    >>> blocks_of(np.eye(6)[:, :, None] * np.ones(3), spec)
    6
    """
    outputs, inputs = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    used = np.abs(weight).reshape(spec.groups, outputs, inputs, -1).max(axis=(0, 3)) > 0
    if not used.any():
        return 1
    for parts in range(min(outputs, inputs), 1, -1):
        if outputs % parts or inputs % parts:
            continue
        mask = np.kron(np.eye(parts), np.ones((outputs // parts, inputs // parts))) > 0
        if not (used & ~mask).any():
            return parts
    return 1


def diagonal_blocks(weight: Array, spec: ConvSpec, parts: int) -> Array:
    """Return the weights of blocks of channels, ``(out, in / (groups * parts), *kernel)``."""
    outputs, inputs = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    split = weight.reshape(
        spec.groups, parts, outputs // parts, parts, inputs // parts, *spec.kernel_size
    )
    own = np.stack([split[:, k, :, k] for k in range(parts)], axis=1)
    return np.ascontiguousarray(own.reshape(spec.out_channels, -1, *spec.kernel_size))


def split_refs(refs: Sequence[LayerRef]) -> list[LayerRef]:
    """Return references to layers with a group for each block, for layers that have several blocks."""
    shared: dict[Any, nn.Parameter] = {}
    return [ref if ref.reason else _split(ref, shared) for ref in refs]


def _split(ref: LayerRef, shared: dict[Any, nn.Parameter]) -> LayerRef:
    conv: Any = ref.conv
    spec = ref.spec
    if spec.in_channels == spec.groups:
        return ref
    weight = weights_in_order(as_array(conv.weight), spec.groups, spec.transposed)
    parts = blocks_of(weight, spec)
    if parts == 1:
        return ref
    own: Any = build_conv(
        replace(spec, groups=spec.groups * parts), conv.weight.device, conv.weight.dtype
    )
    set_weights(own, diagonal_blocks(weight, spec, parts))
    if conv.bias is not None:
        own.bias = conv.bias
    key = (id(conv.weight), parts)  # tied weights stay tied
    own.weight = shared.setdefault(key, own.weight.requires_grad_(conv.weight.requires_grad))
    return replace(ref, conv=own.train(conv.training), whole=conv)


def with_groups(model: nn.Module, refs: Sequence[LayerRef]) -> nn.Module:
    """Put the layers with groups into a model that has the original ones under their names."""
    new = {id(model.get_submodule(r.name)): r.conv for r in refs if r.whole is not None}
    return put(model, new) if new else model


def grouped_scheme(ref: LayerRef) -> Scheme:
    """Return the scheme of one factor, which is the layer with groups itself."""
    axes = ("o", "c", *"zyx"[-ref.spec.ndim :])
    return Scheme.make("FactoredConv", Pattern(axes, ("".join(axes),)), ref.spec, rank=1)
