"""Which operators of PyTorch become which operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from separable.nn.fused.program import convolution_operations as convolutions
from separable.nn.fused.program.operations import Graph, Operation, arguments

__all__ = ["OPERATIONS", "activation_of", "addends_of"]

_aten, _own = torch.ops.aten, torch.ops.separable

OPERATIONS: dict[Any, Callable[[Graph, fx.Node], Operation | None]] = {
    _own.depthwise_separable.default: convolutions.depthwise_separable,
    _own.depthwise.default: convolutions.depthwise,
    _aten.convolution.default: convolutions.convolution,
    _aten.addmm.default: convolutions.linear_with_bias,
    _aten.mm.default: convolutions.linear,
}
_ACTIVATIONS: dict[Any, str] = {
    _aten.relu.default: "relu", _aten.silu.default: "silu", _aten.hardswish.default: "hardswish",
    _aten.hardsigmoid.default: "hardsigmoid", _aten.sigmoid.default: "sigmoid", _aten.tanh.default: "tanh",
}  # fmt: skip


def activation_of(node: fx.Node) -> str | None:
    """Return the name of the activation that an operator is, or None."""
    if node.target is _aten.hardtanh.default and tuple(arguments(node)[1:]) == (0, 6):
        return "relu6"
    if node.target is _aten.gelu.default:
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(
            str(node.kwargs.get("approximate", "none"))
        )
    return _ACTIVATIONS.get(node.target)


def addends_of(node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the two values that an operator adds, or none."""
    if node.target is not _aten.add.Tensor or node.kwargs:
        return ()
    pair: tuple[fx.Node, ...] = arguments(node)
    return pair if all(isinstance(n, fx.Node) for n in pair) else ()
