"""Samples and weights behind one pixel of a filtered picture: all products, and the two passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Mode, extend
from separable.explore.kernel_answers import Chosen
from separable.explore.limits import InputError
from separable.factorize import is_separable
from separable.request import FilterAxes

__all__ = ["PIXEL_SIDE", "pixel"]

Array = NDArray[Any]

PIXEL_SIDE = 15  # largest kernel whose products can be read on a page


def pixel(chosen: Chosen, image: Array, at: tuple[int, int], mode: Mode) -> dict[str, Any]:
    """Return what one pixel of the result consists of.

    Parameters
    ----------
    chosen : Chosen
        Kernel with two axes, at most `PIXEL_SIDE` on a side.
    image : ndarray, shape (y, x) or (y, x, 3)
        A colour picture is taken as the mean of its channels.
    at : (y, x)
        Place of the pixel.
    mode : str or Border
        Border mode.

    Returns
    -------
    dict
        ``samples`` and ``weights`` below the kernel, whose products add up to ``value``. If the kernel
        is separable, also ``column`` and ``row``, and ``first``: the result of the first pass at the
        pixels of this row, which the second pass weighs with ``row``.

    Raises
    ------
    InputError
        If the kernel has other axes or is too large, or the pixel lies outside the picture.
    """
    weights = np.asarray(chosen.values, np.float64)
    if weights.ndim != 2 or max(weights.shape) > PIXEL_SIDE:
        raise InputError(
            f"the products of a pixel are shown for kernels with two axes of at most {PIXEL_SIDE} "
            f"samples; this one is {'x'.join(map(str, weights.shape))}"
        )
    plane = image.mean(axis=2) if image.ndim == 3 else np.asarray(image, np.float64)
    if not all(0 <= place < size for place, size in zip(at, plane.shape, strict=True)):
        raise InputError(f"the pixel {at} lies outside the picture of shape {plane.shape}")
    flipped = chosen.operation == "convolve"
    # The sample below the pixel: as in SciPy, where kernels of even size lie a sample to the left.
    lefts = [(n - 1) // 2 if flipped else n // 2 for n in weights.shape]
    if flipped:
        weights = weights[::-1, ::-1]
    filtered = FilterAxes.of((0, 1), mode, 0.0, (0, 0))
    widths = [(left, n - 1 - left) for left, n in zip(lefts, weights.shape, strict=True)]
    wide = extend(plane, (0, 1), widths, filtered.modes, 0.0, np.dtype(np.float64))
    samples = wide[at[0] : at[0] + weights.shape[0], at[1] : at[1] + weights.shape[1]]
    found: dict[str, Any] = {
        "at": list(at),
        "samples": samples.tolist(),
        "weights": weights.tolist(),
        "value": float(np.sum(samples * weights)),
    }
    answer = is_separable(weights)
    if answer and answer.rank:
        column, row = (np.asarray(v, np.float64) for v in answer.vectors)
        found |= {
            "column": column.tolist(),
            "row": row.tolist(),
            "first": (column @ samples).tolist(),
        }
    return found
