"""Missing samples: masks, NaN and masked arrays in one form, and the value that replaces them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import array_of
from separable.engine.availability import EngineError, compiling
from separable.engine.result_memory import empty
from separable.engine.thread_count import get_num_threads, in_parallel, slabs
from separable.errors import ArgumentError, ArgumentTypeError
from separable.masked.nodata import check_nodata, nodata_values, valid_samples
from separable.request import mask_shape

__all__ = [
    "EXPLICIT_NAN",
    "STAYS_NAN",
    "Missing",
    "MissingOptions",
    "Rows",
    "blank",
    "check_fill",
    "check_nan",
    "chunks",
    "fill_for",
    "flat",
    "is_default",
    "mask_of",
    "missing_of",
    "rows_of",
    "without",
]

Array = NDArray[Any]
Rows: TypeAlias = tuple[slice, ...]

CHUNK = 1 << 17  # samples processed together, so that they stay in the cache
NAN = ("propagate", "ignore")
EXPLICIT_NAN = np.float32("nan")  # a `fill` of NaN that differs from the default, a Python float


class MissingOptions(NamedTuple):
    """Arguments that say which samples are missing, as `separable.convolve` has them."""

    mask: ArrayLike | None = None
    nan: str = "propagate"
    fill: Any = math.nan
    nodata: Any = "auto"

    @property
    def are_default(self) -> bool:
        """True if neither `mask` nor `nan` nor `nodata` marks samples as missing."""
        return (
            self.mask is None
            and isinstance(self.nan, str)
            and self.nan == "propagate"
            and not nodata_values(self.nodata)
        )


@dataclass(frozen=True, eq=False)
class Missing:
    """Valid samples of an image, and the value of results without any.

    Attributes
    ----------
    valid : ndarray of bool
        True where a sample is valid. It has as many axes as the image; its length is 1 along axes
        that are not filtered and along which it repeats.
    fill : number
        Value of the result where nothing below the kernel is valid.
    outside : bool
        Whether the constant outside the image is valid.
    distinct : bool
        Whether results of valid samples must differ from `fill`.
    """

    valid: Array
    fill: Any
    outside: bool = True
    distinct: bool = False


def missing_of(
    given: Any,
    image: Array,
    axes: Sequence[int],
    options: MissingOptions,
    out: np.dtype[Any],
    cval: Any = 0.0,
) -> Missing | None:
    """Return the missing samples of an image, or None if none is missing.

    Parameters
    ----------
    given : array_like
        Image as the caller gave it: a `numpy.ma.MaskedArray` has its own mask.
    image : ndarray
        The same image as a plain array.
    axes : sequence of int
        Filtered axes, >= 0.
    options : MissingOptions
        Arguments of the caller.
    out : dtype
        Type of the result.
    cval : number
        Value outside the image. NaN outside is missing too if NaN is ignored.

    Raises
    ------
    ArgumentError
        If the mask does not fit the image, `nan` has another value, or the result's type does not
        hold `fill`.
    ArgumentTypeError
        If the mask does not hold numbers, or `fill` is not a number.
    """
    mask, nan, fill, nodata = options
    values = check_nodata(nodata_values(nodata), image.dtype)
    ignoring = check_nan(nan) == "ignore" or any(v != v for v in values)
    fill = fill_for(fill, values)
    parts = []
    if mask is not None:
        parts.append(_fitted(mask, image, axes))
    if isinstance(given, np.ma.MaskedArray):
        parts.append(~np.ma.getmaskarray(given))
    if ignoring and image.dtype.kind in "fc":
        parts.append(_not_nan(image))
    if values:
        parts.append(valid_samples(image, values))
    if not parts:
        return None
    valid = parts[0]
    for part in parts[1:]:
        valid = valid & part
    outside = not (ignoring and bool(np.isnan(cval)))
    complete = outside and bool(valid.all())
    # Integers have no default fill. A masked array without masked samples needs none, because no
    # mask was given; with `mask` the error must not depend on the values of the mask.
    if complete and mask is None and (values or is_default(fill)):
        return None
    filling = check_fill(fill, out)
    return None if complete else Missing(valid, filling, outside, distinct=bool(values))


def fill_for(fill: Any, nodata: Sequence[Any]) -> Any:
    """Return the value of results without valid samples: by default the first of `nodata`.

    Examples
    --------
    >>> fill_for(math.nan, (-9999, 0)), fill_for(7, (-9999,)), fill_for(math.nan, ())
    (-9999, 7, nan)
    """
    return nodata[0] if nodata and is_default(fill) else fill


STAYS_NAN = np.float32(np.nan)
"""Fill of intermediate floats: NaN, while `fill_for` takes the default, Python's NaN, as the first of `nodata`."""


def is_default(fill: Any) -> bool:
    """Return whether a fill is the default, NaN."""
    return isinstance(fill, float) and math.isnan(fill)


def check_nan(nan: Any) -> str:
    """Return `nan`, or raise an error that lists its values."""
    if isinstance(nan, str) and nan in NAN:
        return nan
    raise ArgumentError(
        f'`nan` must be "propagate" (spread as in any filter) or "ignore" (missing); got {nan!r}'
    )


