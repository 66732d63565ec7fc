"""Modules that stand in a fused network: constants folded in, weights packed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from separable.engine.availability import EngineError
from separable.nn.fused.forward import is_plain, padding_of
from separable.nn.fused.operators import (
    activate,
    by_torch,
    convolve,
    depthwise_by_torch,
    settings_of,
)
from separable.nn.fused.plan import ACTIVATIONS
from separable.nn.fused.prepared import Prepared, PreparedPointwise, is_served
from separable.nn.step import Step

__all__ = ["Fused", "FusedConv", "FusedDepthwise", "FusedPointwise", "FusedSeparable"]


class Fused(nn.Module):
    """What fused modules have in common: weights that are constants, packed when first needed."""

    def __init__(self, **tensors: Tensor | None) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self._packed: Any = None

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._packed = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def _runs(self, x: Tensor) -> bool:
        """Return whether the packed weights serve this call."""
        tensors = self._buffers.values()
        return (
            not torch.compiler.is_compiling()
            and not (torch.is_grad_enabled() and x.requires_grad)
            and is_served(x, *tensors)
            and is_plain(x)
        )


class FusedDepthwise(Fused):
    """A depthwise convolution with what follows it: a norm folded in, an activation."""

    def __init__(self, step: Step, weight: Tensor, bias: Tensor | None, act: str) -> None:
        super().__init__(weight=weight, bias=bias)
        self.step, self.act = step, act

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        step, weight, bias = self.step, self._buffers["weight"], self._buffers["bias"]
        assert weight is not None
        settings = (step.stride, padding_of(step, x), step.dilation)
        if x.dim() == weight.dim() and self._runs(x):
            with suppress(EngineError):
                if self._packed is None or self._packed.settings[1] != settings[1]:
                    held = settings_of(*settings, self.act, "none")
                    self._packed = Prepared(weight, bias, None, None, step.in_channels, held)
                made: Tensor = self._packed(x)
                return made
        if x.dim() != weight.dim() or not x.is_cpu:
            return activate(depthwise_by_torch(x, weight, bias, *settings), self.act)
        found: Tensor = torch.ops.separable.depthwise(x, weight, bias, *settings, self.act)
        return found

    def extra_repr(self) -> str:
        """Say the sizes."""
        kernel = "x".join(map(str, self.step.kernel_size))
        return f"{self.step.in_channels}, kernel {kernel}, stride {self.step.stride}, {self.act}"


class FusedSeparable(Fused):
    """A depthwise and a pointwise convolution in one walk, norms folded in, with activations."""

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
        settings = (step.stride, padding_of(step, x), step.dilation)
        if x.dim() == len(step.kernel_size) + 2 and self._runs(x):
            with suppress(EngineError):
                if self._packed is None or self._packed.settings[1] != settings[1]:
                    held = settings_of(*settings, self.between, self.act)
                    depthwise, between, pointwise, bias = tensors
                    self._packed = Prepared(
                        depthwise, between, pointwise, bias, step.in_channels, held
                    )
                made: Tensor = self._packed(x)
                return made
        names = (self.between, self.act)
        if x.dim() != len(step.kernel_size) + 2 or not x.is_cpu:
            run: Any = by_torch
            elsewhere: Tensor = run(x, *tensors, *settings, *names)
            return elsewhere
        found: Tensor = torch.ops.separable.depthwise_separable(x, *tensors, *settings, *names)
        return found

    def extra_repr(self) -> str:
        """Say the sizes."""
        weight = self._buffers["pointwise"]
        assert weight is not None
        kernel = "x".join(map(str, self.step.kernel_size))
        return (
            f"{self.step.in_channels}, {weight.shape[0]}, kernel {kernel}, stride "
            f"{self.step.stride}, {self.between}, {self.act}"
        )


class FusedPointwise(Fused):
    """A convolution of kernel size 1 with a norm folded in and an activation."""

    def __init__(self, weight: Tensor, bias: Tensor | None, act: str) -> None:
        super().__init__(weight=weight, bias=bias)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        weight, bias = self._buffers["weight"], self._buffers["bias"]
        assert weight is not None
        if x.dtype is torch.float32 and x.dim() == weight.dim() and self._runs(x):
            with suppress(EngineError):
                if self._packed is None:
                    self._packed = PreparedPointwise(weight, bias, ACTIVATIONS.index(self.act))
                made: Tensor = self._packed(x)
                return made
        return activate(convolve(x, weight, bias), self.act)

    def extra_repr(self) -> str:
        """Say the sizes."""
        weight = self._buffers["weight"]
        assert weight is not None
        return f"{weight.shape[1]}, {weight.shape[0]}, {self.act}"


class FusedConv(nn.Module):
    """Any other convolution, with a norm folded in and an activation; PyTorch runs it."""

    def __init__(self, conv: nn.Module, act: str) -> None:
        super().__init__()
        self.conv, self.act = conv, act

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        made: Tensor = self.conv(x)
        if made.requires_grad:
            return activate(made, self.act)
        if self.act == "none":
            return made
        return cast(Tensor, getattr(functional, self.act)(made, inplace=True))
