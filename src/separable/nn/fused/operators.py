"""`separable::depthwise` and `separable::depthwise_separable`: the operators for PyTorch.

On the CPU, in float32 and bfloat16, compiled kernels run them, on NVIDIA GPUs, in float32, float16 and bfloat16,
Triton kernels; everywhere else PyTorch's own convolutions do, with equal results. Importing this module registers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from separable.engine.availability import EngineError
from separable.engine.tensor_memory import owned
from separable.errors import ArgumentError
from separable.gpu.depthwise_layers import GpuDepthwise, run_depthwise_layer
from separable.gpu.kernel_launch import or_fallback
from separable.gpu.kernel_support import serves
from separable.gpu.layer_forward import GpuLayer, run_layer
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import to_first, to_last
from separable.nn.fused.packed_layer import Settings, cached_layer, channels_are_last, is_served

__all__ = [
    "LayerTensors",
    "Window",
    "activate",
    "activate_in_place",
    "by_torch",
    "check",
    "check_bias",
    "check_pointwise",
    "convolve",
    "depthwise_by_torch",
    "empty_last",
    "empty_output",
    "library",
    "like_input",
    "out_sizes",
    "settings_of",
]

_CONVS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_ACTIVATIONS: dict[str, Any] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "tanh": torch.tanh,
}
_IN_PLACE: dict[str, Any] = {
    "none": lambda x: x,
    "relu": torch.relu_,
    "relu6": partial(functional.relu6, inplace=True),
    "silu": partial(functional.silu, inplace=True),
    "hardswish": partial(functional.hardswish, inplace=True),
    "hardsigmoid": partial(functional.hardsigmoid, inplace=True),
    "sigmoid": torch.sigmoid_,
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": partial(torch.ops.aten.gelu_, approximate="tanh"),
    "tanh": torch.tanh_,
}

_library: Any = torch.library
library = _library.Library("separable", "FRAGMENT")
library.define(
    "depthwise(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] dilation, str activation) -> Tensor"
)
library.define(
    "depthwise_separable(Tensor input, Tensor depthwise, Tensor? between_bias, Tensor pointwise, "
    "Tensor? bias, int[] stride, int[] padding, int[] dilation, str between, str activation) "
    "-> Tensor"
)


LayerTensors: TypeAlias = tuple[Tensor, Tensor | None, Tensor, Tensor | None]
"""Depthwise weights, their bias, pointwise weights, their bias."""


class Window(NamedTuple):
    """Placement of the window of a depthwise convolution: one value per spatial axis, padding two."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]


def activate(x: Tensor, name: str) -> Tensor:
    """Apply an activation by name."""
    made: Tensor = _ACTIVATIONS[name](x)
    return made


def activate_in_place(x: Tensor, name: str) -> Tensor:
    """Apply an activation by name to a tensor that nothing else uses; return it."""
    made: Tensor = _IN_PLACE[name](x)
    return made


def check(
    owner: str,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    names: Sequence[str],
) -> None:
    """Raise an error that names the operator if sizes do not fit together."""
    ndim = weight.dim() - 2
    shapes = f"got an input of shape {tuple(x.shape)} and weights of shape {tuple(weight.shape)}"
    if ndim not in _CONVS or x.dim() != ndim + 2:
        raise ArgumentError(
            f"{owner}: expected an input (n, channels, *space) and weights (channels * multiplier, "
            f"1, *kernel) over 1 to 3 axes; {shapes}"
        )
    channels = x.shape[1]
    if weight.shape[1] != 1 or channels < 1 or weight.shape[0] < 1 or weight.shape[0] % channels:
        raise ArgumentError(
            f"{owner}: expected weights (channels * multiplier, 1, *kernel) for the input's "
            f"channels; {shapes}"
        )
    if len(stride) != ndim or len(dilation) != ndim or len(padding) != 2 * ndim:
        raise ArgumentError(
            f"{owner}: expected a stride and a dilation for each of {ndim} axes and padding before "
            f"and after each; got stride {tuple(stride)}, dilation {tuple(dilation)}, padding "
            f"{tuple(padding)}"
        )
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ArgumentError(
            f"{owner}: stride and dilation must be >= 1 and padding >= 0; got stride "
            f"{tuple(stride)}, dilation {tuple(dilation)}, padding {tuple(padding)}"
        )
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown:
        raise ArgumentError(
            f"{owner}: an activation is one of {', '.join(ACTIVATIONS)}; got {unknown[0]!r}"
        )
    if any(n < 1 for n in out_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)):
        raise ArgumentError(f"{owner}: the kernel is larger than the padded input; {shapes}")


