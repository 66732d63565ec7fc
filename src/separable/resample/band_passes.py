"""Run bands along the axes of an array, one pass per axis, in slabs that need little memory.

Shrinking passes run first. What passes leave for each other is held for one slab at a time, so that an array needs
its input, its output and at most 64 MiB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import EngineError, available, compiling
from separable.engine.result_memory import empty
from separable.engine.thread_count import get_num_threads
from separable.process_cache import ProcessCache
from separable.resample.band_matrix import Band
from separable.run import SNAP, store

__all__ = ["decimates", "empty_like_layout", "pass_order", "resampling_work", "run_bands"]

Array = NDArray[Any]

MOST_BYTES = 40 << 20
"""Intermediate results of a slab at most: with the strips of threads and tables it is less than 64 MiB."""
CACHE_BYTES = 4 << 20
"""Intermediate results of a slab that stay in the caches."""
LINE_BYTES = 64
SLAB_STEP = 16
"""Outputs of a slab are a multiple of this, unless there are fewer."""
HALO_SHARE = 4
"""Outputs of a slab in halos, at least, where the memory allows it: what two slabs share is read twice."""
MOST_COMPILED_TAPS = 1 << 15
"""Bands with more weights per output run as sparse matrices: a strip would need too much memory."""
MOST_SWEPT_TAPS = (128, 128, 64)
"""Weights of an output along three axes up to which one sweep is faster than passes."""
MOST_CUT = 8
"""Largest product of stride and samples per position along rows: a sweep would need too many registers for more."""
_schedules = ProcessCache(limit=32)


def resampling_work(image: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of the arithmetic: float32 for values that it holds exactly, else float64.

    Examples
    --------
    >>> resampling_work(np.dtype("uint8"), np.dtype("uint8")), resampling_work(np.dtype(int), np.dtype(int))
    (dtype('float32'), dtype('float64'))
    """
    small = {"f": 4, "c": 8}
    narrow = all(t.itemsize <= small.get(t.kind, 2) for t in (image, out))
    return np.dtype(np.float32 if narrow else np.float64)


def pass_order(bands: Mapping[int, Band]) -> list[int]:
    """Return the axes in the order of their passes: those that shrink most first, then the outermost.

    Examples
    --------
    >>> halves, doubles = Band(np.zeros(1, int), np.ones((1, 1)), np.arange(2), 2), Band(
    ...     np.zeros(4, int), np.ones((4, 1)), np.arange(2), 2)
    >>> pass_order({0: doubles, 1: halves})
    [1, 0]
    """
    used = [axis for axis, band in bands.items() if not band.is_identity]
    return sorted(used, key=lambda axis: (bands[axis].outputs_per_sample, axis))


def memory_order(array: Array) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest in memory."""
    return tuple(sorted(range(array.ndim), key=lambda a: (-abs(array.strides[a]), a)))


def empty_like_layout(image: Array, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return an array of another shape with the axes of an image in the same order in memory.

    Examples
    --------
    >>> empty_like_layout(np.zeros((3, 4), order="F"), (5, 6), np.dtype(float)).flags.f_contiguous
    True
    """
    if memory_order(image) == tuple(range(image.ndim)):
        return empty(tuple(shape), dtype)
    # NumPy's own array, because a transposed view of ours would not own its memory.
    return np.empty_like(image, dtype, order="K", subok=False, shape=tuple(shape))


