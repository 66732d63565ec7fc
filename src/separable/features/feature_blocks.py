"""Features of a volume, block by block: for files and Dask arrays.

A block is computed from the samples that its features depend on. Its results are structured samples with one field per
feature, so that a volume with several results is read once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.result_memory import empty
from separable.factors import Factors
from separable.features.feature_base import Feature, Grid
from separable.features.feature_run import check_count, parts_of, run_steps
from separable.features.feature_steps import Surroundings
from separable.filter_bank.magnitude import wide_type
from separable.masked import valid_samples
from separable.pattern import filter_pattern
from separable.plan import plan
from separable.volumes.halo import Block, BlockFilter, block_filter, chunkwise
from separable.volumes.missing_samples import missing_values, pair_dtype

__all__ = ["FeatureFilter", "feature_filter", "field_names"]

Array = NDArray[Any]


def field_names(features: Sequence[tuple[str, Feature]], ndim: int) -> tuple[str, ...]:
    """Return the names of all results: the name of each feature, with the label of the result if it has several.

    Examples
    --------
    >>> from separable.features.feature_values import HessianEigenvalues
    >>> from separable.features.ridge_values import Frangi
    >>> field_names([("frangi", Frangi()), ("hessian_2", HessianEigenvalues(2.0))], 2)
    ('frangi', 'hessian_2_1', 'hessian_2_2')
    """
    found = []
    for name, feature in features:
        labels = feature.labels(ndim)
        ends = [label.rpartition("_")[2] for label in labels]
        found += [name] if len(labels) == 1 else [f"{name}_{end}" for end in ends]
    return tuple(found)


class FeatureFilter(BlockFilter):
    """Features of one volume, to be computed on its blocks.

    Parameters
    ----------
    inner : BlockFilter
        A filter that reads as far as the features do.
    features : tuple of (str, Feature)
        Names and features.
    grid : Grid
        Spacing along the filtered axes.
    maxima : tuple of tuple of float
        For each feature the maxima that it needs to know; None: the filter computes these maxima.
    nodata : tuple of numbers
        Values of samples that are missing.
    fill : number
        Result where nothing is valid.
    """

    def __init__(
        self,
        inner: BlockFilter,
        features: tuple[tuple[str, Feature], ...],
        grid: Grid,
        maxima: tuple[tuple[float, ...], ...] | None,
        nodata: tuple[Any, ...] = (),
        fill: Any = math.nan,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        work = inner.problem.out
        self.names = field_names(features, grid.ndim)
        if maxima is None:
            counts = [len(feature.reductions(grid)) for _, feature in features]
            self.names = tuple(f"{k}.{n}" for k, count in enumerate(counts) for n in range(count))
            self.names = (*self.names, "largest")
        out = np.dtype([(name, work) for name in self.names])
        problem = replace(inner.problem, out=out, dtype=dtype or inner.problem.dtype)
        super().__init__(problem, inner.method, inner.form)
        self.inner, self.features, self.grid = inner, features, grid
        self.maxima, self.nodata, self.fill = maxima, nodata, fill

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """A filter like the sweeps."""
        return (self.inner,)

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block for results, their copies and intermediate products."""
        products = 2 * self.grid.ndim * (self.grid.ndim + 1) // 2
        fields = len(self.names) + (products if self.nodata or self.problem.dtype.names else 0)
        return 2 * fields * self.inner.problem.out.itemsize + self.inner.problem.dtype.itemsize

    @property
    def token(self) -> tuple[Any, ...]:
        """Everything that this filter depends on."""
        return (*self.inner.token, "features", self.features, self.grid, self.maxima,
                repr(self.nodata), repr(self.fill), self.problem.dtype.str)  # fmt: skip

    def with_threads(self, threads: int) -> FeatureFilter:
        """Return the same filter with another number of threads."""
        return self._with(self.inner.with_threads(threads), self.maxima)

    def with_maxima(self, maxima: tuple[tuple[float, ...], ...] | None) -> FeatureFilter:
        """Return the filter for a volume whose maxima are known."""
        return self._with(self.inner, maxima)

    def _with(self, inner: BlockFilter, maxima: Any) -> FeatureFilter:
        return FeatureFilter(
            inner, self.features, self.grid, maxima, self.nodata, self.fill, self.problem.dtype
        )

    @property
    def needs_maxima(self) -> bool:
        """True if a feature needs a maximum over the whole volume."""
        return any(feature.reductions(self.grid) for _, feature in self.features)

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Compute the features of a block; parameters are those of `BlockFilter.run`."""
        values, around = self._taken(samples, block)
        if self.maxima is None:
            return self._largest(values, block, around, out)
        made = empty((len(self.names), *block.shape), self.inner.problem.out)
        axes = self.problem.axes
        for part, target, place in parts_of(values, made, axes):
            mask = around.missing
            first = 0
            for (_, feature), maxima in zip(self.features, self.maxima, strict=True):
                count = len(feature.labels(self.grid.ndim))
                run_steps(
                    feature, self.grid, maxima, part, target[first : first + count],
                    replace(around, missing=mask),
                )  # fmt: skip
                first += count
            if place is not None:
                place[...] = target
        if not (isinstance(self.fill, float) and math.isnan(self.fill)):
            np.copyto(made, self.fill, where=np.isnan(made))
        region = tuple(part.stop - part.start for part in block.crop)
        result = np.empty(region, self.problem.out) if out is None else out[block.crop]
        for name, field in zip(self.names, made, strict=True):
            result[name] = field[block.crop]
        return result

    def _taken(self, samples: Array, block: Block) -> tuple[Any, Surroundings]:
        """Return the values of a block, a masked array if some are missing, and its surroundings."""
        problem = self.problem
        order = tuple(np.argsort(problem.axes))
        modes = tuple(block.modes[k] for k in order)
        cval = float(np.real(problem.cval))
        around = Surroundings(modes, cval, problem.threads)
        values: Any = samples
        valid = None
        if samples.dtype.names:
            values, valid = samples["value"], samples["valid"] != 0
        if self.nodata:
            known = valid_samples(values, self.nodata)
            valid = known if valid is None else known & valid
        if valid is None or valid.all():  # the plain sweeps are many times faster
            return values, around
        return np.ma.array(values, mask=~valid), replace(around, missing={"nan": "propagate"})

    def _largest(self, values: Any, block: Block, around: Surroundings, out: Array | None) -> Array:
        """Return the maxima of the block, in the region's every sample."""
        region = tuple(part.stop - part.start for part in block.crop)
        result = np.empty(region, self.problem.out) if out is None else out[block.crop]
        parts = list(_cropped(values, block, self.problem.axes))
        steps = [step for _, feature in self.features for step in feature.reductions(self.grid)]
        found = [max(step.largest(part, around, crop) for part, crop in parts) for step in steps]
        size = np.abs(np.ma.filled(values, 0)[block.crop].astype(self.inner.problem.out))
        found.append(float(np.max(size, initial=0, where=np.isfinite(size))))
        for name, value in zip(self.names, found, strict=True):
            result[name] = value
        return result


