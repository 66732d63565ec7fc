"""Depthwise convolutions as a pass along y and a pass along x: plans, and the layer with its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from separable.engine.tensor_memory import empty_strided
from separable.errors import ArgumentError
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import PLANS_KEPT, THREAD_CYCLES, clamp_limits, up
from separable.nn.fused.layout_transpose import last_strides, to_first, to_last
from separable.nn.fused.openmp import run
from separable.nn.fused.packed_layer import channels_are_last, check_input
from separable.process_cache import ProcessBound

__all__ = ["PackedSplit", "SplitPlan", "SplitSizes", "places", "split_plan"]

STRIP_BYTES = 512 << 10
"""Largest size of the strips of a box: they stay in the second-level cache."""
MIDDLE_BYTES = 128 << 10
"""Largest size of the middle values of a block of rows; a box of one block may be larger."""
FILL_CYCLES = 4
"""Cycles to copy one vector into a strip, about."""
BLOCK_CYCLES = 14
"""Cycles to begin and to store a block of outputs, about."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class SplitSizes:
    """Sizes of a split depthwise convolution and its input; pairs are in the order (y, x).

    Attributes
    ----------
    images, channels : int
    terms : tuple of int
        Number of terms of each block of channels (a vector): the largest rank of its kernels.
    size, kernel, stride, dilation, before, after : tuple of two int
    acts : tuple of two int
        Activations after the pass along y and at the end, as indices into `ACTIVATIONS`.
    """

    images: int
    channels: int
    terms: tuple[int, ...]
    size: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    after: Pair
    acts: Pair

    @property
    def reach(self) -> Pair:
        """Distance from the first tap to the last along each axis."""
        return self.dilation[0] * (self.kernel[0] - 1), self.dilation[1] * (self.kernel[1] - 1)

    @property
    def out_size(self) -> Pair:
        """Sizes of the output along the spatial axes."""
        y, x = (
            (n + a + b - r - 1) // s + 1
            for n, a, b, r, s in zip(
                self.size, self.before, self.after, self.reach, self.stride, strict=True
            )
        )
        return y, x

    def under(self, blocks: Pair, pixels: int) -> Pair:
        """Return the rows and columns that some blocks of outputs read, also outside the image."""
        y, x = (
            (b * pixels - 1) * s + r + 1
            for b, s, r in zip(blocks, self.stride, self.reach, strict=True)
        )
        return y, x

    def strip(self, blocks: Pair, pixels: int) -> Pair:
        """Return the largest number of rows and columns of a strip for some blocks of outputs."""
        rows, columns = self.under(blocks, pixels)
        return min(rows, self.size[0] + 2 * self.outside(pixels)), min(columns, self.size[1])

    def outside(self, pixels: int) -> int:
        """Return the rows above and below the image that blocks may read."""
        return (pixels - 1) * self.stride[0] + self.dilation[0]


