"""The outputs of a region of a file, computed in slabs: plans, missing samples, opacity and magnitudes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import runs_of
from separable.engine import get_num_threads
from separable.factors import Factors
from separable.files.chunked_io import Source
from separable.files.grid_change import info_on_grid
from separable.files.image_filter import opacity_note, opacity_of
from separable.files.image_grids import GridChange
from separable.files.image_info import ImageInfo
from separable.filter_bank.magnitude import Magnitude, wide_type
from separable.masked import STAYS_NAN, MissingOptions, Opacity, check_fill, fill_for
from separable.request import kernel_axes
from separable.resample.region_blocks import region_block, run_part
from separable.resample.region_opacity import run_with_opacity
from separable.resample.region_plans import RegionPlan, plan_region
from separable.run import store
from separable.volumes.checkpoint import request_of_arrays
from separable.volumes.file_filters import kernel_of, obeyed_options
from separable.volumes.grid_runs import SlabCosts, bytes_per_row
from separable.volumes.missing_samples import as_valid, mask_reader, missing_values

__all__ = ["RegionWork", "prepared_region"]

Array = NDArray[Any]

GAPS = 2  # a range of samples is read whole if it has at most so many times the samples that are needed
FEW_COPIES, COPIES = (4, 3), (12, 12)
"""Copies of samples and results in memory: with missing samples (clean samples, masks, up to four sums), and with an
opacity (multiplied colours, opacities and up to six sums, of wider types)."""


def prepared_region(
    source: Source,
    target: Any,
    kernel: Any,
    missing: dict[str, Any],
    options: dict[str, Any],
    rescale: tuple[float, float] | None = None,
) -> RegionWork:
    """Plan the outputs of a file, and the metadata of the result.

    Parameters
    ----------
    source : Source
    target : path
    kernel : array_like, Factors, str or Magnitude
    missing : dict
        Options for missing samples that were given.
    options : dict
        Options of `plan_region`.
    rescale : (low, high), optional
        Whether results become floats, which are stretched afterwards.
    """
    magnitude = kernel if isinstance(kernel, Magnitude) else None
    kernels = magnitude.kernels if magnitude is not None else (kernel,)
    kernels = tuple(kernel_of(one, source, options) for one in kernels)
    first = kernels[0]
    count = len(first.shape) if isinstance(first, Factors) else np.ndim(first)
    space = source.info.space(source.ndim)
    asked = options.pop("axes", None)
    axes = kernel_axes(
        space if asked is None and len(space) == count else asked, source.ndim, count
    )
    plain = {k: v for k, v in options.items() if k not in ("output_region", "stride")}
    obeyed, info, note = obeyed_options(first, source, target, missing, {**plain, "axes": axes})
    out = np.dtype(source.dtype if options.get("output") is None else options["output"])
    if magnitude is not None or rescale is not None:
        options = {**options, "output": wide_type(source.dtype)}
    plans = tuple(
        plan_region(one, source.shape, source.dtype, axes=axes, **options) for one in kernels
    )
    planned = plans[0]
    steps, firsts = [1.0] * source.ndim, [0.0] * source.ndim
    for one in planned.axes:
        steps[one.axis], firsts[one.axis] = float(one.stride), float(one.first)
    change = GridChange(source.shape, planned.shape, tuple(steps), tuple(firsts))
    moved = info_on_grid(info, change)
    opacity = opacity_of(source.info, source.ndim, axes)
    mask = obeyed.pop("mask", None)
    values = missing_values(obeyed, source.dtype)
    fill = fill_for(obeyed.get("fill", math.nan), values)
    some = bool(obeyed.keys() - {"fill"}) or mask is not None
    if magnitude is not None or rescale is not None:
        obeyed["fill"] = STAYS_NAN  # until the magnitudes are known
    marks = MissingOptions(**obeyed) if some else None
    if opacity is not None:
        note = opacity_note(opacity, first, out, missing=some)
    reader = None if mask is None else mask_reader(mask, source.shape, axes)
    notes = (*moved.notes, *filter(None, [note]))
    return RegionWork(
        plans, kernels, marks, moved, notes, out, fill, opacity, magnitude, rescale is not None,
        reader, str(mask or ""),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class RegionWork:
    """Outputs of a region of a file: a `GridWork`.

    Attributes
    ----------
    plans : tuple of RegionPlan
        The plan of each kernel: one, or those of a magnitude.
    kernels : tuple of array_like or Factors
    missing : MissingOptions, optional
    info : ImageInfo
        Metadata of the result.
    notes : tuple of str
    out : dtype
        Type of the result.
    fill : number
        Result where no sample is valid.
    opacity : Opacity, optional
    magnitude : Magnitude, optional
    stretches : bool
        Whether slabs are floats, which are stretched to the range of `out` afterwards.
    """

    plans: tuple[RegionPlan, ...]
    kernels: tuple[Any, ...]
    missing: MissingOptions | None
    info: ImageInfo
    notes: tuple[str, ...]
    out: np.dtype[Any]
    fill: Any = math.nan
    opacity: Opacity | None = None
    magnitude: Magnitude | None = None
    stretches: bool = False
    mask: Any = field(repr=False, default=None)
    mask_name: str = ""

    @property
    def planned(self) -> RegionPlan:
        """Plan of the only, or the first, kernel."""
        return self.plans[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.planned.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the slabs."""
        return self.planned.whole.problem.out if self.stretches else self.out

    def request(self, source: Source) -> dict[str, str]:
        """Return everything that the result depends on, as named texts."""
        problem = self.planned.whole.problem
        arrays = [
            array
            for kernel in self.kernels
            for array in (
                [v for t in kernel.terms for v in t]
                if isinstance(kernel, Factors)
                else [np.asarray(kernel)]
            )
        ]
        return request_of_arrays(
            source, arrays, operation=self.planned.whole.request.operation, axes=problem.axes,
            mode=",".join(border.name for border in problem.modes), cval=problem.cval,
            origin=problem.lefts, region=self.planned.region,
            stride=tuple(one.stride for one in self.planned.axes), type=self.dtype,
            missing=self.missing, mask=self.mask_name, fill=self.fill, opacity=self.opacity,
            magnitude=0 if self.magnitude is None else len(self.kernels),
        )  # fmt: skip

    def costs(self, source: Source, axis: int) -> SlabCosts:
        """Return the memory of slabs along an axis."""
        problem = self.planned.whole.problem
        row_in = bytes_per_row(source.shape, axis, source.dtype)
        row_out = bytes_per_row(self.shape, axis, self.dtype)
        row_out += 2 * bytes_per_row(self.shape, axis, problem.work)
        if self.magnitude is not None:
            row_out += len(self.kernels) * bytes_per_row(self.shape, axis, problem.out)
        copies = (1, 1) if self.missing is None else FEW_COPIES
        copies = copies if self.opacity is None else COPIES
        row_in, row_out = copies[0] * row_in, copies[1] * row_out
        one = next((one for one in self.planned.axes if one.axis == axis), None)
        if one is None:
            return SlabCosts(row_in, row_out)
        taps = problem.kernel_shape[self.planned.axes.index(one)]
        return SlabCosts(row_in, row_out, float(one.stride), taps)

    def slab(self, source: Source, axis: int, start: int, stop: int) -> Array:
        """Return some rows of the result."""
        region = [slice(0, n) for n in self.shape]
        region[axis] = slice(start, stop)
        parts = [self._filtered(source, number, region) for number in range(len(self.plans))]
        if self.magnitude is None:
            return parts[0]
        found = self.magnitude.combined(parts)
        if self.opacity is not None:  # which is not combined
            taken = region[self.opacity.axis]
            place = self.opacity.index - taken.start
            if 0 <= place < taken.stop - taken.start:
                at = (slice(None),) * self.opacity.axis + (slice(place, place + 1),)
                found[at] = parts[0][at]
        if self.stretches:
            return found
        if self.missing is not None and self.opacity is None:
            np.copyto(found, check_fill(self.fill, self.out), where=np.isnan(found))
        result = np.empty(found.shape, self.out)
        store(np.ascontiguousarray(found), result, get_num_threads())
        return result

    def _filtered(self, source: Source, number: int, region: Sequence[slice]) -> Array:
        """Return the results of one kernel."""
        planned, kernel, missing = self.plans[number], self.kernels[number], self.missing
        opacity, wanted = self.opacity, list(region)
        if opacity is not None:  # all colours of a pixel are needed
            wanted[opacity.axis] = slice(0, self.shape[opacity.axis])
        block = region_block(planned, wanted)
        samples = _read(source.read, block.index)
        if self.mask is not None and missing is not None:
            values = _read(self.mask[0], block.index)
            valid = np.broadcast_to(as_valid(values), samples.shape)
            missing = missing._replace(mask=valid)
        if opacity is None:
            return run_part(planned, samples, None, kernel=kernel, missing=missing, block=block)
        found = run_with_opacity(planned, samples, opacity, kernel, missing, block)
        return found[(slice(None),) * opacity.axis + (region[opacity.axis],)]

    def close(self) -> None:
        """Close the file of the mask."""
        if self.mask is not None:
            self.mask[1]()