def check_fill(fill: Any, out: np.dtype[Any]) -> Any:
    """Return the value of results without valid samples, if the type of the result can hold it.

    Examples
    --------
    >>> check_fill(255, np.dtype("uint8"))
    255
    """
    if isinstance(fill, np.ndarray) and fill.ndim == 0:
        fill = fill[()]
    if not isinstance(fill, (bool, int, float, complex, np.number, np.bool_)):
        raise ArgumentTypeError(f"`fill` must be a number; got {fill!r}")
    if np.iscomplexobj(fill) and out.kind != "c":
        raise ArgumentError(f"`fill` must be real for a result of {out}; got {fill}")
    if out.kind not in "biu":
        return fill
    low, high = (0, 1) if out.kind == "b" else (np.iinfo(out).min, np.iinfo(out).max)
    value: Any = fill
    if np.isfinite(value) and low <= value <= high and value == int(value):
        return int(value)
    raise ArgumentError(
        f"`fill` must be a whole number {low} .. {high}, because the result is {out}; got {fill}. "
        "It is the result where no pixel below the kernel is valid: give for instance fill=0, or "
        "output='float32' to have NaN there"
    )


def without(image: Array, valid: Array, threads: int) -> Array:
    """Return a copy of an image with 0 for missing samples."""
    copy = empty(image.shape, image.dtype.newbyteorder("="))
    bits = np.dtype(f"u{copy.itemsize}") if copy.itemsize <= 8 else None
    if not image.dtype.isnative:
        image = image.astype(copy.dtype)

    def job(rows: Rows) -> None:
        source, target = image[rows], copy[rows]
        own = flat(rows_of(valid, rows), source.shape)
        if bits is None or not _kept(flat(source).view(bits), own, target.reshape(-1).view(bits)):
            np.multiply(source.ravel(), own, out=target.reshape(-1), where=own)
            np.copyto(target.reshape(-1), 0, where=~own)

    in_parallel(job, chunks(image.shape), threads)
    return copy


def _kept(bits: Array, valid: Array, target: Array) -> bool:
    """Copy the valid samples with compiled code, if it can be used."""
    try:
        with compiling:
            from separable.engine.compiled.masked_kernels import masked_copy

            masked_copy(bits, valid, target)
    except EngineError:
        return False
    return True


def blank(out: Array, missing: Missing | None) -> Array:
    """Set missing samples of a result to `fill`: the result of a filter with a single weight."""
    if missing is not None:
        np.copyto(out, missing.fill, where=~missing.valid, casting="unsafe")
    return out


def chunks(shape: tuple[int, ...]) -> list[Rows]:
    """Cut an array into contiguous parts that stay in the cache.

    Examples
    --------
    >>> len(chunks((2, 3, 1 << 20))), chunks((3, 4))
    (48, [(slice(0, 3, None),)])
    """
    if not shape:
        return [()]
    parts = max(1, math.prod(shape) // CHUNK)
    if shape[0] >= parts or len(shape) == 1:
        return [(part,) for part in slabs(shape[0], parts)]
    inner = chunks(shape[1:])
    return [(slice(i, i + 1), *part) for i in range(shape[0]) for part in inner]


def rows_of(array: Array, rows: Rows) -> Array:
    """Return a part of an array, whole along axes where its length is 1."""
    return array[
        tuple(slice(None) if n == 1 else r for n, r in zip(array.shape, rows, strict=False))
    ]


def flat(array: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return the elements of an array, broadcast to a shape, in one contiguous vector."""
    values = array if shape is None else np.broadcast_to(array, shape)
    return np.ascontiguousarray(values).reshape(-1)


def mask_of(mask: Any) -> Array:
    """Return a mask as a plain array of numbers.

    Raises
    ------
    ArgumentTypeError
        If it is a masked array, or does not hold numbers.
    """
    values = array_of(mask, "mask")
    if values.dtype.kind not in "biuf":
        raise ArgumentTypeError(
            f"`mask` must hold numbers or bool, nonzero where the image is valid; got {values.dtype}"
        )
    if isinstance(values, np.ma.MaskedArray):
        raise ArgumentTypeError(
            "`mask` must be a plain array; got a masked array. Give the masked array as the image, "
            "or mask.filled(0)"
        )
    return values


def _fitted(mask: ArrayLike, image: Array, axes: Sequence[int]) -> Array:
    """Return the mask as bool, with as many axes as the image."""
    values = mask_of(mask)
    valid = values if values.dtype.kind == "b" else (values != 0) & (values == values)
    return valid.reshape(mask_shape(values.shape, image.shape, axes))


def _not_nan(image: Array) -> Array:
    """Return an array that is True where an image is not NaN."""
    valid: Array = np.empty(image.shape, bool)
    if not image.size:
        return valid

    def job(rows: Rows) -> None:
        np.isnan(image[rows], out=valid[rows])
        np.logical_not(valid[rows], out=valid[rows])

    in_parallel(job, chunks(image.shape), get_num_threads())
    return valid
