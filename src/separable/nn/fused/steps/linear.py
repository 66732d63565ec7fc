"""Linear layers: a matrix product for any number of rows, and the two layers of squeeze-and-excitation.

For few rows the pointwise kernel reads each weight once, and its panels of outputs are shared between the threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import (
    Geometry,
    PointwisePlan,
    clamp_limits,
    pointwise_plan,
    up,
)
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import check_input, pack_bias, pack_pointwise
from separable.process_cache import ProcessBound

__all__ = [
    "Excitation",
    "ExcitationPlan",
    "PackedLinear",
    "linear_plan",
    "pack_linear",
    "run_excitation",
]


def linear_plan(rows: int, inputs: int, outputs: int, act: int, threads: int) -> PointwisePlan:
    """Return the plan of a linear layer on dense rows ``[row][input]``.

    Arrays of a run: source; target; two unused ones; weights and biases of `pack_linear`.
    """
    one, none = (1, 1, 1), (0, 0, 0)
    geometry = Geometry(
        1, inputs, (1, 1, rows), one, one, one, none, none, 1, outputs, 0, act,
    )  # fmt: skip
    return pointwise_plan(geometry, threads)


def pack_linear(
    weight: Tensor, bias: Tensor | None, space: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Return weights and biases of a linear layer, in the order in which the kernel reads them.

    Parameters
    ----------
    weight : Tensor, shape (outputs, inputs)
    bias : Tensor or None
    space : sequence of int
        Sizes of the image whose flattened values the layer takes. PyTorch flattens with the channels first; the columns
        of the weights are ordered for an image with its channels last.
    """
    outputs, inputs = weight.shape
    if len(space):
        columns = weight.detach().reshape(outputs, -1, int(np.prod(space)))
        weight = columns.transpose(1, 2).reshape(outputs, inputs)
    compiled = kernels()
    packed = pack_pointwise(weight, inputs, compiled.panel, compiled.lanes)
    return packed, pack_bias(bias, outputs, compiled.panel)


class PackedLinear(ProcessBound):
    """Linear layer with packed weights, for float32.

    Parameters
    ----------
    weight : Tensor, shape (outputs, inputs)
    bias : Tensor or None
    act : int
        The activation after it, by its place in `ACTIVATIONS`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, act: int = 0) -> None:
        self.outputs, self.inputs = weight.shape
        self._act = act
        self.packed = pack_linear(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Run the layer on the last axis of a tensor."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        if x.shape[-1] != self.inputs:
            check_input("linear", rows, (self.outputs, self.inputs), self.inputs)
        out = torch.empty(*x.shape[:-1], self.outputs)
        if out.numel():
            threads = torch.get_num_threads()
            plan = linear_plan(rows.shape[0], self.inputs, self.outputs, self._act, threads)
            addresses = (t.data_ptr() for t in self.packed)
            run(plan, (rows.data_ptr(), 0, 0, *addresses), out.data_ptr(), threads)
        return out


@dataclass(frozen=True)
class Excitation:
    """Sizes of the factors of squeeze-and-excitation.

    Attributes
    ----------
    images, channels, hidden : int
    acts : tuple of two int
        Activations after the two layers, as indices into `ACTIVATIONS`.
    slabs, divisor : int
        Number of sums per image and channel, and what their sum is divided by: 1 and 1 for means.
    """

    images: int
    channels: int
    hidden: int
    acts: tuple[int, int]
    slabs: int = 1
    divisor: int = 1


class ExcitationPlan(KernelPlan):
    """Plan of the factors of squeeze-and-excitation.

    Arrays of a run: source, sums ``[image][slab][channel]``; target, factors ``[image][channel]``; weights and biases
    of both layers (`pack_linear`).
    """

    def __init__(self, sizes: Excitation, threads: int) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("EXCITATION"))
        self.function = compiled.address("excitation_float32")
        s, panel = sizes, compiled.panel
        at_hidden = up(4 * s.channels, 64)
        at_spill = at_hidden + up(4 * s.hidden, 64)
        self.scratch_size = up(at_spill + 4 * panel, 64)  # blocks of one row
        self.threads = max(1, min(threads, s.images))
        first, second = (self._add_table(np.array(clamp_limits(a), np.float32)) for a in s.acts)
        self._set(
            items=s.images, channels=s.channels, slabs=s.slabs, hidden=s.hidden, outputs=s.channels,
            first_panels=-(-s.hidden // panel), second_panels=-(-s.channels // panel),
            first_act=s.acts[0], second_act=s.acts[1], first_limits=first, second_limits=second,
            divisor=self._add_table(np.array([s.divisor], np.float32)),
            at_hidden=at_hidden, at_spill=at_spill, scratch_size=self.scratch_size,
        )  # fmt: skip


_excitation_plan = lru_cache(maxsize=512)(ExcitationPlan)


def run_excitation(
    sizes: Excitation, sums: Tensor, packed: Sequence[Tensor], target: Tensor
) -> Tensor:
    """Compute the factors of squeeze-and-excitation on arrays in memory; return `target`.

    `packed` has the weights and biases of both layers.
    """
    threads = torch.get_num_threads()
    plan = _excitation_plan(sizes, threads)
    run(plan, (sums.data_ptr(), *(t.data_ptr() for t in packed)), target.data_ptr(), threads)
    return target
