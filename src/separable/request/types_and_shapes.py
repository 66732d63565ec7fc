"""Types of data, and the shapes of outputs and masks beside an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, DTypeError, OutputError

__all__ = ["check_dtype", "check_output_shape", "mask_shape", "result_dtype"]


def check_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """Return a type of data that the filters accept.

    Raises
    ------
    DTypeError
        If it is not a type of numbers, or wider than float64 or complex128.
    """
    try:
        found: np.dtype[Any] = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"`{name}` must name a type of numbers; got {dtype!r}") from None
    if found.kind not in "biufc" or found.itemsize > (16 if found.kind == "c" else 8):
        raise DTypeError(
            f"`{name}` must be bool, an integer, float16 .. float64 or complex; got {found}. "
            f"{_remedy_for(found)}"
        )
    return found


def _remedy_for(dtype: np.dtype[Any]) -> str:
    """Return what to do with an image of a type that no filter accepts."""
    if dtype.names:
        return f"Choose one field, for instance image[{dtype.names[0]!r}]"
    if dtype.kind in "mM":
        return "Convert it to whole numbers with image.astype('int64')"
    if dtype.kind == "O":
        return (
            "Convert it, if all its elements are numbers, with image.astype('float64'); a data "
            "frame with .to_numpy('float64', na_value=numpy.nan)"
        )
    return "Convert it, for instance with image.astype('float64')"


def result_dtype(image: np.dtype[Any], kernel: np.dtype[Any], cval: Any) -> np.dtype[Any]:
    """Return the type of a result without `output`: the image's, or complex if an input is."""
    if kernel.kind == "c" or isinstance(cval, complex):
        return np.promote_types(image, np.complex64)
    return image


def check_output_shape(output: NDArray[Any], shape: tuple[int, ...], name: str = "output") -> None:
    """Refuse an output array that does not have the shape of the result."""
    if output.shape != shape:
        raise OutputError(
            f"output shape not correct: `{name}` must have shape {shape}; got {output.shape}"
        )


def mask_shape(mask: Sequence[int], image: Sequence[int], axes: Iterable[int]) -> tuple[int, ...]:
    """Return the shape that a mask takes beside an image: 1 along axes where it repeats.

    Parameters
    ----------
    mask, image : sequence of int
        Their shapes.
    axes : iterable of int
        The filtered axes. A mask may have the shape of these alone.

    Raises
    ------
    ArgumentError
        If it has neither the shape of the image nor that of the filtered axes.

    Examples
    --------
    >>> mask_shape((4, 5), (3, 4, 5), (1, 2))
    (1, 4, 5)
    """
    along = sorted(axes)
    small = tuple(n if a in along else 1 for a, n in enumerate(image))
    squeezed = tuple(image[a] for a in along)
    if tuple(mask) == tuple(image):
        return tuple(image)
    if tuple(mask) in (small, squeezed):
        return small
    choices = list(dict.fromkeys((tuple(image), squeezed)))
    wanted = " or, the same for all others, that of the filtered axes, ".join(map(str, choices))
    raise ArgumentError(
        f"`mask` must have the image's shape {wanted}; got {tuple(mask)}. "
        "It is nonzero where the image is valid"
    )
