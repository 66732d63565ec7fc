"""One transform of the whole image, by scipy.fft.

The transforms of the image, extended by its border, and of the kernel are multiplied. The method is used
for finite images only: one NaN would spread over the whole result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.borders import extend
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.lazy_kernel import ldexp, within_range
from separable.engine.method import DENSE, CalibrationCase, Method, Progress, TermSizes

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["Fft", "fast_length", "spectrum_of", "transform_dtype", "transforms"]

Array = NDArray[Any]


class Fft(Method):
    """One transform of the whole image."""

    name = "fft"
    title = "FFT"
    explanation = "multiplies the Fourier transforms of the image and of the kernel"
    runs = (DENSE,)
    spreads_nan = True
    scales_with: ClassVar[Mapping[str, str]] = {
        "call": "numpy_call",
        "tile": "scalar",
        "element": "scalar",
        "element log": "scalar",
    }

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the transform cannot be used, or an empty string."""
        if not np.isfinite(problem.cval):
            return "cval is not finite"
        return ""

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count two transforms of the extended image, one of the kernel, and their product."""
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
        return WorkEstimate(2, multiplications, moved, counts, 2 * logs * eps + _storing(problem))

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return the time of transforms that cover every sample once, forth and back."""
        logs = math.log2(max(2, math.prod(problem.shape[a] for a in problem.axes)))
        elements = 2.0 * problem.size
        counts = {"call": 1.0, "element": elements, "element log": elements * logs}
        return self.seconds(machine, problem, counts)

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Extend, transform, multiply, transform back, crop."""
        import scipy.fft

        dtype = transform_dtype(problem)
        extended = extend(image, problem.axes, problem.widths, problem.modes, problem.cval, dtype)
        extended, exponent = within_range(extended)
        lengths = _lengths(problem)
        kernel = spectrum_of(decomposition.kernel, lengths, problem, image.ndim)
        forward, backward = transforms(problem)
        with scipy.fft.set_workers(problem.threads):
            spectrum = forward(extended, lengths, axes=problem.axes)
            progress(0.5)
            spectrum *= kernel
            full = backward(spectrum, lengths, axes=problem.axes)
        index: list[Any] = [slice(None)] * image.ndim
        for axis, n in zip(problem.axes, problem.kernel_shape, strict=True):
            index[axis] = slice(n - 1, n - 1 + problem.shape[axis])
        result = full[tuple(index)]
        target[...] = ldexp(result, exponent) if exponent else result
        progress(0.5)

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield small and large images, and a volume; the time hardly depends on their type."""
        for shape, size in (((64, 64), 9), ((500, 600), 9), ((1000, 1000), 33), ((1500, 1500), 65)):
            yield CalibrationCase(self.name, "float32", shape, ("general", size, size), (0, 1))
        yield CalibrationCase(self.name, "float32", (64, 100, 100), ("general", 9, 9, 9), (0, 1, 2))


def transform_dtype(problem: Problem) -> np.dtype[Any]:
    """Return the type of the transforms: double precision, for float32 would lose 1e-6 of the peak."""
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
    """Return the smallest length >= `n` without prime factors above 5, for which an FFT is fast.

    `scipy.fft.next_fast_len` does the same. It is not used because importing `scipy.fft` takes long
    and a plan needs nothing else from it.

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
