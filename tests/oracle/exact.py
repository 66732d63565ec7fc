"""Expected results: SciPy's result in double precision, or the dense definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage

MODES = (
    "reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant",
)  # fmt: skip
TYPES = (
    "float64", "float32", "float16", "complex128", "complex64", "bool", "uint8", "int8", "uint16",
    "int16", "int32", "int64",
)  # fmt: skip

ODD = np.random.default_rng(1).normal(size=(3, 5))
EVEN = np.random.default_rng(2).normal(size=(4, 2))
LINE = np.array([1.0, -2.5, 0.25, 3.0])


@dataclass(frozen=True)
class Case:
    """A function with fixed arguments.

    `call(module, image, **options)` is the filter; `norm` bounds the sum of its kernel's absolute
    values, `reach` how far it reaches. `parts` are the linear filters whose squares it adds up,
    where it is not linear itself.
    """

    call: Callable[..., Any]
    norm: float
    reach: int = 12
    parts: tuple[Callable[..., Any], ...] = ()


CASES = {
    "convolve": Case(lambda m, x, **k: m.convolve(x, ODD, **k), np.abs(ODD).sum()),
    "convolve even": Case(lambda m, x, **k: m.convolve(x, EVEN, **k), np.abs(EVEN).sum()),
    "correlate": Case(lambda m, x, **k: m.correlate(x, ODD, **k), np.abs(ODD).sum()),
    "correlate even": Case(lambda m, x, **k: m.correlate(x, EVEN, **k), np.abs(EVEN).sum()),
    "correlate rank 1": Case(
        lambda m, x, **k: m.correlate(x, np.outer([1, 2, 1], LINE), **k), 4 * np.abs(LINE).sum()
    ),
    "convolve1d": Case(lambda m, x, **k: m.convolve1d(x, LINE, 0, **k), np.abs(LINE).sum()),
    "correlate1d": Case(lambda m, x, **k: m.correlate1d(x, LINE, **k), np.abs(LINE).sum()),
    "gaussian_filter": Case(lambda m, x, **k: m.gaussian_filter(x, (1.6, 0.7), **k), 1),
    "gaussian_filter order": Case(
        lambda m, x, **k: m.gaussian_filter(x, (1.6, 0.9), (2, 1), **k), 1
    ),
    "gaussian_filter1d": Case(lambda m, x, **k: m.gaussian_filter1d(x, 1.2, 0, **k), 1),
    "gaussian_laplace": Case(lambda m, x, **k: m.gaussian_laplace(x, (1.6, 0.8), **k), 4),
    "gaussian_gradient_magnitude": Case(
        lambda m, x, **k: m.gaussian_gradient_magnitude(x, (1.6, 0.8), **k),
        2,
        parts=(
            lambda m, x, **k: m.gaussian_filter(x, (1.6, 0.8), (1, 0), **k),
            lambda m, x, **k: m.gaussian_filter(x, (1.6, 0.8), (0, 1), **k),
        ),
    ),
    "laplace": Case(lambda m, x, **k: m.laplace(x, **k), 8),
    "generic_laplace": Case(lambda m, x, **k: m.generic_laplace(x, m.sobel, **k), 16),
    "generic_gradient_magnitude": Case(
        lambda m, x, **k: m.generic_gradient_magnitude(x, m.prewitt, **k),
        12,
        parts=(
            lambda m, x, **k: m.prewitt(x, 0, **k),
            lambda m, x, **k: m.prewitt(x, 1, **k),
        ),
    ),
    "sobel": Case(lambda m, x, **k: m.sobel(x, **k), 8),
    "prewitt": Case(lambda m, x, **k: m.prewitt(x, 0, **k), 6),
    "uniform_filter": Case(lambda m, x, **k: m.uniform_filter(x, (4, 3), **k), 1),
    "uniform_filter origin": Case(
        lambda m, x, **k: m.uniform_filter(x, (4, 5), origin=(-2, 1), **k), 1
    ),
    "uniform_filter1d": Case(lambda m, x, **k: m.uniform_filter1d(x, 5, origin=-2, **k), 1),
}


def image_of(dtype: Any, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random pixels over the range of the type."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        info = np.iinfo(kind)
        low, high = max(info.min, -(2**40)), min(info.max, 2**40)
        return rng.integers(low, high, shape, kind, endpoint=True)
    values = rng.normal(size=shape)
    if kind.kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return values.astype(kind)


def double(image: np.ndarray) -> np.ndarray:
    """The same pixels in double precision."""
    return image.astype(np.complex128 if image.dtype.kind == "c" else np.float64)


def dense_kernel(call: Callable[..., Any], ndim: int, reach: int) -> np.ndarray:
    """The dense kernel (for correlation) of a linear filter: its answer to one bright pixel."""
    spot = np.zeros((2 * reach + 1,) * ndim)
    spot[(reach,) * ndim] = 1.0
    return np.flip(call(scipy.ndimage, spot, mode="constant"))


def expected(case: Case, image: np.ndarray, mode: str = "reflect", cval: float = 0.0) -> np.ndarray:
    """The result in double precision.

    SciPy's own; but a filter of several passes takes the same `cval` for each, which is wrong for
    any but 0: there the dense kernel counts.
    """
    exact = double(image)
    if cval == 0 or "constant" not in mode:
        return np.asarray(case.call(scipy.ndimage, exact, mode=mode, cval=cval))
    parts = [
        scipy.ndimage.correlate(
            exact, dense_kernel(call, image.ndim, case.reach), mode=mode, cval=cval
        )
        for call in case.parts or (case.call,)
    ]
    return np.sqrt(sum(p * p for p in parts)) if case.parts else parts[0]


def assert_close(
    result: np.ndarray, exact: np.ndarray, largest: float, what: object = "", dtype: Any = None
) -> None:
    """Check a result against the exact one; `largest` bounds max|input| * sum|kernel|.

    float64 to 1e-13, float32 to 1e-6, float16 to 1e-3 of `largest`; whole numbers to half a grey
    level after saturation.
    """
    kind = np.dtype(dtype) if dtype is not None else result.dtype
    assert result.dtype == kind, what
    assert result.shape == exact.shape, what
    if kind.kind in "biu":
        low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
        exact, bound = np.clip(exact, float(low), float(high)), 0.5 + 1e-6 * largest
        if kind.itemsize > 2:
            bound = 0.5 + 1e-13 * largest
        result = result.astype(np.float64)
    else:
        relative = {8: 1e-13, 4: 1e-6, 2: 1e-3}[kind.itemsize // (2 if kind.kind == "c" else 1)]
        bound = relative * largest
    worst = float(np.max(np.abs(result - exact), initial=0.0))
    assert worst <= bound, f"{what}: off by {worst:.3g}, {bound:.3g} allowed"
