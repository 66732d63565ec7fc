"""Absolute values and gradient magnitudes of volumes, block by block, and the filter of a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.files.chunked_io import Source
from separable.files.image_filter import check_alone, opacity_of
from separable.filter_bank.magnitude import Magnitude, wide_type
from separable.masked import Opacity, check_fill
from separable.plan import Plan
from separable.run import store
from separable.volumes.halo import Block, BlockFilter
from separable.volumes.opacity_blocks import opacity_filter

__all__ = ["MagnitudeFilter", "file_filter"]

Array = NDArray[Any]
Planned: TypeAlias = Callable[
    [Any, Source, dict[str, Any], dict[str, Any]], tuple[Plan, BlockFilter]
]


class MagnitudeFilter(BlockFilter):
    """Filters whose results are combined to their magnitude; it runs on blocks as `BlockFilter` does.

    Parameters
    ----------
    parts : tuple of BlockFilter
        Filters of the same samples, with float results; NaN where nothing is valid.
    kernel : Magnitude
    out : dtype
        Type of the result.
    fill : number
        Result where nothing is valid.
    opacity : Opacity, optional
        Place of samples that are opacities, which are taken from the first filter.
    """

    def __init__(
        self,
        parts: tuple[BlockFilter, ...],
        kernel: Magnitude,
        out: np.dtype[Any],
        fill: Any = math.nan,
        opacity: Opacity | None = None,
    ) -> None:
        first = parts[0]
        super().__init__(replace(first.problem, out=out), first.method, first.form)
        self._parts, self.kernel, self.fill, self.opacity = parts, kernel, fill, opacity
        self._turning = tuple(sorted({axis for part in parts for axis in part._turning}))

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """Filters that run on a block."""
        return tuple(one for part in self._parts for one in part.filters)

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block for the results of the filters and their squares."""
        wide = self._parts[0].problem.out.itemsize
        own = max(part.own_bytes for part in self._parts)
        return own + (len(self._parts) + 2) * wide + self.problem.out.itemsize

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        return ("magnitude", repr(self.fill), self.problem, *(p.token for p in self._parts))

    def with_threads(self, threads: int) -> MagnitudeFilter:
        """Return the same filter with another number of threads."""
        parts = tuple(part.with_threads(threads) for part in self._parts)
        return MagnitudeFilter(parts, self.kernel, self.problem.out, self.fill, self.opacity)

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        found = [np.array(part.run(samples, block)) for part in self._parts]
        alpha = None
        if self.opacity is not None:
            place = self.opacity.index - block.starts[self.opacity.axis]
            if 0 <= place < found[0].shape[self.opacity.axis]:
                at = (slice(None),) * self.opacity.axis + (slice(place, place + 1),)
                alpha = found[0][at].copy()
        length = self.kernel.combined(found)
        if alpha is not None:
            length[at] = alpha
        if not math.isnan(self.fill):
            np.copyto(length, self.fill, where=np.isnan(length))
        result = np.empty(length.shape, self.problem.out)
        store(np.ascontiguousarray(length), result, self.problem.threads)
        if out is None:
            return result
        out[block.crop] = result
        return out[block.crop]


def file_filter(
    planned: Planned,
    kernel: Any,
    source: Source,
    options: dict[str, Any],
    missing: dict[str, Any],
) -> tuple[Plan, BlockFilter]:
    """Return the plan for the samples of a file, and the filter that obeys its alpha.

    Parameters
    ----------
    planned : callable
        ``(kernel, source, options, missing)`` returns the same for a file without alpha.
    kernel : array_like, Factors, Plan or Magnitude
    source : Source
    options : dict
        Options of `plan`.
    missing : dict
        Options for missing samples.
    """
    if isinstance(kernel, Magnitude):
        out = source.dtype if options.get("output") is None else np.dtype(options["output"])
        wide = {**options, "output": wide_type(source.dtype)}
        marked = {k: v for k, v in missing.items() if k != "fill"}
        found = [file_filter(planned, one, source, wide, marked) for one in kernel.kernels]
        fill = check_fill(missing.get("fill", math.nan), out) if marked else math.nan
        first = found[0][0]
        place = opacity_of(source.info, source.ndim, first.problem.axes)
        return first, MagnitudeFilter(tuple(f for _, f in found), kernel, out, fill, place)
    filter_plan, volume_filter = planned(kernel, source, options, missing)
    opacity = opacity_of(source.info, source.ndim, filter_plan.problem.axes)
    if opacity is None:
        return filter_plan, volume_filter
    check_alone(missing)
    return filter_plan, opacity_filter(filter_plan, kernel, source.dtype, opacity)
