"""`separable::depthwise_separable_norm`: a separable layer with batch normalisation in training, and its gradients.

    rows = pointwise(act(norm(depthwise(x))))
    out = rows, or activation(norm(rows)) if `out_eps` is given

Both normalisations use the statistics of the batch. The operator returns these, and changes nothing: whoever has
running averages updates them. On the CPU, in float32, compiled kernels run it, and on NVIDIA GPUs Triton kernels.
Otherwise PyTorch's own operators do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from separable.engine.availability import EngineError
from separable.engine.tensor_memory import owned
from separable.errors import ArgumentError
from separable.gpu.kernel_launch import or_fallback
from separable.nn.fused.autograd import (
    depthwise_flops,
    differentiated,
    fake_input,
    fake_parameter,
    in_layout_of,
    parameter_gradient,
    pointwise_flops,
)
from separable.nn.fused.gpu_norm_training import GpuNormCall, norm_serves
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import to_last
from separable.nn.fused.norm_training import (
    NormCall,
    NormLayer,
    OutputGradient,
    backward_norm,
    forward_norm,
)
from separable.nn.fused.operators import (
    activate,
    check,
    check_bias,
    check_pointwise,
    convolve,
    depthwise_by_torch,
    empty_last,
    empty_output,
    library,
    like_input,
    out_sizes,
    settings_of,
)
from separable.nn.fused.output_norm import (
    Moments,
    OutputNorm,
    normalised,
    output_moments,
    output_sums,
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

library.define(
    f"{OPERATOR}({_TENSORS}, {_REST}, Tensor? out_gamma=None, Tensor? out_beta=None, "
    "float? out_eps=None, str activation='none') -> "
    "(Tensor, Tensor mean, Tensor var, Tensor out_mean, Tensor out_var, Tensor rows)"
)
library.define(
    f"{OPERATOR}_backward(Tensor gradient, {_TENSORS}, {_REST}, Tensor? out_gamma, Tensor? out_beta, "
    "float? out_eps, str activation, Tensor mean, Tensor var, Tensor out_mean, Tensor out_var, "
    "Tensor rows, bool to_input) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


class _Call(NamedTuple):
    """The arguments of a call, apart from the input."""

    layer: NormLayer
    window: tuple[Sequence[int], Sequence[int], Sequence[int]]
    eps: float
    between: str
    out_gamma: Tensor | None
    out_beta: Tensor | None
    out_eps: float | None
    activation: str

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The parameters."""
        return (*self.layer, self.out_gamma, self.out_beta)

    def outer(self) -> OutputNorm | None:
        """Return the normalisation of the output, if there is one."""
        if self.out_eps is None:
            return None
        act = ACTIVATIONS.index(self.activation)
        return OutputNorm(self.out_gamma, self.out_beta, self.out_eps, act)

    def of(self, x: Tensor) -> NormCall:
        """Return the call of the compiled kernels."""
        settings = settings_of(*self.window, self.between, "none")
        return NormCall(self.layer, to_last(x), settings, self.eps)

    def on_gpu(self) -> GpuNormCall:
        """Return the call of the GPU kernels, up to the result of the pointwise step."""
        return GpuNormCall(self.layer, self.window, self.eps, ACTIVATIONS.index(self.between))

    def check(self, x: Tensor) -> list[int]:
        """Raise an error if sizes do not fit together; return the sizes of the output along the spatial axes."""
        layer = self.layer
        check(OPERATOR, x, layer.depthwise, *self.window, (self.between, self.activation))
        check_pointwise(layer.depthwise, layer.pointwise)
        for vector in (layer.between_bias, layer.gamma, layer.beta):
            check_bias(OPERATOR, vector, layer.depthwise)
        for vector in (layer.bias, self.out_gamma, self.out_beta):
            check_bias(OPERATOR, vector, layer.pointwise)
        others = self.out_gamma is not None or self.out_beta is not None
        if self.out_eps is None and (others or self.activation != "none"):
            raise ArgumentError(
                f"{OPERATOR}: `out_gamma`, `out_beta` and `activation` belong to a normalisation of the "
                f"output; got activation {self.activation!r} and no `out_eps`"
            )
        sizes = out_sizes(x.shape[2:], layer.depthwise.shape[2:], *self.window)
        verify: Any = vars(functional)["_verify_batch_size"]  # the error of `torch.nn.BatchNorm2d`
        verify([x.shape[0], layer.depthwise.shape[0], *sizes])
        return sizes


def _call_of(parameters: Sequence[Any]) -> _Call:
    layer, window, rest = parameters[:6], parameters[6:9], parameters[9:]
    return _Call(NormLayer(*layer), (window[0], window[1], window[2]), *rest)


COMPILED_ACTIVATIONS = ("none", "relu", "relu6", "silu", "hardswish")
"""Activations that the compiled kernels of training have, with their derivatives."""


def _can_run(call: _Call, x: Tensor, *others: Tensor | None) -> bool:
    """Return True if the compiled kernels take these tensors."""
    if call.between not in COMPILED_ACTIVATIONS or call.activation not in COMPILED_ACTIVATIONS:
        return False
    return x.dtype is torch.float32 and is_served(x, *others) and x.numel() > 0