class SplitPlan(KernelPlan):
    """Plan of a split depthwise convolution for one shape of input."""

    def __init__(self, sizes: SplitSizes, threads: int) -> None:
        self._compiled = compiled = kernels()
        super().__init__(compiled.constant("SPLIT"))
        self.sizes = g = sizes
        line = max(1, 16 // compiled.lanes)  # vectors of a cache line
        self._lines = -(-len(g.terms) // line)
        blocks = self._share(threads)
        rows, columns = g.strip(blocks, compiled.pixels)
        # An odd number of vectors, so that the columns of one row do not fall into the same cache sets.
        strip_step = (rows | 1) * compiled.lanes * 4
        middle_row = (g.under(blocks, compiled.pixels)[1] | 1) * compiled.lanes * 4
        middle_term = compiled.pixels * middle_row
        at_middle = up(line * columns * strip_step, 64)
        self.scratch_size = up(at_middle + max(g.terms) * middle_term, 64) + 64
        boxes = [-(-n // (b * compiled.pixels)) for n, b in zip(g.out_size, blocks, strict=True)]
        items = g.images * boxes[0] * boxes[1] * self._lines
        total = sum(g.terms)
        self._set(
            scratch_size=self.scratch_size, items=items, lines=self._lines,
            terms=self._add_table(np.cumsum([0, *g.terms]).astype(np.int64)),
            column_bias=total * g.kernel[0] * compiled.lanes * 4,
            row_bias=total * g.kernel[1] * compiled.lanes * 4, channels=g.channels,
            source_step=g.channels * 4, target_step=g.channels * 4, strip_step=strip_step,
            strip_size=columns * strip_step, middle_row=middle_row, middle_term=middle_term,
            middle_act=g.acts[0], act=g.acts[1], at_middle=at_middle,
            outside=g.outside(compiled.pixels),
        )  # fmt: skip
        near = [s if s <= 2 and d == 1 else 0 for s, d in zip(g.stride, g.dilation, strict=True)]
        for name, values in (
            ("size", g.size), ("out", g.out_size), ("taps", g.kernel), ("stride", g.stride),
            ("dilation", g.dilation), ("before", g.before), ("near", near), ("boxes", boxes),
            ("box", [b * compiled.pixels for b in blocks]),
        ):  # fmt: skip
            self._set(**{f"{name}_y": values[0], f"{name}_x": values[1]})
        limits = [n for act in g.acts for n in clamp_limits(act)]
        self._set(limits=self._add_table(np.array(limits, np.float32)))
        self.threads = min(self.threads, max(1, items))
        self.function = compiled.address("split_depthwise")

    def _share(self, threads: int) -> Pair:
        """Choose the blocks of rows and columns of a box by the shortest predicted time."""
        g, pixels, lanes = self.sizes, self._compiled.pixels, self._compiled.lanes
        most = tuple(max(1, -(-n // pixels)) for n in g.out_size)
        terms = sum(g.terms) / max(1, len(g.terms))
        line = len(g.terms) / self._lines  # vectors per cache line of channels
        best, chosen, self.threads = math.inf, (1, 1), 1
        for blocks in [(y, x) for y in range(1, most[0] + 1) for x in range(1, most[1] + 1)]:
            rows, columns = g.strip(blocks, pixels)
            fits = columns * (rows | 1) * 64 <= STRIP_BYTES
            middle = max(g.terms) * pixels * g.under(blocks, pixels)[1] * lanes * 4
            if blocks != (1, 1) and (not fits or middle > MIDDLE_BYTES):
                continue
            down = blocks[0] * columns * terms * (pixels * g.kernel[0] + BLOCK_CYCLES)
            across = blocks[0] * pixels * blocks[1] * terms * (pixels * g.kernel[1] + BLOCK_CYCLES)
            each = line * (rows * columns * FILL_CYCLES + down + across) + 300
            boxes = math.prod(-(-n // b) for n, b in zip(most, blocks, strict=True))
            items = g.images * boxes * self._lines
            crew = max(1, min(threads, round(items * each / THREAD_CYCLES)))
            time = -(-items // crew) * each
            if time < best:
                best, chosen, self.threads = time, blocks, crew
        return chosen


@lru_cache(maxsize=PLANS_KEPT)
def split_plan(sizes: SplitSizes, threads: int) -> SplitPlan:
    """Return the plan of a split depthwise convolution, which is created once."""
    return SplitPlan(sizes, threads)


class PackedSplit(ProcessBound):
    """Two depthwise steps that filter along y and along x, with packed weights, for float32.

    Parameters
    ----------
    columns, rows : Tensor, shape (terms, taps)
        Taps along y and along x.
    column_bias : Tensor or None, shape (terms,)
    bias : Tensor or None, shape (channels,)
    channel_of_term : ndarray of int
        The channel of each term, in ascending order.
    channels : int
    window : sequence of three pairs of pairs
        Stride (y, x), padding ((before, after) of y, of x), dilation (y, x).
    acts : tuple of two int
        Activations after the pass along y and at the end.
    """

    def __init__(
        self, columns: Tensor, rows: Tensor, column_bias: Tensor | None, bias: Tensor | None,
        channel_of_term: NDArray[np.intp], channels: int,
        window: tuple[Pair, tuple[Pair, Pair], Pair], acts: Pair,
    ) -> None:  # fmt: skip
        self.channels, self._window, self._acts = channels, window, acts
        self._kernel = columns.shape[1], rows.shape[1]
        lanes = kernels().lanes
        lane_terms, self._terms = places(channel_of_term, channels, lanes)
        zeros = torch.zeros(channels, dtype=torch.float32)
        final = zeros if bias is None else bias.detach().float()
        final = functional.pad(final, (0, -channels % lanes))
        nothing = torch.zeros(columns.shape[0], 1)
        start = nothing if column_bias is None else column_bias.detach().float()[:, None]
        self._held = [
            torch.cat([_pack_terms(columns, lane_terms), _pack_terms(start, lane_terms)]),
            torch.cat([_pack_terms(rows, lane_terms), final]),
        ]
        self.addresses = (*(t.data_ptr() for t in self._held), 0, 0)

    def sizes(self, shape: Sequence[int]) -> SplitSizes:
        """Return the sizes of the layer for a shape of input."""
        stride, ((top, bottom), (left, right)), dilation = self._window
        return SplitSizes(
            shape[0], self.channels, self._terms, (shape[2], shape[3]), self._kernel, stride,
            dilation, (top, left), (bottom, right), self._acts,
        )  # fmt: skip

    def __call__(self, x: Tensor) -> Tensor:
        """Run the layer on a batch; the output has the layout of the input."""
        check_input("split depthwise", x, (self.channels, 1, *self._kernel), self.channels)
        sizes, threads = self.sizes(x.shape), torch.get_num_threads()
        if min(sizes.out_size) < 1:
            raise ArgumentError(
                f"split depthwise: the kernel is larger than the padded input; got an input of shape "
                f"{tuple(x.shape)} and a kernel of {self._kernel}"
            )
        last = x.stride() == last_strides(x.shape)
        given, x = x, x if last else to_last(x)
        shape = (x.shape[0], self.channels, *sizes.out_size)
        out = empty_strided(shape, last_strides(shape), torch.float32)
        if out.numel():
            source = (x.data_ptr(), *self.addresses)
            run(split_plan(sizes, threads), source, out.data_ptr(), threads)
        return out if last or channels_are_last(given) else to_first(out)


def places(
    channel_of_term: NDArray[np.intp], channels: int, lanes: int
) -> tuple[NDArray[np.intp], tuple[int, ...]]:
    """Return which term stands in each lane of each packed term, -1 for none; and the terms per block.

    Each block of `lanes` channels has as many packed terms as its largest rank, so channels of smaller rank
    are filled with zeros, and no channel is gathered when the layer runs.
    """
    ranks = np.bincount(channel_of_term, minlength=channels)
    starts = np.concatenate([[0], np.cumsum(ranks)])[:-1]
    made, terms = [], []
    for begun in range(0, channels, lanes):
        block = slice(begun, min(begun + lanes, channels))
        count = int(ranks[block].max())
        place = np.full((count, lanes), -1)
        order = np.arange(count)[:, None]
        inside = order < ranks[block]
        place[:, : inside.shape[1]] = np.where(inside, starts[block] + order, -1)
        made.append(place)
        terms.append(count)
    return np.concatenate(made), tuple(terms)


def _pack_terms(weights: Tensor, places: NDArray[np.intp]) -> Tensor:
    """Return weights ``(terms, taps)`` as ``[packed term][tap][lane]``, zeros where there is no term."""
    padded = torch.cat([weights.detach().float(), torch.zeros(1, weights.shape[1])])
    return padded[torch.from_numpy(places)].transpose(1, 2).flatten()
