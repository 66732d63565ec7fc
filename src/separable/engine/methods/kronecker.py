"""Coarse and fine passes of Kronecker products and dilated kernels, by the compiled engine.

The border of the image is written out once, for the whole kernel. Then, block of rows by block of rows, the passes
of each term run one after the other on what is inside, so that no pass needs a border of its own and the values
between the passes stay in the cache. Samples that two blocks need are computed twice.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.borders import extend
from separable.engine.availability import compiling, why_not
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.method import KRONECKER, Method, Progress
from separable.engine.methods.scipy_direct import extended_dtype
from separable.engine.spread_passes import SpreadPass
from separable.engine.thread_count import in_parallel, slabs

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["Kronecker"]

Array = NDArray[Any]

BLOCK_BYTES = (
    1 << 19
)  # of the samples of a block: they and the values between passes fit the second-level cache
LEAST_SHARE = 2  # rows of a block, in units of the rows that two blocks both need
# Time of the copies, in units of the samples that the dense filter reads and writes: the border written out, the blocks
# and their scratch memory. Measured with 25 taps in one pass and 34 in two, on 1000x1000 float32.
COPIES, COPIES_OF_A_PASS = 8, 2
MOST_ROUNDING = 8.0  # halves of eps of one pass, as of a dense kernel


class Kronecker(Method):
    """Fine passes, then coarse passes whose taps lie apart, for each Kronecker term."""

    name = "kronecker"
    title = "coarse and fine passes"
    explanation = (
        "runs a fine pass and then a coarse one whose taps lie apart, for each Kronecker term"
    )
    kernels = "Kronecker products and dilated kernels"
    runs = (KRONECKER,)
    fallback = "correlate"
    rates_of = "dense"  # the inner loops load and multiply alike
    scales_with: ClassVar[Mapping[str, str]] = {}

    @property
    def separated(self) -> bool:
        """Return False, because the decomposition also holds the dense kernel, which other methods run."""
        return False

    def unavailable(self) -> str:
        """Return why the compiled engine cannot be used, or an empty string."""
        return why_not()

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the passes cannot be run, or an empty string."""
        if not decomposition.spread:
            return "the kernel is neither a Kronecker product nor dilated"
        if any(p.taps.dtype.kind == "c" for chain in decomposition.spread for p in chain):
            return "its weights are complex"
        return why_not()

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count the taps of all passes, with the rows that blocks compute twice."""
        chains = decomposition.spread
        passes = sum(len(chain) for chain in chains)
        layout = _Layout.of(problem)
        twice = 1.0 + _overlap(problem, layout) / max(1, layout.block_rows)
        taps = float(decomposition.multiplications)
        nonzeros = float(sum(p.nonzeros for chain in chains for p in chain))
        counts = {
            "call": 10.0 + 5.0 * passes,  # of NumPy, around the compiled loops
            "element": float(problem.size * (COPIES + COPIES_OF_A_PASS * passes)),
            "dense tap": problem.size * nonzeros * twice,
        }
        moved = problem.size * (2.0 * problem.dtype.itemsize + problem.work.itemsize)
        return WorkEstimate(passes, taps, moved, counts, _rounding(problem, decomposition))

    def seconds(self, machine: Machine, problem: Problem, counts: Mapping[str, float]) -> float:
        """Predict the time from the rates of the compiled dense filter, whose inner loop is alike."""
        return machine.predict(self.rates_of, problem.work, counts, problem.threads)

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Write the border out, then run the passes block by block."""
        if not decomposition.spread:
            target[...] = 0
            return
        kind = extended_dtype(image.dtype, problem.work, problem.modes, problem.cval)
        extended = extend(image, problem.axes, problem.widths, problem.modes, problem.cval, kind)
        layout = _Layout.of(problem)
        parts = layout.parts(problem.threads)

        def job(part: slice) -> None:
            _filter_block(problem, decomposition.spread, layout, extended, part, target)
            progress(1.0 / len(parts))

        in_parallel(job, parts, problem.threads)