def _cropped(values: Any, block: Block, axes: tuple[int, ...]) -> Any:
    """Yield the parts of a block along the other axes, and their region along the filtered ones."""
    crop = tuple(block.crop[a] for a in axes)
    rest = [a for a in range(values.ndim) if a not in axes]
    for index in np.ndindex(tuple(values.shape[a] for a in rest)):
        place: list[Any] = [slice(None)] * values.ndim
        for axis, at in zip(rest, index, strict=True):
            place[axis] = at
        yield values[tuple(place)], crop


def feature_filter(
    features: Sequence[tuple[str, Feature]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: tuple[int, ...],
    spacing: tuple[float, ...],
    missing: dict[str, Any],
    **options: Any,
) -> FeatureFilter:
    """Return the filter of features of a volume.

    Parameters
    ----------
    features : sequence of (str, Feature)
        Names and features.
    shape, dtype
        Shape and type of the volume.
    axes : tuple of int
        Filtered axes, ascending.
    spacing : tuple of float
        Distance between samples along each filtered axis.
    missing : dict
        Options for missing samples that were given.
    **options
        Options of `plan`: mode, cval, threads.

    Raises
    ------
    ArgumentError
        If an argument is out of its range.
    """
    grid = Grid(spacing)
    for _, feature in features:
        check_count(feature, grid.ndim)
    known = {name: tuple(0.0 for _ in feature.reductions(grid)) or () for name, feature in features}
    reach = [0] * grid.ndim
    for name, feature in features:
        zeros = tuple(1.0 for _ in known[name])
        for step in (*feature.steps(grid, zeros), *feature.reductions(grid)):
            reach = [max(a, b) for a, b in zip(reach, step.radii, strict=True)]
    taps = [np.full(2 * r + 1, 1.0 / (2 * r + 1)) for r in reach]
    kernel: Any = taps[0]
    if grid.ndim > 1:
        kernel = Factors.from_terms(filter_pattern(grid.ndim), [taps])
    native = dtype.newbyteorder("=")
    out = wide_type(native)
    out = out if out.itemsize <= 8 else np.dtype(np.float64)
    made = plan(kernel, shape, native, output=out, axes=axes, method="separable", **options)
    inner = block_filter(chunkwise(made))
    values = missing_values(missing, native)
    stored = pair_dtype(native) if "mask" in missing else dtype
    maxima: Any = None if any(known.values()) else tuple(() for _ in features)
    return FeatureFilter(
        inner, tuple(features), grid, maxima, values, missing.get("fill", math.nan), stored
    )