def _forward(
    x: Tensor, depthwise: Tensor, between_bias: Tensor | None, gamma: Tensor | None,
    beta: Tensor | None, pointwise: Tensor, bias: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], eps: float, between: str,
    out_gamma: Tensor | None = None, out_beta: Tensor | None = None, out_eps: float | None = None,
    activation: str = "none",
) -> tuple[Tensor, ...]:  # fmt: skip
    layer = NormLayer(depthwise, between_bias, gamma, beta, pointwise, bias)
    window = stride, padding, dilation
    call = _Call(layer, window, eps, between, out_gamma, out_beta, out_eps, activation)
    call.check(x)
    if _can_run(call, x, *call.tensors):
        with suppress(EngineError):
            return _compiled(x, call)

    def by_torch() -> tuple[Tensor, ...]:
        out, *moments, rows = _by_torch(x, call)
        owned_rows = rows.new_empty(0) if rows is out else owned(to_last(rows))
        return like_input(out, x), *(owned(m) for m in moments), owned_rows

    if not norm_serves(x, layer, out_gamma, out_beta):
        return by_torch()
    return or_fallback(f"separable::{OPERATOR}", lambda: _on_gpu(x, call), by_torch)


def _on_gpu(x: Tensor, call: _Call) -> tuple[Tensor, ...]:
    """Return the results of the GPU kernels."""
    sizes, outputs = call.check(x), call.layer.pointwise.shape[0]
    if call.out_eps is None:
        out = empty_output(x, outputs, sizes)
        moments = call.on_gpu().forward(x, out)
        return out, *moments, *(moments.mean.new_empty(0) for _ in range(2)), x.new_empty(0)
    rows = empty_last(x, outputs, sizes)
    moments = call.on_gpu().forward(x, rows)
    out, mean, var = _normalised_by_torch(
        rows, call.out_gamma, call.out_beta, call.out_eps, call.activation
    )
    return like_input(out.to(x.dtype), x), *moments, mean, var, rows


def _compiled(x: Tensor, call: _Call) -> tuple[Tensor, ...]:
    """Return the results of the compiled kernels."""
    rows, moments = forward_norm(call.of(x))
    outer = call.outer()
    if outer is None:
        return like_input(rows, x), *moments, *(x.new_empty(0) for _ in range(3))
    mean, var = (m.float() for m in output_moments(rows))
    out = normalised(rows, outer.table(Moments(mean, var)), outer.act)
    # The rows are for the kernels of the gradients, so they have their channels last whatever the input has.
    return like_input(out, x), *moments, mean, var, rows


