"""Resample Dask arrays lazily: each chunk of the result is computed from the samples that it reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.arrays import dask_array_of
from separable.errors import ArgumentError, OutputError
from separable.masked import MissingOptions
from separable.request import check_dtype
from separable.resample.resampled_arrays import BandRequest
from separable.resample.resampled_arrays import run_request as run_on_array

__all__ = ["run_request"]

Array = NDArray[Any]


def run_request(image: Any, request: BandRequest, output: Any) -> Any:
    """Return a lazily resampled Dask array.

    The chunks of the result stand for those of the image, so that a chunk needs few others. Results do not
    depend on the chunks.

    Examples
    --------
    >>> import dask.array as da
    >>> from separable.resample import downsample
    >>> downsample(da.ones((8, 6), chunks=4)).chunks
    ((2, 2), (2, 1))
    """
    image = dask_array_of(image)
    if any(math.isnan(n) for n in image.shape):
        raise ArgumentError(
            "`image` must have chunks of known sizes; call image.compute_chunk_sizes() first"
        )
    if hasattr(output, "shape") and not isinstance(output, (type, np.dtype)):
        raise OutputError(
            "`output` must name a type for a Dask array; store the result with .store(...) or .to_zarr(...)"
        )
    mask = request.missing.mask
    if mask is not None and tuple(np.shape(mask)) != tuple(image.shape):
        raise ArgumentError(
            f"`mask` of a Dask array must have the shape of the image {tuple(image.shape)}; got "
            f"{tuple(np.shape(mask))}"
        )
    dtype = check_dtype(image.dtype, "image") if output is None else check_dtype(output, "output")
    if isinstance(request.cval, complex) and output is None:
        dtype = np.promote_types(dtype, np.complex64)
    chunks = tuple(_chunks(own, axis, request) for axis, own in enumerate(image.chunks))
    return _blocks(image, request, dtype, chunks)


def _chunks(own: Sequence[int], axis: int, request: BandRequest) -> tuple[int, ...]:
    """Return the chunks of the result along an axis: as large a share of it as those of the image."""
    band = request.bands.get(axis)
    if band is None:
        return tuple(own)
    total = sum(own)
    ends = [round(band.size * end / total) for end in itertools.accumulate(own)]
    return tuple(b - a for a, b in itertools.pairwise([0, *ends]) if b > a)


def _blocks(image: Any, request: BandRequest, dtype: np.dtype[Any], chunks: Any) -> Any:
    """Return the Dask array whose blocks are computed one by one."""
    from dask import array, delayed  # optional

    bounds = [list(itertools.pairwise([0, *itertools.accumulate(c)])) for c in chunks]
    run = delayed(_run, pure=True)
    mask: Any = request.missing.mask
    grid = np.empty([len(b) for b in bounds], object)
    for place in np.ndindex(*grid.shape):
        region, bands = [], {}
        for axis, number in enumerate(place):
            start, stop = bounds[axis][number]
            if axis in request.bands:
                part = request.bands[axis].part(start, stop)
                first, last = part.needs(0, part.size)
                bands[axis] = part.of_block(first, last)
                region.append(slice(first, last))
            else:
                region.append(slice(start, stop))
        # The mask is cut like the image, so that a task has the samples that it needs only.
        own = None if mask is None else mask[tuple(region)]
        missing = MissingOptions(None, *request.missing[1:])
        block = replace(request, bands=bands, missing=missing, threads=request.threads or 1)
        shape = tuple(bounds[a][n][1] - bounds[a][n][0] for a, n in enumerate(place))
        task = run(image[tuple(region)], block, dtype, own)
        grid[place] = array.from_delayed(task, shape, dtype=dtype)
    return array.block(grid.tolist())


def _run(image: Any, request: BandRequest, dtype: np.dtype[Any], mask: Any) -> Array:
    """Compute one block of the result."""
    if mask is not None:
        request = replace(request, missing=request.missing._replace(mask=mask))
    found: Array = run_on_array(
        np.ma.asarray(image) if np.ma.isMA(image) else np.asarray(image), request, dtype
    )
    return found
