"""Alpha of volumes and large pictures, block by block, as `separable.masked.opacity` defines it.

A source returns each sample together with the opacity of its pixel, so that blocks may be cut along any
axis, also between the colours. The block of the opacity itself is paired with itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.files.chunked_io import Region, Source
from separable.files.opening import open_source
from separable.masked import Opacity, OpacityWeights, valid_colours
from separable.masked.opacity import scaled
from separable.plan import Plan, plan
from separable.run import store
from separable.volumes.halo import Block, BlockFilter, block_filter
from separable.volumes.missing_samples import (
    as_valid,
    is_missing,
    mask_reader,
    missing_values,
    steady_plan,
)

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
    missing : bool
        Whether pixels may be missing; samples then come with their validity.
    """

    def __init__(
        self,
        parts: tuple[BlockFilter, ...],
        dtype: np.dtype[Any],
        out: np.dtype[Any],
        rule: OpacityWeights,
        opacity: Opacity,
        missing: bool = False,
    ) -> None:
        first = parts[0]
        pairs = replace(first.problem, dtype=_pair_dtype(dtype, missing), out=out)
        super().__init__(pairs, first.method, first.form)
        self._parts, self.dtype, self.rule, self.opacity = parts, dtype, rule, opacity
        self.missing = missing
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
        return (*super().token, "opacity", self.opacity, self.missing)

    def with_threads(self, threads: int) -> OpacityFilter:
        """Return the same filter with another number of threads."""
        parts = tuple(part.with_threads(threads) for part in self._parts)
        given = (self.dtype, self.problem.out, self.rule, self.opacity, self.missing)
        return OpacityFilter(parts, *given)

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        rule, axis = self.rule, self.opacity.axis
        # Step 1: multiply the colours by their opacity.
        own = samples["opacity"].astype(rule.work)
        valid = samples["valid"] != 0 if self.missing else None
        known = own if valid is None else own * valid
        colours = rule.multiplied(samples["value"], known, valid)

        # Step 2: run the filters.
        def run(number: int, values: Array) -> Array:
            return np.ascontiguousarray(self._parts[number].run(values, block))

        filtered = run(0, colours)
        mean = share = masked = None
        weight = run(1, known) if rule.weights.total else known[block.crop]
        if rule.weights.signed:
            mean = run(2, colours)
            share = run(3, rule.work.type(rule.full) - known)
        if valid is not None and not rule.keeps_alpha:
            mask = valid.astype(rule.work)
            if rule.weights.signed:
                extra = run(5, known), run(3, 1 - mask)
                masked = rule.valid_opacity(weight, run(4, mask), *extra)
            else:
                masked = rule.valid_opacity(weight, run(2, mask), None, None)

        # Step 3: combine them; put the opacity in its place, if it is in this block.
        found, opacity = rule.combined(filtered, weight, mean, share, own[block.crop], masked)
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
    filter_plan: Plan, kernel: Any, dtype: np.dtype[Any], opacity: Opacity, *, missing: bool = False
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
    missing : bool
        Whether pixels may be missing.

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
    if missing and not rule.keeps_alpha:
        parts.append(part(weights.sizes, 1.0))
        if weights.signed:
            parts.append(part(weights.kernel, rule.full))
    return OpacityFilter(tuple(parts), dtype, problem.out, rule, opacity, missing)


def _pair_dtype(dtype: np.dtype[Any], missing: bool) -> np.dtype[Any]:
    fields = [("value", dtype), ("opacity", dtype)]
    return np.dtype([*fields, ("valid", "u1")] if missing else fields)


@dataclass
class _Pairs(Source):
    """A source of samples with their opacity, which is pickled as what it is made of."""

    made_of: tuple[Any, ...] = field(repr=False, default=())

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.path, *self.made_of)


def _opened(path: Path, opacity: Opacity, missing: dict[str, Any], axes: tuple[int, ...]) -> Source:
    source = open_source(path)
    try:
        return with_opacity(source, opacity, missing, axes)
    except BaseException:
        source.close()
        raise


def with_opacity(
    source: Source,
    opacity: Opacity,
    missing: dict[str, Any] | None = None,
    axes: tuple[int, ...] = (),
) -> Source:
    """Return a source of samples, each with the opacity of its pixel and whether that is valid.

    Parameters
    ----------
    source : Source
        Source of the samples; closed together with the returned source.
    opacity : Opacity
    missing : dict, optional
        Options for missing samples: `mask`, `nan` and `nodata`. Without any, there is no validity.
    axes : tuple of int
        Filtered axes, for the mask.

    Raises
    ------
    FileError
        If the mask cannot be read.
    ArgumentError
        If it does not fit.
    """
    axis, index = opacity.axis, opacity.index
    missing = {k: v for k, v in (missing or {}).items() if k in ("mask", "nan", "nodata")}
    some = is_missing(missing, source.dtype)
    dtype = _pair_dtype(source.dtype, some)
    values = missing_values(missing, source.dtype)
    read: Callable[[Region], Array] | None = None
    close = None
    if "mask" in missing:
        read, close = mask_reader(missing["mask"], source.shape, axes)

    def validity(region: Region) -> Array:
        whole = (*region[:axis], slice(0, source.shape[axis]), *region[axis + 1 :])
        valid: Any = valid_colours(source.read(whole), opacity, values, ignoring=False)
        if read is not None:
            known = as_valid(read(whole)).all(axis, keepdims=True)
            valid = known if valid is None else np.asarray(valid & known)
        return np.ones(1, bool) if valid is None else valid

    def fetch(region: Region) -> Array:
        samples = source.read(region)
        part = region[axis]
        if part.start <= index < part.stop:
            alpha = np.take(samples, [index - part.start], axis)
        else:
            alpha = source.read((*region[:axis], slice(index, index + 1), *region[axis + 1 :]))
        pairs = np.empty(samples.shape, dtype)
        pairs["value"], pairs["opacity"] = samples, alpha
        if some:
            pairs["valid"] = validity(region)
        return pairs

    def release() -> None:
        source.release()
        if close is not None:
            close()

    return _Pairs(
        source.path, source.shape, dtype, source.chunks, source.info, fetch, release,
        source.layout, source.slow, made_of=(opacity, missing, axes),
    )  # fmt: skip
