"""Table of the operators of PyTorch and the operations that they become."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from separable.nn.fused.program import convolution_operations as convolutions
from separable.nn.fused.program import light_operations as light
from separable.nn.fused.program.operations import Graph, NetworkOperation, arguments

__all__ = ["OPERATIONS", "activation_of", "addends_of", "builder_of", "takes_rows"]

_aten, _own = torch.ops.aten, torch.ops.separable

OPERATIONS: dict[Any, Callable[[Graph, fx.Node], NetworkOperation | None]] = {
    _own.depthwise_separable.default: convolutions.depthwise_separable,
    _own.depthwise.default: convolutions.depthwise,
    _aten.convolution.default: convolutions.convolution,
    _aten.addmm.default: convolutions.linear_with_bias,
    _aten.mm.default: convolutions.linear,
    _aten.add.Tensor: light.elementwise("add"),
    _aten.sub.Tensor: light.elementwise("sub"),
    _aten.mul.Tensor: light.elementwise("mul"),
    _aten.div.Tensor: light.elementwise("div"),
    _aten.mean.dim: light.mean,
    _aten._adaptive_avg_pool2d.default: light.adaptive_average,
    _aten._adaptive_avg_pool3d.default: light.adaptive_average,
    _aten.avg_pool2d.default: light.average_pool,
    _aten.avg_pool3d.default: light.average_pool,
    _aten.cat.default: light.concatenation,
    _aten.constant_pad_nd.default: light.zeros_around,
    _aten.upsample_nearest1d.default: light.upsampled,
    _aten.upsample_nearest2d.default: light.upsampled,
    _aten.upsample_nearest3d.default: light.upsampled,
    operator.getitem: light.first_of_several,
    torch.ops.separable_recorded.fused_module.default: convolutions.split,
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


def builder_of(node: fx.Node) -> Callable[[Graph, fx.Node], NetworkOperation | None] | None:
    """Return what makes an operation of an operator, or None."""
    act = activation_of(node)
    return OPERATIONS.get(node.target) if act is None else light.activation(act)


def takes_rows(node: fx.Node) -> bool:
    """Return whether the operation of an operator runs on rows of channels."""
    elementwise = (_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor)
    if node.target is operator.getitem:
        return bool(arguments(node)[0].target is _aten.native_layer_norm.default)
    return node.target in elementwise or activation_of(node) is not None


def addends_of(node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the two values that an operator adds, or none."""
    if node.target is not _aten.add.Tensor or node.kwargs:
        return ()
    pair: tuple[fx.Node, ...] = arguments(node)
    return pair if all(isinstance(n, fx.Node) for n in pair) else ()
