"""Modules of fused networks: weights are packed, constants folded in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from separable.engine.availability import EngineError
from separable.errors import ArgumentError
from separable.gpu.kernel_support import serves, why_no_kernels
from separable.lowering.step import Step
from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution
from separable.nn.fused.forward import padding_of
from separable.nn.fused.kernel_use import can_use_fused_kernel, has_no_hooks
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import to_first
from separable.nn.fused.operators import (
    Window,
    activate,
    activate_in_place,
    by_torch,
    convolve,
    depthwise_by_torch,
    out_sizes,
    settings_of,
)
from separable.nn.fused.packed_layer import (
    PackedLayer,
    PackedPointwise,
    channels_are_last,
    is_served,
)
from separable.process_cache import ProcessCache

__all__ = [
    "Fused",
    "FusedConv",
    "FusedDepthwise",
    "FusedPointwise",
    "FusedSeparable",
    "refuse_training",
]


class Fused(nn.Module):
    """Base of fused modules: constant weights, packed when first needed."""

    def __init__(self, **tensors: Tensor | None) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self._cached = ProcessCache(1)  # the packed weights
        self.left_to_torch = False  # whether PyTorch's operators run it, because they were faster

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._cached = ProcessCache(1)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._cached = ProcessCache(1)
        super()._load_from_state_dict(*args, **kwargs)

    def _packed(self, key: Any, build: Callable[[], Any]) -> Any:
        """Return the packed weights; build them if there are none, or those of another key."""
        found = self._cached.get(key)
        return self._cached.get_or_build(key, build) if found is None else found

    def train(self, mode: bool = True) -> Any:
        """Refuse training mode, because weights and normalisation are constants."""
        _check_mode(mode)
        return super().train(mode)

    def runs_kernel(self, x: Tensor) -> bool:
        """Return True if a compiled kernel runs such an input."""
        return self._runs(x)

    def runs_gpu_kernel(self, x: Tensor) -> bool:
        """Return True if an operator runs such an input by a kernel for GPUs."""
        return not self.left_to_torch and serves(x, *self._buffers.values())

    def _runs(self, x: Tensor) -> bool:
        """Return True if the packed weights can be used for this call."""
        tensors = self._buffers.values()
        return (
            not self.left_to_torch
            and not torch.compiler.is_compiling()
            and not (torch.is_grad_enabled() and x.requires_grad)
            and is_served(x, *tensors)
            and can_use_fused_kernel(x)
        )


class _Evaluation:
    """The method `train` of a fused network, which refuses before any module changes its mode."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, mode: bool = True) -> nn.Module:
        """Set evaluation mode, or raise an error."""
        _check_mode(mode)
        return type(self._network).train(self._network, mode)


def refuse_training(network: nn.Module) -> None:
    """Make a network with fused modules refuse training mode."""
    if any(isinstance(m, Fused) for m in network.modules()):
        network.train = _Evaluation(network)  # type: ignore[method-assign]


def _check_mode(mode: bool) -> None:
    if mode:
        raise ArgumentError(
            "train: a fused network is for inference, because its weights are constants with "
            "normalisation folded in. Train the original network, then fuse it again"
        )


def _has_operator(x: Tensor, *tensors: Tensor | None) -> bool:
    """Return True if an operator with kernels of its own takes these tensors, on the CPU or on a GPU."""
    if torch.compiler.is_compiling():
        return x.is_cpu or (x.is_cuda and not why_no_kernels())
    return x.is_cpu or serves(x, *tensors)


class FusedDepthwise(Fused):
    """Depthwise convolution with normalisation and activation folded in."""

    def __init__(self, step: Step, weight: Tensor, bias: Tensor | None, act: str) -> None:
        super().__init__(weight=weight, bias=bias)
        self.step, self.act = step, act

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        step, weight, bias = self.step, self._buffers["weight"], self._buffers["bias"]
        assert weight is not None
        settings = (step.stride, padding_of(step, x.shape), step.dilation)
        if x.dim() == weight.dim() and self._runs(x):

            def build() -> PackedLayer:
                own = settings_of(*settings, self.act, "none")
                return PackedLayer(weight, bias, None, None, step.in_channels, own)

            with suppress(EngineError):
                made: Tensor = self._packed(settings[1], build)(x)
                return made
        if x.dim() != weight.dim() or self.left_to_torch or not _has_operator(x, weight, bias):
            return activate(depthwise_by_torch(x, weight, bias, *settings), self.act)
        found: Tensor = torch.ops.separable.depthwise(x, weight, bias, *settings, self.act)
        return found

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        kernel = "x".join(map(str, self.step.kernel_size))
        return f"{self.step.in_channels}, kernel {kernel}, stride {self.step.stride}, {self.act}"


