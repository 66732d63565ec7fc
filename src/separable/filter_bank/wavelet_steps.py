"""One decimated step of a wavelet, axis by axis: every second output of its bank of filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import complete_array_of
from separable.borders import extend
from separable.errors import DTypeError
from separable.filter_bank.planned_bank import bank
from separable.kernels import wavelet1d
from separable.request import FilterAxes, check_axes

__all__ = ["wavelet_step"]

Array = NDArray[Any]


def wavelet_step(
    image: ArrayLike,
    wavelet: str,
    *,
    axes: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    threads: int | None = None,
) -> dict[str, Array]:
    """Take an image apart into the bands of one step of a wavelet, each of half its length.

    Both passes of an axis run over it in one reading, and every second output is kept before the
    next axis: 6 passes in three dimensions for 8 bands, where the undecimated bank has 14.

    Parameters
    ----------
    image : array_like
        Whole numbers are taken as float64.
    wavelet : str
        As for `kernels.wavelet`.
    axes : int or sequence of int, optional
        Default: all.
    mode : str or sequence of str
        What lies outside; "reflect" is PyWavelets' "symmetric", "mirror" its "reflect", "nearest"
        its "constant", "wrap" its "periodic" and "constant" its "zero".
    threads : int, optional
        As for `plan`.

    Returns
    -------
    dict of str to ndarray
        By the letters of the bands, ``L`` or ``H`` for each filtered axis: what ``pywt.dwtn`` calls
        ``a`` or ``d``. With ``K`` taps, an axis of length n has ``(n + K - 1) // 2`` outputs.

    Raises
    ------
    SeparableError
        Its subclasses, as for `kernels.wavelet` and `plan`.

    Examples
    --------
    >>> bands = wavelet_step(np.arange(8.0) ** 2, "haar")
    >>> bands["L"].round(2), bands["H"].round(2)
    (array([ 0.71,  9.19, 28.99, 60.1 ]), array([-0.71, -3.54, -6.36, -9.19]))
    >>> list(wavelet_step(np.zeros((8, 9)), "db2"))
    ['LL', 'LH', 'HL', 'HH']
    """
    array = complete_array_of(image)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"`image` must hold numbers; got {array.dtype}")
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    filter_axes = FilterAxes.of(check_axes(axes, array.ndim), mode)
    low, high = wavelet1d(wavelet)
    bands = {"": array}
    for axis, own in zip(filter_axes.axes, filter_axes.modes, strict=True):
        split = {}
        for name, values in bands.items():
            for letter, half in zip(
                "LH", _halved(values, axis, own, low, high, threads), strict=True
            ):
                split[name + letter] = half
        bands = split
    return bands


def _halved(
    values: Array, axis: int, mode: str, low: Array, high: Array, threads: int | None
) -> list[Array]:
    """Filter with both passes along one axis and keep every second output."""
    taps, n = len(low), values.shape[axis]
    wide = extend(values, (axis,), ((taps - 1, taps - 1),), (mode,), 0.0, values.dtype)
    both = bank({"L": low, "H": high}, wide.shape, wide.dtype, axes=axis, threads=threads)(wide)
    # Output m of a full convolution stands at m + shift.
    shift = taps - 1 - (taps - 1 - (taps - 1) // 2)
    at: list[Any] = [slice(None)] * values.ndim
    at[axis] = slice(1 + shift, 1 + shift + 2 * ((n + taps - 1) // 2), 2)
    return [np.ascontiguousarray(band[tuple(at)]) for band in both]