def run_bands(
    image: Array,
    bands: Mapping[int, Band],
    out: Array,
    *,
    cval: float = 0.0,
    threads: int | None = None,
    whole_sums: bool = False,
) -> Array:
    """Multiply an array by one band along each of some axes.

    Parameters
    ----------
    image : ndarray
        Real numbers of native byte order, with any strides.
    bands : mapping of int to Band
        The band of each axis, >= 0.
    out : ndarray
        The array to write into, of the shape of the result; integers are rounded half to even and saturated.
        It must not overlap the image.
    cval : float
        The constant outside the image.
    threads : int, optional
    whole_sums : bool
        Whether the arithmetic is float64, and whole results are rounded as those of filters: a sum that is close to
        a half counts as that half.

    Returns
    -------
    ndarray
        `out`.

    Examples
    --------
    >>> means = Band(np.array([0, 2]), np.full((2, 2), 0.5), np.arange(4), 4)
    >>> run_bands(np.array([1.0, 3.0, 5.0, 7.0]), {0: means}, np.empty(2))
    array([2., 6.])
    """
    threads = get_num_threads() if threads is None else threads
    if not out.size:
        return out
    if not image.ndim or not pass_order(bands):
        _copied(image, out, threads)
        return out
    # Step 1: axes in the order of memory, and types that the passes read and write.
    order = memory_order(image)
    source = image.transpose(order)
    if image.dtype == np.float16 or not _is_packed(source):
        kind = np.dtype(np.float32) if image.dtype == np.float16 else image.dtype
        source = np.ascontiguousarray(source, kind)
    source = source.view(np.uint8) if source.dtype.kind == "b" else source
    moved = {order.index(axis): band for axis, band in bands.items()}
    target = out.transpose(order)
    direct = _is_packed(target) and out.dtype.isnative and out.dtype != np.float16
    truth = out.dtype.kind == "b"
    if not direct or truth:
        kind = (
            np.dtype(np.uint8) if truth else np.result_type(out.dtype.newbyteorder("="), np.uint8)
        )
        kind = np.dtype(np.float32) if out.dtype == np.float16 else kind
        kind = out.dtype.newbyteorder("=") if kind != np.float32 and not truth else kind
        target = empty(target.shape, kind)
    # Step 2: the passes.
    work = np.dtype(np.float64) if whole_sums else resampling_work(source.dtype, target.dtype)
    passes = _Passes(moved, pass_order(moved), work, cval, threads, SNAP if whole_sums else 0.0)
    if not _run_in_sweep(passes, source, target):
        sums = empty(target.shape, work) if whole_sums else target
        _run_in_slabs(passes, source, sums)
        if whole_sums:
            store(sums, target, threads)
    # Step 3: results of other types or in another order.
    if truth:
        out[...] = np.minimum(target, 1).transpose(np.argsort(order))
    elif not direct:
        out[...] = target.transpose(np.argsort(order))
    return out


def _copied(image: Array, out: Array, threads: int) -> None:
    if (
        image.dtype == out.dtype
        or not image.ndim
        or (image.dtype.kind in "biu" and np.can_cast(image.dtype, out.dtype, "safe"))
    ):
        out[...] = image
    else:
        store(np.atleast_1d(image), np.atleast_1d(out), threads)


def _is_packed(array: Array) -> bool:
    """Return whether an array, its axes in the order of memory, has no gaps and steps forwards."""
    expected = array.itemsize
    for size, step in zip(array.shape[::-1], array.strides[::-1], strict=True):
        if size > 1 and step != expected:
            return False
        expected *= size
    return array.dtype.isnative


@dataclass(frozen=True, eq=False)
class _Passes:
    """Bands of an array whose axes are in the order of memory, and how they run."""

    bands: dict[int, Band]
    order: list[int]
    work: np.dtype[Any]
    cval: float
    threads: int
    snap: float = 0.0


def decimates(bands: Mapping[int, Band], order: Sequence[int], shape: Sequence[int]) -> bool:
    """Return whether one compiled sweep can run some passes, for a packed image of this shape.

    Outputs must be equally far apart along two or three axes, which are filtered from the outermost to the innermost.

    Examples
    --------
    >>> halves = Band(np.array([0, 2]), np.full((2, 2), 0.5), np.arange(4), 4)
    >>> decimates({0: halves, 1: halves}, [0, 1], (4, 4)), decimates({0: halves}, [0], (4, 4))
    (True, False)
    """
    if len(order) not in (2, 3) or list(order) != sorted(order):
        return False
    used = [bands[axis] for axis in order]
    limits = MOST_SWEPT_TAPS[-len(order) :]
    if any(band.taps > most or not band.stride for band, most in zip(used, limits, strict=True)):
        return False
    first, last = used[-1].common_outputs
    channels = math.prod(shape[order[-1] + 1 :])
    return used[-1].stride * channels <= MOST_CUT and 2 * (last - first) >= used[-1].size


def _run_in_sweep(passes: _Passes, source: Array, target: Array) -> bool:
    """Run all passes in one sweep where the compiled engine can; return whether it did."""
    if not (available() and decimates(passes.bands, passes.order, source.shape)):
        return False
    used = tuple(passes.bands[axis] for axis in passes.order)
    key = (
        *map(id, used), tuple(passes.order), source.shape, source.dtype, target.dtype, passes.work,
        passes.cval, passes.threads, passes.snap,
    )  # fmt: skip

    def build() -> tuple[Any, Any]:
        with compiling:
            from separable.resample.compiled.decimation_schedule import DecimationSchedule
        arrays = (source, target)
        made = DecimationSchedule(
            passes.bands,
            passes.order,
            arrays,
            passes.work,
            passes.cval,
            passes.threads,
            passes.snap,
        )
        return made, used  # bands that live on keep their identity

    try:
        schedule, _ = _schedules.get_or_build(key, build)
        if schedule.fits:
            schedule.run(source, target)
        return bool(schedule.fits)
    except EngineError:  # found at a first run, with nothing lost
        return False


