"""PackedConvolution: a dense convolution with packed weights, ready to run on inputs of any shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separable.engine.tensor_memory import empty_strided
from separable.errors import ArgumentError
from separable.nn.fused.dense_tiling import (
    DensePlan,
    Panel,
    Steps,
    dense_plan,
    pack_dense,
    pack_panels,
    panels_of,
)
from separable.nn.fused.direct_nchw import Convolution
from separable.nn.fused.kernel_plan import kernels
from separable.nn.fused.layer_tiling import Sizes, three
from separable.nn.fused.layout_transpose import last_strides, to_last
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import SHAPES_KEPT, check_input, checked_residual
from separable.nn.fused.winograd_tiling import (
    WinogradPlan,
    pack_winograd,
    winograd_pays,
    winograd_plan,
)
from separable.process_cache import ProcessBound, ProcessCache

__all__ = [
    "ConvSettings",
    "PackedConvolution",
    "PlannedConvolution",
    "pack_dense_bias",
]


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


class PlannedConvolution(NamedTuple):
    """Plan of a convolution for one shape of input.

    Attributes
    ----------
    plan : DensePlan or WinogradPlan
    addresses : (int, int)
        Addresses of the weights, packed for this plan, and of the biases; the first two of its four arrays. The
        third is a residual, or 0.
    """

    plan: DensePlan | WinogradPlan
    addresses: tuple[int, int]


class PackedConvolution(ProcessBound):
    """Dense convolution with packed weights, for float32 and padding with zeros.

    The output has its channels last in memory. The input may have them first or last.

    Convolutions of 3 x 3, 3 x 1 or 1 x 3 taps with stride 1 run by Winograd's minimal filtering where that is faster.
    It computes 16 or 4 outputs together, and its rounding errors are up to twice those of the direct kernel (relative to
    the largest output). Tiles with infinite inputs or NaN are computed directly.

    Parameters
    ----------
    weight : Tensor, shape (outputs, channels / groups, *kernel)
        It must not be changed afterwards: it is packed when it is first needed.
    bias : Tensor or None
    act : int
        The activation after it, by its place in `ACTIVATIONS`.
    settings : ConvSettings
    exact : bool
        Whether to compute each output on its own, in the order of the weights.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        act: int,
        settings: ConvSettings,
        exact: bool = False,
    ) -> None:
        compiled = kernels()
        self.settings, self.exact = settings, exact
        self._weight = weight.detach()
        outputs, own = weight.shape[:2]
        stride, padding, dilation, groups = settings
        self.conv = Convolution(
            own * groups, outputs, groups, three(weight.shape[2:], 1), three(stride, 1),
            three(dilation, 1), three(padding[0::2], 0), three(padding[1::2], 0), act,
        )  # fmt: skip
        self._lanes = compiled.lanes
        self._panels = panels_of(outputs, groups, compiled.vectors, compiled.lanes)
        self._bias = pack_dense_bias(bias, self._panels, compiled.lanes)
        self._packed, self._plans = ProcessCache(), ProcessCache(SHAPES_KEPT)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Run the layer on a batch.

        Parameters
        ----------
        x : Tensor, shape (n, channels, *space)
        residual : Tensor, optional
            Tensor of the output's shape that is added before the activation.
        """
        check_input("convolution", x, tuple(self._weight.shape), self.conv.inputs)
        threads = torch.get_num_threads()
        first = x.shape[1] <= FIRST_CHANNELS and x.is_contiguous()
        if not first:
            x = to_last(x)
        key = (x.shape, first, threads)
        found: PlannedConvolution | None = self._plans.get(key)
        if found is None:
            found = self._plans.get_or_build(key, lambda: self.plan_for(x.shape, first, threads))
        plan = found.plan
        shape = (x.shape[0], self.conv.outputs, *plan.out_size[5 - x.dim() :])
        out = empty_strided(shape, last_strides(shape), torch.float32)
        added = checked_residual("convolution", residual, shape)
        if out.numel():
            address = 0 if added is None else added.data_ptr()
            source: Any = (x.data_ptr(), *found.addresses, address, 0)
            run(plan, source, out.data_ptr(), threads)
        return out

    def planned(self, images: int, size: Sizes, steps: Steps, threads: int) -> PlannedConvolution:
        """Return the plan for one shape of input, with the addresses of the packed weights and biases.

        Parameters
        ----------
        images : int
        size : tuple of three int
        steps : Steps
            Layout of the arrays.
        threads : int
            Largest number of threads.
        """
        fast = not (self.exact or steps.channels_first or self.conv.inputs <= FIRST_CHANNELS)
        bias = self._bias.data_ptr()
        if fast and winograd_pays(self.conv, images, size):
            weights = self._packed_by("winograd", pack_winograd)
            return PlannedConvolution(
                winograd_plan(self.conv, images, size, steps, threads), (weights, bias)
            )
        weights = self._packed_by("direct", pack_dense)
        return PlannedConvolution(
            dense_plan(self.conv, images, size, steps, threads), (weights, bias)
        )

    def _packed_by(self, name: str, pack: Callable[..., Tensor]) -> int:
        """Return the address of the weights, packed for one of the two kernels."""
        held: Tensor = self._packed.get_or_build(
            name, lambda: pack(self._weight, self._panels, self._lanes)
        )
        return held.data_ptr()

    def plan_for(self, shape: Sequence[int], first: bool, threads: int) -> PlannedConvolution:
        """Return the plan for a shape of input, with its channels first or last."""
        size = three(shape[2:], 1)
        if min(self.conv.sizes(size)) < 1:
            raise ArgumentError(
                f"convolution: the kernel is larger than the padded input; got an input of shape "
                f"{tuple(shape)} and weights of shape {tuple(self._weight.shape)}"
            )
        return self.planned(max(1, shape[0]), size, Steps(channels_first=first), threads)


def pack_dense_bias(bias: Tensor | None, panels: Sequence[Panel], lanes: int) -> Tensor:
    """Pack biases, or zeros, as the panels are packed."""
    flat = (
        torch.zeros(panels[-1].output + panels[-1].width) if bias is None else bias.detach().float()
    )
    return pack_panels(flat[None], panels, lanes)
