"""Absolute values and gradient magnitudes of volumes, block by block."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.filter_bank.magnitude import Magnitude
from separable.masked import Opacity
from separable.run import store
from separable.volumes.halo import Block, BlockFilter

__all__ = ["MagnitudeFilter"]

Array = NDArray[Any]


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
