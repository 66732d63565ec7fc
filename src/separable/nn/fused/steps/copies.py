"""Plans of copies: padding, cropping, upsampling, shuffles of channels and pixels, all by tables of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separable.errors import ArgumentError
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.openmp import run

__all__ = [
    "Copies",
    "CopyPlan",
    "channel_shuffle",
    "padding",
    "pixel_shuffle",
    "pixel_unshuffle",
    "run_copy",
    "upsampling",
]

GROUP_VALUES = 1 << 13
"""Fewest values of a work item."""
THREAD_VALUES = 1 << 14
"""Values that justify one more thread."""


@dataclass(frozen=True)
class Copies:
    """Table of the input that each output is a copy of; offsets count values.

    ``out[image, z, y, x, c]`` is the input ``image * image_values + z[.] + y[.] + x[.] + channels[c]``.

    Attributes
    ----------
    images, image_values : int
        Number of images, and values of an input image.
    source_step : int
        Values from an input position to the next along x.
    z, y, x : tuple of int
        Offset of each output along the axis, -1 where it is the constant `fill`.
    channels : tuple of int
        Offset of each output channel.
    fill : float
    target_step : int
        Bytes from a position of the output to the next; 0 for a dense output.
    """

    images: int
    image_values: int
    source_step: int
    z: tuple[int, ...]
    y: tuple[int, ...]
    x: tuple[int, ...]
    channels: tuple[int, ...]
    fill: float = 0.0
    target_step: int = 0

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output ``(images, z, y, x, channels)``."""
        return (self.images, len(self.z), len(self.y), len(self.x), len(self.channels))


