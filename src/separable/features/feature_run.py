"""Compute features of an array: canonical arguments, global maxima, and one sweep per scale."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import ImageShape, array_of, is_dask_array, package_of
from separable.engine import get_num_threads
from separable.engine.result_memory import empty
from separable.errors import ArgumentError, ArgumentTypeError, DTypeError
from separable.features.feature_base import Feature, Grid
from separable.features.feature_calls import FeatureCall, recorded
from separable.features.feature_steps import Surroundings
from separable.filter_bank.magnitude import wide_type
from separable.filtering import missing_options
from separable.masked.nodata import check_nodata, nodata_values
from separable.masked.samples import check_nan, fill_for, mask_of
from separable.request import (
    FilterAxes,
    check_axes,
    check_dtype,
    check_spacing,
    mask_shape,
    real,
)

__all__ = [
    "FeatureOptions",
    "check_count",
    "compute",
    "largest_sample",
    "maxima_of",
    "parts_of",
    "run_steps",
    "significant",
]

Array = NDArray[Any]

NOISE = 4.0  # units in the last place of the sum of absolute weights times the largest sample
DASK = "separable.features.dask_features"  # imported by name: it stands above this module, and Dask is optional
TORCH = "separable.features.tensor_features"
OPTIONS = ("axes", "spacing", "threads", "mask", "nan", "fill", "nodata")


@dataclass(frozen=True)
class FeatureOptions:
    """Arguments that all features have in common.

    Attributes
    ----------
    mode : str or sequence of str
        Border mode, for all axes or for each.
    cval : float
        Value outside the image where the mode is constant.
    axes : int or sequence of int, optional
        Axes of the image; default: all.
    spacing : float or sequence of float, optional
        Distance between samples along each axis.
    threads : int, optional
        Number of threads.
    missing : dict
        Options for missing samples.
    """

    mode: Any = "reflect"
    cval: float = 0.0
    axes: Any = None
    spacing: Any = None
    threads: int | None = None
    missing: Any = None

    @classmethod
    def of(cls, mode: Any, cval: Any, options: dict[str, Any]) -> FeatureOptions:
        """Check the names of further options, and return all of them.

        Raises
        ------
        ArgumentTypeError
            If an option is unknown.
        """
        unknown = next((name for name in options if name not in OPTIONS), None)
        if unknown is not None:
            raise ArgumentTypeError(
                f"unknown option `{unknown}`. Features take {', '.join(OPTIONS)} besides their own "
                "parameters"
            )
        given = dict(options)
        missing = missing_options(
            given.pop("mask", None), given.pop("nan", "propagate"), given.pop("fill", math.nan),
            given.pop("nodata", "auto"),
        )  # fmt: skip
        return cls(mode, real("cval", cval), missing=missing or None, **given)


def compute(feature: Feature, image: ArrayLike, options: FeatureOptions) -> Array:
    """Compute a feature of an array.

    Parameters
    ----------
    feature : Feature
    image : array_like
    options : FeatureOptions

    Returns
    -------
    ndarray, shape (results, ...)
        float32 for float32 and narrower images, float64 for wider ones.

    Raises
    ------
    SeparableError
        If an argument is out of its range, or of a wrong type.

    Examples
    --------
    >>> from separable.features.feature_values import HessianEigenvalues
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> values = compute(HessianEigenvalues(1.0), 1.0 * x**2 + 3 * y**2, FeatureOptions())
    >>> values[:, 8, 8].round(2)
    array([5.98, 1.99])
    """
    if is_dask_array(image):
        found: Array = importlib.import_module(DASK).compute_lazily(feature, image, options)
        return found
    if package_of(image) == "torch":
        computed: Array = importlib.import_module(TORCH).compute_of_tensor(feature, image, options)
        return computed
    array: Any = image if isinstance(image, ImageShape) else array_of(image)
    check_dtype(array.dtype, "image")
    if array.dtype.kind == "c":
        raise DTypeError(
            f"`image` must be real; got {array.dtype}. Take features of its real and imaginary parts"
        )
    axes = check_axes(options.axes, array.ndim)
    check_count(feature, len(axes))
    filter_axes = FilterAxes.of(axes, options.mode, options.cval)
    grid = Grid(check_spacing(options.spacing, len(axes)))
    dtype = feature_type(array.dtype)
    if isinstance(array, ImageShape):
        return recorded(array, FeatureCall(feature, grid, filter_axes.modes), dtype)
    missing = dict(options.missing or {})
    fill = missing.pop("fill", None)
    masked = isinstance(array, np.ma.MaskedArray)
    if missing or masked:
        values = check_nodata(nodata_values(missing.get("nodata", "auto")), array.dtype)
        check_nan(missing.get("nan", "propagate"))
        fill = fill_for(math.nan if fill is None else fill, values)
        missing = missing or {"nan": "propagate"}  # the image has a mask of its own
    threads = get_num_threads() if options.threads is None else options.threads
    around = Surroundings(filter_axes.modes, options.cval, threads, missing or None)
    out = empty((len(feature.labels(len(axes))), *array.shape), dtype)
    if array.size == 0:
        return out
    parts = list(parts_of(array, out, axes))
    arounds = _surroundings_of(around, array.shape, axes, len(parts))
    maxima = maxima_of(feature, grid, [part for part, _, _ in parts], arounds)
    for (part, target, place), own in zip(parts, arounds, strict=True):
        run_steps(feature, grid, maxima, part, target, own)
        if place is not None:
            place[...] = target
    if fill is not None and not (isinstance(fill, float) and math.isnan(fill)):
        np.copyto(out, fill, where=np.isnan(out))
    return out


def _surroundings_of(
    around: Surroundings, shape: Sequence[int], axes: tuple[int, ...], count: int
) -> list[Surroundings]:
    """Return what surrounds each of the parts of `parts_of`: each has its own part of the mask."""
    mask = (around.missing or {}).get("mask")
    if mask is None or axes == tuple(range(len(shape))):
        return [around] * count
    values = mask_of(mask)
    whole = np.broadcast_to(values.reshape(mask_shape(values.shape, shape, axes)), shape)
    nothing = np.empty((0, *shape), bool)
    return [
        replace(around, missing={**around.missing, "mask": part})
        for part, _, _ in parts_of(whole, nothing, axes)
    ]


def feature_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of features: float32 for narrow images, float64 for wider ones."""
    found = wide_type(dtype.newbyteorder("="))
    return found if found.itemsize <= 8 else np.dtype(np.float64)


