"""Filters of `ndimage` that add several terms, on the valid samples of Dask arrays, block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factors import Factors
from separable.masked import Missing, check_fill, fill_for, valid_samples
from separable.ndimage.apply import Kernel, correlated, magnitude_of
from separable.pattern import filter_pattern
from separable.plan import plan
from separable.request import FilterAxes
from separable.volumes.dask_arrays import check_blocks, filter_blocks, with_mask
from separable.volumes.halo import Block, BlockFilter, block_filter, chunkwise
from separable.volumes.missing_samples import missing_values, pair_dtype

__all__ = ["ValidTerms", "filter_valid_terms"]

Array = NDArray[Any]


class ValidTerms(BlockFilter):
    """Filters of the valid samples with several kernels, whose results become a sum or a length.

    Parameters
    ----------
    inner : BlockFilter
        A filter that reads as far as the kernels do.
    kernels : tuple of Kernel
        One kernel, or one for each component of a gradient.
    fill : number
        Result where nothing is valid.
    nodata : tuple of numbers
        Values of samples that are missing.
    out : dtype
        Type of the result.
    dtype : dtype
        Type of the samples: pairs if there is a mask.
    """

    def __init__(
        self,
        inner: BlockFilter,
        kernels: tuple[Kernel, ...],
        fill: Any,
        nodata: tuple[Any, ...],
        out: np.dtype[Any],
        dtype: np.dtype[Any],
    ) -> None:
        super().__init__(replace(inner.problem, out=out, dtype=dtype), inner.method, inner.form)
        self.inner, self.kernels, self.fill, self.nodata = inner, kernels, fill, nodata

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """The filter that reads as far as the kernels do."""
        return (self.inner,)

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block for the cleaned samples, the mask and the results."""
        return self.inner.problem.dtype.itemsize + 2 + 8 * (2 + len(self.kernels))

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        return (*super().token, "terms", _texts(self.kernels), repr(self.fill), repr(self.nodata))

    def with_threads(self, threads: int) -> ValidTerms:
        """Return the same filter with another number of threads."""
        inner = self.inner.with_threads(threads)
        problem = self.problem
        return ValidTerms(inner, self.kernels, self.fill, self.nodata, problem.out, problem.dtype)

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        problem = self.problem
        values, valid = samples, np.ones(samples.shape, bool)
        if samples.dtype.names:
            values, valid = samples["value"], samples["valid"] != 0
        if self.nodata:
            valid = valid & valid_samples(values, self.nodata)
        ignoring = any(v != v for v in self.nodata)
        outside = not (ignoring and bool(np.isnan(problem.cval)))
        origins = [
            n // 2 - left for n, left in zip(problem.kernel_shape, problem.lefts, strict=True)
        ]
        axes = FilterAxes(problem.axes, block.modes, problem.cval, tuple(-o for o in origins))
        missing = Missing(np.ascontiguousarray(valid), self.fill, outside)
        clean = np.ascontiguousarray(values)
        if len(self.kernels) == 1:
            found = correlated(clean, self.kernels[0], axes, problem.out, missing)
        else:
            found = magnitude_of(clean, self.kernels, axes, problem.out, missing)
        if out is None:
            return found[block.crop]
        out[block.crop] = found[block.crop]
        return out[block.crop]


def filter_valid_terms(
    image: Any,
    kernels: Sequence[Kernel],
    filter_axes: FilterAxes,
    out: np.dtype[Any],
    missing: dict[str, Any],
) -> Any:
    """Return a Dask array of the valid samples filtered with several terms, lazily.

    Parameters
    ----------
    image : dask.array.Array
    kernels : sequence of Kernel
        One kernel, or one for each component of a gradient, whose length is returned.
    filter_axes : FilterAxes
    out : dtype
        Type of the result.
    missing : dict
        Options `mask`, `nan` and `fill` that were given.

    Raises
    ------
    ArgumentError
        If the mask does not fit, or the type of the result cannot hold the fill.
    """
    check_blocks(image)
    sizes = [max(side) for side in zip(*(_sizes(kernel) for kernel in kernels), strict=True)]
    taps = [np.full(n, 1.0 / n) for n in sizes]
    box: Any = taps[0] if len(taps) == 1 else Factors.from_terms(filter_pattern(len(taps)), [taps])
    native = image.dtype.newbyteorder("=")
    wide = np.result_type(native, np.float32)
    made = plan(
        box, image.shape, native, output=wide, method="separable", operation="correlate",
        **filter_axes.options,
    )  # fmt: skip
    values = missing_values(missing, native)
    fill = check_fill(fill_for(missing.get("fill", math.nan), values), out)
    masked = isinstance(image._meta, np.ma.MaskedArray) or "mask" in missing
    dtype = pair_dtype(native) if masked else native
    inner = block_filter(chunkwise(made))
    source = with_mask(image, missing.get("mask"), filter_axes.axes)
    return filter_blocks(source, ValidTerms(inner, tuple(kernels), fill, values, out, dtype), None)


def _sizes(kernel: Kernel) -> tuple[int, ...]:
    """Return the size of a kernel along each filtered axis."""
    if isinstance(kernel, tuple):
        return tuple(len(taps) for taps in kernel[0])
    return tuple(kernel.shape)


def _texts(kernels: Sequence[Kernel]) -> Any:
    """Return what Dask names tasks by."""
    found = []
    for kernel in kernels:
        terms = kernel.terms if isinstance(kernel, Factors) else kernel
        found.append(
            [[taps.tobytes() for taps in term] for term in terms]
            if isinstance(terms, tuple)
            else np.asarray(terms).tobytes()
        )
    return repr(found)
