"""Geometry of a launch of the fused passes: tile, strides, constants of the compilation and bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from separable.gpu.device_profile import Device
from separable.gpu.kernel_launch import Launch
from separable.gpu.tile_cost import Prediction, predicted
from separable.tensors.device.pass_program import PassProgram, flattened
from separable.tensors.device.pass_tiling import PassShape, PassTile, fitting_tiles, work_of
from separable.tensors.device.tensor_layout import TensorLayout

__all__ = ["MapRun", "PassGeometry", "geometry_of", "straight_run"]

MOST_ARGUMENTS = 512  # weights; a kernel may have 4 KiB of arguments


@dataclass(frozen=True)
class MapRun:
    """Longest straight run of an index map: positions `start` .. `stop` - 1 read the samples at + `shift`."""

    start: int
    stop: int
    shift: int


def straight_run(samples: Any) -> MapRun:
    """Return the longest straight run of an index map.

    Examples
    --------
    >>> straight_run(np.array([1, 0, 0, 1, 2, 2]))
    MapRun(start=2, stop=5, shift=-2)
    """
    samples = np.asarray(samples)
    cuts = np.flatnonzero((np.diff(samples) != 1) | (samples[:-1] < 0)) + 1
    starts, stops = np.r_[0, cuts], np.r_[cuts, len(samples)]
    best = int(np.argmax(np.where(samples[starts] < 0, 0, stops - starts)))
    start, stop = int(starts[best]), int(stops[best])
    if samples[start] < 0:
        return MapRun(0, 0, 0)
    return MapRun(start, stop, int(samples[start]) - start)


@dataclass(frozen=True)
class PassGeometry:
    """Everything about a launch that does not depend on the samples.

    Attributes
    ----------
    image, result : TensorLayout
    shape : PassShape
    tile : PassTile
    program : PassProgram
    run : MapRun
        Straight run of the map along x.
    """

    image: TensorLayout
    result: TensorLayout
    shape: PassShape
    tile: PassTile
    program: PassProgram
    run: MapRun

    @property
    def programs(self) -> int:
        """Number of programs."""
        return self.tile.programs(self.shape)

    @property
    def read_bytes(self) -> int:
        """Bytes of the image, each read from memory once; the halo of a tile comes from the caches."""
        return self.image.size * self.shape.itemsize

    @property
    def written_bytes(self) -> int:
        """Bytes of all outputs."""
        return self.result.size * self.program.bands * self.shape.result

    def predicted(self, device: Device) -> Prediction:
        """Return the predicted time on a device, and what binds it."""
        work = work_of(self.program, self.shape, self.tile, self.read_bytes + self.written_bytes)
        return predicted(device, work)

    def with_tile(self, tile: PassTile) -> PassGeometry:
        """Return the same launch with another tile."""
        return replace(self, tile=tile)

    def allowed(self, tile: PassTile) -> PassTile:
        """Return a tile with one phase if x is not the innermost axis, and one plane if no pass runs along z."""
        phases = tile.phases if self.shape.inner == 1 else 1
        return replace(tile, phases=phases, depth=tile.depth if self.program.taps[1] else 1)

    def numbers(self) -> dict[str, int]:
        """Return the sizes and strides that the kernel takes, by the names of its parameters."""
        x, z, y = self.shape.outputs
        tiles_x, tiles_z, tiles_y = self.tile.tiles(self.shape)
        own, there = self.image.strides(), self.result.strides()
        s_0, s_1, s_2 = self.image.batch_strides()
        t_0, t_1, t_2 = self.result.batch_strides()
        has_x = "x" in self.image.roles
        return {
            "n_x": x // self.shape.inner, "n_y": y, "n_z": z, "inner": self.shape.inner,
            "rows": self.tile.rows, "tiles_x": tiles_x, "tiles_y": tiles_y, "tiles_z": tiles_z,
            "s_y": own["y"], "s_z": own["z"], "s_0": s_0, "s_1": s_1, "s_2": s_2,
            "t_y": there["y"], "t_z": there["z"], "t_0": t_0, "t_1": t_1, "t_2": t_2,
            "between": self.result.size, "n_1": self.image.batches[1],
            "n_2": self.image.batches[2], "straight_from": self.run.start,
            "straight_to": self.run.stop, "blocks": self.run.shift // self.tile.phases,
            "width": self.image.sizes[self.image.roles["x"]] if has_x else x,
        }  # fmt: skip

    def constants(self, double: bool, dtype: torch.dtype, in_args: bool) -> dict[str, Any]:
        """Return the constants that the kernel is compiled for."""
        kx, kz, ky = self.program.taps
        low, high = _limits(dtype)
        return {
            "X": flattened(self.program.x), "Z": flattened(self.program.z), "Y": flattened(self.program.y),
            "KX": kx, "KZ": kz, "KY": ky,
            "LANES": self.tile.lanes, "PHASES": self.tile.phases, "DEPTH": self.tile.depth,
            "UNROLL": self.tile.unroll, "SKIPPED": self.run.shift % self.tile.phases,
            "FILLS": self.shape.fills, "DOUBLE": double, "IN_ARGS": in_args,
            "LOW": low, "HIGH": high,
        }  # fmt: skip

    def launch(
        self,
        image: torch.Tensor,
        result: torch.Tensor,
        maps: Mapping[str, torch.Tensor],
        table: torch.Tensor,
        weights: Sequence[float],
    ) -> Launch:
        """Return the launch that filters a tensor.

        Parameters
        ----------
        image : torch.Tensor
            Tensor without gaps, of the layout of this geometry.
        result : torch.Tensor
            Result of shape (bands, ...), of the layout of the result.
        maps : mapping
            Index map of "x", "y" and "z" on the device, int32.
        table : torch.Tensor
            Weights on the device, of the type of the sums.
        weights : sequence of float
            The same numbers in this process.
        """
        from separable.gpu.triton_kernels.filter_passes import filter_passes

        double = table.dtype == torch.float64
        in_args = not double and len(weights) <= MOST_ARGUMENTS
        tensors = {
            "image": _bytes_of(image), "result": _bytes_of(result),
            "x_map": maps["x"], "y_map": maps["y"], "z_map": maps["z"],
            "weights": tuple(weights) if in_args else (0.0,), "table": table,
        }  # fmt: skip
        return Launch(
            filter_passes, (self.programs,), {**tensors, **self.numbers()},
            self.constants(double, result.dtype, in_args), self.tile.warps, 1,
            self.read_bytes, self.written_bytes,
        )  # fmt: skip


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of bool as one of bytes."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor


def _limits(dtype: torch.dtype) -> tuple[int, int]:
    """Return the range of an integer type; two equal numbers for other types."""
    if dtype.is_floating_point:
        return 0, 0
    if dtype == torch.bool:
        return 0, 1
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


@dataclass(frozen=True)
class PassTypes:
    """Types of numbers of one call.

    Attributes
    ----------
    image, result : torch.dtype
    double : bool
        Whether sums are of double precision.
    fills : bool
        Whether a constant lies outside.
    """

    image: torch.dtype
    result: torch.dtype
    double: bool
    fills: bool


@lru_cache(maxsize=256)
def geometry_of(
    image: TensorLayout,
    sizes: tuple[tuple[str, int], ...],
    types: PassTypes,
    program: PassProgram,
    run: MapRun,
    device: Device,
) -> tuple[PassGeometry, ...]:
    """Return the launches that fit into the registers, the one that is predicted to be the fastest first.

    Parameters
    ----------
    image : TensorLayout
    sizes : tuple of (str, int)
        Outputs along the axis of each role.
    types : PassTypes
    program : PassProgram
    run : MapRun
    device : Device
    """
    outputs = dict(sizes)
    result = image.with_sizes(outputs)
    lanes = outputs.get("x", image.lanes or 1) * image.inner
    shape = PassShape(
        (lanes, outputs.get("z", 1), outputs.get("y", 1)), math.prod(image.batches), image.inner,
        types.image.itemsize, 8 if types.double else 4, types.result.itemsize, types.fills,
    )  # fmt: skip
    return tuple(
        PassGeometry(image, result, shape, tile, program, run)
        for tile in fitting_tiles(program, shape, device)
    )
