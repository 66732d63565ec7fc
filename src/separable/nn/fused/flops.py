"""What the operators cost, for PyTorch's counter of floating point operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

__all__: list[str] = []

Shape = Sequence[int]


def _depthwise(weight: Shape, out: Shape) -> int:
    """Two operations for each tap and each depthwise output."""
    return 2 * out[0] * math.prod(out[2:]) * weight[0] * math.prod(weight[2:])


def _pointwise(weight: Shape, out: Shape) -> int:
    return 2 * out[0] * math.prod(out[2:]) * weight[0] * weight[1]


@register_flop_formula(torch.ops.separable.depthwise)
def _(x: Shape, weight: Shape, *_args: Any, out_shape: Any = None, **_kwargs: Any) -> int:
    return _depthwise(weight, out_shape)


@register_flop_formula(torch.ops.separable.depthwise_separable)
def _(
    x: Shape, depthwise: Shape, _bias: Any, pointwise: Shape, *_args: Any, out_shape: Any = None,
    **_kwargs: Any,
) -> int:  # fmt: skip
    return _depthwise(depthwise, out_shape) + _pointwise(pointwise, out_shape)


@register_flop_formula(torch.ops.separable.depthwise_backward)
def _(gradient: Shape, x: Shape, weight: Shape, *args: Any, **_kwargs: Any) -> int:
    return _depthwise(weight, gradient) * (2 if args[-1] else 1)


@register_flop_formula(torch.ops.separable.depthwise_separable_backward)
def _(
    gradient: Shape, x: Shape, depthwise: Shape, _bias: Any, pointwise: Shape, *args: Any,
    **_kwargs: Any,
) -> int:  # fmt: skip
    # The depthwise result is not counted again, though it is computed again.
    each = _depthwise(depthwise, gradient)
    return 2 * _pointwise(pointwise, gradient) + each * (2 if args[-1] else 1)
