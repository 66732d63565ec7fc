"""Inverted residuals (expand, depthwise, project) as one step: plans, and the layer with its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from separable.engine.tensor_memory import empty_strided
from separable.errors import ArgumentError
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import (
    MIDDLE_BYTES,
    PLANS_KEPT,
    THREAD_CYCLES,
    Geometry,
    clamp_limits,
    pointwise_plan,
    up,
)
from separable.nn.fused.layout_transpose import last_strides, to_first, to_last
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import (
    channels_are_last,
    check_input,
    pack_bias,
    pack_depthwise,
    pack_depthwise_bias,
    pack_pointwise,
)
from separable.process_cache import ProcessBound

__all__ = ["InvertedPlan", "InvertedSizes", "PackedInverted", "inverted_plan", "serves"]

RING_BYTES = 448 << 10
"""Largest ring of expanded rows: with the middle values it has to stay in the second-level cache."""
CHUNK_POSITIONS = 56
"""Positions of a chunk, if the rings keep their rows: enough for the blocks of the project step."""
STORE_CYCLES = 6
"""Cycles to begin and to store one vector of expanded values, about."""
STORED_CYCLES = 0.06
"""Cycles per byte of middle values that leave the caches of a core and are read again by the next step."""
SURE_GAIN = 1.15
"""Ratio of predicted times up to which all three steps run as one: predictions are not more exact than that."""
BARRIER_CYCLES = 6_000
"""Cycles between the last work item of a step and the first of the next."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class InvertedSizes:
    """Sizes of an inverted residual and its input; pairs are in the order (y, x).

    Attributes
    ----------
    images, channels, depth : int
        Number of images, of input channels and of expanded channels.
    outputs : int
        Output channels; 0 if there is no project step, so that the middle values are the output.
    size, kernel, stride, dilation, before, after : tuple of two int
        Of the input and of the depthwise step.
    acts : tuple of three int
        Activations after the three steps, as indices into `ACTIVATIONS`.
    has_residual : bool
        Whether an array is added to the output.
    """

    images: int
    channels: int
    depth: int
    outputs: int
    size: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    after: Pair
    acts: tuple[int, int, int]
    has_residual: bool = False

    @property
    def out_size(self) -> Pair:
        """Sizes of the output along the spatial axes."""
        y, x = (
            (n + a + b - d * (k - 1) - 1) // s + 1
            for n, a, b, d, k, s in zip(
                self.size, self.before, self.after, self.dilation, self.kernel, self.stride,
                strict=True,
            )
        )  # fmt: skip
        return y, x


def serves(sizes: InvertedSizes) -> bool:
    """Return True if the kernels take these sizes: the ring and one row of middle values stay in the cache."""
    if min(sizes.out_size) < 1 or min(sizes.size) < 1:
        return False
    ring = _ring(sizes)
    row = sizes.out_size[1] * _middle_step(sizes.depth) if sizes.outputs else 0
    return ring.slots * ring.slot_step <= RING_BYTES and row <= MIDDLE_BYTES


@dataclass(frozen=True)
class _Ring:
    slots: int
    slot_columns: int
    slot_step: int


