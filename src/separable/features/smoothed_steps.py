"""Features of smoothed products: structure tensors and local variances, block by block.

Products of derivatives (or powers of the samples) are smoothed, and features are computed of the results. Products are
formed only inside the image; the border mode continues them outside, as in scikit-image. Blocks are chosen so that all
intermediate results of one need little memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border, runs_of
from separable.engine.result_memory import empty
from separable.factors import Factors
from separable.features.array_features import padded, pointwise, pointwise_within
from separable.features.feature_steps import Surroundings, SweepStep
from separable.features.pointwise import outputs_of
from separable.filtering import correlate
from separable.masked.samples import MissingOptions, missing_of
from separable.pattern import filter_pattern
from separable.value import Value

__all__ = ["Powers", "SmoothedStep", "SourceBlock", "source_block"]

Array = NDArray[Any]
Region = tuple[slice, ...]

BLOCK_BYTES = 48 << 20
"""Bound on the intermediate results of a block."""
VECTOR = 64  # bytes of the largest vectors
NARROW = 8  # samples: the side of a block that is not halved again


@dataclass(frozen=True)
class SourceBlock:
    """The samples that a region of a result is computed from.

    Attributes
    ----------
    starts, stops : tuple of int
        Positions along each axis; those outside the image hold the samples that its border mode names.
    modes : tuple of Border
        Border modes to filter the block with.
    crop : tuple of slice
        Place of the region in the block.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    modes: tuple[Border, ...]
    crop: Region

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return tuple(b - a for a, b in zip(self.starts, self.stops, strict=True))

    def lies_within(self, shape: Sequence[int]) -> bool:
        """Return whether all positions lie within an image of this shape."""
        return min(self.starts) >= 0 and all(b <= n for b, n in zip(self.stops, shape, strict=True))


def source_block(
    shape: Sequence[int], modes: Sequence[Border], radii: Sequence[int], region: Region
) -> SourceBlock:
    """Return the block from which a region is computed by filters of these radii."""
    found = [
        mode.block(n, part.start - r, part.stop + r, 2 if r else 1)
        for n, mode, r, part in zip(shape, modes, radii, region, strict=True)
    ]
    crop = tuple(
        slice(part.start - start, part.stop - start)
        for (start, _, _), part in zip(found, region, strict=True)
    )
    starts, stops, borders = (tuple(values) for values in zip(*found, strict=True))
    return SourceBlock(starts, stops, borders, crop)


@dataclass(frozen=True)
class Powers:
    """The samples themselves and their squares."""

    ndim: int
    outputs: int = 2

    @property
    def radii(self) -> tuple[int, ...]:
        """Zeros: no neighbours are read."""
        return (0,) * self.ndim

    def outside(self, cval: float) -> tuple[float, ...]:
        """Return the values outside the image where the border mode is constant."""
        return cval, cval**2

    def run(self, image: Array, out: Array, around: Surroundings) -> Array:
        """Store the samples and their squares, NaN where one is missing."""
        out[0] = image
        if around.missing:
            valid = missing_of(
                image, np.asarray(image), tuple(range(image.ndim)),
                MissingOptions(**{"mask": None, "nan": "propagate", "fill": math.nan, **around.missing}),
                out.dtype, 0.0,
            )  # fmt: skip
            if valid is not None:
                out[0][~valid.valid] = np.nan
        np.square(out[0], out=out[1])
        return out


