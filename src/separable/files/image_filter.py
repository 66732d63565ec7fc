"""Filter an image as its file says its numbers are meant: `filter_image`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from separable.engine import get_num_threads
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.files.declared_nodata import obey_nodata
from separable.files.format_registry import PathLike
from separable.files.image_info import Array, ImageInfo
from separable.files.images import read_image, write_image
from separable.files.opening import check_target
from separable.files.several_images import (
    ImageChoice,
    choice_note,
    chosen_images,
    count_images,
    write_images,
)
from separable.filter_bank.magnitude import Magnitude, wide_type
from separable.filtering import NoData, filter_with, missing_options
from separable.kernels.parse import read_kernel_of
from separable.masked import (
    MissingOptions,
    Opacity,
    OpacityWeights,
    check_fill,
    filter_with_opacity,
    nodata_values,
    valid_pixels,
    valid_samples,
)
from separable.request import check_axes
from separable.run import store

__all__ = [
    "SATURATED",
    "VANISHED",
    "FilteredImage",
    "check_percentiles",
    "filter_image",
    "filter_whole_file",
    "integer_notes",
    "leaves_something",
    "opacity_note",
    "opacity_of",
    "rescaled",
    "saturated",
    "scaled_between",
    "vanished",
]

VANISHED = (
    "all results were rounded to 0, because they are smaller than 0.5 and {} holds whole numbers. Keep "
    "them with --dtype float32 (output='float32'), or stretch them with --rescale"
)

SATURATED = (
    "more than half of the results are {}, the largest value that {} holds; larger sums were cut off. Divide the kernel by the "
    "sum of its weights, or keep the sums with --dtype float32 (output='float32')"
)


@dataclass(frozen=True)
class FilteredImage:
    """A filtered image, and what is to be written with it.

    Attributes
    ----------
    image : ndarray
    info : ImageInfo
        Metadata of the result; `notes` also say how the statements of the file were obeyed.

    Examples
    --------
    >>> FilteredImage(np.zeros((2, 3)), ImageInfo("YX")).info.axes
    'YX'
    """

    image: Array
    info: ImageInfo


def filter_image(
    image: Array,
    info: ImageInfo,
    kernel: ArrayLike | Factors | Magnitude,
    *,
    output: DTypeLike | None = None,
    rescale: tuple[float, float] | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: NoData = "auto",
    **options: Any,
) -> FilteredImage:
    """Filter an image that `read_image` returned, as its file says its numbers are meant.

    Parameters
    ----------
    image : ndarray
    info : ImageInfo
        Metadata that `read_image` returned with it.
    kernel : array_like, Factors or Magnitude
        Kernel with one axis per filtered axis; a `separable.filter_bank.Magnitude` for the absolute
        value of a result, or the length of a gradient.
    output : dtype, optional
        Data type of the result; default: that of the image.
    rescale : (low, high), optional
        Percentiles of the result that become the ends of the range of its type (0 .. 1 for floats);
        (0, 100) for the minimum and maximum.
    mask, nan, fill
        As for `separable.convolve`.
    nodata : "auto", "none", number or sequence of numbers
        Value of samples that are missing; "auto" takes what the file declares.
    **options
        Options of `separable.plan`. The default of `axes` is the spatial axes.

    Returns
    -------
    FilteredImage

    Raises
    ------
    SeparableError
        As `separable.convolve`.

    Examples
    --------
    >>> grey = np.array([[0, 9, 0]], "uint8")
    >>> filter_image(grey, ImageInfo("YX"), [[1, 1, 1]], output="int16").image
    array([[9, 9, 9]], dtype=int16)
    """
    if options.get("axes") is None:
        options["axes"] = info.space(image.ndim)
    kernel = read_kernel_of(kernel, options["axes"], image.ndim)
    out = image.dtype if output is None else np.dtype(output)
    missing = missing_options(mask, nan, fill, nodata)
    opacity = opacity_of(info, image.ndim, options["axes"])
    if opacity is None:
        obeyed = obey_nodata(missing, info, "the file", image.dtype, out)
        notes = (*info.notes, *filter(None, [obeyed.note if nodata == "auto" else ""]))
        missing, info = obeyed.missing, replace(obeyed.info, notes=notes)
        fill = missing.get("fill", fill)
    if isinstance(kernel, Magnitude) or rescale is not None:
        kernels = kernel.kernels if isinstance(kernel, Magnitude) else (kernel,)
        values = missing.pop("nodata", ()) if opacity is None else ()
        if values:  # a mask, because the intermediate results have NaN where nothing is valid
            known = valid_samples(image, values)
            missing["mask"] = known if mask is None else known & (np.asarray(mask) != 0)
        options |= {**missing, "fill": math.nan, "output": wide_type(image.dtype)}
        options["nodata"] = "none" if opacity is None else nodata
        done = [filter_image(image, info, one, **options) for one in kernels]
        values = [one.image for one in done]
        result = kernel.combined(values) if isinstance(kernel, Magnitude) else values[0]
        if rescale is not None:
            result = rescaled(result, out, rescale, opacity)
        if opacity is not None:  # which is neither combined nor rescaled
            at = opacity.place
            result[at] = values[0][at]
        if missing and opacity is None:
            np.copyto(result, check_fill(fill, out), where=np.isnan(result))
        whole = np.empty(result.shape, out)
        store(np.ascontiguousarray(result), whole, get_num_threads())
        lost = (
            ()
            if rescale is not None or opacity is not None
            else integer_notes(image, kernels[0], whole)
        )
        notes = (*done[0].info.notes, *lost)
        return FilteredImage(whole, replace(done[0].info, notes=notes, nodata=info.nodata))
    if opacity is None:
        result = np.asarray(filter_with(image, kernel, output, **missing, **options))
        lost = integer_notes(image, kernel, result)
        return FilteredImage(result, replace(info, notes=(*info.notes, *lost)))
    options.pop("progress", None)
    values = nodata_values(nodata, info.nodata)
    asked = MissingOptions(mask, nan, fill, values)
    valid = valid_pixels(image, opacity, check_axes(options["axes"], image.ndim), asked)
    result = filter_with_opacity(image, opacity, kernel, output, valid=valid, **options)
    note = opacity_note(opacity, kernel, result.dtype, missing=not asked.are_default)
    return FilteredImage(result, replace(info, notes=(*info.notes, note), nodata=()))


def filter_whole_file(
    source: PathLike,
    target: PathLike,
    kernel: Any,
    *,
    image: ImageChoice = "auto",
    overwrite: bool = False,
    **options: Any,
) -> tuple[str, ...]:
    """Read a file, filter it as `filter_image` does, and write the result.

    Parameters
    ----------
    source, target : str or path
    kernel : array_like, Factors or Magnitude
    image : int or str
        Which image of a file that holds several: a number from 1, "all", or "auto": all where the
        target holds several.
    overwrite : bool
        Whether an existing target may be replaced.
    **options
        Options of `filter_image`; the mask may be a path.

    Returns
    -------
    notes : tuple of str
        What was converted, obeyed and lost, in words.

    Raises
    ------
    FileError
        If a file cannot be read or written.
    SeparableError
        Other subclasses, as `separable.convolve`.
    """
    numbers = chosen_images(source, target, image)
    if isinstance(options.get("mask"), (str, os.PathLike)):
        options["mask"] = read_image(options["mask"])[0]
    done = []
    for number in numbers:
        array, info = read_image(source, image=number)
        out = array.dtype if options.get("output") is None else np.dtype(options["output"])
        check_target(target, array.shape, out, overwrite=overwrite)
        done.append(filter_image(array, info, kernel, **options))
    if len(done) == 1:
        lost = write_image(target, done[0].image, done[0].info, overwrite=overwrite)
    else:
        lost = write_images(target, [(one.image, one.info) for one in done], overwrite=overwrite)
    notes = [note for one in done for note in one.info.notes]
    chosen = choice_note(numbers, count_images(source))
    return tuple(dict.fromkeys((*notes, *filter(None, [chosen]), *lost)))


def integer_notes(image: Array, kernel: Any, result: Array) -> tuple[str, ...]:
    """Return notes on integer results that lost what the exact ones hold: rounded to 0, or cut off."""
    return vanished(image, kernel, result) + saturated(image, result)


def saturated(image: Array, result: Array) -> tuple[str, ...]:
    """Return a note if most results, but not most samples, are the largest value of an integer type, else nothing.

    Examples
    --------
    >>> saturated(np.full((2, 2), 200, "uint8"), np.full((2, 2), 255, "uint8"))[0][:38]
    'more than half of the results are 255,'
    """
    if result.dtype.kind not in "iu" or not result.size:
        return ()
    largest = np.iinfo(result.dtype).max
    cut_off = np.count_nonzero(result == largest) > result.size / 2
    if not cut_off or np.count_nonzero(image == largest) > image.size / 2:
        return ()
    return (SATURATED.format(largest, result.dtype),)


def vanished(image: Array, kernel: Any, result: Array) -> tuple[str, ...]:
    """Return a note if rounding to integers left nothing of a result, else nothing.

    Examples
    --------
    >>> mask = np.array([[0, 0, 1, 0, 0]], "uint8")
    >>> vanished(mask, [[1/3, 1/3, 1/3]], np.zeros_like(mask))[0][:27]
    'all results were rounded to'
    """
    if result.dtype.kind not in "biu" or not result.size or result.any():
        return ()
    return (VANISHED.format(result.dtype),) if leaves_something(image, kernel) else ()


def leaves_something(image: Array, kernel: Any) -> bool:
    """Return whether the exact result of a filter is not 0 everywhere, as far as it is easily known."""
    if image.dtype.kind == "f" and not np.isfinite(image).any():
        return False
    dense = kernel.dense() if isinstance(kernel, Factors) else np.asarray(kernel)
    if abs(dense.sum()) > 1e-3 * np.abs(dense).sum():
        return bool(image.any())
    return bool(image.size and (image != image.flat[0]).any())


def rescaled(
    values: Array, out: np.dtype[Any], percentiles: tuple[float, float], opacity: Opacity | None
) -> Array:
    """Return values scaled so that two percentiles become the ends of the range of a type.

    Parameters
    ----------
    values : ndarray of float
        NaN stays NaN and does not count.
    out : dtype
        Type of the result: an integer type with its whole range, or a float type with 0 .. 1.
    percentiles : (float, float)
    opacity : Opacity, optional
        Place of samples that do not count.

    Raises
    ------
    ArgumentError
        If the percentiles are not 0 <= low < high <= 100.

    Examples
    --------
    >>> rescaled(np.array([-2.0, 0.0, 2.0]), np.dtype("uint8"), (0, 100), None)
    array([  0. , 127.5, 255. ])
    """
    check_percentiles(percentiles)
    counted = values if opacity is None else np.delete(values, opacity.index, opacity.axis)
    finite = counted[np.isfinite(counted)]
    if not finite.size:
        return values
    low, high = np.percentile(finite, percentiles)
    return scaled_between(values, float(low), float(high), out)


def scaled_between(values: Array, low: float, high: float, out: np.dtype[Any]) -> Array:
    """Return values scaled so that `low` and `high` become the ends of the range of a type."""
    first, last = range_of(out)
    if high <= low:  # all results are equal
        return np.asarray(np.where(np.isnan(values), values, first))
    scaled = (values.astype(np.float64) - low) * ((last - first) / (high - low)) + first
    return np.asarray(np.clip(scaled, first, last))


def range_of(out: np.dtype[Any]) -> tuple[float, float]:
    """Return the ends of the range of a type; 0 and 1 for bool and floats."""
    if out.kind in "iu":
        return float(np.iinfo(out).min), float(np.iinfo(out).max)
    return 0.0, 1.0


def check_percentiles(percentiles: tuple[float, float]) -> None:
    """Refuse percentiles that are not 0 <= low < high <= 100.

    Raises
    ------
    ArgumentError
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ArgumentError(
            f"`rescale` must be two percentiles, 0 <= low < high <= 100; got {low:g} and {high:g}"
        )