def _run_in_slabs(passes: _Passes, source: Array, target: Array) -> None:
    """Run all passes for one slab of the result after the other."""
    axis, rows = _cut(passes, source.shape, target.shape)
    schedules: dict[Any, Any] = {}
    count = target.shape[axis]
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        place = (slice(None),) * axis + (slice(start, stop),)
        part = source if axis in passes.order else source[place]
        slab = _Slab(axis, start, stop, rows if rows < count else 0)
        _run_slab(passes, slab, part, target[place], schedules)


def _cut(passes: _Passes, shape: tuple[int, ...], result: tuple[int, ...]) -> tuple[int, int]:
    """Return the axis to cut the result along, and the rows of a slab."""
    first = passes.order[0]
    if len(passes.order) == 1:
        return first, result[first]
    unfiltered = [a for a in range(min(passes.order)) if result[a] > 1]
    axis = unfiltered[0] if unfiltered else first
    # Bytes that a row of the slab needs: the largest two successive intermediate results.
    sides, needed = list(shape), []
    for done in passes.order[:-1]:
        sides[done] = result[done]
        needed.append(math.prod(n for a, n in enumerate(sides) if a != axis) * passes.work.itemsize)
    row = max(a + b for a, b in zip([0, *needed], needed, strict=False))
    rows = max(1, CACHE_BYTES // row)
    if axis == first:
        band = passes.bands[first]
        rows = max(rows, math.ceil(HALO_SHARE * (band.taps - 1) / band.positions_per_output))
    rows = max(1, min(rows, MOST_BYTES // row))
    for step in (64, SLAB_STEP):
        if rows >= step:  # the slabs of one schedule are whole blocks
            rows -= rows % step
            break
    return axis, min(rows, result[axis])


@dataclass(frozen=True)
class _Slab:
    """The outputs ``start`` to ``stop - 1`` along one axis; `rows` is the size of all slabs but the last, or 0."""

    axis: int
    start: int
    stop: int
    rows: int


def _run_slab(
    passes: _Passes,
    slab: _Slab,
    source: Array,
    target: Array,
    schedules: dict[Any, Any],
) -> None:
    """Run all passes of one slab; what lies between them is of the working type."""
    current = source
    for number, axis in enumerate(passes.order):
        if number == len(passes.order) - 1:
            result = target
        else:
            size = slab.stop - slab.start if axis == slab.axis else passes.bands[axis].size
            shape = (*current.shape[:axis], size, *current.shape[axis + 1 :])
            result = empty(shape, passes.work)
        _run_pass(passes, axis, slab, (current, result), schedules)
        current = result


def _run_pass(
    passes: _Passes,
    axis: int,
    slab: _Slab,
    arrays: tuple[Array, Array],
    schedules: dict[Any, Any],
) -> None:
    """Run one pass of a slab by compiled code, else as a sparse matrix."""
    source, target = arrays
    band, rows = passes.bands[axis], slab.rows if axis == slab.axis else 0
    if rows % SLAB_STEP:  # a few rows of a volume with very large planes
        band, rows = band.part(slab.start, slab.stop), 0
    if available() and band.taps <= MOST_COMPILED_TAPS:
        place = target.__array_interface__["data"][0] % LINE_BYTES  # decides how results are stored
        key = (axis, rows or band, source.shape, source.strides, target.strides, place)
        try:
            with compiling:
                from separable.resample.compiled.band_schedule import BandSchedule
            schedule = schedules.get(key)
            if schedule is None:
                schedule = schedules[key] = BandSchedule(
                    band, axis, source, target, passes.work, passes.cval, passes.threads, rows
                )
            if rows:
                schedule.run_slab(source, target, slab.start, slab.stop)
            else:
                schedule.run(source, target)
            return
        except EngineError:  # found at a first run, with nothing lost
            pass
    if rows:
        band = band.part(slab.start, slab.stop)
    _run_sparse(passes, band, axis, source, target)


def _run_sparse(passes: _Passes, band: Band, axis: int, source: Array, target: Array) -> None:
    """Run one pass as the product of a sparse matrix with all lines."""
    values = np.moveaxis(source, axis, 0).astype(passes.work, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        found = band.matrix().astype(passes.work) @ values.reshape(len(values), -1)
        if band.weight_outside.any():
            found += (band.weight_outside * passes.cval).astype(passes.work)[:, None]
    result = np.moveaxis(found.reshape(band.size, *values.shape[1:]), 0, axis)
    store(np.atleast_1d(result), target, passes.threads)
