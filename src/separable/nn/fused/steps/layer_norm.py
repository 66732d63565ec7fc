"""Plans of layer normalisation over channels, and of softmax over the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import clamp_limits, up
from separable.nn.fused.openmp import run

__all__ = [
    "LayerNorm",
    "LayerNormPlan",
    "SoftmaxPlan",
    "pack_layer_norm",
    "run_layer_norm",
    "run_softmax",
]

GROUP_VALUES = 1 << 12
"""Fewest values of a work item."""
THREAD_VALUES = 1 << 13
"""Values that justify one more thread."""


@dataclass(frozen=True)
class LayerNorm:
    """Sizes of a layer normalisation: rows, i.e. images times positions, of channels.

    Attributes
    ----------
    rows, channels : int
    eps : float
    act : int
        Activation after it, as an index into `ACTIVATIONS`.
    source_step, target_step : int
        Bytes from a row to the next; 0 for dense arrays.
    """

    rows: int
    channels: int
    eps: float = 1e-5
    act: int = 0
    source_step: int = 0
    target_step: int = 0


class LayerNormPlan(KernelPlan):
    """Plan of a layer normalisation. Arrays of a run: source; target; scale; shift (`pack_layer_norm`)."""

    name = "layer_norm_float32"

    def __init__(self, sizes: LayerNorm, threads: int) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("NORMALISATION"))
        self.scratch_size = 64
        self.function = compiled.address(self.name)
        s, dense = sizes, 4 * sizes.channels
        self.threads = max(1, min(threads, round(s.rows * s.channels / THREAD_VALUES)))
        group = max(1, GROUP_VALUES // s.channels)
        group = min(group, max(1, s.rows // (2 * self.threads)))
        items = -(-s.rows // group)
        self.threads = min(self.threads, max(1, items))
        numbers = np.array([s.eps, s.channels, *clamp_limits(s.act)], np.float32)
        self._set(
            items=items, group_rows=group, rows=s.rows, channels=s.channels, act=s.act,
            source_step=s.source_step or dense, target_step=s.target_step or dense,
            numbers=self._add_table(numbers), scratch_size=self.scratch_size,
        )  # fmt: skip


class SoftmaxPlan(LayerNormPlan):
    """Plan of a softmax of rows. Arrays of a run: source; target."""

    name = "softmax_float32"


_layer_norm_plan = lru_cache(maxsize=512)(LayerNormPlan)
_softmax_plan = lru_cache(maxsize=512)(SoftmaxPlan)


def pack_layer_norm(
    weight: Tensor | None, bias: Tensor | None, channels: int
) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a layer normalisation, as whole vectors."""
    scale = torch.ones(channels) if weight is None else weight.detach().float()
    shift = torch.zeros(channels) if bias is None else bias.detach().float()
    padded = up(channels, kernels().lanes) - channels
    scale, shift = (functional.pad(t.reshape(-1), (0, padded)) for t in (scale, shift))
    return scale.contiguous(), shift.contiguous()


def run_layer_norm(
    sizes: LayerNorm, x: Tensor, packed: tuple[Tensor, Tensor], target: Tensor
) -> Tensor:
    """Run a layer normalisation on arrays in memory; return `target`, which may be `x`."""
    threads = torch.get_num_threads()
    if sizes.rows:
        plan = _layer_norm_plan(sizes, threads)
        addresses = (x.data_ptr(), *(t.data_ptr() for t in packed), 0, 0)
        run(plan, addresses, target.data_ptr(), threads)
    return target


def run_softmax(x: Tensor, target: Tensor) -> Tensor:
    """Run a softmax over the last axis of a dense tensor; return `target`, which may be `x`."""
    threads = torch.get_num_threads()
    if x.numel():
        sizes = LayerNorm(x.numel() // x.shape[-1], x.shape[-1])
        run(_softmax_plan(sizes, threads), (x.data_ptr(), 0, 0, 0, 0), target.data_ptr(), threads)
    return target