class _Layout:
    """Image axes as rows: the last filtered axis and all after it are one row in memory."""

    def __init__(self, shape: tuple[int, ...], row_axis: int, reach: int, itemsize: int) -> None:
        self.shape, self.row_axis = shape, row_axis
        self.trail = math.prod(shape[row_axis + 1 :])
        row_bytes = math.prod(shape[1:]) * itemsize if row_axis else itemsize
        wanted = max(BLOCK_BYTES // max(1, row_bytes), LEAST_SHARE * reach, 1)
        self.block_rows = min(shape[0], wanted) if row_axis else shape[0]

    @classmethod
    def of(cls, problem: Problem) -> _Layout:
        """Return the layout of a problem."""
        reach = sum(problem.widths[k][0] + problem.widths[k][1]
                    for k, axis in enumerate(problem.axes) if axis == 0)  # fmt: skip
        return cls(problem.shape, max(problem.axes), reach, problem.work.itemsize)

    def parts(self, threads: int) -> list[slice]:
        """Return the blocks of the first axis; an image that is one row is one block."""
        if not self.row_axis:
            return [slice(0, self.shape[0])]
        count = math.ceil(self.shape[0] / self.block_rows)
        return slabs(self.shape[0], max(count, min(threads, self.shape[0])))


def _overlap(problem: Problem, layout: _Layout) -> int:
    """Return the number of rows that neighbouring blocks both compute."""
    if not layout.row_axis:
        return 0
    return sum(
        sum(widths) for axis, widths in zip(problem.axes, problem.widths, strict=True) if axis == 0
    )


def _rounding(problem: Problem, decomposition: Decomposition) -> float:
    """Return the part of the error bound that comes from rounding: of each pass, and of the sum of the terms."""
    eps = float(np.finfo(problem.work).eps)
    norm = decomposition.weights.norm
    total = 0.0
    for chain in decomposition.spread:
        size = math.prod(float(np.sum(np.abs(p.taps))) for p in chain)
        halves = sum(min(max(2.0, p.taps.size**0.5), MOST_ROUNDING) for p in chain)
        total += size * (halves + len(decomposition.spread) - 1)
    return total / norm * eps / 2 if norm else 0.0


def _filter_block(
    problem: Problem,
    chains: Sequence[Sequence[SpreadPass]],
    layout: _Layout,
    extended: Array,
    part: slice,
    target: Array,
) -> None:
    """Filter the rows `part` of the first axis: the sum of all terms."""
    widths = dict(zip(problem.axes, problem.widths, strict=True))
    rows = slice(part.start, part.stop + sum(widths.get(0, (0, 0))))
    real = np.dtype(f"f{problem.work.itemsize // 2}") if problem.work.kind == "c" else problem.work
    source = extended[rows].astype(problem.work, copy=False)
    pairs = 2 if problem.work.kind == "c" else 1
    # (outer axes..., samples of a row): the axes up to the last filtered one, numbers side by side after it
    flat = np.ascontiguousarray(source).view(real).reshape(*source.shape[: layout.row_axis], -1)
    out_shape = (part.stop - part.start, *problem.shape[1:])
    if layout.row_axis == 0:
        out_shape = problem.shape
    width = out_shape[layout.row_axis] * layout.trail * pairs
    result: Array | None = None
    for chain in chains:
        values = _run_chain(
            flat, chain, problem.axes, layout, pairs, (*out_shape[: layout.row_axis], width)
        )
        result = values if result is None else result + values
    assert result is not None
    done = np.ascontiguousarray(result).view(problem.work).reshape(out_shape)
    target[part if layout.row_axis else slice(None)] = done


def _run_chain(
    source: Array,
    chain: Sequence[SpreadPass],
    axes: Sequence[int],
    layout: _Layout,
    pairs: int,
    shape: tuple[int, ...],
) -> Array:
    """Run the passes of one term on a block with its border; return the values inside (a view)."""
    scale = [1] * source.ndim
    scale[-1] = layout.trail * pairs
    start = [0] * source.ndim
    for p in chain:
        for k, offset in zip(p.axes, p.offset, strict=True):
            start[axes[k]] += offset * scale[axes[k]]
    reaches = [[0] * source.ndim for _ in chain]
    for reach, p in zip(reaches, chain, strict=True):
        for k, r in zip(p.axes, p.reach, strict=True):
            reach[axes[k]] = r * scale[axes[k]]
    size = [n + sum(r[a] for r in reaches) for a, n in enumerate(shape)]
    inside = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    tile = _tile(source.dtype.name)
    values = np.zeros((*size[:-1], size[-1] + tile), source.dtype)
    values[..., : size[-1]] = source[inside]
    for p, reach in zip(chain, reaches, strict=True):
        size = [n - r for n, r in zip(size, reach, strict=True)]
        out = np.zeros((*size[:-1], size[-1] + tile), source.dtype)
        steps = [values.strides[axes[k]] // values.itemsize * d * scale[axes[k]]
                 for k, d in zip(p.axes, p.dilation, strict=True)]  # fmt: skip
        _correlate(values, out, p.taps, steps, size)
        values = out
    return values[..., : shape[-1]]


def _correlate(
    source: Array, out: Array, taps: Array, steps: Sequence[int], size: Sequence[int]
) -> None:
    """Correlate rows with taps whose neighbours lie `steps` numbers apart in memory."""
    where = np.argwhere(taps != 0)
    offsets = np.ascontiguousarray(where @ np.asarray(steps, np.int64), np.int64)
    weights = np.ascontiguousarray(taps[tuple(where.T)], source.dtype)
    starts = np.zeros((1,) * max(1, len(size) - 1), np.int64)
    for axis, n in enumerate(size[:-1]):
        shape = [1] * (len(size) - 1)
        shape[axis] = n
        starts = starts + (np.arange(n) * (source.strides[axis] // source.itemsize)).reshape(shape)
    starts = np.ascontiguousarray(starts.ravel(), np.int64)
    run = _compiled(source.dtype.name)
    run(
        source.ctypes.data, out.ctypes.data, weights.ctypes.data, starts.ctypes.data,
        offsets.ctypes.data, starts.size, out.shape[-1], size[-1], weights.size,
    )  # fmt: skip


@lru_cache(maxsize=4)
def _tile(name: str) -> int:
    """Return how many numbers the compiled loop computes together."""
    with compiling:
        from separable.engine.compiled.spread_taps import tile_of
    return tile_of(name)


@lru_cache(maxsize=4)
def _compiled(name: str) -> Any:
    """Return the compiled loop for one type of numbers."""
    with compiling:
        from separable.engine.compiled.spread_taps import correlate_rows

        return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 6)(
            correlate_rows(name)
        )