@dataclass(frozen=True, eq=False)
class SmoothedStep(Value):
    """Smoothed results of one step, and the features of them.

    Attributes
    ----------
    inner : SweepStep or Powers
        Products or powers at each sample.
    smoothing : tuple of ndarray
        Taps along each axis.
    work : str
        Name in `pointwise.WORKS`.
    numbers : tuple of float
        Numbers of the work.
    """

    ARRAYS = ("smoothing",)

    inner: SweepStep | Powers
    smoothing: tuple[Array, ...]
    work: str
    numbers: tuple[float, ...] = (1.0, 1.0)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.smoothing)

    @property
    def outputs(self) -> int:
        """Number of features."""
        return self.inner.outputs if self.work == "copies" else outputs_of(self.work, self.ndim)

    @property
    def smoothing_radii(self) -> tuple[int, ...]:
        """Samples that the smoothing reads on either side, along each axis."""
        return tuple(taps.size // 2 for taps in self.smoothing)

    @property
    def radii(self) -> tuple[int, ...]:
        """Samples of the image that are read on either side, along each axis."""
        return tuple(a + b for a, b in zip(self.inner.radii, self.smoothing_radii, strict=True))

    def run(self, image: Array, out: Array | None, around: Surroundings) -> Array:
        """Compute the features of an image; parameters are those of `SweepStep.run`."""
        assert out is not None
        if around.missing:
            self._run_region(image, out, around, tuple(slice(0, n) for n in image.shape))
            return out
        wide = (self.inner.outputs + 1) * self._dtype(out).itemsize
        memory = _Memory()
        regions = list(_regions(image.shape, self.radii, BLOCK_BYTES / wide))

        def samples(region: Region) -> int:
            ends = zip(region, self.radii, image.shape, strict=True)
            return math.prod(min(s.stop + r, n) - max(s.start - r, 0) for s, r, n in ends)

        # The largest block first: its memory serves the others, at the edges.
        for region in sorted(regions, key=samples, reverse=True):
            self._run_region(image, out[(slice(None), *region)], around, region, memory)
        return out

    def _run_region(
        self,
        image: Array,
        out: Array,
        around: Surroundings,
        region: Region,
        memory: _Memory | None = None,
    ) -> None:
        """Compute the features of a region."""
        memory = memory or _Memory()
        block = source_block(image.shape, around.modes, self.smoothing_radii, region)
        products, crop = self._products(image, block, around, memory.of(self._dtype(out)))
        # Missing samples have no products; the smoothing leaves them out.
        missing: dict[str, Any] = {"nan": "ignore"} if around.missing else {}
        kernel: Any = self.smoothing[0]
        if self.ndim > 1:
            kernel = Factors.from_terms(filter_pattern(self.ndim), [list(self.smoothing)])
        smooth = memory.of(products.dtype).smooth(products.shape[1:])
        for values, cval in zip(products, self.inner.outside(around.cval), strict=True):
            correlate(
                values, kernel, mode=block.modes, cval=cval, output=smooth,
                threads=around.threads, **missing,
            )  # fmt: skip
            values[...] = smooth
        within = products[(slice(None), *crop)]
        if pointwise_within(self.work, self.numbers, within, out, around.threads):
            return
        # In place: a sample's features are stored after its products were read.
        flat = products.reshape(len(products), -1)
        pointwise(self.work, self.numbers, flat, flat[: self.outputs], around.threads)
        out[...] = products[(slice(0, self.outputs), *crop)]

    def _dtype(self, out: Array) -> np.dtype[Any]:
        """Return the type of intermediate results; a variance is a small difference of large numbers."""
        return np.dtype(np.float64) if self.work == "variance" else out.dtype

    def _products(
        self, image: Array, block: SourceBlock, around: Surroundings, memory: _Memory
    ) -> tuple[Array, Region]:
        """Return the products at the positions of a block and some more, and the region's place among them."""
        count, dtype = self.inner.outputs, memory.dtype
        if around.missing:  # the mask belongs to the whole image
            whole = self.inner.run(image, empty((count, *image.shape), dtype), around)
            for axis, (mode, n) in enumerate(zip(around.modes, image.shape, strict=True)):
                at = mode.samples(n, block.starts[axis], block.stops[axis])
                whole = np.take(whole, at, axis + 1)
            products = padded(count, block.shape, dtype)
            products[...] = whole
            return products, block.crop
        inside = tuple(slice(a, b) for a, b in zip(block.starts, block.stops, strict=True))
        if block.lies_within(image.shape):
            own = source_block(image.shape, around.modes, self.inner.radii, inside)
            if own.lies_within(image.shape):
                # Products that the neighbours' samples at the edges spoil are read by no output of the region.
                samples = image[
                    tuple(slice(a, b) for a, b in zip(own.starts, own.stops, strict=True))
                ]
                products = memory.products(count, own.shape)
                self.inner.run(samples, products, replace(around, modes=own.modes))
                crop = tuple(
                    slice(c.start + o.start, c.stop + o.start)
                    for c, o in zip(block.crop, own.crop, strict=True)
                )
                return products, crop
        products = padded(count, block.shape, dtype)
        runs = [
            _runs(mode, n, a, b)
            for mode, n, a, b in zip(
                around.modes, image.shape, block.starts, block.stops, strict=True
            )
        ]
        for box in itertools.product(*runs):
            region = tuple(slice(first, last) for first, last, _ in box)
            place = tuple(slice(at, at + last - first) for first, last, at in box)
            own = source_block(image.shape, around.modes, self.inner.radii, region)
            samples = image
            for axis, (mode, n) in enumerate(zip(around.modes, image.shape, strict=True)):
                a, b = own.starts[axis], own.stops[axis]
                known = a >= 0 and b <= n
                index: Any = slice(a, b) if known else mode.samples(n, a, b)
                samples = samples[(*(slice(None),) * axis, index)]
            made = empty((self.inner.outputs, *own.shape), dtype)
            self.inner.run(samples, made, replace(around, modes=own.modes))
            products[(slice(None), *place)] = made[(slice(None), *own.crop)]
        return products, block.crop


class _Memory:
    """Memory for the products of one block after the other, and for one smoothed product."""

    def __init__(self) -> None:
        self.dtype = np.dtype(np.float32)
        self._bytes: Array = np.empty(0, np.uint8)
        self._used = 0

    def of(self, dtype: np.dtype[Any]) -> _Memory:
        """Return the memory for arrays of this type."""
        self.dtype = dtype
        return self

    def products(self, count: int, shape: tuple[int, ...]) -> Array:
        """Return an array (count, *shape) behind which a whole vector can be read, and one product more."""
        size = math.prod(shape) * self.dtype.itemsize
        self._used = -(-(count * size + VECTOR) // VECTOR) * VECTOR
        if self._bytes.size < self._used + size:
            self._bytes = empty((0,), np.uint8)  # free the old memory first
            self._bytes = empty((self._used + size,), np.uint8)
        flat = self._bytes[: count * size].view(self.dtype)
        return flat.reshape(count, *shape)

    def smooth(self, shape: tuple[int, ...]) -> Array:
        """Return the memory of one product behind those that `products` returned, or new memory."""
        size = math.prod(shape) * self.dtype.itemsize
        if self._bytes.size < self._used + size or not self._used:
            return empty(shape, self.dtype)
        return self._bytes[self._used : self._used + size].view(self.dtype).reshape(shape)


def _runs(mode: Border, n: int, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Return the ranges of samples at some positions, and where each lies among them."""
    if start >= 0 and stop <= n:
        return [(start, stop, 0)]
    found, place = [], 0
    for first, last in runs_of(mode.samples(n, start, stop)):
        found.append((first, last, place))
        place += last - first
    return found


def _regions(shape: Sequence[int], radii: Sequence[int], samples: float) -> Iterator[Region]:
    """Cut an image into regions that have no more than so many samples together with their margins."""
    sides = list(shape)

    def wide(axis: int) -> int:
        return min(shape[axis], sides[axis] + 2 * radii[axis])

    outer = range(max(1, len(shape) - 1))
    while math.prod(map(wide, range(len(shape)))) > samples:
        axis = max(outer, key=lambda a: sides[a])
        if sides[axis] <= NARROW:
            axis = max(range(len(shape)), key=lambda a: sides[a])
            if sides[axis] <= NARROW:
                break
        sides[axis] = -(-sides[axis] // 2)
    cuts = [
        [slice(a, min(a + side, n)) for a in range(0, n, side)]
        for n, side in zip(shape, sides, strict=True)
    ]
    yield from itertools.product(*cuts)
