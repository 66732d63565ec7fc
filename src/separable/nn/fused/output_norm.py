"""Batch normalisation after the pointwise step, in training: its moments, its result and its sums.

See `compiled/norm_rows.py` for the formulas.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.engine.tensor_memory import like_dense
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import THREAD_CYCLES, clamp_limits, up
from separable.nn.fused.openmp import run

__all__ = [
    "Moments",
    "OutputNorm",
    "combined_moments",
    "normalised",
    "output_moments",
    "output_sums",
    "per_channel",
]

GROUP_BYTES = 64 << 10
"""Bytes of outputs whose sums are formed together."""


class Moments(NamedTuple):
    """Mean and biased variance of each channel."""

    mean: Tensor
    var: Tensor


class OutputNorm(NamedTuple):
    """A normalisation of the output: its parameters, its epsilon, and its activation by its place in `ACTIVATIONS`."""

    gamma: Tensor | None
    beta: Tensor | None
    eps: float
    act: int

    def table(self, moments: Moments) -> Tensor:
        """Return what the kernels read; the last two rows are still 0."""
        outputs = moments.mean.shape[0]
        mean, inverse = moments.mean.double(), (moments.var.double() + self.eps).rsqrt()
        gamma, beta = per_channel(self.gamma, mean, 1.0), per_channel(self.beta, mean, 0.0)
        line = up(outputs, kernels().lanes)
        made = torch.zeros(7, line, dtype=torch.float32, device="cpu")
        rows = (inverse, -mean * inverse, gamma, beta, gamma * inverse)
        made[:5, :outputs] = torch.stack(rows).float()
        return made


def per_channel(t: Tensor | None, like: Tensor, fill: float) -> Tensor:
    """Return a parameter in float64, or `fill` for each channel."""
    return torch.full_like(like, fill) if t is None else t.detach().double()


def combined_moments(sums: Tensor, counts: Tensor) -> Moments:
    """Return the moments of all positions from those of groups.

    Parameters
    ----------
    sums : Tensor, shape (groups, 3, channels)
        A value near the group's mean, and the sums of the differences from it and of their squares.
    counts : Tensor, shape (groups,)
    """
    near, differences, squares = sums.double().unbind(1)
    counts = counts[:, None]
    offsets = differences / counts
    means, count = near + offsets, counts.sum()
    mean = (counts * means).sum(0) / count
    # Chan, Golub and LeVeque (1979): squares about the mean of all, from those about a value near each group's mean.
    apart = (means - mean).square() - offsets.square()
    total = squares.sum(0) + (counts * apart).sum(0)
    return Moments(mean, (total / count).clamp_(min=0.0))


class _RowsPlan(KernelPlan):
    """Plan of a pass over the positions of an output."""

    scratch_size = 64

    def __init__(self, kernel: str, positions: int, outputs: int, act: int) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("LAYER"))
        self.line = up(outputs, compiled.lanes)
        self.group = max(1, min(positions, GROUP_BYTES // (outputs * 4)))
        self.groups = -(-positions // self.group)
        rows = 3 if kernel == "rows_moments" else 2
        self._set(
            outputs=outputs, tiles=positions, group_tiles=self.group, items=self.groups,
            slab_step=rows * self.line * 4, outer_line=self.line, outer_act=act,
            outer_limits=self._add_table(np.array(clamp_limits(act), np.float32)),
        )  # fmt: skip
        self.threads = max(1, min(self.groups, positions * outputs // (4 * THREAD_CYCLES)))
        self.function = compiled.address(kernel)
        fields = list(self._record.dtype.names or ())
        self._at = [fields.index(n) for n in ("source", "target", "gradient", "sums", "outer")]
        counts = np.full(self.groups, self.group, np.float64)
        counts[-1] = positions - (self.groups - 1) * self.group
        self.counts = torch.from_numpy(counts)

    def fill(self, words: NDArray[np.int64], source: Any, target: int, scratch: int) -> None:
        """Write the record of one run; `source` has the addresses of the output, its gradient, sums and table."""
        words[: self._words.size] = self._words
        words[self._at] = source[0], target, *source[1:]


_plan = lru_cache(maxsize=256)(_RowsPlan)


def _run(plan: _RowsPlan, target: int, *tensors: Tensor | None) -> None:
    addresses = tuple(0 if t is None else t.data_ptr() for t in tensors)
    run(plan, addresses, target, torch.get_num_threads())


def _sizes(rows: Tensor) -> tuple[int, int]:
    """Return the numbers of positions and outputs of ``(n, outputs, *space)``."""
    return rows.numel() // rows.shape[1], rows.shape[1]


def output_moments(rows: Tensor) -> Moments:
    """Return the moments of an output ``(n, outputs, *space)`` with its channels last in memory, in float64."""
    plan = _plan("rows_moments", *_sizes(rows), 0)
    sums = torch.empty(plan.groups, 3, plan.line, dtype=torch.float32, device="cpu")
    _run(plan, 0, rows, None, sums, None)
    return combined_moments(sums[:, :, : rows.shape[1]], plan.counts)


def normalised(rows: Tensor, table: Tensor, act: int) -> Tensor:
    """Return the normalised and activated output."""
    out = like_dense(rows, rows.dtype)
    _run(_plan("rows_normalise", *_sizes(rows), act), out.data_ptr(), rows, None, None, table)
    return out


def output_sums(rows: Tensor, gradient: Tensor, table: Tensor, act: int) -> tuple[Tensor, Tensor]:
    """Return the gradients of beta and gamma, and complete the table."""
    plan, (positions, outputs) = _plan("rows_sums", *_sizes(rows), act), _sizes(rows)
    sums = torch.empty(plan.groups, 2, plan.line, dtype=torch.float32, device="cpu")
    _run(plan, 0, rows, gradient, sums, table)
    total = sums[:, :, :outputs].double().sum(0)
    table[5:, :outputs] = (total / positions).float()
    betas, gammas = total.float()
    return betas, gammas
