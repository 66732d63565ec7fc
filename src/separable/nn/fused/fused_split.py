"""FusedSplit: two depthwise convolutions along one axis each, and how they are recognised."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine.availability import EngineError
from separable.gpu.kernel_launch import or_fallback
from separable.gpu.kernel_support import serves
from separable.gpu.rank_terms import RankTerms, passes_pay, run_rank_passes
from separable.lowering.step import Step
from separable.nn.fused.forward import padding_of
from separable.nn.fused.fused_modules import Fused
from separable.nn.fused.kernel_use import can_use_fused_kernel
from separable.nn.fused.layer_tiling import ACTIVATIONS
from separable.nn.fused.operators import activate, depthwise_by_torch
from separable.nn.fused.split_depthwise import PackedSplit, places

__all__ = ["FusedSplit", "multiplied_out", "pays", "pays_on_gpu", "runs_as_split", "terms_of"]

LEAST_CHANNELS = 8
"""Fewest channels that fill enough lanes of a vector."""
TERM_BLOCK = 16
"""Channels that have the same number of terms in the kernels, for `pays`: a vector of 512 bits."""
PASS_CYCLES = 17
"""Cycles per vector of outputs of two passes beside those of their taps, about (measured on Zen 4)."""
DENSE_CYCLES = 8
"""The same for a dense depthwise convolution."""


def terms_of(first: Step, second: Step) -> NDArray[np.intp] | None:
    """Return the channel of each term of two depthwise steps, or None if they are not two such passes.

    The first step computes one or more results (terms) per channel along one spatial axis; the second one filters
    each along the other axis and adds the terms of a channel.

    Examples
    --------
    >>> from separable import nn
    >>> terms_of(*nn.FactoredConv("yx -> y,x", 3, 3, 5, groups=3, rank=2).steps)
    array([0, 0, 1, 1, 2, 2])
    >>> terms_of(*nn.FactoredConv("yx -> y,x", 3, 3, 5, groups=3, rank=[1, 2, 1]).steps)
    array([0, 1, 1, 2])
    """
    if not _split_axes(first, second) or first.scatter is not None or second.gather is not None:
        return None
    if first.shared > 1 or second.shared > 1 or first.outputs != second.in_channels:
        return None
    if first.groups != first.in_channels:
        return None
    # The channel that each group of the first step reads, once per output of the group.
    read = np.arange(first.in_channels) if first.gather is None else np.array(first.gather)
    read = np.repeat(read, first.out_channels // first.groups)
    if second.scatter is None:
        if second.groups != second.out_channels:
            return None
        written = np.repeat(np.arange(second.groups), second.in_channels // second.groups)
    else:
        if second.groups != second.in_channels or second.groups != second.out_channels:
            return None
        written = np.array(second.scatter)
    same = read.shape == written.shape and bool((read == written).all())
    return read if same and bool((np.diff(read) >= 0).all()) else None


def runs_as_split(first: Step, second: Step, *, is_linear: bool) -> bool:
    """Return True if two steps can run as a `FusedSplit`.

    The kernel filters along y first. Steps in the other order can be exchanged if there is neither a bias nor an
    activation between them (`is_linear`).
    """
    if terms_of(first, second) is None or second.outputs < LEAST_CHANNELS:
        return False
    return is_linear or _axis(first) == 0


def _split_axes(first: Step, second: Step) -> bool:
    """Return True if one step filters along y only and the other along x only, padded with zeros."""
    if len(first.kernel_size) != 2:
        return False
    for step, axis in ((first, _axis(first)), (second, _axis(second))):
        if axis is None or step.stride[1 - axis] != 1 or step.padding[1 - axis] != (0, 0):
            return False
        if step.padding_mode != "zeros" and step.padding[axis] != (0, 0):
            return False
    return _axis(first) != _axis(second)


def _axis(step: Step) -> int | None:
    """Return the only axis with several taps, or None."""
    axes = [i for i, k in enumerate(step.kernel_size) if k > 1]
    return axes[0] if len(axes) == 1 else None


def pays(steps: tuple[Step, Step], terms: NDArray[np.intp]) -> bool:
    """Return True if two passes are faster than the dense kernel that they multiply out to.

    Examples
    --------
    >>> from separable import nn
    >>> def of(kernel, rank):
    ...     steps = nn.FactoredConv("yx -> y,x", 16, 16, kernel, groups=16, rank=rank).steps
    ...     return pays(steps, terms_of(*steps))
    >>> of(7, 1), of(7, 3), of(3, 1), of(31, 12)
    (True, False, False, True)
    """
    y, x = (max(k) for k in zip(*(s.kernel_size for s in steps), strict=True))
    across = max(s.stride[1] for s in steps)  # the pass along y is computed for all columns
    computed = places(terms, steps[1].outputs, TERM_BLOCK)[1]
    mean = sum(computed) / len(computed)
    return bool(PASS_CYCLES + mean * (y * across + x + 1) < DENSE_CYCLES + y * x)


def pays_on_gpu(
    steps: tuple[Step, Step], terms: NDArray[np.intp], shape: Sequence[int], weight: Tensor
) -> bool:
    """Return True if a GPU kernel is predicted to run two passes faster than the dense kernel.

    Parameters
    ----------
    steps : tuple of two Step
    terms : ndarray of int
    shape : sequence of int
        Shape of the input.
    weight : Tensor
        Weights, whose device and type are those of the input.
    """
    down, across = steps if _axis(steps[0]) == 0 else steps[::-1]
    taps = down.kernel_size[0], across.kernel_size[1]
    like = weight.reshape(-1)[:1].expand(*shape)  # a tensor of this shape without memory of its own
    return passes_pay(like, taps, terms.size / steps[1].outputs, window_of_steps(steps, shape))


def window_of_steps(
    steps: tuple[Step, Step], shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return stride, padding and dilation along both axes."""
    down, across = steps if _axis(steps[0]) == 0 else steps[::-1]
    pads = padding_of(down, shape)[:2] + padding_of(across, shape)[2:]
    return (down.stride[0], across.stride[1]), pads, (down.dilation[0], across.dilation[1])


