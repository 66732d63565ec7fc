"""The dense kernel, sample by sample, by SciPy's ``correlate``.

The image is extended by its border and cut into slabs, which threads filter independently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border, extend
from separable.engine.base import Decomposition, Problem, WorkEstimate
from separable.engine.lazy_kernel import ldexp, within_range
from separable.engine.method import DENSE, CalibrationCase, Method, Progress
from separable.engine.thread_count import in_parallel, slabs

__all__ = ["ScipyDirect", "correlate", "extended_dtype"]

Array = NDArray[Any]

MOST_WEIGHTS = 1 << 14
SLABS = 8  # for each thread


class ScipyDirect(Method):
    """The dense kernel by SciPy, slab by slab."""

    name = "correlate"
    title = "SciPy's dense filter"
    explanation = (
        "multiplies every sample below the kernel by its weight, by scipy.ndimage.correlate"
    )
    runs = (DENSE,)
    own_candidate = False
    chunk_invariant = True
    exact_beside_small_weights = True
    runs_on_tensors = True
    scales_with: ClassVar[Mapping[str, str]] = {
        "call": "numpy_call",
        "element": "scalar",
        "dense tap": "scalar",
    }

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the dense kernel should not be run, or an empty string."""
        if decomposition.weights.size > MOST_WEIGHTS:
            return f"{decomposition.weights.size} weights: SciPy's tables of them would fill the memory"
        return ""

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count the weights that are not zero."""
        n = problem.size
        counts = {
            "call": 1.0,
            "element": float(n),
            "dense tap": float(n * decomposition.multiplications),
        }
        moved = n * (problem.dtype.itemsize + problem.work.itemsize)
        eps = float(np.finfo(problem.work).eps)
        return WorkEstimate(1, decomposition.multiplications, float(moved), counts, eps)

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Run the dense kernel."""
        correlate(
            problem, image, decomposition.kernel, problem.axes, problem.lefts, problem.modes, problem.cval,
            target, progress,
        )  # fmt: skip

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield small and large kernels, on two axes and three."""
        for dtype in ("float32", "float64"):
            for size in (3, 5, 9, 15):
                yield CalibrationCase(self.name, dtype, (250, 250), ("general", size, size), (0, 1))
            yield CalibrationCase(self.name, dtype, (64, 64), ("general", 5, 5), (0, 1))
            yield CalibrationCase(self.name, dtype, (40, 60, 60), ("general", 3, 3, 3), (0, 1, 2))


def correlate(
    problem: Problem,
    image: Array,
    kernel: Array,
    axes: Sequence[int],
    lefts: Sequence[int],
    borders: Sequence[Border],
    cval: complex,
    out: Array,
    progress: Callable[[float], None] = lambda _: None,
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
        progress(1.0 / len(parts))

    in_parallel(job, parts, problem.threads)


def extended_dtype(
    image: np.dtype[Any], work: np.dtype[Any], borders: Sequence[Border], cval: complex
) -> np.dtype[Any]:
    """Return a type that holds the samples of an image and the constant outside it."""
    fills = cval != 0 and any(border.fills for border in borders)
    return np.result_type(image, work) if fills and image.kind in "biuf" else image


def _slab(extended: Array, weights: Array, scale: float, part: slice, out: Array) -> None:
    """Compute the rows `part` of the output from an image extended by its border."""
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
