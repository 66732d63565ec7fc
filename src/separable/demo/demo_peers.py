"""Calls of other libraries that a user would make instead: the demonstration is compared with them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from separable.factors import Factors

__all__ = ["peers"]

Array = NDArray[Any]


def peers(
    own: Callable[[Array], Array] | None, kernel: Array, factors: Factors, image: Array
) -> dict[str, Callable[[], Array]]:
    """Return the calls of other libraries that filter this image, by the name that is printed.

    Parameters
    ----------
    own : callable or None
        SciPy's own function for this kernel, which may know that it separates.
    kernel : ndarray
        Dense kernel.
    factors : Factors
        Its exact factors: OpenCV takes the two vectors if there is one term.
    image : ndarray
        Image, with channels last if it has one axis more than the kernel.

    Returns
    -------
    dict of str to callable
        "SciPy, dense", then "SciPy, own" and "OpenCV" if there are such calls.
    """
    shaped = kernel.reshape(kernel.shape + (1,) * (image.ndim - kernel.ndim))
    calls: dict[str, Callable[[], Array]] = {
        "SciPy, dense": lambda: ndimage.convolve(image, shaped),
    }
    if own is not None:
        calls["SciPy, own"] = lambda: own(image)
    if kernel.ndim == 2 and find_spec("cv2") is not None:
        calls["OpenCV"] = _opencv(kernel, factors, image)
    return calls


def _opencv(kernel: Array, factors: Factors, image: Array) -> Callable[[], Array]:
    """Return the fastest call of OpenCV for this kernel: two passes for a product, else the dense one."""
    cv2: Any = import_module("cv2")
    if factors.rank == 1:
        column, row = (np.ascontiguousarray(v[::-1], np.float32) for v in factors.terms[0])
        return lambda: cv2.sepFilter2D(image, -1, row, column, borderType=cv2.BORDER_REFLECT)
    flipped = np.ascontiguousarray(kernel[::-1, ::-1], np.float32)
    return lambda: cv2.filter2D(image, -1, flipped, borderType=cv2.BORDER_REFLECT)
