"""Plans of pooling: windows over 1 to 3 axes, adaptive sizes, and averages over all positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.openmp import run

__all__ = [
    "AveragePlan",
    "Pooling",
    "PoolingPlan",
    "Windows",
    "adaptive_windows",
    "average_plans",
    "run_average",
    "run_pooling",
    "sliding_windows",
]

THREAD_VALUES = 1 << 15
"""Values read that justify one more thread."""
SLAB_VALUES = 1 << 15
"""Fewest values of a part of the positions of one image."""


@dataclass(frozen=True)
class Windows:
    """Windows of a pooling along one axis.

    Attributes
    ----------
    size : int
        Input positions along the axis.
    first, count : tuple of int
        First input position of each window inside the input, and the number of positions inside.
    extent : tuple of int
        Number of positions by which a mean is divided.
    dilation : int
        Positions from one of a window to the next.
    """

    size: int
    first: tuple[int, ...]
    count: tuple[int, ...]
    extent: tuple[int, ...]
    dilation: int = 1


def sliding_windows(
    size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1, *,
    ceil_mode: bool = False, count_include_pad: bool = True,
) -> Windows:  # fmt: skip
    """Return the windows of PyTorch's ``max_pool`` and ``avg_pool`` along one axis."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    outputs = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (outputs - 1) * stride >= size + padding:
        outputs -= 1  # the last window must start inside the input or the padding before it
    start = np.arange(outputs) * stride - padding
    stop = np.minimum(start + dilation * (kernel - 1) + 1, size + padding)
    skipped = np.maximum(-(start // dilation), 0)  # taps before the first position
    first = start + skipped * dilation
    count = np.maximum(-((first - np.minimum(stop, size)) // dilation), 0)
    extent = stop - start if count_include_pad else np.maximum(count, 1)
    return Windows(
        size, _numbers(np.minimum(first, size - 1)), _numbers(count), _numbers(extent), dilation
    )


def adaptive_windows(size: int, outputs: int) -> Windows:
    """Return the windows of PyTorch's adaptive pooling along one axis."""
    place = np.arange(outputs)
    first = place * size // outputs
    count = -(-(place + 1) * size // outputs) - first
    return Windows(size, _numbers(first), _numbers(count), _numbers(count))


def _numbers(values: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


@dataclass(frozen=True)
class Pooling:
    """Sizes of a pooling step.

    Attributes
    ----------
    images, channels : int
    windows : tuple of three Windows
        Along z, y and x; axes that a layer does not have hold one position (``sliding_windows(1, 1, 1)``).
    operation : str
        ``"max"`` or ``"mean"``.
    source_step, target_step : int
        Bytes from a position to the next; 0 for dense arrays.
    divisor : int
        What a mean is divided by instead of the size of its window; 0 for that size.
    """

    images: int
    channels: int
    windows: tuple[Windows, Windows, Windows]
    operation: str
    source_step: int = 0
    target_step: int = 0
    divisor: int = 0

    @property
    def out_size(self) -> tuple[int, ...]:
        """Outputs along the three axes."""
        return tuple(len(w.first) for w in self.windows)


class PoolingPlan(KernelPlan):
    """Plan of a pooling step. Arrays of a run: source; target."""

    def __init__(self, sizes: Pooling, threads: int) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("POOLING"))
        self.scratch_size = 64
        self.function = compiled.address("pooling_float32")
        s, out = sizes, sizes.out_size
        step, names = s.source_step or 4 * s.channels, "xyz"
        for name, windows in zip(names, reversed(s.windows), strict=True):
            table = np.stack([np.array(windows.first) * step, windows.count], axis=1)
            self._set(
                **{
                    f"windows_{name}": self._add_table(table.astype(np.int64)),
                    f"tap_{name}": step * windows.dilation,
                    f"out_{name}": len(windows.first),
                }
            )
            step *= windows.size
        extents = [np.array(w.extent) for w in s.windows]
        divisors = np.multiply.outer(np.multiply.outer(*extents[:2]), extents[2])
        if s.divisor:
            divisors[:] = s.divisor
        rows = s.images * out[0] * out[1]
        blocks = -(-s.channels // compiled.lanes)
        taps = (
            max(1, *s.windows[0].count) * max(1, *s.windows[1].count) * max(1, *s.windows[2].count)
        )
        row_values = out[2] * s.channels * taps
        self.threads = max(1, min(threads, round(rows * row_values / THREAD_VALUES)))
        group = max(1, min(rows // (4 * self.threads), THREAD_VALUES // (2 * row_values)))
        groups = -(-rows // group)
        parts = 1 if groups >= 2 * self.threads else min(blocks, -(-2 * self.threads // groups))
        self.threads = min(self.threads, groups * parts)
        self._set(
            items=groups * parts, parts=parts, blocks=blocks, group_rows=group, rows=rows,
            channels=s.channels, image_step=step, target_step=s.target_step or 4 * s.channels,
            divisors=self._add_table(divisors.astype(np.float32)), scratch_size=self.scratch_size,
            operation=("max", "mean").index(s.operation),
        )  # fmt: skip


class AveragePlan(KernelPlan):
    """Plan of means over the positions of each image, or of sums over some of them.

    Arrays of a run: source; target ``[image][slab][channel]``.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        threads: int,
        *,
        slabs: int = 1,
        divisor: int = 1,
        source_step: int = 0,
    ) -> None:
        images, positions, channels = sizes
        compiled = kernels()
        super().__init__(compiled.constant("AVERAGE"))
        self.scratch_size = 64
        self.function = compiled.address("average_float32")
        step = source_step or 4 * channels
        work = images * positions * channels
        self.threads = max(1, min(threads, round(work / THREAD_VALUES)))
        quads = -(-channels // (4 * compiled.lanes))
        parts = max(1, min(quads, -(-4 * self.threads // (images * slabs))))
        if self.threads == 1:
            parts = 1
        self.threads = min(self.threads, images * slabs * parts)
        self._set(
            items=images * slabs * parts, slabs=slabs, parts=parts, positions=positions,
            channels=channels, source_step=step, image_step=step * positions,
            divisor=self._add_table(np.array([divisor], np.float32)),
            scratch_size=self.scratch_size,
        )  # fmt: skip


def average_plans(
    images: int, positions: int, channels: int, threads: int, source_step: int = 0
) -> tuple[AveragePlan, ...]:
    """Return the plans of the means over all positions, ``[image][channel]``: one step or two.

    Of two, the first one stores sums ``[image][slab][channel]``, the source of the second one: where an image has few
    channels and many positions, these are shared between the threads. The number of slabs does not depend on the
    number of threads, so that results do not either.
    """
    slabs = slabs_of(images, positions, channels)
    if slabs == 1:
        sizes = images, positions, channels
        return (AveragePlan(sizes, threads, divisor=positions, source_step=source_step),)
    first = AveragePlan(
        (images, positions, channels), threads, slabs=slabs, source_step=source_step
    )
    return first, AveragePlan((images, slabs, channels), 1, divisor=positions)


def slabs_of(images: int, positions: int, channels: int) -> int:
    """Return the parts into which the positions of each image are divided."""
    del images  # an image is summed in the same way whatever the batch
    if channels > 256:
        return 1
    return max(1, min(16, positions * channels // SLAB_VALUES))


_pooling_plan = lru_cache(maxsize=512)(PoolingPlan)
_average_plans = lru_cache(maxsize=512)(average_plans)


def run_pooling(sizes: Pooling, x: Tensor, target: Tensor) -> Tensor:
    """Run a pooling step on arrays in memory; return `target`."""
    threads = torch.get_num_threads()
    run(_pooling_plan(sizes, threads), (x.data_ptr(), 0, 0, 0, 0), target.data_ptr(), threads)
    return target


def run_average(
    x: Tensor, images: int, positions: int, channels: int, source_step: int = 0
) -> Tensor:
    """Return the means over all positions of each image, ``(images, channels)``."""
    threads = torch.get_num_threads()
    out = torch.empty(images, channels)
    plans = _average_plans(images, positions, channels, threads, source_step)
    middle = torch.empty(images * slabs_of(images, positions, channels) * channels)
    targets = [out] if len(plans) == 1 else [middle, out]
    for plan, target in zip(plans, targets, strict=True):
        run(plan, (x.data_ptr(), 0, 0, 0, 0), target.data_ptr(), threads)
        x = target
    return out
