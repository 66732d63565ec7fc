"""Filter Dask arrays lazily; results are bit-identical to in-memory filtering.

For each region of the result, a task computes `filter_block` of the samples that `needs` names. It
gathers them from the chunks they lie in and runs all passes, or one task per stage runs the passes
of that stage, with a halo along its axes only (`dask_schedule` decides). No task holds more than a
region with its halo.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.arrays import dask_array_of
from separable.engine import get_num_threads
from separable.engine.result_memory import empty
from separable.errors import ArgumentError, ArgumentTypeError, OutputError
from separable.filtering import missing_options
from separable.masked import mask_of
from separable.plan import plan
from separable.request import check_dtype
from separable.volumes.dask_schedule import Layer, schedule
from separable.volumes.halo import BlockFilter, block_filter, chunkwise
from separable.volumes.missing_samples import (
    is_missing,
    mask_place,
    pair_dtype,
    paired,
    pairs_of_masked,
    valid_filter,
)

__all__ = ["check_blocks", "filter_blocks", "filter_dask", "with_mask"]

Array = NDArray[Any]
Cut = tuple[int, int, int]  # along an axis: (start in the block, count, start in the chunk)
MISSING = {"mask": None, "nan": "propagate", "fill": math.nan, "nodata": "auto"}


def filter_dask(
    image: Any, kernel: Any, output: Any = None, *, progress: Any = None, **options: Any
) -> Any:
    """Return a lazily filtered Dask array.

    Parameters
    ----------
    image : dask.array.Array
        Array of NumPy arrays, plain or masked, in any chunks. Masked samples are missing, as for
        `convolve`.
    kernel, output
        As for `convolve`; `output` must be a dtype because there is no array to write into yet.
    progress : callable, optional
        Not called because nothing is computed here; use ``dask.diagnostics.ProgressBar``.
    **options
        Options of `plan`, and `mask` (also a Dask array), `nan`, `fill` and `nodata` as for
        `convolve`.
        `threads` is per task; by default one, because Dask runs as many tasks at a time as there
        are processors, and more only if there are fewer tasks.

    Returns
    -------
    dask.array.Array
        Array with the chunks of the image.

    Raises
    ------
    ArgumentError
        If the chunk sizes are unknown, or the mask does not fit.
    ArgumentTypeError
        If this is not a Dask array of NumPy arrays, or the mask is not numeric.
    OutputError
        If `output` is an array.
    SeparableError
        Other subclasses, as for `plan`.

    Examples
    --------
    >>> import dask.array as da, separable as sep
    >>> volume = da.ones((40, 50, 60), chunks=(16, 25, 60), dtype="float32")
    >>> smooth = sep.convolve(volume, sep.kernels.gaussian(2, ndim=3))
    >>> smooth.chunks == volume.chunks, smooth[0, 0, :2].compute().round(3)
    (True, array([1., 1.], dtype=float32))
    """
    missing = missing_options(*(options.pop(name, usual) for name, usual in MISSING.items()))
    check_blocks(image, output)
    threads = options.pop("threads", None)
    if _is_dask(kernel):
        kernel = kernel.compute()  # small, and needed for the plan
    made = plan(kernel, image.shape, image.dtype, output=output, threads=threads, **options)
    masked = _is_masked(image)
    if made.problem.size == 0:
        return _empty(image, made.problem.out)
    result = image
    if masked or is_missing(missing, image.dtype):
        beside = {"mask": None} if masked else {}  # the chunks contain a mask, even if it is empty
        volume_filter: BlockFilter = valid_filter(made, kernel, {**beside, **missing})[1]
        result = with_mask(image, missing.get("mask"), made.problem.axes)
    else:
        volume_filter = block_filter(chunkwise(made))
    return filter_blocks(result, volume_filter, threads)


def filter_blocks(
    image: Any, volume_filter: BlockFilter, threads: int | None, bound: Any = None
) -> Any:
    """Return a Dask array filtered by a block filter, lazily.

    Parameters
    ----------
    image : dask.array.Array
        Array of the filter's shape and type.
    volume_filter : BlockFilter
    threads : int, optional
        Number of threads per task.
    bound : tuple of (callable, dask.delayed.Delayed), optional
        The callable gets the filter and the computed value, and returns the filter to run: for
        filters that depend on the whole volume.

    Returns
    -------
    dask.array.Array
        Array with the chunks of the image.
    """
    result = image
    for layer in schedule(volume_filter, image.chunks):
        idle = get_num_threads() // layer.grid.count
        result = _layered(result, layer, max(1, idle) if threads is None else threads, bound)
    return result if result.chunks == image.chunks else result.rechunk(image.chunks)


def _is_dask(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "dask"


def with_mask(image: Any, mask: Any, axes: tuple[int, ...]) -> Any:
    """Return samples and mask as pairs, lazily; without a mask, the image itself."""
    masked = _is_masked(image)
    if mask is None and not masked:
        return image
    import dask.array  # optional

    array: Any = dask.array
    dtype = pair_dtype(image.dtype.newbyteorder("="))
    meta = np.empty((0,) * image.ndim, dtype)
    pairs = pairs_of_masked if masked else paired
    if mask is None:
        return array.map_blocks(pairs, image, dtype=dtype, meta=meta)
    if _is_dask(mask) and _is_masked(mask):
        mask_of(mask._meta)  # says that a mask must be a plain array
    mask = mask if _is_dask(mask) else array.from_array(mask_of(mask), chunks=-1)
    _check_chunks(mask, "mask")
    place = mask_place(mask, image.shape, axes)
    wide = array.broadcast_to(mask.reshape(place), image.shape).rechunk(image.chunks)
    return array.map_blocks(pairs, image, wide, dtype=dtype, meta=meta)


def _is_masked(image: Any) -> bool:
    return isinstance(image._meta, np.ma.MaskedArray)


def _empty(image: Any, dtype: np.dtype[Any]) -> Any:
    """Return the result for an image without samples."""
    import dask.array  # optional

    array: Any = dask.array
    return array.zeros(image.shape, dtype=dtype, chunks=image.chunks)


def check_blocks(image: Any, output: Any = None) -> None:
    """Refuse a Dask array that does not consist of NumPy arrays of known sizes and a type that filters take."""
    meta = dask_array_of(image)._meta
    _check_chunks(image, "image")
    if not isinstance(meta, np.ndarray):
        raise ArgumentTypeError(
            "`image` must consist of NumPy arrays; its chunks are "
            f"{type(meta).__module__}.{type(meta).__qualname__}. "
            "Convert them with image.map_blocks and a function that returns NumPy arrays, for "
            "instance lambda chunk: chunk.todense() or chunk.get()"
        )
    check_dtype(image.dtype, "image")
    if isinstance(output, np.ndarray) or _is_dask(output):
        raise OutputError(
            "`output` must be a dtype for a Dask array, which is filtered when it is computed. To "
            "write the result into an array or file, call .store(...) or .to_zarr(...) on it"
        )


def _check_chunks(array: Any, name: str) -> None:
    if any(np.isnan(n) for sizes in array.chunks for n in sizes):
        raise ArgumentError(
            f"the sizes of this Dask array's chunks are not known: its shape is {array.shape}. "
            f"Call {name}.compute_chunk_sizes() first"
        )


def _layered(image: Any, layer: Layer, threads: int, bound: Any = None) -> Any:
    """Return the array of one layer, with one task per region of the grid."""
    # Imported here because Dask is optional.
    from dask._task_spec import DataNode, Task, TaskRef
    from dask.base import tokenize

    volume_filter = layer.filter.with_threads(threads)
    problem = volume_filter.problem
    after = () if bound is None else (bound[1].key,)
    name = "separable-" + tokenize(image.name, *volume_filter.token, layer.grid.chunks, *after)
    # The filter is a separate task, so that a kernel is sent to a worker once, not with every task.
    shared = f"{name}-filter"
    tasks: dict[Any, Any] = {shared: DataNode(shared, volume_filter)}
    if bound is not None:
        tasks[shared] = Task(shared, bound[0], volume_filter, TaskRef(bound[1].key))
    parts = _Parts(image, name, tasks, volume_filter)
    for index, region in layer.grid.regions():
        key = (name, *index)
        shape = tuple(s.stop - s.start for s in region)
        if 0 in shape:
            tasks[key] = Task(key, np.empty, shape, problem.out)
            continue
        block = volume_filter.block(region)
        cuts = parts.cuts(block.starts, block.stops)
        refs = [TaskRef(parts.key(chunks)) for chunks in itertools.product(*cuts)]
        places = tuple(tuple(place for _, place in cut) for cut in cuts)
        tasks[key] = Task(key, _filter_region, TaskRef(shared), region, places, *refs)
    sources = [image] if bound is None else [image, bound[1]]
    return _collected(sources, name, tasks, layer.grid.chunks, problem.out)


class _Parts:
    """The parts of chunks that tasks depend on: a chunk, or a strip of it if that is much smaller.

    Within a process a chunk is passed as it is, and more tasks would only take longer. Between
    processes all data is copied: with strips, a block of 128^3 samples with a halo of 8 needs 1.6
    chunks from its 26 neighbours, without strips 26 chunks.
    """

    def __init__(self, image: Any, name: str, tasks: dict[Any, Any], whole: BlockFilter) -> None:
        self.image, self.name, self.tasks, self.filter = image, name, tasks, whole
        self.edges = [np.cumsum([0, *sizes]).tolist() for sizes in image.chunks]
        self.travels = _crosses_processes()

    def cuts(self, starts: Sequence[int], stops: Sequence[int]) -> list[list[tuple[int, Cut]]]:
        """Return for each axis the chunks that hold the samples at these positions, and which."""
        bounds = zip(starts, stops, self.edges, strict=True)
        return [
            _cuts(self.filter.runs(axis, a, b), edges) for axis, (a, b, edges) in enumerate(bounds)
        ]

    def key(self, chunks: Sequence[tuple[int, Cut]]) -> Any:
        """Return the key of a chunk, or of a strip of it."""
        chunk = (self.image.name, *(number for number, _ in chunks))
        if not self.travels:
            return chunk
        # Imported here because Dask is optional.
        from dask._task_spec import Task, TaskRef

        sizes = [
            e[number + 1] - e[number] for e, (number, _) in zip(self.edges, chunks, strict=True)
        ]
        shares = [count / size for (_, (_, count, _)), size in zip(chunks, sizes, strict=True)]
        axis = int(np.argmin(shares))
        if shares[axis] > 0.5:
            return chunk
        _, (_, count, start) = chunks[axis]
        key = (f"{self.name}-strip", *chunk[1:], axis, start, count)
        if key not in self.tasks:
            self.tasks[key] = Task(key, _strip, TaskRef(chunk), axis, start, count)
        return key


def _crosses_processes() -> bool:
    """Return whether Dask would compute in several processes."""
    from dask import base, local, threaded  # optional

    current: Any = base.get_scheduler
    return current() not in (None, threaded.get, local.get_sync)


def _collected(
    sources: list[Any], name: str, tasks: dict[Any, Any], chunks: Any, dtype: np.dtype[Any]
) -> Any:
    """Return the Dask array of these tasks."""
    # Imported here because Dask is optional.
    from dask import array
    from dask.highlevelgraph import HighLevelGraph

    meta = np.empty((0,) * sources[0].ndim, dtype)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=sources)
    make: Any = array.Array
    return make(graph, name, chunks, meta=meta)


def _cuts(runs: Sequence[tuple[int, int]], edges: Sequence[int]) -> list[tuple[int, Cut]]:
    """Return the chunks that hold some ranges of samples, one after the other.

    Examples
    --------
    >>> _cuts([(9, 10), (0, 4)], [0, 3, 10])
    [(1, (0, 1, 6)), (0, (1, 3, 0)), (1, (4, 1, 0))]
    """
    found, place = [], 0
    for first, last in runs:
        while first < last:
            chunk = int(np.searchsorted(edges, first, side="right")) - 1
            count = min(edges[chunk + 1], last) - first
            found.append((chunk, (place, count, first - edges[chunk])))
            first, place = first + count, place + count
    return found


# Functions that the tasks run


def _plain(chunk: Any) -> Array:
    """Return a chunk as a plain array; refuse a masked one that the Dask array does not declare."""
    if np.ma.is_masked(chunk):
        raise ArgumentError(
            "a chunk of this Dask array has masked samples, but the array declares plain chunks (its "
            "`_meta`). Declare them as masked: image.map_blocks(numpy.ma.asarray, "
            "meta=numpy.ma.empty((0,) * image.ndim, image.dtype)) filters the valid samples"
        )
    plain: Array = np.asarray(chunk)
    return plain


def _strip(chunk: Any, axis: int, start: int, count: int) -> Array:
    """Return a copy of a strip, so that its chunk need not be kept in memory."""
    return np.take(_plain(chunk), np.arange(start, start + count), axis)


def _filter_region(
    volume_filter: BlockFilter, region: Any, places: tuple[tuple[Cut, ...], ...], *parts: Any
) -> Array:
    """Gather the block of a region, filter it and return the region."""
    block = volume_filter.block(region)
    result = volume_filter.run(
        _gathered(block.shape, volume_filter.problem.dtype, places, parts), block
    )
    if all(s == slice(0, n) for s, n in zip(block.crop, block.shape, strict=True)):
        return result
    kept = empty(result.shape, result.dtype)  # a copy without the halo
    kept[...] = result
    return kept


def _gathered(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    places: tuple[tuple[Cut, ...], ...],
    parts: Sequence[Any],
) -> Array:
    chunks = [_plain(part) for part in parts]
    if len(chunks) == 1 and chunks[0].shape == shape:
        return chunks[0]
    samples = empty(shape, dtype)
    for cut, part in zip(itertools.product(*places), chunks, strict=True):
        target, source = [], []
        for (at, count, start), size in zip(cut, part.shape, strict=True):
            begin = 0 if size == count else start  # in a strip, or in a whole chunk
            target.append(slice(at, at + count))
            source.append(slice(begin, begin + count))
        samples[tuple(target)] = part[tuple(source)]
    return samples
