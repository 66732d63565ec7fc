"""Plans of dense convolutions: boxes of outputs, tables of offsets, sizes of scratch memory.

Every size of scratch memory is fixed here, in one place, because compiled code checks no bounds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from separable.nn.fused.direct_nchw import Convolution
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import THREAD_CYCLES, Sizes, clamp_limits, up

__all__ = [
    "DensePlan",
    "Panel",
    "Steps",
    "clamp_of",
    "dense_plan",
    "pack_dense",
    "pack_panels",
    "panel_table",
    "panels_of",
]

BOX_BYTES = 256 << 10
"""Bound on the copy of the input under a box, which shares the second-level cache with a chunk of weights."""
CHUNK_BYTES = 256 << 10
"""Bound on a chunk of the weights of a panel, unless the whole panel is at most half as large again."""
ITEM_CYCLES = 500
ROW_CYCLES = 20
POSITION_CYCLES = 8
"""Estimated cycles per work item, per copied row, and per output and panel, besides the multiply-adds."""
BOX_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BOXES_TRIED = 32
"""Sizes of boxes that are tried along each axis, besides the axis divided evenly into up to so many boxes."""
PLANS_KEPT = 512


@dataclass(frozen=True)
class Panel:
    """Some output channels of one group that are computed together.

    Attributes
    ----------
    group : int
    output, width : int
        First output channel, and the number of them.
    vectors : int
        Vectors that hold them.
    """

    group: int
    output: int
    width: int
    vectors: int


@dataclass(frozen=True)
class Steps:
    """Layout of the arrays of a convolution in memory.

    Attributes
    ----------
    channels_first : bool
        Whether the input is ``[image][channel][position]``; it is ``[image][position][channel]`` otherwise.
    source, target, residual : int
        Bytes from a position of the input, the output and the residual to the next, which may be more than its
        channels take. 0 for arrays without gaps. `source` is not used if the channels are first.
    """

    channels_first: bool = False
    source: int = 0
    target: int = 0
    residual: int = 0


@dataclass(frozen=True)
class _Boxes:
    """Size of the boxes of a plan, with their memory and time."""

    block: Sizes
    blocks: Sizes
    under: Sizes
    parts: int
    time: float


def panels_of(outputs: int, groups: int, vectors: int, lanes: int) -> tuple[Panel, ...]:
    """Return the panels of a layer: the vectors of each group divided evenly, up to `vectors` each.

    Examples
    --------
    >>> [(p.output, p.width, p.vectors) for p in panels_of(70, 1, 4, 16)]
    [(0, 32, 2), (32, 38, 3)]
    """
    own = outputs // groups
    total = -(-own // lanes)
    count = -(-total // vectors)
    edges = [n * total // count * lanes for n in range(count)] + [own]
    return tuple(
        Panel(g, g * own + low, high - low, -(-(high - low) // lanes))
        for g in range(groups)
        for low, high in itertools.pairwise(edges)
    )


def clamp_of(act: int) -> NDArray[np.float32]:
    """Return the bounds of an activation, infinite if it is not a clamp, and infinite bounds."""
    return np.array([*clamp_limits(act), -math.inf, math.inf], np.float32)


def panel_table(panels: Sequence[Panel], rows: int, lanes: int) -> NDArray[np.int64]:
    """Return a table of panels for the kernels, int64[panel][8].

    Its columns are the bytes before a panel's weights, of which it has `rows` rows, and before its biases; its first
    output, number of vectors and number of outputs; three are left to the caller.
    """
    lines = np.array([panel.vectors * lanes * 4 for panel in panels], np.int64)
    before = np.cumsum(lines) - lines
    table = np.zeros((len(panels), 8), np.int64)
    table[:, 0], table[:, 1] = rows * before, before
    table[:, 2:5] = [(panel.output, panel.vectors, panel.width) for panel in panels]
    return table


def pack_panels(across: Tensor, panels: Sequence[Panel], lanes: int) -> Tensor:
    """Pack a matrix ``(rows, outputs)`` as panels ``[panel][row][output of the panel]``, zeros in free lanes."""
    packed = []
    for panel in panels:
        columns = across[:, panel.output : panel.output + panel.width]
        packed.append(functional.pad(columns, (0, panel.vectors * lanes - panel.width)).reshape(-1))
    return torch.cat(packed)


def pack_dense(weight: Tensor, panels: Sequence[Panel], lanes: int) -> Tensor:
    """Pack weights ``(outputs, channels, *kernel)`` as panels ``[tap][channel][output of the panel]``."""
    outputs, own = weight.shape[:2]
    flat = weight.detach().float().reshape(outputs, own, -1)
    across = flat.permute(2, 1, 0).reshape(-1, outputs)  # (tap and channel, output)
    return pack_panels(across, panels, lanes)


@lru_cache(maxsize=PLANS_KEPT)
def dense_plan(
    conv: Convolution, images: int, size: Sizes, steps: Steps, threads: int
) -> DensePlan:
    """Return the plan of a dense convolution, which is created once."""
    return DensePlan(conv, images, size, steps, threads)


class DensePlan(KernelPlan):
    """Plan of a dense convolution for one shape of input.

    Parameters
    ----------
    conv : Convolution
        Sizes of the layer; a stride along any axis is allowed.
    images : int
    size : tuple of three int
        Sizes of the input.
    steps : Steps
    threads : int
        Largest number of threads.
    """

    def __init__(
        self, conv: Convolution, images: int, size: Sizes, steps: Steps, threads: int
    ) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("DENSE"))
        self.conv, self.out_size = conv, conv.sizes(size)
        self._lanes = compiled.lanes
        self._panels = panels_of(conv.outputs, conv.groups, compiled.vectors, compiled.lanes)
        padded = any(conv.before) or any(conv.after)
        chosen = self._share(images, threads, padded)
        self._input(size, steps, padded, chosen)
        self._output(steps)
        for name, values in (
            ("size", size), ("out", self.out_size), ("block", chosen.block),
            ("blocks", chosen.blocks), ("stride", conv.stride), ("before", conv.before),
            ("reach", conv.reach),
        ):  # fmt: skip
            self._set(**{f"{name}_{axis}": n for axis, n in zip("zyx", values, strict=True)})
        items = images * math.prod(chosen.blocks) * chosen.parts
        self._set(items=items, parts=chosen.parts)
        self.cycles = chosen.time
        self._scratch(chosen)
        self.function = compiled.address("convolve_dense")

    def _scratch(self, chosen: _Boxes) -> None:
        """Lay out the scratch memory of a thread."""
        positions = math.prod(chosen.block)
        tables = up(positions * 8, 64)
        widest = max(p.vectors for p in self._panels) * self._lanes * 4
        sums = up(positions * widest, 64) if self._chunks > 1 else 0
        self._set(
            at_windows=0, at_places=tables, at_sums=2 * tables, at_box=2 * tables + sums,
            order=self._add_table(np.arange(positions, dtype=np.int64)),
        )  # fmt: skip
        self.scratch_size = up(2 * tables + sums + self._box_bytes, 64)
        self._set(scratch_size=self.scratch_size)

    def _input(self, size: Sizes, steps: Steps, padded: bool, chosen: _Boxes) -> None:
        """Describe the input and its copy, and write the table of the products."""
        conv = self.conv
        planes = conv.inputs if steps.channels_first else 1
        column = 4 if steps.channels_first else conv.inputs * 4
        step = 4 if steps.channels_first else steps.source or column
        row, depth = size[2] * step, math.prod(size) * step
        self._set(
            planes=planes, column_bytes=column, column_step=step, row_step=row,
            slice_step=size[1] * row, plane_step=depth, image_step=planes * depth,
            copies=int(padded),
        )  # fmt: skip
        if padded:
            # Odd numbers of cache lines, so that rows do not fall into the same cache sets.
            box_row = up(chosen.under[2] * column, 64)
            box_row += 64 * (box_row // 64 % 2 == 0)
            box = (chosen.under[0] * chosen.under[1] * box_row, chosen.under[1] * box_row, box_row)
            box_column = column
        else:
            box, box_column = (depth, size[1] * row, row), step
        self._box_bytes = planes * box[0] if padded else 0
        self._set(box_plane=box[0], box_slice=box[1], box_row=box[2], box_column=box_column)
        channel = box[0] if steps.channels_first else 4
        far = (box[1], box[2], box_column)
        z, y, x = (
            np.arange(k) * d * f for k, d, f in zip(conv.kernel, conv.dilation, far, strict=True)
        )
        channels = np.arange(conv.inputs // conv.groups) * channel
        offsets = z[:, None, None, None] + y[:, None, None] + x[:, None] + channels
        self._set(offsets=self._add_table(offsets.astype(np.int64).ravel()))
        table = panel_table(self._panels, conv.count, self._lanes)
        groups = [panel.group for panel in self._panels]
        table[:, 5] = np.array(groups) * (conv.inputs // conv.groups) * channel
        self._set(panels=len(self._panels), panel_table=self._add_table(table))

    def _output(self, steps: Steps) -> None:
        """Describe the output and the residual, the activation and the chunks of products."""
        conv = self.conv
        line = max(p.vectors for p in self._panels) * self._lanes * 4
        whole = conv.count * line
        self._chunks = 1 if whole <= 1.5 * CHUNK_BYTES else -(-whole // CHUNK_BYTES)
        edges = np.arange(self._chunks + 1, dtype=np.int64) * conv.count // self._chunks
        self._set(
            act=conv.act, limits=self._add_table(clamp_of(conv.act)), chunks=self._chunks,
            chunk_starts=self._add_table(edges), target_step=steps.target or conv.outputs * 4,
            residual_step=steps.residual or conv.outputs * 4,
        )  # fmt: skip

    def _share(self, images: int, threads: int, padded: bool) -> _Boxes:
        """Choose boxes and parts of the panels by the shortest predicted time."""
        work = images * math.prod(self.out_size) * self._panel_cycles(self._panels)
        self.threads = max(1, min(threads, round(work / THREAD_CYCLES)))
        chosen = min(self._boxes(images, padded), key=lambda b: b.time)
        self.threads = min(self.threads, images * math.prod(chosen.blocks) * chosen.parts)
        return chosen

    def _panel_cycles(self, panels: Sequence[Panel]) -> int:
        """Return the predicted cycles per output position of some panels."""
        return sum(self.conv.count * p.vectors + POSITION_CYCLES for p in panels)

    def _boxes(self, images: int, padded: bool) -> Iterator[_Boxes]:
        """Yield sizes of boxes whose copies fit into the cache, each with its predicted time."""
        conv, out = self.conv, self.out_size
        cycles = self._panel_cycles(self._panels)
        weights = sum(p.vectors for p in self._panels) * self._lanes * 4 * conv.count
        # Weights that do not stay in the second-level cache come from the one behind it, 8 bytes per cycle.
        reading = weights / (8 if weights > CHUNK_BYTES else 32)
        count = len(self._panels)
        shares = {n for n in (1, self.threads, 2 * self.threads, count) if n <= count}
        axes = [
            sorted(
                {n for n in BOX_SIZES if n < total}
                | {-(-total // n) for n in range(1, BOXES_TRIED + 1)}
            )
            for total in out
        ]
        smallest = (1, 1, 1)
        for block_ in itertools.product(*axes):
            block = (block_[0], block_[1], block_[2])
            under = conv.under(block)
            size = math.prod(under) * conv.inputs * 4
            if size > BOX_BYTES and block != smallest:
                continue
            blocks = tuple(-(-n // m) for n, m in zip(out, block, strict=True))
            boxes = images * math.prod(blocks)
            copying = (size / 16 + under[0] * under[1] * ROW_CYCLES) if padded else 0.0
            for parts in shares:
                each = (math.prod(block) * cycles + reading) / parts + copying + ITEM_CYCLES
                # Boxes at the ends are smaller: the mean counts, but the last round is of a whole box.
                mean = each - (math.prod(block) - math.prod(out) * images / boxes) * cycles / parts
                time = (-(-boxes * parts // self.threads) - 1) * mean + each
                yield _Boxes(block, (blocks[0], blocks[1], blocks[2]), under, parts, time)