def opacity_of(info: ImageInfo, ndim: int, axes: Any) -> Opacity | None:
    """Return where the opacity of an image is, or None if it has none or its axis is filtered.

    Examples
    --------
    >>> from separable.files import Alpha
    >>> opacity_of(ImageInfo("YXS", alpha=Alpha(3)), 3, (0, 1))
    Opacity(axis=2, index=3, premultiplied=False)
    """
    if info.alpha is None or len(info.axes) != ndim or "S" not in info.axes:
        return None
    axis = info.axes.index("S")
    if axis in check_axes(axes, ndim):
        return None
    return Opacity(axis, info.alpha.index, info.alpha.premultiplied)


def opacity_note(
    opacity: Opacity, kernel: Any, dtype: np.dtype[Any], *, missing: bool = False
) -> str:
    """Return in words what a filter does with the opacity, and with missing pixels if some may be."""
    rule = OpacityWeights.of(kernel, dtype, opacity.premultiplied)
    weighted = "colours were weighted by alpha"
    if missing:
        weighted += (
            " and missing pixels left out; where no pixel is valid the result is transparent"
        )
    if rule.keeps_alpha:
        return f"{weighted}; alpha is unchanged, because the kernel's weights sum to 0"
    return (
        f"{weighted}; alpha was filtered too"
        if missing
        else f"{weighted}, and alpha was filtered too"
    )
