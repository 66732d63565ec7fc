"""PackedConvolution: a dense convolution with packed weights, ready to run on inputs of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from separable.engine.tensor_memory import empty_strided
from separable.errors import ArgumentError
from separable.nn.fused.dense_tiling import DensePlan, Panel, Steps, dense_plan, panels_of
from separable.nn.fused.direct_nchw import Convolution
from separable.nn.fused.kernel_plan import kernels
from separable.nn.fused.layer_tiling import Sizes
from separable.nn.fused.layout_transpose import last_strides, to_last
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import SHAPES_KEPT, check_input, checked_residual
from separable.process_cache import ProcessBound, ProcessCache

__all__ = ["ConvSettings", "PackedConvolution", "pack_dense", "pack_dense_bias"]


FIRST_CHANNELS = 8
"""Largest number of channels of which a channels-first input is read as it lies; others are converted first."""


class ConvSettings(NamedTuple):
    """Settings of a convolution besides its weights, with one value per spatial axis.

    Attributes
    ----------
    stride, dilation : tuple of int
    padding : tuple of int
        Zeros before and after each axis, two values per axis.
    groups : int
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


def _three(values: Sequence[int], fill: int) -> Sizes:
    z, y, x = (fill,) * (3 - len(values)) + tuple(values)
    return z, y, x


class PackedConvolution(ProcessBound):
    """Dense convolution with packed weights, for float32 and padding with zeros.

    The output has its channels last in memory. The input may have them first or last.

    Parameters
    ----------
    weight : Tensor, shape (outputs, channels / groups, *kernel)
    bias : Tensor or None
    act : int
        The activation after it, by its place in `ACTIVATIONS`.
    settings : ConvSettings
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, act: int, settings: ConvSettings
    ) -> None:
        compiled = kernels()
        self.settings, self._weight = settings, tuple(weight.shape)
        outputs, own = weight.shape[:2]
        stride, padding, dilation, groups = settings
        self.conv = Convolution(
            own * groups, outputs, groups, _three(weight.shape[2:], 1), _three(stride, 1),
            _three(dilation, 1), _three(padding[0::2], 0), _three(padding[1::2], 0), act,
        )  # fmt: skip
        panels = panels_of(outputs, groups, compiled.vectors, compiled.lanes)
        self._held = (
            pack_dense(weight, panels, compiled.lanes),
            pack_dense_bias(bias, panels, compiled.lanes),
        )
        self.addresses = tuple(t.data_ptr() for t in self._held)
        self._plans = ProcessCache(SHAPES_KEPT)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Run the layer on a batch.

        Parameters
        ----------
        x : Tensor, shape (n, channels, *space)
        residual : Tensor, optional
            Tensor of the output's shape that is added before the activation.
        """
        check_input("convolution", x, self._weight, self.conv.inputs)
        threads = torch.get_num_threads()
        first = x.shape[1] <= FIRST_CHANNELS and x.is_contiguous()
        if not first:
            x = to_last(x)
        key = (x.shape, first, threads)
        plan: DensePlan | None = self._plans.get(key)
        if plan is None:
            plan = self._plans.get_or_build(key, lambda: self.plan(x.shape, first, threads))
        shape = (x.shape[0], self.conv.outputs, *plan.out_size[5 - x.dim() :])
        out = empty_strided(shape, last_strides(shape), torch.float32)
        added = checked_residual("convolution", residual, shape)
        if out.numel():
            address = 0 if added is None else added.data_ptr()
            source: Any = (x.data_ptr(), *self.addresses, address, 0)
            run(plan, source, out.data_ptr(), threads)
        return out

    def plan(self, shape: Sequence[int], first: bool, threads: int) -> DensePlan:
        """Return the plan for a shape of input, with its channels first or last."""
        size = _three(shape[2:], 1)
        if min(self.conv.sizes(size)) < 1:
            raise ArgumentError(
                f"convolution: the kernel is larger than the padded input; got an input of shape "
                f"{tuple(shape)} and weights of shape {self._weight}"
            )
        return dense_plan(self.conv, max(1, shape[0]), size, Steps(channels_first=first), threads)


def pack_dense(weight: Tensor, panels: Sequence[Panel], lanes: int) -> Tensor:
    """Pack weights ``(outputs, channels, *kernel)`` as panels ``[tap][channel][output of the panel]``."""
    outputs, own = weight.shape[:2]
    flat = weight.detach().float().reshape(outputs, own, -1)
    across = flat.permute(2, 1, 0).reshape(-1, outputs)  # (tap and channel, output)
    packed = []
    for panel in panels:
        columns = across[:, panel.output : panel.output + panel.width]
        packed.append(functional.pad(columns, (0, panel.vectors * lanes - panel.width)).reshape(-1))
    return torch.cat(packed)


def pack_dense_bias(bias: Tensor | None, panels: Sequence[Panel], lanes: int) -> Tensor:
    """Pack biases, or zeros, as the panels are packed."""
    if bias is None:
        return torch.zeros(sum(p.vectors for p in panels) * lanes, dtype=torch.float32)
    flat = bias.detach().float()
    return torch.cat([
        functional.pad(flat[p.output : p.output + p.width], (0, p.vectors * lanes - p.width))
        for p in panels
    ])  # fmt: skip
