"""FusedPair: two convolutions that split the spatial axes, in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from separable.engine.availability import EngineError
from separable.lowering.step import SamePadding, Step
from separable.nn.fused.direct_nchw import Convolution, DirectConvolutions
from separable.nn.fused.fused_modules import Fused
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.layout_transpose import to_first
from separable.nn.fused.operators import activate, depthwise_by_torch
from separable.nn.fused.packed_layer import SHAPES_KEPT, check_input
from separable.process_cache import ProcessCache

__all__ = ["FusedPair", "splits"]

LEAST_COLUMNS = 32
"""Fewest columns for which a pair is faster in one kernel."""
MOST_CHANNELS = 15
"""Most channels that two dense steps of a pair may read: with more, two steps of a program take 0.56 to 1.0 of the time
(3x1 and 1x3, 16 to 48 channels at 32^2 to 256^2, and 16 and 32 channels at 32^3); with 4 or 8, 1.5 to 2 times as long."""


def splits(first: Step, second: Step) -> str | None:
    """Return None if two steps split the spatial axes and can run as one, else the reason why not.

    Examples
    --------
    >>> from separable import nn
    >>> splits(*nn.SpatialSpectralConv3d(1, 4, 3).steps)
    >>> splits(*nn.SpatiallySeparableConv2d(4, 4, 3, stride=2).steps)
    'a stride along the last axis'
    """
    for step in (first, second):
        if step.gather is not None or step.scatter is not None or step.shared > 1:
            return "channels are gathered or added together"
        if step.padding_mode != "zeros" and any(p != (0, 0) for p in step.padding):
            return f"padding mode {step.padding_mode!r}"
        if step.stride[-1] > 1:
            return "a stride along the last axis"
    read = max(first.in_channels, second.in_channels)
    if first.groups == second.groups == 1 and read > MOST_CHANNELS:
        return (
            f"more than {MOST_CHANNELS} channels, for which two steps are faster with channels last"
        )
    kernels = first.kernel_size, second.kernel_size
    if any(a > 1 and b > 1 for a, b in zip(*kernels, strict=True)):
        return "both have taps along one axis"
    if any(all(k == 1 for k in kernel) for kernel in kernels):
        return "one of them has a single tap"
    return None


def _amounts(step: Step, size: Sequence[int]) -> list[tuple[int, int]]:
    return [
        p.amounts(n) if isinstance(p, SamePadding) else p
        for p, n in zip(step.padding, size, strict=True)
    ]


def _convolution(step: Step, values: Any, act: int) -> Convolution:
    kernel, stride, dilation, before, after = values
    return Convolution(
        step.in_channels, step.out_channels, step.groups, kernel, stride, dilation, before, after,
        act,
    )  # fmt: skip


class FusedPair(Fused):
    """Two convolutions that split the spatial axes, with normalisation and activations."""

    def __init__(
        self, steps: tuple[Step, Step], tensors: Sequence[Tensor | None], acts: tuple[str, str]
    ) -> None:
        names = ("first", "first_bias", "second", "second_bias")
        super().__init__(**dict(zip(names, tensors, strict=True)))
        self.steps, self.acts = steps, acts
        self._convolutions = ProcessCache(SHAPES_KEPT)

    def forward(self, x: Tensor) -> Tensor:
        """Run the pair."""
        whole = x.dim() == len(self.steps[0].kernel_size) + 2 and x.shape[-1] >= LEAST_COLUMNS
        if whole and x.dtype is torch.float32 and self._runs(x):
            first = self._buffers["first"]
            assert first is not None
            check_input("pair", x, first.shape, self.steps[0].in_channels)
            made: Tensor | None = None
            with suppress(EngineError):
                layer = self._packed(
                    "direct", lambda: DirectConvolutions(tuple(self._buffers.values()))
                )
                made = layer(to_first(x), self._of_size(tuple(x.shape[2:])))
            if made is not None:
                return made
        return self.by_torch(x)

    def by_torch(self, x: Tensor) -> Tensor:
        """Run the pair by PyTorch's own operators."""
        for step, act, at in zip(self.steps, self.acts, ("first", "second"), strict=True):
            weight, bias = self._buffers[at], self._buffers[f"{at}_bias"]
            assert weight is not None
            padding = [n for ends in _amounts(step, x.shape[-len(step.padding) :]) for n in ends]
            x = depthwise_by_torch(
                x, weight, bias, step.stride, padding, step.dilation, step.groups
            )
            x = activate(x, act)
        return x

    def _of_size(self, size: tuple[int, ...]) -> tuple[Convolution, ...]:
        """Return the convolutions for one size of input, on which their padding may depend."""
        found: tuple[Convolution, ...] | None = self._convolutions.get(size)
        if found is None:
            found = self._convolutions.get_or_build(size, lambda: self._for_size(size))
        return found

    def _for_size(self, size: Sequence[int]) -> tuple[Convolution, ...]:
        made, fill = [], 3 - len(size)
        for step, act in zip(self.steps, self.acts, strict=True):
            ends = [(0, 0)] * fill + _amounts(step, size)
            kernel, stride, dilation = (
                (1,) * fill + tuple(v) for v in (step.kernel_size, step.stride, step.dilation)
            )
            before, after = zip(*ends, strict=True)
            values: Any = (kernel, stride, dilation, before, after)
            made.append(_convolution(step, values, ACTIVATIONS.index(act)))
            size = made[-1].sizes((1,) * fill + tuple(size))[fill:]  # type: ignore[arg-type]
        return tuple(made)

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        kernels = ["x".join(map(str, s.kernel_size)) for s in self.steps]
        first, second = self.steps
        return (
            f"{first.in_channels}, {first.out_channels}, {second.out_channels}, kernels "
            f"{kernels[0]} and {kernels[1]}, {self.acts[0]}, {self.acts[1]}"
        )
