"""ElementwisePlan: sums, products, scale and shift, and activations of arrays of any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separable.errors import ArgumentError
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import ACTIVATIONS, clamp_limits
from separable.nn.fused.openmp import run

__all__ = ["OPERATIONS", "SCALAR_VALUES", "Elementwise", "ElementwisePlan", "pack_scalar"]

OPERATIONS = ("copy", "add", "sub", "mul", "div", "scale", "prelu")
"""a, a + b, a - b, a * b, a / b, a * b + c, and a * b where a < 0 but a elsewhere (leaky ReLU and PReLU)."""
ROW_VALUES, SCALAR_VALUES = 4096, 1024
"""Values of a row into which dense arrays are divided; of one whose second array repeats a scalar."""
GROUP_VALUES = 1 << 16
"""Values of a work item of a large array."""
THREAD_VALUES = 1 << 14
"""Values that justify one more thread, without an activation that takes long."""


@dataclass(frozen=True)
class Elementwise:
    """Sizes of an elementwise step.

    Attributes
    ----------
    images, positions, channels : int
    operation : str
        One of `OPERATIONS`.
    act : int
        Activation after it, as an index into `ACTIVATIONS`.
    repeats : str
        How the second and third array repeat: ``"none"`` (they have the size of the first), ``"channel"`` (one value
        per channel), ``"image"`` (one value per image and channel), or ``"scalar"`` (`pack_scalar`).
    clamp : tuple of two float, or None
        Bounds of the result, in the place of an activation that is a clamp.
    source_step, target_step, other_step : int
        Bytes from a position to the next; 0 for dense arrays. `other_step` counts only if nothing repeats.
    """

    images: int
    positions: int
    channels: int
    operation: str = "copy"
    act: int = 0
    repeats: str = "none"
    source_step: int = 0
    target_step: int = 0
    other_step: int = 0
    clamp: tuple[float, float] | None = None

    @property
    def is_dense(self) -> bool:
        """True if the values of all arrays lie one after the other in memory."""
        steps = (self.source_step, self.target_step, self.other_step)
        flat = all(step in (0, 4 * self.channels) for step in steps)
        return flat and self.repeats in ("none", "scalar")


class ElementwisePlan(KernelPlan):
    """Plan of an elementwise step.

    Arrays of a run: source a; target; the second array b; the third array c (for ``"scale"``).
    """

    def __init__(self, sizes: Elementwise, threads: int) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("ELEMENTWISE"))
        self.scratch_size = 64
        self.function = compiled.address("elementwise_float32")
        s = sizes
        values = s.images * s.positions * s.channels
        if s.repeats == "scalar" and not s.is_dense:
            raise ArgumentError(
                "elementwise: a scalar is combined with dense arrays only; got steps"
            )
        if s.is_dense:
            width = SCALAR_VALUES if s.repeats == "scalar" else ROW_VALUES
            images, rows = 1, -(-values // width)
            last = values - (rows - 1) * width
            steps = [4 * width, 4 * width, 0 if s.repeats == "scalar" else 4 * width]
        else:
            images, rows = (
                (s.images, s.positions) if s.repeats == "image" else (1, s.images * s.positions)
            )
            width = last = s.channels
            given = (s.source_step, s.target_step, s.other_step)
            steps = [step or 4 * width for step in given]
            if s.repeats != "none":
                steps[2] = 0
        group = self._share(images, rows, width, threads, ACTIVATIONS[s.act])
        self._set(
            rows=rows, width=width, last_width=last, group_rows=group, groups=-(-rows // group),
            items=images * -(-rows // group), block_rows=max(1, ROW_VALUES // width),
            source_row=steps[0], target_row=steps[1], other_row=steps[2],
            source_image=steps[0] * rows, target_image=steps[1] * rows,
            other_image=4 * width if s.repeats == "image" else 0,
            operation=OPERATIONS.index(s.operation), act=s.act, scratch_size=self.scratch_size,
            limits=self._add_table(np.array(s.clamp or clamp_limits(s.act), np.float32)),
        )  # fmt: skip

    def _share(self, images: int, rows: int, width: int, threads: int, act: str) -> int:
        """Choose the number of threads, and return the rows of a work item."""
        values = images * rows * width
        work = values * (1 if act in ("none", "relu", "relu6") else 4)
        self.threads = max(1, min(threads, round(work / THREAD_VALUES)))
        # Neighbouring values stay on one thread, in whose cache they are. All threads get as many groups.
        least = 1 if self.threads == 1 else 2
        groups = self.threads * max(least, round(values / GROUP_VALUES / self.threads))
        group = min(rows, max(1, -(-images * rows // groups)))
        self.threads = min(self.threads, images * -(-rows // group))
        return group


elementwise_plan = lru_cache(maxsize=512)(ElementwisePlan)


def pack_scalar(value: float) -> Tensor:
    """Return the second array of a step with ``repeats="scalar"``."""
    return torch.full((SCALAR_VALUES,), value, dtype=torch.float32)


def run_elementwise(
    sizes: Elementwise, x: Tensor, target: Tensor, other: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Run an elementwise step on arrays in memory; return `target`, which may be one of them.

    Only their addresses are used: their sizes are those of `sizes`.
    """
    threads = torch.get_num_threads()
    plan = elementwise_plan(sizes, threads)
    addresses = (0 if t is None else t.data_ptr() for t in (other, shift))
    if sizes.images * sizes.positions * sizes.channels:
        run(plan, (x.data_ptr(), *addresses, 0, 0), target.data_ptr(), threads)
    return target
