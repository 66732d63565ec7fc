"""What is missing: masks, NaN and masked arrays brought to one form, and the value that fills in."""

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
from separable.request import mask_shape

__all__ = [
    "Missing",
    "MissingOptions",
    "Rows",
    "blank",
    "check_fill",
    "check_nan",
    "chunks",
    "flat",
    "is_default",
    "mask_of",
    "missing_of",
    "rows_of",
    "without",
]

Array = NDArray[Any]
Rows: TypeAlias = tuple[slice, ...]

CHUNK = 1 << 17  # samples looked at together: they stay in the cache
NAN = ("propagate", "ignore")


class MissingOptions(NamedTuple):
    """Arguments that say which samples are missing, as `separable.convolve` has them."""

    mask: ArrayLike | None = None
    nan: str = "propagate"
    fill: Any = math.nan

    @property
    def are_default(self) -> bool:
        """Whether neither `mask` nor `nan` asks for anything."""
        return self.mask is None and isinstance(self.nan, str) and self.nan == "propagate"


@dataclass(frozen=True, eq=False)
class Missing:
    """Which samples count.

    Attributes
    ----------
    valid : ndarray of bool
        True where a sample counts; as many axes as the image, of length 1 along axes that are not
        filtered and where it is the same.
    fill : number
        The result where nothing below the kernel is valid.
    outside : bool
        Whether what lies outside counts where the mode is constant.
    """

    valid: Array
    fill: Any
    outside: bool = True


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
        The image as the user gave it: a `numpy.ma.MaskedArray` brings a mask of its own.
    image : ndarray
        The same as an array.
    axes : sequence of int
        The filtered axes, >= 0.
    options : MissingOptions
        The arguments of the caller.
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
        If the mask holds no numbers, or `fill` is none.
    """
    mask, nan, fill = options
    ignoring = check_nan(nan) == "ignore"
    parts = []
    if mask is not None:
        parts.append(_fitted(mask, image, axes))
    if isinstance(given, np.ma.MaskedArray):
        parts.append(~np.ma.getmaskarray(given))
    if ignoring and image.dtype.kind in "fc":
        parts.append(_not_nan(image))
    if not parts:
        return None
    valid = parts[0]
    for part in parts[1:]:
        valid = valid & part
    outside = not (ignoring and bool(np.isnan(cval)))
    complete = outside and bool(valid.all())
    # Whole numbers have no fill of their own. A masked array with nothing masked needs none, for
    # nobody has asked for a mask; with `mask` a program does not depend on what is in it.
    if complete and mask is None and is_default(fill):
        return None
    filling = check_fill(fill, out)
    return None if complete else Missing(valid, filling, outside)


def is_default(fill: Any) -> bool:
    """Whether a fill is the one that counts if none is given: NaN."""
    return isinstance(fill, float) and math.isnan(fill)


def check_nan(nan: Any) -> str:
    """Return how NaN is taken, or say what may be asked for."""
    if isinstance(nan, str) and nan in NAN:
        return nan
    raise ArgumentError(
        f'`nan` must be "propagate" (spread as in any filter) or "ignore" (missing); got {nan!r}'
    )


def check_fill(fill: Any, out: np.dtype[Any]) -> Any:
    """Return the number that stands where nothing is valid, if the type of the result holds it.

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
        f"`fill` must be a whole number {low} .. {high}, for the result is {out}; got {fill}. "
        "It stands where no pixel below the kernel is valid: give for instance fill=0, or "
        "output='float32' to have NaN there"
    )


def without(image: Array, valid: Array, threads: int) -> Array:
    """Return a copy of an image with 0 for what is missing."""
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
    """Copy what is valid by the compiled engine, if it can be used."""
    try:
        with compiling:
            from separable.engine.compiled.masked_kernels import keep

            keep(bits, valid, target)
    except EngineError:
        return False
    return True


def blank(out: Array, missing: Missing | None) -> Array:
    """Fill in where a filter of one weight finds nothing: at what is missing itself."""
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
    """Return the part of an array that may have length 1 along axes that are cut."""
    return array[
        tuple(slice(None) if n == 1 else r for n, r in zip(array.shape, rows, strict=False))
    ]


def flat(array: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return the elements of an array, as if it had another shape, in one contiguous line."""
    whole = array if shape is None else np.broadcast_to(array, shape)
    return np.ascontiguousarray(whole).reshape(-1)


def mask_of(mask: Any) -> Array:
    """Return a mask as a plain array of numbers.

    Raises
    ------
    ArgumentTypeError
        If it is a masked array, or holds no numbers.
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
    valid: Array = np.empty(image.shape, bool)
    if not image.size:
        return valid

    def job(rows: Rows) -> None:
        np.isnan(image[rows], out=valid[rows])
        np.logical_not(valid[rows], out=valid[rows])

    in_parallel(job, chunks(image.shape), get_num_threads())
    return valid
