"""One decimated step of a wavelet, axis by axis: every second output of its filter bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import complete_array_of
from separable.borders import Border, Modes, extend
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
    mode: Modes = "reflect",
    threads: int | None = None,
) -> dict[str, Array]:
    """Decompose an image into the bands of one step of a wavelet, each of half its length.

    Both passes along an axis read the image only once, and every second output is kept before the
    next axis. So 8 bands in three dimensions take 6 passes; the undecimated bank takes 14.

    Parameters
    ----------
    image : array_like
        Image of any number of axes. Integers are converted to float64.
    wavelet : str
        Name of the wavelet, as for `kernels.wavelet`.
    axes : int or sequence of int, optional
        Axes to filter. Default is all of them.
    mode : str or sequence of str
        Border mode; "reflect" is PyWavelets' "symmetric", "mirror" its "reflect", "nearest" its
        "constant", "wrap" its "periodic" and "constant" its "zero".
    threads : int, optional
        Number of threads. Default is all processors that this process may use.

    Returns
    -------
    dict of str to ndarray
        The bands by their letters, ``L`` or ``H`` for each filtered axis (``a`` or ``d`` in
        ``pywt.dwtn``). With ``K`` taps, an axis of length n has ``(n + K - 1) // 2`` outputs.

    Raises
    ------
    DTypeError, ArgumentError, ArgumentTypeError, ModeError
        If an argument is out of its range, or of a wrong type.

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
    values: Array, axis: int, border: Border, low: Array, high: Array, threads: int | None
) -> list[Array]:
    """Filter with both passes along one axis and keep every second output."""
    taps, n = len(low), values.shape[axis]
    wide = extend(values, (axis,), ((taps - 1, taps - 1),), (border,), 0.0, values.dtype)
    both = bank({"L": low, "H": high}, wide.shape, wide.dtype, axes=axis, threads=threads)(wide)
    # Output m of a full convolution is at m + shift.
    shift = taps - 1 - (taps - 1 - (taps - 1) // 2)
    at: list[Any] = [slice(None)] * values.ndim
    at[axis] = slice(1 + shift, 1 + shift + 2 * ((n + taps - 1) // 2), 2)
    return [np.ascontiguousarray(band[tuple(at)]) for band in both]
