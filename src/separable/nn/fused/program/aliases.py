"""Aliases: operators whose result has the memory of their input, in the layout of programs.

Programs hold values with the channels innermost. A permutation that moves the channels to the last axis is then the
same memory under another name: *rows* of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from separable.nn.fused.program.operations import ROWS, arguments, has_rows, shape_of

__all__ = ["is_alias", "is_served"]

_aten = torch.ops.aten
_SAME = {
    _aten.clone.default, _aten.alias.default, _aten.detach.default, _aten.contiguous.default,
    _aten._to_copy.default,
}  # fmt: skip
_RESHAPED = {
    _aten.view.default, _aten._unsafe_view.default, _aten.reshape.default, _aten.squeeze.dims,
    _aten.squeeze.dim, _aten.unsqueeze.default, _aten.as_strided_.default, _aten.as_strided.default,
}  # fmt: skip


def is_served(node: Any) -> bool:
    """Return whether programs hold a node's value: a dense tensor of float32 on the CPU, with one axis of samples."""
    if not isinstance(node, fx.Node):
        return False
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dtype is not torch.float32 or not value.is_cpu:
        return False
    return 2 <= value.dim() <= 5 and value.numel() > 0


def is_alias(node: fx.Node) -> bool:
    """Return whether the memory of a value is that of the value it is made from, and note whether it has rows."""
    source = arguments(node)[0] if node.args else None
    if not isinstance(source, fx.Node) or not is_served(source):
        return False
    if node.target in _SAME:
        node.meta[ROWS] = has_rows(source)
        return shape_of(source) == shape_of(node)
    if node.target is _aten.permute.default:
        return _is_turned(source, node)
    if node.target not in _RESHAPED:
        return False
    return _is_flat(source, node) or _keeps_rows(source, node)


def _is_flat(source: fx.Node, node: fx.Node) -> bool:
    """Return whether both values have no positions: their memory is [sample][channel] whatever the number of axes."""
    if has_rows(source):
        return False
    before, after = shape_of(source), shape_of(node)
    flat = all(n == 1 for n in (*before[2:], *after[2:])) and before[:2] == after[:2]
    return flat and all(_is_row_by_row(n.meta["val"]) for n in (source, node))


def _is_row_by_row(x: Tensor) -> bool:
    """Return whether a tensor (n, channels, 1, ...) has the samples one after the other in memory."""
    samples, channels = x.shape[:2]
    across, along = x.stride()[:2]
    whole = x.storage_offset() == 0
    return whole and (channels == 1 or along == 1) and (samples == 1 or across == channels)


def _is_turned(source: fx.Node, node: fx.Node) -> bool:
    """Return whether a permutation moves the channels to the last axis, or back from there."""
    order: Sequence[int] = [a % len(arguments(node)[1]) for a in arguments(node)[1]]
    last = len(order) - 1
    if last < 2:
        return False
    if not has_rows(source) and order == [0, *range(2, last + 1), 1]:
        node.meta[ROWS] = True
        return True
    return has_rows(source) and order == [0, last, *range(1, last)]


def _keeps_rows(source: fx.Node, node: fx.Node) -> bool:
    """Return whether rows of channels are divided otherwise: all axes but the last one are numbered anew."""
    before, after = source.meta["val"], node.meta["val"]
    is_plain = has_rows(source) or before.dim() == 2
    strided = node.target in (_aten.as_strided_.default, _aten.as_strided.default)
    if not is_plain or strided or before.shape[-1] != after.shape[-1] or after.dim() < 2:
        return False
    node.meta[ROWS] = after.dim() > 2
    return True