def multiplied_out(
    steps: tuple[Step, Step], weights: tuple[Tensor, Tensor], terms: NDArray[np.intp]
) -> tuple[Step, Tensor]:
    """Return the dense depthwise step and weights that two steps without bias between them multiply out to."""
    down, across = steps if _axis(steps[0]) == 0 else steps[::-1]
    columns, rows = (
        w.double().reshape(terms.size, -1)
        for w in (weights if _axis(steps[0]) == 0 else weights[::-1])
    )
    products = columns[:, :, None] * rows[:, None]
    channels = steps[1].outputs
    dense = products.new_zeros(channels, *products.shape[1:])
    dense = dense.index_add(0, torch.from_numpy(terms).to(dense.device), products)[:, None]

    def both(name: str) -> Any:
        return getattr(down, name)[0], getattr(across, name)[1]

    step = replace(
        steps[1], in_channels=channels, out_channels=channels, groups=channels, gather=None,
        scatter=None, outputs=channels, kernel_size=both("kernel_size"), stride=both("stride"),
        dilation=both("dilation"), padding=both("padding"), padding_mode="zeros",
    )  # fmt: skip
    return step, dense.to(weights[0].dtype)


class FusedSplit(Fused):
    """Two depthwise convolutions along one axis each, as two passes in one kernel.

    Parameters
    ----------
    steps : tuple of two Step
    tensors : sequence of Tensor or None
        Weights and biases of both.
    acts : tuple of two str
        Activations after both.
    terms : ndarray of int
        As `terms_of` returns it.
    """

    def __init__(
        self, steps: tuple[Step, Step], tensors: Sequence[Tensor | None], acts: tuple[str, str],
        terms: NDArray[np.intp],
    ) -> None:  # fmt: skip
        names = ("first", "first_bias", "second", "second_bias")
        super().__init__(**dict(zip(names, tensors, strict=True)))
        self.steps, self.acts = steps, acts
        self._channel_of_term = terms

    @property
    def channels(self) -> int:
        """Number of channels of the input and of the output."""
        return self.steps[1].outputs

    def forward(self, x: Tensor) -> Tensor:
        """Run both convolutions."""
        if self.runs_kernel(x):
            with suppress(EngineError):
                made: Tensor = self.packed_for(x.shape)(x)
                return made
        terms = self._gpu_terms(x)
        if terms is None:
            return self.by_torch(x)
        window = window_of_steps(self.steps, x.shape)
        act = ACTIVATIONS.index(self.acts[1])
        return or_fallback(
            "FusedSplit", lambda: run_rank_passes(x, terms, window, act), lambda: self.by_torch(x)
        )

    def _gpu_terms(self, x: Tensor) -> RankTerms | None:
        """Return the terms for the GPU kernel, or None if it does not run this input.

        It runs both passes without anything between them, so that their order does not matter.
        """
        first, bias = self._buffers["first_bias"], self._buffers["second_bias"]
        terms = self._channel_of_term
        is_plain = (
            first is None and self.acts[0] == "none" and bool((terms[1:] >= terms[:-1]).all())
        )
        recorded = torch.is_grad_enabled() and x.requires_grad
        if torch.compiler.is_compiling() or recorded or x.dim() != 4 or not is_plain:
            return None
        if (
            self.left_to_torch
            or not serves(x, *self._buffers.values())
            or not can_use_fused_kernel(x)
        ):
            return None
        along = {_axis(s): n for s, n in zip(self.steps, ("first", "second"), strict=True)}
        if len(along) < 2:
            return None

        def starts() -> Tensor:
            found = np.searchsorted(terms, np.arange(self.channels + 1)).astype(np.int32)
            return torch.from_numpy(found).to(x.device)

        places = self._packed(("terms", str(x.device)), starts)  # a copy to a device waits for it
        return RankTerms(self._taps(along[0]), self._taps(along[1]), places, bias)

    def runs_kernel(self, x: Tensor) -> bool:
        """Return True if a compiled kernel runs such an input."""
        return x.dim() == 4 and x.dtype is torch.float32 and self._runs(x)

    def runs_gpu_kernel(self, x: Tensor) -> bool:
        """Return True if a kernel for GPUs runs such an input."""
        return self._gpu_terms(x) is not None

    def packed_for(self, shape: Sequence[int]) -> PackedSplit:
        """Return the packed weights for a shape of input, on which the padding may depend."""
        down, across = (padding_of(step, shape) for step in self.steps)
        padding = tuple(a + b for a, b in zip(down, across, strict=True))
        made: PackedSplit = self._packed(padding, lambda: self._build(padding))
        return made

    def _build(self, padding: tuple[int, ...]) -> PackedSplit:
        """Return the layer with packed weights."""
        along = {_axis(s): (s, n) for s, n in zip(self.steps, ("first", "second"), strict=True)}
        (down, y), (across, x) = along[0], along[1]
        top, bottom, left, right = padding
        window = (
            (down.stride[0], across.stride[1]), ((top, bottom), (left, right)),
            (down.dilation[0], across.dilation[1]),
        )  # fmt: skip
        acts = (ACTIVATIONS.index(self.acts[0]), ACTIVATIONS.index(self.acts[1]))
        between, bias = self._buffers["first_bias"], self._buffers["second_bias"]
        terms = self._channel_of_term
        return PackedSplit(
            self._taps(y), self._taps(x), between, bias, terms, self.channels, window, acts
        )

    def _taps(self, name: str) -> Tensor:
        """Return the weights of a step as ``(terms, taps)``."""
        weight = self._buffers[name]
        assert weight is not None
        return weight.reshape(self._channel_of_term.size, -1)

    def by_torch(self, x: Tensor) -> Tensor:
        """Run both convolutions by PyTorch."""
        for step, act, name in zip(self.steps, self.acts, ("first", "second"), strict=True):
            weight, bias = self._buffers[name], self._buffers[f"{name}_bias"]
            assert weight is not None
            padding = padding_of(step, x.shape)
            if step.gather is not None:
                x = x.index_select(-3, torch.tensor(step.gather, device=x.device))
            inner = None if step.scatter is not None else bias
            x = depthwise_by_torch(
                x, weight, inner, step.stride, padding, step.dilation, step.groups
            )
            if step.scatter is not None:
                shape = (*x.shape[:-3], step.outputs, *x.shape[-2:])
                x = x.new_zeros(shape).index_add(-3, torch.tensor(step.scatter, device=x.device), x)
                x = x if bias is None else x + bias[:, None, None]
            x = activate(x, act)
        return x

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        kernels_ = " and ".join("x".join(map(str, s.kernel_size)) for s in self.steps)
        return (
            f"{self.channels}, kernels {kernels_}, {self._channel_of_term.size} terms, "
            f"{self.acts[0]}, {self.acts[1]}"
        )
