"""Compile common kernels in advance."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import announce_compiling, compiling

__all__ = ["is_compiled", "warmup"]

TYPES = ("float32", "uint8", "uint16", "float64", "int16", "int32")


def is_compiled() -> bool:
    """Return whether this version has compiled anything for this computer before."""
    with compiling:
        from separable.engine.compiled.code_cache import has_entries
        from separable.engine.compiled.jit import cache_folder

    return has_entries(cache_folder())


def _compile_line_filters(image: NDArray[Any], out: NDArray[Any], work: np.dtype[Any]) -> None:
    """Compile box filters and recursions."""
    with compiling:
        from separable.engine.compiled.box_filter import box_lines
        from separable.engine.compiled.recursive_filter import ORDERS, fit, recursive_lines

    taps = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    border = np.clip(np.arange(-8, 48), 0, 39)
    shape, axes, lefts, borders = image.shape, (1, 2), (8, 8), [border] * 2
    box_lines(shape, axes, (17, 17), lefts, borders, work=work)(image, out)
    for order in ORDERS:
        found = fit(taps, order)
        if found is not None:
            recursion = recursive_lines(shape, axes, [found[0]] * 2, lefts, borders, work=work)
            recursion(image, out)


def warmup(progress: Callable[[float], None] | None = None) -> int:
    """Compile the kernels of filters of common dtypes, and keep them on disk.

    Parameters
    ----------
    progress : callable, optional
        Called after each step with the fraction of the work that it did.

    Returns
    -------
    int
        Number of combinations of dtypes that were compiled.

    Raises
    ------
    EngineError
        If the compiled engine cannot be used.
    """
    announce_compiling(shown=False)  # the caller asked for it
    with compiling:
        from separable.engine.compiled.term_sums import Correlation, DenseCorrelation

    pairs = [(a, a) for a in TYPES]
    pairs += [(a, "float32") for a in ("uint8", "uint16")]
    pairs += [(a, "float64") for a in ("float32", "uint8", "uint16")]
    for source, target in pairs:
        small = all(np.dtype(t).itemsize <= 2 or t == "float32" for t in (source, target))
        work = np.dtype(np.float32 if small else np.float64)
        image, out = np.ones((5, 40, 40), source), np.empty((5, 40, 40), target)
        row = [np.array([0.25, 0.5, 0.25])]
        for axes in itertools.chain([(1, 2), (0, 1, 2), (2,)]):
            borders = [np.clip(np.arange(-1, image.shape[a] + 1), 0, None) for a in axes]
            borders = [
                np.minimum(b, image.shape[a] - 1) for a, b in zip(axes, borders, strict=True)
            ]
            lefts = (1,) * len(axes)
            common = (axes, lefts, borders, 0.0, work, image.shape)
            Correlation([row * len(axes)], *common)(image, out)
            if len(axes) == 2:
                DenseCorrelation(np.ones((3, 3)) / 9, *common)(image, out)
        if source == target and source in ("float32", "float64", "uint8"):
            _compile_line_filters(image, out, work)
        if progress:
            progress(1.0 / len(pairs))
    return len(pairs)