class FusedSeparable(Fused):
    """Depthwise and pointwise convolution in one kernel, with normalisation and activations."""

    def __init__(
        self, step: Step, tensors: tuple[Tensor, Tensor | None, Tensor, Tensor | None],
        between: str, act: str,
    ) -> None:  # fmt: skip
        names = ("depthwise", "between_bias", "pointwise", "bias")
        super().__init__(**dict(zip(names, tensors, strict=True)))
        self.step, self.between, self.act = step, between, act

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        step = self.step
        tensors: Any = tuple(self._buffers.values())
        settings = (step.stride, padding_of(step, x.shape), step.dilation)
        if x.dim() == len(step.kernel_size) + 2 and self._runs(x):

            def build() -> PackedLayer:
                own = settings_of(*settings, self.between, self.act)
                depthwise, between, pointwise, bias = tensors
                return PackedLayer(depthwise, between, pointwise, bias, step.in_channels, own)

            with suppress(EngineError):
                made: Tensor = self._packed(settings[1], build)(x)
                return made
        names = (self.between, self.act)
        is_batch = x.dim() == len(step.kernel_size) + 2
        if not is_batch or self.left_to_torch or not _has_operator(x, *tensors):
            elsewhere: Tensor = by_torch(x, tensors, Window(*settings), *names)
            return elsewhere
        found: Tensor = torch.ops.separable.depthwise_separable(x, *tensors, *settings, *names)
        return found

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        weight = self._buffers["pointwise"]
        assert weight is not None
        kernel = "x".join(map(str, self.step.kernel_size))
        return (
            f"{self.step.in_channels}, {weight.shape[0]}, kernel {kernel}, stride "
            f"{self.step.stride}, {self.between}, {self.act}"
        )


class FusedPointwise(Fused):
    """Convolution of kernel size 1 with normalisation and activation folded in."""

    def __init__(self, weight: Tensor, bias: Tensor | None, act: str) -> None:
        super().__init__(weight=weight, bias=bias)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        weight, bias = self._buffers["weight"], self._buffers["bias"]
        assert weight is not None
        if x.dtype is torch.float32 and x.dim() == weight.dim() and self._runs(x):

            def build() -> PackedPointwise:
                return PackedPointwise(weight, bias, ACTIVATIONS.index(self.act))

            with suppress(EngineError):
                made: Tensor = self._packed("pointwise", build)(x)
                return made
        return activate(convolve(x, weight, bias), self.act)

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        weight = self._buffers["weight"]
        assert weight is not None
        return f"{weight.shape[1]}, {weight.shape[0]}, {self.act}"


class FusedConv(Fused):
    """Any other convolution with normalisation and activation folded in.

    The compiled kernels run dense convolutions of float32 on the CPU; PyTorch runs all others.

    Parameters
    ----------
    conv : torch.nn.Module
        The convolution, with the normalisation folded into its weights.
    act : str
        The activation after it.
    step : Step or None
        The convolution as a step, if it is one.
    exact : bool
        Whether to do without Winograd's minimal filtering, see `PackedConvolution`.
    """

    def __init__(
        self, conv: nn.Module, act: str, step: Step | None = None, exact: bool = False
    ) -> None:
        super().__init__()
        self.conv, self.act, self.step, self.exact = conv, act, step, exact
        self.left_reason = _why_left(step)

    def serves(self, shape: Sequence[int]) -> bool:
        """Return True if the compiled kernels are the faster way to run an input of this shape."""
        step = self.step
        if step is None or self.left_reason or len(shape) != len(step.kernel_size) + 2:
            return False
        padding = padding_of(step, shape)
        sizes = out_sizes(shape[2:], step.kernel_size, step.stride, padding, step.dilation)
        return shape[1] == step.in_channels and min(sizes) > 0

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        found = self._run_compiled(x)
        if found is not None:
            return found
        made: Tensor = self.conv(x)
        if made.requires_grad:
            return activate(made, self.act)
        return activate_in_place(made, self.act)

    def _run_compiled(self, x: Tensor) -> Tensor | None:
        """Run the layer by the compiled kernels, or return None if PyTorch must run it."""
        step = self.step
        if step is None or x.dtype is not torch.float32 or not has_no_hooks(self.conv):
            return None
        weight: Any = self.conv._parameters["weight"]
        bias: Any = self.conv._parameters["bias"]
        if not (self.serves(x.shape) and self._runs(x) and is_served(x, weight, bias)):
            return None
        padding = padding_of(step, x.shape)
        key = (padding, *_state_of(weight, bias))

        def build() -> PackedConvolution:
            own = ConvSettings(step.stride, padding, step.dilation, step.groups)
            return PackedConvolution(weight, bias, ACTIVATIONS.index(self.act), own, self.exact)

        with suppress(EngineError):
            made: Tensor = self._packed(key, build)(x)
            is_first = x.is_contiguous() and not channels_are_last(x)
            return to_first(made) if is_first else made
        return None


def _state_of(*tensors: Tensor | None) -> list[tuple[int, int]]:
    """Return what changes with the values of tensors: their memory and their versions."""
    found = [t for t in tensors if t is not None]
    return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in found]


GROUP_OUTPUTS = 16
"""Fewest outputs per group for which grouped convolutions are faster in the compiled kernels (measured)."""


def _why_left(step: Step | None) -> str:
    """Return the reason why PyTorch runs a convolution, or an empty string if it does not."""
    if step is None:
        return "not a plain convolution"
    if step.gather is not None or step.scatter is not None or step.shared > 1:
        return "channels are gathered or added together"
    if step.padding_mode != "zeros" and any(p != (0, 0) for p in step.padding):
        return f"padding mode {step.padding_mode!r}"
    if step.groups > 1 and step.out_channels // step.groups < GROUP_OUTPUTS:
        return f"fewer than {GROUP_OUTPUTS} outputs per group are faster in PyTorch"
    return ""
