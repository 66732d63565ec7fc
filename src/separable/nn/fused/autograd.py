"""Autograd of the fused operators: their gradients are operators too.

Compiled kernels compute them on the CPU, in float32 and bfloat16, for layers without activation or with ReLU or
ReLU6, and on NVIDIA GPUs for all layers. Otherwise PyTorch computes the layer again and differentiates it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from separable.engine.availability import EngineError
from separable.engine.tensor_memory import owned
from separable.gpu.depthwise_layers import (
    GpuDepthwise,
    run_depthwise_layer,
    run_to_input,
    run_weight_sums,
)
from separable.gpu.kernel_launch import or_fallback
from separable.gpu.kernel_support import serves
from separable.gpu.layer_backward import backward_gpu_layer
from separable.gpu.layer_forward import GpuLayer
from separable.nn.fused.layer_gradients import (
    backward_depthwise,
    backward_layer,
    backward_pointwise,
    in_one_pass,
)
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import to_first, to_last
from separable.nn.fused.operators import (
    Window,
    activate,
    by_torch,
    depthwise_by_torch,
    library,
    settings_of,
)
from separable.nn.fused.packed_layer import Settings, cached_layer, channels_are_last, is_served

__all__ = [
    "CLAMPS",
    "depthwise_flops",
    "differentiated",
    "fake_input",
    "fake_parameter",
    "in_layout_of",
    "parameter_gradient",
    "pointwise_flops",
]

_library: Any = torch.library
Shape = Sequence[int]
CLAMPS = ("none", "relu", "relu6")
"""Activations whose gradient the compiled kernels compute: they are clamps, visible in the result."""

library.define(
    "depthwise_backward(Tensor gradient, Tensor input, Tensor weight, Tensor? bias, Tensor result, "
    "int[] stride, int[] padding, int[] dilation, str activation, bool to_input) "
    "-> (Tensor, Tensor, Tensor)"
)
library.define(
    "depthwise_separable_backward(Tensor gradient, Tensor input, Tensor depthwise, "
    "Tensor? between_bias, Tensor pointwise, Tensor? bias, Tensor result, int[] stride, "
    "int[] padding, int[] dilation, str between, str activation, bool to_input) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _lines(x: Tensor) -> Tensor:
    """Return a dense float32 tensor ``(n, *space, channels)``."""
    return to_last(x.to(torch.float32)).movedim(1, -1).contiguous()


def differentiated(
    function: Any, gradient: Tensor, tensors: list[Tensor | None], to_input: bool
) -> list[Tensor]:
    """Compute a layer again and differentiate it; gradients that are not needed are empty tensors."""
    with torch.enable_grad():
        leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
        asked = [t for t in leaves[0 if to_input else 1 :] if t is not None]
        found = iter(torch.autograd.grad(function(*leaves), asked, gradient))
    made = [gradient.new_empty(0) if t is None else t for t in leaves]
    for i, t in enumerate(leaves):
        if t is not None:
            made[i] = gradient.new_empty(0) if i == 0 and not to_input else next(found)
    return [owned(m.contiguous() if i else m) for i, m in enumerate(made)]


def in_layout_of(gradient: Tensor | None, x: Tensor) -> Tensor:
    """Return the gradient of the input in the layout of the fake result, or an empty tensor."""
    if gradient is None:
        return x.new_empty(0)
    made = gradient.reshape(x.shape).to(x.dtype)
    return owned(to_last(made) if channels_are_last(x) else to_first(made))


def _weights(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of weights or biases in the form of the fake result."""
    return owned(gradient.to(weight.dtype).contiguous())


def parameter_gradient(gradient: Tensor, parameter: Tensor | None) -> Tensor:
    """Return the gradient of a parameter in the form of the fake result, an empty tensor if there is none."""
    return gradient.new_empty(0) if parameter is None else _weights(gradient, parameter)