class CopyPlan(KernelPlan):
    """Plan of a copy by tables. Arrays of a run: source; target."""

    def __init__(self, sizes: Copies, threads: int) -> None:
        compiled = kernels()
        super().__init__(compiled.constant("COPIES"))
        self.scratch_size = 64
        self.function = compiled.address("copy_float32")
        s = sizes
        images, deep, tall, wide, channels = s.out_shape
        rows, values = images * deep * tall, wide * channels
        self.threads = max(1, min(threads, round(rows * values / THREAD_VALUES)))
        group = max(1, GROUP_VALUES // max(values, 1), min(rows // (8 * self.threads), 64))
        items = -(-rows // group)
        self.threads = min(self.threads, max(items, 1))
        runs = _runs(s.x, s.source_step)
        plain = s.channels == tuple(range(channels))
        offsets = {
            name: self._add_table(_bytes(table))
            for name, table in (("offsets_z", s.z), ("offsets_y", s.y), ("offsets_c", s.channels))
        }
        half = channels // 2
        turns = tuple(
            c for pair in zip(range(half), range(half, channels), strict=False) for c in pair
        )
        if plain:
            offsets["offsets_c"] = 0
        self._set(
            items=items, group_rows=group, rows=rows, channels=channels, scratch_size=self.scratch_size,
            image_step=4 * s.image_values, source_step=4 * s.source_step,
            target_step=s.target_step or 4 * channels, out_z=deep, out_y=tall, out_x=wide,
            runs=self._add_table(np.array(runs, np.int64)), run_count=len(runs), interleaves=int(s.channels == turns and not plain),
            fill=self._add_table(np.array([s.fill], np.float32)), **offsets,
        )  # fmt: skip


def _bytes(offsets: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return offsets in bytes; -1 stays."""
    table = np.array(offsets, np.int64)
    return np.where(table < 0, -1, 4 * table)


def _runs(offsets: Sequence[int], step: int) -> list[tuple[int, int, int]]:
    """Return runs of neighbours with neighbouring inputs: first output, number, offset in bytes or -1."""
    runs: list[tuple[int, int, int]] = []
    for i, offset in enumerate(offsets):
        if runs:
            first, count, begun = runs[-1]
            outside = begun < 0 and offset < 0
            if outside or (begun >= 0 and offset >= 0 and 4 * offset == begun + 4 * count * step):
                runs[-1] = (first, count + 1, begun)
                continue
        runs.append((i, 1, 4 * offset if offset >= 0 else -1))
    return runs


def _axis(indices: Sequence[int], step: int) -> tuple[int, ...]:
    return tuple(-1 if i < 0 else i * step for i in indices)


def _of_indices(
    images: int,
    size: Sequence[int],
    channels: int,
    indices: Sequence[Sequence[int]],
    fill: float = 0.0,
) -> Copies:
    """Return the copy of whole positions: along each axis the index of each output's input, -1 for `fill`."""
    _, tall, wide = size
    steps = tall * wide * channels, wide * channels, channels
    z, y, x = (_axis(i, step) for i, step in zip(indices, steps, strict=True))
    values = size[0] * steps[0]
    return Copies(images, values, channels, z, y, x, tuple(range(channels)), fill)


def padding(
    images: int, size: Sequence[int], channels: int, ends: Sequence[tuple[int, int]],
    mode: str = "constant", fill: float = 0.0,
) -> Copies:  # fmt: skip
    """Return the padding of three axes, in one of the modes of PyTorch; negative amounts crop.

    Parameters
    ----------
    images, channels : int
    size : sequence of three int
    ends : sequence of three pairs of int
        Positions added before and after each axis.
    mode : str
        ``"constant"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    fill : float
        The value added by ``"constant"``.
    """
    indices = []
    for n, (before, after) in zip(size, ends, strict=True):
        place = np.arange(-before, n + after)
        if mode == "constant":
            place = np.where((place < 0) | (place >= n), -1, place)
        elif mode == "reflect":
            place = np.abs(place)
            place = np.where(place >= n, 2 * (n - 1) - place, place)
        elif mode == "replicate":
            place = np.clip(place, 0, n - 1)
        elif mode == "circular":
            place %= n
        else:
            raise ArgumentError(
                f"`mode` must be constant, reflect, replicate or circular; got {mode!r}"
            )
        indices.append([int(i) for i in place])
    return _of_indices(images, size, channels, indices, fill)


def upsampling(images: int, size: Sequence[int], channels: int, outputs: Sequence[int]) -> Copies:
    """Return the nearest-neighbour interpolation of PyTorch's ``mode="nearest"`` to sizes that are multiples."""
    indices = []
    for n, m in zip(size, outputs, strict=True):
        if m % n:
            raise ArgumentError(
                f"upsampling: expected output sizes that are multiples of the input's; got "
                f"{tuple(outputs)} for {tuple(size)}"
            )
        indices.append([i // (m // n) for i in range(m)])
    return _of_indices(images, size, channels, indices)


def channel_shuffle(images: int, size: Sequence[int], channels: int, groups: int) -> Copies:
    """Return the copy that orders channels ``(groups, each)`` as ``(each, groups)``."""
    each = channels // groups
    z, y, x = (list(range(n)) for n in size)
    plain = _of_indices(images, size, channels, (z, y, x))
    order = tuple(g * each + e for e in range(each) for g in range(groups))
    return Copies(images, plain.image_values, channels, plain.z, plain.y, plain.x, order)


def pixel_shuffle(images: int, size: Sequence[int], channels: int, factor: int) -> Copies:
    """Return PyTorch's ``pixel_shuffle`` of images of one z position, with `channels` input channels."""
    _, tall, wide = size
    r = factor
    y = tuple(i // r * wide * channels + i % r * r for i in range(tall * r))
    x = tuple(i // r * channels + i % r for i in range(wide * r))
    order = tuple(c * r * r for c in range(channels // (r * r)))
    return Copies(images, tall * wide * channels, channels, (0,), y, x, order)


def pixel_unshuffle(images: int, size: Sequence[int], channels: int, factor: int) -> Copies:
    """Return PyTorch's ``pixel_unshuffle`` of images of one z position, with `channels` input channels."""
    _, tall, wide = size
    r, row = factor, wide * channels
    y = tuple(i * r * row for i in range(tall // r))
    x = tuple(i * r * channels for i in range(wide // r))
    order = tuple(
        i * row + j * channels + c for c in range(channels) for i in range(r) for j in range(r)
    )
    return Copies(images, tall * row, r * channels, (0,), y, x, order)


_copy_plan = lru_cache(maxsize=512)(CopyPlan)


def run_copy(sizes: Copies, x: Tensor, target: Tensor) -> Tensor:
    """Run a copy on arrays in memory; return `target`."""
    threads = torch.get_num_threads()
    if target.numel():
        plan = _copy_plan(sizes, threads)
        run(plan, (x.data_ptr(), 0, 0, 0, 0), target.data_ptr(), threads)
    return target