def check_pointwise(weight: Tensor, pointwise: Tensor) -> None:
    """Raise an error if pointwise weights do not fit the depthwise ones."""
    if pointwise.shape[1:2] != weight.shape[:1] or any(n != 1 for n in pointwise.shape[2:]):
        raise ArgumentError(
            "depthwise_separable: expected pointwise weights (outputs, channels * multiplier, 1...)"
            f" for depthwise weights of shape {tuple(weight.shape)}; got {tuple(pointwise.shape)}"
        )


def check_bias(owner: str, bias: Tensor | None, weight: Tensor) -> None:
    """Raise an error unless a bias has one number per output."""
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ArgumentError(
            f"{owner}: expected a bias of shape ({weight.shape[0]},) for weights of shape "
            f"{tuple(weight.shape)}; got {tuple(bias.shape)}"
        )


def out_sizes(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """Return the sizes of the output along the spatial axes."""
    return [
        (n + padding[2 * i] + padding[2 * i + 1] - dilation[i] * (kernel[i] - 1) - 1) // stride[i]
        + 1
        for i, n in enumerate(size)
    ]


def depthwise_by_torch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 0,
) -> Tensor:
    """Return a convolution by PyTorch's own operators, depthwise if `groups` is 0."""
    even = all(a == b for a, b in zip(padding[0::2], padding[1::2], strict=True))
    if not even:
        ends = [n for i in range(len(stride) - 1, -1, -1) for n in padding[2 * i : 2 * i + 2]]
        x = functional.pad(x, ends)
    made: Tensor = _CONVS[len(stride)](
        x, weight, bias, list(stride), list(padding[0::2]) if even else 0, list(dilation),
        groups or x.shape[-len(stride) - 1],
    )  # fmt: skip
    return made


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a plain convolution by PyTorch."""
    made: Tensor = _CONVS[weight.dim() - 2](x, weight, bias)
    return made


def by_torch(
    x: Tensor, tensors: LayerTensors, window: Window, between: str, activation: str
) -> Tensor:
    """Return the result of the whole layer by PyTorch's own operators."""
    depthwise, between_bias, pointwise, bias = tensors
    middle = activate(depthwise_by_torch(x, depthwise, between_bias, *window), between)
    axes = len(window.stride)
    weights = pointwise.reshape(*pointwise.shape[:2], *(1,) * axes)
    return activate(_CONVS[axes](middle, weights, bias), activation)


def settings_of(
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    between: str,
    act: str,
) -> Settings:
    """Return all arguments of a layer but its tensors, as a key."""
    return (
        tuple(stride), tuple(padding), tuple(dilation),
        ACTIVATIONS.index(between), ACTIVATIONS.index(act),
    )  # fmt: skip


def _depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], activation: str,
) -> Tensor:  # fmt: skip
    check("depthwise", x, weight, stride, padding, dilation, (activation,))
    check_bias("depthwise", bias, weight)
    if is_served(x, weight, bias):
        settings = settings_of(stride, padding, dilation, activation, "none")
        with suppress(EngineError):
            return cached_layer((weight, bias, None, None), x.shape[1], settings)(x)

    def by_convolution() -> Tensor:
        made = depthwise_by_torch(x, weight, bias, stride, padding, dilation)
        return like_input(activate(made, activation), x)

    if not serves(x, weight, bias):
        return by_convolution()
    layer = GpuDepthwise(weight, bias, (stride, padding, dilation), ACTIVATIONS.index(activation))
    sizes = out_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return or_fallback(
        "separable::depthwise",
        lambda: run_depthwise_layer(x, layer, empty_output(x, weight.shape[0], sizes)),
        by_convolution,
    )


