"""Images as the filters of `ndimage` take them, with their missing samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from separable.engine.thread_count import get_num_threads
from separable.errors import ArgumentTypeError
from separable.filtering import filter_with, missing_options
from separable.masked import (
    AxisByAxisRun,
    Missing,
    MissingOptions,
    PlannedRun,
    Run,
    Weights,
    check_nan,
    missing_of,
    normalise,
)
from separable.ndimage.scipy_arguments import (
    Array,
    Output,
    Target,
    image_of,
    is_lazy,
    target_dtype,
    target_of,
)
from separable.request import FilterAxes

__all__ = ["AnyMissing", "FilterInput", "LazyMissing", "filtered_valid", "keywords_for"]


@dataclass(frozen=True)
class LazyMissing:
    """Missing samples of a Dask array, which are known when it is computed."""

    options: MissingOptions

    @property
    def given(self) -> dict[str, Any]:
        """Options that differ from their defaults."""
        mask, nan, fill, _ = self.options
        return missing_options(mask, nan, fill)


AnyMissing: TypeAlias = "Missing | LazyMissing"


@dataclass(frozen=True, eq=False)
class FilterInput:
    """Image to filter, and the array or type of its result.

    Attributes
    ----------
    image : ndarray or Dask array
        The image as a plain array.
    given : array_like
        The image as the caller gave it: a masked array has its own mask.
    target : ndarray or dtype
        Array to write the result into, or the type of a new one.
    """

    image: Any
    given: Any
    target: Target

    @classmethod
    def of(
        cls,
        input: ArrayLike,
        output: Output,
        weights: Array | None = None,
        *,
        as_given: bool = False,
    ) -> FilterInput:
        """Check the arguments `input` and `output` of a filter.

        Parameters
        ----------
        input : array_like
            The image.
        output : dtype, ndarray or None
            Type of the result, or the array to write it into.
        weights : ndarray, optional
            The kernel. Complex weights make the result complex.
        as_given : bool
            Whether a complex image may have a real output, because a user's function computes the
            result.
        """
        image, given = image_of(input)
        is_complex = image.dtype.kind == "c" or (weights is not None and weights.dtype.kind == "c")
        return cls(image, given, target_of(output, image, is_complex=is_complex and not as_given))

    def missing(
        self, axes: tuple[int, ...], options: MissingOptions, cval: Any = 0.0
    ) -> AnyMissing | None:
        """Return the missing samples, or None if all samples are valid."""
        if is_lazy(self.image):
            if options.are_default and not isinstance(self.image._meta, np.ma.MaskedArray):
                return None
            check_nan(options.nan)
            return LazyMissing(options)
        if options.are_default and not isinstance(self.given, np.ma.MaskedArray):
            return None
        return missing_of(self.given, self.image, axes, options, target_dtype(self.target), cval)


def filtered_valid(
    image: Array,
    kernel: Any,
    filter_axes: FilterAxes,
    target: Target,
    missing: AnyMissing,
    operation: str = "correlate",
    nothing_valid: Array | None = None,
) -> Array:
    """Filter the valid samples with a kernel: dense, `Factors`, or terms of one term.

    `nothing_valid`, if given, is set to True where no valid sample lies below the kernel.
    """
    if isinstance(missing, LazyMissing):
        options = {"operation": operation, **filter_axes.options, **missing.given}
        return filter_with(image, kernel, target, **options)
    if not image.size:
        return target if isinstance(target, np.ndarray) else np.empty(image.shape, target)
    run: Run
    if isinstance(kernel, tuple):
        run = AxisByAxisRun(filter_axes, get_num_threads())
    else:
        options = {"operation": operation, **filter_axes.options}
        del options["cval"]  # each run has another one
        run = PlannedRun(options, filter_axes.cval, get_num_threads())
    return normalise(image, Weights.of(kernel), missing, target, run, nothing_valid)


def keywords_for(
    function: Callable[..., Any], name: str, missing: Missing | None, nan: str, shape: Any
) -> dict[str, Any]:
    """Return the keywords that pass missing samples to a user's function.

    Raises
    ------
    ArgumentTypeError
        If it is not a function, or does not accept them.
    """
    if not callable(function):
        raise ArgumentTypeError(f"`{name}` must be a function; got {function!r}")
    if missing is None:
        return {}
    keywords = {
        "mask": np.broadcast_to(missing.valid, shape),
        "nan": check_nan(nan),
        "fill": np.nan,
    }
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function written in C has no signature
        return keywords
    if any(p.kind is p.VAR_KEYWORD for p in parameters) or {p.name for p in parameters} >= set(
        keywords
    ):
        return keywords
    raise ArgumentTypeError(
        f"`{name}` must take the keywords mask, nan and fill, as the functions of "
        f"separable.ndimage do, where samples are missing; got {function!r}. "
        "Add them, or **keywords to hand on"
    )