def _read(read: Callable[[Any], Array], index: Sequence[Any]) -> Array:
    """Read the samples of a block: ranges of samples, joined; an axis of one sample of a mask stays so."""
    runs: list[list[tuple[int, int]]] = []
    taken: list[Array | None] = []
    for part in index:
        if isinstance(part, slice):
            runs.append([(part.start, part.stop)])
            taken.append(None)
            continue
        first, last = int(part[0]), int(part[-1]) + 1
        if last - first <= GAPS * len(part):
            runs.append([(first, last)])
            taken.append(part - first)
        else:
            runs.append(runs_of(part))
            taken.append(None)
    found = _joined(read, runs, [])
    for axis, places in enumerate(taken):
        if places is not None and found.shape[axis] > 1:
            found = np.take(found, places, axis)
    return found


def _joined(
    read: Callable[[Any], Array], runs: Sequence[Sequence[tuple[int, int]]], before: list[slice]
) -> Array:
    """Read all combinations of ranges along the axes, and join them."""
    axis = len(before)
    if axis == len(runs):
        return read(tuple(before))
    parts = [_joined(read, runs, [*before, slice(a, b)]) for a, b in runs[axis]]
    if len(parts) == 1 or (parts[0].shape[axis] == 1 and all(b - a > 1 for a, b in runs[axis])):
        return parts[0]
    return np.concatenate(parts, axis)
