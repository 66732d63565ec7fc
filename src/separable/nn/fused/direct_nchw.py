"""Convolutions with channels first: plans of one convolution or two, and the layer with its weights.

For layers with their channels first in memory, and for pairs of convolutions that split the spatial axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from separable.engine.tensor_memory import empty
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import ACTIVATIONS, Sizes, up
from separable.nn.fused.openmp import run
from separable.process_cache import ProcessBound, ProcessCache

__all__ = ["Convolution", "DirectConvolutions"]

BOX_BYTES = 512 << 10
"""Bound on the boxes of one thread: about half of a second-level cache."""
STREAM_BYTES = 24 << 20
"""Results that the last-level cache would not hold for who reads them next bypass it."""
STREAM_COLUMNS = 256
SHAPES_KEPT = 64
ITEM_CYCLES = 600
ROW_CYCLES = 30
RUN_CYCLES = 100
"""What an item of work, a row of a few outputs, and a run of output in memory cost besides, about."""


@dataclass(frozen=True)
class Convolution:
    """Sizes of one convolution over three spatial axes; in a `BoxPlan` the stride along the last axis is 1.

    Attributes
    ----------
    inputs, outputs, groups : int
    kernel, stride, dilation, before, after : tuple of three int
    act : int
        The activation after it, by its place in `ACTIVATIONS`.
    """

    inputs: int
    outputs: int
    groups: int
    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    before: Sizes
    after: Sizes
    act: int

    @property
    def reach(self) -> Sizes:
        """Distance from the first tap to the last along each axis."""
        z, y, x = (d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True))
        return z, y, x

    @property
    def count(self) -> int:
        """Number of products per output."""
        return self.inputs // self.groups * math.prod(self.kernel)

    def sizes(self, size: Sizes) -> Sizes:
        """Return the sizes of the output for an input of the given sizes."""
        z, y, x = (
            (n + a + b - r - 1) // s + 1
            for n, a, b, r, s in zip(
                size, self.before, self.after, self.reach, self.stride, strict=True
            )
        )
        return z, y, x

    def under(self, block: Sizes) -> Sizes:
        """Return the sizes of the input region that a box of outputs needs."""
        z, y, x = (
            (n - 1) * s + r + 1 for n, s, r in zip(block, self.stride, self.reach, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class _Boxes:
    """Size of the boxes of a plan, with their memory and time."""

    block: Sizes
    blocks: Sizes
    parts: int
    a: Sizes
    b: Sizes
    time: float


class BoxPlan(KernelPlan):
    """Plan of one convolution or two for one shape of input."""

    def __init__(
        self, steps: tuple[Convolution, ...], images: int, size: Sizes, threads: int
    ) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("BOXES"))
        lanes = compiled.lanes
        sizes = [size]
        for step in steps:
            sizes.append(step.sizes(sizes[-1]))
        chosen = min(_boxes(steps, images, sizes[-1], threads, lanes), key=lambda b: b.time)
        first, second = steps[0], steps[-1]
        flat = _is_flat(steps, chosen.block, sizes[-1])
        a, b = _steps(chosen.a, lanes), _steps(chosen.b, lanes, flat)
        if len(steps) == 1:
            b = a
        items = images * math.prod(chosen.blocks)
        at_b = up(first.inputs * a[0], 64) + 256
        self.scratch_size = up(
            at_b + (second.inputs // chosen.parts * b[0] + 256) * (len(steps) - 1), 64
        )
        self._set(
            scratch_size=self.scratch_size, items=items, parts=chosen.parts, steps=len(steps), channels=first.inputs,
            act_one=first.act, act_two=second.act, at_b=at_b, flat=flat,
            limits=self._add_table(np.array([*_limits(first.act), *_limits(second.act)], np.float32)),
            a_plane=a[0], a_slice=a[1], a_row=a[2], b_plane=b[0], b_slice=b[1], b_row=b[2],
        )  # fmt: skip
        long = chosen.block[2] * (chosen.block[1] if flat else 1) >= STREAM_COLUMNS
        large = images * second.outputs * math.prod(sizes[-1]) * 4 > STREAM_BYTES
        self._set(
            stream=int(long and large and ACTIVATIONS[second.act] in ("none", "relu", "relu6"))
        )
        self._convolution("one", first, a)
        self._convolution("two", second, b)
        self._axes("size", size)
        self._axes("middle", sizes[1])
        self._axes("out", sizes[-1])
        self._axes("block", chosen.block)
        self._axes("blocks", chosen.blocks)
        self.out_size = sizes[-1]
        self.threads = max(1, min(threads, items * chosen.parts))
        self.function = compiled.address("convolve_boxes")

    def out_shape(self, x: Tensor, steps: Sequence[Convolution]) -> tuple[int, ...]:
        """Return the shape of the result for an input."""
        return (x.shape[0], steps[-1].outputs, *self.out_size[5 - x.dim() :])

    def _convolution(self, name: str, step: Convolution, steps: Sizes) -> None:
        channels = np.arange(step.inputs // step.groups) * steps[0]
        taps = [
            np.arange(k) * d * far
            for k, d, far in zip(step.kernel, step.dilation, (*steps[1:], 4), strict=True)
        ]
        z, y, x = taps
        offsets = (
            channels[:, None, None, None] + z[:, None, None] + y[:, None] + x
        ).ravel()  # in the order of the weights
        self._set(**{
            f"groups_{name}": step.groups, f"rows_{name}": step.outputs // step.groups,
            f"count_{name}": step.count, f"offsets_{name}": self._add_table(offsets.astype(np.int64)),
            f"group_step_{name}": step.inputs // step.groups * steps[0],
        })  # fmt: skip
        self._axes(f"stride_{name}", step.stride)
        self._axes(f"before_{name}", step.before)
        self._axes(f"reach_{name}", step.reach)

    def _axes(self, name: str, values: Sizes) -> None:
        self._set(**{f"{name}_{axis}": n for axis, n in zip("zyx", values, strict=True)})


@lru_cache(maxsize=512)
def _plan(steps: tuple[Convolution, ...], images: int, size: Sizes, threads: int) -> BoxPlan | None:
    """Return the plan, or None if no box is small enough or a kernel is larger than its input."""
    out = size
    for step in steps:
        out = step.sizes(out)
        if min(out) < 1:
            return None
    if not any(True for _ in _boxes(steps, images, out, threads, kernels().lanes)):
        return None
    return BoxPlan(steps, images, size, threads)


def _is_flat(steps: Sequence[Convolution], block: Sizes, out: Sizes) -> bool:
    """Return True if the last step can treat whole rows of a box as one long row."""
    last = steps[-1]
    alone = last.kernel[1:] == (1, 1) and last.stride[1] == 1
    unpadded = last.before[1:] == last.after[1:] == (0, 0)
    return len(steps) == 2 and alone and unpadded and block[2] == out[2]


def _steps(box: Sizes, lanes: int, flat: bool = False) -> Sizes:
    """Return the bytes between planes, slices and rows of a box; if `flat`, rows are contiguous."""
    row = box[2] * 4 if flat else up(box[2] + 2 * lanes, 16) * 4
    plane = up(box[0] * box[1] * row, 64) + (2 * lanes * 4 if flat else 0)
    return (
        plane + 64 * (plane // 64 % 2 == 0),
        box[1] * row,
        row,
    )  # an odd number of cache lines: planes fall into different cache sets


def _limits(act: int) -> tuple[float, float]:
    if ACTIVATIONS[act] in ("relu", "relu6"):
        return 0.0, 6.0 if ACTIVATIONS[act] == "relu6" else math.inf
    return -math.inf, math.inf


def _boxes(
    steps: Sequence[Convolution], images: int, out: Sizes, threads: int, lanes: int
) -> Iterator[_Boxes]:
    """Yield the boxes that fit into the caches, each with its predicted time."""
    first, second = steps[0], steps[-1]
    columns = {n for n in (out[2], 1024, 512, 256, 128, 64) if n <= out[2]}
    rows = {n for n in (out[1], 32, 16, 8, 4, 2, 1) if n <= out[1]}
    slices = {n for n in (out[0], 64, 32, 16, 8, 4, 2, 1) if n <= out[0]}
    shares = [1]
    if len(steps) == 2 and first.groups == 1:
        shares += [n for n in (2, 4, 8, 16) if second.groups % n == 0]
    for block in itertools.product(slices, rows, columns):
        flat = _is_flat(steps, block, out)
        b = second.under(block)
        a = first.under(b) if len(steps) == 2 else b
        blocks = tuple(-(-n // m) for n, m in zip(out, block, strict=True))
        for parts in shares:
            size = first.inputs * _steps(a, lanes)[0]
            if len(steps) == 2:
                size += second.inputs // parts * _steps(b, lanes, flat)[0]
            if size > BOX_BYTES:
                continue
            width = block[2] * (block[1] if flat else 1)
            lines = second.outputs // parts * block[0] * (1 if flat else block[1])
            each = _cycles(second, lines, width, parts, lanes) + lines * RUN_CYCLES
            if len(steps) == 2:
                lines = first.outputs // parts * b[0] * b[1]
                each += _cycles(first, lines, b[2], parts, lanes)
            each += first.inputs * a[0] * a[1] * (a[2] / lanes * 2 + 10) + ITEM_CYCLES
            items = images * math.prod(blocks) * parts
            time = -(-items // max(1, threads)) * each
            yield _Boxes(block, (blocks[0], blocks[1], blocks[2]), parts, a, b, time)


def _cycles(step: Convolution, lines: int, width: int, parts: int, lanes: int) -> float:
    """Return the predicted cycles of some rows of outputs."""
    tall = min(6, max(1, step.outputs // step.groups // (parts if step.groups == 1 else 1)))
    slow = 0.5 + 0.5 / tall  # few outputs per row of input: loads dominate
    return lines * (up(width, lanes) / lanes * (step.count * slow + 2) + ROW_CYCLES / tall)


class DirectConvolutions(ProcessBound):
    """Weights of one convolution or two, for float32 inputs with the channels first.

    Parameters
    ----------
    tensors : sequence of Tensor or None
        Weights and biases of each.
    """

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._held: list[Tensor] = []
        self._plans = ProcessCache(SHAPES_KEPT)
        for weight, bias in zip(tensors[0::2], tensors[1::2], strict=True):
            assert weight is not None
            self._held.append(weight.detach().reshape(weight.shape[0], -1).clone())
            none = torch.zeros(weight.shape[0], dtype=torch.float32)
            self._held.append(none if bias is None else bias.detach().contiguous().clone())
        addresses = [t.data_ptr() for t in self._held]
        self.addresses = (
            *addresses[-2:],
            *addresses[-2:],
        )  # a single convolution is the first and the last
        if len(addresses) == 4:
            self.addresses = tuple(addresses)

    def plan(self, x: Tensor, steps: tuple[Convolution, ...], threads: int) -> BoxPlan | None:
        """Return the plan for a contiguous batch, or None if no box is small enough.

        The same steps belong to the same shape in all calls.
        """
        key = (x.shape, threads)
        plan: BoxPlan | None = self._plans.get(key)
        if plan is None:
            size: Any = (1,) * (5 - x.dim()) + tuple(x.shape[2:])
            plan = self._plans.get_or_build(key, lambda: _plan(steps, x.shape[0], size, threads))
        return plan

    def __call__(self, x: Tensor, steps: tuple[Convolution, ...]) -> Tensor | None:
        """Run on a contiguous batch; return None if no box is small enough."""
        threads = torch.get_num_threads()
        plan = self.plan(x, steps, threads)
        if plan is None:
            return None
        out = empty(plan.out_shape(x, steps))
        if out.numel():
            source: Any = (x.data_ptr(), *self.addresses)
            run(plan, source, out.data_ptr(), threads)
        return out