def run_steps(
    feature: Feature,
    grid: Grid,
    maxima: Sequence[float],
    image: Array,
    out: Array,
    around: Surroundings,
) -> None:
    """Run all steps of a feature on an image that has only the axes of the feature."""
    first = 0
    for number, step in enumerate(feature.steps(grid, maxima)):
        more = getattr(step, "accumulate", False)
        first = first - step.outputs if more and number else first
        step.run(image, out[first : first + step.outputs], around)
        first += step.outputs


def maxima_of(
    feature: Feature, grid: Grid, images: Sequence[Array], arounds: Sequence[Surroundings]
) -> list[float]:
    """Return the maxima over images that a feature needs to know; 0 where one is nothing but rounding."""
    steps = feature.reductions(grid)
    if not steps:
        return []
    largest = max(largest_sample(image) for image in images)
    found = []
    for step in steps:
        most = max(
            float(step.run(image, None, around)[0])
            for image, around in zip(images, arounds, strict=True)
        )
        found.append(significant(most, step.norm, largest, images[0].dtype))
    return found


def significant(most: float, norm: float, largest: float, dtype: np.dtype[Any]) -> float:
    """Return a maximum, or 0 if rounding of the sums explains it: a constant image has no ridges.

    Examples
    --------
    >>> significant(1e-6, 1.0, 255.0, np.dtype("float32")), significant(0.1, 1.0, 255.0, np.dtype("float32"))
    (0.0, 0.1)
    """
    rounding = NOISE * float(np.finfo(wide_type(dtype.newbyteorder("="))).eps)
    return most if most > rounding * norm * largest else 0.0


def largest_sample(image: Array) -> float:
    """Return the largest absolute value of the finite samples."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    else:
        low, high = values.min(), values.max()
    found = max(abs(float(low)), abs(float(high)))
    return found if math.isfinite(found) else 0.0


def parts_of(image: Array, out: Array, axes: tuple[int, ...]) -> Iterator[tuple[Array, Array, Any]]:
    """Yield the parts of an image along the other axes: image, result, and where the result belongs."""
    if axes == tuple(range(image.ndim)):
        yield image, out, None
        return
    moved = np.moveaxis(image, axes, range(image.ndim - len(axes), image.ndim))
    target = np.moveaxis(out, [a + 1 for a in axes], range(out.ndim - len(axes), out.ndim))
    for index in np.ndindex(moved.shape[: image.ndim - len(axes)]):
        place = target[(slice(None), *index)]
        yield moved[index], empty(place.shape, out.dtype), place


def check_count(feature: Feature, ndim: int) -> None:
    """Refuse a number of axes that a feature is not defined for."""
    if not feature.least_axes <= ndim <= feature.most_axes:
        wanted = f"{feature.least_axes} or {feature.most_axes}"
        if feature.most_axes > feature.least_axes + 1:
            wanted = f"at least {feature.least_axes}"
        raise ArgumentError(
            f"`{feature.name}` needs {wanted} axes; got {ndim}. Choose them with `axes`"
        )
