"""`separable::depthwise_separable_norm`: a separable layer with batch normalisation in training, and its gradients.

    out = pointwise(act(norm(depthwise(x))))

The normalisation uses the statistics of the batch. The operator returns them, and changes nothing: whoever has
running averages updates them. On the CPU, in float32, compiled kernels run it. Otherwise PyTorch's own operators do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from separable.engine.availability import EngineError
from separable.engine.tensor_memory import owned
from separable.nn.fused.autograd import (
    depthwise_flops,
    differentiated,
    fake_input,
    fake_parameter,
    in_layout_of,
    parameter_gradient,
    pointwise_flops,
)
from separable.nn.fused.layout_transpose import to_last
from separable.nn.fused.norm_training import Moments, NormLayer, backward_norm, forward_norm
from separable.nn.fused.operators import (
    activate,
    check,
    check_bias,
    check_pointwise,
    convolve,
    depthwise_by_torch,
    empty_output,
    library,
    like_input,
    out_sizes,
    settings_of,
)
from separable.nn.fused.packed_layer import is_served

__all__ = ["OPERATOR"]

_library: Any = torch.library
Shape = Sequence[int]
OPERATOR = "depthwise_separable_norm"
"""Name of the operator in `torch.ops.separable`."""
_PARAMETERS = 6
_TENSORS = (
    "Tensor input, Tensor depthwise, Tensor? between_bias, Tensor? gamma, Tensor? beta, "
    "Tensor pointwise, Tensor? bias"
)
_REST = "int[] stride, int[] padding, int[] dilation, float eps, str between"

library.define(f"depthwise_separable_norm({_TENSORS}, {_REST}) -> (Tensor, Tensor, Tensor)")
library.define(
    f"depthwise_separable_norm_backward(Tensor gradient, {_TENSORS}, Tensor mean, Tensor var, {_REST}, "
    "bool to_input) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _check(
    x: Tensor,
    layer: NormLayer,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    between: str,
) -> list[int]:
    """Raise an error if sizes do not fit together; return the sizes of the output along the spatial axes."""
    check(OPERATOR, x, layer.depthwise, stride, padding, dilation, (between,))
    check_pointwise(layer.depthwise, layer.pointwise)
    for vector in (layer.between_bias, layer.gamma, layer.beta):
        check_bias(OPERATOR, vector, layer.depthwise)
    check_bias(OPERATOR, layer.bias, layer.pointwise)
    sizes = out_sizes(x.shape[2:], layer.depthwise.shape[2:], stride, padding, dilation)
    verify: Any = vars(functional)[
        "_verify_batch_size"
    ]  # raises the error of `torch.nn.BatchNorm2d`
    verify([x.shape[0], layer.depthwise.shape[0], *sizes])
    return sizes


def _can_run(x: Tensor, *others: Tensor | None) -> bool:
    """Return True if the compiled kernels take these tensors."""
    return x.dtype is torch.float32 and is_served(x, *others) and x.numel() > 0


def _forward(
    x: Tensor, depthwise: Tensor, between_bias: Tensor | None, gamma: Tensor | None,
    beta: Tensor | None, pointwise: Tensor, bias: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], eps: float, between: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    layer = NormLayer(depthwise, between_bias, gamma, beta, pointwise, bias)
    _check(x, layer, stride, padding, dilation, between)
    if _can_run(x, *layer):
        with suppress(EngineError):
            settings = settings_of(stride, padding, dilation, between, "none")
            out, moments = forward_norm(layer, to_last(x), settings, eps)
            return like_input(out, x), *moments
    out, mean, var = _by_torch(x, layer, (stride, padding, dilation), eps, between)
    return like_input(out, x), owned(mean), owned(var)


def _by_torch(
    x: Tensor, layer: NormLayer, window: tuple[Any, Any, Any], eps: float, between: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the means and the variances by PyTorch's own operators."""
    d = depthwise_by_torch(x, layer.depthwise, layer.between_bias, *window)
    wide = d if d.dtype is torch.float64 else d.float()
    axes = [0, *range(2, d.dim())]
    mean, ones = wide.mean(axes), [1] * (d.dim() - 2)

    def each(t: Tensor) -> Tensor:
        return t.view(-1, *ones)

    centred = wide - each(mean)
    var = centred.square().mean(axes)
    z = centred * each((var + eps).rsqrt())
    z = z if layer.gamma is None else z * each(layer.gamma)
    z = z if layer.beta is None else z + each(layer.beta)
    weights = layer.pointwise.reshape(*layer.pointwise.shape[:2], *ones)
    return convolve(activate(z.to(d.dtype), between), weights, layer.bias), mean, var