def _depthwise_separable(
    x: Tensor, depthwise: Tensor, between_bias: Tensor | None, pointwise: Tensor,
    bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int],
    between: str, activation: str,
) -> Tensor:  # fmt: skip
    check("depthwise_separable", x, depthwise, stride, padding, dilation, (between, activation))
    check_pointwise(depthwise, pointwise)
    check_bias("depthwise_separable", between_bias, depthwise)
    check_bias("depthwise_separable", bias, pointwise)
    tensors = (depthwise, between_bias, pointwise, bias)
    if is_served(x, *tensors):
        settings = settings_of(stride, padding, dilation, between, activation)
        with suppress(EngineError):
            return cached_layer(tensors, x.shape[1], settings)(x)

    def by_convolutions() -> Tensor:
        window = Window(stride, padding, dilation)
        return like_input(by_torch(x, tensors, window, between, activation), x)

    if not serves(x, *tensors):
        return by_convolutions()
    acts = ACTIVATIONS.index(between), ACTIVATIONS.index(activation)
    layer = GpuLayer(*tensors, (stride, padding, dilation), acts)
    sizes = out_sizes(x.shape[2:], depthwise.shape[2:], stride, padding, dilation)
    return or_fallback(
        "separable::depthwise_separable",
        lambda: run_layer(x, layer, empty_output(x, pointwise.shape[0], sizes)),
        by_convolutions,
    )


def like_input(out: Tensor, x: Tensor) -> Tensor:
    """Return a result in the layout of the input."""
    return owned(to_last(out) if channels_are_last(x) else to_first(out))


def empty_output(x: Tensor, outputs: int, sizes: Sequence[int]) -> Tensor:
    """Return an uninitialised output in the layout of the input."""
    if channels_are_last(x):
        return empty_last(x, outputs, sizes)
    return x.new_empty((x.shape[0], outputs, *sizes))


def empty_last(x: Tensor, outputs: int, sizes: Sequence[int]) -> Tensor:
    """Return an uninitialised output with its channels last in memory."""
    shape = (x.shape[0], outputs, *sizes)
    order = (0, *range(2, len(shape)), 1)
    return torch.empty_permuted(shape, order, dtype=x.dtype, device=x.device)


def _fake_depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], activation: str,
) -> Tensor:  # fmt: skip
    check("depthwise", x, weight, stride, padding, dilation, (activation,))
    check_bias("depthwise", bias, weight)
    sizes = out_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return empty_output(x, weight.shape[0], sizes)


def _fake_separable(
    x: Tensor, depthwise: Tensor, between_bias: Tensor | None, pointwise: Tensor,
    bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int],
    between: str, activation: str,
) -> Tensor:  # fmt: skip
    check("depthwise_separable", x, depthwise, stride, padding, dilation, (between, activation))
    check_pointwise(depthwise, pointwise)
    check_bias("depthwise_separable", between_bias, depthwise)
    check_bias("depthwise_separable", bias, pointwise)
    sizes = out_sizes(x.shape[2:], depthwise.shape[2:], stride, padding, dilation)
    return empty_output(x, pointwise.shape[0], sizes)


library.impl("depthwise", _depthwise, "CompositeExplicitAutograd")
_library.register_fake("separable::depthwise", _fake_depthwise, lib=library)
_library.register_fake("separable::depthwise_separable", _fake_separable, lib=library)
library.impl("depthwise_separable", _depthwise_separable, "CompositeExplicitAutograd")
