"""The dense kernel, sample by sample, by SciPy's ``correlate``.

What is computed: the sum over all non-zero weights. How: slabs of an image whose border is written
out, so that the threads need not agree on anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border, extend
from separable.engine.base import Form, Problem, Work
from separable.engine.lazy_kernel import ldexp, within_range
from separable.engine.thread_count import in_parallel, slabs

__all__ = ["correlate", "extended_dtype", "refuse", "run", "work"]

Array = NDArray[Any]

MOST_WEIGHTS = 1 << 14
SLABS = 8  # for each thread


def refuse(problem: Problem, form: Form) -> str:
    """Say why the dense kernel should not be run, or nothing."""
    if form.weights.size > MOST_WEIGHTS:
        return f"{form.weights.size} weights: SciPy's tables of them would fill the memory"
    return ""


def work(problem: Problem, form: Form) -> Work:
    """Count what the dense kernel does."""
    n = problem.size
    counts = {"call": 1.0, "element": float(n), "dense tap": float(n * form.multiplications)}
    moved = n * (problem.dtype.itemsize + problem.work.itemsize)
    eps = float(np.finfo(problem.work).eps)
    return Work(1, form.multiplications, float(moved), counts, eps)


def run(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Run the dense kernel."""
    correlate(
        problem, image, form.kernel, problem.axes, problem.lefts, problem.modes, problem.cval,
        target, tick,
    )  # fmt: skip


def correlate(
    problem: Problem,
    image: Array,
    kernel: Array,
    axes: Sequence[int],
    lefts: Sequence[int],
    borders: Sequence[Border],
    cval: complex,
    out: Array,
    tick: Callable[[float], None] = lambda _: None,
) -> None:
    """Correlate an image with a dense kernel over some of its axes."""
    widths = [(left, n - 1 - left) for left, n in zip(lefts, kernel.shape, strict=True)]
    kind = extended_dtype(image.dtype, problem.work, borders, cval)
    extended = extend(image, axes, widths, borders, cval, kind)
    weights, scale = _rescaled(kernel)
    full_shape = [1] * image.ndim
    for axis, n in zip(axes, kernel.shape, strict=True):
        full_shape[axis] = n
    weights = np.transpose(weights, np.argsort(axes)).reshape(full_shape)
    if not weights.any():
        out[...] = 0
        return
    parts = slabs(image.shape[0], SLABS * problem.threads)

    def job(part: slice) -> None:
        _slab(extended, weights, scale, part, out)
        tick(1.0 / len(parts))

    in_parallel(job, parts, problem.threads)


def extended_dtype(
    image: np.dtype[Any], work: np.dtype[Any], borders: Sequence[Border], cval: complex
) -> np.dtype[Any]:
    """Return a type that holds the samples of an image and the constant outside it."""
    fills = cval != 0 and any(border.fills for border in borders)
    return np.result_type(image, work) if fills and image.kind in "biuf" else image


def _slab(extended: Array, weights: Array, scale: float, part: slice, out: Array) -> None:
    """The rows `part` of the output, from an image with its border written out."""
    from scipy import ndimage  # imported when first used: half of the package's import time

    rows = extended[part.start : part.stop + weights.shape[0] - 1]
    # Scaled up, weights might overflow single precision.
    room = np.empty(rows.shape, out.dtype if scale == 1.0 else np.result_type(out, np.float64))
    if room.dtype.kind == "c" and not (np.iscomplexobj(rows) or np.iscomplexobj(weights)):
        rows = rows.astype(room.dtype)  # SciPy writes complex results only for complex arguments
    exponent = 0
    if scale != 1.0:  # and large samples might overflow even double precision
        rows, exponent = within_range(rows)
    # SciPy conjugates complex weights when it correlates: undo that.
    ndimage.correlate(rows, np.conj(weights), room, mode="constant")
    inner = tuple(
        slice(n // 2, n // 2 + size - n + 1)
        for n, size in zip(weights.shape, rows.shape, strict=True)
    )
    out[part] = room[inner] if scale == 1.0 else ldexp(room[inner] * scale, exponent)


def _rescaled(kernel: Array) -> tuple[Array, float]:
    """Guard small weights against SciPy, which drops those below 1 eps, by a power of two."""
    size = np.abs(kernel if kernel.dtype.kind != "c" else np.stack([kernel.real, kernel.imag]))
    small = size[(size > 0) & (size <= 4 * np.finfo(np.float64).eps)]
    if not small.size:
        return kernel, 1.0
    _, exponent = np.frexp(float(size.max()))
    return ldexp(kernel, 60 - exponent), float(np.ldexp(1.0, exponent - 60))