def _ring(g: InvertedSizes) -> _Ring:
    """Return the sizes of the ring of expanded rows."""
    compiled = kernels()
    reach = g.dilation[1] * (g.kernel[1] - 1)
    tiles = -(
        -g.out_size[1] // compiled.pixels
    )  # the last tile also reads columns for missing outputs
    columns = (tiles * compiled.pixels - 1) * g.stride[1] + reach + 1
    columns = max(columns, g.before[1] + g.size[1])
    # An odd number of cache lines, so that the rows of one column do not fall into the same cache sets.
    step = (up(columns * compiled.panel * 4, 64) // 64 | 1) * 64
    return _Ring(g.dilation[0] * (g.kernel[0] - 1) + 1, columns, step)


def _middle_step(depth: int) -> int:
    """Return the bytes from a position of the middle values to the next: an odd number of cache lines."""
    return (up(depth, kernels().lanes) * 4 // 64 + 1 | 1) * 64


class InvertedPlan(KernelPlan):
    """Plan of an inverted residual, or of its expand and depthwise steps alone, for one shape of input.

    Attributes
    ----------
    cycles : float
        Predicted cycles of the step on these threads.
    """

    def __init__(self, sizes: InvertedSizes, threads: int) -> None:
        self._compiled = compiled = kernels()
        super().__init__(compiled.constant("INVERTED"))
        self.sizes = g = sizes
        ring, out = _ring(g), g.out_size
        middle_step = _middle_step(g.depth)
        kind = 3
        if g.dilation[1] == 1 and g.stride[1] <= 2:
            kind = g.stride[1] - 1
        self._set(
            panels=-(-g.depth // compiled.panel), out_panels=-(-g.outputs // compiled.panel),
            channels=g.channels, depth=g.depth, outputs=g.outputs, row_kind=kind,
            source_step=g.channels * 4, target_step=(g.outputs or g.depth) * 4,
            residual_step=g.outputs * 4, middle_step=middle_step, slots=ring.slots,
            slot_step=ring.slot_step, slot_columns=ring.slot_columns, expand_act=g.acts[0],
            depthwise_act=g.acts[1], project_act=g.acts[2],
        )  # fmt: skip
        for name, values in (
            ("size", g.size), ("out", out), ("taps", g.kernel), ("stride", g.stride),
            ("dilation", g.dilation), ("before", g.before),
        ):  # fmt: skip
            self._set(**{f"{name}_y": values[0], f"{name}_x": values[1]})
        limits = [n for act in g.acts for n in clamp_limits(act)]
        self._set(limits=self._add_table(np.array(limits, np.float32)))
        bias = bias_offsets(g)
        self._set(expand_bias=bias[0], depthwise_bias=bias[1], project_bias=bias[2])
        panels, ring_step = -(-g.depth // compiled.panel), ring.slots * ring.slot_step + 64
        self._keeps_rows = bool(g.outputs) and panels * ring_step <= RING_BYTES
        self._chunk = max(1, MIDDLE_BYTES // (out[1] * middle_step))
        if self._keeps_rows:
            self._chunk = max(1, min(self._chunk, CHUNK_POSITIONS // out[1]))
        bands, shares = self._share(threads)
        rings = panels if self._keeps_rows else 1
        rows = min(self._chunk, -(-out[0] // bands))
        at_middle = rings * ring_step
        middle = rows * out[1] * middle_step if g.outputs else 0
        self._set(
            items=g.images * bands * shares,
            bands=bands,
            shares=shares,
            at_middle=at_middle,
            at_spill=at_middle + middle,
            rings=rings,
            ring_step=ring_step if rings > 1 else 0,
            chunk_rows=rows,
        )
        self.scratch_size = up(at_middle + middle + 8 * compiled.panel * 4, 64)
        self._set(scratch_size=self.scratch_size)
        self.function = compiled.address("inverted_residual" if g.outputs else "expand_depthwise")

    def _share(self, threads: int) -> Pair:
        """Choose the number of bands and of shares of the panels by the shortest predicted time."""
        g, lanes = self.sizes, self._compiled.lanes
        out, reach = g.out_size, g.dilation[0] * (g.kernel[0] - 1)
        vectors = -(-g.depth // lanes)
        expand = g.size[1] * vectors * (g.channels + STORE_CYCLES)
        tiles = -(-out[1] // self._compiled.pixels) * self._compiled.pixels
        depthwise = tiles * vectors * (math.prod(g.kernel) * 1.2 + 4)
        project = out[1] * g.depth * -(-g.outputs // lanes)
        total = g.images * (g.size[0] * expand + out[0] * (depthwise + project))
        self.threads = max(1, min(threads, round(total / THREAD_CYCLES)))
        panels = -(-g.depth // self._compiled.panel)
        best, chosen = math.inf, (1, 1)
        for bands in range(1, out[0] + 1):
            rows = -(-out[0] // bands)
            if g.outputs and not self._keeps_rows and rows > self._chunk:
                continue
            # The first and the last band need no rows beyond the image.
            inner = rows * g.stride[0] + max(0, reach + 1 - g.stride[0])
            read = min(g.size[0], inner - (g.before[0] if bands <= 2 else 0))
            for shares in {1, *range(self.threads, min(panels, 4 * self.threads) + 1)}:
                if shares > panels or (g.outputs and shares > 1):
                    continue
                part = -(-panels // shares) / panels
                each = part * (read * expand + rows * depthwise) + rows * project + 600
                time = -(-g.images * bands * shares // self.threads) * each
                if time < best:
                    best, chosen = time, (bands, shares)
        self.cycles = best
        self.threads = max(1, min(self.threads, g.images * chosen[0] * chosen[1]))
        return chosen


def bias_offsets(g: InvertedSizes) -> tuple[int, int, int]:
    """Return the bytes from the weights of each step to its biases, as `pack_inverted` lays them out."""
    lanes = kernels().lanes
    depth, outputs = up(g.depth, lanes), up(g.outputs, lanes)
    return g.channels * depth * 4, depth * math.prod(g.kernel) * 4, g.depth * outputs * 4


@lru_cache(maxsize=PLANS_KEPT)
def inverted_plan(sizes: InvertedSizes, threads: int) -> InvertedPlan:
    """Return the plan of an inverted residual, which is created once."""
    return InvertedPlan(sizes, threads)


def pays(sizes: InvertedSizes, threads: int) -> bool:
    """Return True if all three steps as one are predicted to be faster than the project step on its own.

    Measured on Zen 4 with memory kept, MobileNetV2's blocks: beside a pointwise step and a fused pair, one step is 1.05
    to 1.11 times as fast for stride 2 at 112^2 and 56^2, and 0.95 to 1.02 times elsewhere, where both run near the
    rate of the multiply-adds. It saves the memory of the expanded values everywhere. Where it does not pay, a
    pointwise step and a fused pair are the faster two (7^2 on two threads: 190 us, 201 as one, 205 as here).

    A pointwise and a depthwise step (without a project step) are always faster as one: two took 1.05 to 1.34 times
    as long, for 64 to 512 channels at 14^2 to 56^2.

    As one step, neighbouring bands compute the rows between them twice. With the project step on its own, the
    middle values go through memory, and the threads wait for each other once more.
    """
    if not sizes.outputs:
        return True
    whole = inverted_plan(sizes, threads)
    first = inverted_plan(replace(sizes, outputs=0, has_residual=False), threads)
    positions = sizes.images * math.prod(sizes.out_size)
    vectors = -(-sizes.outputs // kernels().lanes)
    project = positions * sizes.depth * vectors / first.threads
    moved = positions * sizes.depth * 4 * STORED_CYCLES / first.threads
    return whole.cycles <= SURE_GAIN * (first.cycles + project + moved + BARRIER_CYCLES)


def _pairs(values: Sequence[int]) -> list[Pair]:
    """Return numbers two by two."""
    return list(zip(values[0::2], values[1::2], strict=True))


Weights = tuple[Tensor, Tensor | None]
"""Weights of one convolution, and its biases."""


def pack_inverted(expand: Weights, depthwise: Weights, project: Weights | None) -> list[Tensor]:
    """Return one array per step in the order in which the kernels read it: weights, then biases."""
    compiled = kernels()
    panel, lanes = compiled.panel, compiled.lanes
    depth, channels = expand[0].shape[:2]
    made = [
        torch.cat([
            pack_pointwise(expand[0], channels, panel, lanes), pack_bias(expand[1], depth, panel)
        ]),
        torch.cat([
            pack_depthwise(depthwise[0], depth, lanes).flatten(),
            pack_depthwise_bias(depthwise[1], depth, depth, lanes).flatten(),
        ]),
    ]  # fmt: skip
    if project is not None:
        packed = pack_pointwise(project[0], depth, panel, lanes)
        made.append(torch.cat([packed, pack_bias(project[1], project[0].shape[0], panel)]))
    return made


class PackedInverted(ProcessBound):
    """Inverted residual, or a pointwise step followed by a depthwise one, with packed weights, for float32.

    Parameters
    ----------
    expand, depthwise, project : tuple of Tensor
        Weights ``(depth, channels, 1, 1)``, ``(depth, 1, y, x)`` and ``(outputs, depth, 1, 1)``, each with biases
        or None. Without `project` the result of the depthwise step is the output.
    acts : tuple of three int
        Activations after the three steps, as indices into `ACTIVATIONS`.
    window : tuple of (stride, padding, dilation)
        Of the depthwise step; padding before and after each axis.
    """

    def __init__(
        self, expand: Weights, depthwise: Weights, project: Weights | None, acts: tuple[int, int, int],
        window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    ) -> None:  # fmt: skip
        self.depth, self.channels = expand[0].shape[:2]
        self.outputs = 0 if project is None else project[0].shape[0]
        (self._kernel,), self._acts, self._window = _pairs(depthwise[0].shape[2:]), acts, window
        self._held = pack_inverted(expand, depthwise, project)
        addresses = [t.data_ptr() for t in self._held]
        self._addresses = (*addresses, 0)[:3]

    def sizes(self, shape: Sequence[int], *, has_residual: bool) -> InvertedSizes:
        """Return the sizes of the layer for a shape of input."""
        stride, padding, dilation = (_pairs(v) for v in self._window)
        return InvertedSizes(
            shape[0], self.channels, self.depth, self.outputs, (shape[2], shape[3]), self._kernel,
            stride[0], dilation[0], (padding[0][0], padding[1][0]), (padding[0][1], padding[1][1]),
            self._acts, has_residual,
        )  # fmt: skip

    def planned(self, sizes: InvertedSizes, threads: int) -> tuple[InvertedPlan, tuple[int, ...]]:
        """Return the plan of all three steps as one, and the addresses of the weights."""
        return inverted_plan(sizes, threads), self._addresses

    def __call__(
        self, x: Tensor, residual: Tensor | None = None, *, as_one: bool | None = None
    ) -> Tensor:
        """Run the layer on a batch; the output has the layout of the input.

        Parameters
        ----------
        x, residual : Tensor
            Input, and what is added to the output.
        as_one : bool, optional
            Whether all three steps run as one; if not given, as predicted by `pays`.
        """
        check_input("inverted residual", x, (self.depth, self.channels), self.channels)
        threads = torch.get_num_threads()
        sizes = self.sizes(x.shape, has_residual=residual is not None)
        last = x.stride() == last_strides(x.shape)
        given, x = x, x if last else to_last(x)
        shape = (x.shape[0], self.outputs or self.depth, *sizes.out_size)
        out = empty_strided(shape, last_strides(shape), torch.float32)
        if residual is not None and (residual.shape != out.shape or not self.outputs):
            raise ArgumentError(
                f"inverted residual: expected a residual of the shape of the output, and a project step; got "
                f"{tuple(residual.shape)} for an output of {tuple(out.shape)}"
            )
        other = None if residual is None else to_last(residual)
        if as_one is None or not self.outputs:
            as_one = pays(sizes, threads)
        if out.numel():
            if as_one:
                address = 0 if other is None else other.data_ptr()
                source: Any = (x.data_ptr(), *self._addresses, address)
                run(inverted_plan(sizes, threads), source, out.data_ptr(), threads)
            else:
                self._run_two(x, out, sizes, threads)
                out = out if other is None else out.add_(other)
        return out if last or channels_are_last(given) else to_first(out)

    def _run_two(self, x: Tensor, out: Tensor, sizes: InvertedSizes, threads: int) -> None:
        """Run the expand and depthwise steps as one, then the project step."""
        shape = (x.shape[0], self.depth, *sizes.out_size)
        middle = empty_strided(shape, last_strides(shape), torch.float32)
        first = inverted_plan(replace(sizes, outputs=0, has_residual=False), threads)
        source: Any = (x.data_ptr(), *self._addresses[:2], 0, 0)
        run(first, source, middle.data_ptr(), threads)
        positions, ones = shape[0] * math.prod(sizes.out_size), (1, 1, 1)
        geometry = Geometry(
            1, self.depth, (1, 1, positions), ones, ones, ones, (0, 0, 0), (0, 0, 0), 1,
            self.outputs, 0, self._acts[2],
        )  # fmt: skip
        project = self._addresses[2]
        source = (middle.data_ptr(), 0, 0, project, project + bias_offsets(sizes)[2])
        run(pointwise_plan(geometry, threads), source, out.data_ptr(), threads)