def _backward(
    gradient: Tensor, x: Tensor, depthwise: Tensor, between_bias: Tensor | None,
    gamma: Tensor | None, beta: Tensor | None, pointwise: Tensor, bias: Tensor | None,
    mean: Tensor, var: Tensor, stride: list[int], padding: list[int], dilation: list[int],
    eps: float, between: str, to_input: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    layer = NormLayer(depthwise, between_bias, gamma, beta, pointwise, bias)
    if _can_run(x, gradient, mean, var, *layer):
        with suppress(EngineError):
            settings = settings_of(stride, padding, dilation, between, "none")
            found = backward_norm(
                layer, Moments(mean, var), to_last(x), to_last(gradient), settings, eps, to_input=to_input
            )  # fmt: skip
            made = (parameter_gradient(g, t) for g, t in zip(found[1:], layer, strict=True))
            return in_layout_of(found.input, x), *made

    def function(x: Tensor, *parameters: Tensor | None) -> Tensor:
        own: Any = parameters
        return _by_torch(x, NormLayer(*own), (stride, padding, dilation), eps, between)[0]

    first, *others = differentiated(function, gradient, [x, *layer], to_input)
    return (in_layout_of(first, x) if to_input else first), *others


library.impl("depthwise_separable_norm", _forward, "CompositeExplicitAutograd")
library.impl("depthwise_separable_norm_backward", _backward, "CompositeExplicitAutograd")


def _fake_forward(
    x: Tensor, depthwise: Tensor, between_bias: Tensor | None, gamma: Tensor | None,
    beta: Tensor | None, pointwise: Tensor, bias: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], eps: float, between: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    layer = NormLayer(depthwise, between_bias, gamma, beta, pointwise, bias)
    sizes = _check(x, layer, stride, padding, dilation, between)
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    moments = [x.new_empty(depthwise.shape[0], dtype=wide) for _ in range(2)]
    return empty_output(x, pointwise.shape[0], sizes), moments[0], moments[1]


def _fake_backward(gradient: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    parameters = rest[:_PARAMETERS]
    return fake_input(x, rest[-1]), *(fake_parameter(t, x) for t in parameters)


_library.register_fake("separable::depthwise_separable_norm", _fake_forward, lib=library)
_library.register_fake("separable::depthwise_separable_norm_backward", _fake_backward, lib=library)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Save the input, the parameters and the moments for the backward pass: no middle values."""
    tensors, ctx.rest = inputs[: _PARAMETERS + 1], inputs[_PARAMETERS + 1 :]
    ctx.has = [t is not None for t in tensors]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*(t for t in tensors if t is not None), *output[1:])


@once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
def _back(ctx: Any, gradient: Tensor, _mean: Any, _var: Any) -> tuple[Any, ...]:
    """Call the operator of the gradients; a second derivative raises PyTorch's error."""
    *tensors, mean, var = ctx.saved_tensors
    saved = iter(tensors)
    given = [next(saved) if has else None for has in ctx.has]
    to_input = ctx.needs_input_grad[0]
    found = torch.ops.separable.depthwise_separable_norm_backward(
        gradient, *given, mean, var, *ctx.rest, to_input
    )
    made = [f if has else None for f, has in zip(found, ctx.has, strict=True)]
    if not to_input:
        made[0] = None
    return (*made, *(None for _ in ctx.rest))


torch.library.register_autograd(
    "separable::depthwise_separable_norm", _back, setup_context=_keep, lib=library
)


@register_flop_formula(torch.ops.separable.depthwise_separable_norm)
def _(
    x: Shape, depthwise: Shape, _bias: Any, _gamma: Any, _beta: Any, pointwise: Shape, *_args: Any,
    out_shape: Any = None, **_kwargs: Any,
) -> int:  # fmt: skip
    # The depthwise result is computed several times, but counted once.
    out = out_shape[0]
    return depthwise_flops(depthwise, out) + pointwise_flops(pointwise, out)


@register_flop_formula(torch.ops.separable.depthwise_separable_norm_backward)
def _(
    gradient: Shape, _x: Shape, depthwise: Shape, _bias: Any, _gamma: Any, _beta: Any,
    pointwise: Shape, *args: Any, **_kwargs: Any,
) -> int:  # fmt: skip
    each = depthwise_flops(depthwise, gradient)
    return 2 * pointwise_flops(pointwise, gradient) + each * (2 if args[-1] else 1)
