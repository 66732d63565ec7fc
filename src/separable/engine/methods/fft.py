"""One transform of the whole image, by scipy.fft.

What is computed: the product of the transforms of the image (its border written out) and of the
kernel. Used for finite input only: one NaN would spread over the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import extend
from separable.engine.base import Form, Problem, Work
from separable.engine.lazy_kernel import ldexp, within_range

__all__ = ["fast_length", "refuse", "run", "transform_dtype", "work"]

Array = NDArray[Any]


def refuse(problem: Problem, form: Form) -> str:
    """Say why the transform cannot be used, or nothing."""
    if not np.isfinite(problem.cval):
        return "cval is not finite"
    return ""


def work(problem: Problem, form: Form) -> Work:
    """Count what two transforms of the extended image and one of the kernel do."""
    lengths = _lengths(problem)
    batch = problem.size // max(1, math.prod(problem.shape[a] for a in problem.axes))
    points = math.prod(lengths)
    logs = math.log2(max(2, points))
    elements = float(points * (2 * batch + 1))
    size = transform_dtype(problem).itemsize
    # A real transform of n points multiplies about n log2(n) times, half of a complex one.
    multiplications = (elements * logs + 2 * points * batch) / max(1, problem.size)
    counts = {"call": 1.0, "element": elements, "element log": elements * logs}
    eps = float(np.finfo(transform_dtype(problem)).eps)
    moved = elements * size * 2 * len(lengths)
    return Work(2, multiplications, moved, counts, 2 * logs * eps + _storing(problem))


def run(
    problem: Problem, form: Form, image: Array, target: Array, tick: Callable[[float], None]
) -> None:
    """Extend, transform, multiply, transform back, crop."""
    import scipy.fft

    dtype = transform_dtype(problem)
    extended = extend(image, problem.axes, problem.widths, problem.modes, problem.cval, dtype)
    extended, exponent = within_range(extended)
    lengths = _lengths(problem)
    kernel = spectrum_of(form.kernel, lengths, problem, image.ndim)
    forward, backward = transforms(problem)
    with scipy.fft.set_workers(problem.threads):
        spectrum = forward(extended, lengths, axes=problem.axes)
        tick(0.5)
        spectrum *= kernel
        full = backward(spectrum, lengths, axes=problem.axes)
    index: list[Any] = [slice(None)] * image.ndim
    for axis, n in zip(problem.axes, problem.kernel_shape, strict=True):
        index[axis] = slice(n - 1, n - 1 + problem.shape[axis])
    result = full[tuple(index)]
    target[...] = ldexp(result, exponent) if exponent else result
    tick(0.5)


def transform_dtype(problem: Problem) -> np.dtype[Any]:
    """float64 throughout: a float32 transform loses 1e-6 of the largest value, passes do not."""
    return np.dtype(np.complex128 if problem.work.kind == "c" else np.float64)


def transforms(problem: Problem) -> tuple[Any, Any]:
    """Return the forward and backward transform for this problem's type."""
    import scipy.fft

    if problem.work.kind == "c":
        return scipy.fft.fftn, scipy.fft.ifftn
    return scipy.fft.rfftn, scipy.fft.irfftn


def spectrum_of(kernel: Array, lengths: tuple[int, ...], problem: Problem, ndim: int) -> Array:
    """Return the transform of the flipped kernel, with axes of one for the image's other axes."""
    forward, _ = transforms(problem)
    flipped = np.flip(kernel)
    if problem.work.kind == "c":
        flipped = flipped.astype(np.complex128)
    order = np.argsort(problem.axes)
    # The half-spectrum axis is the last one transformed: keep the image's order of axes.
    shape = [1] * ndim
    for axis, n in zip(problem.axes, kernel.shape, strict=True):
        shape[axis] = n
    full = np.transpose(flipped, order).reshape(shape)
    result: Array = forward(full, lengths, axes=problem.axes)
    return result


@lru_cache(maxsize=4096)
def fast_length(n: int) -> int:
    """Return the next length from `n` that transforms fast: without prime factors above 5.

    scipy.fft has a function for this; planning needs no more of it, and its import takes long.

    Examples
    --------
    >>> [fast_length(n) for n in (1, 7, 11, 4112)]
    [1, 8, 12, 4320]
    """
    best = 1 << max(0, n - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = 1 << max(0, -(-n // threes) - 1).bit_length()
            best = min(best, threes * twos)
            threes *= 3
        fives *= 5
    return best


def _lengths(problem: Problem) -> tuple[int, ...]:
    return tuple(
        fast_length(problem.shape[axis] + n - 1)
        for axis, n in zip(problem.axes, problem.kernel_shape, strict=True)
    )


def _storing(problem: Problem) -> float:
    return float(np.finfo(problem.work).eps) / 2
