"""Filters of images with missing samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separable.engine.thread_count import get_num_threads
from separable.errors import ArgumentError, ArgumentTypeError
from separable.masked import (
    Missing,
    Passes,
    Planned,
    Run,
    Weights,
    check_nan,
    missing_of,
    normalise,
)
from separable.ndimage.scipy_arguments import Array, Target, is_lazy, target_dtype
from separable.request import FilterAxes

__all__ = ["filtered_valid", "keywords_for", "missing_in"]


def missing_in(
    given: Any,
    image: Array,
    axes: tuple[int, ...],
    target: Target,
    mask: ArrayLike | None,
    nan: str,
    fill: complex,
    cval: Any = 0.0,
) -> Missing | None:
    """Return what is missing of an image, given as the user has it and as an array; or None."""
    asked = mask is not None or not isinstance(nan, str) or nan != "propagate"
    if is_lazy(image):
        lazily: Any = image
        if asked or isinstance(lazily._meta, np.ma.MaskedArray):
            raise ArgumentError(
                "a Dask array takes neither `mask` nor `nan` here, nor masked chunks; call "
                "separable.correlate with a kernel of separable.kernels, which takes all of them, or "
                "compute the array first"
            )
        return None
    if not asked and not isinstance(given, np.ma.MaskedArray):
        return None
    out = target_dtype(target)
    return missing_of(given, image, axes, mask=mask, nan=nan, fill=fill, out=out, cval=cval)


def filtered_valid(
    image: Array,
    kernel: Any,
    where: FilterAxes,
    target: Target,
    missing: Missing,
    operation: str = "correlate",
    void: Array | None = None,
) -> Array:
    """Filter the valid samples with a kernel: dense, `Factors`, or terms of one term.

    `void`, if given, is set to True where nothing below the kernel is valid.
    """
    if not image.size:
        return target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    run: Run
    if isinstance(kernel, tuple):
        run = Passes(where.axes, where.modes, where.origins)
    else:
        options = {
            "operation": operation, "axes": where.axes, "mode": where.modes,
            "origin": where.origins,
        }  # fmt: skip
        run = Planned(options, None, "auto", None)
    weights = Weights.of(kernel)
    return normalise(image, weights, missing, target, run, where.cval, get_num_threads(), void)


def keywords_for(
    function: Callable[..., Any], name: str, missing: Missing | None, nan: str, shape: Any
) -> dict[str, Any]:
    """Return the keywords that tell a user's function what is missing.

    Raises
    ------
    ArgumentTypeError
        If it is none, or does not take them.
    """
    if not callable(function):
        raise ArgumentTypeError(f"`{name}` must be a function; got {function!r}")
    if missing is None:
        return {}
    told = {"mask": np.broadcast_to(missing.valid, shape), "nan": check_nan(nan), "fill": np.nan}
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C
        return told
    if any(p.kind is p.VAR_KEYWORD for p in parameters) or {p.name for p in parameters} >= set(
        told
    ):
        return told
    raise ArgumentTypeError(
        f"`{name}` must take the keywords mask, nan and fill, as the functions of "
        f"separable.ndimage do, where samples are missing; got {function!r}. "
        "Add them, or **keywords to hand on"
    )
