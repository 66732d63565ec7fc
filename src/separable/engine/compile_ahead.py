"""Compile ahead what common use needs, and say so when it happens by itself."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import compiling

__all__ = ["is_compiled", "say_once", "warmup"]

TYPES = ("float32", "uint8", "uint16", "float64", "int16", "int32")

_said = False


def is_compiled() -> bool:
    """Return whether this version has compiled anything for this computer before."""
    with compiling:
        from separable.engine.compiled.code_cache import has_entries
        from separable.engine.compiled.jit import cache_folder

    return has_entries(cache_folder())


def _lines(image: NDArray[Any], out: NDArray[Any], work: np.dtype[Any]) -> None:
    """Compile running sums and recursions."""
    with compiling:
        from separable.engine.compiled.box_filter import box
        from separable.engine.compiled.recursive_filter import ORDERS, fit, recursive

    taps = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    border = np.clip(np.arange(-8, 48), 0, 39)
    box(image, out, (1, 2), (17, 17), (8, 8), [border] * 2, work=work)
    for order in ORDERS:
        found = fit(taps, order)
        if found is not None:
            recursive(image, out, (1, 2), [found[0]] * 2, (8, 8), [border] * 2, work=work)


def say_once() -> None:
    """Say on a terminal that something is compiled now: it takes seconds, and only once."""
    global _said
    if _said:
        return
    _said = True
    if sys.stderr is not None and sys.stderr.isatty():
        print(
            "separable: compiling for this computer, once (some seconds). "
            "`separable warmup` compiles everything ahead.",
            file=sys.stderr,
        )


def warmup(progress: Callable[[float], None] | None = None) -> int:
    """Compile what filters of the common types need, and keep it on disk.

    Parameters
    ----------
    progress : callable, optional
        Called with the fraction of the work just done.

    Returns
    -------
    int
        How many combinations of types were tried out.

    Raises
    ------
    EngineError
        If the compiled engine cannot be used.
    """
    global _said
    _said = True  # who calls this knows
    with compiling:
        from separable.engine.compiled.term_sums import correlate_dense, correlate_terms

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
            correlate_terms(image, out, [row * len(axes)], axes, lefts, borders, 0.0, work, 1)
            if len(axes) == 2:
                kernel = np.ones((3, 3)) / 9
                correlate_dense(image, out, kernel, axes, lefts, borders, 0.0, work, 1)
        if source == target and source in ("float32", "float64", "uint8"):
            _lines(image, out, work)
        if progress:
            progress(1.0 / len(pairs))
    return len(pairs)