def _normalised_by_torch(
    d: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised and activated values, the means and the variances by PyTorch's own operators."""
    wide = d if d.dtype is torch.float64 else d.float()
    axes, ones = [0, *range(2, d.dim())], [1] * (d.dim() - 2)
    mean = wide.mean(axes)

    def each(t: Tensor) -> Tensor:
        return t.view(-1, *ones)

    centred = wide - each(mean)
    var = centred.square().mean(axes)
    z = centred * each((var + eps).rsqrt())
    z = z if gamma is None else z * each(gamma)
    z = z if beta is None else z + each(beta)
    return activate(z.to(d.dtype), act), mean, var


def _by_torch(x: Tensor, call: _Call) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return all results by PyTorch's own operators."""
    layer = call.layer
    d = depthwise_by_torch(x, layer.depthwise, layer.between_bias, *call.window)
    a, mean, var = _normalised_by_torch(d, layer.gamma, layer.beta, call.eps, call.between)
    weights = layer.pointwise.reshape(*layer.pointwise.shape[:2], *[1] * (d.dim() - 2))
    rows = convolve(a, weights, layer.bias)
    if call.out_eps is None:
        return rows, mean, var, mean.new_empty(0), mean.new_empty(0), rows
    out, out_mean, out_var = _normalised_by_torch(
        rows, call.out_gamma, call.out_beta, call.out_eps, call.activation
    )
    return out, mean, var, out_mean, out_var, rows


def _backward(gradient: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *parameters, mean, var, out_mean, out_var, rows, to_input = rest
    call = _call_of(parameters)
    moments = Moments(mean, var), Moments(out_mean, out_var)
    if _can_run(call, x, gradient, *moments[0], *moments[1], rows, *call.tensors):
        with suppress(EngineError):
            return _compiled_backward(gradient, x, call, moments, rows, to_input=to_input)

    def function(x: Tensor, *tensors: Any) -> Tensor:
        again = call._replace(
            layer=NormLayer(*tensors[:_PARAMETERS]), out_gamma=tensors[-2], out_beta=tensors[-1]
        )
        return _by_torch(x, again)[0]

    def by_torch() -> tuple[Tensor, ...]:
        first, *others = differentiated(function, gradient, [x, *call.tensors], to_input)
        return (in_layout_of(first, x) if to_input else first), *others

    if not norm_serves(x, call.layer, gradient, call.out_gamma, call.out_beta):
        return by_torch()
    return or_fallback(
        f"separable::{OPERATOR}_backward",
        lambda: _backward_on_gpu(gradient, x, call, moments[0], rows, to_input=to_input),
        by_torch,
    )


def _backward_on_gpu(
    gradient: Tensor, x: Tensor, call: _Call, moments: Moments, rows: Tensor, *, to_input: bool
) -> tuple[Tensor, ...]:
    """Return all gradients by the GPU kernels; the normalisation of the output is differentiated by PyTorch."""
    outer: list[Tensor] = [gradient.new_empty(0)] * 2
    if call.out_eps is not None:
        eps, act = call.out_eps, call.activation

        def normalise(rows: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
            return _normalised_by_torch(rows, gamma, beta, eps, act)[0]

        given: list[Tensor | None] = [rows, call.out_gamma, call.out_beta]
        gradient, *outer = differentiated(normalise, gradient, given, to_input=True)
    found = call.on_gpu().backward(gradient, x, moments, to_input=to_input)
    if call.out_eps is not None:  # a bias before a normalisation changes nothing
        found = found._replace(bias=torch.zeros_like(found.bias))
    pairs = zip(found[1:], call.layer, strict=True)
    return in_layout_of(found.input, x), *(parameter_gradient(g, t) for g, t in pairs), *outer


def _compiled_backward(
    gradient: Tensor,
    x: Tensor,
    call: _Call,
    moments: tuple[Moments, Moments],
    rows: Tensor,
    *,
    to_input: bool,
) -> tuple[Tensor, ...]:
    """Return all gradients by the compiled kernels."""
    outer, given = call.outer(), OutputGradient(to_last(gradient))
    betas, gammas = gradient, gradient
    if outer is not None:
        table = outer.table(moments[1])
        betas, gammas = output_sums(rows, given.gradient, table, outer.act)
        given = given._replace(rows=rows, table=table, act=outer.act)
    found = backward_norm(call.of(x), moments[0], given, to_input=to_input)
    pairs = zip((*found[1:], gammas, betas), call.tensors, strict=True)
    return in_layout_of(found.input, x), *(parameter_gradient(g, t) for g, t in pairs)


library.impl(OPERATOR, _forward, "CompositeExplicitAutograd")
library.impl(f"{OPERATOR}_backward", _backward, "CompositeExplicitAutograd")


def _fake_forward(
    x: Tensor, depthwise: Tensor, between_bias: Tensor | None, gamma: Tensor | None,
    beta: Tensor | None, pointwise: Tensor, bias: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], eps: float, between: str,
    out_gamma: Tensor | None = None, out_beta: Tensor | None = None, out_eps: float | None = None,
    activation: str = "none",
) -> tuple[Tensor, ...]:  # fmt: skip
    layer = NormLayer(depthwise, between_bias, gamma, beta, pointwise, bias)
    window = stride, padding, dilation
    call = _Call(layer, window, eps, between, out_gamma, out_beta, out_eps, activation)
    sizes, outputs = call.check(x), pointwise.shape[0]
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    moments = [x.new_empty(depthwise.shape[0], dtype=wide) for _ in range(2)]
    count = 0 if out_eps is None else outputs
    moments += [x.new_empty(count, dtype=wide) for _ in range(2)]
    rows = x.new_empty(0) if out_eps is None else empty_last(x, outputs, sizes)
    return empty_output(x, outputs, sizes), *moments, rows


def _fake_backward(gradient: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    call = _call_of(rest[:-6])
    return fake_input(x, rest[-1]), *(fake_parameter(t, x) for t in call.tensors)


_library.register_fake(f"separable::{OPERATOR}", _fake_forward, lib=library)
_library.register_fake(f"separable::{OPERATOR}_backward", _fake_backward, lib=library)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Save the inputs, the moments, and the rows if they are normalised; no middle values."""
    ctx.rest = [None if isinstance(t, Tensor) else t for t in inputs]
    ctx.places = [i for i, t in enumerate(inputs) if isinstance(t, Tensor)]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*(inputs[i] for i in ctx.places), *output[1:])


@once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
def _back(ctx: Any, gradient: Tensor, *_others: Any) -> tuple[Any, ...]:
    """Call the operator of the gradients; a second derivative raises PyTorch's error."""
    inputs, count = list(ctx.rest), len(ctx.places)
    for i, t in zip(ctx.places, ctx.saved_tensors[:count], strict=True):
        inputs[i] = t
    moments_and_rows, to_input = ctx.saved_tensors[count:], ctx.needs_input_grad[0]
    operator = getattr(torch.ops.separable, f"{OPERATOR}_backward")
    found = operator(gradient, *inputs, *moments_and_rows, to_input)
    # The gradients are those of the first seven inputs, and of `out_gamma` and `out_beta`.
    made: list[Any] = [None] * len(inputs)
    for i, f in zip((*range(_PARAMETERS + 1), 12, 13), found, strict=True):
        made[i] = f if i in ctx.places else None
    if not to_input:
        made[0] = None
    return tuple(made)


torch.library.register_autograd(f"separable::{OPERATOR}", _back, setup_context=_keep, lib=library)


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
