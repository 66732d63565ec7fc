"""Alpha of volumes and large pictures, block by block, as `separable.masked.opacity` defines it.

A source returns each sample together with the opacity of its pixel, so that blocks may be cut along any
axis, also between the colours. The block of the opacity itself is paired with itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.files.chunked_io import Region, Source
from separable.files.opening import open_source
from separable.masked import Opacity, OpacityWeights
from separable.masked.opacity import scaled
from separable.plan import Plan, plan
from separable.run import store
from separable.volumes.halo import Block, BlockFilter, block_filter
from separable.volumes.missing_samples import steady_plan

__all__ = ["OpacityFilter", "opacity_filter", "with_opacity"]

Array = NDArray[Any]


class OpacityFilter(BlockFilter):
    """A filter of colours and their opacity, which runs on blocks as `BlockFilter` does.

    Parameters
    ----------
    parts : tuple of BlockFilter
        Filters of the multiplied colours with the kernel, and of the opacity with the absolute
        weights. For a kernel with both signs also of the colours with the absolute weights, and of
        the transparency with the kernel.
    dtype, out : dtype
        Data type of the samples, and of the result.
    rule : OpacityWeights
    opacity : Opacity
    """

    def __init__(
        self,
        parts: tuple[BlockFilter, ...],
        dtype: np.dtype[Any],
        out: np.dtype[Any],
        rule: OpacityWeights,
        opacity: Opacity,
    ) -> None:
        first = parts[0]
        pairs = replace(first.problem, dtype=_pair_dtype(dtype), out=out)
        super().__init__(pairs, first.method, first.form)
        self._parts, self.dtype, self.rule, self.opacity = parts, dtype, rule, opacity
        self._turning = tuple(sorted({axis for part in parts for axis in part._turning}))

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """Filters that run on a block."""
        return self._parts

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block for the multiplied colours, the opacity and the results."""
        return (len(self._parts) + 6) * self.rule.work.itemsize + self.problem.out.itemsize

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        return (*super().token, "opacity", self.opacity)

    def with_threads(self, threads: int) -> OpacityFilter:
        """Return the same filter with another number of threads."""
        parts = tuple(part.with_threads(threads) for part in self._parts)
        return OpacityFilter(parts, self.dtype, self.problem.out, self.rule, self.opacity)

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        rule, axis = self.rule, self.opacity.axis
        # Step 1: multiply the colours by their opacity.
        own = samples["opacity"].astype(rule.work)
        colours = rule.multiplied(samples["value"], own)

        # Step 2: run the filters.
        data, *others = self._parts
        filtered = np.ascontiguousarray(data.run(colours, block))
        mean = share = None
        weight = own[block.crop]
        if others:
            weight = np.ascontiguousarray(others[0].run(own, block))
        if len(others) > 1:
            mean = np.ascontiguousarray(others[1].run(colours, block))
            clear = rule.work.type(rule.full) - own
            share = np.ascontiguousarray(others[2].run(clear, block))

        # Step 3: combine them; put the opacity in its place, if it is in this block.
        found, opacity = rule.combined(filtered, weight, mean, share, own[block.crop])
        place = self.opacity.index - block.starts[axis]
        if 0 <= place < found.shape[axis]:
            at = (slice(None),) * axis + (slice(place, place + 1),)
            found[at] = scaled(opacity[at], rule.full, self.problem.out)
        result = np.empty(found.shape, self.problem.out)
        store(np.ascontiguousarray(found), result, self.problem.threads)
        if out is None:
            return result
        out[block.crop] = result
        return out[block.crop]


def opacity_filter(
    filter_plan: Plan, kernel: Any, dtype: np.dtype[Any], opacity: Opacity
) -> OpacityFilter:
    """Return the filter of a picture with alpha, to be run on its blocks.

    Parameters
    ----------
    filter_plan : Plan
        Plan of the filter without alpha. Its tolerance is not used.
    kernel : array_like or Factors
        Kernel as given.
    dtype : dtype
        Type of the samples.
    opacity : Opacity

    Raises
    ------
    ArgumentError
        If the kernel is a plan, the kernel or image is complex, or no method can run block by block.
    """
    if isinstance(kernel, Plan):
        raise ArgumentError(
            "a plan is for samples without alpha; got a picture with alpha. Give the kernel and the "
            "options of the plan"
        )
    problem, request = filter_plan.problem, filter_plan.request
    rule = OpacityWeights.of(kernel, dtype, opacity.premultiplied)
    cval = problem.cval if problem.fills else 0.0

    def part(kernel: Any, outside: complex, method: str = "auto") -> BlockFilter:
        made = plan(
            kernel, problem.shape, rule.work, output=rule.work, operation=request.operation,
            axes=problem.axes, mode=problem.modes, cval=outside, origin=request.origins,
            method=method, threads=problem.threads,
        )  # fmt: skip
        return block_filter(steady_plan(made))

    weights = rule.weights
    parts = [part(weights.kernel, cval, request.method)]
    if weights.total:
        parts.append(part(weights.sizes, rule.full))
    if weights.signed:
        parts += [part(weights.sizes, cval), part(weights.kernel, 0.0)]
    return OpacityFilter(tuple(parts), dtype, problem.out, rule, opacity)


def _pair_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype([("value", dtype), ("opacity", dtype)])


@dataclass
class _Pairs(Source):
    """A source of samples with their opacity, which is pickled as its path and the opacity's place."""

    opacity: Any = field(repr=False, default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.path, self.opacity)


def _opened(path: Path, opacity: Opacity) -> Source:
    return with_opacity(open_source(path), opacity)


def with_opacity(source: Source, opacity: Opacity) -> Source:
    """Return a source of pairs: the samples of a source, each with the opacity of its pixel.

    Parameters
    ----------
    source : Source
        Source of the samples; closed together with the returned source.
    opacity : Opacity
    """
    axis, index = opacity.axis, opacity.index
    dtype = _pair_dtype(source.dtype)

    def fetch(region: Region) -> Array:
        samples = source.read(region)
        part = region[axis]
        if part.start <= index < part.stop:
            alpha = np.take(samples, [index - part.start], axis)
        else:
            alpha = source.read((*region[:axis], slice(index, index + 1), *region[axis + 1 :]))
        pairs = np.empty(samples.shape, dtype)
        pairs["value"], pairs["opacity"] = samples, alpha
        return pairs

    return _Pairs(
        source.path, source.shape, dtype, source.chunks, source.info, fetch, source.release,
        source.layout, source.slow, opacity=opacity,
    )  # fmt: skip
