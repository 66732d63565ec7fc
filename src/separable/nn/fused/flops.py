"""What the operators cost, for PyTorch's counter of floating point operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

__all__ = ["depthwise_flops", "pointwise_flops"]

Shape = Sequence[int]


def depthwise_flops(weight: Shape, out: Shape) -> int:
    """Two operations for each tap and each depthwise output."""
    return 2 * out[0] * math.prod(out[2:]) * weight[0] * math.prod(weight[2:])


def pointwise_flops(weight: Shape, out: Shape) -> int:
    """Two operations for each weight and each position."""
    return 2 * out[0] * math.prod(out[2:]) * weight[0] * weight[1]


@register_flop_formula(torch.ops.separable.depthwise)
def _(x: Shape, weight: Shape, *_args: Any, out_shape: Any = None, **_kwargs: Any) -> int:
    return depthwise_flops(weight, out_shape)


@register_flop_formula(torch.ops.separable.depthwise_separable)
def _(
    x: Shape, depthwise: Shape, _bias: Any, pointwise: Shape, *_args: Any, out_shape: Any = None,
    **_kwargs: Any,
) -> int:  # fmt: skip
    return depthwise_flops(depthwise, out_shape) + pointwise_flops(pointwise, out_shape)


@register_flop_formula(torch.ops.separable.depthwise_backward)
def _(gradient: Shape, x: Shape, weight: Shape, *args: Any, **_kwargs: Any) -> int:
    return depthwise_flops(weight, gradient) * (2 if args[-1] else 1)


@register_flop_formula(torch.ops.separable.depthwise_separable_backward)
def _(
    gradient: Shape, x: Shape, depthwise: Shape, _bias: Any, pointwise: Shape, *args: Any,
    **_kwargs: Any,
) -> int:  # fmt: skip
    # The depthwise result is not counted again, though it is computed again.
    each = depthwise_flops(depthwise, gradient)
    return 2 * pointwise_flops(pointwise, gradient) + each * (2 if args[-1] else 1)