def _depthwise_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor,
    stride: list[int], padding: list[int], dilation: list[int], activation: str, to_input: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if is_served(x, weight, bias, gradient) and activation in CLAMPS and gradient.numel() > 0:
        with suppress(EngineError):
            settings = settings_of(stride, padding, dilation, "none", "none")
            return _depthwise_compiled(
                gradient, result, (x, weight, bias), settings, activation, to_input=to_input
            )

    def function(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return activate(depthwise_by_torch(x, w, b, stride, padding, dilation), activation)

    def by_torch_autograd() -> tuple[Tensor, Tensor, Tensor]:
        a, b, c = differentiated(function, gradient, [x, weight, bias], to_input)
        return (in_layout_of(a, x) if to_input else a), b, c

    if not serves(x, weight, bias, gradient) or gradient.numel() == 0:
        return by_torch_autograd()
    layer = GpuDepthwise(weight, bias, (stride, padding, dilation), ACTIVATIONS.index(activation))
    return or_fallback(
        "separable::depthwise_backward",
        lambda: _depthwise_on_gpu(gradient, x, layer, to_input=to_input),
        by_torch_autograd,
    )


def _depthwise_on_gpu(
    gradient: Tensor, x: Tensor, layer: GpuDepthwise, *, to_input: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, weights and biases from the GPU kernels."""
    if layer.act:  # the value before the activation is computed again
        gradient = run_depthwise_layer(x, layer, torch.empty_like(gradient), gradient)
    weights, biases = run_weight_sums(gradient, x, layer)
    to = run_to_input(gradient, x, layer, fake_input(x, True)) if to_input else x.new_empty(0)
    return to, _weights(weights, layer.weight), parameter_gradient(biases, layer.bias)


def _depthwise_compiled(
    gradient: Tensor,
    result: Tensor,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    settings: Settings,
    activation: str,
    *,
    to_input: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, weights and biases (`tensors`) from the compiled kernels."""
    x, weight, bias = tensors
    channels = x.shape[1]
    middle_gradient = _lines(gradient)
    if activation != "none":
        seen = _lines(result)
        upper = 6.0 if activation == "relu6" else float("inf")
        middle_gradient = torch.ops.aten.hardtanh_backward(middle_gradient, seen, 0.0, upper)
    multiplier = weight.shape[0] // channels
    if multiplier > 1:  # the kernels order channels as [multiplier][channel]
        middle_gradient = (
            middle_gradient.reshape(*middle_gradient.shape[:-1], channels, multiplier)
            .transpose(-1, -2)
            .contiguous()
        )
    layer = cached_layer((weight, bias, None, None), channels, settings)
    lines = _lines(x)
    geometry = layer.geometry(x.shape, 4)
    middle_gradient = middle_gradient.reshape(geometry.images, *geometry.out_size, geometry.depth)
    to, weights, biases = backward_depthwise(
        geometry, lines, middle_gradient, weight.float(), to_input=to_input
    )
    return in_layout_of(to, x), _weights(weights, weight), parameter_gradient(biases, bias)


def _separable_backward(
    gradient: Tensor, x: Tensor, depthwise: Tensor, between_bias: Tensor | None, pointwise: Tensor,
    bias: Tensor | None, result: Tensor, stride: list[int], padding: list[int],
    dilation: list[int], between: str, activation: str, to_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    tensors = (x, depthwise, between_bias, pointwise, bias)
    clamps = between in CLAMPS and activation in CLAMPS
    if is_served(x, gradient, *tensors[1:]) and clamps and gradient.numel() > 0:
        with suppress(EngineError):
            settings = settings_of(stride, padding, dilation, between, activation)
            return _separable_compiled(
                gradient, result, tensors, settings, activation, to_input=to_input
            )

    def function(
        x: Tensor,
        depthwise: Tensor,
        between_bias: Tensor | None,
        pointwise: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        own = (depthwise, between_bias, pointwise, bias)
        return by_torch(x, own, Window(stride, padding, dilation), between, activation)

    def by_torch_autograd() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        a, b, c, d, e = differentiated(function, gradient, list(tensors), to_input)
        return (in_layout_of(a, x) if to_input else a), b, c, d, e

    if not serves(x, gradient, *tensors[1:]) or gradient.numel() == 0:
        return by_torch_autograd()
    acts = ACTIVATIONS.index(between), ACTIVATIONS.index(activation)
    gpu_layer = GpuLayer(*tensors[1:], (stride, padding, dilation), acts)
    return or_fallback(
        "separable::depthwise_separable_backward",
        lambda: _separable_on_gpu(gradient, x, gpu_layer, result, to_input=to_input),
        by_torch_autograd,
    )


def _separable_on_gpu(
    gradient: Tensor, x: Tensor, layer: GpuLayer, result: Tensor, *, to_input: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of input, weights and biases from the GPU kernels."""
    found = backward_gpu_layer(gradient, x, layer, result, to_input=to_input)
    return (
        in_layout_of(found.input, x), _weights(found.depthwise, layer.depthwise),
        parameter_gradient(found.between_bias, layer.between_bias), _weights(found.pointwise, layer.pointwise),
        parameter_gradient(found.bias, layer.bias),
    )  # fmt: skip


def _separable_compiled(
    gradient: Tensor,
    result: Tensor,
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None],
    settings: Settings,
    activation: str,
    *,
    to_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of input, weights and biases (`tensors`) from the compiled kernels."""
    x, depthwise, between_bias, pointwise, bias = tensors
    layer = cached_layer((depthwise, between_bias, pointwise, bias), x.shape[1], settings)
    geometry = layer.geometry(x.shape, 4)
    lines = _lines(x)
    outward = _lines(result) if activation != "none" else lines
    if in_one_pass(geometry):
        own = depthwise.float(), pointwise.float()
        to, depth_weights, depth_biases, weights, biases = backward_layer(
            layer, geometry, lines, _lines(gradient), outward, own, to_input=to_input
        )
        return (
            in_layout_of(to, x), _weights(depth_weights, depthwise), parameter_gradient(depth_biases, between_bias),
            _weights(weights, pointwise), parameter_gradient(biases, bias),
        )  # fmt: skip
    middle_gradient, weights, biases = backward_pointwise(
        layer, geometry, lines, _lines(gradient), outward, pointwise.float()
    )
    to, depth_weights, depth_biases = backward_depthwise(
        geometry, lines, middle_gradient, depthwise.float(), to_input=to_input
    )
    return (
        in_layout_of(to, x), _weights(depth_weights, depthwise), parameter_gradient(depth_biases, between_bias),
        _weights(weights, pointwise), parameter_gradient(biases, bias),
    )  # fmt: skip


library.impl("depthwise_backward", _depthwise_backward, "CompositeExplicitAutograd")
library.impl("depthwise_separable_backward", _separable_backward, "CompositeExplicitAutograd")


def fake_input(x: Tensor, to_input: bool) -> Tensor:
    """Return an uninitialised gradient of the input, an empty tensor if it is not needed."""
    if not to_input:
        return x.new_empty(0)
    if channels_are_last(x):
        order = (0, *range(2, x.dim()), 1)
        return torch.empty_permuted(x.shape, order, dtype=x.dtype, device=x.device)
    return x.new_empty(x.shape)


def fake_parameter(t: Tensor | None, x: Tensor) -> Tensor:
    """Return an uninitialised gradient of a parameter, an empty tensor if there is none."""
    return x.new_empty(0) if t is None else t.new_empty(t.shape)


def _fake_depthwise_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor,
    stride: list[int], padding: list[int], dilation: list[int], activation: str, to_input: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return fake_input(x, to_input), fake_parameter(weight, x), fake_parameter(bias, x)


def _fake_separable_backward(
    gradient: Tensor, x: Tensor, depthwise: Tensor, between_bias: Tensor | None, pointwise: Tensor,
    bias: Tensor | None, result: Tensor, stride: list[int], padding: list[int],
    dilation: list[int], between: str, activation: str, to_input: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    others = (depthwise, between_bias, pointwise, bias)
    return (fake_input(x, to_input), *(fake_parameter(t, x) for t in others))


_library.register_fake("separable::depthwise_backward", _fake_depthwise_backward, lib=library)
_library.register_fake(
    "separable::depthwise_separable_backward", _fake_separable_backward, lib=library
)


def _keep(count: int) -> Any:
    """Return a function that saves the first `count` inputs and the result for the backward pass."""

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        tensors, rest = inputs[:count], inputs[count:]
        acts = [n for n in rest if isinstance(n, str)]
        ctx.rest, ctx.has = rest, [t is not None for t in tensors]
        kept = [t for t in tensors if t is not None]
        # The result shows where ReLU clamped; without an activation it is not needed.
        ctx.save_for_backward(*kept, *([output] if acts[-1] != "none" else []))

    return keep


def _back(name: str) -> Any:
    """Return a function that calls the operator of a gradient; a second derivative raises PyTorch's error."""

    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(context: Any, gradient: Tensor) -> tuple[Any, ...]:
        saved = iter(context.saved_tensors)
        tensors = [next(saved) if has else None for has in context.has]
        result = next(saved, gradient)
        operator = getattr(torch.ops.separable, name)
        found = operator(gradient, *tensors, result, *context.rest, context.needs_input_grad[0])
        made = [f if t is not None else None for f, t in zip(found, tensors, strict=True)]
        if not context.needs_input_grad[0]:
            made[0] = None
        return (*made, *(None for _ in context.rest))

    return backward


torch.library.register_autograd(
    "separable::depthwise", _back("depthwise_backward"), setup_context=_keep(3), lib=library
)
torch.library.register_autograd(
    "separable::depthwise_separable", _back("depthwise_separable_backward"),
    setup_context=_keep(5), lib=library,
)  # fmt: skip


# Floating point operations, for torch.utils.flop_counter.


def depthwise_flops(weight: Shape, out: Shape) -> int:
    """Return two operations per tap and depthwise output."""
    return 2 * out[0] * math.prod(out[2:]) * weight[0] * math.prod(weight[2:])


def pointwise_flops(weight: Shape, out: Shape) -> int:
    """Return two operations per weight and position."""
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
    # The depthwise result is computed a second time, but counted once.
    each = depthwise_flops(depthwise, gradient)
    return 2 * pointwise_flops(pointwise, gradient) + each * (2 if args[-1] else 1)
