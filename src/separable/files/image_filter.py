"""Filter an image as its file says its numbers are meant: `filter_image`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.files.image_info import Array, ImageInfo
from separable.filtering import filter_with, missing_options
from separable.masked import Opacity, OpacityWeights, filter_with_opacity
from separable.request import check_axes

__all__ = ["FilteredImage", "check_alone", "filter_image", "opacity_note", "opacity_of"]


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
    kernel: ArrayLike | Factors,
    *,
    output: DTypeLike | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    **options: Any,
) -> FilteredImage:
    """Filter an image that `read_image` returned, as its file says its numbers are meant.

    Parameters
    ----------
    image : ndarray
    info : ImageInfo
        Metadata that `read_image` returned with it.
    kernel : array_like or Factors
        Kernel with one axis per filtered axis.
    output : dtype, optional
        Data type of the result; default: that of the image.
    mask, nan, fill
        As for `separable.convolve`.
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
    missing = missing_options(mask, nan, fill)
    opacity = opacity_of(info, image.ndim, options["axes"])
    if opacity is None:
        result = filter_with(image, kernel, output, **missing, **options)
        return FilteredImage(np.asarray(result), info)
    check_alone(missing)
    options.pop("progress", None)
    result = filter_with_opacity(image, opacity, kernel, output, **options)
    note = opacity_note(opacity, kernel, result.dtype)
    return FilteredImage(result, replace(info, notes=(*info.notes, note)))


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


def check_alone(missing: dict[str, Any]) -> None:
    """Refuse options for missing samples beside alpha, which is a mask of its own.

    Raises
    ------
    ArgumentError
    """
    if missing.keys() - {"fill"}:
        raise ArgumentError(
            f"an image with alpha has its own mask; got `{next(iter(missing))}`. Remove the alpha, "
            "or make what is missing transparent"
        )


def opacity_note(opacity: Opacity, kernel: Any, dtype: np.dtype[Any]) -> str:
    """Return in words what a filter does with the opacity."""
    rule = OpacityWeights.of(kernel, dtype, opacity.premultiplied)
    if rule.keeps_alpha:
        return "colours were weighted by alpha; alpha is unchanged, because the kernel's weights sum to 0"
    return "colours were weighted by alpha, and alpha was filtered too"
